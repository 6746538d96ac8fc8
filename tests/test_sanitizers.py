"""The C++ tests, built with sanitizers. PUSHFORWARD_FULL=1 runs more mutations, and OpenMP's threads under TSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FULL = os.environ.get("PUSHFORWARD_FULL") == "1"


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(folder: Path, sanitizers: str, *targets: str, compiler: str | None = None, openmp: bool = True) -> None:
    compiler = compiler or os.environ.get("CXX", "c++")
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    if shutil.which(compiler) is None:
        pytest.skip(f"the C++ compiler {compiler} is not installed")
    flag = f"-fsanitize={sanitizers}"
    source = folder / "empty.cpp"
    source.write_text("int main() {}\n")
    probe = [compiler, flag, str(source), "-o", str(folder / "empty")]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{compiler} has no {flag}")
    generator = ["-GNinja"] if shutil.which("ninja") else []
    options = [f"-DPUSHFORWARD_SANITIZE={sanitizers}", f"-DPUSHFORWARD_OPENMP={'ON' if openmp else 'OFF'}"]
    run("cmake", "-S", TESTS, "-B", folder / "build", f"-DCMAKE_CXX_COMPILER={compiler}", *options, *generator)
    run("cmake", "--build", folder / "build", "--parallel", "2", "--target", *targets)


def test_address_and_undefined(tmp_path):
    build(tmp_path, "address,undefined", "core_test", "drive_load")
    run(tmp_path / "build" / "core_test")
    # No file of the corpus, nor a mutation of one, is worth more memory than this.
    limit = "max_allocation_size_mb=16"
    mutations = 200_000 if FULL else 20_000
    run(tmp_path / "build" / "drive_load", TESTS / "fuzz" / "corpus", mutations, ASAN_OPTIONS=limit)


def test_thread(tmp_path):
    # TSan does not see GCC's OpenMP synchronise and would report every loop; this runs the caller's own threads.
    build(tmp_path, "thread", "core_test", openmp=False)
    run(tmp_path / "build" / "core_test")


@pytest.mark.skipif(not FULL, reason="PUSHFORWARD_FULL=1 runs it")
def test_thread_of_openmp(tmp_path):
    # LLVM's OpenMP tells TSan what it does through Archer, a library beside it.
    compiler = next((name for name in ("clang++", "clang++-14") if shutil.which(name)), None)
    archers = sorted(Path("/usr/lib").glob("llvm-*/lib/libarcher.so"))
    if compiler is None or not archers:
        pytest.skip("Clang with its OpenMP and libarcher.so is not installed")
    build(tmp_path, "thread", "core_test", compiler=compiler)
    run(
        tmp_path / "build" / "core_test",
        OMP_TOOL_LIBRARIES=str(archers[-1]),
        TSAN_OPTIONS="ignore_noninstrumented_modules=1",
    )
