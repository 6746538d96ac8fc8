"""C++ programs, built and run by tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pushforward
import pytest

TESTS = Path(__file__).parent

# Programs of the virtual environment are found even when it is not activated.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def find(*names: str) -> str | None:
    """Return the first of the programs that is installed."""
    return next((name for name in names if shutil.which(name, path=PATH)), None)


def run(*command: object, **environment: str) -> str:
    """Run a program that must succeed and return what it prints."""
    words = [str(word) for word in command]
    variables = os.environ | {"PATH": PATH} | environment
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compiler() -> str:
    """Return the C++ compiler's name; without one, or without CMake, the test is skipped."""
    if find("cmake") is None:
        pytest.skip("cmake is not installed")
    name = os.environ.get("CXX", "c++")
    if find(name) is None:
        pytest.skip(f"the C++ compiler {name} is not installed")
    return name


def cmake(source: Path, folder: Path, *options: str, targets: tuple[str, ...] = ()) -> None:
    """Build a project in a folder."""
    generator = ["-GNinja"] if find("ninja") else []
    run("cmake", "-S", source, "-B", folder, *generator, *options)
    run("cmake", "--build", folder, "--parallel", "2", *(["--target", *targets] if targets else []))


def core_programs(folder: Path, *targets: str, compiler: str, **options: str) -> Path:
    """Build C++ tests, which need no Python package, with the compiler of that name; return their folder."""
    third_party = Path(pushforward.__file__).parent / "include" / "third_party"
    if not third_party.exists() and find_spec("eigency") is None:
        pytest.skip("Eigen's headers come with the installed package or with eigency; neither is installed")
    settings = {
        "CMAKE_CXX_COMPILER": compiler,
        "Python_EXECUTABLE": sys.executable,
        "PUSHFORWARD_EIGEN_DIR": third_party / "eigen",
        "PUSHFORWARD_JSON_DIR": third_party / "nlohmann_json",
        **options,
    }
    cmake(TESTS, folder / "build", *(f"-D{key}={value}" for key, value in settings.items()), targets=targets)
    return folder / "build"
