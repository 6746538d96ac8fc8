"""How many threads a call may use."""

from __future__ import annotations

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._warn import warn

_MOST = 4096  # what the core takes
_warned = False


def default() -> int:
    """Return the default number of threads, taken from OpenMP's settings."""
    return int(core.default_threads())


def processors() -> int:
    """Return the number of processors that this process may use."""
    return int(core.processors())


def check(name: str, value: object) -> int:
    """Return a number of threads; the first that is above the number of processors is warned of."""
    global _warned
    count = _checks.integer(name, value, 1, _MOST)
    if count > processors() and not _warned:
        _warned = True
        warn(
            f"{name} is {count}, but this process may use {processors()} processor{'s' * (processors() > 1)}: more "
            "threads than processors make calls no faster"
        )
    return count
