"""Options of a fit: one default, one check and one line of help for each, wherever it can be given."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from pushforward import Adam, Flow, cli
from pushforward._fit.held_out import training_rows
from pushforward._fit.options import LEARNING_RATE, Options, default_optimizer, text
from pushforward._io.rows import Rows

OPTIONS = {option.name: option.default for option in dataclasses.fields(Options)}


def defaults_of(function: object) -> dict[str, object]:
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found}


def test_a_fit_has_the_options_with_their_defaults() -> None:
    found = defaults_of(Flow.fit)
    assert {name: default for name, default in found.items() if name in OPTIONS} == OPTIONS
    assert found.keys() - OPTIONS.keys() == {"self", "x", "context", "weights"}


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
    for name in OPTIONS.keys() - {"optimizer", "callback"} | {"learning_rate", "weight_decay"}:
        flag = f"--{name.replace('_', '-')}"
        assert flag in said
        assert text(name) in said, name
    assert "by the number of rows" in said


@pytest.mark.parametrize(
    ("arguments", "rate", "decay"),
    [
        ([], LEARNING_RATE, 10.0),
        (["--learning-rate", "0.1"], 0.1, 10.0),
        (["--weight-decay", "0"], LEARNING_RATE, 0.0),
        (["--learning-rate", "0.1", "--weight-decay", "0.5"], 0.1, 0.5),
    ],
)
def test_one_setting_of_the_optimiser_leaves_the_other_its_default(
    tmp_path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], rate: float, decay: float
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 2)))
    seen: list[Adam] = []
    fit = Flow.fit

    def record(flow: Flow, x: np.ndarray, *, optimizer: Adam, **options: object) -> Flow:
        seen.append(optimizer)
        return fit(flow, x, optimizer=optimizer, **options)

    monkeypatch.setattr(Flow, "fit", record)
    where = [str(tmp_path / "x.npy"), "-o", str(tmp_path / "model.safetensors"), "--epochs", "1", "--depth", "1"]
    assert cli.main(["fit", *where, *arguments]) == 0
    assert (seen[0].learning_rate, seen[0].weight_decay) == (rate, decay)


@pytest.mark.parametrize("validation", [0, 0.1, 0.33, 0.5, None, np.zeros((5, 1))])
@pytest.mark.parametrize("n", [2, 101, 50_000])
def test_the_training_rows_of_a_fit_are_counted_before_it(n: int, validation: object) -> None:
    weights = np.ones(n)
    weights[::7] = 0
    for w in (None, weights):
        rows = Rows.of(np.zeros((n, 1)), None, w)
        fraction = validation if isinstance(validation, (int, float)) else 0.0
        train, _ = rows.split(fraction, np.random.default_rng(0))
        assert training_rows(n, w, validation) == max(1, len(train))


def test_the_default_decay_follows_the_rows() -> None:
    assert default_optimizer(100).weight_decay == 10.0
    assert default_optimizer(2_000).weight_decay == 1.0
    assert default_optimizer(50_000).weight_decay == 0.1
    assert default_optimizer(50_000, 0.1).weight_decay == 0.1
    assert default_optimizer(50_000, weight_decay=0.0).learning_rate == LEARNING_RATE
