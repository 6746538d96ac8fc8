"""The command line: what it is for, and what each command writes."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pushforward
import pytest
from commands import NAMES, PNG, QUICK, Say, csv_text, process, read_csv, values
from pushforward import Circle, ContextNetwork, Flow, Interval, Positive, Real, __version__, cli, convert

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
    "golden", sorted((Path(__file__).parents[1] / "golden").glob("format1*.safetensors")), ids=lambda path: path.stem
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
