"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import NAMES, QUICK, csv_text, values
from pushforward import cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a table as .csv and .npy."""
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(csv_text(NAMES, values()))
    np.save("table.npy", values())
    return tmp_path


@pytest.fixture
def models(folder: Path) -> Path:
    """The folder, with a model of all columns, one that is conditional on two, and one of a .npy table."""
    assert cli.main(["fit", "table.csv", "-o", "model", *QUICK]) == 0
    assert cli.main(["fit", "table.csv", "-o", "conditional", "--context", "angle,speed", *QUICK]) == 0
    assert cli.main(["fit", "table.npy", "-o", "numbered", "--columns", "2,0", *QUICK]) == 0
    return folder


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns its status, standard output and standard error."""

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(word) for word in argv])
        return status, *capsys.readouterr()

    return run
