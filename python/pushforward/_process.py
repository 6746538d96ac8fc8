"""What is settled before anything large is imported: which interpreter this is, and how Ctrl-C ends a command."""

from __future__ import annotations

import importlib
import os
import signal
import sys


def _refuse_subinterpreters() -> None:
    for name in ("_interpreters", "_xxsubinterpreters"):  # since Python 3.13, and before
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError("pushforward runs in Python's main interpreter only, not in a sub-interpreter")
        return


def _is_command() -> bool:
    """Whether the package is imported by its own command, or by ``python -m pushforward``."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        words = sys.orig_argv
        return words[words.index("-m") + 1 :][:1] == ["pushforward"] if "-m" in words else False
    return os.path.splitext(os.path.basename(program))[0] == "pushforward"


def _end(*_: object) -> None:
    os.write(2, b"pushforward: interrupted\n")
    os._exit(130)


def let_interrupts_through() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, once a command is there to catch it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_refuse_subinterpreters()
# The import takes tenths of a second, in which Ctrl-C would print a traceback. Where Ctrl-C is ignored it stays so.
if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
