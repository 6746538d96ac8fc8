"""What a flow takes from its data before any training: the standardisation, and where ActNorm starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pushforward._fit.cells import BoundCells
from pushforward._fit.exact import ExactSums
from pushforward._group import Group
from pushforward._io.rows import Rows
from pushforward._io.scan import pieces
from pushforward._model.state import State
from pushforward._typing import Array, Doubles

# ActNorm's start and the trimmed moments are means and deviations only: more than 65,536 rows change them by less than
# a percent.
_MOST_ROWS_TO_START = 1 << 16
_MOST_BYTES_TO_START = 16 << 20
# Up to half a percent of the rows on either side may be errors, placeholders, or the far end of a heavy tail. They are
# left out of a standardisation if they make the deviation more than three times that of the other rows. A cluster of
# one percent does not do that, because half of it is among the other rows.
_TRIMMED = 0.005
_MOST_RATIO = 3.0
# The middle of fewer rows can be far narrower than all of them by chance.
_FEWEST_TRIMMED = 20


class _Moments:
    """Weighted mean and variance by column, of rows that are added piece by piece.

    The sums are those of the values less a center near their mean, and of the squares of these, so that no digits
    cancel. They are exact, hence the same in whatever order and by whichever process rows are added. Values are taken
    over 2^exponent, of which squares neither overflow nor vanish. Infinite values, which are those on the bound of a
    support, are left out.

    Parameters
    ----------
    some : (n, columns) array
        Some of the rows, evenly spaced.
    """

    def __init__(self, some: Array) -> None:
        columns = some.shape[1]
        self._exponent = _exponents(some)
        scaled = np.ldexp(some.astype(np.float64), -self._exponent)
        finite = np.isfinite(scaled)
        self._center = scaled.sum(axis=0, where=finite) / np.maximum(finite.sum(axis=0), 1)
        self._weight, self._mean, self._square = (ExactSums(columns) for _ in range(3))
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)

    def add(self, values: Array, weights: Array | None) -> None:
        values = values.astype(np.float64)
        if weights is not None:
            values, weights = values[weights > 0], weights[weights > 0]
        finite = np.isfinite(values)
        self.low = np.minimum(self.low, values.min(axis=0, where=finite, initial=np.inf))
        self.high = np.maximum(self.high, values.max(axis=0, where=finite, initial=-np.inf))
        parts = finite * (1.0 if weights is None else weights[:, None])
        moved = np.where(finite, np.ldexp(np.where(finite, values, 0.0), -self._exponent) - self._center, 0.0)
        self._weight.add(parts)
        self._mean.add(parts * moved)
        self._square.add(parts * moved**2)

    def join(self, group: Group) -> tuple[Doubles, Doubles]:
        """Join the sums of all processes; return mean and deviation of each column."""
        self.low, self.high = group.least(self.low), group.greatest(self.high)
        weight, mean, square = (sums.totals(group) for sums in (self._weight, self._mean, self._square))
        weight = np.where(weight > 0, weight, 1.0)
        mean = mean / weight
        deviation = np.sqrt(np.maximum(square / weight - mean**2, 0.0))
        return np.ldexp(self._center + mean, self._exponent), np.ldexp(deviation, self._exponent)


def _exponents(values: Array) -> npt.NDArray[np.int32]:
    """Return the exponent of two of each column's greatest finite size."""
    sizes = np.abs(values.astype(np.float64))
    exponents: npt.NDArray[np.int32] = np.frexp(sizes.max(axis=0, where=np.isfinite(sizes), initial=0.0))[1]
    return exponents


def _trimmed(values: Array, weights: Array | None) -> tuple[Doubles, Doubles]:
    """Return mean and deviation of each column without its least and its greatest values.

    Of n rows max(1, ceil(0.005 n)) are left out on either side, or as much weight as so many have on average.
    """
    mean, deviation = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for i in range(values.shape[1]):
        column = values[:, i].astype(np.float64)
        kept = np.isfinite(column) if weights is None else np.isfinite(column) & (weights > 0)
        column = column[kept]
        n = len(column)
        count = max(1, math.ceil(_TRIMMED * n))
        if n < _FEWEST_TRIMMED:
            continue
        if weights is None:
            column, w = np.sort(column)[count:-count], np.ones(n - 2 * count)
        else:
            order = np.argsort(column, kind="stable")
            column, w = column[order], weights[kept][order]
            ends = w.cumsum()
            cut = count / n * ends[-1]
            w = np.minimum(ends, ends[-1] - cut) - np.maximum(ends - w, cut)
            column, w = column[w > 0], w[w > 0]
        exponent = int(_exponents(column[:, None])[0])
        column = np.ldexp(column, -exponent)
        center = (w * column).sum() / w.sum()
        mean[i] = math.ldexp(center, exponent)
        deviation[i] = math.ldexp(math.sqrt((w * (column - center) ** 2).sum() / w.sum()), exponent)
    return mean, deviation


