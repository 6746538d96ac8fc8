"""Rows of xarray and ArviZ, told by what they have: neither is imported, but to make the latter's.

A DataArray is an array whose axes have names. A Dataset is several of them. InferenceData, or a DataTree, has one
as its posterior. Axes called chain, draw and sample are leading ones; what is left are features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pushforward._typing import Array

_LEADING = ("chain", "draw", "sample")


def is_labelled(x: object) -> bool:
    """Whether an object is one of these."""
    # type() and not isinstance(): arrays are what nearly every call passes
    return type(x) is not np.ndarray and (_is_array(x) or _dataset_of(x) is not None)


def values_of(x: Any, name: str) -> Array:
    """Return the values, (..., features)."""
    if _is_array(x):
        return _split(x)[0]
    dataset = _dataset_of(x)
    parts = {str(label): _split(variable)[0] for label, variable in dataset.data_vars.items()}
    if not parts:
        raise ValueError(f"{name} has no variables")
    shapes = {label: part.shape[:-1] for label, part in parts.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{label} {shape}" for label, shape in shapes.items())
        raise ValueError(
            f"{name} has variables with other axes of {', '.join(_LEADING)} than the rest: {listed}; leave some out"
        )
    return np.concatenate(list(parts.values()), axis=-1)


def names_of(x: Any) -> tuple[str, ...] | None:
    """Return the names of the features; None if they have none."""
    if _is_array(x):
        return _split(x)[1]
    found: list[str] = []
    for label, variable in _dataset_of(x).data_vars.items():
        rest = [dim for dim in variable.dims if dim not in _LEADING]
        labels = [variable.coords[d].values if d in variable.coords else range(variable.sizes[d]) for d in rest]
        entries = (", ".join(map(str, entry)) for entry in itertools.product(*labels))
        found += [f"{label}[{entry}]" if rest else str(label) for entry in entries]
    return tuple(found)


def _is_array(x: Any) -> bool:
    return hasattr(x, "dims") and hasattr(x, "coords") and hasattr(x, "transpose") and hasattr(x, "values") and _is(x)


def _is(x: Any) -> bool:
    return isinstance(getattr(x, "values", None), np.ndarray)


def _dataset_of(x: Any) -> Any:
    """Return a Dataset, or the one of a posterior; None for anything else."""
    found = getattr(x, "posterior", None) if hasattr(x, "groups") else x
    found = getattr(found, "dataset", found)  # of a node of a DataTree
    return found if hasattr(found, "data_vars") and hasattr(found, "sizes") else None


def _split(array: Any) -> tuple[Array, tuple[str, ...] | None]:
    """Return an array with its leading axes first and one axis of features, and the names of those."""
    leading = [dim for dim in _LEADING if dim in array.dims]
    rest = [dim for dim in array.dims if dim not in leading]
    values: Array = array.transpose(*leading, *rest).values
    labels = array.coords[rest[-1]].values if rest and rest[-1] in array.coords else ()
    names = tuple(labels) if len(labels) and all(isinstance(label, str) for label in labels) else None
    if not leading:
        return values, names
    return values.reshape((*values.shape[: len(leading)], -1)), names if len(rest) == 1 else None


def inference_data(columns: Sequence[str], rows: Array, attributes: dict[str, float], **stats: Array) -> Any:
    """Return rows as the posterior of ArviZ's InferenceData, as one chain; from ArviZ 1.0 on an xarray.DataTree.

    Parameters
    ----------
    columns : sequence of str
        Names of the features.
    rows : (n, dim) array
        The rows.
    attributes : dict
        Those of the posterior.
    **stats : (n,) array
        The group `sample_stats`, by name; without any there is no such group.
    """
    import arviz

    groups = {"posterior": {name: column[None] for name, column in zip(columns, rows.T, strict=True)}}
    if stats:
        groups["sample_stats"] = {name: values[None] for name, values in stats.items()}
    if hasattr(arviz, "InferenceData"):
        return arviz.from_dict(**groups, posterior_attrs=attributes)
    return arviz.from_dict(groups, attrs={"posterior": attributes})
