"""The command line: what it writes, and that bad input ends in one line."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pushforward
import pytest
import safetensors.numpy
from pushforward import (
    Circle,
    ContextNetwork,
    Flow,
    Interval,
    Positive,
    Real,
    TrainingDivergedError,
    __version__,
    cli,
    convert,
)

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


def test_from_a_table_to_model_picture_and_scores_in_five_commands(folder: Path) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(process(*argv), capture_output=True, text=True, check=True)

    fit = run("fit", "table.csv", "-o", "model.safetensors", *QUICK)
    assert fit.stdout == ""
    assert fit.stderr.startswith("pushforward: fitted 300 rows of 3 columns: 2 epochs, ")
    assert fit.stderr.endswith("; saved to model.safetensors\n")
    assert fit.stderr.count("\n") == 1
    check = run("check", "model.safetensors", "table.csv", "--seed", "0")
    assert check.stdout == f"{Flow.load('model.safetensors').check(values(), seed=0)}\n"
    plot = run("plot", "corner", "model.safetensors", "table.csv", "-o", "corner.png", "-n", "500")
    assert Path("corner.png").read_bytes().startswith(PNG)
    sample = run("sample", "model.safetensors", "-n", "100", "--seed", "1", "-o", "samples.csv")
    score = run("score", "model.safetensors", "samples.csv", "-o", "scored.csv")
    assert {part for run in (plot, sample, score) for part in (run.stdout, run.stderr)} == {""}
    assert check.stderr == ""

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
        --checkpoint kept --checkpoint-every 9 --resume from --context-network 3 --frozen 0,2"""
    assert cli.main(["fit", "table.csv", "-o", "model", *words.split()]) == 0
    expected = {
        "epochs": 7, "batch_size": 8, "schedule": "constant", "max_time": 9.0, "patience": None, "clip_norm": 3.0,
        "groups": None,
        "validation": 0.5, "seed": 4, "progress": False, "checkpoint": "kept", "checkpoint_every": 9, "resume": "from",
        "frozen": [0, 2],
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    for name, column in (("x", [1]), ("context", [2]), ("weights", 0)):
        np.testing.assert_array_equal(seen[name], values()[:, column])
    assert (seen["optimizer"].learning_rate, seen["optimizer"].weight_decay) == (0.5, 0.25)
    flow = seen["flow"]
    assert (flow.columns, flow.context_columns, flow.num_threads, flow.dtype) == (("mass",), ("angle",), 2, "float64")
    assert flow.context_network == ContextNetwork(3)
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
    best = flow.history.best_loss
    np.testing.assert_allclose(best, -flow.log_prob(rows).mean(), rtol=1e-12)


def test_validation_of_a_conditional_model(folder: Path) -> None:
    argv = ["fit", "table.csv", "-o", "model", "--context", "angle", "--validation", "table.csv", *QUICK]
    assert cli.main(argv) == 0
    flow = Flow.load("model")
    assert flow.history is not None
    best = flow.history.best_loss
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


def test_support_of_columns(folder: Path, say: Say) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.exponential(size=200), rng.uniform(-180, 180, 200), rng.uniform(0, 2 * np.pi, 200)])
    Path("sky.csv").write_text(csv_text(["mass", "a=b", "turn"], x))
    np.save("sky.npy", x)
    words = ["--support", "a=b=interval:-180:1.8e2", "--support", "turn=circle:0:2pi", "--support", "mass=positive"]
    assert say("fit", "sky.csv", "-o", "model", *words, *QUICK)[0] == 0
    assert Flow.load("model").support == (Positive(), Interval(-180, 180), Circle(0, 2 * np.pi))
    assert (
        "\nsupport     mass Positive(), a=b Interval(low=-180.0, high=180.0), turn Circle(" in say("info", "model")[1]
    )
    words = ["--columns", "2,0", "--support", "x2=circle:-pi:+2.5pi", "--support", "0=real"]
    assert say("fit", "sky.npy", "-o", "model", *words, *QUICK)[0] == 0
    assert Flow.load("model").support == (Circle(-np.pi, 2.5 * np.pi), Real())


