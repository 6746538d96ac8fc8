"""Fits to a log density: laws of the gradient, what is refused, and that nothing is lost."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import (
    LU,
    MLP,
    Adam,
    Affine,
    Circle,
    Coupling,
    FileFormatError,
    Flow,
    Interval,
    Mixture,
    Normal,
    Positive,
    RationalQuadratic,
    StudentT,
    TrainingDivergedError,
    Uniform,
)
from pushforward._fit import reverse
from pushforward._fit.adaptive import AdaptiveSampling
from pushforward._fit.reverse import ReverseKL, elbo
from pushforward._fit.spread import Draws, independent, spread
from pushforward._fit.tempering import Path as TemperingPath
from pushforward._fit.tempering import effective_rows, largest_power
from pushforward._model.latent import base_alone
from pushforward._model.state import state_of
from pushforward._target import Target

NET = MLP((8,), "tanh")
LAYERS = [Coupling(Affine(), NET), Coupling(RationalQuadratic(bins=4), NET), LU()]
BOXED = [Coupling(RationalQuadratic(bins=4), NET)] * 2
FLOWS: dict[str, dict[str, Any]] = {
    "normal": {},
    "student-t": {"base": StudentT(6.0)},
    "student-t-learned": {"base": StudentT(6.0, learned=True)},
    "mixture": {"base": Mixture(3)},
    "positive": {"support": [Positive(), Interval(-1, 3)]},
    "circle": {"layers": BOXED, "support": [Circle(-3, 3), Interval(-2, 2)]},
    "box": {"layers": BOXED, "base": Uniform(), "support": Interval(-2, 2)},
}
QUICK: dict[str, Any] = {"epochs": 3, "steps": 5, "batch_size": 32, "seed": 0}


def quick(has_gradient: bool) -> dict[str, Any]:
    return QUICK if has_gradient else {**QUICK, "population": 200}


def make(name: str = "normal", *, noise: float = 0.1, **options: Any) -> Flow:
    flow = Flow(2, **{"layers": LAYERS, "dtype": "float64", "seed": 1, **FLOWS[name], **options})
    flow.parameters += noise * np.random.default_rng(2).normal(size=flow.parameters.shape)
    return flow


def tilted(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A correlated Gaussian of scale 1 to 2, times a wave: log evidence unknown, gradient exact."""
    a, b = x.T
    values = -0.5 * a**2 - 0.2 * (b - 0.5 * a) ** 2 + 0.3 * np.cos(a + b)
    slope = -0.3 * np.sin(a + b)
    return values, np.stack([-a + 0.2 * (b - 0.5 * a) + slope, -0.4 * (b - 0.5 * a) + slope], axis=1)


def without_gradient(x: np.ndarray) -> np.ndarray:
    return tilted(x)[0]


def normal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return -0.5 * (x**2).sum(axis=1), -x


def as_target(flow: Flow) -> Target:
    return Target(flow.log_prob_and_grad, flow.dim)


def objective(flow: Flow, target: Target, batch_size: int = 64, *, power: float = 1.0) -> ReverseKL:
    path = TemperingPath(state_of(make(noise=0.0)))
    path.power = power
    return ReverseKL(state_of(flow), target, path, 4, batch_size, 7)


def numerical(function: Any, flow: Flow, step: float = 1e-6) -> np.ndarray:
    result = np.empty(flow.parameters.size)
    for i in range(len(result)):
        flow.parameters[i] += step
        above = function()
        flow.parameters[i] -= 2 * step
        below = function()
        flow.parameters[i] += step
        result[i] = (above - below) / (2 * step)
    return result


