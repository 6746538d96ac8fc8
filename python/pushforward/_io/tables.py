"""Tables in files and pipes: .csv, .parquet and .npy, in and out, with columns that are chosen by name.

The columns of a .csv table have the names in its first line, those of a .parquet table their own, and those of a .npy
table are x0, x1, and so on, or simply 0, 1. Whatever is wrong with a table raises a ValueError that says in which file,
line and column.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import importlib.util
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, Literal, NoReturn, TextIO, TypeAlias

import numpy as np

from pushforward._io import output
from pushforward._typing import Array

_ENCODING = "utf-8"


def file_format(path: str) -> Literal["csv", "npy", "parquet"]:
    """Return what a table's file holds, by its name; ``-``, standard input or output, is CSV."""
    suffix = Path(path).suffix.lower()
    if path == "-" or suffix == ".csv":
        return "csv"
    if suffix == ".npy":
        return "npy"
    if suffix == ".parquet":
        if importlib.util.find_spec("pyarrow") is None:
            raise ImportError(f'{path}: .parquet needs pyarrow: pip install "pushforward[parquet]"')
        return "parquet"
    raise ValueError(f"{path}: the name of a table must end in .csv, .parquet or .npy, or be - for CSV in a pipe")


def split_names(text: str) -> list[str]:
    """Split the names in ``a,b,c``; one that holds a comma itself stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


class NpyTable:
    """A table in a .npy file, (n, k) numbers or (n,) as one column, as a memory map."""

    named = False

    def __init__(self, path: str) -> None:
        self.name = path
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError):
            raise ValueError(f"{path}: not a .npy file of numbers, or a damaged one") from None
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(f"{path}: an archive of arrays, not a .npy file")
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
            raise ValueError(
                f"{path}: {array.dtype} of shape {array.shape}; numbers of shape (n, columns) are expected"
            )
        self._array: Array = array if array.ndim == 2 else array[:, None]
        self.columns = tuple(f"x{i}" for i in range(self._array.shape[1]))

    def find(self, name: str) -> str:
        """Return the column's own name, ``x2`` for ``2``."""
        found = f"x{name}" if name.isdecimal() else name
        if found not in self.columns:
            raise ValueError(f"{self.name}: no column {name!r}; they are numbered 0 to {len(self.columns) - 1}")
        return found

    def read(self, *parts: Sequence[str], finite: bool) -> list[Array]:
        """Return the columns of each part as an (n, k) array.

        Evenly spaced columns stay in the file until their rows are used; with `finite` nothing is done, because that
        would read them all.
        """
        return [self._array[:, _evenly([self.columns.index(name) for name in part])] for part in parts]


def _evenly(indices: list[int]) -> slice | list[int]:
    """Return evenly spaced indices as a slice: a slice of a memory map is one, and a selection is a copy."""
    step = max(indices[1] - indices[0], 1) if len(indices) > 1 else 1
    if indices and indices == list(range(indices[0], indices[-1] + 1, step)):
        return slice(indices[0], indices[-1] + 1, step)
    return indices


class _TableError(ValueError):
    """An error in words of this file, told apart from those of NumPy's parser."""


