"""A fit by several processes has the bits of the fit by one, and none of them waits for one that has failed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
from pushforward import Flow

if programs.find("mpiexec") is None:
    pytest.skip("mpiexec is not installed", allow_module_level=True)
# In a process of its own: importing it begins MPI. Without an MPI library it is a RuntimeError.
if subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, check=False).returncode:
    pytest.skip("there is no mpi4py with an MPI", allow_module_level=True)

SCRIPT = Path(__file__).parent / "together.py"
# Of the second process that fails and of the launcher; no test takes a tenth of it.
SECONDS = 600


def command(processes: int, *program: object) -> list[str]:
    """Return a command of several processes."""
    launcher = shutil.which("mpiexec", path=programs.PATH)
    assert launcher is not None
    return [launcher, "-n", str(processes), *map(str, program)]


def environment() -> dict[str, str]:
    return os.environ | {"PATH": programs.PATH, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                         "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # fmt: skip


def run(processes: int, *program: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(processes, *program), capture_output=True, text=True, check=False, timeout=SECONDS, env=environment()
    )


def together(processes: int, *arguments: object) -> list[Any]:
    """Run a part of the script; return what each process found."""
    done = run(processes, sys.executable, SCRIPT, *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)
    assert len(found) == processes
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds."""
    return together(1, "cases", tmp_path_factory.mktemp("alone"))[0]


# All cases by an odd number of processes. More processes than cores wait for each other, which takes long.
SOME = {2: ["float32", "chosen"], 3: [], 4: ["float32", "regularised float64", "windows"], 8: ["float32"]}


@pytest.mark.parametrize("processes", SOME)
def test_any_number_of_processes_has_the_bits_of_one(expected: dict[str, Any], processes: int, tmp_path: Path) -> None:
    for found in together(processes, "cases", tmp_path, *SOME[processes]):
        assert found == {name: expected[name] for name in found}
        assert len(found) == len(SOME[processes] or expected)


def test_a_failure_in_one_process_is_one_in_all() -> None:
    first, second, third = together(3, "failing")
    assert first == second | {key: first[key] for key in ("nan", "shape", "type", "patience")} | {
        key: first[key] for key in ("callback", "function", "interrupted")
    }
    for found in (first, second, third):
        assert found["nan"] == ["ValueError", found["nan"][1]]
        assert re.fullmatch(r"x has 1 row with NaN or infinity, first at row \d+", found["nan"][1])
        assert found["shape"][0] == "ValueError"
        assert "has shape" in found["shape"][1]
        assert "the type of x must be the same in all processes; process 0 has float64" in found["type"][1]
        assert "epochs must be the same in all processes; process 0 has 2, process 2 3" in found["options"][1]
        assert found["patience"][0] == "ValueError"
        assert "patience must be" in found["patience"][1]
        assert found["weights"] == ["ValueError", "weights are all zero"]
        assert "groups= is not for several processes" in found["groups"][1]
        assert found["empty"] == ["ValueError", "x has no rows"]
        assert found["communicator"][0] == "TypeError"
        assert (
            "comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, or None; not 3" in found["communicator"][1]
        )
        assert found["unchanged"]
        assert found["interrupted"][0] == "KeyboardInterrupt"
        assert found["kept"] == ["interrupted", 3]
        assert found["same"]
        assert found["stopped"] == "callback"
    for name in ("callback", "function"):
        assert first[name] == ["RuntimeError", "process 2: as a test"]
        assert third[name] == ["LookupError", "as a test"]


def test_a_failure_that_the_others_cannot_know_of_ends_the_job(tmp_path: Path) -> None:
    done = run(3, sys.executable, SCRIPT, "alone", tmp_path)
    assert done.returncode != 0
    printed = (tmp_path / "1").read_text()  # a launcher may end before it has passed on all that was printed
    assert "ZeroDivisionError" in printed
    assert "process 1 of 3 failed, and the others wait for it: the job ends" in printed


def processes_of(script: Path) -> list[int]:
    """Return the processes that run the script."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if len(words) > 1 and words[1] == str(script).encode():
                found.append(int(entry.name))
    return found


@pytest.fixture
def own_script(tmp_path: Path) -> Iterator[Path]:
    """The script in a place of its own, by which its processes are found; none is left behind."""
    script = tmp_path / "together.py"
    shutil.copy(SCRIPT, script)
    yield script
    for process in processes_of(script):
        os.kill(process, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc").exists(), reason="the processes of a job are found in /proc")
def test_a_fit_whose_process_was_killed_is_resumed_by_any_number(tmp_path: Path, own_script: Path) -> None:
    whole = together(1, "kept", tmp_path / "whole", 0)[0]
    checkpoint = tmp_path / "checkpoint"
    rng = np.random.default_rng()
    job = subprocess.Popen(
        command(4, sys.executable, own_script, "kept", checkpoint, 0.2), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
    began = time.monotonic()
    while not checkpoint.exists():
        assert job.poll() is None
        assert time.monotonic() - began < SECONDS
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 1))
    os.kill(int(rng.choice(processes_of(own_script))), signal.SIGKILL)
    assert job.wait(timeout=SECONDS) != 0
    Flow.load(checkpoint)
    assert together(2, "kept", checkpoint, 0) == [whole, whole]


def test_the_command_line_shares_the_rows_of_a_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(1500, 2))
    np.save(tmp_path / "x.npy", x)
    options = ["--preset", "realnvp", "--depth", "2", "--hidden", "8", "--epochs", "3", "--batch-size", "200"]
    fit = ["-m", "pushforward", "fit", tmp_path / "x.npy", *options, "--seed", "3", "-o"]
    done = run(2, sys.executable, *fit, tmp_path / "together.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fitted 1500 rows of 2 columns by 2 processes") == 1
    alone = run(1, sys.executable, *fit, tmp_path / "alone.safetensors")
    assert alone.returncode == 0, alone.stderr
    for i in range(3):
        np.save(tmp_path / f"part-{i}.npy", x[500 * i : 500 * (i + 1)])
    parts = [*fit[:3], tmp_path / "part-*.npy", *fit[4:]]
    done = run(2, sys.executable, *parts, tmp_path / "parts.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fitted 1500 rows of 2 columns by 2 processes") == 1
    flows = [Flow.load(tmp_path / f"{name}.safetensors") for name in ("together", "alone", "parts")]
    assert len({flow.parameters.tobytes() for flow in flows}) == 1
    bad = run(2, sys.executable, *fit[:3], tmp_path / "missing.npy", "-o", tmp_path / "model")
    assert bad.returncode == 2
    assert bad.stderr.count("pushforward: error: ") == 1
