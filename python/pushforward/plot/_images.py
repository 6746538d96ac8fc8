"""Sheets of images: samples at some temperatures, and images through latent space and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pushforward import _checks
from pushforward._figure import NotebookFigure
from pushforward._model.place import Place
from pushforward._typing import Array, Doubles, Seed
from pushforward.flow import Flow

_GAP = 1  # pixels between images
_INCHES = 3.2  # of a square sheet


def images(
    flow: Flow,
    n: int = 36,
    *,
    temperatures: Sequence[float] = (1.0,),
    data: npt.ArrayLike | None = None,
    context: npt.ArrayLike | None = None,
    seed: Seed = 0,
) -> Figure:
    """Draw images of a flow: samples, or given images that go through latent space and back.

    Of `data`, the sheets show the images, and what comes back of their latent points. If the flow has `Split` layers,
    further sheets show what comes back if the levels nearest to the data are replaced by draws from the base: one
    level, then two, and so on. They show which level holds what.

    Parameters
    ----------
    flow : Flow
        A flow whose rows are images, of one channel (grey) or three (red, green, blue).
    n : int
        How many images a sheet has, at least 1.
    temperatures : sequence of float
        A sheet of samples for each: what the scale of the base is multiplied with. The draws are the same.
    data : (m, channels, height, width) array, optional
        Images, of which the first `n` are drawn.
    context : (n, context) or (context,) array, optional
        Conditions of each image or of all.
    seed : int or numpy.random.Generator, optional
        Fixes the draws.

    Returns
    -------
    matplotlib Figure
        The sheets, side by side.

    Raises
    ------
    TypeError, ValueError
        If the flow is none of images, or an argument has the wrong shape or type.

    Examples
    --------
    >>> flow = Flow(shape=(1, 4, 4), layers=[], support=Pixel(16))
    >>> images(flow, 9, temperatures=(0.7, 1.0)).savefig("samples.png")
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a Flow, not {type(flow).__name__}")
    if flow.shape is None or flow.shape[0] not in (1, 3):
        raise ValueError(
            f"images draws flows of 1 or 3 channels; this one has {'no shape' if flow.shape is None else flow.shape}"
        )
    n = _checks.integer("n", n, 1)
    key = int(np.random.default_rng(seed).integers(1 << 63))
    if data is not None:
        images, conditions = np.asarray(data), None if context is None else np.asarray(context)
        if conditions is not None and conditions.ndim == 2 and len(conditions) == len(images):
            conditions = conditions[:n]
        return _draw(flow, _carried(flow, images[:n], conditions, key))
    if isinstance(temperatures, str) or not isinstance(temperatures, Sequence) or not temperatures:
        raise TypeError(f"temperatures must be a sequence of numbers such as (0.7, 1.0), not {temperatures!r}")
    sheets = [flow.sample(n, context, key, temperature=t) for t in temperatures]
    names = ["samples"] if len(sheets) == 1 else [f"temperature {t:g}" for t in temperatures]
    return _draw(flow, dict(zip(names, sheets, strict=True)))


def _carried(flow: Flow, x: Array, context: npt.ArrayLike | None, key: int) -> dict[str, Array]:
    """Return images, what comes back of their latent points, and what if one level or more is replaced by draws."""
    z = flow.inverse(x, context)[0]
    drawn = flow.sample_latent(len(z), key)
    found = {"data": x, "through latent space": flow.forward(z, context)[0]}
    for level, begin in enumerate(reversed(_levels(flow)[1:]), 1):
        mixed = np.concatenate([z[:, :begin], drawn[:, begin:]], axis=1)
        name = "finest level" if level == 1 else f"{level} finest levels"
        found[f"{name} drawn"] = flow.forward(mixed, context)[0]
    return found


def _levels(flow: Flow) -> list[int]:
    """Return where the latent features of each level begin, from the innermost level on."""
    place = Place(flow.dim, flow.context, flow.shape)
    begins = []
    for layer in reversed(flow.layers):
        before = layer.place_before(place)
        if before.dim < place.dim:
            begins.append(before.dim)
        place = before
    return [0, *reversed(begins)]


def _draw(flow: Flow, sheets: dict[str, Array]) -> Figure:
    support = flow.support[0]
    low, high = support.ends
    if support.has_cells:
        sheets, high = {name: np.floor(x) for name, x in sheets.items()}, high - 1
    if not np.isfinite([low, high]).all():
        every = np.concatenate([np.ravel(x) for x in sheets.values()])
        low, high = (float(end) for end in np.quantile(every, [0.01, 0.99]))
    figure = NotebookFigure(figsize=(_INCHES * len(sheets), _INCHES * 1.12), layout="constrained")
    axes = figure.subplots(1, len(sheets), squeeze=False)[0]
    for ax, (name, x) in zip(axes, sheets.items(), strict=True):
        shades = np.clip((x.astype(np.float64) - low) / (high - low if high > low else 1.0), 0, 1)
        sheet = _sheet(shades)
        ax.imshow(sheet if sheet.shape[2] == 3 else sheet[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(name)
        ax.set_axis_off()
    return figure


def _sheet(x: Doubles) -> Doubles:
    """Return images (n, channels, height, width) as one image (rows, columns, channels) with gaps of grey."""
    count, channels, height, width = x.shape
    across = math.ceil(math.sqrt(count))
    down = -(-count // across)
    sheet = np.full((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, channels), 0.5)
    for i, image in enumerate(x):
        top, left = i // across * (height + _GAP), i % across * (width + _GAP)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet
