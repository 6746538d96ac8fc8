"""Densities on a grid from rows: histograms, smoothed with a normal kernel that knows where a feature ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pushforward._check.distributions import effective_number
from pushforward._typing import Array, Doubles
from pushforward.plot._common import Span, spread

# Scott's rule (1992) is for one normal cluster; a part of it keeps several, and bent ones, in shape.
_PART_OF_SCOTT = 0.9
_LEAST_CELLS = 0.7  # of a bandwidth: less leaves the cells' own edges visible
_LARGEST_PART = 0.25  # of what is drawn: a kernel that shows no shape need not be wider
_REACH = 4.0  # bandwidths after which the kernel has ended
# Kernels go with the density to the power of -1/2 (Abramson 1982): thin where rows are many, wide where they are few.
_FACTORS = 2.0 ** np.arange(-2, 0.6, 0.5)
_MOST_FOR_A_BANDWIDTH = 10_000


def bandwidth(span: Span, values: Array, weights: Array | None, axes: int) -> float:
    """Return the kernel's deviation for one feature of a density of `axes` features."""
    rows = len(values) if weights is None else effective_number(weights)
    values = values[spread(len(values), weights, min(len(values), _MOST_FOR_A_BANDWIDTH))].astype(np.float64)
    if span.circle:  # cut open opposite to where most of it is
        turned = np.exp(2j * np.pi * (values - span.low) / span.width)
        values = np.angle(turned * np.conj(turned.mean())) * span.width / (2 * np.pi)
    low, high = np.quantile(values, [0.25, 0.75])
    # The quartiles' distance is that of a normal in units of its deviation; far rows do not stretch it.
    deviations = [deviation for deviation in (float(values.std()), float(high - low) / 1.349) if deviation > 0]
    return _PART_OF_SCOTT * min(deviations, default=0.0) * math.pow(rows, -1 / (axes + 4))


def density(
    columns: Sequence[Array], spans: Sequence[Span], bandwidths: Sequence[float], cells: int, weights: Array | None
) -> Doubles:
    """Return the density of one or two features in the middle of each cell.

    Where a feature ends the kernel is reflected, on a circle it goes round, and elsewhere rows beyond the span count
    too, so that the density does not sink towards any edge of its own accord.

    Parameters
    ----------
    columns : sequence of (n,) arrays
        The features' values.
    spans, bandwidths : sequences
        What is drawn of each, and its kernel.
    cells : int
        Cells of an axis.
    weights : (n,) array or None
        Weights of the rows.

    Returns
    -------
    (cells,) or (cells, cells) array
        The share of all rows by length or area; the first feature is the first axis.
    """
    widths = [span.width / cells for span in spans]
    deviations = [
        min(max(h / width, _LEAST_CELLS), _LARGEST_PART * cells) for h, width in zip(bandwidths, widths, strict=True)
    ]
    edges, inside = [], []
    for span, width, deviation in zip(spans, widths, deviations, strict=True):
        pad = math.ceil(_REACH * _FACTORS[-1] * deviation)
        before, after = (0 if bounded else pad for bounded in span.bounded)
        edges.append(np.linspace(span.low - before * width, span.high + after * width, cells + before + after + 1))
        inside.append(slice(before, before + cells))
    counts, _ = np.histogramdd(np.column_stack(columns), bins=edges, weights=weights)

    def smooth(part: Doubles, factor: float) -> Doubles:
        for axis, (span, deviation) in enumerate(zip(spans, deviations, strict=True)):
            part = _smooth(part, axis, span, max(factor * deviation, _LEAST_CELLS))
        return part

    filled = counts > 0
    if not filled.any():
        return counts[tuple(inside)]
    first = np.where(filled, smooth(counts, 1.0), 1.0)
    middle = np.average(np.log(first), weights=counts)
    # Each cell's rows are shared between the two kernels next to the one wanted.
    steps = np.interp(0.5 * (middle - np.log(first)), np.log(_FACTORS), range(len(_FACTORS)))
    second = np.zeros_like(counts)
    for k, factor in enumerate(_FACTORS):
        second += smooth(counts * np.maximum(1 - np.abs(steps - k), 0), factor)
    total = float(len(columns[0]) if weights is None else weights.sum())
    return second[tuple(inside)] / (total * math.prod(widths))


def _smooth(counts: Doubles, axis: int, span: Span, deviation: float) -> Doubles:
    """Smooth along an axis, whose cells may reach beyond the span where it does not end."""
    reach = math.ceil(_REACH * deviation)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / deviation) ** 2)
    cells = counts.shape[axis]
    # Where the mass of each cell goes: back inside where the feature ends, and beyond the grid elsewhere.
    to = np.arange(cells)[:, None] + offsets
    if span.circle:
        to = to % cells
    else:
        before, after = span.bounded
        to = np.where(before & (to < 0), -1 - to, to)
        to = np.where(after & (to >= cells), 2 * cells - 1 - to, to)
    kept = (to >= 0) & (to < cells)
    shares = np.broadcast_to(kernel / kernel.sum(), to.shape)
    flat = (np.arange(cells)[:, None] * cells + to)[kept]
    band = np.bincount(flat, shares[kept], cells * cells).reshape(cells, cells)
    return np.moveaxis(np.tensordot(counts, band, axes=(axis, 0)), -1, axis)


def thresholds(density: Doubles, levels: Sequence[float]) -> list[float]:
    """Return the density at the rim of each highest-density region, which holds that share of the grid (Hyndman 1996).

    `levels` go from the outermost region to the innermost, so that the thresholds rise; equal ones are left out, and
    all of them where nothing is.
    """
    ordered = np.sort(density, axis=None)[::-1]
    if not ordered[0] > 0:
        return []
    shares = ordered.cumsum() / ordered.sum()
    found = [float(ordered[np.searchsorted(shares, level)]) for level in levels]
    return sorted(set(found))


def to_rim(span: Span, values: Doubles, cells: int, axis: int) -> tuple[Doubles, Doubles]:
    """Add the ends of a bounded span to a density's grid, so that contours reach them; returns points and density."""
    centers = span.centers(cells)
    before, after = span.bounded
    points = np.concatenate([[span.low] * before, centers, [span.high] * after])
    room = [(0, 0)] * values.ndim
    room[axis] = (int(before), int(after))
    return points, np.pad(values, room, mode="edge")
