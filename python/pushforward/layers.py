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
_ACTIVATIONS = ("relu", "silu", "tanh")


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

    Parameters
    ----------
    bins : int
        Pieces, 2 to 64.
    bound : float
        Where the tails begin on either side, in standard deviations of the data; above 0.
    min_width, min_height : float
        Least extent of a piece as a fraction of the whole, above 0, with ``bins`` of them below 1.
    min_slope : float
        Least slope at a knot, in (0, 1).

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

    def __post_init__(self) -> None:
        if checks.integer("bins", self.bins, 2) > 64:
            raise ValueError(f"bins must be at most 64, not {self.bins}")
        object.__setattr__(self, "bound", checks.number("bound", self.bound, 0.0, closed="neither"))
        for name in ("min_width", "min_height"):
            value = checks.number(name, getattr(self, name), 0.0, 1 / self.bins, closed="neither")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "min_slope", checks.number("min_slope", self.min_slope, 0.0, 1.0, closed="neither"))


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron: the conditioner of a coupling.

    Its last layer starts at zero, so that every coupling starts as the identity. Without inputs (one feature, no
    context) it is its last bias, and `hidden` counts for nothing.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers, each at least 1; empty for a linear map.
    activation : {"relu", "silu", "tanh"}
        What follows each hidden layer.

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


Transform: TypeAlias = Additive | Affine | RationalQuadratic
Conditioner: TypeAlias = MLP


@dataclass(frozen=True)
class Coupling:
    """Keep some features, and move the others by a transform whose parameters a network makes of the kept ones.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, section 3.2. The context, if the flow has one, is an input of every
    network. With one feature nothing is kept.

    Parameters
    ----------
    transform : Additive, Affine or RationalQuadratic
        The elementwise map of the moved features.
    conditioner : MLP
        The network.
    mask : {"half", "alternate", "random"} or sequence of bool
        Which features are kept: the first half, every second one, a random half, or those marked True. "half" and
        "alternate" flip from one coupling of a flow to the next; "random" is drawn by the flow's seed.

    Raises
    ------
    TypeError, ValueError
        If the parts are not of these types, or the mask is none of those.

    Examples
    --------
    >>> Coupling(Affine(), MLP(hidden=(32,)), mask="alternate")
    Coupling(transform=Affine(max_log_scale=3.0), conditioner=MLP(hidden=(32,), activation='relu'), mask='alternate')
    """

    transform: Transform = Affine()
    conditioner: Conditioner = MLP()
    mask: str | Sequence[bool] = "half"

    def __post_init__(self) -> None:
        if not isinstance(self.transform, Transform):
            raise TypeError(f"transform must be Additive(), Affine() or RationalQuadratic(), not {self.transform!r}")
        if not isinstance(self.conditioner, MLP):
            raise TypeError(f"conditioner must be MLP(), not {self.conditioner!r}")
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
        if isinstance(self.order, str):
            checks.choice("order", self.order, _ORDERS)
            return
        if not isinstance(self.order, Iterable):
            raise TypeError(f"order must be 'reverse', 'random' or a sequence of indices, not {self.order!r}")
        order = tuple(checks.integer(f"order[{i}]", index) for i, index in enumerate(self.order))
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"order must hold each of 0 ... {len(order) - 1} once, not {order}")
        object.__setattr__(self, "order", order)

    def indices(self, dim: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the indices for `dim` features, (dim,) int64."""
        if self.order == "reverse":
            return np.arange(dim)[::-1]
        if self.order == "random":
            return rng.permutation(dim)
        if len(self.order) != dim:
            raise ValueError(f"a permutation has {len(self.order)} indices; the flow has dim={dim}")
        return np.array(self.order, dtype=np.int64)


@dataclass(frozen=True)
class ActNorm:
    """One learned scale and shift per feature: x = z exp(s) + b (Glow; Kingma, Dhariwal 2018, section 3.1).

    They start so that the rows of the first fit have mean 0 and variance 1 on its z side.

    Examples
    --------
    >>> ActNorm()
    ActNorm()
    """


Layer: TypeAlias = Coupling | Permutation | ActNorm


@dataclass(frozen=True)
class Normal:
    """Independent standard normals: the base density.

    Examples
    --------
    >>> Normal().sample(2, 3, np.random.default_rng(0), np.float64).shape
    (2, 3)
    """

    def sample(
        self, n: int, dim: int, rng: np.random.Generator, dtype: npt.DTypeLike
    ) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
        """Draw `n` points, (n, dim) of float32 or float64."""
        return rng.standard_normal((n, dim), dtype=np.float32 if dtype == np.float32 else np.float64)


Base: TypeAlias = Normal
