"""A flow's description as JSON and back: what the core builds itself from and what a file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pushforward import checks, supports
from pushforward import layers as parts
from pushforward.layers import LU, Autoregressive, Base, Coupling, Layer, Permutation
from pushforward.supports import Support

_KINDS = {
    kind.__name__: kind
    for kind in (
        parts.Additive,
        parts.Affine,
        parts.RationalQuadratic,
        parts.MLP,
        parts.ResNet,
        parts.Coupling,
        parts.Autoregressive,
        parts.Permutation,
        parts.LU,
        parts.Householder,
        parts.ActNorm,
        parts.Normal,
        parts.StudentT,
        parts.Uniform,
        supports.Real,
        supports.Positive,
        supports.Interval,
        supports.Circle,
    )
}


def to_json(part: object) -> Any:
    """Turn a description into JSON's types: a dict with its class as "kind" beside its fields."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {field.name: to_json(getattr(part, field.name)) for field in dataclasses.fields(part)}
        return {"kind": type(part).__name__, **fields}
    return [to_json(value) for value in part] if isinstance(part, tuple) else part


def from_json(value: Any) -> Any:
    """Turn `to_json`'s result back into the description; the classes check their fields themselves."""
    if isinstance(value, Mapping):
        kind = _KINDS[value["kind"]]
        # A field that an older file does not know has its default.
        names = [field.name for field in dataclasses.fields(kind) if field.name in value]
        return kind(**{name: from_json(value[name]) for name in names})
    return tuple(map(from_json, value)) if isinstance(value, list) else value


def resolve(layers: Sequence[Layer], dim: int, context: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Describe the layers with every mask and permutation spelled out ("kept", "indices"), as the core needs them."""
    resolved = []
    couplings = 0
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(
                f"layers[{i}] must be a Coupling, Autoregressive, Permutation, LU, Householder or ActNorm, "
                f"not {layer!r}"
            )
        entry = to_json(layer)
        if isinstance(layer, Coupling):
            entry["kept"] = layer.kept(dim, couplings, rng).tolist()
            couplings += 1
        elif isinstance(layer, Autoregressive):
            entry["passes"], entry["units"] = layer.passes(dim), layer.units(dim, context)
        elif isinstance(layer, Permutation | LU):
            entry["indices"] = layer.indices(dim, rng).tolist()
        resolved.append(entry)
    return resolved


def check(model: Mapping[str, Any]) -> None:
    """Check a flow's description that comes from a file: every part is rebuilt, and would print as it did."""
    dim = model["dim"]
    checks.choice("dtype", model["dtype"], ("float32", "float64"))
    if not isinstance(from_json(model["base"]), Base):
        raise ValueError("base is no base")
    if set(model) - {"support"} != {"dim", "context", "dtype", "base", "layers"}:
        raise ValueError("the model has other parts than dim, context, dtype, base, support and layers")
    if not isinstance(model.get("support", []), list):
        raise ValueError("support is no list")
    support_of(model)
    for i, entry in enumerate(model["layers"]):
        layer = from_json(entry)
        if not isinstance(layer, Layer):
            raise ValueError(f"layers[{i}] is no layer")
        if isinstance(layer, Coupling):
            kept = entry["kept"]
            if len(kept) != dim or not all(isinstance(value, bool) for value in kept) or all(kept):
                raise ValueError(f"layers[{i}] has no mask of {dim} features")
        elif isinstance(layer, Autoregressive):
            if entry["passes"] != layer.passes(dim) or entry["units"] != layer.units(dim, model["context"]):
                raise ValueError(f"layers[{i}] has other passes or units than its order and degrees")
        elif isinstance(layer, Permutation | LU) and (
            not all(type(index) is int for index in entry["indices"]) or sorted(entry["indices"]) != list(range(dim))
        ):
            raise ValueError(f"layers[{i}] has no permutation of {dim} features")


def describe(
    dim: int, context: int, dtype: str, base: Base, support: Sequence[Support], layers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Describe a whole flow."""
    return {
        "dim": dim,
        "context": context,
        "dtype": dtype,
        "base": to_json(base),
        "support": [to_json(entry) for entry in support],
        "layers": layers,
    }


def support_of(model: Mapping[str, Any]) -> tuple[Support, ...]:
    """Return the support of each feature; a description of an older file has none, and every feature is real."""
    entries = [from_json(entry) for entry in model["support"]] if "support" in model else None
    return supports.resolve(entries, model["dim"])
