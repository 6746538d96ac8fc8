"""Layers of zuko as layers of ours."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import numpy as np

from pushforward._model.coupling import Coupling
from pushforward._model.layers import LU, Householder
from pushforward._model.networks import MLP
from pushforward._model.transforms import RationalQuadratic
from pushforward._typing import Doubles
from pushforward.convert.model import Model, Piece, Reader, affine, affine_of, permutation, to_numpy, within
from pushforward.convert.networks import Dense, autoregressive, blocks_of, chain, elementwise, passes_of, spline_bins


def base(model: Model) -> list[Piece]:
    """Read the base, which has the number of features, and find the context in the first network."""
    kind = _made_by(model, "base") if model.modules else "DiagNormal"
    loc, scale = _argument(model, "base", 0, "loc"), _argument(model, "base", 1, "scale")
    if kind != "DiagNormal" or not (model.holds(loc) and model.holds(scale)):
        raise ValueError(f"base is a {kind} that holds {', '.join(model.below('base'))}; it must be a DiagNormal")
    shift = model.floats(loc, (None,))
    model.dim = len(shift)
    deviation = model.floats(scale, (model.dim,))
    if not (deviation > 0).all():
        raise ValueError(f"{scale} must be above 0, not {deviation.min()}")
    for name, array in model.arrays.items():
        path, _, last = name.rpartition(".hyper.")
        if last == "0.weight" and array.ndim == 2:
            kept = model.dim if model.holds(f"{path}.hyper.0.mask") else np.sum(model.arrays.get(f"{path}.mask", 0))
            model.context = max(int(array.shape[1] - kept), 0)
            break
    if (shift == 0).all() and (deviation == 1).all():
        return []
    return [affine(np.log(deviation), shift)]


def _argument(model: Model, path: str, position: int, name: str) -> str:
    """Return the name of the array that an unconditional distribution or transform was given."""
    return f"{path}.{name}" if model.holds(f"{path}.{name}") else f"{path}._{position}"


def _made_by(model: Model, path: str) -> str:
    """Return the name of what an unconditional distribution or transform calls."""
    module = model.modules[path]
    call = getattr(module, "f", getattr(module, "meta", module))
    return getattr(call, "__name__", type(call).__name__)


def _composed(model: Model, path: str) -> list[Piece]:
    members = range(model.count(f"{path}.transforms"))
    return [piece for i in members for piece in model.read_layer(f"{path}.transforms.{i}", LAYERS)]


def _univariate(model: Model, path: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the univariate transform and its settings."""
    if not model.modules:
        affine = model.holds(f"{path}.phi.0") and model.arrays[f"{path}.phi.0"].ndim == 1
        return "MonotonicAffineTransform" if affine else "MonotonicRQSTransform", model.options
    call = model.modules[path].univariate
    settings = {name: p.default for name, p in inspect.signature(call).parameters.items()}
    while isinstance(call, partial):
        call = call.func
    return getattr(call, "__name__", type(call).__name__), settings


def _spline(model: Model, path: str, numbers: int, moved: int) -> RationalQuadratic:
    name, settings = _univariate(model, path)
    if name != "MonotonicRQSTransform":
        raise ValueError(f"{path} is made of {name}; a network's univariate transform must be a MonotonicRQSTransform")
    with within(path):
        return RationalQuadratic(
            bins=spline_bins(f"{path}.hyper", numbers, moved),
            bound=settings["bound"],
            min_slope=settings["slope"],
            scheme="clip",
        )


def _network(model: Model, path: str, inputs: int) -> tuple[MLP, list[Dense]]:
    """Read an MLP or MaskedMLP: layers 0, 2, 4 ... of a sequence, with activations in between."""
    found = {name.split(".")[0]: name for name in model.below(path)}
    for i, name in found.items():
        if name.count(".") > 1:
            raise ValueError(
                f"{path}.{i} is a residual block with one activation; pushforward's ResNet has two in each"
            )
    members = len(model.modules[path]) if model.modules else 2 * len(found) - 1
    dense = [str(i) for i in range(0, members, 2)]
    if found.keys() != {*dense} or members % 2 == 0:
        raise ValueError(
            f"{path} has arrays at {', '.join(sorted(found))} of {members} members; dense layers with an activation "
            f"between each two stand at {', '.join(dense)}"
        )
    masked = any(model.holds(f"{path}.{i}.mask") for i in dense)
    network = chain(model, [f"{path}.{i}" for i in dense], inputs, masked=masked)
    activation = model.activation({f"{path}.{i}": model.modules.get(f"{path}.{i}") for i in range(1, members, 2)})
    return MLP(tuple(len(layer.bias) for layer in network[:-1]), activation), network


def _autoregressive(model: Model, path: str) -> list[Piece]:
    conditioner, network = _network(model, f"{path}.hyper", model.dim + model.context)
    spline = _spline(model, path, len(network[-1].bias), model.dim)
    if model.holds(f"{path}.order"):
        passes = np.unique(model.indices(f"{path}.order"), return_inverse=True)[1]
        if len(passes) != model.dim:
            raise ValueError(f"{path}.order has {len(passes)} entries; {model.dim} are expected")
    else:
        passes = passes_of(network, model.dim)
    return [autoregressive(model, spline, conditioner, network, passes)]


