"""Layers of features in any order, and the table of all layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.coupling import Coupling
from pushforward._model.gaussian import Sample, covariance, regression, triangles, whitening
from pushforward._model.images import Conv1x1, Split, Squeeze
from pushforward._model.layer import Layer
from pushforward._model.networks import MLP, NETWORKS, DenseNetwork, even_units
from pushforward._model.ordered import Ordered
from pushforward._model.part import Part, one_of, table
from pushforward._model.place import Place
from pushforward._model.transforms import TRANSFORMS, Affine, Transform
from pushforward._typing import Floats


@dataclass(frozen=True)
class Autoregressive(Layer):
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

    PARTS: ClassVar[Mapping[str, Mapping[str, type[Part]]]] = {"transform": TRANSFORMS, "conditioner": NETWORKS}

    transform: Transform = Affine()  # noqa: RUF009 -- frozen
    conditioner: DenseNetwork = MLP()  # noqa: RUF009 -- frozen
    order: str | Sequence[int] = "natural"
    degrees: Sequence[Sequence[int]] | None = None
    one_pass: str = "inverse"

    def __post_init__(self) -> None:
        if not isinstance(self.transform, Transform):
            raise TypeError(f"transform must be {one_of(TRANSFORMS)}, not {self.transform!r}")
        if not isinstance(self.conditioner, DenseNetwork):
            raise TypeError(f"conditioner must be {one_of(NETWORKS)}, not {self.conditioner!r}")
        _checks.choice("one_pass", self.one_pass, ("inverse", "forward"))
        if isinstance(self.order, str):
            _checks.choice("order", self.order, ("natural", "reverse"))
        elif not isinstance(self.order, Iterable):
            raise TypeError(f"order must be 'natural', 'reverse' or a sequence of passes, not {self.order!r}")
        else:
            order = tuple(_checks.integer(f"order[{i}]", number) for i, number in enumerate(self.order))
            if set(order) != set(range(max(order, default=-1) + 1)):
                raise ValueError(f"order must hold each of 0 ... {max(order, default=0)}, not {order}")
            object.__setattr__(self, "order", order)
        if self.degrees is None:
            return
        degrees = tuple(
            tuple(_checks.integer(f"degrees[{i}]", degree) for degree in layer) for i, layer in enumerate(self.degrees)
        )
        for layer, width in zip(degrees, self.conditioner.widths, strict=False):
            if len(layer) != width or list(layer) != sorted(layer):
                raise ValueError(f"degrees must hold {width} integers in increasing order, not {layer}")
        if len(degrees) != len(self.conditioner.widths):
            raise ValueError(f"degrees has {len(degrees)} layers; the conditioner has {len(self.conditioner.widths)}")
        object.__setattr__(self, "degrees", degrees)

    @property
    def reach(self) -> float:
        """How far from 0 the layer bends a feature, in standard deviations."""
        return self.transform.reach

    def resolve(self, place: Place, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Spell out the pass of each feature, and how many units of each hidden layer have each degree."""
        return {"passes": self.passes(place.dim), "units": self._units(place)}

    def check(self, resolved: Mapping[str, Any], place: Place) -> None:
        """Refuse passes or units other than those of the order and the degrees."""
        for name, expected in self.resolve(place, 0, np.random.default_rng(0)).items():
            if resolved.get(name) != expected:
                raise ValueError(f"{name} are not those of the order and the degrees")

    def passes(self, dim: int) -> list[int]:
        """Return the pass of each of `dim` features."""
        if self.order == "natural":
            return list(range(dim))
        if self.order == "reverse":
            return list(range(dim))[::-1]
        if len(self.order) != dim:
            raise ValueError(f"an autoregressive order has {len(self.order)} entries; the flow has dim={dim}")
        return [int(number) for number in self.order]

    def is_triangular(self, dim: int) -> bool:
        """Whether the passes are in the order of the features."""
        return self.passes(dim) == list(range(dim))

    def leading(self, count: int, dim: int, context: int) -> tuple[Layer, bool]:
        """Return the layer of the first features, without the units that see others."""
        degrees = [np.repeat(np.arange(count), units[:count]).tolist() for units in self._units(Place(dim, context))]
        is_constant = not all(degrees)
        degrees = [layer or [0] for layer in degrees]  # a layer needs a unit
        network = self.conditioner.with_widths([len(layer) for layer in degrees])
        return replace(self, conditioner=network, order="natural", degrees=degrees), is_constant

    def _units(self, place: Place) -> list[list[int]]:
        passes = max(self.passes(place.dim)) + 1
        if self.degrees is None:
            return even_units(self.conditioner.widths, passes, place.context)
        if any(layer and layer[-1] >= passes for layer in self.degrees):
            raise ValueError(f"degrees go up to {passes - 1}, that of the last pass")
        return [np.bincount(np.array(layer, dtype=np.int64), minlength=passes).tolist() for layer in self.degrees]


