"""What a command is, and what commands have in common."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pushforward._fit.optimizer import Adam
from pushforward._io import output

TABLE = """\
A table is a .csv file whose first line names the columns, a .parquet file (with
pyarrow), or a .npy file of shape (rows, columns), whose columns are numbered
from 0. A dash is CSV on standard input or output."""

TABLES = f"""\
{TABLE} Several .npy or
.parquet files with the same columns are one table that may be larger than
memory; a pattern in quotes, such as 'part-*.npy', stands for the files that
match, in the order of their names."""


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Parameters
    ----------
    name, summary, text, examples : str
        What its help says.
    add_arguments : callable
        Adds its arguments to its parser.
    run : callable
        Runs it with its arguments, and returns the exit status.
    """

    name: str
    summary: str
    text: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class _Collected(argparse.Action):
    """Stores one value by itself, and several as a list."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, values if len(values) > 1 else values[0])


def add_tables(command: argparse.ArgumentParser, text: str) -> None:
    """Add the argument of a table, which may be several files: a string, or a list of them."""
    command.add_argument("table", metavar="TABLE", nargs="+", action=_Collected, help=text)


def end(message: str, status: int) -> int:
    """Print the last message, one line on standard error, and return the exit status."""
    if sys.stderr is not None:  # print would take standard output in its place
        print("pushforward:", shown(" ".join(message.split())), file=sys.stderr)
    return status


def shown(text: object) -> str:
    """Return text as a terminal may show it: a name in a file could hold characters that control the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given; the package has defaults for the others."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def optimizer(args: argparse.Namespace) -> Adam:
    """Return the optimiser of a fit; what is not given has its default."""
    return Adam(
        **{name: value for name in ("learning_rate", "weight_decay") if (value := getattr(args, name)) is not None}
    )


def check_output(path: str, *inputs: str | None, option: str = "-o") -> None:
    """Raise, before any work, if the result could not be written, or would replace a file that is read.

    A dash is standard output as `path`, and standard input as one of `inputs`.
    """
    if path != "-":
        _check_writable(path)
    for other in inputs:
        if other is not None and _are_one(path, other):
            shown, source = ("standard output" if path == "-" else path), ("standard input" if other == "-" else other)
            raise ValueError(f"{option}: {shown} is the same file as {source}, which would be lost; give another name")


def _check_writable(path: str) -> None:
    found = output.found(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        return  # a pipe or a device is written to where it is
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: the folder {folder} cannot be written to")


def _are_one(path: str, other: str) -> bool:
    """Whether an output and an input are one file, by whatever name. A pipe or a terminal may be both."""
    if "-" not in (path, other) and os.path.realpath(path) == os.path.realpath(other):
        return not os.path.exists(path) or os.path.isfile(path)
    try:
        first = os.fstat(1) if path == "-" else os.stat(path)
        second = os.fstat(0) if other == "-" else os.stat(other)
    except OSError:
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)
