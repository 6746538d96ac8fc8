"""The code blocks of the README and of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(r"^(?:<!-- needs (?P<needs>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```", re.M | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    needs: tuple[str, ...] = ()
    """Libraries without which it is not run, as a comment above it tells: ``<!-- needs zuko -->``."""


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = _BLOCK.finditer(page.read_text())
    return [Block(block["language"], block["code"], tuple((block["needs"] or "").split())) for block in found]


def path_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))