class CsvTable:
    """A table in .csv: UTF-8, commas, a first line of names, then one row on a line.

    NumPy's parser takes about 1.5 s for a million rows of six columns. Only columns that are read have to be numbers.
    """

    named = True

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self.name = name
        self._number = 0  # of the line read last
        self._line = ""
        self._blank: list[int] = []
        self._lines = self._numbered(lines)
        header = self._cells(next(self._lines, "").removeprefix("\ufeff"))
        self.columns = tuple(cell.strip() for cell in header)
        self._first = self._number + 1
        if not any(self.columns):
            raise _TableError(f"{name}: empty; a first line with the names of the columns is expected")
        if all(map(_is_number, self.columns)):
            raise _TableError(f"{name}: the first line must name the columns, and it holds numbers")

    def _numbered(self, lines: Iterable[str]) -> Iterator[str]:
        try:
            for line in lines:
                self._number += 1
                if line.isspace():
                    self._blank.append(self._number)
                    continue
                self._line = line
                yield line
        except UnicodeDecodeError:
            raise _TableError(f"{self.name}: not {_ENCODING.upper()} text, after line {self._number}") from None

    def _rows(self) -> Iterator[str]:
        """Walk the lines below the first, each with as many cells as that."""
        width = len(self.columns)
        for line in self._lines:
            if line.count(",") != width - 1 or '"' in line:
                cells = len(self._cells(line))
                if cells != width:
                    raise _TableError(f"{self.name}: line {self._number} has {cells} cells; the first line has {width}")
            yield line

    def _cells(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], skipinitialspace=True, strict=True), [])
        except csv.Error:
            raise _TableError(f"{self.name}: line {self._number} is not CSV; quotes must close on their line") from None

    def find(self, name: str) -> str:
        """Return `name`, if it is that of one column."""
        return _find(self.name, self.columns, name)

    def read(self, *parts: Sequence[str], finite: bool) -> list[Array]:
        """Return the columns of each part as an (n, k) array of float64; this can be done once.

        With `finite`, NaN and infinity are refused.
        """
        columns = [self.columns.index(name) for part in parts for name in part]
        rows = self._rows()
        first = next(rows, None)
        table: Array = np.empty((0, len(columns)))
        if first is not None:
            every = itertools.chain([first], rows)
            try:
                table = np.loadtxt(every, delimiter=",", comments=None, quotechar='"', usecols=columns, ndmin=2)
            except _TableError:
                raise
            except ValueError as error:
                self._explain(error, columns)
        if finite:
            self._check_finite(table, columns)
        ends = list(itertools.accumulate(map(len, parts), initial=0))
        return [table[:, start:end] for start, end in itertools.pairwise(ends)]

    def _explain(self, error: ValueError, columns: Sequence[int]) -> NoReturn:
        """Refuse the line that the parser stopped at, the one read last."""
        where = f"{self.name}: line {self._number}"
        cells = self._cells(self._line)
        for i in columns:
            if not cells[i].strip():
                raise _TableError(f"{where}, column {self.columns[i]!r} is empty") from None
            if not _is_number(cells[i]):
                raise _TableError(f"{where}, column {self.columns[i]!r}: {cells[i]!r} is not a number") from None
        raise _TableError(f"{where}: {error}") from None

    def _check_finite(self, table: Array, columns: Sequence[int]) -> None:
        bad = ~np.isfinite(table)
        rows = np.flatnonzero(bad.any(axis=1))
        if not len(rows):
            return
        line = self._first + int(rows[0])
        for blank in self._blank:
            line += self._first <= blank <= line
        column = self.columns[columns[int(bad[rows[0]].argmax())]]
        some = f"{len(rows)} row{'s' * (len(rows) > 1)} with NaN or infinity"
        raise _TableError(f"{self.name}: {some}, first in line {line}, column {column!r}")


