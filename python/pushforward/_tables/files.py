"""The model of a table on disk: the schema, the masses and the flows in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward._dispatch import core
from pushforward._fit.history import History, from_json, is_number, to_json
from pushforward._io import files
from pushforward._model import masses
from pushforward._model.masses import Masses
from pushforward._model.state import state_of
from pushforward._tables.coding import Coding
from pushforward._tables.model import TableModel
from pushforward._tables.schema import Schema
from pushforward._tables.summary import Summary
from pushforward._typing import Array, PathLike
from pushforward.errors import FileFormatError
from pushforward.flow import Flow

_MEMBERS = {"schema", "library", "summaries", "masses", "masses_history", "flows", "progress"}


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Parameters
    ----------
    model : TableModel
        The model.
    library : str
        The library of the table that was fitted.
    histories : mapping of str to History
        The curves of the fit of each part.
    progress : dict, optional
        Of a checkpoint: how far the fit has come, in JSON's types.
    """

    model: TableModel
    library: str
    histories: Mapping[str, History]
    progress: Mapping[str, Any] | None = None


def save(path: PathLike, saved: Saved) -> None:
    """Write the model of a table to a file, whole or not at all."""
    files.write(path, *to_file(saved))


def to_file(saved: Saved) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what a file holds; raise ValueError for parameters that could not be loaded."""
    content, tensors = content_of(saved)
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ValueError(f"the parameters {name!r} hold NaN or infinity; such a file could not be loaded")
    return content, tensors


def content_of(saved: Saved) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what a file holds: content in JSON's types, and tensors, which are copies."""
    model, tensors = saved.model, dict[str, Array]()
    if model.masses is not None:
        tensors |= {f"masses.{name}": values.copy() for name, values in model.masses.named_parameters().items()}
    flows = []
    for i, number in enumerate(model.numbers):
        flow = model.flows[model.codings[number].name]
        content, found = files.content_of(state_of(flow), to_json(flow.history))
        flows.append(content)
        tensors |= {f"flows.{i}.{name}": values.copy() for name, values in found.items()}
    table = {
        "schema": model.schema.to_json(),
        "library": saved.library,
        "summaries": {coding.name: coding.summary.to_json() for coding in model.codings},
        "masses": None if model.masses is None else model.masses.model,
        "masses_history": to_json(saved.histories.get("masses")),
        "flows": flows,
        "progress": None if saved.progress is None else dict(saved.progress),
    }
    return {"format": files.FORMAT, "version": core.version, files.TABLE: table}, tensors


def load(path: PathLike) -> Saved:
    """Read the model of a table from a file, and check all of it before it is used."""
    content, tensors = files.read(path)
    with files.reading(path):
        return of_file(content, tensors)


def of_file(content: Mapping[str, Any], tensors: Mapping[str, Array]) -> Saved:
    """Make the model of a file, after checking all of it."""
    if files.TABLE not in content:
        raise FileFormatError("it holds no model of a table; a flow is loaded with Flow.load")
    return restore(content, tensors)


def restore(content: Mapping[str, Any], tensors: Mapping[str, Array]) -> Saved:
    """Turn the result of `content_of` back; raise FileFormatError if it is none."""
    files.check_finite(dict(tensors))
    table = content[files.TABLE]
    if not isinstance(table, dict) or set(table) != _MEMBERS:
        raise FileFormatError(f"the table's model must have {', '.join(sorted(_MEMBERS))}")
    parts: dict[str, dict[str, Array]] = {}
    for name, values in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "flows":
            number, _, rest = rest.partition(".")
            kind = f"flows.{number}"
        parts.setdefault(kind, {})[rest] = values
    model = _model(table)
    model.masses = _masses(model, table["masses"], parts.pop("masses", {}))
    histories = {}
    for i, (position, entry) in enumerate(zip(model.numbers, table["flows"], strict=True)):
        coding = model.codings[position]
        flow = _flow(entry, parts.pop(f"flows.{i}", {}), coding)
        model.flows[coding.name] = flow
        if flow.history is not None:
            histories[coding.name] = flow.history
    if parts:
        raise FileFormatError(f"unexpected tensors {min(parts)!r}")
    _check_contexts(model)
    history = table["masses_history"]
    if history is not None and not isinstance(history, dict):
        raise FileFormatError("the history is damaged")
    of_masses = from_json(history)
    if of_masses is not None:
        histories = {"masses": of_masses, **histories}
    return Saved(model, table["library"], histories, _progress(table["progress"]))


