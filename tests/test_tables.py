"""Tables as people bring them: missing values, numbers for names, row numbers, text, and rows kept for a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import LU, Flow, cli
from pushforward._io import tables

pd = pytest.importorskip("pandas")

NAMES = ["speed", "mass", "angle"]
X = np.random.default_rng(0).normal(size=(60, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
FRAME = pd.DataFrame(X, columns=NAMES)
QUICK = ["--epochs", "1", "--depth", "1", "--hidden", "4", "--seed", "0", "--no-progress"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a folder with `model`, a Gaussian of the table; returns its status and what it wrote."""
    monkeypatch.chdir(tmp_path)
    Flow(3, layers=[LU()], columns=NAMES, seed=0).initialize(X).save("model")

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main([str(word) for word in words]), *capsys.readouterr()

    return run


def scores(out: str) -> np.ndarray:
    return np.array([float(line) for line in out.splitlines()[1:]])


# -- missing values ----------------------------------------------------------------------------------------------


def with_gap_as(sign: str) -> Callable[[], str]:
    """Write the table with a sign of a missing value in row 4, column mass."""

    def write() -> str:
        FRAME.astype(object).where(np.arange(180).reshape(60, 3) != 13, sign).to_csv("gap.csv", index=False)
        return "gap.csv"

    return write


def with_gap() -> Any:
    return FRAME.where(np.arange(180).reshape(60, 3) != 13)


def parquet() -> str:
    pytest.importorskip("pyarrow")
    frame = with_gap()
    frame["mass"] = frame["mass"].astype("Float64")
    frame.to_parquet("gap.parquet")
    return "gap.parquet"


def npy() -> str:
    np.save("gap.npy", with_gap().to_numpy())
    return "gap.npy"


SIGNS = ["", "NA", "nan", "NaN", "N/A", "<NA>", "null", "NULL", "None", "#N/A"]
GAPS = {sign or "empty": with_gap_as(sign) for sign in SIGNS} | {"parquet": parquet, "npy": npy}


@pytest.mark.parametrize("write", GAPS.values(), ids=GAPS)
def test_every_sign_of_a_missing_value_is_treated_alike(run: Run, write: Callable[[], str]) -> None:
    path = write()
    rest = np.delete(np.arange(60), 4)
    status, out, _ = run("score", "model", path)
    expected = Flow.load("model").log_prob(X)
    assert status == 0
    assert np.isnan(scores(out)[4])
    np.testing.assert_array_equal(scores(out)[rest], expected[rest])

    place = {"gap.csv": "line 6, column 'mass'", "gap.parquet": "row 5, column 'mass'", "gap.npy": "row 4, column 'x1'"}
    message = f"pushforward: error: {path}: 1 row with a missing value, first in {place[path]}; --drop-missing leaves"
    for words in (
        ("check", "model", path),
        ("fit", path, "-o", "other"),
        ("plot", "corner", "model", path, "-o", "c.png"),
    ):
        status, out, err = run(*words)
        assert (status, out) == (2, "")
        assert err.startswith(message)

    status, _, err = run("fit", path, "-o", "other", "--drop-missing", *QUICK)
    assert status == 0
    assert f"pushforward: {path}: 1 of 60 rows are left out, for a missing value\n" in err
    assert "pushforward: fitted 59 rows" in err
    status, out, _ = run("check", "model", path, "--drop-missing", "--seed", 0)
    assert (status, out) == (0, f"{Flow.load('model').check(X[rest], seed=0)}\n")


def test_only_columns_that_are_used_can_have_gaps(run: Run) -> None:
    path = with_gap_as("NA")()
    assert run("fit", path, "-o", "other", "--columns", "speed,angle", *QUICK)[0] == 0
    status, _, err = run("fit", path, "-o", "other", "--columns", "speed,angle", "--groups", "mass", *QUICK)
    assert status == 2
    assert "1 row with a missing value, first in line 6, column 'mass'" in err
    assert run("fit", path, "-o", "other", "--columns", "speed,angle", "--weights", "mass", "--drop-missing")[0] == 2


