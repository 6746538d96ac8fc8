"""Networks: what makes the parameters of a transform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.part import Part, one_of, table
from pushforward._model.place import Place

ACTIVATIONS = core.activations


class Conditioner(Part):
    """A network whose inputs are features and the context, and whose outputs are a transform's parameters."""

    @property
    def is_symmetric(self) -> bool:
        """Whether a coupling by it is an odd map."""
        return False

    def check_place(self, place: Place, kept: Sequence[bool]) -> None:
        """Raise a ValueError if the network cannot stand in a coupling there that keeps these features."""


class DenseNetwork(Conditioner, ABC):
    """A network of dense layers, which may be masked."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers whose units have degrees where the network is masked."""

    @abstractmethod
    def with_widths(self, widths: Sequence[int]) -> DenseNetwork:
        """Return the same network with other widths of those layers."""


@dataclass(frozen=True)
class MLP(DenseNetwork):
    """Multilayer perceptron: the conditioner of a coupling or an autoregressive layer.

    Its last layer starts at zero, so that every layer starts as the identity. Without inputs (one feature, no
    context) it is its last bias, and `hidden` counts for nothing.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers, each at least 1; empty for a linear map.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What follows each hidden layer. leaky_relu has the slope 0.01 below 0.

    Raises
    ------
    TypeError, ValueError
        If a width is not an integer of at least 1, or the activation is none of those.

    Examples
    --------
    >>> MLP(hidden=[128, 128], activation="silu")
    MLP(hidden=(128, 128), activation='silu')
    """

    hidden: Sequence[int] = (64, 64)
    activation: str = "relu"

    def __post_init__(self) -> None:
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Iterable):
            raise TypeError(f"hidden must be a sequence of widths such as (64, 64), not {self.hidden!r}")
        limits = core.limits["width"]
        widths = tuple(_checks.integer(f"hidden[{i}]", width, *limits) for i, width in enumerate(self.hidden))
        object.__setattr__(self, "hidden", widths)
        _checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(self.hidden)

    def with_widths(self, widths: Sequence[int]) -> MLP:
        """Return the same network with other widths."""
        return replace(self, hidden=tuple(widths))


@dataclass(frozen=True)
class ResNet(DenseNetwork):
    """Residual network with pre-activation blocks: a conditioner that trains well when it is deep.

    A dense layer, `blocks` times h + dense(dropout(activation(dense(activation(h))))), and a dense layer that starts at
    zero (He et al. 2016, "Identity mappings in deep residual networks"; as in Durkan et al. 2019).

    Parameters
    ----------
    hidden : int
        Width, at least 1.
    blocks : int
        Residual blocks of two dense layers, 0 to 1000.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What goes before each dense layer of a block.
    dropout : float
        Share of a block's inner units that each step of a fit leaves out at random, in [0, 0.999]; 0 outside of fits.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> ResNet(hidden=128, blocks=1)
    ResNet(hidden=128, blocks=1, activation='relu', dropout=0.0)
    """

    hidden: int = 64
    blocks: int = 2
    activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _checks.integer("hidden", self.hidden, *core.limits["width"]))
        object.__setattr__(self, "blocks", _checks.integer("blocks", self.blocks, *core.limits["blocks"]))
        _checks.choice("activation", self.activation, ACTIVATIONS)
        object.__setattr__(self, "dropout", _checks.number("dropout", self.dropout, *core.limits["dropout"]))

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the hidden layers, which share their degrees."""
        return (self.hidden,)

    def with_widths(self, widths: Sequence[int]) -> ResNet:
        """Return the same network with another width."""
        return replace(self, hidden=widths[0])


NETWORKS = table(MLP, ResNet)


def even_units(widths: Sequence[int], groups: int, context: int) -> list[list[int]]:
    """Return how many units of each hidden layer of a masked network each group has: all that see anything, the same.

    The units of a group see the inputs of the groups before it, and the context.
    """
    least = 0 if context or groups == 1 else 1
    kinds = groups - least
    return [[0] * least + [width // kinds + (kind < width % kinds) for kind in range(kinds)] for width in widths]


@dataclass(frozen=True)
class ContextNetwork(Part):
    """A network that reads the context once for all layers: they read its few outputs in place of the context.

    It is trained together with the layers. Use it for dozens to hundreds of conditioning features of which the density
    depends on a few combinations.

    Parameters
    ----------
    features : int
        Its outputs, at least 1: the numbers that every layer reads.
    network : MLP or ResNet
        The network. Its last layer starts like the hidden ones here, not at zero. Smooth activations did better than
        relu on the tables that were tried. ``MLP(hidden=())`` makes the outputs linear combinations of the context.

    Raises
    ------
    TypeError, ValueError
        If `features` is not such an integer, or `network` is none of those.

    Examples
    --------
    >>> from pushforward import Flow
    >>> flow = Flow(2, context=100, context_network=ContextNetwork(8))
    >>> flow.context_network
    ContextNetwork(features=8, network=MLP(hidden=(64, 64), activation='silu'))
    """

    PARTS: ClassVar[Mapping[str, Mapping[str, type[Part]]]] = {"network": NETWORKS}

    features: int = 16
    network: DenseNetwork = MLP(activation="silu")

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _checks.integer("features", self.features, *core.limits["width"]))
        if not isinstance(self.network, DenseNetwork):
            raise TypeError(f"network must be {one_of(NETWORKS)}, not {self.network!r}")
