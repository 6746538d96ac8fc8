"""Every pair of features: data and samples of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pushforward import _checks
from pushforward._figure import BLUE, BLUE_TINTS, VERMILION, VERMILION_TINTS, NotebookFigure
from pushforward._typing import Array, Seed
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow
from pushforward.plot import _smooth
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
    sample,
    set_ticks,
    spans,
    table,
    unrolled,
)

_MOST_FEATURES = 20
_CELLS = 120  # of a panel's side; a contour of an inch or two shows no more
_CELLS_OF_A_CURVE = 300


def corner(
    flow: Flow | Ensemble,
    data: npt.ArrayLike | None = None,
    *,
    context: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    features: Sequence[str | int] | None = None,
    names: Sequence[str] | None = None,
    range: Ranges | None = None,
    bins: int | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    n: int = 50_000,
    seed: Seed = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw each feature and each pair of features: data as areas and dots, samples of the flow as lines.

    Parameters
    ----------
    flow : Flow or Ensemble
        The flow, or several of them.
    data : (m, dim) array, optional
        Rows to compare it with.
    context : (context,) or (m, context) array, optional
        For a conditional flow: one condition of all samples, or conditions in rows, each of equally many samples; with
        `data`, those of its rows.
    weights : (m,) array, optional
        Non-negative weights of the data.
    features : sequence of str or int, optional
        The features to draw, by name or number; by default all, and at most 20.
    names : sequence of str, optional
        Names of all the flow's features; by default those of a DataFrame, those of the flow, or x0, x1, ...
    range : mapping of str to (low, high), or sequence of (low, high) or None, optional
        Limits by name, or one entry per feature of the flow. By default they leave out 0.2 % of the rows at either end.
        A circle is drawn whole if the rows take up most of it; else the part is drawn on which they are.
    bins : int, optional
        Bins of the data's histograms; by default by the number of rows, 10 to 50.
    levels : sequence of float
        Probabilities of the regions of highest density whose contours are drawn, one to three, in (0, 1).
    n : int
        Samples to draw from the flow, at least 100. Where they are few, or the data are, contours are wider than the
        density by the kernel that makes them smooth; it is the same for both.
    seed : int or numpy.random.Generator, optional
        Fixes the samples.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw in.

    Returns
    -------
    matplotlib Figure
        The figure drawn in; panel (i, j) of features is ``axes`` number i (i + 1) / 2 + j.

    Raises
    ------
    TypeError, ValueError
        Before any work, if an array has the wrong shape or type, holds NaN or infinity or values outside the support,
        or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> flow = Flow(2, seed=0).fit(x, epochs=2, seed=0)
    >>> corner(flow, x, names=["width", "height"], seed=0).savefig("corner.png")
    """
    flow = check_model(flow)
    shares = check_levels(levels)
    n = _checks.integer("n", n, 100)
    x: Array | None = None
    w: Array | None = None
    if data is not None:
        x, condition, w = table(flow, data, context, weights)
        bins = default_bins(len(x)) if bins is None else _checks.integer("bins", bins, 1)
    elif weights is not None or bins is not None:
        raise ValueError("weights and bins are of data; give data too")
    else:
        condition = conditions(flow, context)
    labels = feature_names(flow, names, data)
    chosen = _chosen(features, labels)
    limits = limits_of(flow, labels, range)
    samples = sample(flow, n, condition, w, seed)
    drawn = spans(flow, limits, [(samples, None), *([] if x is None else [(x, w)])])
    samples, x = unrolled(samples, drawn), None if x is None else unrolled(x, drawn)

    part = _figure(len(chosen)) if figure is None else figure
    grid = _panels(part, [drawn[i] for i in chosen], [labels[i] for i in chosen])
    for row, i in enumerate(chosen):
        _marginal(grid[row][row], drawn[i], samples[:, i], None if x is None else x[:, i], w, bins or 0)
        for column, j in enumerate(chosen[:row]):
            pair = [drawn[j], drawn[i]]
            _pair(grid[row][column], pair, samples[:, [j, i]], None if x is None else x[:, [j, i]], w, shares)
    _legend(part, grid, None if x is None else len(x), n, shares)
    return part.figure


def _chosen(features: Sequence[str | int] | None, names: Sequence[str]) -> list[int]:
    """Return the numbers of the features to draw."""
    if features is None:
        if len(names) > _MOST_FEATURES:
            raise ValueError(f"this flow has dim={len(names)}; choose at most {_MOST_FEATURES} features to draw")
        return list(range(len(names)))
    if isinstance(features, str):
        raise TypeError(f"features must be a sequence of names or numbers, not {features!r}")
    chosen = []
    for feature in features:
        if isinstance(feature, str):
            feature = names.index(_checks.choice("feature", feature, names, note="the features"))
        if _checks.integer("feature", feature) >= len(names):
            raise ValueError(f"there is no feature {feature}; this flow has dim={len(names)}")
        chosen.append(int(feature))
    if len(set(chosen)) < len(chosen) or not 1 <= len(chosen) <= _MOST_FEATURES:
        raise ValueError(f"features must hold 1 to {_MOST_FEATURES} different features, not {list(features)!r}")
    return chosen


def _figure(features: int) -> NotebookFigure:
    # A panel of 1.7 inches leaves room for four tick labels; more features than 8 get smaller ones.
    side = min(1.7 * features + 1.1, 15.0) if features > 1 else 4.5
    return NotebookFigure(figsize=(side, side if features > 1 else 3.5))


