"""The curves of a fit."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pushforward.flow import Flow
from pushforward.history import History
from pushforward.plot._common import BLUE, VERMILION, new_axes


def history(fit: Flow | History, *, ax: Axes | None = None) -> Figure:
    """Draw the training and validation loss of each epoch, and mark the best epoch.

    Parameters
    ----------
    fit : Flow or History
        A flow that was fitted, or its history.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Figure
        The figure drawn in.

    Raises
    ------
    TypeError
        If `fit` is neither.
    ValueError
        If the flow was not fitted.

    Examples
    --------
    >>> curves = History([Epoch(i, 10 * i, 0.5 * i, 2 / i, 2.5 / i, 1e-3, 1.0) for i in (1, 2, 3)], best_epoch=3)
    >>> history(curves).savefig("loss.png")
    """
    curves = fit.history if isinstance(fit, Flow) else fit
    if curves is None:
        raise ValueError("this flow has no history: fit it first")
    if not isinstance(curves, History):
        raise TypeError(f"fit must be a Flow or a History, not {type(fit).__name__}")
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
    ax.set(xlabel="epoch", ylabel="negative log-likelihood (nats per row)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    return ax.figure.figure
