"""Latent space, seen from a standard normal or through distribution functions.

Quantiles, integrals and the checks of a flow's calibration are made of these. A flow of one real feature is monotone,
so a quantile of x is the image of a quantile of z.
"""

from __future__ import annotations

import math

import numpy as np

from pushforward._model import description, special
from pushforward._model.bases import uniform_cdf, uniform_from_normal
from pushforward._model.state import State
from pushforward._model.supports import Circle, Interval, Real
from pushforward._typing import Array, Doubles

_HALF = {"box": 1.0, "circle": math.pi}
"""Half the length of the domains that are not the line."""

_SUPPORTS = {"line": Real(), "box": Interval(-1, 1), "circle": Circle(-math.pi, math.pi)}
"""The supports whose features on the latent side are themselves."""


def base_alone(state: State) -> State:
    """Return a flow without layers whose rows are the latent points of this one, and whose parameters its base's."""
    supports = tuple(_SUPPORTS[domain] for domain in state.core.latent_domains)
    rng = np.random.default_rng(0)  # nothing is drawn
    result = State(description.describe(state.dim, 0, None, state.dtype.name, state.base, supports, [], rng))
    parameters = state.named_parameters()
    for name, values in result.named_parameters().items():
        values[...] = parameters[name]
    result.threads = state.threads
    return result


def from_normal(state: State, t: Doubles) -> Doubles:
    """Map points of a standard normal, (n, dim), to those of the base with the same distribution functions.

    Needs SciPy.
    """
    domains = np.array(state.core.latent_domains)
    on_line = domains == "line"
    z = np.empty_like(t)
    z[:, on_line] = state.base.from_normal(t[:, on_line], state.named_parameters())
    for i in np.flatnonzero(~on_line):
        z[:, i] = uniform_from_normal(t[:, i], _HALF[domains[i]])
    return z


def probability_integral(state: State, x: Array, context: Array | None) -> tuple[Doubles, Doubles]:
    """Return rows' probability integral transforms in latent space: uniform, if the flow is the rows' density.

    Parameters
    ----------
    state : State
        The flow.
    x : (n, dim) array
        Rows.
    context : (n, context) or (context,) array or None
        Their conditions.

    Returns
    -------
    (n, dim) array, (n,) array
        The distribution function of each latent feature, given those before it, and that of the radius: of the sum of
        the squared features, each mapped to a standard normal.
    """
    z = state.inverse(x, context)[0].astype(np.float64)
    domains = np.array(state.core.latent_domains)
    on_line = domains == "line"
    u, scores = np.empty_like(z), np.empty_like(z)
    if on_line.any():
        u[:, on_line] = state.base.cdf(z[:, on_line], state.named_parameters())
        scores[:, on_line] = state.base.normal_scores(z[:, on_line], u[:, on_line])
    for i in np.flatnonzero(~on_line):
        u[:, i] = uniform_cdf(z[:, i], _HALF[domains[i]])
        scores[:, i] = special.normal_quantile(u[:, i])
    return u, special.chi_square_cdf((scores**2).sum(axis=1), state.dim)


def is_increasing(state: State) -> bool:
    """Whether x of a flow of one feature grows with z, under any context."""
    context = np.zeros(state.context) if state.context else None
    low, high = state.forward(np.array([[-0.5], [0.5]]), context)[0]
    return bool(low < high)


def mass_between(state: State, low: float, high: float) -> float:
    """Return the mass between two numbers of a flow of one feature, without context, whose base has an exact `cdf`."""
    least, greatest = sorted(_image(state, x) for x in (low, high))
    return state.base.mass(least, greatest, state.named_parameters())


def _image(state: State, x: float) -> float:
    """Return the latent image of a number, or that of the nearest end if it is outside the support."""
    (support,) = state.support
    least, greatest = support.ends
    if state.core.domains[0] == "line" and not least < x < greatest:
        # All mass is between the bounds. A value on one of them stands for a cell; here it is the bound that is meant.
        return math.inf if (x >= greatest) == is_increasing(state) else -math.inf
    x = min(max(x, least), greatest)
    return float(state.inverse(np.array([[x]]), None)[0][0, 0])
