"""What a fit does: it finds the density, it can be repeated, and it ends in a good state however it ends."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import (
    ActNorm,
    Adam,
    Affine,
    Coupling,
    Epoch,
    Flow,
    History,
    TrainingDivergedError,
    realnvp,
)
from pushforward._fit import loop
from pushforward._io import scan
from scipy import stats

both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def small(dim: int, context: int = 0, dtype: str = "float32", seed: int = 0) -> Flow:
    layers = realnvp(dim, depth=4, hidden=(16, 16))
    return Flow(dim, layers=layers, context=context, dtype=dtype, seed=seed, num_threads=1)


def table(n: int, dim: int = 2, seed: int = 0) -> np.ndarray:
    """Rows of a density that is not a Gaussian's."""
    x = np.random.default_rng([seed, n]).normal(size=(n, dim))
    x[:, 0] += 0.5 * x[:, -1] ** 2
    return x * 3 + 1


def loss(flow: Flow, x: np.ndarray, context: np.ndarray | None = None) -> float:
    return -float(flow.log_prob(x, context).mean())


# -- it finds the density ----------------------------------------------------------------------------------------


@both_precisions
def test_a_gaussian_is_found(dtype: str) -> None:
    rng = np.random.default_rng(0)
    covariance = np.array([[4.0, 1.8, 0.0], [1.8, 1.0, -0.3], [0.0, -0.3, 0.5]])
    truth = stats.multivariate_normal([10.0, -5.0, 0.0], covariance)
    flow = small(3, dtype=dtype).fit(truth.rvs(4000, random_state=rng), epochs=25, seed=0)
    x = truth.rvs(20_000, random_state=rng)
    # The Kullback-Leibler divergence from the truth; its own sampling error is below 0.005 here.
    assert -0.01 < truth.logpdf(x).mean() - flow.log_prob(x).mean() < 0.05
    assert flow.history["validation_loss"].min() == pytest.approx(truth.entropy(), abs=0.2)
    np.testing.assert_allclose(np.cov(flow.sample(20_000, seed=0).T), covariance, atol=0.25)


