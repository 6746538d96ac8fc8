"""Answers to a question about unknown columns: exact, on a grid, or by weighted draws. All have the same calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from pushforward import _weights
from pushforward._model.state import State, sample_key
from pushforward._model.supports import Support
from pushforward._questions import chains, triangular
from pushforward._questions.grid import TOLERANCE, Gridded
from pushforward._questions.joint import Joint
from pushforward._typing import Array, Doubles, Indices


class Answer(ABC):
    """What is known about the unknown columns of each row.

    Attributes
    ----------
    method : str
        How it was found.
    log_marginal, error : (n,) array
        The log density of the known columns, and its error.
    effective, r_hat : (n,) array
        Effective draws, and R-hat of chains; infinite, or NaN, where there are none.
    has_converged : (n,) array of bool
        Whether the answer of each row can be relied on.
    """

    method: str
    log_marginal: Doubles
    error: Doubles
    effective: Doubles
    r_hat: Doubles
    has_converged: Array

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many values of the unknown columns for each row, (n, count, d)."""

    @abstractmethod
    def mean(self) -> tuple[Doubles, Doubles]:
        """Return means (n, d), and their errors."""

    @abstractmethod
    def quantile(self, q: Doubles) -> tuple[Doubles, Doubles]:
        """Return quantiles (len(q), n, d), and their errors."""


class OnGrid(Answer):
    """An answer on a grid, for one unknown column."""

    method = "a grid"

    def __init__(self, joint: Joint) -> None:
        self._grid = Gridded(joint)
        self._support = [joint.family.state.support[c] for c in joint.unknown]
        self.log_marginal, self.error = self._grid.log_marginal, self._grid.error
        n = len(joint)
        self.effective, self.r_hat = np.full(n, np.inf), np.full(n, np.nan)
        self.has_converged = self.error <= TOLERANCE

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw by the inverse of the distribution function."""
        return self._grid.sample(count, rng)

    def mean(self) -> tuple[Doubles, Doubles]:
        """Return means by the grid; the error is the share of the mass times the deviation."""
        values, masses = self._grid.nodes()
        mean, deviation = moments(values[:, :, None], masses, self._support)
        return mean, self.error[:, None] * deviation

    def quantile(self, q: Doubles) -> tuple[Doubles, Doubles]:
        """Return quantiles by the grid; the error is their change over the error of the probability."""
        n = len(self.error)
        ends = [self._grid.quantile(np.clip(q + sign * self.error[:, None], 0.0, 1.0)) for sign in (-1, 1)]
        found = self._grid.quantile(np.tile(q, (n, 1)))
        return found.T[:, :, None], (0.5 * np.abs(ends[1] - ends[0])).T[:, :, None]


class _ByDraws(Answer):
    """An answer by weighted draws, `points` (n, count, d) with `log_weights` (n, count)."""

    points: Doubles
    log_weights: Doubles
    support: Sequence[Support]

    def mean(self) -> tuple[Doubles, Doubles]:
        """Return weighted means, and their standard errors."""
        mean, deviation = moments(self.points, chains.normalized(self.log_weights), self.support)
        return mean, deviation / np.sqrt(np.maximum(self.effective, 1.0))[:, None]

    def quantile(self, q: Doubles) -> tuple[Doubles, Doubles]:
        """Return weighted quantiles, and their standard errors."""
        n, _, dim = self.points.shape
        values, errors = np.empty((len(q), n, dim)), np.empty((len(q), n, dim))
        for i, (points, weights) in enumerate(zip(self.points, self.log_weights, strict=True)):
            for j in range(dim):
                values[:, i, j], errors[:, i, j] = _weights.quantiles(points[:, j], weights, q)
            errors[:, i] *= np.sqrt(max(1.0, _weights.effective_size(weights) / max(self.effective[i], 1.0)))
        return values, errors


class ByChains(_ByDraws):
    """An answer by importance sampling and chains."""

    method = "importance sampling"

    def __init__(self, joint: Joint, count: int, steps: int, rng: np.random.Generator) -> None:
        found = chains.solve(joint, count, steps, rng)
        self.points, self.log_weights = found.points, found.log_weights
        self.support = [joint.family.state.support[c] for c in joint.unknown]
        self.log_marginal, self.error = found.log_marginal, found.error
        self.effective, self.r_hat, self.has_converged = found.effective, found.r_hat, found.has_converged
        if not np.isnan(self.r_hat).all():
            self.method = "importance sampling and chains"

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw among the weighted draws."""
        chosen = chains.picked(self.log_weights, count, rng)
        result: Doubles = np.take_along_axis(self.points, chosen[:, :, None], axis=1)
        return result


