"""Fit flows with and without a context network to 5,000 rows: `python benchmarks/context_network.py`.

The flows without one are fitted twice: "silu" has that activation in its layers, as a context network has.

Tables:

- sums: two features that depend on four weighted sums of the context columns, by a product and a radius.
- curve: frequency and amplitude of a sine wave, given 100 noisy points of it. The phase is random.

Printed are the mean log-likelihood of 5,000 held-out rows and the time of a fit, means of three seeds, and the time of
one gradient of 256 rows, with one thread: the median of 100, with and without in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from environment import describe
from pushforward import ContextNetwork, Flow, neural_spline

ROWS = 5000
FLOWS: dict[str, tuple[str, ContextNetwork | None]] = {
    "without": ("relu", None),
    "without, silu": ("silu", None),
    "with": ("relu", ContextNetwork()),
}
Table = tuple[np.ndarray, np.ndarray]


def sums(columns: int, rng: np.random.Generator) -> Table:
    """Return features and context."""
    context = rng.normal(size=(2 * ROWS, columns))
    a, b, c, d = np.random.default_rng(99).normal(size=(4, columns)) @ context.T / np.sqrt(columns)
    product, radius = a * b, np.hypot(c, d)
    noise = rng.normal(size=(2 * ROWS, 2))
    first = product + (0.1 + 0.2 * radius) * noise[:, 0]
    second = radius + 0.3 * np.sin(product) + 0.2 * noise[:, 1]
    return np.stack([first, second], axis=1), context


def curve(columns: int, rng: np.random.Generator) -> Table:
    """Return features and context."""
    frequency, amplitude, phase = rng.uniform([[1], [0.5], [0]], [[6], [2], [2 * np.pi]], size=(3, 2 * ROWS))
    t = np.linspace(0, 1, columns)
    wave = amplitude[:, None] * np.sin(2 * np.pi * frequency[:, None] * t + phase[:, None])
    return np.stack([frequency, amplitude], axis=1), wave + 0.5 * rng.normal(size=wave.shape)


def flow(name: str, columns: int, seed: int) -> Flow:
    activation, network = FLOWS[name]
    layers = neural_spline(2, activation=activation)
    return Flow(2, layers=layers, context=columns, context_network=network, seed=seed)


def fits(table: Callable[[int, np.random.Generator], Table], columns: int) -> None:
    held: dict[str, list[float]] = {name: [] for name in FLOWS}
    seconds: dict[str, list[float]] = {name: [] for name in FLOWS}
    for seed in range(3):
        x, context = table(columns, np.random.default_rng(seed))
        for name in FLOWS:
            start = time.perf_counter()
            fitted = flow(name, columns, seed).fit(x[:ROWS], context=context[:ROWS], seed=seed, progress=False)
            seconds[name].append(time.perf_counter() - start)
            held[name].append(float(fitted.log_prob(x[ROWS:], context[ROWS:]).mean()))
    for name in FLOWS:
        each = ", ".join(f"{value:.2f}" for value in held[name])
        likelihood = f"{np.mean(held[name]):6.2f} ({each})"
        print(f"{table.__name__:5} {columns:3} columns, {name:13}: {likelihood}, {np.mean(seconds[name]):4.1f} s a fit")


def gradients(columns: int) -> None:
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(256, 2)), rng.normal(size=(256, columns))
    flows = {name: flow(name, columns, 0) for name in FLOWS}
    times: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(100):
        for name, timed in flows.items():
            timed.num_threads = 1
            start = time.perf_counter()
            timed.loss_and_grad(x, context)
            times[name].append(time.perf_counter() - start)
    for name, timed in flows.items():
        count = f"{timed.parameters.size:,} parameters"
        print(f"gradient of 256 rows, {columns:3} columns, {name:13}: {1e3 * np.median(times[name]):.2f} ms, {count}")


def main() -> None:
    print(describe())
    for columns in (5, 20, 100):
        gradients(columns)
    for columns in (5, 20, 100):
        fits(sums, columns)
    fits(curve, 100)


if __name__ == "__main__":
    main()
