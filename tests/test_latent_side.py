"""The latent side of a flow: its density, its draws, and a base whose scale is multiplied by a temperature."""

from __future__ import annotations

from typing import Any

import mixtures
import numpy as np
import pytest
from cases import CASES, NET, SPLINE, Case
from pushforward import LU, Circle, Coupling, Ensemble, Flow, Interval, Mixture, StudentT, Uniform
from scipy import stats

every_case = pytest.mark.parametrize("case", CASES, ids=str)
both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@every_case
@both_precisions
def test_latent_draws_are_those_of_a_sample(case: Case, dtype: str) -> None:
    flow, context = case.flow(dtype), case.condition(70)
    for temperature in (1.0, 0.5, 3.0):
        z = flow.sample_latent(70, seed=4, temperature=temperature)
        x, density = flow.sample_and_log_prob(70, context, seed=4, temperature=temperature)
        image, log_det = flow.forward(z, context)
        assert same_bits(image, x)
        assert same_bits(flow.sample(70, context, seed=4, temperature=temperature), x)
        assert same_bits(flow.sample_latent((7, 10), seed=4, temperature=temperature), z.reshape(7, 10, -1))
        want = flow.base_log_prob(z, temperature=temperature) - log_det
        np.testing.assert_allclose(density, want, rtol=1e-12, atol=1e-9)


@every_case
@both_precisions
def test_a_density_is_that_of_the_base_and_the_map(case: Case, dtype: str) -> None:
    flow, x, context = case.flow(dtype), case.latent(70), case.condition(70)
    z, density = flow.inverse_and_log_prob(x, context)
    expected, log_det = flow.inverse(x, context)
    assert same_bits(z, expected)
    assert same_bits(density, flow.log_prob(x, context))
    back, density_of_back = flow.forward_and_log_prob(z, context)
    assert same_bits(back, flow.forward(z, context)[0])
    np.testing.assert_allclose(density_of_back, flow.base_log_prob(z) - flow.forward(z, context)[1], atol=1e-9)
    if dtype == "float64":
        for temperature in (1.0, 0.3, 2.0):
            want = flow.base_log_prob(z, temperature=temperature) + log_det
            np.testing.assert_allclose(flow.log_prob(x, context, temperature=temperature), want, rtol=1e-12, atol=1e-9)


def made(base: Any, dim: int, support: Any = None) -> Flow:
    flow = Flow(dim, layers=[Coupling(SPLINE, NET)], base=base, support=support, dtype="float64", seed=3)
    rng = np.random.default_rng(2)
    for name, values in flow.named_parameters().items():
        if name.startswith("base."):
            values[...] = 0.4 * rng.normal(size=values.shape)
    return flow


def moments_at(flow: Flow, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights, means, covariances = mixtures.moments(flow.named_parameters())
    return weights, means, temperature**2 * covariances


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1.0, 4.0])
def test_what_a_temperature_is(temperature: float) -> None:
    z = np.random.default_rng(0).normal(size=(200, 2)) * temperature
    for base, want in (
        (None, lambda flow: stats.norm.logpdf(z, scale=temperature).sum(axis=1)),
        (StudentT(3.0), lambda flow: stats.t.logpdf(z, 3.0, scale=temperature).sum(axis=1)),
        (
            StudentT(3.0, learned=True),
            lambda flow: stats.t.logpdf(
                z, flow.base.degrees(flow.named_parameters()["base.log_df"]), scale=temperature
            ).sum(axis=1),
        ),
        (Mixture(3), lambda flow: mixtures.log_density(z, *moments_at(flow, temperature))),
        (Mixture(2, "diagonal"), lambda flow: mixtures.log_density(z, *moments_at(flow, temperature))),
    ):
        flow = made(base, 2)
        got = flow.base_log_prob(z, temperature=temperature)
        np.testing.assert_allclose(got, want(flow), rtol=1e-9, atol=1e-9, err_msg=repr(base))
        assert same_bits(flow.base_log_prob(z, temperature=1.0), flow.base_log_prob(z))


