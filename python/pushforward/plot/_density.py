"""The density itself, of one or two features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pushforward import _checks
from pushforward._figure import BLUE, VERMILION, VERMILION_TINTS, new_axes
from pushforward._typing import Array, Seed
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow
from pushforward.plot._common import (
    Ranges,
    Span,
    check_levels,
    check_model,
    conditions,
    default_bins,
    draw_dots,
    feature_names,
    histogram,
    limits_of,
    percent,
    rolled,
    sample,
    set_ticks,
    spans,
    table,
    unrolled,
)

_POINTS_OF_A_CURVE = 1000


def density(
    flow: Flow | Ensemble,
    data: npt.ArrayLike | None = None,
    *,
    context: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
    range: Ranges | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    points: int = 400,
    n: int = 10_000,
    seed: Seed = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the density of a flow of one or two features, as the flow computes it, without samples or smoothing.

    One feature is a curve with the regions of highest density below it. Two are shades of blue, with the
    contours of the regions as lines.

    Parameters
    ----------
    flow : Flow or Ensemble
        The flow, or several of them, of one or two features; `corner` draws more.
    data : (m, dim) array, optional
        Rows to draw too, as a histogram or as dots (at most 3,000).
    context : (context,) array, optional
        The condition, for a conditional flow.
    names : sequence of str, optional
        Names of the features; by default those of a DataFrame, those of the flow, or x0, x1.
    range : mapping of str to (low, high), or sequence of (low, high) or None, optional
        Limits by name, or one entry per feature. By default they leave out 0.2 % of the rows at either end. A
        circle is drawn whole if the rows take up most of it; else the part is drawn on which they are.
    levels : sequence of float
        Shares of the regions of highest density, one to three, in (0, 1).
    points : int
        Points along either side of a picture of two features, at least 10.
    n : int
        Samples that tell the limits and the regions, at least 100.
    seed : int or numpy.random.Generator, optional
        Fixes the samples.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Figure
        The figure drawn in.

    Raises
    ------
    TypeError, ValueError
        Before any work, if the flow has more than two features, an array has the wrong shape or type, or holds NaN or
        infinity or values outside the support, or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> flow = Flow(2, seed=0).fit(x, epochs=2, seed=0)
    >>> density(flow, points=50, seed=0).savefig("density.png")
    """
    flow = check_model(flow)
    if flow.dim > 2:
        raise ValueError(f"density draws one or two features, and this flow has dim={flow.dim}; corner draws more")
    shares = check_levels(levels)
    points, n = _checks.integer("points", points, 10), _checks.integer("n", n, 100)
    condition = conditions(flow, context)
    if condition is not None and condition.ndim == 2:
        raise ValueError(f"context has shape {condition.shape}; a density has one condition, ({flow.context},)")
    x = None if data is None else table(flow, data, condition)[0]
    labels = feature_names(flow, names, data)
    limits = limits_of(flow, labels, range)
    samples = sample(flow, n, condition, None, seed)
    log_prob = np.sort(flow.log_prob(samples, condition))
    # The region that holds a share of the mass is where the density is above that of the rest of its own samples.
    thresholds = [float(np.exp(log_prob[int((1 - share) * n)])) for share in shares]
    drawn = spans(flow, limits, [(samples, None), *([] if x is None else [(x, None)])])
    x = None if x is None else unrolled(x, drawn)

    if ax is None:
        ax = new_axes(5.0, 3.5) if flow.dim == 1 else new_axes(5.5, 4.5)
    if flow.dim == 1:
        _curve(ax, flow, condition, drawn[0], thresholds, shares, x)
    else:
        _surface(ax, flow, condition, drawn, points, thresholds, shares, x)
    for axis, span, name in zip((ax.xaxis, ax.yaxis), drawn, labels, strict=False):
        left_out = set_ticks(axis, span)
        axis.set_label_text(f"{name}  ({left_out})" if left_out else name)
    return ax.figure.figure


def _curve(
    ax: Axes,
    flow: Flow | Ensemble,
    context: Array | None,
    span: Span,
    thresholds: Sequence[float],
    shares: Sequence[float],
    data: Array | None,
) -> None:
    at = span.centers(_POINTS_OF_A_CURVE)
    values = np.exp(flow.log_prob(rolled(at[:, None], [span]), context))
    ax.plot(at, values, color=VERMILION, label="density of the flow")
    for threshold, share, tint in zip(thresholds, shares, VERMILION_TINTS, strict=False):
        ax.fill_between(
            at, values, where=values >= threshold, color=tint, linewidth=0, label=f"region of {100 * share:g} %"
        )
    top = values.max()
    if data is not None:
        heights, edges = histogram(data[:, 0], span, default_bins(len(data)), None)
        ax.stairs(heights, edges, color=BLUE, label=f"data, {len(data):,} rows")
        top = max(top, heights.max())
    ax.set(xlim=(span.low, span.high), ylim=(0, 1.08 * top or 1.0), ylabel="density")
    ax.legend(frameon=False, fontsize=9)


def _surface(
    ax: Axes,
    flow: Flow | Ensemble,
    context: Array | None,
    drawn: Sequence[Span],
    points: int,
    thresholds: Sequence[float],
    shares: Sequence[float],
    data: Array | None,
) -> None:
    xs, ys = (span.centers(points) for span in drawn)
    at = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    values = np.exp(flow.log_prob(rolled(at, drawn), context)).reshape(points, points)
    shades = ax.pcolormesh(*(span.edges(points) for span in drawn), values, cmap="Blues", vmin=0, rasterized=True)
    inside = sorted(
        {threshold for threshold in thresholds if values.min() < threshold < values.max()}
    )  # none of a flat density
    if inside:
        ax.contour(xs, ys, values, inside, colors=VERMILION, linewidths=np.linspace(0.9, 1.5, len(inside)))
    handles = [Line2D([], [], color=VERMILION, label=f"regions of {percent(shares)}")]
    if data is not None:
        draw_dots(ax, data, None, "black")
        dot = Line2D([], [], linestyle="", marker=".", color="black", label=f"data, {len(data):,} rows")
        handles.append(dot)
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "borderaxespad": 0.2}
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, **style)
    ax.set(xlim=(drawn[0].low, drawn[0].high), ylim=(drawn[1].low, drawn[1].high))
    ax.figure.colorbar(shades, ax=ax, label="density")
