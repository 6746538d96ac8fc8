"""Fits of default flows to log densities with gradient: the truth, published figures, and ours.

    python benchmarks/targets.py [PROBLEM ...] [--seeds 0 1 2 3 4] [--epochs N] [--second N]

Settings are the same for all seeds. Only the number of epochs differs from one problem to the next. `--second` adds
epochs without the gradient, each with 4,096 draws.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from environment import describe
from problems import PROBLEMS, Problem
from pushforward import Adam, Flow


@dataclass(frozen=True)
class Run:
    """How long a problem is fitted, and what was published on it."""

    epochs: int
    published: str


RUNS = {
    "banana": Run(10, "by hand: log Z 1.139, 22 % effective"),
    "double wells": Run(60, "RealNVP 10.97 nats short of log Z, splines 7.2 (10,000 steps of 10,000)"),
    "funnel": Run(200, "mean abs. error of log Z from 2,000 draws 0.0022 (FAB, Midgley et al. 2023)"),
    "many wells": Run(60, "mean abs. error of log Z 0.032 (FAB, Midgley et al. 2023)"),
    "lattice": Run(30, "acceptance 79 % after 10 minutes (continuous flow)"),
}
DRAWS, GROUP = 50_000, 2000


def log_mean(log_weights: np.ndarray) -> float:
    return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))


def acceptance(log_weights: np.ndarray, seed: int) -> float:
    """Return the share of independent proposals that a Metropolis chain accepts."""
    levels = np.log(np.random.default_rng(seed).uniform(size=len(log_weights)))
    present, accepted = log_weights[0], 0
    for proposed, level in zip(log_weights[1:], levels[1:], strict=True):
        if level < proposed - present:
            present, accepted = proposed, accepted + 1
    return accepted / (len(log_weights) - 1)


def run(problem: Problem, epochs: int, second: int, seed: int) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    flow = Flow(problem.dim, seed=seed).fit_density(problem.log_density, epochs=epochs, seed=seed, progress=False)
    assert flow.history is not None
    evaluations = flow.history.epochs[-1].evaluations
    if second:
        flow.fit_density(
            lambda x: problem.log_density(x)[0],
            epochs=second,
            population=4096,
            optimizer=Adam(1e-3),
            seed=seed,
            progress=False,
        )
        evaluations += flow.history.epochs[-1].evaluations
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    x, log_q = flow.sample_and_log_prob(DRAWS, seed=seed + 1000)
    log_weights = problem.log_density(x)[0] - log_q
    weights = np.exp(log_weights - log_weights.max())
    groups = np.array([log_mean(part) for part in log_weights.reshape(-1, GROUP)])
    print(
        f"  seed {seed}: {wall:.0f} s, {cpu:.0f} s of processors, {evaluations:,} evaluations; "
        f"log Z {log_mean(log_weights):.4f}, mean abs. error from {GROUP:,} draws "
        f"{np.abs(groups - problem.log_evidence).mean():.4f}; ELBO {log_weights.mean():.4f}, "
        f"{weights.sum() ** 2 / (weights**2).sum() / DRAWS:.1%} effective, "
        f"acceptance {acceptance(log_weights, seed):.1%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of {', '.join(RUNS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--epochs", type=int, help="instead of those of each problem")
    parser.add_argument("--second", type=int, default=0, help="epochs without the gradient afterwards (default: 0)")
    arguments = parser.parse_args()
    print(describe())
    for name in arguments.problems or RUNS:
        problem, settings = PROBLEMS[name], RUNS[name]
        print(f"{name}, {problem.dim}-d ({problem.source}): log Z {problem.log_evidence:.4f}; {settings.published}")
        for seed in arguments.seeds:
            run(problem, arguments.epochs or settings.epochs, arguments.second, seed)


if __name__ == "__main__":
    main()
