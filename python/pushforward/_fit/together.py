"""Several fits at a time, in threads: the core runs without the interpreter's lock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait

# How long a Ctrl-C may wait where a wait without an end cannot be interrupted.
_SECONDS = 0.2

Job = Callable[[Callable[[], None]], object]
"""A fit. It calls its argument now and then, which raises `StoppedError` if the fit must end."""


class StoppedError(Exception):
    """Ends a fit, because another one failed or Ctrl-C was pressed."""


def run(jobs: Sequence[Job], workers: int) -> None:
    """Run jobs, at most `workers` at a time; with one worker, one after the other in the calling thread.

    If a job raises an exception, or Ctrl-C is pressed, no other job begins, those that have begun are stopped, and the
    exception is raised.
    """
    if workers == 1:
        for job in jobs:
            job(lambda: None)
        return
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise StoppedError

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(job, check) for job in jobs]
        try:
            pending: set[Future[object]] = set(futures)
            while pending:
                done, pending = wait(pending, _SECONDS, FIRST_EXCEPTION)
                if any(future.exception() is not None for future in done):
                    break
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    for future in futures:
        with contextlib.suppress(CancelledError, StoppedError):
            future.result()


class Clock:
    """Shares out the time of several fits, a number of them at a time.

    Parameters
    ----------
    seconds : float or None
        The time of all of them together; None for no limit.
    fits, workers : int
        How many there are, and how many run at a time.
    """

    def __init__(self, seconds: float | None, fits: int, workers: int) -> None:
        self._end = None if seconds is None else time.perf_counter() + seconds
        self._waiting, self._workers = fits, workers
        self._lock = threading.Lock()

    def next(self) -> float | None:
        """Return the seconds of the fit that begins now."""
        with self._lock:
            rounds = -(-self._waiting // self._workers)
            self._waiting -= 1
        # A fit needs some time: it then makes one step.
        return None if self._end is None else max((self._end - time.perf_counter()) / rounds, 1e-3)
