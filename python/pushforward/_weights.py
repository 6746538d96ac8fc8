"""Statistics of log weights: effective sample size, evidence, Pareto smoothing, resampling, weighted averages.

Weights are given as their logarithms, in nats, unnormalised. A weight of -inf is a row that counts for nothing.
"""

from __future__ import annotations

import math

import numpy as np

from pushforward._typing import Array, Doubles, Indices

GOOD_K = 0.7
"""Above this Pareto k, averages with these weights cannot be trusted (Vehtari et al. 2024, section 3.2.4)."""
GREATEST_WEIGHT = 0.01
"""Where weights are bounded, a heavy tail is harmless as long as no draw has a larger share of their sum."""
_FEWEST = 5
"""The least number of tail weights that a Pareto distribution is fitted to, as in that paper."""


def normalized(log_weights: Doubles) -> Doubles:
    """Return the weights themselves, with the sum 1; all zero if every weight is zero."""
    highest = log_weights.max(initial=-np.inf)
    if highest == -np.inf:
        return np.zeros_like(log_weights)
    weights: Doubles = np.exp(log_weights - highest)
    weights /= weights.sum()
    return weights


def effective_size(log_weights: Doubles) -> float:
    """Return Kish's effective sample size, (sum w)^2 / sum w^2; 0 if every weight is zero."""
    squares = float((normalized(log_weights) ** 2).sum())
    return 1 / squares if squares > 0 else 0.0


def log_evidence(log_weights: Doubles) -> tuple[float, float]:
    """Return the logarithm of the mean weight, and its standard error.

    With weights p(x) / q(x) of independent draws from a normalised q, the mean weight estimates the integral of p
    without bias. The error is that of the mean over the mean, which is the error of its logarithm where it is small.

    Parameters
    ----------
    log_weights : (n,) array
        Log weights of independent draws, at least one.

    Returns
    -------
    float, float
        The log evidence and its standard error; the error is infinite with one draw, or if every weight is zero.
    """
    n, highest = len(log_weights), float(log_weights.max())
    if highest == -np.inf:
        return -math.inf, math.inf
    weights = np.exp(log_weights - highest)
    mean = float(weights.mean())
    error = float(weights.std(ddof=1)) / mean / math.sqrt(n) if n > 1 else math.inf
    return highest + math.log(mean), error


def pareto_smoothed(log_weights: Doubles) -> tuple[Doubles, float]:
    """Return log weights with a smooth tail, and the tail's Pareto k.

    The largest weights are replaced by the quantiles of a generalised Pareto distribution that is fitted to them, at
    most the largest weight (Vehtari, Simpson, Gelman, Yao, Gabry 2024, algorithm 1). Their order stays.

    Parameters
    ----------
    log_weights : (n,) array
        Log weights.

    Returns
    -------
    (n,) array, float
        The log weights on the same scale, and k: above 0.7 averages are unreliable; -inf if the largest weights are
        all equal; NaN if there are too few weights for an estimate (about 25). Without an estimate no weight changes.
    """
    smooth = log_weights.copy()
    n = len(log_weights)
    count = min(math.ceil(min(0.2 * n, 3 * math.sqrt(n))), int(np.isfinite(log_weights).sum()) - 1)
    if count < _FEWEST:
        return smooth, math.nan
    order = np.argsort(log_weights, kind="stable")
    highest, cutoff = float(log_weights[order[-1]]), float(log_weights[order[-count - 1]])
    if highest == cutoff:
        return smooth, -math.inf
    base = math.exp(cutoff - highest)
    excess = np.exp(log_weights[order[-count:]] - highest) - base
    tail = order[-count:][excess > 0]  # weights equal to the cutoff are no part of the tail
    excess = excess[excess > 0]
    if len(tail) < _FEWEST:
        return smooth, math.nan
    k, sigma = _fitted_pareto(excess)
    probabilities = (np.arange(len(tail)) + 0.5) / len(tail)
    smooth[tail] = highest + np.minimum(np.log(base + _pareto_quantiles(probabilities, k, sigma)), 0)
    return smooth, k


