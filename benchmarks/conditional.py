"""Fit some columns of real tables given the others: `python benchmarks/conditional.py FOLDER [TABLE ...]`.

The last columns of a table are the features, and all others the context. The figure is the mean of -log p(x | context)
in nats on rows that were left out of the fit; less is better. "joint" has the weight decay and the epochs of a flow
without a context, "conditional" the defaults.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import tables
from environment import describe
from pushforward import Adam, Flow
from pushforward._fit.size import size

# Tables, and how many of their columns are the features.
FEATURES = {"kin40k": 1, "protein": 3, "wine": 1, "skillcraft": 2, "parkinsons": 2, "pumadyn32nm": 2}
# As `Flow.fit` does by default.
VALIDATION = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", default=list(FEATURES))
    parser.add_argument("--rows", type=lambda text: [int(part) for part in text.split(",")], default=[500, 2000, 9000])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(describe())
    print("| table | features | context | rows | seed | joint | conditional | seconds | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for table in tables.load(arguments.folder, arguments.tables):
        dim = FEATURES[table.name]
        x, context = table.x[:, -dim:], table.x[:, :-dim]
        for rows in arguments.rows:
            if rows > 0.8 * len(x):
                continue
            joint = size(round((1 - VALIDATION) * rows))
            for seed in range(arguments.seeds):
                order = np.random.default_rng(seed).permutation(len(x))
                fitted, test = order[:rows], order[rows:]
                losses, seconds = [], []
                for options in ({"optimizer": Adam(weight_decay=joint.weight_decay), "epochs": joint.epochs}, {}):
                    start = time.perf_counter()
                    flow = Flow(dim, context=context.shape[1], seed=seed, num_threads=arguments.threads)
                    flow.fit(x[fitted], context=context[fitted], seed=seed, progress=False, **options)
                    seconds.append(time.perf_counter() - start)
                    losses.append(-flow.log_prob(x[test], context=context[test]).mean())
                figures = [f"{loss:.3f}" for loss in losses] + [f"{one:.0f}" for one in seconds]
                cells = [table.name, dim, context.shape[1], rows, seed, *figures]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
