"""Integrals beside vegas, at equal points.

    python benchmarks/integrals.py [--problems camel2,ridge] [--points 100000] [--seeds 5]

- camelD: two Gaussians exp(-((x - c) / s)^2) at c = 1/4 and 3/4 on the diagonal of the D-dimensional unit cube
  (Deutschmann, Goetz 2024). They publish the ratio of the variances of VEGAS and of their flow, for equally many draws
  from both once they are trained; points of the training do not count. Their VEGAS has no stratification.
- ridge: 1,000 Gaussians along the diagonal of the unit cube in four dimensions, from 0.01 to 0.99. The documentation of
  vegas has 10,000, from 0 to 1.

vegas runs in two ways: "default" has adaptive stratified sampling, "classic" is importance sampling alone. Both spend
the same share of the points on adaptation as pushforward. The variance is that of the value over its square, times the
draws that the value was taken from. As the shares are equal, its ratio is the same whether all points count or only
those draws.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import gvar
import numpy as np
import vegas
from environment import describe
from pushforward.importance import integrate


@dataclass(frozen=True)
class Problem:
    dim: int
    f: Callable[[np.ndarray], np.ndarray]
    truth: float
    published: str


def camel(dim: int, width: float, published: int) -> Problem:
    def f(x: np.ndarray) -> np.ndarray:
        return sum(np.exp(-(((x - centre) / width) ** 2).sum(axis=1)) for centre in (0.25, 0.75))

    truth = 2 * (width * math.sqrt(math.pi) / 2 * (math.erf(0.25 / width) + math.erf(0.75 / width))) ** dim
    return Problem(dim, f, truth, str(published))


def ridge(x: np.ndarray) -> np.ndarray:
    centres = np.linspace(0.01, 0.99, 1000)
    # sum over d of (x_d - c)^2 = d (mean - c)^2 + sum of (x_d - mean)^2
    mean = x.mean(axis=1)
    across = ((x - mean[:, None]) ** 2).sum(axis=1)
    along = np.zeros(len(x))
    for part in np.array_split(centres, 20):
        along += np.exp(-100 * x.shape[1] * (mean[:, None] - part) ** 2).sum(axis=1)
    return (100 / math.pi) ** 2 * np.exp(-100 * across) * along / len(centres)


def ridge_truth() -> float:
    """The integral over the unit cube, of which a little of the Gaussians at both ends lies outside."""
    centres = np.linspace(0.01, 0.99, 1000)
    inside = [0.5 * (math.erf(10 * c) + math.erf(10 * (1 - c))) for c in centres]
    return float(np.mean(np.array(inside) ** 4))


PROBLEMS = {
    "camel2": camel(2, 0.2208, 340),
    "camel4": camel(4, 0.3784, 100),
    "camel8": camel(8, 0.5225, 35),
    "camel16": camel(16, 0.6672, 19),
    "ridge": Problem(4, ridge, ridge_truth(), "-"),
}


def compare(name: str, points: int, seed: int) -> str:
    problem = PROBLEMS[name]
    box = [[0, 1]] * problem.dim
    wall, cpu = time.perf_counter(), time.process_time()
    ours = integrate(problem.f, box, rtol=0, max_calls=points, seed=seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    variance = (ours.error / ours.value) ** 2 * ours.draws
    share = ours.draws / points
    off = (ours.value - problem.truth) / ours.error
    cells = [f"{ours.value:.6g} ± {ours.error:.1g}", f"{off:+.1f}", f"{variance:.2g}"]
    for settings in ({}, {"nstrat": [1] * problem.dim, "beta": 0}):
        gvar.ranseed(seed)
        integrator, batch = vegas.Integrator(box), vegas.lbatchintegrand(problem.f)
        integrator(batch, nitn=10, neval=points * (1 - share) / 10, **settings)
        theirs = integrator(batch, nitn=10, neval=points * share / 10, alpha=0.1, **settings)
        other = (theirs.sdev / theirs.mean) ** 2 * theirs.sum_neval
        cells += [f"{theirs.mean:.6g} ± {theirs.sdev:.1g}", f"{other / variance:.3g}"]
    return " | ".join(
        [f"| {name} | {seed} | {problem.truth:.6g}", *cells, f"{problem.published} | {wall:.0f} | {cpu:.0f} |"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=lambda text: text.split(","), default=list(PROBLEMS))
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(describe(), "vegas", vegas.__version__)
    columns = ["problem", "seed", "truth", "pushforward", "errors off", "variance of a draw", "vegas default", "ratio"]
    columns += ["vegas classic", "ratio", "published ratio", "seconds", "of processors"]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|", flush=True)
    for name in options.problems:
        for seed in range(options.seeds):
            print(compare(name, options.points, seed), flush=True)


if __name__ == "__main__":
    main()