@dataclass(frozen=True)
class Permutation(Ordered):
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

    ORDERS: ClassVar[tuple[str, ...]] = ("reverse", "random")
    moves_alone: ClassVar[bool] = True
    reorders: ClassVar[bool] = True

    order: str | Sequence[int] = "reverse"

    def before(self, columns: npt.NDArray[np.int64], resolved: Mapping[str, Any]) -> npt.NDArray[np.int64]:
        """Return labels in the order of z: x_i = z_indices[i]."""
        result = np.empty_like(columns)
        result[np.array(resolved["indices"])] = columns
        return result


@dataclass(frozen=True)
class LU(Ordered):
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

    whitens: ClassVar[bool] = True

    ORDERS: ClassVar[tuple[str, ...]] = ("random", "reverse", "natural")

    order: str | Sequence[int] = "random"

    def start(self, resolved: Mapping[str, Any], parameters: Mapping[str, Floats], sample: Sample) -> Sample | None:
        """Start at the map that gives the rows mean 0 and the identity as covariance."""
        if not sample.y.shape[1]:
            return sample
        features = np.argsort(resolved["indices"])  # at each place on the z side
        number = np.cumsum(sample.on_line) - 1
        y = sample.y[:, number[features[sample.on_line[features]]]]
        mean = sample.weights @ y / sample.weights.sum()
        root = whitening(covariance(y - mean, sample.weights))
        lower, upper = triangles(root)
        parameters["weight"][...] = np.tril(lower, -1) + np.triu(upper, 1) + np.diag(np.log(np.diag(upper)))
        parameters["bias"][...] = -root @ mean
        return replace(sample, y=(y - mean) @ root.T, on_line=sample.on_line[features])


@dataclass(frozen=True)
class Householder(Layer):
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
        object.__setattr__(self, "count", _checks.integer("count", self.count, *core.limits["reflections"]))


@dataclass(frozen=True)
class ActNorm(Layer):
    """One learned scale and shift per feature: x = z exp(s) + b (Glow; Kingma, Dhariwal 2018, section 3.1).

    They start so that the rows of the first fit have mean 0 and variance 1 on its z side. Features with the support
    `Circle`, or `Interval` under the base `Uniform`, are left alone.

    Examples
    --------
    >>> ActNorm()
    ActNorm()
    """

    moves_alone: ClassVar[bool] = True


@dataclass(frozen=True)
class ContextShift(Layer):
    """Shift the features by a linear function of the context, x = z + W c + b, with log_det 0.

    The first fit of a flow whose last layer this is starts it at the linear regression of the features on the context.
    Features with the support `Circle`, or `Interval` under the base `Uniform`, are left alone.

    Raises
    ------
    ValueError
        By `Flow`, if it has no context.

    Examples
    --------
    >>> ContextShift()
    ContextShift()
    """

    moves_alone: ClassVar[bool] = True

    def resolve(self, place: Place, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Refuse a flow without a context."""
        if not place.context:
            raise ValueError("ContextShift needs a flow with a context; this one has context=0")
        return {}

    def start(self, resolved: Mapping[str, Any], parameters: Mapping[str, Floats], sample: Sample) -> Sample | None:
        """Start at the linear regression of the features on the context."""
        if sample.context is None:
            return None
        slopes, intercepts, residuals = regression(sample.y, sample.context, sample.weights)
        parameters["weight"][...], parameters["bias"][...] = slopes, intercepts
        return replace(sample, y=residuals)


LAYERS = table(Coupling, Autoregressive, Permutation, LU, Householder, ActNorm, ContextShift, Conv1x1, Squeeze, Split)
