"""Convolutional couplings against other convolutions, and the symmetry of a lattice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pushforward import (
    ActNorm,
    Additive,
    Affine,
    Autoregressive,
    Conv1x1,
    ConvNet,
    ConvResNet,
    Coupling,
    Flow,
    RationalQuadratic,
    lattice,
)
from pushforward._model.place import Shape
from pushforward._model.state import State
from test_images import image_state

Convolve = Callable[[np.ndarray, np.ndarray, np.ndarray, str], np.ndarray]
"""(n, c, h, w) images, (out, c, k, k) weights, (out,) biases, padding -> (n, out, h, w)."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def by_numpy(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: str) -> np.ndarray:
    reach = weight.shape[-1] // 2
    edges = [(0, 0), (0, 0), (reach, reach), (reach, reach)]
    padded = np.pad(x, edges, mode="wrap" if padding == "circular" else "constant")
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]


def by_torch(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: str) -> np.ndarray:
    torch = pytest.importorskip("torch")
    tensor, reach = torch.tensor(np.array(x)), weight.shape[-1] // 2
    mode = "circular" if padding == "circular" else "constant"
    padded = torch.nn.functional.pad(tensor, [reach] * 4, mode=mode)
    return torch.nn.functional.conv2d(padded, torch.tensor(np.array(weight)), torch.tensor(np.array(bias))).numpy()


def network(x: np.ndarray, blocks: dict[str, np.ndarray], padding: str, convolve: Convolve) -> np.ndarray:
    """A `ConvNet` with the activation tanh."""
    count = len(blocks) // 2
    for i in range(count):
        weight = blocks[f"{i}.weight"].transpose(0, 3, 1, 2)
        x = convolve(x, weight, blocks[f"{i}.bias"], padding)
        if i < count - 1:
            x = np.tanh(x)
    return x


def parameters_of(state: State) -> dict[str, np.ndarray]:
    """Draw all parameters, and return those of the first layer's network."""
    rng = np.random.default_rng(1)
    state.parameters[...] = rng.normal(scale=0.3, size=state.parameters.size)
    prefix = "layers.0.conditioner."
    return {name.removeprefix(prefix): values for name, values in state.named_parameters().items()}


@pytest.mark.parametrize("convolve", [by_numpy, by_torch])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize(("mask", "shape"), [("checkerboard", (2, 5, 6)), ("channels", (3, 4, 7))])
def test_a_coupling_is_what_its_convolutions_make_it(
    mask: str, shape: Shape, padding: str, dtype: str, convolve: Convolve
) -> None:
    layer = Coupling(Affine(2.0), ConvNet(9, 2, (3, 1, 5), padding, "tanh"), mask=mask)
    state = image_state(shape, [layer], dtype)
    blocks = parameters_of(state)
    x = np.random.default_rng(2).normal(size=(70, *shape)).astype(dtype)
    kept = np.array(state.model["layers"][0]["kept"]).reshape(shape)
    channels = slice(None) if mask == "checkerboard" else np.flatnonzero(kept[:, 0, 0])
    moved = slice(None) if mask == "checkerboard" else np.flatnonzero(~kept[:, 0, 0])
    theta = network((x * kept)[:, channels], blocks, padding, convolve)
    a, shift, log_scale = theta[:, ::2], np.zeros_like(x), np.zeros_like(x)
    log_scale[:, moved], shift[:, moved] = a / (1 + np.abs(a) / 2.0), theta[:, 1::2]
    want = np.where(kept, x, (x - shift) * np.exp(-log_scale))
    z, log_det = state.inverse(x.reshape(70, -1))
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(z, want.reshape(70, -1), rtol=tolerance, atol=tolerance)
    want_det = -(log_scale * ~kept).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_det, want_det, rtol=tolerance, atol=10 * tolerance)


def test_a_context_is_a_constant_image() -> None:
    """Weights of the context do what a bias of its product with them does, row by row."""
    layers = [Coupling(Affine(), ConvNet(5, 1, 3, "circular", "silu"), mask="checkerboard")]
    state = image_state((1, 4, 3), layers, context=2)
    parameters_of(state)
    blocks = state.named_parameters()
    rng = np.random.default_rng(3)
    x, context = rng.normal(size=(3, 12)), rng.normal(size=(3, 2))
    z, log_det = state.inverse(x, context)
    bias, weight = blocks["layers.0.conditioner.0.bias"], blocks["layers.0.conditioner.0.context"].copy()
    start = bias.copy()
    blocks["layers.0.conditioner.0.context"][...] = 0
    for row in range(3):
        bias[...] = start + weight @ context[row]
        got_z, got_log_det = state.inverse(x[row : row + 1], context[row : row + 1])
        np.testing.assert_allclose(got_z, z[row : row + 1], rtol=1e-12)
        np.testing.assert_allclose(got_log_det, log_det[row : row + 1], rtol=1e-12)


