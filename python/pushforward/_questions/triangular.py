"""Flows that are triangular in one order of the columns: their leading columns are a flow by themselves.

If every layer moves a column by those before it alone, always in the same order, and the latent features are
independent, then by the chain rule the density of the first k columns is the product of the first k factors. These are
the flow that is left when all other columns, and the units of the masked networks that see them, are taken out.
"""

from __future__ import annotations

import numpy as np

from pushforward._model.layer import Layer
from pushforward._model.new import new
from pushforward._model.state import State
from pushforward._typing import Floats, Indices


def order_of(state: State) -> Indices | None:
    """Return the columns in the order in which a flow is triangular; None if it is not."""
    if not state.base.is_independent or state.shape is not None:
        return None
    layers, at_base = _arranged(state)
    for layer, columns in layers:
        if not layer.is_triangular(state.dim) or not (layer.moves_alone or (columns == at_base).all()):
            return None
    return at_base


def _arranged(state: State) -> tuple[list[tuple[Layer, Indices]], Indices]:
    """Return the layers in generator order, each with the columns in the order it has them, and the base's order."""
    columns, result = np.arange(state.dim), []
    for layer, entry in zip(state.layers[::-1], state.model["layers"][::-1], strict=True):
        result.append((layer, columns))
        columns = layer.before(columns, entry)
    return result[::-1], columns


def leading(state: State, count: int) -> State:
    """Return the flow of the first columns of a triangular flow, in its order, `order_of`."""
    order = order_of(state)
    assert order is not None
    first, context = order[:count], state.context
    if state.context_network is not None:
        context = state.context_network.features
    layers: list[Layer] = []
    views = state.named_parameters()
    blocks = {name: _of_first(name, block, state, first) for name, block in views.items() if name[:7] != "layers."}
    constants: dict[str, Floats] = {}
    for i, (layer, columns) in enumerate(_arranged(state)[0]):
        if layer.reorders:
            continue
        own = {name.split(".", 2)[2]: block for name, block in views.items() if name.startswith(f"layers.{i}.")}
        prefix = f"layers.{len(layers)}."
        part, is_constant = layer.leading(count, state.dim, context)
        layers.append(part)
        if is_constant:
            constants[prefix] = list(own.values())[-1]
            continue
        if layer.moves_alone:
            own = {name: block[np.argsort(columns)[first]] for name, block in own.items()}
        blocks.update({prefix + name: block for name, block in own.items()})
    support = [state.support[column] for column in first]
    rng = np.random.default_rng(0)  # what it draws is replaced
    network, dtype, precision = state.context_network, state.dtype.name, state.conditioner_precision
    result = new(count, state.context, network, dtype, state.base, support, layers, rng, None, precision)
    found = result.named_parameters()
    for name, block in found.items():
        block[...] = blocks[name][tuple(map(slice, block.shape))] if name in blocks else 0
    for prefix, bias in constants.items():
        block = found[[name for name in found if name.startswith(prefix)][-1]]
        block[...] = bias[: len(block)]
    shift, scale = state.standardization
    result.set_standardization((shift[first], scale[first]), state.context_standardization, state.cells[first])
    result.initialized, result.data_dtype, result.threads = state.initialized, state.data_dtype, state.threads
    return result


def _of_first(name: str, block: Floats, state: State, first: Indices) -> Floats:
    """Return the first columns' part of parameters of the base; others are of the network that reads the context."""
    return block[first] if name.startswith("base.") and block.shape[:1] == (state.dim,) else block
