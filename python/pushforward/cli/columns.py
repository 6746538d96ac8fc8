"""A model's columns in a table, and its conditions."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pushforward._io import tables
from pushforward._io.many import FilesTable
from pushforward._io.parts import found_files, shown
from pushforward._typing import Array
from pushforward.cli.command import end
from pushforward.flow import Flow

Part: TypeAlias = tuple[tuple[str, ...] | None, int]
"""Names, if there are any, and how many columns."""
Source: TypeAlias = str | list[str]
"""The file of a table or a pattern, or several of these."""


def flow_of_rows(model: str) -> Flow:
    """Read a flow that scores and draws the rows of tables."""
    flow = Flow.load(model)
    if flow.shape is not None:
        raise ValueError(f"{model}: rows of this flow are images of the shape {flow.shape}, not of a table; use Python")
    return flow


def features(flow: Flow) -> Part:
    """Return what a flow models."""
    return flow.columns, flow.dim


def conditions(flow: Flow) -> Part:
    """Return what a flow is conditional on."""
    return flow.context_columns, flow.context


def named(names: Sequence[str] | None, count: int) -> str:
    """Return columns in words."""
    return f"{count} column{'s' * (count > 1)}" + (f": {', '.join(names)}" if names else "")


def find(table: tables.Table, *parts: Part, besides: Sequence[str] = ()) -> list[list[str]]:
    """Find parts of a model's columns in a table.

    They go by name where the model and the table have names, a .npy table those of numbers; else by position, where the
    columns `besides`, and columns of row names, do not count.
    """
    names = [name for part, _ in parts for name in part or ()]
    widths = [width for _, width in parts]
    if len(names) == sum(widths) and (table.named or set(names) <= set(table.columns)):
        return [[table.find(name) for name in part or ()] for part, _ in parts]
    others = [column for column in table.columns if column not in {*besides, *table.row_names}]
    if len(others) != sum(widths):
        expected = " and then ".join(named(*part) for part in parts if part[1])
        raise ValueError(f"{table.name}: {named(None, len(others))}; the model needs {expected}")
    ends = list(itertools.accumulate(widths, initial=0))
    return [others[start:stop] for start, stop in itertools.pairwise(ends)]


@dataclass(frozen=True)
class Selection:
    """Rows of a table, in the columns of a model."""

    x: Array
    context: Array | None
    weights: Array | None


@contextlib.contextmanager
def opened(source: Source, share: Callable[[int], slice] | None = None) -> Iterator[tables.Table]:
    """Open a table of one file, or of several; of these, only the share of the rows that is this process's own."""
    names = found_files(source)
    if len(names) > 1:
        yield FilesTable(names, share)
        return
    with tables.open_table(names[0]) as table:
        yield table


def one_column(part: Array) -> Array:
    """Return a column that was read by itself as (n,), also from many files."""
    column: Array = part[: len(part)][:, 0]
    return column


def read(
    flow: Flow,
    source: Source,
    weights: str | None = None,
    *,
    with_context: bool = True,
    missing: tables.Missing = "refuse",
) -> Selection:
    """Read a model's columns, and one of weights."""
    with opened(source) as table:
        chosen = [] if weights is None else [table.find(weights)]
        parts = [features(flow), conditions(flow)] if with_context else [features(flow), (None, 0)]
        content = content_of(table, [*find(table, *parts, besides=chosen), chosen], missing)
    x, context, w = content.parts
    return Selection(x, context if with_context and flow.context else None, one_column(w) if chosen else None)


def add_drop_missing(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that `missing_of` reads."""
    command.add_argument(
        "--drop-missing",
        action="store_true",
        help="leave out rows with a missing value in a column that is used: an empty cell, NA, NaN, null",
    )


def missing_of(args: argparse.Namespace) -> tables.Missing:
    """Return what to do with rows that have missing values."""
    return "drop" if args.drop_missing else "refuse"


def content_of(
    table: tables.Table, parts: Sequence[Sequence[str]], missing: tables.Missing, labels: str | None = None
) -> tables.Content:
    """Read columns of a table for a command with ``--drop-missing``, and say how many rows are left out."""
    content = tables.read(table, parts, missing, labels, hint="; --drop-missing leaves such rows out")
    if content.dropped:
        rows = content.dropped + len(content.parts[0])
        end(f"{table.name}: {content.dropped:,} of {rows:,} rows are left out, for a missing value", 0)
    return content


def one_condition(flow: Flow, values: Sequence[float]) -> Array:
    """Return the values of ``--context``, if they are as many as the model needs."""
    if not flow.context:
        raise ValueError("--context: the model is not conditional")
    if len(values) != flow.context:
        raise ValueError(f"--context: {len(values)} given; the model needs {named(*conditions(flow))}")
    return np.array(values)


@contextlib.contextmanager
def told_with(source: Source) -> Iterator[None]:
    """Add the name of the table to errors about its rows."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source if isinstance(source, str) else shown(source)}: {error}") from None
