"""The time of a training step by several processes, how much of it is communication, and a model of both.

    python benchmarks/machines.py [--plot docs/images/machines.png]

One process of one thread, one of two threads, and two of one thread make steps in turns, by flows of two sizes.
A step is modelled as

    arithmetic * rows / workers + update + 2 * latency * log2(processes) + bytes / bandwidth,

where arithmetic and update are measured by one process, latency and bandwidth on messages alone. The picture has the
model beside the measurements, and its prediction for networks of 10 and 100 Gbit/s. Each figure is the least of many,
since other programs come and go.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from environment import describe
from pushforward import Adam, Flow, neural_spline
from pushforward._fit.objective import MaximumLikelihood
from pushforward._fit.slots import SlotSums
from pushforward._io.rows import Rows, Window

FLOWS: dict[str, dict[str, int]] = {"small": {"depth": 4, "hidden": 32}, "middle": {"depth": 6, "hidden": 64}}
ROWS = (512, 1024, 2048, 4096)
SETUPS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread": (2, 1)}
ROUNDS = 3
# Networks: bytes a second, and seconds of latency.
NETWORKS = {"10 Gbit/s": (1.25e9, 20e-6), "100 Gbit/s": (12.5e9, 2e-6)}
PROCESSES = 2.0 ** np.arange(11)


def timed(group: Any, call: Callable[[], object], seconds: float = 0.01) -> float:
    """Return the least time of a call, which every process makes equally often."""
    times = []
    for _ in range(25):
        time.sleep(seconds)  # other programs get their turn now, rather than in the middle
        call()
        for _ in range(5):
            group.of_first(None)
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return min(times)


class Steps:
    """The steps of one flow, by this process or with the others."""

    def __init__(self, size: dict[str, int], threads: int, group: Any) -> None:
        flow = Flow(6, layers=neural_spline(6, **size), seed=0, num_threads=threads)
        self.x = np.random.default_rng(0).normal(size=(max(ROWS), 6)).astype(np.float32)
        self.group, self.state = group, flow.initialize(self.x)._state
        rows = Rows.of(self.x, None, None)
        self.alone, self.shared = MaximumLikelihood(self.state, rows, rows, None, 512), SlotSums(self.state, group)
        self.adam, self.gradient = Adam(), np.zeros_like(self.state.parameters)

    def update(self) -> None:
        self.adam.update(self.state.parameters, self.gradient, 1e-9, math.inf, self.state.num_threads)

    def step(self, rows: int) -> None:
        first, last = self.shared.part(rows)[[self.group.rank, self.group.rank + 1]]
        part = np.arange(first, last)
        if self.group.size > 1:
            self.shared.loss_and_grad(Window(self.x, None, None, part, rows), self.gradient, float(rows), 0)
        else:
            self.alone.loss_and_grad(Window(self.x, None, None, part), self.gradient, 0)
        self.update()

    def figures(self) -> dict[str, Any]:
        return {
            "parameters": self.state.parameters.size,
            "update": timed(self.group, self.update),
            "steps": {rows: timed(self.group, functools.partial(self.step, rows)) for rows in ROWS},
            "messages": timed(self.group, self.messages()) if self.group.size > 1 else 0.0,
        }

    def messages(self) -> Callable[[], object]:
        """Return what exchanges the messages of a step, and nothing else."""
        plan = self.shared._plan(ROWS[-1])
        own = int(plan.counts[self.group.rank])
        sums = np.zeros(own * self.state.parameters.size, np.float32)
        head = np.zeros(1 + own).view(np.float32)
        return functools.partial(self.shared.exchanged, plan, head, sums, self.gradient)


def worker(threads: int) -> dict[str, Any]:
    """Time the steps of this process, with the others if there are any."""
    from mpi4py import MPI
    from pushforward._fit.mpi import group_of

    group: Any = group_of(MPI.COMM_WORLD)
    with group.together():
        found: dict[str, Any] = {name: Steps(size, threads, group).figures() for name, size in FLOWS.items()}
        if group.size > 1:
            for label, size in (("latency", 1), ("large", 1 << 20)):
                own, counts = np.zeros(size, np.float32), np.full(group.size, size)
                everything = np.zeros(size * group.size, np.float32)
                found[label] = timed(group, functools.partial(group.gather, own, everything, counts))
    return found if group.is_first else {}


def measured(processes: int, threads: int) -> dict[str, Any]:
    launcher = [] if processes == 1 else [shutil.which("mpiexec") or "mpiexec", "-n", str(processes)]
    command = [*launcher, sys.executable, __file__, "--worker", str(threads)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def least(one: Any, other: Any) -> Any:
    """Return the lower of the figures of two rounds."""
    if isinstance(one, dict):
        return {key: least(one[key], other[key]) for key in one}
    return min(one, other)


def predicted(
    flow: dict[str, Any], rows: float, processes: Any, network: tuple[float, float], threads: int = 1
) -> tuple[Any, Any]:
    """Return the seconds of a step, and how many of them are communication."""
    bandwidth, latency = network
    arithmetic = min((seconds - flow["update"]) / int(n) for n, seconds in flow["steps"].items())
    workers = np.minimum(processes * threads, min(max(8.0, rows / 256), 512.0))  # no more than slots have work
    bytes_sent = 2 * 4 * flow["parameters"] * (processes - 1) / processes
    messages = np.where(processes > 1, 2 * latency * np.log2(processes) + bytes_sent / bandwidth, 0.0)
    return arithmetic * rows / workers + flow["update"] + messages, messages


def draw(path: str, found: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    two = found["2 processes, 1 thread"]
    for i, name in enumerate(FLOWS):
        for (setup, entry), mark in zip(found.items(), ("o", "s", "^"), strict=True):
            values = [entry[name]["steps"][str(rows)] * 1e3 for rows in ROWS]
            left.loglog(ROWS, values, mark, color=f"C{i}", label=f"{name}: {setup}")
        rows = np.geomspace(ROWS[0], ROWS[-1], 50)
        alone = found["1 process, 1 thread"][name]
        curve = [predicted(alone, n, 2.0, (two["bandwidth"], two["latency"]))[0] * 1e3 for n in rows]
        left.loglog(rows, curve, color=f"C{i}", label=f"{name}: model of 2 processes")
    left.set(xlabel="rows a step", ylabel="milliseconds a step")
    left.set_xticks(ROWS, [f"{rows:,}" for rows in ROWS])
    left.minorticks_off()
    left.set_ylim(top=20 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize=7)
    flow = found["1 process, 1 thread"]["middle"]
    for i, rows in enumerate((16384, 262144)):
        for (network, figures), style in zip(NETWORKS.items(), ("--", "-"), strict=True):
            times = predicted(flow, rows, PROCESSES, figures)[0]
            right.loglog(PROCESSES, times[0] / times, style, color=f"C{i}", label=f"{rows:,} rows a step, {network}")
    right.loglog(PROCESSES, PROCESSES, ":", color="0.5", label="ideal")
    right.set(xlabel="processes of one thread", ylabel="times as fast as one (model)")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="PNG")
    parser.add_argument("--worker", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        if found := worker(args.worker):
            print(json.dumps(found), flush=True)
        return
    for name, value in describe().items():
        print(f"{name}: {value}")
    found = {}
    for _ in range(ROUNDS):  # in turns, since other programs come and go
        for setup, (processes, threads) in SETUPS.items():
            entry = measured(processes, threads)
            found[setup] = least(found[setup], entry) if setup in found else entry
    two, shared, alone = found["2 processes, 1 thread"], found["1 process, 2 threads"], found["1 process, 1 thread"]
    two["bandwidth"] = (4 << 20) / max(two["large"] - two["latency"], 1e-9)
    print(f"\nmessages of two processes: latency {two['latency'] * 1e6:.1f} us, {two['bandwidth'] / 1e9:.2f} GB/s")
    for name in FLOWS:
        print(f"\n{name}: {alone[name]['parameters']:,} parameters, update {alone[name]['update'] * 1e6:.0f} us, "
              f"messages of two processes {two[name]['messages'] * 1e6:.0f} us")  # fmt: skip
        print("| rows a step | 1 thread | 2 threads | 2 processes | model | 2 threads / 2 processes | messages |")
        print("|---|---|---|---|---|---|---|")
        for rows in ROWS:
            a, b, c = (entry[name]["steps"][str(rows)] for entry in (alone, shared, two))
            model = predicted(alone[name], rows, 2.0, (two["bandwidth"], two["latency"]))[0]
            print(f"| {rows:,} | {a * 1e3:.2f} ms | {b * 1e3:.2f} ms | {c * 1e3:.2f} ms | {model * 1e3:.2f} ms "
                  f"| {b / c:.2f} | {two[name]['messages'] / c:.0%} |")  # fmt: skip
    print("\nBy the model, a step of the middle flow, and the share of communication in it:")
    print("| rows a step | processes | " + " | ".join(NETWORKS) + " |")
    print("|---|---|" + "---|" * len(NETWORKS))
    for rows in (16384, 262144, 1 << 22):
        for processes in (16.0, 64.0, 256.0, 1024.0):
            cells = []
            for figures in NETWORKS.values():
                seconds, messages = predicted(alone["middle"], rows, processes, figures)
                cells.append(f"{seconds * 1e3:.2f} ms, {messages / seconds:.0%}")
            print(f"| {rows:,} | {processes:.0f} | " + " | ".join(cells) + " |")
    if args.plot:
        draw(args.plot, found)


if __name__ == "__main__":
    main()
