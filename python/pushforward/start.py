"""The start of a fit: the table checked, and what is taken from it before any training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pushforward import checks, supports
from pushforward.rows import Array, Index, Rows
from pushforward.supports import Support

if TYPE_CHECKING:
    from pushforward.flow import Flow

Floats = npt.NDArray[np.float64]

# Scoring and statistics go over a table in pieces of this size, so that their temporaries stay small.
_PIECE_BYTES = 4 << 20
# ActNorm's start and the trimmed moments are means and deviations only: more than 65,536 rows change them by less than
# a percent.
_MOST_ROWS_TO_START = 1 << 16
_MOST_BYTES_TO_START = 16 << 20
# Half a percent of the rows on either side may be anything: errors, placeholders, the far end of a heavy tail. They are
# left out of a standardisation when they make the deviation more than three times that of the others, which a cluster
# of a percent does not do, being among the others.
_TRIMMED = 0.005
_MOST_RATIO = 3.0


def table_of(flow: Flow, x: object, context: object, weights: object, name: str = "x") -> Rows:
    """Check a table of rows by shape and type."""
    table = checks.table(x, flow.dim, name)
    if len(table) == 0:
        raise ValueError(f"{name} has no rows")
    conditions = checks.condition(context, flow.context, len(table))
    if conditions is not None and conditions.ndim == 1:
        raise ValueError(f"to fit, context must have one row per row of {name}: ({len(table)}, {flow.context})")
    return Rows.of(table, conditions, checks.row_weights(weights, len(table)))


def pieces(rows: Rows) -> Iterator[tuple[Array, Array | None, Array | None, Index]]:
    """Walk rows in table order, a few at a time: the arrays, and which rows of them."""
    size = max(_PIECE_BYTES // rows.bytes_per_row, 64)
    for window in rows.windows():
        for first in range(0, len(window.index), size):
            yield window.x, window.context, window.weights, window.index[first : first + size]


def check_values(rows: Rows, name: str, support: Sequence[Support]) -> tuple[Floats, Floats]:
    """Raise if a row, or its context, holds NaN or infinity, or a value is outside its support.

    Returns least and greatest value of each feature.
    """
    low, high = np.full(rows.x.shape[1], np.inf), np.full(rows.x.shape[1], -np.inf)
    bad = {name: [0, 0], "context": [0, 0]}  # how many, and the first
    astray, stray = 0, ""  # rows outside their support: how many, and what the first one is
    bounded = not supports.are_real(support)
    seen = 0
    for x, context, _, index in pieces(rows):
        for label, part in ((name, x[index]), ("context", None if context is None else context[index])):
            if part is None:
                continue
            finite = np.isfinite(part).all(axis=1)
            if not finite.all():
                if not bad[label][0]:
                    bad[label][1] = seen + int(finite.argmin())
                bad[label][0] += int((~finite).sum())
            elif label == name:
                low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
                beyond = supports.outside(support, part) if bounded else None
                if beyond is not None and beyond.any():
                    rows_beyond = beyond.any(axis=1)
                    if not astray:
                        row = int(rows_beyond.argmax())
                        i = int(beyond[row].argmax())
                        stray = f"row {seen + row}: feature {i} is {part[row, i]!s}, support {support[i]!r}"
                    astray += int(rows_beyond.sum())
        seen += len(index)
    for label, (count, first) in bad.items():
        if count:
            raise ValueError(f"{label} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {first}")
    if astray:
        raise ValueError(f"{name} has {astray} row{'s' * (astray > 1)} outside their support, first at {stray}")
    return low, high


def check_density(rows: Rows, support: Sequence[Support], name: str = "x") -> None:
    """Raise if rows cannot have a density: values not finite or outside, constant features, a feature twice."""
    low, high = check_values(rows, name, support)
    constant = np.flatnonzero(low == high)
    if len(constant):
        raise ValueError(
            f"{name} has constant features: {', '.join(map(str, constant))}; a density needs some spread in each"
        )
    # Features with the same ends may be the same: look at their values.
    pairs = [(i, j) for i in range(len(low)) for j in range(i) if low[i] == low[j] and high[i] == high[j]]
    for x, _, _, index in pieces(rows) if pairs else ():
        part = x[index]
        pairs = [(i, j) for i, j in pairs if (part[:, i] == part[:, j]).all()]
    if pairs:
        i, j = pairs[0]
        raise ValueError(f"{name} has equal features: {j} and {i}; they have no density together, leave one out")


@dataclass
class _Moments:
    """Weighted mean and variance by column, combined piece by piece (Chan, Golub, LeVeque 1983).

    Infinite values, which are those on the bound of a support, are left out.
    """

    weight: Floats
    mean: Floats
    square: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, width: int) -> _Moments:
        return cls(np.zeros(width), np.zeros(width), np.zeros(width), np.full(width, np.inf), np.full(width, -np.inf))

    def add(self, values: Array, weights: Array | None) -> None:
        values = values.astype(np.float64)
        w = np.ones(len(values)) if weights is None else weights
        values, w = values[w > 0], w[w > 0]
        if not len(values):
            return
        finite = np.isfinite(values)
        if finite.all():
            weight = np.full(len(self.mean), w.sum())
            mean = w @ values / weight
            square = w @ (values - mean) ** 2
            low, high = values.min(axis=0), values.max(axis=0)
        else:
            low = values.min(axis=0, where=finite, initial=np.inf)
            high = values.max(axis=0, where=finite, initial=-np.inf)
            values, parts = np.where(finite, values, 0.0), np.where(finite, w[:, None], 0.0)
            weight = parts.sum(axis=0)
            mean = (parts * values).sum(axis=0) / np.where(weight > 0, weight, 1.0)
            square = (parts * (values - mean) ** 2).sum(axis=0)
        step, total = mean - self.mean, self.weight + weight
        divisor = np.where(total > 0, total, 1.0)
        self.square += square + step**2 * self.weight * weight / divisor
        self.mean = self.mean + step * weight / divisor
        self.weight = total
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def deviation(self) -> Floats:
        return np.sqrt(self.square / np.where(self.weight > 0, self.weight, 1.0))


def _trimmed(values: Array, weights: Array | None) -> tuple[Floats, Floats]:
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
        if n <= 2 * count:
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
        mean[i] = (w * column).sum() / w.sum()
        deviation[i] = math.sqrt((w * (column - mean[i]) ** 2).sum() / w.sum())
    return mean, deviation


def _shift_and_scale(moments: _Moments, some: Array, weights: Array | None) -> tuple[Floats, Floats]:
    """Return mean and deviation of each column, or those of its trimmed values where a few values make the scale.

    `some` are rows enough to tell.
    """
    mean, deviation = moments.mean, moments.deviation()
    center, spread = _trimmed(some, weights)
    made_by_few = (spread > 0) & np.isfinite(spread) & ~(deviation <= _MOST_RATIO * spread)
    return np.where(made_by_few, center, mean), np.where(made_by_few, spread, deviation)


def initialize(flow: Flow, rows: Rows) -> None:
    """Set standardisation and ActNorm from rows."""

    def to_line(x: Array, index: Index | None) -> Array:
        """Return rows as the layers would see them without standardisation; for real features that is x."""
        if supports.are_real(flow.support):
            return x if index is None else x[index]
        y: Array = flow._core.to_line(x, index=index, threads=flow.num_threads)
        return y

    data, conditions = _Moments.of(flow.dim), _Moments.of(flow.context)
    some, some_conditions, some_weights = _some(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, context, weights, index in pieces(rows):
            w = None if weights is None else weights[index]
            data.add(to_line(x, index), w)
            if context is not None:
                conditions.add(context[index], w)
        shift, scale = _shift_and_scale(data, to_line(some, None), some_weights)
        center, spread = conditions.mean, np.ones(flow.context)
        if some_conditions is not None:
            center, spread = _shift_and_scale(conditions, some_conditions, some_weights)
    # The whole table has passed check_density; the training rows, or those with weight, may still be too alike.
    constant = data.low >= data.high  # where rounding can leave a spread that is not 0
    unfit = np.flatnonzero(~np.isfinite(scale) | (scale == 0) | constant)
    if len(unfit):
        spread_there = 0.0 if constant[unfit[0]] else scale[unfit[0]]
        raise ValueError(
            f"the training rows' spread is {spread_there:g} in feature {unfit[0]}; it must be above 0 and finite"
        )
    # A constant condition carries nothing, and does no harm.
    spread = np.where((conditions.low < conditions.high) & (spread > 0) & np.isfinite(spread), spread, 1.0)
    on_line = np.array([domain == "line" for domain in flow._core.domains])
    shift, scale = np.where(on_line, shift, 0.0), np.where(on_line, scale, 1.0)
    flow._set_standardization((shift, scale), (center, spread))
    flow._data_dtype = rows.x.dtype
    flow._initialized = True
    flow._core.initialize_from_data(some, context=some_conditions, weights=some_weights, threads=flow.num_threads)


def _some(rows: Rows) -> tuple[Array, Array | None, Array | None]:
    """Copy rows for the trimmed moments and for the layers that start from data, evenly spaced."""
    step = -(-len(rows) // max(min(_MOST_ROWS_TO_START, _MOST_BYTES_TO_START // rows.bytes_per_row), 1024))
    parts = []
    for x, context, weights, index in pieces(rows):
        at = index[::step]
        parts.append((x[at], None if context is None else context[at], None if weights is None else weights[at]))
    xs, contexts, all_weights = zip(*parts, strict=True)
    return (
        np.concatenate(xs),
        None if contexts[0] is None else np.concatenate(contexts),
        None if all_weights[0] is None else np.concatenate(all_weights),
    )


def held_out(flow: Flow, rows: Rows, validation: Any, rng: np.random.Generator) -> tuple[Rows, Rows | None]:
    """Return the training rows and the validation rows."""
    if validation is None:
        return rows, None
    if not isinstance(validation, (tuple, list, str)) and np.ndim(validation) == 0:
        fraction = checks.number("validation", validation, 0.0, 1.0, closed="left", what="a fraction, rows or None")
        train, held = rows.split(fraction, rng)
        if not len(train):
            raise ValueError(f"validation={validation} leaves none of {len(rows)} rows to train on")
        return train, held if len(held) else None
    x, context = validation, None
    if flow.context:
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise ValueError("with a context, validation rows come as a tuple (x, context)")
        x, context = validation
    held = table_of(flow, x, context, None, "validation")
    check_values(held, "validation", flow.support)
    return rows, held


def mean_weight(rows: Rows, name: str = "training") -> float:
    """Return the mean weight of rows, above 0."""
    if rows.weights is None:
        return 1.0
    total = 0.0
    for _, _, weights, index in pieces(rows):
        total += 0.0 if weights is None else float(weights[index].sum())
    if not total > 0:
        raise ValueError(f"the weights of the {name} rows are all zero")
    return total / len(rows)


def loss(flow: Flow, rows: Rows) -> float:
    """Return the mean negative log-likelihood of rows."""
    total = weight = 0.0
    for x, context, weights, index in pieces(rows):
        density = flow._core.log_prob(x, context=context, index=index, threads=flow.num_threads)
        if weights is None:
            total, weight = total - float(density.sum()), weight + len(index)
        else:
            w = weights[index]
            total, weight = total - float(w[w > 0] @ density[w > 0]), weight + float(w.sum())
    return total / weight if weight else float("nan")