def _coupling(model: Model, path: str) -> list[Piece]:
    mask = model.floats(f"{path}.mask", (model.dim,)) != 0
    conditioner, network = _network(model, f"{path}.hyper", int(mask.sum()) + model.context)
    spline = _spline(model, path, len(network[-1].bias), int((~mask).sum()))
    return [Piece(Coupling(spline, conditioner, tuple(mask.tolist())), blocks_of(network))]


def _elementwise(model: Model, path: str) -> list[Piece]:
    if model.holds(f"{path}.hyper"):
        conditioner, network = _network(model, f"{path}.hyper", model.context)
        spline = _spline(model, path, len(network[-1].bias), model.dim)
        return [Piece(Coupling(spline, conditioner, (False,) * model.dim), blocks_of(network))]
    name, settings = _univariate(model, path)
    if name == "MonotonicAffineTransform":
        shift, scale = (model.floats(f"{path}.phi.{i}", (model.dim,)) for i in (0, 1))
        return [affine_of(path, np.exp(scale / (1 + np.abs(scale / math.log(settings["slope"])))), shift)]
    phi = [model.floats(f"{path}.phi.{i}", (model.dim, None)) for i in range(model.count(f"{path}.phi"))]
    numbers = np.hstack(phi)
    spline = _spline(model, path, numbers.size, model.dim)
    if [array.shape[1] for array in phi] != [spline.bins, spline.bins, spline.bins - 1]:
        raise ValueError(f"{path}.phi must hold widths, heights and slopes of a spline with linear tails")
    return [elementwise(model, spline, numbers)]


def _unconditional(model: Model, path: str) -> list[Piece]:
    kinds = {"order": "PermutationTransform", "LU": "LULinearTransform", "A": "RotationTransform"}
    kind = next((kind for name, kind in kinds.items() if model.holds(f"{path}.{name}")), "transform of unknown kind")
    kind = _made_by(model, path) if model.modules else kind
    if kind == "PermutationTransform":
        return [permutation(model, _argument(model, path, 0, "order"))]
    if kind == "LULinearTransform":
        return [_lu(model, _argument(model, path, 0, "LU"))]
    if kind == "RotationTransform":
        return _rotation(model.floats(_argument(model, path, 0, "A"), (model.dim, model.dim)))
    if kind in _AFFINE:
        transform = model.modules[path]()
        for name in model.below(path):
            model.skip(f"{path}.{name}")
        scale, shift = (to_numpy(path, getattr(transform, name)).astype(np.float64) for name in _AFFINE[kind])
        return [affine_of(path, np.broadcast_to(scale, (model.dim,)), np.broadcast_to(shift, (model.dim,)))]
    raise ValueError(f"{path} is a {kind}, for which pushforward has no layer")


_AFFINE = {"MonotonicAffineTransform": ("scale", "shift"), "AffineTransform": ("scale", "loc")}


def _lu(model: Model, name: str) -> Piece:
    """Return the layer of z = L U x, where L has the diagonal; ours stands with U."""
    packed = model.floats(name, (model.dim, model.dim))
    diagonal = np.diag(packed)
    if not (diagonal > 0).all():
        raise ValueError(f"{name} has a diagonal that is not above 0; pushforward's LU keeps its logarithm")
    weight = np.tril(packed, -1) / diagonal + np.triu(packed, 1) * diagonal[:, None] + np.diag(np.log(diagonal))
    return Piece(LU("natural"), {"weight": weight, "bias": np.zeros(model.dim)})


def _rotation(a: Doubles) -> list[Piece]:
    """Return the layer of z = exp(A - A^T) x as reflections (Golub and Van Loan 2013, section 5.2.1)."""
    # i (A - A^T) is Hermitian: the exponential by its eigenvalues, which are real, to rounding.
    values, vectors = np.linalg.eigh(1j * (a - a.T))
    left = (vectors * np.exp(-1j * values) @ vectors.conj().T).real
    reflections = []
    for i in range(len(a)):
        v = left[:, i] - np.eye(len(a))[i]
        if v @ v > 1e-30:  # else that column is done
            reflections.append(v)
            left -= np.outer(v, 2 / (v @ v) * (v @ left))
    if not reflections:
        return []
    return [Piece(Householder(len(reflections)), {"vectors": np.array(reflections)})]


LAYERS: tuple[tuple[str, str, Reader], ...] = (
    ("LazyComposedTransform", "transforms", _composed),
    ("MaskedAutoregressiveTransform", "hyper.0.mask", _autoregressive),
    ("GeneralCouplingTransform", "mask", _coupling),
    ("ElementWiseTransform", "phi", _elementwise),
    ("ElementWiseTransform", "hyper", _elementwise),
    ("UnconditionalTransform", "order", _unconditional),
    ("Unconditional", "LU", _unconditional),
    ("Unconditional", "A", _unconditional),
)
