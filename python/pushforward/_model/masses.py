"""A mass over rows of categories, and its description in JSON's types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model.description import PRECISIONS
from pushforward._model.networks import NETWORKS, DenseNetwork, ResNet, even_units
from pushforward._model.parametric import Parametric
from pushforward._model.part import read
from pushforward._typing import Array, Doubles

_NAMES = {"context", "dtype", "categories", "ordered", "knots", "conditioner", "units"}


class Masses(Parametric):
    """A mass over rows of codes: the product of each column's given those before it.

    A masked autoregressive network has a softmax for each column (MADE: Germain, Gregor, Murray, Larochelle 2015). A
    row holds a code for each column, 0 up to its number of categories less 1, as a number of floating point.

    Parameters
    ----------
    model : dict
        The description, as `describe` makes it.
    most_parameters : int, optional
        More parameters than this raise a ValueError before they are allocated.
    """

    def __init__(self, model: dict[str, Any], *, most_parameters: int | None = None) -> None:
        self.model = model
        self.context: int = model["context"]
        self.categories: tuple[int, ...] = tuple(model["categories"])
        self.dtype: np.dtype[Any] = np.dtype(model["dtype"])
        kind = core.MassesFloat32 if model["dtype"] == "float32" else core.MassesFloat64
        self.core = kind(json.dumps(model), most_parameters=most_parameters)

    def sample(
        self, key: int, n: int, context: Array | None = None, *, first: int = 0, counts: Sequence[int] | None = None
    ) -> Doubles:
        """Draw the `n` rows of a key from row `first` on; each row depends on the key and its number alone.

        With `counts`, each code is drawn given that it is one of so many first ones of its column.
        """
        codes: Doubles = self.core.sample(key, n, first=first, context=context, counts=counts, threads=self.num_threads)
        return codes

    def complete(
        self, key: int, known: Doubles, context: Array | None = None, *, counts: Sequence[int] | None = None
    ) -> tuple[Doubles, Doubles]:
        """Draw the codes of rows that are negative, as `sample` does, and leave the others.

        Returns
        -------
        (n, columns) array, (n, columns) array
            All codes, and the log mass of each given those before it; with `counts`, given that it is one of so many.
        """
        codes: Doubles
        masses: Doubles
        codes, masses = self.core.complete(key, known, context=context, counts=counts, threads=self.num_threads)
        return codes, masses


def describe(
    categories: Sequence[int],
    ordered: Sequence[int] | None = None,
    knots: Sequence[int] | None = None,
    *,
    context: int = 0,
    dtype: str = "float32",
    conditioner: DenseNetwork = ResNet(hidden=128),  # noqa: B008 -- frozen
) -> dict[str, Any]:
    """Describe a mass.

    Parameters
    ----------
    categories : sequence of int
        The categories of each column.
    ordered : sequence of int, optional
        How many of the first codes of each column are the values of a number in their order; by default none.
    knots : sequence of int, optional
        How many hat functions the network reads of those, at least 1 and at most as many as there are, and 0 for a
        column without an order. Of each other code it reads whether it is there. By default as many as there are.
    context : int
        Conditioning numbers.
    dtype : {"float32", "float64"}
        Precision of the parameters and of the arithmetic.
    conditioner : MLP or ResNet
        The network that is masked.
    """
    ordered = [0] * len(categories) if ordered is None else list(ordered)
    return {
        "context": context,
        "dtype": dtype,
        "categories": list(categories),
        "ordered": ordered,
        "knots": ordered if knots is None else list(knots),
        "conditioner": conditioner.to_json(),
        "units": even_units(conditioner.widths, len(categories), context),
    }


def check(model: object) -> dict[str, Any]:
    """Return a description that comes from a file, if it is one.

    Raises
    ------
    TypeError, ValueError
        If it is none.
    """
    if not isinstance(model, dict) or set(model) != _NAMES:
        raise ValueError(f"the masses must have {', '.join(sorted(_NAMES))}")
    _checks.choice("dtype", model["dtype"], PRECISIONS)
    context = _checks.integer("context", model["context"])
    limits = core.limits["categories"]
    for name, least in (("categories", int(limits[0])), ("ordered", 0), ("knots", 0)):
        if not isinstance(model[name], list) or not model[name]:
            raise ValueError(f"{name} is no list")
        for i, count in enumerate(model[name]):
            _checks.integer(f"{name}[{i}]", count, least, int(limits[1]))
    conditioner = read(NETWORKS, model["conditioner"], "conditioner")
    if model["units"] != even_units(conditioner.widths, len(model["categories"]), context):
        raise ValueError("units are not those of the columns")
    return model
