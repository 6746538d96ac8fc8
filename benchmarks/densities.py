"""Known densities, with exact rows and exact log densities, on which `quality.py` measures the KL divergence.

`DENSITIES` holds them by name. The name with a "+" is the same density, and the same rows, with its support declared
to the flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pushforward import Circle, Interval, Positive
from pushforward._model.supports import Support
from scipy import special, stats

Doubles = npt.NDArray[np.float64]
Generator = np.random.Generator

LOG_2PI = math.log(2 * math.pi)
TEST_ROWS = 20_000


@dataclass(frozen=True)
class Density:
    """A density over rows of `dim` features: how rows are drawn from it, and its exact logarithm."""

    dim: int
    sample: Callable[[int, Generator], Doubles]
    log_prob: Callable[[Doubles], Doubles]
    support: Support | None = None


def _log_normal(x: Doubles, mean: npt.ArrayLike = 0.0, deviation: npt.ArrayLike = 1.0) -> Doubles:
    """Return the log density of a normal distribution."""
    mean, deviation = np.asarray(mean), np.asarray(deviation)
    result: Doubles = -0.5 * np.square((x - mean) / deviation) - np.log(deviation) - 0.5 * LOG_2PI
    return result


def _rotation(dim: int, rng: Generator) -> Doubles:
    """Return a random orthogonal matrix."""
    rotation: Doubles = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return rotation


# -- shapes that bend or widen -----------------------------------------------------------------------------------------


def banana() -> Density:
    """Return a ~ N(0, 1), b | a ~ N(a², 0.3 exp(a))."""

    def sample(n: int, rng: Generator) -> Doubles:
        a = rng.normal(size=n)
        noise = rng.normal(size=n)
        return np.column_stack([a, a**2 + 0.3 * np.exp(a) * noise])

    def log_prob(x: Doubles) -> Doubles:
        a, b = x[:, 0], x[:, 1]
        return _log_normal(a) + _log_normal(b, a**2, 0.3 * np.exp(a))

    return Density(2, sample, log_prob)


def funnel(dim: int) -> Density:
    """Return v ~ N(0, 3), and dim - 1 features that are N(0, exp(v / 2)) given v (Neal 2003, section 8)."""

    def sample(n: int, rng: Generator) -> Doubles:
        v = 3 * rng.normal(size=(n, 1))
        return np.hstack([v, np.exp(v / 2) * rng.normal(size=(n, dim - 1))])

    def log_prob(x: Doubles) -> Doubles:
        v = x[:, :1]
        given: Doubles = _log_normal(x[:, 1:], 0.0, np.exp(v / 2)).sum(axis=1)
        return _log_normal(v[:, 0], 0.0, 3.0) + given

    return Density(dim, sample, log_prob)


def gaussian(dim: int, condition: float) -> Density:
    """Return a normal density whose covariance has eigenvalues from 1 to `condition` in random directions."""
    rotation = _rotation(dim, np.random.default_rng(7))
    scales = np.sqrt(np.geomspace(1.0, condition, dim))

    def sample(n: int, rng: Generator) -> Doubles:
        result: Doubles = rng.normal(size=(n, dim)) @ (rotation * scales).T
        return result

    def log_prob(x: Doubles) -> Doubles:
        result: Doubles = _log_normal(x @ rotation / scales).sum(axis=1) - np.log(scales).sum()
        return result

    return Density(dim, sample, log_prob)


def student_t() -> Density:
    """Return a Student t density of 3 degrees of freedom in 4 correlated features."""
    rotation = _rotation(4, np.random.default_rng(5))
    density = stats.multivariate_t(np.zeros(4), rotation @ np.diag([0.1, 0.5, 1.0, 3.0]) @ rotation.T, df=3)
    return Density(4, lambda n, rng: density.rvs(n, random_state=rng), density.logpdf)


# -- several parts -----------------------------------------------------------------------------------------------------


def mixture(means: Doubles, factors: Doubles, weights: Doubles) -> Density:
    """Return a mixture of normal densities with covariances factor @ factor.T, factors lower triangular."""
    parts, dim = means.shape
    inverses = np.linalg.inv(factors)
    log_scales = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)

    def sample(n: int, rng: Generator) -> Doubles:
        part = rng.choice(parts, n, p=weights)
        noise = rng.normal(size=(n, dim))
        rows: Doubles = means[part] + np.einsum("nij,nj->ni", factors[part], noise)
        return rows

    def log_prob(x: Doubles) -> Doubles:
        logs = [
            _log_normal((x - mean) @ inverse.T).sum(axis=1) - log_scale
            for mean, inverse, log_scale in zip(means, inverses, log_scales, strict=True)
        ]
        result: Doubles = special.logsumexp(logs, axis=0, b=weights[:, None])
        return result

    return Density(dim, sample, log_prob)


def eight() -> Density:
    """Return eight equal round Gaussians on a ring of radius 4."""
    angles = np.arange(8) * np.pi / 4
    means = 4 * np.column_stack([np.cos(angles), np.sin(angles)])
    return mixture(means, np.tile(0.3 * np.eye(2), (8, 1, 1)), np.full(8, 1 / 8))


def five_in_8d() -> Density:
    """Return five Gaussians of random covariances and unequal weights in 8 features."""
    rng = np.random.default_rng(11)
    factors = np.empty((5, 8, 8))
    for factor in factors:
        rotation = _rotation(8, rng)
        factor[:] = np.linalg.cholesky(rotation @ np.diag(rng.uniform(0.1, 2.0, 8)) @ rotation.T)
    return mixture(2.0 * rng.normal(size=(5, 8)), factors, np.array([0.3, 0.25, 0.2, 0.15, 0.1]))


def rings() -> Density:
    """Return three equal rings of radius 1, 2 and 3, normal across with a deviation of 0.1."""
    radii = np.array([1.0, 2.0, 3.0])

    def sample(n: int, rng: Generator) -> Doubles:
        radius = radii[rng.integers(3, size=n)] + 0.1 * rng.normal(size=n)
        angle = rng.uniform(0, 2 * np.pi, n)
        return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])

    def log_prob(x: Doubles) -> Doubles:
        radius = np.hypot(x[:, 0], x[:, 1])
        across = special.logsumexp(_log_normal(radius[:, None], radii, 0.1), axis=1) - math.log(3)
        result: Doubles = across - LOG_2PI - np.log(radius)
        return result

    return Density(2, sample, log_prob)


def checkerboard() -> Density:
    """Return a uniform density on the eight unit squares of one colour of a board of 4 x 4, centred at 0."""

    def sample(n: int, rng: Generator) -> Doubles:
        column = rng.integers(4, size=n)
        line = 2 * rng.integers(2, size=n) + column % 2
        across = rng.uniform(size=n)
        along = rng.uniform(size=n)
        return np.column_stack([column - 2 + across, line - 2 + along])

    def log_prob(x: Doubles) -> Doubles:
        on_board = (np.abs(x) < 2).all(axis=1)
        has_colour = np.floor(x).sum(axis=1) % 2 == 0
        return np.where(on_board & has_colour, -math.log(8), -np.inf)

    return Density(2, sample, log_prob)


def spiral() -> Density:
    """Return a spiral arm: 600 equal Gaussians, evenly along it and much closer than their deviation of 0.12."""
    deviation, parts = 0.12, 600
    angle = np.linspace(0.8, 3.5 * np.pi, 20_001)
    arm = np.column_stack([angle * np.cos(angle), angle * np.sin(angle)]) / 3
    steps = np.hypot(*np.diff(arm, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    places = (np.arange(parts) + 0.5) / parts * length[-1]
    centers = np.column_stack([np.interp(places, length, arm[:, i]) for i in range(2)])

    def sample(n: int, rng: Generator) -> Doubles:
        rows: Doubles = centers[rng.integers(parts, size=n)] + deviation * rng.normal(size=(n, 2))
        return rows

    def log_prob(x: Doubles) -> Doubles:
        logs = [
            special.logsumexp(_log_normal(some[:, None, :], centers, deviation).sum(axis=2), axis=1)
            for some in np.array_split(x, -(-len(x) // 2000))
        ]
        return np.concatenate(logs) - math.log(parts)

    return Density(2, sample, log_prob)


# -- bounded and circular features -------------------------------------------------------------------------------------


def log_normals() -> Density:
    """Return six independent features whose logarithms are N(0, 1)."""

    def sample(n: int, rng: Generator) -> Doubles:
        return np.exp(rng.normal(size=(n, 6)))

    def log_prob(x: Doubles) -> Doubles:
        logs = np.log(x)
        result: Doubles = (_log_normal(logs) - logs).sum(axis=1)
        return result

    return Density(6, sample, log_prob)


def box() -> Density:
    """Return a ~ U(0, 1), b | a ~ Beta(1 + 4a, 5 - 4a) and c ~ Beta(0.8, 1.5), which is infinite at 0."""
    edge = 1e-12  # no row is on a bound itself

    def sample(n: int, rng: Generator) -> Doubles:
        a = rng.uniform(size=n)
        b = rng.beta(1 + 4 * a, 5 - 4 * a)
        c = rng.beta(0.8, 1.5, n)
        return np.clip(np.column_stack([a, b, c]), edge, 1 - edge)

    def log_prob(x: Doubles) -> Doubles:
        a, b, c = x.T
        result: Doubles = stats.beta.logpdf(b, 1 + 4 * a, 5 - 4 * a) + stats.beta.logpdf(c, 0.8, 1.5)
        return result

    return Density(3, sample, log_prob)


def torus() -> Density:
    """Return angles a ~ vM(1, 2) and b | a ~ vM(a, 8) or vM(2a + 2, 4) with equal chances, in [0, 2 pi)."""

    def log_von_mises(angle: Doubles, mean: npt.ArrayLike, concentration: float) -> Doubles:
        # i0e is the Bessel function times exp(-concentration).
        peak = -math.log(2 * math.pi * special.i0e(concentration))
        result: Doubles = concentration * (np.cos(angle - np.asarray(mean)) - 1) + peak
        return result

    def sample(n: int, rng: Generator) -> Doubles:
        a = rng.vonmises(1, 2, n)
        is_first = rng.uniform(size=n) < 0.5
        near, far = rng.vonmises(0, 8, n), rng.vonmises(0, 4, n)
        angles = np.mod(np.column_stack([a, np.where(is_first, a + near, 2 * a + far + 2)]), 2 * np.pi)
        # The remainder of a tiny negative angle is rounded to a whole turn.
        return np.where(angles < 2 * np.pi, angles, 0.0)

    def log_prob(x: Doubles) -> Doubles:
        a, b = x.T
        given = np.logaddexp(log_von_mises(b, a, 8), log_von_mises(b, 2 * a + 2, 4)) - math.log(2)
        return log_von_mises(a, 1, 2) + given

    return Density(2, sample, log_prob)


DENSITIES = {
    "banana": banana(),
    "funnel5": funnel(5),
    "funnel10": funnel(10),
    "eight": eight(),
    "rings": rings(),
    "checker": checkerboard(),
    "spiral": spiral(),
    "studentt4": student_t(),
    "lognorm6": log_normals(),
    "lognorm6+": replace(log_normals(), support=Positive()),
    "box3": box(),
    "box3+": replace(box(), support=Interval(0, 1)),
    "gauss16": gaussian(16, 1e4),
    "mix8": five_in_8d(),
    "torus": torus(),
    "torus+": replace(torus(), support=Circle(0, 2 * math.pi)),
}


def training_rows(name: str, rows: int, seed: int) -> Doubles:
    """Return the rows of a known density to fit to: the same for the same name, number and seed."""
    return DENSITIES[name].sample(rows, np.random.default_rng([_key(name), rows, seed]))


def test_rows(name: str) -> Doubles:
    """Return the fresh rows of a known density on which every fit to it is scored."""
    return DENSITIES[name].sample(TEST_ROWS, np.random.default_rng([_key(name), 99, 12345]))


def _key(name: str) -> int:
    """Return a number for a name, the same with a "+" and without."""
    return sum(map(ord, name.rstrip("+")))
