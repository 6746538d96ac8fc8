"""The curves of a fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pushforward._typing import Doubles
from pushforward.errors import FileFormatError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS_MATPLOTLIB = 'drawing needs matplotlib: pip install "pushforward[plot]"'


@dataclass(frozen=True)
class Epoch:
    """One epoch of a fit.

    Parameters
    ----------
    epoch : int
        Its number, from 1.
    steps : int
        Steps of the optimiser since the fit began.
    seconds : float
        Time since the fit began.
    train_loss : float
        Mean negative log-likelihood of its minibatches, each before its step, in nats. Of a fit to a log density with
        its gradient, their mean of log q - log p, where p is the density on the path that the epoch was fitted to.
    validation_loss : float
        Mean negative log-likelihood of the validation rows after it, in nats; NaN without any. Of a fit to a log
        density with its gradient, the negative ELBO.
    learning_rate : float
        That of its last step.
    grad_norm : float
        Mean Euclidean norm of its gradients, before clipping.
    elbo : float
        Evidence lower bound after it, in nats: the mean of log p - log q over draws. This and what follows is of fits
        to a log density; else NaN or 0.
    effective : float
        Effective sample size of importance sampling from the flow after it, as a fraction of the draws.
    power : float
        Where on the path from the start to the target the next epoch is: 0 to 1.
    evaluations : int
        Rows at which the log density was evaluated, since the fit began.
    """

    epoch: int
    steps: int
    seconds: float
    train_loss: float
    validation_loss: float
    learning_rate: float
    grad_norm: float
    elbo: float = math.nan
    effective: float = math.nan
    power: float = math.nan
    evaluations: int = 0


@dataclass(repr=False)
class History:
    """The record of a fit: its epochs, and why it ended.

    ``history["validation_loss"]`` is a curve as an array; iterating gives the epochs.

    Examples
    --------
    >>> history = History([Epoch(1, 10, 0.5, 2.0, 1.5, 1e-3, 1.0)], best_epoch=1, stopped="epochs")
    >>> history["train_loss"]
    array([2.])
    >>> print(history)
    1 epochs, 10 steps, 0.5 s, stopped by epochs; best epoch 1, validation loss 1.5000 nats
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    """The epoch whose parameters the flow has; 0 for the state in which the fit began."""
    stopped: str = ""
    """"epochs", "max_calls", "max_time", "patience", "callback", "interrupted" or "diverged"."""
    initial_loss: float = math.nan
    """Validation loss of the state in which the fit began, in nats; NaN without validation rows."""
    best_loss: float = math.nan
    """Validation loss of the parameters that the flow has, in nats; NaN without validation rows. By default that of the
    best epoch."""

    def __post_init__(self) -> None:
        if math.isnan(self.best_loss) and self.best_epoch:
            self.best_loss = self.epochs[self.best_epoch - 1].validation_loss

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __getitem__(self, name: str) -> Doubles:
        return np.array([getattr(epoch, name) for epoch in self.epochs], dtype=np.float64)

    def __repr__(self) -> str:
        return f"<History: {self}>"

    def __str__(self) -> str:
        if not self.epochs:
            return f"no epoch, stopped by {self.stopped}"
        last = self.epochs[-1]
        if last.evaluations:
            result = f"ELBO {last.elbo:.4f} nats, {last.effective:.1%} effective, {last.evaluations} evaluations"
        elif not np.isnan(self.best_loss):
            result = f"best epoch {self.best_epoch}, validation loss {self.best_loss:.4f} nats"
        else:
            result = f"training loss {last.train_loss:.4f} nats"
        return (
            f"{len(self.epochs)} epochs, {last.steps} steps, {last.seconds:.1f} s, stopped by {self.stopped}; {result}"
        )

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the losses, as `pushforward.plot.history` does.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default in a new figure.

        Returns
        -------
        matplotlib Figure
            The figure drawn in.

        Raises
        ------
        ImportError
            Without Matplotlib, which the extra ``plot`` installs: ``pip install "pushforward[plot]"``.

        Examples
        --------
        >>> history = History([Epoch(i, 10 * i, 0.5 * i, 2 / i, 2.5 / i, 1e-3, 1.0) for i in (1, 2, 3)], best_epoch=3)
        >>> history.plot().savefig("loss.png")
        """
        try:
            from pushforward._fit import curves
        except ImportError:
            raise ImportError(NEEDS_MATPLOTLIB) from None
        return curves.draw(self, ax)


_LOSSES = ("initial_loss", "best_loss")
_COUNTS = ("epoch", "steps")
_NUMBERS = ("seconds", "train_loss", "validation_loss", "learning_rate", "grad_norm")
_NOT_NEGATIVE = ("seconds", "learning_rate", "grad_norm", "effective", "power")
_OF_DENSITY = ("elbo", "effective", "power", "evaluations")
"""Fields that an epoch of a fit to a log density has too."""


def to_json(history: History | None) -> dict[str, Any] | None:
    """Return a history in JSON's types; NaN and infinity, which JSON lacks, become null."""
    if history is None:
        return None
    return {
        "stopped": history.stopped,
        "best_epoch": history.best_epoch,
        **{name: finite(getattr(history, name)) for name in _LOSSES},
        "epochs": [_epoch_to_json(epoch) for epoch in history],
    }


