"""What the plots share: colours, figures, names and limits of features, samples to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, ScalarFormatter

from pushforward import _checks
from pushforward._figure import BLUE_TINTS
from pushforward._io.rows import Rows
from pushforward._io.scan import check_values
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles, Seed
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow

Model: TypeAlias = Flow | Ensemble
Ranges: TypeAlias = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float] | None]

_MARGIN = 0.05
# The rarest rows on either side may be far away, and would leave little room for the others.
_BEYOND = 0.002
_MOST_DOTS = 3000
# A circle is cut into so many cells to find the part on which the rows are. A part of more than this share is drawn as
# the whole; the shortest is some cells long.
_ARC_CELLS = 7200
_MOST_OF_A_TURN = 0.6
_LEAST_ARC_CELLS = 4
_ASTRAY = 0.03
# How many intervals, of what lengths; odd lengths come in where the others leave room for less than two ticks.
_EVEN, _ODD = [1, 2, 5, 10], [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]
_TICKS = [(6, _EVEN), (5, _EVEN), (4, _EVEN), (3, _EVEN), (3, _ODD), (2, _ODD)]


def check_flow(flow: object) -> Flow:
    """Return `flow`, if it is one."""
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a Flow, not {type(flow).__name__}")
    _refuse_images(flow)
    return flow


def _refuse_images(flow: Model) -> None:
    """Raise if rows are images, and not flat."""
    if flow.shape is not None:
        raise ValueError(f"this plot shows features, and rows of the shape {flow.shape} are images: use plot.images")


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return levels of regions from the outermost to the innermost."""
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise TypeError(f"levels must be a sequence of shares such as (0.5, 0.9), not {levels!r}")
    shares = {
        _checks.number(f"levels[{i}]", level, 0, 1, closed="neither", what="a share") for i, level in enumerate(levels)
    }
    if not 1 <= len(shares) <= len(BLUE_TINTS):
        raise ValueError(f"levels must hold 1 to {len(BLUE_TINTS)} different shares, not {len(shares)}")
    return tuple(sorted(shares, reverse=True))


def percent(shares: Sequence[float]) -> str:
    """Return shares as ``50 and 90 %``."""
    return " and ".join(f"{100 * share:g}" for share in sorted(shares)) + " %"


def check_model(model: object) -> Model:
    """Return a flow or an ensemble."""
    if not isinstance(model, (Flow, Ensemble)):
        raise TypeError(f"flow must be a Flow or an Ensemble, not {type(model).__name__}")
    _refuse_images(model)
    return model


def feature_names(flow: Model, names: Sequence[str] | None, data: object = None) -> tuple[str, ...]:
    """Return the features' names: those given, those of a DataFrame, those of the flow, or x0, x1, ..."""
    if names is None:
        return _checks.column_names(data) or flow.columns or tuple(f"x{i}" for i in range(flow.dim))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or len(names) != flow.dim:
        raise ValueError(f"names must be {flow.dim} strings, one per feature, not {names!r}")
    return tuple(names)


def table(
    flow: Model, data: object, context: object, weights: object = None
) -> tuple[Array, Array | None, Doubles | None]:
    """Return rows, their conditions and their weights, checked; rows of weight 0 are left out."""
    x = _checks.table(data, flow.dim, "data", columns=flow.columns)
    if not len(x):
        raise ValueError("data has no rows")
    condition = _checks.condition(context, flow.context, len(x), flow.context_columns)
    x, condition, w = _checks.counted(x, condition, _checks.row_weights(weights, len(x)))
    each = None if condition is None else np.broadcast_to(condition, (len(x), flow.context))
    check_values(Rows.of(x, each, None), "data", flow.support)
    return x, condition, w


def conditions(flow: Model, context: object) -> Array | None:
    """Return one condition, (context,), or any number of them, (m, context), checked."""
    rows = len(array) if context is not None and (array := np.asarray(context)).ndim == 2 else 1
    condition = _checks.condition(context, flow.context, rows, flow.context_columns)
    if condition is not None and not (condition.size and np.isfinite(condition).all()):
        raise ValueError("context holds NaN or infinity, or no row")
    return condition


def spread(rows: int, weights: Array | None, n: int) -> npt.NDArray[np.int64]:
    """Return the numbers of `n` of so many rows, evenly spaced: each equally often, or in proportion to its weight."""
    ends = np.arange(1.0, rows + 1) if weights is None else np.cumsum(weights)
    numbers: npt.NDArray[np.int64] = np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])
    return numbers


