"""A flow before any data: from what it is described with to its state."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from pushforward import _checks
from pushforward._model import description, image_presets, presets
from pushforward._model.bases import Base, Normal
from pushforward._model.layer import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.place import Shape, checked_shape
from pushforward._model.state import Open, State
from pushforward._model.supports import Support


def features_of(dim: int | None, shape: object, most: int) -> tuple[int, Shape | None]:
    """Return the number of features, at most so many, and their shape, of which at least one must be given."""
    if shape is not None:
        row = checked_shape(shape, None if dim is None else _checks.integer("dim", dim, 1, most))
        return _checks.integer("the number of pixels", math.prod(row), 1, most), row
    if dim is None:
        raise TypeError("a flow needs dim, its number of features, or shape=(channels, height, width)")
    return _checks.integer("dim", dim, 1, most), None


def new(
    dim: int,
    context: int,
    context_network: ContextNetwork | None,
    dtype: str,
    base: Base | None,
    support: Sequence[Support],
    layers: Sequence[Layer] | None,
    rng: np.random.Generator,
    shape: Shape | None = None,
    conditioner_precision: str | None = None,
) -> State:
    """Return the state of a flow with initial parameters; layers, or layers and base, that are None are left open."""
    if shape is not None and layers is None:
        layers = image_presets.usual_image(shape)
    # A shift that starts at the regression on the context has no use for an embedding that is not learned yet.
    parts = presets.usual(dim, context if context_network is None else 0) if layers is None else layers
    left_open = Open(base is None, copy.deepcopy(rng)) if layers is None else None
    model = description.describe(
        dim, context, context_network, dtype, base or Normal(), support, parts, rng, shape, conditioner_precision
    )
    state = State(model)
    if left_open is not None:
        state.open, state.left_open = left_open, left_open.parts
    state.draw_parameters(rng)
    return state


def anew(state: State, rng: np.random.Generator) -> State:
    """Return a flow that is described as this one was, before any data; what was left open is so again."""
    result = new(
        state.dim,
        state.context,
        state.context_network,
        state.dtype.name,
        None if "base" in state.left_open else state.base,
        state.support,
        None if "layers" in state.left_open else state.layers,
        rng,
        state.shape,
        state.conditioner_precision,
    )
    result.threads = state.threads
    result.columns, result.context_columns = state.columns, state.context_columns
    return result
