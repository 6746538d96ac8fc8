"""Descriptions of what a flow is made of: small frozen dataclasses that print as the code that makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pushforward import checks

_MASKS = ("half", "alternate", "random")
_ORDERS = ("reverse", "random")
_ACTIVATIONS = ("relu", "silu", "tanh", "gelu", "elu", "leaky_relu")
_SCHEMES = ("floor", "clip")
_MOST_BLOCKS = 1000  # of a residual network, or reflections


@dataclass(frozen=True)
class Additive:
    """Shift each moved feature: x = z + t, with log_det 0 (NICE; Dinh, Krueger, Bengio 2014, section 3.2).

    Examples
    --------
    >>> Additive()
    Additive()
    """


@dataclass(frozen=True)
class Affine:
    """Scale and shift each moved feature: x = z exp(s) + t (RealNVP; Dinh et al. 2017, equations 4 and 5).

    The conditioner's output a becomes the log-scale s = a / (1 + abs(a) / max_log_scale), which is a near zero and
    never leaves (-max_log_scale, max_log_scale).

    Parameters
    ----------
    max_log_scale : float
        Bound of abs(s), above 0.

    Raises
    ------
    ValueError
        If `max_log_scale` is not above 0 and finite.

    Examples
    --------
    >>> Affine(max_log_scale=2.0)
    Affine(max_log_scale=2.0)
    """

    # exp(3) = 20: one coupling may stretch a feature twentyfold, and ten of them cannot overflow float32.
    max_log_scale: float = 3.0

    def __post_init__(self) -> None:
        bound = checks.number("max_log_scale", self.max_log_scale, 0.0, 100.0, closed="right")
        object.__setattr__(self, "max_log_scale", bound)


@dataclass(frozen=True)
class RationalQuadratic:
    """Move each feature by a monotone rational-quadratic spline with linear tails (Durkan et al. 2019, section 3.1).

    Inside [-bound, bound] the conditioner gives the widths, heights and slopes of `bins` pieces; outside, x = z. One
    transform bends a feature as far as many affine ones.

    A feature with the support `Circle` is moved by a circular spline over the whole turn, whose slopes agree where the
    ends meet, and a rotation (Rezende et al. 2020); one with the support `Interval`, under the base
    `Uniform`, by a spline over the whole interval.

    Parameters
    ----------
    bins : int
        Pieces, 2 to 64; 4, 8 and 16 are the fastest.
    bound : float
        Where the tails begin on either side, in standard deviations of the data; above 0.
    min_width, min_height : float
        Least extent of a piece as a fraction of the whole, above 0, with ``bins`` of them below 1.
    min_slope : float
        Least slope at a knot, in (0, 1).
    scheme : {"floor", "clip"}
        How outputs of the network become a spline. With "floor", extents are the softmax of the outputs above the least
        extent, and slopes their softplus above the least slope, as in the paper. With "clip", outputs are softly
        bounded so that slopes, their exponential, stay between `min_slope` and its inverse, and so do the ratios of
        extents; the least extents count for nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> RationalQuadratic(bins=16).bins
    16
    """

    bins: int = 8
    bound: float = 4.0
    min_width: float = 1e-3
    min_height: float = 1e-3
    min_slope: float = 1e-3
    scheme: str = "floor"

    def __post_init__(self) -> None:
        checks.choice("scheme", self.scheme, _SCHEMES)
        if checks.integer("bins", self.bins, 2) > 64:
            raise ValueError(f"bins must be at most 64, not {self.bins}")
        object.__setattr__(self, "bound", checks.number("bound", self.bound, 0.0, closed="neither"))
        for name in ("min_width", "min_height"):
            value = checks.number(name, getattr(self, name), 0.0, 1 / self.bins, closed="neither")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "min_slope", checks.number("min_slope", self.min_slope, 0.0, 1.0, closed="neither"))


@dataclass(frozen=True)
class MLP:
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
        widths = tuple(checks.integer(f"hidden[{i}]", width, 1) for i, width in enumerate(self.hidden))
        object.__setattr__(self, "hidden", widths)
        checks.choice("activation", self.activation, _ACTIVATIONS)


@dataclass(frozen=True)
class ResNet:
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
        Share of a block's inner units that is left out at random in each step of a fit, in [0, 1); 0 outside of fits.

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
        object.__setattr__(self, "hidden", checks.integer("hidden", self.hidden, 1))
        if checks.integer("blocks", self.blocks) > _MOST_BLOCKS:
            raise ValueError(f"blocks must be at most {_MOST_BLOCKS}, not {self.blocks}")
        checks.choice("activation", self.activation, _ACTIVATIONS)
        object.__setattr__(self, "dropout", checks.number("dropout", self.dropout, 0.0, 1.0, closed="left"))
        if self.dropout > 0.999:
            raise ValueError(f"dropout must leave some units, not {self.dropout}")


Transform: TypeAlias = Additive | Affine | RationalQuadratic
Conditioner: TypeAlias = MLP | ResNet


def _check_parts(transform: object, conditioner: object) -> None:
    if not isinstance(transform, Transform):
        raise TypeError(f"transform must be Additive(), Affine() or RationalQuadratic(), not {transform!r}")
    if not isinstance(conditioner, Conditioner):
        raise TypeError(f"conditioner must be MLP() or ResNet(), not {conditioner!r}")


@dataclass(frozen=True)
class Coupling:
    """Keep some features, and move the others by a transform whose parameters a network makes of the kept ones.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, section 3.2. The context, if the flow has one, is an input of every
    network. With one feature nothing is kept.

    Parameters
    ----------
    transform : Additive, Affine or RationalQuadratic
        The elementwise map of the moved features.
    conditioner : MLP or ResNet
        The network.
    mask : {"half", "alternate", "random"} or sequence of bool
        Which features are kept: the first half, every second one, a random half, or those marked True. "half" and
        "alternate" flip from one coupling of a flow to the next; "random" is drawn by the flow's seed.
    unconditional : bool
        Whether the kept features are moved too, by the same kind of transform with learned parameters that are the same
        for all rows (Durkan et al. 2019, section 3.2). The network reads them on the x side.

    Raises
    ------
    TypeError, ValueError
        If the parts are not of these types, or the mask is none of those.

    Examples
    --------
    >>> Coupling(Affine(), MLP(hidden=(32,)), mask="alternate")
    Coupling(transform=Affine(max_log_scale=3.0), conditioner=MLP(hidden=(32,), activation='relu'), mask='alternate', \
unconditional=False)
    """

    transform: Transform = Affine()
    conditioner: Conditioner = MLP()
    mask: str | Sequence[bool] = "half"
    unconditional: bool = False

    def __post_init__(self) -> None:
        _check_parts(self.transform, self.conditioner)
        if not isinstance(self.unconditional, bool):
            raise TypeError(f"unconditional must be True or False, not {self.unconditional!r}")
        if isinstance(self.mask, str):
            checks.choice("mask", self.mask, _MASKS)
            return
        if not (isinstance(self.mask, Iterable) and all(isinstance(kept, (bool, np.bool_)) for kept in self.mask)):
            raise TypeError(f"mask must be {', '.join(map(repr, _MASKS))} or a one-dimensional boolean array")
        object.__setattr__(self, "mask", tuple(map(bool, self.mask)))

    def kept(self, dim: int, number: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Return the mask of the coupling that is the `number`-th (from 0) of its flow, as a (dim,) boolean array."""
        if not isinstance(self.mask, str):
            if len(self.mask) != dim:
                raise ValueError(f"a coupling's mask has {len(self.mask)} entries; the flow has dim={dim}")
            mask = np.array(self.mask)
            if mask.all():
                raise ValueError("a coupling's mask keeps every feature; at least one must be False, to be moved")
            return mask
        if dim == 1:
            return np.zeros(1, dtype=bool)
        if self.mask == "random":
            mask = np.zeros(dim, dtype=bool)
            mask[rng.permutation(dim)[: (dim + number % 2) // 2]] = True
            return mask
        features = np.arange(dim)
        mask = features < dim // 2 if self.mask == "half" else features % 2 == 0
        return mask if number % 2 == 0 else ~mask


@dataclass(frozen=True)
class Autoregressive:
    """Move each feature by a transform whose parameters a masked network makes of the features before it.

    With ``one_pass="inverse"``, x -> z takes one pass, as densities and training do, and z -> x goes feature by feature
    (MAF; Papamakarios, Pavlakou, Murray 2017). With "forward" it is the other way round (IAF; Kingma et al. 2016).
    Feature by feature, each pass computes only the units that belong to it: no more arithmetic than one pass, but in
    smaller products. The mask is MADE's (Germain et al. 2015): a hidden unit of degree d sees features of passes below
    d and units of degrees up to d, and the parameters of a feature of pass p see units of degrees up to p. The context,
    if the flow has one, is seen by all.

    Parameters
    ----------
    transform : Additive, Affine or RationalQuadratic
        The elementwise map.
    conditioner : MLP or ResNet
        The network that is masked.
    order : {"natural", "reverse"} or sequence of int
        For each feature the pass that moves it. Given as integers, each of 0 ... the largest must be there; features of
        one pass do not see each other.
    degrees : sequence of sequences of int, optional
        For each hidden layer (of a ResNet, the one they share) the degrees of its units in increasing order, from 0 to
        the last pass. By default all degrees that see anything, from 0 on with a context and from 1 on without, in
        equal numbers.
    one_pass : {"inverse", "forward"}
        The direction that takes one pass.

    Raises
    ------
    TypeError, ValueError
        If the parts are not of these types or out of their range.

    Examples
    --------
    >>> Autoregressive(RationalQuadratic(), MLP(hidden=(32,))).order
    'natural'
    """

    transform: Transform = Affine()
    conditioner: Conditioner = MLP()
    order: str | Sequence[int] = "natural"
    degrees: Sequence[Sequence[int]] | None = None
    one_pass: str = "inverse"

    def __post_init__(self) -> None:
        _check_parts(self.transform, self.conditioner)
        checks.choice("one_pass", self.one_pass, ("inverse", "forward"))
        if isinstance(self.order, str):
            checks.choice("order", self.order, ("natural", "reverse"))
        elif not isinstance(self.order, Iterable):
            raise TypeError(f"order must be 'natural', 'reverse' or a sequence of passes, not {self.order!r}")
        else:
            order = tuple(checks.integer(f"order[{i}]", number) for i, number in enumerate(self.order))
            if set(order) != set(range(max(order, default=-1) + 1)):
                raise ValueError(f"order must hold each of 0 ... {max(order, default=0)}, not {order}")
            object.__setattr__(self, "order", order)
        if self.degrees is None:
            return
        degrees = tuple(
            tuple(checks.integer(f"degrees[{i}]", degree) for degree in layer) for i, layer in enumerate(self.degrees)
        )
        for layer, width in zip(degrees, self._widths(), strict=False):
            if len(layer) != width or list(layer) != sorted(layer):
                raise ValueError(f"degrees must hold {width} integers in increasing order, not {layer}")
        if len(degrees) != len(self._widths()):
            raise ValueError(f"degrees has {len(degrees)} layers; the conditioner has {len(self._widths())}")
        object.__setattr__(self, "degrees", degrees)

    def _widths(self) -> tuple[int, ...]:
        if isinstance(self.conditioner, ResNet):
            return (self.conditioner.hidden,)
        return tuple(self.conditioner.hidden)

    def passes(self, dim: int) -> list[int]:
        """Return the pass of each of `dim` features."""
        if self.order == "natural":
            return list(range(dim))
        if self.order == "reverse":
            return list(range(dim))[::-1]
        if len(self.order) != dim:
            raise ValueError(f"an autoregressive order has {len(self.order)} entries; the flow has dim={dim}")
        return [int(number) for number in self.order]

    def units(self, dim: int, context: int) -> list[list[int]]:
        """Return, for each hidden layer, how many units there are of each degree."""
        passes = max(self.passes(dim)) + 1
        if self.degrees is None:
            # A unit of degree 0 sees the context alone.
            least = 0 if context or passes == 1 else 1
            degrees = [[least + i % (passes - least) for i in range(width)] for width in self._widths()]
        else:
            degrees = [list(layer) for layer in self.degrees]
            if any(layer and layer[-1] >= passes for layer in degrees):
                raise ValueError(f"degrees go up to {passes - 1}, that of the last pass")
        return [np.bincount(layer, minlength=passes).tolist() for layer in degrees]


@dataclass(frozen=True)
class Permutation:
    """Reorder the features: x_i = z_indices[i], with log_det 0.

    Parameters
    ----------
    order : {"reverse", "random"} or sequence of int
        The last feature first, an order drawn by the flow's seed, or the indices themselves.

    Raises
    ------
    ValueError
        If `order` is none of those, or its indices are not each of 0 ... n - 1 once.

    Examples
    --------
    >>> Permutation([2, 0, 1])
    Permutation(order=(2, 0, 1))
    """

    order: str | Sequence[int] = "reverse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _checked_order(self.order, _ORDERS))

    def indices(self, dim: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the indices for `dim` features, (dim,) int64."""
        return _indices(self.order, dim, rng)


def _indices(order: str | Sequence[int], dim: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if order == "natural":
        return np.arange(dim)
    if order == "reverse":
        return np.arange(dim)[::-1]
    if order == "random":
        return rng.permutation(dim)
    if len(order) != dim:
        raise ValueError(f"a permutation has {len(order)} indices; the flow has dim={dim}")
    return np.array(order, dtype=np.int64)


def _checked_order(order: object, names: tuple[str, ...]) -> str | tuple[int, ...]:
    if isinstance(order, str):
        return checks.choice("order", order, names)
    if not isinstance(order, Iterable):
        raise TypeError(f"order must be {', '.join(map(repr, names))} or a sequence of indices, not {order!r}")
    indices = tuple(checks.integer(f"order[{i}]", index) for i, index in enumerate(order))
    if sorted(indices) != list(range(len(indices))):
        raise ValueError(f"order must hold each of 0 ... {len(indices) - 1} once, not {indices}")
    return indices


@dataclass(frozen=True)
class LU:
    """Mix the features by a learned linear map, z = L U P x + b, with log_det that of its triangles.

    P is a fixed permutation, (P x)_order[i] = x_i, L lower triangular with ones on the diagonal, U upper triangular
    with positive numbers there (Oliva et al. 2018; Durkan et al. 2019, section 3.1). It starts as the permutation.
    Features with the support `Circle`, or `Interval` under the base `Uniform`, are permuted but not mixed.

    Parameters
    ----------
    order : {"random", "reverse", "natural"} or sequence of int
        The permutation, as in `Permutation`: an order drawn by the flow's seed, the last feature first, none, or the
        indices themselves.

    Raises
    ------
    TypeError, ValueError
        If `order` is none of those, or its indices are not each of 0 ... n - 1 once.

    Examples
    --------
    >>> LU()
    LU(order='random')
    """

    order: str | Sequence[int] = "random"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _checked_order(self.order, ("random", "reverse", "natural")))

    def indices(self, dim: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the indices for `dim` features, (dim,) int64."""
        return _indices(self.order, dim, rng)


@dataclass(frozen=True)
class Householder:
    """Mix the features by a learned rotation, a product of reflections, with log_det 0 (Tomczak and Welling 2016).

    Features with the support `Circle`, or `Interval` under the base `Uniform`, are left alone.

    Parameters
    ----------
    count : int
        Reflections, 1 to 1000; as many as features reach every orthogonal map, an even number only rotations. They
        start at random.

    Raises
    ------
    TypeError, ValueError
        If `count` is not such an integer.

    Examples
    --------
    >>> Householder(4)
    Householder(count=4)
    """

    count: int = 4

    def __post_init__(self) -> None:
        if checks.integer("count", self.count, 1) > _MOST_BLOCKS:
            raise ValueError(f"count must be at most {_MOST_BLOCKS}, not {self.count}")


@dataclass(frozen=True)
class ActNorm:
    """One learned scale and shift per feature: x = z exp(s) + b (Glow; Kingma, Dhariwal 2018, section 3.1).

    They start so that the rows of the first fit have mean 0 and variance 1 on its z side. Features with the support
    `Circle`, or `Interval` under the base `Uniform`, are left alone.

    Examples
    --------
    >>> ActNorm()
    ActNorm()
    """


Layer: TypeAlias = Coupling | Autoregressive | Permutation | LU | Householder | ActNorm


_Learned: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64] | None  # a base's own parameters


@dataclass(frozen=True)
class Normal:
    """Independent standard normals: the base density.

    Features with the support `Circle` are uniform angles on the latent side, under any base.

    Examples
    --------
    >>> Normal()
    Normal()
    """


@dataclass(frozen=True)
class StudentT:
    """Independent Student t distributions: a base for heavy tails, which no Lipschitz map makes of a normal.

    Parameters
    ----------
    df : float
        Degrees of freedom, above 0 and at most 1e9: p(z) falls off as abs(z)**-(df + 1).
    learned : bool
        Whether they are parameters, one per feature, that start at `df`; they stay above 0.5, so that `df` must be
        larger.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> StudentT(3.0)
    StudentT(df=3.0, learned=False)
    """

    df: float = 5.0
    learned: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.learned, bool):
            raise TypeError(f"learned must be True or False, not {self.learned!r}")
        low = 0.51 if self.learned else 0.01
        object.__setattr__(self, "df", checks.number("df", self.df, low, 1e9))

    def degrees(self, log_df: _Learned) -> npt.NDArray[np.float64]:
        """Return the degrees of freedom that the learned parameters stand for, (1,) or one per feature."""
        if log_df is None:
            return np.array([self.df])
        return 0.5 + (self.df - 0.5) * np.exp(np.clip(log_df.astype(np.float64), -30, 30))


@dataclass(frozen=True)
class Uniform:
    """Uniform on [-1, 1] for each feature: the base of a density on a box, with edges as sharp as the data's.

    Every feature needs the support `Interval` or `Circle`; the layers may be `Coupling` and `Autoregressive` with
    `RationalQuadratic`, which keep to the box, and those that only permute it.

    Examples
    --------
    >>> Uniform()
    Uniform()
    """


Base: TypeAlias = Normal | StudentT | Uniform
