"""Draws of a lattice field theory by a flow: `python examples/lattice.py [--side 6] [--minutes 2] [--output PNG]`.

A real field phi on a periodic square lattice has the density exp(-S) / Z, with the action

    S = sum over sites of m^2 phi^2 + lambda phi^4 + sum over directions of (phi(next site) - phi)^2,

m^2 = -4, and lambda near the transition between a phase in which all sites take one sign and one in which they do not
(Albergo, Kanwar, Shanahan 2019). A Markov chain by hybrid Monte Carlo moves through it in small steps. A flow fitted to
the action proposes a whole new field at each step, and a Metropolis test makes the chain exact: what the flow gets
wrong costs acceptance, and biases nothing.

The script fits a flow of splines, whose networks are circular convolutions, with linear maps of all sites between. It
runs both chains, and compares the two-point function <phi(x) phi(x + r)> of both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from pushforward import LU, ConvNet, Coupling, Flow, RationalQuadratic

MASS_SQUARED = -4.0
COUPLING = {6: 6.975, 8: 6.008, 10: 5.550, 14: 5.113}  # by the side of the lattice
BLUE, ORANGE = "#0072b2", "#d55e00"


def log_density(field: np.ndarray, coupling: float) -> tuple[np.ndarray, np.ndarray]:
    """Return -S of fields (n, 1, side, side), and its gradient."""
    action = MASS_SQUARED * field**2 + coupling * field**4
    gradient = 2 * MASS_SQUARED * field + 4 * coupling * field**3
    for axis in (2, 3):
        step = np.roll(field, -1, axis) - field
        action += step**2
        gradient += 2 * np.roll(step, 1, axis) - 2 * step
    return -action.sum(axis=(1, 2, 3)), -gradient


def metropolis(flow: Flow, coupling: float, proposals: int, seed: int) -> tuple[np.ndarray, float]:
    """Return the states of a chain whose proposals are independent draws, and the share of them that was accepted."""
    x, log_q = flow.sample_and_log_prob(proposals, seed=seed)
    log_weights = log_density(x, coupling)[0] - log_q
    levels = np.log(np.random.default_rng(seed).uniform(size=proposals))
    at, states = 0, np.zeros(proposals, dtype=np.int64)
    for i in range(1, proposals):
        if levels[i] < log_weights[i] - log_weights[at]:
            at = i
        states[i] = at
    return x[states], float((np.diff(states) > 0).mean())


def hybrid_monte_carlo(side: int, coupling: float, chains: int, trajectories: int, seed: int) -> np.ndarray:
    """Return fields (chains, trajectories, side, side), from hot starts, without the first third."""
    rng = np.random.default_rng(seed)
    field = rng.normal(scale=0.5, size=(chains, 1, side, side))
    step, leaps = 0.1, 10
    value, gradient = log_density(field, coupling)
    found = []
    for _ in range(trajectories):
        momentum = rng.normal(size=field.shape)
        moved, slope = field.copy(), gradient
        kinetic = 0.5 * (momentum**2).sum(axis=(1, 2, 3))
        momentum = momentum + 0.5 * step * slope
        for leap in range(leaps):
            moved = moved + step * momentum
            moved_value, slope = log_density(moved, coupling)
            momentum = momentum + step * slope * (0.5 if leap == leaps - 1 else 1)
        change = moved_value - value + kinetic - 0.5 * (momentum**2).sum(axis=(1, 2, 3))
        taken = np.log(rng.uniform(size=chains)) < change
        field[taken], value[taken], gradient[taken] = moved[taken], moved_value[taken], slope[taken]
        found.append(field[:, 0].copy())
    return np.stack(found[trajectories // 3 :], axis=1)


def two_point(fields: np.ndarray) -> np.ndarray:
    """Return phi(x) phi(x + r) of fields (..., side, side), over all sites and both directions, for each r."""
    side = fields.shape[-1]
    return np.stack(
        [
            np.mean([(fields * np.roll(fields, r, axis)).mean(axis=(-2, -1)) for axis in (-2, -1)], axis=0)
            for r in range(side // 2 + 1)
        ],
        axis=-1,
    )


def mean_and_error(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over independent groups, and its standard error."""
    return groups.mean(axis=0), groups.std(axis=0, ddof=1) / np.sqrt(len(groups))


def main() -> None:
    """Fit the flow, run both chains, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, choices=COUPLING, default=6)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training (default: 2)")
    parser.add_argument("--proposals", type=int, default=50_000, help="of the chain (default: 50,000)")
    parser.add_argument("--trajectories", type=int, default=1500, help="of hybrid Monte Carlo (default: 1500)")
    parser.add_argument("--output", type=Path, default=Path("lattice.png"))
    arguments = parser.parse_args()
    side, coupling = arguments.side, COUPLING[arguments.side]

    network = ConvNet(hidden=12, layers=1, padding="circular")
    layer = Coupling(RationalQuadratic(), network, mask="checkerboard", unconditional=True)
    flow = Flow(shape=(1, side, side), layers=[LU(), layer, layer] * 4, seed=0)
    flow.fit_density(lambda field: log_density(field, coupling), max_time=60 * arguments.minutes, seed=0)
    chain, accepted = metropolis(flow, coupling, arguments.proposals, seed=0)
    print(f"flow: {arguments.minutes:g} minutes of training, {accepted:.1%} of the proposals accepted")
    began = time.perf_counter()
    walkers = hybrid_monte_carlo(side, coupling, 200, arguments.trajectories, seed=0)
    print(f"hybrid Monte Carlo: {walkers.shape[0] * walkers.shape[1]:,} fields in {time.perf_counter() - began:.0f} s")

    groups = two_point(chain[:, 0]).reshape(50, -1, side // 2 + 1).mean(axis=1)
    by_flow, by_walkers = mean_and_error(groups), mean_and_error(two_point(walkers).mean(axis=1))
    for r, (a, a_error, b, b_error) in enumerate(zip(*by_flow, *by_walkers, strict=True)):
        off = (a - b) / np.hypot(a_error, b_error)
        print(
            f"G({r}) {a:.4f} +- {a_error:.4f} by the flow, {b:.4f} +- {b_error:.4f} by walkers: {off:+.1f} errors apart"
        )

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    magnetisation = [fields.mean(axis=(-2, -1)).ravel() for fields in (chain[:, 0], walkers)]
    bins = np.linspace(-0.7, 0.7, 61)
    left.hist(magnetisation[1], bins, density=True, color=BLUE, alpha=0.4, label="hybrid Monte Carlo")
    left.hist(magnetisation[0], bins, density=True, color=ORANGE, histtype="step", lw=1.5, label="flow and Metropolis")
    left.set(xlabel="mean field", ylabel="density")
    left.legend(frameon=False)
    r = np.arange(side // 2 + 1)
    right.errorbar(r, by_walkers[0], by_walkers[1], color=BLUE, fmt="o", capsize=3)
    right.errorbar(r + 0.05, by_flow[0], by_flow[1], color=ORANGE, fmt="s", capsize=3)
    right.set(xlabel="r", ylabel="$\\langle\\phi(x)\\,\\phi(x + r)\\rangle$", xticks=r)
    figure.savefig(arguments.output, dpi=120)


if __name__ == "__main__":
    main()
