"""What may stand on the command line, and its help."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from pushforward import __version__
from pushforward.layers import MLP
from pushforward.presets import PRESETS
from pushforward.tables import split_names

T = TypeVar("T")

_TABLE = """\
A table is a .csv file whose first line names the columns, or a .npy file of
shape (rows, columns), whose columns are numbered from 0. A dash is CSV on
standard input or output."""

_COMMANDS = {
    "fit": (
        "fit a density to the rows of a table, and save the model",
        f"""\
The model is the best one by the rows held out for validation. Ctrl-C ends the
fit early, and still saves it.

{_TABLE}""",
        """\
  pushforward fit power.csv -o power.safetensors
  pushforward fit power.csv -o model.safetensors --columns power,voltage --context hour""",
    ),
    "score": (
        "write the log density of each row of a table, in nats",
        f"""\
The model's columns are found by name and in any order, if it has names and the
table has them; else the table has all of them in the order of the fit, and then
those of the context. A row with NaN or infinity scores nan.

{_TABLE}""",
        "  pushforward score power.safetensors power.csv -o scores.csv",
    ),
    "sample": (
        "draw rows from a model",
        f"""\
They come under the names of the model's columns, or x0, x1, ...

{_TABLE}""",
        """\
  pushforward sample power.safetensors -n 1000 --seed 0 -o samples.csv
  pushforward sample model.safetensors -n 1000 --context 18.5 | head""",
    ),
    "info": ("describe a model", "", "  pushforward info power.safetensors"),
    "demo": (
        "fit a flow to a household's electricity, and compare it with other densities",
        """\
The table has 5,000 rows of 6 columns (UCI; Hebrail, Berard 2012; CC BY 4.0) and
comes with the package. SciPy adds one more density, Matplotlib a picture of data
beside samples.""",
        "  pushforward demo --output demo.png",
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a ValueError of one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, with the command's name as `command`; those of a fit that are not given are missing.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``.
    ValueError
        If they are not as the help says.
    """
    parser = _Parser(
        prog="pushforward",
        description="Normalizing flows: fit a density to a table, score rows, draw rows.",
        epilog="pushforward COMMAND --help explains a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    folders = parser.add_mutually_exclusive_group()
    for option, folder, what in (("--cmakedir", "cmake", "CMake package"), ("--includes", "include", "C++ headers")):
        folders.add_argument(
            option, dest="folder", action="store_const", const=folder, help=f"print the folder of the {what}"
        )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for name, (summary, text, example) in _COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{text}",
            epilog=f"examples:\n{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        {"fit": _fit, "score": _score, "sample": _sample, "info": _info, "demo": _demo}[name](command)
    return parser.parse_args(argv)


def _fit(command: _Parser) -> None:
    command.add_argument("table", metavar="TABLE", help="rows to fit")
    command.add_argument("-o", "--output", metavar="MODEL", required=True, help="file to save the model to")
    command.add_argument("--plot", metavar="PNG", help="draw the loss of each epoch to a file (needs Matplotlib)")

    columns = command.add_argument_group("columns")
    columns.add_argument(
        "--columns", metavar="A,B,...", type=split_names, default=[], help="columns to model (default: all others)"
    )
    columns.add_argument("--context", metavar="C,D,...", type=split_names, default=[], help="columns to condition on")
    columns.add_argument("--weights", metavar="COLUMN", help="column of the rows' weights")

    flow = command.add_argument_group("flow")
    flow.add_argument(
        "--preset", choices=PRESETS, default=next(iter(PRESETS)), help="kind of flow (default: %(default)s)"
    )
    flow.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="precision (default: float32)")

    training = command.add_argument_group("training")
    training.add_argument("--learning-rate", metavar="RATE", type=_number(0), help="of Adam (default: 3e-3)")
    training.add_argument(
        "--weight-decay",
        metavar="DECAY",
        type=_number(0, closed=True),
        help="of Adam (default: 5,000 by the number of rows, at most 1; 0 with --learning-rate)",
    )
    training.add_argument("--seed", metavar="N", type=_integer(0), help="fixes every random choice")
    training.add_argument("--threads", metavar="N", type=_integer(1), help="threads (default: all cores)")
    training.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="show a progress bar (default: in a terminal)"
    )

    def option(group: argparse._ArgumentGroup, name: str, help_text: str, **kind: Any) -> None:
        """Add an option whose default is that of the package's own function."""
        group.add_argument(name, default=argparse.SUPPRESS, help=help_text, **kind)

    option(flow, "--depth", "couplings or other layers (default: the preset's)", metavar="N", type=_integer(1))
    option(
        flow,
        "--hidden",
        "widths of each network's hidden layers; one of neural_spline's makes it a residual network (default: the "
        "preset's)",
        metavar="N,N,...",
        type=_widths,
    )
    option(
        flow, "--activation", "what follows a hidden layer (default: the preset's)", metavar="NAME", type=_activation
    )
    option(training, "--epochs", "passes over the rows (default: 100, or 100,000 steps)", metavar="N", type=_integer(1))
    option(training, "--batch-size", "rows of a step (default: 256 or 512)", metavar="N", type=_integer(1))
    option(training, "--schedule", "of the learning rate (default: cosine)", choices=("cosine", "constant"))
    option(training, "--max-time", "when to stop (default: never)", metavar="SECONDS", type=_number(0))
    option(
        training, "--patience", "stop after N epochs without a better validation loss, or none (default: 30)",
        metavar="N", type=_or_none(_integer(1)),
    )  # fmt: skip
    option(training, "--clip-norm", "longest gradient, or none (default: 5)", metavar="NORM", type=_or_none(_number(0)))
    option(
        training, "--validation", "fraction of rows to hold out, or a table of its own (default: 0.1)",
        metavar="FRACTION|TABLE", type=_validation,
    )  # fmt: skip
    option(training, "--checkpoint", "keep the fit in a file from which it can go on", metavar="FILE")
    option(training, "--checkpoint-every", "steps between writings (default: 1000)", metavar="N", type=_integer(1))
    option(training, "--resume", "go on from a checkpoint, with the same rows and options", metavar="FILE")


