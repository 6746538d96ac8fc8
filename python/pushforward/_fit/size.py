"""What suits a table: the bins of the splines, how it is regularised, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_STEPS = 100_000
_MANY_CONDITIONS = 20


@dataclass(frozen=True)
class Size:
    """The defaults of a flow and of its fit.

    Parameters
    ----------
    bins
        Those of `neural_spline`.
    weight_decay
        That of `Adam`.
    batch_size, epochs
        Those of `Flow.fit`; by default it makes no more than 100,000 steps.
    """

    bins: int
    weight_decay: float
    batch_size: int
    epochs: int

    def epochs_of(self, steps: int) -> int:
        """Return the number of epochs, of so many steps each."""
        return min(self.epochs, max(1, _MOST_STEPS // steps))


def size(rows: int, context: int = 0) -> Size:
    """Return the defaults for a number of training rows, and of conditioning features.

    They were chosen on the tables of docs/defaults.md.
    """
    # Small tables want small steps, which are many; on large ones, larger steps cost less a row.
    batch_size = 64 if rows < 4000 else 128 if rows < 10_000 else 256 if rows < 100_000 else 512
    # A decay of 1 costs 1.5 nats on 45,000 rows, none costs 3 on 3,000.
    weight_decay = 10.0 if rows < 1000 else min(1.0, 5000 / rows)
    epochs = 60 if rows < 4000 else 100
    if context:
        # A flow that depends on its context needs larger weights. With many conditioning features it overfits instead.
        weight_decay *= min(max(context / _MANY_CONDITIONS, 0.4), 1.0)
        epochs *= 2
    return Size(bins=4 if rows < 1000 else 8, weight_decay=weight_decay, batch_size=batch_size, epochs=epochs)
