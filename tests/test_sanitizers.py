"""The C++ tests, built with sanitizers. PUSHFORWARD_FULL=1 runs more mutations."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from programs import PATH, compiler, core_programs, run

TESTS = Path(__file__).parent
FULL = os.environ.get("PUSHFORWARD_FULL") == "1"


def build(folder: Path, sanitizers: str, name: str, *targets: str) -> Path:
    """Build C++ tests with the compiler of that name; return the folder of the programs."""
    source, flag = folder / "empty.cpp", f"-fsanitize={sanitizers}"
    source.write_text("int main() {}\n")
    probe = [name, flag, str(source), "-o", str(folder / "empty")]
    if subprocess.run(probe, capture_output=True, check=False, env=os.environ | {"PATH": PATH}).returncode != 0:
        pytest.skip(f"{name} has no {flag}")
    return core_programs(folder, *targets, compiler=name, PUSHFORWARD_SANITIZE=sanitizers)


def test_address_and_undefined(tmp_path):
    programs = build(
        tmp_path, "address,undefined", compiler(), "core_test", "masses_test", "numbers_test", "drive_load"
    )
    run(programs / "core_test")
    run(programs / "masses_test")
    run(programs / "numbers_test")
    # No file of the corpus, nor a mutation of one, is worth more memory than this.
    limit = "max_allocation_size_mb=16"
    run(programs / "drive_load", TESTS / "fuzz" / "corpus", 200_000 if FULL else 20_000, ASAN_OPTIONS=limit)


def test_thread(tmp_path):
    programs = build(tmp_path, "thread", compiler(), "core_test")
    run(programs / "core_test")