class Exact(_ByDraws):
    """An answer by the chain rule, of a flow that is triangular with the known columns first."""

    method = "the chain rule"

    def __init__(self, joint: Joint, count: int, rng: np.random.Generator) -> None:
        state, order = joint.family.state, triangular.order_of(joint.family.state)
        assert order is not None
        self._joint, self._order = joint, order
        first = order[: len(joint.known)]
        values = np.ascontiguousarray(joint.values[:, np.searchsorted(joint.known, first)])
        self._latent, self.log_marginal = triangular.leading(state, len(first)).inverse_and_log_prob(
            values, joint.context
        )
        self.support = [state.support[c] for c in joint.unknown]
        n = len(joint)
        self.error, self.r_hat = np.zeros(n), np.full(n, np.nan)
        self.has_converged = np.ones(n, dtype=bool)
        self.points = self.sample(count, rng)
        self.log_weights, self.effective = np.zeros((n, count)), np.full(n, float(count))

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw the latent features of the unknown columns anew."""
        joint, state, k = self._joint, self._joint.family.state, self._latent.shape[1]
        z = np.asarray(state.sample_latent(sample_key(rng), len(joint) * count), dtype=np.float64)
        z[:, :k] = np.repeat(self._latent, count, axis=0)
        context = None if joint.context is None else np.repeat(joint.context, count, axis=0)
        x = state.forward(z, context)[0].reshape(len(joint), count, state.dim)
        return np.asarray(x[:, :, joint.unknown], dtype=np.float64)


def answer(joint: Joint, count: int, steps: int, rng: np.random.Generator) -> Answer:
    """Answer in the way that is closest to exact."""
    if is_leading(joint.family.state, joint.known):
        return Exact(joint, count, rng)
    return OnGrid(joint) if len(joint.unknown) == 1 else ByChains(joint, count, steps, rng)


def is_leading(state: State, columns: Indices) -> bool:
    """Whether columns are the first ones of a flow that is triangular."""
    order = triangular.order_of(state)
    return order is not None and set(order[: len(columns)].tolist()) == set(columns.tolist())


def moments(points: Doubles, weights: Doubles, support: Sequence[Support]) -> tuple[Doubles, Doubles]:
    """Return weighted means and deviations (n, d) of points (n, count, d); on a circle, of directions."""
    mean = np.einsum("rc,rcd->rd", weights, points)
    deviation = np.sqrt(np.maximum(np.einsum("rc,rcd->rd", weights, (points - mean[:, None]) ** 2), 0.0))
    for i, entry in enumerate(support):
        if entry.wraps:
            low, high = entry.ends
            turn = (high - low) / (2 * np.pi)
            angle = (points[:, :, i] - low) / turn
            sine, cosine = (weights * np.sin(angle)).sum(axis=1), (weights * np.cos(angle)).sum(axis=1)
            mean[:, i] = low + turn * (np.arctan2(sine, cosine) % (2 * np.pi))
            length = np.clip(np.hypot(sine, cosine), 1e-300, 1.0)
            deviation[:, i] = turn * np.sqrt(-2 * np.log(length))
    return mean, deviation
