"""A fit on disk: everything that its next step depends on, so that it goes on bit for bit where it was cut off."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pushforward._fit import history
from pushforward._fit.progress import Progress
from pushforward._io import files
from pushforward._model.state import State
from pushforward._typing import PathLike
from pushforward.errors import FileFormatError

_KIND = "checkpoint"


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
    arrays = {files.CHECKPOINT + name: array for name, array in progress.arrays().items()}
    files.write(path, content, {**tensors, **arrays})


def read(path: PathLike, like: State) -> Checkpoint:
    """Read a checkpoint of a fit of a flow that was described like this one."""
    content, tensors = files.read(path)
    with files.reading(path):
        entry = content.get(_KIND)
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), dict) for part in ("state", "settings")):
            raise FileFormatError("not a checkpoint; a model is loaded with Flow.load")
        state, arrays = files.restore_checkpoint(content, tensors)
        if not state.initialized:
            raise FileFormatError("the flow is not initialized")
        epochs = history.from_json(files.training_of(content))
        if epochs is None:
            raise FileFormatError("the history is missing")
        progress = Progress.read(entry["state"], arrays, epochs)
    differ = _difference(state, progress.left_open, like)
    if differ is not None:
        raise ValueError(f"{os.fspath(path)}: the checkpoint is of a flow with {differ[0]}; this one has {differ[1]}")
    return Checkpoint(state, progress, entry["settings"])


def _difference(state: State, left_open: Sequence[str], like: State) -> tuple[str, str] | None:
    """Return in words what a checkpoint's flow and this one were described with, where that differs.

    What a flow leaves open, the fit chose; so it has to be open in both.
    """
    for name in ("dim", "context", "dtype", "support", "context_network", "conditioner_precision"):
        theirs, mine = getattr(state, name), getattr(like, name)
        if theirs != mine:
            return f"{name}={theirs}", str(mine)
    is_open = () if like.open is None else like.open.parts
    for name in ("layers", "base"):
        if name in is_open:
            if name not in left_open:
                return f"{name} of its own", "those that the fit chooses"
            continue
        theirs, mine = getattr(state, name), getattr(like, name)
        if name == "layers" and len(theirs) == len(mine):
            for i, (their, my) in enumerate(zip(theirs, mine, strict=True)):
                if their != my:
                    return f"layers[{i}]={their}", str(my)
        if theirs != mine:
            return (f"{len(theirs)} layers", str(len(mine))) if name == "layers" else (f"{name}={theirs}", str(mine))
    return None
