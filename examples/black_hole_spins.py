"""How are the spins of merging black holes distributed? `python examples/black_hole_spins.py FILE [--output PNG]`.

FILE holds, per gravitational-wave event, an array of posterior samples and the names of its columns (De et al. 2018,
arXiv:1811.09232). Every event was analysed under the same prior: uniform masses, spins of uniform size and any
direction. The best measured property of the spins is the effective spin, chi = (a1 cos t1 + q a2 cos t2) / (1 + q),
with the mass ratio q, sizes a and tilts t. It is positive if the black holes spin in the direction of their orbit, and
the prior favours values near 0.

The script changes that prior for a population: chi normal, cut off at -1 and 1, with a mean and a width that all events
share. For each event this needs the likelihood of (q, chi), which is posterior over prior:

- a flow is fitted to each event's samples of (q, chi), inside their bounds;
- the prior of chi at a given q has no simple formula: a conditional flow is fitted to draws from it.

Both densities are then evaluated on a grid, and the rest is sums. The usual method, a weighted sum over samples, must
give the same result. It does if enough samples lie inside the population. The results are the population's mean and
width, and each event's chi given all events; a figure shows both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from pushforward import Flow, Interval, neural_spline
from scipy.stats import truncnorm

RATIO, SPIN = Interval(0, 1), Interval(-1, 1)
LARGEST_SPIN = 0.99  # of the analyses' prior
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"

# Middles of cells.
Q = (np.arange(100) + 0.5) / 100
CHI = (np.arange(800) + 0.5) / 400 - 1
MEAN = np.linspace(-0.3, 0.5, 81)
WIDTH = np.geomspace(0.01, 0.5, 60)  # evenly in the logarithm: the prior of the width


def effective_spin(q: np.ndarray, spins: Sequence[np.ndarray], cosines: Sequence[np.ndarray]) -> np.ndarray:
    """Return chi, given sizes of both spins and cosines of their tilts."""
    return (spins[0] * cosines[0] + q * spins[1] * cosines[1]) / (1 + q)


def read(file: Path) -> dict[str, np.ndarray]:
    """Return rows of (q, chi) by event."""
    data = np.load(file)
    events = {}
    for name in (name for name in data.files if "/" not in name):
        column = dict(zip(data[f"{name}/names"], data[name].T, strict=True))
        q = column["mass2"] / column["mass1"]
        spins = column["spin1_a"], column["spin2_a"]
        cosines = np.cos(column["spin1_polar"]), np.cos(column["spin2_polar"])
        events[name] = np.stack([q, effective_spin(q, spins, cosines)], axis=1)
    return events


def fit_prior(rows: int, epochs: int) -> Flow:
    """Fit the prior of chi given q to draws from it."""
    rng = np.random.default_rng(0)
    q = rng.uniform(size=rows)
    chi = effective_spin(q, rng.uniform(0, LARGEST_SPIN, (2, rows)), rng.uniform(-1, 1, (2, rows)))
    layers = neural_spline(1, depth=2, hidden=32, bins=16)
    flow = Flow(1, layers=layers, support=SPIN, context=1, seed=0)
    return flow.fit(chi[:, None], context=q[:, None], epochs=epochs, seed=0)


def fit_event(rows: np.ndarray, epochs: int) -> Flow:
    """Fit an event's posterior of (q, chi)."""
    layers = neural_spline(2, depth=6, hidden=32)
    return Flow(2, layers=layers, support=[RATIO, SPIN], seed=0).fit(rows, epochs=epochs, seed=0)


def population() -> np.ndarray:
    """Return the density of chi on its grid, for every mean and width."""
    mean, width = MEAN[:, None, None], WIDTH[None, :, None]
    return truncnorm.pdf(CHI, (-1 - mean) / width, (1 - mean) / width, mean, width)


def moments(density: np.ndarray) -> tuple[float, float]:
    """Return mean and deviation of chi, given its density on the grid."""
    mean = (density * CHI).sum() / density.sum()
    return mean, np.sqrt((density * (CHI - mean) ** 2).sum() / density.sum())


