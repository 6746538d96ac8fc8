"""Layers of nflows as layers of ours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pushforward._model.coupling import Coupling
from pushforward._model.layers import LU, Householder
from pushforward._model.networks import MLP, ResNet
from pushforward._model.transforms import RationalQuadratic
from pushforward._typing import Array, Doubles
from pushforward.convert.model import Model, Piece, Reader, affine, affine_of, permutation, within
from pushforward.convert.networks import (
    Dense,
    autoregressive,
    blocks_of,
    chain,
    elementwise,
    spline_bins,
    without_inputs,
)


def dim_of(model: Model) -> int:
    """Return the number of features, from the first array that shows it."""
    for name, array in model.arrays.items():
        path, _, last = name.rpartition(".")
        if last == "transform_features":
            return len(array) + len(model.arrays.get(f"{path}.identity_features", ()))
        vectors = ("_permutation", "unconstrained_upper_diag", "log_scale", "running_mean", "mean_", "q_vectors")
        if array.ndim and (last in vectors or name.endswith("autoregressive_net.initial_layer.weight")):
            return int(array.shape[-1])
    raise ValueError(f"no array shows the number of features: {', '.join([*model.arrays][:6]) or 'none'}")


def _composite(model: Model, path: str) -> list[Piece]:
    members = range(model.count(f"{path}._transforms"))
    return [piece for i in members for piece in model.read_layer(f"{path}._transforms.{i}", LAYERS)]


def base(model: Model) -> list[Piece]:
    """Read the base, standard normal or, with a mean and a spread, followed by an affine layer."""
    path = "_distribution"
    model.skip(f"{path}._log_z")
    embedding = type(model.modules.get("_embedding_net")).__name__
    if embedding not in ("NoneType", "Identity"):
        raise ValueError(f"_embedding_net is a {embedding}; a network of the context cannot be taken over")
    kind = type(model.modules[""]._distribution).__name__ if model.modules else "StandardNormal"
    if kind not in ("StandardNormal", "DiagonalNormal"):
        raise ValueError(f"{path} is a {kind}; the base must be a StandardNormal or a DiagonalNormal")
    if not model.holds(f"{path}.log_std_"):
        return []
    shape = (1, model.dim)
    return [affine(model.floats(f"{path}.log_std_", shape)[0], model.floats(f"{path}.mean_", shape)[0])]


def _softplus(u: Doubles) -> Doubles:
    """Return log(1 + exp(u)), which PyTorch takes to be u above 20."""
    return np.where(u > 20, u, np.log1p(np.exp(np.minimum(u, 20))))


def _lu(model: Model, path: str) -> list[Piece]:
    dim = model.dim
    weight = np.zeros((dim, dim))
    weight[np.tril_indices(dim, -1)] = model.floats(f"{path}.lower_entries", (dim * (dim - 1) // 2,))
    weight[np.triu_indices(dim, 1)] = model.floats(f"{path}.upper_entries", (dim * (dim - 1) // 2,))
    eps = model.modules[path].eps if model.modules else 1e-3
    diagonal = _softplus(model.floats(f"{path}.unconstrained_upper_diag", (dim,))) + eps
    weight[np.diag_indices(dim)] = np.log(diagonal)
    return [Piece(LU("natural"), {"weight": weight, "bias": model.floats(f"{path}.bias", (dim,))})]


def _actnorm(model: Model, path: str) -> list[Piece]:
    model.skip(f"{path}.initialized")
    shape = (model.dim,)
    log_scale, shift = model.floats(f"{path}.log_scale", shape), model.floats(f"{path}.shift", shape)
    return [affine(-log_scale, -shift * np.exp(-log_scale))]


def _batch_norm(model: Model, path: str) -> list[Piece]:
    module = model.modules.get(path)
    if module is not None and module.training:
        raise ValueError(f"{path} is a BatchNorm in training mode, whose density hangs on the batch; call eval() first")
    eps, shape = 1e-5 if module is None else module.eps, (model.dim,)
    weight = _softplus(model.floats(f"{path}.unconstrained_weight", shape)) + eps
    scale = weight / np.sqrt(model.floats(f"{path}.running_var", shape) + eps)
    shift = model.floats(f"{path}.bias", shape) - model.floats(f"{path}.running_mean", shape) * scale
    return [affine_of(path, scale, shift)]


def _pointwise_affine(model: Model, path: str) -> list[Piece]:
    numbers = []
    for name in (f"{path}._scale", f"{path}._shift"):
        single = model.holds(name) and model.arrays[name].size == 1
        shape = (None,) * model.arrays[name].ndim if single else (model.dim,)
        numbers.append(np.broadcast_to(model.floats(name, shape).ravel(), (model.dim,)))
    return [affine_of(path, *numbers)]


def _spline(model: Model, path: str, bins: int) -> RationalQuadratic:
    if model.modules and model.modules[path].tails != "linear":
        raise ValueError(f"{path} has tails={model.modules[path].tails!r}; they must be 'linear'")
    with within(path):
        return RationalQuadratic(
            bins=bins,
            bound=model.setting(path, "tail_bound", "bound"),
            min_width=model.setting(path, "min_bin_width", "min_width"),
            min_height=model.setting(path, "min_bin_height", "min_height"),
            min_slope=model.setting(path, "min_derivative", "min_slope"),
            scheme="floor",
        )


def _slope_shift(spline: RationalQuadratic) -> Doubles:
    """Return what nflows' numbers lack: our softplus(u + c) gives slope 1 at u = 0 (3 K - 1 numbers)."""
    shift = np.zeros(3 * spline.bins - 1)
    shift[2 * spline.bins :] = -math.log(math.expm1(1 - spline.min_slope))
    return shift


