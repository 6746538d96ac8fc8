"""The folders of the C++ core are floors: a header includes its own floor and lower ones, never in a circle."""

from __future__ import annotations

import re
from pathlib import Path

CORE = Path(__file__).parents[1] / "include" / "pushforward"
FLOORS = (
    "tile",
    "description",
    "threads",
    "network",
    "transform",
    "base",
    "layer",
    "data",
    "engine",
    "masses",
    "model",
    "tables",
)

_INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"(?:pushforward/)?|<pushforward/)([^">]+)[">]', re.M)


def includes() -> dict[str, list[str]]:
    """Return what each header of the core includes, by paths in the core."""
    return {str(path.relative_to(CORE)): _INCLUDE.findall(path.read_text()) for path in CORE.rglob("*.hpp")}


def floor(header: str) -> int:
    """Return the floor of a header; the public ones in the root are the roof."""
    folder, _, name = header.rpartition("/")
    return FLOORS.index(folder) if name and folder else len(FLOORS)


def test_every_header_is_on_a_floor() -> None:
    assert {header.partition("/")[0] for header in includes() if "/" in header} == set(FLOORS)


def test_arrows_point_down() -> None:
    # The exceptions that the core throws are for every floor.
    upward = [
        f"{header} includes {other}"
        for header, others in includes().items()
        for other in others
        if floor(other) > floor(header) and other != "error.hpp"
    ]
    assert not upward


def test_there_is_no_circle() -> None:
    remaining = includes()
    while remaining:
        free = [header for header, others in remaining.items() if not set(others) & set(remaining)]
        assert free, f"a circle among {sorted(remaining)}"
        for header in free:
            del remaining[header]


def test_exceptions_include_no_floor() -> None:
    assert not includes()["error.hpp"]


def test_included_headers_exist() -> None:
    found = includes()
    assert {other for others in found.values() for other in others} <= set(found)
