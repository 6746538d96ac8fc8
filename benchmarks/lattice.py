"""Acceptance of a lattice field theory's independent proposals by training time.

    python benchmarks/lattice.py [SIDE ...] [--minutes 10] [--seeds 0] [--batch 128] [--affine]

The theory is the scalar one of Albergo, Kanwar, Shanahan 2019, table I, as in `examples/lattice.py`. A fit has a time
limit. After it, 50,000 draws give the acceptance of an independence Metropolis chain, and the effective share of the
draws as importance samples. Settings are the same for all lattices and seeds. The layers are couplings by a
checkerboard with circular convolutions: splines with linear maps of all sites between, or with `--affine` those of the
preset `lattice`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from environment import describe
from problems import Answer
from problems import lattice as log_density
from pushforward import LU, Adam, ConvNet, Coupling, Flow, RationalQuadratic, lattice
from pushforward._model.layer import Layer
from targets import DRAWS, acceptance, log_mean

COUPLING = {6: 6.975, 8: 6.008, 10: 5.550, 14: 5.113}  # by the side of the lattice


def splines(depth: int, hidden: int) -> list[Layer]:
    network = ConvNet(hidden, layers=1, padding="circular")
    coupling = Coupling(RationalQuadratic(), network, mask="checkerboard", unconditional=True)
    return [LU(), coupling, coupling] * depth


def run(side: int, minutes: float, batch: int, rate: float, seed: int, affine: bool) -> None:
    def density(field: np.ndarray) -> Answer:
        values, gradient = log_density(field.reshape(len(field), -1), COUPLING[side])
        return values, gradient.reshape(field.shape)

    shape = (1, side, side)
    flow = Flow(shape=shape, layers=lattice(shape) if affine else splines(depth=4, hidden=12), seed=seed)
    wall, cpu = time.perf_counter(), time.process_time()
    flow.fit_density(density, max_time=60 * minutes, batch_size=batch, optimizer=Adam(rate), seed=seed, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    x, log_q = flow.sample_and_log_prob(DRAWS, seed=seed + 1000)
    log_weights = density(x)[0] - log_q
    weights = np.exp(log_weights - log_weights.max())
    assert flow.history is not None
    print(
        f"  {side} x {side}, seed {seed}: {flow.parameters.size:,} parameters, {flow.history.epochs[-1].steps:,} "
        f"steps, {wall:.0f} s, {cpu:.0f} s of processors; acceptance {acceptance(log_weights, seed):.1%}, "
        f"{weights.sum() ** 2 / (weights**2).sum() / DRAWS:.1%} effective, log Z {log_mean(log_weights):.3f}, "
        f"ELBO {log_weights.mean():.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="*", type=int, metavar="SIDE", help=f"of {', '.join(map(str, COUPLING))}")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's learning rate (default: 0.003)")
    parser.add_argument("--affine", action="store_true", help="the preset lattice in place of splines")
    arguments = parser.parse_args()
    print(describe())
    for side in arguments.sides or COUPLING:
        for seed in arguments.seeds:
            run(side, arguments.minutes, arguments.batch, arguments.rate, seed, arguments.affine)


if __name__ == "__main__":
    main()
