"""Measure what the defaults of `realnvp` and `fit` are chosen by: `python benchmarks/defaults.py FOLDER [names]`.

FOLDER holds uci/uci.npz and power/train.npy. Each line changes one thing; each column is a table's held-out
log-likelihood in nats per row (15 % held out, standardised columns, discrete ones dequantised by uniform noise).
Rows of which an affine flow is sure and wrong can cost any amount, so the mean over rows is cut at its first
percentile. One thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pushforward import MLP, ActNorm, Adam, Affine, Coupling, Flow, Permutation
from pushforward.layers import Layer

UCI = ("protein", "kin40k", "pumadyn32nm", "parkinsons", "skillcraft", "wine")


def tables(folder: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    result = {}
    for name, table in np.load(folder / "uci" / "uci.npz").items():
        if name not in UCI:
            continue
        x = np.asarray(table, dtype=np.float64)
        x = x[:, x.std(axis=0) > 0]
        for column in x.T:
            values = np.unique(column)
            if len(values) < 0.8 * len(x):
                column += rng.uniform(size=len(x)) * np.median(np.diff(values))
        result[name] = np.unique(x, axis=0)
    power = np.load(folder / "power" / "train.npy")
    result["power"] = power[rng.choice(len(power), 10_000, replace=False)].astype(np.float64)
    for name, x in result.items():
        result[name] = rng.permutation((x - x.mean(axis=0)) / x.std(axis=0))
    return result


def build(
    depth: int = 8,
    hidden: tuple[int, ...] = (64, 64),
    activation: str = "silu",
    mask: str = "alternate",
    actnorm: bool = True,
    max_log_scale: float = 3.0,
    every: int = 2,
) -> list[Layer]:
    layers: list[Layer] = []
    for i in range(depth):
        if i and i % every == 0:
            layers.append(Permutation("random"))
        layers.append(Coupling(Affine(max_log_scale), MLP(hidden, activation), mask=mask))
        layers += [ActNorm()] * actnorm
    return layers


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "relu": ({"activation": "relu"}, {}),
    "tanh": ({"activation": "tanh"}, {}),
    "depth 4": ({"depth": 4}, {}),
    "depth 12": ({"depth": 12}, {}),
    "hidden 32": ({"hidden": (32, 32)}, {}),
    "hidden 128": ({"hidden": (128, 128)}, {}),
    "mask half": ({"mask": "half"}, {}),
    "permute each": ({"every": 1}, {}),
    "no ActNorm": ({"actnorm": False}, {}),
    "log-scale 2": ({"max_log_scale": 2.0}, {}),
    "log-scale 5": ({"max_log_scale": 5.0}, {}),
    "rate 1e-3": ({}, {"optimizer": Adam(1e-3)}),
    "rate 5e-3": ({}, {"optimizer": Adam(5e-3)}),
    "batch 128": ({}, {"batch_size": 128}),
    "batch 512": ({}, {"batch_size": 512}),
    "no clipping": ({}, {"clip_norm": None}),
    "decay 0.1": ({}, {"optimizer": Adam(2e-3, weight_decay=0.1)}),
    "100 epochs": ({}, {"epochs": 100}),
    "patience 10": ({}, {"patience": 10}),
}


def main(folder: str, names: str = ",".join(VARIANTS)) -> None:
    data = tables(Path(folder))
    print("| variant |", " | ".join(data), "| seconds |")
    print("|---|" + "---|" * (len(data) + 1))
    for name in names.split(","):
        flow_options, fit_options = VARIANTS[name]
        start, scores = time.perf_counter(), []
        for x in data.values():
            train, test = np.split(x, [int(0.85 * len(x))])
            flow = Flow(x.shape[1], layers=build(**flow_options), seed=1, num_threads=1)
            density = flow.fit(train, seed=1, progress=False, **fit_options).log_prob(test)
            scores.append(np.maximum(density, np.quantile(density, 0.01)).mean())
        print(
            f"| {name} |",
            " | ".join(f"{score:.2f}" for score in scores),
            f"| {time.perf_counter() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
