"""Several processes that fit one flow, through mpi4py on an installed MPI.

Sums of numbers that round are not left to MPI, whose order depends on the number of processes. It sums integers, and
moves bytes; what is summed of them, `slots` and `exact` do in an order of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from pushforward import _dispatch
from pushforward._dispatch import core
from pushforward._fit.several import Several
from pushforward._group import ALONE, Group, same
from pushforward._model import threads
from pushforward._typing import Array, Indices

T = TypeVar("T")

# How long a process whose work has failed waits for the others to say the same. Longer than processes are apart in
# work of one size, shorter than anybody wants to wait for a job that hangs.
_SECONDS_TO_AGREE = 10.0
# A launcher may end a job before it has passed on what the processes have just printed.
_SECONDS_TO_PASS_ON = 1.0


def group_of(comm: object) -> Group:
    """Return the processes of an argument ``comm``."""
    if comm is None:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without an MPI library it is a RuntimeError
        raise ImportError(f'comm= needs mpi4py and an MPI: pip install "pushforward[mpi]" ({error})') from None
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, or None; not {comm!r}")
    return Processes(MPI, comm) if comm.Get_size() > 1 else ALONE


class Processes(Several):
    """The processes of a communicator.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    comm : mpi4py.MPI.Intracomm
        The communicator, which stays free for other messages.
    """

    def __init__(self, mpi: Any, comm: Any) -> None:
        super().__init__()
        self._mpi, self._given = mpi, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    # -- small objects and arrays --------------------------------------------------------------------------------

    def sum(self, counts: Indices) -> Indices:
        """Return the sum of integers over the processes, entry by entry."""
        return self._reduced(counts, self._mpi.SUM)

    def least(self, values: Array) -> Array:
        """Return the least of the processes' values, entry by entry."""
        return self._reduced(values, self._mpi.MIN)

    def greatest(self, values: Array) -> Array:
        """Return the greatest of the processes' values, entry by entry."""
        return self._reduced(values, self._mpi.MAX)

    def _reduced(self, values: Array, operation: Any) -> Array:
        values = np.ascontiguousarray(values)
        result = np.empty_like(values)
        self._comm.Allreduce(values, result, operation)
        return result

    def joined(self, rows: Array) -> Array:
        """Return the rows of all processes, in their order."""
        counts = np.array(self.collected(len(rows)))
        result = np.empty((counts.sum(), *rows.shape[1:]), rows.dtype)
        with self._row(rows) as row:
            self._comm.Allgatherv(
                [np.ascontiguousarray(rows), len(rows), row], [result, (counts, _firsts(counts)), row]
            )
        return result

    def collected(self, value: T) -> list[T]:
        """Return one small object of each process."""
        found: list[T] = self._comm.allgather(value)
        return found

    def of_first(self, value: T) -> T:
        """Return a small object of the first process."""
        found: T = self._comm.bcast(value)
        return found

    # -- buffers -------------------------------------------------------------------------------------------------

    def exchanged(self, rows: Array, to: Indices, by: Indices) -> Array:
        """Send rows, `to[i]` of them to process i, in their order; return those that came, `by[i]` from process i."""
        result = np.empty((by.sum(), *rows.shape[1:]), rows.dtype)
        with self._row(rows) as row:
            self._comm.Alltoallv([rows, (to, _firsts(to)), row], [result, (by, _firsts(by)), row])
        return result

    def gather(self, own: Array, all_of_them: Array, counts: Indices) -> None:
        """Write the arrays of all processes, of `counts[i]` entries each; `own` may be in its place among them."""
        in_place = np.may_share_memory(own, all_of_them)
        self._comm.Allgatherv(self._mpi.IN_PLACE if in_place else own, [all_of_them, (counts, _firsts(counts))])

    def swap(self, own: Array, to: Indices, theirs: Array, by: Indices) -> None:
        """Send `to[i]` entries of an array to process i, and write those that come, `by[i]` from process i."""
        self._comm.Alltoallv([own, (to, _firsts(to))], [theirs, (by, _firsts(by))])

    @contextlib.contextmanager
    def _row(self, rows: Array) -> Iterator[Any]:
        """Make one row a unit, so that counts of large tables are small."""
        size = rows.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
        kind = self._mpi.BYTE.Create_contiguous(size).Commit()
        try:
            yield kind
        finally:
            kind.Free()

    # -- what goes wrong -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do all work of a fit. If a process leaves it by an exception of its own, the others do not wait for it.

        Ctrl-C waits until all processes are at the same place. If one process alone fails between such places, the
        others may wait for it in the middle of a message: then MPI ends the job.
        """
        self._comm, self._last = self._given.Dup(), self._given.Dup()
        try:
            with self._waiting_interrupts():
                yield
        except BaseException as error:
            if error is not self._told:
                self._leave(error)
            raise
        else:
            self._leave(None)
        finally:
            self._comm.Free()
            self._last.Free()

    @contextlib.contextmanager
    def _waiting_interrupts(self) -> Iterator[None]:
        """Let SIGINT be noted, to be raised where all processes agree; the second one ends the job."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _leave(self, error: BaseException | None) -> None:
        """Wait until all processes leave; if this one failed and the others do not come, end the job."""
        failed = np.zeros(self.size, np.int32)
        request = self._last.Iallgather(np.array([error is not None], np.int32), failed)
        began = time.monotonic()
        while not request.Test():
            if error is not None and time.monotonic() - began > _SECONDS_TO_AGREE:
                print(
                    *traceback.format_exception(type(error), error, error.__traceback__),
                    f"pushforward: process {self.rank} of {self.size} failed, and the others wait for it: the job ends",
                    sep="",
                    file=sys.stderr,
                    flush=True,
                )
                time.sleep(_SECONDS_TO_PASS_ON)
                self._given.Abort(1)
            time.sleep(1e-3)
        if error is None and failed.any():
            raise RuntimeError(f"process {int(failed.argmax())} failed at the end of the fit")

    # -- how a fit begins ----------------------------------------------------------------------------------------

    def prepared(self) -> int:
        """Check that the processes compute the same numbers, and return the threads of this one.

        These are its part of the processors that it shares with others on its machine.
        """
        same(self, **{"the version of pushforward": core.version, "the instruction set": _dispatch.simd_level()})
        node = self._given.Split_type(self._mpi.COMM_TYPE_SHARED)
        try:
            mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
            sharing = node.allgather(mine).count(mine)
        finally:
            node.Free()
        count: int = threads.processors() // sharing
        return max(1, min(threads.default(), count))


def _firsts(counts: Indices) -> Indices:
    firsts: Indices = counts.cumsum() - counts
    return firsts
