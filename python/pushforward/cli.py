"""The command line: fit, score, sample and describe flows, from tables in files and pipes.

Bad input ends with exit status 2 and one line on standard error, Ctrl-C with 130.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pushforward import arguments, files, tables
from pushforward.checks import Array
from pushforward.errors import TrainingDivergedError
from pushforward.flow import Flow
from pushforward.history import NEEDS_MATPLOTLIB
from pushforward.optimizer import Adam
from pushforward.presets import PRESETS

# Samples are drawn and written this many rows at a time: a pipe gets its first rows at once.
_BLOCK_ROWS = 1 << 16


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments, by default those of the process.

    Returns
    -------
    int
        The exit status: 0, 2 for bad input, 130 after Ctrl-C, 141 if standard output was closed early.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``.

    Examples
    --------
    >>> main(["score", "missing.safetensors", "table.csv"])
    2
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            args = arguments.parse(argv)
            status = _COMMANDS[args.command](args)
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:
        # The reader has what it wanted. Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _end("error: not enough memory", 2)
    except OSError as error:
        return _end(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", 2)
    except (ValueError, TypeError, ImportError) as error:
        return _end(f"error: {error}", 2)


def _end(message: str, status: int) -> int:
    print("pushforward:", " ".join(message.split()), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print("pushforward: warning:", message, file=sys.stderr)


# -- commands ----------------------------------------------------------------------------------------------------


def _fit(args: argparse.Namespace) -> int:
    if args.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(NEEDS_MATPLOTLIB)
    for path in (args.output, args.plot):
        if path is not None:
            _check_writable(path)
    with tables.open_table(args.table) as table:
        context = [table.find(name) for name in args.context]
        weights = [] if args.weights is None else [table.find(args.weights)]
        others = [name for name in table.columns if name not in {*context, *weights}]
        columns = [table.find(name) for name in args.columns or others]
        _check_choice(table, columns, context, weights)
        x, conditions, row_weights = table.read(columns, context, weights, finite=True)
    _check_rows(table, columns, x)

    flow = _new_flow(args, columns, context)
    validation = _validation(args, flow)
    try:
        flow.fit(
            x,
            context=conditions if context else None,
            weights=row_weights[:, 0] if weights else None,
            optimizer=_optimizer(args),
            seed=args.seed,
            progress=args.progress,
            **_given(args, "epochs", "batch_size", "schedule", "max_time", "patience", "clip_norm"),
            **_given(args, "checkpoint", "checkpoint_every", "resume"),
            **validation,
        )
    except KeyboardInterrupt:
        if not flow.history:
            return _end(f"interrupted in the first epoch; {args.output} was not written", 130)
        _save(flow, args)
        return _end(
            f"interrupted after {len(flow.history)} epochs; the state after epoch {flow.history.best_epoch}, the best, "
            f"is saved to {args.output}",
            130,
        )
    except TrainingDivergedError:
        raise ValueError(
            f"the loss kept becoming non-finite, and {args.output} was not written: look for extreme rows in "
            f"{table.name}, or lower the --learning-rate"
        ) from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{table.name}: {error}") from None
    _save(flow, args)
    return _end(f"fitted {len(x)} rows of {_named(None, len(columns))}: {flow.history}; saved to {args.output}", 0)


def _score(args: argparse.Namespace) -> int:
    tables.file_format(args.output)
    flow = Flow.load(args.model)
    with tables.open_table(args.table) as table:
        x, context = table.read(*_columns(table, _features(flow), _conditions(flow)), finite=False)
    log_prob = flow.log_prob(x, context if flow.context else None)
    tables.write(args.output, ["log_prob"], [log_prob])
    return 0


def _sample(args: argparse.Namespace) -> int:
    tables.file_format(args.output)
    flow = Flow.load(args.model)
    n, context = args.n, _condition(args, flow)
    if context is not None and context.ndim == 2:
        n = len(context) * (1 if n is None else n)
    elif n is None:
        raise ValueError("-n is needed: the number of rows to draw")
    names = flow.columns or [f"x{i}" for i in range(flow.dim)]
    tables.write(args.output, names, _samples(flow, n, context, args.seed))
    return 0


def _info(args: argparse.Namespace) -> int:
    flow = Flow.load(args.model)
    content, _ = files.read(args.model)
    count = flow.parameters.size
    print(args.model)
    for label, value in (
        ("format", f"{content['format']}, written by pushforward {content['version']}"),
        ("features", _named(*_features(flow))),
        ("context", _named(*_conditions(flow)) if flow.context else "none"),
        ("parameters", f"{count:,} in {flow.dtype}, {count * flow.dtype.itemsize / 1e6:.2f} MB"),
        ("training", flow.history or "none recorded"),
        ("base", flow.base),
        ("layers", f"{len(flow.layers)}, from the base to the data"),
        *((f"{i:>4}", layer) for i, layer in enumerate(flow.layers, 1)),
    ):
        print(f"{label:<11} {value}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from pushforward import demo

    _check_writable(args.output)
    demo.run(args.output)
    return 0


def _folder(args: argparse.Namespace) -> int:
    if args.folder is None:
        raise ValueError("a command is needed: fit, score, sample, info or demo; see pushforward --help")
    print(Path(__file__).parent / args.folder)
    return 0


_COMMANDS = {"fit": _fit, "score": _score, "sample": _sample, "info": _info, "demo": _demo, None: _folder}


# -- steps of a fit ----------------------------------------------------------------------------------------------


def _check_writable(path: str) -> None:
    """Find out before the work that its result could not be written."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise ValueError(f"{path}: a folder; a file is expected")
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: the folder {folder} cannot be written to")


