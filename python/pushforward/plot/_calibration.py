"""Whether rows are distributed on the latent side as the base is."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pushforward import _checks
from pushforward._check import distributions
from pushforward._figure import BLUE, VERMILION, NotebookFigure
from pushforward._model.latent import probability_integral
from pushforward._model.state import state_of
from pushforward._typing import Doubles
from pushforward.flow import Flow
from pushforward.plot._common import check_flow, table

_MOST_PANELS = 24
_ROWS_IN_A_BIN = 25


def calibration(
    flow: Flow,
    data: npt.ArrayLike,
    *,
    context: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    bins: int | None = None,
    level: float = 0.95,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw histograms of probability integral transforms on the latent side: flat, if the flow is the data's density.

    One panel shows each latent feature, taken to [0, 1] by the base's distribution function, and the last the radius:
    the sum of the squared features, each taken to a standard normal. Layers mix the features, so that a latent one, z0,
    z1, ..., is not one of the data. A histogram that is high in the middle shows a flow that is too wide there; one
    that is high at the ends shows a flow that is too narrow. The radius shows the same for all features together.

    If the flow is exact, the whole histogram lies within the grey band with probability `level`. Parts beyond the
    band are vermilion.

    Parameters
    ----------
    flow : Flow
        The flow.
    data : (n, dim) array
        Rows held out of the fit.
    context : (n, context) or (context,) array, optional
        Conditions of each row or of all.
    weights : (n,) array, optional
        Non-negative weights of the rows.
    bins : int, optional
        Bins of a histogram, at least 2; by default 5 to 25, by the number of rows.
    level : float
        Probability that a panel of an exact flow lies within its band, in (0, 1).
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw in.

    Returns
    -------
    matplotlib Figure
        The figure drawn in. Of more than 23 latent features the 23 farthest from uniform are drawn.

    Raises
    ------
    TypeError, ValueError
        Before any work, if an array has the wrong shape or type, holds NaN or infinity or values outside the support,
        or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> flow = Flow(2, seed=0).fit(x[:500], epochs=2, seed=0)
    >>> calibration(flow, x[500:]).savefig("calibration.png")
    """
    flow = check_flow(flow)
    level = _checks.number("level", level, 0, 1, closed="neither")
    x, condition, w = table(flow, data, context, weights)
    bins = check_bins(bins, len(x), w, _ROWS_IN_A_BIN)
    u, radius = probability_integral(state_of(flow), x, condition)
    panels = [(f"z{i}", column, distributions.uniformity(column, w)) for i, column in enumerate(u.T)]
    if len(panels) >= _MOST_PANELS:
        far = sorted(range(len(panels)), key=lambda i: -panels[i][2].distance)[: _MOST_PANELS - 1]
        panels = [panels[i] for i in sorted(far)]
    panels.append(("radius", radius, distributions.uniformity(radius, w)))

    across = min(math.ceil(math.sqrt(len(panels))), 6)
    down = -(-len(panels) // across)
    size = (2.1 * across + 0.5, 1.9 * down + 0.4)
    part = NotebookFigure(figsize=size, layout="constrained") if figure is None else figure
    grid = part.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for ax, (name, column, found) in zip(grid.flat, panels, strict=False):
        draw_flat(ax, column, w, bins, level)
        ax.set_title(f"{name}: KS {found.distance:.3f}, {in_words(found.p_value)}", fontsize=9)
    frame(part, grid, len(panels), "distribution function of the base")
    return part.figure


def check_bins(bins: int | None, rows: int, weights: Doubles | None, rows_in_a_bin: int) -> int:
    """Return the bins of a histogram: those given, or 5 to 25 that hold so many rows."""
    if bins is None:
        effective = rows if weights is None else min(rows, distributions.effective_number(weights))
        return int(np.clip(effective // rows_in_a_bin, 5, 25))
    return _checks.integer("bins", bins, 2)


def in_words(p_value: float) -> str:
    """Return a p-value as ``p = 0.12``."""
    return f"p = {p_value:.2g}" if p_value >= 0.001 else "p < 0.001"


def draw_flat(ax: Axes, u: Doubles, weights: Doubles | None, bins: int, level: float) -> None:
    """Draw a histogram of numbers in [0, 1], and the band that a uniform one lies in with this probability."""
    rows = float(len(u)) if weights is None else distributions.effective_number(weights)
    # One bar leaves its band less often by so much that all of them together do as rarely as asked.
    counts = distributions.binomial_band(rows, 1 / bins, 1 - (1 - level) / bins)
    band = (counts[0] * bins / rows, counts[1] * bins / rows)
    shares, edges = np.histogram(u, np.linspace(0, 1, bins + 1), weights=weights)
    heights = shares * bins / (len(u) if weights is None else weights.sum())
    ax.axhspan(*band, color="#dddddd", linewidth=0)
    ax.axhline(1, color="#888888", linewidth=0.8)
    ax.stairs(heights, edges, color=BLUE, linewidth=1.2, baseline=None)
    # From the rim of the band to the bar; rounding keeps no bar out that is as high as the rim.
    rim = np.clip(heights, *band)
    beyond = np.abs(heights - rim) > 1e-9
    left, width, excess = edges[:-1], np.diff(edges), heights - rim
    ax.bar(left[beyond], excess[beyond], width[beyond], rim[beyond], align="edge", color=VERMILION)


def frame(figure: Figure | SubFigure, grid: npt.NDArray[np.object_], panels: int, label: str) -> None:
    """Label the whole, set the ticks, and take away panels that are left over."""
    figure.supxlabel(label, fontsize=9)
    figure.supylabel("density of the rows", fontsize=9)
    across = grid.shape[1]
    for number, ax in enumerate(grid.flat):
        if number >= panels:
            ax.remove()
            continue
        ax.tick_params(labelsize=8, labelbottom=number + across >= panels)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    grid[0, 0].set_ylim(0, 1.05 * grid[0, 0].get_ylim()[1])
