"""Fits to known values: the gradient is that of the divergence, and vanishes where the flow is the density."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pushforward import LU, MLP, Affine, Coupling, Flow, Interval, RationalQuadratic, neural_spline
from pushforward._fit.options import Options
from pushforward._fit.values import KnownValues, divergence, fit_to_values
from pushforward._model.state import state_of

NET = MLP((8,), "tanh")
LAYERS = [Coupling(Affine(), NET), Coupling(RationalQuadratic(bins=4), NET), LU()]
LOG_BOX = -2 * math.log(6)


def make(seed: int = 1, noise: float = 0.1, dtype: str = "float64") -> Flow:
    flow = Flow(2, layers=LAYERS, dtype=dtype, seed=seed).initialize(np.random.default_rng(9).normal(size=(50, 2)))
    flow.parameters += noise * np.random.default_rng(seed).normal(size=flow.parameters.shape)
    return flow


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-3, 3, size=(n, 2))


def objective(flow: Flow, log_p: np.ndarray, x: np.ndarray, batch_size: int = 16) -> KnownValues:
    rng = np.random.default_rng(0)
    return KnownValues(state_of(flow), x, log_p - LOG_BOX, np.full(len(x), LOG_BOX), batch_size, rng)


def test_terms_are_least_where_both_agree() -> None:
    ratios = np.array([0.0, 0.5, 1.0, 3.0])
    terms, weights = divergence(ratios, np.log(np.array([1.0, 0.5, 1.0, 3.0])))
    np.testing.assert_allclose(terms, [1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(weights, [-1, 0, 0, 0], atol=1e-15)
    terms, weights = divergence(ratios, np.zeros(4))
    assert (terms[[0, 1, 3]] > 0).all()
    np.testing.assert_allclose(weights, ratios - 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_vanishes_at_every_batch_where_the_flow_is_the_density(dtype: str) -> None:
    flow, x = make(dtype=dtype), rows(400)
    found = objective(flow, flow.log_prob(x) + 7, x)  # the scale of the density is not known
    gradient = np.empty_like(flow.parameters)
    for batch in found.batches(np.random.default_rng(1)):
        loss, norm = found.loss_and_grad(batch, gradient, 0)
        assert abs(loss) < 1e-9
        assert norm < 1e-5
    assert abs(found.score()) < 1e-9


def test_the_gradient_is_that_of_the_loss() -> None:
    flow, other, x = make(), make(seed=2), rows(60)
    log_p = other.log_prob(x)
    log_p[::5] = -np.inf
    found = objective(flow, log_p, x)
    batch = next(found.batches(np.random.default_rng(1)))
    gradient, unused = np.empty_like(flow.parameters), np.empty_like(flow.parameters)
    _, norm = found.loss_and_grad(batch, gradient, 0)
    assert norm == pytest.approx(np.linalg.norm(gradient))
    start, step = flow.parameters.copy(), 1e-6
    direction = np.random.default_rng(4).normal(size=start.size)
    losses = []
    for sign in (1, -1):
        flow.parameters[...] = start + sign * step * direction
        losses.append(found.loss_and_grad(batch, unused, 0)[0])
    assert gradient @ direction == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_batches_walk_over_all_rows_but_those_held_out() -> None:
    found = objective(make(), np.zeros(100), rows(100))
    batches = list(found.batches(np.random.default_rng(0)))
    assert [found.size(batch) for batch in batches] == [16] * 5 + [10]
    assert found.steps == 6
    assert len(np.unique(np.concatenate(batches))) == 90


def test_it_comes_closer_than_the_places_of_the_rows() -> None:
    """Effective share of draws, after a fit to weighted rows, and after one to the values at the same rows."""
    x = np.random.default_rng(0).uniform(size=(3000, 2))

    def log_density(x: np.ndarray) -> np.ndarray:
        return -0.5 * (((x - [0.3, 0.4]) / [0.2, 0.1]) ** 2).sum(axis=1) + 0.5 * np.sin(9 * x[:, 0])

    def inefficiency() -> float:
        drawn, log_q = flow.sample_and_log_prob(5000, seed=1)
        weights = np.exp(log_density(drawn) - log_q)
        return float(weights.var() / weights.mean() ** 2)

    layers = neural_spline(2, depth=4, hidden=(32, 32), activation="silu")
    flow = Flow(2, layers=layers, support=Interval(0, 1), seed=0)
    flow.fit(x, weights=np.exp(log_density(x)), epochs=20, seed=0, progress=False)
    before = inefficiency()
    options = Options(epochs=20, seed=0, progress=False)
    loop = fit_to_values(state_of(flow), x, log_density(x), np.zeros(len(x)), options)
    loop.run()
    assert loop.history.best_loss < loop.history.initial_loss
    assert inefficiency() < 0.5 * before
