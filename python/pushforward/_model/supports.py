"""Supports: the values that a feature may take, as small frozen dataclasses that print as the code that makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.part import Part, one_of, table
from pushforward._typing import Array


class Support(Part):
    """The values that a feature may take; by default any."""

    wraps: ClassVar[bool] = False
    """Whether both ends are the same point."""

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value allowed."""
        return -math.inf, math.inf

    @property
    def is_bounded(self) -> bool:
        """Whether some real number is not allowed."""
        return self.ends != (-math.inf, math.inf)

    @property
    def has_cells(self) -> bool:
        """Whether a whole number stands for all numbers from it to the next, so that it may repeat."""
        return False

    def outside(self, values: Array) -> npt.NDArray[np.bool_]:
        """Return which finite values are not allowed.

        Float32 values are compared with the ends as float32 rounds them, as in the core.
        """
        kind = np.float32 if values.dtype == np.float32 else np.float64
        with np.errstate(over="ignore"):  # an end beyond float32 is infinite in it
            low, high = map(kind, self.ends)
        result: npt.NDArray[np.bool_] = (values < low) | (values > high)
        return result


@dataclass(frozen=True)
class Real(Support):
    """Any real number: the feature is only standardised.

    Examples
    --------
    >>> Real()
    Real()
    """


@dataclass(frozen=True)
class Positive(Support):
    """A number above 0, such as a mass or a time: the flow works on its logarithm.

    Exactly 0 is allowed in the data; no sample is 0.

    Examples
    --------
    >>> import numpy as np
    >>> flow = Flow(1, layers=[], support=Positive())
    >>> flow.log_prob(np.array([[1.0], [-1.0]])).round(3)
    array([-0.919,   -inf])
    """

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value allowed."""
        return 0.0, math.inf


@dataclass(frozen=True)
class Interval(Support):
    """A number from `low` to `high`, ends included, such as a fraction: the flow works on its probit.

    The probit, y with Phi(y) = (x - low) / (high - low), maps a uniform density to exactly a standard normal. With a
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
        _set_ends(self, self.low, self.high)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value allowed."""
        return self.low, self.high


@dataclass(frozen=True)
class Circle(Support):
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

    wraps: ClassVar[bool] = True

    low: float
    high: float

    def __post_init__(self) -> None:
        _set_ends(self, self.low, self.high)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value allowed."""
        return self.low, self.high


@dataclass(frozen=True)
class Pixel(Support):
    """A whole number from 0 to ``levels - 1``, such as a grey value: it stands for its cell, from itself to the next.

    A whole number of a table becomes a point of its cell, by uniform noise that is a function of its row: a row has the
    same score in every call. Each step of a fit has noise of its own. `log_prob` is the log density at the point, of
    which the mean is a lower bound of that of the log mass (Theis, van den Oord, Bethge 2016); it is in nats, and minus
    log_prob / (dim log 2) is in bits per dimension. `sample` returns whole numbers. `forward` returns points, which
    every call reads as they are.

    The flow works on the logit of alpha + (1 - 2 alpha) point / levels (Dinh, Sohl-Dickstein, Bengio 2017). What mass
    it has beyond the ends of that range belongs to no number, and is lost to the bound.

    Parameters
    ----------
    levels : int
        How many numbers there are, from 2 to 65,536.
    alpha : float
        Keeps the logits of black and white finite, from 0 to 0.25.

    Raises
    ------
    TypeError, ValueError
        If they are not such numbers.

    Examples
    --------
    >>> import numpy as np
    >>> flow = Flow(2, layers=[], support=Pixel(17), seed=0)
    >>> x = np.array([[0.0, 16.0]])
    >>> bool(flow.log_prob(x) == flow.log_prob(x))
    True
    >>> flow.sample(1000, seed=0).max()
    np.float64(16.0)
    """

    levels: int = 256
    alpha: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checks.integer("Pixel's levels", self.levels, *core.limits["levels"]))
        object.__setattr__(self, "alpha", _checks.number("Pixel's alpha", self.alpha, *core.limits["alpha"]))

    @property
    def ends(self) -> tuple[float, float]:
        """0 and the end of the last cell."""
        return 0.0, float(self.levels)

    @property
    def has_cells(self) -> bool:
        """Whether a whole number stands for its cell."""
        return True

    def outside(self, values: Array) -> npt.NDArray[np.bool_]:
        """Return which finite values are not allowed; the end of the last cell is none of it."""
        result: npt.NDArray[np.bool_] = (values < 0) | (values >= self.levels)
        return result


