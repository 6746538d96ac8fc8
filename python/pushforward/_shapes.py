"""Shapes: the calls of a flow take one row, a table of rows, or rows in any number of axes, and rows may be images.

The core reads tables. What is here makes tables of a call's arguments, and brings its results into their shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pushforward import _checks
from pushforward._typing import Array, Doubles

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """The rows of a call.

    Parameters
    ----------
    points : (n, dim) array
        The points, row by row in C order of the leading axes.
    condition : (n, context) or (context,) array or None
        Their conditions.
    shape : tuple of int
        The leading axes, with n rows in all: those of the points broadcast against those of the conditions.
    row : tuple of int, optional
        The shape of one of the points, by default (dim,).
    """

    points: Array
    condition: Array | None
    shape: Shape
    row: Shape | None = None

    def like_points(self, values: object, name: str, owner: str) -> Array:
        """Return an argument that has a row for each row of the results, as a table."""
        width = self.points.shape[1]
        array = _checks.points(values, width, name)
        if array.shape[:-1] == self.shape:
            return array if array.ndim == 2 else array.reshape(len(self.points), width)
        if array.ndim == len(self.shape) + 1 == 2:
            raise ValueError(f"{name} has {len(array)} rows, {owner} has {len(self.points)}")
        raise ValueError(f"{name} has shape {array.shape}; {(*self.shape, width)} is expected")

    def vector(self, values: object, name: str) -> Doubles:
        """Return an argument that has a number for each row of the results, as (n,) float64."""
        return _checks.vector(values, self.shape, name).reshape(len(self.points))

    def shaped(self, values: Array, row: Shape | None = None) -> Array:
        """Return results, one row or one number for each row, with the leading axes, and rows in a shape."""
        row = values.shape[1:] if row is None else row
        return values if values.shape == (*self.shape, *row) else values.reshape((*self.shape, *row))

    def like_these(self, values: Array) -> Array:
        """Return results, a row for each of the points, in their shape."""
        return self.shaped(values, self.row)


def flat(x: object, shape: Shape | None, name: str) -> object:
    """Return the rows of a flow that has a shape, an array (..., *shape), as (..., dim); any others as they are."""
    if shape is None:
        return x
    array = _checks.floats(x, name)
    if array.shape[-len(shape) :] != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name} has shape {array.shape}; this flow has shape={shape}, so (n, {expected}) is expected")
    return array.reshape((*array.shape[: -len(shape)], math.prod(shape)))


def batch(
    points: object,
    context: object,
    widths: tuple[int, int],
    name: str,
    columns: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    row: Shape | None = None,
) -> Batch:
    """Check points (..., dim) and their conditions (..., context), whose leading axes broadcast as those of NumPy do.

    `widths` and `columns` are those of the features and of the context. `row` is the shape of a point, if it has one.
    """
    points = flat(points, row, name)
    array = _checks.points(points, widths[0], name, columns[0])
    conditions = _checks.conditions(context, widths[1], columns[1], array.shape[:-1])
    leading = array.shape[:-1]
    if conditions is not None and conditions.ndim > 1 and conditions.shape[:-1] != leading:
        try:
            leading = np.broadcast_shapes(leading, conditions.shape[:-1])
        except ValueError:
            _checks.refuse_condition(conditions, widths[1], array.shape[:-1])
    return Batch(_table(array, leading), _conditions_table(conditions, leading), leading, row)


def draws(n: object, context: object, widths: tuple[int, int], columns: Sequence[str] | None) -> tuple[int, Batch]:
    """Check how many rows to draw, an integer or a shape, and their conditions, which broadcast to it.

    Returns
    -------
    int, Batch
        The number of rows, and a batch that has no points yet.
    """
    if isinstance(n, (tuple, list)):
        shape = tuple(_checks.integer(f"n[{i}]", size) for i, size in enumerate(n))
        rows = _checks.row_count(math.prod(shape), widths[0])
    else:
        rows = _checks.row_count(n, widths[0])
        shape = (rows,)
    conditions = _checks.conditions(context, widths[1], columns, shape)
    if conditions is not None and conditions.ndim > 1:
        try:
            np.broadcast_to(conditions, (*shape, widths[1]))
        except ValueError:
            _checks.refuse_condition(conditions, widths[1], shape)
    return rows, Batch(np.empty((0, widths[0])), _conditions_table(conditions, shape), shape)


def _table(array: Array, leading: Shape) -> Array:
    """Return an array (..., width) as a table whose rows are those of the leading axes."""
    if array.ndim == 2 and array.shape[:-1] == leading:
        return array
    width = array.shape[-1]
    return np.broadcast_to(array, (*leading, width)).reshape(math.prod(leading), width)


def _conditions_table(conditions: Array | None, leading: Shape) -> Array | None:
    """Return conditions as a table; one for all rows stays one."""
    return conditions if conditions is None or conditions.ndim == 1 else _table(conditions, leading)
