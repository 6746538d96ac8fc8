"""A fit that is cut off goes on bit for bit, and nothing that it wrote is ever unreadable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Adam, FileFormatError, Flow, realnvp
from pushforward._io import files

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


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    make().save(path)
    with pytest.raises(FileFormatError, match="not a checkpoint"):
        make().fit(X, resume=path, **OPTIONS)
    cut_off(path, epoch=2)
    content, tensors = files.read(path)
    for part in ("position", "rng_of_epoch", "losses"):
        state = {key: value for key, value in content["checkpoint"]["state"].items() if key != part}
        files.write(path, {**content, "checkpoint": {**content["checkpoint"], "state": state}}, tensors)
        with pytest.raises(FileFormatError, match="damaged"):
            make().fit(X, resume=path, **OPTIONS)
    files.write(path, content, {name: values for name, values in tensors.items() if name != "checkpoint.good"})
    with pytest.raises(FileFormatError, match="damaged"):
        make().fit(X, resume=path, **OPTIONS)
    with pytest.raises(FileNotFoundError, match="none"):
        make().fit(X, resume=tmp_path / "none", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="no folder"):
        make().fit(X, checkpoint=tmp_path / "no" / "folder", **OPTIONS)


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