def _outputs(last: Dense, spline: RationalQuadratic, softmax_scale: float) -> Dense:
    """Return a network's last layer so that it gives our numbers: softmax arguments scaled, slopes shifted."""
    factor = np.ones(3 * spline.bins - 1)
    factor[: 2 * spline.bins] = softmax_scale
    factor = np.tile(factor, len(last.bias) // len(factor))
    shift = np.tile(_slope_shift(spline), len(factor) // (3 * spline.bins - 1))
    return replace(last, weight=last.weight * factor[:, None], bias=last.bias * factor + shift)


def _softmax_scale(model: Model, net: str, hidden: int | None) -> float:
    """Return by what nflows multiplies the arguments of softmax: 1 / sqrt(hidden_features) if the net has them."""
    if model.modules:
        hidden = getattr(model.modules[net], "hidden_features", None)
    return 1 / math.sqrt(hidden) if hidden else 1.0


def _residual(model: Model, net: str, inputs: int, *, masked: bool = False) -> tuple[MLP | ResNet, list[Dense]]:
    """Read a residual network."""
    blocks = [f"{net}.blocks.{b}" for b in range(model.count(f"{net}.blocks"))]
    for block in blocks:
        for part in ("context_layer", "batch_norm_layers"):
            if model.holds(f"{block}.{part}"):
                raise ValueError(f"{block}.{part}: pushforward's ResNet has none in its blocks")
    network = [Dense.of(model, f"{net}.initial_layer", "first", ("inputs", "stream"), inputs, masked=masked)]
    hidden = len(network[0].bias)
    for b, block in enumerate(blocks):
        for i, groups in enumerate((("stream", block), (block, "stream"))):
            path, name = f"{block}.linear_layers.{i}", f"blocks.{b}.{i}"
            network.append(Dense.of(model, path, name, groups, hidden, masked=masked))
    network.append(Dense.of(model, f"{net}.final_layer", "last", ("stream", "outputs"), hidden, masked=masked))
    if not blocks:
        return MLP(()), [replace(network[1].after(network[0]), name="0")]
    places = {path: model.modules.get(path) for path in blocks}
    activation = model.activation({f"{path}.activation": getattr(m, "activation", None) for path, m in places.items()})
    dropout = model.modules[f"{net}.blocks.0.dropout"].p if model.modules else 0.0
    return ResNet(hidden, len(blocks), activation, dropout), network


def _mlp(model: Model, net: str, inputs: int) -> tuple[MLP, list[Dense]]:
    """Read nflows' MLP, which needs a subclass to stand in a coupling."""
    module = model.modules.get(net)
    if module is not None and module._activate_output:
        raise ValueError(f"{net} has activate_output=True; pushforward's MLP has none there")
    hidden = model.count(f"{net}._hidden_layers")
    names = ["_input_layer", *(f"_hidden_layers.{i}" for i in range(hidden)), "_output_layer"]
    network = chain(model, [f"{net}.{name}" for name in names], inputs, masked=False)
    activation = model.activation({f"{net}._activation": getattr(module, "_activation", None)})
    return MLP(tuple(len(layer.bias) for layer in network[:-1]), activation), network


def _coupling(model: Model, path: str) -> list[Piece]:
    kept, moved = (model.indices(f"{path}.{name}_features") for name in ("identity", "transform"))
    if sorted([*kept, *moved]) != list(range(model.dim)) or not len(moved):
        raise ValueError(f"{path}.transform_features and identity_features must part 0 ... {model.dim - 1} in two")
    net = f"{path}.transform_net"
    conditioner: MLP | ResNet
    if model.holds(f"{net}._input_layer"):
        conditioner, network = _mlp(model, net, len(kept))
        scale = _softmax_scale(model, net, None)
    else:
        conditioner, network = _residual(model, net, len(kept))
        scale = _softmax_scale(model, net, len(model.arrays[f"{net}.initial_layer.bias"]))
    spline = _spline(model, path, spline_bins(net, len(network[-1].bias), len(moved)))
    network[-1] = _outputs(network[-1], spline, scale)

    unconditional = model.holds(f"{path}.unconditional_transform")
    splines = _unconditional(model, f"{path}.unconditional_transform", len(kept), spline) if unconditional else {}
    if not len(kept):
        return [elementwise(model, spline, without_inputs(network, conditioner.activation))]
    mask = tuple(i in kept for i in range(model.dim))
    return [Piece(Coupling(spline, conditioner, mask, unconditional), splines | blocks_of(network))]


def _unconditional(model: Model, path: str, kept: int, spline: RationalQuadratic) -> dict[str, Array]:
    names = {"widths": spline.bins, "heights": spline.bins, "derivatives": spline.bins - 1}
    arrays = [model.floats(f"{path}.unnormalized_{name}", (kept, size)) for name, size in names.items()]
    return {"unconditional": np.hstack(arrays) + _slope_shift(spline)}


def _autoregressive(model: Model, path: str) -> list[Piece]:
    net = f"{path}.autoregressive_net"
    for name in model.below(net):
        if name.endswith(".degrees"):  # the masks hold the same
            model.skip(f"{net}.{name}")
    if model.holds(f"{net}.context_layer"):
        raise ValueError(
            f"{net}.context_layer: context goes into this network in a way that pushforward's networks have not"
        )
    conditioner: MLP | ResNet
    if model.modules:
        is_residual = model.modules[net].use_residual_blocks
    elif model.holds(f"{net}.blocks.0"):
        is_residual = not model.holds(f"{net}.blocks.0.linear")
    else:
        raise ValueError(
            f"{net} has no blocks, and its state dict does not tell if it has an activation; pass the module"
        )
    conditioner, network = (_residual if is_residual else _feedforward)(model, net, model.dim, masked=True)
    spline = _spline(model, path, spline_bins(net, len(network[-1].bias), model.dim))
    network[-1] = _outputs(network[-1], spline, _softmax_scale(model, net, None))
    return [autoregressive(model, spline, conditioner, network, np.arange(model.dim))]


def _feedforward(model: Model, net: str, inputs: int, *, masked: bool) -> tuple[MLP, list[Dense]]:
    """Read a MADE without residual blocks."""
    blocks = [f"{net}.blocks.{b}" for b in range(model.count(f"{net}.blocks"))]
    for block in blocks:
        if model.holds(f"{block}.batch_norm"):
            raise ValueError(f"{block}.batch_norm: pushforward's MLP has none")
    paths = [f"{net}.initial_layer", *(f"{block}.linear" for block in blocks), f"{net}.final_layer"]
    network = chain(model, paths, inputs, masked=masked)
    places = {path: model.modules.get(path) for path in (net, *blocks)}
    activation = model.activation({f"{path}.activation": getattr(m, "activation", None) for path, m in places.items()})
    return MLP(tuple(len(layer.bias) for layer in network[:-1]), activation), network


def _householder(model: Model, path: str) -> list[Piece]:
    vectors = model.floats(f"{path}.q_vectors", (None, model.dim))
    return [Piece(Householder(len(vectors)), {"vectors": vectors[::-1]})]


LAYERS: tuple[tuple[str, str, Reader], ...] = (
    ("CompositeTransform", "_transforms", _composite),
    ("PiecewiseRationalQuadraticCouplingTransform", "transform_net", _coupling),
    ("MaskedPiecewiseRationalQuadraticAutoregressiveTransform", "autoregressive_net", _autoregressive),
    ("LULinear", "lower_entries", _lu),
    ("HouseholderSequence", "q_vectors", _householder),
    ("Permutation", "_permutation", lambda model, path: [permutation(model, f"{path}._permutation")]),
    ("BatchNorm", "running_mean", _batch_norm),
    ("ActNorm", "log_scale", _actnorm),
    ("PointwiseAffineTransform", "_scale", _pointwise_affine),
    ("IdentityTransform", " ", lambda model, path: []),  # it has no arrays
)