def test_infinity_is_no_missing_value(run: Run) -> None:
    frame = FRAME.copy()
    frame.loc[[3, 9], "mass"] = np.nan, np.inf
    frame.to_csv("x.csv", index=False)
    status, _, err = run("fit", "x.csv", "-o", "other", "--drop-missing", *QUICK)
    assert (status, err) == (2, "pushforward: error: x.csv: 1 row with infinity, first in line 11, column 'mass'\n")


def test_rows_between_two_batches_of_lines_are_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_gap_as("NA")()
    whole = run("score", "model", path)
    for lines in (1, 5, 59):
        monkeypatch.setattr(tables, "_BATCH_LINES", lines)
        assert run("score", "model", path) == whole


# -- names that are numbers --------------------------------------------------------------------------------------


def test_a_model_whose_columns_are_numbers_scores_its_own_samples(run: Run) -> None:
    for names in (["0", "1", "2"], ["2019", "2021", "2024"], ["7", "3", "5"]):
        flow = Flow(3, layers=[LU()], columns=names).initialize(X)
        flow.save("numbers")
        status, out, _ = run("sample", "numbers", "-n", 5, "--seed", 1)
        Path("samples.csv").write_text(out)
        assert (status, out.splitlines()[0]) == (0, ",".join(names))
        status, out, _ = run("score", "numbers", "samples.csv")
        assert status == 0
        np.testing.assert_array_equal(scores(out), flow.log_prob(flow.sample(5, seed=1)))


@pytest.mark.parametrize("names", [["0", "1", "2"], ["2019", "2021", "2024"]])
def test_numbers_that_pandas_writes_for_names_are_names(run: Run, names: list[str]) -> None:
    FRAME.set_axis(names, axis=1).to_csv("x.csv", index=False)
    assert run("fit", "x.csv", "-o", "other", *QUICK)[0] == 0
    assert Flow.load("other").columns == tuple(names)


HEADLESS = [
    "1.5,2.5\n3.5,4.5\n",
    "5,3\n1.5,2\n",
    "3,5\n1,2\n",
    "0,1\n2,0\n",
    "5,5\n1.5,2\n",
    "3,5\n-1,2\n",
    "3,5\nNA,2\n",
    "3,5\nx,2\n",
    "-1,2\n1.5,2\n",
    "7\n1.5\n",
]


@pytest.mark.parametrize("text", HEADLESS)
def test_a_table_without_names_is_not_robbed_of_its_first_row(run: Run, text: str) -> None:
    Path("x.csv").write_text(text)
    status, _, err = run("fit", "x.csv", "-o", "other", *QUICK)
    assert status == 2
    assert err.startswith("pushforward: error: x.csv: the first line must name the columns, and it holds numbers; ")
    status, _, err = run("score", "model", "x.csv")
    assert status == 2
    assert "the first line must name the columns" in err


def test_numbers_are_names_where_they_are_named(run: Run) -> None:
    FRAME.round().astype(int).set_axis(["2019", "2020", "1"], axis=1).to_csv("x.csv", index=False)
    assert run("fit", "x.csv", "-o", "other", *QUICK)[0] == 2
    assert run("fit", "x.csv", "-o", "other", "--columns", "2020,1", *QUICK)[0] == 0
    assert Flow.load("other").columns == ("2020", "1")


# -- row numbers -------------------------------------------------------------------------------------------------


def to_csv() -> str:
    FRAME.to_csv("x.csv")
    return "x.csv"


def twice() -> str:
    pd.read_csv(to_csv()).to_csv("x.csv", index=False)
    return "x.csv"


def write_csv_of_r() -> str:
    lines = FRAME.to_csv(index=False).splitlines()
    quoted = ",".join(f'"{name}"' for name in NAMES)
    Path("x.csv").write_text(f'"",{quoted}\n' + "".join(f'"{i}",{line}\n' for i, line in enumerate(lines[1:], 1)))
    return "x.csv"


