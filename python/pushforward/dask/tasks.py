"""What the workers of a cluster do for a fit."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._fit import workers
from pushforward._io import shares
from pushforward._model.state import state_of
from pushforward._typing import Doubles
from pushforward.flow import Flow


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker returns of a fit: its flow, if it is the first and has begun, and what was raised."""

    flow: Flow | None
    error: BaseException | None
    warnings: list[str]


def _folder(name: str) -> str:
    from distributed import get_worker

    return os.path.join(get_worker().local_directory, name)


def write(
    name: str, number: int, x: Any, context: Any, weights: Any, widths: Sequence[int], columns: Sequence[Any]
) -> shares.Arrays:
    """Write a partition to the files of the worker's share."""
    table = _checks.table(x, widths[0], "x", columns=columns[0])
    conditions = None if context is None else _checks.condition(context, widths[1], len(table), columns[1])
    found: Doubles | None = None if weights is None else _checks.raw_weights(weights, len(table))
    return shares.write(_folder(name), number, (table, conditions, found))


def join(name: str, numbers: Sequence[int], arrays: shares.Arrays) -> None:
    """Join the partitions of the worker's share."""
    shares.join(_folder(name), numbers, arrays)


def fit_share(
    name: str,
    rank: int,
    arrays: shares.Arrays,
    flow: Flow,
    places: Mapping[str, str],
    widths: Sequence[int],
    mapped: bool,
    options: dict[str, Any],
) -> Outcome:
    """Fit with the other workers. Exceptions are returned: Dask lets one that is interrupted end the worker."""
    before: Any = flow.history
    error: BaseException | None = None
    if rank and "validation" in options:
        options = {**options, "validation": _no_rows(options["validation"])}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x, context, weights = shares.read(_folder(name), arrays, widths, mapped=mapped)
            group = workers.group_of(name).join(rank, places)
            own: Any = group  # the signature has a communicator of MPI
            threads = state_of(flow).threads
            if group.size == 1:  # a fit by one process asks its group for nothing
                options = {**options, "callback": _interruptible(group, options.get("callback"))}
                state_of(flow).threads = threads or group.prepared()
            try:
                flow.fit(x, context=context, weights=weights, progress=False, comm=own, **options)
            finally:
                state_of(flow).threads = threads
    except BaseException as raised:
        error = raised.with_traceback(None)
    seen = [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]
    has_begun = rank == 0 and flow.history is not before
    return Outcome(flow if has_begun else None, error, seen if rank == 0 else [])


def _interruptible(group: workers.Workers, callback: Callable[..., object] | None) -> Callable[..., object]:
    """Return the callback of a worker by itself, which looks for an interruption after each epoch only."""

    def call(flow: Flow, epoch: Any) -> object:
        if group.status(None):
            raise KeyboardInterrupt
        return callback is not None and callback(flow, epoch)

    return call


def _no_rows(validation: Any) -> Any:
    """Return validation rows without rows: the first worker has them all."""
    if isinstance(validation, tuple):
        return tuple(None if part is None else np.asarray(part)[:0] for part in validation)
    return validation if validation is None or np.ndim(validation) == 0 else np.asarray(validation)[:0]


async def clean(name: str, dask_worker: Any) -> None:
    """End what goes on of a fit, and remove the worker's share."""
    await workers.closed(name)
    shares.remove(os.path.join(dask_worker.local_directory, name))
