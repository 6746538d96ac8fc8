"""The curves of a fit."""

from __future__ import annotations

import math
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
        Mean negative log-likelihood of its minibatches, each before its step, in nats.
    validation_loss : float
        Mean negative log-likelihood of the validation rows after it, in nats; NaN without any.
    learning_rate : float
        That of its last step.
    grad_norm : float
        Mean Euclidean norm of its gradients, before clipping.
    """

    epoch: int
    steps: int
    seconds: float
    train_loss: float
    validation_loss: float
    learning_rate: float
    grad_norm: float


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
    """"epochs", "max_time", "patience", "callback", "interrupted" or "diverged"."""
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
        if not np.isnan(self.best_loss):
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


def to_json(history: History | None) -> dict[str, Any] | None:
    """Return a history in JSON's types; NaN, which JSON lacks, becomes null."""
    if history is None:
        return None
    epochs = [
        {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in vars(epoch).items()}
        for epoch in history
    ]
    losses = {name: getattr(history, name) for name in _LOSSES}
    return {
        "stopped": history.stopped,
        "best_epoch": history.best_epoch,
        **{name: None if math.isnan(loss) else loss for name, loss in losses.items()},
        "epochs": epochs,
    }


def from_json(value: dict[str, Any] | None) -> History | None:
    """Turn the result of `to_json` back; raise FileFormatError if it is none."""
    if value is None:
        return None
    epochs, best, stopped = (value.get(name) for name in ("epochs", "best_epoch", "stopped"))
    losses = [value.get(name) for name in _LOSSES]
    names = set(Epoch.__dataclass_fields__)
    if not isinstance(epochs, list) or not all(isinstance(e, dict) and set(e) == names for e in epochs):
        raise FileFormatError("the history has no epochs, or damaged ones")
    if not all(x is None or type(x) in (int, float) for epoch in epochs for x in epoch.values()):
        raise FileFormatError("the history has an epoch with a value that is no number")
    if not all(loss is None or type(loss) in (int, float) for loss in losses):
        raise FileFormatError("the history's initial or best loss is no number")
    if not isinstance(stopped, str) or type(best) is not int or not 0 <= best <= len(epochs):
        raise FileFormatError("the history's best epoch is none of its epochs")
    null_is_nan: list[dict[str, Any]] = [
        {name: math.nan if x is None else x for name, x in epoch.items()} for epoch in epochs
    ]
    initial, of_best = (math.nan if loss is None else float(loss) for loss in losses)
    return History([Epoch(**epoch) for epoch in null_is_nan], best, stopped, initial, of_best)
