"""The state in which a first fit begins: a Gaussian or a mixture of Gaussians, and layers that start from data."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pushforward import (
    LU,
    Affine,
    Circle,
    ContextShift,
    Coupling,
    Flow,
    Interval,
    Mixture,
    Normal,
    Positive,
    Real,
    neural_spline,
)
from pushforward._fit import likelihood
from pushforward._fit.loop import Loop
from pushforward._fit.mixture import calibrate_background
from pushforward._fit.objective import gain
from pushforward._io.rows import Rows
from pushforward._model.gaussian import covariance, triangles, whitening
from pushforward._model.state import State
from pushforward.errors import TrainingDivergedError
from scipy import stats

NOTHING = {"epochs": 1, "seed": 0, "progress": False}


def correlated(n: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)).T + 3


# -- layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["natural", "reverse", "random"])
def test_lu_starts_at_the_whitening(dtype: str, order: str) -> None:
    x = correlated(2000, 5)
    flow = Flow(5, layers=[Coupling(Affine()), LU(order)], dtype=dtype, seed=1).initialize(x)
    z = flow.inverse(x)[0]
    np.testing.assert_allclose(np.cov(z.T), np.eye(5), atol=0.02)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)


def test_the_density_is_then_that_of_the_gaussian() -> None:
    x = correlated(2000, 3)
    flow = Flow(3, layers=[LU()], dtype="float64").initialize(x)
    want = stats.multivariate_normal(x.mean(axis=0), np.cov(x.T)).logpdf(x)
    np.testing.assert_allclose(flow.log_prob(x), want, atol=0.05)


def test_a_shift_starts_at_the_regression_on_the_context() -> None:
    rng = np.random.default_rng(0)
    context = rng.normal(2, 5, size=(1000, 2))
    slopes = rng.normal(size=(3, 2))
    x = context @ slopes.T + rng.normal(size=(1000, 3)) * [1, 0.1, 3]
    flow = Flow(3, layers=[LU(), ContextShift()], context=2, dtype="float64", seed=0).initialize(x, context)
    z = flow.inverse(x, context)[0]
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.02)
    np.testing.assert_allclose(np.cov(z.T, context.T)[:3, 3:], 0, atol=1e-6)
    # One more unit of the context moves the rows by the slopes.
    moved = flow.forward(z, context + np.array([1, 0]))[0] - x
    np.testing.assert_allclose(moved, np.broadcast_to(slopes[:, 0], x.shape), atol=0.2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_relations_do_no_harm(dtype: str) -> None:
    """A total beside its parts, and a target that is a linear function of the context."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(300, 2))
    x = np.column_stack([parts, parts.sum(axis=1)])
    assert np.isfinite(Flow(3, dtype=dtype, seed=0).fit(x, **NOTHING).log_prob(x)).all()
    flow = Flow(1, context=2, dtype=dtype, seed=0).fit(x[:, 2:], context=parts, **NOTHING)
    assert np.isfinite(flow.log_prob(x[:, 2:], parts)).all()


def test_a_shift_needs_a_context() -> None:
    with pytest.raises(ValueError, match="ContextShift needs a flow with a context; this one has context=0"):
        Flow(2, layers=[ContextShift()])


def test_bounded_features_and_angles_start_too() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack(
        [rng.gamma(2.0, size=800), rng.beta(2, 3, 800), rng.vonmises(0, 1, 800) % 6.28, *correlated(800, 2).T]
    )
    support = [Positive(), Interval(0, 1), Circle(0, 2 * np.pi), Real(), Real()]
    flow = Flow(5, layers=[LU()], support=support, seed=0).initialize(x)
    z = flow.inverse(x)[0][:, [i for i, domain in enumerate(flow._state.core.latent_domains) if domain == "line"]]
    np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=0.05)


def test_parameters_set_by_hand_stay() -> None:
    flow = Flow(3, layers=[LU()], seed=0)
    flow.parameters = np.linspace(0.1, 0.2, flow.parameters.size)
    before = flow.parameters.copy()
    np.testing.assert_array_equal(flow.initialize(correlated(100, 3)).parameters, before)


# -- covariances -------------------------------------------------------------------------------------------------


