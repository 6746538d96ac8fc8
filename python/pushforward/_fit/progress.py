"""How far a fit has come: exactly what a checkpoint holds beside the flow and the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pushforward._fit.history import History
from pushforward._fit.optimizer import Adam
from pushforward._fit.schedule import Cooling
from pushforward._typing import Array
from pushforward.errors import FileFormatError

_COUNTS = ("position", "steps", "failures", "rows_done", "steps_done", "averaged", "cooling_start", "cooling_steps")
_NUMBERS = ("losses", "norms", "rate", "elapsed", "cooling_rate")
_RANDOM_STATES = ("rng_of_split", "rng_of_epoch")


@dataclass
class Progress:
    """How far a fit has come.

    An epoch's batches follow from the state of the random numbers at its start. With the number of batches done, a
    checkpoint can therefore stand at any step.

    Parameters
    ----------
    rng_of_split, rng_of_epoch : dict
        States of the random numbers: before rows were held out, and at the start of this epoch.
    good : (p,) array
        Parameters to go back to when the loss is no longer finite: those of the last step of the last epoch.
    average : (p,) array
        The moving average of the parameters.
    optimizer : Adam
        The optimiser with its moments.
    history : History
        The epochs that are done.
    best : (p,) array or None
        Parameters of the best epoch: the average at its end.
    best_loss : float
        Its score.
    position : int
        Batches of this epoch that are done.
    steps : int
        Steps of the optimiser since the fit began.
    failures : int
        How often the loss became non-finite.
    losses, norms : float
        Sums over this epoch: of the rows' losses, and of the steps' gradient norms.
    rows_done, steps_done : int
        The number of their terms.
    rate : float
        Learning rate of the last step.
    elapsed : float
        Seconds since the fit began, as of the last checkpoint.
    averaged : int
        Steps in the average.
    cooling_start, cooling_steps, cooling_rate : int, int, float
        When the learning rate began to fall because the fit no longer got better, over how many steps, and from what
        rate; 0 before.
    """

    rng_of_split: Mapping[str, Any]
    rng_of_epoch: Mapping[str, Any]
    good: Array
    average: Array
    optimizer: Adam
    history: History = field(default_factory=History)
    best: Array | None = None
    best_loss: float = math.inf
    position: int = 0
    steps: int = 0
    failures: int = 0
    losses: float = 0.0
    norms: float = 0.0
    rows_done: int = 0
    steps_done: int = 0
    rate: float = 0.0
    elapsed: float = 0.0
    averaged: int = 0
    cooling_start: int = 0
    cooling_steps: int = 0
    cooling_rate: float = 0.0

    @property
    def cooling(self) -> Cooling | None:
        """The fall of the learning rate at the end, if it has begun."""
        return Cooling(self.cooling_start, self.cooling_steps, self.cooling_rate) if self.cooling_steps else None

    def begin_epoch(self, rng: np.random.Generator) -> None:
        """Begin another epoch, with the random numbers as they stand."""
        self.rng_of_epoch = rng.bit_generator.state
        self.position = self.rows_done = self.steps_done = 0
        self.losses = self.norms = self.rate = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all but arrays and the history in JSON's types."""
        names = (*_RANDOM_STATES, *_COUNTS, *_NUMBERS)
        return {
            **{name: getattr(self, name) for name in names},
            "adam_steps": self.optimizer.steps,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
        }

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name: each is as long as the parameters, or missing."""
        found = {
            "best": self.best,
            "good": self.good,
            "average": self.average,
            "mean": self.optimizer.mean,
            "square": self.optimizer.square,
        }
        return {name: array for name, array in found.items() if array is not None}

    @classmethod
    def read(cls, state: Mapping[str, Any], arrays: Mapping[str, Array], history: History) -> Progress:
        """Turn the results of `to_json` and `arrays` back; raise FileFormatError if they are none.

        The optimiser has its moments, and default settings.
        """
        best_loss = state.get("best_loss")
        counts, numbers = ([state.get(name) for name in names] for names in ((*_COUNTS, "adam_steps"), _NUMBERS))
        if (
            not all(type(value) is int and value >= 0 for value in counts)
            or not all(type(value) in (int, float) for value in numbers)
            or not (best_loss is None or type(best_loss) in (int, float))
            or not {"good", "average"} <= set(arrays)
            or ("mean" in arrays) != ("square" in arrays)
        ):
            raise FileFormatError("the state is damaged")
        for name in _RANDOM_STATES:
            check_random_state(state.get(name))
        optimizer = Adam()
        if "mean" in arrays:
            optimizer.mean, optimizer.square = arrays["mean"].copy(), arrays["square"].copy()
        optimizer.steps = state["adam_steps"]
        fields: dict[str, Any] = {name: state[name] for name in (*_RANDOM_STATES, *_COUNTS)}
        return cls(
            **fields | {name: float(state[name]) for name in _NUMBERS},
            good=arrays["good"].copy(),
            average=arrays["average"].copy(),
            optimizer=optimizer,
            history=history,
            best=arrays.get("best"),
            best_loss=math.inf if best_loss is None else float(best_loss),
        )


def check_random_state(state: Any) -> None:
    """Raise FileFormatError if this is no state of random numbers."""
    try:
        generator(state)
    except (KeyError, TypeError, ValueError, OverflowError):  # what NumPy raises
        raise FileFormatError("the random state is damaged") from None


def generator(state: Mapping[str, Any]) -> np.random.Generator:
    """Return random numbers in a state."""
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return rng
