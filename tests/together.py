"""Fits by several processes, for test_mpi.py: run by mpiexec, prints what each process found as a line of JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from pushforward import Files, Flow, Positive, neural_spline, realnvp
from pushforward._io import rows

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size


def table() -> tuple[np.ndarray, np.ndarray]:
    """Rows, and weights of which some are 0."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(2000, 3))
    x[:, 1] += x[:, 0]
    weights = rng.uniform(size=len(x))
    weights[rng.integers(len(x), size=200)] = 0
    return x, weights


def own(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return this process's share: of uneven size, and the last one of eight processes has none."""
    n = len(arrays[0])
    cuts = np.linspace(0, 1, (SIZE if SIZE < 8 else SIZE - 1) + 1) ** 1.5 * n
    cuts = np.append(cuts, n).astype(int)
    return [array[cuts[RANK] : cuts[RANK + 1]] for array in arrays]


def bits(flow: Flow) -> list[Any]:
    """Return a hash of the parameters, and the losses of the best epoch."""
    assert flow.history is not None
    parameters = hashlib.blake2b(flow.parameters.tobytes(), digest_size=8).hexdigest()
    return [parameters, repr(flow.history.best_loss), repr(flow.history["train_loss"][-1]), flow.history.stopped]


def fit(dtype: str, **options: Any) -> Flow:
    """Fit a small flow by some 200 steps. The flow of the first process counts."""
    seed = 1 if RANK == 0 else None
    flow = Flow(3, layers=realnvp(3, depth=2, hidden=(16,)), support=Positive(), dtype=dtype, seed=seed)
    settings = {"epochs": 16, "batch_size": 150, "seed": 3 if RANK == 0 else None, "progress": False}
    return flow.fit(*own(table()[0]), comm=COMM, **settings | options)


def plain(dtype: str) -> list[Any]:
    return bits(fit(dtype))


def regularised(dtype: str) -> list[Any]:
    """Weights, dropout, a context, validation rows of its own, and more threads than one."""
    x, weights = own(*table())
    layers = neural_spline(2, depth=2, hidden=8, dropout=0.2)
    flow = Flow(2, layers=layers, context=1, dtype=dtype, seed=1, num_threads=1 + RANK % 2)
    held = own(np.random.default_rng(7).gamma(2.0, size=(90, 3)))[0]
    flow.fit(
        x[:, :2], context=x[:, 2:], weights=weights, validation=(held[:, :2], held[:, 2:]),
        epochs=12, batch_size=700, seed=3, progress=False, comm=COMM,
    )  # fmt: skip
    return bits(flow)


def chosen(dtype: str) -> list[Any]:
    """The first fit chooses layers, base and start."""
    flow = Flow(3, dtype=dtype, seed=1)
    return bits(flow.fit(*own(table()[0]), epochs=2, batch_size=512, seed=3, progress=False, comm=COMM))


def bounded() -> list[Any]:
    """Values on the bounds of their support."""
    x = np.round(np.random.default_rng(1).beta(2, 2, size=(900, 2)), 2)
    flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), support=Positive(), seed=1)
    return bits(flow.fit(*own(x), epochs=2, seed=3, progress=False, comm=COMM))


def timed() -> list[Any]:
    """A limit of time, which all processes reach at once."""
    flow = Flow(3, layers=realnvp(3, depth=2, hidden=(8,)), seed=1)
    flow.fit(*own(table()[0]), max_time=0.1, patience=None, seed=3, progress=False, comm=COMM)
    assert flow.history is not None
    assert len(set(COMM.allgather((flow.parameters.tobytes(), flow.history["steps"][-1])))) == 1
    return [flow.history.stopped]


