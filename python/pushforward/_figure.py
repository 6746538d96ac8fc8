"""Figures and colours, for all that is drawn with Matplotlib."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008)
BLUE, VERMILION = "#0072B2", "#D55E00"
BLUE_TINTS = ("#cfe3f0", "#8fbedc", "#4d98c8")
"""From the outermost region to the innermost."""
VERMILION_TINTS = ("#f9e2d3", "#eeb693", "#e28b55")


class NotebookFigure(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png")
        return image.getvalue()


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of so many inches."""
    axes: Axes = NotebookFigure(figsize=(width, height), layout="constrained").subplots()
    return axes
