"""The curves of a fit."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pushforward._fit.curves import draw
from pushforward._fit.history import History
from pushforward.flow import Flow


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
    return draw(curves, ax)
