"""Checks of arguments: arrays are brought into a form that the core reads, options are compared with their range.

Every message says what was expected, what came, and where.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from pushforward._labelled import is_labelled, names_of, values_of
from pushforward._typing import Array, Doubles, Indices, PathLike

_MOST = (1 << 63) - 1  # what a number of anything can be in the core, and in an array
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


def integer(name: str, value: object, least: int = 0, most: int = _MOST) -> int:
    """Return `value` as an int of at least `least` and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {_shown(value)}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {_shown(value)}")
    return int(value)


def row_count(n: object, width: int) -> int:
    """Return a number of rows of float64 that an array can have."""
    return integer("n", n, 0, _MOST // (8 * width))


def _shown(value: int | np.integer[Any]) -> str:
    """Return an integer in digits, if they are not too many to read, or for Python to write."""
    bits = int(value).bit_length()
    return str(value) if bits < 100 else f"about {'-' if value < 0 else ''}1e{round(bits * math.log10(2))}"


def number(
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    closed: str = "both",
    what: str = "a number",
) -> float:
    """Return `value` as a float between `low` and `high`; `closed` says which ends belong to the range."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {what} that a float can hold, not {_shown(int(value))}") from None
    above = result >= low if closed in ("both", "left") else result > low
    below = result <= high if closed in ("both", "right") else result < high
    if not (above and below):
        left, right = "[" if closed in ("both", "left") else "(", "]" if closed in ("both", "right") else ")"
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, not {value}")
    return result


def path(name: str, value: object) -> PathLike:
    """Return the path of a file in a folder that exists."""
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


def _from_objects(array: Array) -> Doubles | None:
    """Return an array of objects as float64, or None if any is not a number; digits in a string are not.

    None and pandas' NA are NaN.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and array.ndim and array.size:
        array = np.array(array)
        array[pandas.isna(array)] = None
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        return None
    return None if any(isinstance(value, (str, bytes)) for value in array.flat) else numbers


def floats(x: object, name: str) -> Array:
    """Return `x` as a native float32 or float64 array; other real types become float64. Never modifies `x`."""
    if is_labelled(x):
        x = values_of(x, name)
    try:
        array = np.asarray(x)
    except ValueError as error:
        if "inhomogeneous" not in str(error):  # it comes from the object's own __array__
            raise
        _not_numbers(name, "its rows have different lengths")
    mask = getattr(x, "mask", None)
    if isinstance(mask, np.ndarray) and mask.any():
        raise ValueError(f"{name} has masked values in {mask.sum()} places; fill them, or leave their rows out")
    if array.dtype == object:
        numbers = _from_objects(array)
        if numbers is not None:
            return numbers
        names = _labels_of(x)
        columns = () if names is None else zip(names, array.T, strict=True)
        bad = [repr(label) for label, column in columns if _from_objects(column) is None]
        if bad:
            what = f"columns {', '.join(bad)} are" if len(bad) > 1 else f"column {bad[0]} is"
            _not_numbers(name, f"the {what} not. Leave out such columns, or turn a category into columns of 0 and 1")
        _not_numbers(name, "it holds other objects")
    if array.dtype.kind not in "biuf":
        _not_numbers(name, f"it has dtype {array.dtype}")
    if _readable(array):
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" and array.itemsize == 4 else np.float64, order="C")


def column_names(x: object) -> tuple[str, ...] | None:
    """Return the names of a DataFrame's columns, if all of them are strings; None for any other table."""
    names = _labels_of(x)
    return names if names and all(isinstance(name, str) for name in names) else None


def _labels_of(x: object) -> tuple[Any, ...] | None:
    """Return the labels of a table's columns, whatever they are; pyarrow's `columns` are the columns themselves."""
    if is_labelled(x):
        return names_of(x)
    labels = getattr(x, "column_names", None)
    if labels is None:
        labels = getattr(x, "columns", None)
    try:
        return None if labels is None else tuple(labels)
    except TypeError:
        return None


def names(x: object, known: Sequence[str] | None, name: str) -> None:
    """Raise if a table's columns have other names than those that are known, or stand in another order."""
    # type() and not isinstance(): arrays, which nearly every call passes, have no names
    if known is None or type(x) is np.ndarray:
        return
    found = column_names(x)
    if found is None or found == tuple(known):
        return
    if len(found) == len(known) and sorted(found) == sorted(known):
        raise ValueError(
            f"{name} has the columns {_listed(found)}; this flow has the same columns in the order {_listed(known)}"
        )
    raise ValueError(f"{name} has the columns {_listed(found)}; those of this flow are {_listed(known)}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 8 else shown


def table(x: object, width: int, name: str, owner: str = "dim", columns: Sequence[str] | None = None) -> Array:
    """Return `x` as an (n, width) array that the core can read; its columns must have these names, if it has any."""
    # type() and not isinstance(): the fast way for what nearly every call passes, a few hundred nanoseconds
    if type(x) is np.ndarray and x.ndim == 2 and x.shape[1] == width and _readable(x):
        return x
    array = floats(x, name)
    if array.ndim > 2 and array.shape[-1] == width and is_labelled(x):
        array = array.reshape(-1, width)  # the draws of all chains
    if array.ndim != 2 or array.shape[1] != width:
        hint = f"; one row is {name}[None, :]" if array.ndim == 1 and array.shape[0] == width else ""
        _refuse_points(array, width, name, owner, f"(n, {width})", hint)
    names(x, columns, name)
    return array


def points(x: object, width: int, name: str, columns: Sequence[str] | None = None) -> Array:
    """Return `x` as an array (..., width) that the core can read, one row or any number of leading axes."""
    if type(x) is np.ndarray and x.ndim == 2 and x.shape[1] == width and _readable(x):
        return x
    array = floats(x, name)
    if array.ndim == 0 or array.shape[-1] != width:
        _refuse_points(array, width, name, "dim", f"(n, {width})" if array.ndim < 3 else f"(..., {width})")
    names(x, columns, name)
    return array


def _refuse_points(array: Array, width: int, name: str, owner: str, expected: str, hint: str = "") -> NoReturn:
    if array.ndim == 1 and width == 1 and not hint:
        hint = f"; one column is {name}[:, None]"
    raise ValueError(f"{name} has shape {array.shape}; this flow has {owner}={width}, so {expected} is expected{hint}")


def condition(context: object, width: int, rows: int, columns: Sequence[str] | None = None) -> Array | None:
    """Return the context of `rows` rows as (rows, width) or (width,), or None for a flow without context."""
    array = conditions(context, width, columns, (rows,))
    if array is not None and array.ndim != 1 and array.shape != (rows, width):
        refuse_condition(array, width, (rows,))
    return array


def conditions(context: object, width: int, columns: Sequence[str] | None, leading: tuple[int, ...]) -> Array | None:
    """Return a context as an array (..., width), or None for a flow without context.

    `leading` are the axes of the rows whose context it is, for the message.
    """
    if width == 0:
        if context is not None:
            raise ValueError("context was given, but this flow has context=0")
        return None
    if context is None:
        raise ValueError(f"this flow has context={width}: pass context= of shape (n, {width}) or ({width},)")
    array = floats(context, "context")
    if array.ndim == 0 or array.shape[-1] != width:
        refuse_condition(array, width, leading)
    names(context, columns, "context")
    return array


def refuse_condition(array: Array, width: int, leading: tuple[int, ...]) -> NoReturn:
    """Raise a ValueError for a context that does not go with rows of these leading axes."""
    if len(leading) == 1:
        (rows,) = leading
        hint = "; one column is context[:, None]" if width == 1 and array.shape == (rows,) else ""
        raise ValueError(
            f"context has shape {array.shape}; with context={width} and {rows} rows, "
            f"({rows}, {width}) or ({width},) is expected{hint}"
        )
    raise ValueError(
        f"context has shape {array.shape}; with context={width} and rows of shape {leading}, (..., {width}) is "
        f"expected, with leading axes that broadcast against {leading}"
    )


def row_weights(weights: object, rows: int, *, signed: bool = False, name: str = "weights") -> Doubles | None:
    """Return the weights as (rows,) float64, non-negative unless `signed`, finite and not all zero; None stays None.

    Their scale does not matter: the greatest is brought to between 1/2 and 1, so that no sum or square of them
    overflows or vanishes. The factor is a power of two, which rounds nothing.
    """
    if weights is None:
        return None
    array = raw_weights(weights, rows, signed=signed, name=name)
    if rows and not array.any():
        raise ValueError(f"{name} are all zero")
    return scaled_weights(array, float(np.abs(array).max(initial=0.0)))


def raw_weights(weights: object, rows: int, *, signed: bool = False, name: str = "weights") -> Doubles:
    """Return weights as they are, (rows,) float64; they may be all zero."""
    array: Doubles = floats(weights, name).astype(np.float64, order="C", copy=False)
    if array.shape != (rows,):
        raise ValueError(f"{name} has shape {array.shape}; with {rows} rows, ({rows},) is expected")
    bad = ~np.isfinite(array)
    if bad.any():
        count = int(bad.sum())
        raise ValueError(f"{name} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {bad.argmax()}")
    if not signed and (array < 0).any():
        raise ValueError(f"{name} must not be negative; {array.min()} at row {array.argmin()}")
    return array


def scaled_weights(weights: Doubles, greatest: float) -> Doubles:
    """Return weights over a power of two that brings the greatest to between 1/2 and 1."""
    scaled: Doubles = np.ldexp(weights, -np.frexp(greatest)[1])
    return scaled


def labels(values: object, rows: int, name: str) -> Indices:
    """Return labels of any type, one for each row, as numbers from 0 on: equal ones have the same."""
    array = np.asarray(values)
    if array.shape != (rows,):
        raise ValueError(f"{name} has shape {array.shape}; with {rows} rows, ({rows},) is expected")
    missing = np.fromiter((_is_missing(label) for label in array), bool, rows) if array.dtype.kind in "OfcmM" else None
    if missing is not None and missing.any():
        count = int(missing.sum())
        raise ValueError(f"{name} has {count} row{'s' * (count > 1)} without a label, first at row {missing.argmax()}")
    if array.dtype != object:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    found: dict[object, int] = {}
    return np.fromiter((found.setdefault(label, len(found)) for label in array), np.int64, rows)


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, NaT or pandas' NA, none of which equals itself."""
    if label is None:
        return True
    equal = label == label
    return not isinstance(equal, (bool, np.bool_)) or not equal


def counted(x: Array, context: Array | None, weights: Doubles | None) -> tuple[Array, Array | None, Doubles | None]:
    """Leave out the rows of weight 0: a weight says how often a row is there."""
    if weights is None or weights.all():
        return x, context, weights
    kept = weights != 0
    return x[kept], context[kept] if context is not None and context.ndim == 2 else context, weights[kept]


def vector(values: object, shape: int | tuple[int, ...], name: str) -> Doubles:
    """Return `values` as a float64 array of a shape, or of so many numbers."""
    array = floats(values, name).astype(np.float64, order="C", copy=False)
    expected = shape if isinstance(shape, tuple) else (shape,)
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; {expected} is expected")
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
    for i, array in enumerate(arrays):
        if any(np.shares_memory(array, other) for other in arrays[:i]):
            raise ValueError(f"{name} has arrays that share memory; each result needs its own")
    return arrays
