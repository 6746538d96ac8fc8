"""Fit the posterior of an orbit from radial velocities and reweight the flow: `python benchmarks/orbit.py`.

A star moves with a planet. Forty simulated velocities, in m/s at times in days, give a posterior of seven parameters:

    period          log-uniform in [40, 60] days          Interval
    amplitude       log-uniform in [1, 100] m/s           Interval
    eccentricity    uniform in [0, 1]                     Interval
    periastron      uniform angle, its argument           Circle
    anomaly         uniform angle, the mean one at time 0 Circle
    velocity        N(0, 100) m/s, of the whole system    Real
    jitter          half-normal of scale 5 m/s            Positive

A flow is fitted to 4,000 draws of an ensemble sampler. The exact posterior then gives importance weights to 20,000
draws of the flow. The figure is the effective fraction of these draws, (sum w)^2 / (n sum w^2), for each seed of the
fit. One large weight can halve it, so single seeds differ much.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from environment import describe
from pushforward import Adam, Circle, Flow, Interval, Positive, Real, neural_spline
from pushforward._model.supports import Support

Doubles = npt.NDArray[np.float64]

NAMES = ("period", "amplitude", "eccentricity", "periastron", "anomaly", "velocity", "jitter")
TURN = 2 * math.pi
PERIODS, AMPLITUDES = (40.0, 60.0), (1.0, 100.0)
SUPPORT: list[Support] = [
    Interval(*PERIODS),
    Interval(*AMPLITUDES),
    Interval(0, 1),
    Circle(0, TURN),
    Circle(0, TURN),
    Real(),
    Positive(),
]
TRUTH = np.array([[50.0, 12.0, 0.3, 1.2, 2.5, 3.0, 2.0]])
OBSERVATIONS, SPAN, ERROR = 40, 250.0, 3.0
VELOCITY_SCALE, JITTER_SCALE = 100.0, 5.0

DRAWS, PROPOSALS = 4000, 20_000
# Independent ensembles, to compare in R-hat, of as many walkers. They are thinned by far more than the some hundred
# steps over which a walker forgets its state.
ENSEMBLES, WALKERS, WARM_UP, THINNING = 4, 100, 5000, 500


# -- the orbit ---------------------------------------------------------------------------------------------------------


def eccentric_anomaly(mean_anomaly: Doubles, eccentricity: Doubles) -> Doubles:
    """Solve Kepler's equation, M = E - e sin E, by Newton's method."""
    m = np.mod(mean_anomaly + math.pi, TURN) - math.pi
    # From this start Newton's method converges for every e < 1 (Danby 1987).
    e = m + 0.85 * eccentricity * np.sign(m)
    for _ in range(50):
        step = (e - eccentricity * np.sin(e) - m) / (1 - eccentricity * np.cos(e))
        e = e - step
        if np.abs(step).max(initial=0.0) < 1e-12:
            break
    return e


def velocities(x: Doubles, times: Doubles) -> Doubles:
    """Return the (n, times) velocities of (n, 7) orbits."""
    period, amplitude, eccentricity, periastron, anomaly, velocity = x[:, :6].T[:, :, None]
    e = eccentric_anomaly(anomaly + TURN * times / period, eccentricity)
    true = 2 * np.arctan2(np.sqrt(1 + eccentricity) * np.sin(e / 2), np.sqrt(1 - eccentricity) * np.cos(e / 2))
    result: Doubles = velocity + amplitude * (np.cos(true + periastron) + eccentricity * np.cos(periastron))
    return result


def observe() -> tuple[Doubles, Doubles]:
    """Return the times of the simulated velocities, and the velocities."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, SPAN, OBSERVATIONS))
    noise = math.hypot(ERROR, TRUTH[0, 6]) * rng.normal(size=OBSERVATIONS)
    return times, velocities(TRUTH, times)[0] + noise


TIMES, OBSERVED = observe()


def log_posterior(x: Doubles) -> Doubles:
    """Return the log posterior of (n, 7) parameters, without the evidence; -inf outside the prior."""
    period, amplitude, eccentricity = x.T[:3]
    inside = (PERIODS[0] < period) & (period < PERIODS[1]) & (AMPLITUDES[0] < amplitude) & (amplitude < AMPLITUDES[1])
    inside &= (eccentricity >= 0) & (eccentricity < 1) & (x[:, 6] > 0)
    result = np.full(len(x), -np.inf)
    y = x[inside]
    variance = ERROR**2 + y[:, 6:] ** 2
    misfit = (OBSERVED - velocities(y, TIMES)) ** 2 / variance
    likelihood = -0.5 * (misfit.sum(axis=1) + OBSERVATIONS * np.log(TURN * variance[:, 0]))
    prior = -np.log(y[:, 0] * y[:, 1]) - 0.5 * ((y[:, 5] / VELOCITY_SCALE) ** 2 + (y[:, 6] / JITTER_SCALE) ** 2)
    result[inside] = likelihood + prior
    return result


# -- its draws ---------------------------------------------------------------------------------------------------------


def to_orbits(u: Doubles) -> Doubles:
    """Return orbits for the coordinates of the sampler, in which the posterior is simple.

    The eccentricity and periastron are polar coordinates, sqrt(e) (cos w, sin w): a uniform density of e and w is a
    uniform one of these. The second angle is the sum w + M, which the data determine although e may be small.
    """
    period, amplitude, a, b, angle, velocity, jitter = u.T
    periastron = np.arctan2(b, a)
    angles = np.mod([periastron, angle - periastron], TURN)
    return np.column_stack([period, amplitude, a**2 + b**2, *angles, velocity, jitter])


