"""What a command is, and what commands have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = """\
A table is a .csv file whose first line names the columns, a .parquet file (with
pyarrow), or a .npy file of shape (rows, columns), whose columns are numbered
from 0. A dash is CSV on standard input or output."""


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


def end(message: str, status: int) -> int:
    """Print the last message, one line on standard error, and return the exit status."""
    if sys.stderr is not None:  # print would take standard output in its place
        print("pushforward:", " ".join(message.split()), file=sys.stderr)
    return status


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given; the package has defaults for the others."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def check_writable(path: str) -> None:
    """Raise, before any work, if the result could not be written."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise ValueError(f"{path}: a folder; a file is expected")
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: the folder {folder} cannot be written to")
