"""The smoke test of an installed package, for an environment that holds nothing but what it needs to run.

`python tests/smoke.py [LEVEL]`: the golden files, a fit, files, threads and the command line, under the instruction set
that the import chose; with LEVEL, that must be the one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from pushforward import Flow, build_info, neural_spline, simd_level
from pushforward._io import files

GOLDEN = Path(__file__).parent / "golden"


def check(holds: object, what: str) -> None:
    if not holds:
        sys.exit(f"smoke test: {what}")


def golden_files() -> int:
    paths = sorted(GOLDEN.glob(f"format{files.FORMAT}-*.safetensors"))
    for path in paths:
        flow = Flow.load(path)
        known = np.load(path.with_suffix(".npz"))
        context = known["context"] if flow.context else None
        tolerance = {"float32": 2e-4, "float64": 1e-10}[flow.dtype.name]
        density, z = flow.log_prob(known["x"], context), flow.inverse(known["x"], context)[0]
        for name, values in (("log_prob", density), ("z", z)):
            check(np.allclose(values, known[name], rtol=tolerance, atol=tolerance), f"{path.name}: another {name}")
    check(paths, f"no file of format {files.FORMAT} in {GOLDEN}")
    return len(paths)


def table() -> np.ndarray:
    rng = np.random.default_rng(0)
    a = rng.normal(size=600)
    return np.stack([a, a**2 + 0.3 * rng.normal(size=600)], axis=1)


def fitted(num_threads: int) -> Flow:
    flow = Flow(2, layers=neural_spline(2, depth=2, hidden=16), seed=0, num_threads=num_threads)
    return flow.fit(table(), epochs=15, batch_size=100, seed=0)


def fit_and_threads() -> Flow:
    x, flow, alone = table(), fitted(2), fitted(1)
    gaussian = -0.5 * (np.linalg.slogdet(np.cov(x.T))[1] + 2 * np.log(2 * np.pi) + 2)
    check(flow.log_prob(x).mean() > gaussian + 0.2, "a fit that is no better than a Gaussian")
    check(np.array_equal(flow.parameters, alone.parameters), "a fit that depends on the number of threads")
    density = alone.log_prob(x)
    with ThreadPoolExecutor(4) as pool:
        check(all(np.array_equal(flow.log_prob(x), density) for flow in pool.map(fitted, [1, 2, 3, 4])), "threads")
        check(all(pool.map(lambda _: np.array_equal(flow.log_prob(x), density), range(8))), "calls at once")
    return flow


def files_and_commands(flow: Flow) -> None:
    (command,) = entry_points(group="console_scripts", name="pushforward")
    with tempfile.TemporaryDirectory() as folder:
        model, rows, scores = (os.path.join(folder, name) for name in ("model.safetensors", "rows.npy", "scores.npy"))
        flow.save(model)
        check(np.array_equal(Flow.load(model).sample(9, seed=1), flow.sample(9, seed=1)), "another flow was loaded")
        np.save(rows, table())
        check(command.load()(["score", model, rows, "-o", scores]) == 0, "the command failed")
        check(np.allclose(np.load(scores), flow.log_prob(table())), "the command scores otherwise")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        check(simd_level() == sys.argv[1], f"the level is {simd_level()}, not {sys.argv[1]}")
    count = golden_files()
    files_and_commands(fit_and_threads())
    print(f"smoke test: {count} golden files, a fit, threads, files and the command are well: {build_info()}")
