"""Distribution functions, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from pushforward._check import distributions
from pushforward._model import special

stats = pytest.importorskip("scipy.stats")

Z = np.concatenate([[-40.0, -8.5, 0.0, 8.5, 40.0], np.linspace(-6, 6, 241)])


def test_normal() -> None:
    np.testing.assert_allclose(special.normal_cdf(Z), stats.norm.cdf(Z), rtol=1e-13)
    u = stats.norm.cdf(Z[np.abs(Z) < 7])
    np.testing.assert_allclose(special.normal_quantile(u), stats.norm.ppf(u), rtol=1e-12, atol=1e-12)
    assert np.isfinite(special.normal_quantile([0.0, 1.0])).all()
    assert special.normal_cdf(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("df", [0.01, 0.51, 1.0, 2.5, 5.0, 30.0, 999.0, 1001.0, 1e5, 1e9])
def test_student_t(df: float) -> None:
    t = np.concatenate([Z, [-1e200, -1e3, 1e-12, 1e3, 1e200]])
    np.testing.assert_allclose(special.student_t_cdf(t, df), stats.t.cdf(t, df), atol=1e-7 if df > 1000 else 1e-12)


@pytest.mark.parametrize("df", [1, 2, 3, 6, 7, 43, 400])
def test_chi_square(df: int) -> None:
    square = np.concatenate([[0.0, 1e-9, 1e4], np.linspace(0, 3 * df, 101)])
    np.testing.assert_allclose(special.chi_square_cdf(square, df), stats.chi2.cdf(square, df), atol=1e-12)


def test_kolmogorov() -> None:
    values = np.concatenate([[1e-3, 0.0399, 0.0401, 0.999, 1.0], np.linspace(0.05, 4, 80)])
    got = [distributions.kolmogorov_sf(value) for value in values]
    np.testing.assert_allclose(got, stats.kstwobign.sf(values), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("n", [5, 20, 1000])
def test_distance_from_uniform(n: int) -> None:
    for seed in range(20):
        u = np.random.default_rng(seed).uniform(size=n)
        expected = stats.kstest(u, "uniform")
        distance, p = distributions.uniformity(u)
        assert distance == pytest.approx(expected.statistic, rel=1e-12)
        assert p == pytest.approx(expected.pvalue, abs=0.03 if n < 1000 else 0.006)
    distance, p = distributions.uniformity(np.full(n, 0.5))
    assert distance == pytest.approx(0.5)
    assert p == pytest.approx(stats.kstwo.sf(0.5, n), abs=0.01)


def test_weights_count_rows() -> None:
    rng = np.random.default_rng(0)
    u = rng.uniform(size=50)
    repeats = rng.integers(1, 4, size=50)
    distance, _ = distributions.uniformity(u, repeats.astype(float))
    assert distance == pytest.approx(distributions.uniformity(np.repeat(u, repeats))[0])
    same = distributions.uniformity(u, np.full(50, 1e-300))
    assert same == pytest.approx(distributions.uniformity(u))
    assert distributions.effective_number(np.array([1.0, 1.0, 0.0])) == 2.0


@pytest.mark.parametrize("n", [1, 10, 1000, 10**7])
@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("level", [0.9, 0.999])
def test_binomial_band(n: int, share: float, level: float) -> None:
    low, high = distributions.binomial_band(n, share, level)
    tail = 0.5 * (1 - level)
    assert (low, high) == (stats.binom.ppf(tail, n, share), stats.binom.ppf(1 - tail, n, share))
