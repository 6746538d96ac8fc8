"""Unnormalised densities given as functions, most with a known evidence, for the benchmarks of fits and of evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Answer = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A density.

    Parameters
    ----------
    dim : int
        Features.
    log_density : callable
        Takes (n, dim) rows; returns values and gradient.
    log_evidence : float
        The truth; NaN if there is none.
    source : str
        Where it comes from.
    """

    dim: int
    log_density: Callable[[np.ndarray], Answer]
    log_evidence: float
    source: str


def log_integral(
    log_density: Callable[[np.ndarray], np.ndarray], low: float, high: float, points: int = 100_001
) -> float:
    """Return the log integral of a density of one variable that is negligible at both ends."""
    x = np.linspace(low, high, 100_001)
    return float(np.logaddexp.reduce(log_density(x)) + math.log(x[1] - x[0]))


def banana(x: np.ndarray) -> Answer:
    """A normal a, and b normal around a^2 with deviation 0.5."""
    a, b = x.T
    residual = (b - a**2) / 0.5
    gradient = np.stack([-a + 4 * a * residual, -2 * residual], axis=1)
    return -0.5 * a**2 - 0.5 * residual**2, gradient


def double_wells(x: np.ndarray) -> Answer:
    """Independent double wells with modes at -2 and 2."""
    rest = x**2 - 4
    return -0.5 * (rest**2).sum(axis=1), -2 * rest * x


def funnel(x: np.ndarray) -> Answer:
    """Neal's funnel: v normal with deviation 3, the others normal with variance exp(v). Normalised."""
    v, others = x[:, :1], x[:, 1:]
    count = others.shape[1]
    squares = (others**2 * np.exp(-v)).sum(axis=1)
    constant = -0.5 * (count + 1) * math.log(2 * math.pi) - math.log(3)
    values = constant - v[:, 0] ** 2 / 18 - 0.5 * count * v[:, 0] - 0.5 * squares
    slope = -v[:, 0] / 9 - 0.5 * count + 0.5 * squares
    return values, np.concatenate([slope[:, None], -others * np.exp(-v)], axis=1)


def many_wells(x: np.ndarray) -> Answer:
    """Pairs of a double well with unequal modes and a normal."""
    a, b = x[:, ::2], x[:, 1::2]
    gradient = np.empty_like(x)
    gradient[:, ::2], gradient[:, 1::2] = -4 * a**3 + 12 * a + 0.5, -b
    return (-(a**4) + 6 * a**2 + 0.5 * a - 0.5 * b**2).sum(axis=1), gradient


def lattice(x: np.ndarray, coupling: float = 6.975) -> Answer:
    """Scalar field theory on a periodic square lattice, exp(-S), with mass^2 = -4."""
    side = math.isqrt(x.shape[1])
    field = x.reshape(-1, side, side)
    action, gradient = -4 * field**2 + coupling * field**4, -8 * field + 4 * coupling * field**3
    for axis in (1, 2):
        step = np.roll(field, -1, axis) - field
        action += step**2
        gradient += 2 * np.roll(step, 1, axis) - 2 * step
    return -action.sum(axis=(1, 2)), -gradient.reshape(x.shape)


PROBLEMS = {
    "banana": Problem(2, banana, math.log(math.pi), "this project"),
    "double wells": Problem(
        16, double_wells, 16 * log_integral(lambda x: -0.5 * (x**2 - 4) ** 2, -6, 6), "this project"
    ),
    "funnel": Problem(10, funnel, 0.0, "Neal 2003; Midgley et al. 2023"),
    "many wells": Problem(
        32,
        many_wells,
        16 * (log_integral(lambda x: -(x**4) + 6 * x**2 + 0.5 * x, -6, 6) + 0.5 * math.log(2 * math.pi)),
        "Midgley et al. 2023",
    ),
    "lattice": Problem(36, lattice, math.nan, "Albergo, Kanwar, Shanahan 2019"),
}
