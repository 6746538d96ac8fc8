"""Writing files: one that is replaced is replaced whole or not at all, and nothing but a file is replaced."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pushforward._typing import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The name does not grow with that of the file, which may be as long as names can be.
_TEMPORARY = ".pushforward-{}.tmp"
_IS_TEMPORARY = re.compile(re.escape(_TEMPORARY).replace(re.escape("{}"), "[0-9a-f]{16}"))
_BINARY = getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file for writing that appears, or replaces another, at the end: whole, or not at all.

    Links are followed, and a file that is replaced keeps its mode. A pipe, a device and standard output are written to
    as they are.
    """
    before = found(path)
    if before is not None and (_is_standard_output(before) or not stat.S_ISREG(before.st_mode)):
        handle = os.dup(1) if _is_standard_output(before) else os.open(path, os.O_WRONLY | _BINARY)
        with os.fdopen(handle, "wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        while True:
            temporary = target.with_name(_TEMPORARY.format(secrets.token_hex(8)))
            handle = _create(temporary, path, before)
            if _is_kept(handle, temporary):
                break
            os.close(handle)
        with os.fdopen(handle, "wb") as file:
            _remove_abandoned(target.parent)
            yield file
            file.flush()
            if before is not None:
                _take_over(temporary, before)
            os.fsync(handle)
            if sys.platform == "win32":
                file.close()  # an open file cannot be moved there
            os.replace(temporary, target)
            temporary = None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write(path: PathLike, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def write_figure(path: PathLike, figure: Figure, kind: str) -> None:
    """Write a plot to a file, whole or not at all, as a kind of picture such as png."""
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=150)
    write(path, picture.getvalue())


def found(path: PathLike) -> os.stat_result | None:
    """Return what is at a path, behind links, or None if there is nothing; raise OSError if it cannot be written to."""
    try:
        result = os.stat(path)
    except FileNotFoundError:
        return None
    mode = result.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder; a file is expected", os.fspath(path))
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        what = "a disk" if stat.S_ISBLK(mode) else "a socket"
        raise OSError(errno.EINVAL, f"{what}, which is not written to; a file is expected", os.fspath(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written to", os.fspath(path))
    return result


def _is_standard_output(found: os.stat_result) -> bool:
    """Whether this is what standard output goes to, as /dev/stdout is: that must not be replaced while it is open."""
    try:
        return os.path.samestat(found, os.fstat(1))
    except OSError:  # it is closed
        return False


def _create(temporary: Path, path: PathLike, before: os.stat_result | None) -> int:
    """Create a temporary file beside a path. The system applies the umask; what is private is so from the start."""
    try:
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666 if before is None else 0o600)
    except OSError as error:  # about the path that was given
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _take_over(temporary: Path, before: os.stat_result) -> None:
    """Give a file the owner and the mode of the one that it is going to replace."""
    now = os.stat(temporary)
    if hasattr(os, "chown") and (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(OSError):  # not everybody may give files away
            os.chown(temporary, before.st_uid, before.st_gid)
    os.chmod(temporary, stat.S_IMODE(before.st_mode))


# -- what a killed process leaves ----------------------------------------------------------------------------------
#
# A process locks its temporary file for as long as it writes to it. The system drops the lock when the process ends,
# also if it is killed; so what can be locked is nobody's. Without such locks, on Windows and on some file systems,
# nothing is removed.


def _is_kept(handle: int, temporary: Path) -> bool:
    """Lock a temporary file; return whether it is still there, or another process was faster and removed it."""
    _lock(handle, wait=True)
    try:
        return os.path.samestat(os.fstat(handle), os.stat(temporary))
    except FileNotFoundError:
        return False


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _IS_TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if _lock(handle, wait=False):
            os.unlink(path)
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock a file, and wait for it or not where another process has it; return whether it is locked now."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
