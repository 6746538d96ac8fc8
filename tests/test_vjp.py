"""Derivatives of a scalar that depends on the log density: under any base, by rows, parameters and context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, NET, SMOOTH, SPLINE, Case
from pushforward import Circle, Coupling, Ensemble, Flow, Interval, Mixture, Positive, StudentT, Uniform

every_case = pytest.mark.parametrize("case", CASES, ids=str)
both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def derivative(f: Any, h: float) -> Any:
    """f'(0) by the central difference of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def assert_inner_product(flow: Flow, x: np.ndarray, context: np.ndarray | None, tolerance: float = 1e-6) -> None:
    """<seed, J v> = <J^T seed, v> for directions v of rows, context and parameters together."""
    rng = np.random.default_rng(6)
    seeds = rng.normal(size=len(x))
    by_x, by_parameters, by_context = flow.log_prob_vjp(x, seeds, context)
    v_x, v_parameters = rng.normal(size=x.shape), rng.normal(size=by_parameters.shape)
    v_context = None if by_context is None else rng.normal(size=by_context.shape)
    parameters = flow.parameters.copy()

    def along(h: float) -> float:
        flow.parameters = parameters + h * v_parameters
        moved = None if v_context is None else context + h * v_context
        return float(seeds @ flow.log_prob(x + h * v_x, moved))

    left = derivative(along, 2e-7)
    flow.parameters = parameters
    right = (by_x * v_x).sum() + by_parameters @ v_parameters
    if v_context is not None:
        right += (by_context * v_context).sum()
    size = np.abs(by_x * v_x).sum() + np.abs(by_parameters * v_parameters).sum()
    assert left == pytest.approx(right, abs=tolerance * max(1.0, size))


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_inner_products_agree(case: Case) -> None:
    assert_inner_product(case.flow("float64"), case.latent(65), case.condition(65))


@pytest.mark.parametrize("base", [None, StudentT(3.0, learned=True), Mixture(2)])
def test_inner_products_agree_under_supports(base: Any) -> None:
    support = [Positive(), Interval(-1, 1), Circle(0, 1)]
    flow = Flow(3, layers=[Coupling(SPLINE, NET)] * 2, support=support, base=base, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, size=(65, 3))
    flow.initialize(x)
    flow.parameters += 0.1 * rng.normal(size=flow.parameters.shape)
    assert_inner_product(flow, x, None, 1e-5)


def test_inner_products_agree_in_a_box() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, size=(65, 2))
    flow = Flow(2, layers=[Coupling(SPLINE, NET)] * 2, support=Interval(0, 1), base=Uniform(), dtype="float64", seed=0)
    flow.initialize(x)
    flow.parameters += 0.1 * rng.normal(size=flow.parameters.shape)
    assert_inner_product(flow, x, None, 1e-5)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
@both_precisions
def test_it_is_what_the_gradients_are(case: Case, dtype: str) -> None:
    flow, x, context = case.flow(dtype), case.latent(65), case.condition(65)
    by_x, by_parameters, _ = flow.log_prob_vjp(x, np.full(65, -1 / 65), context)
    loss_gradient = flow.loss_and_grad(x, context)[1]
    np.testing.assert_allclose(by_parameters, loss_gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(flow.log_prob_vjp(x, np.ones(65), context)[0], flow.log_prob_and_grad(x, context)[1])
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(-65 * by_x, flow.log_prob_and_grad(x, context)[1], rtol=tolerance, atol=tolerance)


@every_case
@both_precisions
def test_without_parameters_the_rest_is_the_same_to_the_bit(case: Case, dtype: str) -> None:
    flow, context, rng = case.flow(dtype), case.condition(65), np.random.default_rng(0)
    x, seeds, ones = case.latent(65), rng.normal(size=(65, case.dim)), rng.normal(size=65)
    for call, arguments in (
        (flow.log_prob_vjp, (ones,)),
        (flow.forward_vjp, (seeds, ones)),
        (flow.inverse_vjp, (seeds, ones)),
    ):
        by_x, by_parameters, by_context = call(x, *arguments, context)
        assert by_parameters is not None
        again, none, context_again = call(x, *arguments, context, parameters=False)
        assert none is None
        assert again.tobytes() == by_x.tobytes()
        assert (context_again is None) == (by_context is None)
        assert by_context is None or context_again.tobytes() == by_context.tobytes()


@pytest.mark.parametrize("case", CASES[::9], ids=str)
def test_a_row_that_counts_for_nothing_may_hold_anything(case: Case) -> None:
    flow, x, context = case.flow("float64"), case.latent(100), case.condition(100)
    seeds = np.random.default_rng(0).normal(size=100)
    seeds[::7] = 0
    clean = flow.log_prob_vjp(x, seeds, context)
    spoiled = x.copy()
    spoiled[::7] = np.nan
    dirty = flow.log_prob_vjp(spoiled, seeds, context)
    for a, b in zip(clean, dirty, strict=True):
        assert (a is None) == (b is None)
        assert a is None or a.tobytes() == b.tobytes()
    assert not dirty[0][::7].any()


@pytest.mark.parametrize("case", SMOOTH[::9], ids=str)
def test_signed_weights_of_a_loss(case: Case) -> None:
    """The loss is the sum of weight times negative log-likelihood over the sum of the weights' sizes."""
    flow, x, context = case.flow("float64"), case.latent(100), case.condition(100)
    weights = np.random.default_rng(0).normal(size=100)
    weights[3] = 0
    x[3] = np.nan
    loss, gradient = flow.loss_and_grad(x, context, weights=1e3 * weights)
    share = weights / np.abs(weights).sum()
    kept = weights != 0
    density = flow.log_prob(x[kept], None if context is None else context[kept])
    assert loss == pytest.approx(-(share[kept] @ density), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(gradient, -flow.log_prob_vjp(x, share, context)[1], rtol=1e-9, atol=1e-12)


@both_precisions
def test_ensembles_have_it(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(40, 2)), rng.normal(size=(40, 3))
    flows = [Case("e", lambda dim: [Coupling(SPLINE, NET)], 2, 3).flow(dtype) for _ in range(2)]
    flows[1].parameters *= 0.5
    ensemble, seeds = Ensemble(flows, weights=[0.3, 0.7]), rng.normal(size=40)
    by_x, by_parameters, by_context = ensemble.log_prob_vjp(x, seeds, context)
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    want = seeds[:, None] * ensemble.log_prob_and_grad(x, context)[1]
    np.testing.assert_allclose(by_x, want, rtol=tolerance, atol=tolerance)
    assert [part.shape for part in by_parameters] == [flow.parameters.shape for flow in flows]
    again, none, context_again = ensemble.log_prob_vjp(x, seeds, context, parameters=False)
    assert none is None
    np.testing.assert_array_equal(again, by_x)
    np.testing.assert_array_equal(context_again, by_context)
    if dtype == "float32":
        return
    directions = [rng.normal(size=flow.parameters.shape) for flow in flows]
    before = [flow.parameters.copy() for flow in flows]
    v = rng.normal(size=context.shape)

    def along(h: float) -> float:
        for flow, parameters, direction in zip(flows, before, directions, strict=True):
            flow.parameters = parameters + h * direction
        return float(seeds @ ensemble.log_prob(x, context + h * v))

    right = sum(part @ direction for part, direction in zip(by_parameters, directions, strict=True))
    assert derivative(along, 2e-7) == pytest.approx(right + (by_context * v).sum(), rel=1e-6, abs=1e-6)
