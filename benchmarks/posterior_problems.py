"""Posteriors of known evidence: `python benchmarks/posterior_problems.py [--problems pairs,eggbox]`.

Every problem has the defaults of `sample_posterior`, five seeds, and the same limit of calls. Each seed has a line with
the log evidence, its error, the calls and the seconds. Published figures are those of pocoMC (Karamanis et al. 2022)
for the pairs, and of MultiNest (Feroz, Hobson, Bridges 2009) for shells and eggbox.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from environment import describe
from pushforward import Interval, sample_posterior
from scipy import stats


@dataclass(frozen=True)
class Problem:
    log_likelihood: Callable[[np.ndarray], np.ndarray]
    prior: Any
    dim: int
    truth: float
    wanted: float
    published: str


def pairs(x: np.ndarray) -> np.ndarray:
    a, b = x[:, ::2], x[:, 1::2]
    return -(10 * (a**2 - b) ** 2 + (a - 1) ** 2).sum(axis=1)


def rosenbrock(x: np.ndarray) -> np.ndarray:
    a, b = x[:, :-1], x[:, 1:]
    return -(100 * (b - a**2) ** 2 + (1 - a) ** 2).sum(axis=1)


def shells(x: np.ndarray) -> np.ndarray:
    """Two Gaussian shells of radius 2 and width 0.1, around -3.5 and 3.5 on the first axis."""
    rest = (x[:, 1:] ** 2).sum(axis=1)
    radii = (np.sqrt((x[:, 0] - center) ** 2 + rest) for center in (-3.5, 3.5))
    return np.logaddexp(*(-0.5 * ((radius - 2) / 0.1) ** 2 for radius in radii)) - math.log(
        0.1 * math.sqrt(2 * math.pi)
    )


def eggbox(x: np.ndarray) -> np.ndarray:
    return (2 + np.cos(x[:, 0] / 2) * np.cos(x[:, 1] / 2)) ** 5


def modes_of_eggbox(x: np.ndarray, weights: np.ndarray) -> int:
    """How many of the 18 modes have at least a tenth of their weight.

    A mode inside has 0.08, one on an edge half of that, one in a corner a quarter.
    """
    places = np.round(x / (2 * np.pi)).astype(int)
    found = 0
    for i, j in ((i, j) for i in range(6) for j in range(6) if (i + j) % 2 == 0):
        share = 0.08 * 0.5 ** ((i in (0, 5)) + (j in (0, 5)))
        found += weights[(places == (i, j)).all(axis=1)].sum() > 0.1 * share
    return found


BOX, WIDE = Interval(-5, 5), Interval(-6, 6)
PROBLEMS = {
    "shells2": Problem(shells, WIDE, 2, -1.7456, 0.05, "MultiNest 7,370 calls"),
    "eggbox": Problem(eggbox, Interval(0, 10 * math.pi), 2, 235.8559, 0.05, "MultiNest 235.86 +- 0.06"),
    "rosenbrock2": Problem(rosenbrock, BOX, 2, -5.8041, 0.1, "-"),
    "shells5": Problem(shells, WIDE, 5, -5.6736, 0.05, "MultiNest 17,967 calls"),
    "pairs": Problem(pairs, stats.norm(0, 3), 10, -21.4021, 0.03, "pocoMC -21.430 +- 0.027 with 51,456 calls"),
    "shells10": Problem(shells, WIDE, 10, -14.5905, 0.05, "MultiNest 52,901 calls"),
    "rosenbrock5": Problem(rosenbrock, BOX, 5, -19.7324, 0.1, "-"),
    "rosenbrock10": Problem(rosenbrock, BOX, 10, -43.1084, 0.1, "-"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=lambda text: text.split(","), default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-calls", type=int, default=60_000)
    arguments = parser.parse_args()
    print(describe())
    warnings.simplefilter("ignore", RuntimeWarning)  # problems are printed
    for name in arguments.problems:
        problem = PROBLEMS[name]
        print(f"{name}: truth {problem.truth}, wanted within {problem.wanted}; {problem.published}", flush=True)
        off, calls = [], []
        for seed in range(arguments.seeds):
            found = sample_posterior(
                problem.log_likelihood, problem.prior, dim=problem.dim, max_calls=arguments.max_calls, seed=seed
            )
            off.append(found.log_evidence - problem.truth)
            calls.append(found.calls)
            modes = f", {modes_of_eggbox(found.x, found.weights)} modes" if name == "eggbox" else ""
            print(
                f"  seed {seed}: {found.log_evidence:.4f} +- {found.log_evidence_error:.4f} (off by {off[-1]:+.4f}), "
                f"{found.calls} calls, {found.seconds:.1f} s, effective {found.effective_size:.0f}, "
                f"k {found.pareto_k:.2f}, {found.stopped}{modes}",
                *found.problems,
                flush=True,
            )
        within = sum(abs(value) <= problem.wanted for value in off)
        print(
            f"  within {problem.wanted}: {within} of {len(off)}; mean off by {np.mean(off):+.4f}, "
            f"rms {np.sqrt(np.mean(np.square(off))):.4f}; calls {min(calls)} to {max(calls)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
