"""Walking over a table's rows: fair shuffles, held-out parts, and tables larger than memory.

A weight says how often a row is there, so rows of weight 0 are never walked over.

A table is cut into blocks: single rows while it is small, runs of rows when it is large. Held-out rows are whole blocks
drawn at random. An epoch takes the training blocks in random order, a window of them at a time, and shuffles the rows
within the window; so every row is as likely as any other to come at any place of an epoch, and rows of one block meet
in a minibatch no more often than by chance within a window. A memory-mapped table is read into memory a window at a
time, in runs, and its pages are given back.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._typing import Array, Doubles, Indices

# A full permutation costs 8 bytes a row: 16 MB at this many. Beyond, blocks.
_MOST_SHUFFLED_ROWS = 1 << 21
_BLOCK_ROWS = 1024
# A memory-mapped table up to this size is used where it lies; a window of a larger one is this large.
_WINDOW_BYTES = 16 << 20
_BLOCKS_MAPPED = 4


@dataclass(frozen=True)
class Window:
    """Some rows of a table: those of the arrays that `index` names."""

    x: Array
    context: Array | None
    weights: Doubles | None
    index: Indices


@dataclass(frozen=True)
class Rows:
    """A table's rows, or some of its blocks.

    Parameters
    ----------
    x, context, weights : arrays
        The whole table, (n, dim), (n, context) or None, (n,) or None.
    block : int
        Rows of a block; the last block may be shorter.
    blocks : array of int64
        The blocks that belong.
    """

    x: Array
    context: Array | None
    weights: Doubles | None
    block: int
    blocks: Indices

    @classmethod
    def of(cls, x: Array, context: Array | None, weights: Doubles | None) -> Rows:
        """Take all rows of a table."""
        n = len(x)
        block = 1 if n <= _MOST_SHUFFLED_ROWS and not is_large_map(x) else _BLOCK_ROWS
        rows = cls(x, context, weights, block, np.arange(-(-n // block)))
        return rows if weights is None or weights.all() else replace(rows, blocks=np.flatnonzero(rows._counts()))

    @classmethod
    def checked(
        cls,
        x: object,
        context: object,
        weights: object,
        widths: tuple[int, int],
        columns: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
        name: str = "x",
    ) -> Rows:
        """Take all rows of a table, checked by shape, type and names.

        `widths` and `columns` are those of the features and of the context.
        """
        table = _checks.table(x, widths[0], name, columns=columns[0])
        if len(table) == 0:
            raise ValueError(f"{name} has no rows")
        conditions = _checks.condition(context, widths[1], len(table), columns[1])
        if conditions is not None and conditions.ndim == 1:
            raise ValueError(f"to fit, context must have one row per row of {name}: ({len(table)}, {widths[1]})")
        label = "weights" if name == "x" else f"{name} weights"
        return cls.of(table, conditions, _checks.row_weights(weights, len(table), name=label))

    def _counts(self) -> Indices:
        """Return how many rows with weight each block of the table has."""
        assert self.weights is not None
        counts: Indices = np.add.reduceat(self.weights > 0, np.arange(0, len(self.x), self.block), dtype=np.int64)
        return counts

    def __len__(self) -> int:
        if self.weights is not None:
            return int(self._counts()[self.blocks].sum())
        whole = len(self.blocks) * self.block
        short = -len(self.x) % self.block  # rows that the last block lacks
        return whole - short if short and len(self.x) // self.block in self.blocks else whole

    def number_of(self, i: int) -> int:
        """Return the place in the table of the row that a walk over the whole table meets as its i-th."""
        return i if self.weights is None else int(np.flatnonzero(self.weights > 0)[i])

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a row of all the arrays."""
        arrays = (self.x, self.context, self.weights)
        return sum(a.itemsize * (a.shape[1] if a.ndim == 2 else 1) for a in arrays if a is not None)

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Return a random part without `fraction` of the blocks, and the part with them, each in table order."""
        held = round(fraction * len(self.blocks))
        order = rng.permutation(len(self.blocks))
        chosen = np.zeros(len(self.blocks), dtype=bool)
        chosen[order[:held]] = True
        return replace(self, blocks=self.blocks[~chosen]), replace(self, blocks=self.blocks[chosen])

    def split_at(self, chosen: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
        """Return the rows of the table that are not chosen, and those that are."""
        if self.block == 1:
            here = chosen[self.blocks]
            return replace(self, blocks=self.blocks[~here]), replace(self, blocks=self.blocks[here])
        # Blocks hold rows of both: each part gives the others the weight 0.
        weights = np.ones(len(self.x)) if self.weights is None else self.weights
        kept, held = (self.of(self.x, self.context, np.where(chosen == side, weights, 0.0)) for side in (False, True))
        return kept, held

    def windows(self, rng: np.random.Generator | None = None) -> Iterator[Window]:
        """Walk all rows once, in table order, or shuffled when `rng` is given.

        The arrays of a window hold until the next one: those of a large map are read into the same memory.
        """
        order = self.blocks if rng is None else rng.permutation(self.blocks)
        mapped = is_large_map(self.x)
        rows = max(_WINDOW_BYTES // self.bytes_per_row, self.block) if mapped else _MOST_SHUFFLED_ROWS
        if not len(order):
            return
        # Windows of nearly equal size: a last one of a few rows would make a minibatch of them.
        count = -(-len(order) * self.block // rows) or 1
        buffers = self._buffers(-(-len(order) // count)) if mapped else None
        for blocks in np.array_split(order, count):
            if buffers is not None:
                window = self._read(blocks, buffers)
            else:
                window = Window(self.x, self.context, self.weights, self._rows_of(blocks))
            if rng is not None and self.block > 1:
                rng.shuffle(window.index)
            yield window

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Window]:
        """Walk all rows once, shuffled, in minibatches of at most `size` and nearly equal rows."""
        for window in self.windows(rng):
            count = -(-len(window.index) // size)
            bounds = np.arange(count + 1) * len(window.index) // count
            for first, last in pairwise(bounds):
                yield replace(window, index=window.index[first:last])

    def _rows_of(self, blocks: Indices) -> Indices:
        if self.block == 1:
            copy: Indices = blocks.copy()
            return copy
        index: Indices = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        return self._counted(index[index < len(self.x)], self.weights)

    @staticmethod
    def _counted(index: Indices, weights: Array | None) -> Indices:
        return index if weights is None else index[weights[index] > 0]

    def _buffers(self, blocks: int) -> tuple[Array | None, Array | None, Array | None]:
        """Make room for so many blocks of each array."""
        x, context, weights = (
            None if array is None else np.empty((blocks * self.block, *array.shape[1:]), array.dtype)
            for array in (self.x, self.context, self.weights)
        )
        return x, context, weights

    def _read(self, blocks: Indices, buffers: tuple[Array | None, Array | None, Array | None]) -> Window:
        """Copy blocks out of a map into the buffers, and give its pages back to the system."""
        x, context, weights = (
            None if array is None or buffer is None else self._copy(array, blocks, buffer)
            for array, buffer in zip((self.x, self.context, self.weights), buffers, strict=True)
        )
        assert x is not None
        return Window(x, context, weights, self._counted(np.arange(len(x)), weights))

    def _copy(self, array: Array, blocks: Indices, buffer: Array) -> Array:
        end = 0
        for i, block in enumerate(blocks):
            part = array[block * self.block : (block + 1) * self.block]
            buffer[end : end + len(part)] = part
            end += len(part)
            # The system maps up to megabytes around a block that is touched.
            if i % _BLOCKS_MAPPED == 0:
                drop_pages(array)
        drop_pages(array)
        return buffer[:end]


def _map_of(array: Array) -> mmap.mmap | None:
    """Return the shared memory map that an array lies in, if any."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            # A copy-on-write map holds the caller's own changes, which must not be dropped.
            return base._mmap if base.mode != "c" else None  # type: ignore[attr-defined]
        base = base.base
    return None


def is_large_map(array: Array) -> bool:
    """Whether an array lies in a file too large to be used where it lies."""
    return array.nbytes > _WINDOW_BYTES and _map_of(array) is not None


def drop_pages(*arrays: Array | None) -> None:
    """Give the memory of memory-mapped arrays back to the system; their content stays in the file."""
    for array in arrays:
        pages = None if array is None else _map_of(array)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


def pieces_of(array: Array) -> Iterator[slice]:
    """Cut an array's rows into pieces of a window's size."""
    rows = max(_WINDOW_BYTES // max(array.itemsize * array.shape[1], 1), 1)
    return (slice(first, first + rows) for first in range(0, len(array), rows))


def still_readable(array: Array, first: int, results: Iterable[Array]) -> Array:
    """Return `array`, or a copy if results that are about to be written lie in its rows from `first` on."""
    rest = array[first:]
    return np.array(array) if any(np.shares_memory(rest, result) for result in results) else array
