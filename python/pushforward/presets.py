"""Flows that work without thought: lists of layers, to use as they are, to print, or to change."""

from __future__ import annotations

from collections.abc import Sequence

from pushforward import checks
from pushforward.layers import MLP, ActNorm, Additive, Affine, Coupling, Layer, Permutation, Transform


def _couplings(transform: Transform, depth: int, hidden: Sequence[int], activation: str) -> list[Layer]:
    """Couplings in pairs that move every feature once, each pair splitting the features in another way.

    A permutation between the two of a pair could leave a feature unmoved by both: on POWER that cost 3 nats.
    """
    checks.integer("depth", depth, 1)
    coupling = Coupling(transform, MLP(hidden, activation), mask="alternate")
    layers: list[Layer] = []
    for i in range(depth):
        if i and i % 2 == 0:
            layers.append(Permutation("random"))
        layers += [coupling, ActNorm()]
    return layers


def nice(dim: int, *, depth: int = 8, hidden: Sequence[int] = (64, 64), activation: str = "silu") -> list[Layer]:
    """Build the layers of a volume-preserving flow: additive couplings (NICE; Dinh, Krueger, Bengio 2014).

    Parameters
    ----------
    dim : int
        Features, at least 1.
    depth : int
        Couplings, at least 1.
    hidden : sequence of int
        Widths of each coupling's hidden layers.
    activation : {"relu", "silu", "tanh"}
        What follows each hidden layer.

    Returns
    -------
    list of layers
        In generator order, for ``Flow(dim, layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> nice(4, depth=1, hidden=(8,))
    [Coupling(transform=Additive(), conditioner=MLP(hidden=(8,), activation='silu'), mask='alternate'), ActNorm()]
    """
    checks.integer("dim", dim, 1)
    return _couplings(Additive(), depth, hidden, activation)


def realnvp(dim: int, *, depth: int = 8, hidden: Sequence[int] = (64, 64), activation: str = "silu") -> list[Layer]:
    """Build the layers of an affine coupling flow (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017).

    Parameters
    ----------
    dim : int
        Features, at least 1.
    depth : int
        Couplings, at least 1.
    hidden : sequence of int
        Widths of each coupling's hidden layers.
    activation : {"relu", "silu", "tanh"}
        What follows each hidden layer.

    Returns
    -------
    list of layers
        In generator order, for ``Flow(dim, layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> realnvp(2, depth=1, hidden=(8,))[0]
    Coupling(transform=Affine(max_log_scale=3.0), conditioner=MLP(hidden=(8,), activation='silu'), mask='alternate')
    """
    checks.integer("dim", dim, 1)
    return _couplings(Affine(), depth, hidden, activation)
