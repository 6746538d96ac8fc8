"""Fit gravitational-wave posteriors and test the fits: `python benchmarks/posteriors.py FILE [--events GW170104,...]`.

FILE holds, per event, an array of posterior samples and the names of its columns. Periodic angles have the support
`Circle`. Other angles and the sizes of the spins have bounds. Distances and masses are positive. The median is
subtracted from the arrival time.

A fifth of the samples is held out, and each flow is fitted to the rest. A classifier (gradient-boosted trees, mean
accuracy of 5 folds) then tries to distinguish the held-out samples from the same number of samples of the flow. An
accuracy of 0.5 is chance. The score is the mean over 3 sets of samples; a single score has a standard deviation of
0.009. The flows are the default ones, with the supports alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from environment import describe
from pushforward import Circle, Flow, Interval, Positive, Real
from pushforward._model.supports import Support
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score

TURN = Circle(0, 2 * math.pi)
SUPPORTS: dict[str, Support] = {
    "dec": Interval(-math.pi / 2, math.pi / 2),
    "inclination": Interval(0, math.pi),
    "polarization": TURN,
    "ra": TURN,
    "spin1_a": Interval(0, 1),
    "spin1_azimuthal": TURN,
    "spin1_polar": Interval(0, math.pi),
    "spin2_a": Interval(0, 1),
    "spin2_azimuthal": TURN,
    "spin2_polar": Interval(0, math.pi),
    "distance": Positive(),
    "mass1": Positive(),
    "mass2": Positive(),
    "tc": Real(),
}


def inside(x: np.ndarray, support: Sequence[Support]) -> bool:
    low = [0 if isinstance(s, Positive) else getattr(s, "low", -np.inf) for s in support]
    high = [getattr(s, "high", np.inf) for s in support]
    return bool(((x >= low) & (x <= high) & np.isfinite(x)).all())


def two_sample_score(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    labels = np.repeat([0, 1], [len(a), len(b)])
    order = np.random.default_rng(seed).permutation(len(labels))
    classifier = HistGradientBoostingClassifier(random_state=seed)
    return float(cross_val_score(classifier, np.concatenate([a, b])[order], labels[order], cv=5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--events", type=lambda text: text.split(","))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe())
    data = np.load(arguments.file)
    for event in arguments.events or [name for name in data.files if "/" not in name]:
        names = [str(name) for name in data[f"{event}/names"]]
        x = data[event].copy()
        x[:, names.index("tc")] -= np.median(x[:, names.index("tc")])
        x = np.random.default_rng(arguments.seed).permutation(x)
        train, held = np.split(x, [int(0.8 * len(x))])
        support = [SUPPORTS[name] for name in names]
        start = time.perf_counter()
        flow = Flow(len(names), support=support, seed=arguments.seed).fit(train, seed=arguments.seed)
        seconds = time.perf_counter() - start
        scores = [two_sample_score(held, flow.sample(len(held), seed=draw), draw) for draw in range(3)]
        assert inside(flow.sample(1_000_000, seed=1), support)
        epochs = list(flow.history)
        print(
            f"{event}: {seconds:.0f} s, {len(epochs)} epochs, best {flow.history.best_epoch}, "
            f"held-out log-likelihood {flow.log_prob(held).mean():.2f} nats, "
            f"two-sample score {np.mean(scores):.3f} ({', '.join(f'{score:.3f}' for score in scores)})",
            flush=True,
        )


if __name__ == "__main__":
    main()