def test_context_network_of_columns(folder: Path, say: Say) -> None:
    words = ["--columns", "mass", "--context", "angle,speed", "--context-network", "3", *QUICK]
    assert say("fit", "table.csv", "-o", "model", *words)[0] == 0
    flow = Flow.load("model")
    assert flow.context_network == ContextNetwork(3)
    assert f"\nnetwork     {flow.context_network}\n" in say("info", "model")[1]
    status, _, err = say("fit", "table.csv", "-o", "other", "--context-network", "3", *QUICK)
    assert status == 2
    assert "context_network needs a context" in err


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
    monkeypatch.setattr(cli.sample, "_BLOCK_ROWS", block)
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


# -- check -------------------------------------------------------------------------------------------------------


def test_check(models: Path, say: Say) -> None:
    flow = Flow.load("conditional")
    x, c = values()[:, [1]], values()[:, [2, 0]]
    assert say("check", "conditional", "table.csv", "--seed", 2) == (0, f"{flow.check(x, c, seed=2)}\n", "")
    flow.columns = flow.context_columns = None
    flow.save("nameless")
    weights = np.abs(values()[:, 0])
    Path("weighted.csv").write_text(csv_text(["a", "w", "b", "c"], np.column_stack([x, weights, c])))
    expected = flow.check(x, c, weights, seed=2)
    assert say("check", "nameless", "weighted.csv", "--weights", "w", "--seed", 2) == (0, f"{expected}\n", "")


# -- plot --------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a picture was asked for with."""
    from pushforward import plot

    seen: dict[str, Any] = {}

    def draw(whole: Callable[..., Any], *given: Any, **options: Any) -> Any:
        seen.update(options, given=given)
        return whole(*given, **options)

    for name in ("corner", "density", "calibration", "coverage", "history"):
        monkeypatch.setattr(plot, name, functools.partial(draw, getattr(plot, name)))
    return seen


def test_plot_corner(models: Path, say: Say, drawn: dict[str, Any]) -> None:
    words = "-n 300 --levels 0.39,0.86 --bins 7 --seed 3 --columns angle,mass --weights weight"
    weights = np.abs(values()[:, 0])
    Path("weighted.csv").write_text(csv_text([*NAMES, "weight"], np.column_stack([values(), weights])))
    assert say("plot", "corner", "model", "weighted.csv", "-o", "corner.pdf", *words.split()) == (0, "", "")
    assert Path("corner.pdf").read_bytes().startswith(b"%PDF")
    expected = {"n": 300, "levels": [0.39, 0.86], "bins": 7, "seed": 3, "features": ["angle", "mass"], "context": None}
    assert {name: drawn[name] for name in expected} == expected
    np.testing.assert_array_equal(drawn["given"][1], values())
    np.testing.assert_array_equal(drawn["weights"], weights)
    assert say("plot", "corner", "conditional", "table.csv", "-o", "corner.png", "-n", 200)[0] == 0
    np.testing.assert_array_equal(drawn["context"], values()[:, [2, 0]])
    assert say("plot", "corner", "conditional", "-o", "corner.png", "-n", 200, "--context", "1,2")[0] == 0
    np.testing.assert_array_equal(drawn["context"], [1, 2])
    flow = Flow.load("model")
    flow.columns = None
    flow.save("nameless")
    assert say("plot", "corner", "nameless", "-o", "corner.png", "-n", 200, "--columns", "2,x0")[0] == 0
    assert drawn["features"] == [2, "x0"]


def test_plot_density(models: Path, say: Say, drawn: dict[str, Any]) -> None:
    words = ["--context", "1,2", "--levels", "0.5", "--seed", 1]
    assert say("plot", "density", "conditional", "table.csv", "-o", "density.svg", *words) == (0, "", "")
    assert "<svg" in Path("density.svg").read_text()
    assert (drawn["levels"], drawn["seed"]) == ([0.5], 1)
    np.testing.assert_array_equal(drawn["context"], [1, 2])
    np.testing.assert_array_equal(drawn["given"][1], values()[:, [1]])
    assert say("plot", "density", "numbered", "-o", "density.PNG")[0] == 0
    assert Path("density.PNG").read_bytes().startswith(PNG)


