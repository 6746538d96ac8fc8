"""Layers whose parameters a fit leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pushforward import _checks
from pushforward._model.parametric import Parametric
from pushforward._typing import Array, Floats, Indices


def resolve(frozen: Iterable[int], layers: int) -> tuple[int, ...]:
    """Return the numbers of the frozen layers, sorted and from 0 on; negative ones count from the end."""
    found = set()
    for i, index in enumerate(frozen):
        number = _checks.integer(f"frozen[{i}]", index, -layers)
        if number >= layers:
            raise ValueError(f"frozen[{i}] is {number}; this flow has {layers} layers, numbered from 0")
        found.add(number % layers)
    return tuple(sorted(found))


class Frozen:
    """The parameters of frozen layers, where they stand and what they are.

    Parameters
    ----------
    state : Parametric
        The model.
    layers : tuple of int
        The numbers of the frozen layers, as `resolve` returns them.
    """

    def __init__(self, state: Parametric, layers: tuple[int, ...]) -> None:
        self.layers = layers
        prefixes = tuple(f"layers.{i}." for i in self.layers)
        self._runs = [run for name, run in runs(state).items() if prefixes and name.startswith(prefixes)]
        self._values = [state.parameters[run].copy() for run in self._runs]

    def __bool__(self) -> bool:
        return bool(self._runs)

    def clear(self, gradient: Floats) -> None:
        """Set their part of a gradient to 0."""
        for run in self._runs:
            gradient[run] = 0

    def restore(self, *arrays: Array) -> None:
        """Write their values into arrays of parameters.

        Steps without a gradient leave numbers as they are, except that -0 may become 0, and subnormal numbers do.
        """
        for run, values in zip(self._runs, self._values, strict=True):
            for array in arrays:
                array[run] = values


def runs(state: Parametric) -> dict[str, slice]:
    """Return where each block of the parameters stands in their vector, by name."""
    found, first = {}, 0
    for name, values in state.named_parameters().items():
        found[name] = slice(first, first + values.size)
        first += values.size
    return found


def decayed(state: Parametric, frozen: Frozen) -> Indices:
    """Return where the weights of networks that are not frozen stand, (k, 2) of first and last + 1."""
    prefixes = tuple(f"layers.{i}." for i in frozen.layers)
    found = []
    for name, run in runs(state).items():
        is_network = "conditioner." in name or name.startswith("context_network.")
        if is_network and name.endswith(".weight") and not (prefixes and name.startswith(prefixes)):
            found.append((run.start, run.stop))
    return np.array(found, dtype=np.int64).reshape(-1, 2)