def describe(log_likelihood: np.ndarray, how: str) -> np.ndarray:
    """Print mean and width of the population, and return their posterior on the grid."""
    posterior = np.exp(log_likelihood - log_likelihood.max())
    posterior /= posterior.sum()
    of_mean, of_width = posterior.sum(axis=1), posterior.sum(axis=0)
    mean = of_mean @ MEAN
    error = np.sqrt(of_mean @ (MEAN - mean) ** 2)
    low, middle, high = WIDTH[np.searchsorted(of_width.cumsum(), [0.05, 0.5, 0.95])]
    print(
        f"{how:<14} mean {mean:6.3f} +- {error:.3f}, above 0 with a probability of {of_mean[MEAN > 0].sum():.2f}; "
        f"width {middle:.3f}, {low:.3f} to {high:.3f} (90 %)"
    )
    return posterior


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--output", type=Path, default=Path("black_hole_spins.png"), metavar="PNG")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--prior-rows", type=int, default=200_000)
    arguments = parser.parse_args()

    events = read(arguments.file)
    prior = fit_prior(arguments.prior_rows, max(arguments.epochs // 5, 1))
    grid = np.stack(np.meshgrid(Q, CHI, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prior = prior.log_prob(grid[:, 1:], context=grid[:, :1]).reshape(len(Q), len(CHI))

    normal = population()
    from_flows, from_samples = np.zeros(normal.shape[:2]), np.zeros(normal.shape[:2])
    fewest = np.full(normal.shape[:2], np.inf)
    posterior_of, likelihood_of = {}, {}
    for name, rows in events.items():
        # The samples are independent, and in no order: the last tenth serves to check the flow.
        train, held = np.split(rows, [9 * len(rows) // 10])
        flow = fit_event(train, arguments.epochs)
        density = np.exp(flow.log_prob(grid)).reshape(log_prior.shape)
        posterior_of[name] = density.mean(axis=0)
        likelihood_of[name] = (density * np.exp(-log_prior)).mean(axis=0)
        from_flows += np.log(normal @ likelihood_of[name])

        weights = np.exp(-prior.log_prob(rows[:, 1:], context=rows[:, :1]))
        nearest = np.clip(((rows[:, 1] + 1) * 400).astype(int), 0, len(CHI) - 1)
        sums = normal @ np.bincount(nearest, weights, len(CHI))
        squares = normal**2 @ np.bincount(nearest, weights**2, len(CHI))
        from_samples += np.log(np.maximum(sums, 1e-300))
        fewest = np.minimum(fewest, sums**2 / np.maximum(squares, 1e-300))
        gaussian = Flow(2, layers=[]).initialize(train)
        gain = (flow.log_prob(held) - gaussian.log_prob(held)).mean()
        print(f"{name}: {len(train)} samples fitted; the others are {gain:.2f} nats likelier each than under Gaussians")

    print("\nThe population of chi")
    posterior = describe(from_flows, "from flows:")
    describe(from_samples, "from samples:")
    likely = posterior > posterior.max() / 100
    print(f"In the narrowest, as few as {fewest[likely].min():.0f} of an event's samples make up a sum.\n")

    print("chi            by itself          given all")
    given_all = {}
    for name, likelihood in likelihood_of.items():
        # The mean over the population's posterior of each one's density of chi, times the event's likelihood.
        shares = posterior / (normal @ likelihood)
        given_all[name] = np.tensordot(shares, normal, 2) * likelihood
        (mean, error), (new_mean, new_error) = moments(posterior_of[name]), moments(given_all[name])
        print(f"{name}  {mean:6.3f} +- {error:.3f}    {new_mean:6.3f} +- {new_error:.3f}")
    draw(posterior_of, given_all, log_prior, posterior, arguments.output)
    print(f"\nPicture: {arguments.output}")


def draw(
    posterior_of: dict[str, np.ndarray],
    given_all: dict[str, np.ndarray],
    log_prior: np.ndarray,
    posterior: np.ndarray,
    path: Path,
) -> None:
    """Draw each event's chi, and the population's posterior."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=(1.2, 1))
    for row, name in enumerate(posterior_of):
        pair = [density / density.sum() for density in (posterior_of[name], given_all[name])]
        for density, colour in zip(pair, (BLUE, ORANGE), strict=True):
            height = -row + 0.85 * density / max(pair[0].max(), pair[1].max())
            left.fill_between(CHI, -row, height, color=colour, alpha=0.35, linewidth=0)
            left.plot(CHI, height, color=colour, linewidth=1)
    shape = np.exp(log_prior).mean(axis=0)
    left.fill_between(CHI, -len(posterior_of), -len(posterior_of) + 0.85 * shape / shape.max(), color=GREY, alpha=0.4)
    left.set_yticks(-np.arange(len(posterior_of) + 1), [*posterior_of, "prior"])
    left.set(xlim=(-0.7, 0.9), xlabel="effective spin")
    left.axvline(0, color="black", linewidth=0.6)
    for colour, label in ((BLUE, "by itself"), (ORANGE, "given all events")):
        left.fill_between([], [], color=colour, alpha=0.5, label=label)
    left.legend(loc="upper right", frameon=False)

    # Levels that hold 50 and 90 % of the probability.
    ordered = np.sort(posterior.ravel())[::-1]
    levels = [ordered[np.searchsorted(ordered.cumsum(), share)] for share in (0.9, 0.5)]
    right.contourf(MEAN, WIDTH, posterior.T, [*levels, 1], colors=["#99c7e0", BLUE])
    right.axvline(0, color="black", linewidth=0.6)
    right.set(yscale="log", yticks=(ticks := (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)), yticklabels=ticks)
    right.minorticks_off()
    right.set(xlabel="mean of the population", ylabel="width of the population", title="50 and 90 % of the probability")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
