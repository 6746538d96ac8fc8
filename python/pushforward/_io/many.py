"""Many files as one table: .npy files are mapped, .parquet files are decoded by row groups, when rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from pushforward import _checks
from pushforward._io import output, tables
from pushforward._io.parts import Columns, NpyFiles, ParquetFiles, Paths, open_files, shown
from pushforward._io.rows import drop_pages
from pushforward._io.stored import Stored
from pushforward._typing import Array, Indices, PathLike

# `of_blocks` joins blocks to files of at least so many bytes.
_PART_BYTES = 64 << 20


class Files(Stored):
    """Many .npy or .parquet files as one table (n, columns), which may be larger than memory.

    `Flow.fit`, `Flow.log_prob` and `Flow.check` read the rows as they need them: a window of some 16 MB at a time, or a
    row group of a .parquet file. A fit has the bits of a fit to one memory map of the same rows, for any number of
    files. Everything else that takes an array reads the whole table, as ``numpy.asarray(files)`` does.

    Slices of rows, ``files[1000:2000]``, and rows by their numbers are read then and there, and are arrays.

    A shuffled fit reads blocks of 1,024 rows from all over the table. Of .parquet files each row group is decoded once
    per window of rows, so an epoch over a table of 100 windows decodes all files 100 times. If there are more than a
    few windows, copy the rows to .npy files once, with `of_blocks`.

    Parameters
    ----------
    paths : str or path, or a sequence of these
        The files in the order of their rows, all of one kind. A string may be a pattern, as in ``"part-*.npy"``: the
        files that match, sorted by their names.
    columns : sequence of str or int, optional
        Columns to read, by name (.parquet) or number. By default all, but row numbers that pandas wrote.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    dtype : numpy.dtype
        Type of the rows that are read: float32 if all columns are of it, else float64.
    columns : tuple of str or None
        Names of the columns; None of .npy files. A flow that is fitted keeps them, as those of a DataFrame.

    Raises
    ------
    ValueError
        If a pattern matches nothing, a file is not such a table or is damaged, or its columns are not those of the
        first file; if a column is not there or is not one of numbers.
    OSError, ImportError
        If a file cannot be read, or pyarrow is missing.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> for i in range(3):
    ...     np.save(os.path.join(folder.name, f"part-{i}.npy"), np.random.default_rng(i).normal(size=(200, 3)))
    >>> files = Files(os.path.join(folder.name, "part-*.npy"))
    >>> files.shape
    (600, 3)
    >>> x, context = files.select([0, 1]), files.select([2])
    >>> flow = Flow(2, context=1, seed=0).fit(x, context=context, epochs=2, seed=0)
    >>> flow.log_prob(x, context).shape
    (600,)
    >>> folder.cleanup()
    """

    columns: tuple[str, ...] | None

    def __init__(self, paths: Paths, columns: Sequence[str | int] | None = None) -> None:
        source = open_files(paths)
        given = [name for name in source.names if name not in source.row_names] if columns is None else columns
        self._set(source, _places(source, given), 0, sum(part.rows for part in source.parts))

    def _set(self, source: NpyFiles | ParquetFiles, places: list[int], first: int, last: int) -> None:
        self._source, self._places, self._first, self._last = source, places, first, last
        self._bounds = np.cumsum([0, *(part.rows for part in source.parts)])
        self.shape = (last - first, len(places))
        self.dtype = source.dtype_of(places)
        self.columns = tuple(source.names[i] for i in places) if source.named else None
        # The part that was opened last: its number, its rows, and which columns of them are this table's.
        self._kept: tuple[int, Array, Columns] | None = None

    def _view(self, places: list[int], first: int, last: int) -> Files:
        view = type(self).__new__(type(self))
        view._set(self._source, places, first, last)
        return view

    def select(self, columns: Sequence[str | int]) -> Files:
        """Return a table of some of the columns of the files, and read nothing.

        Parameters
        ----------
        columns : sequence of str or int
            Columns of the files, by name (.parquet) or number; those that this table leaves out too.

        Returns
        -------
        Files
            The same rows.

        Raises
        ------
        TypeError, ValueError
            If a column is not there, or is not one of numbers.
        """
        return self._view(_places(self._source, columns), self._first, self._last)

    def column(self, column: str | int) -> Array:
        """Read one column of the files, such as that of the weights.

        Parameters
        ----------
        column : str or int
            A column of the files, by name (.parquet) or number.

        Returns
        -------
        (n,) array
            Its numbers.

        Raises
        ------
        TypeError, ValueError
            If it is not there, or is not one of numbers.
        """
        found = self.select([column])
        result = np.empty(len(found), found.dtype)
        for first, last, part in found._pieces(0, len(found)):
            result[first:last] = part[:, 0]
            found.release()
        return result

    def rows(self, start: int, stop: int) -> Files:
        """Return a table of some of the rows, and read nothing: the share of one of several processes.

        Parameters
        ----------
        start, stop : int
            The first row, and the one behind the last, from 0 to n.

        Returns
        -------
        Files
            The same columns.

        Raises
        ------
        TypeError, ValueError
            If these are not such integers.
        """
        start = _checks.integer("start", start, 0, len(self))
        stop = _checks.integer("stop", stop, start, len(self))
        return self._view(self._places, self._first + start, self._first + stop)

    @classmethod
    def of_blocks(cls, blocks: Iterable[Any], folder: PathLike) -> Files:
        """Write blocks of rows to .npy files in a folder, one after the other, and open them as one table.

        Only the blocks of one file, some 64 MB, and a copy of them are in memory at a time.

        Parameters
        ----------
        blocks : iterable of (n, columns) arrays
            The rows, of one number of columns and one type.
        folder : str or path
            Where to write ``part-00000.npy`` and so on. It is created if it is not there, and must hold no such file.

        Returns
        -------
        Files
            The table.

        Raises
        ------
        TypeError, ValueError
            If a block is not such an array, there is none, or the folder holds parts already. Files that were written
            before that stay.
        OSError
            If a file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     blocks = (np.random.default_rng(i).normal(size=(1000, 2)) for i in range(5))
        ...     Files.of_blocks(blocks, folder).shape
        (5000, 2)
        """
        place = Path(folder)
        if list(place.glob("part-*.npy")):
            raise ValueError(f"{place} holds files part-*.npy already; give a new folder, or delete them")
        place.mkdir(parents=True, exist_ok=True)
        written: list[str] = []
        for rows in _joined(blocks):
            path = str(place / f"part-{len(written):05}.npy")
            with output.replacing(path) as file:
                np.save(file, rows)
            written.append(path)
        if not written:
            raise ValueError("blocks holds no array")
        return cls(written)

    def _opened_part(self, number: int) -> tuple[Array, Columns]:
        kept = self._kept
        if kept is None or kept[0] != number:
            kept = (number, *self._source.open(self._source.parts[number], self._places))
            self._kept = kept
        return kept[1], kept[2]

    def _pieces(self, first: int, last: int) -> Iterator[tuple[int, int, Array]]:
        """Walk the rows from `first` on and before `last`, a part at a time: where they are among those, and they."""
        at, end = first + self._first, last + self._first
        number = int(np.searchsorted(self._bounds, at, side="right")) - 1
        while at < end:
            start, stop = int(self._bounds[number]), min(int(self._bounds[number + 1]), end)
            if at < stop:
                rows, columns = self._opened_part(number)
                yield at - self._first - first, stop - self._first - first, rows[at - start : stop - start][:, columns]
                at = stop
            number += 1

    def _read(self, first: int, last: int) -> Array:
        result = np.empty((last - first, self.shape[1]), self.dtype)
        for start, stop, part in self._pieces(first, last) if self._places else ():
            result[start:stop] = part
        return result

    def _taken(self, rows: Indices) -> Array:
        result = np.empty((len(rows), self.shape[1]), self.dtype)
        ends = np.searchsorted(rows + self._first, self._bounds)
        for number in np.flatnonzero(np.diff(ends)):
            some = slice(ends[number], ends[number + 1])
            part, columns = self._opened_part(int(number))
            result[some] = part[rows[some] + self._first - self._bounds[number]][:, columns]
        return result

    def release(self) -> None:
        """Give the memory of a file that is mapped back to the system."""
        if self._kept is not None:
            drop_pages(self._kept[1])

    def __repr__(self) -> str:
        return f"<Files of shape {self.shape}, {self.dtype}: {shown(self._source.paths)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None}


class FilesTable:
    """Many files as a table of the command line; numbers stay in the files until their rows are used.

    Parameters
    ----------
    paths : sequence of str
        The files.
    share : callable, optional
        Returns which of so many rows are to be read, a slice: of several processes, the own ones.
    """

    def __init__(self, paths: Sequence[str], share: Callable[[int], slice] | None = None) -> None:
        files = Files(paths, columns=[])
        self._source = files._source
        self._first, last, _ = (slice(None) if share is None else share(len(files))).indices(len(files))
        self._files = files.rows(self._first, last)
        self.name, self.named = shown(paths), self._source.named
        self.columns, self.row_names = self._source.names, self._source.row_names

    def find(self, name: str) -> str:
        """Return the column's own name, ``x2`` for ``2`` of .npy files."""
        find = tables.find if self.named else tables.find_numbered
        return find(self.name, self.columns, name)

    def read(self, parts: Sequence[Sequence[str]], labels: str | None = None) -> tuple[list[Array], Array | None]:
        """Return the columns of each part as a table (n, k), and one column of labels."""
        # They are sliced as arrays are, and given to functions that know both.
        found = cast(list[Array], [self._files.select([self.columns.index(name) for name in part]) for part in parts])
        if labels is None:
            return found, None
        return found, self._source.labels(self.columns.index(labels))[self._first :][: len(self._files)]

    def place(self, row: int) -> str:
        """Say in which file a row is, and where, counted as in a table of one file."""
        row += self._first
        for path in self._source.paths:
            rows = sum(part.rows for part in self._source.parts if part.path == path)
            if row < rows:
                return f"row {row + self.named} of {path}"
            row -= rows
        raise IndexError(row)


