"""Measure how times scale: `python benchmarks/scaling.py [--plot PNG] [--json FILE]`.

The script times a training step for different numbers of rows, layers and features, each over a hundredfold range
around a flow of affine couplings with (64, 64) networks. It times a step of `fit` on tables from ten thousand to 1.66
million rows, and compares one thread with two. Growth is linear if the times are close to a straight line; the table
gives the largest deviation. All points are timed in several rounds, so that other load on the machine affects all of
them alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from environment import describe
from pushforward import MLP, Adam, Affine, Coupling, Flow, RationalQuadratic

ROWS = (256, 512, 1024, 2048, 4096, 8192, 16_384, 25_600)
LAYERS = (1, 2, 4, 8, 16, 32, 64, 100)
FEATURES = (4, 8, 16, 32, 64, 128, 256, 400)
TABLES = (10_000, 100_000, 1_660_000)
# Blue, orange and green of Okabe and Ito, which are distinct in all kinds of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def step_of(dim: int, layers: int, rows: int, threads: int, bins: int = 0) -> Callable[[], object]:
    transform = RationalQuadratic(bins=bins) if bins else Affine()
    flow = Flow(dim, layers=[Coupling(transform, MLP((64, 64)))] * layers, seed=0, num_threads=threads)
    x = np.random.default_rng(1).standard_normal((rows, dim), dtype=np.float32)
    adam, gradient = Adam(1e-6), np.empty_like(flow.parameters)

    def step() -> None:
        norm = flow._state.core.loss_and_grad(x, gradient, threads=threads)[1]
        adam.update(flow.parameters, gradient, 1e-6, 5.0, threads, norm=norm)

    return step


def fit_step_of(rows: int, threads: int) -> Callable[[], float]:
    """Seconds of a step of `Flow.fit` on a table of so many rows, of 256 rows each."""
    x = np.random.default_rng(1).standard_normal((rows, 8), dtype=np.float32)

    def fit() -> float:
        flow = Flow(8, layers=[Coupling(Affine(), MLP((64, 64)))] * 8, seed=0, num_threads=threads)
        flow.fit(x, validation=0.0, batch_size=256, max_time=2.0, seed=0, progress=False)
        last = flow.history.epochs[-1]
        return last.seconds / last.steps

    return fit


def medians(calls: list[Callable[[], object]], rounds: int, seconds: float) -> list[float]:
    """Median seconds of each call over all rounds."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            end = time.perf_counter() + seconds
            while True:
                start = time.perf_counter()
                call()
                found.append(time.perf_counter() - start)
                if time.perf_counter() > end:
                    break
    return [statistics.median(found) for found in times]


def line(x: tuple[int, ...], seconds: list[float]) -> tuple[float, float, float]:
    """Offset and slope of the line with the smallest relative distances, and the greatest of these."""
    n, t = np.array(x, float), np.array(seconds)
    design = np.stack([1 / t, n / t], axis=1)
    (offset, slope), *_ = np.linalg.lstsq(design, np.ones(len(t)), rcond=None)
    return float(offset), float(slope), float(np.abs((offset + slope * n) / t - 1).max())


def plot(growth: dict[str, dict[str, object]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (name, found), colour in zip(figure.subplots(1, 3), growth.items(), COLOURS, strict=True):
        x, seconds = np.array(found["x"]), np.array(found["seconds"])
        axes.loglog(x, 1e3 * (found["offset"] + found["slope"] * x), color="0.6", lw=1.2, label="straight line")
        axes.loglog(x, 1e3 * seconds, "o", color=colour, ms=5, label="measured")
        axes.set(xlabel=name, ylabel="training step / ms")
        axes.set_title(f"within {100 * found['distance']:.0f} % of a line", fontsize=10)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one point in one round")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    environment = describe()
    for name, value in environment.items():
        print(f"{name:24s} {value}")

    threads, growth = arguments.threads, {}
    for name, values, make in (
        ("rows", ROWS, lambda rows: step_of(8, 8, rows, threads)),
        ("layers", LAYERS, lambda layers: step_of(8, layers, 512, threads)),
        ("features", FEATURES, lambda dim: step_of(dim, 8, 512, threads)),
    ):
        seconds = medians([make(value) for value in values], arguments.rounds, arguments.seconds)
        offset, slope, distance = line(values, seconds)
        growth[name] = {"x": values, "seconds": seconds, "offset": offset, "slope": slope, "distance": distance}
        steps = "  ".join(f"{value}: {1e3 * t:.3g}" for value, t in zip(values, seconds, strict=True))
        print(f"\nms a step by {name}: {steps}\n  within {100 * distance:.0f} % of a straight line", flush=True)

    fits = [fit_step_of(rows, threads) for rows in TABLES]
    found = [[fit() for fit in fits] for _ in range(arguments.rounds)]
    tables = [statistics.median(column) for column in zip(*found, strict=True)]
    steps = "  ".join(f"{rows:,}: {1e3 * t:.3g}" for rows, t in zip(TABLES, tables, strict=True))
    print(f"\nms a step of a fit by rows of the table: {steps}", flush=True)

    pairs = {}
    for name, dim, bins in (("affine", 8, 0), ("spline", 8, 8)):
        for rows in (256, 1024):
            one, two = medians([step_of(dim, 8, rows, n, bins) for n in (1, 2)], 4 * arguments.rounds, 0.1)
            pairs[f"step, {name}, {rows} rows"] = one / two
    print("\nspeed-up by the second thread: " + "  ".join(f"{name}: {value:.2f}" for name, value in pairs.items()))
    if arguments.plot:
        plot(growth, arguments.plot)
    if arguments.json:
        report = {"environment": environment, "growth": growth, "tables": tables, "second_thread": pairs}
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
