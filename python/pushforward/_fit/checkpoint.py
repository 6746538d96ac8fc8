"""A fit on disk: everything that its next step depends on, so that it goes on bit for bit where it was cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward._fit import history
from pushforward._fit.progress import Progress
from pushforward._io import files
from pushforward._model.state import State
from pushforward._typing import PathLike
from pushforward.errors import FileFormatError

_KIND = "checkpoint"
_PREFIX = f"{_KIND}."


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Parameters
    ----------
    state : State
        The flow as it stood.
    progress : Progress
        How far the fit had come.
    settings : dict
        The options and the table that the progress belongs to, in JSON's types.
    """

    state: State
    progress: Progress
    settings: dict[str, Any]


def write(path: PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    progress = checkpoint.progress
    content, tensors = files.content_of(checkpoint.state, history.to_json(progress.history))
    content[_KIND] = {"state": progress.to_json(), "settings": checkpoint.settings}
    files.write(path, content, {**tensors, **{_PREFIX + name: array for name, array in progress.arrays().items()}})


def read(path: PathLike, like: State) -> Checkpoint:
    """Read a checkpoint of a fit of a flow like this one."""
    content, tensors = files.read(path)
    with files.reading(path):
        entry = content.get(_KIND)
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), dict) for part in ("state", "settings")):
            raise FileFormatError("not a checkpoint; a model is loaded with Flow.load")
        model = content.get("model")
        for name, value in (("dim", like.dim), ("context", like.context), ("dtype", like.dtype.name)):
            if isinstance(model, dict) and model.get(name) != value:
                raise ValueError(f"{path!s} is of a flow with {name}={model.get(name)!r}; this one has {value!r}")
        arrays = {name[len(_PREFIX) :]: tensors.pop(name) for name in list(tensors) if name.startswith(_PREFIX)}
        state = files.restore(content, tensors)
        epochs = history.from_json(files.training_of(content))
        if epochs is None:
            raise FileFormatError("the history is missing")
        for name, values in arrays.items():
            shape, dtype = state.parameters.shape, state.dtype
            if values.shape != shape or values.dtype != dtype or not np.isfinite(values).all():
                raise FileFormatError(f"tensor {_PREFIX}{name} is damaged")
        progress = Progress.read(entry["state"], arrays, epochs)
    return Checkpoint(state, progress, entry["settings"])
