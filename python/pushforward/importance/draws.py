"""Weighted draws, and what is computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._labelled import inference_data
from pushforward._typing import Array, Doubles, Seed


@dataclass(frozen=True, repr=False, eq=False)
class Draws:
    """Weighted draws of an unnormalised density, as `sample` returns them.

    Parameters
    ----------
    x : (n, dim) array
        The draws; of a flow with a shape, (n, channels, height, width).
    log_density : (n,) array
        Their unnormalised log density, in nats.
    log_proposal : (n,) array
        The log density of what they were drawn from.
    log_weights : (n,) array
        The difference of the two, smoothed if asked for.
    pareto_k : float
        Pareto k of the largest weights before smoothing: up to 0.7 averages are reliable. It is -inf if the largest
        weights are all equal, and NaN if there are too few to tell.
    columns : tuple of str
        Names of the features.
    smoothed : bool
        Whether the largest weights were smoothed.

    Examples
    --------
    >>> from pushforward import importance
    >>> draws = importance.sample(Flow(1, layers=[]), lambda x: 2 - 0.5 * x[:, 0] ** 2 / 0.8, 2000, seed=0)
    >>> mean, error = draws.mean()
    >>> mean.shape, error.shape
    ((1,), (1,))
    """

    x: Doubles
    log_density: Doubles
    log_proposal: Doubles
    log_weights: Doubles
    pareto_k: float
    columns: tuple[str, ...]
    smoothed: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def weights(self) -> Doubles:
        """The weights, (n,), with the sum 1; all 0 if no draw has any mass."""
        return _weights.normalized(self.log_weights)

    @property
    def effective_size(self) -> float:
        """Kish's effective sample size, (sum w)^2 / sum w^2, in draws."""
        return _weights.effective_size(self.log_weights)

    @property
    def log_evidence(self) -> float:
        """Logarithm of the integral of the density, estimated by the mean weight; -inf if no draw has any mass."""
        return _weights.log_evidence(self.log_weights)[0]

    @property
    def log_evidence_error(self) -> float:
        """Standard error of `log_evidence`."""
        return _weights.log_evidence(self.log_weights)[1]

    def mean(self, function: Callable[[Doubles], npt.ArrayLike] | None = None) -> tuple[Doubles, Doubles]:
        """Return the weighted mean of the features, or of a function of the rows, and its standard error.

        Parameters
        ----------
        function : callable, optional
            Takes the (n, dim) draws and returns an (n, ...) array; by default the draws themselves.

        Returns
        -------
        array, array
            The mean and its standard error, of the shape of one row of the function's results.

        Raises
        ------
        ValueError
            If the function returns another number of rows, or no draw has any mass.
        """
        self._check_mass()
        values: Array = self.x if function is None else np.asarray(function(self.x.copy()))
        if values.ndim == 0 or len(values) != len(self):
            raise ValueError(
                f"function returned shape {values.shape}; with {len(self)} draws, ({len(self)}, ...) is expected"
            )
        return _weights.mean(values, self.log_weights)

    def quantile(self, q: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Return weighted quantiles of every feature, and their standard errors.

        Parameters
        ----------
        q : float or (m,) array
            Probabilities in [0, 1].

        Returns
        -------
        (dim,) or (m, dim) array, and another
            The quantiles and their standard errors (Woodruff 1952).

        Raises
        ------
        TypeError, ValueError
            If `q` is no such number or array, or no draw has any mass.
        """
        self._check_mass()
        wanted = _checks.floats(q, "q").astype(np.float64)
        if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"q must be numbers in [0, 1], one or an (m,) array, not {q!r}")
        columns = self.x.reshape(len(self), -1).T
        found = [_weights.quantiles(column, self.log_weights, np.atleast_1d(wanted)) for column in columns]
        values, errors = (np.stack(part, axis=1).reshape((-1, *self.x.shape[1:])) for part in zip(*found, strict=True))
        return (values[0], errors[0]) if wanted.ndim == 0 else (values, errors)

    def resample(self, n: int | None = None, *, seed: Seed = None) -> Doubles:
        """Return rows without weights: each draw as often as its weight says, up to rounding, in random order.

        Parameters
        ----------
        n : int, optional
            Rows, at least 1; by default the effective sample size, rounded down.
        seed : int or numpy.random.Generator, optional
            Fixes the choice.

        Returns
        -------
        (n, dim) array
            The rows. Those with large weights come several times.

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, or no draw has any mass.
        """
        self._check_mass()
        n = max(1, int(self.effective_size)) if n is None else _checks.integer("n", n, 1)
        rows: Doubles = self.x[_weights.resampled(self.log_weights, n, np.random.default_rng(seed))]
        return rows

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame: a column per feature, then `log_density`, `log_proposal` and `log_weight`.

        Returns
        -------
        pandas.DataFrame
            One row per draw.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas

        table = pandas.DataFrame(self.x.reshape(len(self), -1), columns=list(self.columns))
        return table.assign(log_density=self.log_density, log_proposal=self.log_proposal, log_weight=self.log_weights)

    def to_arviz(self, n: int | None = None, *, seed: Seed = None) -> Any:
        """Return ArviZ's InferenceData with resampled rows as its posterior, one chain.

        Parameters
        ----------
        n, seed
            As those of `resample`.

        Returns
        -------
        arviz.InferenceData
            The group `posterior` with a variable per feature. Its attributes hold the log evidence and its error, the
            effective sample size and the Pareto k. From ArviZ 1.0 on it is an ``xarray.DataTree``.

        Raises
        ------
        ImportError
            If ArviZ is not installed.
        ValueError
            If no draw has any mass.
        """
        attributes = {
            "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error,
            "effective_size": self.effective_size,
            "pareto_k": self.pareto_k,
        }
        return inference_data(self.columns, self.resample(n, seed=seed), attributes)

    def __repr__(self) -> str:
        size = self.effective_size
        lines = [
            f"{len(self):,} draws of {self.x.shape[1]} features, {size:,.0f} effective ({size / len(self):.1%})",
            f"log evidence  {self.log_evidence:.6g} +- {self.log_evidence_error:.2g}",
            f"Pareto k      {self.pareto_k:.2f}{', weights smoothed' if self.smoothed else ''}",
        ]
        if size > 0:
            width = max(map(len, self.columns))
            for name, value, error in zip(self.columns, *self.mean(), strict=True):
                lines.append(f"mean of {name:<{width}}  {value:.6g} +- {error:.2g}")
        return "\n".join(lines[:3] + lines[3:13] + (["..."] if len(lines) > 13 else []))

    def _check_mass(self) -> None:
        if not np.isfinite(self.log_weights).any():
            raise ValueError(f"none of the {len(self)} draws has any mass: log_density is -inf at all of them")
