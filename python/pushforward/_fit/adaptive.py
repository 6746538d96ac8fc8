"""Adaptive importance sampling: a flow is fitted to its own draws, and to a density there that has no gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from pushforward._fit.objective import Objective
from pushforward._fit.reverse import elbo
from pushforward._fit.spread import Draws, independent
from pushforward._fit.tempering import effective_rows, largest_power
from pushforward._fit.values import divergence
from pushforward._model.state import State
from pushforward._target import Target
from pushforward._typing import Array, Doubles, Floats, Indices
from pushforward.errors import FileFormatError

# The weights of all rows are raised to the largest power at which so many of a population's rows are effective.
_EFFECTIVE = 0.5
_ARRAYS = ("x", "log_p", "log_mixture", "counts", "shifts", "scales", "parameters")


class AdaptiveSampling(Objective[Indices]):
    """The divergence from a density whose values at all rows so far are known (derivation 17).

    Source: Cappe, Douc, Guillin, Marin, Robert 2008. An epoch begins with a population of draws from the flow. The
    weight of a row is p over the mixture of all proposals so far (Cornuet, Marin, Mira, Robert 2012), so that every row
    ever evaluated is used, and none has a large weight for having come from a proposal that no longer matters. Weights
    are raised to a power, as on a tempering path (Koblents, Miguez 2015).

    Parameters
    ----------
    state : State
        The flow.
    target : Target
        The density.
    first : sequence of Draws
        What has been evaluated before.
    population : int
        Draws of an epoch.
    steps, batch_size : int
        Steps of an epoch, and rows of a step.
    seed : int
        Fixes the populations.
    """

    NAME: ClassVar[str] = "adaptive importance sampling"
    is_scored = False

    def __init__(
        self,
        state: State,
        target: Target,
        first: Sequence[Draws],
        population: int,
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._state, self._target, self._seed, self._used = state, target, seed, target.calls
        self.group = target.group
        self._population, self.steps, self._batch_size = population, steps, batch_size
        self._x, self._log_p = np.empty((0, state.dim)), np.empty(0)
        self._log_mixture = np.empty(0)
        """Log of the sum over proposals of their density times their number of draws."""
        self._counts: list[int] = []
        self._gaussians: list[tuple[Doubles, Doubles]] = []
        self._parameters: list[Floats] = []
        self._power = 0.0
        self._shares: Doubles = np.empty(0)
        self._elbo = self._effective = math.nan
        for draws in first:
            self._gaussians.append(draws.proposal)
            self._add(draws.x, draws.log_p, independent(state, draws.proposal).log_prob)

    def batches(self, rng: np.random.Generator) -> Iterator[Indices]:
        """Walk over the batches of an epoch: rows drawn in proportion to half their weights, half all alike."""
        drawn_by = 0.5 * self._shares + 0.5 / len(self._x)
        for _ in range(self.steps):
            yield rng.choice(len(self._x), self._batch_size, p=drawn_by)

    def size(self, batch: Indices) -> int:
        """Return the number of rows."""
        return len(batch)

    def loss_and_grad(self, batch: Indices, gradient: Floats, dropout: int) -> tuple[float, float]:
        """Write the gradient of a batch's divergence; return it, and the gradient's norm."""
        x, n = self._x[batch], len(self._x)
        total = sum(self._counts)
        ratios = self._shares[batch] * total
        terms, weights = divergence(ratios, self._state.log_prob(x) - self._log_mixture[batch] + math.log(total))
        # How much more often the row stands for others than it was drawn.
        often = 1 / (total * (0.5 * self._shares[batch] + 0.5 / n))
        _, norm = self._state.core.loss_and_grad(
            x,
            gradient,
            weights=often * weights,
            normalizer=len(batch),
            dropout=dropout,
            threads=self._state.num_threads,
        )
        return float((often * terms).mean()), norm

    def score(self) -> float:
        """Return NaN: draws that a flow was not fitted to come with the next population only."""
        return math.nan

    def probe(self) -> float:
        """Return the mean log density of draws, which are not evaluated."""
        x, log_q = self._draw()
        return float(log_q.mean()) if np.isfinite(x).all() else math.nan

    def advance(self, done: float) -> None:
        """Evaluate another population, and weight all rows anew."""
        x, log_q = self._draw()
        log_p, _ = self._target(x)
        self._elbo, self._effective = elbo(log_p, log_q), effective_rows(log_p - log_q) / len(x)
        self._parameters.append(self._state.parameters.copy())
        self._add(x, log_p, self._state.log_prob)
        if not len(self._x):
            raise ValueError(
                f"log_density returned -inf for all {self._target.calls} rows so far; give support=, or rows where it "
                "is finite as start="
            )
        self._weigh()

    def estimates(self) -> dict[str, Any]:
        """Return ELBO and effective fraction of the last population, the power, and the rows evaluated so far."""
        return {
            "elbo": self._elbo,
            "effective": self._effective,
            "power": self._power,
            "evaluations": self._target.calls,
        }

    def settings(self) -> dict[str, Any]:
        """Return what tells this fit from others."""
        return {
            "objective": self.NAME, "used": self._used, "population": self._population, "steps": self.steps,
            "batch_size": self._batch_size, "max_calls": self._target.max_calls,
        }  # fmt: skip

    def carried(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return all rows with what their weights are made of."""
        numbers = {"calls": self._target.calls}
        width = self._state.dim
        moments = np.array(self._gaussians).reshape(-1, 2, width)
        arrays = {
            "x": self._x, "log_p": self._log_p, "log_mixture": self._log_mixture,
            "counts": np.array(self._counts, np.float64), "shifts": moments[:, 0], "scales": moments[:, 1],
            "parameters": np.array(self._parameters),
        }  # fmt: skip
        return numbers, arrays

    def restore(self, numbers: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take up what `carried` returned."""
        calls, dim, size = numbers.get("calls"), self._state.dim, self._state.parameters.size
        if type(calls) is not int or calls < 1 or set(arrays) != set(_ARRAYS):
            raise FileFormatError("the state is damaged: the rows evaluated are not there")
        rows, old, new = len(arrays["x"]), len(arrays["shifts"]), len(arrays["parameters"])
        shapes = ((rows, dim), (rows,), (rows,), (old + new,), (old, dim), (old, dim), (new, size))
        for name, shape in zip(_ARRAYS, shapes, strict=True):
            if arrays[name].shape != shape or not rows:
                raise FileFormatError(f"the state is damaged: {name} has shape {arrays[name].shape}")
        self._target.calls = calls
        self._x, self._log_p, self._log_mixture = (arrays[name].copy() for name in _ARRAYS[:3])
        self._counts = [int(count) for count in arrays["counts"]]
        self._gaussians = list(zip(arrays["shifts"].copy(), arrays["scales"].copy(), strict=True))
        self._parameters = list(arrays["parameters"].copy())
        self._weigh()

    def _draw(self) -> tuple[Floats, Doubles]:
        key = int(np.random.default_rng([self._seed, len(self._parameters)]).integers(1 << 63))
        return self._state.sample(key, self._population, with_log_prob=True)

    def _add(self, x: Array, log_p: Doubles, newest: Any) -> None:
        """Add rows from the newest proposal; those without mass count in the mixture alone."""
        self._counts.append(len(x))
        has_mass = np.isfinite(log_p)
        x, log_p = x[has_mass].astype(np.float64), log_p[has_mass]
        log_count = math.log(self._counts[-1])
        self._log_mixture = np.concatenate(
            [np.logaddexp(self._log_mixture, log_count + newest(self._x)), self._log_densities(x)]
        )
        self._x, self._log_p = np.concatenate([self._x, x]), np.concatenate([self._log_p, log_p])

    def _log_densities(self, x: Array) -> Doubles:
        """Return the log of the sum over all proposals of their density times their number of draws."""
        total = np.full(len(x), -np.inf)
        flow = self._state.copy()
        for number, count in enumerate(self._counts):
            if number < len(self._gaussians):
                proposal = independent(self._state, self._gaussians[number])
            else:
                proposal = flow
                flow.parameters[...] = self._parameters[number - len(self._gaussians)]
            total = np.logaddexp(total, math.log(count) + proposal.log_prob(x))
        return total

    def _weigh(self) -> None:
        """Set the power, and each row's share of the weight."""
        log_weights = self._log_p - self._log_mixture
        enough = min(_EFFECTIVE * self._population, _EFFECTIVE * len(log_weights))
        self._power = largest_power(np.zeros(len(log_weights)), log_weights, 0.0, enough)
        weights = np.exp(self._power * (log_weights - log_weights.max()))
        self._shares = weights / weights.sum()
