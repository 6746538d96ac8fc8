"""``pushforward impute``: the gaps of a table, filled."""

from __future__ import annotations

import argparse

from pushforward._io import files, tables
from pushforward._model.state import state_of
from pushforward._questions.impute import METHODS
from pushforward.cli import columns, mixed, values
from pushforward.cli.command import TABLE, Command, check_output, given


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    command.add_argument("table", metavar="TABLE", help="rows with gaps")
    command.add_argument("-o", "--output", metavar="FILE", default="-", help="table to write (default: -)")
    command.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="fill gaps with a draw given the rest of the row, or with the mean (default: draw)",
    )
    command.add_argument("--seed", metavar="N", type=values.integer(0), help="seed of the draws")
    command.add_argument(
        "--draws",
        metavar="N",
        type=values.integer(50),
        default=argparse.SUPPRESS,
        help="weighted draws of each row (default: 200)",
    )
    command.add_argument(
        "--steps",
        metavar="N",
        type=values.integer(0),
        default=argparse.SUPPRESS,
        help="most steps of the chains (default: 200)",
    )


def _run(args: argparse.Namespace) -> int:
    tables.file_format(args.output)
    check_output(args.output, args.model, args.table)
    if files.is_table(args.model):
        return mixed.impute(args)
    flow = columns.flow_of_rows(args.model)
    rows = columns.read(flow, args.table, missing="keep")
    with columns.told_with(args.table):
        filled = flow.impute(rows.x, rows.context, method=args.method, seed=args.seed, **given(args, "draws", "steps"))
    tables.write(args.output, state_of(flow).names, [filled])
    return 0


COMMAND = Command(
    "impute",
    "fill the missing cells of a table, given the rest of each row",
    f"""\
Missing cells are empty, NA or NaN. Each is filled with a draw from its density
given the rest of the row, or with the mean, as if it was missing at random. A
warning names the number of rows whose draws have not converged. The columns of
the model are written, found as score finds them.

{TABLE}""",
    "  pushforward impute power.safetensors gaps.csv -o filled.csv --seed 0",
    _add_arguments,
    _run,
)
