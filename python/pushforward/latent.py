"""The latent side, seen from a standard normal: what quantiles and integrals are made of.

Every base is symmetric about 0. A flow of one real feature is monotone, so that a quantile of x is the image of that
quantile of z.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pushforward.flow import Flow
from pushforward.layers import StudentT, Uniform
from pushforward.supports import Interval, Positive

Floats = npt.NDArray[np.float64]


def from_normal(flow: Flow, t: Floats) -> Floats:
    """Carry points of a standard normal, (n, dim), to points of the base, keeping their order. Needs SciPy."""
    from scipy import special

    domains = np.array(flow._core.latent_domains)
    on_line, bounded = domains == "line", domains != "line"
    z: Floats = t.copy()
    if isinstance(flow.base, StudentT):
        df = flow.base.degrees(flow.named_parameters().get("base.log_df"))
        # Of the two tails, the lower one is where probabilities keep their digits.
        lower = special.stdtrit(df, special.ndtr(-np.abs(t[:, on_line])))
        z[:, on_line] = np.copysign(lower, t[:, on_line])
    z[:, bounded] = special.erf(t[:, bounded] / np.sqrt(2)) * np.where(domains[bounded] == "circle", np.pi, 1.0)
    return z


def is_increasing(flow: Flow) -> bool:
    """Whether x of a flow of one feature grows with z, under any context."""
    context = np.zeros(flow.context) if flow.context else None
    low, high = flow.forward([[-0.5], [0.5]], context=context)[0]
    return bool(low < high)


def mass_between(flow: Flow, low: float, high: float) -> float:
    """Return the mass of a flow of one feature, without context, between two numbers; its base is normal or uniform."""
    ends = [_image(flow, x) for x in (low, high)]
    if sum(ends) > 0:  # the lower tail is where probabilities keep their digits
        ends = [-z for z in ends]
    if isinstance(flow.base, Uniform):
        below = [(1 + z) / 2 for z in ends]
    else:
        below = [math.erfc(-z / math.sqrt(2)) / 2 for z in ends]
    return abs(below[1] - below[0])


def _image(flow: Flow, x: float) -> float:
    """Return the latent image of a number, of the nearest bound for one outside the support."""
    (support,) = flow.support
    if isinstance(support, Positive):
        x = max(x, 0.0)
    elif isinstance(support, Interval):
        x = min(max(x, support.low), support.high)
    if math.isinf(x):
        return x if is_increasing(flow) else -x
    return float(flow.inverse([[x]])[0][0, 0])
