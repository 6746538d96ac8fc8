"""Fit conditional flows to simulations and test their posteriors: `python benchmarks/sbi.py FILE [--tasks two_moons]`.

Three tasks of the benchmark of simulation-based inference (Lueckmann, Boelts, Greenberg, Gonçalves, Macke 2021). FILE
holds, per task and observation, "TASK/K/observation" and "TASK/K/samples", 10,000 draws of the reference posterior. The
default flow, conditioned on the data, is fitted once per task to parameters of the prior and their simulations. The
score is that of the benchmark: the accuracy with which a neural network tells the flow's draws given an observation
from the reference draws; 0.5 is chance, 1 the worst.

`--validate` checks the simulators against the reference draws instead. A flow is fitted to half of these, and its draws
get the weights prior x likelihood / flow. If the likelihood is that of the reference, the effective fraction is high,
and weighted moments agree with those of the other half within a few standard errors.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from environment import describe
from pushforward import Flow, Interval, Real
from pushforward._model.supports import Support
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

Doubles = npt.NDArray[np.float64]
Generator = np.random.Generator

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Task:
    """A prior over parameters, and a simulator with its likelihood.

    `prior` draws (n, dim) parameters, `simulate` draws the data of each row of parameters, and `log_joint` is
    log prior + log likelihood of one observation, for (n, dim) parameters inside the support.
    """

    dim: int
    support: Support
    prior: Callable[[int, Generator], Doubles]
    simulate: Callable[[Doubles, Generator], Doubles]
    log_joint: Callable[[Doubles, Doubles], Doubles]


def _log_normal(x: Doubles, mean: float, deviation: float) -> Doubles:
    result: Doubles = -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * LOG_2PI
    return result


def _uniform(low: float, high: float, dim: int) -> Callable[[int, Generator], Doubles]:
    return lambda n, rng: rng.uniform(low, high, size=(n, dim))


# -- the tasks ---------------------------------------------------------------------------------------------------------


def gaussian_linear() -> Task:
    """Return the task with theta ~ N(0, 0.1 I) and x | theta ~ N(theta, 0.1 I) in 10 dimensions; 0.1 is a variance."""
    deviation = math.sqrt(0.1)

    def log_joint(theta: Doubles, x: Doubles) -> Doubles:
        result: Doubles = (_log_normal(theta, 0, deviation) + _log_normal(x - theta, 0, deviation)).sum(axis=1)
        return result

    return Task(
        dim=10,
        support=Real(),
        prior=lambda n, rng: deviation * rng.normal(size=(n, 10)),
        simulate=lambda theta, rng: theta + deviation * rng.normal(size=theta.shape),
        log_joint=log_joint,
    )


def two_moons() -> Task:
    """Return the task whose data are on a noisy half-circle, shifted by |t1 + t2| and t2 - t1.

    Given a ~ U(-pi/2, pi/2) and r ~ N(0.1, 0.01), the data are
    (r cos a + 1/4 - |t1 + t2| / sqrt 2, r sin a + (t2 - t1) / sqrt 2).
    """
    center, radius, deviation = 0.25, 0.1, 0.01

    def shift(theta: Doubles) -> Doubles:
        total, difference = theta.sum(axis=1), theta[:, 1] - theta[:, 0]
        return np.column_stack([center - np.abs(total) / math.sqrt(2), difference / math.sqrt(2)])

    def simulate(theta: Doubles, rng: Generator) -> Doubles:
        angle = rng.uniform(-math.pi / 2, math.pi / 2, len(theta))
        r = radius + deviation * rng.normal(size=len(theta))
        return shift(theta) + np.column_stack([r * np.cos(angle), r * np.sin(angle)])

    def log_joint(theta: Doubles, x: Doubles) -> Doubles:
        across, along = (x - shift(theta)).T
        r = np.hypot(across, along)
        # In polar coordinates the density is that of r over the half circle's length, pi r.
        on_circle = _log_normal(r, radius, deviation) - np.log(math.pi * r)
        return np.where(across > 0, on_circle, -np.inf) - math.log(4)

    return Task(2, Interval(-1, 1), _uniform(-1, 1, 2), simulate, log_joint)


def slcp() -> Task:
    """Return the task "simple likelihood, complex posterior": four points from a normal density in the plane.

    The parameters are its means, the roots of its deviations up to their signs, and the inverse hyperbolic tangent of
    its correlation.
    """

    def parts(theta: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Return the (n, 1, 2) means and deviations, and the (n, 1) correlations."""
        return theta[:, None, :2], theta[:, None, 2:4] ** 2, np.tanh(theta[:, 4:])

    def simulate(theta: Doubles, rng: Generator) -> Doubles:
        mean, deviation, correlation = parts(theta)
        first, noise = rng.normal(size=(2, len(theta), 4))
        second = correlation * first + np.sqrt(1 - correlation**2) * noise
        points: Doubles = mean + deviation * np.stack([first, second], axis=2)
        return points.reshape(len(theta), 8)

    def log_joint(theta: Doubles, x: Doubles) -> Doubles:
        mean, deviation, correlation = parts(theta)
        first, second = np.moveaxis((x.reshape(4, 2) - mean) / deviation, 2, 0)
        rest = 1 - correlation**2
        misfit = (first**2 - 2 * correlation * first * second + second**2) / rest
        points = -0.5 * (misfit + np.log(rest)) - LOG_2PI - np.log(deviation).sum(axis=2)
        result: Doubles = points.sum(axis=1) - 5 * math.log(6)
        return result

    return Task(5, Interval(-3, 3), _uniform(-3, 3, 5), simulate, log_joint)


