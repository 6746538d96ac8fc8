"""What is drawn: the laws of the base densities, and rows that depend on the seed and their number alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import CASES, Case
from pushforward import Circle, Flow, Interval, Normal, StudentT, Uniform
from pushforward._model.bases import Base
from scipy import stats

N = 40_000
# Of about a hundred p-values under fixed seeds, none is this small unless the law is another.
UNLIKELY = 1e-5

both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def drawn(base: Base, dim: int, dtype: str, **options: object) -> np.ndarray:
    return Flow(dim, layers=[], base=base, dtype=dtype, **options).sample(N, seed=3)


# An odd number of columns: normals are drawn in pairs, and the last one has no partner.
@both_precisions
def test_normals(dtype: str) -> None:
    z = drawn(Normal(), 5, dtype)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > UNLIKELY
        assert abs(column.mean()) < 5 / math.sqrt(N)
        assert abs(column.var() - 1) < 5 * math.sqrt(2 / N)
    # No column, nor its square, tells of another: both of a pair share a radius.
    for values in (z, z**2):
        correlation = np.corrcoef(values.T) - np.eye(5)
        assert np.abs(correlation).max() < 5 / math.sqrt(N)
    # Nor does a row of the next.
    assert abs(np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]) < 5 / math.sqrt(N)
    # Directions of a pair are equally likely, in each octant and within it.
    turns = (np.arctan2(z[:, 0], z[:, 1]) / (2 * math.pi)) % 1
    assert stats.kstest(turns, "uniform").pvalue > UNLIKELY
    assert stats.chisquare(np.bincount((8 * turns).astype(int), minlength=8)).pvalue > UNLIKELY
    # The tails go as far as the numbers do.
    assert 3.8 < np.abs(z).max() < 6


@both_precisions
@pytest.mark.parametrize("df", [0.5, 1.0, 3.0, 30.0, 1e6])
def test_student_t(df: float, dtype: str) -> None:
    z = drawn(StudentT(df), 3, dtype)
    assert np.isfinite(z).all()
    for column in z.T:
        assert stats.kstest(column, stats.t(df).cdf).pvalue > UNLIKELY
    ranks = stats.rankdata(z, axis=0)
    assert np.abs(np.corrcoef(ranks.T) - np.eye(3)).max() < 5 / math.sqrt(N)
    if df > 4:
        variance = df / (df - 2)
        spread = variance * math.sqrt((2 + 6 / (df - 4)) / N)
        assert np.abs(z.var(axis=0) - variance).max() < 5 * spread


@both_precisions
def test_boxes_and_circles_are_filled_evenly(dtype: str) -> None:
    supports = [Interval(-2, 6), Circle(-180, 180), Interval(0, 1e-3)]
    x = drawn(Uniform(), 3, dtype, support=supports)
    for column, support in zip(x.T, supports, strict=True):
        width = support.high - support.low
        assert ((column >= support.low) & (column <= support.high)).all()
        assert stats.kstest(column, stats.uniform(support.low, width).cdf).pvalue > UNLIKELY
        assert abs(column.mean() - (support.low + support.high) / 2) < 5 * width / math.sqrt(12 * N)
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 5 / math.sqrt(N)


def test_a_circle_beside_normals_is_uniform() -> None:
    x = drawn(Normal(), 2, "float64", support=[Circle(0, 1), Interval(0, 1)])
    assert stats.kstest(x[:, 0], "uniform").pvalue > UNLIKELY
    assert stats.kstest(x[:, 1], stats.norm(0.5, 1).cdf).pvalue < UNLIKELY
    assert ((x >= 0) & (x <= 1)).all()


@pytest.mark.parametrize("case", CASES, ids=str)
@both_precisions
def test_rows_are_those_of_the_seed(case: Case, dtype: str) -> None:
    flow, context = case.flow(dtype), case.condition(700)
    flow.num_threads = 1
    x, density = flow.sample_and_log_prob(700, context, seed=5)
    for threads in (2, 3, 8):
        flow.num_threads = threads
        again, again_density = flow.sample_and_log_prob(700, context, seed=5)
        assert again.tobytes() == x.tobytes()
        assert again_density.tobytes() == density.tobytes()
        assert flow.sample(700, context, seed=5).tobytes() == x.tobytes()
    for n in (0, 1, 15, 63, 64, 65, 130):
        fewer, fewer_density = flow.sample_and_log_prob(n, None if context is None else context[:n], seed=5)
        assert fewer.tobytes() == x[:n].tobytes()
        assert fewer_density.tobytes() == density[:n].tobytes()
    assert not np.array_equal(flow.sample(700, context, seed=6), x)


BASES = {
    "normal": (Normal(), None),
    "student t": (StudentT(3.0), None),
    "circle": (Normal(), Circle(-1, 1)),
    "box": (Uniform(), Interval(-1, 1)),
}


@pytest.mark.parametrize("name", BASES)
def test_precisions_draw_the_same(name: str) -> None:
    base, support = BASES[name]
    options = {} if support is None else {"support": support}
    single, double = (drawn(base, 3, dtype, **options) for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


def test_layers_carry_both_precisions_to_the_same() -> None:
    case = next(case for case in CASES if case.name == "realnvp")
    single, double = case.flow("float32"), case.flow("float64")
    np.testing.assert_allclose(single.sample(1000, seed=1), double.sample(1000, seed=1), rtol=1e-3, atol=1e-3)
