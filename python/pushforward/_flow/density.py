"""The calls on rows of data that every density has, that of one flow or of several.

Arguments are checked and become tables here, and results get their shape. What subclasses compute is on tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._io import rows
from pushforward._io.stored import Stored
from pushforward._model.place import Shape
from pushforward._model.state import State, sample_key
from pushforward._model.supports import Support
from pushforward._shapes import Batch, batch, draws
from pushforward._typing import Array, Doubles, Floats, Seed

ByParameters = TypeVar("ByParameters")


class Density(ABC, Generic[ByParameters]):
    """A density over rows of features, a `Flow` or an `Ensemble`; its derivative by parameters is a `ByParameters`."""

    # -- what a subclass is and computes -------------------------------------------------------------------------

    @property
    @abstractmethod
    def _outline(self) -> State:
        """A state with the features, the conditions and the support of the density."""

    @abstractmethod
    def _checked_temperature(self, temperature: float) -> float:
        """Return a temperature; raise if it is none, or if there is no scale to multiply."""

    @abstractmethod
    def _log_prob(self, x: Array, context: Array | None, temperature: float) -> Doubles:
        """Return the log density of rows."""

    @abstractmethod
    def _log_prob_and_grad(self, x: Array, context: Array | None) -> tuple[Doubles, Floats]:
        """Return the log density of rows, and its gradient by them."""

    @abstractmethod
    def _log_prob_vjp(
        self, x: Array, seeds: Doubles, context: Array | None, parameters: bool
    ) -> tuple[Floats, ByParameters | None, Floats | None]:
        """Return derivatives by rows, by the parameters if they are wanted, and by conditions."""

    @abstractmethod
    def _draw(
        self, key: int, n: int, context: Array | None, temperature: float, *, with_log_prob: bool
    ) -> tuple[Floats, Doubles]:
        """Return the rows of a key, and their log densities, if they are wanted."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features."""

    @property
    @abstractmethod
    def context_columns(self) -> tuple[str, ...] | None:
        """Names of the conditioning features."""

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Number of features."""
        return self._outline.dim

    @property
    def shape(self) -> Shape | None:
        """Channels, height and width of a row; None if rows are flat.

        Examples
        --------
        >>> flow = Flow(shape=(1, 4, 4), layers=[])
        >>> flow.dim, flow.sample(5, seed=0).shape
        (16, (5, 1, 4, 4))
        """
        return self._outline.shape

    @property
    def context(self) -> int:
        """Number of conditioning features."""
        return self._outline.context

    @property
    def support(self) -> tuple[Support, ...]:
        """What values each feature may take.

        Examples
        --------
        >>> Flow(2, support=[Positive(), Real()]).support
        (Positive(), Real())
        """
        return self._outline.support

    # -- densities and samples -----------------------------------------------------------------------------------

    @overload
    def log_prob(
        self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, *, temperature: float = 1.0, out: None = None
    ) -> Doubles: ...

    @overload
    def log_prob(
        self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, *, temperature: float = 1.0, out: Floats
    ) -> Floats: ...

    def log_prob(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        temperature: float = 1.0,
        out: Floats | None = None,
    ) -> Floats:
        """Return the log density of each row, in nats.

        A memory-mapped table larger than 16 MB is read in pieces, whose memory is given back, and so is one in `Files`.

        Parameters
        ----------
        x : (..., dim) array
            Rows of data: a table (n, dim), one row (dim,), or rows in any number of leading axes.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        temperature : float
            What the scale of the base is multiplied with (see `Flow.sample_latent`), from 1e-100 to 1e100.
        out : array of float32 or float64, optional
            Where to write the result, in its shape, a memory map for instance. It may lie in the memory of `x` or
            `context`, which are then copied if need be.

        Returns
        -------
        (...) array of float64
            A number for each row, (n,) for a table. NaN where a row holds NaN or infinity, -inf where a value is
            outside its support; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or the temperature is not such a number.

        Examples
        --------
        >>> flow = Flow(2, context=1, seed=0)
        >>> flow.log_prob([0.5, 1.0], context=[[0.0], [1.0], [2.0]]).shape  # one row under three conditions
        (3,)
        """
        given = self._stored(x, context) if isinstance(x, Stored) else self._batch(x, context)
        temperature = self._checked_temperature(temperature)

        def call(x: Array, context: Array | None) -> tuple[Array, ...]:
            return (self._log_prob(x, context, temperature),)

        return self._in_pieces(call, given, out, ((),))[0]

    def log_prob_and_grad(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Doubles, Floats]:
        """Return the log density of each row and its gradient by the row.

        Parameters and errors are those of `log_prob`.

        Returns
        -------
        (...) array of float64, (..., dim) array
            log p, and d log p / dx in the dtype of `x`.
        """
        given = self._batch(x, context)
        density, gradient = self._log_prob_and_grad(given.points, given.condition)
        return given.shaped(density), given.like_these(gradient)

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, ByParameters, Floats | None]: ...

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, ByParameters | None, Floats | None]: ...

    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, ByParameters | None, Floats | None]:
        """Return the vector-Jacobian product of `log_prob`: derivatives of a scalar that depends on it, under any base.

        Parameters
        ----------
        x : (..., dim) array
            Data points.
        grad_log_prob : (...) array
            Derivative of the scalar by log p(x), a number for each row. A row whose number is 0 counts for nothing,
            whatever it holds.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        parameters : bool
            Whether the derivative by the parameters is wanted. It is what a call on few rows spends its time on.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by x, by the parameters (those of the base among them, summed over rows; None without
            `parameters`), and by each row's context. Those by the parameters of an `Ensemble` are a tuple, one for
            each member.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(x, context)
        seeds = given.vector(grad_log_prob, "grad_log_prob")
        if not isinstance(parameters, bool):
            raise TypeError(f"parameters must be True or False, not {parameters!r}")
        by_x, by_parameters, by_context = self._log_prob_vjp(given.points, seeds, given.condition, parameters)
        return given.like_these(by_x), by_parameters, None if by_context is None else given.shaped(by_context)

    def sample(
        self,
        n: int | tuple[int, ...],
        context: npt.ArrayLike | None = None,
        seed: Seed = None,
        *,
        temperature: float = 1.0,
    ) -> Floats:
        """Draw rows from the density.

        Parameters
        ----------
        n : int or tuple of int
            Rows, at least 0, or their leading axes: ``(m, k)`` draws m rows for each of k conditions.
        context : (..., context) array, optional
            One condition (context,) for all rows, or conditions whose leading axes broadcast to those of the rows:
            (n, context) has one for each.
        seed : int or numpy.random.Generator, optional
            Fixes the rows drawn; those of a longer call begin with those of a shorter one.
        temperature : float
            What the scale of the base is multiplied with (see `Flow.sample_latent`), from 1e-100 to 1e100.

        Returns
        -------
        (n, dim) array
            In the dtype of the data fitted; float64 before any fit. With a tuple, (*n, dim).

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, the context has the wrong shape or type, or the temperature is not such a
            number.

        Examples
        --------
        >>> flow = Flow(2, context=1, seed=0)
        >>> flow.sample((100, 3), context=[[0.0], [1.0], [2.0]], seed=0).shape  # 100 rows for each of 3 conditions
        (100, 3, 2)
        """
        return self._sample(n, context, seed, temperature, with_log_prob=False)[0]

    def sample_and_log_prob(
        self,
        n: int | tuple[int, ...],
        context: npt.ArrayLike | None = None,
        seed: Seed = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Floats, Doubles]:
        """Draw rows and return their log densities too.

        Parameters, errors and the rows are those of `sample`.

        Returns
        -------
        (n, dim) array, (n,) array of float64
            The rows, and log p of each in nats, at the temperature of the draw.
        """
        x, density = self._sample(n, context, seed, temperature, with_log_prob=True)
        return x, density

    def _sample(
        self, n: object, context: object, seed: Seed, temperature: float, *, with_log_prob: bool
    ) -> tuple[Floats, Doubles]:
        outline = self._outline
        count, given = draws(n, context, (outline.dim, outline.context), self.context_columns)
        temperature = self._checked_temperature(temperature)
        x, density = self._draw(sample_key(seed), count, given.condition, temperature, with_log_prob=with_log_prob)
        return given.shaped(x, outline.shape), given.shaped(density) if with_log_prob else density

    # -- tables of a call's arguments, and its results -----------------------------------------------------------

    def _batch(self, x: object, context: object, name: str = "x") -> Batch:
        """Check points of the data side, or of the latent side, whose columns have no names."""
        outline, is_data = self._outline, name == "x"
        columns = (self.columns if is_data else None, self.context_columns)
        return batch(x, context, (outline.dim, outline.context), name, columns, outline.shape if is_data else None)

    def _stored(self, x: Stored, context: object) -> Batch:
        """Check a table in files, for a call that reads it in pieces."""
        names = (self.columns, self.context_columns)
        points, condition = rows.checked(x, context, (self.dim, self.context), names)
        return Batch(cast(Array, points), cast("Array | None", condition), (len(x),))

    def _in_pieces(
        self,
        call: Callable[[Array, Array | None], tuple[Array, ...]],
        given: Batch,
        out: object,
        widths: tuple[tuple[int, ...], ...],
    ) -> tuple[Array, ...]:
        """Return a call's results, a window of a large memory map at a time, and in `out` if that is given.

        `widths` are the axes of the results behind the leading ones.
        """
        rows_of = (len(given.points),)
        if out is None and not rows.is_large_map(given.points):
            # Of a list: tuples of an iterator leave memory behind that Python keeps for later ones.
            found = call(given.points, given.condition)
            return tuple([given.shaped(result, width) for result, width in zip(found, widths, strict=True)])
        if out is not None:
            places = _checks.outputs(out, tuple((*given.shape, *width) for width in widths))
            if len(given.shape) != 1:
                for place, result in zip(places, self._in_pieces(call, given, None, widths), strict=True):
                    place[...] = result
                return places
        else:
            dtypes = (given.points.dtype if width else np.dtype(np.float64) for width in widths)
            places = tuple(np.empty((*rows_of, *width), dtype) for width, dtype in zip(widths, dtypes, strict=True))
        _write_pieces(call, given.points, given.condition, places)
        return tuple([given.shaped(place, width) for place, width in zip(places, widths, strict=True)])


def _write_pieces(
    call: Callable[[Array, Array | None], tuple[Array, ...]],
    x: Array | Stored,
    context: Array | Stored | None,
    results: tuple[Array, ...],
) -> None:
    """Write a call's results for a table, a window of rows at a time.

    Results may lie in the memory of the table or its context.
    """
    for piece in rows.pieces_of(x):
        condition = context if context is None or context.ndim == 1 else context[piece]
        found = call(x[piece], cast("Array | None", condition))
        places = [result[piece] for result in results]
        if piece.stop < len(x):
            x = rows.still_readable(x, piece.stop, places)
            if context is not None:
                context = rows.still_readable(context, piece.stop if context.ndim == 2 else 0, places)
        for place, values in zip(places, found, strict=True):
            place[...] = values.reshape(place.shape)
        rows.drop_pages(x, context, *results)