def _score(command: _Parser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    command.add_argument("table", metavar="TABLE", help="rows to score")
    command.add_argument("-o", "--output", metavar="FILE", default="-", help=".csv or .npy file (default: -)")


def _sample(command: _Parser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")
    command.add_argument(
        "-n", metavar="N", type=_integer(0), help="rows; with --context-table, rows for each of its rows (default: 1)"
    )
    command.add_argument("-o", "--output", metavar="FILE", default="-", help=".csv or .npy file (default: -)")
    command.add_argument("--seed", metavar="N", type=_integer(0), help="fixes the rows")
    condition = command.add_mutually_exclusive_group()
    condition.add_argument(
        "--context", metavar="C,D,...", type=_values, help="condition of all rows (--context=-1,2 if negative)"
    )
    condition.add_argument("--context-table", metavar="TABLE", help="conditions, one a row")


def _info(command: _Parser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")


def _demo(command: _Parser) -> None:
    command.add_argument(
        "--output", metavar="PNG", default="pushforward-demo.png", help="file to draw to (default: %(default)s)"
    )


# -- types of values: what raises ArgumentTypeError is told with the option's name -----------------------------------


def _integer(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")

    return integer


def _number(low: float, high: float = math.inf, *, closed: bool = False) -> Callable[[str], float]:
    """Numbers between `low` and `high`, with `low` itself if `closed`."""
    ends = f"{'of at least' if closed else 'above'} {low:g}" + (f" and below {high:g}" if math.isfinite(high) else "")

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if low < value < high or (closed and value == low):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {ends}")

    return number


def _or_none(kind: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: None if text == "none" else kind(text)


def _widths(text: str) -> list[int]:
    return [_integer(1)(part) for part in text.split(",")] if text else []


def _activation(text: str) -> str:
    try:
        return MLP(activation=text).activation
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _values(text: str) -> list[float]:
    return [_number(-math.inf)(part) for part in text.split(",")]


def _validation(text: str) -> float | str:
    try:
        float(text)
    except ValueError:
        return text
    return _number(0.0, 1.0, closed=True)(text)
