"""Tests of uniformity, and effective numbers of weighted rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pushforward._typing import Doubles


def kolmogorov_sf(value: float) -> float:
    """Return how often sqrt(n) times the Kolmogorov-Smirnov distance of n points exceeds `value`, for large n."""
    if value < 0.04:  # there 1 to the last digit, and the series below would divide by 0
        return 1.0
    k = np.arange(1, 101)
    if value < 1:  # the second series, which converges where the first cancels (Feller 1948)
        terms = np.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * value**2))
        return float(1 - math.sqrt(2 * math.pi) / value * terms.sum())
    return float(2 * ((-1.0) ** (k - 1) * np.exp(-2 * (k * value) ** 2)).sum())


class Uniformity(NamedTuple):
    """How far points are from uniform: a test of Kolmogorov and Smirnov."""

    distance: float
    """The largest distance of the distribution functions, in [0, 1]."""
    p_value: float
    """How often as many uniform points are as far."""


def uniformity(u: Doubles, weights: Doubles | None = None) -> Uniformity:
    """Compare points with the uniform distribution on [0, 1], by the test of Kolmogorov and Smirnov.

    Parameters
    ----------
    u : (n,) array
        Points, at least one.
    weights : (n,) array, optional
        Non-negative weights; n is then (sum w)^2 / sum w^2.

    Returns
    -------
    Uniformity
        The distance, and its p-value (Stephens 1970: to 0.03 for a few points, closer where it is small).
    """
    order = np.argsort(u, kind="stable")
    w = np.ones(len(u)) if weights is None else weights[order]
    after = np.cumsum(w) / w.sum()
    before = np.concatenate([[0.0], after[:-1]])
    distance = float(max((after - u[order]).max(), (u[order] - before).max()))
    return Uniformity(distance, _p_value(effective_number(w), distance))


def _p_value(n: float, distance: float) -> float:
    root = math.sqrt(n)
    return min(1.0, max(0.0, kolmogorov_sf((root + 0.12 + 0.11 / root) * distance)))


def uniform_band(n: float, level: float) -> float:
    """Return the distance in [0, 1] that the distribution functions of `n` uniform points exceed with 1 - `level`.

    It is that of `uniformity`: a distribution function that leaves the band has a smaller p-value.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _p_value(n, middle) > 1 - level else (low, middle)
    return high


def effective_number(weights: Doubles) -> float:
    """Return how many rows of equal weight tell as much: (sum w)^2 / sum w^2 (Kish 1965)."""
    scaled = weights / weights.max()
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def binomial_band(n: float, share: float, level: float) -> tuple[float, float]:
    """Return counts that a binomial count of `n` trials keeps between, ends included, with probability `level`.

    At most (1 - level) / 2 lies on either side. `n` may be an effective number, and is rounded.
    """
    n = max(round(n), 1)
    # More than 12 deviations from the mean there is nothing that a level could ask for.
    reach = 12 * math.sqrt(n * share * (1 - share)) + 12
    k = np.arange(max(0, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach)) + 1)
    ratios = np.log(n - k[:-1]) - np.log(k[1:]) + math.log(share) - math.log1p(-share)
    first = int(k[0])
    log_first = (
        math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
        + first * math.log(share) + (n - first) * math.log1p(-share)
    )  # fmt: skip
    cumulative = np.exp(log_first + np.concatenate([[0.0], np.cumsum(ratios)])).cumsum()
    tail = 0.5 * (1 - level)
    low, high = np.searchsorted(cumulative, [tail, 1 - tail])
    return float(k[low]), float(k[min(high, len(k) - 1)])