def _panels(figure: Figure | SubFigure, drawn: Sequence[Span], names: Sequence[str]) -> list[list[Axes]]:
    """Add the lower triangle of panels, with shared limits; labels stand at the left and below."""
    features = len(names)
    width, height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi  # inches
    panel = (width - 1.1) / features
    size = 9.0 if panel > 1.2 else 7.0
    room = 72 * panel / (0.65 * size)  # of digits, which are about so wide
    grid = figure.add_gridspec(
        features, features, left=0.95 / width, right=1 - 0.15 / width, bottom=0.8 / height, top=1 - 0.15 / height,
        wspace=0.06, hspace=0.06,
    )  # fmt: skip
    axes: list[list[Axes]] = []
    for i in range(features):
        axes.append([])
        for j in range(i + 1):
            ax = figure.add_subplot(
                grid[i, j], sharex=axes[j][j] if i > j else None, sharey=axes[i][0] if 0 < j < i else None
            )
            axes[i].append(ax)
            ax.tick_params(labelsize=size, length=2.5, labelbottom=bool(i == features - 1), labelleft=bool(0 == j < i))
            if i == j:
                ax.set_xlim(drawn[i].low, drawn[i].high)
                ax.tick_params(left=False)
            elif j == 0:
                ax.set_ylim(drawn[i].low, drawn[i].high)
    for k, (span, name) in enumerate(zip(drawn, names, strict=True)):
        for i in range(k, features):
            left_out = set_ticks(axes[i][k].xaxis, span, margin=0.04, room=room)
        for j in range(k):
            set_ticks(axes[k][j].yaxis, span, margin=0.04, room=room)
        axes[k][k].yaxis.set_ticks([])
        label = f"{name}\n{left_out}" if left_out else name
        axes[-1][k].set_xlabel(label, fontsize=size + 1)
        if k:
            axes[k][0].set_ylabel(label, fontsize=size + 1)
    if features > 1:
        figure.align_labels([row[0] for row in axes[1:]])
        figure.align_labels(axes[-1])
    return axes


def _marginal(ax: Axes, span: Span, samples: Array, data: Array | None, weights: Array | None, bins: int) -> None:
    top = 0.0
    if data is not None:
        heights, edges = histogram(data, span, bins, weights)
        ax.stairs(heights, edges, fill=True, color=BLUE_TINTS[0])
        ax.stairs(heights, edges, color=BLUE, linewidth=0.8)
        top = heights.max()
    curve = _smooth.density([samples], [span], [_smooth.bandwidth(span, samples, None, 1)], _CELLS_OF_A_CURVE, None)
    points, curve = _smooth.to_rim(span, curve, _CELLS_OF_A_CURVE, 0)
    if data is None:
        ax.fill_between(points, curve, color=VERMILION_TINTS[0], linewidth=0)
    ax.plot(points, curve, color=VERMILION, linewidth=1.4)
    ax.set_ylim(0, 1.1 * max(curve.max(), top) or 1.0)


def _pair(
    ax: Axes, pair: list[Span], samples: Array, data: Array | None, weights: Array | None, shares: Sequence[float]
) -> None:
    # The same kernel for both, that of the fewer rows: then what differs is not the kernel.
    few, their_weights = (samples, None) if data is None or len(samples) < len(data) else (data, weights)
    kernel = [_smooth.bandwidth(span, column, their_weights, 2) for span, column in zip(pair, few.T, strict=True)]
    if data is None:
        _contours(ax, pair, samples, None, kernel, shares, VERMILION_TINTS)
    else:
        draw_dots(ax, data, weights, BLUE)
        _contours(ax, pair, data, weights, kernel, shares, BLUE_TINTS)
    _contours(ax, pair, samples, None, kernel, shares)


def _contours(
    ax: Axes,
    pair: list[Span],
    rows: Array,
    weights: Array | None,
    kernel: Sequence[float],
    shares: Sequence[float],
    tints: Sequence[str] = (),
) -> None:
    """Draw the regions of highest density as areas in tints, or their contours as lines of the flow."""
    density = _smooth.density(list(rows.T), pair, kernel, _CELLS, weights)
    thresholds = _smooth.thresholds(density, shares)
    xs, density = _smooth.to_rim(pair[0], density, _CELLS, 0)
    ys, density = _smooth.to_rim(pair[1], density, _CELLS, 1)
    if not thresholds:
        return
    if tints:
        ax.contourf(xs, ys, density.T, [*thresholds, 1.01 * density.max()], colors=tints[: len(thresholds)], zorder=1.6)
    else:
        widths = np.linspace(0.9, 1.5, len(thresholds))
        ax.contour(xs, ys, density.T, thresholds, colors=VERMILION, linewidths=widths)


def _legend(
    figure: Figure | SubFigure, axes: list[list[Axes]], rows: int | None, n: int, shares: Sequence[float]
) -> None:
    handles: list[Patch | Line2D] = [Line2D([], [], color=VERMILION, label=f"flow, {n:,} samples")]
    if rows is not None:
        tint = BLUE_TINTS[min(1, len(shares) - 1)]
        handles.insert(0, Patch(facecolor=tint, edgecolor=BLUE, label=f"data, {rows:,} row{'s' * (rows > 1)}"))
    title = f"regions of {percent(shares)}" if len(axes) > 1 else None
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "title": title, "title_fontsize": 9, "borderaxespad": 0}
    if len(axes) > 1:
        beside = axes[0][0].get_position()
        place = (beside.x1 + 0.06 * beside.width, beside.y1)
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, alignment="left", **style)
    else:
        axes[0][0].legend(handles=handles, **style)
