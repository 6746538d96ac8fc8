"""Peak memory of scoring and of one epoch on memory-mapped tables: `python benchmarks/memory.py FOLDER`.

The tables, of `--gigabytes 1,4`, are written to FOLDER and deleted afterwards. Each is fitted and scored in its own
process. The system reports the peak resident memory of the process (Linux only).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COLUMNS = 32


def write(path: Path, gigabytes: float) -> None:
    rows = int(gigabytes * 2**30 / (4 * COLUMNS))
    table = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
    rng = np.random.default_rng(0)
    for first in range(0, rows, 1 << 18):
        block = table[first : first + (1 << 18)]
        block[...] = rng.standard_normal(block.shape, dtype=np.float32) * (1 + 0.1 * rng.random(COLUMNS))
    table.flush()


def peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def measure(path: Path) -> None:
    from pushforward import Flow, realnvp

    imported = peak()
    x = np.load(path, mmap_mode="r")
    flow = Flow(COLUMNS, layers=realnvp(COLUMNS, depth=2, hidden=(32,)), seed=0)
    start = time.perf_counter()
    flow.fit(x, epochs=1, batch_size=4096, seed=0, progress=False)
    fitted, fit_seconds = peak(), time.perf_counter() - start
    start = time.perf_counter()
    out = np.lib.format.open_memmap(path.with_suffix(".out.npy"), "w+", np.float64, (len(x),))
    flow.log_prob(x, out=out)
    print(
        f"{x.nbytes / 2**30:5.1f} GB: peak {imported:.0f} MB imported, {fitted:.0f} MB after one epoch "
        f"({fit_seconds:.0f} s), {peak():.0f} MB after scoring ({time.perf_counter() - start:.0f} s)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", default="1,4")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.folder / "pushforward-memory.npy"
    if arguments.measure:
        measure(path)
        return
    for gigabytes in map(float, arguments.gigabytes.split(",")):
        try:
            write(path, gigabytes)
            subprocess.run([sys.executable, __file__, str(arguments.folder), "--measure"], check=True)
        finally:
            path.unlink(missing_ok=True)
            path.with_suffix(".out.npy").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
