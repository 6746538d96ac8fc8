"""Workers of a Dask cluster that fit one flow together.

Each two workers have a connection of their own, by `distributed.comm`, with the protocol and the security of the
cluster. `opened` makes a worker listen; after that, a task on each worker joins the others. Messages are exchanged on
the worker's event loop, and the task waits for them in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

from pushforward import _dispatch
from pushforward._dispatch import core
from pushforward._fit.several import Several
from pushforward._group import same
from pushforward._model import threads
from pushforward._typing import Array, Indices

T = TypeVar("T")

# How long the tasks of a fit wait for one another at its beginning: a worker may have other tasks to end first. Two
# fits on the same workers could wait for each other without an end.
_SECONDS_TO_MEET = 60.0
_SECONDS_TO_CLOSE = 10.0
_DATA, _ERROR = "data", "error"

_open: dict[str, Workers] = {}
"""The groups of this process, by the names of their fits."""


class LostError(RuntimeError):
    """Another process has left the fit."""


class Workers(Several):
    """The workers that fit one flow.

    Parameters
    ----------
    worker : distributed.Worker
        The worker of this process.
    name : str
        The name of the fit, which connections of others have to know.
    """

    def __init__(self, worker: Any, name: str) -> None:
        super().__init__()
        self._worker, self._name = worker, name
        self._comms: dict[int, Any] = {}
        self._heard: set[int] = set()
        self._arrived = asyncio.Event()

    # -- connections ---------------------------------------------------------------------------------------------

    async def listen(self) -> str:
        """Accept connections; return the address that others can reach."""
        from distributed import comm as comms

        protocol, _ = comms.parse_address(self._worker.address)
        host = comms.get_address_host(self._worker.address)
        options = self._worker.security.get_listen_args("worker")
        self._listener = await comms.listen(f"{protocol}://{comms.unparse_host_port(host)}", self._accept, **options)
        address: str = self._listener.contact_address
        return address

    async def _accept(self, comm: Any) -> None:
        with contextlib.suppress(OSError):
            name, rank = await comm.read()
            if name == self._name:
                self._comms[rank] = comm
                self._arrived.set()
                return
        comm.abort()

    def join(self, rank: int, places: Mapping[str, str]) -> Workers:
        """Be the process of this number; `places` has, in order, the address of each worker and where it listens."""
        self.rank, self.size = rank, len(places)
        self._addresses, self._places = list(places), list(places.values())
        return self

    def interrupt(self) -> None:
        """End the fit in all processes when they are at the same place."""
        self._interrupted = True

    async def close(self) -> None:
        """Close all connections. What was sent before still arrives, if the others take it within some seconds."""
        self._listener.stop()
        closing = asyncio.gather(*(comm.close() for comm in self._comms.values()), return_exceptions=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(closing, _SECONDS_TO_CLOSE)
        for comm in self._comms.values():
            comm.abort()

    async def _meet(self) -> None:
        """Connect with all others, and wait until each of them has begun."""
        try:
            await asyncio.wait_for(self._connect(), _SECONDS_TO_MEET)
        except (asyncio.TimeoutError, OSError):
            late = sorted({*range(self.size)} - self._heard - {self.rank})
            ranks, addresses = ", ".join(map(str, late)), ", ".join(self._addresses[rank] for rank in late)
            raise LostError(
                f"process {ranks} of {self.size} has not begun within {_SECONDS_TO_MEET:g} seconds: its worker at "
                f"{addresses} is lost, or busy with other tasks"
            ) from None

    async def _connect(self) -> None:
        from distributed.comm import connect

        options = self._worker.security.get_connection_args("worker")
        for rank, place in enumerate(self._places[: self.rank]):
            self._comms[rank] = await connect(place, timeout=_SECONDS_TO_MEET, **options)
            await self._comms[rank].write((self._name, self.rank))
        while len(self._comms) < self.size - 1:
            self._arrived.clear()
            await self._arrived.wait()
        # A worker accepts connections before its task begins: wait for a message from each task.
        await self._swapped([b""] * self.size)

    async def _swapped(self, messages: Sequence[bytes]) -> list[bytes]:
        """Send message i to process i, and return what each process sent to this one."""

        async def swap(rank: int) -> bytes:
            if rank == self.rank:
                return messages[rank]
            try:
                await self._comms[rank].write((_DATA, messages[rank]))
                kind, found = await self._comms[rank].read()
            except OSError:
                raise LostError(
                    f"process {rank} of {self.size} has left the fit: the connection to its worker, at "
                    f"{self._addresses[rank]}, is closed"
                ) from None
            if kind == _ERROR:
                raise LostError(found)
            self._heard.add(rank)
            message: bytes = found
            return message

        return await asyncio.gather(*map(swap, range(self.size)))

    async def _tell(self, text: str) -> None:
        """Let the others know of an error when they next read a message."""
        told = (comm.write((_ERROR, text)) for comm in self._comms.values())
        await asyncio.gather(*told, return_exceptions=True)

    def _sync(self, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        from distributed.utils import sync

        found: T = sync(self._worker.loop, call, *arguments)
        return found

    # -- small objects and arrays --------------------------------------------------------------------------------

    def collected(self, value: T) -> list[T]:
        """Return one small object of each process."""
        found = self._sync(self._swapped, [pickle.dumps(value)] * self.size)
        return [value if rank == self.rank else pickle.loads(data) for rank, data in enumerate(found)]

    def of_first(self, value: T) -> T:
        """Return a small object of the first process."""
        found: Any = self.collected(value if self.is_first else None)
        first: T = found[0]
        return first

    def sum(self, counts: Indices) -> Indices:
        """Return the sum of integers over the processes, entry by entry."""
        total: Indices = np.sum(self.collected(counts), axis=0, dtype=counts.dtype)
        return total

    def least(self, values: Array) -> Array:
        """Return the least of the processes' values, entry by entry."""
        found: Array = np.min(self.collected(values), axis=0)
        return found

    def greatest(self, values: Array) -> Array:
        """Return the greatest of the processes' values, entry by entry."""
        found: Array = np.max(self.collected(values), axis=0)
        return found

    def joined(self, rows: Array) -> Array:
        """Return the rows of all processes, in their order."""
        return np.concatenate(self.collected(rows))

    # -- buffers -------------------------------------------------------------------------------------------------

    def exchanged(self, rows: Array, to: Indices, by: Indices) -> Array:
        """Send rows, `to[i]` of them to process i, in their order; return those that came, `by[i]` from process i."""
        found = self._sync(self._swapped, _cut(rows, to))
        result: Array = np.frombuffer(b"".join(found), rows.dtype).reshape(int(by.sum()), *rows.shape[1:])
        return result

    def gather(self, own: Array, all_of_them: Array, counts: Indices) -> None:
        """Write the arrays of all processes, of `counts[i]` entries each; `own` may be in its place among them."""
        _write(all_of_them, self._sync(self._swapped, [own.tobytes()] * self.size), counts)

    def swap(self, own: Array, to: Indices, theirs: Array, by: Indices) -> None:
        """Send `to[i]` entries of an array to process i, and write those that come, `by[i]` from process i."""
        _write(theirs, self._sync(self._swapped, _cut(own, to)), by)

    # -- how a fit begins and ends -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do all work of a fit. If a process leaves it by an exception of its own, the others do not wait for it."""
        try:
            self._sync(self._meet)
            yield
            self.collected(None)  # another may fail at the end
        except BaseException as error:
            if error is not self._told:
                text = str(error) or type(error).__name__
                self._sync(self._tell, text if isinstance(error, LostError) else f"process {self.rank}: {text}")
            raise
        finally:
            self._sync(self.close)

    def prepared(self) -> int:
        """Check that the processes compute the same numbers; return the threads of the worker."""
        same(self, **{"the version of pushforward": core.version, "the instruction set": _dispatch.simd_level()})
        own: int = self._worker.state.nthreads
        return max(1, min(own, threads.processors()))


# What is sent is a copy: a message may still be on its way when the next step writes to the buffer.


def _cut(array: Array, counts: Indices) -> list[bytes]:
    return [part.tobytes() for part in np.split(array, counts.cumsum()[:-1])]


def _write(array: Array, parts: Sequence[bytes], counts: Indices) -> None:
    ends = accumulate(map(int, counts))
    for part, count, end in zip(parts, map(int, counts), ends, strict=True):
        array[end - count : end] = np.frombuffer(part, array.dtype)


# -- what a client calls in every worker, by `client.run` ------------------------------------------------------------


async def opened(name: str, dask_worker: Any) -> str:
    """Begin to listen for the other workers of a fit; return the address."""
    group = Workers(dask_worker, name)
    address = await group.listen()
    _open[name] = group
    return address


def group_of(name: str) -> Workers:
    """Return the group of a fit in this process."""
    if name not in _open:
        raise LostError("the fit has ended")
    return _open[name]


async def interrupt(name: str) -> None:
    """Interrupt a fit."""
    if name in _open:
        _open[name].interrupt()


async def closed(name: str) -> None:
    """Close the connections of a fit, which ends it where it still goes on."""
    group = _open.pop(name, None)
    if group is not None:
        await group.close()
