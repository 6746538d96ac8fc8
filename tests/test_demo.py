"""The demo and its data, and the picture of a fit."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Epoch, Flow, History, cli, demo

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

PACKAGE = Path(demo.__file__).parent
SHARED = Path(__file__).parents[2] / "shared" / "data" / "power"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits take one epoch."""
    fit = Flow.fit

    def one_epoch(flow: Flow, x: Any, **options: Any) -> Flow:
        return fit(flow, x, **{**options, "epochs": 1})

    monkeypatch.setattr(Flow, "fit", one_epoch)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "demo.png"
    assert cli.main(["demo", "--output", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    score = {name.strip(): float(mean) for name, mean in re.findall(r"^(.+?) +(-?\d+\.\d+) \+- ", out, re.MULTILINE)}
    flow, gaussian, mixture, estimate = score
    assert (flow, gaussian, estimate) == ("flow (neural splines)", "Gaussian", "kernel density estimate")
    assert re.fullmatch(r"mixture of \d+ Gaussians", mixture)
    assert score[flow] > max(score[mixture], score[estimate]) + 0.5
    assert min(score[mixture], score[estimate]) > score[gaussian]
    assert out.endswith(f"Data beside samples of the flow: {picture}\n")
    # Nothing but the axes would be a few colours and mostly white.
    image = matplotlib.image.imread(picture)
    assert image.shape[0] > 500
    assert image.shape[1] > 1000
    assert 0.1 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.6


def test_the_day_of_the_demo_goes_round_and_its_meters_start_at_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(demo, "_draw", lambda data, samples, output: drawn.append(samples))
    monkeypatch.setattr(demo, "_GAUSSIANS", (2,))
    demo.run(str(tmp_path / "demo.png"))
    (samples,) = drawn
    assert samples.shape == (5000, 6)
    assert 0 <= samples[:, 5].min() < 20 < 1420 < samples[:, 5].max() <= 1440
    assert (samples[:, [0, 2, 3, 4]] >= 0).all()
    assert demo.SUPPORT[5].wraps
    assert all(not support.outside(column).any() for support, column in zip(demo.SUPPORT, demo.rows().T, strict=True))


def test_demo_without_scipy_and_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hurried: None
) -> None:
    for name in ("scipy", "scipy.stats", "sklearn", "sklearn.mixture", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["demo", "--output", str(tmp_path / "demo.png")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^Gaussian mixture +left out: pip install scikit-learn$", out, re.MULTILINE)
    assert re.search(r"^kernel density estimate +left out: pip install scipy$", out, re.MULTILINE)
    assert out.endswith('No picture: drawing needs matplotlib: pip install "pushforward[plot]"\n')
    assert not list(tmp_path.iterdir())


def test_data_is_what_it_says() -> None:
    rows = demo.rows()
    assert (rows.shape, rows.dtype) == ((5000, 6), np.float32)
    assert np.isfinite(rows).all()
    assert len(demo.LABELS) == 6
    voltage, minute = rows[:, 1], rows[:, 5]
    assert 220 < voltage.min() < voltage.max() < 255
    assert 0 <= minute.min() < minute.max() < 1440
    credit = (PACKAGE / "data" / "README.md").read_text()
    for words in ("Hebrail", "Berard", "2012", "CC BY 4.0", "https://doi.org/10.24432/C58K54"):
        assert words in credit


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the whole POWER table is not in {SHARED}")
def test_data_is_made_as_its_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (PACKAGE / "data" / "README.md").read_text(), re.DOTALL)
    for name in ("norm.npz", "train.npy"):
        (tmp_path / name).symlink_to(SHARED / name)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    np.testing.assert_array_equal(np.load("power.npy"), demo.rows())


def history(validation: list[float], best: int) -> History:
    epochs = [Epoch(i, i, float(i), 10.0 / i, loss, 1e-3, 1.0) for i, loss in enumerate(validation, 1)]
    return History(epochs, best_epoch=best, stopped="epochs")


def test_a_history_is_shown_in_a_line() -> None:
    found = history([3.0 + 1 / i for i in range(1, 101)], 100)
    assert repr(found) == f"<History: {found}>"
    assert len(repr(found)) < 150


def test_a_history_says_what_it_has() -> None:
    assert str(history([3.0, 2.0], 2)).endswith("best epoch 2, validation loss 2.0000 nats")
    assert str(history([np.nan, np.nan], 2)).endswith("stopped by epochs; training loss 5.0000 nats")
