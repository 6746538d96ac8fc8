"""The command line: tables that it reads and writes, as CSV and Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import NAMES, QUICK, Say, csv_text, read_csv, refused, values
from pushforward import Flow, cli

# -- CSV ---------------------------------------------------------------------------------------------------------


def test_quotes_blank_lines_text_and_line_ends(models: Path, say: Say) -> None:
    rows = "".join(f'"a, b",{angle!r},"{speed!r}",{mass!r}\r\n\r\n' for speed, mass, angle in values(5).tolist())
    Path("odd.CSV").write_bytes(('\ufefftext,"angle", speed ,"mass"\r\n\r\n' + rows).encode())
    status, out, _ = say("score", "model", "odd.CSV")
    assert status == 0
    np.testing.assert_array_equal(read_csv(out)[1][:, 0], Flow.load("model").log_prob(values(5)))


def test_names_with_commas(folder: Path, say: Say) -> None:
    Path("table.csv").write_text(csv_text(['"mass, kg"', "speed", '"an ""angle"""'], values()))
    assert say("fit", "table.csv", "-o", "model", "--columns", '"mass, kg",speed', *QUICK)[0] == 0
    assert Flow.load("model").columns == ("mass, kg", "speed")
    assert say("sample", "model", "-n", 0)[1] == '"mass, kg",speed\n'


# -- parquet -----------------------------------------------------------------------------------------------------


def parquet(path: str, **columns: Any) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)


def test_parquet_in_and_out(models: Path, say: Say) -> None:
    pytest.importorskip("pyarrow")
    speed, mass, angle = values().T
    parquet("table.parquet", angle=angle, text=["a"] * 300, mass=mass, speed=speed)
    words = ["--columns", "speed,mass,angle", *QUICK]
    assert say("fit", "table.parquet", "-o", "other", *words)[0] == 0
    np.testing.assert_array_equal(Flow.load("other").parameters, Flow.load("model").parameters)
    assert say("score", "model", "table.parquet") == say("score", "model", "table.csv")
    assert say("score", "model", "table.csv", "-o", "scores.parquet") == (0, "", "")
    assert say("sample", "model", "-n", 30, "--seed", 1, "-o", "samples.parquet") == (0, "", "")
    import pandas

    np.testing.assert_array_equal(
        pandas.read_parquet("scores.parquet")["log_prob"], Flow.load("model").log_prob(values())
    )
    samples = pandas.read_parquet("samples.parquet")
    assert list(samples.columns) == NAMES
    np.testing.assert_array_equal(samples, Flow.load("model").sample(30, seed=1))


def test_parquet_is_written_block_by_block(models: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(cli.sample, "_BLOCK_ROWS", 7)
    assert say("sample", "model", "-n", 20, "--seed", 1, "-o", "samples.parquet")[0] == 0
    np.testing.assert_array_equal(pandas.read_parquet("samples.parquet"), Flow.load("model").sample(20, seed=1))
    assert say("sample", "model", "-n", 0, "-o", "samples.parquet")[0] == 0
    assert pandas.read_parquet("samples.parquet").shape == (0, 3)


def test_kinds_of_parquet_columns(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from decimal import Decimal

    from pushforward._io import tables

    parquet(
        "kinds.parquet",
        single=pyarrow.array([0.1, 0.2, None], pyarrow.float32()),
        whole=pyarrow.array([1, None, (1 << 60) + 1]),
        truth=[True, False, None],
        money=[Decimal("1.25"), Decimal("2.50"), None],
    )
    with tables.open_table("kinds.parquet") as table:
        single, rest = tables.read(table, [["single"], ["truth", "whole", "money"]], "keep").parts
        assert single.dtype == rest.dtype == np.float64
        [single] = tables.read(table, [["single"]], "keep").parts
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single[:, 0], np.array([0.1, 0.2, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(rest, [[1, 1, 1.25], [0, np.nan, 2.5], [np.nan, 2.0**60, np.nan]])


def test_bad_parquet(models: Path, say: Say) -> None:
    pytest.importorskip("pyarrow")
    import datetime

    speed, mass, angle = values().T
    parquet("table.parquet", speed=speed, mass=mass, angle=angle)
    Path("cut.parquet").write_bytes(Path("table.parquet").read_bytes()[:-50])
    whole = Path("table.parquet").read_bytes()
    Path("flipped.parquet").write_bytes(whole[:4] + bytes(100) + whole[104:])
    parquet("text.parquet", speed=["a", "b"], mass=[1.0, 2.0], angle=[datetime.datetime(2000, 1, 1)] * 2)
    mass[[4, 7]] = np.nan, np.inf
    parquet("nan.parquet", speed=speed, mass=mass, angle=[None, *angle[1:]])
    for words, message in (
        ("missing.parquet", "missing.parquet: No such file or directory"),
        ("cut.parquet", "cut.parquet: not a .parquet file, or a damaged one"),
        ("flipped.parquet", "flipped.parquet: not a .parquet file, or a damaged one"),
        (
            "text.parquet",
            "text.parquet: column 'speed' holds string, column 'angle' holds timestamp[us]; numbers are expected; "
            "choose columns of numbers: --columns mass",
        ),
        ("text.parquet --columns angle", "text.parquet: column 'angle' holds timestamp[us]; numbers are expected"),
        ("table.parquet --columns mas", "table.parquet: no column 'mas'; did you mean 'mass'?"),
        (
            "nan.parquet --columns mass",
            "nan.parquet: 1 row with a missing value, first in row 5, column 'mass'; --drop",
        ),
        (
            "nan.parquet --columns mass --drop-missing",
            "nan.parquet: 1 row with infinity, first in row 8, column 'mass'",
        ),
        (
            "nan.parquet --columns angle",
            "nan.parquet: 1 row with a missing value, first in row 1, column 'angle'; --dr",
        ),
    ):
        refused(say("fit", *words.split(), "-o", "other", *QUICK), message)
    assert say("score", "model", "nan.parquet")[1].splitlines()[1] == "nan"
    assert not Path("other").exists()


def test_parquet_without_pyarrow(models: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = '.parquet needs pyarrow: pip install "pushforward[parquet]"'
    refused(say("fit", "table.parquet", "-o", "other"), f"table.parquet: {message}")
    refused(say("score", "model", "table.csv", "-o", "scores.parquet"), f"scores.parquet: {message}")
