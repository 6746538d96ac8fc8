"""Whether the rows rank among draws under their own conditions as a calibrated flow's do."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pushforward import _checks
from pushforward._check.calibration import MOST_ROWS, Calibration, Marginal, Ranks, calibration, ranks
from pushforward._check.distributions import effective_number, uniform_band
from pushforward._figure import BLUE, NotebookFigure
from pushforward._model.state import state_of
from pushforward._typing import Seed
from pushforward.flow import Flow
from pushforward.plot._calibration import check_bins, draw_flat, frame, in_words
from pushforward.plot._common import check_flow, feature_names, table

_MOST_PANELS = 24
# Few bins: with many a flow that is a little too narrow stays within the band.
_ROWS_IN_A_BIN = 80
_SIDE = 3.3  # inches of the coverage panel
_LONGEST_NAME = 22
_RARE = 0.01


def coverage(
    flow: Flow,
    data: npt.ArrayLike,
    *,
    context: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    bins: int | None = None,
    level: float = 0.99,
    seed: Seed = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw the ranks of rows among draws under their own conditions, and what share of the rows regions hold.

    A histogram for each feature shows which share of the 200 draws under a row's condition is below the row's value
    (simulation-based calibration, Talts et al. 2018). It is flat if the flow is calibrated, high at both ends if the
    flow is too narrow, high in the middle if it is too wide, and tilted if it is too low or too high. An angle is cut
    opposite to the mean direction of the row and its draws.

    The curves show which share of the rows is in regions that should hold a given share: in the regions of highest
    density, and in balls around a reference point, the row of the most similar condition (TARP, Lemos et al. 2023).
    Curves below the diagonal show regions that hold too few rows, so a flow that is too sure.

    If the flow is calibrated, each panel lies within its grey band with probability `level`. Parts of a histogram
    beyond the band are vermilion.

    Parameters
    ----------
    flow : Flow
        The flow. Without context all rows are compared with the same density.
    data : (n, dim) array
        Rows held out of the fit. Of more than 1,000 so many are chosen at random.
    context : (n, context) or (context,) array, optional
        Conditions of each row or of all.
    weights : (n,) array, optional
        Non-negative weights of the rows.
    bins : int, optional
        Bins of a histogram, at least 2; by default 5 to 12, by the number of rows.
    level : float
        Probability that a panel of a calibrated flow lies within its band, in (0, 1).
    seed : int or numpy.random.Generator, optional
        Fixes the draws and the choice of rows.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw in.

    Returns
    -------
    matplotlib Figure
        The figure drawn in. Of more than 24 features the 24 farthest from uniform are drawn.

    Raises
    ------
    TypeError, ValueError
        Before any work, if an array has the wrong shape or type, holds NaN or infinity or values outside the support,
        or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> c = np.random.default_rng(0).normal(size=(1000, 1))
    >>> x = c + np.random.default_rng(1).normal(size=(1000, 2))
    >>> flow = Flow(2, context=1, seed=0).fit(x[:500], context=c[:500], epochs=2, seed=0)
    >>> coverage(flow, x[500:], context=c[500:], seed=0).savefig("coverage.png")
    """
    flow = check_flow(flow)
    level = _checks.number("level", level, 0, 1, closed="neither")
    x, condition, w = table(flow, data, context, weights)
    bins = check_bins(bins, min(len(x), MOST_ROWS), w, _ROWS_IN_A_BIN)
    found = ranks(state_of(flow), x, condition, w, np.random.default_rng(seed))
    result = calibration(feature_names(flow, None, data), found)
    chosen = list(range(flow.dim))
    if len(chosen) > _MOST_PANELS:
        chosen = sorted(sorted(chosen, key=lambda i: -result.marginals[i].distance)[:_MOST_PANELS])

    across = min(math.ceil(math.sqrt(len(chosen))), 6)
    down = -(-len(chosen) // across)
    width, height = 2.1 * across + 0.6, max(1.8 * down + 0.4, _SIDE)
    whole = NotebookFigure(figsize=(width + _SIDE, height), layout="constrained") if figure is None else figure
    left, right = whole.subfigures(1, 2, squeeze=False, width_ratios=(width, _SIDE))[0]
    grid = left.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for ax, i in zip(grid.flat, chosen, strict=False):
        draw_flat(ax, found.features[:, i], found.weights, bins, level)
        ax.set_title(_title(result.marginals[i]), fontsize=8)
    frame(left, grid, len(chosen), "rank among draws")
    _draw_curves(right.subplots(), found, result, level)
    return whole.figure


def _title(marginal: Marginal) -> str:
    """Return the name of a feature and what is wrong with it, or the p-value alone."""
    name, half = marginal.feature, _LONGEST_NAME // 2
    if len(name) > _LONGEST_NAME:  # names that begin alike end differently
        name = f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
    verdict = f"{marginal.direction}, " if marginal.direction and marginal.p_value < _RARE else ""
    return f"{name}\n{verdict}{in_words(marginal.p_value)}"


def _draw_curves(ax: Axes, found: Ranks, result: Calibration, level: float) -> None:
    rows = float(len(found.density)) if found.weights is None else effective_number(found.weights)
    ends, reach = np.array([0.0, 1.0]), uniform_band(rows, level)
    at = np.sort([0.0, reach, 1 - reach, 1.0])  # where the band meets the frame
    ax.fill_between(at, np.clip(at - reach, 0, 1), np.clip(at + reach, 0, 1), color="#dddddd", linewidth=0)
    ax.plot(ends, ends, color="#888888", linewidth=0.8)
    for name, u, covered, colour, style in (
        ("highest density", found.density, result.highest_density, BLUE, "-"),
        ("balls around similar rows", found.random_points, result.random_points, "black", "--"),
    ):
        order = np.argsort(u)
        shares = np.cumsum(np.ones(len(u)) if found.weights is None else found.weights[order])
        levels, held = (np.concatenate([[0], part, [1]]) for part in (u[order], shares / shares[-1]))
        ax.step(
            levels,
            held,
            where="post",
            color=colour,
            linestyle=style,
            linewidth=1.2,
            label=f"{name}: {in_words(covered.p_value)}",
        )
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.tick_params(labelsize=8)
    ax.set_xlabel("level of the regions", fontsize=9)
    ax.set_ylabel("share of the rows in them", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0.2)
