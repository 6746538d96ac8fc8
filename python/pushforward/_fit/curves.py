"""The losses of a fit, drawn with Matplotlib."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pushforward._figure import BLUE, VERMILION, new_axes
from pushforward._typing import Doubles


class Curves(Sized, Protocol):
    """What is drawn of a `History`."""

    best_epoch: int

    def __getitem__(self, name: str) -> Doubles: ...


def draw(curves: Curves, ax: Axes | None) -> Figure:
    """Draw the training and validation loss of each epoch, and mark the best epoch."""
    ax = new_axes(5.0, 3.5) if ax is None else ax
    best = curves["validation_loss"][curves.best_epoch - 1] if curves.best_epoch else np.nan
    losses = {"validation": (curves["validation_loss"], VERMILION), "training": (curves["train_loss"], BLUE)}
    for label, (values, colour) in losses.items():
        if np.isfinite(values).any():
            ax.plot(curves["epoch"], values, color=colour, label=label)
    if np.isfinite(best):
        label = f"best: {best:.4f} at epoch {curves.best_epoch}"
        ax.plot(curves.best_epoch, best, "o", color="black", zorder=3, label=label)
    finite = np.concatenate([values[np.isfinite(values)] for values, _ in losses.values()])
    if len(finite):
        # The first epochs, and spikes, may be far above all others; how the curves end is what matters.
        low, high = finite.min(), np.quantile(finite, 0.9)
        margin = max(high - low, 1e-3)
        ax.set_ylim(low - 0.1 * margin, high + 0.4 * margin)
        ax.legend()
    is_divergence = np.isfinite(curves["elbo"] + curves["validation_loss"]).any()
    loss = "log q - log p" if is_divergence else "negative log-likelihood"
    ax.set(xlabel="epoch", ylabel=f"{loss} (nats per row)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    return ax.figure.figure