def from_orbits(x: Doubles) -> Doubles:
    """Return the sampler's coordinates of orbits."""
    period, amplitude, eccentricity, periastron, anomaly, velocity, jitter = x.T
    root = np.sqrt(eccentricity)
    shape = root * np.cos(periastron), root * np.sin(periastron)
    return np.column_stack([period, amplitude, *shape, periastron + anomaly, velocity, jitter])


def stretch(u: Doubles, density: Doubles, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Return (ensembles, walkers, 7) states after one step of stretch moves (Goodman, Weare 2010)."""
    half, dim = u.shape[1] // 2, u.shape[2]
    for moved, fixed in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        here, others = u[:, moved], u[:, fixed]
        shape = here.shape[:2]
        partner = np.take_along_axis(others, rng.integers(half, size=shape)[:, :, None], axis=1)
        # Density proportional to 1 / sqrt(z) on [1/2, 2].
        z = (1 + rng.uniform(size=shape)) ** 2 / 2
        proposal = partner + z[:, :, None] * (here - partner)
        proposed = log_posterior(to_orbits(proposal.reshape(-1, dim))).reshape(shape)
        accept = np.log(rng.uniform(size=shape)) < (dim - 1) * np.log(z) + proposed - density[:, moved]
        u[:, moved] = np.where(accept[:, :, None], proposal, here)
        density[:, moved] = np.where(accept, proposed, density[:, moved])
    return u, density


def sample_posterior() -> tuple[Doubles, Doubles]:
    """Return DRAWS orbits, and the R-hat of the sampler's coordinates between the ensembles."""
    rng = np.random.default_rng(2)
    u = np.tile(from_orbits(TRUTH), (ENSEMBLES, WALKERS, 1))
    u *= 1 + 0.02 * rng.normal(size=u.shape)
    density = log_posterior(to_orbits(u.reshape(-1, u.shape[2]))).reshape(u.shape[:2])
    kept = []
    for step in range(1, WARM_UP + THINNING * DRAWS // (ENSEMBLES * WALKERS) + 1):
        u, density = stretch(u, density, rng)
        if step > WARM_UP and (step - WARM_UP) % THINNING == 0:
            kept.append(u.copy())
    chains = np.concatenate(kept, axis=1)
    within = chains.var(axis=1, ddof=1).mean(axis=0)
    between = chains.mean(axis=1).var(axis=0, ddof=1)
    return to_orbits(rng.permutation(chains.reshape(DRAWS, -1))), np.sqrt(1 + between / within)


def posterior_draws(cache: Path | None) -> Doubles:
    """Return draws from a file, or make them, check that the ensembles agree, and write the file."""
    if cache is not None and cache.exists():
        draws: Doubles = np.load(cache)
        return draws
    start = time.perf_counter()
    draws, r_hat = sample_posterior()
    print(f"{DRAWS} draws in {time.perf_counter() - start:.0f} s, R-hat at most {r_hat.max():.3f}")
    if r_hat.max() > 1.02:
        raise SystemExit(f"the ensembles disagree: R-hat {np.round(r_hat, 3)}")
    if cache is not None:
        np.save(cache, draws)
    return draws


# -- the flow ----------------------------------------------------------------------------------------------------------


def effective_fraction(flow: Flow, seed: int) -> float:
    """Return the effective sample size of reweighted draws of a flow, as a fraction of them."""
    x = np.asarray(flow.sample(PROPOSALS, seed=seed), dtype=np.float64)
    log_weight = log_posterior(x) - flow.log_prob(x)
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / (len(x) * np.square(weight).sum()))


def default_flow(draws: Doubles, seed: int, threads: int) -> Flow:
    flow = Flow(len(NAMES), support=SUPPORT, seed=seed, num_threads=threads)
    return flow.fit(draws, seed=seed, progress=False)


def small_flow(draws: Doubles, seed: int, threads: int) -> Flow:
    """Fit a flow of fewer parameters with a stronger decay, as somebody who knows the problem would choose."""
    layers = neural_spline(len(NAMES), depth=4, hidden=32)
    flow = Flow(len(NAMES), layers=layers, support=SUPPORT, seed=seed, num_threads=threads)
    return flow.fit(draws, optimizer=Adam(3e-3, weight_decay=2.0), seed=seed, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="fits of each flow (default: 5)")
    parser.add_argument("--draws", type=Path, metavar="FILE", help=".npy file that keeps the posterior draws")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(describe())
    draws = posterior_draws(arguments.draws)
    for name, low, middle, high in zip(NAMES, *np.quantile(draws, [0.05, 0.5, 0.95], axis=0), strict=True):
        print(f"{name}: {middle:.3f}, 5 % to 95 % {low:.3f} to {high:.3f}")
    for fit in (default_flow, small_flow):
        fractions = []
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            flow = fit(draws, seed, arguments.threads)
            seconds = time.perf_counter() - start
            fractions.append(effective_fraction(flow, seed))
            print(f"{fit.__name__}, seed {seed}: effective fraction {fractions[-1]:.3f}, {flow.history}", flush=True)
        print(f"{fit.__name__}: mean {np.mean(fractions):.3f}, {seconds:.1f} s a fit")


if __name__ == "__main__":
    main()
