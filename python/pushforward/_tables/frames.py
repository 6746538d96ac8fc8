"""DataFrames of pandas, polars and pyarrow, through narwhals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pushforward._tables import cells
from pushforward._tables.cells import DATE, INTEGER, NUMBER, TEXT, Cells
from pushforward._typing import Array

ARRAYS = "arrays"
"""The library of a mapping of names to arrays."""
ARRAY = "array"
"""That of an (n, columns) array of numbers, whose columns are called x0, x1, ..."""
LIBRARIES = ("pandas", "polars", "pyarrow", ARRAYS, ARRAY)


def read(table: Any, name: str = "table") -> tuple[dict[str, Cells], str]:
    """Return the columns of a table, and the library that it is of.

    Raises
    ------
    TypeError, ValueError
        If it is neither a DataFrame nor a mapping of names to arrays, or has a column that cannot be read.
    """
    if isinstance(table, Mapping):
        found = cells.of_mapping(table)
        _check_names(list(table), name)
        return found, ARRAYS
    if isinstance(table, np.ndarray):
        return _columns_of(table, name), ARRAY
    if not (hasattr(table, "columns") or hasattr(table, "column_names")):
        raise TypeError(
            f"{name} must be a DataFrame of pandas, polars or pyarrow, a mapping of column names to arrays, or an "
            f"array of numbers, not {type(table).__name__}"
        )
    narwhals = _narwhals()
    try:
        frame = narwhals.from_native(table, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{name} must be a DataFrame of pandas, polars or pyarrow in memory, not {type(table).__name__}"
        ) from None
    _check_names(list(frame.columns), name)
    return {label: _column(frame[label], label) for label in frame.columns}, str(frame.implementation.value)


def _columns_of(table: Array, name: str) -> dict[str, Cells]:
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"{name} has shape {table.shape}; an array must be (n, columns)")
    if table.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {table.dtype}; an array must hold numbers")
    return {f"x{i}": cells.of_array(column, f"x{i}") for i, column in enumerate(table.T)}


def _array_of(columns: Mapping[str, Cells]) -> Array:
    """Return columns of numbers beside each other, gaps as NaN."""
    for name, column in columns.items():
        if column.nature in (DATE, TEXT):
            raise TypeError(f"column {name!r} holds no numbers, so the table cannot be an array")
    is_single = all(column.dtype == "float32" for column in columns.values())
    values = [np.where(column.missing, np.nan, column.values) for column in columns.values()]
    return np.stack(values, axis=1).astype(np.float32 if is_single else np.float64)


def _narwhals() -> Any:
    try:
        import narwhals.stable.v2 as narwhals
    except ImportError:
        raise ImportError("DataFrames need narwhals: pip install pushforward[tables]") from None
    return narwhals


def _check_names(names: list[Any], name: str) -> None:
    other = [label for label in names if not isinstance(label, str)]
    if other:
        raise TypeError(f"the columns of {name} must have strings as names, not {other[0]!r}")
    if not names:
        raise ValueError(f"{name} has no columns")


def _column(series: Any, name: str) -> Cells:
    """Return the cells of one column of a DataFrame."""
    narwhals = _narwhals()
    kind, dtype = series.dtype, _dtype(series)
    if isinstance(kind, (narwhals.Categorical, narwhals.Enum)):
        levels = tuple(series.cat.get_categories().to_list())
        ordered = bool(getattr(getattr(series.to_native(), "dtype", None), "ordered", False))
        return cells.of_objects(_objects(series.to_list()), dtype, name, levels, ordered)
    if kind == narwhals.Boolean:
        return cells.of_objects(_objects(series.to_list()), dtype, name)
    if kind.is_numeric():
        numbers = series.cast(narwhals.Float64)
        values = np.array([np.nan if cells.is_missing(v) else v for v in numbers.to_list()], dtype=np.float64)
        return cells.of_numbers(values, INTEGER if kind.is_integer() else NUMBER, dtype, name)
    if isinstance(kind, (narwhals.Datetime, narwhals.Date)):
        times = series.cast(narwhals.Datetime("us")) if kind == narwhals.Date else series
        stamps = times.dt.timestamp("us").to_list()
        missing = np.array([cells.is_missing(stamp) for stamp in stamps], dtype=bool)
        values = np.array([0.0 if gap else float(stamp) for stamp, gap in zip(stamps, missing, strict=True)])
        return Cells(DATE, values, missing, dtype)
    if isinstance(kind, (narwhals.String, narwhals.Object, narwhals.Unknown)):
        return cells.of_objects(_objects(series.to_list()), dtype, name)
    raise TypeError(f"column {name!r} holds {kind}; numbers, booleans, strings, categories or dates are expected")


def _objects(values: list[Any]) -> Array:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


def _dtype(series: Any) -> str:
    native = series.to_native()
    return str(native.dtype) if series.implementation.is_pandas() else str(series.dtype)


def write(columns: Mapping[str, Cells], library: str) -> Any:
    """Return columns as a table of a library, in the types that they name.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    if library == ARRAYS:
        return cells.to_arrays(columns)
    if library == ARRAY:
        return _array_of(columns)
    if library == "pandas":
        import pandas

        series = {name: _pandas(pandas, column) for name, column in columns.items()}
        return pandas.DataFrame(series, columns=list(columns))
    narwhals = _narwhals()
    made = {name: _series(narwhals, name, column, library) for name, column in columns.items()}
    return narwhals.from_dict(made).to_native()


def _pandas(pandas: Any, column: Cells) -> Any:
    """Return a pandas Series. Whole numbers and booleans with gaps need a type that can hold gaps."""
    values = cells.to_array(column)
    if column.levels is not None:
        return pandas.Series(pandas.Categorical(values, categories=list(column.levels), ordered=column.ordered))
    if column.missing.any() and (column.dtype == "bool" or column.dtype.startswith(("int", "uint"))):
        return pandas.Series(values)
    if column.nature == DATE and "," in column.dtype:  # a time zone
        return pandas.Series(values).dt.tz_localize("UTC").astype(column.dtype)
    if column.nature == NUMBER and column.dtype.lower().startswith(("int", "uint")):
        values = np.round(values)
    return pandas.Series(values, dtype=column.dtype or None)


def _series(narwhals: Any, name: str, column: Cells, library: str) -> Any:
    values: list[Any] = cells.to_array(column).tolist()
    kind = _kind_of(narwhals, column.dtype)
    if column.nature in (NUMBER, INTEGER):
        values = [None if value != value else value for value in values]
    if column.nature == TEXT and column.dtype.startswith("Enum"):
        kind = narwhals.Enum(list(column.levels or ()))
    if kind is not None and kind.is_integer():
        values = [None if value is None else round(value) for value in values]
    return (
        narwhals.new_series(name, values, backend=library).cast(kind)
        if kind
        else narwhals.new_series(name, values, backend=library)
    )


def _kind_of(narwhals: Any, dtype: str) -> Any:
    """Return narwhals' type of a name that it gave it; None for one that needs no cast."""
    base = dtype.partition("(")[0]
    if base == "Datetime":
        return narwhals.Datetime("us")
    return getattr(narwhals, base)() if base and base not in ("Enum", "Object", "Unknown") else None
