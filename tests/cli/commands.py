"""What the tests of the command line share: tables, and how to run a command."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

NAMES = ["speed", "mass", "angle"]
QUICK = ["--epochs", "2", "--depth", "2", "--hidden", "8", "--seed", "0"]
HEADER = "speed,mass,angle\n"
PNG = b"\x89PNG"


def values(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3)) + [1.0, 2.0, 3.0]


def csv_text(columns: list[str], table: np.ndarray) -> str:
    return ",".join(columns) + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in table.tolist())


def read_csv(text: str) -> tuple[list[str], np.ndarray]:
    header, *rows = text.splitlines()
    return header.split(","), np.array([[float(cell) for cell in row.split(",")] for row in rows])


Say = Callable[..., tuple[int, str, str]]


def process(*argv: str) -> list[str]:
    return [sys.executable, "-m", "pushforward", *argv]


def refused(outcome: tuple[int, str, str], message: str) -> None:
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.startswith(f"pushforward: error: {message}"), err
    assert err.count("\n") == 1
