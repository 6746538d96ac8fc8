"""A flow in the place of `scipy.stats.gaussian_kde`: the same methods, the same (d, n) orientation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model import latent
from pushforward._model.state import state_of
from pushforward._typing import Doubles, Floats, Seed
from pushforward.flow import Flow

_CHUNK_ROWS = 1 << 18  # so many points are drawn at a time


class Estimate(float):
    """A number with a standard error: ``Estimate(value, error)`` is the float `value` with the attribute `error`.

    Attributes
    ----------
    error : float
        The standard error, at least 0; 0 if the number is exact up to rounding.

    Examples
    --------
    >>> from pushforward.kde import Estimate
    >>> share = Estimate(0.25, error=0.01)
    >>> share
    Estimate(0.25, error=0.01)
    >>> 4 * share
    1.0
    """

    error: float

    def __new__(cls, value: float, error: float) -> Estimate:
        """Make the number."""
        estimate = super().__new__(cls, value)
        estimate.error = float(error)
        return estimate

    def __getnewargs__(self) -> tuple[float, float]:  # type: ignore[override]
        return float(self), self.error

    def __repr__(self) -> str:
        return f"Estimate({float(self)!r}, error={self.error!r})"


class FlowKDE:
    """Density of a data set by a flow, with the methods of `scipy.stats.gaussian_kde`.

    Points are columns, as there: (d, n), where a `Flow` has (n, d). The rows are not kept, so that a density costs the
    same whatever their number.

    Parameters
    ----------
    dataset : (d, n) or (n,) array
        Points to estimate from.
    weights : (n,) array, optional
        Their non-negative weights; the scale does not matter.
    flow : Flow, optional
        The flow to fit, in place: one with a support, other layers or another base. By default ``Flow(d, seed=seed)``.
    seed : int or numpy.random.Generator, optional
        Fixes the fit.
    **options
        Those of `Flow.fit`, such as ``epochs`` or ``validation``.

    Attributes
    ----------
    flow : Flow
        The fitted flow.
    d : int
        Number of dimensions.
    n : int
        Number of points in the data set.
    neff : float
        Effective number of points, by their weights: n for equal ones.

    Raises
    ------
    TypeError, ValueError
        If the data set or the weights have the wrong shape or type, or for the reasons of `Flow.fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward import Flow, Positive
    >>> from pushforward.kde import FlowKDE
    >>> x = np.random.default_rng(0).gamma(2.0, size=(2, 1000))
    >>> kde = FlowKDE(x, flow=Flow(2, support=Positive(), seed=0), seed=0, epochs=5)
    >>> kde.logpdf(x[:, :3]).shape
    (3,)
    >>> kde.resample(10, seed=0).shape
    (2, 10)
    >>> share = kde.integrate_box([0, 0], [2, np.inf], seed=0)
    >>> bool(abs(share - np.mean(x[0] < 2)) < 0.1), share.error < 0.01
    (True, True)
    """

    def __init__(
        self,
        dataset: npt.ArrayLike,
        *,
        weights: npt.ArrayLike | None = None,
        flow: Flow | None = None,
        seed: Seed = None,
        **options: Any,
    ) -> None:
        points = np.atleast_2d(_checks.floats(dataset, "dataset"))
        if points.ndim != 2:
            raise ValueError(f"dataset has shape {points.shape}; (d, n) is expected")
        self.d, self.n = points.shape
        if flow is None:
            flow = Flow(self.d, seed=seed)
        elif flow.dim != self.d:
            raise ValueError(f"dataset has {self.d} dimensions, one per row of (d, n); the flow has dim={flow.dim}")
        w = _checks.row_weights(weights, self.n)
        self.neff = float(self.n) if w is None else float(w.sum() ** 2 / (w @ w))
        self.flow = flow.fit(points.T, weights=w, seed=seed, **options)

    def logpdf(self, x: npt.ArrayLike) -> Floats:
        """Return the log density at points.

        Parameters
        ----------
        x : (d, m) or (d,) array
            Points, or one point; in one dimension (m,) too.

        Returns
        -------
        (m,) array of float64
            -inf outside the flow's support, NaN where a point holds NaN or infinity.

        Raises
        ------
        TypeError, ValueError
            If `x` has the wrong shape or type.
        """
        points = np.atleast_2d(_checks.floats(x, "x"))
        if points.shape == (1, self.d):
            points = points.T
        if points.ndim != 2 or points.shape[0] != self.d:
            raise ValueError(f"x has shape {np.shape(x)}; with d={self.d}, ({self.d}, m) is expected")
        return self.flow.log_prob(points.T)

    def pdf(self, x: npt.ArrayLike) -> Floats:
        """Return the density at points, 0 outside the flow's support; for the rest see `logpdf`."""
        density: Doubles = np.exp(self.logpdf(x))
        return density

    def evaluate(self, points: npt.ArrayLike) -> Floats:
        """Return the density at points; the same as `pdf`, and as calling this object."""
        return self.pdf(points)

    __call__ = evaluate

    def resample(self, size: int | None = None, seed: Seed = None) -> Floats:
        """Draw points from the density.

        Parameters
        ----------
        size : int, optional
            Points, at least 0; by default as many as the data set effectively had, `neff`.
        seed : int or numpy.random.Generator, optional
            Fixes the points drawn.

        Returns
        -------
        (d, size) array
            In the dtype of the data set.

        Raises
        ------
        TypeError, ValueError
            If `size` is not such an integer.
        """
        x: Floats = self.flow.sample(int(self.neff) if size is None else size, seed=seed).T
        return x

    def integrate_box(
        self, low_bounds: npt.ArrayLike, high_bounds: npt.ArrayLike, *, size: int = 100_000, seed: Seed = None
    ) -> Estimate:
        """Return the mass in a box.

        It is the share of points drawn from the density that fall into the box; in one dimension, see
        `integrate_box_1d`.

        Parameters
        ----------
        low_bounds, high_bounds : (d,) array
            The ends of the box, low <= high; they may be infinite.
        size : int
            Points to draw, at least 1.
        seed : int or numpy.random.Generator, optional
            Fixes the points drawn.

        Returns
        -------
        Estimate
            A float with its standard error as `error`. With none or all of the points in the box that is about
            0.7 / size.

        Raises
        ------
        TypeError, ValueError
            If the bounds have the wrong shape or type, or a low one is above a high one; if `size` is no such integer.
        """
        size = _checks.integer("size", size, 1)
        low, high = (
            _checks.vector(np.atleast_1d(_checks.floats(bounds, name)), self.d, name)
            for bounds, name in ((low_bounds, "low_bounds"), (high_bounds, "high_bounds"))
        )
        if not (low <= high).all():
            raise ValueError(f"low_bounds must not be above high_bounds; they are {low} and {high}")
        if self.d == 1 and self.flow.base.is_exact and not self.flow.support[0].wraps:
            return Estimate(latent.mass_between(state_of(self.flow), float(low[0]), float(high[0])), 0.0)
        rng = np.random.default_rng(seed)
        inside = 0
        for first in range(0, size, _CHUNK_ROWS):
            x = self.flow.sample(min(_CHUNK_ROWS, size - first), seed=rng)
            inside += int(((low <= x) & (x <= high)).all(axis=1).sum())
        # Half a point more on either side: from no number of points is a mass of exactly 0 or 1 certain.
        share = (inside + 0.5) / (size + 1)
        return Estimate(inside / size, math.sqrt(share * (1 - share) / size))

    def integrate_box_1d(self, low: float, high: float, *, size: int = 100_000, seed: Seed = None) -> Estimate:
        """Return the mass between two numbers, of a density in one dimension.

        It is that of the base between their latent images, without error beyond rounding, where the flow is over
        numbers with the base `Normal` or `Uniform`; else as in `integrate_box`, whose parameters and errors these are.

        Raises
        ------
        ValueError
            If the density has more than one dimension.
        """
        if self.d != 1:
            raise ValueError(f"integrate_box_1d is for one dimension; this density has d={self.d}")
        return self.integrate_box([low], [high], size=size, seed=seed)
