"""Models on disk: safetensors, the description as JSON beside the tensors, nothing that could execute.

Saving is atomic. Loading believes nothing before it has checked it, and allocates no more than a small multiple of the
file's size.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pushforward import description
from pushforward._dispatch import core
from pushforward.checks import Array
from pushforward.errors import FileFormatError
from pushforward.history import Epoch, History

if TYPE_CHECKING:
    from pushforward.flow import Flow

PathLike: TypeAlias = str | os.PathLike[str]

FORMAT = 2
"""Version of the format; a file's is at most this."""

_KEY = "pushforward"
_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


# -- any dictionary of tensors beside a JSON value -----------------------------------------------------------------


def write(path: PathLike, content: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Write tensors and a JSON value to a file, whole or not at all."""
    from safetensors.numpy import save  # 10 ms to import

    text = json.dumps(content, allow_nan=False)
    data = save({name: np.ascontiguousarray(values) for name, values in tensors.items()}, {_KEY: text})
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's own mode is for secrets
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read(path: PathLike) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write` wrote. What the JSON value holds is for the caller to check."""
    data = Path(path).read_bytes()
    try:
        return _parse(data)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from None


def _json(text: str | bytes, what: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise FileFormatError(f"{what} names something twice")
        return result

    try:
        value = json.loads(text, object_pairs_hook=unique)
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


# -- a flow --------------------------------------------------------------------------------------------------------


def content_of(flow: Flow) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a flow as a JSON value and tensors."""
    content = {
        "format": FORMAT,
        "version": core.version,
        "model": flow._description,
        "data_dtype": flow._data_dtype.name,
        "initialized": flow._initialized,
        "columns": flow.columns,
        "context_columns": flow.context_columns,
        "training": None if flow.history is None else history_to_json(flow.history),
    }
    tensors: dict[str, Array] = dict(flow.named_parameters())
    tensors["standardization.shift"], tensors["standardization.scale"] = flow._standardization
    if flow.context:
        shift, scale = flow._context_standardization
        tensors["context_standardization.shift"], tensors["context_standardization.scale"] = shift, scale
    return content, tensors


def save(flow: Flow, path: PathLike) -> None:
    """Write a flow to a file."""
    if not np.isfinite(flow.parameters).all():
        raise ValueError("the flow's parameters hold NaN or infinity; such a file could not be loaded")
    write(path, *content_of(flow))


def load(flow: Flow, path: PathLike) -> None:
    """Make a flow what a file holds; of a checkpoint, the best state."""
    content, tensors = read(path)
    content.pop("checkpoint", None)
    best = tensors.get("checkpoint.best")
    tensors = {name: values for name, values in tensors.items() if not name.startswith("checkpoint.")}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise FileFormatError(f"{os.fspath(path)}: tensor {name!r} holds NaN or infinity")
    try:
        restore(flow, content, tensors)
        if best is not None:
            flow.parameters[...] = _take({"best": best}, "best", flow.parameters.shape, flow.dtype)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from None


def restore(flow: Flow, content: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Make a flow what `content_of` returned, after checking all of it; on an error the flow is as it was."""
    tensors = dict(tensors)
    try:
        _restore(flow, content, tensors)
    except FileFormatError:
        raise
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError, AttributeError) as error:
        raise FileFormatError(f"the description cannot be used ({type(error).__name__}: {error})") from None


def _restore(flow: Flow, content: dict[str, Any], tensors: dict[str, Array]) -> None:
    model = content["model"]
    dim, context = model["dim"], model["context"]
    if type(dim) is not int or type(context) is not int or dim < 1 or context < 0:
        raise FileFormatError(f"dim is {dim!r} and context is {context!r}")
    standardizations = {}
    for name, width in (("standardization", dim), ("context_standardization", context)):
        if not width:
            standardizations[name] = np.zeros(0), np.ones(0)
            continue
        shift, scale = (_take(tensors, f"{name}.{part}", (width,), np.dtype(np.float64)) for part in ("shift", "scale"))
        if not (scale > 0).all():
            raise FileFormatError(f"{name}.scale is not above 0")
        standardizations[name] = shift, scale
    # Everything left is parameters: their number bounds what the description may ask for.
    budget = sum(values.size for values in tensors.values())
    description.check(model)
    twin = flow.__class__.__new__(flow.__class__)
    twin._build(model, most_parameters=budget)
    for name, values in twin.named_parameters().items():
        values[...] = _take(tensors, name, values.shape, values.dtype)
    if tensors:
        raise FileFormatError(f"unexpected tensor {min(tensors)!r}")
    twin._set_standardization(standardizations["standardization"], standardizations["context_standardization"])
    if content["data_dtype"] not in ("float32", "float64") or not isinstance(content["initialized"], bool):
        raise FileFormatError("data_dtype or initialized is damaged")
    twin._data_dtype = np.dtype(content["data_dtype"])
    twin._initialized = content["initialized"]
    twin.columns = _names(content["columns"], dim)
    twin.context_columns = _names(content["context_columns"], context)
    twin.history = None if content["training"] is None else history_from_json(content["training"])
    twin._threads = flow.__dict__.get("_threads")
    flow.__dict__.update(twin.__dict__)


def _take(tensors: dict[str, Array], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if name not in tensors:
        raise FileFormatError(f"tensor {name!r} is missing")
    values = tensors.pop(name)
    if values.shape != shape or values.dtype != dtype:
        raise FileFormatError(f"tensor {name!r} is {values.dtype} {values.shape}; {dtype} {shape} is expected")
    return values


def _names(names: Any, width: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != width or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"column names must be {width} strings")
    return tuple(names)


def history_to_json(history: History) -> dict[str, Any]:
    """Turn a history into JSON's types; NaN, which JSON lacks, becomes null."""
    epochs = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(epoch).items()}
        for epoch in history
    ]
    return {"stopped": history.stopped, "best_epoch": history.best_epoch, "epochs": epochs}


def history_from_json(value: dict[str, Any]) -> History:
    """Turn `history_to_json`'s result back."""
    epochs: list[dict[str, Any]] = value["epochs"]
    nan_for_null = ({name: math.nan if x is None else x for name, x in epoch.items()} for epoch in epochs)
    records = [Epoch(**epoch) for epoch in nan_for_null]  # type: ignore[arg-type]
    history = History(records, value["best_epoch"], value["stopped"])
    if not (type(history.best_epoch) is int and 0 <= history.best_epoch <= len(history)):
        raise FileFormatError("the history's best epoch is none of its epochs")
    return history