TASKS = {task.__name__: task() for task in (two_moons, gaussian_linear, slcp)}


# -- the score ---------------------------------------------------------------------------------------------------------


def two_sample_score(reference: Doubles, draws: Doubles, seed: int = 1) -> float:
    """Return the mean accuracy of a classifier in five folds; both sets are scaled by the reference."""
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    rows = (np.concatenate([reference, draws]) - mean) / deviation
    labels = np.repeat([0, 1], [len(reference), len(draws)])
    width = 10 * rows.shape[1]
    classifier = MLPClassifier((width, width), max_iter=1000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(classifier, rows, labels, cv=folds).mean())


def measure(
    name: str, data: dict[int, tuple[Doubles, Doubles]], simulations: int, seed: int, threads: int
) -> list[float]:
    """Fit the default flow and return its score at each observation."""
    task, rng = TASKS[name], np.random.default_rng(seed)
    theta = task.prior(simulations, rng)
    x = task.simulate(theta, rng)
    start = time.perf_counter()
    flow = Flow(task.dim, context=x.shape[1], support=task.support, seed=seed, num_threads=threads)
    flow.fit(theta, context=x, seed=seed, progress=False)
    print(f"{name}: fitted in {time.perf_counter() - start:.0f} s, {flow.history}", flush=True)
    scores = []
    for number, (observation, reference) in data.items():
        draws = np.asarray(flow.sample(len(reference), context=observation, seed=seed), dtype=np.float64)
        start = time.perf_counter()
        scores.append(two_sample_score(reference, draws))
        seconds = time.perf_counter() - start
        print(f"{name}, observation {number}: score {scores[-1]:.3f} ({seconds:.0f} s)", flush=True)
    return scores


# -- the validation of the simulators ----------------------------------------------------------------------------------


def validate(name: str, observation: Doubles, reference: Doubles, threads: int) -> str:
    """Return how well prior x likelihood agrees with reference draws."""
    task = TASKS[name]
    fitted, held = reference[::2], reference[1::2]
    flow = Flow(task.dim, support=task.support, seed=0, num_threads=threads)
    flow.fit(fitted, seed=0, progress=False)
    theta = np.asarray(flow.sample(50_000, seed=0), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_weight = task.log_joint(theta, observation) - flow.log_prob(theta)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    fraction = 1 / (len(theta) * np.square(weight).sum())
    worst = 0.0
    for power in (1, 2):
        mean = weight @ theta**power
        variance = np.square(weight) @ (theta**power - mean) ** 2 + (held**power).var(axis=0) / len(held)
        worst = max(worst, float((np.abs(mean - (held**power).mean(axis=0)) / np.sqrt(variance)).max()))
    return f"effective fraction {fraction:.2f}, first and second moments at most {worst:.1f} standard errors apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument("--observations", type=int, default=5, help="how many of each task (default: 5)")
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="check the simulators against the reference draws")
    arguments = parser.parse_args()
    print(describe())
    file = np.load(arguments.file)
    for name in arguments.tasks:
        data = {
            number: (file[f"{name}/{number}/observation"], file[f"{name}/{number}/samples"].astype(np.float64))
            for number in range(1, arguments.observations + 1)
        }
        if arguments.validate:
            for number, (observation, reference) in data.items():
                result = validate(name, observation, reference, arguments.threads)
                print(f"{name}, observation {number}: {result}", flush=True)
            continue
        scores = measure(name, data, arguments.simulations, arguments.seed, arguments.threads)
        print(f"{name}: mean score {np.mean(scores):.3f}", flush=True)


if __name__ == "__main__":
    main()
