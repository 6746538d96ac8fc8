"""What an ensemble gains over a single flow, and what it costs: `python benchmarks/ensembles.py [REPEATS]`.

Rows are drawn from known densities. Each figure is KL(truth || model) in nats, a mean over repeats, each scored on 5,000
fresh rows: lower is better. "alike" are five default flows, "different" five flows of other layers. Weights of the
members are equal, or learned from held-out rows. "seconds" are those of one of the flows and of all alike ones together.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from environment import describe
from pushforward import LU, Ensemble, Flow, maf, neural_spline, realnvp


def normal(x: np.ndarray, mean: Any = 0.0, deviation: Any = 1.0) -> np.ndarray:
    return -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)


def banana(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    a = rng.normal(size=n)
    b = a**2 + 0.3 * np.exp(a) * rng.normal(size=n)
    return np.stack([a, b], axis=1), normal(a) + normal(b, a**2, 0.3 * np.exp(a))


def funnel(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    v = 3 * rng.normal(size=n)
    deviation = np.exp(v / 2)[:, None]
    rest = deviation * rng.normal(size=(n, 4))
    return np.column_stack([v, rest]), normal(v, 0, 3) + normal(rest, 0, deviation).sum(axis=1)


def mixture(
    n: int, rng: np.random.Generator, means: np.ndarray, deviations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    k = rng.integers(len(means), size=n)
    x = means[k] + deviations[k] * rng.normal(size=(n, means.shape[1]))
    parts = [normal(x, m, d).sum(axis=1) for m, d in zip(means, deviations, strict=True)]
    return x, np.logaddexp.reduce(parts) - np.log(len(means))


ANGLES = np.sqrt(np.linspace(0.6, 110, 300))
SPIRAL = np.stack([ANGLES * np.cos(ANGLES), ANGLES * np.sin(ANGLES)], axis=1) / 3
RNG = np.random.default_rng(11)
CLUSTERS, WIDTHS = 2 * RNG.normal(size=(5, 8)), RNG.uniform(0.3, 1.4, size=(5, 8))
DENSITIES = {
    "banana (2)": banana,
    "spiral (2)": lambda n, rng: mixture(n, rng, SPIRAL, np.full_like(SPIRAL, 0.12)),
    "funnel (5)": funnel,
    "clusters (8)": lambda n, rng: mixture(n, rng, CLUSTERS, WIDTHS),
}


def different(dim: int, seed: int) -> Ensemble:
    layers = [neural_spline(dim), neural_spline(dim, depth=3, hidden=16, bins=4), realnvp(dim), maf(dim), [LU()]]
    return Ensemble([Flow(dim, layers=parts, seed=seed + m) for m, parts in enumerate(layers)])


def main(repeats: int = 3) -> None:
    print(describe())
    print("| density | rows | single | alike, equal | alike, learned | different, equal | learned | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, density in DENSITIES.items():
        for rows in (300, 2000):
            results = []
            for repeat in range(repeats):
                rng = np.random.default_rng([rows, repeat])
                (x, _), (fresh, truth) = density(rows, rng), density(5000, rng)
                start = time.perf_counter()
                single = Flow(x.shape[1], seed=10 * repeat).fit(x, seed=repeat, progress=False)
                middle = time.perf_counter()
                models: list[Flow | Ensemble] = [single]
                for make in (lambda s: Ensemble.of(x.shape[1], seed=s), lambda s: different(x.shape[1], 10 * s)):
                    models += [make(repeat).fit(x, learn_weights=learn, seed=repeat) for learn in (False, True)]
                    if len(models) == 3:
                        seconds = (middle - start, (time.perf_counter() - middle) / 2)
                results.append([*((truth - model.log_prob(fresh)).mean() for model in models), *seconds])
            *losses, one, all_of_them = np.mean(results, axis=0)
            print(
                f"| {name} | {rows:,} | {' | '.join(f'{loss:.3f}' for loss in losses)} | {one:.1f} and {all_of_them:.1f} |"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
