"""Convolutional networks: the conditioners of couplings of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.networks import ACTIVATIONS, NETWORKS, Conditioner
from pushforward._model.part import table
from pushforward._model.place import Place

_PADDINGS = ("zero", "circular")


class ImageConditioner(Conditioner):
    """A network that reads an image and gives parameters for each of its pixels."""

    def check_place(self, place: Place, kept: Sequence[bool]) -> None:
        """Refuse a flow without a shape, and a mask that is neither one of whole pixels nor one of whole channels."""
        shape = place.image(type(self).__name__)
        mask = np.array(kept).reshape(shape[0], -1)
        if (mask != mask[0]).any() and (mask != mask[:, :1]).any():
            raise ValueError(
                f"{type(self).__name__} needs a mask of whole pixels or of whole channels, such as "
                '"checkerboard" or "channels"'
            )


def _kernel(name: str, kernel: object) -> int:
    extent = _checks.integer(name, kernel, *core.limits["kernel"])
    if extent % 2 == 0:
        raise ValueError(f"{name} must be odd, not {extent}: its middle is the pixel itself")
    return extent


@dataclass(frozen=True)
class ConvNet(ImageConditioner):
    """Convolutional network: the conditioner of a coupling of images, in a flow with a shape.

    Like `MLP`, its last convolution starts at zero. The context, if the flow has one, is a constant image of as many
    channels to the first convolution.

    Parameters
    ----------
    hidden : int
        Channels of each hidden layer, 1 to 65536.
    layers : int
        Hidden layers, 0 to 64: convolutions, but for the last one.
    kernel : int or sequence of int
        The kernels' height and width, odd, 1 to 15: one for all, or one for each hidden layer and for the last
        convolution.
    padding : {"zero", "circular"}
        What kernels read beyond the edges: zeros, or the opposite edge, as on a periodic lattice.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What follows each hidden layer.
    symmetric : bool
        Whether the coupling commutes with the sign of all features: shifts are odd functions of the kept features, and
        log scales even ones. If all layers of a flow do, so does its density: that of x and of -x are the same number.
        This needs the activation "tanh", at least one hidden layer, a transform `Additive` or `Affine`, and no context.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> ConvNet(hidden=32, kernel=(3, 1, 3))
    ConvNet(hidden=32, layers=2, kernel=(3, 1, 3), padding='zero', activation='relu', symmetric=False)
    """

    hidden: int = 64
    layers: int = 2
    kernel: int | Sequence[int] = 3
    padding: str = "zero"
    activation: str = "relu"
    symmetric: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _checks.integer("hidden", self.hidden, *core.limits["channels"]))
        object.__setattr__(self, "layers", _checks.integer("layers", self.layers, *core.limits["convolutions"]))
        if isinstance(self.kernel, Iterable):
            kernels = tuple(_kernel(f"kernel[{i}]", extent) for i, extent in enumerate(self.kernel))
            if len(kernels) != self.layers + 1:
                raise ValueError(
                    f"kernel has {len(kernels)} entries; {self.layers} hidden layers and the last one need "
                    f"{self.layers + 1}"
                )
            object.__setattr__(self, "kernel", kernels)
        else:
            object.__setattr__(self, "kernel", _kernel("kernel", self.kernel))
        _checks.choice("padding", self.padding, _PADDINGS)
        _checks.choice("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.symmetric, bool):
            raise TypeError(f"symmetric must be True or False, not {self.symmetric!r}")
        if self.symmetric and (self.activation != "tanh" or self.layers == 0):
            raise ValueError(
                f'a symmetric network needs activation="tanh" and a hidden layer, not {self.activation!r} and '
                f"layers={self.layers}"
            )

    @property
    def is_symmetric(self) -> bool:
        """Whether it was made so."""
        return self.symmetric


@dataclass(frozen=True)
class ConvResNet(ImageConditioner):
    """Convolutional residual network with pre-activation blocks, as `ResNet` with convolutions for dense layers.

    A convolution, `blocks` times h + convolution(dropout(activation(convolution(activation(h))))), and a convolution
    that starts at zero (He et al. 2016, "Identity mappings in deep residual networks").

    Parameters
    ----------
    hidden : int
        Channels, 1 to 65536.
    blocks : int
        Residual blocks of two convolutions, 0 to 64.
    kernel : int
        The kernels' height and width, odd, 1 to 15.
    padding : {"zero", "circular"}
        What kernels read beyond the edges: zeros, or the opposite edge, as on a periodic lattice.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What goes before each convolution of a block.
    dropout : float
        Share of a block's inner units that each step of a fit leaves out at random, in [0, 0.999]; 0 outside of fits.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> ConvResNet(hidden=32, blocks=1)
    ConvResNet(hidden=32, blocks=1, kernel=3, padding='zero', activation='relu', dropout=0.0)
    """

    hidden: int = 64
    blocks: int = 2
    kernel: int = 3
    padding: str = "zero"
    activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _checks.integer("hidden", self.hidden, *core.limits["channels"]))
        object.__setattr__(self, "blocks", _checks.integer("blocks", self.blocks, *core.limits["convolutions"]))
        object.__setattr__(self, "kernel", _kernel("kernel", self.kernel))
        _checks.choice("padding", self.padding, _PADDINGS)
        _checks.choice("activation", self.activation, ACTIVATIONS)
        object.__setattr__(self, "dropout", _checks.number("dropout", self.dropout, *core.limits["dropout"]))


IMAGE_NETWORKS = table(ConvNet, ConvResNet)
CONDITIONERS: dict[str, type[Conditioner]] = {**NETWORKS, **IMAGE_NETWORKS}
"""What a coupling may have: networks of features, and networks of images."""
