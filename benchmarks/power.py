"""Fit the POWER benchmark for some minutes: `python benchmarks/power.py FOLDER [--minutes 5] [--autoregressive]`.

FOLDER holds train.npy, val.npy and test.npy as the MAF paper prepared them (Papamakarios, Pavlakou, Murray 2017).
Published test log-likelihoods in nats, after hours on a GPU: Gaussian -7.74, RealNVP 0.17, MAF 0.24, RQ-NSF
couplings 0.64, RQ-NSF autoregressive 0.66 (Durkan et al. 2019, table 1).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pushforward
from environment import describe
from pushforward import Flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--preset", choices=("nice", "realnvp", "maf", "neural_spline"), default="neural_spline")
    parser.add_argument("--autoregressive", action="store_true", help="splines in autoregressive layers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe())
    train, validation, test = (np.load(arguments.folder / f"{part}.npy") for part in ("train", "val", "test"))
    options: dict[str, object] = {}
    if arguments.preset == "neural_spline":
        # So many rows can tell more bins apart. Chosen on the validation rows, in fits of 90 seconds: 8 bins lose 0.02
        # nats; 32 bins, networks twice as wide, two blocks or 16 layers, which make fewer steps, lose 0.005 to 0.04.
        options = {"bins": 16, "bound": 3.0, "autoregressive": arguments.autoregressive}
    elif arguments.autoregressive:
        parser.error("--autoregressive goes with the preset neural_spline")
    flow = Flow(6, layers=getattr(pushforward, arguments.preset)(6, **options), seed=arguments.seed)
    flow.fit(train, validation=validation, max_time=60 * arguments.minutes, patience=None, seed=arguments.seed)
    density = flow.log_prob(test)
    error = density.std() / np.sqrt(len(density))
    print(flow.history)
    print(f"{time.process_time() / 60:.1f} minutes of processor time")
    print(f"test log-likelihood {density.mean():.3f} +- {error:.3f} nats")


if __name__ == "__main__":
    main()
