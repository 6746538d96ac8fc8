"""How the learning rate changes over a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

_WARM_UP_STEPS = 100
_LOWER_RATE = 0.3
"""The fraction of its learning rate at which a fit goes on after its loss became non-finite."""


@dataclass(frozen=True)
class Cooling:
    """The end of a fit that no longer gets better: from a step on, the rate falls to 0.

    Parameters
    ----------
    start, steps : int
        The step at which it begins, and how many it takes.
    rate : float
        The rate from which it falls.
    """

    start: int
    steps: int
    rate: float

    def is_over(self, steps: int) -> bool:
        """Whether it has ended after so many steps of the fit."""
        return steps >= self.start + self.steps


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step.

    Parameters
    ----------
    kind : {"cosine", "constant"}
        Whether the rate falls to 0 along half a cosine, or stays, after a warm-up.
    learning_rate : float
        The largest rate.
    total_steps : float
        Steps of the whole fit, infinite if that is not known.
    max_time : float or None
        Seconds of the whole fit.
    """

    kind: str
    learning_rate: float
    total_steps: float
    max_time: float | None

    def rate(self, steps: int, failures: int, elapsed: float, cooling: Cooling | None = None) -> float:
        """Return the rate of the step after so many steps, failures and seconds."""
        if cooling is not None:
            return cooling.rate * _fall((steps - cooling.start) / cooling.steps)
        rate = self.learning_rate * _LOWER_RATE**failures
        # The first steps follow moments of a few gradients only; growing the rate over them keeps them short.
        rate *= min(1.0, (steps + 1) / min(_WARM_UP_STEPS, max(1.0, 0.1 * self.total_steps)))
        if self.kind == "constant":
            return rate
        done = steps / self.total_steps
        if self.max_time is not None:
            done = max(done, elapsed / self.max_time)
        return rate * _fall(done)


def _fall(done: float) -> float:
    """Return half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
