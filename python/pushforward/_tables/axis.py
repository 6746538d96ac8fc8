"""The line on which a flow models a number: where its values lie, and what density or mass they have there.

The flow itself models normal scores of the points on the line, if a warp gives them.

A rounded number has no density. It is on a grid, and each point of the grid stands for the cell of all numbers that are
rounded to it. The cells of the atoms are taken out, and the others closed up: so no value of the flow is an atom. The
mass of a cell is the difference of the flow's distribution function at its ends.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pushforward._model.special import normal_cdf
from pushforward._model.supports import Interval, Positive, Real, Support
from pushforward._tables.kinds import Above, Below, Date, Integer, Kind
from pushforward._tables.schema import Column
from pushforward._tables.warp import Warp
from pushforward._typing import Doubles
from pushforward.flow import Flow

# Below this a mass has lost digits, and the density in the middle of the cell tells more.
_LEAST_MASS = 1e-290
# How far a step may be from one over a whole number that it stands for.
_SAME_STEP = 1e-9


def ends_of(kind: Kind) -> tuple[float, float]:
    """Return the least and the greatest value of a number of this kind; infinite where there is none."""
    if isinstance(kind, (Support, Date)):
        return kind.ends
    if isinstance(kind, Integer):
        return float(kind.low), float(kind.high)
    if isinstance(kind, Above):
        return kind.low, math.inf
    if isinstance(kind, Below):
        return -math.inf, kind.high
    return -math.inf, math.inf


class Axis:
    """The line of one number.

    Parameters
    ----------
    column : Column
        A number, a whole number or a date.
    warp : Warp, optional
        The map from the line to normal scores, which the flow then models.

    Attributes
    ----------
    cells : float
        How many cells there are beside the atoms; infinite without a step, or without two ends.
    support : Support
        That of the flow.
    """

    def __init__(self, column: Column, warp: Warp | None = None) -> None:
        low, high = ends_of(column.kind)
        self._kind, self._step, self.warp = column.kind, column.step, warp
        # From the only end, or from the lower one, inwards.
        self._origin, self._sign = (high, -1.0) if math.isinf(low) and math.isfinite(high) else (low, 1.0)
        self._origin = self._origin if math.isfinite(self._origin) else 0.0
        self._from_end = math.isfinite(low) or math.isfinite(high)
        self._outer = low, high
        self.cells = math.inf
        if not self._step:
            self._own: Support = column.kind if isinstance(column.kind, Support) else Positive()
        else:
            # Where the cells of the atoms begin once those before them are taken out.
            indices = np.sort(self._index(np.array(column.atoms, dtype=np.float64)))
            self._atoms: Doubles = indices
            self._closed: Doubles = indices - np.arange(len(indices))
            if math.isfinite(low) and math.isfinite(high):
                self.cells = round((high - low) / self._step) + 1 - len(indices)
                self._own = Interval(0.0, max(self.cells, 1.0))
            else:
                self._own = Positive() if self._from_end else Real()
        self.support: Support = self._own if warp is None else Real()
        self._is_log = math.isfinite(self._own.ends[0]) and math.isinf(self._own.ends[1])

    def find_warp(self, values: Doubles, places: Doubles, weights: Doubles | None) -> Warp | None:
        """Return the warp that suits values that are no atoms; `places` in (0, 1) says where in their cells."""
        if self._own.wraps:
            return None
        ends = self._own.ends if math.isfinite(self._own.ends[1]) else None
        return Warp.of(self._line(self._points(values, places)), weights, ends, 1.0 if self.is_rounded else 0.0)

    @property
    def is_rounded(self) -> bool:
        """Whether values have cells."""
        return self._step > 0

    @property
    def has_masses(self) -> bool:
        """Whether values have masses, and not the density that is the same throughout a cell."""
        return isinstance(self._kind, (Integer, Date))

    def atoms_of(self, values: Doubles, atoms: Doubles) -> tuple[Doubles, Doubles]:
        """Return for each value the number of its atom, and whether it is one."""
        if self.is_rounded:
            values, atoms = self._index(values), self._index(atoms)
        if self._sign < 0 and self.is_rounded:
            atoms, values = -atoms, -values  # in the order of the values
        at = np.minimum(np.searchsorted(atoms, values), max(len(atoms) - 1, 0))
        hit = atoms[at] == values if len(atoms) else np.zeros(len(values), dtype=bool)
        return at.astype(np.float64), hit

    def points(self, values: Doubles, places: Doubles) -> Doubles:
        """Return what the flow models of values that are no atoms; `places` in (0, 1) says where in their cells."""
        points = self._points(values, places)
        return points if self.warp is None else self.warp.scores(self._line(points))

    def _points(self, values: Doubles, places: Doubles) -> Doubles:
        if not self.is_rounded:
            return self._shifted(values)
        points = self._number(values) + places
        # Rounding must not lead out of the cell.
        inside = np.where(points < self._number(values) + 1, points, np.nextafter(points, -np.inf))
        return np.asarray(inside, dtype=np.float64)

    def _line(self, points: Doubles) -> Doubles:
        """Return what the warp takes: points, or their logarithms if there is one end."""
        if not self._is_log:
            return points
        # The end itself may be a value.
        least = 0.0 if self.warp is None else math.exp(self.warp.edges[0] - 1)
        return np.log(np.maximum(points, max(least, np.finfo(np.float64).tiny)))

    def values(self, points: Doubles) -> Doubles:
        """Return the values of what the flow models."""
        if self.warp is not None:
            points = self.warp.points(points)
            points = np.exp(points) if self._is_log else points
        if not self.is_rounded:
            return self._origin + self._sign * points if isinstance(self._kind, (Above, Below)) else points
        number: Doubles = np.floor(points)
        if math.isfinite(self.cells):
            number = np.asarray(np.clip(number, 0, self.cells - 1), dtype=np.float64)
        index = number + np.searchsorted(self._closed, number, side="right")
        # A step of 0.1 has no exact number, but 3 / 10 is the number that is written 0.3.
        parts = round(1 / self._step) if self._step < 1 else 0
        steps = index / parts if parts and abs(parts * self._step - 1) < _SAME_STEP else index * self._step
        found: Doubles = self._origin + self._sign * steps
        return found

    def allows(self, values: Doubles) -> npt.NDArray[np.bool_]:
        """Return which values, none of them an atom, are on the line."""
        if not self.is_rounded:
            return (values >= self._outer[0]) & (values <= self._outer[1])
        number = self._number(values)
        inside = (number >= 0) & (number < self.cells) if self._from_end else np.ones(len(number), dtype=bool)
        return inside & (values == np.round(values)) if self.has_masses else inside

    def latent(self, flow: Flow, values: Doubles, places: Doubles, context: Doubles | None) -> Doubles:
        """Return the flow's latent points of values; `places` in (0, 1) says where in their cells rounded ones lie."""
        points = self.points(values, places)
        return np.asarray(flow.inverse(points[:, None], context)[0][:, 0], dtype=np.float64)

    def log_density(self, flow: Flow, values: Doubles, context: Doubles | None) -> Doubles:
        """Return the log density, or the log mass, of values that are no atoms."""
        inside = self.allows(values)
        if not self.is_rounded:
            return np.where(inside, self._log_density_at(flow, self._shifted(values), context), -np.inf)
        number = self._number(values)
        safe = np.where(inside, number, 0.0)
        low, high = self._quantiles(flow, safe, context), self._quantiles(flow, safe + 1, context)
        # The tail in which the numbers are small keeps their digits.
        upper = low > 0
        mass = np.where(upper, normal_cdf(-low) - normal_cdf(-high), normal_cdf(high) - normal_cdf(low))
        with np.errstate(divide="ignore", invalid="ignore"):
            result = np.log(mass)
        lost = ~(mass > _LEAST_MASS)
        if lost.any():
            middle = None if context is None else context[lost]
            result[lost] = self._log_density_at(flow, safe[lost] + 0.5, middle)
        if not self.has_masses:
            result -= math.log(self._step)
        return np.where(inside, result, -np.inf)

    def _log_density_at(self, flow: Flow, points: Doubles, context: Doubles | None) -> Doubles:
        """Return the log density at points of the line, by the points."""
        if self.warp is None:
            return np.asarray(flow.log_prob(points[:, None], context), dtype=np.float64)
        line = self._line(points)
        scores = self.warp.scores(line)
        density = flow.log_prob(scores[:, None], context) + self.warp.log_slope(line, scores)
        return density - line if self._is_log else density

    def _shifted(self, values: Doubles) -> Doubles:
        return self._sign * (values - self._origin) if isinstance(self._kind, (Above, Below)) else values

    def _index(self, values: Doubles) -> Doubles:
        """Return the points of the grid, counted from the origin."""
        index: Doubles = np.round(self._sign * (values - self._origin) / self._step)
        return index

    def _number(self, values: Doubles) -> Doubles:
        """Return the numbers of cells, those of the atoms left out."""
        index = self._index(values)
        number: Doubles = index - np.searchsorted(self._atoms, index)
        return number

    def _quantiles(self, flow: Flow, points: Doubles, context: Doubles | None) -> Doubles:
        """Return the flow's latent points at ends of cells, which are infinite at the ends of the line."""
        at_low = points <= 0 if self._from_end else np.zeros(len(points), dtype=bool)
        at_high = points >= self.cells
        inner = np.where(at_low | at_high, 0.5, points)
        inner = inner if self.warp is None else self.warp.scores(self._line(inner))
        z = np.asarray(flow.inverse(inner[:, None], context)[0][:, 0], dtype=np.float64)
        return np.where(at_low, -np.inf, np.where(at_high, np.inf, z))