def test_the_share_of_the_identity_follows_the_rows() -> None:
    """Independent features of few rows are shrunk to the identity; strongly correlated ones of many are not."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(30, 20))
    shrunk = covariance(few - few.mean(axis=0), np.ones(30))
    assert np.abs(shrunk - np.diag(np.diag(shrunk))).max() < 0.5 * np.abs(np.cov(few.T) - np.eye(20)).max()
    many = correlated(5000, 4)
    many -= many.mean(axis=0)
    np.testing.assert_allclose(covariance(many, np.ones(5000)), many.T @ many / 5000, rtol=1e-3, atol=1e-3)


def test_a_singular_sample_has_a_regular_covariance() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 8))
    assert np.linalg.eigvalsh(covariance(rows - rows.mean(axis=0), np.ones(5))).min() > 0
    assert np.linalg.eigvalsh(covariance(np.zeros((5, 2)), np.ones(5))).min() > 0


def test_weights_count_rows() -> None:
    rows = correlated(50, 3)
    twice = covariance(np.repeat(rows - rows.mean(axis=0), 2, axis=0), np.ones(100))
    weighted = covariance(rows - rows.mean(axis=0), np.full(50, 2.0))
    np.testing.assert_allclose(weighted, twice, rtol=0.05)


def test_triangles_of_a_whitening() -> None:
    matrix = np.cov(correlated(100, 6).T)
    white = whitening(matrix)
    lower, upper = triangles(white)
    np.testing.assert_allclose(white @ matrix @ white.T, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(lower @ upper, white, atol=1e-12 * np.abs(white).max())
    assert (np.diag(lower) == 1).all()
    assert (np.diag(upper) > 0).all()
    assert (np.triu(lower, 1) == 0).all()
    assert (np.tril(upper, -1) == 0).all()


# -- bases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariances", ["full", "diagonal"])
@pytest.mark.parametrize("background", [False, True])
def test_a_mixture_starts_by_expectation_maximisation(covariances: str, background: bool) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-5, 1, size=(300, 2)), rng.normal(5, 0.5, size=(300, 2))])
    base = Mixture(2 + background, covariances, background)
    flow = Flow(2, layers=[], base=base).initialize(x)
    want = np.logaddexp(stats.norm(-5, 1).logpdf(x).sum(axis=1), stats.norm(5, 0.5).logpdf(x).sum(axis=1)) - np.log(2)
    assert abs((flow.log_prob(x) - want).mean()) < 0.02
    assert stats.norm(0, 5).logpdf(x).sum(axis=1).mean() < flow.log_prob(x).mean() - 1


def test_a_background_needs_another_component() -> None:
    with pytest.raises(ValueError, match="a mixture with a background needs at least 2 components"):
        Mixture(1, background=True)
    with pytest.raises(TypeError, match="background must be True or False, not 1"):
        Mixture(2, background=1)  # type: ignore[arg-type]


def test_the_first_fit_chooses_layers_and_base() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-8, 1, size=(200, 2)), rng.normal(8, 1, size=(200, 2))])
    flow = Flow(2, seed=0)
    usual = flow.parameters.size
    flow.fit(x, **NOTHING)
    assert flow.base == Mixture(3, background=True)
    assert flow.layers[0].transform.bins == 4, "few rows, few bins"  # type: ignore[attr-defined]
    assert flow.parameters.size < usual
    # Between the clusters, halfway, there is next to nothing.
    assert flow.log_prob(np.zeros((1, 2)))[0] < flow.log_prob(x).mean() - 5
    layers, parameters = flow.layers, flow.parameters
    flow.fit(x, **NOTHING)
    assert (flow.layers, flow.parameters.shape) == (layers, parameters.shape), "a later fit goes on"


@pytest.mark.parametrize("options", [{"layers": neural_spline(2, depth=1, hidden=4)}, {"base": Normal()}])
def test_what_is_given_stays(options: dict[str, object]) -> None:
    flow = Flow(2, seed=0, **options).fit(correlated(300, 2), **NOTHING)  # type: ignore[arg-type]
    assert flow.base == Normal()
    if "layers" in options:
        assert len(flow.layers) == 2


def test_one_cluster_needs_no_other() -> None:
    assert Flow(3, seed=0).fit(correlated(1500, 3), **NOTHING).base == Mixture(2, background=True)


def test_few_rows_on_a_curve_start_at_kernels() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 300)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.choice([1, 2, 3], 300)[:, None]
    x += 0.05 * rng.normal(size=x.shape)
    assert Flow(2, seed=0).fit(x, **NOTHING).base == Mixture(256, background=True)


def test_the_choice_repeats() -> None:
    x = correlated(300, 3)
    first, second = (Flow(3, seed=0).fit(x, epochs=4, seed=0) for _ in range(2))
    np.testing.assert_array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize("change", [copy.deepcopy, lambda flow: pickle.loads(pickle.dumps(flow))])
def test_a_copy_chooses_in_the_same_way(change: Callable[[Flow], Flow]) -> None:
    x = correlated(300, 2)
    flow = Flow(2, seed=0)
    twin = change(flow)
    np.testing.assert_array_equal(twin.fit(x, **NOTHING).parameters, flow.fit(x, **NOTHING).parameters)


def test_another_precision_chooses_too() -> None:
    flow = Flow(2, seed=0).astype("float64").fit(correlated(300, 2), **NOTHING)
    assert (flow.dtype, flow.base) == (np.dtype("float64"), Mixture(2, background=True))


def test_a_row_from_nowhere_costs_little() -> None:
    """The background takes in what the layers were not prepared for."""
    x = np.random.default_rng(0).standard_t(3, size=(1500, 2))
    flow = Flow(2, seed=0).fit(x, epochs=5, seed=0)
    bare = Flow(2, layers=neural_spline(2, depth=2, hidden=16), seed=0).fit(x, epochs=5, seed=0)
    far = 12 * x.std(axis=0)[None]
    assert flow.log_prob(far)[0] > bare.log_prob(far)[0]


@pytest.mark.parametrize("validation", [None, 0.1])
@pytest.mark.parametrize("rows", [2, 3, 10])
def test_very_few_rows(validation: float | None, rows: int) -> None:
    x = correlated(rows, 2)
    assert np.isfinite(Flow(2, seed=0).fit(x, epochs=2, validation=validation, seed=0).log_prob(x)).all()


def test_an_interrupted_choice_of_the_background_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = correlated(300, 2)
    flow = Flow(2, seed=0).fit(x, **NOTHING)
    before, calls = flow.parameters.copy(), []

    def interrupted(state: State, *arguments: object) -> np.ndarray:
        calls.append(state.parameters.copy())
        if len(calls) == 3:
            raise KeyboardInterrupt
        return log_prob(state, *arguments)  # type: ignore[arg-type]

    log_prob = State.log_prob
    monkeypatch.setattr(State, "log_prob", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate_background(flow._state, Rows.of(x, None, None))
    assert (calls[-1] != before).any(), "the search had changed parameters"
    np.testing.assert_array_equal(flow.parameters, before)


@pytest.mark.parametrize("diverging", [1, 2])
def test_a_start_whose_trial_diverges_is_not_taken(monkeypatch: pytest.MonkeyPatch, diverging: int) -> None:
    x, run, trials = correlated(300, 3), Loop.run, []

    def failing(loop: Loop, *arguments: Any) -> None:
        trials.append(loop.state.named_parameters()["layers.19.weight"].copy())
        if len(trials) == diverging:
            raise TrainingDivergedError("as a test")
        run(loop, *arguments)

    monkeypatch.setattr(Loop, "run", failing)
    flow = Flow(3, seed=0).fit(x, **NOTHING, validation=x)
    assert len(trials) == 3, "two trials and the fit"
    assert not trials[0].any(), "the first is without whitening"
    assert trials[1].any()
    np.testing.assert_array_equal(trials[2], trials[2 - diverging])
    assert flow.history is not None


@pytest.mark.parametrize(("mean", "is_kept"), [(0.1, True), (0.3, False)])
def test_a_start_is_kept_unless_epochs_gain_more_than_a_standard_error(
    monkeypatch: pytest.MonkeyPatch, mean: float, is_kept: bool
) -> None:
    x, starts = np.random.default_rng(0).normal(size=(300, 2)), []
    x[:, 1] = x[:, 0] ** 2 + 0.2 * x[:, 1]

    def known(state: State, rows: Rows, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
        starts.append(before)
        return mean, 0.2

    monkeypatch.setattr(likelihood, "gain", known)
    flow = Flow(2, seed=0).fit(x, epochs=20, seed=0, progress=False)
    assert (flow.history.best_epoch == 0) == is_kept
    layers = sum(values.size for name, values in flow.named_parameters().items() if name.startswith("layers."))
    assert np.array_equal(flow.parameters[:layers], starts[0][:layers]) == is_kept  # the base gets its background
    flow.fit(x, epochs=1, seed=0, progress=False)
    assert len(starts) == 1, "a later fit goes on from a state that it did not choose"


@pytest.mark.parametrize("weighted", [False, True])
def test_a_gain_and_its_standard_error(weighted: bool) -> None:
    x, rng = correlated(500, 2), np.random.default_rng(1)
    weights = rng.uniform(size=500) if weighted else None
    flow = Flow(2, layers=neural_spline(2, depth=2), dtype="float64", seed=0).initialize(x)
    before = flow.parameters.copy()
    after = before + rng.normal(scale=0.05, size=len(before))
    found = gain(flow._state, Rows.of(x, None, weights), before, after)
    np.testing.assert_array_equal(flow.parameters, after)
    difference = flow.log_prob(x)
    flow.parameters = before
    difference -= flow.log_prob(x)
    if weights is None:
        expected = difference.mean(), difference.std(ddof=1) / np.sqrt(500)
    else:
        mean = np.average(difference, weights=weights)
        spread = (weights**2 * (difference - mean) ** 2).sum() * 500 / 499
        expected = mean, np.sqrt(spread) / weights.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_angles_alone_have_no_gaussian() -> None:
    x = np.random.default_rng(0).uniform(0, 6, size=(200, 1))
    flow = Flow(1, support=Circle(0, 2 * np.pi), seed=0).fit(x, **NOTHING)
    assert np.isfinite(flow.log_prob(x)).all()
