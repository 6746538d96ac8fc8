"""Where a layer stands in a flow: the features that it moves, and the shape they have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pushforward import _checks
from pushforward._dispatch import core

Shape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Place:
    """The features on one side of a layer.

    Parameters
    ----------
    dim : int
        The features; after a `Split` only a part of the flow's.
    context : int
        The numbers that layers read as their context.
    shape : tuple of int, optional
        Channels, height and width, if the features are pixels: in this order, the column of a row last.
    """

    dim: int
    context: int
    shape: Shape | None = None

    @property
    def described(self) -> str:
        """The features in words, for messages."""
        return f"the flow has dim={self.dim}" if self.shape is None else f"its features have the shape {self.shape}"

    def image(self, what: str) -> Shape:
        """Return the shape; raise a ValueError that names who needs one if there is none."""
        if self.shape is None:
            raise ValueError(
                f"{what} needs a flow with a shape, (channels, height, width); this one has dim={self.dim}"
            )
        return self.shape

    def reshaped(self, channels: int, height: int, width: int) -> Place:
        """Return the place of so many pixels."""
        return replace(self, dim=channels * height * width, shape=(channels, height, width))


def checked_shape(shape: object, dim: int | None = None) -> Shape:
    """Return a shape; raise if it is none, or if it is not one of `dim` features."""
    entries = tuple(shape) if isinstance(shape, Iterable) and not isinstance(shape, str) else ()
    if len(entries) != 3:
        raise TypeError(f"shape must be (channels, height, width), not {shape!r}")
    limits = core.limits["extent"]
    channels, height, width = (_checks.integer(f"shape[{i}]", extent, *limits) for i, extent in enumerate(entries))
    if dim is not None and math.prod((channels, height, width)) != dim:
        raise ValueError(f"shape {(channels, height, width)} has {math.prod(entries)} pixels; the flow has dim={dim}")
    return channels, height, width
