"""What several processes do when something goes wrong in one of them, whatever they communicate through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

from pushforward._group import Group
from pushforward.errors import FileFormatError

_FAILED, _INTERRUPTED = 1, 2
# What a process raises if one of these ended another; any other is a RuntimeError.
_KINDS = (FileFormatError, ValueError, TypeError, OSError, MemoryError, KeyboardInterrupt)


class Several(Group):
    """Processes that agree on errors and interruptions by `collected`."""

    def __init__(self) -> None:
        self._interrupted = False
        self._told: BaseException | None = None
        """The exception that all processes know of."""

    def status(self, error: BaseException | None) -> int:
        """Return what the others have to know: 0, or another number if they have to end with this process."""
        return _FAILED if error is not None else _INTERRUPTED if self._interrupted else 0

    def end(self, error: BaseException | None) -> NoReturn:
        """Raise in all processes, of which at least one has an error, or an interruption."""
        if error is None and self._interrupted:
            error = KeyboardInterrupt()
        found = self.collected(None if error is None else (_kind(error), str(error)))
        if error is None:
            rank, (kind, text) = next((i, entry) for i, entry in enumerate(found) if entry is not None)
            error = kind(f"process {rank}: {text}" if text else f"in process {rank}")
        self._told = error
        raise error

    @contextlib.contextmanager
    def agree(self) -> Iterator[None]:
        """Do work without the others: if it fails in one process, it raises in all of them."""
        found: BaseException | None = None
        try:
            yield
        except BaseException as error:
            found = error
        if any(self.collected(self.status(found))):
            self.end(found)


def _kind(error: BaseException) -> type[BaseException]:
    return next((kind for kind in _KINDS if isinstance(error, kind)), RuntimeError)
