"""Fits to rows at which an unnormalised density is known: the values say more than the places of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pushforward import _weights
from pushforward._fit.loop import Loop
from pushforward._fit.objective import Objective
from pushforward._fit.options import Options, without_decay
from pushforward._fit.progress import Progress
from pushforward._model.state import State
from pushforward._typing import Doubles, Floats, Indices

# As in a fit to rows.
_HELD = 0.1
_BATCH_SIZE = 256


class KnownValues(Objective[Indices]):
    """The generalised Kullback-Leibler divergence from a density p whose values at the rows are known (derivation 17).

    With rows from a density m and r = p / m, it is the mean of r log(p / q) - r + q / m, which is at least 0 for every
    row, and 0 where q = p. So the gradient vanishes for every row where q = p. That of maximum likelihood, the first
    term alone, vanishes in the mean only: it also follows the accidents of the draws.

    Parameters
    ----------
    state : State
        The flow.
    x : (n, dim) array
        The rows.
    log_ratios : (n,) array
        log p - log m, up to a constant; -inf where p is 0.
    log_mixture : (n,) array
        log m, normalised.
    batch_size : int
        Rows of a step, at most.
    rng : numpy.random.Generator
        Chooses the rows by which epochs are scored.
    """

    NAME: ClassVar[str] = "known values"
    is_scored = True

    def __init__(
        self,
        state: State,
        x: Doubles,
        log_ratios: Doubles,
        log_mixture: Doubles,
        batch_size: int,
        rng: np.random.Generator,
    ) -> None:
        self._state, self._x, self._log_mixture, self._batch_size = state, x, log_mixture, batch_size
        self._ratios = self._normalized(log_ratios)
        order = rng.permutation(len(x))
        held = max(1, int(_HELD * len(x)))
        self._held, self._train = np.sort(order[:held]), np.sort(order[held:])
        self.steps = -(-len(self._train) // batch_size)

    def _normalized(self, log_ratios: Doubles) -> Doubles:
        """Return p / m with the integral of p at 1.

        Over the rows, the mean of p / m is that integral. Its ratio to the mean of q / m has less noise, the closer q
        is. Large ratios are not cut, as weights of a likelihood are: the flow comes to the value there, and to no more.
        Cut, they would take mass from where the rows are too few already.
        """
        ratios = _weights.normalized(log_ratios) * len(log_ratios)
        mean = float(np.exp(self._state.log_prob(self._x) - self._log_mixture).mean())
        return ratios * (mean if 0.5 < mean < 2 else 1.0)

    def batches(self, rng: np.random.Generator) -> Iterator[Indices]:
        """Walk over the training rows once, shuffled."""
        order = rng.permutation(self._train)
        for first in range(0, len(order), self._batch_size):
            yield order[first : first + self._batch_size]

    def size(self, batch: Indices) -> int:
        """Return the number of rows."""
        return len(batch)

    def loss_and_grad(self, batch: Indices, gradient: Floats, dropout: int) -> tuple[float, float]:
        """Write the gradient of a batch's divergence; return it, and the gradient's norm."""
        x = self._x[batch]
        terms, weights = self._terms(batch, x)
        _, norm = self._state.core.loss_and_grad(
            x, gradient, weights=weights, normalizer=len(batch), dropout=dropout, threads=self._state.num_threads
        )
        return float(terms.mean()), norm

    def score(self) -> float:
        """Return the divergence over the held-out rows."""
        return float(self._terms(self._held, self._x[self._held])[0].mean())

    def probe(self) -> float:
        """Return the score."""
        return self.score()

    def settings(self) -> dict[str, Any]:
        """Return what tells this fit from others."""
        return {"objective": self.NAME, "rows": len(self._x), "batch_size": self._batch_size}

    def _terms(self, index: Indices, x: Doubles) -> tuple[Doubles, Doubles]:
        return divergence(self._ratios[index], self._state.log_prob(x) - self._log_mixture[index])


def divergence(ratios: Doubles, log_own: Doubles) -> tuple[Doubles, Doubles]:
    """Return the generalised divergence of rows, and the negative of its derivative by log q.

    Parameters
    ----------
    ratios : (n,) array
        p / m, the density over that of the rows.
    log_own : (n,) array
        log q - log m, that of the flow.

    Returns
    -------
    (n,) array, (n,) array
        r log(r / o) - r + o with r = p / m and o = q / m; and r - o, the weights of the rows' log q in a gradient.
    """
    has_mass = ratios > 0
    with np.errstate(over="ignore"):
        own = np.exp(log_own)
    log_ratios = np.log(ratios, where=has_mass, out=np.zeros_like(ratios))
    terms = np.where(has_mass, ratios * (log_ratios - log_own), 0.0) - ratios + own
    return terms, ratios - own


def fit_to_values(state: State, x: Doubles, log_ratios: Doubles, log_mixture: Doubles, options: Options) -> Loop[State]:
    """Prepare a fit to rows and the values of a density there.

    Parameters
    ----------
    state : State
        The flow, initialised; its parameters change in place.
    x, log_ratios, log_mixture
        As for `KnownValues`.
    options : Options
        The options of the fit, with a number of epochs.

    Returns
    -------
    Loop
        The fit.
    """
    rng = np.random.default_rng(options.seed)
    rng_of_split = rng.bit_generator.state
    optimizer, batch_size = without_decay(options.optimizer), options.batch_size or _BATCH_SIZE
    options = replace(options, optimizer=optimizer, batch_size=batch_size)
    objective = KnownValues(state, x, log_ratios, log_mixture, batch_size, rng)
    good, average = state.parameters.copy(), state.parameters.copy()
    progress = Progress(rng_of_split, rng.bit_generator.state, good, average, optimizer.fresh())
    return Loop(state, objective, options, progress)
