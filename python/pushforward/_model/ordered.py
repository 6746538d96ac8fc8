"""Layers with a fixed order of the features or of the channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model.layer import Layer
from pushforward._model.place import Place


@dataclass(frozen=True)
class Ordered(Layer):
    """A layer with a fixed order of the features."""

    ORDERS: ClassVar[tuple[str, ...]] = ()

    order: str | Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", _checked_order(self.order, self.ORDERS))

    def count(self, place: Place) -> int:
        """How many features, or channels, are reordered."""
        return place.dim

    def resolve(self, place: Place, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Spell out the order as "indices"."""
        return {"indices": _indices(self.order, self.count(place), place, rng).tolist()}

    def check(self, resolved: Mapping[str, Any], place: Place) -> None:
        """Refuse indices that are not those of a permutation."""
        indices, count = resolved.get("indices"), self.count(place)
        integers = isinstance(indices, list) and all(type(index) is int for index in indices)
        if not integers or sorted(indices) != list(range(count)):  # type: ignore[arg-type]
            raise ValueError(f"indices are not a permutation of {count}")


def _indices(order: str | Sequence[int], count: int, place: Place, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if order == "natural":
        return np.arange(count)
    if order == "reverse":
        return np.arange(count)[::-1]
    if order == "random":
        return rng.permutation(count)
    if len(order) != count:
        raise ValueError(f"a permutation has {len(order)} indices; {place.described}")
    return np.array(order, dtype=np.int64)


def _checked_order(order: object, names: tuple[str, ...]) -> str | tuple[int, ...]:
    if isinstance(order, str):
        return _checks.choice("order", order, names)
    if not isinstance(order, Iterable):
        raise TypeError(f"order must be {', '.join(map(repr, names))} or a sequence of indices, not {order!r}")
    indices = tuple(_checks.integer(f"order[{i}]", index) for i, index in enumerate(order))
    if sorted(indices) != list(range(len(indices))):
        raise ValueError(f"order must hold each of 0 ... {len(indices) - 1} once, not {indices}")
    return indices
