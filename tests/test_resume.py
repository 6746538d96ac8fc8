"""A fit that is cut off goes on bit for bit, and nothing that it wrote is ever unreadable."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pushforward import (
    MLP,
    Adam,
    Affine,
    Coupling,
    FileFormatError,
    Flow,
    Permutation,
    Positive,
    StudentT,
    TrainingDivergedError,
    nice,
    realnvp,
)
from pushforward._fit import checkpoint
from pushforward._fit.likelihood import maximum_likelihood
from pushforward._fit.options import Options
from pushforward._io import files
from pushforward._io.rows import Rows
from pushforward._model.state import state_of

# How often fits are cut off at random moments; PUSHFORWARD_FULL=1 makes a thousand of it.
CUTS = 1000 if os.environ.get("PUSHFORWARD_FULL") else 12

# A resumed flow takes everything from the checkpoint, whatever it was made with.
FIT = """
import os, sys
import numpy as np
from pushforward import Flow, realnvp
rng = np.random.default_rng(0)
x = rng.gamma(2.0, size=(20_000, 3)).astype(np.float32)
path = sys.argv[1]
begun = os.path.exists(path)
flow = Flow(3, layers=realnvp(3, depth=3, hidden=(16,)), seed=None if begun else 1)
flow.fit(
    x, weights=rng.uniform(size=len(x)), epochs=8, batch_size=64, seed=5, progress=False,
    checkpoint=path, checkpoint_every=23, resume=path if begun else None,
)
np.save(path + ".parameters.npy", flow.parameters)
"""


def start(script: Path, checkpoint: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(script), str(checkpoint)], stderr=subprocess.PIPE)


def test_fits_cut_off_at_random_end_as_if_never_cut_off(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    began = time.monotonic()
    _, errors = start(script, tmp_path / "whole").communicate()
    seconds = time.monotonic() - began
    expected = np.load(tmp_path / "whole.parameters.npy")
    rng = np.random.default_rng()
    cuts = rounds = 0
    while cuts < CUTS:
        checkpoint = tmp_path / f"cut-{rounds}"
        rounds += 1
        while True:
            process = start(script, checkpoint)
            try:
                process.wait(timeout=rng.uniform(0.3, 1.2) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT if rng.uniform() < 0.3 else signal.SIGKILL)
                cuts += 1
            _, errors = process.communicate()
            if process.returncode == 0:
                break
            # Killed, or interrupted: never an error of its own, such as a checkpoint that could not be read.
            interrupted = b"KeyboardInterrupt" in errors
            assert process.returncode in (-signal.SIGKILL, -signal.SIGINT) or interrupted, errors.decode()
        assert np.load(f"{checkpoint}.parameters.npy").tobytes() == expected.tobytes()
    print(f"{cuts} cuts, {rounds} fits")


# -- within one process ------------------------------------------------------------------------------------------

X = np.random.default_rng(0).gamma(2.0, size=(600, 2))
OPTIONS: dict[str, Any] = {"epochs": 6, "batch_size": 50, "seed": 3, "checkpoint_every": 5}


def make(seed: int | None = 1) -> Flow:
    return Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), seed=seed)


class StopError(Exception):
    pass


def cut_off(path: Path, epoch: int, **options: Any) -> None:
    """Leave the checkpoint of a fit that an exception ended."""

    def stop(_: Flow, record: Any) -> None:
        if record.epoch == epoch:
            raise StopError

    with pytest.raises(StopError):
        make().fit(X, checkpoint=path, callback=stop, **OPTIONS | options)


@pytest.mark.parametrize("every", [1, 7, 11, 55])
@pytest.mark.parametrize("validation", [0.1, None, X[:50]])
def test_resuming_is_exact(tmp_path: Path, every: int, validation: Any) -> None:
    options = {"checkpoint_every": every, "validation": validation}
    whole = make().fit(X, **OPTIONS | options)
    cut_off(tmp_path / "checkpoint", epoch=5, **options)
    resumed = make(seed=None).fit(X, resume=tmp_path / "checkpoint", **OPTIONS | options)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    for name in ("train_loss", "validation_loss", "learning_rate", "grad_norm", "steps"):
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])


def test_a_finished_fit_resumes_to_its_end(tmp_path: Path) -> None:
    whole = make().fit(X, checkpoint=tmp_path / "checkpoint", **OPTIONS)
    again = make(seed=None).fit(X, resume=tmp_path / "checkpoint", **OPTIONS)
    assert again.parameters.tobytes() == whole.parameters.tobytes()
    assert str(again.history) == str(whole.history)


def test_a_generator_as_seed_resumes_too(tmp_path: Path) -> None:
    whole = make().fit(X, **OPTIONS | {"seed": np.random.Generator(np.random.MT19937(4))})
    cut_off(tmp_path / "checkpoint", epoch=2, seed=np.random.Generator(np.random.MT19937(4)))
    resumed = make(seed=None).fit(X, resume=tmp_path / "checkpoint", **OPTIONS)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 60}, "batch_size was 50, now 60"),
        ({"epochs": 7}, "epochs was 6, now 7"),
        ({"optimizer": Adam(1e-3)}, "optimizer was"),
        ({"schedule": "constant"}, "schedule was cosine, now constant"),
        ({"validation": None}, "validation was"),
        ({"clip_norm": None}, "clip_norm was"),
    ],
)
def test_resuming_another_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    cut_off(tmp_path / "checkpoint", epoch=2)
    flow = make()
    before = flow.parameters.copy()
    with pytest.raises(ValueError, match=message):
        flow.fit(X, resume=tmp_path / "checkpoint", **OPTIONS | change)
    assert flow.parameters.tobytes() == before.tobytes()
    assert flow.history is None


def test_resuming_on_other_rows_or_another_flow_is_refused(tmp_path: Path) -> None:
    cut_off(tmp_path / "checkpoint", epoch=2)
    with pytest.raises(ValueError, match="rows was"):
        make().fit(X[::-1], resume=tmp_path / "checkpoint", **OPTIONS)
    with pytest.raises(ValueError, match="dim=2; this one has 3"):
        Flow(3).fit(np.random.default_rng(0).normal(size=(9, 3)), resume=tmp_path / "checkpoint", **OPTIONS)
    with pytest.raises(ValueError, match="dtype=float32; this one has float64"):
        Flow(2, dtype="float64").fit(X, resume=tmp_path / "checkpoint", **OPTIONS)


OTHER_FLOWS: dict[str, tuple[Callable[[], Flow], str]] = {
    "more layers": (lambda: Flow(2, layers=realnvp(2, depth=3, hidden=(8,))), "4 layers; this one has 7"),
    "wider": (
        lambda: Flow(2, layers=realnvp(2, depth=2, hidden=(9,))),
        r"layers\[\d\]=.*hidden=\(8,\).*this one has .*9",
    ),
    "another kind": (lambda: Flow(2, layers=nice(2, depth=2, hidden=(8,))), "this one has"),
    "base": (lambda: Flow(2, layers=LAYERS, base=StudentT(5.0)), r"base=Normal\(\); this one has StudentT"),
    "support": (lambda: Flow(2, layers=LAYERS, support=Positive()), r"support=\(Real.*this one has \(Positive"),
    "context": (lambda: Flow(2, layers=LAYERS, context=1), "context=0; this one has 1"),
    "left to the fit": (lambda: Flow(2), "layers of its own; this one has those that the fit chooses"),
}
LAYERS = realnvp(2, depth=2, hidden=(8,))


@pytest.mark.parametrize("name", OTHER_FLOWS)
def test_resuming_with_a_flow_that_is_described_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    """It would become another model in silence."""
    cut_off(tmp_path / "checkpoint", epoch=2)
    other, message = OTHER_FLOWS[name]
    flow = other()
    before = repr(flow), flow.parameters.tobytes()
    context = np.zeros((len(X), 1)) if flow.context else None
    with pytest.raises(ValueError, match=message) as caught:
        flow.fit(X, context=context, resume=tmp_path / "checkpoint", **OPTIONS)
    assert str(tmp_path / "checkpoint") in str(caught.value)
    assert (repr(flow), flow.parameters.tobytes()) == before
    assert flow.history is None


def test_a_flow_that_leaves_its_layers_to_the_fit_is_resumed_by_such_a_flow(tmp_path: Path) -> None:
    """Or by that of the checkpoint itself, whose layers were chosen."""
    path, options = tmp_path / "checkpoint", OPTIONS | {"epochs": 2}
    whole = Flow(2, seed=1).fit(X, checkpoint=path, **options)
    for flow in (Flow(2), Flow.load(path)):
        flow.fit(X, resume=path, **options)
        assert repr(flow) == repr(whole)
        assert flow.parameters.tobytes() == whole.parameters.tobytes()
    for other, message in (
        (make(), r"layers\[0\]|layers; this one"),
        (Flow(2, base=StudentT(4.0)), "this one has StudentT"),
    ):
        with pytest.raises(ValueError, match=message):
            other.fit(X, resume=path, **options)


def test_what_a_seed_chose_of_the_layers_comes_from_the_checkpoint(tmp_path: Path) -> None:
    def flow(seed: int) -> Flow:
        layers = [Permutation("random"), Coupling(Affine(), MLP((4,)), "random")] * 3
        return Flow(5, layers=layers, seed=seed)

    x = np.random.default_rng(0).normal(size=(200, 5))
    whole = flow(0).fit(x, checkpoint=tmp_path / "checkpoint", **OPTIONS)
    resumed = flow(1).fit(x, resume=tmp_path / "checkpoint", **OPTIONS)
    assert resumed.log_prob(x).tobytes() == whole.log_prob(x).tobytes()


@pytest.mark.parametrize("changed", ["x", "context", "weights", "order", "zero", "type", "less"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_resuming_on_rows_of_which_any_was_changed_is_refused(tmp_path: Path, changed: str, is_mapped: bool) -> None:
    """Also a row that a sample of the rows would leave out, and the last digit of one number."""
    rng = np.random.default_rng(0)
    path, n = tmp_path / "checkpoint", 3000
    table = {"x": rng.normal(size=(n, 2)), "context": rng.normal(size=(n, 1)), "weights": rng.uniform(1, 2, n)}
    table["weights"][7] = 0
    options: dict[str, Any] = {"epochs": 1, "batch_size": 500, "seed": 0}

    def fit(table: dict[str, np.ndarray], **kept: Any) -> Flow:
        x = table["x"]
        if is_mapped:
            np.save(tmp_path / "x.npy", x)
            x = np.load(tmp_path / "x.npy", mmap_mode="r")
        return Flow(2, layers=[], context=1, seed=0).fit(
            x, **{k: table[k] for k in ("context", "weights")}, **options, **kept
        )

    fit(table, checkpoint=path)
    fit(table, resume=path)
    table = {name: values.copy() for name, values in table.items()}
    if changed == "order":
        table["x"][[1, 2]] = table["x"][[2, 1]]
    elif changed == "zero":  # the row without weight is another one
        table["weights"][[7, 8]] = table["weights"][[8, 7]]
    elif changed == "type":
        table["x"] = table["x"].astype(np.float32)
    elif changed == "less":
        table = {name: values[:-1] for name, values in table.items()}
    else:
        values = table[changed].reshape(n, -1)
        values[1234, -1] = np.nextafter(values[1234, -1], 9)
    with pytest.raises(ValueError, match=r"rows was \d+ rows with the hash \w{16}, now \d+ rows with the hash \w{16}"):
        fit(table, resume=path)


def test_resuming_with_other_validation_rows_is_refused(tmp_path: Path) -> None:
    held = X[:50].copy()
    cut_off(tmp_path / "checkpoint", epoch=2, validation=held)
    held[17, 1] += 1e-9
    with pytest.raises(ValueError, match="validation was"):
        make().fit(X, resume=tmp_path / "checkpoint", **OPTIONS | {"validation": held})


@pytest.mark.parametrize("order", ["F", "strided", "map"])
def test_the_same_rows_elsewhere_in_memory_are_the_same(tmp_path: Path, order: str) -> None:
    cut_off(tmp_path / "checkpoint", epoch=2)
    x = np.asfortranarray(X) if order == "F" else np.repeat(X, 2, axis=0)[::2]
    if order == "map":
        np.save(tmp_path / "x.npy", X)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    resumed = make().fit(x, resume=tmp_path / "checkpoint", **OPTIONS)
    assert resumed.parameters.tobytes() == make().fit(X, **OPTIONS).parameters.tobytes()


def test_rows_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit writes many checkpoints; without any, nothing is hashed."""
    calls: list[Any] = []

    def counted(rows: Any) -> str:
        calls.append(rows)
        return "hash"

    monkeypatch.setattr("pushforward._fit.objective.fingerprint", counted)
    make().fit(X, **OPTIONS)
    assert not calls
    make().fit(X, checkpoint=tmp_path / "checkpoint", **OPTIONS | {"checkpoint_every": 1})
    assert len(calls) == 2  # all rows, and those held out


