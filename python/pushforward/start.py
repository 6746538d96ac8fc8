"""The start of a fit: the table checked, and what is taken from it before any training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pushforward import checks
from pushforward.rows import Array, Index, Rows

if TYPE_CHECKING:
    from pushforward.flow import Flow

Floats = npt.NDArray[np.float64]

# Scoring and statistics go over a table in pieces of this size, so that their temporaries stay small.
_PIECE_BYTES = 4 << 20
# ActNorm's start needs means and deviations only: more than 65,536 rows change them by less than a percent.
_MOST_ROWS_TO_START = 1 << 16
_MOST_BYTES_TO_START = 16 << 20


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


def check_finite(rows: Rows, name: str) -> tuple[Floats, Floats]:
    """Raise if a row, or its context, holds NaN or infinity. Returns least and greatest value of each feature."""
    low, high = np.full(rows.x.shape[1], np.inf), np.full(rows.x.shape[1], -np.inf)
    bad = {name: [0, 0], "context": [0, 0]}  # how many, and the first
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
        seen += len(index)
    for label, (count, first) in bad.items():
        if count:
            raise ValueError(f"{label} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {first}")
    return low, high


def check_density(rows: Rows, name: str = "x") -> None:
    """Raise if rows cannot have a density: values that are not finite, constant features, a feature twice."""
    low, high = check_finite(rows, name)
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
    """Weighted mean and variance by column, combined piece by piece (Chan, Golub, LeVeque 1983)."""

    weight: float
    mean: Floats
    square: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, width: int) -> _Moments:
        return cls(0.0, np.zeros(width), np.zeros(width), np.full(width, np.inf), np.full(width, -np.inf))

    def add(self, values: Array, weights: Array | None) -> None:
        values = values.astype(np.float64)
        w = np.ones(len(values)) if weights is None else weights
        values, w = values[w > 0], w[w > 0]
        if not len(values):
            return
        weight = float(w.sum())
        mean = w @ values / weight
        step, total = mean - self.mean, self.weight + weight
        self.square += w @ (values - mean) ** 2 + step**2 * self.weight * weight / total
        self.mean = self.mean + step * weight / total
        self.weight = total
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))

    def deviation(self) -> Floats:
        return np.sqrt(self.square / self.weight)


def initialize(flow: Flow, rows: Rows) -> None:
    """Set standardisation and ActNorm from rows."""
    data, conditions = _Moments.of(flow.dim), _Moments.of(flow.context)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, context, weights, index in pieces(rows):
            w = None if weights is None else weights[index]
            data.add(x[index], w)
            if context is not None:
                conditions.add(context[index], w)
        scale, spread = data.deviation(), conditions.deviation() if flow.context else np.ones(0)
    # The whole table has passed check_density; the training rows, or those with weight, may still be too alike.
    constant = data.low == data.high  # where rounding can leave a spread that is not 0
    unfit = np.flatnonzero(~np.isfinite(scale) | (scale == 0) | constant)
    if len(unfit):
        spread_there = 0.0 if constant[unfit[0]] else scale[unfit[0]]
        raise ValueError(
            f"the training rows' spread is {spread_there:g} in feature {unfit[0]}; it must be above 0 and finite"
        )
    # A constant condition carries nothing, and does no harm.
    spread = np.where((conditions.low < conditions.high) & (spread > 0) & np.isfinite(spread), spread, 1.0)
    flow._set_standardization((data.mean, scale), (conditions.mean, spread))
    flow._data_dtype = rows.x.dtype
    flow._initialized = True
    flow._core.initialize_from_data(*_some(rows), flow.num_threads)


def _some(rows: Rows) -> tuple[Array, Array | None, Array | None]:
    """Copy rows for the layers that start from data, evenly spaced."""
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
    check_finite(held, "validation")
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
        density = flow._core.log_prob(x, context, index, flow.num_threads)
        if weights is None:
            total, weight = total - float(density.sum()), weight + len(index)
        else:
            w = weights[index]
            total, weight = total - float(w[w > 0] @ density[w > 0]), weight + float(w.sum())
    return total / weight if weight else float("nan")