def sample(flow: Model, n: int, context: Array | None, weights: Array | None, seed: Seed) -> Doubles:
    """Draw rows; of conditions in rows each comes equally often, or in proportion to its weight."""
    if context is not None and context.ndim == 2:
        context = context[spread(len(context), weights, n)]
    return flow.sample(n, context, seed).astype(np.float64)


# -- limits --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The part of a feature that is drawn, and how it ends there."""

    low: float
    high: float
    bounded: tuple[bool, bool]
    """Whether the feature ends at `low`, and at `high`."""
    circle: bool
    """Whether `low` and `high` are one point."""
    turn: tuple[float, float] | None = None
    """The ends of the whole circle, of which a part is drawn. The part may reach beyond either."""

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low

    def edges(self, cells: int) -> Doubles:
        """Cut it into cells, (cells + 1,)."""
        return np.linspace(self.low, self.high, cells + 1)

    def centers(self, cells: int) -> Doubles:
        """Return the middles of the cells, (cells,)."""
        edges = self.edges(cells)
        return 0.5 * (edges[1:] + edges[:-1])

    def unrolled(self, values: Array) -> Array:
        """Return values of the feature where they are drawn: on a circle, less than half a turn from the middle."""
        if self.turn is None:
            return values
        whole = self.turn[1] - self.turn[0]
        cut = 0.5 * (self.low + self.high - whole)
        unrolled: Array = cut + (values.astype(np.float64) - cut) % whole
        return unrolled

    def rolled(self, values: Array) -> Array:
        """Return values that are drawn as the feature has them."""
        if self.turn is None:
            return values
        low, high = self.turn
        rolled: Array = low + (values - low) % (high - low)
        return rolled


Limits: TypeAlias = list[tuple[float, float] | None]


def limits_of(flow: Model, names: Sequence[str], given: Ranges | None) -> Limits:
    """Return what is given of each feature's limits, within its support."""
    if given is None:
        return [None] * flow.dim
    if isinstance(given, Mapping):
        for name in given:
            _checks.choice("range has a feature", name, names, note="the features")
        given = [given.get(name) for name in names]
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"range must be a mapping of names to (low, high), or a sequence of (low, high), not {given!r}")
    if len(given) != flow.dim:
        raise ValueError(f"range has {len(given)} entries; this flow has dim={flow.dim}")
    limits: Limits = []
    for name, ends, support in zip(names, given, flow.support, strict=True):
        if ends is None:
            limits.append(None)
            continue
        if not isinstance(ends, Sequence) or len(ends) != 2:
            raise ValueError(f"range of {name!r} must be (low, high), not {ends!r}")
        low, high = (_checks.number(f"range of {name!r}", end, -math.inf, math.inf, closed="neither") for end in ends)
        if not low < high:
            raise ValueError(f"range of {name!r} must be (low, high) with low < high, not {ends!r}")
        least, most = support.ends
        limits.append((max(low, least), min(high, most)))
        if not max(low, least) < min(high, most):
            raise ValueError(f"range of {name!r} is {ends!r}, which holds nothing of its support {support!r}")
    return limits


def spans(flow: Model, limits: Limits, tables: Sequence[tuple[Array, Array | None]]) -> list[Span]:
    """Return what part of each feature to draw: within its limits, or where nearly all rows of the tables are."""
    return [
        _span(flow.support[i], ends, [(x[:, i], weights) for x, weights in tables]) for i, ends in enumerate(limits)
    ]


def unrolled(x: Array, drawn: Sequence[Span]) -> Array:
    """Return rows with every feature where it is drawn."""
    return np.column_stack([span.unrolled(column) for span, column in zip(drawn, x.T, strict=True)])


def rolled(x: Array, drawn: Sequence[Span]) -> Array:
    """Return points of a picture as rows of the table."""
    return np.column_stack([span.rolled(column) for span, column in zip(drawn, x.T, strict=True)])


