"""A share of a table in files of its own: its parts are written in any order, then joined, then read or mapped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward._typing import Array

_NAMES = ("x", "context", "weights")


@dataclass(frozen=True)
class Arrays:
    """What is known of the rows of a table: of a part, of a share, or of all.

    Parameters
    ----------
    rows : int
        Rows.
    types : tuple of str or None
        Type of `x`, of the context and of the weights; None for what there is not.
    """

    rows: int
    types: tuple[str | None, ...]


def write(folder: str, number: int, arrays: Sequence[Array | None]) -> Arrays:
    """Write a part: rows, context and weights, or None for what there is not."""
    os.makedirs(folder, exist_ok=True)
    for name, array in zip(_NAMES, arrays, strict=True):
        if array is not None:
            np.ascontiguousarray(array).tofile(_path(folder, name, number))
    x = arrays[0]
    assert x is not None
    return Arrays(len(x), tuple(None if array is None else array.dtype.str for array in arrays))


def join(folder: str, numbers: Sequence[int], arrays: Arrays) -> None:
    """Join parts, in this order, whose files are removed as they are copied."""
    for name, kind in zip(_NAMES, arrays.types, strict=True):
        if kind is not None:
            with open(_path(folder, name), "wb") as whole:
                for number in numbers:
                    path = _path(folder, name, number)
                    with open(path, "rb") as part:
                        shutil.copyfileobj(part, whole, 1 << 20)
                    os.remove(path)


def read(folder: str, arrays: Arrays, widths: Sequence[int], *, mapped: bool) -> list[Any]:
    """Return the joined arrays of so many columns, 0 of one with one axis, mapped or in memory; None for none."""
    found: list[Any] = []
    for name, kind, width in zip(_NAMES, arrays.types, widths, strict=True):
        if kind is None:
            found.append(None)
            continue
        shape = (arrays.rows, width) if width else (arrays.rows,)
        if mapped and arrays.rows:  # an empty file cannot be mapped
            found.append(np.memmap(_path(folder, name), kind, "r", shape=shape))
        else:
            found.append(np.fromfile(_path(folder, name), kind).reshape(shape))
    return found


def remove(folder: str) -> None:
    """Remove what there is of a share."""
    shutil.rmtree(folder, ignore_errors=True)


def _path(folder: str, name: str, number: int | None = None) -> str:
    return os.path.join(folder, name if number is None else f"{name}.{number}")