def to_parquet() -> str:
    pytest.importorskip("pyarrow")
    FRAME.set_axis(np.arange(60)[::-1]).to_parquet("x.parquet")
    return "x.parquet"


def named_index() -> str:
    pytest.importorskip("pyarrow")
    FRAME.assign(id=np.random.default_rng(0).permutation(60)).set_index("id").to_parquet("x.parquet")
    return "x.parquet"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("write", [to_csv, twice, write_csv_of_r, to_parquet, named_index])
def test_row_numbers_are_not_modelled(run: Run, write: Callable[[], str]) -> None:
    path = write()
    status, _, err = run("fit", path, "-o", "other", *QUICK)
    assert status == 0
    assert err.startswith(f"pushforward: warning: {path}: the column ")
    assert " is left out, as row numbers or row names\n" in err
    assert Flow.load("other").columns == tuple(NAMES)
    flow = Flow.load("model")
    flow.columns = None
    flow.save("nameless")  # columns are then found by their places
    assert run("score", "nameless", path) == run("score", "model", path)
    assert run("score", "model", path)[0] == 0


def test_row_numbers_can_be_chosen(run: Run) -> None:
    status, _, err = run("fit", twice(), "-o", "other", "--columns", "Unnamed: 0,mass", *QUICK)
    assert (status, "is left out" in err) == (0, False)
    assert Flow.load("other").columns == ("Unnamed: 0", "mass")


# -- text --------------------------------------------------------------------------------------------------------


@pytest.fixture
def text(run: Run) -> Run:
    """The same, with a table that has columns of text."""
    house = np.repeat([f"h{i:02}" for i in range(20)], 3)
    FRAME.assign(city=["Paris", "Rome"] * 30, day="Monday", house=house)[
        ["city", "speed", "mass", "day", "angle", "house"]
    ].to_csv("x.csv", index=False)
    return run


def test_all_columns_of_text_are_named_with_the_remedy(text: Run) -> None:
    said = text("fit", "x.csv", "-o", "other", "--depth", "1")[2]  # which only a flow has
    assert said == (
        "pushforward: error: x.csv: line 2, column 'city': 'Paris'; line 2, column 'day': 'Monday'; line 2, column "
        "'house': 'h00' are not numbers; choose columns of numbers: --columns speed,mass,angle\n"
    )
    assert text("fit", "x.csv", "-o", "other", "--columns", "speed,mass,angle", *QUICK)[0] == 0
    said = text("fit", "x.csv", "-o", "other", "--columns", "speed", "--context", "city,day")[2]
    assert (
        "'Paris'; line 2, column 'day': 'Monday' are not numbers; give --context, for each category, one column" in said
    )
    said = text("fit", "x.csv", "-o", "other", "--columns", "speed", "--weights", "day")[2]
    assert said.endswith("'Monday' is not a number; --weights needs a column of numbers\n")


# -- groups, and rows kept for a test ----------------------------------------------------------------------------


def test_groups_by_a_column_of_text(text: Run) -> None:
    words = ["--columns", "speed,mass,angle", "--epochs", 2, "--depth", 1, "--hidden", 4, "--seed", 3]
    assert text("fit", "x.csv", "-o", "other", "--groups", "house", *words)[0] == 0
    houses = np.repeat([f"h{i:02}" for i in range(20)], 3)
    from pushforward import neural_spline

    layers = neural_spline(3, depth=1, hidden=4)
    flow = Flow(3, layers=layers, seed=3).fit(X, groups=houses, epochs=2, seed=3)
    np.testing.assert_array_equal(Flow.load("other").parameters, flow.parameters)


