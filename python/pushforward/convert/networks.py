"""Networks of other libraries as dense layers between groups of units, and how they become conditioners of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pushforward._model.coupling import Coupling
from pushforward._model.layers import Autoregressive
from pushforward._model.networks import MLP, ResNet
from pushforward._model.transforms import RationalQuadratic
from pushforward._typing import Array, Doubles
from pushforward.convert.model import ACTIVATIONS, Model, Piece

_ENDS = ("inputs", "outputs")


@dataclass(frozen=True)
class Dense:
    """A dense layer of a network, between two groups of units.

    Parameters
    ----------
    path : str
        Where it stands in the model.
    name : str
        What it is called in our conditioner.
    source, target : str
        The groups: "inputs", "outputs", and names of hidden ones.
    weight, bias, mask : (outputs, inputs), (outputs,), (outputs, inputs) array
        Its parameters; the mask is True where the weight counts.
    """

    path: str
    name: str
    source: str
    target: str
    weight: Doubles
    bias: Doubles
    mask: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, model: Model, path: str, name: str, groups: tuple[str, str], inputs: int | None, *, masked: bool
    ) -> Dense:
        """Read a dense layer with so many inputs, with a mask or without."""
        weight = model.floats(f"{path}.weight", (None, inputs))
        bias = model.floats(f"{path}.bias", weight.shape[:1])
        mask = model.floats(f"{path}.mask", weight.shape) != 0 if masked else np.ones(weight.shape, dtype=bool)
        return cls(path, name, *groups, np.where(mask, weight, 0), bias, mask)

    def after(self, first: Dense) -> Dense:
        """Return this layer after another with nothing in between, as one."""
        mask = self.mask.astype(float) @ first.mask > 0
        weight, bias = self.weight @ first.weight, self.weight @ first.bias + self.bias
        return replace(self, source=first.source, weight=weight, bias=bias, mask=mask)


def blocks_of(network: Sequence[Dense]) -> dict[str, Array]:
    """Return the parameters of a network without masks, by our names."""
    blocks: dict[str, Array] = {}
    for layer in network:
        blocks |= {f"conditioner.{layer.name}.weight": layer.weight, f"conditioner.{layer.name}.bias": layer.bias}
    return blocks


def passes_of(network: Sequence[Dense], dim: int) -> npt.NDArray[np.int64]:
    """Return the pass in which each feature can be generated at the earliest, (dim,), from the masks alone."""
    reach = np.eye(network[0].mask.shape[1], dtype=np.int64)
    for layer in network:
        reach = np.minimum(layer.mask.astype(np.int64) @ reach, 1)
    sees = reach.reshape(dim, -1, reach.shape[1]).max(axis=1)[:, :dim] > 0
    passes = np.zeros(dim, dtype=np.int64)
    for _ in range(dim):
        passes = np.max(np.where(sees, passes + 1, 0), axis=1)
    if (sees & (passes[:, None] <= passes)).any():
        raise ValueError(f"{network[0].path}: the masks let features depend on each other in a circle")
    return passes


def sorted_network(
    network: Sequence[Dense], passes: npt.NDArray[np.int64], context: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """Bring a masked network's units into the order of ours: inputs and outputs by pass, hidden units by degree.

    The degree of a hidden unit is 1 + the latest pass of the features it sees, and 0 if it sees none.

    Parameters
    ----------
    network : sequence of Dense
        In the order of evaluation; inputs are the features and then the context, outputs go by feature.
    passes : (dim,) array
        The pass of each feature.
    context : int
        Conditioning features.

    Returns
    -------
    dict of str to tuple of int
        The sorted degrees of each group of hidden units.
    dict of str to array
        The parameters by our names.

    Raises
    ------
    ValueError
        If a feature depends on one of its own pass or a later one.
    """
    last, dim = int(passes.max()), len(passes)
    degrees = {
        "inputs": np.concatenate([passes + 1, np.zeros(context, dtype=np.int64)]),
        "outputs": np.repeat(passes, len(network[-1].bias) // dim),
    }
    for layer in network:
        seen = np.where(layer.mask, degrees[layer.source], 0)
        degrees.setdefault(layer.target, seen.max(axis=1, initial=0))
    alive = {group: np.full(len(degree), group == "outputs") for group, degree in degrees.items()}
    for layer in reversed(network):
        alive[layer.source] |= layer.mask[alive[layer.target]].any(axis=0)
    for group in degrees.keys() - {"inputs", "outputs"}:
        # A unit that sees the last pass cannot be of use; if no output sees it, its degree does not matter.
        degrees[group] = np.where(alive[group], degrees[group], np.minimum(degrees[group], last))
    order = {group: np.argsort(degree, kind="stable") for group, degree in degrees.items()}
    order["inputs"] = np.concatenate([dim + np.arange(context), order["inputs"][context:]])

    sorted_layers = []
    for layer in network:
        allowed = degrees[layer.source] <= degrees[layer.target][:, None]
        if (layer.mask & ~allowed)[alive[layer.target]].any():
            raise ValueError(f"{layer.path}.mask lets a feature depend on itself or on later ones")
        units, inputs = order[layer.target], order[layer.source]
        weight = np.where(allowed, layer.weight, 0)[units][:, inputs]
        sorted_layers.append(replace(layer, weight=weight, bias=layer.bias[units]))
    hidden = {group: tuple(sorted(degree.tolist())) for group, degree in degrees.items() if group not in _ENDS}
    return hidden, blocks_of(sorted_layers)


def usual_degrees(hidden: Iterable[tuple[int, ...]], passes: npt.NDArray[np.int64]) -> bool:
    """Whether hidden units have the degrees they get by default, 1 ... passes - 1 in turn."""
    last = int(passes.max())
    return all(
        degrees == tuple(sorted((np.arange(len(degrees)) % max(last, 1) + min(last, 1)).tolist())) for degrees in hidden
    )


def order_of(passes: npt.NDArray[np.int64]) -> str | tuple[int, ...]:
    """Return the order of an Autoregressive layer, by its name if it has one."""
    dim = len(passes)
    if np.array_equal(passes, np.arange(dim)):
        return "natural"
    return "reverse" if np.array_equal(passes, np.arange(dim)[::-1]) else tuple(passes.tolist())


def chain(model: Model, paths: list[str], inputs: int | None, *, masked: bool) -> list[Dense]:
    """Read dense layers that follow each other, with an activation after each but the last."""
    network: list[Dense] = []
    for i, path in enumerate(paths):
        groups = ("inputs" if i == 0 else f"hidden {i - 1}", "outputs" if i == len(paths) - 1 else f"hidden {i}")
        network.append(Dense.of(model, path, str(i), groups, inputs, masked=masked))
        inputs = len(network[-1].bias)
    return network


def spline_bins(path: str, numbers: int, moved: int) -> int:
    """Return the bins of splines with linear tails, of how many numbers a network gives for the moved features."""
    each, rest = divmod(numbers, moved)
    if rest or each % 3 != 2 or each < 5:
        raise ValueError(
            f"{path} gives {numbers} numbers for {moved} features; a rational-quadratic spline of K bins with linear "
            "tails takes 3 K - 1 for each (one without tails takes 3 K + 1, an affine transform 2)"
        )
    return (each + 1) // 3


def without_inputs(network: Sequence[Dense], activation: str) -> Doubles:
    """Return what a network gives that has no inputs."""
    values = {"inputs": np.zeros(network[0].weight.shape[1])}
    for layer in network:
        h = values[layer.source]
        if layer.source != "inputs" and layer.name != "last":  # a residual network's has no activation before it
            h = ACTIVATIONS[activation](h)
        values[layer.target] = values.get(layer.target, 0) + layer.weight @ h + layer.bias
    return values["outputs"]


def elementwise(model: Model, spline: RationalQuadratic, numbers: Doubles) -> Piece:
    """Return the layer that moves each feature by a spline of its own, given as (dim, 3 K - 1) numbers."""
    last = {"conditioner.0.weight": np.zeros((numbers.size, model.context)), "conditioner.0.bias": numbers.ravel()}
    return Piece(Coupling(spline, MLP(()), (False,) * model.dim), last)


def autoregressive(
    model: Model,
    spline: RationalQuadratic,
    conditioner: MLP | ResNet,
    network: list[Dense],
    passes: npt.NDArray[np.int64],
) -> Piece:
    """Return the layer of a masked network whose inputs are the features and then the context."""
    if not passes.any() and not model.context:  # there is nothing to see
        return elementwise(model, spline, without_inputs(network, conditioner.activation))
    groups, blocks = sorted_network(network, passes, model.context)
    degrees = tuple(groups.values())
    if len(conditioner.widths) < len(degrees):
        if len(set(degrees)) > 1:
            raise ValueError(f"{network[0].path}: the residual network's layers have units of different degrees")
        degrees = degrees[: len(conditioner.widths)]
    given = None if usual_degrees(degrees, passes) else degrees
    return Piece(Autoregressive(spline, conditioner, order_of(passes), given), blocks)
