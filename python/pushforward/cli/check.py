"""``pushforward check``: how well a model describes rows that it was not fitted to."""

from __future__ import annotations

import argparse

from pushforward._io import files
from pushforward.cli import columns, mixed, values
from pushforward.cli.command import TABLES, Command, add_tables, shown


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    add_tables(command, "rows held out of the fit; hundreds or more")
    command.add_argument("--weights", metavar="COLUMN", help="column of the rows' weights")
    command.add_argument("--seed", metavar="N", type=values.integer(0), help="seed of the random numbers")
    columns.add_drop_missing(command)


def _run(args: argparse.Namespace) -> int:
    if files.is_table(args.model):
        return mixed.check(args)
    flow = columns.flow_of_rows(args.model)
    rows = columns.read(flow, args.table, args.weights, missing=columns.missing_of(args))
    with columns.told_with(args.table):
        report = flow.check(rows.x, rows.context, rows.weights, seed=args.seed)
    print(*map(shown, str(report).split("\n")), sep="\n")
    return 0


COMMAND = Command(
    "check",
    "compare a model with rows that it was not fitted to, and say what to try next",
    f"""\
Compares the log-likelihood of the rows with that of a Gaussian and of the
training rows, maps the rows to latent space and back, compares them there with
the base density, and, if scikit-learn is installed, trains a classifier to
distinguish rows from samples. Rows of a conditional model are also ranked among
draws under their own conditions. The columns are found as in score.

Of a model of a table with categories and gaps, each column is compared with the
model, and the classifier distinguishes rows from samples.

{TABLES}""",
    "  pushforward check power.safetensors held_out.csv --seed 0",
    _add_arguments,
    _run,
)
