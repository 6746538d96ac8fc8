"""What a call costs once it is warm, counted instead of timed: allocations, locks and instructions.

The instructions are held against tests/instructions.json, of each compiler the numbers it had last. A change that is
meant is recorded with ``PUSHFORWARD_RECORD=1 pytest tests/test_steady_state.py``.
"""

from __future__ import annotations

import json
import os
import platform
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from programs import TESTS, compiler, core_programs, find, run
from pushforward import (
    LU,
    MLP,
    Affine,
    Autoregressive,
    Circle,
    ContextNetwork,
    Coupling,
    Flow,
    Interval,
    Mixture,
    Positive,
    RationalQuadratic,
    Real,
    ResNet,
    StudentT,
    neural_spline,
    realnvp,
)
from pushforward._dispatch import _runnable

RECORD = TESTS / "instructions.json"
# One version of a compiler gives the same count to the last digit; its patches and the C library's have this much. An
# activation that leaves its dense layer for a pass of its own costs A 6 % of a density and B 3 %.
TOLERANCE = 0.02
UNKNOWN_COMPILER = 1.5

ROWS = 128  # two tiles


def contender(dim: int, couplings: int, hidden: int, bins: int) -> Flow:
    """A flow of the benchmarks: benchmarks/contenders.py has its peers."""
    transform = RationalQuadratic(bins=bins, bound=5.0) if bins else Affine()
    coupling = Coupling(transform, MLP((hidden, hidden)), mask="alternate")
    return Flow(dim, layers=[coupling] * couplings, dtype="float32", seed=0)


COUNTED = {
    "A: 8 affine couplings of 8 features": lambda: contender(8, 8, 64, 0),
    "B: 5 spline couplings of 8 features": lambda: contender(8, 5, 64, 8),
    "D: 10 spline couplings of 43 features": lambda: contender(43, 10, 32, 4),
}

BOUNDED = [Positive(), Interval(-1, 3), Circle(0, 1), Real()]
ALLOCATING = {
    "affine": lambda: Flow(5, layers=realnvp(5, depth=4, hidden=(16, 16))),
    "spline": lambda: Flow(6, layers=neural_spline(6, depth=2, hidden=16, bins=5)),
    "autoregressive": lambda: Flow(4, layers=[Autoregressive(RationalQuadratic(bins=4), MLP((16,))), LU()]),
    "inverse autoregressive": lambda: Flow(4, layers=[Autoregressive(Affine(), ResNet(12), one_pass="forward")]),
    "Student t": lambda: Flow(3, layers=[Coupling(Affine(), MLP((9,)))], base=StudentT(5.0, learned=True)),
    "mixture": lambda: Flow(3, layers=[Coupling(Affine(), MLP((9,)))], base=Mixture(4)),
    "bounded": lambda: Flow(4, layers=[Coupling(RationalQuadratic(bins=4), MLP((8,)))] * 2, support=BOUNDED),
    "context": lambda: Flow(3, layers=neural_spline(3, depth=2, hidden=8, bins=4), context=2),
    "context network": lambda: Flow(
        3, layers=realnvp(3, depth=2, hidden=(8,)), context=20, context_network=ContextNetwork(4, ResNet(24))
    ),
    "bfloat16": lambda: Flow(
        3, layers=[Coupling(Affine(), ResNet(9)), Autoregressive(Affine(), MLP((9,)))], conditioner_precision="bfloat16"
    ),
    # More parameters than one piece of the optimiser's.
    "wide": lambda: Flow(2, layers=[Coupling(Affine(), MLP((128, 128), activation="silu"))] * 2),
}


@pytest.fixture(scope="module")
def steady_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("allocations are counted with the GNU C library")
    # Valgrind knows no AVX-512.
    level = next((level for level in ("v3", "v2") if level in _runnable()), "")
    folder = tmp_path_factory.mktemp("steady_state")
    return core_programs(folder, "steady_state", compiler=compiler(), PUSHFORWARD_LEVEL=level) / "steady_state"