def pareto_k(log_weights: Doubles) -> float:
    """Return the Pareto k of the largest weights; see `pareto_smoothed`."""
    return pareto_smoothed(log_weights)[1]


def _fitted_pareto(excess: Doubles) -> tuple[float, float]:
    """Return k and sigma of the generalised Pareto distribution of sorted positive values.

    The posterior mean of Zhang and Stephens (2009), with Vehtari et al.'s weak prior on k: ten values at 0.5.
    """
    n = len(excess)
    points = 30 + int(math.sqrt(n))
    quartile, largest = excess[int(n / 4 + 0.5) - 1], excess[-1]
    theta = 1 / largest + (1 - np.sqrt(points / (np.arange(points) + 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * excess).mean(axis=1)
    log_likelihood = n * (np.log(-theta / k) - k - 1)
    mean_theta = float(normalized(log_likelihood) @ theta)
    shape = float(np.log1p(-mean_theta * excess).mean())
    return (n * shape + 10 * 0.5) / (n + 10), -shape / mean_theta


def _pareto_quantiles(probabilities: Doubles, k: float, sigma: float) -> Doubles:
    """Return quantiles of the generalised Pareto distribution with location 0."""
    if abs(k) < 1e-12:  # the limit, an exponential distribution
        return -sigma * np.log1p(-probabilities)
    return sigma * np.expm1(-k * np.log1p(-probabilities)) / k


def resampled(log_weights: Doubles, n: int, rng: np.random.Generator) -> Indices:
    """Return the numbers of `n` rows, drawn by their weights and in random order.

    Drawing is systematic: each row comes its expected number of times, rounded up or down.
    """
    edges = np.cumsum(normalized(log_weights))
    points = (np.arange(n) + rng.uniform()) / n * edges[-1]
    rows = np.searchsorted(edges, points, side="right")
    return rng.permutation(np.minimum(rows, len(edges) - 1)).astype(np.int64)


def mean(values: Array, log_weights: Doubles) -> tuple[Doubles, Doubles]:
    """Return weighted means over the first axis, and their standard errors.

    The error is that of a ratio of means by the delta method: sqrt(sum W^2 (v - mean)^2), W with the sum 1.

    Parameters
    ----------
    values : (n, ...) array
        What is averaged.
    log_weights : (n,) array
        Log weights of independent draws.

    Returns
    -------
    array, array
        The means and their errors, of the shape of one row of `values`.
    """
    weights = normalized(log_weights)
    used = weights > 0  # what has no weight may be anything
    weights, kept = weights[used], np.asarray(values, np.float64)[used]
    centre: Doubles = np.tensordot(weights, kept, axes=1)
    return centre, np.sqrt(np.tensordot(weights**2, (kept - centre) ** 2, axes=1))


def quantiles(values: Array, log_weights: Doubles, q: Doubles) -> tuple[Doubles, Doubles]:
    """Return weighted quantiles of one column, and their standard errors.

    The error is half the distance between the quantiles one standard error of the distribution function to either side
    (Woodruff 1952).

    Parameters
    ----------
    values : (n,) array
        The column.
    log_weights : (n,) array
        Log weights of independent draws, not all -inf.
    q : (m,) array
        Probabilities in [0, 1].

    Returns
    -------
    (m,) array, (m,) array
        The quantiles and their errors.
    """
    weights = normalized(log_weights)
    order = np.argsort(values, kind="stable")
    order = order[weights[order] > 0]
    ordered, weights = np.asarray(values, np.float64)[order], weights[order]
    # Each row stands at the middle of its step of the distribution function.
    place = np.cumsum(weights) - weights / 2
    found = np.interp(q, place, ordered)
    below = ordered <= found[:, None]
    spread = np.sqrt(((weights * (below - q[:, None])) ** 2).sum(axis=1))
    return found, (np.interp(q + spread, place, ordered) - np.interp(q - spread, place, ordered)) / 2