def _arc(support: Support, columns: list[tuple[Array, Array | None]]) -> tuple[float, float] | None:
    """Return the shortest part of a circle that holds nearly all of each column; None if that is most of it.

    The first column is of samples, of which some may be anywhere: the base density of a circle is uniform.
    """
    least, most = support.ends
    width = (most - least) / _ARC_CELLS
    lengths = np.zeros(_ARC_CELLS, dtype=np.int64)  # by the first cell
    for (column, weights), beyond in zip(columns, (_ASTRAY, 2 * _BEYOND), strict=False):
        counts, _ = np.histogram(column.astype(np.float64), _ARC_CELLS, (least, most), weights=weights)
        mass = np.concatenate([[0.0], np.cumsum(np.tile(counts / counts.sum(), 2))])
        wanted = mass[:_ARC_CELLS] + 1 - beyond
        lengths = np.maximum(lengths, np.searchsorted(mass, wanted - 1e-9) - np.arange(_ARC_CELLS))
    first = int(lengths.argmin())
    length = max(int(lengths[first]), _LEAST_ARC_CELLS)
    if length > _MOST_OF_A_TURN * _ARC_CELLS:
        return None
    margin = _MARGIN * length
    low, high = least + (first - margin) * width, least + (first + length + margin) * width
    # Where it crosses the ends of the circle, it is drawn around the end next to 0.
    turn = most - least
    return (low - turn, high - turn) if high > most and abs(low + high - 2 * turn) < abs(low + high) else (low, high)


def _span(support: Support, ends: tuple[float, float] | None, columns: list[tuple[Array, Array | None]]) -> Span:
    least, most = support.ends
    if ends is not None:
        low, high = ends
    elif support.wraps:
        arc = _arc(support, columns)
        if arc is not None:
            return Span(*arc, (False, False), False, (least, most))
        low, high = least, most
    else:
        quantiles = [_quantiles(column, weights) for column, weights in columns]
        low, high = min(low for low, _ in quantiles), max(high for _, high in quantiles)
        margin = _MARGIN * ((high - low) or max(abs(low), 1.0))
        low, high = max(low - margin, least), min(high + margin, most)
    bounded = (low == least, high == most)
    return Span(low, high, bounded, support.wraps and all(bounded))


def _quantiles(column: Array, weights: Array | None) -> tuple[float, float]:
    values = np.sort(column) if weights is None else column[order := np.argsort(column)]
    ends = np.arange(1, len(values) + 1) if weights is None else np.cumsum(weights[order])
    low, high = np.searchsorted(ends, np.array([_BEYOND, 1 - _BEYOND]) * ends[-1])
    return float(values[low]), float(values[min(high, len(values) - 1)])


# -- data ----------------------------------------------------------------------------------------------------------


def default_bins(rows: int) -> int:
    """Return the number of a histogram's bins, by Rice's rule."""
    return int(np.clip(round(2 * rows ** (1 / 3)), 10, 50))


def histogram(column: Array, span: Span, bins: int, weights: Array | None) -> tuple[Doubles, Doubles]:
    """Return the density in each bin, of all rows, and the bins' edges."""
    counts, edges = np.histogram(column, span.edges(bins), weights=weights)
    total = len(column) if weights is None else weights.sum()
    return counts / (total * span.width / bins), edges


def draw_dots(ax: Axes, rows: Array, weights: Array | None, colour: str) -> None:
    """Draw rows beneath all else: all of them, or some in proportion to their weights."""
    some = rows[spread(len(rows), weights, min(len(rows), _MOST_DOTS))]
    ax.plot(*some.T, ".", color=colour, markersize=2, alpha=0.5, markeredgewidth=0, rasterized=True, zorder=1.5)


# -- axes ----------------------------------------------------------------------------------------------------------


def set_ticks(axis: Axis, span: Span, *, margin: float = 0.0, room: float = math.inf) -> str:
    """Set at most seven ticks, none in a margin at either end that is this part of the span.

    They are so few that their labels do not touch where the whole span is as long as `room` characters. Returns what
    the labels leave out, such as ``1e6`` or ``+1.2e9``, for the axis' own label.
    """
    low, high = span.low + margin * span.width, span.high - margin * span.width
    formatter = ScalarFormatter()
    formatter.set_powerlimits((-3, 5))
    axis.set_major_formatter(formatter)
    for most, steps in _TICKS:
        locator = MaxNLocator(most, steps=steps, min_n_ticks=1)
        ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        axis.set_major_locator(FixedLocator(ticks))
        longest = max(map(len, formatter.format_ticks(ticks)), default=0)
        if len(ticks) > 1 and longest + 1 <= room * (ticks[1] - ticks[0]) / span.width:
            break
    axis.get_offset_text().set_visible(False)
    return formatter.get_offset()
