"""The site of docs/: it builds without a warning, and its pages take nothing from the network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pushforward
import pytest
from pages import ROOT

NEEDED = ("mkdocs", "material", "mkdocstrings_handlers.python", "math_core")


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


missing = [module for module in NEEDED if not is_installed(module)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f'no {", ".join(missing)}: pip install ".[docs]"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # Without it Material announces its successor on every run.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    # Not --quiet: it would hide the warnings, which --strict would then not count.
    assert done.returncode == 0, done.stderr
    assert not re.search("^(WARNING|ERROR)", done.stderr, re.M), done.stderr
    return folder


class Resources(HTMLParser):
    """The addresses that a browser fetches to show a page; links to follow are none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        wanted = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src", "object": "data"}
        self.found += [value for name, value in attributes if name == wanted.get(tag) and value]


def resources(page: Path) -> list[str]:
    parser = Resources()
    parser.feed(page.read_text())
    return parser.found


def test_pages_bring_all_that_they_need(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > 15
    for page in pages:
        found = resources(page)
        assert len(found) > 3
        for address in found:
            assert not re.match(r"(\w+:)?//", address), f"{page.relative_to(site)}: {address}"
            assert (page.parent / address.partition("?")[0]).exists(), f"{page.relative_to(site)}: {address}"


def test_styles_bring_all_that_they_need(site: Path) -> None:
    for style in site.rglob("*.css"):
        text = style.read_text()
        assert "@import" not in text
        for address in re.findall(r"url\(\s*[\"']?([^\"')]+)", text):
            assert address.startswith("data:") or (style.parent / address).exists(), f"{style.name}: {address}"


def test_formulas_are_set(site: Path) -> None:
    derivations = (site / "derivations" / "index.html").read_text()
    assert derivations.count("<math") > 300
    for page in site.rglob("*.html"):
        assert 'class="arithmatex"' not in page.read_text(), page


def test_all_that_is_public_is_in_the_reference(site: Path) -> None:
    ids = {id for page in (site / "reference").rglob("*.html") for id in re.findall(r'id="([\w.]+)"', page.read_text())}
    assert {f"pushforward.{name}" for name in pushforward.__all__} <= ids
    assert {"pushforward.sklearn.FlowDensity", "pushforward.kde.FlowKDE", "pushforward.convert.from_zuko"} <= ids
    for kind in (pushforward.Flow, pushforward.Ensemble, pushforward.TableFlow):
        methods = [name for name in dir(kind) if not name.startswith("_")]
        assert {f"pushforward.{kind.__name__}.{name}" for name in methods} <= ids
