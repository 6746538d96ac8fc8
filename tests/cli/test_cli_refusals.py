"""The command line: bad input ends in one line, and what a signal leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from commands import HEADER, NAMES, QUICK, Say, csv_text, process, refused, values
from pushforward import Flow, TrainingDivergedError, cli

# -- status 2, and one line -----------------------------------------------------------------------------------

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
