"""Every pair of columns of a table with categories and gaps: rows and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pushforward import _checks
from pushforward._figure import BLUE, BLUE_TINTS, VERMILION, NotebookFigure
from pushforward._tables import frames
from pushforward._tables.cells import TEXT, Cells, chosen, with_none
from pushforward._tables.kinds import UNITS, Boolean, Category, Date
from pushforward._tables.schema import Column
from pushforward._typing import Array, Doubles, Seed
from pushforward.table_flow import TableFlow

_MOST_COLUMNS = 10
# Categories beyond the most frequent ones are one.
_MOST_LEVELS = 8
_LONGEST_LABEL = 10
_BINS = 24
_MOST_DOTS = 1500
# The rarest numbers on either side may be far away, and would leave little room for the others.
_BEYOND = 0.002
# Gaps of a number stand beside it, this part of its range away.
_GAP = 0.12
_HEIGHT = 0.85


def table_corner(
    flow: TableFlow,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    n: int = 10_000,
    seed: Seed = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw each column and each pair of columns of a table: rows as areas and dots, samples of the model as lines.

    Categories are bars, beside a number histograms in rows, and beside each other circles whose areas are shares. Gaps
    have a place of their own.

    Parameters
    ----------
    flow : TableFlow
        The model of a table.
    data : DataFrame, or mapping of str to array, optional
        Rows to compare it with.
    columns : sequence of str, optional
        The columns to draw; by default all, and at most 10.
    n : int
        Samples to draw from the model, at least 100.
    seed : int or numpy.random.Generator, optional
        Fixes the samples.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw in.

    Returns
    -------
    matplotlib Figure
        The figure drawn in; panel (i, j) of columns is ``axes`` number i (i + 1) / 2 + j.

    Raises
    ------
    TypeError, ValueError
        Before any work, if the model was not fitted, the table lacks a column or has no rows, or an option is out of
        its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> table = {"size": rng.normal(size=500), "kind": rng.choice(["a", "b"], 500)}
    >>> flow = TableFlow().fit(table, epochs=2, seed=0)
    >>> table_corner(flow, table, seed=0).savefig("corner.png")
    """
    if not isinstance(flow, TableFlow):
        raise TypeError(f"flow must be a TableFlow, not {type(flow).__name__}")
    names = _names(flow, columns)
    n = _checks.integer("n", n, 100)
    rows = None if data is None else chosen(frames.read(data, "data")[0], names, "data")
    if rows is not None and not len(rows[names[0]]):
        raise ValueError("data has no rows")
    samples = frames.read(flow.sample(n, seed=seed, library=frames.ARRAYS))[0]
    drawn = [_side(flow.schema[name], samples[name], None if rows is None else rows[name]) for name in names]
    part = _figure(len(names)) if figure is None else figure
    axes = part.subplots(len(names), len(names), squeeze=False)
    for i, row in enumerate(axes):
        for j, ax in enumerate(row):
            if j > i:
                ax.remove()
                continue
            _panel(ax, drawn[j], drawn[i] if j < i else None)
            _label(ax, drawn, names, i, j)
    _legend(part, axes, None if rows is None else len(rows[names[0]]), n)
    return part.figure


