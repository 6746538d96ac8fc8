"""``pushforward fit``: fit a density to a table, and save it."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from pushforward._fit import options
from pushforward._fit.held_out import training_rows
from pushforward._fit.history import NEEDS_MATPLOTLIB
from pushforward._fit.optimizer import Adam
from pushforward._io import output, tables
from pushforward._model import supports
from pushforward._model.description import PRECISIONS
from pushforward._model.networks import ContextNetwork
from pushforward._model.presets import PRESETS
from pushforward._model.supports import Real, Support
from pushforward._typing import Array
from pushforward.cli import columns, values
from pushforward.cli.command import TABLE, Command, check_output, end, given
from pushforward.errors import TrainingDivergedError
from pushforward.flow import Flow


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("table", metavar="TABLE", help="rows to fit")
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
        "--support",
        metavar="NAME=KIND",
        type=values.support,
        action="append",
        default=[],
        help="support of a column: positive, interval:LOW:HIGH or circle:LOW:HIGH, where LOW and HIGH are numbers or "
        "multiples of pi such as 2pi; repeat for each such column (default: any real number)",
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
    flow.add_argument("--dtype", choices=PRECISIONS, default="float32", help="precision (default: float32)")

    training = command.add_argument_group("training")
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
        "validation": {"metavar": "FRACTION|TABLE", "type": values.validation},
        "checkpoint": {"metavar": "FILE"},
        "checkpoint_every": {"metavar": "N", "type": count},
        "resume": {"metavar": "FILE"},
    }
    for name, kind in kinds.items():
        option(training, _flag(name), options.text(name), **kind)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _run(args: argparse.Namespace) -> int:
    if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(NEEDS_MATPLOTLIB)
    _check_outputs(args)
    with tables.open_table(args.table) as table:
        context = [table.find(name) for name in args.context]
        weights = [] if args.weights is None else [table.find(args.weights)]
        others = [name for name in table.columns if name not in {*context, *weights}]
        modelled = [table.find(name) for name in args.columns or others]
        _check_choice(table, modelled, context, weights)
        support = _support(args, table, modelled)
        x, conditions, row_weights = table.read(modelled, context, weights, finite=True)
    _check_rows(table, modelled, support, x)

    flow = _new_flow(args, modelled, context, support)
    validation = _validation(args, flow)
    try:
        with columns.told_with(table.name):
            flow.fit(
                x,
                context=conditions if context else None,
                weights=row_weights[:, 0] if weights else None,
                optimizer=_optimizer(args, len(x), row_weights[:, 0] if weights else None),
                seed=args.seed,
                progress=args.progress,
                **given(args, "epochs", "batch_size", "schedule", "max_time", "patience", "clip_norm"),
                **given(args, "checkpoint", "checkpoint_every", "resume"),
                **validation,
            )
    except KeyboardInterrupt:
        if not flow.history:
            return end(f"interrupted in the first epoch; {args.output} was not written", 130)
        _save(flow, args)
        return end(
            f"interrupted after {len(flow.history)} epochs; the state after epoch {flow.history.best_epoch}, the best, "
            f"is saved to {args.output}",
            130,
        )
    except TrainingDivergedError:
        raise ValueError(
            f"the loss kept becoming non-finite, and {args.output} was not written: look for extreme rows in "
            f"{table.name}, or lower the --learning-rate"
        ) from None
    _save(flow, args)
    said = columns.named(None, len(modelled))
    return end(f"fitted {len(x)} rows of {said}: {flow.history}; saved to {args.output}", 0)


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise if one of the files that are written is also read, or written for another purpose."""
    kept, resumed = (getattr(args, name, None) for name in ("checkpoint", "resume"))
    validation = getattr(args, "validation", None)
    read = [args.table, validation if isinstance(validation, str) else None]
    check_output(args.output, *read, kept, resumed)
    if kept is not None:  # a fit that is resumed goes on in its own checkpoint
        check_output(kept, *read, option="--checkpoint")
    if args.plot is not None:
        check_output(args.plot, *read, args.output, kept, resumed, option="--plot")


def _check_choice(table: tables.Table, modelled: list[str], context: list[str], weights: list[str]) -> None:
    names = [*modelled, *context, *weights]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{table.name}: column {name!r} is chosen twice")
    if not modelled:
        raise ValueError(f"{table.name}: no column is left to model")


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


def _check_rows(table: tables.Table, modelled: list[str], support: list[Support], x: Array) -> None:
    if not len(x):
        raise ValueError(f"{table.name}: no rows")
    if not table.named:  # the flow refuses the same, by numbers
        return
    beyond = supports.outside(support, x)
    for name, entry, column, outside in zip(modelled, support, x.T, beyond.T, strict=True):
        if outside.any():
            count, first = int(outside.sum()), int(outside.argmax())
            raise ValueError(
                f"{table.name}: column {name!r} has {count} value{'s' * (count > 1)} outside {entry!r}, the first "
                f"{column[first]!s} in row {first + 1}"
            )
        if column.min() == column.max():
            raise ValueError(f"{table.name}: column {name!r} is constant; leave it out with --columns")


def _new_flow(args: argparse.Namespace, modelled: list[str], context: list[str], support: list[Support]) -> Flow:
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
        dtype=args.dtype,
        seed=args.seed,
        num_threads=args.threads,
    )
    flow.columns, flow.context_columns = tuple(modelled), tuple(context) or None
    return flow


def _optimizer(args: argparse.Namespace, rows: int, weights: Array | None) -> Adam:
    """Return the optimiser; what is not given has its default."""
    validation = getattr(args, "validation", options.Options.validation)
    count = training_rows(rows, weights, validation)
    return options.default_optimizer(count, args.learning_rate, args.weight_decay)


def _validation(args: argparse.Namespace, flow: Flow) -> dict[str, Any]:
    if not isinstance(getattr(args, "validation", None), str):
        return given(args, "validation")
    rows = columns.read(flow, args.validation)
    return {"validation": (rows.x, rows.context) if flow.context else rows.x}


def _save(flow: Flow, args: argparse.Namespace) -> None:
    flow.save(args.output)
    if args.plot is not None:
        from pushforward import plot

        output.write_figure(args.plot, plot.history(flow), "png")


COMMAND = Command(
    "fit",
    "fit a density to the rows of a table, and save the model",
    f"""\
The saved model is that of the epoch with the best score on the validation rows.
Ctrl-C ends the fit early and saves the best model so far.

{TABLE}""",
    """\
  pushforward fit power.csv -o power.safetensors
  pushforward fit power.csv -o model.safetensors --columns power,voltage --context hour
  pushforward fit sky.csv -o sky.safetensors --support mass=positive --support ra=circle:0:2pi""",
    _add_arguments,
    _run,
)
