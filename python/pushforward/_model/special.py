"""Distribution functions, so that the package does without SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pushforward._typing import Doubles

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_probit = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def normal_cdf(z: npt.ArrayLike) -> Doubles:
    """Return the standard normal's distribution function, at points of any shape."""
    values: Doubles = 0.5 * _erfc(-np.asarray(z, dtype=np.float64) / math.sqrt(2))
    return values


def normal_quantile(u: npt.ArrayLike) -> Doubles:
    """Return its inverse, the probit; 0 and 1 give the least and greatest finite ones."""
    values: Doubles = _probit(np.clip(u, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))
    return values


def student_t_cdf(t: npt.ArrayLike, df: float) -> Doubles:
    """Return Student's distribution function with `df` degrees of freedom, to 1e-7."""
    t = np.asarray(t, dtype=np.float64)
    if df > 1000:  # Abramowitz and Stegun 1964, 26.7.8, whose error falls with the square of df
        return normal_cdf(t * (1 - 0.25 / df) / np.hypot(1, t / math.sqrt(2 * df)))
    # 26.7.1 and 26.5.27; t**2 may overflow, and the quotient is then 0
    with np.errstate(over="ignore"):
        beyond = 0.5 * _incomplete_beta(0.5 * df, 0.5, df / (df + t**2))
    return np.where(t < 0, beyond, 1 - beyond)


def _incomplete_beta(a: float, b: float, x: Doubles) -> Doubles:
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
    values: Doubles = np.where(low, part, 1 - part)
    return values


def _away_from_0(values: Doubles, least: float) -> Doubles:
    return np.where(np.abs(values) < least, least, values)


def chi_square_cdf(square: npt.ArrayLike, df: int) -> Doubles:
    """Return the distribution function of the sum of `df` squared standard normals, `df` at least 1."""
    # With y half the square, Q(a + 1, y) = Q(a, y) + y**a exp(-y) / Gamma(a + 1) (DLMF 8.8.6), up from Q(1/2, y) =
    # erfc(sqrt(y)) or Q(1, y) = exp(-y).
    y = 0.5 * np.asarray(square, dtype=np.float64)
    upper = _erfc(np.sqrt(y)) if df % 2 else np.exp(-y)
    with np.errstate(divide="ignore"):
        log_y = np.log(y)
    for a in np.arange(0.5 if df % 2 else 1.0, 0.5 * df):
        upper = upper + np.exp(a * log_y - y - math.lgamma(a + 1))
    values: Doubles = np.clip(1 - upper, 0.0, 1.0)
    return values
