"""The flow that proposes new rows: small, and fitted to rows and the values there from the start each time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from pushforward import _weights
from pushforward._fit.options import Options
from pushforward._fit.values import fit_to_values
from pushforward._model.bases import Mixture
from pushforward._model.presets import neural_spline
from pushforward._model.state import state_of
from pushforward._model.supports import Support
from pushforward._typing import Doubles, Floats, Seed
from pushforward.flow import Flow

# Measured on benchmarks/posterior_problems.py: first to the places of the rows, then to the values there.
_EPOCHS_OF_ROWS = 20
_EPOCHS_OF_VALUES = 30
# A flow ends where its rows end. The latent points of a wider one are so much further out.
_WIDTH = 1.25
_DEPTH = 6
_HIDDEN = 32
# Effective rows for each feature of each component of the base. With fewer, components take single rows for modes.
_ROWS_PER_FEATURE = 10
_MOST_COMPONENTS = 16
# A row weighs at most as much as so many effective rows: with more, a flow would put a spike around it.
_MOST_WEIGHT = 5.0
# The lightest rows, which make up this share of the weight together, are left out: they take time and change nothing.
_LEFT_OUT = 1e-3


def fit(
    t: Doubles,
    log_weights: Doubles,
    log_mixture: Doubles,
    support: Sequence[Support],
    seed: int,
    num_threads: int | None,
) -> Flow | None:
    """Return a flow fitted to rows and the values of a density there, or None if they are too few for one.

    Parameters
    ----------
    t : (n, dim) array
        Coordinates.
    log_weights : (n,) array
        The logarithm of the density, unnormalised, over that of the rows.
    log_mixture : (n,) array
        The log density of what the rows were drawn from.
    support : sequence of Support
        What values each coordinate may take.
    seed : int
        Fixes the result.
    num_threads : int, optional
        Threads of the fit.
    """
    weights = _weights.normalized(log_weights)
    effective = 1 / np.sum(weights**2)
    weights = np.minimum(weights, _MOST_WEIGHT / effective)
    order = np.argsort(weights, kind="stable")
    kept = np.sort(order[np.cumsum(weights[order]) > _LEFT_OUT * weights.sum()])
    dim = t.shape[1]
    if effective < _ROWS_PER_FEATURE * (dim + 1):
        return None
    on_line = sum(not feature.wraps for feature in support)
    components = int(np.clip(effective / (_ROWS_PER_FEATURE * max(on_line, 1)), 1, _MOST_COMPONENTS))
    flow = Flow(
        dim,
        layers=neural_spline(dim, depth=_DEPTH, hidden=_HIDDEN),
        base=Mixture(components) if on_line else None,
        support=support,
        seed=seed,
        num_threads=num_threads,
    )
    with warnings.catch_warnings():
        # What `fit` says of a user's table, such as that its rows are few, is no news about rows drawn here.
        warnings.simplefilter("ignore", RuntimeWarning)
        flow.fit(t[kept], weights=weights[kept], epochs=_EPOCHS_OF_ROWS, seed=seed, progress=False)
    # The rows kept are the mixture's where the density is not tiny: so many more of them come there.
    log_mixture = log_mixture[kept] + math.log(len(t) / len(kept))
    options = Options(epochs=_EPOCHS_OF_VALUES, seed=seed, progress=False)
    fit_to_values(state_of(flow), t[kept], log_weights[kept], log_mixture, options).run()
    return flow


class Widened:
    """A flow whose latent points are further out, along every feature.

    Parameters
    ----------
    flow : Flow
        The flow.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def sample(self, n: int, seed: Seed = None) -> Floats:
        """Draw coordinates, (n, dim)."""
        return self.flow.sample(n, seed=seed, temperature=_WIDTH)

    def log_prob(self, t: Doubles) -> Doubles:
        """Return the log density of coordinates, (n,)."""
        density: Doubles = self.flow.log_prob(t, temperature=_WIDTH).astype(np.float64, copy=False)
        return density
