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
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal, NoReturn, Protocol, TextIO, TypeAlias

import numpy as np

from pushforward._io import output
from pushforward._io.rows import drop_pages, pieces_of
from pushforward._typing import Array

_ENCODING = "utf-8"


# How missing values are written, in lower case: by pandas, R and Excel, and by people.
MISSING = frozenset({"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nil"})
# Lines are parsed this many at a time; those that NumPy's parser does not take are then read cell by cell.
_BATCH_LINES = 1 << 14
# Columns of row numbers or row names: of `to_csv` and `write.csv`, of the same read and written again, of `to_parquet`.
ROW_NAMES = re.compile(r"|Unnamed: \d+|__index_level_\d+__")

_OTHER_FILES = {
    ".gz": "decompress it, or pipe it: gzip -dc FILE | pushforward ... -",
    ".bz2": "decompress it, or pipe it: bzip2 -dc FILE | pushforward ... -",
    ".xz": "decompress it, or pipe it: xz -dc FILE | pushforward ... -",
    ".zst": "decompress it, or pipe it: zstd -dc FILE | pushforward ... -",
    ".zip": "decompress it, or pipe it: unzip -p FILE | pushforward ... -",
    ".tsv": "replace the tabs by commas, or pipe it: tr '\\t' ',' < FILE | pushforward ... -",
    ".txt": "write it with commas and a first line of names, as .csv",
    ".dat": "write it with commas and a first line of names, as .csv",
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
}

Missing: TypeAlias = Literal["refuse", "keep", "drop"]
"""What to do with rows that have missing values: refuse the table, keep them as NaN, or leave them out."""


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
    hint = f"; {_OTHER_FILES[suffix].replace('FILE', path)}" if suffix in _OTHER_FILES else ""
    raise ValueError(f"{path}: the name of a table must end in .csv, .parquet or .npy, or be - for CSV in a pipe{hint}")


def split_names(text: str) -> list[str]:
    """Split the names in ``a,b,c``; one that holds a comma itself stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def join_names(names: Iterable[str]) -> str:
    """Join names so that `split_names` splits them again."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


class NotNumbersError(ValueError):
    """Columns that were asked for hold other things than numbers.

    Attributes
    ----------
    columns : list of str
        All such columns.
    """

    def __init__(self, message: str, columns: Sequence[str]) -> None:
        super().__init__(message)
        self.columns = list(columns)


@dataclass(frozen=True)
class Content:
    """Columns of a table.

    Parameters
    ----------
    parts : list of (n, k) arrays
        Columns of numbers, as they were asked for.
    labels : (n,) array or None
        A column of anything, if one was asked for.
    dropped : int
        How many rows were left out.
    """

    parts: list[Array]
    labels: Array | None
    dropped: int


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
        self.array: Array = array if array.ndim == 2 else array[:, None]
        self.columns = tuple(f"x{i}" for i in range(self.array.shape[1]))
        self.row_names: list[str] = []

    def find(self, name: str) -> str:
        """Return the column's own name, ``x2`` for ``2``."""
        return find_numbered(self.name, self.columns, name)

    def read(self, parts: Sequence[Sequence[str]], labels: str | None = None) -> tuple[list[Array], Array | None]:
        """Return the columns of each part as an (n, k) array, and one column of labels.

        Evenly spaced columns stay in the file until their rows are used.
        """
        arrays = [self.array[:, evenly([self.columns.index(name) for name in part])] for part in parts]
        return arrays, None if labels is None else np.array(self.array[:, self.columns.index(labels)])

    def place(self, row: int) -> str:
        """Say where a row is."""
        return f"row {row}"


def evenly(indices: list[int]) -> slice | list[int]:
    """Return evenly spaced indices as a slice: a slice of a memory map is one, and a selection is a copy."""
    step = max(indices[1] - indices[0], 1) if len(indices) > 1 else 1
    if indices and indices == list(range(indices[0], indices[-1] + 1, step)):
        return slice(indices[0], indices[-1] + 1, step)
    return indices


