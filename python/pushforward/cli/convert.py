"""``pushforward convert``: models of other precisions, formats and libraries. Nothing in a file is executed."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pushforward._io import files
from pushforward._model.description import PRECISIONS
from pushforward._typing import Array
from pushforward.cli import columns, values
from pushforward.cli.command import Command, check_output, end, given
from pushforward.convert import from_nflows, from_zuko
from pushforward.errors import FileFormatError
from pushforward.flow import Flow

_LIBRARIES: dict[str, tuple[Callable[..., Flow], tuple[str, ...]]] = {
    "nflows": (from_nflows, ("bound", "activation", "min_width", "min_height", "min_slope")),
    "zuko": (from_zuko, ("bound", "activation", "slope")),
}
_SETTINGS = {
    "--bound": "bound of the splines",
    "--slope": "slope of zuko's splines",
    "--min-width": "least width of nflows' splines",
    "--min-height": "least height of nflows' splines",
    "--min-slope": "least slope of nflows' splines",
}


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="model, or arrays of a state dict (.npz or .safetensors)")
    command.add_argument("-o", "--output", metavar="MODEL", required=True, help="file to save the model to")
    command.add_argument("--dtype", choices=PRECISIONS, help="precision (default: unchanged)")
    command.add_argument("--from", dest="library", choices=_LIBRARIES, help="library whose state dict FILE holds")
    settings = command.add_argument_group("settings of the library's model, which a state dict does not tell")
    for name, what in _SETTINGS.items():
        settings.add_argument(
            name, metavar="X", type=values.number(0), default=argparse.SUPPRESS, help=f"{what} (default: the library's)"
        )
    settings.add_argument(
        "--activation", metavar="NAME", type=values.activation, default=argparse.SUPPRESS,
        help="that of the networks (default: relu)",
    )  # fmt: skip


def _run(args: argparse.Namespace) -> int:
    # A model may be converted where it is.
    check_output(args.output, None if args.library is None else args.file)
    names = [name.removeprefix("--").replace("-", "_") for name in _SETTINGS]
    options = given(args, *names, "activation")
    if args.library is None:
        if options:
            raise ValueError(f"{_as_options(options)} go with --from nflows or --from zuko")
        flow, was = _own(args.file)
        if args.dtype is not None:
            flow = flow.astype(args.dtype)
    else:
        take_over, known = _LIBRARIES[args.library]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ValueError(f"{_as_options(unknown)} is no setting of {args.library}; those are {_as_options(known)}")
        arrays = _arrays(args.file)
        with columns.told_with(args.file):
            flow = take_over(arrays, dtype=args.dtype, **options)
        was = f"{len(arrays)} arrays of {args.library}"
    flow.save(args.output)
    said = columns.named(None, flow.dim)
    return end(
        f"{args.file}, {was}: now format {files.FORMAT}, {said}, {flow.parameters.size:,} parameters in {flow.dtype}; "
        f"saved to {args.output}",
        0,
    )


def _as_options(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _own(path: str) -> tuple[Flow, str]:
    """Load a model of this package, and say what it was."""
    if Path(path).suffix.lower() == ".npz":
        raise ValueError(f"{path}: arrays; say whose they are with --from nflows or --from zuko")
    try:
        flow = Flow.load(path)
    except FileFormatError as error:
        hint = "; a state dict needs --from nflows or --from zuko" if "not one of pushforward's" in str(error) else ""
        raise ValueError(f"{error}{hint}") from None
    content, _ = files.read(path)
    return flow, f"format {content['format']} in {flow.dtype}"


def _arrays(path: str) -> dict[str, Array]:
    """Read the arrays of a state dict from a file that contains only arrays."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
            raise ValueError(f"{path}: not a .npz file of numbers, or a damaged one") from None
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load

        data = Path(path).read_bytes()
        try:
            return load(data)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a .safetensors file of NumPy's types, or a damaged one ({error})") from None
    raise ValueError(
        f"{path}: a state dict comes as .npz or .safetensors. Files of torch.save are pickles, which can run anything "
        "as they are read; where the model is at home, numpy.savez(FILE, **{name: value.numpy() for name, value in "
        "model.state_dict().items()}) writes one that holds numbers only"
    )


COMMAND = Command(
    "convert",
    "write a model in another precision, in the present format, or from another library",
    """\
FILE is a model of any earlier format, or the state dict of a neural spline flow
of nflows or zuko: its arrays by name, as numpy.savez or safetensors write them.
Nothing in a file is executed, and PyTorch is not needed. Options give the
settings that a state dict does not contain. In Python, pushforward.convert reads
them from the model itself, and compares densities.""",
    """\
  pushforward convert power.safetensors --dtype float64 -o double.safetensors
  pushforward convert theirs.npz --from zuko --bound 5 -o power.safetensors""",
    _add_arguments,
    _run,
)
