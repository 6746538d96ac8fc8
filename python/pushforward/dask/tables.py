"""Tables of Dask: checked, with all columns in one chunk, and in the same partitions as others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np

from pushforward import _checks
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow


def is_frame(x: Any) -> bool:
    """Whether this is a DataFrame of Dask."""
    return dask.is_dask_collection(x) and hasattr(x, "map_partitions") and getattr(x, "ndim", 0) == 2


def table(x: Any, width: int, name: str, names: Sequence[str] | None) -> Any:
    """Return a Dask array with all columns in one chunk, or a DataFrame, of so many columns."""
    if is_frame(x):
        found = (len(x.columns),)
        _checks.names(x, names, name)
    elif isinstance(x, da.Array):
        found = x.shape[1:]
    else:
        raise TypeError(f"{name} must be an array or a DataFrame of Dask, not {type(x).__name__}")
    if x.ndim != 2 or found != (width,):
        raise ValueError(f"{name} has shape {('n', *found)}; this flow has {width} columns there: (n, {width})")
    return x if is_frame(x) or x.numblocks[1] == 1 else x.rechunk({1: -1})


def conditions(context: Any, flow: Flow | Ensemble, x: Any) -> Any:
    """Return conditions of each row, in the partitions of the rows."""
    if (context is None) != (flow.context == 0):
        _checks.conditions(context, flow.context, None, ())  # raises
    return None if context is None else aligned(context, flow.context, "context", x, flow.context_columns)


def aligned(values: Any, width: int, name: str, x: Any, names: Sequence[str] | None = None) -> Any:
    """Return an array of rows, (n, width), or (n,) if the width is 0, in the partitions of `x`."""
    if isinstance(x, da.Array) and not dask.is_dask_collection(values):
        if np.isnan(x.shape[0]):
            raise TypeError(f"{name} must be of Dask, since the number of rows of x is not known")
        array = np.asarray(values)
        if array.shape[:1] == x.shape[:1]:
            values = da.from_array(array, chunks=(x.chunks[0], *array.shape[1:]))
        else:
            raise ValueError(f"{name} has shape {array.shape}; x has {x.shape[0]} rows")
    if width:
        values = table(values, width, name, names)
    elif not dask.is_dask_collection(values) or getattr(values, "ndim", 0) != 1:
        raise TypeError(f"{name} must be an array or a Series of Dask, with one axis")
    if isinstance(x, da.Array) and isinstance(values, da.Array) and not np.isnan([x.shape[0], values.shape[0]]).any():
        if len(values) != len(x):
            raise ValueError(f"{name} has {len(values)} rows; x has {len(x)}")
        return values.rechunk({0: x.chunks[0]})
    if partitions(values) != partitions(x):
        raise ValueError(f"{name} has {partitions(values)} partitions of rows; x has {partitions(x)}")
    return values


def partitions(values: Any) -> int:
    """Return the number of partitions of rows."""
    count: int = values.numblocks[0] if isinstance(values, da.Array) else values.npartitions
    return count


def parts_of(values: Any, count: int) -> list[Any]:
    """Return the partitions of an array or a DataFrame, each as a delayed object."""
    if values is None:
        return [None] * count
    return list(np.ravel(values.to_delayed()))