def _places(source: NpyFiles | ParquetFiles, columns: Sequence[str | int]) -> list[int]:
    """Return the places in the files of columns."""
    if isinstance(columns, (str, int)):
        raise TypeError(f"columns must be a sequence of names or numbers, not {columns!r}")
    found = []
    for column in columns:
        if isinstance(column, str):
            find = tables.find if source.named else tables.find_numbered
            found.append(source.names.index(find(shown(source.paths), source.names, column)))
        else:
            found.append(_checks.integer("columns", column, 0, len(source.names) - 1))
    return found


def _joined(blocks: Iterable[Any]) -> Iterator[Array]:
    """Join blocks of rows to arrays of some size."""
    kept: list[Array] = []
    first: Array | None = None
    size = 0
    for i, block in enumerate(blocks):
        rows = _checks.floats(block, f"block {i}")
        if rows.ndim != 2:
            raise ValueError(f"block {i} has shape {rows.shape}; (n, columns) is expected")
        first = rows[:0].copy() if first is None else first
        if rows.shape[1] != first.shape[1] or rows.dtype != first.dtype:
            raise ValueError(
                f"block {i} has {rows.shape[1]} columns of {rows.dtype}; block 0 has {first.shape[1]} of {first.dtype}"
            )
        kept.append(np.array(rows))  # whoever makes the blocks may use their memory again
        size += rows.nbytes
        if size >= _PART_BYTES:
            yield np.concatenate(kept)
            kept, size = [], 0
    if kept:
        yield np.concatenate(kept)