def test_plot_calibration_and_history(models: Path, say: Say, drawn: dict[str, Any]) -> None:
    words = ["--bins", 5, "--level", 0.9, "--weights", "speed"]
    Path("positive.csv").write_text(csv_text(NAMES, np.abs(values())))
    assert say("plot", "calibration", "model", "positive.csv", "-o", "calibration.png", *words) == (0, "", "")
    assert (drawn["bins"], drawn["level"]) == (5, 0.9)
    np.testing.assert_array_equal(drawn["weights"], np.abs(values()[:, 0]))
    assert say("plot", "history", "model", "-o", "loss.png") == (0, "", "")
    assert drawn["given"][0].history == Flow.load("model").history
    assert Path("loss.png").read_bytes().startswith(PNG)


def test_plot_coverage(models: Path, say: Say, drawn: dict[str, Any]) -> None:
    words = ["--bins", 5, "--level", 0.9, "--seed", 3]
    assert say("plot", "coverage", "conditional", "table.csv", "-o", "coverage.png", *words) == (0, "", "")
    assert (drawn["bins"], drawn["level"], drawn["seed"], drawn["weights"]) == (5, 0.9, 3, None)
    np.testing.assert_array_equal(drawn["given"][1], values()[:, [1]])
    np.testing.assert_array_equal(drawn["context"], values()[:, [2, 0]])
    assert Path("coverage.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("kind", ["corner", "density", "history", "calibration", "coverage"])
def test_help_of_a_picture(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["plot", kind, "--help"])
    assert end.value.code == 0
    assert "MODEL" in capsys.readouterr().out


# -- convert -----------------------------------------------------------------------------------------------------


def test_convert_to_another_precision(models: Path, say: Say) -> None:
    status, out, err = say("convert", "model", "-o", "double", "--dtype", "float64")
    assert (status, out) == (0, "")
    flow, double = Flow.load("model"), Flow.load("double")
    count = flow.parameters.size
    assert err == (
        f"pushforward: model, format 2 in float32: now format 2, 3 columns, {count:,} parameters in float64; "
        "saved to double\n"
    )
    assert (double.dtype, double.columns, double.history) == ("float64", flow.columns, flow.history)
    np.testing.assert_array_equal(double.parameters, flow.parameters)
    assert say("convert", "double", "-o", "double", "--dtype", "float32")[0] == 0
    assert Path("double").read_bytes() == Path("model").read_bytes()


@pytest.mark.parametrize(
    "golden", sorted((Path(__file__).parent / "golden").glob("format1*.safetensors")), ids=lambda path: path.stem
)
def test_convert_to_the_present_format(folder: Path, say: Say, golden: Path) -> None:
    status, _, err = say("convert", golden, "-o", "new")
    assert status == 0
    assert "format 1 in float" in err
    assert "now format 2" in err
    old, new = Flow.load(golden), Flow.load("new")
    np.testing.assert_array_equal(new.parameters, old.parameters)
    assert repr(new) == repr(old)
    assert "\nformat      2, " in say("info", "new")[1]


THEIRS = {
    "_transform._transforms.0._permutation": np.array([1, 2, 0]),
    "_transform._transforms.1.log_scale": np.array([0.0, 0.5, 1.0]),
    "_transform._transforms.1.shift": np.zeros(3),
}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_convert_a_state_dict(folder: Path, say: Say, kind: str) -> None:
    if kind == "npz":
        np.savez("theirs.npz", **THEIRS)
    else:
        from safetensors.numpy import save_file

        save_file(THEIRS, "theirs.safetensors")
    status, _, err = say("convert", f"theirs.{kind}", "--from", "nflows", "-o", "model", "--dtype", "float32")
    assert status == 0
    assert err.startswith(
        f"pushforward: theirs.{kind}, 3 arrays of nflows: now format 2, 3 columns, 6 parameters in float32"
    )
    expected = convert.from_nflows(THEIRS, dtype="float32")
    np.testing.assert_array_equal(Flow.load("model").log_prob(values()), expected.log_prob(values()))


def test_convert_passes_settings_on(folder: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def take_over(arrays: object, **options: object) -> Flow:
        seen.update(options, arrays=arrays)
        return Flow(1)

    for library, (_, known) in cli.convert._LIBRARIES.items():
        monkeypatch.setitem(cli.convert._LIBRARIES, library, (take_over, known))
    np.savez("theirs.npz", a=[1.0])
    words = "--bound 5 --activation tanh --min-width 0.1 --min-height 0.2 --min-slope 0.3"
    assert say("convert", "theirs.npz", "-o", "model", "--from", "nflows", *words.split())[0] == 0
    assert {name: seen.pop(name) for name in ("bound", "activation", "min_width", "min_height", "min_slope")} == {
        "bound": 5.0, "activation": "tanh", "min_width": 0.1, "min_height": 0.2, "min_slope": 0.3,
    }  # fmt: skip
    assert seen == {"dtype": None, "arrays": {"a": [1.0]}}
    assert say("convert", "theirs.npz", "-o", "model", "--from", "zuko", "--slope", "0.01")[0] == 0
    assert seen["slope"] == 0.01


def test_nothing_in_a_file_is_run(folder: Path, say: Say) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (Path.touch, (Path("trapped"),))  # type: ignore[return-value]

    Path("theirs.npz").write_bytes(pickle.dumps(Trap()))
    Path("theirs.pt").write_bytes(pickle.dumps(Trap()))
    Path("theirs.safetensors").write_bytes(pickle.dumps(Trap()))
    np.savez("objects.npz", a=np.array([Trap()], dtype=object))
    for name in ("theirs.npz", "theirs.pt", "theirs.safetensors", "objects.npz"):
        assert say("convert", name, "-o", "model", "--from", "zuko")[0] == 2
    assert not Path("trapped").exists()
    assert not Path("model").exists()


# -- info and places ---------------------------------------------------------------------------------------------


def test_info(models: Path, say: Say) -> None:
    status, out, err = say("info", "conditional")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "conditional"
    said = dict(line.split(None, 1) for line in lines[1:])
    assert said["format"] == f"2, written by pushforward {__version__}"
    assert said["features"] == "1 column: mass"
    assert said["support"] == "any real number"
    assert said["context"] == "2 columns: angle, speed"
    assert said["parameters"].startswith(f"{Flow.load('conditional').parameters.size} in float32, ")
    assert said["training"].startswith("2 epochs, ")
    assert said["layers"] == "4, from the base to the data"
    assert said["1"].startswith("Coupling(transform=RationalQuadratic(")
    Flow(2).save("unfitted")
    _, out, _ = say("info", "unfitted")
    assert "\nfeatures    2 columns\n" in out
    assert "\ntraining    none recorded\n" in out


ESCAPE = "\x1b]0;gone\x07\x1b[2J\u202e"


def test_names_cannot_control_the_terminal(models: Path, say: Say) -> None:
    """A file may come from anywhere, and so may the names in it."""
    flow = Flow.load("model")
    flow.columns = (f"a{ESCAPE}", "b\nc", "\ud800")
    x = values()
    for support in (None, Positive()):
        other = Flow(3, layers=[], support=support, seed=0).initialize(np.abs(x))
        other.columns = flow.columns
        other.save("strange")
        status, out, err = say("info", "strange")
        assert (status, err) == (0, "")
        assert all(line.isprintable() for line in out.split("\n"))
        assert r"a\x1b]0;gone\x07\x1b[2J\u202e, b\nc, \ud800" in out
    flow.save("strange")
    status, out, err = say("check", "strange", "table.npy", "--seed", "0")
    assert status == 0
    assert all(line.isprintable() for line in out.split("\n"))
    assert len(out.split("\n")) == len(say("check", "model", "table.npy", "--seed", "0")[1].split("\n"))
    np.save("two.npy", x[:, :2])
    for words in ("score strange two.npy", f"score strange none{ESCAPE}.npy", f"sample model{ESCAPE} -n 1"):
        status, out, err = say(*words.split(" "))
        assert (status, out) == (2, "")
        assert err.removesuffix("\n").isprintable()


def test_letters_of_every_language_are_printed(models: Path, say: Say) -> None:
    flow = Flow.load("model")
    flow.columns = ("température °C", "質量", "скорость")
    flow.save("named")
    assert "température °C, 質量, скорость" in say("info", "named")[1]


def test_places_and_version(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    package = Path(pushforward.__file__).parent
    assert say("--cmakedir") == (0, f"{package / 'cmake'}\n", "")
    assert say("--includes") == (0, f"{package / 'include'}\n", "")
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


@pytest.mark.parametrize("command", ["fit", "check", "plot", "score", "sample", "impute", "info", "convert", "demo"])
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


# -- bad input: status 2, and one line ---------------------------------------------------------------------------

HEADER = "speed,mass,angle\n"
BAD_TABLES: list[tuple[str | bytes, str]] = [
    ("", "bad.csv: empty; a first line with the names of the columns is expected"),
    ("\n\n", "bad.csv: empty"),
    (HEADER, "bad.csv: no rows"),
    ("1,2,3\n4,5,6\n", "bad.csv: the first line must name the columns, and it holds numbers"),
    (HEADER + "1,2,3\n4,x5,6\n7,8,9\n", "bad.csv: line 3, column 'mass': 'x5' is not a number"),
    (HEADER + "1,2,3\n4,x5,6\n7,8,?\n", "bad.csv: line 3, column 'mass': 'x5'; line 4, column 'angle': '?' are not"),
    (HEADER + "1,2,3\n\n4,,6\n", "bad.csv: 1 row with a missing value, first in line 4, column 'mass'; --drop-missing"),
    ("speed;mass\n1,0;2,0\n", "bad.csv: the first line is separated by semicolons; commas are expected, and points"),
    ("speed\tmass\n1.0\t2.0\n", "bad.csv: the first line is separated by tabs; commas are expected, and points in"),
    (b"\x1f\x8b\x08\x00" + bytes(range(128, 160)), "bad.csv: compressed by gzip; decompress it first"),
    (HEADER + "1,2,3\n4,5\n", "bad.csv: line 3 has 2 cells; the first line has 3"),
    (HEADER + "1,2,3\n4,5,6,7\n", "bad.csv: line 3 has 4 cells; the first line has 3"),
    (HEADER + '1,"2,3",4,5\n', "bad.csv: line 2 has 4 cells; the first line has 3"),
    (HEADER + '1,2,"3\n', "bad.csv: line 2 is not CSV; quotes must close on their line"),
    (HEADER + "1,2,3\n\n4,5,6\n7,inf,9\n", "bad.csv: 1 row with infinity, first in line 5, column 'mass'"),
    (HEADER + "1,2,3\n4,2,6\n", "bad.csv: column 'mass' is constant; leave it out with --columns"),
    (HEADER + "1,2,3\n4,1_0,6\n", "bad.csv: line 3, column 'mass': '1_0' is not a number"),
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
    (
        lambda: np.save("bad.npy", values() * [1, np.nan, 1]),
        "bad.npy: 300 rows with a missing value, first in row 0, c",
    ),
    (lambda: np.save("bad.npy", np.diag([np.inf, 1, 2])), "bad.npy: 1 row with infinity, first in row 0, column 'x0'"),
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
    ("", "a command is needed: fit, check, plot, score, sample, impute, info, convert or demo; see pushforward --help"),
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
    ("fit table.txt -o model", "table.txt: the name of a table must end in .csv, .parquet or .npy"),
    (
        "fit a.csv.gz -o model",
        "a.csv.gz: the name of a table must end in .csv, .parquet or .npy, or be - for CSV in a "
        "pipe; decompress it, or pipe it: gzip -dc a.csv.gz | pushforward ... -",
    ),
    (
        "fit a.tsv -o model",
        "a.tsv: the name of a table must end in .csv, .parquet or .npy, or be - for CSV in a pipe; "
        "replace the tabs by commas, or pipe it: tr",
    ),
    ("fit table.csv -o model --held-out missing/x.csv", "missing/x.csv: there is no folder "),
    ("fit table.csv -o model --held-out x.txt", "x.txt: the name of a table must end in .csv, .parquet or .npy"),
    ("fit table.csv -o model --held-out-fraction 0.1", "--held-out-fraction goes with --held-out FILE"),
    ("fit table.csv -o model --held-out x.csv --held-out-fraction 0.001", "--held-out 0.001 of 300 rows are 0; some"),
    ("fit table.csv -o model --groups house", "table.csv: no column 'house'; they are 'speed', 'mass', 'angle'"),
    ("fit table.csv -o model --groups mass --weights mass", "table.csv: column 'mass' is chosen twice"),
    (
        "fit table.csv -o model --groups mass --validation table.csv --columns speed",
        "table.csv: groups say which rows are held out to",
    ),
    ("score missing table.csv", "missing: No such file or directory"),
    ("score table.csv table.csv", "table.csv: not a safetensors file, or a damaged one"),
    ("score cut table.csv", "cut: not a safetensors file, or a damaged one"),
    ("score model narrow.npy", "narrow.npy: 2 columns; the model needs 3 columns: speed, mass, angle"),
    ("score conditional narrow.npy", "narrow.npy: 2 columns; the model needs 1 column: mass and then 2 columns: angle"),
    ("score conditional narrow.csv", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    ("score model table.csv -o scores.txt", "scores.txt: the name of a table must end in .csv, .parquet or .npy"),
    ("score model table.csv -o missing/scores.csv", "missing/scores.csv: there is no folder"),
    ("sample model", "-n is needed: the number of rows to draw"),
    ("sample model -n=-1", "argument -n: '-1' is not an integer of at least 0"),
    ("sample model -n 5 --seed x", "argument --seed: 'x' is not an integer of at least 0"),
    ("sample model -n 5 --context 1", "the model is not conditional: leave --context and --context-table out"),
    ("sample model -n 5 -o samples.txt", "samples.txt: the name of a table must end in .csv, .parquet or .npy"),
    ("sample conditional -n 5", "the model is conditional on 2 columns: angle, speed; give --context or"),
    ("sample conditional -n 5 --context 1", "--context: 1 given; the model needs 2 columns: angle, speed"),
    ("sample conditional -n 5 --context 1,nan", "argument --context: 'nan' is not a number"),
    (
        "sample conditional -n 5 --context Paris,1",
        "argument --context: 'Paris' is not a number; a category is given by",
    ),
    ("sample conditional --context-table narrow.csv", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    ("sample conditional --context 1,2 --context-table x.csv", "argument --context-table: not allowed with argument"),
    (
        "fit table.csv -o model --support mass",
        "argument --support: 'mass' is not NAME=real, NAME=positive, NAME=interval",
    ),
    ("fit table.csv -o model --support mass=circle", "argument --support: 'mass=circle' is not NAME=real"),
    ("fit table.csv -o model --support mass=positive:1", "argument --support: 'mass=positive:1' is not NAME=real"),
    (
        "fit table.csv -o model --support mass=circle:0:x",
        "argument --support: 'mass=circle:0:x': 'x' is not a number, nor",
    ),
    (
        "fit table.csv -o model --support mass=circle:1:0",
        "argument --support: 'mass=circle:1:0': Circle needs low < high",
    ),
    ("fit table.csv -o model --support mas=positive", "table.csv: no column 'mas'; did you mean 'mass'?"),
    ("fit table.csv -o model --support mass=real --support mass=real", "--support: column 'mass' is given twice"),
    ("fit table.csv -o model --context mass --support mass=real", "--support: column 'mass' is not modelled"),
    ("fit table.csv -o model --support mass=interval:-99:3", "table.csv: column 'mass' has "),
    ("fit table.npy -o model --support 1=interval:-99:3", "table.npy: x has "),
    ("check model", "the following arguments are required: TABLE; see pushforward check --help"),
    ("check model narrow.csv", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    ("check model table.csv --weights angel", "table.csv: no column 'angel'; did you mean 'angle'?"),
    ("check model table.csv --weights speed", "table.csv: weights must not be negative"),
    ("plot", "the following arguments are required: KIND; see pushforward plot --help"),
    ("plot pie model -o pie.png", "argument KIND: invalid choice: 'pie'"),
    ("plot corner model", "the following arguments are required: -o/--output; see pushforward plot corner --help"),
    ("plot corner model -o corner", "corner: the name of a picture must end in .png, .pdf, .svg or another of"),
    ("plot corner model -o missing/corner.png", "missing/corner.png: there is no folder "),
    ("plot corner missing -o corner.png", "missing: No such file or directory"),
    ("plot corner model narrow.csv -o corner.png", "narrow.csv: no column 'angle'; they are 'speed', 'mass'"),
    (
        "plot corner model -o corner.png --columns mas",
        "model: feature is 'mas'; the features are 'speed', 'mass', 'angle'",
    ),
    ("plot corner model -o corner.png --weights mass", "--weights and --bins are of a table's rows; give a TABLE too"),
    ("plot corner model -o corner.png --levels 1", "argument --levels: '1' is not a number above 0 and below 1"),
    ("plot corner model -o corner.png -n 5", "argument -n: '5' is not an integer of at least 100"),
    ("plot corner model -o corner.png --context 1", "--context: the model is not conditional"),
    ("plot corner conditional -o corner.png", "the model is conditional on 2 columns: angle, speed; give --context"),
    ("plot corner conditional table.csv -o corner.png --context 1,2", "--context is for a picture without a TABLE"),
    ("plot density model -o density.png", "model: density draws one or two features, and this flow has dim=3"),
    ("plot calibration model -o calibration.png", "the following arguments are required: TABLE"),
    ("plot coverage conditional -o coverage.png", "the following arguments are required: TABLE"),
    ("plot coverage conditional table.csv -o c.png --bins 1", "table.csv: bins must be at least 2, not 1"),
    ("plot calibration model table.csv -o c.png --bins 1", "table.csv: bins must be at least 2, not 1"),
    ("plot history unfitted -o loss.png", "unfitted: this flow has no history: fit it first"),
    ("plot history model table.csv -o loss.png", "unrecognized arguments: table.csv"),
    ("convert model", "the following arguments are required: -o/--output"),
    ("convert table.csv -o other", "table.csv: not a safetensors file, or a damaged one"),
    (
        "convert foreign.safetensors -o other",
        "foreign.safetensors: a safetensors file, but not one of pushforward's; a state",
    ),
    ("convert arrays.npz -o other", "arrays.npz: arrays; say whose they are with --from nflows or --from zuko"),
    ("convert model -o other --bound 3 --slope 1", "--bound, --slope go with --from nflows or --from zuko"),
    (
        "convert arrays.npz -o other --from nflows --slope 1",
        "--slope is no setting of nflows; those are --bound, --activation",
    ),
    ("convert arrays.npz -o other --from zuko", "arrays.npz: "),
    (
        "convert cut -o other --from zuko",
        "cut: a state dict comes as .npz or .safetensors. Files of torch.save are pickles",
    ),
    ("convert table.npz -o other --from zuko", "table.npz: not a .npz file of numbers, or a damaged one"),
    ("convert cut.safetensors -o other --from zuko", "cut.safetensors: not a .safetensors file of NumPy's types, or a"),
    ("convert model -o missing/model", "missing/model: there is no folder "),
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
    (folder / "cut.safetensors").write_bytes((folder / "cut").read_bytes())
    (folder / "table.npz").write_bytes((folder / "table.npy").read_bytes())
    np.savez(folder / "arrays.npz", a=[1.0])
    (folder / "foreign.safetensors").write_bytes(safetensors.numpy.save({"a": np.ones(1)}))
    Flow(2).save(folder / "unfitted")
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
            letter = run.stderr.read(1)
            assert letter, said.decode()
            said += letter
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


def test_interrupting_before_the_first_state(models: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    monkeypatch.setattr(Flow, "fit", interrupt)
    expected = (130, "", "pushforward: interrupted in the first epoch; new was not written\n")
    assert say("fit", "table.csv", "-o", "new") == expected
    assert not Path("new").exists()
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
