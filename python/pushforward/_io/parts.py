"""The files of a table, and what of them is opened at a time: a .npy file, or a row group of a .parquet file."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pushforward._io import tables
from pushforward._typing import Array, PathLike

Paths: TypeAlias = PathLike | Sequence[PathLike]
Columns: TypeAlias = slice | list[int]


@dataclass(frozen=True)
class Part:
    """Rows that are opened together.

    Parameters
    ----------
    path : str
        The file.
    rows : int
        How many there are.
    group : int
        The number of the row group; 0 of a .npy file.
    """

    path: str
    rows: int
    group: int = 0


class NpyFiles:
    """The .npy files of a table, of one number of columns and one type."""

    named = False

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths, self.parts = paths, list[Part]()
        self.names: tuple[str, ...] = ()
        self.row_names: list[str] = []
        for path in paths:  # one at a time: a map keeps its file open
            table = tables.NpyTable(path)
            if not self.names:
                self.names, self._dtype = table.columns, table.array.dtype
            elif (table.columns, table.array.dtype) != (self.names, self._dtype):
                raise ValueError(
                    f"{path} has {_columns(len(table.columns))} of {table.array.dtype}; all files of a table must "
                    f"agree, and {paths[0]} has {_columns(len(self.names))} of {self._dtype}"
                )
            self.parts.append(Part(path, len(table.array)))

    def dtype_of(self, columns: Sequence[int]) -> np.dtype[Any]:
        """Return the type in which columns are read."""
        return np.dtype(np.float32 if self._dtype.kind == "f" and self._dtype.itemsize == 4 else np.float64)

    def open(self, part: Part, columns: list[int]) -> tuple[Array, Columns]:
        """Map a part; return its rows, and which columns of them are meant."""
        array = tables.NpyTable(part.path).array
        if array.shape != (part.rows, len(self.names)) or array.dtype != self._dtype:
            raise ValueError(_CHANGED.format(part.path))
        return array, tables.evenly(columns)

    def labels(self, column: int) -> Array:
        """Return a column of anything, of all files."""
        return np.concatenate([np.array(tables.NpyTable(path).array[:, column]) for path in self.paths])


class ParquetFiles:
    """The .parquet files of a table, with columns of the same names."""

    named = True

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths, self.parts = paths, list[Part]()
        self._schemas: list[Any] = []
        for path in paths:
            with open(path, "rb") as file:
                table = tables.ParquetTable(path, file)
            if not self._schemas:
                self.names, self.row_names = table.columns, table.row_names
            elif table.columns != self.names:
                raise ValueError(
                    f"{path} has {_columns(len(table.columns))}: {', '.join(table.columns)}; all files of a table must "
                    f"agree, and {paths[0]} has {_columns(len(self.names))}: {', '.join(self.names)}"
                )
            self._schemas.append(table.schema)
            self.parts += [Part(path, rows, i) for i, rows in enumerate(table.group_rows)]

    def dtype_of(self, columns: Sequence[int]) -> np.dtype[Any]:
        """Return the type in which columns are read: float32 if they are of it in all files."""
        names = [self.names[i] for i in columns]
        found = [
            tables.parquet_dtype(schema, names, path) for schema, path in zip(self._schemas, self.paths, strict=True)
        ]
        return np.result_type(*found)

    def open(self, part: Part, columns: list[int]) -> tuple[Array, Columns]:
        """Decode the columns of a part; return its rows, and all their columns."""
        with open(part.path, "rb") as file:
            table = tables.ParquetTable(part.path, file)
            if table.columns != self.names or table.group_rows[part.group : part.group + 1] != [part.rows]:
                raise ValueError(_CHANGED.format(part.path))
            return table.numbers([self.names[i] for i in columns], self.dtype_of(columns), part.group), slice(None)

    def labels(self, column: int) -> Array:
        """Return a column of anything, of all files."""
        found = []
        for path in self.paths:
            with open(path, "rb") as file:
                found.append(tables.ParquetTable(path, file).labels(self.names[column]))
        return np.concatenate(found)


_CHANGED = "{} has changed since the table was opened"


def _columns(count: int) -> str:
    return f"{count} column{'s' * (count != 1)}"


def open_files(paths: Paths) -> NpyFiles | ParquetFiles:
    """Open the files of a table, or those that match patterns, far enough to know their columns and rows."""
    found = found_files(paths)
    kinds = {path: tables.file_format(path) for path in found}
    if set(kinds.values()) == {"npy"}:
        return NpyFiles(found)
    if set(kinds.values()) == {"parquet"}:
        return ParquetFiles(found)
    first = kinds[found[0]]
    other = next((path for path, kind in kinds.items() if kind != first or kind == "csv"), found[0])
    raise ValueError(f"{other}: the files of one table are all .npy, or all .parquet, and none is .csv")


def has_pattern(path: str) -> bool:
    """Whether a name is a pattern of names, and not that of a file."""
    return glob.has_magic(path) and not os.path.exists(path)


def found_files(paths: Paths) -> list[str]:
    """Return the files of a table, those that match each pattern sorted by name."""
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: list[str] = []
    for path in given:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"paths must be a path, a pattern or a sequence of these, not {path!r}")
        name = os.fspath(path)
        if has_pattern(name):
            matching = sorted(glob.glob(name))
            if not matching:
                raise ValueError(f"{name}: no file has such a name")
            found += matching
        else:
            found.append(name)
    if not found:
        raise ValueError("paths names no file")
    if len(set(found)) < len(found):
        raise ValueError(f"{next(path for path in found if found.count(path) > 1)} is given twice")
    return found


def shown(paths: Sequence[str]) -> str:
    """Return a few words for files."""
    others = len(paths) - 1
    return paths[0] if not others else f"{paths[0]} and {others} other file{'s' * (others > 1)}"
