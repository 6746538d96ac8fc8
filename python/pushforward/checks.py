"""What goes into the core: arrays checked and brought into a form it reads, options checked against their range.

Every message says what was expected, what came, and where.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def choice(name: str, value: object, valid: Iterable[str], *, note: str = "the choices") -> str:
    """Return `value` if it is one of `valid`, else raise a ValueError that lists them and suggests the nearest."""
    valid = tuple(valid)
    if isinstance(value, str):
        if value in valid:
            return value
        import difflib  # only on the way to an error

        near = difflib.get_close_matches(value, valid, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
    else:
        hint = ""
    raise ValueError(f"{name} is {value!r}; {note} are {', '.join(map(repr, valid))}{hint}")


def integer(name: str, value: object, least: int = 0) -> int:
    """Return `value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def number(
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    closed: str = "both",
    what: str = "a number",
) -> float:
    """Return `value` as a float between `low` and `high`; `closed` tells which ends belong to the range."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    result = float(value)
    above = result >= low if closed in ("both", "left") else result > low
    below = result <= high if closed in ("both", "right") else result < high
    if not (above and below):
        left, right = "[" if closed in ("both", "left") else "(", "]" if closed in ("both", "right") else ")"
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, not {value}")
    return result


def threads(name: str, value: object) -> int:
    """Return a number of threads, at most what an int of the core can hold."""
    count = integer(name, value, 1)
    if count > 4096:
        raise ValueError(f"{name} must be at most 4096, not {count}")
    return count


def path(name: str, value: object) -> str | os.PathLike[str]:
    """Return a file's path, in a folder that is there."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, not {value!r}")
    folder = os.path.dirname(os.fspath(value)) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{name} is {os.fspath(value)!r}, but there is no folder {folder!r}")
    return value


def _readable(array: Array) -> bool:
    """Whether the core can read the array where it lies."""
    return (
        array.dtype in _FLOATS
        and array.flags.aligned
        # Contiguous says it all, except of an axis of length 0 or 1: that may have any stride.
        and (
            (array.flags.c_contiguous and min(array.shape, default=0) > 1)
            or all(stride % array.itemsize == 0 for stride in array.strides)
        )
    )


def _not_numbers(name: str, reason: str) -> NoReturn:
    raise TypeError(f"{name} must be an array of real numbers; {reason}") from None


def _from_objects(array: Array) -> npt.NDArray[np.float64] | None:
    """Return an array of objects as float64, or None if any is not a number; digits in a string are not."""
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        return None
    return None if any(isinstance(value, (str, bytes)) for value in array.flat) else numbers


def floats(x: object, name: str) -> Array:
    """Return `x` as a native float32 or float64 array; other real types become float64. Never modifies `x`."""
    try:
        array = np.asarray(x)
    except ValueError:
        _not_numbers(name, "its rows have different lengths")
    mask = getattr(x, "mask", None)
    if isinstance(mask, np.ndarray) and mask.any():
        raise ValueError(f"{name} has masked values in {mask.sum()} places; fill them, or leave their rows out")
    if array.dtype == object:
        numbers = _from_objects(array)
        if numbers is not None:
            return numbers
        columns = zip(x.columns, array.T, strict=True) if hasattr(x, "columns") else ()
        bad = [str(label) for label, column in columns if _from_objects(column) is None]
        _not_numbers(name, f"the columns {', '.join(bad)} are not" if bad else "it holds other objects")
    if array.dtype.kind not in "biuf":
        _not_numbers(name, f"it has dtype {array.dtype}")
    if _readable(array):
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" and array.itemsize == 4 else np.float64, order="C")


def table(x: object, width: int, name: str, owner: str = "dim") -> Array:
    """Return `x` as an (n, width) array that the core can read."""
    # type() and not isinstance(): the fast way for what nearly every call passes, a few hundred nanoseconds
    if type(x) is np.ndarray and x.ndim == 2 and x.shape[1] == width and _readable(x):
        return x
    array = floats(x, name)
    if array.ndim != 2 or array.shape[1] != width:
        hint = ""
        if array.ndim == 1 and array.shape[0] == width:
            hint = f"; one row is {name}[None, :]"
        elif array.ndim == 1 and width == 1:
            hint = f"; one column is {name}[:, None]"
        raise ValueError(
            f"{name} has shape {array.shape}; this flow has {owner}={width}, so (n, {width}) is expected{hint}"
        )
    return array


def condition(context: object, width: int, rows: int) -> Array | None:
    """Return the context of `rows` rows as (rows, width) or (width,), or None for a flow without context."""
    if width == 0:
        if context is not None:
            raise ValueError("context was given, but this flow has context=0")
        return None
    if context is None:
        raise ValueError(f"this flow has context={width}: pass context= of shape (n, {width}) or ({width},)")
    array = floats(context, "context")
    if array.shape == (width,) or array.shape == (rows, width):
        return array
    raise ValueError(
        f"context has shape {array.shape}; with context={width} and {rows} rows, "
        f"({rows}, {width}) or ({width},) is expected"
    )


def row_weights(weights: object, rows: int) -> npt.NDArray[np.float64] | None:
    """Return the weights as (rows,) float64, non-negative, finite and not all zero; None stays None."""
    if weights is None:
        return None
    array = floats(weights, "weights").astype(np.float64, order="C", copy=False)
    if array.shape != (rows,):
        raise ValueError(f"weights has shape {array.shape}; with {rows} rows, ({rows},) is expected")
    bad = ~np.isfinite(array)
    if bad.any():
        count = int(bad.sum())
        raise ValueError(
            f"weights has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {bad.argmax()}"
        )
    if (array < 0).any():
        raise ValueError(f"weights must not be negative; {array.min()} at row {array.argmin()}")
    if rows and not array.sum() > 0:
        raise ValueError("weights are all zero")
    return array


def vector(values: object, size: int, name: str) -> npt.NDArray[np.float64]:
    """Return `values` as a (size,) float64 array."""
    array = floats(values, name).astype(np.float64, order="C", copy=False)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}; ({size},) is expected")
    return array


def outputs(out: object, shapes: tuple[tuple[int, ...], ...], name: str = "out") -> tuple[Array, ...]:
    """Return the arrays to write results to, one of each shape, float32 or float64."""
    arrays = out if isinstance(out, tuple) else (out,)
    if len(arrays) != len(shapes):
        raise ValueError(f"{name} must be {len(shapes)} arrays, not {len(arrays)}")
    for array, shape in zip(arrays, shapes, strict=True):
        if not isinstance(array, np.ndarray) or array.dtype not in _FLOATS or not array.flags.writeable:
            raise TypeError(f"{name} must be writable arrays of float32 or float64, not {type(array).__name__}")
        if array.shape != shape:
            raise ValueError(f"{name} has an array of shape {array.shape}; {shape} is expected")
    return arrays
