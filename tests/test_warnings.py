"""Warnings: once, and at the user's own line, whatever stands between."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Flow, cli
from pushforward._fit.objective import MaximumLikelihood
from pushforward._model import threads
from pushforward.kde import FlowKDE

X = np.random.default_rng(0).normal(size=(200, 2))
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 50, "seed": 0}


@pytest.fixture
def _diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit's sixth step has a loss that is not finite."""
    loss_and_grad = MaximumLikelihood.loss_and_grad
    calls = []

    def failing(*arguments: Any) -> tuple[float, float]:
        calls.append(1)
        loss, norm = loss_and_grad(*arguments)
        return (np.nan if len(calls) == 6 else loss), norm

    monkeypatch.setattr(MaximumLikelihood, "loss_and_grad", failing)


def plain(folder: Path) -> object:
    return Flow(2, layers=[], seed=0).fit(X, **OPTIONS)


def resumed(folder: Path) -> object:
    path = folder / "checkpoint"

    def stop(*_: object) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        Flow(2, layers=[], seed=0).fit(X, checkpoint=path, checkpoint_every=1, callback=stop, **OPTIONS)
    return Flow(2, layers=[], seed=0).fit(X, resume=path, checkpoint_every=1, **OPTIONS)


def estimator(folder: Path) -> object:
    sklearn = pytest.importorskip("pushforward.sklearn")
    return sklearn.FlowDensity(layers=[], epochs=3, batch_size=50, random_state=0).fit(X)


def regressor(folder: Path) -> object:
    sklearn = pytest.importorskip("pushforward.sklearn")
    return sklearn.ConditionalFlow(layers=[], epochs=3, batch_size=50, random_state=0).fit(X[:, :1], X[:, 1])


def kde(folder: Path) -> object:
    return FlowKDE(X.T, flow=Flow(2, layers=[]), **OPTIONS)


@pytest.mark.usefixtures("_diverging")
@pytest.mark.parametrize("fit", [plain, resumed, estimator, regressor, kde])
def test_a_fit_that_diverges_warns_at_the_users_line(tmp_path: Path, fit: Callable[[Path], object]) -> None:
    with pytest.warns(RuntimeWarning, match="the loss became non-finite at step 6") as warned:
        fit(tmp_path)
    (only,) = warned
    assert only.filename == __file__
    first = fit.__code__.co_firstlineno
    assert first < only.lineno < first + 15
    assert "fit(" in Path(__file__).read_text().splitlines()[only.lineno - 1] or fit is kde


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_diverging")
def test_the_command_line_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", X)
    places = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "_show_warning", lambda message, kind, filename, *_: places.append(filename))
        model = str(tmp_path / "model")
        assert cli.main(["fit", str(tmp_path / "x.npy"), "-o", model, "--depth", "1", "--epochs", "9"]) == 0
    assert places == [__file__]


# -- threads -----------------------------------------------------------------------------------------------------


def test_more_threads_than_processors_are_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 2)
    monkeypatch.setattr(threads, "_warned", False)
    flow = Flow(1, layers=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.num_threads = 2
    with pytest.warns(RuntimeWarning, match="num_threads is 3, but this process may use 2 processors") as warned:
        flow.num_threads = 3
    (only,) = warned
    assert only.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.num_threads = 4
    assert flow.num_threads == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no masks of processors")
def test_the_processors_of_a_process_are_those_of_its_mask() -> None:
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    script += "from pushforward._model.threads import processors; print(processors())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "1\n"
