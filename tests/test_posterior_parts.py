"""The parts of the posterior sampler: kernels, rows with their weights, priors in their coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pushforward import Circle, Interval
from pushforward._posterior.fold import Draw, Fold
from pushforward._posterior.kernels import Kernels
from pushforward._posterior.prior import resolve
from scipy import stats


def kernels(dim: int) -> Kernels:
    rng = np.random.default_rng(0)
    t = rng.normal(size=(400, dim)) * np.arange(1, dim + 1)
    return Kernels.around(t, -0.1 * t[:, 0] ** 2, rng)


def test_kernels_integrate_to_one() -> None:
    axis = np.linspace(-60, 60, 1201)
    one = np.exp(kernels(1).log_prob(axis[:, None]))
    assert np.trapezoid(one, axis) == pytest.approx(1, abs=1e-3)
    plane = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    two = np.exp(kernels(2).log_prob(plane)).reshape(len(axis), -1)
    assert np.trapezoid(np.trapezoid(two, axis), axis) == pytest.approx(1, abs=5e-3)


def test_kernels_draw_from_their_density() -> None:
    """The mean of a normal density over the kernels' is 1 under draws from them."""
    proposal = kernels(2)
    t = proposal.sample(50_000, seed=1)
    ratio = np.exp(stats.norm(0, [0.7, 1.0]).logpdf(t).sum(axis=1) - proposal.log_prob(t))
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(t))
    np.testing.assert_array_equal(t, proposal.sample(50_000, seed=1))


def test_weights_of_a_fold_estimate_the_evidence() -> None:
    """Rows of the prior and of kernels, some of which are outside: a uniform prior, and a likelihood on one side."""
    prior = resolve([Interval(-1, 2)], None, None)
    rng = np.random.default_rng(0)
    first = prior.sample(20_000, rng)
    proposal = kernels(1)
    drawn = proposal.sample(20_000, seed=2)
    inside = drawn[np.isfinite(prior.log_prob(drawn))]
    assert 0 < len(inside) < len(drawn)

    def log_likelihood(t: np.ndarray) -> np.ndarray:
        return np.where(t[:, 0] > 0, -2 * t[:, 0], -np.inf)

    fold = Fold.empty(1)
    for draw in (Draw(first, None, len(first)), Draw(inside, proposal, len(drawn))):
        fold = fold.with_rows(draw, log_likelihood(draw.t), prior.log_prob(draw.t))
    known = fold.log_proposal()
    for beta in (0.0, 0.5, 1.0):
        weights = np.exp(fold.log_weights(known, beta))
        truth = (2 if beta == 0 else (1 - math.exp(-4 * beta)) / (2 * beta)) / 3
        assert abs(weights.mean() - truth) < 5 * weights.std() / math.sqrt(len(weights))


@pytest.mark.parametrize(
    "entry",
    [Interval(-1, 3), Circle(0, 2), stats.norm(2, 3), stats.cauchy(), stats.expon(5), stats.beta(0.5, 2)],
    ids=["interval", "circle", "norm", "cauchy", "expon", "beta"],
)
def test_coordinates_follow_the_prior(entry: Any) -> None:
    prior = resolve(entry, 2, None)
    t = prior.sample(4000, np.random.default_rng(0))
    x = prior.to_x(t)
    low, high = entry.ends if hasattr(entry, "ends") else (-math.inf, math.inf)
    cdf = stats.uniform(low, high - low).cdf if math.isfinite(low) else entry.cdf
    for column in x.T:
        assert stats.kstest(column, cdf).pvalue > 1e-4
    assert np.isfinite(prior.log_prob(t)).all()
    assert np.isfinite(prior.log_prob_x(x)).all()


def test_far_tails_keep_their_digits() -> None:
    prior = resolve(stats.norm(0, 1), 1, None)
    np.testing.assert_allclose(prior.to_x(np.array([[-20.0], [20.0]])), [[-20], [20]], rtol=1e-12)
