"""Walking over a table's rows: fair shuffles, held-out parts, and tables larger than memory.

A weight says how often a row is there, so rows of weight 0 are never walked over.

A table is cut into blocks: single rows while it is small, runs of rows when it is large. Held-out rows are whole blocks
drawn at random. An epoch takes the training blocks in random order, a window of them at a time, and shuffles the rows
within the window; so every row is as likely as any other to come at any place of an epoch, and rows of one block meet
in a minibatch no more often than by chance within a window. A memory-mapped table is read into memory a window at a
time, in runs, and its pages are given back.

Several processes may each hold a share of the table: then the table is all shares, in the order of the processes.
Blocks, windows, held-out rows and minibatches are those that one process with the whole table has. In table order each
process walks its own rows. For an epoch the rows of a window are exchanged, and each process gets its part of every
minibatch.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._group import ALONE, Group, same
from pushforward._io.stored import Stored
from pushforward._shapes import flat
from pushforward._typing import Array, Doubles, Indices

# A full permutation costs 8 bytes a row: 16 MB at this many. Beyond, blocks.
_MOST_SHUFFLED_ROWS = 1 << 21
_BLOCK_ROWS = 1024
# A memory-mapped table up to this size is used where it lies; a window of a larger one is this large.
_WINDOW_BYTES = 16 << 20
_BLOCKS_MAPPED = 4
_ROWS_MAPPED = 1 << 12

Part = Callable[[int], Indices]
"""Where the parts of the processes begin among the rows of a minibatch of some size, and its end, (size + 1,)."""


@dataclass(frozen=True)
class Window:
    """Some rows of a table: those of the arrays that `index` names.

    Of a minibatch that is shared out, these are the process's own part; `shared` is the number of all its rows.
    """

    x: Array
    context: Array | None
    weights: Doubles | None
    index: Indices
    shared: int | None = None

    def __len__(self) -> int:
        return len(self.index) if self.shared is None else self.shared


@dataclass(frozen=True)
class Rows:
    """A table's rows, or some of its blocks.

    Parameters
    ----------
    x, context, weights : arrays
        The whole table, (n, dim), (n, context) or None, (n,) or None; of several processes, this one's share. The
        first two may be in files, if they are large.
    block : int
        Rows of a block; the last block may be shorter.
    blocks : array of int64
        The blocks that belong, in ascending order.
    counts : (all blocks,) array, optional
        How many rows with weight each block of the table has, if there are weights.
    group : Group
        The processes that share the table.
    bounds : (size + 1,) array, optional
        Where their shares begin in it, and its end.
    is_large : bool
        Whether it is walked in windows of bytes: a share of it is a map or in files, and it is larger than a window.
    """

    x: Array | Stored
    context: Array | Stored | None
    weights: Doubles | None
    block: int
    blocks: Indices
    counts: Indices | None = None
    group: Group = ALONE
    bounds: Indices | None = None
    is_large: bool = False

    @classmethod
    def of(
        cls, x: Array | Stored, context: Array | Stored | None, weights: Doubles | None, group: Group = ALONE
    ) -> Rows:
        """Take all rows of a table, or of this process's share."""
        size_in_bytes, is_map = x.nbytes, isinstance(x, Stored) or _map_of(x) is not None
        if isinstance(x, Stored) and isinstance(context, Stored):  # they are read together, or not at all
            size_in_bytes = max(size_in_bytes, context.nbytes)
        if not isinstance(x, Stored) or size_in_bytes <= _WINDOW_BYTES:
            x, context = _loaded(x), None if context is None else _loaded(context)
        sizes, sizes_in_bytes, maps = zip(*group.collected((len(x), size_in_bytes, is_map)), strict=True)
        bounds = np.array([0, *sizes]).cumsum()
        n = int(bounds[-1])
        is_large = any(maps) and sum(sizes_in_bytes) > _WINDOW_BYTES
        block = 1 if n <= _MOST_SHUFFLED_ROWS and not is_large else _BLOCK_ROWS
        rows = cls(x, context, weights, block, np.arange(-(-n // block)), None, group, bounds, is_large)
        if weights is None:
            return rows
        counts = rows._counts()
        return replace(rows, counts=counts, blocks=np.flatnonzero(counts))

    @classmethod
    def checked(
        cls,
        x: object,
        context: object,
        weights: object,
        widths: tuple[int, int],
        columns: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
        name: str = "x",
        group: Group = ALONE,
        shape: tuple[int, ...] | None = None,
    ) -> Rows:
        """Take all rows of a table, or of this process's share, checked by shape, type and names.

        `widths` and `columns` are those of the features and of the context. `shape` is that of a row, if it has one.
        """
        with group.agree():
            table, conditions = checked(x, context, widths, columns, name, shape)
            if conditions is not None and conditions.ndim == 1:
                raise ValueError(f"to fit, context must have one row per row of {name}: ({len(table)}, {widths[1]})")
            label = "weights" if name == "x" else f"{name} weights"
            found = None if weights is None else _checks.raw_weights(weights, len(table), name=label)
        types = [None if part is None else part.dtype.name for part in (table, conditions, found)]
        same(group, **dict(zip((f"the type of {name}", "the type of context", label), types, strict=True)))
        if not group.sum(np.array([len(table)])).any():
            raise ValueError(f"{name} has no rows")
        if found is not None:
            greatest = float(group.greatest(np.array([found.max(initial=0.0)]))[0])
            if not greatest:
                raise ValueError(f"{label} are all zero")
            found = _checks.scaled_weights(found, greatest)
        return cls.of(table, conditions, found, group)

    @property
    def total(self) -> int:
        """Rows of the whole table."""
        return len(self.x) if self.bounds is None else int(self.bounds[-1])

    @property
    def first(self) -> int:
        """The number of this process's first row in the table."""
        return 0 if self.bounds is None else int(self.bounds[self.group.rank])

    def walked_before(self) -> int:
        """Return how many rows the processes before this one walk."""
        if self.group.size == 1:
            return 0
        own = self._own_blocks()
        some = np.array_split(own, -(-len(own) // _BLOCK_ROWS) or 1)
        walked = self.group.collected(sum(len(self._rows_of(blocks)) for blocks in some))
        return sum(walked[: self.group.rank])

    def _counts(self) -> Indices:
        """Count the rows with weight in each block of the table."""
        assert self.weights is not None
        of_block = (self.first + np.flatnonzero(self.weights > 0)) // self.block
        return self.group.sum(np.bincount(of_block, minlength=-(-self.total // self.block)))

    def __len__(self) -> int:
        if self.counts is not None:
            return int(self.counts[self.blocks].sum())
        whole = len(self.blocks) * self.block
        short = -self.total % self.block  # rows that the last block lacks
        return whole - short if short and self.total // self.block in self.blocks else whole

    def number_of(self, i: int) -> int:
        """Return the place in the table of the row that a walk over the whole table meets as its i-th."""
        return self.first + (i if self.weights is None else int(np.flatnonzero(self.weights > 0)[i]))

    @property
    def bytes_per_row(self) -> int:
        """Bytes of a row of all the arrays."""
        arrays = (self.x, self.context, self.weights)
        return sum(a.itemsize * (a.shape[1] if a.ndim == 2 else 1) for a in arrays if a is not None)

    @property
    def window_count(self) -> int:
        """Windows of an epoch. Each may end with a minibatch that the rows of all of them would not need."""
        return len(self._cuts(self.blocks, self.is_large))

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
        """Walk this process's rows once, in table order, or shuffled when `rng` is given and there is one process.

        The arrays of a window hold until the next one: those of a large map are read into the same memory.
        """
        order = self._own_blocks() if rng is None else rng.permutation(self.blocks)
        mapped = is_large_map(self.x)
        if not len(order):
            return
        cuts = self._cuts(order, mapped)
        buffers = self._buffers(max(map(len, cuts))) if mapped else None
        for blocks in cuts:
            if buffers is not None:
                window = self._read(blocks, buffers)
            else:
                context = None if self.context is None else _loaded(self.context)
                window = Window(_loaded(self.x), context, self.weights, self._rows_of(blocks))
            if rng is not None and self.block > 1:
                rng.shuffle(window.index)
            yield window

    def batches(self, size: int, rng: np.random.Generator, part: Part | None = None) -> Iterator[Window]:
        """Walk all rows once, shuffled, in minibatches of at most `size` and nearly equal rows.

        With `part` each minibatch is shared out among the processes, which exchange the rows of a window.
        """
        if part is not None:
            yield from self._shared_batches(size, rng, part)
            return
        for window in self.windows(rng):
            for first, last in pairwise(_bounds(len(window.index), size)):
                yield replace(window, index=window.index[first:last])

    def _cuts(self, order: Indices, mapped: bool) -> list[Indices]:
        """Cut blocks into windows of nearly equal size: a last one of a few rows would make a minibatch of them."""
        rows = max(_WINDOW_BYTES // self.bytes_per_row, self.block) if mapped else _MOST_SHUFFLED_ROWS
        return np.array_split(order, -(-len(order) * self.block // rows) or 1)

    def _own_blocks(self) -> Indices:
        """Return the blocks of which this process has rows."""
        if self.bounds is None or self.group.size == 1:
            return self.blocks
        first, last = self.first, int(self.bounds[self.group.rank + 1])
        if first == last:
            return self.blocks[:0]
        ends = np.searchsorted(self.blocks, [first // self.block, (last - 1) // self.block + 1])
        return self.blocks[ends[0] : ends[1]]

    def _shared_batches(self, size: int, rng: np.random.Generator, part: Part) -> Iterator[Window]:
        assert self.bounds is not None
        order = rng.permutation(self.blocks)
        # As `windows` of one process with the whole table.
        for blocks in self._cuts(order, self.is_large):
            numbers = blocks
            if self.block > 1:
                numbers = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
                numbers = self._with_weight(numbers[numbers < self.total])
                rng.shuffle(numbers)
            yield from self._exchanged(numbers, _bounds(len(numbers), size), part)

    def _with_weight(self, numbers: Indices) -> Indices:
        """Leave out the rows of the table that have no weight."""
        if self.counts is None or self.counts.sum() == self.total:
            return numbers
        assert self.weights is not None
        is_there, own = self._owned(numbers)
        has_weight = np.zeros(len(numbers), np.uint8)
        has_weight[is_there] = self.weights[own] > 0
        return numbers[self.group.greatest(has_weight) > 0]

    def _owned(self, numbers: Indices) -> tuple[Indices, Indices]:
        """Return at which places of `numbers` this process's rows are, and which rows of its own they are."""
        own = numbers - self.first
        places = np.flatnonzero((own >= 0) & (own < len(self.x)))
        return places, own[places]

    def _exchanged(self, numbers: Indices, bounds: Indices, part: Part) -> Iterator[Window]:
        """Exchange the rows of a window, by their numbers, and walk this process's parts of its minibatches.

        All processes know where every row is and where it goes, so nothing but rows is sent.
        """
        assert self.bounds is not None
        rank, size = self.group.rank, self.group.size
        sizes = np.diff(bounds)
        cuts = bounds[:-1, None] + np.stack([part(int(rows)) for rows in sizes])
        # Rows that come: first those of process 0, each in the order of the minibatches.
        firsts, lengths = cuts[:, rank], cuts[:, rank + 1] - cuts[:, rank]
        ends = lengths.cumsum()
        wanted = numbers[np.arange(lengths.sum()) + np.repeat(firsts - (ends - lengths), lengths)]
        source = np.searchsorted(self.bounds, wanted, side="right") - 1
        order = _order_of(source)
        at = np.empty_like(order)
        at[order] = np.arange(len(order))
        by = np.bincount(source, minlength=size)
        # Rows that go. Of parts without rows that begin at one place, the last one is not empty.
        places, own = self._owned(numbers)
        target = (np.searchsorted(cuts[:, :-1].ravel(), places, side="right") - 1) % size
        own, to = own[_order_of(target)], np.bincount(target, minlength=size)
        x, context, weights = (
            None if array is None else self.group.exchanged(taken(array, own), to, by)
            for array in (self.x, self.context, self.weights)
        )
        assert x is not None
        for rows, first, last in zip(sizes.tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True):
            yield Window(x, context, weights, at[first:last], rows)

    def _rows_of(self, blocks: Indices) -> Indices:
        if self.block == 1:
            return blocks - self.first
        index: Indices = (blocks[:, None] * self.block + np.arange(self.block)).ravel() - self.first
        return self._counted(index[(index >= 0) & (index < len(self.x))], self.weights)

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

    def _copy(self, array: Array | Stored, blocks: Indices, buffer: Array) -> Array:
        firsts = np.maximum(blocks * self.block - self.first, 0)
        lasts = np.clip((blocks + 1) * self.block - self.first, 0, len(array))
        ends = (lasts - firsts).cumsum()
        # In ascending order each file is opened once, and each of its row groups is decoded once.
        for i, block in enumerate(np.argsort(blocks)):
            first, last, end = firsts[block], lasts[block], ends[block]
            buffer[end - (last - first) : end] = array[first:last]
            # The system maps up to megabytes around a block that is touched.
            if i % _BLOCKS_MAPPED == 0:
                drop_pages(array)
        drop_pages(array)
        return buffer[: ends[-1]]


def checked(
    x: object,
    context: object,
    widths: tuple[int, int],
    columns: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    name: str = "x",
    shape: tuple[int, ...] | None = None,
) -> tuple[Array | Stored, Array | Stored | None]:
    """Check a table (n, dim) and its context by shape, type and names; what is in files is not read.

    With a shape, rows come as (n, *shape), but from files as (n, dim).
    """
    x = x if isinstance(x, Stored) else flat(x, shape, name)
    table = _checks.table(_outline(x), widths[0], name, columns=columns[0])
    conditions = _checks.condition(_outline(context), widths[1], len(table), columns[1])
    for given, known, label in ((x, columns[0], name), (context, columns[1], "context")):
        if isinstance(given, Stored):
            _checks.names(given, known, label)
    if not isinstance(x, Stored):
        return table, np.asarray(context) if isinstance(context, Stored) else conditions
    return x, context if isinstance(context, Stored) else conditions


def _loaded(array: Array | Stored) -> Array:
    """Return an array as it is, and the rows of one in files."""
    return np.asarray(array) if isinstance(array, Stored) else array


def _outline(x: object) -> object:
    """Return an array of zeros in the shape and type of a table in files, which takes no memory."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, Stored) else x


def _bounds(rows: int, size: int) -> Indices:
    """Return where minibatches of at most `size` and nearly equal rows begin, and the end of the last."""
    count = -(-rows // size)
    return np.arange(count + 1) * rows // count


def _order_of(processes: Indices) -> Indices:
    """Return the order of places by process, and in each as they are; NumPy sorts short integers by counting."""
    is_short = processes.size and processes.max() < np.iinfo(np.int16).max
    order: Indices = np.argsort(processes.astype(np.int16) if is_short else processes, kind="stable")
    return order


def taken(array: Array | Stored, rows: Indices) -> Array:
    """Return rows of an array, in C order; those of a map are read in ascending order, and its pages given back."""
    if not is_large_map(array):
        return np.take(_loaded(array), rows, axis=0)
    order = np.argsort(rows)
    result = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), _ROWS_MAPPED):
        some = order[first : first + _ROWS_MAPPED]
        result[some] = array[rows[some]]
        drop_pages(array)
    return result


def _map_of(array: Array) -> mmap.mmap | None:
    """Return the shared memory map that an array lies in, if any."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            # A copy-on-write map holds the caller's own changes, which must not be dropped.
            return base._mmap if base.mode != "c" else None  # type: ignore[attr-defined]
        base = base.base
    return None


def is_large_map(array: Array | Stored) -> bool:
    """Whether an array lies in files, or in one too large to be used where it lies."""
    return isinstance(array, Stored) or (array.nbytes > _WINDOW_BYTES and _map_of(array) is not None)


def drop_pages(*arrays: Array | Stored | None) -> None:
    """Give the memory of memory-mapped arrays back to the system; their content stays in the file."""
    for array in arrays:
        if isinstance(array, Stored):
            array.release()
            continue
        pages = None if array is None else _map_of(array)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


def pieces_of(array: Array | Stored) -> Iterator[slice]:
    """Cut an array's rows into pieces of a window's size."""
    rows = max(_WINDOW_BYTES // max(array.itemsize * array.shape[1], 1), 1)
    return (slice(first, first + rows) for first in range(0, len(array), rows))


def still_readable(array: Array | Stored, first: int, results: Iterable[Array]) -> Array | Stored:
    """Return `array`, or a copy if results that are about to be written lie in its rows from `first` on."""
    if isinstance(array, Stored):
        return array
    rest = array[first:]
    return np.array(array) if any(np.shares_memory(rest, result) for result in results) else array
