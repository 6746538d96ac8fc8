"""Every example runs: in docstrings, in the README, in docs. test_embed.py has the C++ of docs/embedding.md."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pushforward
import pytest
from pages import DOCS, PAGES, Block, blocks, path_of

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(pushforward.__path__, "pushforward.")
    if not name.startswith(("pushforward._core", "pushforward.__main"))
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith(("pushforward.sklearn", "pushforward.torch", "pushforward.pytensor", "pushforward.dask")):
        pytest.importorskip(name.split(".")[1])
    module = importlib.import_module(name)
    public = {name: getattr(pushforward, name) for name in pushforward.__all__}
    result = doctest.testmod(module, extraglobs=public, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", pushforward.__all__)
def test_what_is_public_is_documented_with_an_example(name: str) -> None:
    thing = getattr(pushforward, name)
    text = inspect.getdoc(thing)
    assert text
    if not (isinstance(thing, type) and issubclass(thing, Exception)) and name not in ("Epoch", "Round"):
        assert ">>>" in text


def is_run(block: Block) -> bool:
    return block.language == "python" or (block.language == "sh" and block.code.startswith("pushforward "))


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, blocks(page)))], ids=path_of)
def test_page_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's Python, in one namespace, and its shell commands, one after the other, in a folder with two tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    rng = np.random.default_rng(0)
    for name in ("table.csv", "held_out.csv"):
        np.savetxt(name, rng.normal(size=(300, 3)), delimiter=",", header="speed,mass,angle", comments="")
    namespace: dict[str, object] = {}
    missing = set()
    for block in blocks(page):
        if lacking := {library for library in block.needs if find_spec(library) is None}:
            missing |= lacking
        elif block.language == "python":
            exec(compile(block.code, str(page), "exec"), namespace)
        elif is_run(block):
            shell(block.code)
    if missing:
        pytest.skip(f"all but the blocks that need {', '.join(sorted(missing))} ran")


def shell(code: str) -> None:
    """Run commands with Bash, `pushforward` being the package under test whether it is installed or not."""
    program = f'pushforward() {{ "{sys.executable}" -m pushforward "$@"; }}\nset -euo pipefail\n{code}'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_no_block_of_the_docs_is_left_out() -> None:
    """What is not run here is an installation, or compiled by test_embed.py, or output."""
    for page in DOCS.rglob("*.md"):
        for block in blocks(page):
            known = is_run(block) or block.language == "text" or block.code.startswith("pip install ")
            assert known or page.name == "embedding.md", f"{path_of(page)}:\n{block.code}"


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_page_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_importing_brings_only_numpy() -> None:
    """The other dependencies wait for their first use: importing adds tens of milliseconds, not hundreds."""
    program = "import numpy, sys; before = set(sys.modules); import pushforward; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    packages = {name.split(".")[0] for name in run.stdout.split()}
    assert not packages & {"tqdm", "safetensors", "matplotlib", "scipy", "pandas", "sklearn", "pyarrow"}