def _shift_and_scale(found: tuple[Doubles, Doubles], some: Array, weights: Array | None) -> tuple[Doubles, Doubles]:
    """Return mean and deviation of each column, or those of its trimmed values where a few values make the scale.

    `some` are rows enough to tell.
    """
    mean, deviation = found
    center, spread = _trimmed(some, weights)
    made_by_few = (spread > 0) & np.isfinite(spread) & ~(deviation <= _MOST_RATIO * spread)
    return np.where(made_by_few, center, mean), np.where(made_by_few, spread, deviation)


def initialize(state: State, rows: Rows) -> Some:
    """Set the standardisation and ActNorm from rows; return some of them."""
    some = standardize(state, rows)
    state.core.initialize_from_data(some.x, context=some.context, weights=some.weights, threads=state.num_threads)
    return some


def standardize(state: State, rows: Rows) -> Some:
    """Set the standardisation from rows, and leave the parameters; return some of the rows."""
    some = some_of(rows)
    data = _Moments(state.to_line(some.x))
    conditions = _Moments(np.zeros((1, 0)) if some.context is None else some.context)
    cells = BoundCells(state)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, context, weights, index in pieces(rows):
            w = None if weights is None else weights[index]
            y = state.to_line(x, index)
            data.add(y, w)
            cells.add(x, index, y)
            if context is not None:
                conditions.add(context[index], w)
        shift, scale = _shift_and_scale(data.join(rows.group), state.to_line(some.x), some.weights)
        center, spread = np.zeros(0), np.ones(0)
        if some.context is not None:
            center, spread = _shift_and_scale(conditions.join(rows.group), some.context, some.weights)
    # The whole table has passed check_density; the training rows may still be too alike.
    constant = data.low >= data.high  # where rounding can leave a spread that is not 0
    _check_scale("the training rows' spread is {:g} in feature {}", np.where(constant, 0.0, scale))
    # A constant condition carries no information, and does no harm.
    spread = np.where(conditions.low < conditions.high, spread, 1.0)
    _check_scale("the spread of the context is {:g} in column {}", spread)
    shift, scale = by_channel(state, shift, scale)
    on_line = np.array([domain == "line" for domain in state.core.domains])
    shift, scale = np.where(on_line, shift, 0.0), np.where(on_line, scale, 1.0)
    state.set_standardization((shift, scale), (center, spread), cells.widths(some.x, rows.group))
    state.data_dtype = rows.x.dtype
    state.initialized = True
    return some


def by_channel(state: State, shift: Doubles, scale: Doubles) -> tuple[Doubles, Doubles]:
    """Return the location and scale of all pixels of a channel for each of them, if the flow has a shape.

    So a convolution sees the same numbers wherever it stands, and a pixel that hardly ever changes is not blown up.
    """
    if state.shape is None:
        return shift, scale
    shifts, scales = shift.reshape(state.shape[0], -1), scale.reshape(state.shape[0], -1)
    moving = [layer for layer in state.layers if not layer.reorders]
    # About any other center than 0 odd layers would make no symmetric density.
    is_symmetric = bool(moving) and all(layer.is_odd for layer in moving)
    center = (0.0 if is_symmetric else 1.0) * shifts.mean(axis=1, keepdims=True)
    spread = np.sqrt((scales**2 + (shifts - center) ** 2).mean(axis=1, keepdims=True))
    return np.broadcast_to(center, shifts.shape).ravel(), np.broadcast_to(spread, scales.shape).ravel()


def _check_scale(message: str, scale: Doubles) -> None:
    """Raise if a column cannot be divided by its scale."""
    with np.errstate(divide="ignore", over="ignore"):
        unfit = np.flatnonzero(~np.isfinite(scale) | ~np.isfinite(1 / scale))
    if len(unfit):
        found = message.format(scale[unfit[0]], unfit[0])
        raise ValueError(f"{found}; it must be above 0 and finite, and so must be its inverse")


@dataclass(frozen=True)
class Some:
    """Rows for the trimmed moments, and for the layers and the base that start from data."""

    x: Array
    context: Array | None
    weights: Array | None


def some_of(rows: Rows) -> Some:
    """Copy rows, evenly spaced: at most 65,536 and 16 MB, or 1,024 wide ones. Every process gets them all."""
    step = -(-len(rows) // max(min(_MOST_ROWS_TO_START, _MOST_BYTES_TO_START // rows.bytes_per_row), 1024))
    parts: list[list[Array]] = [[], [], []]
    next_one = -rows.walked_before() % step
    for x, context, weights, index in pieces(rows):
        at = index[next_one::step]
        next_one += len(at) * step - len(index)
        for found, part in zip(parts, (x, context, weights), strict=True):
            if part is not None:
                found.append(part[at])
    some: list[Array | None] = []
    for found, whole in zip(parts, (rows.x, rows.context, rows.weights), strict=True):
        some.append(None if whole is None else rows.group.joined(np.concatenate([*found, whole[:0]])))
    points, conditions, row_weights = some
    assert points is not None
    return Some(points, conditions, row_weights)
