"""``pushforward sample``: rows drawn from a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from pushforward._io import files, tables
from pushforward._model.state import sample_key, state_of
from pushforward._typing import Array
from pushforward.cli import columns, mixed, values
from pushforward.cli.command import TABLE, Command, check_output
from pushforward.flow import Flow

# Samples are drawn and written this many rows at a time: a pipe gets its first rows at once.
_BLOCK_ROWS = 1 << 16


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    command.add_argument(
        "-n",
        metavar="N",
        type=values.integer(0),
        help="number of rows to draw; with --context-table, for each of its rows, where the default is 1",
    )
    command.add_argument("-o", "--output", metavar="FILE", default="-", help="table to write (default: -)")
    command.add_argument("--seed", metavar="N", type=values.integer(0), help="seed of the random numbers")
    condition = command.add_mutually_exclusive_group()
    condition.add_argument(
        "--context", metavar="C,D,...", type=values.numbers, help="condition of all rows (--context=-1,2 if negative)"
    )
    condition.add_argument("--context-table", metavar="TABLE", help="conditions, one per row")


def _run(args: argparse.Namespace) -> int:
    tables.file_format(args.output)
    check_output(args.output, args.model, args.context_table)
    if files.is_table(args.model):
        return mixed.sample(args)
    flow = columns.flow_of_rows(args.model)
    n, context = args.n, _condition(args, flow)
    if context is not None and context.ndim == 2:
        n = len(context) * (1 if n is None else n)
    elif n is None:
        raise ValueError("-n is needed: the number of rows to draw")
    tables.write(args.output, state_of(flow).names, _samples(flow, n, context, args.seed))
    return 0


def _condition(args: argparse.Namespace, flow: Flow) -> Array | None:
    """Return one condition, (context,), or a table of them, (m, context)."""
    if args.context is None and args.context_table is None:
        if flow.context:
            needed = columns.named(*columns.conditions(flow))
            raise ValueError(f"the model is conditional on {needed}; give --context or --context-table")
        return None
    if not flow.context:
        raise ValueError("the model is not conditional: leave --context and --context-table out")
    if args.context_table is not None:
        with tables.open_table(args.context_table) as table:
            content = tables.read(table, columns.find(table, columns.conditions(flow)))
        return content.parts[0]
    return columns.one_condition(flow, args.context)


def _samples(flow: Flow, n: int, context: Array | None, seed: int | None) -> Iterator[Array]:
    """Draw the rows of ``flow.sample(n, seed=seed)`` block by block; a table's conditions come equally often each."""
    key = sample_key(seed)
    for first in range(0, max(n, 1), _BLOCK_ROWS):
        rows = np.arange(first, min(first + _BLOCK_ROWS, n))
        block = context
        if context is not None and context.ndim == 2:
            block = context[rows * len(context) // max(n, 1)]
        yield state_of(flow).sample(key, len(rows), block, first=first)[0]


COMMAND = Command(
    "sample",
    "draw rows from a model",
    f"""\
The columns have the names of the model, or x0, x1, ...

{TABLE}""",
    """\
  pushforward sample power.safetensors -n 1000 --seed 0 -o samples.csv
  pushforward sample model.safetensors -n 1000 --context 18.5 | head""",
    _add_arguments,
    _run,
)
