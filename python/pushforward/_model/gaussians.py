"""The distribution functions of a mixture of Gaussians: each feature's, given the features before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pushforward._model import special
from pushforward._typing import Doubles, Floats

_MOST_LOG, _MOST_SHEAR, _FAR = 60.0, 1e30, 1e60
"""The core holds `log_diagonals`, shears and distances within these, so that every product is finite."""


class Gaussians:
    """A mixture of Gaussians by factors of their precisions, as the core's base `Mixture` has it.

    Component k is N(mean_k, (A_k^T A_k)^-1) with A_k lower triangular. So row i of A_k (z - mean_k) depends on the
    features up to i alone: given those before, feature i of the component is normal, with the deviation 1 / A_k,ii.

    Parameters
    ----------
    parameters : mapping of str to array
        The flow's, by name; those of the base begin with ``base.``.
    """

    def __init__(self, parameters: Mapping[str, Floats]) -> None:
        logits = parameters["base.log_weights"].astype(np.float64)
        with np.errstate(over="ignore"):  # a weight that is 0
            logits = logits - logits.max()
        self.log_weights: Doubles = logits - np.log(np.exp(logits).sum())
        self.means: Doubles = np.clip(parameters["base.means"].astype(np.float64), -_FAR, _FAR)
        components, dim = self.means.shape
        self.log_diagonals: Doubles = np.clip(
            parameters["base.log_diagonals"].astype(np.float64), -_MOST_LOG, _MOST_LOG
        )
        self.unit: Doubles = np.tile(np.eye(dim), (components, 1, 1))
        """A_k with its rows divided by its diagonal, (components, dim, dim)."""
        shears = parameters.get("base.shears")
        if shears is not None:
            below = np.tril_indices(dim, -1)
            self.unit[:, below[0], below[1]] = np.clip(shears.astype(np.float64), -_MOST_SHEAR, _MOST_SHEAR)

    def cdf(self, z: Doubles) -> Doubles:
        """Return the distribution function of each feature given those before it, (n, dim)."""
        u = np.empty_like(z)
        log_weights = np.broadcast_to(self.log_weights, (len(z), len(self.log_weights)))
        for i in range(z.shape[1]):
            y = (z[:, i, None] - self._centers(z, i)) * np.exp(self.log_diagonals[:, i])
            u[:, i] = (_shares(log_weights) * special.normal_cdf(y)).sum(axis=1)
            log_weights = log_weights + self.log_diagonals[:, i] - 0.5 * y**2
        return np.clip(u, 0.0, 1.0)

    def mass(self, low: float, high: float) -> float:
        """Return the mass between two numbers, low first, of a mixture of one feature."""
        below = (np.array([low, high])[:, None] - self.means[:, 0]) * np.exp(self.log_diagonals[:, 0])
        # Above a component's mean, the upper tail is where its probabilities keep their digits.
        ends = special.normal_cdf(np.where(below[0] > 0, -below[::-1], below))
        return float(np.exp(self.log_weights) @ (ends[1] - ends[0]))

    def from_normal(self, t: Doubles) -> Doubles:
        """Map a standard normal to the mixture, with the same distribution functions. Needs SciPy."""
        z = np.empty_like(t)
        log_weights = np.broadcast_to(self.log_weights, (len(t), len(self.log_weights)))
        for i in range(t.shape[1]):
            centers, scales = self._centers(z, i), np.exp(-self.log_diagonals[:, i])
            z[:, i] = _quantile(_shares(log_weights), centers, scales, t[:, i])
            y = (z[:, i, None] - centers) / scales
            log_weights = log_weights + self.log_diagonals[:, i] - 0.5 * y**2
        return z

    def _centers(self, z: Doubles, i: int) -> Doubles:
        """Return the mean of feature i in each component given the features before it, (n, components)."""
        centers = np.tile(self.means[:, i], (len(z), 1))
        for k, center in enumerate(self.means):
            centers[:, k] -= (z[:, :i] - center[:i]) @ self.unit[k, i, :i]
        return centers


def _shares(log_weights: Doubles) -> Doubles:
    """Return the weights (n, components) of logarithms that need not be normalised."""
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    shares: Doubles = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _quantile(weights: Doubles, centers: Doubles, scales: Doubles, t: Doubles) -> Doubles:
    """Return where mixtures of normals, one a row, have the distribution function of a standard normal at `t`, (n,)."""
    from scipy.special import log_ndtr

    ends, t = np.where(np.isinf(t), t, 0.0), np.where(np.isinf(t), 0.0, t)
    # The lower tail is where probabilities keep their digits.
    side = np.where(t > 0, -1.0, 1.0)
    centers, target = centers * side[:, None], log_ndtr(t * side)
    images = centers + scales * (t * side)[:, None]
    low, high = images.min(axis=1), images.max(axis=1)
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    z = 0.5 * (low + high)
    # Newton's steps on the logarithm of the distribution function; one that leaves the bracket is a bisection instead.
    for _ in range(200):
        y = (z[:, None] - centers) / scales
        value = np.logaddexp.reduce(log_weights + log_ndtr(y), axis=1)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            slope = (weights * np.exp(-0.5 * y**2 - value[:, None]) / scales).sum(axis=1) / np.sqrt(2 * np.pi)
            step = (target - value) / slope
        low, high = np.where(value <= target, z, low), np.where(value >= target, z, high)
        inside = (z + step > low) & (z + step < high)
        moved = np.where(inside, z + step, 0.5 * (low + high))
        done = np.abs(moved - z) <= 1e-15 * np.abs(moved)
        z = moved
        if done.all():
            break
    return np.where(ends == 0, z * side, ends)
