"""``pushforward info``: what a file holds."""

from __future__ import annotations

import argparse

from pushforward._io import files
from pushforward._model.state import state_of
from pushforward.cli import columns, mixed
from pushforward.cli.command import Command, shown
from pushforward.flow import Flow


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of the model")


def _run(args: argparse.Namespace) -> int:
    if files.is_table(args.model):
        return mixed.info(args)
    flow = Flow.load(args.model)
    content, _ = files.read(args.model)
    count = flow.parameters.size
    named = zip(state_of(flow).names, flow.support, strict=True)
    bounded = [f"{name} {support}" for name, support in named if support.is_bounded]
    if flow.shape is not None and bounded and len(set(flow.support)) == 1:
        bounded = [repr(flow.support[0])]
    print(shown(args.model))
    for label, value in (
        ("format", f"{content['format']}, written by pushforward {content['version']}"),
        ("features", columns.named(*columns.features(flow))),
        *([("shape", flow.shape)] if flow.shape else []),
        ("support", ", ".join(bounded) or "any real number"),
        ("context", columns.named(*columns.conditions(flow)) if flow.context else "none"),
        *([("network", flow.context_network)] if flow.context_network else []),
        *([("products", flow.conditioner_precision)] if flow.conditioner_precision else []),
        ("parameters", f"{count:,} in {flow.dtype}, {count * flow.dtype.itemsize / 1e6:.2f} MB"),
        ("training", flow.history or "none recorded"),
        ("base", flow.base),
        ("layers", f"{len(flow.layers)}, from the base to the data"),
        *((f"{i:>4}", layer) for i, layer in enumerate(flow.layers, 1)),
    ):
        print(f"{label:<11} {shown(value)}")
    return 0


COMMAND = Command("info", "describe a model", "", "  pushforward info power.safetensors", _add_arguments, _run)
