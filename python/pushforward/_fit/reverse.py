"""Reverse Kullback-Leibler divergence to a density given as a function with its gradient, over the flow's own draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward._fit.objective import Objective
from pushforward._fit.tempering import Path, effective_rows, largest_power
from pushforward._model.latent import base_alone
from pushforward._model.state import State
from pushforward._target import Target
from pushforward._typing import Array, Doubles, Floats
from pushforward.errors import FileFormatError

SCORED_ROWS = 2048
"""Draws by which an epoch is scored, and the next step along the path is chosen."""
# A step along the path leaves such a share of these effective.
_EFFECTIVE = 0.3
# The path ends after this share of the fit at the latest. Early powers, where densities change most, get most of it.
_SHARE_OF_PATH = 0.5
_EASE = 3
# The share of the score-function gradient in a step. Measured: with 0.5 the masses of separate modes come out less
# right, with 0.8 a funnel takes more steps.
_SHARE_OF_SCORE = 0.8
# So many draws of a step have one latent feature that is so much wider than the base's.
_WIDENED = 0.25
_WIDTH = 2.0


class ReverseKL(Objective[int]):
    """E[log q(x) - log p(x)] over draws x of the flow q: the Kullback-Leibler divergence, less the log evidence.

    A step follows a weighted mean of two unbiased estimates of the gradient. Both vanish, for every draw, where q = p.

    - The path gradient (Roeder, Wu, Duvenaud 2017; Vaitl, Nicoli, Nakajima, Kessel 2022): a draw is x = G(z), and its
      gradient by the parameters of G leaves out that of log q at fixed x, whose mean is 0. It moves draws along the
      slopes of the densities, with little noise; between modes that no draw connects it sees nothing.
    - The score-function gradient with the mean as its baseline (Mnih, Gregor 2014): it moves mass from draws with a
      large log q - log p to those with a small one, however far apart. It is the one that the parameters of a base get.

    Parameters
    ----------
    state : State
        The flow.
    target : Target
        The density, with a gradient.
    path : Path
        Densities on the way to it.
    steps, batch_size : int
        Steps of an epoch, and draws of a step.
    seed : int
        Fixes the draws by which epochs are scored.
    """

    NAME: ClassVar[str] = "reverse KL"
    is_scored = True

    def __init__(self, state: State, target: Target, path: Path, steps: int, batch_size: int, seed: int) -> None:
        self._state, self._target, self._path, self._seed = state, target, path, seed
        self.group = target.group
        self.steps, self._batch_size = steps, batch_size
        self._base = base_alone(state)
        self._of_base = slice(state.parameters.size - self._base.parameters.size, None)
        self._on_line = np.flatnonzero([domain == "line" for domain in state.core.latent_domains])
        self._scored: tuple[Doubles, Doubles, Array] | None = None
        self._elbo = self._effective = math.nan
        self._used = target.calls

    def batches(self, rng: np.random.Generator) -> Iterator[int]:
        """Walk over the keys of an epoch's draws."""
        return iter(rng.integers(1 << 63, size=self.steps).tolist())

    def size(self, batch: int) -> int:
        """Return the number of draws."""
        return self._batch_size

    def loss_and_grad(self, batch: int, gradient: Floats, dropout: int) -> tuple[float, float]:
        """Write the gradient of a batch; return its mean of log q - log p_b, and the gradient's norm.

        `dropout` has no use: a draw and its density must come from one map.
        """
        z, widened = self._latent(batch)
        x, _ = self._state.forward(z)
        if not np.isfinite(x).all():
            return math.nan, math.nan
        log_q, slope = self._state.core.log_prob_and_grad(x, threads=self._state.num_threads)
        log_p, target_slope = self._path.between(x, *self._evaluate(x))
        has_mass = np.isfinite(log_p)
        drawn = has_mass & ~widened
        if not drawn.any():
            return math.nan, math.nan
        excess = np.where(has_mass, log_q - log_p, 0.0)
        loss = float(excess[drawn].mean())
        gradient[...] = self.path_gradient(z, np.where(has_mass[:, None], slope - target_slope, 0.0) / has_mass.sum())
        # Weights of the score: its mean is 0 over the flow's draws, and not over the widened ones.
        weights = np.where(drawn, loss - excess, 0.0) / max(drawn.sum() - 1, 1)
        if self._base.parameters.size:
            gradient[self._of_base] = score_gradient(self._base, z, weights)
        gradient *= 1 - _SHARE_OF_SCORE
        weights *= _SHARE_OF_SCORE
        if not has_mass.all():
            # The divergence of the draws with mass does not see the others: the log of their share is added to it.
            share = drawn.sum() / (~widened).sum()
            weights += np.where(widened, 0.0, (has_mass - share) / drawn.sum())
            loss -= math.log(share)
        gradient += score_gradient(self._state, x, weights)
        return loss, float(np.linalg.norm(gradient.astype(np.float64)))

    def path_gradient(self, z: Floats, seeds: Floats) -> Floats:
        """Pull the derivatives of a scalar by the draws of latent points back to the parameters."""
        zeros = np.zeros(len(z))
        _, gradient, _ = self._state.core.forward_vjp(z, seeds, zeros, threads=self._state.num_threads)
        assert gradient is not None
        return gradient

    def score(self) -> float:
        """Return the divergence from the target, up to its log evidence, by the same base draws every time."""
        self._elbo = self._effective = math.nan
        x, log_q = self._draw_scored()
        if not np.isfinite(x).all():
            return math.nan
        log_p, _ = self._evaluate(x)
        self._scored = log_q, log_p, x
        self._elbo, self._effective = elbo(log_p, log_q), effective_rows(log_p - log_q) / len(x)
        return -self._elbo

    def advance(self, done: float) -> None:
        """Go along the path as far as the effective sample size of the scored draws allows."""
        assert self._scored is not None
        log_q, log_p, x = self._scored
        if not np.isfinite(log_p).any():
            raise ValueError(
                f"log_density returned -inf for all {len(log_p)} draws of the flow; give support=, or rows where it is "
                "finite as start="
            )
        if self._path.is_over:
            return
        ratio = log_p - self._path.log_start(x)
        power = self._path.power
        allowed = largest_power(self._path.log_start(x) - log_q, ratio, power, _EFFECTIVE * len(x))
        self._path.power = max(allowed, min(1.0, (done / _SHARE_OF_PATH) ** _EASE))

    def estimates(self) -> dict[str, Any]:
        """Return ELBO and effective fraction at the target, the power, and the rows evaluated so far."""
        return {
            "elbo": self._elbo,
            "effective": self._effective,
            "power": self._path.power,
            "evaluations": self._target.calls,
        }

    def probe(self) -> float:
        """Return the mean log density of draws."""
        return float(self._draw_scored()[1].mean())

    def settings(self) -> dict[str, Any]:
        """Return what tells this fit from others."""
        return {
            "objective": self.NAME, "used": self._used, "steps": self.steps, "batch_size": self._batch_size,
            "max_calls": self._target.max_calls,
        }  # fmt: skip

    def carried(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the path and the count of evaluations."""
        return {"power": self._path.power, "calls": self._target.calls}, {"start": self._path.start.parameters}

    def restore(self, numbers: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take up what `carried` returned."""
        power, calls = numbers.get("power"), numbers.get("calls")
        if not isinstance(power, (int, float)) or not 0 <= power <= 1 or type(calls) is not int or calls < 0:
            raise FileFormatError("the state is damaged: the path or the evaluations")
        if set(arrays) != {"start"} or arrays["start"].shape != self._state.parameters.shape:
            raise FileFormatError("the state is damaged: the start of the path")
        self._path.start.parameters[...] = arrays["start"]
        self._path.power, self._target.calls = float(power), calls

    def _latent(self, key: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return a step's latent points, and which of them are further out along one feature.

        Draws of a flow that is too narrow do not show what they miss. The path gradient of a point vanishes where
        q = p, wherever the point comes from.
        """
        z = self._base_draws(key, self._batch_size)
        widened = np.zeros(len(z), bool)
        if len(self._on_line):
            count = int(_WIDENED * len(z))
            widened[:count] = True
            z[np.arange(count), np.random.default_rng(key).choice(self._on_line, count)] *= _WIDTH
        return z, widened

    def _base_draws(self, key: int, rows: int) -> Floats:
        self._base.parameters[...] = self._state.parameters[self._of_base]
        return self._base.sample(key, rows)[0]

    def _draw_scored(self) -> tuple[Floats, Doubles]:
        x, _ = self._state.forward(self._base_draws(self._seed, SCORED_ROWS))
        return x, self._state.log_prob(x)

    def _evaluate(self, x: Array) -> tuple[Doubles, Doubles]:
        values, gradient = self._target(x)
        if gradient is None:
            raise ValueError("log_density returned a gradient at first, and none now")
        return values, gradient


def elbo(log_p: Doubles, log_q: Doubles) -> float:
    """Return the mean of log p - log q over draws with mass, and the log of their share; -inf if there are none."""
    has_mass = np.isfinite(log_p)
    share = has_mass.mean()
    return float((log_p - log_q)[has_mass].mean() + math.log(share)) if share else -math.inf


def score_gradient(state: State, x: Array, weights: Doubles) -> Floats:
    """Return the gradient of -sum of w log density, at fixed rows."""
    gradient = np.empty_like(state.parameters)
    state.core.loss_and_grad(x, gradient, weights=weights, normalizer=1.0, threads=state.num_threads)
    return gradient
