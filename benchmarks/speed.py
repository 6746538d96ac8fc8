"""Time single operations: `python benchmarks/speed.py [--threads 1,2] [--cases A,E] [--json FILE]`.

A case is the number of features, the number of affine couplings, the width of both hidden layers, and the rows of a
training step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from environment import describe, median_seconds
from pushforward import MLP, Adam, Affine, Coupling, Flow

CASES = {
    "A": {"dim": 8, "layers": 8, "hidden": 64, "rows": 256},
    "E": {"dim": 43, "layers": 10, "hidden": 128, "rows": 1024},
}
MANY = 20_000


def build(dim: int, layers: int, hidden: int, dtype: str, threads: int) -> Flow:
    coupling = Coupling(Affine(), MLP((hidden, hidden)), mask="alternate")
    flow = Flow(dim, layers=[coupling] * layers, dtype=dtype, seed=0, num_threads=threads)
    flow.parameters += 0.01 * np.random.default_rng(0).standard_normal(flow.parameters.size).astype(dtype)
    return flow


def time_case(case: dict[str, int], dtype: str, threads: int) -> dict[str, float]:
    flow = build(case["dim"], case["layers"], case["hidden"], dtype, threads)
    x = np.random.default_rng(1).standard_normal((MANY, case["dim"])).astype(dtype)
    batch, adam, gradient = x[: case["rows"]], Adam(1e-6), np.empty_like(flow.parameters)

    def step() -> None:
        norm = flow._state.core.loss_and_grad(batch, gradient, threads=threads)[1]
        adam.update(flow.parameters, gradient, 1e-6, 5.0, threads, norm=norm)

    return {
        "step_ms": 1e3 * median_seconds(step),
        "log_prob_us_per_row": 1e6 * median_seconds(lambda: flow.log_prob(x)) / MANY,
        "sample_us_per_row": 1e6 * median_seconds(lambda: flow.sample(MANY, seed=0)) / MANY,
        "log_prob_256_us": 1e6 * median_seconds(lambda: flow.log_prob(x[:256])),
        "log_prob_1_us": 1e6 * median_seconds(lambda: flow.log_prob(x[:1])),
    }


START = """
import os, sys, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
import numpy
start, before = time.perf_counter(), resident()
import pushforward
print(1e3 * (time.perf_counter() - start), resident() - before)
"""


def importing(runs: int = 15) -> dict[str, float]:
    """What `import pushforward` adds to importing NumPy, in fresh processes."""
    figures = [
        [
            float(value)
            for value in subprocess.run([sys.executable, "-c", START], capture_output=True, check=True).stdout.split()
        ]
        for _ in range(runs)
    ]
    milliseconds, megabytes = (statistics.median(column) for column in zip(*figures, strict=True))
    return {"milliseconds": milliseconds, "megabytes": megabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--cases", default="A,E")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    environment = describe()
    for name, value in environment.items():
        print(f"{name:24s} {value}")
    rows = []
    print(f"\n{'case':4s} {'dtype':8s} threads  step ms  log_prob us/row  sample us/row  256 rows us  1 row us")
    for name in arguments.cases.split(","):
        for dtype in ("float32", "float64"):
            for threads in map(int, arguments.threads.split(",")):
                t = time_case(CASES[name], dtype, threads)
                rows.append({"case": name, "dtype": dtype, "threads": threads, **t})
                print(
                    f"{name:4s} {dtype:8s} {threads:7d} {t['step_ms']:8.3f} {t['log_prob_us_per_row']:16.3f} "
                    f"{t['sample_us_per_row']:14.3f} {t['log_prob_256_us']:12.1f} {t['log_prob_1_us']:9.1f}",
                    flush=True,
                )
    start = importing() if sys.platform == "linux" else {}
    if start:
        print(f"\nimport adds {start['milliseconds']:.0f} ms and {start['megabytes']:.1f} MB to importing numpy")
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment, "timings": rows, "import": start}, indent=1))


if __name__ == "__main__":
    main()
