"""Whether a flow's densities hold as many rows as they say: each row's ranks among draws under its own condition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pushforward._check.distributions import effective_number, uniformity
from pushforward._model.state import State, sample_key
from pushforward._typing import Array, Doubles, Indices

DRAWS = 200
"""Draws for each row."""
MOST_ROWS = 1000
"""Rows that are ranked."""
# The draws of as many rows at once as make 32 MB.
_NUMBERS_AT_A_TIME = 1 << 22
_LEVELS = tuple(k / 100 for k in range(1, 100))
_ERRORS = 3.0  # standard errors
_FAR = 1e100  # in place of infinity; its square is finite


class Ranks(NamedTuple):
    """The ranks of rows among draws under their conditions, in [0, 1]: each uniform if the flow is calibrated."""

    features: Doubles
    """Shares of the draws below each row, feature by feature: (n, dim)."""
    density: Doubles
    """Shares of the draws that are denser than the row: the level of the smallest region of highest density that
    holds it, (n,)."""
    random_points: Doubles
    """Shares of the draws that are nearer than the row to a reference point, (n,)."""
    weights: Doubles | None
    """Weights of the rows, (n,)."""


class Marginal(NamedTuple):
    """How the values of a feature rank among draws."""

    feature: str
    """Its name."""
    distance: float
    """KS distance from uniform of the ranks u, or of the central intervals' levels |2u - 1| if that is larger."""
    p_value: float
    """How often a calibrated flow is as far: of both tests together, and of this feature alone."""
    direction: str
    """What the ranks show of the flow: "too narrow", "too wide", "too low", "too high", two of them, or nothing."""


@dataclass(frozen=True)
class Coverage:
    """What share of the rows regions of each level hold; a calibrated flow's hold as many as the level says."""

    levels: tuple[float, ...]
    """From 0.01 to 0.99."""
    actual: tuple[float, ...]
    """Share of the rows in the regions of each level."""
    deviation: float
    """Where they differ most: the share less the level. Below 0 the regions hold too few rows."""
    area: float
    """Mean of the share less the level, over all levels in [0, 1]."""
    p_value: float
    """How often a calibrated flow differs as much, by the test of Kolmogorov and Smirnov."""

    def holds(self, level: float) -> float:
        """Return the share of the rows in the regions of a level, in [0, 1]."""
        return float(np.interp(level, (0.0, *self.levels, 1.0), (0.0, *self.actual, 1.0)))


@dataclass(frozen=True)
class Calibration:
    """Ranks of rows among draws, and coverage of regions."""

    rows: int
    """Rows compared; of more than 1,000 so many are chosen at random."""
    draws: int
    """Draws for each."""
    marginals: tuple[Marginal, ...]
    """Each feature by itself: simulation-based calibration (Talts et al. 2018)."""
    highest_density: Coverage
    """Coverage of the regions of highest density."""
    random_points: Coverage
    """Coverage of balls around reference points, TARP (Lemos et al. 2023)."""

    @property
    def tests(self) -> int:
        """Number of p-values, to correct each of them by."""
        return len(self.marginals) + 2