def test_nothing_is_allocated_and_one_thread_takes_no_lock(steady_state: Path, tmp_path: Path) -> None:
    files = []
    for name, make in ALLOCATING.items():
        flow = make()
        flow.parameters += np.random.default_rng(0).uniform(-0.2, 0.2, flow.parameters.size)
        files.append(tmp_path / f"{name}.safetensors")
        flow.save(files[-1])
    run(steady_state, "allocations", *files)
    run(steady_state, "first-allocations", *files)


def test_python_allocates_the_result_alone() -> None:
    flow = contender(8, 2, 16, 4)
    flow.num_threads = 1
    x = np.random.default_rng(0).normal(size=(256, 8))
    flow.log_prob(x)
    tracemalloc.start()
    try:
        flow.log_prob(x)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            flow.log_prob(x)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = 8 * len(x)
    assert after - before < 1000, "memory grows with the number of calls"
    assert peak - before < 2 * result, f"a result of {result} bytes took {peak - before}"


def instructions(steady_state: Path, folder: Path, flow: Flow) -> dict[str, float]:
    """Instructions for each row of a warm call."""
    calls = ["log_prob", "sample", "step"]
    flow.save(folder / "flow.safetensors")
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'counts'}", "--dump-before=mark"]
    run(*callgrind, steady_state, "calls", folder / "flow.safetensors", ROWS, *calls)
    # Dumps are numbered from 1; what precedes each call's first mark is not its own.
    dumps = [(folder / f"counts.{2 * (i + 1)}").read_text() for i in range(len(calls))]
    totals = [next(line for line in dump.splitlines() if line.startswith("totals:")) for dump in dumps]
    return {call: round(int(total.split()[1]) / ROWS) for call, total in zip(calls, totals, strict=True)}


def most_instructions(flow: Flow) -> dict[str, float]:
    """What each row of a call may take with any compiler, by the arithmetic of its networks.

    Eight lanes of a product are one instruction, with its loads and its share of the loop less than four; a map makes
    each product once, a step three times. An output of a network, a number of a spline or an affine map, costs an
    exponential and some arithmetic more, and as much again on the way back.
    """
    shapes = [values.shape for values in flow.named_parameters().values() if values.ndim == 2]
    products = sum(a * b for a, b in shapes) / 8
    outputs = sum(outputs for outputs, _ in shapes[2::3]) / 8  # the networks have three dense layers
    maps = 3.5 * products + 70 * outputs
    return {"log_prob": maps, "sample": maps, "step": 12 * products + 120 * outputs}


@pytest.mark.parametrize("name", COUNTED)
def test_instructions(steady_state: Path, tmp_path: Path, name: str) -> None:
    if "v3" not in _runnable():
        pytest.skip("instructions are counted at the level x86-64-v3, which this machine does not run")
    if find("valgrind") is None:
        pytest.skip("valgrind is not installed, which counts instructions")
    flow = COUNTED[name]()
    counts = instructions(steady_state, tmp_path, flow)
    by = run(steady_state, "compiler").strip()
    record = json.loads(RECORD.read_text())
    if os.environ.get("PUSHFORWARD_RECORD") == "1":
        record.setdefault(by, {})[name] = counts
        RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")

    for call, bound in most_instructions(flow).items():
        assert counts[call] <= bound, (
            f"{call} takes {counts[call]} instructions a row; its products warrant {bound:.0f}"
        )

    known = name in record.get(by, {})
    for call, count in counts.items():
        last = record[by][name][call] if known else max(numbers[name][call] for numbers in record.values())
        change = f"{call} takes {count} instructions a row, {count / last - 1:+.1%} against {last} in {RECORD.name}"
        again = f"If that is meant: PUSHFORWARD_RECORD=1 pytest {Path(__file__).name}"
        if known:
            assert abs(count / last - 1) <= TOLERANCE, f"{change} of {by}. {again}"
        else:
            assert count <= UNKNOWN_COMPILER * last, f"{change}, which has no numbers of {by}. {again}"
