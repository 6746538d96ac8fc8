"""Priors: one interface to the densities, supports and distributions that a user may give.

A sampler works on coordinates t, in which a prior has no heavy tails. Features with a uniform prior are their own
coordinate; a distribution's is the normal score of its distribution function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model.special import normal_cdf
from pushforward._model.state import checked_names
from pushforward._model.supports import Real, Support
from pushforward._typing import Doubles

_KINDS = (
    "a Flow (or anything with dim, sample(n, seed=) and log_prob(x)), Interval(low, high) or Circle(low, high), "
    "frozen distributions of scipy.stats, or a sequence of these last, one per feature"
)


class Prior(ABC):
    """A normalised density over rows of `dim` features, in coordinates t.

    Attributes
    ----------
    dim : int
        Features.
    columns : tuple of str
        Their names.
    support : tuple of Support
        What values a flow may give each coordinate. Those outside the prior have a log density of -inf.
    """

    dim: int
    columns: tuple[str, ...]
    support: tuple[Support, ...]

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Doubles:
        """Draw coordinates, (n, dim)."""

    @abstractmethod
    def log_prob(self, t: Doubles) -> Doubles:
        """Return the log density of coordinates, (n,)."""

    @abstractmethod
    def to_x(self, t: Doubles) -> Doubles:
        """Return the rows that coordinates stand for, (n, dim)."""

    @abstractmethod
    def log_prob_x(self, x: Doubles) -> Doubles:
        """Return the log density of rows, (n,)."""


def resolve(prior: Any, dim: object, columns: Sequence[str] | None) -> Prior:
    """Return the prior that an argument stands for.

    Parameters
    ----------
    prior
        As the user gave it.
    dim : int or None
        The number of features, if the user gave it.
    columns : sequence of str, optional
        Names of the features.

    Raises
    ------
    TypeError, ValueError
        If it is none, or has another number of features.
    """
    wanted = None if dim is None else _checks.integer("dim", dim, 1)
    if _is_joint(prior):
        found = _checks.integer("prior.dim", prior.dim, 1)
        if getattr(prior, "context", 0):
            raise ValueError(f"the prior is a flow with context={prior.context}; a prior has none")
        _check_dim(found, wanted, columns)
        return _Joint(prior, found, _names(columns or getattr(prior, "columns", None), found))
    if isinstance(prior, Support) or _is_distribution(prior):
        if wanted is None and columns is None:
            raise ValueError(
                "the prior is that of one feature: give dim= too, or a sequence with one prior per feature"
            )
        features = [prior] * (len(columns) if wanted is None and columns is not None else wanted or 0)
    elif isinstance(prior, Sequence) and not isinstance(prior, (str, bytes)):
        features = list(prior)
    else:
        raise TypeError(f"prior must be {_KINDS}, not {prior!r}")
    if not features:
        raise ValueError("prior is empty; one entry per feature is expected")
    _check_dim(len(features), wanted, columns)
    return _Independent([_feature(entry, i) for i, entry in enumerate(features)], _names(columns, len(features)))


def _is_joint(prior: Any) -> bool:
    return (
        hasattr(prior, "dim")
        and callable(getattr(prior, "sample", None))
        and callable(getattr(prior, "log_prob", None))
    )


def _is_distribution(prior: Any) -> bool:
    return all(callable(getattr(prior, name, None)) for name in ("logpdf", "ppf", "support"))


def _check_dim(found: int, wanted: int | None, columns: Sequence[str] | None) -> None:
    if wanted is not None and wanted != found:
        raise ValueError(f"the prior has {found} features, but dim={wanted}")
    if columns is not None and len(columns) != found:
        raise ValueError(f"columns has {len(columns)} names, but the prior has {found} features")


def _names(columns: Sequence[str] | None, dim: int) -> tuple[str, ...]:
    return checked_names("columns", columns, dim) or tuple(f"x{i}" for i in range(dim))


# -- independent features ----------------------------------------------------------------------------------------


class _Feature(ABC):
    """The prior of one feature."""

    support: Support

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Doubles: ...

    @abstractmethod
    def log_prob(self, t: Doubles) -> Doubles: ...

    @abstractmethod
    def to_x(self, t: Doubles) -> Doubles: ...

    @abstractmethod
    def log_prob_x(self, x: Doubles) -> Doubles: ...


class _Uniform(_Feature):
    """A uniform density between the ends of a support.

    The flows do not know the ends of an interval, only of a circle: a map of the interval to the line would take a mode
    at an end out to infinity. What they draw outside is left out.
    """

    def __init__(self, among: Support) -> None:
        self.support = among if among.wraps else Real()
        self._among = among
        self._low, self._high = among.ends

    def sample(self, n: int, rng: np.random.Generator) -> Doubles:
        return np.clip(self._low + (self._high - self._low) * rng.random(n), self._low, self._high)

    def log_prob(self, t: Doubles) -> Doubles:
        inside = ~self._among.outside(t)
        return np.where(inside, -np.log(self._high - self._low), -np.inf)

    def to_x(self, t: Doubles) -> Doubles:
        return t

    def log_prob_x(self, x: Doubles) -> Doubles:
        return self.log_prob(x)


class _Distribution(_Feature):
    """A frozen distribution; its coordinate is a standard normal under it."""

    support: Support = Real()

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution

    def sample(self, n: int, rng: np.random.Generator) -> Doubles:
        return rng.normal(size=n)

    def log_prob(self, t: Doubles) -> Doubles:
        result: Doubles = -0.5 * (t**2 + np.log(2 * np.pi))
        return result

    def to_x(self, t: Doubles) -> Doubles:
        # Of the two tails, the lower one is where probabilities keep their digits.
        share = normal_cdf(-np.abs(t))
        upper = getattr(self._distribution, "isf", None)
        high = upper(share) if callable(upper) else self._distribution.ppf(1 - share)
        x = np.where(t > 0, high, self._distribution.ppf(share))
        return np.asarray(x, np.float64)

    def log_prob_x(self, x: Doubles) -> Doubles:
        return np.asarray(self._distribution.logpdf(x), np.float64)


def _feature(entry: Any, i: int) -> _Feature:
    if isinstance(entry, Support):
        if np.isfinite(entry.ends).all():
            return _Uniform(entry)
        raise ValueError(
            f"prior[{i}] is {entry!r}, on which no uniform density is normalised; give Interval(low, high), "
            "Circle(low, high) or a frozen distribution of scipy.stats"
        )
    if not _is_distribution(entry):
        raise TypeError(
            f"prior[{i}] must be Interval(low, high), Circle(low, high) or a frozen distribution of scipy.stats, "
            f"not {entry!r}"
        )
    if np.ndim(entry.ppf(0.5)) or not np.isfinite(entry.ppf(0.5)):
        raise ValueError(f"prior[{i}] must be a distribution of one number; its median is {entry.ppf(0.5)!r}")
    return _Distribution(entry)


class _Independent(Prior):
    """Features that are independent of each other."""

    def __init__(self, features: Sequence[_Feature], columns: tuple[str, ...]) -> None:
        self._features = features
        self.dim, self.columns = len(features), columns
        self.support = tuple(feature.support for feature in features)

    def sample(self, n: int, rng: np.random.Generator) -> Doubles:
        return np.stack([feature.sample(n, rng) for feature in self._features], axis=1)

    def log_prob(self, t: Doubles) -> Doubles:
        terms = [feature.log_prob(t[:, i]) for i, feature in enumerate(self._features)]
        result: Doubles = np.add.reduce(terms)
        return result

    def to_x(self, t: Doubles) -> Doubles:
        return np.stack([feature.to_x(t[:, i]) for i, feature in enumerate(self._features)], axis=1)

    def log_prob_x(self, x: Doubles) -> Doubles:
        terms = [feature.log_prob_x(x[:, i]) for i, feature in enumerate(self._features)]
        result: Doubles = np.add.reduce(terms)
        return result


# -- a density of all features -----------------------------------------------------------------------------------


class _Joint(Prior):
    """A density of all features together, such as a flow; its rows are their own coordinates."""

    def __init__(self, density: Any, dim: int, columns: tuple[str, ...]) -> None:
        self._density = density
        self.dim, self.columns = dim, columns
        self.support = getattr(density, "support", None) or (Real(),) * dim

    def sample(self, n: int, rng: np.random.Generator) -> Doubles:
        return self._floats(self._density.sample(n, seed=int(rng.integers(1 << 62))), (n, self.dim), "sample")

    def log_prob(self, t: Doubles) -> Doubles:
        return self._floats(self._density.log_prob(t), (len(t),), "log_prob")

    def to_x(self, t: Doubles) -> Doubles:
        return t

    def log_prob_x(self, x: Doubles) -> Doubles:
        return self.log_prob(x)

    def _floats(self, answer: npt.ArrayLike, shape: tuple[int, ...], method: str) -> Doubles:
        array = np.asarray(answer, np.float64)
        if array.shape != shape:
            raise ValueError(f"the prior's {method} returned shape {array.shape}; expected {shape}")
        return array