def moons(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle, side = rng.uniform(0, np.pi, n), rng.integers(0, 2, n)
    x = np.stack([np.cos(angle) + side, np.sin(angle) * np.where(side, -1, 1) + 0.5 * side], axis=1)
    return x + rng.normal(scale=0.1, size=x.shape)


def clusters(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = np.array([[-4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    return centers[rng.integers(0, 3, n)] + rng.normal(size=(n, 2)) * [0.5, 0.8]


@pytest.mark.parametrize(("draw", "gain"), [(moons, 0.4), (clusters, 1.0)])
def test_what_is_not_gaussian_is_found_better_than_by_one(draw: Callable[[int, int], np.ndarray], gain: float) -> None:
    x, unseen = draw(2000, 1), draw(5000, 2)
    gaussian = stats.multivariate_normal(x.mean(axis=0), np.cov(x.T)).logpdf(unseen).mean()
    flow = Flow(2, layers=realnvp(2, depth=6, hidden=(32, 32)), seed=0, num_threads=1)
    flow.fit(x, epochs=100, seed=0)
    assert flow.log_prob(unseen).mean() > gaussian + gain


@pytest.mark.parametrize("dim", [1, 2])
def test_a_density_follows_its_context(dim: int) -> None:
    rng = np.random.default_rng(0)
    c = rng.uniform(-3, 3, size=(3000, 1))
    x = c + rng.normal(scale=0.3, size=(3000, dim))
    flow = small(dim, context=1).fit(x, context=c, epochs=40, optimizer=Adam(2e-3), seed=0)
    for condition in (-2.0, 0.0, 1.5):
        truth = stats.norm(condition, 0.3)
        sample = flow.sample(5000, context=[condition], seed=1)
        assert sample.mean(axis=0) == pytest.approx(condition, abs=0.08)
        assert sample.std(axis=0) == pytest.approx(0.3, rel=0.15)
        unseen = truth.rvs((5000, dim), random_state=rng)
        assert -0.02 < truth.logpdf(unseen).sum(axis=1).mean() - flow.log_prob(unseen, [condition]).mean() < 0.1


def test_one_feature_without_context() -> None:
    x = np.random.default_rng(0).normal(100.0, 7.0, size=(2000, 1))
    flow = small(1).fit(x, epochs=10, seed=0)
    at = np.linspace(80, 120, 41)  # three deviations
    np.testing.assert_allclose(flow.log_prob(at[:, None]), stats.norm(x.mean(), x.std()).logpdf(at), atol=0.1)


def test_weights_stand_for_a_resampled_table() -> None:
    """Rows of the left cluster count nine times; so does the density there, as if they had been drawn more often."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, 2000)
    x = rng.normal(size=(2000, 2)) + np.array([[-3.0, 0.0], [3.0, 1.0]])[right]
    weights = np.where(right, 1.0, 9.0)
    resampled = x[rng.choice(2000, size=2000, p=weights / weights.sum())]
    flows = {
        "weighted": small(2).fit(x, weights=weights, epochs=30, seed=0),
        "rescaled": small(2).fit(x, weights=weights * 1e-6, epochs=30, seed=0),
        "resampled": small(2).fit(resampled, epochs=30, seed=0),
        "unweighted": small(2).fit(x, epochs=30, seed=0),
    }
    score = {name: np.average(flow.log_prob(x), weights=weights) for name, flow in flows.items()}
    assert score["weighted"] == pytest.approx(score["resampled"], abs=0.06)
    assert score["weighted"] == pytest.approx(score["rescaled"], abs=0.01)
    assert score["weighted"] > score["unweighted"] + 0.15
    left = (flows["weighted"].sample(4000, seed=0)[:, 0] < 0).mean()
    assert left == pytest.approx(0.9, abs=0.04)


def test_rows_without_weight_change_nothing_that_is_learned() -> None:
    x = table(500)
    outliers = np.r_[x, np.full((50, 2), 1e6) + np.arange(50)[:, None] * [1, 2]]
    flow = small(2).fit(outliers, weights=np.r_[np.ones(500), np.zeros(50)], epochs=5, seed=0)
    assert loss(flow, x) == pytest.approx(loss(small(2).fit(x, epochs=5, seed=0), x), abs=0.3)
    assert np.isfinite(flow.history["train_loss"]).all()


# -- it can be repeated ------------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize("context", [0, 2])
def test_a_seeded_fit_is_the_same_to_the_last_bit(dtype: str, context: int) -> None:
    x, c, weights = table(300), table(300, 2, seed=1) if context else None, np.random.default_rng(2).random(300)

    def fitted(threads: int = 1, seed: Any = 5, flow_seed: int = 0) -> tuple[bytes, bytes]:
        flow = small(2, context, dtype, flow_seed)
        flow.num_threads = threads
        flow.fit(x, context=c, weights=weights, epochs=3, batch_size=150, seed=seed)
        return flow.parameters.tobytes(), flow.history["validation_loss"].tobytes()

    once = fitted()
    assert fitted() == once
    assert fitted(threads=2) == once
    assert fitted(threads=3) == once
    assert fitted(seed=6)[0] != once[0]
    assert fitted(flow_seed=1)[0] != once[0]
    generator = np.random.default_rng(5)
    by_generator = fitted(seed=generator)
    assert fitted(seed=np.random.default_rng(5)) == by_generator
    assert fitted(seed=generator) != by_generator, "a generator goes on; the second fit draws other numbers"


def test_without_a_seed_fits_differ() -> None:
    x = table(100)
    assert len({small(2).fit(x, epochs=1).parameters.tobytes() for _ in range(3)}) == 3


def test_a_second_fit_goes_on_from_the_first() -> None:
    x = table(1000)
    flow = small(2).fit(x, epochs=10, seed=0)
    first, standardised = flow.history, flow.inverse(x[:1])[0]
    flow.fit(x + 1e-3, epochs=2, seed=1, optimizer=Adam(1e-4))
    assert flow.history is not first
    assert len(flow.history) == 2
    assert flow.history["train_loss"][0] < first["train_loss"][0]
    assert flow.history["train_loss"][0] == pytest.approx(first["train_loss"][-1], abs=0.1)
    assert np.abs(flow.inverse(x[:1])[0] - standardised).max() < 0.2


# -- the start ---------------------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize("layers", [[], [ActNorm()], [ActNorm(), Coupling(Affine()), ActNorm()], realnvp(3, depth=3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_initialize_gives_mean_0_and_variance_1(
    monkeypatch: pytest.MonkeyPatch, dtype: str, layers: list, weighted: bool, in_pieces: bool
) -> None:
    """Whatever the couplings make of the rows, the ActNorm on their z side, or the standardisation, sets it right."""
    if in_pieces:
        monkeypatch.setattr(scan, "_PIECE_BYTES", 1)  # statistics of a large table are put together from parts
    x = table(700, 3) * [1e-3, 1.0, 1e5] + [5.0, 0.0, 1e9]
    weights = np.random.default_rng(0).integers(0, 3, 700) if weighted else None
    flow = Flow(3, layers=layers, dtype=dtype, seed=0, num_threads=1)
    flow.parameters = np.random.default_rng(1).normal(scale=0.2, size=flow.parameters.shape)
    assert flow.initialize(x, weights=weights) is flow
    if layers and not isinstance(layers[0], ActNorm):
        flow = Flow(3, layers=[ActNorm(), *layers], dtype=dtype, seed=0, num_threads=1).initialize(x, weights=weights)
    z, _ = flow.inverse(x)
    mean = np.average(z, axis=0, weights=weights)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(np.average((z - mean) ** 2, axis=0, weights=weights), 1, atol=1e-5)
    assert flow.history is None


def test_initialize_keeps_what_is_learned_and_a_fit_keeps_initialize() -> None:
    x = table(200)
    flow = Flow(2, layers=[Coupling(), ActNorm()], seed=0, num_threads=1)
    before = {name: values.copy() for name, values in flow.named_parameters().items()}
    flow.initialize(x)
    for name, values in flow.named_parameters().items():
        assert name.startswith("layers.1") or (values == before[name]).all()
    z, _ = flow.inverse(x)
    flow.parameters = flow.parameters
    flow.fit(x * 2, epochs=1, seed=0, optimizer=Adam(1e-30))
    np.testing.assert_allclose(flow.inverse(x)[0], z, atol=1e-6)


def test_a_constant_condition_does_no_harm() -> None:
    x = table(200)
    flow = small(2, context=2).fit(x, context=np.c_[np.full(200, 1e9), x[:, 0]], epochs=3, seed=0)
    assert np.isfinite(flow.log_prob(x, [1e9, 0.0])).all()


# -- validation and stopping -------------------------------------------------------------------------------------


def test_the_best_epoch_is_taken_and_patience_ends_the_fit() -> None:
    """A large network memorises a few rows, and the validation loss rises again."""
    x, held = table(60), table(200, seed=1)
    flow = Flow(2, layers=realnvp(2, depth=4, hidden=(64, 64)), seed=0, num_threads=1)
    flow.fit(x, validation=held, epochs=500, patience=4, batch_size=20, optimizer=Adam(1e-2), seed=0)
    history = flow.history
    assert history.stopped == "patience"
    assert history.best_epoch + 4 < len(history) < 500
    assert loss(flow, held) == pytest.approx(history.best_loss, rel=1e-12)
    assert history.best_loss <= min(history.initial_loss, history["validation_loss"].min())
    assert history["validation_loss"].max() > history.best_loss
    assert 0 < history["learning_rate"][-1] < 0.3 * history["learning_rate"].max(), "it cools before it ends"


def test_the_start_is_kept_if_no_epoch_is_better() -> None:
    x, held = table(200), table(200, seed=1)
    flow = small(2).fit(x, epochs=10, seed=0)
    before, score = flow.parameters.copy(), loss(flow, held)
    flow.fit(x, validation=held, epochs=2, optimizer=Adam(1.0, weight_decay=0.0), seed=0)
    assert flow.history.best_epoch == 0
    assert flow.history.initial_loss == flow.history.best_loss == pytest.approx(score, rel=1e-12)
    np.testing.assert_array_equal(flow.parameters, before)


def test_what_is_kept_is_an_average_of_the_steps() -> None:
    """With one step an epoch and no validation, the average after three steps is that of their parameters."""
    x, states = table(100), []
    flow = small(2).initialize(x)
    options = {"validation": None, "batch_size": 100, "schedule": "constant", "seed": 0}
    for epochs in (1, 2, 3):
        twin = small(2).initialize(x)
        states.append(twin.fit(x, epochs=epochs, **options).parameters.astype(np.float64))
    # The averages after 1, 2 and 3 steps; the parameters themselves follow from them.
    raw = [states[0], 2 * states[1] - states[0], 3 * states[2] - 2 * states[1]]
    np.testing.assert_allclose(states[2], np.mean(raw, axis=0), atol=1e-6)
    assert np.abs(raw[2] - states[2]).max() > 1e-5
    np.testing.assert_array_equal(flow.fit(x, epochs=3, **options).parameters, states[2].astype(np.float32))


@pytest.mark.parametrize("patience", [None, 1000])
def test_without_patience_all_epochs_are_done(patience: int | None) -> None:
    flow = small(2).fit(table(50), epochs=40, patience=patience, optimizer=Adam(0.02), seed=0)
    assert (len(flow.history), flow.history.stopped) == (40, "epochs")


@pytest.mark.parametrize("validation", [None, 0, 0.0, 0.25, np.float32(0.25), "rows", "list", "ints"])
def test_kinds_of_validation(validation: Any) -> None:
    x = table(100)
    held: Any = {"rows": x[:40], "list": x[:40].tolist(), "ints": x[:40].astype(int)}.get(str(validation), validation)
    flow = small(2).fit(x, validation=held, epochs=3, batch_size=10, seed=0)
    curve, steps = flow.history["validation_loss"], flow.history["steps"][-1]
    assert steps == 3 * (8 if validation and not isinstance(validation, str) else 10)  # a quarter held out, or nothing
    if not validation:
        assert np.isnan(curve).all()
        assert flow.history.best_epoch == 3
    elif isinstance(validation, str):
        assert loss(flow, np.array(held)) == pytest.approx(flow.history.best_loss, rel=1e-12)
    else:
        assert np.isfinite(curve).all()


def test_validation_with_context_is_a_pair() -> None:
    x, c, held, condition = table(100), table(100, seed=1)[:, :1], table(30, seed=2), table(30, seed=3)[:, :1]
    flow = small(2, context=1).fit(x, context=c, validation=(held, condition), epochs=3, seed=0)
    assert loss(flow, held, condition) == pytest.approx(flow.history.best_loss, rel=1e-12)


def test_held_out_rows_are_not_learned_from() -> None:
    """Rows that are held out and rows that are trained on add up to the table, in losses weighted by their number."""
    x = table(200)
    flow = Flow(2, layers=[], num_threads=1).initialize(x).fit(x, validation=0.3, epochs=1, seed=0)
    [epoch] = flow.history
    assert 0.7 * epoch.train_loss + 0.3 * epoch.validation_loss == pytest.approx(loss(flow, x), rel=1e-9)
    assert epoch.train_loss != pytest.approx(epoch.validation_loss, abs=1e-6)


def test_a_callback_sees_each_epoch_and_can_end_the_fit() -> None:
    seen: list[Epoch] = []
    flow = small(2)

    def callback(given: Flow, epoch: Epoch) -> bool:
        assert given is flow
        assert epoch is flow.history.epochs[-1]
        seen.append(epoch)
        return len(seen) == 3

    flow.fit(table(100), epochs=10, callback=callback, seed=0)
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert flow.history.stopped == "callback"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_leaves_the_best_state_and_goes_on(error: type[BaseException]) -> None:
    x, held = table(100), table(100, seed=1)
    states: list[np.ndarray] = []

    def callback(flow: Flow, epoch: Epoch) -> None:
        states.append(flow.parameters.copy())
        if epoch.epoch == 5:
            flow.parameters[...] = 7.0  # far from good
            raise error

    flow = small(2)
    with pytest.raises(error):
        flow.fit(x, validation=held, epochs=10, callback=callback, seed=0, optimizer=Adam(0.05), schedule="constant")
    history = flow.history
    assert (len(history), history.stopped) == (5, "interrupted")
    np.testing.assert_array_equal(flow.parameters, states[history.best_epoch - 1])
    assert loss(flow, held) == pytest.approx(history["validation_loss"].min(), rel=1e-12)
    flow.fit(x, epochs=1, seed=0)
    assert flow.history.stopped == "epochs"


def test_time_ends_a_fit() -> None:
    flow = small(2)
    started = time.perf_counter()
    flow.fit(table(2000), max_time=0.2, patience=None, seed=0)
    assert 0.2 <= time.perf_counter() - started < 60  # generous: the machine may be busy
    assert flow.history.stopped == "max_time"
    assert flow.history["steps"][-1] >= 1
    assert np.isfinite(flow.parameters).all()


def test_a_moment_is_enough_for_a_step() -> None:
    flow = small(2).fit(table(2000), max_time=1e-9, batch_size=10, seed=0)
    assert [epoch.steps for epoch in flow.history] == [1]
    assert np.isfinite(flow.history["train_loss"]).all()


def test_learning_rates() -> None:
    x, options = table(200), {"validation": None, "batch_size": 20, "epochs": 50, "optimizer": Adam(3e-3), "seed": 0}
    cosine = small(2).fit(x, **options).history["learning_rate"]
    constant = small(2).fit(x, schedule="constant", **options).history["learning_rate"]
    # 500 steps: growing over the first 50, then down to 0 along a half cosine, or not.
    assert constant[0] == pytest.approx(3e-3 * 10 / 50)
    np.testing.assert_allclose(constant[5:], 3e-3)
    assert 0 < cosine[-1] < 1e-4 * 3e-3
    assert (np.diff(cosine[5:]) < 0).all()
    assert cosine[24] == pytest.approx(1.5e-3, rel=0.02)


def test_a_fit_clips_its_gradients() -> None:
    """Far below Adam's eps a gradient moves nothing; the history tells the length before it was shortened."""
    x = table(200)
    flow = small(2).initialize(x)
    before = flow.parameters.copy()
    flow.fit(x, clip_norm=1e-16, epochs=3, optimizer=Adam(weight_decay=0.0), seed=0)
    np.testing.assert_allclose(flow.parameters, before, atol=1e-8)
    assert (flow.history["grad_norm"] > 1e-2).all()
    flow.fit(x, clip_norm=None, validation=None, epochs=3, seed=0)
    assert np.abs(flow.parameters - before).max() > 1e-4


def test_batches_make_steps() -> None:
    flow = small(2).fit(table(101), validation=None, batch_size=25, epochs=2, seed=0)
    assert flow.history["steps"].tolist() == [5, 10]
    assert small(2).fit(table(101), batch_size=10**9, epochs=2, seed=0).history["steps"].tolist() == [1, 2]


# -- what is shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])  # no terminal here
def test_progress_goes_to_standard_error(progress: bool | None, shown: bool, capsys: pytest.CaptureFixture) -> None:
    small(2).fit(table(50), epochs=3, progress=progress, seed=0)
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) == shown
    last = r"\rfit: 100%\|.*\| \[00:0\d<00:00, epoch 3/3, loss -?\d+\.\d{4}, validation -?\d+\.\d{4}\]\n$"
    assert not shown or re.search(last, err)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What the progress bar is told, and where it starts."""
    told: list[tuple[float, str]] = []

    @contextlib.contextmanager
    def bar(done: float) -> Iterator[Callable[[float, str], None]]:
        told.append((done, ""))
        yield lambda done, text: told.append((done, text))

    monkeypatch.setattr(loop, "bar", bar)
    return told


def test_the_bar_moves_with_each_step(moves: list[tuple[float, str]]) -> None:
    history = small(2).fit(table(100), epochs=3, batch_size=15, validation=0.1, progress=True, seed=0).history
    steps = 6
    assert len(moves) == 1 + 3 * (steps + 1)
    done = [share for share, _ in moves]
    ends = [epoch + step / steps for epoch in range(3) for step in (*range(1, steps + 1), steps)]
    assert done == pytest.approx([0.0, *(end / 3 for end in ends)])
    first, end_of_first, fourth_of_second = (moves[i][1] for i in (1, 7, 11))
    assert re.fullmatch(r"epoch 1/3, loss \d+\.\d{4}", first)
    assert (
        end_of_first
        == f"epoch 1/3, loss {history['train_loss'][0]:.4f}, validation {history['validation_loss'][0]:.4f}"
    )
    loss = re.fullmatch(rf"epoch 2/3, loss (.*), validation {history['validation_loss'][0]:.4f}", fourth_of_second)
    assert loss
    assert loss[1] != f"{history['train_loss'][0]:.4f}"
    assert moves[-1][1].startswith(f"epoch 3/3, loss {history['train_loss'][2]:.4f}, ")


def test_the_bar_goes_by_time_where_that_ends_the_fit(moves: list[tuple[float, str]]) -> None:
    small(2).fit(table(100), max_time=0.05, patience=None, progress=True, seed=0)
    done = [share for share, _ in moves]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert 0 < done[1] < 1
    assert re.match(r"epoch 1, loss", moves[1][1])


def test_the_bar_goes_on_where_a_checkpoint_was(moves: list[tuple[float, str]], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    options = {"epochs": 4, "progress": True, "validation": None, "seed": 0}

    def stop(_: Flow, epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(2).fit(table(100), **options, batch_size=25, checkpoint=kept, checkpoint_every=6, callback=stop)
    moves.clear()
    small(2).fit(table(100), **options, batch_size=25, resume=kept)
    assert moves[0] == (0.375, "")
    assert moves[1][0] == pytest.approx(7 / 16)
    assert re.fullmatch(r"epoch 2/4, loss -?\d+\.\d{4}", moves[1][1])


@pytest.mark.parametrize("validation", [0.2, None])
def test_a_history_prints_and_is_a_table(validation: float | None) -> None:
    history = small(2).fit(table(50), epochs=4, validation=validation, seed=0).history
    result = f"best epoch {history.best_epoch}, validation loss" if validation else "training loss"
    assert re.match(rf"4 epochs, 4 steps, \d+\.\d s, stopped by epochs; {result} \d+\.\d+ nats", str(history))
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4]
    assert (np.diff(history["seconds"]) > 0).all()
    assert (history["grad_norm"] > 0).all()
    assert "no epoch" in str(History())


# -- a loss that is not finite -----------------------------------------------------------------------------------


class Failing:
    """A core whose loss is NaN in some calls."""

    def __init__(self, core: Any, fails: Callable[[int], bool]) -> None:
        self.core, self.fails, self.calls = core, fails, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def loss_and_grad(self, *arguments: Any, **options: Any) -> tuple[float, float]:
        self.calls += 1
        loss, norm = self.core.loss_and_grad(*arguments, **options)
        return (np.nan if self.fails(self.calls) else loss), norm


def test_a_fit_goes_back_and_on_with_a_lower_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushforward._fit.loop._MOST_AVERAGED_STEPS", 1)  # the average is the last step's parameters
    x, flow = table(100), small(2).initialize(table(100))
    flow._state.core = Failing(flow._state.core, lambda call: call in (6, 9))
    states = [flow.parameters.copy()]

    def callback(flow: Flow, epoch: Epoch) -> None:
        states.append(flow.parameters.copy())

    options = {"batch_size": 100, "epochs": 20, "patience": None, "schedule": "constant", "seed": 0}
    options["optimizer"] = Adam(2e-3, weight_decay=0.0)
    with pytest.warns(RuntimeWarning, match="the loss became non-finite at step 6: the fit goes back") as warned:
        flow.fit(x, validation=table(50, seed=1), callback=callback, **options)
    assert len(warned) == 1, "once is enough"
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(states[6], states[5])
    rates = flow.history["learning_rate"]
    assert rates[7] == pytest.approx(0.3 * 2e-3)
    np.testing.assert_allclose(rates[9:], 0.09 * 2e-3)
    assert (len(flow.history), flow.history.stopped) == (20, "epochs")
    assert np.isnan(flow.history["train_loss"][5])
    assert np.isfinite(np.delete(flow.history["train_loss"], [5, 8])).all()


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.filterwarnings("ignore:the loss became non-finite")
def test_a_fit_that_keeps_failing_ends_at_its_best(first: int) -> None:
    x, held = table(100), table(50, seed=1)
    flow = small(2).initialize(x)
    before, flow._state.core = flow.parameters.copy(), Failing(flow._state.core, lambda call: call >= first)
    with pytest.raises(
        TrainingDivergedError, match="the loss became non-finite 9 times, the last time with a learning rate"
    ):
        flow.fit(x, validation=held, batch_size=100, epochs=20, seed=0)
    assert flow.history.stopped == "diverged"
    assert loss(flow, held) == pytest.approx(flow.history["validation_loss"].min(), rel=1e-12)
    assert (first == 1) == (flow.parameters == before).all()


@pytest.mark.parametrize("rate", [1e4, 1e6, 1e30, 1e39])
@pytest.mark.parametrize("validation", [None, 0.2])
@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.filterwarnings("ignore:the loss became non-finite")
def test_an_absurd_learning_rate_leaves_a_finite_flow(rate: float, validation: float | None, batch_size: int) -> None:
    x, flow = table(64), small(2)
    options = {"batch_size": batch_size, "optimizer": Adam(rate), "clip_norm": None, "epochs": 30, "seed": 0}
    try:
        flow.fit(x, validation=validation, **options)
    except TrainingDivergedError:
        assert flow.history.stopped == "diverged"
    assert np.isfinite(flow.parameters).all()
    assert np.isfinite(flow.log_prob(x)).all()
    flow.fit(x, epochs=1, seed=0)