def _names(flow: TableFlow, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        if len(flow.columns) > _MOST_COLUMNS:
            raise ValueError(f"the model has {len(flow.columns)} columns; choose at most {_MOST_COLUMNS} to draw")
        return list(flow.columns)
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise TypeError(f"columns must be a sequence of names, not {columns!r}")
    names = [_checks.choice("column", name, flow.columns, note="the model's columns") for name in columns]
    if len(set(names)) < len(names) or not 1 <= len(names) <= _MOST_COLUMNS:
        raise ValueError(f"columns must hold 1 to {_MOST_COLUMNS} different columns, not {list(columns)!r}")
    return names


@dataclass(frozen=True)
class _Side:
    """One column on the side of a panel.

    Parameters
    ----------
    samples, rows : arrays
        Where the cells lie: numbers, or the places of categories; there may be no rows.
    edges : array
        Those of the bins of a number, or of the places of categories.
    labels : list of str
        Of categories: what stands at each place. A number has none.
    gap : float
        The place of gaps of a number; NaN if it has none.
    is_date : bool
        Whether numbers are dates, in days.
    """

    samples: Doubles
    rows: Doubles | None
    edges: Array
    labels: list[str]
    gap: float = np.nan
    is_date: bool = False

    @property
    def is_discrete(self) -> bool:
        return bool(self.labels)

    @property
    def parts(self) -> Iterator[tuple[Doubles, bool]]:
        """The rows, if there are any, and the samples; and which of both they are."""
        if self.rows is not None:
            yield self.rows, True
        yield self.samples, False


def _side(column: Column, samples: Cells, rows: Cells | None) -> _Side:
    if isinstance(column.kind, (Category, Boolean)):
        return _side_of_categories(column, samples, rows)
    unit = UNITS["D"] if isinstance(column.kind, Date) else 1
    parts = [np.where(cells.missing, np.nan, cells.values / unit) for cells in (samples, rows) if cells is not None]
    there = np.concatenate(parts)
    there = there[~np.isnan(there)]
    low, high = np.quantile(there, [_BEYOND, 1 - _BEYOND]) if len(there) else (0.0, 1.0)
    step = column.step if not isinstance(column.kind, Date) else 0.0
    # Bins of rounded numbers are whole steps, so that none has more of them than its neighbours.
    width = max(np.ceil((high - low) / _BINS / step), 1) * step if step else (high - low) / _BINS or 1.0
    low, high = (low - step / 2, high + step / 2) if step else (low, high)
    edges = low + width * np.arange(max(int(np.ceil((high - low) / width - 1e-9)), 1) + 1.0)
    gap = edges[-1] + _GAP * (edges[-1] - edges[0]) if column.gaps else np.nan
    parts = [np.where(np.isnan(part), gap, part) for part in parts]
    return _Side(parts[0], parts[1] if rows is not None else None, edges, [], float(gap), isinstance(column.kind, Date))


def _side_of_categories(column: Column, samples: Cells, rows: Cells | None) -> _Side:
    levels = list(column.kind.values) if isinstance(column.kind, Category) else [False, True]
    parts = [_places(levels, cells) for cells in (samples, rows) if cells is not None]
    counts = np.bincount(parts[-1].astype(np.int64), minlength=len(levels) + 1)[: len(levels)]
    labels = [str(level)[:_LONGEST_LABEL] for level in levels]
    if len(levels) > _MOST_LEVELS:
        shown = np.sort(np.argsort(-counts, kind="stable")[: _MOST_LEVELS - 1])
        place = np.full(len(levels) + 1, len(shown), dtype=np.float64)
        place[shown] = np.arange(len(shown))
        place[-1] = len(shown) + 1
        parts = [place[part.astype(np.int64)] for part in parts]
        labels = [*(labels[i] for i in shown), "others"]
    if column.gaps:
        labels.append("missing")
    edges = np.arange(len(labels) + 1.0) - 0.5
    return _Side(parts[0], parts[1] if rows is not None else None, edges, labels)


def _places(levels: list[Any], cells: Cells) -> Doubles:
    """Return the number of each cell's level; gaps and other values have the number after the last."""
    numbers = {level: float(i) for i, level in enumerate(levels)}
    values = with_none(cells.values, cells.missing) if cells.nature == TEXT else cells.values
    places = np.array([numbers.get(value, float(len(levels))) for value in values])
    return np.where(cells.missing, float(len(levels)), places)


# -- panels ------------------------------------------------------------------------------------------------------


def _panel(ax: Axes, x: _Side, y: _Side | None) -> None:
    if y is None:
        _marginal(ax, x)
    elif x.is_discrete and y.is_discrete:
        _circles(ax, x, y)
    elif x.is_discrete or y.is_discrete:
        _ridges(ax, x, y)
    else:
        _dots(ax, x, y)


def _shares(side: _Side, values: Doubles) -> tuple[Doubles, float]:
    """Return the share of values in each bin, and of those at the place of gaps."""
    total = max(len(values), 1)
    return np.histogram(values, side.edges)[0] / total, float((values == side.gap).sum() / total)


def _marginal(ax: Axes, side: _Side) -> None:
    for values, is_rows in side.parts:
        heights, gaps = _shares(side, values)
        if side.is_discrete:
            for place, height in enumerate(heights):
                _stairs(ax, np.array([height]), np.array([place - 0.4, place + 0.4]), is_rows)
            continue
        _stairs(ax, heights, side.edges, is_rows)
        if np.isfinite(side.gap):
            half = 0.4 * _GAP * (side.edges[-1] - side.edges[0])
            _stairs(ax, np.array([gaps]), np.array([side.gap - half, side.gap + half]), is_rows)
    ax.set_ylim(0, None)
    ax.set_yticks([])


def _stairs(ax: Axes, heights: Doubles, edges: Array, is_rows: bool, base: float = 0.0, turned: bool = False) -> None:
    style: dict[str, Any] = {"baseline": base, "orientation": "horizontal" if turned else "vertical"}
    if is_rows:
        ax.stairs(heights + base, edges, fill=True, color=BLUE_TINTS[1], linewidth=0, **style)
    else:
        ax.stairs(heights + base, edges, color=VERMILION, linewidth=1.1, **style)


def _ridges(ax: Axes, x: _Side, y: _Side) -> None:
    """Draw a histogram of a number for each category."""
    categories, number = (x, y) if x.is_discrete else (y, x)
    half = 0.4 * _GAP * (number.edges[-1] - number.edges[0])
    found = []
    for (places, is_rows), (values, _) in zip(categories.parts, number.parts, strict=True):
        for place in range(len(categories.labels)):
            here = values[places == place]
            heights, gaps = _shares(number, here)
            share = len(here) / max(len(values), 1)
            found.append((place, is_rows, heights * share, gaps * share))
    # Rows of categories are as high as they are frequent, up to a factor of their own.
    for place, is_rows, heights, gaps in found:
        top = max(max(one[2].max(initial=0.0), one[3]) for one in found if one[0] == place) or 1.0
        base = place - _HEIGHT / 2
        _stairs(ax, heights * _HEIGHT / top, number.edges, is_rows, base, x.is_discrete)
        if np.isfinite(number.gap):
            edges = np.array([number.gap - half, number.gap + half])
            _stairs(ax, np.array([gaps * _HEIGHT / top]), edges, is_rows, base, x.is_discrete)


def _circles(ax: Axes, x: _Side, y: _Side) -> None:
    size = 0.9 * 72 * min(ax.bbox.width / len(x.labels), ax.bbox.height / len(y.labels)) / ax.figure.dpi
    tables = []
    for (xs, is_rows), (ys, _) in zip(x.parts, y.parts, strict=True):
        tables.append((np.histogram2d(xs, ys, [x.edges, y.edges])[0] / max(len(xs), 1), is_rows))
    most = max(shares.max() for shares, _ in tables) or 1.0
    for shares, is_rows in tables:
        i, j = np.nonzero(shares)
        style: dict[str, Any] = {"c": BLUE_TINTS[1], "linewidths": 0}
        if not is_rows:
            style = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.1}
        ax.scatter(i, j, s=size**2 * shares[i, j] / most, **style)