def _find(table: str, columns: Sequence[str], name: str) -> str:
    count = columns.count(name)
    if count == 1:
        return name
    if count:
        raise _TableError(f"{table}: {count} columns are named {name!r}")
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(map(repr, columns))}"
    raise _TableError(f"{table}: no column {name!r}; {hint}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class ParquetTable:
    """A table in .parquet. Only columns that are read have to be numbers; empty cells are NaN."""

    named = True

    def __init__(self, name: str, file: BinaryIO) -> None:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        self.name = name
        try:
            self._file = ParquetFile(file)
        except (ArrowException, OSError):
            raise ValueError(f"{name}: not a .parquet file, or a damaged one") from None
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)

    def find(self, name: str) -> str:
        """Return `name`, if it is that of one column."""
        return _find(self.name, self.columns, name)

    def read(self, *parts: Sequence[str], finite: bool) -> list[Array]:
        """Return the columns of each part as an (n, k) array: of float32 if all of them are, else of float64.

        With `finite`, NaN, infinity and empty cells are refused.
        """
        import pyarrow
        from pyarrow import types

        names = [name for part in parts for name in part]
        kinds = [self._file.schema_arrow.field(name).type for name in names]
        for name, kind in zip(names, kinds, strict=True):
            numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
            if not any(holds(kind) for holds in numbers):
                raise ValueError(f"{self.name}: column {name!r} holds {kind}; numbers are expected")
        single = bool(kinds) and all(kind == pyarrow.float32() for kind in kinds)
        try:
            content = self._file.read(columns=names)
        except (pyarrow.ArrowException, OSError):
            raise ValueError(f"{self.name}: not a .parquet file, or a damaged one") from None
        table: Array = np.empty((content.num_rows, len(names)), np.float32 if single else np.float64)
        for i, name in enumerate(names):
            column = content.column(name).cast(pyarrow.float32() if single else pyarrow.float64(), safe=False)
            table[:, i] = column.to_numpy()
            bad = ~np.isfinite(table[:, i])
            if finite and bad.any():
                count = int(bad.sum())
                some = f"{count} row{'s' * (count > 1)} with an empty cell, NaN or infinity"
                raise ValueError(f"{self.name}: {some} in column {name!r}, first in row {bad.argmax() + 1}")
        ends = list(itertools.accumulate(map(len, parts), initial=0))
        return [table[:, start:end] for start, end in itertools.pairwise(ends)]


Table: TypeAlias = NpyTable | CsvTable | ParquetTable


@contextlib.contextmanager
def open_table(path: str) -> Iterator[Table]:
    """Open a table, by its name."""
    kind = file_format(path)
    if kind == "npy":
        yield NpyTable(path)
    elif kind == "parquet":
        with open(path, "rb") as file:
            yield ParquetTable(path, file)
    elif path == "-":
        yield CsvTable("standard input", sys.stdin)
    else:
        with open(path, encoding=_ENCODING) as stream:
            yield CsvTable(path, stream)


def write(path: str, columns: Sequence[str], blocks: Iterable[Array]) -> None:
    """Write blocks of rows to a .npy or .parquet file, or as CSV with enough digits to restore every value.

    A file appears, or is replaced, at the end.
    """
    kind = file_format(path)
    if path == "-":
        _write_csv(sys.stdout, columns, blocks)
        return
    with output.replacing(path) as file:
        if kind == "parquet":
            _write_parquet(file, columns, blocks)
        elif kind == "npy":
            # Not the file itself: NumPy asks a file for its position, which a pipe has not.
            np.save(SimpleNamespace(write=file.write), np.concatenate(list(blocks)))
        else:
            stream = io.TextIOWrapper(file, encoding=_ENCODING, newline="", write_through=True)
            _write_csv(stream, columns, blocks)
            stream.detach()


def _write_csv(stream: TextIO, columns: Sequence[str], blocks: Iterable[Array]) -> None:
    csv.writer(stream, lineterminator="\n").writerow(columns)
    for block in blocks:
        digits = "%.9g" if block.dtype == np.float32 else "%r"
        row = ",".join([digits] * len(columns)) + "\n"
        stream.writelines([row % tuple(values) for values in block.reshape(-1, len(columns)).tolist()])


def _write_parquet(file: BinaryIO, columns: Sequence[str], blocks: Iterable[Array]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    with contextlib.ExitStack() as stack:
        writer = None
        for block in blocks:
            rows = block.reshape(-1, len(columns))
            part = pyarrow.table([pyarrow.array(column) for column in rows.T], names=list(columns))
            if writer is None:
                writer = stack.enter_context(ParquetWriter(file, part.schema))
            writer.write_table(part)
