"""Transforms at parameters and points of any size: finite, inside their bins, and undone by the way back."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import pytest
from pushforward import (
    MLP,
    Adam,
    Additive,
    Affine,
    Coupling,
    Flow,
    Interval,
    RationalQuadratic,
    Real,
    Uniform,
    build_info,
    realnvp,
)
from pushforward._model.supports import Circle, Support
from pushforward._model.transforms import Transform

PAIRS = 1_000_000 if os.environ.get("PUSHFORWARD_FULL") else 20_000

TRANSFORMS: dict[str, tuple[Transform, Support, int]] = {
    "additive": (Additive(), Real(), 1),
    "affine": (Affine(), Real(), 2),
    "spline": (RationalQuadratic(), Real(), 23),
    "spline-2": (RationalQuadratic(bins=2), Real(), 5),
    "spline-64": (RationalQuadratic(bins=64, bound=10.0), Real(), 191),
    "spline-clip": (RationalQuadratic(bins=16, scheme="clip"), Real(), 47),
    "circle": (RationalQuadratic(), Circle(-np.pi, np.pi), 25),
    "box": (RationalQuadratic(), Interval(-1, 1), 25),
}


def flow_of(name: str, dtype: str) -> Flow:
    """A flow of one feature whose transform's parameters are the row's context."""
    transform, support, parameters = TRANSFORMS[name]
    base = {"base": Uniform()} if name in ("circle", "box") else {}
    layer = Coupling(transform, MLP(()))
    flow = Flow(1, layers=[layer], support=support, context=parameters, dtype=dtype, **base)
    flow.named_parameters()["layers.0.conditioner.0.weight"][...] = np.eye(parameters)
    return flow


def points(name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the points around the spline, half of any size up to a million, some at its ends."""
    if name in ("circle", "box"):
        end = np.pi if name == "circle" else 1.0
        x = rng.uniform(-end, end, size=n)
        x[:20] = -end
    else:
        x = rng.uniform(-5, 5, size=n)
        x[n // 2 :] = rng.choice([-1, 1], size=n - n // 2) * 10 ** rng.uniform(-6, 6, size=n - n // 2)
        x[:20] = 4.0
    return x[:, None]


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_way_back_at_any_parameters(name: str, dtype: str, scale: float) -> None:
    flow = flow_of(name, dtype)
    tolerance = {"float32": 1e-5, "float64": 1e-11}[dtype]
    rng = np.random.default_rng([scale, len(name)])
    for first in range(0, PAIRS // 4, 5000):
        n = min(5000, PAIRS // 4 - first)
        x = points(name, n, rng).astype(dtype)
        parameters = rng.normal(scale=scale, size=(n, flow.context)).astype(dtype)
        for there, back in ((flow.inverse, flow.forward), (flow.forward, flow.inverse)):
            y, log_det = there(x, parameters)
            returned, log_det_back = back(y, parameters)
            again, _ = there(returned, parameters)
            for values in (y, log_det, returned, log_det_back, again):
                assert np.isfinite(values).all()
            # Where a map is flat, its value's last digit is many of its argument's: the error of the value counts.
            size = np.maximum(1, np.maximum(np.abs(x), np.abs(y)))
            error = np.minimum(distance(name, returned, x), distance(name, again, y)) / size
            assert error.max() <= tolerance


def distance(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = np.abs(a.astype(np.float64) - b)
    return np.minimum(d, 2 * np.pi - d) if name == "circle" else d


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradients_are_finite_at_any_parameters(name: str, dtype: str, scale: float) -> None:
    flow = flow_of(name, dtype)
    rng = np.random.default_rng([scale, len(name)])
    x = points(name, 2000, rng).astype(dtype)
    parameters = rng.normal(scale=scale, size=(2000, flow.context)).astype(dtype)
    seeds = rng.normal(size=x.shape), rng.normal(size=2000)
    for call in (flow.inverse_vjp, flow.forward_vjp):
        for gradient in call(x, *seeds, parameters):
            assert gradient is not None
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["spline", "spline-2", "spline-64", "spline-clip"])
def test_points_exactly_at_knots(name: str, dtype: str) -> None:
    """Both bins of a knot give the same value and slope, and the gradient is that of one of them."""
    transform, _, count = TRANSFORMS[name]
    assert isinstance(transform, RationalQuadratic)
    flow = flow_of(name, dtype)
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=(1, count))
    ends = np.array([-transform.bound, transform.bound])
    # Equal widths put the knots where they are known.
    parameters[:, : transform.bins] = 0
    knots = np.linspace(*ends, transform.bins + 1)[:, None].astype(dtype)
    rows = np.repeat(parameters, len(knots), axis=0)
    tolerance = {"float32": 2e-4, "float64": 1e-11}[dtype]
    z, log_det = flow.inverse(knots, rows)
    np.testing.assert_allclose(z[[0, -1], 0], ends, rtol=1e-6 if dtype == "float32" else 1e-15)
    for step in (-1, 1):
        beside, slope = flow.inverse(np.nextafter(knots, knots + step), rows)
        np.testing.assert_allclose(beside, z, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(slope, log_det, rtol=tolerance, atol=100 * tolerance)
    _, gradient = flow.log_prob_and_grad(knots, rows)
    sides = [flow.log_prob_and_grad(knots + step, rows)[1] for step in (-1e-3, 1e-3)]
    low, high = np.minimum(*sides), np.maximum(*sides)
    margin = 0.1 * (1 + np.abs(gradient))
    assert ((gradient >= low - margin) & (gradient <= high + margin)).all()


# -- subnormal numbers -------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    """The least processor time of a call among several, which a busy machine disturbs little."""
    times = []
    for _ in range(5):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


# They would cost a factor of 20 to 125.
SLOW = 5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_parameters_cost_no_time(dtype: str, threads: int) -> None:
    flow = Flow(4, layers=realnvp(4, depth=4, hidden=(64, 64)), dtype=dtype, seed=0, num_threads=threads)
    x = np.random.default_rng(0).normal(size=(5000, 4))
    for call in (lambda: flow.log_prob(x), lambda: flow.sample(5000, seed=0), lambda: flow.loss_and_grad(x)):
        flow.parameters[...] = 0.01
        usual = seconds(call)
        flow.parameters[...] = np.finfo(dtype).tiny / 100
        assert seconds(call) < SLOW * usual


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_inside_a_call_is_subnormal(dtype: str, threads: int) -> None:
    """On every processor, also where such numbers cost no time."""
    if build_info()["simd_level"] == "base" and platform.machine() not in ("aarch64", "arm64"):
        pytest.skip("subnormal numbers are kept on this processor")
    tiny = np.finfo(dtype).tiny
    flow = Flow(3, layers=realnvp(3, depth=3, hidden=(8,)), dtype=dtype, seed=0, num_threads=threads)
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(dtype)
    weights = np.full(500, 1e-3 * tiny)
    weights[0] = 1.0
    for scale in (1.0, np.sqrt(tiny), tiny / 100):
        flow.parameters[...] = scale * np.random.default_rng(1).uniform(-1, 1, flow.parameters.size)
        gradient = flow.loss_and_grad(x, weights=weights)[1]
        assert not ((gradient != 0) & (np.abs(gradient) < tiny)).any()
    assert not flow.forward(np.zeros_like(x))[0].any()  # moved by less than the least normal number


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_all_sizes_cost_no_time(dtype: str) -> None:
    flow = Flow(4, layers=realnvp(4, depth=4, hidden=(64, 64)), dtype=dtype, seed=0, num_threads=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 4))
    least = np.finfo(dtype).tiny
    for weights in (10 ** rng.uniform(-66, 4, size=5000), least * 10 ** rng.uniform(-3, 3, size=5000)):
        weights[0] = 1.0
        weighted = seconds(functools.partial(flow.loss_and_grad, x, weights=weights))
        assert weighted < SLOW * seconds(functools.partial(flow.loss_and_grad, x))


def test_steps_of_tiny_gradients_cost_no_time() -> None:
    """The moments of parameters that no longer get a gradient die away, through all sizes."""
    parameters, adam = np.ones(100_000, np.float32), Adam(betas=(0.5, 0.5))
    usual = seconds(lambda: adam.step(parameters, np.ones_like(parameters)))
    for _ in range(200):
        adam.step(parameters, np.zeros_like(parameters))
    assert seconds(lambda: adam.step(parameters, np.zeros_like(parameters))) < SLOW * usual
    assert seconds(lambda: adam.step(parameters, np.full_like(parameters, 1e-39))) < SLOW * usual


def test_subnormal_values_of_a_table_are_read_and_written() -> None:
    x = (1e-40 * np.random.default_rng(0).normal(size=(2000, 1))).astype(np.float32)
    flow = Flow(1, layers=realnvp(1, depth=1, hidden=(4,)), dtype="float64", seed=0).initialize(x)
    z = flow.inverse(x)[0]
    assert 0.9 < z.std() < 1.1
    np.testing.assert_allclose(flow.forward(z)[0], x, rtol=0, atol=2e-45)  # their spacing is 1.4e-45
