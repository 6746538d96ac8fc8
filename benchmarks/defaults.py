"""Measure alternatives to the defaults of `Flow` and `fit`: `python benchmarks/defaults.py FOLDER [names]`.

FOLDER holds uci/uci.npz and power/train.npy. Each line changes one thing; each column is a table's held-out
log-likelihood in nats per row (15 % held out, standardised columns, discrete ones dequantised by uniform noise).
An affine flow can give a row an arbitrarily low density, so log densities below the first percentile are replaced by
that percentile. Uses one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pushforward import Adam, Flow, maf, neural_spline, nice, realnvp
from pushforward._fit.options import default_optimizer
from pushforward._model.layers import Layer

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


VARIANTS: dict[str, tuple[Callable[..., list[Layer]], dict[str, Any], dict[str, Any]]] = {
    "default": (neural_spline, {}, {}),
    # other presets
    "autoregressive": (neural_spline, {"autoregressive": True}, {}),
    "realnvp": (realnvp, {}, {}),
    "maf": (maf, {}, {}),
    "nice": (nice, {}, {}),
    # other flows
    "depth 5": (neural_spline, {"depth": 5}, {}),
    "hidden 32": (neural_spline, {"hidden": 32}, {}),
    "hidden 128": (neural_spline, {"hidden": 128}, {}),
    "MLP": (neural_spline, {"hidden": (64, 64)}, {}),
    "2 blocks": (neural_spline, {"blocks": 2}, {}),
    "4 bins": (neural_spline, {"bins": 4}, {}),
    "16 bins": (neural_spline, {"bins": 16}, {}),
    "bound 3": (neural_spline, {"bound": 3.0}, {}),
    "silu": (neural_spline, {"activation": "silu"}, {}),
    "dropout 0.1": (neural_spline, {"dropout": 0.1}, {}),
    "permutations": (neural_spline, {"mixing": "permutation"}, {}),
    "kept stay": (neural_spline, {"unconditional": False}, {}),
    # other fits
    "rate 1e-3": (neural_spline, {}, {"learning_rate": 1e-3}),
    "rate 1e-2": (neural_spline, {}, {"learning_rate": 1e-2}),
    "no decay": (neural_spline, {}, {"weight_decay": 0.0}),
    "decay 0.3": (neural_spline, {}, {"weight_decay": 0.3}),
    "decay 1": (neural_spline, {}, {"weight_decay": 1.0}),
    "batch 128": (neural_spline, {}, {"batch_size": 128}),
    "batch 512": (neural_spline, {}, {"batch_size": 512}),
    "no clipping": (neural_spline, {}, {"clip_norm": None}),
    "50 epochs": (neural_spline, {}, {"epochs": 50}),
    "200 epochs": (neural_spline, {}, {"epochs": 200}),
}


def options_of_fit(rows: int, changes: dict[str, Any]) -> dict[str, Any]:
    """The options of a fit with some changed, those of its optimiser among them."""
    usual = default_optimizer(int(0.9 * rows))
    rate = changes.pop("learning_rate", usual.learning_rate)
    decay = changes.pop("weight_decay", usual.weight_decay)
    return {"optimizer": Adam(rate, weight_decay=decay), **changes}


def main(folder: str, names: str = ",".join(VARIANTS)) -> None:
    data = tables(Path(folder))
    print("| variant |", " | ".join(data), "| seconds |")
    print("|---|" + "---|" * (len(data) + 1))
    for name in names.split(","):
        preset, flow_options, fit_options = VARIANTS[name]
        start, scores = time.perf_counter(), []
        for x in data.values():
            train, test = np.split(x, [int(0.85 * len(x))])
            flow = Flow(x.shape[1], layers=preset(x.shape[1], **flow_options), seed=1, num_threads=1)
            flow.fit(train, seed=1, progress=False, **options_of_fit(len(train), dict(fit_options)))
            density = flow.log_prob(test)
            scores.append(np.maximum(density, np.quantile(density, 0.01)).mean())
        print(
            f"| {name} |",
            " | ".join(f"{score:.2f}" for score in scores),
            f"| {time.perf_counter() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
