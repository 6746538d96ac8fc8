"""Sums over rows that do not depend on their order, nor on which process has which rows."""

from __future__ import annotations

import math

import numpy as np

from pushforward._dispatch import core
from pushforward._group import Group
from pushforward._typing import Array, Doubles

# A sum's digits are base 2^32; the first one counts so many-th parts of 1 (exact_sum.hpp).
_UNIT = 1 << 1074
_COUNTS = 3


class ExactSums:
    """Sums of float64 numbers, of which each is rounded once, at the end.

    Source: Neal 2015, "Fast exact summation using small and large superaccumulators".

    Parameters
    ----------
    columns : int
        How many sums.
    """

    def __init__(self, columns: int) -> None:
        self._digits = np.zeros((columns, core.sum_entries), np.int64)

    def add(self, values: Array) -> None:
        """Add the rows of values (n, columns), or of one sum (n,)."""
        columns = len(self._digits)
        core.add_exactly(np.ascontiguousarray(values, np.float64).reshape(-1, columns), self._digits)

    def totals(self, group: Group) -> Doubles:
        """Return the sums over all processes, (columns,)."""
        return np.array([_total(digits) for digits in group.sum(self._digits).tolist()])


def _total(entries: list[int]) -> float:
    digits, (nans, above, below) = entries[:-_COUNTS], entries[-_COUNTS:]
    if nans or (above and below):
        return math.nan
    if above or below:
        return math.inf if above else -math.inf
    total = sum(digit << 32 * i for i, digit in enumerate(digits))
    try:
        return total / _UNIT  # rounded correctly
    except OverflowError:
        return math.inf if total > 0 else -math.inf
