"""Layers of pixels: those of a flow with a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pushforward._model.layer import Layer
from pushforward._model.ordered import Ordered
from pushforward._model.place import Place


@dataclass(frozen=True)
class Conv1x1(Ordered):
    """Mix the channels of every pixel by one learned matrix, z = L U P x (Glow; Kingma, Dhariwal 2018, section 3.2).

    P is a fixed permutation of the channels, (P x)_order[i] = x_i, L lower triangular with ones on the diagonal, U
    upper triangular with positive numbers there. It starts as the permutation. Every feature must be on the line: none
    with the support `Circle`, or `Interval` under the base `Uniform`.

    Parameters
    ----------
    order : {"random", "reverse", "natural"} or sequence of int
        The permutation, as in `LU`, of channels.

    Raises
    ------
    TypeError, ValueError
        If `order` is none of those, or its indices are not each of 0 ... n - 1 once; by `Flow`, if it has no shape.

    Examples
    --------
    >>> Conv1x1()
    Conv1x1(order='random')
    """

    ORDERS: ClassVar[tuple[str, ...]] = ("random", "reverse", "natural")

    order: str | Sequence[int] = "random"

    def count(self, place: Place) -> int:
        """How many channels are mixed."""
        return place.image("Conv1x1")[0]


@dataclass(frozen=True)
class Squeeze(Layer):
    """Take each square of 2 x 2 pixels as one pixel of four times the channels, from the data on.

    An image of the shape (c, h, w) on the x side is one of (4 c, h / 2, w / 2) on the z side, whose channel
    4 i + 2 j + k holds row j and column k of the squares of channel i. Nothing is computed, and log_det is 0 (Dinh,
    Sohl-Dickstein, Bengio 2017, section 3.6).

    Raises
    ------
    ValueError
        By `Flow`, if it has no shape, or if the height or the width is odd where the layer stands.

    Examples
    --------
    >>> Squeeze()
    Squeeze()
    """

    def place_before(self, place: Place) -> Place:
        """Return the place of four times the channels, and half the height and width."""
        channels, height, width = place.image("Squeeze")
        if height % 2 or width % 2:
            raise ValueError(f"Squeeze needs an even height and width; {place.described}")
        return place.reshaped(4 * channels, height // 2, width // 2)


@dataclass(frozen=True)
class Split(Layer):
    """Leave the second half of the channels to the base; the layers before this one move the first half.

    That makes a flow multi-scale (Dinh, Sohl-Dickstein, Bengio 2017, section 3.6). The latent features are those of the
    innermost layers first, then those that each split leaves, in generator order.

    Raises
    ------
    ValueError
        By `Flow`, if it has no shape, or if the number of channels is odd where the layer stands.

    Examples
    --------
    >>> Split()
    Split()
    """

    def place_before(self, place: Place) -> Place:
        """Return the place of the first half of the channels."""
        channels, height, width = place.image("Split")
        if channels % 2:
            raise ValueError(f"Split needs an even number of channels; {place.described}")
        return place.reshaped(channels // 2, height, width)
