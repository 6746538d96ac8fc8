"""How far a fit has come: exactly what a checkpoint holds beside the flow and the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pushforward._fit.history import History, finite, is_number
from pushforward._fit.optimizer import Adam
from pushforward._fit.schedule import Cooling
from pushforward._io.files import CARRIED
from pushforward._typing import Array
from pushforward.errors import FileFormatError

_COUNTS = ("position", "steps", "failures", "rows_done", "steps_done", "averaged", "cooling_start", "cooling_steps")
_NUMBERS = ("losses", "norms", "rate", "elapsed", "cooling_rate")
_MOST = 2**53
"""Counts up to this are exact in every type that they meet."""
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
    left_open : tuple of str
        What of the flow the fit chose: nothing, "layers", or "layers" and "base".
    start : (p,) array or None
        Parameters in which the fit began, if it chose them.
    carried, carried_arrays : dict, dict
        What the objective's next epoch depends on, as of the last checkpoint.
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
    left_open: tuple[str, ...] = ()
    start: Array | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)
    carried_arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def cooling(self) -> Cooling | None:
        """The fall of the learning rate at the end, if it has begun."""
        return Cooling(self.cooling_start, self.cooling_steps, self.cooling_rate) if self.cooling_steps else None

    @property
    def is_finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        sums = math.isfinite(self.losses) and math.isfinite(self.norms)
        return sums and all(np.isfinite(array).all() for array in self.arrays().values())

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
            "best_loss": finite(self.best_loss),
            "left_open": list(self.left_open),
            **({"carried": dict(self.carried)} if self.carried else {}),
        }

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name: but for the objective's own, each is as long as the parameters, or missing."""
        found = {
            "start": self.start,
            "best": self.best,
            "good": self.good,
            "average": self.average,
            "mean": self.optimizer.mean,
            "square": self.optimizer.square,
            **{CARRIED + name: array for name, array in self.carried_arrays.items()},
        }
        return {name: array for name, array in found.items() if array is not None}

    @classmethod
    def read(cls, state: Mapping[str, Any], arrays: Mapping[str, Array], history: History) -> Progress:
        """Turn the results of `to_json` and `arrays` back; raise FileFormatError if they are none.

        The optimiser has its moments, and default settings.
        """
        names = {*_RANDOM_STATES, *_COUNTS, *_NUMBERS, "adam_steps", "best_loss", "left_open"}
        missing = sorted(names - set(state))
        if missing:
            raise FileFormatError(f"the state has no {missing[0]!r}: it is damaged, or of an earlier version")
        for name in (*_COUNTS, "adam_steps"):
            _expect(type(state[name]) is int and 0 <= state[name] <= _MOST, name, state[name])
        for name in _NUMBERS:
            _expect(is_number(state[name]) and (state[name] >= 0 or name == "losses"), name, state[name])
        best_loss, left_open = state["best_loss"], state["left_open"]
        _expect(best_loss is None or is_number(best_loss), "best_loss", best_loss)
        _expect(left_open in ([], ["layers"], ["layers", "base"]), "left_open", left_open)
        for name in _RANDOM_STATES:
            check_random_state(state[name])
        carried = state.get("carried", {})
        _expect(isinstance(carried, dict), "carried", carried)
        own = {name.removeprefix(CARRIED): array for name, array in arrays.items() if name.startswith(CARRIED)}
        arrays = {name: array for name, array in arrays.items() if not name.startswith(CARRIED)}
        _check_arrays(arrays)
        optimizer = Adam()
        if "mean" in arrays:
            optimizer.mean, optimizer.square = arrays["mean"].copy(), arrays["square"].copy()
        optimizer.steps = state["adam_steps"]
        fields: dict[str, Any] = {name: state[name] for name in (*_RANDOM_STATES, *_COUNTS)}
        result = cls(
            **fields | {name: float(state[name]) for name in _NUMBERS},
            good=arrays["good"].copy(),
            average=arrays["average"].copy(),
            optimizer=optimizer,
            history=history,
            best=arrays.get("best"),
            best_loss=math.inf if best_loss is None else float(best_loss),
            left_open=tuple(left_open),
            start=arrays.get("start"),
            carried=carried,
            carried_arrays=own,
        )
        result._check()
        return result

    def _check(self) -> None:
        """Raise FileFormatError if the counts and numbers contradict each other."""
        last = self.history.epochs[-1] if self.history else None
        cooling = (self.cooling_start, self.cooling_steps, self.cooling_rate)
        best_loss = finite(self.best_loss)
        for name, is_so in (
            ("steps", self.steps == (last.steps if last else 0) + self.steps_done),
            ("steps_done", self.steps_done <= self.position),
            ("rows_done", self.rows_done >= self.steps_done),
            ("rows_done", self.steps_done > 0 or (self.rows_done, self.losses, self.norms) == (0, 0.0, 0.0)),
            ("averaged", self.averaged <= self.steps),
            ("adam_steps", self.optimizer.steps <= (self.steps if self.optimizer.mean is not None else 0)),
            ("elapsed", last is None or self.elapsed >= last.seconds),
            ("cooling_start", self.cooling_start <= self.steps),
            ("cooling_steps", self.cooling_steps > 0 or cooling == (0, 0, 0.0)),
            ("start", self.start is None or bool(self.left_open)),
            ("best_loss", self.best is not None or best_loss is None),
            ("best_loss", best_loss == finite(self.history.best_loss)),
        ):
            _expect(is_so, name, getattr(self, name, self.optimizer.steps))


def _expect(is_so: bool, name: str, value: object) -> None:
    if not is_so:
        raise FileFormatError(f"the state is damaged: {name} is {value!r:.40}")


def _check_arrays(arrays: Mapping[str, Array]) -> None:
    """Raise FileFormatError if there are other arrays than those of a fit."""
    expected = {"good", "average", *(set(arrays) & {"start", "best"})}
    if {"mean", "square"} & set(arrays):
        expected |= {"mean", "square"}
    for name in sorted(expected ^ set(arrays)):
        raise FileFormatError(f"tensor {name!r} of the checkpoint is {'missing' if name in expected else 'unexpected'}")
    if "square" in arrays and not (arrays["square"] >= 0).all():
        raise FileFormatError("tensor 'square' of the checkpoint is negative")


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
