"""The state of a flow: what it is, without the calls of `Flow` and without how it was fitted.

Files, fits, checks, and the modules beside `Flow` work on a state. Its calls take arrays that were checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model import description
from pushforward._model.bases import Base
from pushforward._model.layer import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.parametric import Parametric
from pushforward._model.place import Shape
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


class State(Parametric):
    """A flow's description, its compiled core, its data side and its names.

    Parameters
    ----------
    model : dict
        The description, in JSON's types.
    most_parameters : int, optional
        More parameters than this raise a ValueError before they are allocated.

    Attributes
    ----------
    shape : tuple of int or None
        Channels, height and width, if features are pixels.
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
    left_open : tuple of str
        The names of what a first fit was, or is, to choose.
    """

    core: core.FlowFloat32 | core.FlowFloat64

    def __init__(self, model: dict[str, Any], *, most_parameters: int | None = None) -> None:
        self.model = model
        self.dim: int = model["dim"]
        self.context: int = model["context"]
        self.shape: Shape | None = description.shape_of(model)
        self.dtype: np.dtype[Any] = np.dtype(model["dtype"])
        self.context_network: ContextNetwork | None = description.context_network_of(model)
        self.conditioner_precision: Literal["bfloat16"] | None = description.conditioner_precision_of(model)
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
        self.open: Open | None = None
        self.left_open: tuple[str, ...] = ()
        self._columns: tuple[str, ...] | None = None
        self._context_columns: tuple[str, ...] | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers as they were described, in generator order."""
        return description.layers_of(self.model)

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

    # -- standardisation -----------------------------------------------------------------------------------------

    def set_standardization(
        self, data: Standardization, context: Standardization, cells: Doubles | None = None
    ) -> None:
        """Set shift and scale of the features and of the conditioning features, and the cells at bounds, if any."""
        self.standardization, self.context_standardization = data, context
        self.cells = np.zeros((self.dim, 2)) if cells is None else cells
        self.core.set_standardization(*data, self.cells)
        self.core.set_context_standardization(*context)

    # -- calls, on arrays that were checked ----------------------------------------------------------------------

    def log_prob(
        self, x: Array, context: Array | None = None, index: Indices | None = None, temperature: float = 1.0
    ) -> Doubles:
        """Return the log density of rows, those of `index` if it is given."""
        density: Doubles = self.core.log_prob(
            x, context=context, index=index, temperature=temperature, threads=self.num_threads
        )
        return density

    def log_prob_and_grad(self, x: Array, context: Array | None = None) -> tuple[Doubles, Floats]:
        """Return the log density of rows, and its gradient by them."""
        return self.core.log_prob_and_grad(x, context=context, threads=self.num_threads)

    def log_prob_vjp(
        self, x: Array, seeds: Doubles, context: Array | None, parameters: bool
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return derivatives by rows, by the parameters if they are wanted, and by conditions, if there are any."""
        return self.core.log_prob_vjp(x, seeds, context=context, parameters=parameters, threads=self.num_threads)

    def forward(self, z: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map latent points to data points; with the log-determinant."""
        return self.core.forward(z, context=context, threads=self.num_threads)

    def inverse(self, x: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map data points to latent points; with the log-determinant."""
        return self.core.inverse(x, context=context, threads=self.num_threads)

    def sample(
        self,
        key: int,
        n: int,
        context: Array | None = None,
        *,
        first: int = 0,
        with_log_prob: bool = False,
        temperature: float = 1.0,
    ) -> tuple[Floats, Doubles]:
        """Draw the `n` rows of a key from row `first` on; each row depends on the key and its number alone."""
        return self.core.sample(
            key,
            n,
            first=first,
            context=context,
            is_double=self.data_dtype != np.float32,
            with_log_prob=with_log_prob,
            temperature=temperature,
            threads=self.num_threads,
        )

    def forward_and_log_prob(self, z: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map latent points to data points; with the log density there."""
        return self.core.forward_and_log_prob(z, context=context, threads=self.num_threads)

    def inverse_and_log_prob(self, x: Array, context: Array | None = None) -> tuple[Floats, Doubles]:
        """Map data points to latent points; with the log density of the data points."""
        return self.core.inverse_and_log_prob(x, context=context, threads=self.num_threads)

    def base_log_prob(self, z: Array, temperature: float = 1.0) -> Doubles:
        """Return the log density of latent points."""
        density: Doubles = self.core.base_log_prob(z, temperature=temperature, threads=self.num_threads)
        return density

    def sample_latent(self, key: int, n: int, temperature: float = 1.0) -> Floats:
        """Draw the latent points of the rows of a key."""
        is_double = self.data_dtype != np.float32
        return self.core.sample_latent(key, n, is_double=is_double, temperature=temperature, threads=self.num_threads)

    def checked_temperature(self, temperature: float) -> float:
        """Return a temperature of the base; raise if it is none, or if the base has no scale."""
        # Beyond these bounds its square would leave the range of numbers.
        value = _checks.number("temperature", temperature, 1e-100, 1e100)
        if value != 1 and "line" not in self.core.latent_domains:
            raise ValueError(
                f"temperature={value:g} multiplies the scale of the base, and this flow has none to multiply: all its "
                "latent features are uniform, in a box or on a circle"
            )
        return value

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


class _Unseeded:
    """The generator of draws without a seed.

    One is kept, since making one takes longer than drawing a row. Threads may share it: it locks itself.
    """

    rng = np.random.default_rng()

    @classmethod
    def begin_anew(cls) -> None:
        """Replace the generator, in a process that would draw the rows of its parent."""
        cls.rng = np.random.default_rng()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Unseeded.begin_anew)


def sample_key(seed: int | np.random.Generator | None) -> int:
    """Return what names the rows of one sample."""
    rng = _Unseeded.rng if seed is None else np.random.default_rng(seed)
    return int(rng.integers(2**64, dtype=np.uint64))
