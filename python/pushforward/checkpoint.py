"""A fit on disk: everything that its next step depends on, so that it goes on bit for bit where it was cut off."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pushforward import files
from pushforward.checks import Array
from pushforward.errors import FileFormatError
from pushforward.history import History
from pushforward.rows import Rows

if TYPE_CHECKING:
    from pushforward.flow import Flow

_KIND = "checkpoint"
_NUMBERS = (
    "position", "steps", "adam_steps", "failures", "losses", "norms", "rate", "rows_done", "steps_done", "elapsed",
)  # fmt: skip
_VECTORS = ("best", "good", "mean", "square")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Parameters
    ----------
    flow : Flow
        The flow as it stood.
    history : History
        What the fit had gone through.
    vectors : dict of arrays
        Best parameters, the ones to go back to, and Adam's moments; each as long as the parameters, or missing.
    state : dict
        The loop's own numbers, in JSON's types.
    settings : dict
        The options and the table that the state belongs to, in JSON's types.
    """

    flow: Flow
    history: History
    vectors: dict[str, Array]
    state: dict[str, Any]
    settings: dict[str, Any]


def save(path: files.PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    content, tensors = files.content_of(checkpoint.flow)
    content = {**content, _KIND: {"state": checkpoint.state, "settings": checkpoint.settings}}
    files.write(path, content, {**tensors, **{f"{_KIND}.{name}": v for name, v in checkpoint.vectors.items()}})


def load(flow: Flow, path: files.PathLike) -> Checkpoint:
    """Read a checkpoint of a fit that this flow may go on with; the flow stays as it is."""
    content, tensors = files.read(path)
    entry = content.pop(_KIND, None)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(part), dict) for part in ("state", "settings")):
        raise FileFormatError(f"{os.fspath(path)}: not a checkpoint; a model is loaded with Flow.load")
    model = content.get("model")
    for name, value in (("dim", flow.dim), ("context", flow.context), ("dtype", flow.dtype.name)):
        if isinstance(model, dict) and model.get(name) != value:
            raise ValueError(f"{os.fspath(path)} is of a flow with {name}={model.get(name)!r}; this one has {value!r}")
    vectors = {name: tensors.pop(f"{_KIND}.{name}") for name in _VECTORS if f"{_KIND}.{name}" in tensors}
    twin = flow.__class__.__new__(flow.__class__)
    files.restore(twin, content, tensors)
    twin.num_threads = flow._threads
    if twin.history is None:
        raise FileFormatError(f"{os.fspath(path)}: the history is missing")
    parameters = twin.parameters
    for name, values in vectors.items():
        if values.shape != parameters.shape or values.dtype != parameters.dtype or not np.isfinite(values).all():
            raise FileFormatError(f"{os.fspath(path)}: tensor {_KIND}.{name} is damaged")
    state = entry["state"]
    numbers = [state.get(name) for name in _NUMBERS]
    if not all(type(value) in (int, float) for value in numbers) or "good" not in vectors:
        raise FileFormatError(f"{os.fspath(path)}: the state is damaged")
    for name in ("rng_of_split", "rng_of_epoch"):
        try:
            np.random.default_rng().bit_generator.state = state[name]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise FileFormatError(f"{os.fspath(path)}: the random state is damaged") from None
    return Checkpoint(twin, twin.history, vectors, state, entry["settings"])


def fingerprint(rows: Rows) -> list[int]:
    """Tell a table from others: its rows, and a checksum of up to a thousand of them."""
    step = max(1, len(rows.x) // 1000)
    checksum = 0
    for array in (rows.x, rows.context, rows.weights):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array[::step]).tobytes(), checksum)
    return [len(rows.x), checksum]
