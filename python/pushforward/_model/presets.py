"""Ready-made lists of layers, to use as they are, to print, or to change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pushforward import _checks
from pushforward._model.coupling import Coupling
from pushforward._model.layer import Layer
from pushforward._model.layers import LU, ActNorm, Autoregressive, ContextShift, Permutation
from pushforward._model.networks import MLP, DenseNetwork, ResNet
from pushforward._model.transforms import Additive, Affine, RationalQuadratic, Transform

# A scale of exp(10) is out of the reach of any row of sound data, and far from overflow.
_LARGEST_LOG_SCALE = 10.0


def _in_pairs(coupling: Layer, depth: int, *others: Layer) -> list[Layer]:
    """Couplings in pairs that move every feature once, each pair splitting the features in another way.

    A permutation between the two of a pair could leave a feature unmoved by both: on POWER that cost 3 nats.
    """
    layers: list[Layer] = []
    for i in range(depth):
        if i and i % 2 == 0:
            layers.append(Permutation("random"))
        layers += [coupling, *others]
    return layers


def _couplings(transform: Transform, depth: int, hidden: Sequence[int], activation: str) -> list[Layer]:
    _checks.integer("depth", depth, 1)
    return _in_pairs(Coupling(transform, MLP(hidden, activation), mask="alternate"), depth, ActNorm())


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
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
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
    [Coupling(transform=Additive(), conditioner=MLP(hidden=(8,), activation='silu'), mask='alternate', \
unconditional=False), ActNorm()]
    """
    _checks.integer("dim", dim, 1)
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
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
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
    Coupling(transform=Affine(max_log_scale=3.0), conditioner=MLP(hidden=(8,), activation='silu'), mask='alternate', \
unconditional=False)
    """
    _checks.integer("dim", dim, 1)
    return _couplings(Affine(), depth, hidden, activation)


def maf(dim: int, *, depth: int = 6, hidden: Sequence[int] = (64, 64), activation: str = "silu") -> list[Layer]:
    """Build the layers of a masked autoregressive flow (MAF; Papamakarios, Pavlakou, Murray 2017).

    Densities take one pass, samples one pass per feature. Each layer takes the features in the order opposite to the
    one before.

    Parameters
    ----------
    dim : int
        Features, at least 1.
    depth : int
        Autoregressive layers, at least 1.
    hidden : sequence of int
        Widths of each masked network's hidden layers.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
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
    >>> maf(2, depth=2, hidden=(8,))[1:3]
    [ActNorm(), Permutation(order='reverse')]
    """
    _checks.integer("dim", dim, 1)
    _checks.integer("depth", depth, 1)
    part: list[Layer] = [Autoregressive(Affine(), MLP(hidden, activation)), ActNorm()]
    return part + [layer for _ in range(depth - 1) for layer in (Permutation("reverse"), *part)]


def neural_spline(
    dim: int,
    *,
    depth: int = 10,
    hidden: int | Sequence[int] = 64,
    blocks: int = 1,
    bins: int = 8,
    bound: float = 4.0,
    activation: str = "relu",
    dropout: float = 0.0,
    mixing: str = "lu",
    unconditional: bool = True,
    autoregressive: bool = False,
) -> list[Layer]:
    """Build the layers of a rational-quadratic neural spline flow (Durkan, Bekasov, Murray, Papamakarios 2019).

    Parameters
    ----------
    dim : int
        Features, at least 1.
    depth : int
        Spline layers, at least 1.
    hidden : int or sequence of int
        Width of each layer's residual network, or the widths of an MLP's hidden layers.
    blocks : int
        Blocks of each residual network.
    bins : int
        Pieces of a spline, 2 to 64.
    bound : float
        Where the splines' linear tails begin, in standard deviations of the data; above 0.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What the networks use.
    dropout : float
        Share of the residual blocks' units left out in each step of a fit, in [0, 0.999].
    mixing : {"lu", "permutation"}
        What stands between spline layers: a learned linear map of the features in random order, or a random order
        between pairs of couplings, which keeps features inside their bounds under the base `Uniform`.
    unconditional : bool
        Whether each coupling moves its kept features too, by splines that are the same for all rows.
    autoregressive : bool
        Autoregressive layers instead of couplings: often a better density for the same depth, at `dim` passes for
        samples.

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
    >>> neural_spline(2, depth=3, hidden=(8,), mixing="permutation")[2]
    Permutation(order='random')
    """
    _checks.integer("dim", dim, 1)
    _checks.integer("depth", depth, 1)
    _checks.choice("mixing", mixing, ("lu", "permutation"))
    network: DenseNetwork = (
        ResNet(hidden, blocks, activation, dropout) if isinstance(hidden, int) else MLP(hidden, activation)
    )
    spline = RationalQuadratic(bins, bound)
    layer: Layer = (
        Autoregressive(spline, network)
        if autoregressive
        else Coupling(spline, network, mask="alternate", unconditional=unconditional)
    )
    if mixing == "lu":
        return [part for _ in range(depth) for part in (layer, LU())]
    if autoregressive:
        return [part for _ in range(depth) for part in (layer, Permutation("random"))]
    return _in_pairs(layer, depth)


def triangular(
    dim: int,
    *,
    order: Sequence[int] | None = None,
    depth: int = 3,
    hidden: int | Sequence[int] = 64,
    blocks: int = 1,
    bins: int = 8,
    bound: float = 4.0,
    activation: str = "relu",
    dropout: float = 0.0,
) -> list[Layer]:
    """Build the layers of a flow that is triangular in one order of the columns: autoregressive splines, none mixed.

    Each column moves by those before it alone, in every layer. So the density of the first columns in the order, and
    that of the last ones given all before, are exact, by the chain rule (Rosenblatt 1952; Marzouk, Moselhy, Parno,
    Spantini 2016): `Flow.marginal` and `Flow.conditional` find this out. Next to the data is an affine layer, which
    learns how each column's mean and deviation depend on the columns before it.

    Parameters
    ----------
    dim : int
        Features, at least 1.
    order : sequence of int, optional
        The columns, those to condition on first. By default as in the table.
    depth : int
        Spline layers, at least 1.
    hidden : int or sequence of int
        Width of each layer's masked residual network, or the widths of an MLP's hidden layers.
    blocks : int
        Blocks of each residual network.
    bins : int
        Pieces of a spline, 2 to 64.
    bound : float
        Where the splines' linear tails begin, in standard deviations; above 0.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What the networks use.
    dropout : float
        Share of the residual blocks' units left out in each step of a fit, in [0, 0.999].

    Returns
    -------
    list of layers
        In generator order, for ``Flow(dim, layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or `order` does not hold each column once.

    Examples
    --------
    >>> triangular(3, order=[2, 0, 1], depth=1, hidden=(8,))[-1]
    Permutation(order=(1, 2, 0))
    """
    _checks.integer("dim", dim, 1)
    _checks.integer("depth", depth, 1)
    network: DenseNetwork = (
        ResNet(hidden, blocks, activation, dropout) if isinstance(hidden, int) else MLP(hidden, activation)
    )
    spline = Autoregressive(RationalQuadratic(bins, bound), network)
    layers: list[Layer] = [spline] * depth
    layers.append(Autoregressive(Affine(), network))
    if order is not None:
        columns = [_checks.integer(f"order[{i}]", column) for i, column in enumerate(order)]
        if sorted(columns) != list(range(dim)):
            raise ValueError(f"order must hold each of 0 ... {dim - 1} once, not {tuple(order)}")
        layers.append(Permutation([columns.index(i) for i in range(dim)]))
    return layers


def usual(dim: int, context: int, **options: Any) -> list[Layer]:
    """Return the layers of a flow that is given none: `neural_spline`, and a shift by the context if there is one."""
    layers = neural_spline(dim, **options)
    return [*layers, ContextShift()] if context else layers


def for_density(dim: int, *, is_unbounded: bool) -> list[Layer]:
    """Return the layers of a flow that is given none and fitted to a log density.

    Affine couplings scale a feature by several powers of e, which splines with fixed ends cannot. They come first, so
    that the splines bend what the affine layers have already scaled. Where features lie on a circle or in a box
    (`is_unbounded` is false), there are splines alone. Path gradients follow the slope of log q, so the networks must
    be smooth.
    """
    network = MLP((32, 32), "silu")
    affine = Coupling(Affine(_LARGEST_LOG_SCALE), network, mask="half")
    spline = Coupling(RationalQuadratic(), network, mask="half", unconditional=True)
    part: list[Layer] = [affine, affine, spline, spline, LU()] if is_unbounded else [spline, spline, LU()]
    return part * 3


PRESETS: dict[str, Callable[..., list[Layer]]] = {
    preset.__name__: preset for preset in (neural_spline, realnvp, nice, maf, triangular)
}
"""By name; the first is the default."""
