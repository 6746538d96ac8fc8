"""A table that lies in files, as what walks over rows sees it."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np

from pushforward._typing import Array, Indices


class Stored(abc.ABC):
    """A table (n, k) of floats whose rows are read when they are indexed, and which NumPy reads as a whole.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    dtype : numpy.dtype
        float32 or float64, of what is read.
    """

    ndim = 2
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of a number, as it is read."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, as they are read."""
        return self.shape[0] * self.shape[1] * self.itemsize

    @abc.abstractmethod
    def _read(self, first: int, last: int) -> Array:
        """Return the rows from `first` on and before `last` as a new array."""

    @abc.abstractmethod
    def _taken(self, rows: Indices) -> Array:
        """Return rows by their numbers, which ascend, as a new array."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give the memory of files that are mapped back to the system."""

    def __getitem__(self, rows: Any) -> Array:
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            if step == 1:
                return self._read(first, max(first, last))
            rows = np.arange(first, last, step)
        if isinstance(rows, tuple):
            raise IndexError("only rows of files are indexed; choose columns by select")
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"a mask of shape {index.shape} for {len(self)} rows")
            index = np.flatnonzero(index)
        if index.ndim > 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(f"rows are indexed by a slice, integers or a mask, not by {rows!r}")
        index = index.astype(np.int64)
        if index.size and not -len(self) <= index.min() <= index.max() < len(self):
            raise IndexError(f"row {index.max() if index.max() >= len(self) else index.min()} of {len(self)} rows")
        index = np.where(index < 0, index + len(self), index)
        if index.ndim == 0:
            row: Array = self._read(int(index), int(index) + 1)[0]
            return row
        order = np.argsort(index, kind="stable")
        result = np.empty((len(index), self.shape[1]), self.dtype)
        result[order] = self._taken(index[order])
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a table in files is read into a new array; copy=False is not possible")
        return self._read(0, len(self)).astype(dtype or self.dtype, copy=False)