class Scaled:
    """A core whose loss and gradient come with a factor at some calls."""

    def __init__(self, core: Any, at: set[int], factor: float) -> None:
        self.core, self.at, self.factor, self.calls = core, at, factor, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def loss_and_grad(self, x: np.ndarray, gradient: np.ndarray, **options: Any) -> tuple[float, float]:
        self.calls += 1
        loss, norm = self.core.loss_and_grad(x, gradient, **options)
        factor = self.factor if self.calls in self.at else 1.0
        gradient *= factor
        return loss * factor, norm * factor


EVERY: dict[str, dict[str, Any]] = {
    "plain": {},
    "patience": {"patience": 1, "epochs": 40, "schedule": "constant"},
    "unscored": {"validation": None},
    "weights": {"weights": np.arange(len(X)) % 3},
    "one batch": {"batch_size": 10**6},
    "in time": {"max_time": 600, "epochs": None},
    "failing": {},
    "overflowing": {"clip_norm": None},
    "absurd": {"optimizer": Adam(1e39), "clip_norm": None},
    "absurd, unscored": {"optimizer": Adam(1e6), "clip_norm": None, "validation": None},
}


@pytest.mark.filterwarnings("ignore:the loss became non-finite")
@pytest.mark.parametrize("name", EVERY)
def test_every_checkpoint_that_a_fit_writes_can_be_resumed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused as damaged is nothing that a fit comes to by itself."""
    options = OPTIONS | EVERY[name] | {"checkpoint_every": 1}
    written: list[Path] = []

    def write(path: Any, found: Any) -> None:
        written.append(tmp_path / f"{len(written)}")
        checkpoint.write(written[-1], found)

    x = X[:200] if name == "patience" else X
    options |= {"weights": options["weights"][: len(x)]} if "weights" in options else {}
    flow = make()
    if name in ("failing", "overflowing"):
        flow.initialize(x)
        factor, at = (np.nan, {1, 9, 30, 33}) if name == "failing" else (1e25, {20})
        state_of(flow).core = Scaled(state_of(flow).core, at, factor)
    if name == "in time":  # which ends by itself only in ten minutes
        options["callback"] = lambda _, epoch: epoch.epoch == 3
    with monkeypatch.context() as patch:
        patch.setattr(
            "pushforward._fit.loop.checkpoint", SimpleNamespace(Checkpoint=checkpoint.Checkpoint, write=write)
        )
        with contextlib.suppress(TrainingDivergedError):
            flow.fit(x, checkpoint=tmp_path / "checkpoint", **options)
    assert flow.history is not None
    if name == "patience":
        assert flow.history.stopped == "patience"
        assert any(files.read(path)[0]["checkpoint"]["state"]["cooling_steps"] for path in written)
    assert len(written) > 2 or "absurd" in name
    if name == "overflowing":  # of Adam's second moments, in float32: nothing is written from there on
        assert files.read(written[-1])[0]["checkpoint"]["state"]["steps"] == 19
    names = {"validation", "epochs", "batch_size", "optimizer", "schedule", "max_time", "clip_norm", "patience", "seed"}
    for path in written:
        Flow.load(path).save(tmp_path / "model")
        resumed = Options(resume=path, **{k: v for k, v in options.items() if k in names})
        rows = Rows.checked(x, None, options.get("weights"), (x.shape[1], 0), (None, None))
        loop = maximum_likelihood(state_of(make(seed=None)), rows, resumed, (None, None))
        assert loop.history.stopped in ("", flow.history.stopped)


# -- damage ------------------------------------------------------------------------------------------------------

COUNTS = ("position", "steps", "failures", "rows_done", "steps_done", "averaged", "cooling_start", "cooling_steps",
          "adam_steps")  # fmt: skip
NUMBERS = ("losses", "norms", "rate", "elapsed", "cooling_rate", "best_loss")
STATES = ("rng_of_split", "rng_of_epoch")
ARRAYS = ("best", "good", "average", "mean", "square")


def damaged(path: Path, content: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a file that JSON's writer of the package would refuse: with NaN, infinity, and integers of any size."""
    data = safetensors.numpy.save(tensors, {"pushforward": json.dumps(content)})
    path.write_bytes(data)


