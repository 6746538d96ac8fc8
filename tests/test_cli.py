"""The command line: what it writes, and that bad input ends in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pushforward import Flow, TrainingDivergedError, __version__, cli

NAMES = ["speed", "mass", "angle"]
QUICK = ["--epochs", "2", "--depth", "2", "--hidden", "8", "--seed", "0"]
PNG = b"\x89PNG"


def values(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3)) + [1.0, 2.0, 3.0]


def csv_text(columns: list[str], table: np.ndarray) -> str:
    return ",".join(columns) + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in table.tolist())


def read_csv(text: str) -> tuple[list[str], np.ndarray]:
    header, *rows = text.splitlines()
    return header.split(","), np.array([[float(cell) for cell in row.split(",")] for row in rows])


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


Say = Callable[..., tuple[int, str, str]]


def process(*argv: str) -> list[str]:
    return [sys.executable, "-m", "pushforward", *argv]


# -- what it is for ----------------------------------------------------------------------------------------------


def test_from_a_table_to_model_samples_and_scores_in_three_commands(folder: Path) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(process(*argv), capture_output=True, text=True, check=True)

    fit = run("fit", "table.csv", "-o", "model.safetensors", *QUICK)
    assert fit.stdout == ""
    assert fit.stderr.startswith("pushforward: fitted 300 rows of 3 columns: 2 epochs, ")
    assert fit.stderr.endswith("; saved to model.safetensors\n")
    assert fit.stderr.count("\n") == 1
    sample = run("sample", "model.safetensors", "-n", "100", "--seed", "1", "-o", "samples.csv")
    score = run("score", "model.safetensors", "samples.csv", "-o", "scored.csv")
    assert sample.stdout == sample.stderr == score.stdout == score.stderr == ""

    flow = Flow.load("model.safetensors")
    assert flow.columns == tuple(NAMES)
    header, samples = read_csv(Path("samples.csv").read_text())
    assert header == NAMES
    np.testing.assert_array_equal(samples, flow.sample(100, seed=1))
    header, scores = read_csv(Path("scored.csv").read_text())
    assert header == ["log_prob"]
    np.testing.assert_array_equal(scores[:, 0], flow.log_prob(samples))


def test_pipes(models: Path) -> None:
    model = Flow.load("model")
    samples = subprocess.run(process("sample", "model", "-n", "5", "--seed", "1"), capture_output=True, check=True)
    scores = subprocess.run(process("score", "model", "-"), input=samples.stdout, capture_output=True, check=True)
    np.testing.assert_array_equal(read_csv(scores.stdout.decode())[1][:, 0], model.log_prob(model.sample(5, seed=1)))
    table = Path("table.csv").read_bytes()
    subprocess.run(process("fit", "-", "-o", "piped", *QUICK), input=table, check=True)
    np.testing.assert_array_equal(Flow.load("piped").parameters, model.parameters)


@pytest.mark.parametrize("table", ["table.csv", "table.npy"])
def test_fit_without_options_is_that_of_the_package(folder: Path, table: str) -> None:
    assert cli.main(["fit", table, "-o", "model", "--epochs", "2", "--seed", "3"]) == 0
    flow = Flow(3, seed=3).fit(values(), epochs=2, seed=3)
    np.testing.assert_array_equal(Flow.load("model").parameters, flow.parameters)


def test_fit_passes_its_options_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def fit(flow: Flow, x: np.ndarray, **options: object) -> Flow:
        seen.update(options, x=x, flow=flow)
        return flow.initialize(x, options["context"])

    monkeypatch.setattr(Flow, "fit", fit)
    words = """--columns mass --context angle --weights speed --epochs 7 --batch-size 8 --learning-rate 0.5
        --weight-decay 0.25 --schedule constant --max-time 9 --patience none --clip-norm 3 --validation 0.5 --seed 4
        --threads 2 --dtype float64 --preset nice --depth 3 --hidden 5,6 --activation tanh --no-progress
        --checkpoint kept --checkpoint-every 9 --resume from"""
    assert cli.main(["fit", "table.csv", "-o", "model", *words.split()]) == 0
    expected = {
        "epochs": 7, "batch_size": 8, "schedule": "constant", "max_time": 9.0, "patience": None, "clip_norm": 3.0,
        "validation": 0.5, "seed": 4, "progress": False, "checkpoint": "kept", "checkpoint_every": 9, "resume": "from",
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    for name, column in (("x", [1]), ("context", [2]), ("weights", 0)):
        np.testing.assert_array_equal(seen[name], values()[:, column])
    assert (seen["optimizer"].learning_rate, seen["optimizer"].weight_decay) == (0.5, 0.25)
    flow = seen["flow"]
    assert (flow.columns, flow.context_columns, flow.num_threads, flow.dtype) == (("mass",), ("angle",), 2, "float64")
    assert repr(flow).count("Additive(), conditioner=MLP(hidden=(5, 6), activation='tanh')") == 3


def test_a_fit_goes_on_from_its_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "table.csv", "--epochs", "4", "--seed", "3", "--no-progress"]
    assert cli.main([*words, "-o", "whole", "--checkpoint", "kept"]) == 0
    assert cli.main([*words, "-o", "again", "--resume", "kept"]) == 0
    assert Path("whole").read_bytes() == Path("again").read_bytes()
    capsys.readouterr()
    assert cli.main([*words, "-o", "other", "--resume", "kept", "--batch-size", "7"]) == 2
    assert "batch_size was" in capsys.readouterr().err


@pytest.mark.parametrize("held_out", ["held_out.csv", "held_out.npy"])
def test_validation_in_a_table_of_its_own(folder: Path, held_out: str) -> None:
    rows = values(40) + 0.1
    Path("held_out.csv").write_text(csv_text([*NAMES[::-1], "more"], np.c_[rows[:, ::-1], rows[:, 0]]))
    np.save("held_out.npy", rows)
    assert cli.main(["fit", "table.csv", "-o", "model", "--validation", held_out, *QUICK]) == 0
    flow = Flow.load("model")
    assert flow.history is not None
    best = flow.history["validation_loss"].min()
    np.testing.assert_allclose(best, -flow.log_prob(rows).mean(), rtol=1e-12)


def test_validation_of_a_conditional_model(folder: Path) -> None:
    argv = ["fit", "table.csv", "-o", "model", "--context", "angle", "--validation", "table.csv", *QUICK]
    assert cli.main(argv) == 0
    flow = Flow.load("model")
    assert flow.history is not None
    best = flow.history["validation_loss"].min()
    np.testing.assert_allclose(best, -flow.log_prob(values()[:, :2], values()[:, 2:]).mean(), rtol=1e-12)


def test_plot_of_a_fit(folder: Path) -> None:
    assert cli.main(["fit", "table.csv", "-o", "model", "--plot", "loss.png", *QUICK]) == 0
    assert Path("loss.png").read_bytes().startswith(PNG)


def test_a_large_array_stays_in_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Flow, "fit", lambda flow, x, **_: seen.append(x) or flow.initialize(x))
    for columns in ("0,1,2", "0,2", "1"):
        assert cli.main(["fit", "table.npy", "-o", "model", "--columns", columns]) == 0
        assert isinstance(seen[-1], np.memmap)
        np.testing.assert_array_equal(seen[-1], values()[:, [int(c) for c in columns.split(",")]])


# -- score -------------------------------------------------------------------------------------------------------


def test_score_finds_columns_by_name(models: Path, say: Say) -> None:
    Path("other.csv").write_text(csv_text(["more", *NAMES[::-1]], np.c_[values()[:, 0], values()[:, ::-1]]))
    assert (
        say("score", "model", "other.csv") == say("score", "model", "table.csv") == say("score", "model", "table.npy")
    )
    assert say("score", "conditional", "other.csv") == say("score", "conditional", "table.csv")
    _, out, _ = say("score", "conditional", "table.csv")
    expected = Flow.load("conditional").log_prob(values()[:, [1]], values()[:, [2, 0]])
    np.testing.assert_array_equal(read_csv(out)[1][:, 0], expected)


def test_score_of_numbered_columns(models: Path, say: Say) -> None:
    flow = Flow.load("numbered")
    expected = flow.log_prob(values()[:, [2, 0]])
    assert say("score", "numbered", "table.npy", "-o", "scores.npy") == (0, "", "")
    np.testing.assert_array_equal(np.load("scores.npy"), expected)
    flow.columns = None  # without names, the table must have what the model needs, and no more
    flow.save("nameless")
    np.save("chosen.npy", values()[:, [2, 0]])
    assert say("score", "nameless", "chosen.npy", "-o", "scores.npy")[0] == 0
    np.testing.assert_array_equal(np.load("scores.npy"), expected)


def test_score_of_rows_that_are_not_finite(models: Path, say: Say) -> None:
    Path("bad.csv").write_text(csv_text(NAMES, np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])))
    status, out, _ = say("score", "model", "bad.csv")
    assert status == 0
    assert out.splitlines()[:2] == ["log_prob", "nan"]
    assert np.isfinite(float(out.splitlines()[2]))


def test_a_table_without_rows_has_no_scores(models: Path, say: Say) -> None:
    Path("empty.csv").write_text("angle,mass,speed\n")
    assert say("score", "model", "empty.csv") == (0, "log_prob\n", "")


# -- sample ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_samples_do_not_depend_on_blocks(models: Path, say: Say, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(cli, "_BLOCK_ROWS", block)
    assert say("sample", "model", "-n", 20, "--seed", 1, "-o", "samples.npy") == (0, "", "")
    np.testing.assert_array_equal(np.load("samples.npy"), Flow.load("model").sample(20, seed=1))
    assert say("sample", "conditional", "-n", 2, "--seed", 1, "--context-table", "table.csv", "-o", "x.npy")[0] == 0
    context = np.repeat(values()[:, [2, 0]], 2, axis=0)
    np.testing.assert_array_equal(np.load("x.npy"), Flow.load("conditional").sample(600, context, seed=1))


def test_sample_under_one_condition(models: Path, say: Say) -> None:
    status, out, _ = say("sample", "conditional", "-n", 4, "--seed", 1, "--context=-1,2.5")
    assert status == 0
    expected = Flow.load("conditional").sample(4, [-1, 2.5], seed=1)
    header, samples = read_csv(out)
    assert header == ["mass"]
    np.testing.assert_array_equal(samples, expected)


def test_one_sample_for_each_condition(models: Path, say: Say) -> None:
    np.save("conditions.npy", values(5)[:, [2, 0]])
    status, out, _ = say("sample", "conditional", "--seed", 1, "--context-table", "conditions.npy")
    assert status == 0
    expected = Flow.load("conditional").sample(5, values(5)[:, [2, 0]], seed=1)
    np.testing.assert_array_equal(read_csv(out)[1], expected)


def test_no_samples(models: Path, say: Say) -> None:
    assert say("sample", "numbered", "-n", 0) == (0, "x2,x0\n", "")
    assert say("sample", "model", "-n", 0, "-o", "none.npy") == (0, "", "")
    assert np.load("none.npy").shape == (0, 3)


def test_single_precision_is_written_with_every_digit(folder: Path, say: Say) -> None:
    np.save("single.npy", values().astype(np.float32))
    assert cli.main(["fit", "single.npy", "-o", "model", *QUICK]) == 0
    samples = read_csv(say("sample", "model", "-n", 50, "--seed", 1)[1])[1]
    np.testing.assert_array_equal(samples.astype(np.float32), Flow.load("model").sample(50, seed=1))


# -- info and places ---------------------------------------------------------------------------------------------


def test_info(models: Path, say: Say) -> None:
    status, out, err = say("info", "conditional")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "conditional"
    said = dict(line.split(None, 1) for line in lines[1:])
    assert said["format"] == f"2, written by pushforward {__version__}"
    assert said["features"] == "1 column: mass"
    assert said["context"] == "2 columns: angle, speed"
    assert said["parameters"].startswith(f"{Flow.load('conditional').parameters.size} in float32, ")
    assert said["training"].startswith("2 epochs, ")
    assert said["layers"] == "4, from the base to the data"
    assert said["1"].startswith("Coupling(transform=RationalQuadratic(")
    Flow(2).save("unfitted")
    _, out, _ = say("info", "unfitted")
    assert "\nfeatures    2 columns\n" in out
    assert "\ntraining    none recorded\n" in out


def test_places_and_version(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    package = Path(cli.__file__).parent
    assert say("--cmakedir") == (0, f"{package / 'cmake'}\n", "")
    assert say("--includes") == (0, f"{package / 'include'}\n", "")
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


@pytest.mark.parametrize("command", ["fit", "score", "sample", "info", "demo"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert f"\n  pushforward {command} " in out
    assert "SUPPRESS" not in out


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


# -- bad input: status 2, and one line ---------------------------------------------------------------------------

HEADER = "speed,mass,angle\n"
BAD_TABLES: list[tuple[str | bytes, str]] = [
    ("", "bad.csv: empty; a first line with the names of the columns is expected"),
    ("\n\n", "bad.csv: empty"),
    (HEADER, "bad.csv: no rows"),
    ("1,2,3\n4,5,6\n", "bad.csv: the first line must name the columns, and it holds numbers"),
    (HEADER + "1,2,3\n4,x5,6\n7,8,9\n", "bad.csv: line 3, column 'mass': 'x5' is not a number"),
    (HEADER + "1,2,3\n\n4,,6\n", "bad.csv: line 4, column 'mass' is empty"),
    (HEADER + "1,2,3\n4,5\n", "bad.csv: line 3 has 2 cells; the first line has 3"),
    (HEADER + "1,2,3\n4,5,6,7\n", "bad.csv: line 3 has 4 cells; the first line has 3"),
    (HEADER + '1,"2,3",4,5\n', "bad.csv: line 2 has 4 cells; the first line has 3"),
    (HEADER + '1,2,"3\n', "bad.csv: line 2 is not CSV; quotes must close on their line"),
    (HEADER + "1,2,3\n\n4,nan,6\n7,inf,9\n", "bad.csv: 2 rows with NaN or infinity, first in line 4, column 'mass'"),
    (HEADER + "1,2,3\n4,2,6\n", "bad.csv: column 'mass' is constant; leave it out with --columns"),
    (HEADER + "1,2,3\n4,1_0,6\n", "bad.csv: line 3: could not convert string '1_0'"),
    (HEADER + "1,1,3\n4,4,6\n", "bad.csv: x has equal features: 0 and 1"),
    ("speed,mass,speed\n1,2,3\n", "bad.csv: 2 columns are named 'speed'"),
    (HEADER.encode() + b"1,2,\xff\n", "bad.csv: not UTF-8 text, after line"),
]


def refused(outcome: tuple[int, str, str], message: str) -> None:
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.startswith(f"pushforward: error: {message}"), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("content", "message"), BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_bad_csv(folder: Path, say: Say, content: str | bytes, message: str) -> None:
    Path("bad.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    refused(say("fit", "bad.csv", "-o", "model", *QUICK), message)
    assert not Path("model").exists()


BAD_ARRAYS: list[tuple[Callable[[], object], str]] = [
    (lambda: np.save("bad.npy", np.zeros((3, 2, 2))), "bad.npy: float64 of shape (3, 2, 2); numbers of shape"),
    (lambda: np.save("bad.npy", np.array(["a", "b"])), "bad.npy: <U1 of shape (2,); numbers of shape"),
    (lambda: np.save("bad.npy", np.array([None])), "bad.npy: not a .npy file of numbers, or a damaged one"),
    (lambda: Path("bad.npy").write_bytes(b"nothing"), "bad.npy: not a .npy file of numbers, or a damaged one"),
    (lambda: Path("bad.npy").write_bytes(b""), "bad.npy: not a .npy file of numbers, or a damaged one"),
    (lambda: Path("bad.npy").write_bytes(Path("table.npy").read_bytes()[:-8]), "bad.npy: not a .npy file of numbers"),
    (lambda: np.savez("bad.npz", x=1) or Path("bad.npz").rename("bad.npy"), "bad.npy: an archive of arrays"),
    (lambda: np.save("bad.npy", values() * [1, np.nan, 1]), "bad.npy: x has 300 rows with NaN or infinity, first at"),
    (lambda: np.save("bad.npy", values() * [1, 0, 1]), "bad.npy: x has constant features: 1"),
    (lambda: np.save("bad.npy", np.zeros((0, 3))), "bad.npy: no rows"),
    (lambda: Path("bad.npy").mkdir(), "bad.npy: Is a directory"),
    (lambda: None, "bad.npy: No such file or directory"),
]


@pytest.mark.parametrize(("make", "message"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_bad_npy(folder: Path, say: Say, make: Callable[[], object], message: str) -> None:
    make()
    refused(say("fit", "bad.npy", "-o", "model", *QUICK), message)
    assert not Path("model").exists()


BAD_WORDS: list[tuple[str, str]] = [
    ("", "a command is needed: fit, score, sample, info or demo"),
    ("fiit table.csv", "argument COMMAND: invalid choice: 'fiit'"),
    ("fit table.csv", "the following arguments are required: -o/--output; see pushforward fit --help"),
    ("fit table.csv -o model --colums mass", "unrecognized arguments: --colums mass"),
    ("fit table.csv -o model --epochs 0", "argument --epochs: '0' is not an integer of at least 1"),
    ("fit table.csv -o model --epochs 1.5", "argument --epochs: '1.5' is not an integer of at least 1"),
    ("fit table.csv -o model --learning-rate nan", "argument --learning-rate: 'nan' is not a number above 0"),
    ("fit table.csv -o model --weight-decay=-1", "argument --weight-decay: '-1' is not a number of at least 0"),
    ("fit table.csv -o model --clip-norm x", "argument --clip-norm: 'x' is not a number above 0"),
    ("fit table.csv -o model --hidden 64,x", "argument --hidden: 'x' is not an integer of at least 1"),
    ("fit table.csv -o model --activation rel", "argument --activation: activation is 'rel'; the choices are"),
    ("fit table.csv -o model --preset glow", "argument --preset: invalid choice: 'glow'"),
    ("fit table.csv -o model --validation 1", "argument --validation: '1' is not a number of at least 0 and below 1"),
    ("fit table.csv -o model --validation missing.csv", "missing.csv: No such file or directory"),
    ("fit table.csv -o model --validation narrow.npy", "narrow.npy: 2 columns; the model needs 3 columns: speed, mass"),
    ("fit table.csv -o model --columns mas", "table.csv: no column 'mas'; did you mean 'mass'?"),
    ("fit table.csv -o model --columns 0", "table.csv: no column '0'; they are 'speed', 'mass', 'angle'"),
    ("fit table.csv -o model --context x", "table.csv: no column 'x'; they are 'speed', 'mass', 'angle'"),
    ("fit table.csv -o model --weights anglee", "table.csv: no column 'anglee'; did you mean 'angle'?"),
    ("fit table.csv -o model --columns mass,mass", "table.csv: column 'mass' is chosen twice"),
    ("fit table.csv -o model --columns mass --weights mass", "table.csv: column 'mass' is chosen twice"),
    ("fit table.csv -o model --context speed,mass,angle", "table.csv: no column is left to model"),
    ("fit table.csv -o model --weights mass", "table.csv: weights must not be negative"),
    ("fit table.npy -o model --columns 0,3", "table.npy: no column '3'; they are numbered 0 to 2"),
    ("fit table.csv -o missing/model", "missing/model: there is no folder "),
    ("fit table.csv -o .", ".: a folder; a file is expected"),
    ("fit table.csv -o model --plot missing/loss.png", "missing/loss.png: there is no folder "),
    ("fit missing.csv -o model", "missing.csv: No such file or directory"),
    ("fit table.txt -o model", "table.txt: the name of a table must end in .csv or .npy"),
    ("score missing table.csv", "missing: No such file or directory"),
    ("score table.csv table.csv", "table.csv: not a safetensors file, or a damaged one"),
    ("score cut table.csv", "cut: not a safetensors file, or a damaged one"),
    ("score model narrow.npy", "narrow.npy: 2 columns; the model needs 3 columns: speed, mass, angle"),
    ("score conditional narrow.npy", "narrow.npy: 2 columns; the model needs 1 column: mass and then 2 columns: angle"),
    ("score conditional narrow.csv", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    ("score model table.csv -o scores.txt", "scores.txt: the name of a table must end in .csv or .npy"),
    ("score model table.csv -o missing/scores.csv", "missing/scores.csv: No such file or directory"),
    ("sample model", "-n is needed: the number of rows to draw"),
    ("sample model -n=-1", "argument -n: '-1' is not an integer of at least 0"),
    ("sample model -n 5 --seed x", "argument --seed: 'x' is not an integer of at least 0"),
    ("sample model -n 5 --context 1", "the model is not conditional: leave --context and --context-table out"),
    ("sample model -n 5 -o samples.txt", "samples.txt: the name of a table must end in .csv or .npy"),
    ("sample conditional -n 5", "the model is conditional on 2 columns: angle, speed; give --context or"),
    ("sample conditional -n 5 --context 1", "--context: 1 given; the model needs 2 columns: angle, speed"),
    ("sample conditional -n 5 --context 1,nan", "argument --context: 'nan' is not a number"),
    ("sample conditional --context-table narrow.csv", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    ("sample conditional --context 1,2 --context-table x.csv", "argument --context-table: not allowed with argument"),
    ("info missing", "missing: No such file or directory"),
    ("demo --output missing/demo.png", "missing/demo.png: there is no folder "),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and models that no test changes."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "table.csv").write_text(csv_text(NAMES, values()))
    np.save(folder / "table.npy", values())
    (folder / "narrow.csv").write_text(csv_text(NAMES[:2], values()[:, :2]))
    np.save(folder / "narrow.npy", values()[:, :2])
    for name, options in (("model", []), ("conditional", ["--context", "angle,speed"])):
        assert cli.main(["fit", str(folder / "table.csv"), "-o", str(folder / name), *options, *QUICK]) == 0
    (folder / "cut").write_bytes((folder / "model").read_bytes()[:-100])
    return folder


@pytest.mark.parametrize(("words", "message"), BAD_WORDS, ids=[words for words, _ in BAD_WORDS])
def test_bad_words(kept: Path, monkeypatch: pytest.MonkeyPatch, say: Say, words: str, message: str) -> None:
    monkeypatch.chdir(kept)
    before = {path: path.read_bytes() for path in kept.iterdir()}
    refused(say(*words.split()), message)
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def test_a_model_is_replaced_only_by_a_finished_one(kept: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.chdir(kept)
    before = Path("model").read_bytes()

    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("the loss")

    monkeypatch.setattr(Flow, "fit", diverge)
    refused(say("fit", "table.csv", "-o", "model"), "the loss kept becoming non-finite, and model was not written")
    assert Path("model").read_bytes() == before


def test_plot_without_matplotlib(folder: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = 'drawing needs matplotlib: pip install "pushforward[plot]"'
    refused(say("fit", "table.csv", "-o", "model", "--plot", "loss.png"), message)
    assert not Path("model").exists()


def test_no_traceback_in_a_process(folder: Path) -> None:
    run = subprocess.run(process("fit", "missing.csv", "-o", "model"), capture_output=True, text=True)
    refused((run.returncode, run.stdout, run.stderr), "missing.csv: No such file or directory")


def test_warnings_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    def fit(flow: Flow, x: np.ndarray, **_: object) -> Flow:
        import warnings

        warnings.simplefilter("always")
        warnings.warn("steep", RuntimeWarning, stacklevel=1)
        return flow.initialize(x)

    monkeypatch.setattr(Flow, "fit", fit)
    assert say("fit", "table.csv", "-o", "model")[2].startswith("pushforward: warning: steep\npushforward: fitted 300")


# -- signals -----------------------------------------------------------------------------------------------------


def test_interrupting_a_fit_saves_its_best_state(folder: Path) -> None:
    argv = process("fit", "table.csv", "-o", "model", "--epochs", "1000000", "--patience", "none", "--progress")
    # A job in the background may have inherited that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(argv, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as run:
        assert run.stderr is not None
        said = b""
        while b"validation" not in said:  # the bar after the first epoch
            said += run.stderr.read(1)
        run.send_signal(signal.SIGINT)
        last = run.stderr.read().decode().splitlines()[-1]
    assert run.returncode == 130
    flow = Flow.load("model")
    assert flow.history is not None
    assert flow.history.stopped == "interrupted"
    assert last == (
        f"pushforward: interrupted after {len(flow.history)} epochs; the state after epoch {flow.history.best_epoch}, "
        "the best, is saved to model"
    )


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_interrupting_before_the_first_state(folder: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.setattr(Flow, "fit", interrupt)
    expected = (130, "", "pushforward: interrupted in the first epoch; model was not written\n")
    assert say("fit", "table.csv", "-o", "model") == expected
    assert not Path("model").exists()
    monkeypatch.setattr(Flow, "load", interrupt)
    assert say("info", "model") == (130, "", "pushforward: interrupted\n")


def test_a_reader_that_has_enough(models: Path) -> None:
    with subprocess.Popen(
        process("sample", "model", "-n", "1000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == b"speed,mass,angle\n"
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141