def _check_choice(table: tables.Table, columns: list[str], context: list[str], weights: list[str]) -> None:
    names = [*columns, *context, *weights]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{table.name}: column {name!r} is chosen twice")
    if not columns:
        raise ValueError(f"{table.name}: no column is left to model")


def _check_rows(table: tables.Table, columns: list[str], x: Array) -> None:
    if not len(x):
        raise ValueError(f"{table.name}: no rows")
    # The flow would refuse a constant column too, by its number.
    for name, values in zip(columns, x.T, strict=True):
        if table.named and values.min() == values.max():
            raise ValueError(f"{table.name}: column {name!r} is constant; leave it out with --columns")


def _new_flow(args: argparse.Namespace, columns: list[str], context: list[str]) -> Flow:
    options = _given(args, "depth", "hidden", "activation")
    if args.preset == "neural_spline" and len(options.get("hidden", ())) == 1:
        (options["hidden"],) = options["hidden"]
    flow = Flow(
        len(columns),
        layers=PRESETS[args.preset](len(columns), **options),
        context=len(context),
        dtype=args.dtype,
        seed=args.seed,
        num_threads=args.threads,
    )
    flow.columns, flow.context_columns = tuple(columns), tuple(context) or None
    return flow


def _optimizer(args: argparse.Namespace) -> Adam | None:
    if args.learning_rate is None and args.weight_decay is None:
        return None
    return Adam(args.learning_rate or 3e-3, weight_decay=args.weight_decay or 0.0)


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that are given: for the others, the package has defaults."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def _validation(args: argparse.Namespace, flow: Flow) -> dict[str, Any]:
    if not isinstance(getattr(args, "validation", None), str):
        return _given(args, "validation")
    with tables.open_table(args.validation) as table:
        x, context = table.read(*_columns(table, _features(flow), _conditions(flow)), finite=True)
    return {"validation": (x, context) if flow.context else x}


def _save(flow: Flow, args: argparse.Namespace) -> None:
    flow.save(args.output)
    if args.plot is not None and flow.history is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        flow.history.plot(figure.subplots())
        figure.savefig(args.plot, format="png", dpi=150)


# -- steps of a sample -------------------------------------------------------------------------------------------


def _condition(args: argparse.Namespace, flow: Flow) -> Array | None:
    """Return one condition, (context,), or a table of them, (m, context)."""
    if args.context is None and args.context_table is None:
        if flow.context:
            raise ValueError(
                f"the model is conditional on {_named(*_conditions(flow))}; give --context or --context-table"
            )
        return None
    if not flow.context:
        raise ValueError("the model is not conditional: leave --context and --context-table out")
    if args.context_table is not None:
        with tables.open_table(args.context_table) as table:
            [conditions] = table.read(*_columns(table, _conditions(flow)), finite=True)
        return conditions
    if len(args.context) != flow.context:
        raise ValueError(f"--context: {len(args.context)} given; the model needs {_named(*_conditions(flow))}")
    return np.array(args.context)


def _samples(flow: Flow, n: int, context: Array | None, seed: int | None) -> Iterator[Array]:
    """Draw the rows of ``flow.sample(n, seed=seed)`` block by block; a table's conditions come equally often each."""
    rng = np.random.default_rng(seed)
    for first in range(0, max(n, 1), _BLOCK_ROWS):
        rows = np.arange(first, min(first + _BLOCK_ROWS, n))
        block = context
        if context is not None and context.ndim == 2:
            block = context[rows * len(context) // max(n, 1)]
        yield flow.sample(len(rows), block, rng)


# -- a model's columns in a table --------------------------------------------------------------------------------

_Part: TypeAlias = tuple[tuple[str, ...] | None, int]


def _features(flow: Flow) -> _Part:
    return flow.columns, flow.dim


def _conditions(flow: Flow) -> _Part:
    return flow.context_columns, flow.context


def _named(names: tuple[str, ...] | None, count: int) -> str:
    return f"{count} column{'s' * (count > 1)}" + (f": {', '.join(names)}" if names else "")


def _columns(table: tables.Table, *parts: _Part) -> list[list[str]]:
    """Find parts of a model's columns, given as names or None and a number, in a table.

    They go by name where the model and the table have names, a .npy table those of numbers; else by position.
    """
    names = [name for part, _ in parts for name in part or ()]
    widths = [width for _, width in parts]
    if len(names) == sum(widths) and (table.named or set(names) <= set(table.columns)):
        return [[table.find(name) for name in part or ()] for part, _ in parts]
    if len(table.columns) != sum(widths):
        expected = " and then ".join(_named(*part) for part in parts if part[1])
        raise ValueError(f"{table.name}: {_named(None, len(table.columns))}; the model needs {expected}")
    ends = list(itertools.accumulate(widths, initial=0))
    return [list(table.columns[start:end]) for start, end in itertools.pairwise(ends)]
