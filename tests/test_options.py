"""Options of a fit: one default, one check and one line of help for each, wherever it can be given."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Adam, Flow, TableFlow, cli
from pushforward._fit.loop import Loop
from pushforward._fit.options import Options, optimizer_for, text
from pushforward._fit.size import size

LEARNING_RATE = 3e-3
OPTIONS = {option.name: option.default for option in dataclasses.fields(Options)}


def defaults_of(function: object) -> dict[str, object]:
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found}


def test_a_fit_has_the_options_with_their_defaults() -> None:
    found = defaults_of(Flow.fit)
    assert {name: default for name, default in found.items() if name in OPTIONS} == OPTIONS
    assert found.keys() - OPTIONS.keys() == {"self", "x", "context", "weights", "groups", "comm"}


def test_a_fit_of_a_table_has_the_same_defaults() -> None:
    found = defaults_of(TableFlow.fit)
    shared = {name: default for name, default in found.items() if name in OPTIONS}
    assert shared == {**{name: OPTIONS[name] for name in shared}, "patience": 10}
    assert found.keys() - OPTIONS.keys() == {"self", "table", "weights", "groups"}
    assert OPTIONS.keys() - found.keys() == {"clip_norm", "frozen", "restandardize", "checkpoint_every"}


def test_estimators_have_the_same_defaults() -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    for kind in (sklearn.FlowDensity, sklearn.ConditionalFlow):
        found = defaults_of(kind)
        shared = found.keys() & OPTIONS.keys()
        assert shared == {"epochs", "batch_size", "validation", "patience", "max_time"}
        assert {name: found[name] for name in shared} == {name: OPTIONS[name] for name in shared}
        assert found["learning_rate"] == LEARNING_RATE
        assert found["weight_decay"] is None
    conditional = defaults_of(sklearn.ConditionalFlow)
    assert conditional.pop("context_network") is None
    assert conditional == defaults_of(sklearn.FlowDensity)


def test_the_command_line_has_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name in OPTIONS.keys() - {"optimizer", "callback", "restandardize"} | {"learning_rate", "weight_decay"}:
        flag = f"--{name.replace('_', '-')}"
        assert flag in said
        assert text(name) in said, name
    assert "by the number of rows" in said


@pytest.fixture
def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[Adam]:
    """The optimisers that fits step with."""
    seen: list[Adam] = []
    init = Loop.__init__

    def record(loop: Loop, state: Any, objective: Any, options: Options, progress: Any) -> None:
        init(loop, state, objective, options, progress)
        assert options.optimizer is not None
        seen.append(options.optimizer)

    monkeypatch.setattr(Loop, "__init__", record)
    return seen


X = np.random.default_rng(0).normal(size=(1200, 2))


def in_python(folder: Path, settings: dict[str, float]) -> None:
    Flow(2, layers=[], seed=0).fit(X, epochs=1, optimizer=Adam(**settings) if settings else None)


def in_scikit_learn(folder: Path, settings: dict[str, float]) -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    sklearn.FlowDensity(layers=[], epochs=1, **settings).fit(X)


def on_the_command_line(folder: Path, settings: dict[str, float]) -> None:
    np.save(folder / "x.npy", X)
    words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    where = [str(folder / "x.npy"), "-o", str(folder / "model.safetensors")]
    assert cli.main(["fit", *where, "--epochs", "1", "--depth", "1", "--hidden", "4", *words]) == 0


@pytest.mark.parametrize("settings", [{}, {"learning_rate": 0.1}, {"weight_decay": 0.0}, {"weight_decay": 0.5}])
@pytest.mark.parametrize("fit", [in_python, in_scikit_learn, on_the_command_line])
def test_one_setting_of_the_optimiser_leaves_the_other_its_default(
    tmp_path: Path, optimizers: list[Adam], fit: Callable[[Path, dict[str, float]], None], settings: dict[str, float]
) -> None:
    fit(tmp_path, settings)
    expected = {"learning_rate": LEARNING_RATE, "weight_decay": 1.0, **settings}
    if "learning_rate" in settings:  # what a step takes off stays the same
        expected["weight_decay"] = pytest.approx(LEARNING_RATE / settings["learning_rate"])
    assert optimizers
    for adam in optimizers:
        assert {name: getattr(adam, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "of_masses", "of_flow"),
    [
        (None, (LEARNING_RATE, 3.0), (LEARNING_RATE, 4.0)),
        (Adam(), (LEARNING_RATE, 3.0), (LEARNING_RATE, 4.0)),
        (Adam(10 * LEARNING_RATE), (10 * LEARNING_RATE, 0.3), (10 * LEARNING_RATE, 0.4)),
        (Adam(1e-3, weight_decay=5.0), (1e-3, 5.0), (1e-3, 5.0)),
    ],
    ids=["default", "the same", "rate", "both"],
)
def test_the_parts_of_a_table_have_the_optimiser_that_is_given(
    optimizers: list[Adam], given: Adam | None, of_masses: tuple[float, float], of_flow: tuple[float, float]
) -> None:
    table = {"x": X[:200, 0], "kind": np.where(X[:200, 1] > 0, "a", "b")}
    TableFlow().fit(table, optimizer=given, epochs=1, seed=0)
    found = [(adam.learning_rate, adam.weight_decay) for adam in optimizers]
    assert found == [pytest.approx(of_masses), pytest.approx(of_flow)]


@pytest.mark.parametrize(("rows", "decay"), [(100, 10.0), (2_000, 1.0), (50_000, 0.1)])
def test_the_default_decay_follows_the_rows(rows: int, decay: float) -> None:
    assert size(rows).weight_decay == decay
    shares = [size(rows, context).weight_decay / decay for context in (1, 8, 12, 40)]
    assert shares == pytest.approx([0.4, 0.4, 0.6, 1.0])


def test_a_decay_that_is_left_open_is_the_default_of_the_fit() -> None:
    assert optimizer_for(0.1).weight_decay == 0.1
    assert optimizer_for(0.1, Adam(1e-3, (0.5, 0.6), 1e-3)).weight_decay == 0.1
    assert optimizer_for(0.1, Adam(0.1)).weight_decay == pytest.approx(0.003)
    assert repr(optimizer_for(0.1, Adam(0.1, (0.5, 0.6), 1e-3, 0.0))) == repr(Adam(0.1, (0.5, 0.6), 1e-3, 0.0))


def test_a_step_by_hand_has_no_decay_unless_it_is_given() -> None:
    start, grad = np.array([2.0, -4.0]), np.zeros(2)
    np.testing.assert_array_equal(Adam(0.1).step(start, grad), start)
    np.testing.assert_allclose(Adam(0.1, weight_decay=0.5).step(start, grad), 0.95 * start)


def test_validation_rows_without_a_context_may_come_as_a_pair() -> None:
    held = X[:100] + 0.5
    alone, paired = (
        Flow(2, layers=[], seed=0).fit(X, validation=rows, epochs=1, seed=0) for rows in (held, (held, None))
    )
    assert paired.history.best_loss == alone.history.best_loss
    two_rows = Flow(2, layers=[], seed=0).fit(X, validation=([0.0, 1.0], [1.0, 0.0]), epochs=1, seed=0)
    assert two_rows.history.best_loss == pytest.approx(-two_rows.log_prob([[0.0, 1.0], [1.0, 0.0]]).mean())


def test_the_help_of_sample_has_no_default_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sample", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "-n N number of rows to draw; with --context-table, for each of its rows, where the default is 1" in said
