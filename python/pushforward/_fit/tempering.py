"""The path of densities from where a fit begins to its target, and how far a step along it may go."""

from __future__ import annotations

import numpy as np

from pushforward._model.state import State
from pushforward._typing import Array, Doubles

_HALVINGS = 40


class Path:
    """Densities between a start q0 and a target p: log p_b = (1 - b) log q0 + b log p, for a power b from 0 to 1.

    Parameters
    ----------
    start : State
        The flow q0, which nobody changes any more.

    Attributes
    ----------
    start : State
        q0.
    power : float
        The present b.
    """

    def __init__(self, start: State) -> None:
        self.start, self.power = start, 0.0

    @property
    def is_over(self) -> bool:
        """Whether the present density is the target."""
        return self.power >= 1

    def log_start(self, x: Array) -> Doubles:
        """Return log q0 of rows."""
        return self.start.log_prob(x)

    def between(self, x: Array, values: Doubles, gradient: Doubles) -> tuple[Doubles, Doubles]:
        """Return log p_b and its gradient, given those of log p."""
        if self.is_over:
            return values, gradient
        log_start, slope = self.start.core.log_prob_and_grad(x, threads=self.start.num_threads)
        rest, has_mass = 1 - self.power, np.isfinite(values)
        log_p = rest * log_start + self.power * np.where(has_mass, values, 0.0)
        return np.where(has_mass, log_p, -np.inf), rest * slope + self.power * gradient


def effective_rows(log_weights: Doubles) -> float:
    """Return the effective sample size of weights, (sum w)^2 / sum w^2; 0 if there is none above 0."""
    top = log_weights.max(initial=-np.inf)
    if not np.isfinite(top):
        return 0.0
    weights = np.exp(log_weights - top)
    return float(weights.sum() ** 2 / (weights**2).sum())


def largest_power(fixed: Doubles, ratio: Doubles, low: float, enough: float) -> float:
    """Return the largest power b in [low, 1] under which weights exp(fixed + b ratio) are worth `enough` rows.

    The effective sample size need not fall along b. Of its crossings of `enough`, one is found by bisection
    (Jasra, Stephens, Doucet, Tsagaris 2011); `low` if it is not reached there. A row whose ratio is -inf has no weight.
    """
    has_mass = np.isfinite(ratio)
    fixed, ratio = fixed[has_mass], ratio[has_mass]

    def is_enough(power: float) -> bool:
        return effective_rows(fixed + power * ratio) >= enough

    if is_enough(1.0):
        return 1.0
    if not is_enough(low):
        return low
    high = 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_enough(middle) else (low, middle)
    return low
