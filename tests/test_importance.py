"""Importance sampling and evidence from draws: known evidences, errors that cover, seeds, refusals."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.stats
from pushforward import Ensemble, Flow, Positive, importance

NORMAL = Flow(2, layers=[])
SHIFTED = Flow(1, layers=[], context=1)


def gaussian(x: np.ndarray) -> np.ndarray:
    """A normal of mean (0.3, 0) and deviation 0.8, times e^5."""
    return 5 - 0.5 * ((x - [0.3, 0]) ** 2).sum(axis=1) / 0.64 - math.log(2 * math.pi * 0.64)


@pytest.mark.parametrize(
    "flow",
    [
        NORMAL,
        Ensemble([NORMAL, Flow(2, layers=[], seed=1)]),
        scipy.stats.multivariate_normal(np.zeros(2)),
    ],
    ids=["flow", "ensemble", "scipy"],
)
def test_a_gaussian_of_known_evidence(flow: Any) -> None:
    draws = importance.sample(flow, gaussian, 20_000, seed=0)
    assert abs(draws.log_evidence - 5) < 5 * draws.log_evidence_error < 0.1
    mean, error = draws.mean()
    assert (np.abs(mean - [0.3, 0]) < 5 * error).all()
    square, error = draws.mean(lambda x: x[:, 1] ** 2)
    assert abs(square - 0.64) < 5 * error
    quantiles, errors = draws.quantile([0.1, 0.5, 0.9])
    truth = scipy.stats.norm.ppf([[0.1], [0.5], [0.9]], [0.3, 0], 0.8)
    assert quantiles.shape == errors.shape == (3, 2)
    assert (np.abs(quantiles - truth) < 5 * errors).all()
    np.testing.assert_array_equal(draws.quantile(0.5)[0], quantiles[1])
    assert draws.pareto_k < 0.5
    rows = draws.resample(seed=0)
    assert len(rows) == int(draws.effective_size)
    assert abs(rows[:, 0].mean() - 0.3) < 5 * 0.8 / math.sqrt(len(rows))


def test_the_density_itself_has_equal_weights() -> None:
    draws = importance.sample(NORMAL, NORMAL.log_prob, 1000, seed=0)
    assert draws.effective_size == pytest.approx(1000, rel=1e-6)
    assert draws.log_evidence == pytest.approx(0, abs=1e-5)
    assert draws.log_evidence_error < 1e-5


def test_seeds_threads_and_pools_do_not_change_bits() -> None:
    flow = Flow(2, seed=0).fit(np.random.default_rng(0).normal(size=(500, 2)), epochs=2, seed=0)
    draws = importance.sample(flow, gaussian, 1000, seed=1)
    flow.num_threads = 2
    with ThreadPoolExecutor(2) as pool:
        again = importance.sample(flow, gaussian, 1000, seed=1, pool=pool)
    np.testing.assert_array_equal(again.x, draws.x)
    np.testing.assert_array_equal(again.log_weights, draws.log_weights)
    assert (importance.sample(flow, gaussian, 1000, seed=2).x != draws.x).any()


def test_a_light_tail_is_noticed_and_a_wider_density_mends_it() -> None:
    def target(x: np.ndarray) -> np.ndarray:
        return scipy.stats.t.logpdf(x[:, 0], 3) + 1

    narrow = scipy.stats.norm(scale=0.5)
    with pytest.warns(RuntimeWarning, match=r"Pareto k of the weights is .*add wider="):
        draws = importance.sample(narrow, target, 20_000, seed=0)
    assert draws.pareto_k > 0.7
    wider = importance.sample(narrow, target, 20_000, wider=scipy.stats.t(2), wider_share=0.3, seed=0)
    assert wider.pareto_k < 0.5
    assert np.exp(wider.log_weights).max() <= math.e / 0.3 * 1.5  # the ratio of the two t is at most 1.5
    assert abs(wider.log_evidence - 1) < 5 * wider.log_evidence_error < 0.1


def test_mixture_weights_are_those_of_the_mixture() -> None:
    wide = scipy.stats.multivariate_normal(np.zeros(2), 9 * np.eye(2))
    draws = importance.sample(NORMAL, gaussian, 1000, wider=wide, wider_share=0.25, seed=0)
    density = 0.75 * np.exp(NORMAL.log_prob(draws.x)) + 0.25 * wide.pdf(draws.x)
    np.testing.assert_allclose(draws.log_proposal, np.log(density), rtol=1e-5)
    # The first 750 are the flow's own.
    np.testing.assert_array_equal(draws.x[:750], NORMAL.sample(750, seed=np.random.default_rng(0)))


def test_smoothing_touches_the_largest_weights_only() -> None:
    raw = importance.sample(NORMAL, gaussian, 1000, seed=0)
    smooth = importance.sample(NORMAL, gaussian, 1000, seed=0, smooth=True)
    changed = raw.log_weights != smooth.log_weights
    assert changed.any()
    assert set(np.flatnonzero(changed)) <= set(np.argsort(raw.log_weights)[-95:])
    assert smooth.smoothed
    assert smooth.pareto_k == raw.pareto_k


def test_one_context() -> None:
    flow = Flow(1, context=1, seed=0)
    rng = np.random.default_rng(0)
    context = rng.normal(size=(2000, 1))
    flow.fit(context + 0.5 * rng.normal(size=(2000, 1)), context=context, epochs=3, seed=0)
    draws = importance.sample(flow, lambda x: -2 * (x[:, 0] - 1) ** 2, 4000, context=[1.0], seed=0)
    assert abs(draws.log_evidence - 0.5 * math.log(math.pi / 2)) < 5 * draws.log_evidence_error
    assert draws.effective_size > 3000


def test_no_mass() -> None:
    draws = importance.sample(NORMAL, lambda x: np.full(len(x), -np.inf), 100, seed=0)
    assert draws.log_evidence == -math.inf
    assert draws.effective_size == 0
    assert "0 effective" in repr(draws)
    for call in (draws.mean, draws.resample, lambda: draws.quantile(0.5)):
        with pytest.raises(ValueError, match="none of the 100 draws has any mass"):
            call()


def test_what_is_printed_and_exported() -> None:
    flow = Flow(2, layers=[], columns=["mass", "spin"])
    draws = importance.sample(flow, gaussian, 1000, seed=0)
    lines = repr(draws).splitlines()
    assert lines[0].startswith("1,000 draws of 2 features, ")
    assert lines[1].startswith("log evidence  5.0") or lines[1].startswith("log evidence  4.9")
    assert lines[3].startswith("mean of mass  0.")
    assert len(lines) == 5
    table = draws.to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["mass", "spin", "log_density", "log_proposal", "log_weight"]
    np.testing.assert_array_equal(table["log_weight"], draws.log_weights)


def test_arviz() -> None:
    pytest.importorskip("arviz")
    draws = importance.sample(NORMAL, gaussian, 1000, seed=0)
    data = draws.to_arviz(400, seed=0)
    rows = draws.resample(400, seed=0)
    assert data["posterior"]["x1"].shape == (1, 400)
    np.testing.assert_array_equal(data["posterior"]["x0"].values[0], rows[:, 0])
    assert data["posterior"].attrs["log_evidence"] == draws.log_evidence


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3, gaussian), {}, TypeError, r"flow must have the methods sample_and_log_prob.*int has neither"),
        ((NORMAL, 3), {}, TypeError, "log_density must be a function"),
        ((NORMAL, gaussian, 1), {}, ValueError, "n must be at least 2"),
        ((NORMAL, gaussian), {"wider": 3}, TypeError, "wider must have the methods"),
        ((NORMAL, gaussian), {"wider": scipy.stats.norm()}, ValueError, "wider has 1 features; 2 are expected"),
        ((NORMAL, gaussian), {"wider": NORMAL, "wider_share": 1}, ValueError, r"wider_share must be in \(0, 1\)"),
        ((NORMAL, gaussian), {"context": [1.0]}, ValueError, "this flow has context=0"),
        ((SHIFTED, gaussian), {}, ValueError, "pass context="),
        ((SHIFTED, gaussian), {"context": [[1.0]]}, ValueError, r"all draws have one condition, so \(1,\)"),
        ((NORMAL, lambda x: x), {}, ValueError, r"log_density returned values of shape"),
        ((NORMAL, gaussian), {"pool": 3}, TypeError, "pool must have a method map"),
    ],
)
def test_refused(arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        importance.sample(*arguments, **options)


def test_refused_functions_and_quantiles() -> None:
    draws = importance.sample(NORMAL, gaussian, 100, seed=0)
    with pytest.raises(ValueError, match=r"function returned shape \(2,\); with 100 draws"):
        draws.mean(lambda x: x[0])
    with pytest.raises(ValueError, match=r"q must be numbers in \[0, 1\]"):
        draws.quantile([0.5, 1.5])


# -- evidence from draws ------------------------------------------------------------------------------------------


def test_the_harmonic_mean_of_a_known_evidence() -> None:
    x = np.random.default_rng(0).normal(size=(4000, 2)) * 0.8 + [0.3, 0]
    found = importance.log_evidence_from_draws(x, gaussian(x), seed=0, epochs=5)
    assert abs(found.log_evidence - 5) < 5 * found.log_evidence_error < 0.2
    assert (found.rows, found.groups) == (2000, 2000)
    assert repr(found).startswith("log evidence  ")
    again = importance.log_evidence_from_draws(x, gaussian(x), seed=0, epochs=5)
    assert again.log_evidence == found.log_evidence


def test_the_harmonic_mean_s_error_covers() -> None:
    """By a fixed density, within two errors in 95 % of 200 runs, with a deviation of 1.5 %."""
    inside = 0
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=(500, 2)) * 0.8 + [0.3, 0]
        found = importance.log_evidence_from_draws(
            x, gaussian(x), flow=scipy.stats.multivariate_normal([0, 0], 0.5 * np.eye(2)), seed=seed
        )
        inside += abs(found.log_evidence - 5) < 2 * found.log_evidence_error
    assert inside >= 0.90 * 200, inside


def test_groups_widen_the_error_of_correlated_draws() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(400, 2)) * 0.8 + [0.3, 0], 25, axis=0)
    flow = scipy.stats.multivariate_normal([0, 0], 0.5 * np.eye(2))
    alone = importance.log_evidence_from_draws(x, gaussian(x), flow=flow, seed=0)
    grouped = importance.log_evidence_from_draws(x, gaussian(x), flow=flow, groups=np.arange(10_000) // 25, seed=0)
    assert grouped.groups == 400
    assert grouped.log_evidence == alone.log_evidence
    assert grouped.log_evidence_error == pytest.approx(5 * alone.log_evidence_error, rel=0.1)
    split = importance.log_evidence_from_draws(
        x, gaussian(x), groups=np.arange(10_000) // 25, support=None, seed=0, epochs=2
    )
    assert (split.rows, split.groups) == (5000, 200)


def test_a_density_that_is_too_wide_is_noticed() -> None:
    x = np.random.default_rng(0).normal(size=(20_000, 1))
    with pytest.warns(RuntimeWarning, match="Pareto k of the ratios"):
        importance.log_evidence_from_draws(x, -0.5 * x[:, 0] ** 2, flow=scipy.stats.norm(scale=3), coverage=1.0, seed=0)


@pytest.mark.parametrize(
    ("draws", "options", "error", "message"),
    [
        (np.zeros(5), {}, ValueError, r"draws has shape \(5,\)"),
        (np.full((5, 2), np.nan), {}, ValueError, "draws is not finite in 5 rows, first at row 0"),
        (np.zeros((5, 2)), {"log_density": np.full(5, -np.inf)}, ValueError, "log_density is not finite in 5 rows"),
        (np.zeros((5, 2)), {"log_density": np.zeros(4)}, ValueError, r"log_density has shape \(4,\)"),
        (np.zeros((5, 2)), {"coverage": 0}, ValueError, r"coverage must be in \(0, 1\]"),
        (np.zeros((5, 2)), {"groups": np.zeros(5)}, ValueError, "draws are in 1 groups; at least 4"),
        (np.zeros((5, 2)), {"flow": NORMAL, "epochs": 3}, TypeError, "epochs would be for a flow that is fitted here"),
        (np.zeros((5, 2)), {"flow": NORMAL, "support": Positive()}, TypeError, "support would be for a flow"),
        (np.full((5, 2), 1e3), {"flow": NORMAL}, ValueError, "none of the 5 draws lies in the region"),
    ],
)
def test_refused_draws(draws: np.ndarray, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        importance.log_evidence_from_draws(draws, options.pop("log_density", np.zeros(5)), **options)
