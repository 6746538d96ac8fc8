"""The order of the package's modules, and what keeps a part in one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pushforward
import pytest
from pushforward import Flow
from pushforward._model.bases import BASES
from pushforward._model.convolutions import CONDITIONERS
from pushforward._model.layers import LAYERS
from pushforward._model.supports import SUPPORTS
from pushforward._model.transforms import TRANSFORMS

PACKAGE = Path(pushforward.__file__).parent
ROOT = Path(__file__).parents[1]
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
PARTS = {**BASES, **LAYERS, **CONDITIONERS, **SUPPORTS, **TRANSFORMS}


def where(path: str, node: ast.expr) -> str:
    return f"{path}:{node.lineno}: {ast.unparse(node)}"


def private_uses(path: str, tree: ast.AST, names: set[str]) -> list[str]:
    """Where an object other than `self` and `cls` is asked for one of these attributes."""
    return [
        where(path, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in names
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def test_a_flows_private_attributes_are_its_own() -> None:
    flow = Flow(1, layers=[])
    names = {name for name in dir(flow) if name.startswith("_") and not name.startswith("__")}
    assert "_state" in names
    assert [name for name in vars(flow) if name.startswith("_")] == ["_state"]
    known = {"flow.py", "_model/state.py"}
    assert private_uses("state.py", TREES["_model/state.py"], names), "the search finds what there is"
    assert [use for path, tree in TREES.items() if path not in known for use in private_uses(path, tree, names)] == []


def test_no_object_is_replaced_through_its_dict() -> None:
    nodes = [(path, node) for path, tree in TREES.items() for node in ast.walk(tree)]
    assert [
        where(path, node) for path, node in nodes if isinstance(node, ast.Attribute) and node.attr == "__dict__"
    ] == []


def test_parts_are_not_told_apart_by_their_class() -> None:
    """A new part is a new class: nothing outside its own file needs to ask for it."""
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
                kinds = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                found += [where(path, node)] * bool(kinds & PARTS.keys())
    assert found == []


# -- imports -----------------------------------------------------------------------------------------------------


def module_of(path: str) -> str:
    parts = ["pushforward", *Path(path).with_suffix("").parts]
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): tree for path, tree in TREES.items()}


def imports(tree: ast.AST) -> set[str]:
    """The package's modules that a module imports, also in functions and for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return found & MODULES.keys()


def test_no_circle_of_imports() -> None:
    # The package itself imports what is public, and its modules do not import that from it.
    graph = {name: imports(tree) for name, tree in MODULES.items() if name != "pushforward"}
    assert graph["pushforward._flow.fitting"] >= {"pushforward._model.state", "pushforward._fit.likelihood"}
    while True:
        leaves = {name for name, uses in graph.items() if not uses & graph.keys()}
        if not leaves:
            break
        graph = {name: uses for name, uses in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="an installed package without its sources")
def test_modules_import_from_the_floors_below_only() -> None:
    pytest.importorskip("importlinter")
    command = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 1 kept, 0 broken" in done.stdout
