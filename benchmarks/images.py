"""Bits per dimension of held-out images: Glow with splines beside the tabular flow and a Gaussian.

    python benchmarks/images.py digits [--seeds 0 1 2 3 4] [--minutes 2]
    python benchmarks/images.py mnist FILE [--seeds 0] [--minutes 30]

digits are scikit-learn's, 8 x 8 with 17 levels: 1,000 train, 200 validate, 597 test, drawn by the seed. FILE holds
`train_images` and `test_images` of MNIST, 28 x 28 with 256 levels: 50,000 train, the last 10,000 validate.

Every model has the support `Pixel`. The Gaussian has a full covariance, of the logits. Fits have the same time limit
and settings for all seeds. Bits are upper bounds by one point of each cell, and their error is that of the test images.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from environment import describe
from pushforward import LU, Adam, Coupling, Flow, Pixel, RationalQuadratic, glow

Split = tuple[np.ndarray, np.ndarray, np.ndarray]


def digits(seed: int) -> tuple[Split, int]:
    from sklearn.datasets import load_digits

    x = load_digits().images[:, None].astype(np.float32)
    x = x[np.random.default_rng(seed).permutation(len(x))]
    return (x[:1000], x[1000:1200], x[1200:]), 17


def mnist(file: str) -> tuple[Split, int]:
    with np.load(file) as data:
        train, test = (data[name][:, None].astype(np.float32) for name in ("train_images", "test_images"))
    return (train[:50_000], train[50_000:], test), 256


def bits(flow: Flow, x: np.ndarray) -> tuple[float, float]:
    """Return the mean of bits per dimension over images, and its standard error."""
    found = -flow.log_prob(x) / (flow.dim * math.log(2))
    return float(found.mean()), float(found.std() / math.sqrt(len(x)))


def gaussian(split: Split, levels: int, seed: int, minutes: float) -> tuple[Flow, Split]:
    flat = tuple(x.reshape(len(x), -1) for x in split)
    flow = Flow(flat[0].shape[1], layers=[LU()], support=Pixel(levels), dtype="float64", seed=seed)
    return flow.initialize(flat[0]), flat


def tabular(split: Split, levels: int, seed: int, minutes: float) -> tuple[Flow, Split]:
    flat = tuple(x.reshape(len(x), -1) for x in split)
    flow = Flow(flat[0].shape[1], support=Pixel(levels), seed=seed)
    return flow.fit(flat[0], validation=flat[1], max_time=60 * minutes, seed=seed, progress=False), flat


def images(
    split: Split, levels: int, seed: int, minutes: float, rate: float, batch: int, affine: bool, preset: dict[str, int]
) -> tuple[Flow, Split]:
    shape = split[0].shape[1:]
    layers = glow(shape, **preset)
    if not affine:
        splines = RationalQuadratic()
        layers = [replace(layer, transform=splines) if isinstance(layer, Coupling) else layer for layer in layers]
    flow = Flow(shape=shape, layers=layers, support=Pixel(levels), seed=seed)
    flow.fit(
        split[0],
        validation=split[1],
        max_time=60 * minutes,
        optimizer=Adam(rate),
        batch_size=batch,
        seed=seed,
        progress=False,
    )
    return flow, split


def run(name: str, fit: Callable[..., tuple[Flow, Split]], *arguments: object) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    flow, (_, _, test) = fit(*arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    mean, error = bits(flow, test)
    fitted = (
        ""
        if flow.history is None
        else f", {flow.history.epochs[-1].steps:,} steps, best epoch {flow.history.best_epoch} of {len(flow.history)}"
    )
    print(
        f"  {name}: {mean:.4f} +- {error:.4f} bits per dimension; {flow.parameters.size:,} parameters, {wall:.0f} s, "
        f"{cpu:.0f} s of processors{fitted}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("digits", "mnist"))
    parser.add_argument("file", nargs="?", help="of MNIST")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="of each fit (default: 2)")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's learning rate for images (default: 0.001)")
    parser.add_argument("--batch", type=int, default=64, help="images of a step (default: 64)")
    parser.add_argument(
        "--only", choices=("gaussian", "tabular", "glow"), nargs="+", default=("gaussian", "tabular", "glow")
    )
    parser.add_argument("--affine", action="store_true", help="affine couplings, as in Glow, in place of splines")
    for name, least in (("levels", 2), ("depth", 4), ("hidden", 32)):
        parser.add_argument(f"--{name}", type=int, default=least, help=f"of the preset glow (default: {least})")
    given = parser.parse_args()
    preset = {"levels": given.levels, "depth": given.depth, "hidden": given.hidden}
    print(describe())
    for seed in given.seeds:
        split, levels = digits(seed) if given.data == "digits" else mnist(given.file)
        print(
            f"{given.data}, seed {seed}: {', '.join(str(len(x)) for x in split)} images of shape {split[0].shape[1:]}"
        )
        models: dict[str, Callable[..., tuple[Flow, Split]]] = {"gaussian": gaussian, "tabular": tabular}
        for name in given.only:
            if name in models:
                run(name, models[name], split, levels, seed, given.minutes)
            else:
                options = (given.rate, given.batch, given.affine, preset)
                run(name, images, split, levels, seed, given.minutes, *options)


if __name__ == "__main__":
    main()
