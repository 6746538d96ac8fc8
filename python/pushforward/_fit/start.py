"""The state in which a first fit begins: the Gaussian, or the mixture of Gaussians, of the training rows."""

from __future__ import annotations

import copy

import numpy as np

from pushforward._fit.mixture import start_base
from pushforward._fit.size import Size
from pushforward._fit.standardize import Some, initialize, some_of
from pushforward._io.rows import Rows
from pushforward._model import description, presets
from pushforward._model.bases import Base
from pushforward._model.gaussian import Sample
from pushforward._model.layer import Layer
from pushforward._model.state import State
from pushforward._typing import Doubles

# As for ActNorm: rows further out than so many deviations are left out of moments.
_FARTHEST = 30.0


def start(state: State, rows: Rows, chosen: Size, *, base: Base | None = None, whiten: bool = True) -> State:
    """Return the flow in which a first fit to these training rows begins.

    What its description leaves open is chosen. The layers that can start from data are started.

    Parameters
    ----------
    state : State
        The flow.
    rows : Rows
        The training rows.
    chosen : Size
        What suits them.
    base : Base, optional
        Another base, for a flow whose description leaves it open.
    whiten : bool
        Whether the last layers may start as the map to uncorrelated features.
    """
    if state.open is not None:
        rng = copy.deepcopy(state.open.rng)
        context = state.context if state.context_network is None else 0
        layers = presets.usual(state.dim, context, bins=chosen.bins)
        state = rebuilt(state, base or state.base, layers, rng)
    some = initialize(state, rows)
    _start_layers(state, some, whiten)
    if state.base.gaussians:
        start_base(state, *latent(state, rows))
    return state


def latent(state: State, rows: Rows) -> tuple[Doubles, Doubles]:
    """Return the features on the line of some rows on the latent side, and the rows' weights."""
    some = some_of(rows)
    weights = np.ones(len(some.x)) if some.weights is None else some.weights
    on_line = np.array([domain == "line" for domain in state.core.latent_domains])
    z = state.inverse(some.x, some.context)[0].astype(np.float64)[:, on_line]
    return z[weights > 0], weights[weights > 0]


def rebuilt(state: State, base: Base, layers: list[Layer], rng: np.random.Generator) -> State:
    """Return a flow with other layers, not initialised, and otherwise like this one."""
    network = state.context_network
    dtype, support, precision = state.dtype.name, state.support, state.conditioner_precision
    model = description.describe(
        state.dim, state.context, network, dtype, base, support, layers, rng, state.shape, precision
    )
    result = State(model)
    result.draw_parameters(rng)
    result.threads, result.left_open = state.threads, state.left_open
    result.columns, result.context_columns = state.columns, state.context_columns
    return result


def _start_layers(state: State, some: Some, whiten: bool) -> None:
    """Start the last layers that are linear: as the Gaussian of the rows, if all others start as the identity."""
    sample: Sample | None = _sample(state, some)
    parameters = state.named_parameters()
    for i, layer in reversed(list(enumerate(state.layers))):
        prefix = f"layers.{i}."
        own = {name.removeprefix(prefix): values for name, values in parameters.items() if name.startswith(prefix)}
        if sample is None or any(values.any() for values in own.values()):  # they were set by hand
            return
        if not whiten and layer.whitens:
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
    if some.context is not None and state.context_network is None:
        center, spread = state.context_standardization
        context = ((some.context - center) / spread)[kept]
    return Sample(y[kept], on_line, context, weights[kept])
