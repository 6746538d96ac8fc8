"""The description of a flow in JSON's types: what the core is built from, and what a file holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pushforward import _checks
from pushforward._model import supports
from pushforward._model.bases import BASES, Base
from pushforward._model.layer import Layer
from pushforward._model.layers import LAYERS
from pushforward._model.networks import ContextNetwork
from pushforward._model.part import one_of, read, table
from pushforward._model.place import Place, Shape, checked_shape
from pushforward._model.supports import SUPPORTS, Support

PRECISIONS = ("float32", "float64")
CONDITIONER_PRECISIONS = ("bfloat16",)
_OPTIONAL = {"shape", "support", "context_network", "conditioner_precision"}


def describe(
    dim: int,
    context: int,
    context_network: ContextNetwork | None,
    dtype: str,
    base: Base,
    support: Sequence[Support],
    layers: Sequence[Layer],
    rng: np.random.Generator,
    shape: Shape | None = None,
    conditioner_precision: str | None = None,
) -> dict[str, Any]:
    """Describe a flow, with what the layers leave open spelled out as the core needs it."""
    entries: list[dict[str, Any]] = []
    before: Counter[type[Layer]] = Counter()
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{i}] must be {one_of(LAYERS)}, not {layer!r}")
    for layer, place in zip(layers, places(layers, Place(dim, context, shape)), strict=True):
        kind = type(layer)
        entries.append({**layer.to_json(), **layer.resolve(place, before[kind], rng)})
        before[kind] += 1
    return {
        "dim": dim,
        **({} if shape is None else {"shape": list(shape)}),
        "context": context,
        **({} if context_network is None else {"context_network": context_network.to_json()}),
        **({} if conditioner_precision is None else {"conditioner_precision": conditioner_precision}),
        "dtype": dtype,
        "base": base.to_json(),
        "support": [entry.to_json() for entry in support],
        "layers": entries,
    }


def places(layers: Sequence[Layer], place: Place) -> list[Place]:
    """Return the place on each layer's x side, given that of the data."""
    result: list[Place] = []
    for layer in reversed(layers):
        result.append(place)
        place = layer.place_before(place)
    return result[::-1]


def shape_of(model: Mapping[str, Any]) -> Shape | None:
    """Return the shape of a description, if it has one."""
    return checked_shape(model["shape"], model["dim"]) if "shape" in model else None


def base_of(model: Mapping[str, Any]) -> Base:
    """Return the base of a description."""
    return read(BASES, model["base"], "base")


def support_of(model: Mapping[str, Any]) -> tuple[Support, ...]:
    """Return the support of each feature; in an older file there is none, and every feature is real."""
    if "support" not in model:
        return supports.resolve(None, model["dim"])
    entries = [read(SUPPORTS, entry, f"support[{i}]") for i, entry in enumerate(model["support"])]
    return supports.resolve(entries, model["dim"])


def context_network_of(model: Mapping[str, Any]) -> ContextNetwork | None:
    """Return the network that reads the context for all layers, if there is one."""
    if "context_network" not in model:
        return None
    return read(table(ContextNetwork), model["context_network"], "context_network")


def conditioner_precision_of(model: Mapping[str, Any]) -> Literal["bfloat16"] | None:
    """Return the precision of the conditioners' products; None for the flow's own."""
    return check_conditioner_precision(model["conditioner_precision"]) if "conditioner_precision" in model else None


def check_conditioner_precision(name: object) -> Literal["bfloat16"]:
    """Return a precision of products, or raise a ValueError if it is none."""
    _checks.choice("conditioner_precision", name, CONDITIONER_PRECISIONS)
    return "bfloat16"


def layers_of(model: Mapping[str, Any]) -> list[Layer]:
    """Return the layers as they were described, in generator order."""
    return [read(LAYERS, entry, f"layers[{i}]") for i, entry in enumerate(model["layers"])]


def check_context_network(network: ContextNetwork | None, context: int) -> None:
    """Raise a ValueError for a context network without a context."""
    if network is not None and context == 0:
        raise ValueError("context_network needs a context; this flow has context=0")


def check(model: object) -> dict[str, Any]:
    """Return a description that comes from a file, if it is one: every part is rebuilt, and would print as it did.

    Raises
    ------
    TypeError, ValueError
        If it is none.
    """
    if not isinstance(model, dict) or set(model) - _OPTIONAL != {"dim", "context", "dtype", "base", "layers"}:
        raise ValueError(
            "the model must have dim, context, dtype, base, layers, and perhaps shape, support, context_network, "
            "conditioner_precision"
        )
    dim, context = model["dim"], model["context"]
    if type(dim) is not int or type(context) is not int or dim < 1 or context < 0:
        raise ValueError(f"dim is {dim!r} and context is {context!r}")
    _checks.choice("dtype", model["dtype"], PRECISIONS)
    conditioner_precision_of(model)
    base_of(model)
    check_context_network(context_network_of(model), context)
    for name in ("support", "layers"):
        if not isinstance(model.get(name, []), list):
            raise ValueError(f"{name} is no list")
    support_of(model)
    layers = layers_of(model)
    standing = places(layers, Place(dim, context, shape_of(model)))
    for i, (layer, entry, place) in enumerate(zip(layers, model["layers"], standing, strict=True)):
        try:
            layer.check(entry, place)
        except ValueError as error:
            raise ValueError(f"layers[{i}]: {error}") from None
    return model


def precision(dtype: object) -> str:
    """Return the name of a precision, given in any way that NumPy takes."""
    try:
        name = str(dtype) if dtype is None else np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        name = str(dtype)
    # NumPy takes None for float64.
    return _checks.choice("dtype", name, PRECISIONS)
