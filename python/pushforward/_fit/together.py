"""Several fits at a time, in threads: the core runs without the interpreter's lock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

# Windows does not interrupt a wait without an end: Ctrl-C waits for so long.
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

    def guarded(job: Job) -> None:
        check()
        try:
            job(check)
        except BaseException:
            stop.set()
            raise

    interrupted: BaseException | None = None
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(guarded, job) for job in jobs]
            pending: set[Future[None]] = set(futures)
            while pending:
                try:
                    if interrupted is not None:
                        stop.set()
                    _, pending = wait(pending, _SECONDS)
                except KeyboardInterrupt as error:  # once more while the fits end: they still do
                    interrupted = error
        finally:
            stop.set()
    if interrupted is not None:
        raise interrupted
    for future in futures:
        with contextlib.suppress(StoppedError):
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
        self._left, self._workers = fits, workers
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def share(self) -> Iterator[float | None]:
        """Yield the seconds of a fit that runs within this context."""
        with self._lock:
            # Fits that run beside this one count too: they are of the same round.
            rounds = -(-self._left // self._workers)
        # A fit that comes too late still needs some time: it then makes one step.
        yield None if self._end is None else max((self._end - time.perf_counter()) / rounds, 1e-3)
        with self._lock:
            self._left -= 1
