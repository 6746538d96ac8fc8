"""Sums that do not depend on the order of their terms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pushforward._fit.exact import ExactSums
from pushforward._group import ALONE


def total(*parts: list[float]) -> float:
    """Return the sum of all parts, each added by a process of its own."""
    sums = [ExactSums(1) for _ in parts]
    for one, part in zip(sums, parts, strict=True):
        one.add(np.array(part))
    sums[0]._digits = np.sum([one._digits for one in sums], axis=0)
    return float(sums[0].totals(ALONE)[0])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), st.integers(0, 40))
def test_a_sum_is_rounded_once(values: list[float], cut: int) -> None:
    exact = sum(map(Fraction, values))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert total(values) == total(values[cut:], values[:cut]) == expected


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
def test_many_large_terms_carry(count: int) -> None:
    largest = float(np.finfo(float).max) / 8192
    assert total([largest] * count) == float(Fraction(largest) * count)
    assert total([-largest] * count, [largest] * (count - 1)) == -largest


def test_what_is_not_finite() -> None:
    inf, nan = math.inf, math.nan
    assert math.isnan(total([nan, 1.0]))
    assert total([inf, -1e308], [inf]) == inf
    assert total([-inf], [1.0]) == -inf
    assert math.isnan(total([inf], [-inf]))
    assert total([]) == 0


def test_columns_have_sums_of_their_own() -> None:
    values = np.random.default_rng(0).normal(size=(300, 3)) * [1, 1e10, 1e-300]
    sums = ExactSums(3)
    sums.add(values[:100])
    sums.add(values[100:])
    assert sums.totals(ALONE).tolist() == [math.fsum(column) for column in values.T]
