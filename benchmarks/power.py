"""Fit the POWER benchmark for some minutes: `python benchmarks/power.py FOLDER [--minutes 2] [--preset realnvp]`.

FOLDER holds train.npy, val.npy and test.npy as the MAF paper prepared them (Papamakarios, Pavlakou, Murray 2017).
Published test log-likelihoods in nats: Gaussian -7.74, RealNVP 0.17, MAF 0.24.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pushforward
from environment import describe
from pushforward import Flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--preset", choices=("nice", "realnvp"), default="realnvp")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe())
    train, validation, test = (np.load(arguments.folder / f"{part}.npy") for part in ("train", "val", "test"))
    depth = {} if arguments.depth is None else {"depth": arguments.depth}
    layers = getattr(pushforward, arguments.preset)(6, **depth)
    flow = Flow(6, layers=layers, seed=arguments.seed)
    flow.fit(train, validation=validation, max_time=60 * arguments.minutes, seed=arguments.seed)
    density = flow.log_prob(test)
    error = density.std() / np.sqrt(len(density))
    print(flow.history)
    print(f"test log-likelihood {density.mean():.3f} +- {error:.3f} nats")


if __name__ == "__main__":
    main()
