"""``pushforward fit``: fit a density to a table, and save it."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._fit import options
from pushforward._fit.held_out import chosen_rows
from pushforward._fit.history import NEEDS_MATPLOTLIB
from pushforward._fit.mpi import group_of
from pushforward._io import output, tables
from pushforward._io.many import FilesTable
from pushforward._io.parts import found_files
from pushforward._io.stored import Stored
from pushforward._model import supports
from pushforward._model.description import CONDITIONER_PRECISIONS, PRECISIONS
from pushforward._model.networks import ContextNetwork
from pushforward._model.presets import PRESETS
from pushforward._model.supports import Real, Support
from pushforward._typing import Array
from pushforward._warn import warn
from pushforward.cli import columns, mixed, processes, values
from pushforward.cli.command import TABLES, Command, add_tables, check_output, end, given, optimizer
from pushforward.errors import TrainingDivergedError
from pushforward.flow import Flow

_HELD_OUT = 0.2


def _add_arguments(command: argparse.ArgumentParser) -> None:
    add_tables(command, "rows to fit")
    command.add_argument("-o", "--output", metavar="MODEL", required=True, help="file to save the model to")
    command.add_argument("--plot", metavar="PNG", help="draw the loss of each epoch to a file (needs Matplotlib)")

    chosen = command.add_argument_group("columns")
    chosen.add_argument(
        "--columns",
        metavar="A,B,...",
        type=tables.split_names,
        default=[],
        help="columns to model (default: all others)",
    )
    chosen.add_argument(
        "--context", metavar="C,D,...", type=tables.split_names, default=[], help="columns to condition on"
    )
    chosen.add_argument("--weights", metavar="COLUMN", help="column of the rows' weights")
    chosen.add_argument(
        "--groups",
        metavar="COLUMN",
        help="column, of numbers or text, that says which rows belong together, such as those of one chain, person or "
        "household: they are held out together",
    )
    columns.add_drop_missing(chosen)
    mixed.add_mixed(chosen)
    chosen.add_argument(
        "--support",
        metavar="NAME=KIND",
        type=values.support,
        action="append",
        default=[],
        help="support of a column: positive, interval:LOW:HIGH or circle:LOW:HIGH, where LOW and HIGH are numbers or "
        "multiples of pi such as 2pi, or pixel:LEVELS:ALPHA for whole numbers; repeat for each such column "
        "(default: any real number)",
    )

    flow = command.add_argument_group("flow")
    flow.add_argument(
        "--preset", choices=PRESETS, help="kind of flow (default: neural_spline, of a size that suits the rows)"
    )
    flow.add_argument(
        "--context-network",
        metavar="N",
        type=values.integer(1),
        help="for many context columns: a network makes N numbers of them, which all layers read in their place "
        "(default: the layers read the columns)",
    )
    flow.add_argument(
        "--conditioner-precision",
        choices=CONDITIONER_PRECISIONS,
        help="precision of the products in the networks of the layers (default: that of --dtype)",
    )
    flow.add_argument("--dtype", choices=PRECISIONS, default="float32", help="precision (default: float32)")

    training = command.add_argument_group("training")
    training.add_argument(
        "--held-out",
        metavar="FILE",
        help="keep some rows, drawn at random, out of the fit altogether, and write them to a table, for check",
    )
    training.add_argument(
        "--held-out-fraction",
        metavar="F",
        type=values.number(0, 1),
        default=argparse.SUPPRESS,
        help=f"how many of the rows (default: {_HELD_OUT})",
    )
    rate, decay = values.number(0), values.number(0, closed=True)
    training.add_argument("--learning-rate", metavar="RATE", type=rate, help=options.text("learning_rate"))
    training.add_argument("--weight-decay", metavar="DECAY", type=decay, help=options.text("weight_decay"))
    training.add_argument("--seed", metavar="N", type=values.integer(0), help=options.text("seed"))
    training.add_argument("--threads", metavar="N", type=values.integer(1), help="threads (default: all cores)")
    training.add_argument("--progress", action=argparse.BooleanOptionalAction, help=options.text("progress"))

    def option(group: argparse._ArgumentGroup, name: str, help_text: str, **kind: Any) -> None:
        """Add an option whose default is that of the package's own function."""
        group.add_argument(name, default=argparse.SUPPRESS, help=help_text, **kind)

    count, size = values.integer(1), values.number(0)
    option(flow, "--depth", "couplings or other layers (default: the preset's)", metavar="N", type=count)
    option(
        flow,
        "--hidden",
        "widths of the hidden layers of each network; for neural_spline, one width makes a residual network "
        "(default: the preset's)",
        metavar="N,N,...",
        type=values.widths,
    )
    option(
        flow,
        "--activation",
        "activation function of the hidden layers (default: the preset's)",
        metavar="NAME",
        type=values.activation,
    )
    kinds: dict[str, dict[str, Any]] = {
        "epochs": {"metavar": "N", "type": count},
        "batch_size": {"metavar": "N", "type": count},
        "schedule": {"choices": options.SCHEDULES},
        "max_time": {"metavar": "SECONDS", "type": size},
        "patience": {"metavar": "N", "type": values.or_none(count)},
        "clip_norm": {"metavar": "NORM", "type": values.or_none(size)},
        "frozen": {"metavar": "I,I,...", "type": values.indices},
        "validation": {"metavar": "FRACTION|TABLE", "type": values.validation},
        "checkpoint": {"metavar": "FILE"},
        "checkpoint_every": {"metavar": "N", "type": count},
        "resume": {"metavar": "FILE"},
    }
    for name, kind in kinds.items():
        option(training, _flag(name), options.text(name), **kind)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _defaults() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    _add_arguments(parser)
    return parser.parse_args(["TABLE", "-o", "MODEL"])


