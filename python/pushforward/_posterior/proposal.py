"""The flow that proposes new rows: small, and fitted to weighted rows from the start each time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from pushforward._model.bases import Mixture
from pushforward._model.presets import neural_spline
from pushforward._model.supports import Support
from pushforward._typing import Doubles
from pushforward.flow import Flow

_DEPTH = 6
_HIDDEN = 32
# Effective rows for each feature of each component of the base. With fewer, components take single rows for modes.
_ROWS_PER_FEATURE = 10
_MOST_COMPONENTS = 16
# A row weighs at most as much as so many effective rows: with more, a flow would put a spike around it.
_MOST_WEIGHT = 5.0
# The lightest rows, which make up this share of the weight together, are left out: they take time and change nothing.
_LEFT_OUT = 1e-3


def fit(t: Doubles, weights: Doubles, support: Sequence[Support], seed: int, num_threads: int | None) -> Flow | None:
    """Return a flow fitted to weighted rows, or None if they are too few for one.

    Parameters
    ----------
    t : (n, dim) array
        Coordinates.
    weights : (n,) array
        Their weights, which sum to 1.
    support : sequence of Support
        What values each coordinate may take.
    seed : int
        Fixes the result.
    num_threads : int, optional
        Threads of the fit.
    """
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
        return flow.fit(t[kept], weights=weights[kept], seed=seed, progress=False)
