"""Conditioners that compute in bfloat16: their products, adjoints and fits, against references."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pushforward import (
    MLP,
    Additive,
    Affine,
    Autoregressive,
    ConvNet,
    Coupling,
    Flow,
    RationalQuadratic,
    ResNet,
    _cpu,
    neural_spline,
)

PRECISIONS: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of numbers that are neither tiny nor NaN, as float32."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def product(a: np.ndarray, b: np.ndarray, start: np.ndarray | float = 0.0) -> np.ndarray:
    """start + a @ b in float32 and in the order of the tile instruction; a and b are rounded here."""
    a, b = rounded(a), rounded(b)
    result = np.broadcast_to(np.float32(start), (a.shape[0], b.shape[1])).astype(np.float32)
    for first in range(0, a.shape[1], 32):
        sums = [np.zeros_like(result), np.zeros_like(result)]
        for k in range(first, min(first + 32, a.shape[1])):
            sums[k % 2] += a[:, k, None] * b[k]
        result += sums[0] + sums[1]
    return result


def perceptron(dtype: str) -> tuple[Flow, list[np.ndarray], list[np.ndarray]]:
    """A flow that adds a relu network of five features to three others, with its weights and biases."""
    mask = np.arange(8) < 5
    flow = Flow(
        8,
        layers=[Coupling(Additive(), MLP((37, 66)), mask)],
        dtype=dtype,
        conditioner_precision="bfloat16",
        seed=0,
    )
    rng = np.random.default_rng(0)
    flow.parameters = rng.normal(scale=0.3, size=len(flow.parameters)).astype(np.float32)
    blocks = list(flow.named_parameters().values())
    weights, biases = ([block.astype(np.float32) for block in blocks[kind::2]] for kind in (0, 1))
    return flow, weights, biases


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_networks_are_those_of_the_tile_instruction(dtype: str) -> None:
    flow, weights, biases = perceptron(dtype)
    z = np.random.default_rng(1).normal(size=(70, 8)).astype(np.float32)
    z[:, 5:] = 0
    values = z[:, :5]
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = product(values if i == 0 else np.maximum(values, 0), weight.T, bias)
    x, log_det = flow.forward(z)
    assert np.array_equal(x[:, 5:], values)
    assert np.array_equal(x[:, :5], z[:, :5])
    assert not log_det.any()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_adjoints_pass_through_the_rounding(dtype: str, direction: str) -> None:
    flow, weights, biases = perceptron(dtype)
    rng = np.random.default_rng(1)
    points, seeds = (rng.normal(size=(64, 8)).astype(np.float32) for _ in range(2))
    inputs = [points[:, :5]]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append(np.maximum(product(inputs[-1], weight.T, bias), 0))
    sign = np.float32(1 if direction == "forward" else -1)
    dtarget, want = sign * seeds[:, 5:], []
    for weight, x in zip(weights[::-1], inputs[::-1], strict=True):
        want[:0] = [product(dtarget.T, x), dtarget.sum(axis=0)]
        dx = product(dtarget, weight)
        dtarget = np.where(x > 0, dx, 0) if x is not inputs[0] else dx
    dpoints, dparameters, _ = getattr(flow, f"{direction}_vjp")(points, seeds, np.zeros(64))
    np.testing.assert_allclose(dparameters, np.concatenate([block.ravel() for block in want]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dpoints[:, :5], seeds[:, :5] + dtarget, rtol=1e-6, atol=1e-6)
    assert np.array_equal(dpoints[:, 5:], seeds[:, 5:])


@pytest.mark.parametrize("conditioner", [MLP((70, 40), "tanh"), ResNet(48, 2, "silu")])
@pytest.mark.parametrize("one_pass", ["inverse", "forward"])
def test_gradients_are_near_those_of_float32(conditioner: MLP | ResNet, one_pass: str) -> None:
    """Pass by pass as well as at once, with residuals. Rounding is by up to 2^-9 of a number."""
    layers = [Autoregressive(Affine(), conditioner, one_pass=one_pass), Coupling(Affine(), conditioner)]
    plain = Flow(4, layers=layers, seed=0)
    flow = Flow(4, layers=layers, conditioner_precision="bfloat16", seed=0)
    rng = np.random.default_rng(0)
    plain.parameters = rng.normal(scale=0.15, size=len(plain.parameters))
    flow.parameters = plain.parameters
    x = rng.normal(size=(200, 4))
    for call in (lambda f: f.loss_and_grad(x)[1], lambda f: f.log_prob_and_grad(x)[1].ravel()):
        got, want = call(flow).astype(np.float64), call(plain).astype(np.float64)
        assert not np.array_equal(got, want)
        assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_gradient_of_the_density_is_the_adjoint(dtype: str) -> None:
    """With seeds of powers of two, which the rounding leaves alone."""
    layers = [Autoregressive(RationalQuadratic(), MLP((40,)))]
    flow = Flow(3, layers=layers, dtype=dtype, conditioner_precision="bfloat16", seed=0)
    rng = np.random.default_rng(0)
    flow.parameters += 0.1 * rng.normal(size=len(flow.parameters))
    x = rng.normal(size=(64, 3))
    density, by_x = flow.log_prob_and_grad(x)
    assert np.array_equal(density, flow.log_prob(x))
    assert np.array_equal(by_x, flow.log_prob_vjp(x, np.ones(64))[0])
    loss, by_parameters = flow.loss_and_grad(x)
    assert loss == pytest.approx(-density.mean(), rel=1e-12)
    np.testing.assert_allclose(by_parameters, flow.log_prob_vjp(x, np.full(64, -1 / 64))[1], rtol=1e-6, atol=1e-6)


def test_a_weight_of_a_hidden_input_is_never_read() -> None:
    layers = [Autoregressive(RationalQuadratic(), MLP((40,)))]
    flow = Flow(3, layers=layers, conditioner_precision="bfloat16", seed=0)
    flow.parameters += 0.1 * np.random.default_rng(0).normal(size=len(flow.parameters))
    x = np.random.default_rng(1).normal(size=(70, 3))
    density, gradient = flow.log_prob_and_grad(x)
    latent = flow.inverse(x)[0]
    weights = flow.named_parameters()["layers.0.conditioner.0.weight"]
    weights[:20, 1:] = np.nan
    weights[:, 2] = np.nan
    spoiled, again = flow.log_prob_and_grad(x)
    assert np.array_equal(spoiled, density)
    assert np.array_equal(again, gradient)
    assert np.array_equal(flow.inverse(x)[0], latent)
    assert np.isfinite(flow.sample(70, seed=0)).all()


def test_a_fit_is_nearly_as_good_as_in_float32() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=6000)
    x = np.stack([a, a**2 + np.exp(a) * rng.normal(scale=0.3, size=6000)], axis=1)
    scores = []
    for precision in (None, "bfloat16"):
        flow = Flow(2, layers=neural_spline(2, depth=4), conditioner_precision=precision, seed=0)
        flow.fit(x[:4000], epochs=15, seed=0)
        scores.append(flow.log_prob(x[4000:]).mean())
    # Two seeds of one precision differ by as much.
    assert scores[1] == pytest.approx(scores[0], abs=0.03)


def test_the_flow_that_the_first_fit_chooses_has_it() -> None:
    x = np.random.default_rng(0).normal(size=(300, 2))
    flow = Flow(2, conditioner_precision="bfloat16", seed=0).fit(x, epochs=1, seed=0)
    assert flow.conditioner_precision == "bfloat16"
    assert "conditioner_precision='bfloat16'" in repr(flow)


LEVELS = ["v2", "v3", "v4"][: max(_cpu.x86_64_level() - 1, 0)] or ["base"]


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_same_bits(level: str, tmp_path: Path) -> None:
    if find_spec(f"pushforward._core_{level}") is None:
        pytest.skip(f"this build has no module for {level} (PUSHFORWARD_LEVELS)")
    flow, _, _ = perceptron("float32")
    z = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    model, points, results = (tmp_path / name for name in ("model.safetensors", "z.npy", "x.npy"))
    flow.save(model)
    np.save(points, z)
    script = f"""
import numpy as np
from pushforward import Flow

np.save({str(results)!r}, Flow.load({str(model)!r}).forward(np.load({str(points)!r}))[0])
"""
    environment = {**os.environ, "PUSHFORWARD_SIMD": level}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert np.load(results).tobytes() == flow.forward(z)[0].tobytes()


def test_convolutions_are_refused() -> None:
    layers = [Coupling(conditioner=ConvNet(2, 1), mask="checkerboard")]
    with pytest.raises(ValueError, match="a convolutional network does not compute in bfloat16"):
        Flow(shape=(1, 2, 2), layers=layers, conditioner_precision="bfloat16")