def _run(args: argparse.Namespace) -> int:
    comm = processes.communicator()
    if comm is None or comm.Get_rank() == 0:
        return _fit(args, comm)
    warnings.simplefilter("ignore")
    try:
        return _fit(args, comm)
    except (ValueError, TypeError, OSError, ImportError):  # the first process raises it too, and says so
        return 2


def _fit(args: argparse.Namespace, comm: Any) -> int:
    if comm is None and mixed.is_wanted(args, _defaults()):
        return mixed.fit(args)
    group = group_of(comm)
    with group.together():
        with group.agree():
            if comm is not None:
                _check_shared(args)
            if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
                raise ImportError(NEEDS_MATPLOTLIB)
            _check_outputs(args)
            if args.held_out is not None:
                tables.file_format(args.held_out)
            elif hasattr(args, "held_out_fraction"):
                raise ValueError("--held-out-fraction goes with --held-out FILE, where those rows are written")
        if comm is not None and args.seed is None:  # one for the rows that are kept out, too
            args.seed = group.of_first(int(np.random.default_rng().integers(1 << 32)))
        with group.agree():
            choice, rows, support = _read(args, comm)
            _check_rows(choice, support, rows)
            rows, held_out = _split(args, rows)
            flow = _new_flow(args, choice, support)
            validation = _validation(args, flow, comm)
        own = rows if comm is None or rows.is_share else rows.some(processes.share(len(rows.x), comm))
        count = int(group.sum(np.array([len(own.x)]))[0])
    writes = group.is_first
    try:
        with columns.told_with(choice.table):
            flow.fit(
                own.x,
                context=own.context,
                weights=own.weights,
                groups=own.groups,
                optimizer=optimizer(args),
                seed=args.seed,
                progress=args.progress,
                comm=comm,
                **given(args, "epochs", "batch_size", "schedule", "max_time", "patience", "clip_norm", "frozen"),
                **given(args, "checkpoint", "checkpoint_every", "resume"),
                **validation,
            )
    except KeyboardInterrupt:
        if not writes:
            return 130
        if not flow.history:
            return end(f"interrupted in the first epoch; {args.output} was not written", 130)
        _save(flow, args, choice, held_out)
        return end(
            f"interrupted after {len(flow.history)} epochs; the state after epoch {flow.history.best_epoch}, the best, "
            f"is saved to {args.output}",
            130,
        )
    except TrainingDivergedError:
        raise ValueError(
            f"the loss kept becoming non-finite, and {args.output} was not written: look for extreme rows in "
            f"{choice.table}, or lower the --learning-rate"
        ) from None
    if not writes:
        return 0
    _save(flow, args, choice, held_out)
    said = columns.named(None, len(choice.modelled))
    kept = "" if held_out is None else f"; {len(held_out.x)} rows held out in {args.held_out}"
    by = "" if comm is None else f" by {group.size} processes"
    return end(f"fitted {count} rows of {said}{by}: {flow.history}; saved to {args.output}{kept}", 0)


def _check_shared(args: argparse.Namespace) -> None:
    """Raise if several processes cannot fit the table."""
    if "-" in (args.table, getattr(args, "validation", None)):
        raise ValueError("several processes read a table from a file, not from a pipe")
    if mixed.is_wanted(args, _defaults()):
        raise ValueError("a table with text or gaps is fitted by one process: run it without mpiexec or srun")


