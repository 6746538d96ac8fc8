"""A fit by the workers of a cluster, seen from the client."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask
import numpy as np

from pushforward import _checks
from pushforward._fit import workers as group
from pushforward._fit.options import Options
from pushforward._io import shares
from pushforward._warn import warn
from pushforward.dask import tasks
from pushforward.dask.tables import aligned, conditions, parts_of, table
from pushforward.flow import Flow

# A larger table is mapped from files, as one process maps a table that is larger than memory. The size of the table
# decides, and not the memory of the workers: the bits of a fit depend on it.
_MOST_BYTES_IN_MEMORY = 1 << 28
# How often a client looks after the workers of a fit, and how long others may go on after one has ended.
_SECONDS_TO_LOOK = 0.5
_SECONDS_TO_AGREE = 10.0

_Tasks = list[tuple[str, Any]]
"""Futures, each with the address of the worker that does it."""


def fit(client: Any, flow: Flow, x: Any, context: Any = None, weights: Any = None, **options: Any) -> Flow:
    """Fit a flow by maximum likelihood to a table whose partitions are on the workers of a cluster.

    The workers are the processes of one fit, as those of ``Flow.fit(comm=...)``: they compute the gradient of each
    minibatch together. Each takes the partitions that it has, and none gets the whole table, but for the window that is
    being shuffled. The result is that of one process with all rows in the same order, to the last bit, for any number
    of workers and threads.

    The partitions of a persisted table stay on the workers that hold them, also if they are transformed one by one
    before the fit. The rows are then in the order of the workers' shares: first all partitions of the worker that holds
    the first one, in their order, then those of the worker that holds the first partition left, and so on. Of any other
    table each worker computes a run of neighbouring partitions, and the rows are in the order of the table.

    Each worker writes its share to files in its local directory, which are removed at the end. A share of a table of up
    to 256 MB is then read into memory; that of a larger one is mapped, and the result is that of one process with a
    memory map.

    Parameters
    ----------
    client : distributed.Client
        The cluster. Its workers must be processes, which have pushforward and can connect with one another.
    flow : Flow
        The flow, fitted in place.
    x : (n, dim) dask.array.Array, or dask.dataframe.DataFrame
        Rows of data. The number of rows may be unknown.
    context : (n, context) array or DataFrame of Dask, optional
        Their conditions, in as many partitions.
    weights : (n,) array or Series of Dask, optional
        Non-negative weights of the rows; the scale does not matter.
    **options
        Those of `Flow.fit`, but for `comm`, `groups` and `progress`. Validation rows are arrays of NumPy. The callback
        runs in every worker. Paths are those of the workers' machines: the first worker writes the checkpoint, and all
        read one that they resume.

    Returns
    -------
    Flow
        The flow itself.

    Raises
    ------
    TypeError, ValueError
        Before any work, if an argument is of another type or shape; or as `Flow.fit`.
    RuntimeError
        If a worker is lost, has not begun within a minute, or raises an exception of another kind. The flow is at its
        best state so far, if the first worker is still there.
    KeyboardInterrupt
        If Ctrl-C was pressed. The flow is at its best state so far.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> from pushforward.dask import fit
    >>> client = Client("tcp://scheduler:8786")  # doctest: +SKIP
    >>> fit(client, Flow(6), da.from_zarr("table.zarr"), batch_size=8192)  # doctest: +SKIP
    """
    client = _checked_client(client)
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a Flow, not {type(flow).__name__}")
    _check_options(options)
    x = table(x, flow.dim, "x", flow.columns)
    context = conditions(context, flow, x)
    if weights is not None:
        weights = aligned(weights, 0, "weights", x)
    workers = _workers_of(client, x)
    addresses = list(dict.fromkeys(workers))
    if len(addresses) > 1 and any(address.startswith("inproc://") for address in addresses):
        raise ValueError("the workers are threads of one process; a fit needs processes, as of Client(processes=True)")
    twin = copy.deepcopy(flow)
    twin.columns = flow.columns or _checks.column_names(x)
    twin.context_columns = flow.context_columns or _checks.column_names(context)
    return _Fit(client, addresses).run(flow, twin, workers, (x, context, weights), options)


def _checked_client(client: Any) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise ImportError('fits by workers need distributed: pip install "pushforward[dask]"') from None
    if not isinstance(client, Client):
        raise TypeError(f"client must be a distributed.Client, not {type(client).__name__}")
    if client.asynchronous:
        raise TypeError("client must not be asynchronous")
    return client


def _check_options(options: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(Options)} - {"progress"}
    for name in options:
        if name not in known:
            _checks.choice("an option", name, sorted(known), note="those of fits by workers")
    # Paths are those of the workers' machines.
    Options(**{name: value for name, value in options.items() if name not in ("checkpoint", "resume")}, progress=False)
    validation = options.get("validation")
    parts = validation if isinstance(validation, tuple) else (validation,)
    if any(dask.is_dask_collection(part) for part in parts):
        raise TypeError("validation rows must be arrays of NumPy, not of Dask")


def _workers_of(client: Any, x: Any) -> list[str]:
    """Return the address of a worker for each partition: one that holds what it is made of, or else in equal runs."""
    from distributed import futures_of, wait

    keys = list(dask.core.flatten(x.__dask_keys__()))
    futures = {future.key: future for future in futures_of(x)}
    if futures:
        wait(list(futures.values()))
        holders = client.who_has(list(futures.values()))
        graph, counts = dict(x.__dask_graph__()), Counter[str]()
        chosen = []
        for key in keys:
            found = Counter(address for made_of in _held(graph, key, futures) for address in holders.get(made_of, ()))
            if not found:
                break
            chosen.append(min(sorted(found), key=lambda address: (-found[address], counts[address])))
            counts[chosen[-1]] += 1
        else:
            return chosen
    addresses = sorted(client.nthreads())
    if not addresses:
        raise ValueError("the cluster has no workers")
    runs = np.array_split(np.arange(len(keys)), min(len(addresses), len(keys)))
    return [address for address, run in zip(addresses, runs, strict=False) for _ in run]


def _held(graph: Mapping[Any, Any], key: Any, futures: Mapping[Any, Any]) -> list[Any]:
    """Return the keys that are on the cluster of what a partition is made of."""
    found, seen, left = [], {key}, [key]
    while left:
        key = left.pop()
        if key in futures:
            found.append(key)
            continue
        new = dask.core.get_dependencies(graph, key) - seen
        seen |= new
        left += new
    return found


class _Fit:
    """A fit by workers, seen from the client.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    addresses : list of str
        The workers, in the order of their shares.
    """

    def __init__(self, client: Any, addresses: list[str]) -> None:
        self._client, self._addresses = client, addresses
        self._name = f"pushforward-{uuid.uuid4().hex}"

    def run(self, flow: Flow, twin: Flow, workers: list[str], arrays: Sequence[Any], options: dict[str, Any]) -> Flow:
        """Fit the twin on the workers, and give its state to the flow."""
        name, addresses = self._name, self._addresses
        widths, columns = (flow.dim, flow.context, 0), (twin.columns, twin.context_columns)
        numbers = [[i for i, worker in enumerate(workers) if worker == address] for address in addresses]
        try:
            whole, parts = self._written(numbers, arrays, widths, columns)
            mapped = whole.rows * flow.dim * np.dtype(whole.types[0]).itemsize > _MOST_BYTES_IN_MEMORY
            self._results(self._submitted(tasks.join, zip(numbers, parts, strict=True)))
            places = self._client.run(group.opened, name, workers=addresses)
            shared = (twin, {address: places[address] for address in addresses}, widths, mapped, options)
            own = ((rank, part, *shared) for rank, part in enumerate(parts))
            return self._fitted(flow, self._submitted(tasks.fit_share, own))
        finally:
            self._end()

    def _submitted(self, task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> _Tasks:
        """Submit a task to each worker, with the arguments for it."""
        client, kept = self._client, {"allow_other_workers": False, "pure": False}
        return [
            (address, client.submit(task, self._name, *own, workers=[address], **kept))
            for address, own in zip(self._addresses, arguments, strict=True)
        ]

    def _written(
        self, numbers: list[list[int]], arrays: Sequence[Any], widths: Sequence[int], columns: Sequence[Any]
    ) -> tuple[shares.Arrays, list[shares.Arrays]]:
        """Let the workers write their partitions; return what all are together, and those of each worker."""
        pieces = list(zip(*(parts_of(array, sum(map(len, numbers))) for array in arrays), strict=True))
        write = dask.delayed(tasks.write, pure=False)
        written: list[_Tasks] = []
        for address, own in zip(self._addresses, numbers, strict=True):
            calls = [write(self._name, i, *pieces[i], widths, columns) for i in own]
            futures = self._client.compute(calls, workers=[address], allow_other_workers=False)
            written.append([(address, future) for future in futures])
        self._results([task for own in written for task in own])
        found = [self._results(own) for own in written]
        types = {part.types for own in found for part in own if part.rows}
        if not types:
            raise ValueError("x has no rows")
        if len(types) > 1:
            raise ValueError(f"the partitions have different types: {', '.join(sorted(map(str, types)))}")
        (known,) = types
        parts = [shares.Arrays(sum(part.rows for part in own), known) for own in found]
        return shares.Arrays(sum(part.rows for part in parts), known), parts

    def _results(self, given: _Tasks) -> list[Any]:
        """Return the results of tasks, or raise what one of them raises."""
        lost = self._wait(given)
        failed = [future for _, future in given if future.status not in ("pending", "finished")]
        if failed:
            failed[0].result()  # raises
        if lost:
            raise RuntimeError(_of_lost(lost))
        results: list[Any] = self._client.gather([future for _, future in given])
        return results

    def _wait(self, given: _Tasks, seconds: float = 0.0, *, end_together: bool = False) -> set[str]:
        """Wait for tasks, and for so long after one has failed, or ended; return the workers that are lost."""
        from distributed import wait

        going_on = ("pending",) if end_together else ("pending", "finished")
        lost: set[str] = set()
        deadline = math.inf
        while time.monotonic() < deadline:
            pending = [future for address, future in given if future.status == "pending" and address not in lost]
            if not pending:
                break
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                wait(pending, _SECONDS_TO_LOOK)
            lost = {address for address, _ in given} - set(self._client.nthreads())
            if lost or any(future.status not in going_on for _, future in given):
                deadline = min(deadline, time.monotonic() + seconds)
        return lost

    def _fitted(self, flow: Flow, fits: _Tasks) -> Flow:
        """Wait for the fits, and take what the first worker returns."""
        interrupted = False
        while True:
            try:
                lost = self._wait(fits, _SECONDS_TO_AGREE, end_together=True)
                break
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._client.run(group.interrupt, self._name, workers=self._addresses)
        outcomes = [future.result() for _, future in fits if future.status in ("finished", "error")]
        first = outcomes[0] if fits[0][1].status == "finished" else None
        if first is not None:
            for text in first.warnings:
                warn(text)
            if first.flow is not None:
                flow.__setstate__(first.flow.__getstate__())
        if lost:
            raise RuntimeError(_of_lost(lost))
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        if first is None:
            raise RuntimeError(f"the worker at {self._addresses[0]} did not end the fit")
        return flow

    def _end(self) -> None:
        """End what goes on, and remove what there is of the shares, on all workers that are still there."""
        with contextlib.suppress(OSError, TimeoutError):
            left = [address for address in self._addresses if address in self._client.nthreads()]
            self._client.run(tasks.clean, self._name, workers=left)


def _of_lost(addresses: set[str]) -> str:
    return f"the worker at {' and that at '.join(sorted(addresses))} was lost"
