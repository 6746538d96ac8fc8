"""The processes that fit one flow together. By default there is one, and nothing to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

from pushforward._typing import Array, Indices

T = TypeVar("T")


class Group:
    """Processes that do the same work, each with its own share of the rows.

    All processes call the methods in the same order, but for `status`, and what is returned is the same in each unless
    it says otherwise. This class is one process by itself; `_fit.mpi` and `_fit.workers` have those of several.

    Attributes
    ----------
    rank, size : int
        The number of this process, and how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    # -- small objects and arrays --------------------------------------------------------------------------------

    def sum(self, counts: Indices) -> Indices:
        """Return the sum of integers over the processes, entry by entry."""
        return counts

    def least(self, values: Array) -> Array:
        """Return the least of the processes' values, entry by entry."""
        return values

    def greatest(self, values: Array) -> Array:
        """Return the greatest of the processes' values, entry by entry."""
        return values

    def joined(self, rows: Array) -> Array:
        """Return the rows of all processes, in their order."""
        return rows

    def collected(self, value: T) -> list[T]:
        """Return one small object of each process."""
        return [value]

    def of_first(self, value: T) -> T:
        """Return a small object of the first process."""
        return value

    # -- buffers that are used again and again -------------------------------------------------------------------

    def exchanged(self, rows: Array, to: Indices, by: Indices) -> Array:
        """Send rows, `to[i]` of them to process i, in their order; return those that came, `by[i]` from process i."""
        return rows

    def gather(self, own: Array, all_of_them: Array, counts: Indices) -> None:
        """Write the arrays of all processes, of `counts[i]` entries each; `own` may be in its place among them."""

    def swap(self, own: Array, to: Indices, theirs: Array, by: Indices) -> None:
        """Send `to[i]` entries of an array to process i, and write those that come, `by[i]` from process i."""

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def status(self, error: BaseException | None) -> int:
        """Return what the others have to know: 0, or another number if they have to end with this process."""
        return 0

    def end(self, error: BaseException | None) -> NoReturn:
        """Raise in all processes, of which at least one has an error, or an interruption."""
        raise AssertionError("one process has nobody to tell") from error

    @contextlib.contextmanager
    def agree(self) -> Iterator[None]:
        """Do work without the others: if it fails in one process, it raises in all of them."""
        yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do all work of a fit. If a process leaves it by an exception of its own, the others do not wait for it."""
        yield

    def prepared(self) -> int | None:
        """Check that the processes compute the same numbers; return the threads of this one, None for the default."""
        return None


ALONE = Group()


def same(group: Group, **values: Any) -> None:
    """Raise a ValueError if one of the values is not the same in all processes."""
    first, *others = group.collected(values)
    for rank, theirs in enumerate(others, 1):
        for name, value in first.items():
            if theirs[name] != value:
                raise ValueError(
                    f"{name} must be the same in all processes; process 0 has {value}, process {rank} {theirs[name]}"
                )
