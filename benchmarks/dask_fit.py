"""A fit to a table larger than the memory of its workers: `python benchmarks/dask_fit.py FOLDER`.

The table, of `--gigabytes 4` in `--partitions 32` files of float32, is written to FOLDER and deleted afterwards. Two
workers of a Dask cluster, each of one thread and with a limit of `--memory 1GB`, fit a flow to it for `--epochs 1`.
Then one process of two threads makes the same fit to the files as a memory map. Printed are the times of both fits,
their losses, and the peak resident memory of each worker, in which pages of mapped files count (Linux only).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from environment import describe
from pushforward import Files, Flow, neural_spline
from pushforward.dask import fit

COLUMNS = 8


def write(path: Path, rows: int, seed: int) -> None:
    """Write a partition."""
    rng = np.random.default_rng(seed)
    table = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
    for first in range(0, rows, 1 << 18):
        table[first : first + (1 << 18)] = curved(min(1 << 18, rows - first), rng)
    table.flush()


def curved(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from a curved Gaussian, its columns correlated."""
    block = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    block[:, 1:] += 0.5 * block[:, :-1] ** 2
    return block


def read(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def fitted(name: str, fit_one: Callable[[Flow], object]) -> None:
    """Fit a flow and print how it went."""
    flow = Flow(COLUMNS, layers=neural_spline(COLUMNS, depth=4, hidden=32), seed=0)
    began = time.perf_counter()
    fit_one(flow)
    seconds = time.perf_counter() - began
    assert flow.history is not None
    loss = f"{flow.history.initial_loss:.6f} before, {flow.history.best_loss:.6f} after"
    print(
        f"{name}: {seconds:.0f} s in all, {flow.history['seconds'][-1]:.0f} s in {flow.history['steps'][-1]:.0f} steps;"
        f" validation loss {loss}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16384)
    arguments = parser.parse_args()
    print(describe())
    options: dict[str, Any] = {
        "epochs": arguments.epochs, "batch_size": arguments.batch_size, "seed": 0,
        "validation": curved(1 << 17, np.random.default_rng(arguments.partitions)),
    }  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="pushforward-dask-", dir=arguments.folder))
    try:
        rows = int(arguments.gigabytes * 2**30 / (4 * COLUMNS * arguments.partitions))
        paths = [folder / f"{i}.npy" for i in range(arguments.partitions)]
        for seed, path in enumerate(paths):
            write(path, rows, seed)
        parts = [da.from_delayed(dask.delayed(read)(path), (rows, COLUMNS), np.float32) for path in paths]
        table = da.concatenate(parts)
        size = f"{table.nbytes / 2**30:.1f} GB, {len(table)} rows of {COLUMNS} columns"
        print(f"{size} in {arguments.partitions} partitions", flush=True)
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, memory_limit=arguments.memory, dashboard_address=":0",
                local_directory=str(folder),
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            fitted("two workers", lambda flow: fit(client, flow, table, **options))
            peaks = client.run(peak).values()
        print(f"peaks of {' and '.join(f'{value:.0f}' for value in peaks)} MB", flush=True)
        fitted("one process", lambda flow: flow.fit(Files(paths), **options))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
