"""What a value on the bound of a support stands for: how coarse the numbers of a column are there."""

from __future__ import annotations

import numpy as np

from pushforward._group import Group
from pushforward._model.state import State
from pushforward._typing import Array, Doubles, Indices

# A number is on a grid if it is so close to one of its points, in steps.
_TOLERANCE = 1e-3
# Fewer different numbers may be on a grid by chance.
_LEAST_VALUES = 4


class BoundCells:
    """Finds how far the cells reach of values on the bounds that the layers see at infinity.

    A column of rounded numbers has a grid, and the cell ends half a step from the bound. If a column without a grid
    holds values on a bound all the same, it ends half way to the nearest of the others. In any other column the cell is
    left to the rounding of the table's type.

    Parameters
    ----------
    state : State
        The flow whose rows they are.
    """

    def __init__(self, state: State) -> None:
        lines = [domain == "line" for domain in state.core.domains]
        self._ends = {
            i: support.ends
            for i, support in enumerate(state.support)
            if support.is_bounded and lines[i] and not support.has_cells
        }
        self._nearest = np.full((state.dim, 2), np.inf)
        self._found = np.zeros((state.dim, 2), dtype=bool)

    def add(self, x: Array, index: Indices, y: Array) -> None:
        """Look at rows; `y` are these behind the support, where a value on a bound is infinite."""
        for i, (low, high) in self._ends.items():
            column, inside = x[index, i].astype(np.float64), np.isfinite(y[:, i])
            self._found[i] |= (y[:, i] == -np.inf).any(), (y[:, i] == np.inf).any()
            if inside.any():
                nearest = column[inside].min() - low, high - column[inside].max()
                self._nearest[i] = np.minimum(self._nearest[i], nearest)

    def widths(self, some: Array, group: Group) -> Doubles:
        """Return how far each cell reaches, (dim, 2), given some of the rows; 0 for the table's own rounding."""
        if not self._ends:
            return np.zeros_like(self._nearest)
        self._nearest = group.least(self._nearest)
        self._found = group.greatest(self._found.astype(np.uint8)) > 0
        result = np.zeros_like(self._nearest)
        for i, ends in self._ends.items():
            with np.errstate(all="ignore"):  # of numbers so close that their difference vanishes
                step = grid(some[:, i].astype(np.float64), ends[0])
            for side, end in enumerate(ends):
                if not np.isfinite(end):
                    continue
                if step > 0 and _on_grid(np.array([end]), ends[0], step):
                    result[i, side] = step / 2
                elif self._found[i, side]:
                    result[i, side] = max(self._nearest[i, side] / 2, 0.0)
        return result


def grid(column: Array, origin: float) -> float:
    """Return the step of the grid through a point on which all numbers of a column are, or 0 if there is none."""
    values = np.unique(column)
    if len(values) < _LEAST_VALUES:
        return 0.0
    step = float(np.diff(values).min())
    span = values[-1] - values[0]
    step = float(span / np.round(span / step))
    return step if _on_grid(values, origin, step) else 0.0


def _on_grid(values: Array, origin: float, step: float) -> bool:
    steps = (values - origin) / step
    return bool((np.abs(steps - np.round(steps)) <= _TOLERANCE).all())