def _progress(value: object) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"key", "done", "elapsed", "settings"}:
        raise FileFormatError("the progress of the fit is damaged")
    counts = all(type(value[name]) is int and value[name] >= 0 for name in ("key", "done"))
    if not counts or value["key"] >= 1 << 62 or not is_number(value["elapsed"]) or value["elapsed"] < 0:
        raise FileFormatError("the progress of the fit is damaged")
    if not isinstance(value["settings"], dict):
        raise FileFormatError("the progress of the fit is damaged")
    return value


def key_of(saved: Saved) -> int:
    """Return what fixes the fit that a checkpoint is of; raise ValueError if the file is none."""
    if saved.progress is None:
        raise ValueError("resume needs a checkpoint; this file holds a model whose fit has ended")
    return int(saved.progress["key"])


def _model(table: Mapping[str, Any]) -> TableModel:
    try:
        schema = Schema.from_json(table["schema"])
        given = table["summaries"]
        if not isinstance(given, dict) or set(given) != set(schema.columns):
            raise ValueError("summaries are not those of the columns")
        model = TableModel(schema, {name: Summary.from_json(entry) for name, entry in given.items()})
        if not isinstance(table["flows"], list) or len(table["flows"]) != len(model.numbers):
            raise ValueError("flows are not those of the columns of numbers")
        if not isinstance(table["library"], str):
            raise ValueError(f"library is {table['library']!r}")
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"the schema cannot be used ({error})") from None
    return model


def _masses(model: TableModel, description: object, tensors: dict[str, Array]) -> Masses | None:
    if not len(model.coded):
        if description is not None or tensors:
            raise FileFormatError("there are masses, but no column for them")
        return None
    codings = [model.codings[i] for i in model.coded]
    try:
        found = Masses(masses.check(description), most_parameters=sum(values.size for values in tensors.values()))
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as error:
        raise FileFormatError(f"the masses cannot be used ({error})") from None
    if found.context or list(found.categories) != [coding.codes for coding in codings]:
        raise FileFormatError("the masses are not those of the schema's columns")
    for name, values in found.named_parameters().items():
        values[...] = files.take(tensors, name, values.shape, values.dtype)
    if tensors:
        raise FileFormatError(f"unexpected tensor 'masses.{min(tensors)}'")
    return found


def _flow(content: object, tensors: dict[str, Array], coding: Coding) -> Flow:
    if not isinstance(content, dict):
        raise FileFormatError(f"the flow of column {coding.name!r} is no JSON object")
    flow = Flow.__new__(Flow)
    try:
        flow.__setstate__({"content": content, "tensors": tensors, "threads": None})
    except FileFormatError as error:
        raise FileFormatError(f"column {coding.name!r}: {error}") from None
    assert coding.axis is not None
    if flow.dim != 1 or flow.support != (coding.axis.support,):
        raise FileFormatError(f"the flow of column {coding.name!r} does not fit the schema")
    return flow


def _check_contexts(model: TableModel) -> None:
    """Raise a FileFormatError for a flow that reads another number of columns than there are."""
    for number in model.numbers:
        name = model.codings[number].name
        if model.flows[name].context != model.context_width(number):
            raise FileFormatError(f"the flow of column {name!r} has a context that does not fit the schema")