SUPPORTS = table(Real, Positive, Interval, Circle, Pixel)


def _set_ends(support: Support, low: float, high: float) -> None:
    name = type(support).__name__
    ends = {
        end: _checks.number(f"{name}'s {end}", value, -math.inf, math.inf, closed="neither")
        for end, value in (("low", low), ("high", high))
    }
    if not ends["low"] < ends["high"]:
        raise ValueError(f"{name} needs low < high, not low={ends['low']} and high={ends['high']}")
    width = ends["high"] - ends["low"]
    if math.isinf(width) or math.isinf(1 / width):
        raise ValueError(f"{name}'s high - low must be a number that has an inverse, not {width}")
    for end, value in ends.items():
        object.__setattr__(support, end, value)


def resolve(support: object, dim: int, columns: Sequence[str] | None = None) -> tuple[Support, ...]:
    """Return the support of each of `dim` features.

    Parameters
    ----------
    support : None, Support, sequence or mapping
        Nothing, one for all, one per feature, or those of some features by name or number.
    dim : int
        Features.
    columns : sequence of str, optional
        Their names.
    """
    if support is None:
        return (Real(),) * dim
    if isinstance(support, Support):
        return (support,) * dim
    if isinstance(support, Mapping):
        return _by_feature(support, dim, columns)
    if isinstance(support, (str, bytes)) or not isinstance(support, Sequence):
        raise TypeError(
            f"support must be {one_of(SUPPORTS)}, a sequence of one per feature, or a mapping of features to theirs, "
            f"not {support!r}"
        )
    if len(support) != dim:
        raise ValueError(f"support has {len(support)} entries; this flow has dim={dim}")
    for i, entry in enumerate(support):
        if not isinstance(entry, Support):
            raise TypeError(f"support[{i}] must be {one_of(SUPPORTS)}, not {entry!r}")
    return tuple(support)


def _by_feature(support: Mapping[Any, Any], dim: int, columns: Sequence[str] | None) -> tuple[Support, ...]:
    found: dict[int, Support] = {}
    for feature, entry in support.items():
        if not isinstance(entry, Support):
            raise TypeError(f"support[{feature!r}] must be {one_of(SUPPORTS)}, not {entry!r}")
        number = feature
        if isinstance(feature, str):
            if columns is None:
                raise ValueError(
                    f"support names the column {feature!r}, but the names of the columns are not known: give "
                    "columns= too, or number the features, as in {0: Positive()}"
                )
            _checks.choice("support's column", feature, columns, note="the columns")
            number = list(columns).index(feature)
        number = _checks.integer("support's feature", number, 0, dim - 1)
        if number in found:
            raise ValueError(f"support has feature {number} twice, by name and by number")
        found[number] = entry
    return tuple(found.get(i, Real()) for i in range(dim))


def are_real(supports: Sequence[Support]) -> bool:
    """Whether every feature may take any value."""
    return not any(support.is_bounded for support in supports)


def refuse_cells(supports: Sequence[Support], what: str) -> None:
    """Raise a ValueError if a feature is a whole number that stands for its cell, where a density is needed."""
    celled = next((entry for entry in supports if entry.has_cells), None)
    if celled is not None:
        raise ValueError(f"{what} needs a density; numbers with the support {celled!r} are whole, and have masses")


def outside(supports: Sequence[Support], x: Array) -> npt.NDArray[np.bool_]:
    """Return which values of finite rows are outside their support, (n, dim)."""
    result = np.zeros(x.shape, dtype=bool)
    for i, support in enumerate(supports):
        if support.is_bounded:
            result[:, i] = support.outside(x[:, i])
    return result
