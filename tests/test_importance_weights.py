"""Statistics of log weights: exact small cases, scipy's generalised Pareto, errors that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from pushforward import _weights


def test_small_cases() -> None:
    log_weights = np.log([1.0, 2.0, 5.0])
    np.testing.assert_allclose(_weights.normalized(log_weights), [0.125, 0.25, 0.625])
    assert _weights.effective_size(log_weights) == pytest.approx(64 / 30)
    value, error = _weights.log_evidence(log_weights)
    assert value == pytest.approx(math.log(8 / 3))
    assert error == pytest.approx(np.std([1, 2, 5], ddof=1) / (8 / 3) / math.sqrt(3))
    mean, error = _weights.mean(np.array([[1.0, 0], [2, 0], [4, 3]]), log_weights)
    np.testing.assert_allclose(mean, [25 / 8, 15 / 8])
    np.testing.assert_allclose(error[0] ** 2, (1 * (1 - 25 / 8) ** 2 + 4 * (2 - 25 / 8) ** 2 + 25 * (7 / 8) ** 2) / 64)


def test_the_scale_of_weights_does_not_matter() -> None:
    log_weights = np.random.default_rng(0).normal(size=500)
    for shift in (-5000.0, 5000.0):
        shifted = log_weights + shift
        assert _weights.effective_size(shifted) == pytest.approx(_weights.effective_size(log_weights))
        assert _weights.log_evidence(shifted)[0] - shift == pytest.approx(_weights.log_evidence(log_weights)[0])
        smooth, k = _weights.pareto_smoothed(shifted)
        np.testing.assert_allclose(smooth - shift, _weights.pareto_smoothed(log_weights)[0], atol=1e-9)
        assert k == pytest.approx(_weights.pareto_k(log_weights), abs=1e-9)


def test_no_weight_at_all() -> None:
    nothing = np.full(100, -np.inf)
    assert _weights.effective_size(nothing) == 0
    assert _weights.log_evidence(nothing) == (-math.inf, math.inf)
    assert math.isnan(_weights.pareto_k(nothing))


def test_rows_without_weight_are_not_looked_at() -> None:
    values, log_weights = np.array([[1.0], [np.nan], [3]]), np.array([0, -np.inf, 0])
    assert _weights.mean(values, log_weights)[0] == 2
    assert _weights.quantiles(values[:, 0], log_weights, np.array([0.5]))[0] == 2


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.7, 1.0])
def test_pareto_k_is_the_tail_s(k: float) -> None:
    found = [
        _weights.pareto_k(np.log(scipy.stats.genpareto.rvs(k, size=20_000, random_state=seed))) for seed in range(20)
    ]
    # Of 425 tail weights the estimate has a deviation of about (1 + k) / sqrt(425), 0.1 at most.
    assert np.mean(found) == pytest.approx(k, abs=0.1)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.6])
def test_the_fit_is_as_likely_as_scipy_s(k: float) -> None:
    values = np.sort(scipy.stats.genpareto.rvs(k, scale=3, size=2000, random_state=1))
    shape, scale = _weights._fitted_pareto(values)
    best, _, best_scale = scipy.stats.genpareto.fit(values, floc=0)
    mine, other = (
        scipy.stats.genpareto.logpdf(values, *fit).sum() for fit in ((shape, 0, scale), (best, 0, best_scale))
    )
    assert mine > other - 1  # a log likelihood of all 2,000
    np.testing.assert_allclose(
        _weights._pareto_quantiles(np.array([0.1, 0.9]), k, 3), scipy.stats.genpareto.ppf([0.1, 0.9], k, scale=3)
    )


def test_smoothing_keeps_order_and_bound() -> None:
    log_weights = np.random.default_rng(0).normal(size=2000) * 2
    smooth, _ = _weights.pareto_smoothed(log_weights)
    np.testing.assert_array_equal(np.argsort(smooth, kind="stable"), np.argsort(log_weights, kind="stable"))
    assert smooth.max() <= log_weights.max()
    changed = np.flatnonzero(smooth != log_weights)
    assert set(changed) <= set(np.argsort(log_weights)[-math.ceil(3 * math.sqrt(2000)) :])
    assert len(changed) > 100


def test_equal_weights_have_no_tail() -> None:
    smooth, k = _weights.pareto_smoothed(np.zeros(100))
    assert k == -math.inf
    assert (smooth == 0).all()
    assert math.isnan(_weights.pareto_k(np.arange(20.0)))


def test_resampling_is_systematic() -> None:
    log_weights = np.log([0.1, 0.25, 0.65])
    for seed in range(20):
        counts = np.bincount(_weights.resampled(log_weights, 10, np.random.default_rng(seed)), minlength=3)
        assert (np.abs(counts - [1, 2.5, 6.5]) < 1).all()
    assert (_weights.resampled(np.array([-np.inf, 0, -np.inf]), 50, np.random.default_rng(0)) == 1).all()


def test_errors_cover() -> None:
    """A normal of width 1 by draws of width 1.2: within two errors in 95 % of 400 runs, with a deviation of 1.1 %."""
    inside = np.zeros(3)
    for seed in range(400):
        x = 1.2 * np.random.default_rng(seed).normal(size=1000)
        log_weights = 3 - x**2 / 2 + (x / 1.2) ** 2 / 2 + math.log(1.2)
        value, error = _weights.log_evidence(log_weights)
        mean, mean_error = _weights.mean(x[:, None], log_weights)
        upper, upper_error = _weights.quantiles(x, log_weights, np.array([0.9]))
        off = [value - 3, mean[0], upper[0] - scipy.stats.norm.ppf(0.9)]
        inside += np.abs(off) < 2 * np.array([error, mean_error[0], upper_error[0]])
    assert (inside >= 0.91 * 400).all(), inside
