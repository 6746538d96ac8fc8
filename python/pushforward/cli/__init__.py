"""The command line: fit, check, draw, score, sample, fill, describe and convert flows, from tables in files and pipes.

Bad input ends with exit status 2 and one line on standard error, Ctrl-C with 130.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from pushforward import __version__, _process
from pushforward.cli import check, convert, demo, fit, impute, info, plot, sample, score
from pushforward.cli.command import end, shown

_COMMANDS = {
    command.name: command
    for command in (
        fit.COMMAND,
        check.COMMAND,
        plot.COMMAND,
        score.COMMAND,
        sample.COMMAND,
        impute.COMMAND,
        info.COMMAND,
        convert.COMMAND,
        demo.COMMAND,
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments, by default those of the process.

    Returns
    -------
    int
        The exit status: 0, 2 for bad input, 130 after Ctrl-C, 141 if standard output was closed early.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``.

    Examples
    --------
    >>> main(["score", "missing.safetensors", "table.csv"])
    2
    """
    _process.let_interrupts_through()
    try:
        with warnings.catch_warnings(), _streams():
            warnings.showwarning = _show_warning
            args = _parser().parse_args(argv)
            status = _COMMANDS[args.command].run(args) if args.command else _folder(args)
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return end("interrupted", 130)
    except BrokenPipeError:
        _discard_output()
        return 141
    except MemoryError:
        return end("error: not enough memory", 2)
    except OSError as error:
        _discard_output()
        return end(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", 2)
    except (ValueError, TypeError, ImportError) as error:
        return end(f"error: {error}", 2)


class _ClosedOutput(io.TextIOBase):
    """Standard output that is closed: only commands that write to it fail."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "closed", "standard output")


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Let every character be written, in any locale, and stand in for streams that are closed."""
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:
            stack.enter_context(contextlib.redirect_stdout(_ClosedOutput()))
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        if sys.stderr is None:
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        yield


def _discard_output() -> None:
    """Discard what could not be written, which Python would try again, and report, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AttributeError:
        pass


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print("pushforward: warning:", shown(message), file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a ValueError of one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="pushforward",
        description="Normalizing flows: fit a density to a table, look at it, score rows, draw rows.",
        epilog="pushforward COMMAND --help explains a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    folders = parser.add_mutually_exclusive_group()
    for option, folder, what in (("--cmakedir", "cmake", "CMake package"), ("--includes", "include", "C++ headers")):
        folders.add_argument(
            option, dest="folder", action="store_const", const=folder, help=f"print the folder of the {what}"
        )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for command in _COMMANDS.values():
        command.add_arguments(
            subparsers.add_parser(
                command.name,
                help=command.summary,
                description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.text}",
                epilog=f"examples:\n{command.examples}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    return parser


def _folder(args: argparse.Namespace) -> int:
    if args.folder is None:
        *names, last = _COMMANDS
        raise ValueError(f"a command is needed: {', '.join(names)} or {last}; see pushforward --help")
    print(Path(__file__).parents[1] / args.folder)
    return 0