def test_conv1x1_is_one_matrix_for_all_pixels() -> None:
    order = [2, 0, 1]
    state = image_state((3, 2, 5), [Conv1x1(order)])
    state.parameters[...] = np.random.default_rng(0).normal(scale=0.5, size=9)
    weight = state.parameters.reshape(3, 3)
    lower = np.tril(weight, -1) + np.eye(3)
    upper = np.triu(weight, 1) + np.diag(np.exp(np.diag(weight)))
    x = np.random.default_rng(1).normal(size=(4, 3, 2, 5))
    permuted = np.empty_like(x)
    permuted[:, order] = x
    z, log_det = state.inverse(x.reshape(4, -1))
    np.testing.assert_allclose(z.reshape(x.shape), np.einsum("ij,njhw->nihw", lower @ upper, permuted), rtol=1e-12)
    np.testing.assert_allclose(log_det, 10 * np.trace(weight), rtol=1e-12)


def test_actnorm_starts_at_the_moments_of_each_channel() -> None:
    state = image_state((2, 3, 3), [ActNorm()])
    rng = np.random.default_rng(0)
    x = rng.normal(loc=np.arange(9), scale=[[1], [3]], size=(500, 2, 9))
    state.core.initialize_from_data(x.reshape(500, -1))
    blocks = state.named_parameters()
    np.testing.assert_allclose(blocks["layers.0.shift"], x.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(np.exp(blocks["layers.0.log_scale"]), x.std(axis=(0, 2)), rtol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("transform", [Affine(), Additive()])
def test_symmetric_networks_make_the_density_even_to_the_last_bit(transform: Affine | Additive, dtype: str) -> None:
    couplings = lattice((1, 4, 6), depth=4, hidden=7)
    layers = [Coupling(transform, layer.conditioner, mask=layer.mask) for layer in couplings]
    state = image_state((1, 4, 6), layers, dtype)
    state.parameters[...] = np.random.default_rng(0).normal(scale=0.4, size=state.parameters.size)
    x = np.random.default_rng(1).normal(size=(70, 24))
    z, log_det = state.inverse(x)
    opposite, log_det_there = state.inverse(-x)
    assert np.abs(z - x).max() > 0.1
    assert (opposite == -z).all()
    assert (log_det_there == log_det).all()
    if isinstance(transform, Affine):
        assert np.abs(log_det).min() > 1e-3
    assert (state.log_prob(x) == state.log_prob(-x)).all()


def test_a_lattice_flow_commutes_with_translations_of_its_checkerboard() -> None:
    state = image_state((1, 4, 6), lattice((1, 4, 6), depth=3, hidden=5))
    state.parameters[...] = np.random.default_rng(0).normal(scale=0.4, size=state.parameters.size)
    x = np.random.default_rng(1).normal(size=(10, 1, 4, 6))
    density = state.log_prob(x.reshape(10, -1))
    for shift in ((1, 1), (2, 0), (3, 5)):
        moved = np.roll(x, shift, axis=(2, 3)).reshape(10, -1)
        np.testing.assert_allclose(state.log_prob(moved), density, rtol=1e-12)
    odd = np.roll(x, 1, axis=3).reshape(10, -1)
    assert np.abs(state.log_prob(odd) - density).max() > 1e-3


@pytest.mark.parametrize(
    ("layer", "shape", "error", "message"),
    [
        (
            Coupling(Affine(), ConvNet(3), mask="alternate"),
            (2, 3, 3),
            ValueError,
            "ConvNet needs a mask of whole",
        ),
        (Coupling(Affine(), ConvResNet(3), mask="random"), (2, 3, 3), ValueError, "ConvResNet needs a mask of whole"),
        (
            Coupling(RationalQuadratic(), ConvNet(3, activation="tanh", symmetric=True), mask="checkerboard"),
            (1, 2, 2),
            ValueError,
            r"only Additive\(\) and Affine\(\) commute with the sign",
        ),
    ],
)
def test_what_networks_of_images_cannot_do_is_refused(
    layer: Coupling, shape: Shape, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        image_state(shape, [layer])


def test_networks_of_images_need_a_shape_and_a_coupling() -> None:
    with pytest.raises(ValueError, match=r"ConvNet needs a flow with a shape, \(channels, height, width\)"):
        Flow(4, layers=[Coupling(Affine(), ConvNet(3))])
    with pytest.raises(TypeError, match=r"conditioner must be MLP\(\) or ResNet\(\), not ConvNet"):
        Autoregressive(Affine(), ConvNet(3))
    symmetric = ConvNet(3, activation="tanh", symmetric=True)
    with pytest.raises(ValueError, match="a symmetric network reads no context"):
        image_state((1, 2, 2), [Coupling(Affine(), symmetric, mask="checkerboard")], context=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvNet(0), "hidden must be at least 1, not 0"),
        (lambda: ConvNet(layers=65), "layers must be at most 64, not 65"),
        (lambda: ConvNet(kernel=4), "kernel must be odd, not 4"),
        (lambda: ConvNet(kernel=(3, 3)), "kernel has 2 entries; 2 hidden layers and the last one need 3"),
        (lambda: ConvNet(kernel=(3, 2, 3)), r"kernel\[1\] must be odd, not 2"),
        (lambda: ConvNet(padding="same"), "padding is 'same'; the choices are 'zero', 'circular'"),
        (lambda: ConvNet(symmetric=True), 'a symmetric network needs activation="tanh" and a hidden layer'),
        (lambda: ConvResNet(kernel=17), "kernel must be at most 15, not 17"),
        (lambda: ConvResNet(dropout=1.0), r"dropout must be in \[0, 0.999\], not 1"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
