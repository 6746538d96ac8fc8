"""Tables with categories and gaps on the command line: what the commands do with them and with their models."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from pushforward._io import files
from pushforward._io.parts import found_files
from pushforward._io.parts import shown as shown_files
from pushforward._tables import text
from pushforward.cli import columns
from pushforward.cli.command import check_output, end, given, optimizer, shown
from pushforward.table_flow import TableFlow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The options of `fit` that a model of a mixed table has.
_OPTIONS = ("epochs", "batch_size", "schedule", "max_time", "patience")
_OTHERS = {"command", "table", "output", "seed", "threads", "progress", "mixed", "groups", "validation"}
_OTHERS |= {"learning_rate", "weight_decay", *_OPTIONS}


def add_mixed(group: argparse._ArgumentGroup) -> None:
    """Add the option that `is_wanted` reads."""
    group.add_argument(
        "--mixed",
        action="store_true",
        help="fit a table of categories, whole numbers, dates and gaps as it is (default: if a column is text, and no "
        "option is given that only tables of numbers have)",
    )


def is_wanted(args: argparse.Namespace, defaults: argparse.Namespace) -> bool:
    """Whether `fit` shall fit a table as a mixed one: if it is told to, or if the table has a column of text.

    Options that only a flow has mean that a flow is wanted.
    """
    others = [
        name for name, value in vars(args).items() if name not in _OTHERS and value != getattr(defaults, name, None)
    ]
    if args.mixed and others:
        raise ValueError(f"--{others[0].replace('_', '-')} is for tables of numbers, and does not go with --mixed")
    return bool(args.mixed) or (
        not others and isinstance(args.table, str) and args.table != "-" and text.has_text(args.table, args.groups)
    )


def fit(args: argparse.Namespace) -> int:
    """Fit a table as it is."""
    if args.table == "-":
        raise ValueError("--mixed needs the name of a file")
    table_file = _one_file(args)
    check_output(args.output, table_file)
    table, groups = text.read(table_file), None
    if args.groups is not None:
        table, groups = text.taken(table, args.groups, table_file)
    held = given(args, "validation")
    if isinstance(held.get("validation"), str):
        held["validation"] = text.read(held["validation"])
    with columns.told_with(args.table):
        flow = TableFlow(num_threads=args.threads).fit(
            table, groups=groups, optimizer=optimizer(args), seed=args.seed, **given(args, *_OPTIONS), **held
        )
    flow.save(args.output)
    for name in flow.schema:
        end(f"{name}: {_kind(flow, name)}", 0)
    return end(f"fitted {columns.named(None, len(flow.columns))}; saved to {args.output}", 0)


def sample(args: argparse.Namespace) -> int:
    """Draw rows from the model of a table."""
    if args.n is None:
        raise ValueError("-n is needed: the number of rows to draw")
    if args.context is not None or args.context_table is not None:
        raise ValueError("the model is not conditional: leave --context and --context-table out")
    text.write(args.output, TableFlow.load(args.model).sample(args.n, seed=args.seed, library="arrays"))
    return 0


def score(args: argparse.Namespace) -> int:
    """Write the log density of each row of a table."""
    flow, table = TableFlow.load(args.model), text.read(_one_file(args))
    with columns.told_with(args.table):
        scores = flow.log_prob(table)
    text.write(args.output, {"log_prob": scores})
    return 0


def check(args: argparse.Namespace) -> int:
    """Compare the model of a table with rows."""
    if args.weights is not None or args.drop_missing:
        raise ValueError("the model is of a table with categories and gaps: leave --weights and --drop-missing out")
    flow, table = TableFlow.load(args.model), text.read(_one_file(args))
    with columns.told_with(args.table):
        report = flow.check(table, seed=args.seed)
    print(*map(shown, str(report).split("\n")), sep="\n")
    return 0


def plot(args: argparse.Namespace) -> Figure:
    """Draw the model of a table beside its rows, or its fit."""
    from pushforward import plot as plots

    flow = TableFlow.load(args.model)
    if args.kind == "history":
        return _curves(flow)
    if args.kind != "corner":
        raise ValueError(
            f"plot {args.kind} is for models of numbers; plot corner and plot history draw that of a table"
        )
    others = [name for name in ("context", "weights", "levels", "bins") if getattr(args, name, None) is not None]
    if others or args.drop_missing:
        name = (others or ["drop-missing"])[0]
        raise ValueError(f"the model is of a table with categories and gaps: leave --{name} out")
    table = None if args.table is None else text.read(args.table)
    with columns.told_with(args.table or args.model):
        return plots.table_corner(flow, table, columns=args.columns, seed=args.seed, **given(args, "n"))


def _curves(flow: TableFlow) -> Figure:
    """Draw the losses of each part."""
    from pushforward._figure import NotebookFigure

    if not flow.history:
        raise ValueError("the model has no history: nothing was trained")
    wide = math.ceil(math.sqrt(len(flow.history)))
    high = math.ceil(len(flow.history) / wide)
    figure = NotebookFigure(figsize=(4.2 * wide, 3.2 * high), layout="constrained")
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for ax, (name, curves) in zip(panels, flow.history.items(), strict=False):
        curves.plot(ax)
        ax.set_title(name, fontsize=9)
    for ax in panels[len(flow.history) :]:
        ax.remove()
    return figure


def impute(args: argparse.Namespace) -> int:
    """Fill the gaps of a table."""
    flow, table = TableFlow.load(args.model), text.read(args.table)
    with columns.told_with(args.table):
        filled = flow.impute(table, method=args.method, seed=args.seed, **given(args, "draws", "steps"))
    text.write(args.output, filled)
    return 0


def info(args: argparse.Namespace) -> int:
    """Describe the model of a table."""
    flow = TableFlow.load(args.model)
    content, _ = files.read(args.model)
    print(shown(args.model))
    print(f"{'format':<11} {content['format']}, written by pushforward {shown(content['version'])}")
    print(f"{'columns':<11} {len(flow.columns)}")
    for name in flow.schema:
        print(f"  {shown(name)}: {shown(_kind(flow, name))}")
    if flow.schema.left_out:
        print(f"{'left out':<11} {shown(', '.join(flow.schema.left_out))}")
    for name, curves in flow.history.items():
        print(f"{'training':<11} {shown(f'{name}: {curves}')}")
    return 0


def _one_file(args: argparse.Namespace) -> str:
    """Return the file of a table, if it is one."""
    names = found_files(args.table)
    if len(names) > 1:
        raise ValueError(f"{shown_files(names)}: a table with categories and gaps is read from one file")
    return names[0]


def _kind(flow: TableFlow, name: str) -> str:
    """Say in one line what a column holds."""
    column = flow.schema[name]
    said = repr(column.kind)
    values = getattr(column.kind, "values", ())
    if len(said) > 80:
        said = f"{type(column.kind).__name__} of {len(values)} values"
    atoms = tuple(column.atoms)
    if atoms:
        shown_atoms = ", ".join(f"{atom:g}" for atom in atoms[:4])
        said += f", with {len(atoms)} atom{'s' * (len(atoms) > 1)}: {shown_atoms}{', ...' * (len(atoms) > 4)}"
    if column.step and column.step != 1:
        said += f", in steps of {column.step:g}"
    return said + (", with gaps" if column.gaps else "")
