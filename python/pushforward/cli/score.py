"""``pushforward score``: the log density of each row."""

from __future__ import annotations

import argparse

from pushforward._io import files, tables
from pushforward._io.parts import found_files
from pushforward.cli import columns, mixed
from pushforward.cli.command import TABLES, Command, add_tables, check_output


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    add_tables(command, "rows to score")
    command.add_argument("-o", "--output", metavar="FILE", default="-", help="table to write (default: -)")


def _run(args: argparse.Namespace) -> int:
    tables.file_format(args.output)
    check_output(args.output, args.model, *found_files(args.table))
    if files.is_table(args.model):
        return mixed.score(args)
    flow = columns.flow_of_rows(args.model)
    rows = columns.read(flow, args.table, missing="keep")
    log_prob = flow.log_prob(rows.x, rows.context)
    tables.write(args.output, ["log_prob"], [log_prob])
    return 0


COMMAND = Command(
    "score",
    "write the log density of each row of a table, in nats",
    f"""\
If the model and the table have column names, the model's columns are found by
name, in any order. Otherwise the table must have the columns of the fit in their
order, then those of the context. A row with infinity or a missing value (an empty cell,
NA, NaN) gets nan, so that scores stay beside their rows.

{TABLES}""",
    "  pushforward score power.safetensors power.csv -o scores.csv",
    _add_arguments,
    _run,
)
