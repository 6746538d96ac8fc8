"""The state of a flow: what it is, without the calls of `Flow` and without how it was fitted.

Files, fits, checks, and the modules beside `Flow` work on a state. Its calls take arrays that were checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pushforward._dispatch import core
from pushforward._model import description, threads
from pushforward._model.bases import Base
from pushforward._model.layers import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles, Floats, Indices

Standardization = tuple[Doubles, Doubles]
"""Shift and scale of each column."""


@dataclass(frozen=True)
class Open:
    """What the first fit is to choose.

    Parameters
    ----------
    base : bool
        Whether the base too, beside the layers.
    rng : numpy.random.Generator
        Where random choices of the layers, and initial parameters, come from.
    """

    base: bool
    rng: np.random.Generator

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what is to be chosen."""
        return ("layers", "base") if self.base else ("layers",)


class State:
    """A flow's description, its compiled core, its data side and its names.

    Parameters
    ----------
    model : dict
        The description, in JSON's types.
    most_parameters : int, optional
        More parameters than this raise a ValueError before they are allocated.

    Attributes
    ----------
    core : FlowFloat32 or FlowFloat64
        The compiled flow. Parameters are 0 at first.
    standardization, context_standardization : pair of arrays
        Shift and scale of each feature, and of each conditioning feature; at first they change nothing.
    cells : (dim, 2) array
        How far the cells of values on the low and on the high bound of each feature reach: such a value stands for all
        that were rounded to it. 0: as far as the rounding of the table's type.
    initialized : bool
        Whether what is taken from data was set.
    data_dtype : dtype
        That of the rows fitted, and of samples.
    threads : int or None
        Threads of every call; None for the default.
    open : Open or None
        What the first fit is to choose; None if everything is described.
    """

    def __init__(self, model: dict[str, Any], *, most_parameters: int | None = None) -> None:
        self.model = model
        self.dim: int = model["dim"]
        self.context: int = model["context"]
        self.dtype: np.dtype[Any] = np.dtype(model["dtype"])
        self.context_network: ContextNetwork | None = description.context_network_of(model)
        self.base: Base = description.base_of(model)
        self.support: tuple[Support, ...] = description.support_of(model)
        kind = core.FlowFloat32 if model["dtype"] == "float32" else core.FlowFloat64
        try:
            self.core = kind(json.dumps(model), most_parameters=most_parameters)
        except (MemoryError, ValueError) as error:
            # More than can be counted is more than there are, in the words for a file.
            if isinstance(error, ValueError) and (most_parameters is not None or "more parameters" not in str(error)):
                raise
            raise MemoryError(
                f"a flow with dim={self.dim}, context={self.context} and these {len(model['layers'])} layers has more "
                "parameters than fit into memory; it needs smaller networks"
            ) from None
        self.standardization: Standardization = (np.zeros(self.dim), np.ones(self.dim))
        self.context_standardization: Standardization = (np.zeros(self.context), np.ones(self.context))
        self.cells: Doubles = np.zeros((self.dim, 2))
        self.initialized = False
        self.data_dtype: np.dtype[Any] = np.dtype(np.float64)
        self.threads: int | None = None
        self.open: Open | None = None
        self._columns: tuple[str, ...] | None = None
        self._context_columns: tuple[str, ...] | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers as they were described, in generator order."""
        return description.layers_of(self.model)

    @property
    def num_threads(self) -> int:
        """Threads of every call."""
        return self.threads or threads.default()

    def copy(self) -> State:
        """Return a state of the same flow that shares nothing that can change with this one."""
        result = State(self.model)
        result.parameters[...] = self.parameters
        result.set_standardization(self.standardization, self.context_standardization, self.cells)
        result.initialized, result.data_dtype, result.threads = self.initialized, self.data_dtype, self.threads
        result.open, result.columns, result.context_columns = self.open, self.columns, self.context_columns
        return result

    # -- names ---------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features, if they are known."""
        return self._columns

    @columns.setter
    def columns(self, names: Sequence[str] | None) -> None:
        self._columns = checked_names("columns", names, self.dim)

    @property
    def context_columns(self) -> tuple[str, ...] | None:
        """Names of the conditioning features, if they are known."""
        return self._context_columns

    @context_columns.setter
    def context_columns(self, names: Sequence[str] | None) -> None:
        self._context_columns = checked_names("context_columns", names, self.context)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features; x0, x1, ... if they are not known."""
        return self._columns or tuple(f"x{i}" for i in range(self.dim))

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Floats:
        """All parameters, as one live array."""
        parameters: Floats = self.core.parameters
        return parameters

    def named_parameters(self) -> dict[str, Floats]:
        """Return each block of the parameters by name, as writable views."""
        views: dict[str, Floats] = {}
        parameters, first = self.parameters, 0
        for name, shape, _ in self.core.parameter_blocks:
            size = int(np.prod(shape))
            views[name] = parameters[first : first + size].reshape(shape)
            first += size
        return views

    def draw_parameters(self, rng: np.random.Generator) -> None:
        """Draw initial parameters."""
        views = self.named_parameters()
        for name, _, bound in self.core.parameter_blocks:
            if bound > 0:
                views[name][...] = rng.uniform(-bound, bound, views[name].shape)

    def set_standardization(
        self, data: Standardization, context: Standardization, cells: Doubles | None = None
    ) -> None:
        """Set shift and scale of the features and of the conditioning features, and the cells at bounds, if any."""
        self.standardization, self.context_standardization = data, context
        self.cells = np.zeros((self.dim, 2)) if cells is None else cells
        self.core.set_standardization(*data, self.cells)
        self.core.set_context_standardization(*context)

    # -- calls, on arrays that were checked ----------------------------------------------------------------------

    def log_prob(self, x: Array, context: Array | None = None, index: Indices | None = None) -> Doubles:
        """Return the log density of rows, those of `index` if it is given."""
        density: Doubles = self.core.log_prob(x, context=context, index=index, threads=self.num_threads)
        return density

    def forward(self, z: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map latent points to data points; with the log-determinant."""
        return self.core.forward(z, context=context, threads=self.num_threads)

    def inverse(self, x: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map data points to latent points; with the log-determinant."""
        return self.core.inverse(x, context=context, threads=self.num_threads)

    def sample(
        self, key: int, n: int, context: Array | None = None, *, first: int = 0, with_log_prob: bool = False
    ) -> tuple[Floats, Doubles]:
        """Draw the `n` rows of a key from row `first` on; each row depends on the key and its number alone."""
        return self.core.sample(
            key,
            n,
            first=first,
            context=context,
            is_double=self.data_dtype != np.float32,
            with_log_prob=with_log_prob,
            threads=self.num_threads,
        )

    def to_line(self, x: Array, index: Indices | None = None) -> Array:
        """Return rows behind the support, before standardisation; for real features that is x."""
        if not any(support.is_bounded for support in self.support):
            return x if index is None else x[index]
        y: Array = self.core.to_line(x, index=index, threads=self.num_threads)
        return y


def checked_names(name: str, names: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    """Return names of columns, if there are any, as many as there should be."""
    if names is None:
        return None
    is_sequence = isinstance(names, Iterable) and not isinstance(names, str)
    found = tuple(names) if is_sequence else ()
    if not is_sequence or not all(isinstance(label, str) for label in found):
        raise TypeError(f"{name} must be a sequence of {count} strings or None, not {names!r}")
    if len(found) != count:
        raise ValueError(f"{name} has {len(found)} names; this flow needs {count}")
    return found or None


class _HasState(Protocol):
    _state: State


def state_of(flow: _HasState) -> State:
    """Return the state of a `Flow`: how modules beside it get at what its public calls do not give."""
    return flow._state


def sample_key(seed: int | np.random.Generator | None) -> int:
    """Return what names the rows of one sample."""
    return int(np.random.default_rng(seed).integers(2**64, dtype=np.uint64))
