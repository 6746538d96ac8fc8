"""The calls of a flow on points, on both sides of its map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._flow.density import Density
from pushforward._model.state import State, sample_key
from pushforward._shapes import Batch, batch, draws, flat
from pushforward._typing import Array, Doubles, Floats, Seed


class Generator(Density[Floats]):
    """A generator x = G(z) and the density that it makes of that of its base.

    Attributes
    ----------
    _state : State
        The flow.
    """

    _state: State

    # -- the density, on tables ----------------------------------------------------------------------------------

    @property
    def _outline(self) -> State:
        return self._state

    def _checked_temperature(self, temperature: float) -> float:
        return self._state.checked_temperature(temperature)

    def _log_prob(self, x: Array, context: Array | None, temperature: float) -> Doubles:
        return self._state.log_prob(x, context, temperature=temperature)

    def _log_prob_and_grad(self, x: Array, context: Array | None) -> tuple[Doubles, Floats]:
        return self._state.log_prob_and_grad(x, context)

    def _log_prob_vjp(
        self, x: Array, seeds: Doubles, context: Array | None, parameters: bool
    ) -> tuple[Floats, Floats | None, Floats | None]:
        return self._state.log_prob_vjp(x, seeds, context, parameters)

    def _draw(
        self, key: int, n: int, context: Array | None, temperature: float, *, with_log_prob: bool
    ) -> tuple[Floats, Doubles]:
        return self._state.sample(key, n, context, with_log_prob=with_log_prob, temperature=temperature)

    # -- the latent side -----------------------------------------------------------------------------------------

    def sample_latent(self, n: int | tuple[int, ...], seed: Seed = None, *, temperature: float = 1.0) -> Floats:
        """Draw latent points from the base: those that `sample` with the same seed carries to the data side.

        A temperature T multiplies the scale of the base, and the density stays normalised. Under `Normal` and
        `StudentT` a draw is T times one of the base. Each Gaussian of a `Mixture` keeps its mean and its weight, and
        its covariance is multiplied by T squared. Latent features in a box or on a circle are uniform at any
        temperature; a flow that has no others, as under `Uniform`, refuses it.

        Parameters
        ----------
        n : int or tuple of int
            Points, at least 0, or their leading axes.
        seed : int or numpy.random.Generator, optional
            Fixes the points drawn; those of a longer call begin with those of a shorter one.
        temperature : float
            What the scale is multiplied with, from 1e-100 to 1e100.

        Returns
        -------
        (n, dim) array
            In the dtype of the data fitted; float64 before any fit. With a tuple, (*n, dim).

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, or the temperature not such a number.

        Examples
        --------
        >>> flow = Flow(2, seed=0)
        >>> z = flow.sample_latent(5, seed=1)
        >>> bool((flow.forward(z)[0] == flow.sample(5, seed=1)).all())
        True
        """
        count, given = draws(n, None, (self.dim, 0), None)
        temperature = self._state.checked_temperature(temperature)
        return given.shaped(self._state.sample_latent(sample_key(seed), count, temperature))

    def base_log_prob(self, z: npt.ArrayLike, *, temperature: float = 1.0) -> Doubles:
        """Return the log density of latent points under the base, in nats.

        Parameters
        ----------
        z : (..., dim) array
            Latent points.
        temperature : float
            What the scale of the base is multiplied with (see `sample_latent`), from 1e-100 to 1e100.

        Returns
        -------
        (...) array of float64
            A number for each point, (n,) for a table. NaN where a point holds NaN or infinity, -inf outside the box of
            a feature that has one.

        Raises
        ------
        TypeError, ValueError
            If `z` has the wrong shape or type, or the temperature is not such a number.

        Examples
        --------
        >>> flow = Flow(2, base=Normal(), seed=0)
        >>> flow.base_log_prob([[0.0, 0.0]]).round(3)
        array([-1.838])
        """
        given = batch(z, None, (self.dim, 0), "z")
        temperature = self._state.checked_temperature(temperature)
        return given.shaped(self._state.base_log_prob(given.points, temperature))

    def forward_and_log_prob(self, z: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Floats, Doubles]:
        """Carry latent points to data points, and return the log density there, from one pass.

        Parameters and errors are those of `forward`.

        Returns
        -------
        (..., dim) array, (...) array of float64
            x = G(z) in the dtype of `z` (float64 for other than floats), and log p(x) = log p_base(z) - log|det dx/dz|.
        """
        given = self._batch(z, context, "z")
        x, density = self._in_pieces(self._state.forward_and_log_prob, given, None, (self._row, ()))
        return x, density

    def inverse_and_log_prob(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Floats, Doubles]:
        """Carry data points to latent points, and return the log density of the data points, from one pass.

        Parameters and errors are those of `inverse`.

        Returns
        -------
        (..., dim) array, (...) array of float64
            z = G^-1(x) in the dtype of `x` (float64 for other than floats), and log p(x).
        """
        given = self._batch(x, context)
        z, density = self._in_pieces(self._state.inverse_and_log_prob, given, None, ((self.dim,), ()))
        return z, density

    # -- the map and its derivatives -----------------------------------------------------------------------------

    def forward(
        self,
        z: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        out: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Carry latent points to data points, x = G(z).

        Parameters
        ----------
        z : (..., dim) array
            Latent points: a table (n, dim), one point (dim,), or points in any number of leading axes.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `z`, as in NumPy.
        out : tuple of two arrays, optional
            Where to write the results, in their shapes, memory maps for instance. They may lie in the
            memory of `z` or `context`, which are then copied if need be, but not in each other's.

        Returns
        -------
        (..., dim) array, (...) array of float64
            x in the dtype of `z` (float64 for other than floats), and log|det dx/dz|; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        x, log_det = self._in_pieces(self._state.forward, self._batch(z, context, "z"), out, (self._row, ()))
        return x, log_det

    def inverse(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        out: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Carry data points to latent points, z = G^-1(x).

        Parameters
        ----------
        x : (..., dim) array
            Data points, as in `log_prob`.
        context : (..., context) array, optional
            Their conditions, as in `log_prob`.
        out : tuple of two arrays, optional
            Where to write the results, as in `forward`.

        Returns
        -------
        (..., dim) array, (...) array of float64
            z in the dtype of `x` (float64 for other than floats), and log|det dz/dx|; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        z, log_det = self._in_pieces(self._state.inverse, self._batch(x, context), out, ((self.dim,), ()))
        return z, log_det

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, Floats, Floats | None]: ...

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, Floats | None, Floats | None]: ...

    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the vector-Jacobian product of `forward`: derivatives of a scalar that depends on its results.

        Parameters
        ----------
        z : (..., dim) array
            Latent points.
        grad_x : (..., dim) array
            Derivative of the scalar by x, a row for each of the results.
        grad_log_det : (...) array
            Derivative of the scalar by log_det.
        context : (..., context) array, optional
            Conditions of each row or of all, as in `forward`.
        parameters : bool
            Whether the derivative by the parameters is wanted, as in `log_prob_vjp`.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by z, by the parameters (summed over rows; None without `parameters`), and by the context.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(z, context, "z")
        by_x = flat(grad_x, self.shape, "grad_x")
        seeds = given.like_points(by_x, "grad_x", "z"), given.vector(grad_log_det, "grad_log_det")
        return self._vjp(self._state.core.forward_vjp, given, parameters, *seeds)

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, Floats, Floats | None]: ...

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, Floats | None, Floats | None]: ...

    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the vector-Jacobian product of `inverse`: derivatives of a scalar that depends on its results.

        Parameters
        ----------
        x : (..., dim) array
            Data points.
        grad_z : (..., dim) array
            Derivative of the scalar by z, a row for each of the results.
        grad_log_det : (...) array
            Derivative of the scalar by log_det.
        context : (..., context) array, optional
            Conditions of each row or of all, as in `inverse`.
        parameters : bool
            Whether the derivative by the parameters is wanted, as in `log_prob_vjp`.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by x, by the parameters (summed over rows; None without `parameters`), and by the context.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(x, context)
        seeds = given.like_points(grad_z, "grad_z", "x"), given.vector(grad_log_det, "grad_log_det")
        return self._vjp(self._state.core.inverse_vjp, given, parameters, *seeds)

    def _vjp(
        self,
        call: Callable[..., tuple[Floats, Floats | None, Floats | None]],
        given: Batch,
        parameters: bool,
        *seeds: Array,
    ) -> tuple[Floats, Any, Floats | None]:
        if not isinstance(parameters, bool):
            raise TypeError(f"parameters must be True or False, not {parameters!r}")
        by_points, by_parameters, by_context = call(
            given.points, *seeds, context=given.condition, parameters=parameters, threads=self._state.num_threads
        )
        by_context = None if by_context is None else given.shaped(by_context)
        return given.like_these(by_points), by_parameters, by_context

    def loss_and_grad(
        self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
    ) -> tuple[float, Floats]:
        """Return the mean negative log-likelihood and its gradient by the parameters.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data, at least one.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        weights : (n,) array, optional
            Weights of the rows, of any sign, not all zero. The loss is the sum of each row's weight times its negative
            log-likelihood over the sum of the weights' sizes: the weighted mean, if none is negative.

        Returns
        -------
        float, (p,) array
            The loss in nats, and its gradient in the flow's dtype. Both are NaN if a row holds NaN or infinity; if a
            value is outside its support, the loss is inf and the gradient NaN.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, there is no row, or the weights are all zero.
        """
        table = _checks.table(flat(x, self.shape, "x"), self.dim, "x", columns=self.columns)
        if len(table) == 0:
            raise ValueError("x has no rows; a mean needs at least one")
        condition = _checks.condition(context, self.context, len(table), self.context_columns)
        table, condition, w = _checks.counted(table, condition, _checks.row_weights(weights, len(table), signed=True))
        total = float(len(table)) if w is None else float(np.abs(w).sum())
        gradient = np.empty_like(self._state.parameters)
        loss: float = self._state.core.loss_and_grad(
            table, gradient, context=condition, weights=w, normalizer=total, threads=self._state.num_threads
        )[0]
        return loss, gradient

    @property
    def _row(self) -> tuple[int, ...]:
        """The shape of a data point."""
        return self._state.shape or (self._state.dim,)
