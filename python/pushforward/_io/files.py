"""Models on disk: safetensors, the description as JSON beside the tensors, nothing that could execute.

Saving is atomic. Loading uses nothing before it has checked it, and allocates no more than a small multiple of the
file's size.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pushforward._dispatch import core
from pushforward._io import output
from pushforward._model import description
from pushforward._model.state import State
from pushforward._typing import Array, Doubles, PathLike
from pushforward.errors import FileFormatError

FORMAT: int = core.file_format
"""Version of the format; a file's is at most this."""

_KEY = "pushforward"
CHECKPOINT = "checkpoint."
"""How the names of tensors begin that a checkpoint has beside those of the flow."""
CARRIED = "objective."
"""How the names of those go on that are the objective's own, in any shape."""

TABLE = "table"
"""The member of a file that describes the model of a table; such a file has no model of a flow."""

_CELLS = "standardization.cells"
_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


# -- any dictionary of tensors beside a JSON value -----------------------------------------------------------------


def write(path: PathLike, content: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Write tensors and a JSON value to a file, whole or not at all."""
    from safetensors.numpy import save  # 10 ms to import

    text = json.dumps(content, allow_nan=False)
    data = save({name: np.ascontiguousarray(values) for name, values in tensors.items()}, {_KEY: text})
    output.write(path, data)


def read(path: PathLike) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote. What the JSON value holds is for the caller to check."""
    data = Path(path).read_bytes()
    with reading(path):
        return _parse(data)


@contextlib.contextmanager
def reading(path: PathLike) -> Iterator[None]:
    """Put the path in front of what is wrong with a file."""
    try:
        yield
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from None


def _json(text: str | bytes, what: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise FileFormatError(f"{what} names something twice")
        return result

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise FileFormatError(f"{what} has {number[:20]} for a number")
        return value

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_constant=finite)
    except FileFormatError:
        raise
    except (ValueError, RecursionError):
        raise FileFormatError(f"{what} is not JSON, or nested too deep") from None
    if not isinstance(value, dict):
        raise FileFormatError(f"{what} is not a JSON object")
    return value


def _parse(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    from safetensors import SafetensorError, deserialize

    try:
        # Checks the header's length, every shape, dtype and offset, and that tensors fill the file without overlap.
        entries: Any = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise FileFormatError(f"not a safetensors file, or a damaged one ({error})") from None
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")], "the header")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or _KEY not in metadata:
        raise FileFormatError("a safetensors file, but not one of pushforward's")
    content = _json(metadata[_KEY], "the description")
    version = content.get("format")
    if type(version) is not int or version < 1:
        raise FileFormatError(f"the format version is {version!r}")
    if not isinstance(content.get("version"), str):
        raise FileFormatError("the version that wrote it is missing")
    if version > FORMAT:
        raise FileFormatError(
            f"written in format {version}; this version of pushforward reads up to {FORMAT}: update it"
        )
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise FileFormatError(f"tensor {name!r} has dtype {entry['dtype']}; F32 or F64 is expected")
        tensors[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])  # type: ignore[call-overload]
    return content, tensors


def is_table(path: PathLike) -> bool:
    """Whether a file holds the model of a table."""
    return TABLE in read(path)[0]


# -- a flow --------------------------------------------------------------------------------------------------------


def content_of(state: State, training: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a flow, and the history of its fit in JSON's types, as a JSON value and tensors."""
    content = {
        "format": FORMAT,
        "version": core.version,
        "model": state.model,
        "data_dtype": state.data_dtype.name,
        "initialized": state.initialized,
        "columns": state.columns,
        "context_columns": state.context_columns,
        "training": training,
    }
    tensors: dict[str, Array] = dict(state.named_parameters())
    tensors["standardization.shift"], tensors["standardization.scale"] = state.standardization
    if state.cells.any():
        tensors[_CELLS] = state.cells
    if state.context:
        shift, scale = state.context_standardization
        tensors["context_standardization.shift"], tensors["context_standardization.scale"] = shift, scale
    return content, tensors


def flow_of(content: dict[str, Any], tensors: dict[str, Array]) -> tuple[State, dict[str, Any] | None]:
    """Make the flow of a file, and the history of its fit in JSON's types; of a checkpoint, the best state."""
    if _is_ensemble(content):
        raise FileFormatError("it holds an ensemble, which Ensemble.load reads")
    if TABLE in content:
        raise FileFormatError("it holds the model of a table, which TableFlow.load reads")
    state, kept = restore_checkpoint(content, tensors)
    if "best" in kept:
        state.parameters[...] = kept["best"]
    return state, training_of(content)


def restore_checkpoint(content: dict[str, Any], tensors: dict[str, Array]) -> tuple[State, dict[str, Array]]:
    """Make the flow of a file, and return what a checkpoint keeps beside it by name.

    All arrays but those of the objective are as long as the parameters.
    """
    check_finite(tensors)
    kept = {name: values for name, values in tensors.items() if name.startswith(CHECKPOINT)}
    if ("checkpoint" in content) != bool(kept):
        raise FileFormatError("half of a checkpoint is missing")
    state = restore(content, {name: values for name, values in tensors.items() if name not in kept})
    for name in list(kept):
        own = name.removeprefix(CHECKPOINT)
        values = kept[name]
        shape, dtype = (
            (values.shape, values.dtype) if own.startswith(CARRIED) else (state.parameters.shape, state.dtype)
        )
        kept[own] = take(kept, name, shape, dtype)
    return state, kept


def check_finite(tensors: dict[str, Array]) -> None:
    """Raise a FileFormatError for a tensor that holds NaN or infinity."""
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise FileFormatError(f"tensor {name!r} holds NaN or infinity")


def training_of(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the history in JSON's types; what it holds is for the caller to check."""
    training = content.get("training")
    if training is not None and not isinstance(training, dict):
        raise FileFormatError("the history is damaged")
    return training


def restore(content: dict[str, Any], tensors: dict[str, Array]) -> State:
    """Make the flow that `content_of` returned, after checking all of it."""
    tensors = dict(tensors)
    model = content.get("model")
    if not isinstance(model, dict):
        raise FileFormatError("the model is missing")
    dim, context = model.get("dim"), model.get("context")
    if type(dim) is not int or type(context) is not int or dim < 1 or context < 0:
        raise FileFormatError(f"dim is {dim!r} and context is {context!r}")
    data = _take_standardization(tensors, "standardization", dim)
    cells = take(tensors, _CELLS, (dim, 2), np.dtype(np.float64)) if _CELLS in tensors else np.zeros((dim, 2))
    if not (cells >= 0).all():
        raise FileFormatError(f"{_CELLS} is below 0")
    conditions = _take_standardization(tensors, "context_standardization", context)
    # Everything left is parameters: their number bounds what the description may ask for.
    state = _build(model, sum(values.size for values in tensors.values()))
    for name, values in state.named_parameters().items():
        values[...] = take(tensors, name, values.shape, values.dtype)
    if tensors:
        raise FileFormatError(f"unexpected tensor {min(tensors)!r}")
    try:
        state.set_standardization(data, conditions, cells)
    except ValueError as error:
        raise FileFormatError(f"the standardisation cannot be used ({error})") from None
    data_dtype, initialized = content.get("data_dtype"), content.get("initialized")
    if data_dtype not in description.PRECISIONS or not isinstance(initialized, bool):
        raise FileFormatError("data_dtype or initialized is damaged")
    state.data_dtype, state.initialized = np.dtype(data_dtype), initialized
    try:
        state.columns, state.context_columns = content.get("columns"), content.get("context_columns")
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"the column names are damaged ({error})") from None
    return state


def _build(model: object, most_parameters: int) -> State:
    """Build the flow of a description, with parameters of 0."""
    try:
        return State(description.check(model), most_parameters=most_parameters)
    # The parts raise TypeError and ValueError, OverflowError comes from integers that no float holds, and the core
    # raises RuntimeError, for JSON that it cannot read, and MemoryError.
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as error:
        raise FileFormatError(f"the description cannot be used ({type(error).__name__}: {error})") from None


def _take_standardization(tensors: dict[str, Array], name: str, width: int) -> tuple[Array, Array]:
    if not width:
        return np.zeros(0), np.ones(0)
    shift, scale = (take(tensors, f"{name}.{part}", (width,), np.dtype(np.float64)) for part in ("shift", "scale"))
    if not (scale > 0).all():
        raise FileFormatError(f"{name}.scale is not above 0")
    return shift, scale


def take(tensors: dict[str, Array], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Take a tensor out of those of a file, if it is there and of this shape and type."""
    if name not in tensors:
        raise FileFormatError(f"tensor {name!r} is missing")
    values = tensors.pop(name)
    if values.shape != shape or values.dtype != dtype:
        raise FileFormatError(f"tensor {name!r} is {values.dtype} {values.shape}; {dtype} {shape} is expected")
    return values


# -- an ensemble ---------------------------------------------------------------------------------------------------

Member = tuple[dict[str, Any], dict[str, Array]]
"""What `content_of` returns of a member."""

_SUM_TOLERANCE = 1e-9


def _is_ensemble(content: dict[str, Any]) -> bool:
    """Whether a file has members where a flow's has a model."""
    return "members" in content and "model" not in content


def content_of_ensemble(members: Sequence[Member], weights: Doubles) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return flows with weights as a JSON value and tensors: those of member m are named ``members.m.NAME``."""
    tensors: dict[str, Array] = {"weights": weights}
    for m, (_, tensors_of_m) in enumerate(members):
        for name, values in tensors_of_m.items():
            if not np.isfinite(values).all():
                raise ValueError(f"the parameters of member {m} hold NaN or infinity; such a file could not be loaded")
            tensors[f"members.{m}.{name}"] = values
    descriptions = [content for content, _ in members]
    return {"format": FORMAT, "version": core.version, "members": descriptions}, tensors


def ensemble_of(content: dict[str, Any], tensors: dict[str, Array]) -> tuple[list[Member], Doubles]:
    """Return the members of a file and their weights; of a flow's file, the flow. `restore` checks what each holds."""
    if not _is_ensemble(content):
        return [content_of(*flow_of(content, tensors))], np.ones(1)
    check_finite(tensors)
    descriptions = content["members"]
    if not isinstance(descriptions, list) or not descriptions:
        raise FileFormatError("the members are missing")
    if not all(isinstance(entry, dict) for entry in descriptions):
        raise FileFormatError("a member is not a JSON object")
    weights: Doubles = take(tensors, "weights", (len(descriptions),), np.dtype(np.float64))
    if not ((weights >= 0).all() and abs(weights.sum() - 1) <= _SUM_TOLERANCE):
        raise FileFormatError("the weights are negative, or do not add up to 1")
    parts: list[dict[str, Array]] = [{} for _ in descriptions]
    numbers = {str(m): m for m in range(len(parts))}
    for name, values in tensors.items():
        kind, _, rest = name.partition(".")
        number, _, rest = rest.partition(".")
        if kind != "members" or number not in numbers:
            raise FileFormatError(f"unexpected tensor {name!r}")
        parts[numbers[number]][rest] = values
    return list(zip(descriptions, parts, strict=True)), weights
