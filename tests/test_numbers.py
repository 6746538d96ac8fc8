"""The functions that kernels are made of, at every instruction set that this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import compiler, core_programs, run
from pushforward._dispatch import _runnable


@pytest.mark.parametrize("level", _runnable())
def test_numbers(tmp_path: Path, level: str) -> None:
    options = {} if level == "base" else {"PUSHFORWARD_LEVEL": level}
    run(core_programs(tmp_path, "numbers_test", compiler=compiler(), **options) / "numbers_test")
