"""``pushforward plot``: plots of a model, of its rows and of its fit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pushforward._io import files, output, tables
from pushforward._typing import Array
from pushforward.cli import columns, mixed, values
from pushforward.cli.command import TABLE, Command, check_output, given
from pushforward.flow import Flow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(title="plots", metavar="KIND", dest="kind", required=True)

    def kind(name: str, what: str) -> argparse.ArgumentParser:
        parser = kinds.add_parser(name, help=what, description=f"Draw {what}.", allow_abbrev=False)
        parser.add_argument("model", metavar="MODEL", help="file of the model")
        parser.add_argument("-o", "--output", metavar="FILE", required=True, help="file to write: .png, .pdf, .svg")
        return parser

    def option(parser: argparse.ArgumentParser, name: str, help_text: str, **kind: Any) -> None:
        """Add an option whose default is that of the package's own function."""
        parser.add_argument(name, default=argparse.SUPPRESS, help=help_text, **kind)

    corner = kind("corner", "every pair of features: rows of a table as areas, samples of the model as lines")
    density = kind("density", "the density of one or two features")
    kind("history", "the losses of the fit")
    calibration = kind("calibration", "held-out rows in latent space, where histograms should be flat")
    coverage = kind("coverage", "ranks of held-out rows among draws, and what share of the rows regions hold")
    for parser in (corner, density):
        parser.add_argument("table", metavar="TABLE", nargs="?", help="rows to show too")
        parser.add_argument("--context", metavar="C,D,...", type=values.numbers, help="condition of the model")
        contours = "probabilities that the contours enclose (default: 0.5,0.9)"
        option(parser, "--levels", contours, metavar="S,S", type=values.shares)
    for parser in (calibration, coverage):
        parser.add_argument("table", metavar="TABLE", help="rows held out of the fit")
    for parser in (corner, density, coverage):
        parser.add_argument("--seed", metavar="N", type=values.integer(0), help="seed of the random numbers")
    for parser in (corner, calibration, coverage):
        parser.add_argument("--weights", metavar="COLUMN", help="column of the rows' weights")
        bins = "of the histograms (default: by the number of rows)"
        option(parser, "--bins", bins, metavar="N", type=values.integer(1))
    for parser in (corner, density, calibration, coverage):
        columns.add_drop_missing(parser)
    corner.add_argument("--columns", metavar="A,B,...", type=tables.split_names, help="columns to draw (default: all)")
    option(corner, "-n", "samples (default: 50,000)", metavar="N", type=values.integer(100))
    for parser, level in ((calibration, 0.95), (coverage, 0.99)):
        held = f"probability that an exact model stays within the band (default: {level})"
        option(parser, "--level", held, metavar="S", type=values.number(0, 1))


def _run(args: argparse.Namespace) -> int:
    from pushforward import plot

    kind = _kind_of_picture(args.output)
    check_output(args.output, args.model, getattr(args, "table", None))
    if files.is_table(args.model):
        output.write_figure(args.output, mixed.plot(args), kind)
        return 0
    flow = columns.flow_of_rows(args.model)
    if args.kind == "history":
        with columns.told_with(args.model):
            figure = plot.history(flow)
    elif args.kind == "density":
        figure = _density(args, flow)
    elif args.kind == "corner":
        figure = _corner(args, flow)
    else:
        rows = columns.read(flow, args.table, args.weights, missing=columns.missing_of(args))
        held_out = {"context": rows.context, "weights": rows.weights, **given(args, "bins", "level")}
        with columns.told_with(args.table):
            if args.kind == "coverage":
                figure = plot.coverage(flow, rows.x, seed=args.seed, **held_out)
            else:
                figure = plot.calibration(flow, rows.x, **held_out)
    output.write_figure(args.output, figure, kind)
    return 0


def _kind_of_picture(path: str) -> str:
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in known:
        raise ValueError(f"{path}: the name of a picture must end in .png, .pdf, .svg or another of Matplotlib's kinds")
    return kind


def _density(args: argparse.Namespace, flow: Flow) -> Figure:
    from pushforward import plot

    condition = _condition(args, flow)
    missing = columns.missing_of(args)
    x = None if args.table is None else columns.read(flow, args.table, with_context=False, missing=missing).x
    with columns.told_with(args.table or args.model):
        return plot.density(flow, x, context=condition, seed=args.seed, **given(args, "levels"))


def _corner(args: argparse.Namespace, flow: Flow) -> Figure:
    from pushforward import plot

    features = None if args.columns is None else [_feature(flow, name) for name in args.columns]
    options = {"features": features, "seed": args.seed, **given(args, "n", "levels", "bins")}
    if args.table is None:
        if args.weights is not None or "bins" in options:
            raise ValueError("--weights and --bins are of a table's rows; give a TABLE too")
        condition = _condition(args, flow)
        with columns.told_with(args.model):
            return plot.corner(flow, context=condition, **options)
    if args.context is not None:
        raise ValueError("--context is for a picture without a TABLE: the samples are drawn under the rows' conditions")
    rows = columns.read(flow, args.table, args.weights, missing=columns.missing_of(args))
    with columns.told_with(args.table):
        return plot.corner(flow, rows.x, context=rows.context, weights=rows.weights, **options)


def _feature(flow: Flow, name: str) -> str | int:
    """Return a feature's own name, or its number in a model without names."""
    return int(name) if flow.columns is None and name.isdecimal() else name


def _condition(args: argparse.Namespace, flow: Flow) -> Array | None:
    if args.context is not None:
        return columns.one_condition(flow, args.context)
    if flow.context:
        raise ValueError(f"the model is conditional on {columns.named(*columns.conditions(flow))}; give --context")
    return None


COMMAND = Command(
    "plot",
    "draw a model, its rows or its fit (needs Matplotlib)",
    f"""\
The columns are found as in score. pushforward plot KIND --help lists the
options of a plot.

{TABLE}""",
    """\
  pushforward plot corner power.safetensors power.csv -o corner.png
  pushforward plot calibration power.safetensors held_out.csv -o calibration.pdf
  pushforward plot coverage power.safetensors held_out.csv -o coverage.pdf --seed 0
  pushforward plot history power.safetensors -o loss.svg""",
    _add_arguments,
    _run,
)
