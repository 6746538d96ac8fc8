"""What can be drawn from: flows, ensembles, distributions of SciPy, and mixtures of two."""

from __future__ import annotations

from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._model.supports import refuse_cells
from pushforward._typing import Array, Doubles


class Proposal:
    """A density to draw from and to evaluate, at one context.

    Parameters
    ----------
    density : object
        `Flow`, `Ensemble`, anything with their `sample_and_log_prob` and `log_prob`, or a frozen distribution with
        SciPy's `rvs` and `logpdf`.
    name : str
        What messages call it.
    context : (context,) array, optional
        The condition of all rows.
    dim : int, optional
        Features, if they are known; by default those of `density`.

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, has other features, or if the context does not suit it.
    """

    def __init__(self, density: Any, name: str, *, context: object = None, dim: int | None = None) -> None:
        self._density, self._name = density, name
        self._is_scipy = False
        if not all(callable(getattr(density, method, None)) for method in ("sample_and_log_prob", "log_prob")):
            self._is_scipy = all(callable(getattr(density, method, None)) for method in ("rvs", "logpdf"))
            if not self._is_scipy:
                raise TypeError(
                    f"{name} must have the methods sample_and_log_prob(n, seed=) and log_prob(x), as a Flow, or rvs "
                    f"and logpdf, as a distribution of SciPy; {type(density).__name__} has neither"
                )
        own = getattr(density, "dim", 1 if self._is_scipy else None)
        if own is None and dim is None:
            raise TypeError(f"{name} must have an attribute dim, its number of features")
        self.dim = int(own if own is not None else dim)  # type: ignore[arg-type]
        if dim is not None and self.dim != dim:
            raise ValueError(f"{name} has {self.dim} features; {dim} are expected")
        if not self._is_scipy:
            refuse_cells(getattr(density, "support", ()), name)
        own_shape = None if self._is_scipy else getattr(density, "shape", None)
        self.shape: tuple[int, ...] | None = own_shape if isinstance(own_shape, tuple) else None
        self._options: dict[str, Any] = {}
        width = 0 if self._is_scipy else int(getattr(density, "context", 0))
        if width or context is not None:
            condition = _checks.condition(context, width, 1)
            assert condition is not None
            if condition.shape != (width,):
                raise ValueError(
                    f"context has shape {condition.shape}; all draws have one condition, so ({width},) is expected"
                )
            self._options["context"] = condition

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
        """Return draws, (n, dim), and their log density, (n,), both float64."""
        if self._is_scipy:
            x = np.asarray(self._density.rvs(size=n, random_state=rng), np.float64).reshape(n, self.dim)
            return x, self.log_prob(x)
        x, log_prob = self._density.sample_and_log_prob(n, seed=rng, **self._options)
        return self._rows(x, n), self._values(log_prob, n)

    def log_prob(self, x: Array) -> Doubles:
        """Return the log density of rows, (n,) float64."""
        if not self._is_scipy:
            rows = x if self.shape is None else x.reshape((len(x), *self.shape))
            return self._values(self._density.log_prob(rows, **self._options), len(x))
        found = self._density.logpdf(x[:, 0] if self.dim == 1 else x)
        return self._values(np.reshape(found, -1), len(x))

    def _rows(self, x: object, n: int) -> Doubles:
        array, expected = np.asarray(x, np.float64), (n, *(self.shape or (self.dim,)))
        if array.shape != expected:
            raise ValueError(f"{self._name} returned draws of shape {array.shape}; {expected} is expected")
        return array.reshape(n, self.dim)

    def _values(self, log_prob: object, n: int) -> Doubles:
        values = np.asarray(log_prob, np.float64)
        if values.shape != (n,):
            raise ValueError(f"{self._name} returned log densities of shape {values.shape}; ({n},) is expected")
        bad = np.isnan(values) | np.isposinf(values)
        if bad.any():
            raise ValueError(f"{self._name} has the log density {values[bad][0]} at row {int(bad.argmax())} of {n}")
        return values


class Mixture:
    """A proposal with a share of draws from a wider one.

    The numbers of draws from both are fixed, and every draw is weighted by the mixture's density, whichever it came
    from (deterministic mixture weights: Hesterberg 1995; Owen, Zhou 2000). Weights are then at most 1 / share times
    those of the wider density alone.

    Parameters
    ----------
    narrow, wide : Proposal
        The two densities.
    share : float
        The share of `wide`, in (0, 1).
    """

    def __init__(self, narrow: Proposal, wide: Proposal, share: float) -> None:
        self.narrow, self.wide, self.share = narrow, wide, share
        self.dim, self.shape = narrow.dim, narrow.shape

    def draw_parts(self, n: int, rng: np.random.Generator) -> tuple[Doubles, Doubles, Doubles]:
        """Return draws and both log densities: (n, dim), (n,) by `narrow`, (n,) by `wide`."""
        wide = min(max(round(self.share * n), 1), n - 1) if n > 1 else int(rng.uniform() < self.share)
        x, log_narrow = self.narrow.draw(n - wide, rng)
        y, log_wide = self.wide.draw(wide, rng)
        return (
            np.concatenate([x, y]),
            np.concatenate([log_narrow, self.narrow.log_prob(y)]),
            np.concatenate([self.wide.log_prob(x), log_wide]),
        )

    def mixed(self, log_narrow: Doubles, log_wide: Doubles) -> Doubles:
        """Return the mixture's log density from those of its parts."""
        found: Doubles = np.logaddexp(np.log1p(-self.share) + log_narrow, np.log(self.share) + log_wide)
        return found

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
        """Return draws, (n, dim), and their log density, (n,), both float64."""
        x, log_narrow, log_wide = self.draw_parts(n, rng)
        return x, self.mixed(log_narrow, log_wide)

    def log_prob(self, x: Array) -> Doubles:
        """Return the log density of rows, (n,) float64."""
        return self.mixed(self.narrow.log_prob(x), self.wide.log_prob(x))
