"""Tables of any types in files: CSV with any separator, compressed or not, and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pushforward._io import output
from pushforward._io.tables import MISSING, ROW_NAMES, file_format
from pushforward._typing import Array
from pushforward._warn import warn

_SEPARATORS = (",", ";", "\t", "|")
_BOOLEANS = {"true": True, "false": False}
_WHOLE = re.compile(r"[+-]?\d{1,15}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")
# If so large a share of a column's cells are numbers, the others are mistakes.
_SHARE_OF_NUMBERS = 0.9
# Rows that show whether a table has text.
_ROWS_SHOWN = 100


def has_text(path: str, besides: str | None = None) -> bool:
    """Whether the first rows of a file have a column of text, of which no cell is a number, beside one column."""
    try:
        if path.endswith(".parquet"):
            from pyarrow.parquet import read_schema
            from pyarrow.types import is_dictionary, is_large_string, is_string

            kinds = [field.type for field in read_schema(path) if field.name != besides]
            return any(is_string(kind) or is_large_string(kind) or is_dictionary(kind) for kind in kinds)
        names, rows, _, separator = _records(path, _ROWS_SHOWN)
    except (OSError, ValueError, ImportError):
        return False  # whoever reads the table says what is wrong with it
    columns = {
        name: [row[i] for row in rows]
        for i, name in enumerate(names)
        if not ROW_NAMES.fullmatch(name) and name != besides
    }
    filled = [[cell for cell in cells if not _is_gap(cell)] for cells in columns.values()]
    return any(cells and all(_number(cell, separator) is None for cell in cells) for cells in filled)


def read(path: str) -> Any:
    """Read a table: numbers, booleans, dates in the ISO format, and all else as text.

    Raises
    ------
    ValueError
        If the file is no table, with the line and the column.
    """
    if path.endswith(".parquet"):
        file_format(path)  # needs pyarrow
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            table = read_table(path)
        except (ArrowException, OSError):
            raise ValueError(f"{path}: not a .parquet file, or a damaged one") from None
        return table
    names, rows, lines, separator = _records(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: {names.count(twice)} columns are named {twice!r}")
    columns: dict[str, Array] = {}
    for i, name in enumerate(names):
        if ROW_NAMES.fullmatch(name):
            warn(f"{path}: the column {name!r} is left out, as row numbers or row names")
            continue
        columns[name] = _column([row[i] for row in rows], path, name, lines, separator)
    return columns


def taken(table: Any, name: str, path: str) -> tuple[Any, Array]:
    """Take a column out of a table that `read` returned: return the others, and its cells.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    names = list(table) if isinstance(table, dict) else table.column_names
    if name not in names:
        raise ValueError(f"{path} has no column {name!r}; its columns are {', '.join(map(repr, names))}")
    if isinstance(table, dict):
        return {other: cells for other, cells in table.items() if other != name}, table[name]
    return table.drop_columns([name]), _objects(table[name].to_pylist())


def _records(path: str, most: int | None = None) -> tuple[list[str], list[list[str]], list[int], str]:
    """Return the names in the first line, the cells of each row, the line on which it ends, and the separator."""
    with open(path, "rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content: Any = gzip.GzipFile(fileobj=file) if is_compressed else file
        with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as stream:
            try:
                return _parsed(stream, path, most)
            except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error):
                raise ValueError(f"{path}: not UTF-8 text, or damaged") from None


def _parsed(stream: io.TextIOWrapper, path: str, most: int | None) -> tuple[list[str], list[list[str]], list[int], str]:
    first = stream.readline()
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(_with_first(first, stream), delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        names = [name.strip() for name in next(reader, [])]
        if not any(names):
            raise ValueError(f"{path}: empty; a first line with the names of the columns is expected")
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"{path}: line {reader.line_num} has {len(row)} cells; the first line has {len(names)}"
                )
            rows.append(row)
            lines.append(reader.line_num)
            if len(rows) == most:
                break
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not CSV ({error})") from None
    return names, rows, lines, separator


def _with_first(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    yield first
    yield from rest


def _is_gap(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _number(cell: str, separator: str) -> float | None:
    """Return the number in a cell; where semicolons separate, it may have a comma for its point."""
    try:
        value = float(cell.replace(",", ".") if separator == ";" else cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def _column(cells: Sequence[str], path: str, name: str, lines: Sequence[int], separator: str) -> Array:
    """Return the cells of a column in the type that suits them."""
    filled = [cell.strip() for cell in cells]
    gaps = np.array([_is_gap(cell) for cell in filled], dtype=bool)
    there = [cell for cell, gap in zip(filled, gaps, strict=True) if not gap]
    if there and all(cell.lower() in _BOOLEANS for cell in there):
        return _objects([None if gap else _BOOLEANS[cell.lower()] for cell, gap in zip(filled, gaps, strict=True)])
    if there and all(map(_DATE.fullmatch, there)):
        try:
            return np.array(["NaT" if gap else cell for cell, gap in zip(filled, gaps, strict=True)], "datetime64[us]")
        except ValueError:
            pass  # such as the 31st of February: text
    numbers = [_number(cell, separator) for cell in filled]
    known = np.array([number is not None for number in numbers], dtype=bool)
    bad = np.flatnonzero(~known & ~gaps)
    if not len(bad):
        if there and not gaps.any() and all(map(_WHOLE.fullmatch, there)):
            return np.array([int(cell) for cell in filled], dtype=np.int64)
        return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
    if known.sum() >= _SHARE_OF_NUMBERS * len(there):
        raise ValueError(
            f"{path}: line {lines[bad[0]]}, column {name!r}: {filled[bad[0]]!r} is not a number, as nearly all other "
            "cells of the column are"
        )
    return _objects([None if gap else cell for cell, gap in zip(filled, gaps, strict=True)])


def _objects(values: list[Any]) -> Array:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


def write(path: str, columns: Mapping[str, Array]) -> None:
    """Write columns to a .csv or .parquet file, or as CSV to standard output. Missing cells are empty."""
    kind = file_format(path)
    if kind == "npy":
        raise ValueError(f"{path}: a .npy file holds numbers alone; write .csv or .parquet")
    if kind == "parquet":
        import pyarrow
        from pyarrow.parquet import write_table

        table = pyarrow.table({name: pyarrow.array(values, from_pandas=True) for name, values in columns.items()})
        with output.replacing(path) as file:
            write_table(table, file)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_cells(values) for values in columns.values()), strict=True))
    if path == "-":
        print(text.getvalue(), end="")
    else:
        output.write(path, text.getvalue().encode())


def _cells(values: Array) -> list[object]:
    """Return the cells of a column as CSV has them: whole numbers without a point, dates without a time of zero."""
    if values.dtype.kind == "M":
        days = values.astype("datetime64[D]")
        is_days = bool((np.isnat(values) | (days == values)).all())
        stamps = np.datetime_as_string(days if is_days else values)
        return ["" if missing else stamp for stamp, missing in zip(stamps, np.isnat(values), strict=True)]
    if values.dtype.kind == "f":
        whole = bool((np.isnan(values) | (values == np.round(values))).all())
        return ["" if math.isnan(value) else int(value) if whole else value for value in values.tolist()]
    return ["" if value is None else value for value in values.tolist()]