# -- laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "student-t", "positive", "circle", "box"])
def test_the_path_gradient_is_that_of_the_divergence_at_fixed_draws_without_the_score(name: str) -> None:
    flow = make(name)
    z = base_alone(state_of(flow)).sample(3, 64)[0]

    def divergence() -> float:
        x, log_det = flow.forward(z)
        return float((-log_det - tilted(x)[0]).mean())  # and the base's, which the parameters do not change

    x, _ = flow.forward(z)
    seeds = (flow.log_prob_and_grad(x)[1] - tilted(x)[1]) / len(x)
    gradient = objective(flow, Target(tilted, 2)).path_gradient(z, seeds)
    score = -flow.loss_and_grad(x)[1]
    expected = numerical(divergence, flow) - score
    np.testing.assert_allclose(gradient, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("power", [1.0, 0.3])
@pytest.mark.parametrize("name", ["normal", "student-t-learned", "mixture"])
def test_the_mean_gradient_is_that_of_the_divergence(name: str, power: float, monkeypatch: Any) -> None:
    """In one dimension, where the divergence is an integral."""
    monkeypatch.setattr(reverse, "_WIDENED", 0.0)
    options = {"layers": [Coupling(Affine(), MLP((2,), "tanh"))], "dtype": "float64", **FLOWS[name]}
    flow = Flow(1, seed=1, **options)
    flow.parameters += 0.3 * np.random.default_rng(2).normal(size=flow.parameters.shape)
    start = Flow(1, layers=[])
    x = np.linspace(-60, 60, 100_001)[:, None]

    def target(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -np.log(1 + (x[:, 0] - 1) ** 2), -2 * (x - 1) / (1 + (x - 1) ** 2)

    def divergence() -> float:
        log_q = flow.log_prob(x)
        log_p = power * target(x)[0] + (1 - power) * start.log_prob(x)
        return float((np.exp(log_q) * (log_q - log_p)).sum() * (x[1, 0] - x[0, 0]))

    path = TemperingPath(state_of(start))
    path.power = power
    kl = ReverseKL(state_of(flow), Target(target, 1), path, 4, 500, 7)
    found = np.empty((1000, flow.parameters.size))
    for key, gradient in enumerate(found):
        kl.loss_and_grad(key, gradient, 0)
    error = found.std(axis=0) / np.sqrt(len(found))
    expected = numerical(divergence, flow, 1e-4)
    assert (np.abs(found.mean(axis=0) - expected) < 5 * error + 1e-3 * np.abs(expected).max()).all()
    assert np.abs(expected).max() > 20 * error.max()


@pytest.mark.parametrize("name", FLOWS)
def test_the_gradient_vanishes_where_the_flow_is_the_target(name: str) -> None:
    flow = make(name)
    twin = make(name)
    far = objective(flow, Target(tilted, 2))
    near = objective(flow, as_target(twin))
    gradient, scale = np.empty_like(flow.parameters), np.empty_like(flow.parameters)
    for key in range(3):
        far.loss_and_grad(key, scale, 0)
        loss, _ = near.loss_and_grad(key, gradient, 0)
        assert abs(loss) < 1e-12
        assert np.abs(gradient).max() < 1e-10 * np.abs(scale).max()


def test_effective_rows_and_the_largest_power() -> None:
    assert effective_rows(np.full(10, -500.0)) == pytest.approx(10)
    assert effective_rows(np.array([0.0, -np.inf, -np.inf])) == pytest.approx(1)
    assert effective_rows(np.full(3, -np.inf)) == 0
    ratio = np.random.default_rng(0).normal(size=10_000) * 3
    power = largest_power(np.zeros(len(ratio)), ratio, 0.0, 5000)
    assert effective_rows(power * ratio) == pytest.approx(5000)
    assert power == pytest.approx(np.sqrt(np.log(2)) / 3, rel=0.05)  # of normal ratios of deviation 3
    assert largest_power(np.zeros(3), np.zeros(3), 0.0, 3) == 1
    assert largest_power(np.zeros(3), np.array([0.0, -800.0, -800.0]), 0.4, 2) == 0.4


def test_the_elbo_counts_draws_without_mass() -> None:
    log_q = np.zeros(4)
    assert elbo(np.array([-1.0, -2.0, -np.inf, -np.inf]), log_q) == pytest.approx(-1.5 + np.log(0.5))
    assert elbo(np.full(4, -np.inf), log_q) == -np.inf


def test_location_and_scale_are_found() -> None:
    """Several units away, and of scales a factor of 600 apart; behind supports, in the units of the logarithm."""
    center, width = np.array([5.0, -20.0, 2.0]), np.array([0.05, 30.0, 0.3])

    def gaussian(x: np.ndarray) -> np.ndarray:
        y = np.stack([x[:, 0], x[:, 1], np.log(x[:, 2])], axis=1)
        return -0.5 * (((y - center) / width) ** 2).sum(axis=1) - y[:, 2]

    target = Target(gaussian, 3)
    flow = Flow(3, layers=[], support=[*Flow(2).support, Positive()])
    (shift, scale), found = spread(state_of(flow), lambda x: target(x)[0], target, 0)
    assert (np.abs(shift - center) < 0.3 * width).all()
    assert ((scale > 1.5 * width) & (scale < 2.5 * width)).all()  # twice as wide as the target
    assert sum(len(draws.x) for draws in found) == target.calls


# -- whole fits --------------------------------------------------------------------------------------------------


def estimate(flow: Flow, log_density: Any, n: int = 20_000) -> tuple[float, float]:
    """Log evidence by importance sampling, and the effective fraction."""
    x, log_q = flow.sample_and_log_prob(n, seed=1)
    weights = log_density(x) - log_q
    return float(np.logaddexp.reduce(weights) - np.log(n)), effective_rows(weights) / n


def evidence(log_density: Any, low: float = -12, high: float = 12, n: int = 1201) -> float:
    axis = np.linspace(low, high, n)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return float(np.logaddexp.reduce(log_density(grid)) + 2 * np.log(axis[1] - axis[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_default_flow_finds_the_evidence(dtype: str) -> None:
    flow = Flow(2, dtype=dtype, seed=0).fit_density(tilted, epochs=10, steps=50, seed=0)
    found, effective = estimate(flow, without_gradient)
    assert found == pytest.approx(evidence(without_gradient), abs=0.01)
    assert effective > 0.9
    history = flow.history
    assert history is not None
    assert history.stopped == "epochs"
    assert history["elbo"].max() == pytest.approx(-history.best_loss, abs=0.02)
    assert history["power"][-1] == 1
    assert history.epochs[-1].evaluations > 10 * 50 * 128
    assert "effective" in str(history)
    assert history.plot().axes[0].get_ylabel().startswith("log q - log p")


def test_without_a_gradient_too() -> None:
    flow = Flow(2, seed=0).fit_density(without_gradient, epochs=8, population=1000, seed=0)
    found, effective = estimate(flow, without_gradient)
    assert found == pytest.approx(evidence(without_gradient), abs=0.02)
    assert effective > 0.8
    history = flow.history
    assert history is not None
    assert np.diff(history["evaluations"]).tolist() == [1000] * 7
    assert history.plot().axes[0].get_ylabel().startswith("negative log-likelihood")


def modes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Four narrow Gaussians at the corners of a square, with masses 1 to 4."""
    centers = np.array([[-3.0, -3], [-3, 3], [3, -3], [3, 3]])
    parts = -0.5 * (((x[:, None] - centers) / 0.5) ** 2).sum(axis=2) + np.log(np.arange(1, 5) / 10)
    values = np.logaddexp.reduce(parts, axis=1)
    share = np.exp(parts - values[:, None])
    return values, (share[:, :, None] * (centers - x[:, None]) / 0.25).sum(axis=1)


@pytest.mark.parametrize("has_gradient", [True, False])
def test_separate_modes_keep_their_masses(has_gradient: bool) -> None:
    density = modes if has_gradient else lambda x: modes(x)[0]
    flow = Flow(2, seed=0).fit_density(density, epochs=15, seed=0)
    assert estimate(flow, lambda x: modes(x)[0])[0] == pytest.approx(np.log(2 * np.pi * 0.25), abs=0.03)
    x = flow.sample(20_000, seed=2)
    corner = 2 * (x[:, 0] > 0) + (x[:, 1] > 0)
    np.testing.assert_allclose(np.bincount(corner, minlength=4) / len(x), [0.1, 0.2, 0.3, 0.4], atol=0.06)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("has_gradient", [True, False])
def test_every_kind_of_flow_can_be_fitted(name: str, has_gradient: bool) -> None:
    flow = make(name)
    flow.fit_density(tilted if has_gradient else without_gradient, **quick(has_gradient))
    assert np.isfinite(flow.parameters).all()
    assert flow.history is not None
    assert np.isfinite(flow.history["elbo"]).all()


def test_draws_stay_within_the_support() -> None:
    def exponential(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert (x > 0).all()
        return -x[:, 0], np.full_like(x, -1.0)

    flow = Flow(1, support=Positive(), seed=0).fit_density(exponential, epochs=10, steps=50, seed=0)
    assert estimate(flow, lambda x: -x[:, 0])[0] == pytest.approx(0, abs=0.01)


def test_it_goes_on_from_rows_and_from_a_fit() -> None:
    rows = np.random.default_rng(0).normal([300, -40], [20, 0.1], size=(500, 2))

    def far(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = (x - [300, -40]) / [20, 0.1]
        return -0.5 * (z**2).sum(axis=1), -z / [20, 0.1]

    begun = make().initialize(rows), make().fit(rows, epochs=2, seed=0)
    for flow, start in ((Flow(2, seed=0), rows), (make(), rows), *((flow, None) for flow in begun)):
        flow.fit_density(far, start=start, epochs=6, steps=50, seed=0)
        found, effective = estimate(flow, lambda x: far(x)[0])
        assert found == pytest.approx(np.log(2 * np.pi * 2), abs=0.02)
        assert effective > 0.9


# -- what a target may do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_gradient", [True, False])
def test_mass_that_ends_inside_of_the_reach(has_gradient: bool) -> None:
    """A half-plane: -inf on the other side."""

    def half(x: np.ndarray) -> Any:
        values = np.where(x[:, 0] > 0, -0.5 * (x**2).sum(axis=1), -np.inf)
        return (values, -x) if has_gradient else values

    flow = Flow(2, seed=0).fit_density(half, epochs=12, seed=0)
    found, effective = estimate(flow, lambda x: np.where(x[:, 0] > 0, -0.5 * (x**2).sum(axis=1), -np.inf))
    assert found == pytest.approx(np.log(np.pi), abs=0.05)
    assert effective > 0.6


@pytest.mark.parametrize("has_gradient", [True, False])
def test_nan_in_some_rows_is_announced_and_has_no_mass(has_gradient: bool) -> None:
    def holes(x: np.ndarray) -> Any:
        values, slope = normal(x)
        values[np.abs(x[:, 0]) > 2.5] = np.nan
        return (values, slope) if has_gradient else values

    with pytest.warns(RuntimeWarning, match="NaN at row"):
        flow = Flow(2, seed=0).fit_density(holes, epochs=5, seed=0)
    assert np.isfinite(flow.parameters).all()
    assert flow.history is not None
    assert flow.history["elbo"][-1] == pytest.approx(np.log(2 * np.pi), abs=0.3)


@pytest.mark.parametrize("has_gradient", [True, False])
def test_no_mass_at_all_is_an_error(has_gradient: bool) -> None:
    def nowhere(x: np.ndarray) -> Any:
        values = np.full(len(x), -np.inf)
        return (values, np.zeros_like(x)) if has_gradient else values

    with pytest.raises(ValueError, match=r"-inf for all .* give support="):
        Flow(2, seed=0).fit_density(nowhere, **QUICK)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: x, ValueError, r"values of shape \(\d+, 2\)"),
        (lambda x: (x[:, 0], x[:, 0]), ValueError, "a gradient of shape"),
        (lambda x: None, TypeError, "not NoneType"),
        (lambda x: np.full(len(x), np.inf), ValueError, r"\+inf at row"),
    ],
)
def test_wrong_answers_are_refused_and_the_flow_stays(answer: Any, error: type[Exception], message: str) -> None:
    flow = make()
    before = flow.parameters.copy()
    with pytest.raises(error, match=message):
        flow.fit_density(answer, **QUICK)
    np.testing.assert_array_equal(flow.parameters, before)
    assert flow.history is None


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("has_gradient", [True, False])
def test_an_exception_in_the_function_leaves_the_best_state(has_gradient: bool, error: type[BaseException]) -> None:
    calls = 0

    def fails(x: np.ndarray) -> Any:
        nonlocal calls
        calls += len(x)
        if calls > 30_000:
            raise error("no model today")
        return tilted(x) if has_gradient else without_gradient(x)

    flow = make()
    with pytest.raises(error, match="no model today"):
        flow.fit_density(fails, steps=20, seed=0, **({} if has_gradient else {"population": 5000}))
    assert flow.history is not None
    assert flow.history.stopped == "interrupted"
    assert len(flow.history) >= 1
    assert estimate(flow, without_gradient)[1] > estimate(make(), without_gradient)[1]


def test_a_gradient_that_is_missing_later_is_an_error() -> None:
    seen = []

    def forgetful(x: np.ndarray) -> Any:
        seen.append(len(x))
        return tilted(x) if sum(seen) < 20_000 else without_gradient(x)

    with pytest.raises(ValueError, match="a gradient at first, and none now"):
        make().fit_density(forgetful, seed=0)


def test_a_fit_that_diverges_says_so() -> None:
    """Where every draw is driven out of the range of numbers."""

    def quiet(x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return normal(x)

    flow = make(layers=[Coupling(Affine(), NET)] * 2)
    with pytest.warns(RuntimeWarning, match="non-finite"), pytest.raises(TrainingDivergedError):
        flow.fit_density(quiet, optimizer=Adam(1e300), clip_norm=None, epochs=20, steps=20, seed=0)
    assert np.isfinite(flow.parameters).all()


# -- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_flow", "options", "error", "message"),
    [
        (lambda: Flow(2, context=1), {}, ValueError, "flows without context"),
        (make, {"max_calls": 10}, ValueError, r"max_calls=10 is too few: \d+ rows were evaluated"),
        (make, {"steps": 0}, ValueError, "steps must be at least 1"),
        (make, {"population": 0}, ValueError, "population must be at least 1"),
        (make, {"population": 10}, ValueError, "population= is for a log density without gradient"),
        (make, {"start": np.zeros((3, 3))}, ValueError, "start has shape"),
        (make, {"start": np.full((3, 2), np.nan)}, ValueError, "start has 3 rows with NaN"),
        (make, {"pool": 3}, TypeError, "pool must have a method map"),
        (make, {"schedule": "steep"}, ValueError, "schedule is 'steep'"),
        (lambda: make().initialize(np.eye(2)), {"start": np.eye(2)}, ValueError, "start= is for a flow that was not"),
    ],
)
def test_refused_options(make_flow: Any, options: Any, error: type[Exception], message: str) -> None:
    flow = make_flow()
    before = flow.parameters.copy()
    with pytest.raises(error, match=message):
        flow.fit_density(tilted, **options)
    np.testing.assert_array_equal(flow.parameters, before)


@pytest.mark.parametrize("has_gradient", [True, False])
@pytest.mark.parametrize("limit", [15_000, 20_001])
def test_calls_are_limited(has_gradient: bool, limit: int) -> None:
    seen = []

    def counted(x: np.ndarray) -> Any:
        seen.append(len(x))
        return tilted(x) if has_gradient else without_gradient(x)

    flow = make().fit_density(counted, steps=10, batch_size=64, max_calls=limit, seed=0)
    assert limit / 2 < sum(seen) <= limit
    history = flow.history
    assert history is not None
    assert history.stopped == ("max_calls" if has_gradient else "epochs")
    assert history.epochs[-1].learning_rate < 0.2 * history["learning_rate"].max()  # it was planned to end there


@pytest.mark.parametrize("has_gradient", [True, False])
def test_threads_and_a_pool_change_nothing(has_gradient: bool) -> None:
    found = []
    density = tilted if has_gradient else without_gradient
    with ThreadPoolExecutor(2) as pool:
        for threads, where in ((1, None), (2, None), (1, pool)):
            flow = make(num_threads=threads)
            flow.fit_density(density, pool=where, **quick(has_gradient))
            found.append(flow.parameters.tobytes())
    assert len(set(found)) == 1
    other = make().fit_density(density, **{**quick(has_gradient), "seed": 1})
    assert other.parameters.tobytes() != found[0]


def test_a_callback_and_the_time_end_a_fit() -> None:
    flow = make().fit_density(tilted, callback=lambda flow, epoch: epoch.epoch == 2, **QUICK)
    assert flow.history is not None
    assert (len(flow.history), flow.history.stopped) == (2, "callback")
    flow = make().fit_density(tilted, max_time=0.2, steps=5, seed=0)
    assert flow.history is not None
    assert flow.history.stopped == "max_time"


# -- resume ------------------------------------------------------------------------------------------------------


class StopError(Exception):
    pass


def stops_after(calls: int, has_gradient: bool) -> Any:
    seen = []

    def density(x: np.ndarray) -> Any:
        seen.append(len(x))
        if sum(seen) > calls:
            raise StopError
        return tilted(x) if has_gradient else without_gradient(x)

    return density


@pytest.mark.parametrize("has_gradient", [True, False])
@pytest.mark.parametrize("layers", [LAYERS, None])
def test_a_resumed_fit_ends_with_the_same_bits(tmp_path: Path, has_gradient: bool, layers: Any) -> None:
    options = {**quick(has_gradient), "epochs": 6, "checkpoint_every": 7}
    density = tilted if has_gradient else without_gradient
    seen: list[int] = []

    def counted(x: np.ndarray) -> Any:
        seen.append(len(x))
        return density(x)

    make_flow = functools.partial(Flow, 2, layers=layers, seed=1)
    whole = make_flow().fit_density(counted, **options)
    path = tmp_path / "fit"
    total = sum(seen)
    assert whole.history is not None
    for cut in (0.97, 0.8, 0.6):
        path.unlink(missing_ok=True)
        with pytest.raises(StopError):
            make_flow().fit_density(stops_after(int(cut * total), has_gradient), checkpoint=path, **options)
        if not path.exists():  # it was cut off before the first checkpoint
            continue
        seen.clear()
        flow = make_flow().fit_density(counted, checkpoint=path, resume=path, **options)
        assert flow.parameters.tobytes() == whole.parameters.tobytes()
        assert flow.history is not None
        assert flow.history["elbo"].tobytes() == whole.history["elbo"].tobytes()
        assert flow.history["evaluations"].tolist() == whole.history["evaluations"].tolist()
        assert sum(seen) < 0.9 * total
    assert Flow.load(path).parameters.tobytes() == whole.parameters.tobytes()
    finished = make_flow().fit_density(stops_after(0, has_gradient), checkpoint=path, resume=path, **options)
    assert finished.parameters.tobytes() == whole.parameters.tobytes()


def test_only_the_same_fit_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "fit"
    make().fit_density(tilted, checkpoint=path, **QUICK)
    with pytest.raises(ValueError, match="steps was 5, now 6"):
        make().fit_density(tilted, resume=path, **{**QUICK, "steps": 6})
    with pytest.raises(ValueError, match="resume= goes on with the same fit"):
        make().fit(np.random.default_rng(0).normal(size=(100, 2)), resume=path)
    other = tmp_path / "other"
    make().fit(np.random.default_rng(0).normal(size=(100, 2)), epochs=1, checkpoint=other)
    with pytest.raises(ValueError, match="the checkpoint is of a fit to rows"):
        make().fit_density(tilted, resume=other, **QUICK)


def test_damaged_rows_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    flow = make()
    target = Target(without_gradient, 2)
    first = [Draws(np.ones((3, 2)), np.zeros(3), (np.zeros(2), np.ones(2)))]
    mine = AdaptiveSampling(state_of(flow), target, first, 50, 4, 8, 0)
    mine.advance(0.0)
    numbers, arrays = mine.carried()
    twin = AdaptiveSampling(state_of(flow), Target(without_gradient, 2), [], 50, 4, 8, 0)
    twin.restore(numbers, arrays)
    assert all(mine.carried()[1][name].tobytes() == twin.carried()[1][name].tobytes() for name in arrays)
    for name in arrays:
        broken = {**arrays, name: arrays[name][:-1]}
        with pytest.raises(FileFormatError, match="damaged"):
            twin.restore(numbers, broken)
    with pytest.raises(FileFormatError, match="damaged"):
        twin.restore({}, arrays)
    kl = objective(flow, Target(tilted, 2))
    for numbers in ({"power": 2.0, "calls": 1}, {"power": 1.0, "calls": -1}, {}):
        with pytest.raises(FileFormatError, match="damaged"):
            kl.restore(numbers, {"start": flow.parameters})
    with pytest.raises(FileFormatError, match="damaged"):
        kl.restore({"power": 1.0, "calls": 1}, {})


def test_weights_are_over_the_mixture_of_all_proposals() -> None:
    flow = make()
    first = [Draws(np.random.default_rng(0).normal(size=(30, 2)), np.zeros(30), (np.zeros(2), np.ones(2)))]
    found = AdaptiveSampling(state_of(flow), Target(without_gradient, 2), first, 50, 4, 8, 0)
    found.advance(0.0)
    flow.parameters *= 1.5
    found.advance(0.1)
    arrays = found.carried()[1]
    x = arrays["x"]
    parts = [np.log(30) + independent(state_of(flow), first[0].proposal).log_prob(x)]
    for parameters in arrays["parameters"]:
        twin = make()
        twin.parameters = parameters
        parts.append(np.log(50) + twin.log_prob(x))
    np.testing.assert_allclose(arrays["log_mixture"], np.logaddexp.reduce(parts))
    np.testing.assert_allclose(arrays["log_p"][30:], without_gradient(x[30:]))


def test_bases_alone_are_the_latent_side() -> None:
    for name in FLOWS:
        flow = make(name)
        alone = base_alone(state_of(flow))
        z = alone.sample(3, 100)[0]
        x, log_det = flow.forward(z)
        np.testing.assert_allclose(flow.log_prob(x), alone.log_prob(z) - log_det, atol=1e-8)
    assert isinstance(Flow(2).base, Normal)
