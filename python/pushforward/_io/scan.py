"""One pass over a table: its rows a few at a time, and the checks of their values."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

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
    """Say what no other rows have in common with these: how many there are, and a hash of all of them.

    It is a sum over rows of a hash of each one with its number, so it does not depend on who has which rows.
    """
    total = np.zeros(1, np.uint64)
    seen = 0
    before = rows.walked_before()
    for x, context, weights, index in pieces(rows):
        numbers = np.arange(before + seen, before + seen + len(index), dtype=np.uint64)
        for part in (x, context, weights):
            if part is not None:
                numbers = _mixed(numbers, part[index])
        total += numbers.sum(dtype=np.uint64)
        seen += len(index)
    if rows.weights is not None:  # of all rows: those without weight tell where the others are
        total += _mixed(np.arange(len(rows.weights), dtype=np.uint64) + np.uint64(rows.first), rows.weights).sum()
    kinds = [(part.dtype.str, part.shape[1:]) for part in (rows.x, rows.context, rows.weights) if part is not None]
    sums = int(rows.group.sum(total.view(np.int64)).view(np.uint64)[0])
    hashed = hashlib.blake2b(repr((kinds, rows.total, sums)).encode(), digest_size=8)
    return f"{len(rows)} rows with the hash {hashed.hexdigest()}"


def _mixed(hashes: npt.NDArray[np.uint64], values: Array) -> npt.NDArray[np.uint64]:
    """Mix the values of each row into its hash, by the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    columns = np.atleast_2d(values.T)
    for column in columns:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.float64).view(np.uint64)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    return hashes


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
    found = rows.group.collected((bad, astray, stray))
    for label in bad:
        counts = [theirs[label] for theirs, _, _ in found if theirs[label][0]]
        if counts:
            count, first = sum(count for count, _ in counts), counts[0][1]
            raise ValueError(f"{label} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {first}")
    astray, stray = sum(count for _, count, _ in found), next((text for _, _, text in found if text), "")
    if astray:
        raise ValueError(f"{name} has {astray} row{'s' * (astray > 1)} outside their support, first at {stray}")
    return rows.group.least(low), rows.group.greatest(high)


def check_density(rows: Rows, support: Sequence[Support], name: str = "x") -> None:
    """Raise if rows cannot have a density: values not finite or outside, constant features, two features equal."""
    low, high = check_values(rows, name, support)
    # A number that stands for its cell has a density however often it comes.
    celled = [i for i, entry in enumerate(support) if entry.has_cells]
    low[celled], high[celled] = -np.inf, np.inf
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
    candidates = [i for i in range(len(low)) if np.isfinite(low[i])]
    groups = _groups(candidates, [(float(low[i]), float(high[i])) for i in candidates])
    for x, _, _, index in pieces(rows) if groups else ():
        # Features stay in a group as long as their values are the same, which in most tables ends with the first piece.
        # Adding 0 makes one zero of two.
        part = x[index]
        groups = [
            parts
            for group in groups
            for parts in _groups(group, [(part[:, feature] + 0.0).tobytes() for feature in group])
        ]
        if not groups:
            break
    # Features are equal if they are in every process: in one of its groups each.
    places = [{f: i for i, group in enumerate(found) for f in group} for found in rows.group.collected(groups)]
    everywhere = [f for f in range(len(low)) if all(f in place for place in places)] if all(places) else []
    groups = _groups(everywhere, [tuple(place[f] for place in places) for f in everywhere])
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
