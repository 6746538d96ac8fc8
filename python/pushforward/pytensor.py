"""A flow in PyTensor, and so in PyMC: its density and its map, differentiable by rows and context.

PyTensor is not a dependency: this module is imported only by those who ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op

from pushforward._typing import Array
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow


def log_prob(flow: Flow | Ensemble, x: Any, context: Any = None) -> Any:
    """Return the log density of rows under a flow, whose parameters are constants.

    Parameters
    ----------
    flow : Flow or Ensemble
        The density.
    x : (..., dim) tensor
        Rows.
    context : (..., context) tensor, optional
        Conditions, whose leading axes broadcast against those of `x`.

    Returns
    -------
    (...) tensor
        log p(x), float64.

    Examples
    --------
    >>> import pytensor, pytensor.tensor as pt
    >>> from pushforward import Flow
    >>> from pushforward.pytensor import log_prob
    >>> x = pt.vector("x")
    >>> density = log_prob(Flow(2, seed=0), x)
    >>> slope = pytensor.grad(density, x)
    """
    return _Call(flow, "log_prob")(*_inputs(flow, x, context))


def forward(flow: Flow, z: Any, context: Any = None) -> tuple[Any, Any]:
    """Carry latent points (..., dim) to data points; return them and log|det dx/dz|.

    With z from the base, ``z ~ Normal(0, 1)`` for ``Flow(base=Normal())``, this is the flow as a non-centred prior.
    """
    x, log_det = _Call(flow, "forward")(*_inputs(flow, z, context))
    return x, log_det


def inverse(flow: Flow, x: Any, context: Any = None) -> tuple[Any, Any]:
    """Carry data points (..., dim) to latent points; return them and log|det dz/dx|."""
    z, log_det = _Call(flow, "inverse")(*_inputs(flow, x, context))
    return z, log_det


def _inputs(flow: Flow | Ensemble, points: Any, context: Any) -> list[Any]:
    """Return the inputs of an Op, with errors for what no value could make right."""
    if flow.shape is not None:
        raise ValueError(f"tensors of PyTensor have flat rows; this flow has shape={flow.shape}")
    inputs = [pt.as_tensor_variable(given).astype("float64") for given in (points, context) if given is not None]
    if len(inputs) - 1 != (flow.context > 0):
        raise ValueError(f"this flow has context={flow.context}; context is {context!r}")
    for name, tensor in zip(("x", "context"), inputs, strict=False):
        if tensor.ndim == 0:
            raise ValueError(f"{name} is a number; a tensor of at least one axis is expected")
    return inputs


class _Call(Op):  # type: ignore[misc]
    """A call of a flow. It is equal to that of the same object only."""

    __props__ = ("flow", "name")

    def __init__(self, flow: Flow | Ensemble, name: str) -> None:
        self.flow, self.name = flow, name

    def make_node(self, *inputs: Any) -> Apply[Any, Any]:
        leading = (None,) * (max(tensor.ndim for tensor in inputs) - 1)
        numbers = pt.tensor(dtype="float64", shape=leading)
        rows = pt.tensor(dtype="float64", shape=(*leading, self.flow.dim))
        return Apply(self, list(inputs), [numbers] if self.name == "log_prob" else [rows, numbers])

    def perform(self, node: Any, inputs: Sequence[Any], output_storage: Sequence[Any]) -> None:
        results = getattr(self.flow, self.name)(*inputs)
        for storage, result in zip(output_storage, results if isinstance(results, tuple) else (results,), strict=True):
            storage[0] = result

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        seeds = [
            pt.zeros_like(output) if isinstance(seed.type, DisconnectedType) else seed
            for output, seed in zip(outputs, cotangents, strict=True)
        ]
        found: list[Variable[Any, Any]] = _Product(self.flow, self.name, len(inputs))(*inputs, *seeds, return_list=True)
        return found

    # What versions before 3 call it.
    def L_op(self, inputs: Sequence[Any], outputs: Sequence[Any], output_grads: Sequence[Any]) -> list[Any]:  # noqa: N802
        return self.pullback(inputs, outputs, output_grads)


class _Product(Op):  # type: ignore[misc]
    """The vector-Jacobian product of a call: of its inputs, and the derivatives by its outputs."""

    __props__ = ("flow", "name", "count")

    def __init__(self, flow: Flow | Ensemble, name: str, count: int) -> None:
        self.flow, self.name, self.count = flow, name, count

    def make_node(self, *inputs: Any) -> Apply[Any, Any]:
        return Apply(self, list(inputs), [tensor.type() for tensor in inputs[: self.count]])

    def perform(self, node: Any, inputs: Sequence[Any], output_storage: Sequence[Any]) -> None:
        points, *context = inputs[: self.count]
        product = getattr(self.flow, f"{self.name}_vjp")
        by_points, _, by_context = product(points, *inputs[self.count :], *context, parameters=False)
        for storage, given, found in zip(output_storage, inputs, (by_points, by_context), strict=False):
            storage[0] = _sum_to(found, given.shape)


def _sum_to(values: Array, shape: tuple[int, ...]) -> Array:
    """Add up the derivatives of rows that broadcasting has repeated."""
    values = values.sum(axis=tuple(range(values.ndim - len(shape))))
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and values.shape[i] != 1)
    summed: Array = np.asarray(values.sum(axis=repeated, keepdims=True), dtype=np.float64)
    return summed