def _dots(ax: Axes, x: _Side, y: _Side) -> None:
    rng = np.random.default_rng(0)  # spreads gaps, which would lie in a line
    # As many dots of either, so that clouds can be compared.
    most = min(_MOST_DOTS, *(len(values) for values, _ in x.parts))
    for (xs, is_rows), (ys, _) in zip(x.parts, y.parts, strict=True):
        some: list[Array] = []
        for side, values in ((x, xs[:most]), (y, ys[:most])):
            half = 0.3 * _GAP * (side.edges[-1] - side.edges[0])
            some.append(np.where(values == side.gap, values + rng.uniform(-half, half, len(values)), values))
        if is_rows:
            ax.scatter(some[0], some[1], s=5, c=BLUE_TINTS[2], linewidths=0, zorder=1.5)
        else:
            ax.scatter(
                some[0], some[1], s=5, facecolors="none", edgecolors=VERMILION, linewidths=0.5, alpha=0.7, zorder=2
            )


# -- what is around them -----------------------------------------------------------------------------------------


def _figure(columns: int) -> NotebookFigure:
    side = min(1.8 * columns + 0.9, 16.0) if columns > 1 else 4.0
    return NotebookFigure(figsize=(side, side), layout="constrained")


def _label(ax: Axes, sides: list[_Side], names: list[str], i: int, j: int) -> None:
    ax.tick_params(labelsize=7, length=2, labelbottom=i == len(sides) - 1, labelleft=0 == j < i)
    _limit(ax, "x", sides[j])
    if j < i:
        _limit(ax, "y", sides[i])
    if i == len(sides) - 1:
        ax.set_xlabel(names[j], fontsize=8)
    if 0 == j < i:
        ax.set_ylabel(names[i], fontsize=8)


def _limit(ax: Axes, which: str, side: _Side) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    margin = 0.03 * (side.edges[-1] - side.edges[0])
    high = max(side.edges[-1], side.gap + 2 * margin) if np.isfinite(side.gap) else side.edges[-1]
    limits = (float(side.edges[0] - margin), float(high + margin))
    ax.set_xlim(limits) if which == "x" else ax.set_ylim(limits)
    if side.is_discrete:
        ticks, labels = [float(place) for place in range(len(side.labels))], side.labels
    else:
        ticks = [tick for tick in MaxNLocator(3).tick_values(*side.edges[[0, -1]]) if limits[0] < tick < side.edges[-1]]
        labels = [_text(tick, side.is_date) for tick in ticks]
        if np.isfinite(side.gap):
            ticks, labels = [*ticks, side.gap], [*labels, "missing"]
    axis.set_ticks(ticks, labels, rotation=90 if which == "x" and max(map(len, labels), default=0) > 4 else 0)


def _text(tick: float, is_date: bool) -> str:
    return str(np.datetime64(round(tick), "D")) if is_date else f"{tick:.4g}"


def _legend(figure: Figure | SubFigure, axes: Array, rows: int | None, n: int) -> None:
    handles: list[Patch | Line2D] = [Line2D([], [], color=VERMILION, label=f"model, {n:,} samples")]
    if rows is not None:
        handles.insert(0, Patch(facecolor=BLUE_TINTS[1], edgecolor=BLUE, label=f"{rows:,} row{'s' * (rows > 1)}"))
    if len(axes) > 1:
        figure.legend(handles=handles, loc="upper right", frameon=False, fontsize=9)
    else:
        axes[0, 0].legend(handles=handles, frameon=False, fontsize=8)
