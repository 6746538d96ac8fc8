"""Evaluated rows, and their weights under all proposals that drew any of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pushforward import _weights
from pushforward._typing import Doubles, Floats, Seed


class Proposal(Protocol):
    """A normalised density that rows are drawn from: a flow, or kernels."""

    def sample(self, n: int, *, seed: Seed = None) -> Floats:
        """Draw coordinates, (n, dim)."""

    def log_prob(self, t: Doubles, /) -> Floats:
        """Return the log density of coordinates, (n,)."""


@dataclass(frozen=True)
class Draw:
    """Rows drawn together from one proposal.

    Parameters
    ----------
    t : (n, dim) array
        Their coordinates, all inside the prior.
    proposal : Proposal or None
        Where they are from; None for the prior.
    drawn : float
        How many it drew, with those outside the prior, which are not among the rows.
    """

    t: Doubles
    proposal: Proposal | None
    drawn: float


@dataclass(frozen=True)
class Fold:
    """Rows drawn from the prior and from flows that were never fitted to them.

    A flow's density is too high at the rows that it was fitted to. Weights with that density would be too small, and so
    would the evidence. Two folds avoid this: the flows of one are fitted to the rows of the other.

    The weights are those of deterministic mixtures (Veach, Guibas 1995; Cornuet et al. 2012): the proposal of every row
    is the mixture of all proposals, by the numbers of rows that they drew.

    Parameters
    ----------
    t : (n, dim) array
        Coordinates of all rows.
    log_likelihood, log_prior : (n,) array
        In nats; the prior is the density of the coordinates.
    proposals : tuple of Proposal
        All besides the prior.
    counts : tuple of float
        How many rows each proposal drew, the prior first.
    log_densities : tuple of (n,) arrays
        The density of each of the proposals at each row.
    """

    t: Doubles
    log_likelihood: Doubles
    log_prior: Doubles
    proposals: tuple[Proposal, ...] = ()
    counts: tuple[float, ...] = (0,)
    log_densities: tuple[Doubles, ...] = ()

    @staticmethod
    def empty(dim: int) -> Fold:
        """Return a fold without rows."""
        return Fold(np.empty((0, dim)), np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return len(self.t)

    def with_rows(self, draw: Draw, log_likelihood: Doubles, log_prior: Doubles) -> Fold:
        """Return the fold with more rows."""
        t = np.concatenate([self.t, draw.t])
        proposals, counts = self.proposals, self.counts
        densities = tuple(
            np.concatenate([known, _log_density(proposal, draw.t)])
            for known, proposal in zip(self.log_densities, proposals, strict=True)
        )
        if draw.proposal is None:
            counts = (counts[0] + draw.drawn, *counts[1:])
        elif draw.drawn > 0:
            proposals, counts = (*proposals, draw.proposal), (*counts, draw.drawn)
            densities = (*densities, _log_density(draw.proposal, t))
        return Fold(
            t,
            np.concatenate([self.log_likelihood, log_likelihood]),
            np.concatenate([self.log_prior, log_prior]),
            proposals,
            counts,
            densities,
        )

    def log_proposal(self) -> Doubles:
        """Return the log density of the mixture of all proposals, (n,)."""
        shares = np.log(self.counts) - np.log(len(self))
        result: Doubles = shares[0] + self.log_prior
        for share, density in zip(shares[1:], self.log_densities, strict=True):
            result = np.logaddexp(result, share + density)
        return result

    def log_weights(self, log_proposal: Doubles, beta: float) -> Doubles:
        """Return the log weights of the rows for the prior times the likelihood to the power of beta.

        Parameters
        ----------
        log_proposal : (n,) array
            What `log_proposal` returns, which takes time.
        beta : float
            The power.
        """
        is_possible = np.isfinite(self.log_likelihood)
        likelihood = np.where(is_possible, self.log_likelihood, 0)  # 0 times infinity is not a number
        return np.where(is_possible, beta * likelihood + self.log_prior - log_proposal, -np.inf)

    def acceptance(self, rows: int, beta: float) -> float:
        """Return the effective share of so many rows, the last ones, which the last proposal drew; NaN for none."""
        if not rows:
            return math.nan
        last = slice(len(self) - rows, None)
        alone = Fold(self.t[last], self.log_likelihood[last], self.log_prior[last])
        return _weights.effective_size(alone.log_weights(self.log_densities[-1][last], beta)) / rows


def _log_density(proposal: Proposal, t: Doubles) -> Doubles:
    """Return the log density of coordinates; where it overflows, rows are too far out for any."""
    values = proposal.log_prob(t).astype(np.float64, copy=False)
    return np.where(np.isnan(values), -np.inf, values)
