"""Proposals for unknown columns: mixtures of Student t densities, whose conditionals are known in closed form."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from pushforward._dispatch import core
from pushforward._typing import Doubles, Indices

_COMPONENTS = 24
_ITERATIONS = 50
# Degrees of freedom: tails wider than those of most flows, with a variance.
_DF = 6.0
# The weight of a broad component around all draws, whatever is known, and its deviations over theirs.
_BROAD, _WIDTH = 0.05, 1.5
# The part of a proposal for each row that stays what it was before rows had any draws.
_KEPT = 0.3
# Deviations of a row's own proposal over those of its draws.
_INFLATION = 1.1


def _log_t(squares: Doubles, dim: int) -> Doubles:
    """Return the log density of a t of `_DF` degrees of freedom with the scale 1, at squared distances."""
    constant = math.lgamma((_DF + dim) / 2) - math.lgamma(_DF / 2) - 0.5 * dim * math.log(_DF * math.pi)
    result: Doubles = constant - 0.5 * (_DF + dim) * np.log1p(squares / _DF)
    return result


def _t(rng: np.random.Generator, shape: tuple[int, ...]) -> Doubles:
    """Draw from that density, (..., dim)."""
    result: Doubles = rng.normal(size=shape) * np.sqrt(_DF / rng.chisquare(_DF, size=shape[:-1]))[..., None]
    return result


class Proposal(Protocol):
    """A density for each of some rows."""

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many points for each row, (n, count, d)."""

    def log_prob(self, y: Doubles) -> Doubles:
        """Return the log density of points (n, count, d), (n, count)."""


