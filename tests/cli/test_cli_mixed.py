"""Tables with categories and gaps on the command line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pushforward import Adam, TableFlow
from pushforward._tables import text
from pushforward.cli import main

HEADER = ["size", "kind", "count", "flag", "day"]


def rows(n: int = 200) -> list[list[str]]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        kind = str(rng.choice(["a, b", 'say "so"', "two\nlines"]))
        size = "" if i % 7 == 3 else f"{rng.normal():.4f}"
        found.append([size, kind, str(rng.integers(100, 400)), str(rng.uniform() < 0.5), f"2020-01-{1 + i % 28:02}"])
    return found


def write(path: Path, separator: str = ",") -> Path:
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=separator)
    writer.writerow(HEADER)
    writer.writerows(rows())
    data = content.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "separator"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t"), ("t.csv", "|"), ("t.csv.gz", ",")]
)
def test_a_table_is_fitted_as_it_is(
    name: str, separator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, model, out = str(write(tmp_path / name, separator)), str(tmp_path / "model"), str(tmp_path / "out.csv")
    assert main(["fit", table, "-o", model, "--epochs", "2", "--seed", "0"]) == 0
    said = capsys.readouterr().err
    assert "pushforward: size: Real()" in said
    assert "with gaps" in said
    assert f"fitted 5 columns; saved to {model}" in said
    assert main(["info", model]) == 0
    assert "  flag: Boolean()\n" in capsys.readouterr().out
    assert main(["sample", model, "-n", "50", "--seed", "1", "-o", out]) == 0
    with open(out, newline="") as file:
        header, *drawn = csv.reader(file)
    assert header == HEADER
    assert len(drawn) == 50
    assert {row[1] for row in drawn} <= {"a, b", 'say "so"', "two\nlines"}
    assert all(row[2].isdecimal() and row[3] in ("True", "False") and row[4].startswith("2020-01-") for row in drawn)
    assert any(row[0] == "" for row in drawn)
    # What was written is read again, and has a density.
    scores = str(tmp_path / "scores.csv")
    assert main(["score", model, out, "-o", scores]) == 0
    found = np.loadtxt(scores, skiprows=1)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, TableFlow.load(model).log_prob(text.read(out)))


def test_a_table_of_parquet(tmp_path: Path) -> None:
    table, model, out = (str(tmp_path / name) for name in ("t.parquet", "model", "out.parquet"))
    pq.write_table(pa.table({"x": np.random.default_rng(0).normal(size=100), "kind": ["a", None] * 50}), table)
    assert main(["fit", table, "-o", model, "--epochs", "2", "--seed", "0"]) == 0
    assert main(["sample", model, "-n", "20", "--seed", "0", "-o", out]) == 0
    drawn = pq.read_table(out)
    assert drawn.column_names == ["x", "kind"]
    assert set(drawn.column("kind").to_pylist()) <= {"a", None}


def test_spellings_of_gaps(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,word\n1.5,a\nNA,N/A\nnan,null\n,b\n#N/A,None\n")
    table = text.read(str(path))
    np.testing.assert_array_equal(np.isnan(table["x"]), [False, True, True, True, True])
    assert table["word"].tolist() == ["a", None, None, "b", None]


def test_a_comma_may_be_a_point_where_semicolons_separate(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x;word\n1,5;a\n-2,25;b\n")
    assert text.read(str(path))["x"].tolist() == [1.5, -2.25]


def test_numbers_with_gaps_are_fitted_when_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "t.csv", str(tmp_path / "model")
    lines = [f"{i % 3},{'' if i % 5 else i}" for i in range(100)]
    path.write_text("\n".join(["a,b", *lines, ""]))
    assert main(["fit", str(path), "-o", model]) == 2
    assert "missing value" in capsys.readouterr().err
    assert main(["fit", str(path), "-o", model, "--mixed", "--epochs", "2"]) == 0
    assert TableFlow.load(model).schema["b"].gaps


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_options_of_a_fit_and_rows_that_belong_together(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[object, dict[str, object]]]()
    fit = TableFlow.fit

    def record(flow: TableFlow, table: object, **options: object) -> TableFlow:
        seen.append((table, options))
        return fit(flow, table, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TableFlow, "fit", record)
    table = {"x": np.random.default_rng(0).normal(size=60), "kind": ["a", "b"] * 30, "who": ["c", "d", "e"] * 20}
    path, model = str(tmp_path / f"t.{suffix}"), str(tmp_path / "model")
    text.write(path, {name: np.asarray(values) for name, values in table.items()})
    words = ["--groups", "who", "--learning-rate", "0.01", "--schedule", "constant", "--epochs", "1", "--seed", "0"]
    assert main(["fit", path, "-o", model, *words]) == 0
    _, options = seen[-1]
    assert list(options["groups"]) == table["who"]  # type: ignore[call-overload]
    assert options["schedule"] == "constant"
    assert repr(options["optimizer"]) == repr(Adam(0.01))
    assert TableFlow.load(model).columns == ("x", "kind")
    assert main(["fit", path, "-o", model, "--epochs", "1", "--validation", path]) == 0
    assert main(["fit", path, "-o", model, "--mixed", "--groups", "whom"]) == 2


def test_labels_of_text_do_not_make_a_table_mixed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,who\n" + "".join(f"{i % 7}.5,{'abc'[i % 3]}\n" for i in range(60)))
    assert text.has_text(str(path))
    assert not text.has_text(str(path), "who")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x,kind\n1,a\n2\n", "line 3 has 1 cells; the first line has 2"),
        ('x,kind\n1,a\n2,"b\n', "is not CSV"),
        ("x,kind\n" + "1,a\n" * 20 + "1o,b\n", "line 22, column 'x': '1o' is not a number"),
        ("kind,kind\na,b\n", "2 columns are named 'kind'"),
        ("x,kind\n,a\n,b\n", "column 'x' has no value in any row"),
        ("kind\n", "no rows"),
    ],
)
def test_errors_say_where(content: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["fit", str(path), "-o", str(tmp_path / "model"), "--mixed"]) == 2
    said = capsys.readouterr().err
    assert "bad.csv: " in said
    assert reason in said


def test_options_of_flows_do_not_go_with_mixed_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write(tmp_path / "t.csv"))
    assert main(["fit", table, "-o", str(tmp_path / "model"), "--mixed", "--preset", "maf"]) == 2
    assert "--preset is for tables of numbers, and does not go with --mixed" in capsys.readouterr().err
    model = str(tmp_path / "model")
    assert main(["fit", table, "-o", model, "--epochs", "1", "--seed", "0"]) == 0
    capsys.readouterr()
    assert main(["sample", model, "-n", "5", "--context", "1"]) == 2
    assert "not conditional" in capsys.readouterr().err
    assert main(["check", model, table, "--drop-missing"]) == 2
    assert "leave --weights and --drop-missing out" in capsys.readouterr().err
    picture = str(tmp_path / "plot.png")
    assert main(["plot", "density", model, "-o", picture]) == 2
    assert "plot density is for models of numbers" in capsys.readouterr().err
    assert main(["plot", "corner", model, table, "--bins", "5", "-o", picture]) == 2
    assert "leave --bins out" in capsys.readouterr().err


def test_a_model_is_checked_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, model = str(write(tmp_path / "t.csv")), str(tmp_path / "model")
    assert main(["fit", table, "-o", model, "--epochs", "2", "--seed", "0"]) == 0
    capsys.readouterr()
    assert main(["check", model, table, "--seed", "0"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("rows            200, 5 columns\n")
    assert "\nnext  " in said
    for i, words in enumerate(
        (["corner", model, table], ["corner", model, "--columns", "size,kind"], ["history", model])
    ):
        picture = tmp_path / f"{i}.png"
        assert main(["plot", *words, "-o", str(picture)]) == 0
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_gaps_are_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, model, out = str(write(tmp_path / "t.csv")), str(tmp_path / "model"), str(tmp_path / "out.csv")
    assert main(["fit", table, "-o", model, "--epochs", "2", "--seed", "0"]) == 0
    assert main(["impute", model, table, "-o", out, "--seed", "1"]) == 0
    with open(out, newline="") as file:
        header, *filled = csv.reader(file)
    assert header == HEADER
    for before, after in zip(rows(), filled, strict=True):
        assert after[1] == before[1]
        assert after[0]
        assert not before[0] or float(after[0]) == pytest.approx(float(before[0]))
    assert main(["impute", model, table, "-o", out, "--method", "median"]) == 2
    assert "argument --method" in capsys.readouterr().err


def test_gaps_of_numbers_are_filled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(200, 3))
    np.savetxt(tmp_path / "t.csv", x, delimiter=",", header="a,b,c", comments="")
    x[::3, 1] = np.nan
    np.savetxt(tmp_path / "gaps.csv", x, delimiter=",", header="a,b,c", comments="")
    model, out = str(tmp_path / "model"), str(tmp_path / "out.csv")
    assert main(["fit", str(tmp_path / "t.csv"), "-o", model, "--epochs", "2", "--seed", "0"]) == 0
    assert main(["impute", model, str(tmp_path / "gaps.csv"), "-o", out, "--method", "mean"]) == 0
    filled = np.loadtxt(out, delimiter=",", skiprows=1)
    assert Path(out).read_text().startswith("a,b,c\n")
    np.testing.assert_allclose(filled[~np.isnan(x)], x[~np.isnan(x)], rtol=1e-6)
    assert np.abs(filled[::3, 1] - x[::3, 0]).mean() < 0.4
