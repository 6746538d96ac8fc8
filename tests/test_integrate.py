"""Integrals: exact ones, errors that cover, limits, seeds, refusals."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from pushforward import Circle, Interval, Positive, Real, importance
from pushforward.importance.integrand import Broad

CORNER = 0.15


def corner(x: np.ndarray) -> np.ndarray:
    """A narrow bump near the origin of a square."""
    return np.exp(-((x - 0.3) ** 2).sum(axis=1) / CORNER**2)


TRUTH = (CORNER * math.sqrt(math.pi) / 2 * (math.erf(0.3 / CORNER) + math.erf(0.7 / CORNER))) ** 2


@pytest.mark.parametrize(
    ("f", "support", "truth"),
    [
        (lambda x: x[:, 0] ** 1.5 * (1 - x[:, 0]) ** 3, Interval(0, 1), scipy.special.beta(2.5, 4)),
        (lambda x: x[:, 0] * x[:, 1] ** 2, [[0, 2], [-1, 3]], 2 * 28 / 3),
        (lambda x: np.exp(np.cos(x[:, 0])), [Circle(0, 2 * math.pi)], 2 * math.pi * scipy.special.i0(1)),
        (lambda x: x[:, 0] ** 3 * np.exp(-x[:, 0]), [Positive()], 6.0),
        (lambda x: np.exp(-(x[:, 0] ** 2) - x[:, 1]), [Real(), Positive()], math.sqrt(math.pi)),
        (lambda x: 1 + 3 * np.sin(4 * x[:, 0]), [[0, 2]], 2 + 0.75 * (1 - math.cos(8))),
        (corner, [[0, 1], [0, 1]], TRUTH),
    ],
    ids=["beta", "polynomial", "circle", "gamma", "mixed", "signed", "bump"],
)
def test_exact_integrals(f: Any, support: Any, truth: float) -> None:
    found = importance.integrate(f, support, rtol=0.01, max_calls=100_000, seed=0, epochs=3)
    assert found.reached
    assert found.error <= 0.01 * abs(found.value)
    assert abs(found.value - truth) < 5 * found.error
    assert float(found) == found.value


def test_a_flow_lowers_the_error() -> None:
    found = importance.integrate(corner, [[0, 1]] * 2, rtol=0, max_calls=6000, seed=0, epochs=10)
    assert not found.reached
    assert found.calls == 6000
    assert found.fits > 0
    assert found.flow is not None
    plain = np.std(corner(np.random.default_rng(0).uniform(size=(100_000, 2)))) / math.sqrt(6000)
    assert found.error < 0.1 * plain


def test_errors_cover() -> None:
    """Errors off are standard normal: shares within one and two errors, and the mean.

    Each bound is passed by chance once in 10,000 times, by the binomial and the normal distribution.
    """
    n, pulls = 24, []
    for seed in range(n):
        found = importance.integrate(corner, [[0, 1]] * 2, rtol=0, max_calls=3000, seed=seed, epochs=1)
        assert found.fits > 0
        pulls.append((found.value - TRUTH) / found.error)
    for errors in (1, 2):
        share = scipy.stats.norm.cdf(errors) - scipy.stats.norm.cdf(-errors)
        low, high = scipy.stats.binom.ppf([1e-4, 1 - 1e-4], n, share)
        assert low <= (np.abs(pulls) < errors).sum() <= high, pulls
    assert abs(np.mean(pulls)) < scipy.stats.norm.isf(0.5e-4) / math.sqrt(n), pulls


def test_several_values_share_their_draws() -> None:
    """The integral of a bump and of its product with a feature, whose ratio is far better known than each of them."""
    moments = importance.integrate(
        lambda x: np.stack([corner(x), x[:, 0] * corner(x)], axis=1), [[0, 1]] * 2, rtol=0, max_calls=6000, seed=0
    )
    assert moments.value.shape == moments.error.shape == (2,)
    assert moments.covariance is not None
    np.testing.assert_allclose(np.sqrt(np.diag(moments.covariance)), moments.error)
    along = scipy.stats.truncnorm(-0.3 / CORNER * math.sqrt(2), 0.7 / CORNER * math.sqrt(2), 0.3, CORNER / math.sqrt(2))
    truth = TRUTH * np.array([1, along.mean()])
    off = np.linalg.solve(np.linalg.cholesky(moments.covariance), moments.value - truth)
    assert (off**2).sum() < scipy.stats.chi2(2).isf(1e-4)
    assert repr(moments).count("+-") == 2
    with pytest.raises(TypeError):
        float(moments)
    one = importance.integrate(lambda x: corner(x)[:, None], [[0, 1]] * 2, rtol=0.05, seed=0, epochs=1)
    plain = importance.integrate(corner, [[0, 1]] * 2, rtol=0.05, seed=0, epochs=1)
    assert one.value.tolist() == [plain.value]


def test_seeds_and_pools_fix_the_bits() -> None:
    options: dict[str, Any] = {"rtol": 0, "max_calls": 3000, "epochs": 1}
    found = importance.integrate(corner, [[0, 1]] * 2, seed=0, **options)
    with ThreadPoolExecutor(2) as pool:
        again = importance.integrate(corner, [[0, 1]] * 2, seed=0, pool=pool, **options)
    assert (again.value, again.error) == (found.value, found.error)
    assert importance.integrate(corner, [[0, 1]] * 2, seed=1, **options).value != found.value


def test_limits() -> None:
    found = importance.integrate(corner, [[0, 1]] * 2, rtol=0, max_time=1e-3, seed=0)
    assert not found.reached
    assert found.calls < 200_000
    loose = importance.integrate(corner, [[0, 1]] * 2, rtol=0, atol=0.01, seed=0)
    assert loose.reached
    assert loose.calls <= 2000
    seen = []
    importance.integrate(lambda x: (seen.append(len(x)), corner(x))[1], [[0, 1]] * 2, rtol=0, max_calls=1500, seed=0)
    assert sum(seen) == 1500


def test_nothing_met_is_no_answer() -> None:
    def far(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x[:, 0] - 40) < 1, 1.0, 0.0)

    with pytest.warns(RuntimeWarning, match="f was 0 at all 1,500 draws"):
        found = importance.integrate(far, [[0, 1e6]], max_calls=1500, seed=0)
    assert not found.reached
    near = importance.integrate(far, [[0, 1e6]], start=scipy.stats.uniform(0, 100), rtol=0.05, seed=0)
    assert abs(near.value - 2) < 5 * near.error


def test_a_heavy_tail_is_noticed() -> None:
    with pytest.warns(RuntimeWarning, match="Pareto k of the weights"):
        found = importance.integrate(
            lambda x: 1 / (1 + x[:, 0] ** 2), [Real()], start=scipy.stats.norm(scale=0.5), max_calls=1500, seed=0
        )
    assert not found.reached


def test_the_broad_density_is_one() -> None:
    x, log_prob = Broad((Real(), Positive(), Interval(-1, 3))).sample_and_log_prob(5, seed=0)
    truth = scipy.stats.t(2).logpdf(x[:, 0]) + scipy.stats.fisk(1).logpdf(x[:, 1]) - math.log(4)
    np.testing.assert_allclose(log_prob, truth)


def test_what_is_printed() -> None:
    lines = repr(importance.integrate(lambda x: np.full(len(x), 3.0), [[0, 2]], seed=0)).splitlines()
    assert lines == [
        "integral  6 +- 0 (tolerance reached)",
        "1,000 evaluations, the value from the last 1,000, 0 fits",
    ]


@pytest.mark.parametrize(
    ("f", "support", "options", "error", "message"),
    [
        (3, [[0, 1]], {}, TypeError, "f must be a function"),
        (corner, 3, {}, TypeError, r"support must be Real\(\)"),
        (corner, [[0, 1, 2]], {}, TypeError, r"bounds of shape \(dim, 2\)"),
        (corner, [[1, 0]], {}, ValueError, "Interval needs low < high"),
        (corner, [[0, 1]], {"rtol": -1}, ValueError, "rtol must be in"),
        (corner, [[0, 1]], {"atol": -1}, ValueError, "atol must be in"),
        (corner, [[0, 1]], {"max_calls": 10}, ValueError, "max_calls must be at least 1000"),
        (corner, [[0, 1]], {"max_time": 0}, ValueError, "max_time must be in"),
        (corner, [[0, 1]], {"start": 3}, TypeError, "start must have the methods"),
        (corner, [[0, 1]] * 2, {"start": scipy.stats.norm()}, ValueError, "start has 1 features; 2 are expected"),
        (lambda x: x[:, :, None], [[0, 1]], {}, ValueError, r"f returned values of shape \(1000, 1, 1\)"),
        (lambda x: x[:, :0], [[0, 1]], {}, ValueError, r"f returned values of shape \(1000, 0\)"),
        (lambda x: np.ones((len(x), 2)) / (x - x), [[0, 1]], {}, ValueError, "f returned .*inf inf.* at row 0"),
        (lambda x: x[:, 0] / 0, [[0, 1]], {}, ValueError, "f returned inf at row 0 .*an integrand must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_refused(f: Any, support: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        importance.integrate(f, support, **options)