@dataclass(frozen=True)
class _Choice:
    """What is read of a table, by name."""

    table: str
    is_named: bool
    modelled: list[str]
    context: list[str]
    weights: list[str]
    groups: str | None


@dataclass(frozen=True)
class _Rows:
    x: Array
    context: Array | None
    weights: Array | None
    groups: Array | None
    is_share: bool = False  # of this process, not the table

    def some(self, index: Array | slice) -> _Rows:
        context, weights, groups = (
            None if part is None else part[index] for part in (self.context, self.weights, self.groups)
        )
        return _Rows(self.x[index], context, weights, groups)


def _read(args: argparse.Namespace, comm: Any) -> tuple[_Choice, _Rows, list[Support]]:
    """Read what is chosen of the table; of many files, this process's share."""
    with columns.opened(args.table, lambda rows: processes.share(rows, comm)) as table:
        context = [table.find(name) for name in args.context]
        weights = [] if args.weights is None else [table.find(args.weights)]
        groups = None if args.groups is None else table.find(args.groups)
        besides = {*context, *weights, groups}
        others = [name for name in table.columns if name not in {*besides, *table.row_names}]
        modelled = [table.find(name) for name in args.columns] or others
        for name in modelled:
            if table.columns.count(name) > 1:
                table.find(name)  # which one is unclear
        choice = _Choice(table.name, table.named, modelled, context, weights, groups)
        _check_choice(choice)
        support = _support(args, table, modelled)
        left_out = [name for name in table.row_names if name not in besides]
        if left_out and not args.columns:
            names = ", ".join(map(repr, left_out)) if any(left_out) else "without a name"
            warn(f"{table.name}: the column {names} is left out, as row numbers or row names")
        try:
            content = columns.content_of(table, [modelled, context, weights], columns.missing_of(args), groups)
        except tables.NotNumbersError as error:
            raise ValueError(f"{error}; {_remedy(choice, error.columns, bool(args.columns))}") from None
    x, conditions, row_weights = content.parts
    return (
        choice,
        _Rows(
            x,
            conditions if context else None,
            columns.one_column(row_weights) if weights else None,
            content.labels,
            is_share=comm is not None and isinstance(table, FilesTable),
        ),
        support,
    )


def _remedy(choice: _Choice, bad: list[str], are_given: bool) -> str:
    """Say what to do about columns that hold other things than numbers."""
    left = [name for name in choice.modelled if name not in bad]
    if any(name in choice.weights for name in bad):
        return "--weights needs a column of numbers"
    if any(name in choice.context for name in bad):
        return "give --context, for each category, one column of 0 and 1 per value"
    if left and not are_given:
        return f"choose columns of numbers: --columns {shlex.quote(tables.join_names(left))}"
    return "choose columns of numbers with --columns"