class CsvTable:
    """A table in .csv: UTF-8, commas, a first line of names, then one row on a line.

    NumPy's parser takes about 1.5 s for a million rows of six columns. Only columns that are read have to be numbers;
    missing values in them are NaN.
    """

    named = True

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self.name = name
        self._number = 0  # of the line read last
        self._blank: list[int] = []
        self._lines = self._numbered(lines)
        _, line = next(self._lines, (0, ""))
        header = self._cells(line.removeprefix("\ufeff"), self._number)
        self.columns = tuple(cell.strip() for cell in header)
        self._first = self._number + 1
        if not any(self.columns):
            raise ValueError(f"{name}: empty; a first line with the names of the columns is expected")
        if len(self.columns) == 1:
            for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
                if separator in line:
                    raise ValueError(
                        f"{name}: the first line is separated by {word}; commas are expected, and points in numbers"
                    )
        self.row_names = [column for column in self.columns if ROW_NAMES.fullmatch(column)]
        self._is_doubtful = self._may_be_a_row()

    def _may_be_a_row(self) -> bool:
        """Whether the first line is more likely a row than names: numbers, and not such as name columns.

        Those are whole and ascend, as 0, 1, 2 or years do, above a row with a number that is not whole. Under 0, 1, 2
        the row may be whole too.
        """
        names = [name for name in self.columns if name not in self.row_names]
        if not all(map(_is_number, names)):
            return False
        _, line = next(self._lines, (0, ""))
        if line:
            self._lines = itertools.chain([(self._number, line)], self._lines)
        if names == [str(i) for i in range(len(names))] and (len(names) > 2 or not line):
            return False
        ascend = all(map(str.isdecimal, names)) and all(int(a) < int(b) for a, b in itertools.pairwise(names))
        cells = self._cells(line, self._number) if line else []
        above_fractions = any(_is_number(cell) and not _is_whole(cell) for cell in cells)
        return not (ascend and above_fractions and (len(names) > 1 or names == ["0"]))

    def _numbered(self, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
        try:
            for line in lines:
                self._number += 1
                if line.isspace():
                    self._blank.append(self._number)
                    continue
                yield self._number, line
        except UnicodeDecodeError as error:
            if self._number == 0 and error.object.startswith(b"\x1f\x8b"):
                raise ValueError(f"{self.name}: compressed by gzip; decompress it first") from None
            raise ValueError(f"{self.name}: not {_ENCODING.upper()} text, after line {self._number}") from None

    def _rows(self) -> Iterator[tuple[int, str]]:
        """Walk the lines below the first, each with as many cells as that."""
        width = len(self.columns)
        for number, line in self._lines:
            if line.count(",") != width - 1 or '"' in line:
                cells = len(self._cells(line, number))
                if cells != width:
                    raise ValueError(f"{self.name}: line {number} has {cells} cells; the first line has {width}")
            yield number, line

    def _cells(self, line: str, number: int) -> list[str]:
        try:
            return next(csv.reader([line], skipinitialspace=True, strict=True), [])
        except csv.Error:
            raise ValueError(f"{self.name}: line {number} is not CSV; quotes must close on their line") from None

    def find(self, name: str) -> str:
        """Return `name`, if it is that of one column."""
        if self._is_doubtful and self.columns.count(name) != 1:
            self._refuse_numbers()
        found = find(self.name, self.columns, name)
        self._is_doubtful = False
        return found

    def _refuse_numbers(self) -> NoReturn:
        raise ValueError(
            f"{self.name}: the first line must name the columns, and it holds numbers; numbers are names if the model "
            "or an option such as --columns names them"
        )

    def read(self, parts: Sequence[Sequence[str]], labels: str | None = None) -> tuple[list[Array], Array | None]:
        """Return the columns of each part as an (n, k) array of float64, and one column of labels.

        This can be done once.
        """
        if self._is_doubtful:
            self._refuse_numbers()
        columns = [self.columns.index(name) for part in parts for name in part]
        rows = self._rows()
        blocks: list[Array] = []
        words: list[str] = []
        while batch := list(itertools.islice(rows, _BATCH_LINES)):
            lines = [line for _, line in batch]
            try:
                blocks.append(_parse(lines, columns))
            except ValueError:
                blocks.append(self._cell_by_cell(batch, columns))
            if labels is not None:
                at = self.columns.index(labels)
                words += [cells[at].strip() for cells in csv.reader(lines, skipinitialspace=True)]
        table = np.concatenate(blocks) if blocks else np.empty((0, len(columns)))
        return _split(table, parts), None if labels is None else np.array(words, dtype=object)

    def _cell_by_cell(self, batch: Sequence[tuple[int, str]], columns: Sequence[int]) -> Array:
        """Parse rows of which some have a cell that is missing, or not a number."""
        table = np.empty((len(batch), len(columns)))
        bad: dict[int, tuple[int, str]] = {}
        for row, (number, line) in zip(table, batch, strict=True):
            cells = self._cells(line, number)
            for j, i in enumerate(columns):
                cell = cells[i].strip()
                if cell.lower() in MISSING:
                    row[j] = np.nan
                    continue
                if _is_number(cell):
                    row[j] = float(cell)
                else:
                    bad.setdefault(i, (number, cell))
        if not bad:
            return table
        found = [f"line {number}, column {self.columns[i]!r}: {cell!r}" for i, (number, cell) in bad.items()]
        what = "is not a number" if len(bad) == 1 else "are not numbers"
        raise NotNumbersError(f"{self.name}: {'; '.join(found)} {what}", [self.columns[i] for i in bad])

    def place(self, row: int) -> str:
        """Say where a row is."""
        line = self._first + row
        for blank in self._blank:
            line += self._first <= blank <= line
        return f"line {line}"


def _is_whole(cell: str) -> bool:
    return cell.strip().removeprefix("-").isdecimal()


def _parse(lines: Sequence[str], columns: Sequence[int]) -> Array:
    table: Array = np.empty((len(lines), 0))
    if columns:
        table = np.loadtxt(lines, delimiter=",", comments=None, quotechar='"', usecols=columns, ndmin=2)
    return table


def _split(table: Array, parts: Sequence[Sequence[str]]) -> list[Array]:
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    return [table[:, start:end] for start, end in itertools.pairwise(ends)]


def find_numbered(table: str, columns: Sequence[str], name: str) -> str:
    """Return the name of a column of x0, x1 and so on, ``x2`` for ``2``."""
    found = f"x{name}" if name.isdecimal() else name
    if found not in columns:
        raise ValueError(f"{table}: no column {name!r}; they are numbered 0 to {len(columns) - 1}")
    return found


def find(table: str, columns: Sequence[str], name: str) -> str:
    """Return `name`, if it is that of one column."""
    count = columns.count(name)
    if count == 1:
        return name
    if count:
        raise ValueError(f"{table}: {count} columns are named {name!r}")
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(map(repr, columns))}"
    raise ValueError(f"{table}: no column {name!r}; {hint}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # digits may be grouped by underscores in Python


class ParquetTable:
    """A table in .parquet. Only columns that are read have to be numbers; missing values in them are NaN."""

    named = True

    def __init__(self, name: str, file: BinaryIO) -> None:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        self.name = name
        try:
            self._file = ParquetFile(file)
        except (ArrowException, OSError):
            raise ValueError(f"{name}: not a .parquet file, or a damaged one") from None
        metadata = self._file.metadata
        self.group_rows: list[int] = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.schema = schema = self._file.schema_arrow
        self.columns: tuple[str, ...] = tuple(schema.names)
        # What was the index of a DataFrame is no column of it.
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self.row_names = [name for name in self.columns if name in index or ROW_NAMES.fullmatch(name)]

    def find(self, name: str) -> str:
        """Return `name`, if it is that of one column."""
        return find(self.name, self.columns, name)

    def read(self, parts: Sequence[Sequence[str]], labels: str | None = None) -> tuple[list[Array], Array | None]:
        """Return the columns of each part as an (n, k) array, and one column of labels.

        The arrays are of float32 if all columns are, else of float64.
        """
        names = [name for part in parts for name in part]
        table = self.numbers(names, parquet_dtype(self.schema, names, self.name))
        return _split(table, parts), None if labels is None else self.labels(labels)

    def numbers(self, names: Sequence[str], dtype: np.dtype[Any], group: int | None = None) -> Array:
        """Return columns of numbers, of all rows or of one row group."""
        import pyarrow

        content = self._content(names, group)
        kind = pyarrow.from_numpy_dtype(dtype)
        table: Array = np.empty((content.num_rows, len(names)), dtype)
        for i, name in enumerate(names):
            table[:, i] = content.column(name).cast(kind, safe=False).to_numpy()
        return table

    def labels(self, name: str) -> Array:
        """Return a column of anything."""
        return _objects(self._content([name]).column(name).to_pylist())

    def _content(self, names: Sequence[str], group: int | None = None) -> Any:
        from pyarrow import ArrowException

        try:
            if group is None:
                return self._file.read(columns=list(names))
            return self._file.read_row_group(group, columns=list(names))
        except (ArrowException, OSError):
            raise ValueError(f"{self.name}: not a .parquet file, or a damaged one") from None

    def place(self, row: int) -> str:
        """Say where a row is."""
        return f"row {row + 1}"


def parquet_dtype(schema: Any, names: Sequence[str], name: str) -> np.dtype[Any]:
    """Return float32 if all these columns are of it, else float64; raise if one does not hold numbers."""
    import pyarrow
    from pyarrow import types

    kinds = [schema.field(column).type for column in names]
    numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    bad = {column: kind for column, kind in zip(names, kinds, strict=True) if not any(holds(kind) for holds in numbers)}
    if bad:
        found = ", ".join(f"column {column!r} holds {kind}" for column, kind in bad.items())
        raise NotNumbersError(f"{name}: {found}; numbers are expected", list(bad))
    single = bool(kinds) and all(kind == pyarrow.float32() for kind in kinds)
    return np.dtype(np.float32 if single else np.float64)


def _objects(values: Sequence[object]) -> Array:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


class Table(Protocol):
    """A table of which columns are found and read."""

    name: str
    named: bool
    columns: tuple[str, ...]
    row_names: list[str]

    def find(self, name: str) -> str:
        """Return the column's own name."""

    def read(self, parts: Sequence[Sequence[str]], labels: str | None = None) -> tuple[list[Array], Array | None]:
        """Return the columns of each part as an (n, k) array, and one column of labels."""

    def place(self, row: int) -> str:
        """Say where a row is."""


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
        if sys.stdin is None:
            raise ValueError("standard input is closed; give the name of a table")
        yield CsvTable("standard input", _in_utf8(sys.stdin))
    else:
        with open(path, encoding=_ENCODING) as stream:
            yield CsvTable(path, stream)


def read(
    table: Table,
    parts: Sequence[Sequence[str]],
    missing: Missing = "refuse",
    labels: str | None = None,
    hint: str = "",
) -> Content:
    """Read columns of a table. Missing values are treated in one way, whatever its format.

    Infinity is no missing value. It is refused unless missing values are kept. A `hint` ends the message that refuses
    missing values.
    """
    arrays, words = table.read(parts, labels)
    if missing == "keep":
        return Content(arrays, words, 0)
    gaps, infinite = np.zeros(len(arrays[0]), dtype=bool), np.zeros(len(arrays[0]), dtype=bool)
    for array in arrays:
        for piece in pieces_of(array):
            values = array[piece]
            gaps[piece] |= np.isnan(values).any(axis=1)
            infinite[piece] |= np.isinf(values).any(axis=1)
            drop_pages(array)
    if words is not None:
        gaps |= np.fromiter(map(_is_missing, words), dtype=bool, count=len(words))

    def refuse(rows: Array, what: str, hint: str = "") -> NoReturn:
        row, count = int(rows.argmax()), int(rows.sum())
        names = [name for part in parts for name in part]
        cells = [cell for array in arrays for cell in array[row].tolist()]
        column = next((name for name, cell in zip(names, cells, strict=True) if not math.isfinite(cell)), labels)
        raise ValueError(
            f"{table.name}: {count} row{'s' * (count > 1)} with {what}, first in {table.place(row)}, "
            f"column {column!r}{hint}"
        )

    if missing == "refuse" and gaps.any():
        refuse(gaps, "a missing value", hint)
    if (infinite & ~gaps).any():
        refuse(infinite & ~gaps, "infinity")
    if not gaps.any():
        return Content(arrays, words, 0)
    return Content([array[~gaps] for array in arrays], None if words is None else words[~gaps], int(gaps.sum()))


def _is_missing(label: object) -> bool:
    """Whether a label says that there is none."""
    return label is None or label != label or (isinstance(label, str) and label.lower() in MISSING)


def write(path: str, columns: Sequence[str], blocks: Iterable[Array]) -> None:
    """Write blocks of rows to a .npy or .parquet file, or as CSV with enough digits to restore every value.

    A file appears, or is replaced, at the end.
    """
    kind = file_format(path)
    if path == "-":
        _write_csv(_in_utf8(sys.stdout), columns, blocks)
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


def _in_utf8(stream: TextIO) -> TextIO:
    """Return standard input or output in the encoding of every table, whatever the locale's."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding=_ENCODING)
    return stream


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
