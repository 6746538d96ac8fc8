"""Kinds of columns, beside the supports of a flow: small frozen dataclasses that print as the code that makes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.part import Part, one_of, table
from pushforward._model.supports import SUPPORTS, Support

Value: TypeAlias = "str | int | float | bool"
"""A value of a category, in JSON's types."""

UNITS = {"D": 86_400_000_000, "s": 1_000_000, "ms": 1000, "us": 1}
"""Units of a date, in microseconds."""


class TableKind(Part):
    """What the values of a column are, where a flow's supports do not say it."""


def _end(name: str, value: object) -> float:
    return _checks.number(name, value, -math.inf, math.inf, closed="neither")


@dataclass(frozen=True)
class Above(TableKind):
    """A number of at least `low`, such as a pressure above that of the air: the flow works on log(x - low).

    Parameters
    ----------
    low : float
        The end; finite.

    Examples
    --------
    >>> Above(1.5)
    Above(low=1.5)
    """

    low: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", _end("Above's low", self.low))


@dataclass(frozen=True)
class Below(TableKind):
    """A number of at most `high`: the flow works on log(high - x).

    Parameters
    ----------
    high : float
        The end; finite.

    Examples
    --------
    >>> Below(0)
    Below(high=0.0)
    """

    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "high", _end("Below's high", self.high))


@dataclass(frozen=True)
class Integer(TableKind):
    """A whole number from `low` to `high`, ends included. Its values have masses.

    Parameters
    ----------
    low, high : int
        The ends, ``low < high``, of at most 2^53 in size.

    Raises
    ------
    TypeError, ValueError
        If they are not such integers.

    Examples
    --------
    >>> Integer(0, 120)
    Integer(low=0, high=120)
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        most = 1 << 53  # every whole number up to this is one of float64
        for end in ("low", "high"):
            object.__setattr__(self, end, _checks.integer(f"Integer's {end}", getattr(self, end), -most, most))
        if not self.low < self.high:
            raise ValueError(f"Integer needs low < high, not low={self.low} and high={self.high}")


@dataclass(frozen=True)
class Category(TableKind):
    """One of some values: strings, numbers or booleans. Each has a mass.

    Parameters
    ----------
    values : sequence of str, int, float or bool
        The values, no two of them equal.
    ordered : bool
        Whether they stand in their order.

    Raises
    ------
    TypeError, ValueError
        If there are no values or too many, two are equal, or one is of another type.

    Examples
    --------
    >>> Category(["low", "high"], ordered=True)
    Category(values=('low', 'high'), ordered=True)
    """

    values: Iterable[Value]
    ordered: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Iterable):
            raise TypeError(f"Category's values must be a sequence of values, not {self.values!r}")
        values = tuple(_plain(value) for value in self.values)
        if not values or len(values) > core.limits["categories"][1] - 2:
            raise ValueError(f"Category needs 1 to {core.limits['categories'][1] - 2} values, not {len(values)}")
        if len(set(values)) != len(values):
            raise ValueError("Category has the same value twice")
        if not isinstance(self.ordered, bool):
            raise TypeError(f"Category's ordered must be True or False, not {self.ordered!r}")
        object.__setattr__(self, "values", values)


def _plain(value: object) -> Value:
    """Return a value in Python's own types."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f"Category's values must be strings, finite numbers or booleans, not {value!r}")


@dataclass(frozen=True)
class Boolean(TableKind):
    """True or False.

    Examples
    --------
    >>> Boolean()
    Boolean()
    """


@dataclass(frozen=True)
class Date(TableKind):
    """A date or a time, a whole number of units since 1970. Its values have masses.

    Parameters
    ----------
    unit : {"D", "s", "ms", "us"}
        Days, seconds, milliseconds or microseconds.
    low, high : str, optional
        The first and the last date, in the ISO 8601 format, both or neither. By default any date may come.

    Raises
    ------
    TypeError, ValueError
        If the unit is none of those, or the ends are not such dates in their order.

    Examples
    --------
    >>> Date("D", "2020-01-01", "2024-12-31")
    Date(unit='D', low='2020-01-01', high='2024-12-31')
    """

    unit: str = "D"
    low: str | None = None
    high: str | None = None

    def __post_init__(self) -> None:
        _checks.choice("Date's unit", self.unit, UNITS)
        if (self.low is None) != (self.high is None):
            raise ValueError(f"Date needs both ends or neither, not low={self.low!r} and high={self.high!r}")
        if self.low is not None and not self.ends[0] <= self.ends[1]:
            raise ValueError(f"Date needs low <= high, not low={self.low!r} and high={self.high!r}")

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last date, in units since 1970; infinite if any date may come."""
        if self.low is None or self.high is None:
            return -math.inf, math.inf
        return self._number("low", self.low), self._number("high", self.high)

    def _number(self, name: str, date: object) -> float:
        if not isinstance(date, str):
            raise TypeError(f"Date's {name} must be a string, not {date!r}")
        try:
            found = np.array(date, dtype=f"datetime64[{self.unit}]")
        except ValueError:
            raise ValueError(
                f"Date's {name} must be a date in whole {self.unit} such as 2020-01-31, not {date!r}"
            ) from None
        if np.isnat(found):
            raise ValueError(f"Date's {name} must be a date, not {date!r}")
        return float(found.astype(np.int64))


Kind: TypeAlias = Support | TableKind
TABLE_KINDS = table(Above, Below, Integer, Category, Boolean, Date)
# Whole numbers of a table are `Integer`, with masses.
KINDS: dict[str, type[Any]] = {**{name: kind for name, kind in SUPPORTS.items() if name != "Pixel"}, **TABLE_KINDS}


def checked(kind: object, name: str) -> Kind:
    """Return a kind, if it is one."""
    if not isinstance(kind, Kind) or type(kind).__name__ not in KINDS:
        raise TypeError(f"{name} must be {one_of(KINDS)}, not {kind!r}")
    return kind
