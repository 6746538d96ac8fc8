"""Bases: the density of a flow in latent space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model import special
from pushforward._model.gaussians import Gaussians
from pushforward._model.part import Part, table
from pushforward._typing import Doubles, Floats


class Base(Part, ABC):
    """A density of latent features.

    Its methods are about the features that the base describes: angles, and features on a box, are uniform. Arrays have
    the shape (n, k), and `parameters` are all those of the flow, by name. Where features depend on one another, a
    distribution function is that of a feature given those before it (Rosenblatt 1952): those of a draw are independent
    and uniform under every base.
    """

    is_exact: ClassVar[bool] = True
    """Whether `cdf` is exact to rounding."""
    is_independent: ClassVar[bool] = True
    """Whether the features are independent."""

    @property
    def has_background(self) -> bool:
        """Whether the last component of a mixture is a background."""
        return False

    @property
    def gaussians(self) -> int:
        """How many Gaussians the base starts from, found by expectation-maximisation; 0 if it does not."""
        return 0

    @abstractmethod
    def cdf(self, z: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the distribution function of each feature, given those before it."""

    def mass(self, low: float, high: float, parameters: Mapping[str, Floats]) -> float:
        """Return the mass between two numbers, low first, of a base of one feature that is symmetric about 0."""
        if low > 0:  # the lower tail is where probabilities keep their digits
            low, high = -high, -low
        below = self.cdf(np.array([[low], [high]]), parameters)
        return float(below[1, 0] - below[0, 0])

    @abstractmethod
    def from_normal(self, t: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Map a standard normal to the base, with the same distribution functions; this may need SciPy."""

    def normal_scores(self, z: Doubles, u: Doubles) -> Doubles:
        """Map the base to a standard normal, given the points and their distribution function."""
        return special.normal_quantile(u)


@dataclass(frozen=True)
class Normal(Base):
    """Independent standard normals: the base density.

    Features with the support `Circle` are uniform angles on the latent side, under any base.

    Examples
    --------
    >>> Normal()
    Normal()
    """

    def cdf(self, z: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the distribution function of each feature."""
        return special.normal_cdf(z)

    def from_normal(self, t: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the points themselves."""
        return t

    def normal_scores(self, z: Doubles, u: Doubles) -> Doubles:
        """Return the points themselves."""
        return z


@dataclass(frozen=True)
class StudentT(Base):
    """Independent Student t distributions: a base for heavy tails, which no Lipschitz map makes of a normal.

    Parameters
    ----------
    df : float
        Degrees of freedom, above 0 and at most 1e9: p(z) falls off as abs(z)**-(df + 1).
    learned : bool
        Whether they are parameters, one per feature, that start at `df`; they stay above 0.5, so that `df` must be
        larger.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> StudentT(3.0)
    StudentT(df=3.0, learned=False)
    """

    is_exact: ClassVar[bool] = False

    df: float = 5.0
    learned: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.learned, bool):
            raise TypeError(f"learned must be True or False, not {self.learned!r}")
        low, high = core.limits["learned_df" if self.learned else "df"]
        object.__setattr__(self, "df", _checks.number("df", self.df, low, high))

    def degrees(self, log_df: Floats | None) -> Doubles:
        """Return the degrees of freedom, (1,), or one for each feature given the learned parameters."""
        if log_df is None:
            return np.array([self.df])
        return 0.5 + (self.df - 0.5) * np.exp(np.clip(log_df.astype(np.float64), -30, 30))

    def cdf(self, z: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the distribution function of each feature, to 1e-7."""
        degrees = np.broadcast_to(self.degrees(parameters.get("base.log_df")), z.shape[1])
        return np.stack([special.student_t_cdf(column, df) for column, df in zip(z.T, degrees, strict=True)], axis=1)

    def from_normal(self, t: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Map a standard normal to the base, in the same order. Needs SciPy."""
        from scipy.special import ndtr, stdtrit

        degrees = self.degrees(parameters.get("base.log_df"))
        # Of the two tails, the lower one is where probabilities keep their digits.
        z: Doubles = np.copysign(stdtrit(degrees, ndtr(-np.abs(t))), t)
        return z


@dataclass(frozen=True)
class Uniform(Base):
    """Uniform on [-1, 1] for each feature: the base of a density on a box, with edges as sharp as the data's.

    Every feature needs the support `Interval` or `Circle`; the layers may be `Coupling` and `Autoregressive` with
    `RationalQuadratic`, which keep to the box, and those that only permute it.

    Examples
    --------
    >>> Uniform()
    Uniform()
    """

    def cdf(self, z: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the distribution function of each feature."""
        return uniform_cdf(z, 1.0)

    def from_normal(self, t: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Map a standard normal to the base, in the same order. Needs SciPy."""
        return uniform_from_normal(t, 1.0)


@dataclass(frozen=True)
class Mixture(Base):
    """A mixture of Gaussians, with learned weights, means and covariances: for densities of several separate parts.

    A flow stretches a normal and never tears it, so that it joins parts by thin bridges. A mixture has the parts from
    the start.

    Parameters
    ----------
    components : int
        The number of Gaussians, 1 to 256.
    covariance : {"full", "diagonal"}
        Whether the features of one component may depend on each other. A full covariance has k (k + 1) / 2 parameters
        for k features.
    background : bool
        Whether the last component is a broad background, whose share and width are chosen at the end of a fit, by the
        validation rows.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> Mixture(5)
    Mixture(components=5, covariance='full', background=False)
    """

    is_independent: ClassVar[bool] = False

    components: int
    covariance: str = "full"
    background: bool = False

    def __post_init__(self) -> None:
        low, high = core.limits["components"]
        object.__setattr__(self, "components", _checks.integer("components", self.components, int(low), int(high)))
        _checks.choice("covariance", self.covariance, COVARIANCES)
        if not isinstance(self.background, bool):
            raise TypeError(f"background must be True or False, not {self.background!r}")
        if self.background and self.components < 2:
            raise ValueError("a mixture with a background needs at least 2 components")

    @property
    def has_background(self) -> bool:
        """Whether the last component is a background."""
        return self.background

    @property
    def gaussians(self) -> int:
        """How many Gaussians the base starts from: its components without the background."""
        return self.components - self.background

    def cdf(self, z: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Return the distribution function of each feature, given those before it."""
        return Gaussians(parameters).cdf(z)

    def mass(self, low: float, high: float, parameters: Mapping[str, Floats]) -> float:
        """Return the mass between two numbers, low first, of a base of one feature."""
        return Gaussians(parameters).mass(low, high)

    def from_normal(self, t: Doubles, parameters: Mapping[str, Floats]) -> Doubles:
        """Map a standard normal to the base, with the same distribution functions. Needs SciPy."""
        return Gaussians(parameters).from_normal(t)


COVARIANCES = ("full", "diagonal")

BASES = table(Normal, StudentT, Uniform, Mixture)


def uniform_cdf(z: Doubles, half: float) -> Doubles:
    """Return the distribution function of the uniform distribution on [-half, half]."""
    return np.clip(0.5 * (z / half + 1), 0, 1)


def uniform_from_normal(t: Doubles, half: float) -> Doubles:
    """Map a standard normal to the uniform distribution on [-half, half], in the same order. Needs SciPy."""
    from scipy.special import erf

    z: Doubles = half * erf(t / np.sqrt(2))
    return z
