"""Every example runs: in docstrings, in the README, in docs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pushforward
import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    name for _, name, _ in pkgutil.iter_modules(pushforward.__path__) if not name.startswith(("_core", "__main"))
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "sklearn":
        pytest.importorskip("sklearn")
    module = importlib.import_module(f"pushforward.{name}")
    public = {name: getattr(pushforward, name) for name in pushforward.__all__}
    result = doctest.testmod(module, extraglobs=public, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", pushforward.__all__)
def test_what_is_public_is_documented_with_an_example(name: str) -> None:
    thing = getattr(pushforward, name)
    text = inspect.getdoc(thing)
    assert text
    if not (isinstance(thing, type) and issubclass(thing, Exception)) and name != "Epoch":
        assert ">>>" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The python blocks of a page, one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_importing_brings_only_numpy() -> None:
    """The other dependencies wait for their first use: importing adds tens of milliseconds, not hundreds."""
    program = "import numpy, sys; before = set(sys.modules); import pushforward; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    packages = {name.split(".")[0] for name in run.stdout.split()}
    assert not packages & {"tqdm", "safetensors", "matplotlib", "scipy", "pandas", "sklearn"}
