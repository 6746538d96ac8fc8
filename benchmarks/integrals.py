"""Camel integrals beside vegas, at equal points: `python benchmarks/integrals.py [--dims 2,4,8,16] [--points 100000]`.

The integrand is the sum of two Gaussians exp(-((x - c) / s)^2) at c = 1/4 and 3/4 on the diagonal of the unit cube
(Deutschmann, Goetz 2021, who publish the ratio of variances of VEGAS and their flow). Both spend the same share of the
points on adaptation. A variance is that of the value times the points it was taken from, over the value squared. vegas
runs with its default, adaptive stratified sampling; the publication's comparison is without stratification by default.
"""

from __future__ import annotations

import argparse
import math
import time

import gvar
import numpy as np
import vegas
from environment import describe
from pushforward.importance import integrate

WIDTHS = {2: 0.2208, 4: 0.3784, 8: 0.5225, 16: 0.6672}
PUBLISHED = {2: 340, 4: 100, 8: 35, 16: 19}


def compare(dim: int, points: int, seed: int) -> str:
    width = WIDTHS[dim]

    def camel(x: np.ndarray) -> np.ndarray:
        return sum(np.exp(-(((x - centre) / width) ** 2).sum(axis=1)) for centre in (0.25, 0.75))

    truth = 2 * (width * math.sqrt(math.pi) / 2 * (math.erf(0.25 / width) + math.erf(0.75 / width))) ** dim
    start = time.perf_counter()
    ours = integrate(camel, [[0, 1]] * dim, rtol=0, max_calls=points, seed=seed)
    seconds = time.perf_counter() - start
    gvar.ranseed(seed)
    integrator = vegas.Integrator([[0, 1]] * dim)
    batch = vegas.lbatchintegrand(camel)
    share = ours.draws / points
    integrator(batch, nitn=10, neval=points * (1 - share) / 10)
    theirs = integrator(batch, nitn=10, neval=points * share / 10, alpha=0.1)
    variances = [
        (theirs.sdev / theirs.mean) ** 2 * theirs.sum_neval,
        (ours.error / ours.value) ** 2 * ours.draws,
    ]
    return (
        f"| {dim} | {seed} | {truth:.6g} | {theirs.mean:.6g} ± {theirs.sdev:.1g} | {ours.value:.6g} ± {ours.error:.1g} "
        f"| {variances[0] / variances[1]:.3g} | {PUBLISHED[dim]} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", default="2,4,8,16")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(describe(), "vegas", vegas.__version__)
    print("| d | seed | truth | vegas | pushforward | ratio of variances | published | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for dim in map(int, options.dims.split(",")):
        for seed in range(options.seeds):
            print(compare(dim, options.points, seed), flush=True)


if __name__ == "__main__":
    main()
