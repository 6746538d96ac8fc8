"""What an ensemble gains over a single flow, and what it costs: `python benchmarks/ensembles.py [REPEATS]`.

Rows are drawn from known densities. Each figure is KL(truth || model) in nats, a mean over repeats, each scored on
5,000 fresh rows: lower is better. "alike" are five default flows, "different" five flows of other layers. The members'
weights are equal, or learned from held-out rows. "seconds" are those of one flow, and of all alike ones together.
"""

from __future__ import annotations

import itertools
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


def mixture(n: int, rng: np.random.Generator, means: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k = rng.integers(len(means), size=n)
    x = means[k] + widths[k] * rng.normal(size=(n, means.shape[1]))
    parts = [normal(x, m, d).sum(axis=1) for m, d in zip(means, widths, strict=True)]
    return x, np.logaddexp.reduce(parts) - np.log(len(means))


ANGLES = np.sqrt(np.linspace(0.6, 110, 300))
SPIRAL = np.stack([ANGLES * np.cos(ANGLES), ANGLES * np.sin(ANGLES)], axis=1) / 3
RNG = np.random.default_rng(11)
CLUSTERS, WIDTHS = 2 * RNG.normal(size=(5, 8)), RNG.uniform(0.3, 1.4, size=(5, 8))
DENSITIES = {
    "banana (2)": banana,
    "spiral (2)": lambda n, rng: mixture(n, rng, SPIRAL, np.full_like(SPIRAL, 0.12)),
    "clusters (8)": lambda n, rng: mixture(n, rng, CLUSTERS, WIDTHS),
}


def ensemble(kind: str, dim: int, seed: int) -> Ensemble:
    if kind == "alike":
        return Ensemble.of(dim, seed=seed)
    layers = [neural_spline(dim), neural_spline(dim, depth=3, hidden=16, bins=4), realnvp(dim), maf(dim), [LU()]]
    return Ensemble([Flow(dim, layers=parts, seed=10 * seed + m) for m, parts in enumerate(layers)])


def main(repeats: int = 3) -> None:
    print(describe())
    print("| density | rows | single | alike, equal | alike, learned | different, equal | learned | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, density), rows in itertools.product(DENSITIES.items(), (300, 2000)):
        results = []
        for repeat in range(repeats):
            rng = np.random.default_rng([rows, repeat])
            (x, _), (fresh, truth) = density(rows, rng), density(5000, rng)
            models: list[Flow | Ensemble] = [Flow(x.shape[1], seed=10 * repeat)]
            models += [ensemble(kind, x.shape[1], repeat) for kind in ("alike", "alike", "different", "different")]
            times = [time.perf_counter()]
            for model, learn in zip(models, (None, False, True, False, True), strict=True):
                model.fit(x, seed=repeat, **({} if learn is None else {"learn_weights": learn}))
                times.append(time.perf_counter())
            results.append([*((truth - model.log_prob(fresh)).mean() for model in models), *np.diff(times[:3])])
        *losses, one, five = np.mean(results, axis=0)
        shown = " | ".join(f"{loss:.3f}" if loss < 100 else f"{loss:.0e}" for loss in losses)
        print(f"| {name} | {rows:,} | {shown} | {one:.1f} and {five:.1f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