def density() -> list[Any]:
    """Fits to functions, with a gradient and without, of which each process evaluates a part of the draws."""
    seen = []

    def with_gradient(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(x))
        return -0.5 * ((x - 1) ** 2).sum(axis=1), 1 - x

    found = []
    for function in (with_gradient, lambda x: -0.5 * ((x - 1) ** 2).sum(axis=1)):
        flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), seed=1)
        flow.fit_density(function, epochs=2, steps=5, batch_size=50, seed=3, progress=False, comm=COMM)
        found.append(bits(flow))
    assert max(seen) <= -(-2048 // SIZE)
    return found


def in_windows(folder: str) -> list[Any]:
    """A memory map of many blocks and windows, many files, an array, with weights of 0; such a table is small here."""
    x, weights = table()
    path = os.path.join(folder, f"{SIZE}.npy")
    parts = [os.path.join(folder, f"{SIZE} part {i}.npy") for i in range(3)]
    if RANK == 0:
        np.save(path, x)
        for part, some in zip(parts, np.split(x, [900, 1000]), strict=True):
            np.save(part, some)
    COMM.Barrier()
    found = []
    numbers, own_weights = own(np.arange(len(x)), weights)
    share = Files(parts).rows(*((numbers[0], numbers[-1] + 1) if len(numbers) else (0, 0)))
    own_map, own_x = own(np.load(path, mmap_mode="r"), x)
    for table_of, most, window in ((own_map, 1 << 21, 9000), (share, 1 << 21, 9000), (own_x, 700, 1 << 24)):
        rows._BLOCK_ROWS, rows._MOST_SHUFFLED_ROWS, rows._WINDOW_BYTES = 64, most, window
        flow = Flow(3, layers=realnvp(3, depth=1, hidden=(8,)), seed=1)
        flow.fit(table_of, weights=own_weights, epochs=3, batch_size=200, seed=3, progress=False, comm=COMM)
        found.append(bits(flow))
    assert found[0] == found[1]
    return found


def raised(call: Callable[[], object]) -> list[str]:
    """Return what a call raises, and that the processes can go on."""
    try:
        call()
    except BaseException as error:
        COMM.Barrier()
        return [type(error).__name__, str(error)]
    return ["nothing"]


def failing() -> dict[str, Any]:
    """What goes wrong in one process ends the fit in all of them."""
    last = SIZE - 1
    flows: list[Flow] = []

    def broken(flow: Flow, epoch: Any) -> bool:
        if COMM.rank == last and epoch.epoch == 3:
            raise LookupError("as a test")
        return False

    def interrupted(flow: Flow, epoch: Any) -> bool:
        flows.append(flow)
        if COMM.rank == last and epoch.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    def function(x: np.ndarray) -> np.ndarray:
        if COMM.rank == last:
            raise LookupError("as a test")
        return -0.5 * (x**2).sum(axis=1)

    x, weights = own(*table())
    bad = x.copy()
    if COMM.rank == last:
        bad[5, 1] = np.nan
    flow = Flow(3, layers=realnvp(3, depth=1, hidden=(8,)), seed=1)
    before = flow.parameters.copy()
    found = {
        "nan": raised(lambda: flow.fit(bad, comm=COMM)),
        "shape": raised(lambda: flow.fit(x[:, : 3 - (COMM.rank == last)], comm=COMM)),
        "type": raised(lambda: flow.fit(x.astype(np.float32 if COMM.rank == last else np.float64), comm=COMM)),
        "options": raised(lambda: flow.fit(x, epochs=2 + (COMM.rank == last), comm=COMM)),
        "weights": raised(lambda: flow.fit(x, weights=0 * weights, comm=COMM)),
        "patience": raised(lambda: flow.fit(x, patience=-1 if COMM.rank == last else 3, comm=COMM)),
        "function": raised(lambda: Flow(2, layers=[], seed=1).fit_density(function, comm=COMM)),
        "groups": raised(lambda: flow.fit(x, groups=np.arange(len(x)), comm=COMM)),
        "empty": raised(lambda: flow.fit(x[:0], comm=COMM)),
        "communicator": raised(lambda: flow.fit(x, comm=3)),  # type: ignore[arg-type]
    }
    found["unchanged"] = bool((flow.parameters == before).all()) and flow.history is None
    found["callback"] = raised(lambda: fit("float32", callback=broken))
    found["interrupted"] = raised(lambda: fit("float32", callback=interrupted))
    assert flows[0].history is not None
    found["kept"] = [flows[0].history.stopped, len(flows[0].history)]
    found["same"] = len(set(COMM.allgather(flows[0].parameters.tobytes()))) == 1
    found["stopped"] = bits(fit("float32", callback=lambda flow, epoch: COMM.rank == last and epoch.epoch == 2))[-1]
    return found


def alone(folder: str) -> None:
    """Fail in one process where the others cannot know it; what each prints goes to a file."""
    from pushforward._fit import mpi
    from pushforward._fit.likelihood import MaximumLikelihood

    mpi._SECONDS_TO_AGREE = 0.3
    if RANK == 1:
        MaximumLikelihood.score = lambda self: 1 / 0  # type: ignore[assignment]
    with open(f"{folder}/{RANK}", "w") as printed, contextlib.redirect_stderr(printed):
        fit("float32")


def kept(path: str, *, epochs: int, delay: float) -> list[Any]:
    """A fit with a checkpoint, of which every epoch takes a while; resumed if there is one."""
    resume = path if COMM.bcast(os.path.exists(path)) else None
    options = {"checkpoint": path, "checkpoint_every": 5, "resume": resume}
    return bits(fit("float32", callback=lambda flow, epoch: time.sleep(delay), **options, epochs=epochs))


CASES: dict[str, Callable[[str], list[Any]]] = {
    "float32": lambda folder: plain("float32"),
    "float64": lambda folder: plain("float64"),
    "regularised": lambda folder: regularised("float32"),
    "regularised float64": lambda folder: regularised("float64"),
    "chosen": lambda folder: chosen("float32"),
    "bounded": lambda folder: bounded(),
    "timed": lambda folder: timed(),
    "density": lambda folder: density(),
    "windows": in_windows,
}


def main(what: str, *arguments: str) -> Any:
    if what == "cases":
        folder, *names = arguments
        return {name: CASES[name](folder) for name in names or CASES}
    if what == "kept":
        return kept(arguments[0], epochs=16, delay=float(arguments[1]))
    return alone(arguments[0]) if what == "alone" else failing()


if __name__ == "__main__":
    found = COMM.gather(main(*sys.argv[1:]))
    if RANK == 0:
        print(json.dumps(found))