def _split(args: argparse.Namespace, rows: _Rows) -> tuple[_Rows, _Rows | None]:
    """Return the rows to fit, and those of ``--held-out``."""
    if args.held_out is None:
        return rows, None
    if rows.is_share:
        raise ValueError("--held-out: of many files, one process holds rows out; with several, leave files out instead")
    fraction = getattr(args, "held_out_fraction", _HELD_OUT)
    groups = None if rows.groups is None else _checks.labels(rows.groups, len(rows.x), "groups")
    # Not the numbers that choose the validation rows.
    rng = np.random.default_rng(args.seed).spawn(1)[0]
    chosen = chosen_rows(len(rows.x), fraction, rng, groups)
    if not 0 < chosen.sum() < len(rows.x):
        raise ValueError(
            f"--held-out {fraction} of {len(rows.x)} rows are {chosen.sum()}; some are needed on both sides"
        )
    return rows.some(~chosen), rows.some(chosen)


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise if one of the files that are written is also read, or written for another purpose."""
    kept, resumed = (getattr(args, name, None) for name in ("checkpoint", "resume"))
    validation = getattr(args, "validation", None)
    read = [*found_files(args.table), validation if isinstance(validation, str) else None]
    check_output(args.output, *read, kept, resumed)
    if kept is not None:  # a fit that is resumed goes on in its own checkpoint
        check_output(kept, *read, option="--checkpoint")
    if args.plot is not None:
        check_output(args.plot, *read, args.output, kept, resumed, option="--plot")
    if args.held_out is not None:
        check_output(args.held_out, *read, args.output, args.plot, kept, resumed, option="--held-out")


def _check_choice(choice: _Choice) -> None:
    names = [*choice.modelled, *choice.context, *choice.weights, *([] if choice.groups is None else [choice.groups])]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{choice.table}: column {name!r} is chosen twice")
    if not choice.modelled:
        raise ValueError(f"{choice.table}: no column is left to model")


def _support(args: argparse.Namespace, table: tables.Table, modelled: list[str]) -> list[Support]:
    """Return the support of each column that is modelled."""
    found: dict[str, Support] = {}
    for given_name, support in args.support:
        name = table.find(given_name)
        if name not in modelled:
            raise ValueError(f"--support: column {name!r} is not modelled")
        if name in found:
            raise ValueError(f"--support: column {name!r} is given twice")
        found[name] = support
    return [found.get(name, Real()) for name in modelled]


def _check_rows(choice: _Choice, support: list[Support], rows: _Rows) -> None:
    x = rows.x
    if not len(x) and not rows.is_share:
        raise ValueError(f"{choice.table}: no rows")
    if not choice.is_named or isinstance(x, Stored):  # the flow refuses the same, by numbers
        return
    beyond = supports.outside(support, x)
    for name, entry, column, outside in zip(choice.modelled, support, x.T, beyond.T, strict=True):
        if outside.any():
            count, first = int(outside.sum()), int(outside.argmax())
            raise ValueError(
                f"{choice.table}: column {name!r} has {count} value{'s' * (count > 1)} outside {entry!r}, the first "
                f"{column[first]!s} in row {first + 1}"
            )
        if column.min() == column.max():
            raise ValueError(f"{choice.table}: column {name!r} is constant; leave it out with --columns")


def _new_flow(args: argparse.Namespace, choice: _Choice, support: list[Support]) -> Flow:
    modelled, context = choice.modelled, choice.context
    settings = given(args, "depth", "hidden", "activation")
    preset = args.preset or next(iter(PRESETS))
    if preset == "neural_spline" and len(settings.get("hidden", ())) == 1:
        (settings["hidden"],) = settings["hidden"]
    is_open = args.preset is None and not settings
    flow = Flow(
        len(modelled),
        layers=None if is_open else PRESETS[preset](len(modelled), **settings),
        support=support,
        context=len(context),
        context_network=None if args.context_network is None else ContextNetwork(args.context_network),
        conditioner_precision=args.conditioner_precision,
        dtype=args.dtype,
        seed=args.seed,
        num_threads=args.threads,
    )
    flow.columns, flow.context_columns = tuple(modelled), tuple(context) or None
    return flow


def _validation(args: argparse.Namespace, flow: Flow, comm: Any) -> dict[str, Any]:
    if not isinstance(getattr(args, "validation", None), str):
        return given(args, "validation")
    rows = columns.read(flow, args.validation, missing=columns.missing_of(args))
    own = processes.share(len(rows.x), comm)
    context = rows.context if rows.context is None else rows.context[own]
    return {"validation": (rows.x[own], context) if flow.context else rows.x[own]}


def _save(flow: Flow, args: argparse.Namespace, choice: _Choice, held_out: _Rows | None) -> None:
    flow.save(args.output)
    if held_out is not None:
        parts = [part for part in (held_out.x, held_out.context, held_out.weights) if part is not None]
        names = [*choice.modelled, *choice.context, *choice.weights]
        tables.write(args.held_out, names, [np.column_stack(parts)])
    if args.plot is not None:
        from pushforward import plot

        output.write_figure(args.plot, plot.history(flow), "png")


COMMAND = Command(
    "fit",
    "fit a density to the rows of a table, and save the model",
    f"""\
The saved model is that of the epoch with the best score on the validation rows.
Ctrl-C ends the fit early and saves the best model so far. Started several
times by mpiexec or srun, the processes share the rows of one fit.

{TABLES}""",
    """\
  pushforward fit power.csv -o power.safetensors
  pushforward fit power.csv -o model.safetensors --columns power,voltage --context hour
  pushforward fit sky.csv -o sky.safetensors --support mass=positive --support ra=circle:0:2pi
  pushforward fit power.csv -o power.safetensors --held-out held_out.csv
  pushforward check power.safetensors held_out.csv
  mpiexec -n 4 pushforward fit power.npy -o power.safetensors
  mpiexec -n 4 pushforward fit 'part-*.npy' -o model.safetensors""",
    _add_arguments,
    _run,
)
