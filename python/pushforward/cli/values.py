"""Types of options. argparse reports an ArgumentTypeError with the name of the option."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import re
from collections.abc import Callable
from typing import TypeVar

from pushforward._model.networks import MLP
from pushforward._model.supports import SUPPORTS, Support

T = TypeVar("T")

_SUPPORTS = {name.lower(): kind for name, kind in SUPPORTS.items()}


def integer(least: int) -> Callable[[str], int]:
    """Integers of at least `least`."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")

    return parse


def number(low: float, high: float = math.inf, *, closed: bool = False) -> Callable[[str], float]:
    """Numbers between `low` and `high`, with `low` itself if `closed`."""
    ends = f"{'of at least' if closed else 'above'} {low:g}" + (f" and below {high:g}" if math.isfinite(high) else "")

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if low < value < high or (closed and value == low):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {ends}")

    return parse


def numbers(text: str) -> list[float]:
    """Numbers between commas."""
    for part in text.split(","):
        try:
            float(part)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a number; a category is given by its columns of 0 and 1, as in the fit"
            ) from None
    return [number(-math.inf)(part) for part in text.split(",")]


def shares(text: str) -> list[float]:
    """Numbers above 0 and below 1, between commas."""
    return [number(0, 1)(part) for part in text.split(",")]


def or_none(kind: Callable[[str], T]) -> Callable[[str], T | None]:
    """Values of a kind, or none."""
    return lambda text: None if text == "none" else kind(text)


def widths(text: str) -> list[int]:
    """Widths of layers between commas, perhaps of no layer."""
    return [integer(1)(part) for part in text.split(",")] if text else []


def indices(text: str) -> list[int]:
    """Numbers of layers between commas."""
    return [integer(0)(part) for part in text.split(",")]


def activation(text: str) -> str:
    """Names of activations."""
    try:
        return MLP(activation=text).activation
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def validation(text: str) -> float | str:
    """Fractions, or names of tables."""
    try:
        float(text)
    except ValueError:
        return text
    return number(0.0, 1.0, closed=True)(text)


def support(text: str) -> tuple[str, Support]:
    """Columns and their supports: ``NAME=KIND``."""
    name, equals, kind = text.rpartition("=")
    word, *ends = kind.split(":")
    found = _SUPPORTS.get(word)
    try:
        if equals and found is not None and len(ends) == len(_ends(found)):
            return name, found(*map(_end, ends))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    forms = [":".join([word, *map(str.upper, _ends(support))]) for word, support in _SUPPORTS.items()]
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME={', NAME='.join(forms[:-1])} or NAME={forms[-1]}")


def _ends(kind: type[Support]) -> list[str]:
    """Return the names of the numbers that a kind of support needs."""
    return [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]


def _end(text: str) -> float:
    """Read a number, or a multiple of pi such as ``-0.5pi``: a multiple rounded by hand would not close the turn."""
    factor = re.fullmatch(r"([+-]?)(\d*\.?\d*)pi", text)
    if factor is None:
        try:
            return int(text) if text.isdecimal() else float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number, nor one of pi such as 2pi") from None
    sign, digits = factor.groups()
    return float(f"{sign}{digits or 1}") * math.pi