@pytest.mark.parametrize("temperature", [0.5, 3.0])
@pytest.mark.parametrize("base", [None, StudentT(4.0), Mixture(3), Mixture(2, "diagonal")])
def test_it_stays_normalised_and_draws_follow_it(base: Any, temperature: float) -> None:
    flow = made(base, 1)
    grid = np.linspace(-300, 300, 600_001)[:, None]
    mass = np.exp(flow.base_log_prob(grid, temperature=temperature)) * 1e-3
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    z = flow.sample_latent(5000, seed=0, temperature=temperature)
    assert stats.kstest(np.interp(z[:, 0], grid[:, 0], mass.cumsum()), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("base", [None, StudentT(4.0), Mixture(3)])
def test_uniform_features_stay_uniform(base: Any) -> None:
    flow = made(base, 3, [Circle(0, 1), Interval(0, 1), Interval(0, 1)])
    warm, hot = flow.sample_latent(100, seed=0), flow.sample_latent(100, seed=0, temperature=2.0)
    assert flow.log_prob(flow.sample(10, seed=0), temperature=2.0).shape == (10,)
    np.testing.assert_array_equal(hot[:, 0], warm[:, 0])
    assert not np.isin(hot[:, 1:], warm[:, 1:]).any()


@pytest.mark.parametrize("support", [Circle(0, 1), Interval(0, 1)])
def test_a_base_without_a_scale_is_refused(support: Any) -> None:
    flow = Flow(2, layers=[Coupling(SPLINE, NET)], support=support, base=Uniform())
    x = flow.sample(3, seed=0, temperature=1)
    for call in (
        lambda: flow.sample(3, temperature=0.5),
        lambda: flow.sample_and_log_prob(3, temperature=0.5),
        lambda: flow.sample_latent(3, temperature=0.5),
        lambda: flow.log_prob(x, temperature=0.5),
        lambda: flow.base_log_prob(x, temperature=0.5),
    ):
        with pytest.raises(ValueError, match=r"temperature=0\.5 multiplies the scale of the base, and this"):
            call()


def test_there_is_no_density_outside_a_box() -> None:
    flow = Flow(2, layers=[Coupling(SPLINE, NET)], support=[Interval(0, 1), Circle(0, 1)], base=Uniform())
    z = [[0.5, 0.5], [1.0, 0.5], [1.1, 0.5], [-2.0, 0.5], [0.0, 9.0], [np.nan, 0.0], [0.0, np.inf]]
    inside = -np.log(2 * 2 * np.pi)
    want = [inside, inside, -np.inf, -np.inf, inside, np.nan, np.nan]
    np.testing.assert_allclose(flow.base_log_prob(z), want)
    x = np.array([[0.0, 0.3], [1.0, 0.3], [0.5, 0.0]])
    at, log_det = flow.inverse(x)
    np.testing.assert_allclose(flow.base_log_prob(at) + log_det, flow.log_prob(x), rtol=1e-6)


@both_precisions
def test_ensembles_have_a_temperature(dtype: str) -> None:
    flows = [made(base, 2).astype(dtype) for base in (None, Mixture(2), StudentT(3.0))]
    ensemble = Ensemble(flows, weights=[1, 2, 3])
    x = np.random.default_rng(0).normal(size=(20, 2))
    parts = [np.log(w) + flow.log_prob(x, temperature=0.5) for w, flow in zip(ensemble.weights, flows, strict=True)]
    np.testing.assert_allclose(ensemble.log_prob(x, temperature=0.5), np.logaddexp.reduce(parts), rtol=1e-12)
    rows, density = ensemble.sample_and_log_prob(50, seed=0, temperature=0.5)
    assert same_bits(ensemble.sample(50, seed=0, temperature=0.5), rows)
    assert same_bits(ensemble.log_prob(rows, temperature=0.5), density)
    assert not np.isin(rows, ensemble.sample(50, seed=0)).any()
    mixed = Ensemble([Flow(1, layers=[Coupling(SPLINE, NET)], support=Circle(0, 1)) for _ in range(2)])
    with pytest.raises(ValueError, match="this flow has none to multiply"):
        mixed.log_prob([[0.5]], temperature=0.5)
    with pytest.raises(ValueError, match="this flow has none to multiply"):
        mixed.sample(2, temperature=0.5)


def test_draws_without_a_seed_differ_in_threads_and_processes() -> None:
    import multiprocessing
    from concurrent.futures import ThreadPoolExecutor

    flow = Flow(1, layers=[LU()], num_threads=1)
    with ThreadPoolExecutor(4) as pool:
        keys = {float(x[0, 0]) for x in pool.map(lambda _: flow.sample(1), range(400))}
    assert len(keys) == 400
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=lambda: queue.put(float(flow.sample(1)[0, 0]))) for _ in range(2)]
    for child in children:
        child.start()
    drawn = [queue.get() for _ in children]
    for child in children:
        child.join()
    assert len({*drawn, float(flow.sample(1)[0, 0])}) == 3
