"""The pool's threads beside OpenMP's: a training step on two threads, alone and beside a busy program.

Needs a second build, with OpenMP's parallel for, in a folder of its own:

    CMAKE_ARGS="-DPUSHFORWARD_THREADS=openmp" pip install --no-deps --target build/openmp .
    python benchmarks/threads.py build/openmp

Each figure is a median over alternating rounds, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

STEP = """
import sys, time
import numpy as np
from pushforward import Flow, build_info, realnvp

dim, depth, width, rows = map(int, sys.argv[1:])
flow = Flow(dim, layers=realnvp(dim, depth=depth, hidden=(width, width)), num_threads=2, seed=0)
x, gradient = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32), np.empty_like(flow.parameters)
times = []
end = time.perf_counter() + 1.0
while time.perf_counter() < end:
    start = time.perf_counter()
    flow.loss_and_grad(x)
    times.append(time.perf_counter() - start)
times.sort()
print(build_info()["threading"], times[len(times) // 2], sum(times) / len(times))
"""
SIZES = {"small (8 features, 64 units, 256 rows)": (8, 8, 64, 256), "middle (16, 128, 1024)": (16, 8, 128, 1024)}
BUSY = "while True: pass"


def step(size: tuple[int, ...], folder: Path | None, **settings: str) -> tuple[str, float, float]:
    """Return what runs the threads, and the median and the mean seconds of a step."""
    path = {} if folder is None else {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", STEP, *map(str, size)]
    done = subprocess.run(command, env=os.environ | path | settings, capture_output=True, text=True, check=True)
    threading, median, mean = done.stdout.split()
    return threading, float(median), float(mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a build with PUSHFORWARD_THREADS=openmp")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    variants: dict[str, tuple[Path | None, dict[str, str]]] = {
        "pool": (None, {}),
        "OpenMP": (args.folder.resolve(), {}),
        "OpenMP, short spinning": (args.folder.resolve(), {"GOMP_SPINCOUNT": "10000"}),
    }
    for name, size in SIZES.items():
        for busy in (False, True):
            other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
            times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
            try:
                for _ in range(args.rounds):
                    for variant, (folder, settings) in variants.items():
                        threading, median, mean = step(size, folder, **settings)
                        assert threading == ("pool" if folder is None else "openmp"), f"{folder} has {threading}"
                        times[variant].append((median, mean))
            finally:
                if other is not None:
                    other.kill()
                    other.wait()
            print(f"{name}, {'beside one busy program' if busy else 'alone'}")
            for variant, pairs in times.items():
                median, mean = (1e3 * statistics.median(values) for values in zip(*pairs, strict=True))
                print(f"  {variant:<24} median {median:7.3f} ms, mean {mean:7.3f} ms")


if __name__ == "__main__":
    main()
