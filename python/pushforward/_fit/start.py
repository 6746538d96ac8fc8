"""The state in which a first fit begins: the Gaussian, or the mixture of Gaussians, of the training rows."""

from __future__ import annotations

import numpy as np

from pushforward._fit.size import size
from pushforward._fit.standardize import Some, initialize
from pushforward._io.rows import Rows
from pushforward._model import description, presets
from pushforward._model.bases import Base
from pushforward._model.gaussian import Sample
from pushforward._model.layers import Layer
from pushforward._model.state import State

# As for ActNorm: rows further out than so many deviations are left out of moments.
_FARTHEST = 30.0


def start(state: State, rows: Rows) -> State:
    """Return the flow in which a first fit to these training rows begins.

    What its description leaves open is chosen. The layers that can start from data are started.
    """
    left_open = state.open
    if left_open is not None:
        chosen = size(len(rows), state.dim, state.context)
        layers = presets.usual(state.dim, state.context, **chosen.spline)
        state = _rebuilt(state, state.base, layers, left_open.rng)
    some = initialize(state, rows)
    _start_layers(state, some)
    return state


def _rebuilt(state: State, base: Base, layers: list[Layer], rng: np.random.Generator) -> State:
    """Return a flow with other layers, not initialised, and otherwise like this one."""
    model = description.describe(state.dim, state.context, state.dtype.name, base, state.support, layers, rng)
    result = State(model)
    result.draw_parameters(rng)
    result.threads = state.threads
    result.columns, result.context_columns = state.columns, state.context_columns
    return result


def _start_layers(state: State, some: Some) -> None:
    """Start the last layers that are linear: as the Gaussian of the rows, if all others start as the identity."""
    sample: Sample | None = _sample(state, some)
    parameters = state.named_parameters()
    for i, layer in reversed(list(enumerate(state.layers))):
        prefix = f"layers.{i}."
        own = {name.removeprefix(prefix): values for name, values in parameters.items() if name.startswith(prefix)}
        if sample is None or any(values.any() for values in own.values()):  # they were set by hand
            return
        sample = layer.start(state.model["layers"][i], own, sample)


def _sample(state: State, some: Some) -> Sample:
    """Return standardised rows, without those that are far out."""
    shift, scale = state.standardization
    on_line = np.array([domain == "line" for domain in state.core.domains])
    # A value on the bound of a support is infinitely far behind it.
    y = ((state.to_line(some.x).astype(np.float64) - shift) / scale)[:, on_line]
    weights = np.ones(len(y)) if some.weights is None else some.weights
    kept = (np.abs(y) <= _FARTHEST).all(axis=1) & (weights > 0)
    if not kept.any():
        y, kept = np.clip(y, -_FARTHEST, _FARTHEST), weights > 0
    context = None
    if some.context is not None:
        center, spread = state.context_standardization
        context = ((some.context - center) / spread)[kept]
    return Sample(y[kept], on_line, context, weights[kept])