def ranks(state: State, x: Array, context: Array | None, weights: Doubles | None, rng: np.random.Generator) -> Ranks:
    """Rank rows among draws of the flow under their conditions.

    Whatever is compared treats a row and its draws alike, so that under a calibrated flow each rank is uniform to the
    last digit. Ties are broken at random, and a uniform number fills the step from one rank to the next.

    Parameters
    ----------
    state : State
        The flow.
    x : (n, dim) array
        Rows, at least one.
    context : (n, context) or (context,) array or None
        Their conditions.
    weights : (n,) array or None
        Their weights.
    rng : numpy.random.Generator
        Chooses at most 1,000 of the rows, and their order; draws.

    Returns
    -------
    Ranks
        Those of the rows chosen, in random order.
    """
    order = rng.permutation(len(x))[:MOST_ROWS]
    rows = x[order]
    each = np.broadcast_to(context, (len(x), state.context))[order] if context is not None else None
    references = np.concatenate([state.standardization[0][None], _on_line(state, rows)])[_references(each, len(rows))]
    key, features = sample_key(rng), np.empty(rows.shape)
    density, random_points = np.empty(len(rows)), np.empty(len(rows))
    block = max(1, _NUMBERS_AT_A_TIME // ((DRAWS + 1) * (state.dim + state.context)))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        points, level = _with_draws(state, rows[part], None if each is None else each[part], key, start * DRAWS)
        density[part] = _rank(-level, rng)
        y, distance = _compare(state, points, references[part])
        features[part] = _rank(y, rng)
        random_points[part] = _rank(distance, rng)
    return Ranks(features, density, random_points, None if weights is None else weights[order])


def calibration(names: tuple[str, ...], found: Ranks) -> Calibration:
    """Test ranks of features of these names for being uniform."""
    w = found.weights
    return Calibration(
        rows=len(found.density),
        draws=DRAWS,
        marginals=tuple(_marginal(name, u, w) for name, u in zip(names, found.features.T, strict=True)),
        highest_density=_coverage(found.density, w),
        random_points=_coverage(found.random_points, w),
    )


def _references(context: Array | None, rows: int) -> Indices:
    """Return for each row which row's features are its reference point: 0 is the middle of the data, k row k - 1.

    It is the row of the most similar condition among those before it. So the point depends on the condition, as it
    must to show a flow that ignores its context (Lemos et al. 2023), and on nothing that the row itself or a later one
    adds: the ranks of all rows stay independent.
    """
    before = np.arange(rows)
    if context is None:
        return before
    spread = context.std(axis=0, dtype=np.float64)
    c = context / np.where(spread > 0, spread, 1.0)
    for i in range(1, rows):
        before[i] = i - np.argmin(((c[i - 1 :: -1] - c[i]) ** 2).sum(axis=1))
    return before


def _with_draws(state: State, rows: Array, context: Array | None, key: int, first: int) -> tuple[Array, Doubles]:
    """Return each row and then its draws, (n, 1 + draws, dim), and the log densities of all of them."""

    def repeated(times: int) -> Array | None:
        return None if context is None else np.repeat(context, times, axis=0)

    draws, _ = state.sample(key, len(rows) * DRAWS, repeated(DRAWS), first=first)
    points = np.concatenate([rows[:, None], draws.reshape(len(rows), DRAWS, state.dim)], axis=1)
    # By the same pass for all: the rounding of another would tell a row from its draws where the density is constant.
    density = state.log_prob(points.reshape(-1, state.dim), repeated(DRAWS + 1))
    density[np.isnan(density)] = -np.inf  # a draw beyond the largest number
    return points, density.reshape(points.shape[:2])


def _compare(state: State, points: Array, references: Doubles) -> tuple[Doubles, Doubles]:
    """Return the points behind the support, and their squared distances from the reference point of their group.

    A circle is cut opposite to the mean direction of the group. Distances are in units of the group's quartile
    distance in each feature, so that narrow features count as much as wide ones.
    """
    y = _on_line(state, points.reshape(-1, state.dim)).reshape(points.shape)
    offset = y - references[:, None]
    for i, support in enumerate(state.support):
        if support.wraps:
            middle = np.angle(np.exp(1j * y[:, :, i]).sum(axis=1, keepdims=True))
            y[:, :, i], offset[:, :, i] = _wrapped(y[:, :, i] - middle), _wrapped(offset[:, :, i])
    low, high = np.quantile(y, [0.25, 0.75], axis=1, keepdims=True)
    offset /= np.where(high > low, high - low, 1.0)
    return y, (offset**2).sum(axis=2)


def _on_line(state: State, x: Array) -> Doubles:
    """Return rows behind the support, finite: its ends are infinite there."""
    y: Doubles = np.nan_to_num(state.to_line(x).astype(np.float64), nan=_FAR, posinf=_FAR, neginf=-_FAR)
    return y


def _wrapped(angle: Doubles) -> Doubles:
    """Return angles in [-pi, pi)."""
    turned: Doubles = (angle + math.pi) % (2 * math.pi) - math.pi
    return turned


def _rank(values: Doubles, rng: np.random.Generator) -> Doubles:
    """Return the rank in [0, 1] of the first of each group among the others, (n, 1 + draws, ...)."""
    first, others = values[:, :1], values[:, 1:]
    below, equal = (others < first).sum(axis=1), (others == first).sum(axis=1)
    rank: Doubles = (below + rng.uniform(size=below.shape) * (equal + 1)) / values.shape[1]
    return rank


def _marginal(name: str, u: Doubles, weights: Doubles | None) -> Marginal:
    position, width = uniformity(u, weights), uniformity(np.abs(2 * u - 1), weights)
    p_value = min(1.0, 2 * min(position.p_value, width.p_value))
    return Marginal(name, max(position.distance, width.distance), p_value, _direction(u, weights))


def _direction(u: Doubles, weights: Doubles | None) -> str:
    """Say what the shape of ranks shows of the flow.

    Rows above most draws show a flow that is too low, and rows on both outer sides one that is too narrow. Rows that
    are all on one side are on the outer side too, so the width is not named where the shift is the larger effect.
    """
    # Both u and |2u - 1| have variance 1/12.
    errors = math.sqrt(12 * effective_number(np.ones(len(u)) if weights is None else weights))
    shift = (float(np.average(u, weights=weights)) - 0.5) * errors
    width = (float(np.average(np.abs(2 * u - 1), weights=weights)) - 0.5) * errors
    words = []
    if abs(width) > _ERRORS and abs(width) >= abs(shift):
        words.append("too narrow" if width > 0 else "too wide")
    if abs(shift) > _ERRORS:
        words.append("too low" if shift > 0 else "too high")
    return " and ".join(words)


def _coverage(u: Doubles, weights: Doubles | None) -> Coverage:
    levels = np.array(_LEVELS)
    actual = np.average(u <= levels[:, None], axis=1, weights=weights)
    off = actual - levels
    return Coverage(
        levels=_LEVELS,
        actual=tuple(actual.tolist()),
        deviation=float(off[np.argmax(np.abs(off))]),
        area=0.5 - float(np.average(u, weights=weights)),
        p_value=uniformity(u, weights).p_value,
    )
