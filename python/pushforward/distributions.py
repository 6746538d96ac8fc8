"""Distribution functions for diagnostics: a fit needs none of them, and so the package does without SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_probit = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def normal_cdf(z: npt.ArrayLike) -> Floats:
    """Return the standard normal's distribution function, at points of any shape."""
    values: Floats = 0.5 * _erfc(-np.asarray(z, dtype=np.float64) / math.sqrt(2))
    return values


def normal_quantile(u: npt.ArrayLike) -> Floats:
    """Return its inverse, the probit; 0 and 1 give the least and greatest finite ones."""
    values: Floats = _probit(np.clip(u, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))
    return values


def student_t_cdf(t: npt.ArrayLike, df: float) -> Floats:
    """Return Student's distribution function with `df` degrees of freedom, to 1e-7."""
    t = np.asarray(t, dtype=np.float64)
    if df > 1000:  # Abramowitz and Stegun 1964, 26.7.8, whose error falls with the square of df
        return normal_cdf(t * (1 - 0.25 / df) / np.hypot(1, t / math.sqrt(2 * df)))
    # 26.7.1 and 26.5.27; t**2 may overflow, and the quotient is then 0
    with np.errstate(over="ignore"):
        beyond = 0.5 * _incomplete_beta(0.5 * df, 0.5, df / (df + t**2))
    return np.where(t < 0, beyond, 1 - beyond)


def _incomplete_beta(a: float, b: float, x: Floats) -> Floats:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    # It converges fast below the mean of the distribution, and I_x(a, b) = 1 - I_{1-x}(b, a) leads there.
    low = x < (a + 1) / (a + b + 2)
    p, q = np.where(low, a, b), np.where(low, b, a)
    y = np.where(low, x, 1 - x)
    tiny = 1e-300
    # Lentz's algorithm, as modified by Thompson and Barnett 1986
    c, d = np.ones_like(y), 1 / _away_from_0(1 - (p + q) * y / (p + 1), tiny)
    fraction = d.copy()
    for m in range(1, 300):
        for step in (
            m * (q - m) * y / ((p + 2 * m - 1) * (p + 2 * m)),
            -(p + m) * (p + q + m) * y / ((p + 2 * m) * (p + 2 * m + 1)),
        ):
            d = 1 / _away_from_0(1 + step * d, tiny)
            c = _away_from_0(1 + step / c, tiny)
            fraction *= c * d
        if (np.abs(c * d - 1) < 1e-13).all():
            break
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    with np.errstate(divide="ignore"):
        part = np.exp(p * np.log(y) + q * np.log1p(-y) - log_beta) * fraction / p
    values: Floats = np.where(low, part, 1 - part)
    return values


def _away_from_0(values: Floats, least: float) -> Floats:
    return np.where(np.abs(values) < least, least, values)


def chi_square_cdf(square: npt.ArrayLike, df: int) -> Floats:
    """Return the distribution function of the sum of `df` squared standard normals, `df` at least 1."""
    # With y half the square, Q(a + 1, y) = Q(a, y) + y**a exp(-y) / Gamma(a + 1) (DLMF 8.8.6), up from Q(1/2, y) =
    # erfc(sqrt(y)) or Q(1, y) = exp(-y).
    y = 0.5 * np.asarray(square, dtype=np.float64)
    upper = _erfc(np.sqrt(y)) if df % 2 else np.exp(-y)
    with np.errstate(divide="ignore"):
        log_y = np.log(y)
    for a in np.arange(0.5 if df % 2 else 1.0, 0.5 * df):
        upper = upper + np.exp(a * log_y - y - math.lgamma(a + 1))
    values: Floats = np.clip(1 - upper, 0.0, 1.0)
    return values


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


def uniformity(u: Floats, weights: Floats | None = None) -> Uniformity:
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
    root = math.sqrt(effective_number(w))
    p_value = min(1.0, max(0.0, kolmogorov_sf((root + 0.12 + 0.11 / root) * distance)))
    return Uniformity(distance, p_value)


def effective_number(weights: Floats) -> float:
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
