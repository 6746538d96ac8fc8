"""The cells of a table's columns, whatever library the table is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward._tables.kinds import Value
from pushforward._typing import Array

NUMBER, INTEGER, BOOL, TEXT, DATE = "number", "integer", "bool", "text", "date"


@dataclass(frozen=True)
class Cells:
    """The cells of one column.

    Parameters
    ----------
    nature : {"number", "integer", "bool", "text", "date"}
        What they hold.
    values : (n,) array
        Objects for text, else float64: microseconds since 1970 for dates, 0 and 1 for booleans. Missing cells hold any
        value.
    missing : (n,) array of bool
        Which cells are missing.
    dtype : str
        The type in the table.
    levels : tuple, optional
        The values of a categorical column in the table's order.
    ordered : bool
        Whether these are said to be in an order.
    """

    nature: str
    values: Array
    missing: npt.NDArray[np.bool_]
    dtype: str = ""
    levels: tuple[Value, ...] | None = None
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: Array) -> Cells:
        """Return the cells of some rows."""
        return replace(self, values=self.values[rows], missing=self.missing[rows])


def of_array(values: object, name: str) -> Cells:
    """Take the cells of an array, or of a list."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r} has shape {array.shape}; (n,) is expected")
    if array.dtype.kind in "biuf":
        nature = {"b": BOOL, "f": NUMBER}.get(array.dtype.kind, INTEGER)
        return of_numbers(array.astype(np.float64), nature, array.dtype.name, name)
    if array.dtype.kind == "M":
        return of_dates(array, array.dtype.name)
    if array.dtype.kind not in "OUT":
        raise TypeError(f"column {name!r} has dtype {array.dtype}; numbers, booleans, strings or dates are expected")
    return of_objects(array.astype(object), array.dtype.name, name)


def of_numbers(values: Array, nature: str, dtype: str, name: str) -> Cells:
    """Take numbers in float64, of which NaN is missing."""
    infinite = np.isinf(values)
    if infinite.any():
        count = int(infinite.sum())
        raise ValueError(
            f"column {name!r} has {count} cell{'s' * (count > 1)} with infinity, first at row {infinite.argmax()}"
        )
    return Cells(nature, values, np.isnan(values), dtype)


def of_dates(values: Array, dtype: str) -> Cells:
    """Take dates of any unit; what is finer than a microsecond is cut off."""
    times = values.astype("datetime64[us]")
    return Cells(DATE, times.astype(np.int64).astype(np.float64), np.isnat(times), dtype)


def of_objects(
    values: Array, dtype: str, name: str, levels: tuple[Value, ...] | None = None, ordered: bool = False
) -> Cells:
    """Take Python objects: strings, booleans or numbers, of which None and what does not equal itself is missing."""
    missing = np.fromiter((is_missing(value) for value in values), bool, len(values))
    kinds = {type(value) for value in values[~missing]}
    if levels is not None:
        return Cells(TEXT, values, missing, dtype, levels, ordered)
    if kinds and kinds <= {bool, np.bool_}:
        return Cells(BOOL, np.where(missing, False, values).astype(np.float64), missing, dtype)
    if kinds and all(issubclass(kind, (int, float, np.integer, np.floating)) for kind in kinds - {bool, np.bool_}):
        numbers = np.where(missing, np.nan, values).astype(np.float64)
        integer = all(issubclass(kind, (int, np.integer)) for kind in kinds)
        return of_numbers(numbers, INTEGER if integer else NUMBER, dtype, name)
    other = sorted(kind.__name__ for kind in kinds if not issubclass(kind, str))
    if other:
        raise TypeError(f"column {name!r} holds {', '.join(other)}; numbers, booleans, strings or dates are expected")
    return Cells(TEXT, values, missing, dtype)


def is_missing(value: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas' NA, none of which equals itself."""
    if value is None:
        return True
    equal = value == value
    return not isinstance(equal, (bool, np.bool_)) or not equal


def of_mapping(table: Mapping[str, object]) -> dict[str, Cells]:
    """Take the columns of a mapping of names to arrays."""
    cells = {name: of_array(values, name) for name, values in table.items()}
    return check_lengths(cells)


def check_lengths(cells: dict[str, Cells]) -> dict[str, Cells]:
    """Return columns, if they have the same length."""
    lengths = {name: len(column) for name, column in cells.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}")
    return cells


def to_arrays(cells: Mapping[str, Cells]) -> dict[str, Array]:
    """Return columns as NumPy arrays: missing numbers are NaN, missing dates NaT, other missing cells None."""
    return {name: to_array(column) for name, column in cells.items()}


def to_array(cells: Cells) -> Array:
    """Return one column as a NumPy array."""
    gaps = bool(cells.missing.any())
    if cells.nature == DATE:
        times = dates(cells.values)
        times[cells.missing] = np.datetime64("NaT")
        return times
    if cells.nature == TEXT:
        return with_none(cells.values, cells.missing)
    if cells.nature == BOOL:
        booleans = cells.values.astype(bool)
        return with_none(booleans, cells.missing) if gaps else booleans
    if cells.nature == INTEGER and not gaps:
        return cells.values.astype(np.int64)
    numbers: Array = np.where(cells.missing, np.nan, cells.values)
    return numbers


def with_none(values: Array, missing: npt.NDArray[np.bool_]) -> Array:
    """Return values as Python objects, None where they are missing."""
    result = values.astype(object)
    result[missing] = None
    return result


def dates(values: Array) -> Array:
    """Return microseconds since 1970 as dates."""
    return np.round(values).astype(np.int64).astype("datetime64[us]")


def rows_of(cells: Mapping[str, Cells]) -> int:
    """Return the number of rows."""
    return len(next(iter(cells.values()))) if cells else 0


def chosen(cells: Mapping[str, Cells], names: Iterable[str], what: str) -> dict[str, Cells]:
    """Return some of a table's columns; `what` is the table's name in the message if one is missing."""
    names = list(names)
    missing = [name for name in names if name not in cells]
    if missing:
        raise ValueError(f"{what} has no column {missing[0]!r}; its columns are {', '.join(map(repr, cells))}")
    return {name: cells[name] for name in names}