@pytest.mark.parametrize("held", ["held.csv", "held.npy", "held.parquet"])
def test_rows_held_out_of_a_fit_are_written_for_check(text: Run, held: str) -> None:
    pytest.importorskip("pyarrow")
    words = ["--columns", "angle,mass", "--context", "speed", "--groups", "house", "--held-out", held, *QUICK]
    status, _, err = text("fit", "x.csv", "-o", "other", "--held-out-fraction", "0.3", *words)
    assert status == 0
    assert "pushforward: fitted 42 rows of 2 columns: " in err
    assert err.endswith(f"; saved to other; 18 rows held out in {held}\n")
    with tables.open_table(held) as table:
        [rows] = tables.read(table, [table.columns]).parts
    assert table.columns == (("angle", "mass", "speed") if held != "held.npy" else ("x0", "x1", "x2"))
    index = [int(np.flatnonzero((X[:, [2, 1, 0]] == row).all(axis=1))[0]) for row in rows]
    assert len(index) == 3 * len({i // 3 for i in index})  # whole houses
    # They took no part in the fit, which is that of the other rows alone.
    rest = np.setdiff1d(np.arange(60), index)
    FRAME.assign(house=np.repeat(np.arange(20), 3)).iloc[rest].to_csv("rest.csv", index=False)
    words = ["--columns", "angle,mass", "--context", "speed", "--groups", "house", *QUICK]
    assert text("fit", "rest.csv", "-o", "again", *words)[0] == 0
    np.testing.assert_array_equal(Flow.load("again").parameters, Flow.load("other").parameters)
    assert text("check", "other", held, "--seed", 0)[0] == 0


@pytest.mark.filterwarnings("default")
def test_few_rows_are_warned_of(run: Run) -> None:
    FRAME[:5].to_csv("x.csv", index=False)
    status, _, err = run("fit", "x.csv", "-o", "other", *QUICK)
    assert status == 0
    assert err.startswith("pushforward: warning: 5 rows are few for 3 features: a flow with ")
    with pytest.warns(RuntimeWarning, match="5 rows are few for 1 feature: ") as warned:
        Flow(1, seed=0).fit(X[:5, :1], epochs=1)
    assert warned[0].filename == __file__
    Flow(3, layers=[]).fit(X[:5], epochs=1)  # a Gaussian may be fitted to them


# -- streams -----------------------------------------------------------------------------------------------------


def process(*words: object) -> list[str]:
    return [sys.executable, "-m", "pushforward", *map(str, words)]


def test_output_in_an_ascii_locale(run: Run) -> None:
    names = ["größe", "μ", "x"]
    flow = Flow(3, layers=[LU()], columns=names).initialize(X)
    flow.save("model")
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(process("info", "model"), capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\nfeatures    3 columns: gr\\xf6\\xdfe, \\u03bc, x\n" in done.stdout
    done = subprocess.run(process("sample", "model", "-n", "2"), capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("utf-8").splitlines()[0] == "größe,μ,x"
    again = subprocess.run(process("score", "model", "-"), input=done.stdout, capture_output=True, env=env)
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout.count(b"\n") == 3


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes streams")
def test_closed_streams(run: Run) -> None:
    FRAME.to_csv("x.csv", index=False)

    def shell(words: str, redirection: str) -> tuple[int, str]:
        line = f"exec {sys.executable} -m pushforward {words} {redirection}"
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr

    closed = (2, "pushforward: error: standard output: closed\n")
    for words in ("info model", "sample model -n 5", "score model x.csv"):
        assert shell(words, ">&-") == closed
    assert shell("score model x.csv -o scores.csv", ">&-") == (0, "")
    assert shell("score model -", "<&-") == (
        2,
        "pushforward: error: standard input is closed; give the name of a table\n",
    )
    assert shell("score model missing.csv", "2>&-") == (2, "")
    if Path("/dev/full").exists():
        assert shell("info model", "> /dev/full") == (2, "pushforward: error: No space left on device\n")


def interrupting_import(folder: Path) -> dict[str, str]:
    """Make a package that the import needs press Ctrl-C."""
    (folder / "numpy.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupting_the_import_of_a_command_prints_one_line(tmp_path: Path) -> None:
    env = interrupting_import(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
    try:
        done = subprocess.run(process("--version"), capture_output=True, env=env)
        script = subprocess.run([sys.executable, "-c", "import pushforward"], capture_output=True, env=env)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"pushforward: interrupted\n")
    assert b"KeyboardInterrupt" in script.stderr  # a program's own import is its own business