def expect_refused(path: Path, match: str, error: type[Exception] = FileFormatError) -> None:
    """Resuming raises an error that names the file, and changes neither the flow nor the file."""
    flow, before = make(), path.read_bytes()
    parameters, description = flow.parameters.tobytes(), repr(flow)
    with pytest.raises(error, match=match) as caught:
        flow.fit(X, resume=path, checkpoint=path, **OPTIONS)
    assert str(path) in str(caught.value)
    assert (flow.parameters.tobytes(), repr(flow), flow.history) == (parameters, description, None)
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a checkpoint in the middle of an epoch holds."""
    path = tmp_path_factory.mktemp("kept") / "checkpoint"
    cut_off(path, epoch=2)
    content, tensors = files.read(path)
    assert content["checkpoint"]["state"]["position"] == 9
    return content, tensors


Kept = tuple[dict[str, Any], dict[str, np.ndarray]]


def test_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    make().save(tmp_path / "model")
    expect_refused(tmp_path / "model", "not a checkpoint; a model is loaded with Flow.load")
    with pytest.raises(FileNotFoundError, match="none"):
        make().fit(X, resume=tmp_path / "none", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="no folder"):
        make().fit(X, checkpoint=tmp_path / "no" / "folder", **OPTIONS)


@pytest.mark.parametrize("name", [*COUNTS, *NUMBERS, *STATES, "left_open"])
def test_missing_and_mistyped_entries_of_a_checkpoint_are_refused(tmp_path: Path, kept: Kept, name: str) -> None:
    content, tensors = copy.deepcopy(kept[0]), kept[1]
    state = content["checkpoint"]["state"]
    path = tmp_path / "checkpoint"
    state.pop(name)
    damaged(path, content, tensors)
    expect_refused(path, f"no '{name}': it is damaged, or of an earlier version")
    for value in (True, "1", [], {}, [1], {"a": 1}, 10**400, float("nan"), float("inf"), -float("inf"), "\x1b[31m"):
        if name == "left_open" and value == []:
            continue
        state[name] = value
        damaged(path, content, tensors)
        expect_refused(path, "damaged|for a number")
    if name != "best_loss":
        state[name] = None
        damaged(path, content, tensors)
        expect_refused(path, "damaged")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [-100, -1, 10**9, 2**53 + 1, 2**63, 2**64, 1.5, 1e9])
def test_counters_that_no_fit_reaches_are_refused(tmp_path: Path, kept: Kept, name: str, value: Any) -> None:
    content, tensors = copy.deepcopy(kept[0]), kept[1]
    content["checkpoint"]["state"][name] = value
    damaged(tmp_path / "checkpoint", content, tensors)
    expect_refused(tmp_path / "checkpoint", "damaged: steps" if name == "steps_done" else f"damaged: {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norms", -1.0), ("rate", -1e-3), ("rate", 1.0), ("elapsed", -100), ("elapsed", 0.0), ("best_loss", -1e9),
        ("best_loss", None), ("cooling_rate", 1e-4), ("position", 8), ("steps", 19), ("steps_done", 8),
        ("rows_done", 8), ("rows_done", 451), ("averaged", 21), ("adam_steps", 21), ("failures", 9),
        ("left_open", ["base"]), ("left_open", ["layers", "layers"]),
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other_are_refused(tmp_path: Path, kept: Kept, name: str, value: Any) -> None:
    content, tensors = copy.deepcopy(kept[0]), kept[1]
    content["checkpoint"]["state"][name] = value
    damaged(tmp_path / "checkpoint", content, tensors)
    expect_refused(tmp_path / "checkpoint", "damaged: ")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_in_a_checkpoint_that_is_not_finite_is_refused(
    tmp_path: Path, kept: Kept, name: str, value: float
) -> None:
    """Also by `Flow.load`, which gives the best state: it would score NaN."""
    content, tensors = kept[0], {key: values.copy() for key, values in kept[1].items()}
    tensors[f"checkpoint.{name}"][-1] = value
    damaged(tmp_path / "checkpoint", content, tensors)
    expect_refused(tmp_path / "checkpoint", f"'checkpoint.{name}' holds NaN or infinity")
    with pytest.raises(FileFormatError, match=f"'checkpoint.{name}' holds NaN or infinity"):
        Flow.load(tmp_path / "checkpoint")


def drop(name: str) -> Callable[[dict[str, Any], dict[str, np.ndarray]], object]:
    return lambda _, tensors: tensors.pop(name)


def put(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda _, tensors: tensors.update({name: change(tensors[name])})


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda content, _: change(content)


def epoch(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return edit(lambda content: content["training"]["epochs"][0].update(changes))


CHECKPOINT_DAMAGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "good missing": (drop("checkpoint.good"), "'good' of the checkpoint is missing"),
    "average missing": (drop("checkpoint.average"), "'average' of the checkpoint is missing"),
    "square missing": (drop("checkpoint.square"), "'square' of the checkpoint is missing"),
    "mean missing": (drop("checkpoint.mean"), "'mean' of the checkpoint is missing"),
    "best missing": (drop("checkpoint.best"), "best_loss"),
    "moments missing": (lambda c, t: [t.pop("checkpoint.mean"), t.pop("checkpoint.square")], "adam_steps"),
    "another": (lambda c, t: t.update({"checkpoint.x": t["checkpoint.good"]}), "'x' of the checkpoint is unexpected"),
    "shape": (put("checkpoint.good", lambda values: values[:-1]), "is expected"),
    "type": (put("checkpoint.best", lambda values: values.astype(np.float64)), "is expected"),
    "square negative": (put("checkpoint.square", lambda values: -values - 1), "negative"),
    "parameter": (put("standardization.shift", lambda values: values * np.nan), "holds NaN"),
    "not initialized": (edit(lambda c: c.update(initialized=False)), "not initialized"),
    "no history": (edit(lambda c: c.update(training=None)), "the history is missing"),
    "history text": (edit(lambda c: c.update(training="done")), "the history is damaged"),
    "no state": (edit(lambda c: c["checkpoint"].pop("state")), "not a checkpoint"),
    "settings list": (edit(lambda c: c["checkpoint"].update(settings=[])), "not a checkpoint"),
    "random state": (edit(lambda c: c["checkpoint"]["state"]["rng_of_epoch"]["state"].update(state=-1)), "random"),
    "random kind": (edit(lambda c: c["checkpoint"]["state"]["rng_of_epoch"].update(bit_generator="os")), "random"),
    "random empty": (edit(lambda c: c["checkpoint"]["state"].update(rng_of_split={})), "random"),
    "epoch gone": (edit(lambda c: c["training"]["epochs"].clear()), "best epoch|steps"),
    "epoch twice": (edit(lambda c: c["training"]["epochs"].append(c["training"]["epochs"][0])), "counted wrong"),
    "epoch number": (epoch(epoch=2), "epoch 1 of the history is counted wrong"),
    "epoch steps": (epoch(steps=-100), "before the one before it"),
    "epoch steps more": (epoch(steps=10**9), "steps"),
    "epoch steps real": (epoch(steps=11.0), "counted wrong"),
    "epoch seconds": (epoch(seconds=-1.0), "seconds=-1.0"),
    "epoch later": (epoch(seconds=1e9), "elapsed"),
    "epoch loss": (epoch(train_loss="2"), "train_loss='2'"),
    "epoch huge": (epoch(grad_norm=10**400), "grad_norm=1000"),
    "epoch NaN": (epoch(validation_loss=float("nan")), "has NaN for a number"),
    "epoch extra": (epoch(more=1), "epoch 1 of the history is damaged"),
    "best epoch": (edit(lambda c: c["training"].update(best_epoch=7)), "best epoch"),
    "best epoch true": (edit(lambda c: c["training"].update(best_epoch=True)), "best epoch"),
    "stopped": (edit(lambda c: c["training"].update(stopped="diverged")), "stopped"),
    "stopped escape": (edit(lambda c: c["training"].update(stopped="\x1b[31m")), "why the fit ended"),
    "initial loss": (edit(lambda c: c["training"].update(initial_loss=[])), "initial or best loss"),
    "version": (edit(lambda c: c.pop("version")), "version"),
}


@pytest.mark.parametrize("name", CHECKPOINT_DAMAGES)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, kept: Kept, name: str) -> None:
    content, tensors = copy.deepcopy(kept)
    change, message = CHECKPOINT_DAMAGES[name]
    change(content, tensors)
    damaged(tmp_path / "checkpoint", content, tensors)
    expect_refused(tmp_path / "checkpoint", message)


def test_half_a_checkpoint_is_no_model(tmp_path: Path, kept: Kept) -> None:
    content, tensors = copy.deepcopy(kept)
    damaged(tmp_path / "file", content, {k: v for k, v in tensors.items() if not k.startswith("checkpoint.")})
    with pytest.raises(FileFormatError, match="half of a checkpoint is missing"):
        Flow.load(tmp_path / "file")
    del content["checkpoint"]
    damaged(tmp_path / "file", content, tensors)
    with pytest.raises(FileFormatError, match="half of a checkpoint is missing"):
        Flow.load(tmp_path / "file")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the entries of a JSON value are."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in [(*path, key), *leaves(inner, (*path, key))]]


VALUES = st.one_of(
    st.sampled_from(
        [None, True, -1, -100, 0, 1, 10**9, 2**53, 2**64, 10**400, 0.5, -0.0, 1e300, "", "\x1b[2J", [], {}]
    ),
    st.sampled_from([float("nan"), float("inf")]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.data())
@settings(
    max_examples=5000 if os.environ.get("PUSHFORWARD_FULL") else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_fit_from_a_checkpoint_with_any_damage_is_valid_or_refused(
    tmp_path: Path, kept: Kept, data: st.DataObject
) -> None:
    content, tensors = copy.deepcopy(kept)
    parts = {"checkpoint": content["checkpoint"], "training": content["training"]}
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["entry", "entry", "entry", "drop", "number", "cut"]))
        if kind in ("entry", "drop"):
            *path, last = data.draw(st.sampled_from(leaves(parts)))
            inner: Any = parts
            for key in path:
                inner = inner[key]
            if kind == "entry":
                inner[last] = data.draw(VALUES)
            else:
                del inner[last]
        else:
            name = data.draw(st.sampled_from(sorted(tensors)))
            values = np.array(tensors[name])
            if kind == "cut":
                values = values.reshape(-1)[: data.draw(st.integers(0, values.size))]
            elif values.size:
                values.reshape(-1)[data.draw(st.integers(0, values.size - 1))] = data.draw(
                    st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e30, -1e30, 1e-40, 1.0])
                )
            tensors[name] = values
        if not leaves(parts):
            break
    path = tmp_path / "checkpoint"
    damaged(path, {**content, **parts}, tensors)
    flow = make()
    before = flow.parameters.tobytes(), repr(flow)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a loss that is not finite
            flow.fit(X, resume=path, **OPTIONS)
    except TrainingDivergedError:
        pass
    except FileFormatError:
        assert (flow.parameters.tobytes(), repr(flow), flow.history) == (*before, None)
    except ValueError as error:  # settings of another fit
        assert "goes on with the same fit" in str(error)  # noqa: PT017
        assert (flow.parameters.tobytes(), repr(flow), flow.history) == (*before, None)
    else:
        assert flow.history is not None
    if flow.history is not None:
        assert np.isfinite(flow.parameters).all()
        flow.save(tmp_path / "model")
        assert str(Flow.load(tmp_path / "model").history) == str(flow.history)
    try:
        loaded = Flow.load(path)
    except FileFormatError:
        return
    assert np.isfinite(loaded.parameters).all()
    loaded.log_prob(X[:9])  # of numbers that are finite, and of any size
    assert str(loaded.history).isprintable()
    loaded.save(tmp_path / "model")


def test_a_checkpoint_loads_as_the_best_state(tmp_path: Path) -> None:
    whole = make().fit(X, checkpoint=tmp_path / "checkpoint", **OPTIONS)
    assert Flow.load(tmp_path / "checkpoint").log_prob(X).tobytes() == whole.log_prob(X).tobytes()


def test_a_full_disk_leaves_the_best_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 6:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    flow = make()
    with pytest.raises(OSError, match="No space left"):
        flow.fit(X, checkpoint=tmp_path / "checkpoint", **OPTIONS)
    assert os.listdir(tmp_path) == ["checkpoint"]
    assert flow.history is not None
    assert flow.history.stopped == "interrupted"
    assert np.isfinite(flow.log_prob(X)).all()
    # The checkpoint before is whole, and goes on.
    monkeypatch.undo()
    resumed = make(seed=None).fit(X, resume=tmp_path / "checkpoint", **OPTIONS)
    assert resumed.parameters.tobytes() == make().fit(X, **OPTIONS).parameters.tobytes()