class Mixture:
    """A mixture of Gaussians fitted to coordinates by expectation-maximisation.

    Parameters
    ----------
    y : (n, d) array
        The coordinates.
    threads : int
        Threads to use.
    """

    def __init__(self, y: Doubles, threads: int) -> None:
        dim = y.shape[1]
        # A far draw must not take a component of its own.
        y = np.clip(y, -30.0, 30.0)
        shares, means, log_diagonals, shears, _ = core.expectation_maximization(
            np.ascontiguousarray(y),
            weights=np.ones(len(y)),
            components=min(_COMPONENTS, max(1, len(y) // (20 * dim))),
            covariance="full",
            ridge=1e-6,
            max_iterations=_ITERATIONS,
            tolerance=1e-4,
            restarts=1,
            seed=0,
            threads=threads,
        )
        factors = np.tile(np.eye(dim), (len(shares), 1, 1))
        rows, columns = np.tril_indices(dim, -1)
        factors[:, rows, columns] = shears
        factors *= np.exp(log_diagonals)[:, :, None]
        inverses = np.linalg.inv(factors)
        broad = _WIDTH**2 * np.cov(y.T).reshape(dim, dim) + 1e-6 * np.eye(dim)
        self._log_weights: Doubles = np.log(np.append(shares * (1 - _BROAD), _BROAD))
        self._means: Doubles = np.concatenate([means, y.mean(axis=0)[None]])
        self._covariances: Doubles = np.concatenate([inverses @ inverses.transpose(0, 2, 1), broad[None]])

    def given(self, known: Indices, values: Doubles, unknown: Indices) -> Conditionals:
        """Return the conditional mixtures of the unknown coordinates at rows of known ones, (n, k)."""
        n, count, last = len(values), len(self._means), len(self._means) - 1
        log_weights = np.tile(self._log_weights, (n, 1))
        centers = np.tile(self._means[:, unknown], (n, 1, 1))
        scales = np.ones((n, count))
        inner = self._covariances[:, unknown[:, None], unknown]
        if len(known):  # of which the broad component, the last one, knows nothing
            own = self._covariances[:last]
            chol = np.linalg.cholesky(own[:, known[:, None], known])
            around = np.linalg.solve(chol, (values - self._means[:last, None, known]).transpose(0, 2, 1))
            gain = np.linalg.solve(chol, own[:, known[:, None], unknown])
            squares = (around**2).sum(axis=1).T
            log_determinants = np.log(np.einsum("kii->ki", chol)).sum(axis=1)
            log_weights[:, :last] += _log_t(squares, len(known)) - log_determinants
            log_weights[:, :last] -= np.logaddexp.reduce(log_weights[:, :last], axis=1, keepdims=True)
            log_weights[:, :last] += math.log1p(-_BROAD)
            centers[:, :last] += (around.transpose(0, 2, 1) @ gain).transpose(1, 0, 2)
            # The conditional of a multivariate t (Ding 2016) is wider where what is known lies far out.
            scales[:, :last] = np.sqrt((_DF + squares) / (_DF + len(known)))
            inner[:last] -= gain.transpose(0, 2, 1) @ gain
        inner = 0.5 * (inner + inner.transpose(0, 2, 1)) + 1e-9 * np.eye(len(unknown))
        factors = np.asarray(np.linalg.cholesky(inner), dtype=np.float64)
        return Conditionals(log_weights, centers, scales, factors)


class Conditionals:
    """A mixture of t densities for each of some rows.

    Parameters
    ----------
    log_weights : (n, m) array
        Logarithms of the weights.
    centers : (n, m, d) array
        Where the components are.
    scales : (n, m) array
        What the factor of each component is multiplied with.
    factors : (m, d, d) array
        Triangular factors of the components' scale matrices.
    """

    def __init__(self, log_weights: Doubles, centers: Doubles, scales: Doubles, factors: Doubles) -> None:
        self._log_weights, self._centers, self._scales, self._factors = log_weights, centers, scales, factors
        self._inverses = np.asarray(np.linalg.inv(factors), dtype=np.float64)

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many points for each row, (n, count, d)."""
        n, _, dim = self._centers.shape
        ends = np.cumsum(np.exp(self._log_weights), axis=1)
        places = rng.uniform(size=(n, count)) * ends[:, -1:]
        chosen = (places[:, :, None] > ends[:, None, :-1]).sum(axis=2)
        t, row = _t(rng, (n, count, dim)), np.arange(n)[:, None]
        result = self._centers[row, chosen]
        for k, factor in enumerate(self._factors):
            at = chosen == k
            result[at] += (t[at] @ factor.T) * np.broadcast_to(self._scales[:, k, None], at.shape)[at][:, None]
        return np.asarray(result, dtype=np.float64)

    def log_prob(self, y: Doubles) -> Doubles:
        """Return the log density of points (n, count, d), (n, count)."""
        dim, result = y.shape[2], np.full(y.shape[:2], -np.inf)
        for k, inverse in enumerate(self._inverses):
            z = (y - self._centers[:, k, None]) @ inverse.T
            squares = (z**2).sum(axis=2) / self._scales[:, k, None] ** 2
            constant = np.log(np.diag(inverse)).sum() - dim * np.log(self._scales[:, k])
            result = np.logaddexp(result, _log_t(squares, dim) + (constant + self._log_weights[:, k])[:, None])
        return result


class Adapted:
    """A proposal for each row that is fitted to the row's own draws: one t density, beside the proposal before it.

    Parameters
    ----------
    before : Proposal
        The proposal that rows had before.
    y : (n, count, d) array
        Draws of each row.
    weights : (n, count) array
        Their weights, with the sum 1 in each row.

    Attributes
    ----------
    factors : (n, d, d) array
        Triangular factors of the covariance of each row's draws.
    """

    def __init__(self, before: Proposal, y: Doubles, weights: Doubles) -> None:
        self._before, dim = before, y.shape[2]
        self._centers: Doubles = np.einsum("rc,rcd->rd", weights, y)
        around = (y - self._centers[:, None]) * np.sqrt(weights)[:, :, None]
        covariance = _INFLATION**2 * np.einsum("rci,rcj->rij", around, around)
        diagonal = np.einsum("rii->ri", covariance)
        diagonal += 1e-6 * diagonal + 1e-12
        self.factors: Doubles = np.linalg.cholesky(covariance)
        self._inverses = np.asarray(np.linalg.inv(self.factors), dtype=np.float64)
        self._constants: Doubles = np.log(np.einsum("rii->ri", self._inverses)).sum(axis=1)
        self._dim = dim

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many points for each row, (n, count, d)."""
        kept = round(_KEPT * count)
        n = len(self._centers)
        own = self._centers[:, None] + _t(rng, (n, count - kept, self._dim)) @ self.factors.transpose(0, 2, 1)
        # In random order, so that each draw by itself is one of the mixture.
        both: Doubles = np.concatenate([self._before.sample(kept, rng), own], axis=1)
        return both[:, rng.permutation(count)]

    def log_prob(self, y: Doubles) -> Doubles:
        """Return the log density of points (n, count, d), (n, count)."""
        z = (y - self._centers[:, None]) @ self._inverses.transpose(0, 2, 1)
        own = _log_t((z**2).sum(axis=2), self._dim) + self._constants[:, None]
        result: Doubles = np.logaddexp(math.log(_KEPT) + self._before.log_prob(y), math.log1p(-_KEPT) + own)
        return result
