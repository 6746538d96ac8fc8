"""Mixtures of Gaussians by SciPy: the peer of the base Mixture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import linalg, special, stats


def moments(parameters: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (k,), means (k, d) and covariances (k, d, d) of the parameters of a flow's base."""
    means = parameters["base.means"].astype(np.float64)
    covariances = []
    for k in range(len(means)):
        factor = np.eye(means.shape[1])
        if "base.shears" in parameters:
            factor[np.tril_indices_from(factor, -1)] = parameters["base.shears"][k]
        inverse = linalg.inv(np.exp(parameters["base.log_diagonals"][k].astype(np.float64))[:, None] * factor)
        covariances.append(inverse @ inverse.T)
    weights = special.softmax(parameters["base.log_weights"].astype(np.float64))
    return weights, means, np.array(covariances).reshape(*means.shape, means.shape[1])


def log_density(z: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """log p (n,) of points (n, d)."""
    terms = [
        np.log(weight) + stats.multivariate_normal(mean, covariance).logpdf(z).reshape(len(z))
        for weight, mean, covariance in zip(weights, means, covariances, strict=True)
    ]
    return np.asarray(special.logsumexp(terms, axis=0))


def gradient(z: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Its derivatives by the points, (n, d)."""
    total = log_density(z, weights, means, covariances)
    result = np.zeros_like(z)
    for k in range(len(weights)):
        share = np.exp(log_density(z, weights[[k]], means[[k]], covariances[[k]]) - total)
        result -= share[:, None] * linalg.solve(covariances[k], (z - means[k]).T).T
    return result
