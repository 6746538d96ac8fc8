"""Elementwise transforms: how a layer moves each of its features."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.part import Part, table

_SCHEMES = ("floor", "clip")


class Transform(Part):
    """An elementwise map with parameters for each feature; where they are all zero it is the identity."""

    @property
    def reach(self) -> float:
        """How far from 0 the transform bends a feature, in standard deviations."""
        return math.inf


@dataclass(frozen=True)
class Additive(Transform):
    """Shift each moved feature: x = z + t, with log_det 0 (NICE; Dinh, Krueger, Bengio 2014, section 3.2).

    Examples
    --------
    >>> Additive()
    Additive()
    """


@dataclass(frozen=True)
class Affine(Transform):
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
        bound = _checks.number("max_log_scale", self.max_log_scale, *core.limits["max_log_scale"])
        object.__setattr__(self, "max_log_scale", bound)


@dataclass(frozen=True)
class RationalQuadratic(Transform):
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
        _checks.choice("scheme", self.scheme, _SCHEMES)
        object.__setattr__(self, "bins", _checks.integer("bins", self.bins, *core.limits["bins"]))
        object.__setattr__(self, "bound", _checks.number("bound", self.bound, *core.limits["bound"]))
        for name in ("min_width", "min_height"):
            value = _checks.number(name, getattr(self, name), 0.0, 1 / self.bins, closed="neither")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "min_slope", _checks.number("min_slope", self.min_slope, 0.0, 1.0, closed="neither"))

    @property
    def reach(self) -> float:
        """How far from 0 the transform bends a feature, in standard deviations."""
        return self.bound


TRANSFORMS = table(Additive, Affine, RationalQuadratic)
