"""The map from a column's line to normal scores: a number's place among the rows of the fit, as a normal quantile.

A flow of the scores has little left to learn of the column alone, however uneven that is: clusters far apart, piles at
the ends, some values that come often. What it learns is how the column depends on the others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pushforward._model.part import Part
from pushforward._model.special import normal_cdf, normal_quantile
from pushforward._typing import Array, Doubles

# Candidates for the number of bins. Cross-validation chooses: few suit a smooth column, many an uneven one.
_BINS = (8, 16, 32, 64, 128, 200)
_FOLDS = 4
# A bin holds so many rows of the fit at least.
_ROWS_OF_A_BIN = 4
# More rows do not change the choice.
_MOST_COMPARED = 20_000
# Bins are no narrower than this part of the rows' range.
_LEAST_WIDTH = 1e-9
# A gap between two neighbouring rows that takes more of a bin than this has a bin of its own: the mass of the others is
# not spread over it.
_MOST_OF_A_BIN = 0.75
# A score is no larger: the normal's distribution function is 1 there, to the last digit.
_MOST_SCORE = 8.0


@dataclass(frozen=True)
class Warp(Part):
    """A continuous, increasing map of a line, or of an interval, to the normal scores.

    Between two ends it is the normal quantile of a distribution function that is linear in each bin. On a line it is
    linear itself in each bin, and beyond the outer ones.

    Parameters
    ----------
    edges : sequence of float
        The ends of the bins, increasing; of an interval, its own ends are the outer ones.
    shares : sequence of float
        The distribution function at each edge, increasing; from 0 to 1 if it is of an interval.
    """

    edges: Sequence[float]
    shares: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("edges", "shares"):
            values = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) < 2 or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
                raise ValueError(f"{name} must be increasing and finite, and at least 2")
        if len(self.edges) != len(self.shares) or self.shares[0] < 0 or self.shares[-1] > 1:
            raise ValueError("a warp needs a share from 0 to 1 for each edge")
        if (self.shares[0] == 0) != (self.shares[-1] == 1):
            raise ValueError("a warp has two ends or none")

    @classmethod
    def of(
        cls, points: Doubles, weights: Doubles | None, ends: tuple[float, float] | None, step: float = 0.0
    ) -> Warp | None:
        """Make the warp of points; None if they are too few, or all the same.

        Parameters
        ----------
        points, weights : (n,) arrays
            Points of the line, and the weights of their rows.
        ends : (float, float), optional
            Those of an interval.
        step : float
            Of rounded numbers: the first and the last edge are whole steps from the first end.
        """
        most = len(points) // _ROWS_OF_A_BIN
        candidates = sorted({bins for bins in _BINS if bins <= most} | {min(most, _BINS[-1])})
        if most < 2 or points.min() == points.max():
            return None
        order = np.argsort(points, kind="stable")
        points, weights = points[order], np.ones(len(points)) if weights is None else weights[order]
        if len(candidates) < 2:
            return cls._of_bins(points, weights, ends, step, candidates[0])
        rng = np.random.default_rng(0)
        some = np.sort(rng.permutation(len(points))[:_MOST_COMPARED])
        folds = rng.permutation(len(some)) % _FOLDS
        scores = [cls._score(points[some], weights[some], ends, step, bins, folds) for bins in candidates]
        return cls._of_bins(points, weights, ends, step, candidates[int(np.argmax(scores))])

    @classmethod
    def _score(
        cls, points: Doubles, weights: Doubles, ends: tuple[float, float] | None, step: float, bins: int, folds: Array
    ) -> float:
        """Return the log density of points if their scores were normal, each from the points of other folds."""
        total = 0.0
        for fold in range(_FOLDS):
            others, held = folds != fold, folds == fold
            warp = cls._of_bins(points[others], weights[others], ends, step, bins)
            scores = warp.scores(points[held])
            total += float(weights[held] @ (warp.log_slope(points[held], scores) - 0.5 * scores**2))
        return total

    @classmethod
    def _of_bins(
        cls, points: Doubles, weights: Doubles, ends: tuple[float, float] | None, step: float, bins: int
    ) -> Warp:
        """Make the warp of sorted points with so many bins of equally many rows."""
        # Each point stands in the middle of its share of the rows.
        shares = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
        at = np.linspace(shares[0], shares[-1], bins + 1)
        at = np.union1d(at, _ends_of_gaps(points, shares, np.interp(at, shares, points)))
        edges = np.interp(at, shares, points)
        if ends is not None:
            if step:
                edges[0], edges[-1] = math.floor(edges[0] / step) * step, math.ceil(edges[-1] / step) * step
            edges = np.concatenate([[ends[0]], edges, [ends[1]]])
            at = np.concatenate([[0.0], at, [1.0]])
        least = _LEAST_WIDTH * (edges[-1] - edges[0])
        # Of edges that fall together the outer ones stay.
        kept = [0]
        for i in range(1, len(edges) - 1):
            if edges[i] - edges[kept[-1]] > least and edges[-1] - edges[i] > least and at[i] > at[kept[-1]]:
                kept.append(i)
        kept.append(len(edges) - 1)
        return cls(edges[kept].tolist(), at[kept].tolist())

    @functools.cached_property
    def _x(self) -> Doubles:
        return np.array(self.edges)

    @functools.cached_property
    def _y(self) -> Doubles:
        return np.array(self.shares) if self.has_ends else normal_quantile(self.shares)

    @property
    def has_ends(self) -> bool:
        """Whether it is of an interval."""
        return self.shares[0] == 0

    def scores(self, points: Doubles) -> Doubles:
        """Return the scores of points of the line."""
        bin_, slope = self._bins(self._x, points)
        values = self._y[bin_] + slope * (points - self._x[bin_])
        if self.has_ends:
            values = normal_quantile(np.clip(values, 0, 1))
            return np.clip(values, -_MOST_SCORE, _MOST_SCORE)
        return np.asarray(values, dtype=np.float64)

    def points(self, scores: Doubles) -> Doubles:
        """Return the points of scores."""
        values = normal_cdf(scores) if self.has_ends else scores
        bin_, slope = self._bins(self._y, values)
        points: Doubles = self._x[bin_] + (values - self._y[bin_]) / slope
        return np.clip(points, self.edges[0], self.edges[-1]) if self.has_ends else points

    def log_slope(self, points: Doubles, scores: Doubles) -> Doubles:
        """Return the log derivative of the scores by points."""
        _, slope = self._bins(self._x, points)
        result: Doubles = np.log(slope)
        return result + 0.5 * scores**2 + 0.5 * math.log(2 * math.pi) if self.has_ends else result

    def _bins(self, edges: Array, values: Doubles) -> tuple[Array, Doubles]:
        """Return the bin of each value, and the slope in it; the outer bins go on beyond their ends."""
        bin_ = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        slopes = np.diff(self._y) / np.diff(self._x)
        return bin_, slopes[bin_]


def _ends_of_gaps(points: Doubles, shares: Doubles, edges: Doubles) -> Doubles:
    """Return the shares at both ends of each gap between points that takes up most of a bin."""
    bin_ = np.clip(np.searchsorted(edges, points[:-1], side="right") - 1, 0, len(edges) - 2)
    gaps = np.flatnonzero(np.diff(points) > _MOST_OF_A_BIN * np.diff(edges)[bin_])
    return np.concatenate([shares[gaps], shares[gaps + 1]])
