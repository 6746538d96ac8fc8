"""What values a feature may take: small frozen dataclasses that print as the code that makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pushforward import checks
from pushforward.checks import Array


@dataclass(frozen=True)
class Real:
    """Any real number: the feature is only standardised.

    Examples
    --------
    >>> Real()
    Real()
    """


@dataclass(frozen=True)
class Positive:
    """A number above 0, such as a mass or a time: the flow works on its logarithm.

    Exactly 0 is allowed in the data; no sample is 0.

    Examples
    --------
    >>> import numpy as np
    >>> flow = Flow(1, layers=[], support=Positive())
    >>> flow.log_prob(np.array([[1.0], [-1.0]])).round(3)
    array([-0.919,   -inf])
    """


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, ends included, such as a fraction: the flow works on its probit.

    The probit, y with Phi(y) = (x - low) / (high - low), carries a flat density to exactly a standard normal. With a
    uniform base the feature is only brought to [-1, 1].

    Parameters
    ----------
    low, high : float
        The ends; finite, ``low < high``.

    Raises
    ------
    TypeError, ValueError
        If they are not such numbers.

    Examples
    --------
    >>> import numpy as np
    >>> flow = Flow(1, layers=[], support=Interval(0, 2))
    >>> float(np.exp(flow.log_prob(np.array([[1.5]]))).round(6)[0])
    0.5
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self)


@dataclass(frozen=True)
class Circle:
    """An angle, or any number that goes round: `high` is the same point as `low`.

    Parameters
    ----------
    low, high : float
        The ends of one turn; finite, ``low < high``.

    Raises
    ------
    TypeError, ValueError
        If they are not such numbers.

    Examples
    --------
    >>> Circle(0, 360)
    Circle(low=0.0, high=360.0)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self)


Support: TypeAlias = Real | Positive | Interval | Circle


def _check_ends(support: Interval | Circle) -> None:
    name = type(support).__name__
    for end in ("low", "high"):
        value = checks.number(f"{name}'s {end}", getattr(support, end), -math.inf, math.inf, closed="neither")
        object.__setattr__(support, end, value)
    if not support.low < support.high:
        raise ValueError(f"{name} needs low < high, not low={support.low} and high={support.high}")
    width = support.high - support.low
    if math.isinf(width) or math.isinf(1 / width):
        raise ValueError(f"{name}'s high - low must be a number that has an inverse, not {width}")


def resolve(support: object, dim: int) -> tuple[Support, ...]:
    """Return the support of each of `dim` features, given None, one for all or a sequence of one per feature."""
    if support is None:
        return (Real(),) * dim
    if isinstance(support, Support):
        return (support,) * dim
    expected = "Real(), Positive(), Interval(low, high) or Circle(low, high)"
    if isinstance(support, (str, bytes)) or not isinstance(support, Sequence):
        raise TypeError(f"support must be {expected}, or a sequence of one per feature, not {support!r}")
    if len(support) != dim:
        raise ValueError(f"support has {len(support)} entries; this flow has dim={dim}")
    for i, entry in enumerate(support):
        if not isinstance(entry, Support):
            raise TypeError(f"support[{i}] must be {expected}, not {entry!r}")
    return tuple(support)


def are_real(supports: Sequence[Support]) -> bool:
    """Whether no feature has any bound."""
    return all(isinstance(support, Real) for support in supports)


def outside(supports: Sequence[Support], x: Array) -> npt.NDArray[np.bool_]:
    """Return which values of finite rows are outside their support, (n, dim).

    A float32 table is compared with the bounds as float32 rounds them, as in the core.
    """
    result = np.zeros(x.shape, dtype=bool)
    kind = np.float32 if x.dtype == np.float32 else np.float64
    for i, support in enumerate(supports):
        if isinstance(support, Positive):
            result[:, i] = x[:, i] < 0
        elif isinstance(support, (Interval, Circle)):
            with np.errstate(over="ignore"):  # a bound beyond float32 is infinite in it
                low, high = kind(support.low), kind(support.high)
            result[:, i] = (x[:, i] < low) | (x[:, i] > high)
    return result
