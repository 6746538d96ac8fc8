"""Types as a user's checker sees them, and the compiled modules' stubs beside the modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pushforward
import pytest
from pushforward import _cpu, convert
from pushforward._dispatch import _runnable
from pushforward.kde import FlowKDE

SCRIPTS = Path(__file__).parent / "typing"
PACKAGE = Path(pushforward.__file__).parent

# -- a user's script ---------------------------------------------------------------------------------------------


def mypy(script: Path, cache: Path) -> list[str]:
    """Return what ``mypy --strict`` says of a script, with the package as it is imported here."""
    pytest.importorskip("mypy")
    command = ["-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={cache}"]
    # mypy finds installed packages by itself, and refuses to be told where they are.
    where = {} if "site-packages" in PACKAGE.parts else {"MYPYPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, *command, "--no-error-summary", script.name],
        cwd=script.parent, capture_output=True, text=True, env=os.environ | where,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_a_users_script_is_clean(cache: Path) -> None:
    assert mypy(SCRIPTS / "user.py", cache) == []


def test_mistakes_are_found(cache: Path) -> None:
    script = SCRIPTS / "mistakes.py"
    said = "\n".join(mypy(script, cache))
    found = {int(line) for line in re.findall(r"^mistakes\.py:(\d+): error: ", said, re.MULTILINE)}
    lines = script.read_text().splitlines()
    last_empty = max(number for number, line in enumerate(lines, 1) if not line)
    assert found == set(range(last_empty + 1, len(lines) + 1)), said


def test_a_users_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SCRIPTS / "user.py"))


def test_a_users_script_makes_every_call() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    from pushforward import plot
    from pushforward.sklearn import ConditionalFlow, FlowDensity

    tree = ast.parse((SCRIPTS / "user.py").read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    wanted = {*pushforward.__all__, *convert.__all__, *plot.__all__}
    results = (pushforward.History, pushforward.Epoch, pushforward.Report)
    for kind in (pushforward.Flow, pushforward.Ensemble, *results, FlowKDE, FlowDensity, ConditionalFlow):
        names = {*vars(kind), *inspect.get_annotations(kind)}
        names |= {name for base in kind.__mro__ if base.__module__.startswith("pushforward") for name in vars(base)}
        wanted |= {name for name in names if not name.startswith("_")}
    theirs = {name for name in wanted if re.fullmatch(r"set_\w+_request", name)}  # scikit-learn's own, for pipelines
    assert wanted - theirs <= used


# -- stubs of the compiled modules -------------------------------------------------------------------------------


class Stub:
    """A stub's module or class: its public names, and the arguments of its functions."""

    def __init__(self, body: list[ast.stmt]) -> None:
        self.values = {node.target.id for node in body if isinstance(node, ast.AnnAssign)}
        self.classes = {node.name: Stub(node.body) for node in body if isinstance(node, ast.ClassDef)}
        self.properties: set[str] = set()
        self.functions: dict[str, list[list[str]]] = {}
        for node in body:
            if not isinstance(node, ast.FunctionDef):
                continue
            if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
                self.properties.add(node.name)
            else:
                # pybind11 numbers arguments that have no names.
                unnamed = [f"arg{i}" for i in range(len(node.args.posonlyargs) - 1)]
                named = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
                names = ["self", *unnamed] if node.args.posonlyargs else named
                self.functions.setdefault(node.name, []).append(names)

    @property
    def names(self) -> set[str]:
        found = self.values | self.properties | set(self.functions) | set(self.classes)
        return {name for name in found if is_public(name)}


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def read_stub(name: str) -> Stub:
    return Stub(ast.parse((PACKAGE / f"{name}.pyi").read_text()).body)


def arguments(function: object) -> list[list[str]]:
    """Return the names of the arguments, of each overload, as pybind11 writes them into the docstring."""
    signatures = re.findall(r"^(?:\d+\. )?\w+\((?!\*args)(.*)\) -> ", inspect.getdoc(function) or "", re.MULTILINE)
    return [re.findall(r"(?:^|, )(\w+): ", signature) for signature in signatures]


def check(stub: Stub, thing: object) -> None:
    assert stub.names == {name for name in vars(thing) if is_public(name)}
    for name, expected in stub.functions.items():
        assert arguments(getattr(thing, name)) == expected, name
    for name in stub.properties:
        assert isinstance(vars(thing)[name], property), name


@pytest.mark.parametrize("level", _runnable())
def test_stub_of_the_core(level: str) -> None:
    module, stub = importlib.import_module(f"pushforward._core_{level}"), read_stub("_core_v2")
    check(stub, module)
    check(stub.classes["_Flow"], module.FlowFloat32)
    check(stub.classes["_Flow"], module.FlowFloat64)


def test_stub_of_the_processors_detection() -> None:
    check(read_stub("_cpu"), _cpu)
