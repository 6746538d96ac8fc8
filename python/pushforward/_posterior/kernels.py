"""A density of Student kernels around rows: proposals a step beyond what has been seen."""

from __future__ import annotations

import math

import numpy as np

from pushforward import _weights
from pushforward._typing import Doubles, Seed

_MOST_CENTERS = 200
_DF = 5.0
# Rows whose distances to all centers are in memory at a time.
_BLOCK = 8192


class Kernels:
    """An equal mixture of Student t densities.

    Parameters
    ----------
    centers : (k, dim) array
        Where they are.
    factor : (dim, dim) array
        The lower Cholesky factor of the scale matrix that all have.
    """

    def __init__(self, centers: Doubles, factor: Doubles) -> None:
        dim = centers.shape[1]
        self.centers, self.factor = centers, factor
        self._inverse: Doubles = np.linalg.inv(factor).astype(np.float64, copy=False)
        self._log_norm = (
            math.lgamma(0.5 * (_DF + dim))
            - math.lgamma(0.5 * _DF)
            - 0.5 * dim * math.log(_DF * math.pi)
            - float(np.log(np.diag(factor)).sum())
            - math.log(len(centers))
        )

    @classmethod
    def around(cls, t: Doubles, log_weights: Doubles, rng: np.random.Generator) -> Kernels:
        """Return kernels around rows drawn by their weights, with the shape of all rows together.

        The width is that of Silverman (1986, section 4.3) for the effective number of rows.

        Parameters
        ----------
        t : (n, dim) array
            Coordinates.
        log_weights : (n,) array
            Their log weights.
        rng : numpy.random.Generator
            Chooses the centers.
        """
        dim, effective = t.shape[1], _weights.effective_size(log_weights)
        width = (4 / ((dim + 2) * effective)) ** (1 / (dim + 4))
        mean = _weights.mean(t, log_weights)[0]
        used = np.isfinite(log_weights)
        around = (t[used] - mean) * np.sqrt(_weights.normalized(log_weights[used]))[:, None]
        covariance = around.T @ around
        # Rows that lie on a plane to rounding have a singular covariance.
        covariance[np.diag_indices(dim)] *= 1 + 1e-9
        centers: Doubles = t[_weights.resampled(log_weights, _MOST_CENTERS, rng)]
        return cls(centers, width * np.linalg.cholesky(covariance))

    def sample(self, n: int, seed: Seed = None) -> Doubles:
        """Draw coordinates, (n, dim)."""
        rng = np.random.default_rng(seed)
        around = rng.normal(size=(n, self.centers.shape[1])) @ self.factor.T
        scale = np.sqrt(_DF / rng.chisquare(_DF, size=n))
        result: Doubles = self.centers[rng.integers(len(self.centers), size=n)] + scale[:, None] * around
        return result

    def log_prob(self, t: Doubles) -> Doubles:
        """Return the log density of coordinates, (n,)."""
        dim = t.shape[1]
        centers = self.centers @ self._inverse.T
        result: Doubles = np.full(len(t), self._log_norm)
        for first in range(0, len(t), _BLOCK):
            rows = t[first : first + _BLOCK] @ self._inverse.T
            squares = (rows**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1) - 2 * rows @ centers.T
            terms = -0.5 * (_DF + dim) * np.log1p(np.maximum(squares, 0) / _DF)
            highest = terms.max(axis=1)
            sums = np.exp(terms - highest[:, None]).sum(axis=1)
            result[first : first + _BLOCK] += highest + np.log(sums)
        return result
