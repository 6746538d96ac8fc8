"""One unknown column: the joint density along it, normalised on a grid that adapts to each row.

The line is folded into (-1, 1) by y = v / (1 - v^2), so that the grid has the tails too. Intervals whose second
difference is large are halved until the trapezoidal sum is right to the tolerance. What the second differences say of
the error is then taken off, so the integral is closer to the truth than the tolerance.
"""

from __future__ import annotations

import numpy as np

from pushforward._questions.joint import Joint
from pushforward._typing import Doubles, Indices

TOLERANCE = 1e-3
"""The share of the mass that the trapezoidal sum may be wrong by."""
_UNIFORM = 65
# Nodes drawn from the proposal find a peak that is narrower than the spacing of the others.
_DRAWN = 32
# Intervals of a row that are halved at once, and how often.
_HALVED = 24
_ROUNDS = 16
# Rows at a time.
_BLOCK = 256
_END = 1 - 1e-6


def _folded(y: Doubles) -> Doubles:
    """Return v of y = v / (1 - v^2)."""
    return np.where(np.abs(y) < 1e-9, y, (np.sqrt(1 + 4 * y**2) - 1) / np.where(y == 0, 1.0, 2 * y))


class Gridded:
    """The conditional density of one column for each row, on a grid.

    Parameters
    ----------
    joint : Joint
        The joint density, with one unknown column.

    Attributes
    ----------
    log_marginal : (n,) array
        The logarithm of the integral of the joint density.
    error : (n,) array
        The estimated error of `log_marginal`: that of the trapezoidal sum.
    """

    def __init__(self, joint: Joint) -> None:
        self._joint, n = joint, len(joint)
        blocks = [self._solve(np.arange(first, min(first + _BLOCK, n))) for first in range(0, n, _BLOCK)]
        width = max((nodes.shape[1] for nodes, *_ in blocks), default=2)
        self._nodes, self._density = np.full((n, width), _END), np.zeros((n, width))
        self.log_marginal, self.error = np.zeros(n), np.zeros(n)
        for block, (nodes, density, log_marginal, error) in enumerate(blocks):
            rows = slice(block * _BLOCK, block * _BLOCK + len(nodes))
            # Rows of fewer nodes end with nodes at the end of the line, where there is no mass.
            self._nodes[rows, : nodes.shape[1]], self._density[rows, : nodes.shape[1]] = nodes, density
            self.log_marginal[rows], self.error[rows] = log_marginal, error
        steps = np.diff(self._nodes, axis=1)
        masses = 0.5 * steps * (self._density[:, 1:] + self._density[:, :-1])
        self._below: Doubles = np.concatenate([np.zeros((n, 1)), np.cumsum(masses, axis=1)], axis=1)
        total = self._below[:, -1:]
        safe = np.where(total > 0, total, 1.0)
        self._below, self._density = self._below / safe, self._density / safe

    def _evaluate(self, at: Indices, v: Doubles) -> Doubles:
        """Return the log density of folded coordinates, (m, k)."""
        y = v / (1 - v**2)
        density = self._joint.on_line(at, y[:, :, None])[1]
        return np.asarray(density + np.log1p(v**2) - 2 * np.log1p(-(v**2)), dtype=np.float64)

    def _solve(self, at: Indices) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        n = len(at)
        drawn = self._joint.proposal(at).sample(_DRAWN, np.random.default_rng(0))[:, :, 0]
        uniform = np.tile(np.linspace(-_END, _END, _UNIFORM), (n, 1))
        nodes = np.sort(np.concatenate([uniform, np.clip(_folded(drawn), -_END, _END)], axis=1), axis=1)
        logs = self._evaluate(at, nodes)
        for _ in range(_ROUNDS):
            top, values, errors = _errors(nodes, logs)
            sums = _trapezoid(nodes, values)
            open_rows = np.flatnonzero(np.abs(errors).sum(axis=1) > TOLERANCE * sums)
            if not len(open_rows):
                break
            largest = np.argpartition(-np.abs(errors), _HALVED, axis=1)[:, :_HALVED]
            left = np.take_along_axis(nodes, largest, axis=1)
            right = np.take_along_axis(nodes[:, 1:], largest, axis=1)
            new = np.tile(nodes[:, -1:], (1, _HALVED))
            new_logs = np.full_like(new, -np.inf)
            new[open_rows] = 0.5 * (left + right)[open_rows]
            new_logs[open_rows] = self._evaluate(at[open_rows], new[open_rows])
            new_logs[np.abs(new) >= _END] = -np.inf
            nodes, logs = np.concatenate([nodes, new], axis=1), np.concatenate([logs, new_logs], axis=1)
            order = np.argsort(nodes, axis=1, kind="stable")
            nodes, logs = np.take_along_axis(nodes, order, axis=1), np.take_along_axis(logs, order, axis=1)
        top, values, errors = _errors(nodes, logs)
        whole = _trapezoid(nodes, values)
        integral = whole - errors.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_marginal = np.where(integral > 0, np.log(integral), -np.inf) + top
            error = np.abs(errors).sum(axis=1) / whole
        return nodes, values, log_marginal, np.where(integral > 0, error, np.inf)

    # -- answers -------------------------------------------------------------------------------------------------

    def _values(self, v: Doubles) -> Doubles:
        """Return values of the column at folded coordinates."""
        v = np.clip(v, -_END, _END)
        return self._joint.family.from_line((v / (1 - v**2))[..., None], self._joint.unknown)[0][..., 0]

    def quantile(self, u: Doubles) -> Doubles:
        """Return the values with these probabilities below them, (n, k)."""
        at = np.stack([np.searchsorted(below, row, side="right") for below, row in zip(self._below, u, strict=True)])
        at = np.clip(at - 1, 0, self._nodes.shape[1] - 2)
        take = np.take_along_axis
        v, step = take(self._nodes, at, axis=1), take(np.diff(self._nodes, axis=1), at, axis=1)
        low, high = take(self._density, at, axis=1), take(self._density, at + 1, axis=1)
        rest = np.maximum(u - take(self._below, at, axis=1), 0.0)
        # The density is linear between nodes: rest = step (low t + (high - low) t^2 / 2).
        slope = high - low
        root = np.sqrt(np.maximum(low**2 + 2 * slope * rest / np.where(step > 0, step, 1.0), 0.0))
        t = 2 * rest / np.where(step > 0, step, 1.0) / np.where(low + root > 0, low + root, 1.0)
        return self._values(v + step * np.clip(t, 0.0, 1.0))

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many values for each row, (n, count, 1)."""
        return self.quantile(rng.uniform(size=(len(self._nodes), count)))[:, :, None]

    def nodes(self) -> tuple[Doubles, Doubles]:
        """Return values along the grid (n, k), and their masses, with the sum 1 in each row."""
        halves = 0.5 * np.diff(self._nodes, axis=1, prepend=self._nodes[:, :1], append=self._nodes[:, -1:])
        masses = self._density * (halves[:, 1:] + halves[:, :-1])
        return np.where(masses > 0, self._values(self._nodes), 0.0), masses


def _trapezoid(nodes: Doubles, values: Doubles) -> Doubles:
    result: Doubles = (0.5 * np.diff(nodes, axis=1) * (values[:, 1:] + values[:, :-1])).sum(axis=1)
    return result


def _errors(nodes: Doubles, logs: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return the greatest log density of each row, densities over it, and the error of the sum over each interval.

    The trapezoidal sum over an interval of the width h is too large by h^3 f'' / 12. The second derivative is the mean
    of the divided differences at both ends.
    """
    top = logs.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    values = np.exp(logs - top[:, None])
    steps = np.diff(nodes, axis=1)
    safe = np.where(steps > 0, steps, 1.0)
    slopes = np.diff(values, axis=1) / safe
    curvatures = np.zeros_like(values)
    widths = steps[:, 1:] + steps[:, :-1]
    curvatures[:, 1:-1] = 2 * np.diff(slopes, axis=1) / np.where(widths > 0, widths, 1.0)
    # The mean would be too small beside the edge of a narrow peak.
    left, right = curvatures[:, :-1], curvatures[:, 1:]
    return top, values, steps**3 / 12 * np.where(np.abs(left) > np.abs(right), left, right)
