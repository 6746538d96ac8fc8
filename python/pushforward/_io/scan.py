"""One pass over a table: its rows a few at a time, and the checks of their values."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from pushforward._io.rows import Rows
from pushforward._model import supports
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles, Indices

# Scoring and statistics go over a table in pieces of this size, so that their temporaries stay small.
_PIECE_BYTES = 4 << 20


def pieces(rows: Rows) -> Iterator[tuple[Array, Array | None, Doubles | None, Indices]]:
    """Walk rows in table order, a few at a time: the arrays, and which rows of them."""
    size = max(_PIECE_BYTES // rows.bytes_per_row, 64)
    for window in rows.windows():
        for first in range(0, len(window.index), size):
            yield window.x, window.context, window.weights, window.index[first : first + size]


def fingerprint(rows: Rows) -> str:
    """Say what no other rows have in common with these: how many there are, and a hash of all of them."""
    hashes = [hashlib.blake2b() for _ in range(3)]
    for x, context, _, index in pieces(rows):
        for values, part in zip(hashes, (x, context), strict=False):
            if part is not None:
                values.update(part[index].data)
    if rows.weights is not None:  # of all rows: those without weight tell where the others are
        hashes[2].update(np.ascontiguousarray(rows.weights).data)
    parts = [part for part in (rows.x, rows.context, rows.weights) if part is not None]
    kinds = [(part.dtype.str, part.shape) for part in parts]
    total = hashlib.blake2b(repr((kinds, [values.hexdigest() for values in hashes])).encode(), digest_size=8)
    return f"{len(rows)} rows with the hash {total.hexdigest()}"


def check_values(rows: Rows, name: str, support: Sequence[Support]) -> tuple[Doubles, Doubles]:
    """Raise if a row, or its context, holds NaN or infinity, or a value is outside its support.

    Parameters
    ----------
    rows : Rows
        All rows of a table.
    name : str
        The table's name in messages.
    support : sequence of Support
        The support of each feature.

    Returns
    -------
    (dim,) array, (dim,) array
        The least and the greatest value of each feature.
    """
    low, high = np.full(rows.x.shape[1], np.inf), np.full(rows.x.shape[1], -np.inf)
    bad = {name: [0, 0], "context": [0, 0]}  # how many rows, and the first
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
                    bad[label][1] = rows.number_of(seen + int(finite.argmin()))
                bad[label][0] += int((~finite).sum())
            elif label == name:
                low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
                beyond = supports.outside(support, part) if bounded else None
                if beyond is not None and beyond.any():
                    rows_beyond = beyond.any(axis=1)
                    if not astray:
                        row = int(rows_beyond.argmax())
                        i = int(beyond[row].argmax())
                        number = rows.number_of(seen + row)
                        stray = f"row {number}: feature {i} is {part[row, i]!s}, support {support[i]!r}"
                    astray += int(rows_beyond.sum())
        seen += len(index)
    for label, (count, first) in bad.items():
        if count:
            raise ValueError(f"{label} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {first}")
    if astray:
        raise ValueError(f"{name} has {astray} row{'s' * (astray > 1)} outside their support, first at {stray}")
    return low, high


def check_density(rows: Rows, support: Sequence[Support], name: str = "x") -> None:
    """Raise if rows cannot have a density: values not finite or outside, constant features, two features equal."""
    low, high = check_values(rows, name, support)
    constant = np.flatnonzero(low == high)
    if len(constant):
        raise ValueError(
            f"{name} has constant features: {', '.join(map(str, constant))}; a density needs some spread in each"
        )
    equal = _equal_features(rows, low, high)
    if equal is not None:
        i, j = equal
        raise ValueError(f"{name} has equal features: {i} and {j}; they have no density together, leave one out")


def _equal_features(rows: Rows, low: Doubles, high: Doubles) -> tuple[int, int] | None:
    """Return the first feature that equals an earlier one, after that one."""
    groups = _groups(range(len(low)), [(float(a), float(b)) for a, b in zip(low, high, strict=True)])
    if not groups:
        return None
    for x, _, _, index in pieces(rows):
        # Features stay in a group as long as their values are the same, which in most tables ends with the first piece.
        # Adding 0 makes one zero of two.
        part = x[index]
        groups = [
            parts
            for group in groups
            for parts in _groups(group, [(part[:, feature] + 0.0).tobytes() for feature in group])
        ]
        if not groups:
            return None
    first, second = min((group[:2] for group in groups), key=lambda pair: pair[1])
    return first, second


def _groups(features: Sequence[int], keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the features with equal keys, where there are at least two."""
    found = defaultdict(list)
    for feature, key in zip(features, keys, strict=True):
        found[key].append(feature)
    return [group for group in found.values() if len(group) > 1]
