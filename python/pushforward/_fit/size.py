"""What suits a table: the size of the network, how it is regularised, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MOST_STEPS = 100_000


@dataclass(frozen=True)
class Size:
    """The defaults of a flow and of its fit.

    Parameters
    ----------
    depth, hidden, bins
        Those of `neural_spline`.
    weight_decay
        That of `Adam`.
    batch_size, epochs
        Those of `Flow.fit`; by default it makes no more than 100,000 steps.
    """

    depth: int
    hidden: int
    bins: int
    weight_decay: float
    batch_size: int
    epochs: int

    def epochs_of(self, steps: int) -> int:
        """Return the number of epochs, of so many steps each."""
        return min(self.epochs, max(1, _MOST_STEPS // steps))

    @property
    def spline(self) -> dict[str, Any]:
        """The arguments of `neural_spline`."""
        return {"depth": self.depth, "hidden": self.hidden, "bins": self.bins}


def size(rows: int) -> Size:
    """Return the defaults for a number of training rows.

    They were chosen on the tables of docs/defaults.md.
    """
    if rows < 1000:
        return Size(depth=5, hidden=32, bins=4, weight_decay=10.0, batch_size=64, epochs=100)
    # Small tables want small steps, which are many; on large ones, larger steps cost less a row.
    batch_size = 64 if rows < 4000 else 128 if rows < 10_000 else 256 if rows < 100_000 else 512
    return Size(
        depth=10,
        hidden=64,
        bins=8,
        # A decay of 1 costs 1.5 nats on 45,000 rows, none costs 3 on 3,000.
        weight_decay=min(1.0, 5000 / rows),
        batch_size=batch_size,
        epochs=60 if rows < 4000 else 100,
    )