def _epoch_to_json(epoch: Epoch) -> dict[str, Any]:
    left_out = () if epoch.evaluations else _OF_DENSITY
    return {name: finite(value) for name, value in vars(epoch).items() if name not in left_out}


def finite(value: float) -> float | None:
    """Return a number that JSON has, or None for one that it has not."""
    return value if math.isfinite(value) else None


def from_json(value: dict[str, Any] | None) -> History | None:
    """Turn the result of `to_json` back; raise FileFormatError if it is none."""
    if value is None:
        return None
    entries, best, stopped = (value.get(name) for name in ("epochs", "best_epoch", "stopped"))
    if not isinstance(entries, list):
        raise FileFormatError("the history has no epochs")
    epochs: list[Epoch] = []
    for number, entry in enumerate(entries, 1):
        epochs.append(_epoch(entry, number, epochs[-1] if epochs else None))
    losses = [value.get(name) for name in _LOSSES]
    if not all(loss is None or is_number(loss) for loss in losses):
        raise FileFormatError("the history's initial or best loss is no number")
    if not isinstance(stopped, str) or not stopped.isprintable():
        raise FileFormatError("the history does not say why the fit ended")
    if type(best) is not int or not 0 <= best <= len(epochs):
        raise FileFormatError("the history's best epoch is none of its epochs")
    initial, of_best = (math.nan if loss is None else float(loss) for loss in losses)
    return History(epochs, best, stopped, initial, of_best)


def _epoch(entry: object, number: int, before: Epoch | None) -> Epoch:
    """Return the epoch of a number, after the one before it."""
    of_density = isinstance(entry, dict) and "evaluations" in entry
    counts = (*_COUNTS, "evaluations") if of_density else _COUNTS
    numbers = (*_NUMBERS, *_OF_DENSITY[:-1]) if of_density else _NUMBERS
    if not isinstance(entry, dict) or set(entry) != {*counts, *numbers}:
        raise FileFormatError(f"epoch {number} of the history is damaged")
    if entry["epoch"] != number or not all(type(entry[name]) is int and is_number(entry[name]) for name in counts):
        raise FileFormatError(f"epoch {number} of the history is counted wrong")
    if entry.get("evaluations", 1) < max(1, before.evaluations if before else 1):
        raise FileFormatError(f"epoch {number} of the history is counted wrong")
    for name in numbers:
        found = entry[name]
        if found is not None and not (is_number(found) and (found >= 0 or name not in _NOT_NEGATIVE)):
            raise FileFormatError(f"epoch {number} of the history has {name}={found!r:.20}")
    values: dict[str, Any] = {name: math.nan if found is None else found for name, found in entry.items()}
    result = Epoch(**values)
    if result.steps < (before.steps if before else 0) or (before and result.seconds < before.seconds):
        raise FileFormatError(f"epoch {number} of the history is before the one before it")
    return result


def is_number(value: object) -> bool:
    """Whether a value of a file is a number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
