"""Flow.check: each number against what it must be, and each thing to try next."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from typing import Any

import numpy as np
import pytest
from pushforward import (
    Circle,
    Coupling,
    Flow,
    History,
    Interval,
    Positive,
    RationalQuadratic,
    Real,
    Report,
    StudentT,
    Uniform,
    neural_spline,
)
from pushforward._check import diagnostics
from pushforward._check.distributions import Uniformity
from pushforward._check.report import Between, Mean
from pushforward._fit.history import Epoch
from pushforward._fit.oddities import Oddity
from pushforward._model.latent import probability_integral
from pushforward._model.state import State, state_of

stats = pytest.importorskip("scipy.stats")


def normal(n: int, dim: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def identity(dim: int = 2, **options: Any) -> Flow:
    """A flow that is its base."""
    return Flow(dim, layers=[], dtype="float64", **options)


# -- numbers -------------------------------------------------------------------------------------------------------


def test_of_rows_that_are_the_flows_own() -> None:
    x = normal(1000)
    report = identity().check(x, seed=0)
    density = stats.norm.logpdf(x).sum(axis=1)
    assert report.rows == 1000
    assert report.log_likelihood.value == pytest.approx(density.mean())
    assert report.log_likelihood.error == pytest.approx(density.std(ddof=1) / math.sqrt(1000))
    assert report.above_gaussian is not None
    assert abs(report.above_gaussian.value) < 4 * report.above_gaussian.error < 0.02
    assert report.above_training is None
    assert report.round_trip < 1e-14
    assert [found.distance for found in report.pit] == [
        pytest.approx(stats.kstest(column, "norm").statistic) for column in x.T
    ]
    assert report.pit_radius.distance == pytest.approx(stats.kstest((x**2).sum(axis=1), "chi2", (2,)).statistic)
    assert min(found.p_value for found in (*report.pit, report.pit_radius)) > 0.01
    assert report.outside_splines is None
    assert report.oddities == ()
    assert report.between is None
    assert report.next == "No problem detected in 1,000 rows."


def test_it_changes_nothing_and_a_seed_repeats_it() -> None:
    x, flow = normal(300), Flow(2, seed=0)
    before, columns = flow.parameters.copy(), x.copy()
    assert flow.check(x, seed=3) == flow.check(x, seed=3) != flow.check(x, seed=4)
    np.testing.assert_array_equal(flow.parameters, before)
    np.testing.assert_array_equal(x, columns)


def test_weights_count_rows() -> None:
    x = normal(150)
    repeats = np.random.default_rng(1).integers(0, 4, size=150)
    one, other = identity().check(x, weights=0.1 * repeats, seed=0), identity().check(np.repeat(x, repeats, axis=0))
    assert one.log_likelihood.value == pytest.approx(other.log_likelihood.value)
    for mine, theirs in zip((*one.pit, one.pit_radius), (*other.pit, other.pit_radius), strict=True):
        assert mine.distance == pytest.approx(theirs.distance)
    even = identity().check(x, weights=np.full(150, 7.0), seed=0)
    assert even.log_likelihood == pytest.approx(identity().check(x, seed=0).log_likelihood)


def test_gaussian_is_that_of_scipy() -> None:
    x = normal(200, 3) @ normal(3, 3, seed=1) + 5
    expected = stats.multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True)).logpdf(x[:50])
    np.testing.assert_allclose(diagnostics.gaussian_log_prob(x, x[:50]), expected, rtol=1e-9)
    weights = np.random.default_rng(2).integers(0, 3, size=200)
    found = diagnostics.gaussian_log_prob(x, x[:50], weights.astype(float))
    np.testing.assert_allclose(found, diagnostics.gaussian_log_prob(np.repeat(x, weights, axis=0), x[:50]), rtol=1e-9)


def test_gaussian_is_behind_the_support_and_given_the_context() -> None:
    rng = np.random.default_rng(0)
    c = rng.uniform(-3, 3, size=(4000, 2))
    y = np.stack([2 * c[:, 0] - 1, c[:, 0] + c[:, 1]], axis=1) + rng.normal(size=(4000, 2)) * [0.5, 2.0]
    angle = (rng.normal(size=4000) * 0.3) % 360  # on both sides of the seam
    x = np.column_stack([np.exp(y[:, 0]), y[:, 1], angle])
    flow = identity(3, support=[Positive(), Real(), Circle(0, 360)], context=2)
    folds = np.arange(4000) % 5
    density = diagnostics._gaussian(state_of(flow), x, c, None, folds)
    assert density is not None
    truth = (
        stats.norm(2 * c[:, 0] - 1, 0.5).logpdf(y[:, 0]) - y[:, 0]
        + stats.norm(c.sum(axis=1), 2.0).logpdf(y[:, 1])
        + stats.norm(0, 0.3).logpdf((angle + 180) % 360 - 180)
    )  # fmt: skip
    assert (truth - density).mean() == pytest.approx(0, abs=0.01)
    again = diagnostics._gaussian(state_of(flow), x, c, np.full(4000, 3.0), folds)
    np.testing.assert_allclose(again, density, rtol=1e-9)


def test_gaussian_is_scored_on_other_rows() -> None:
    x = normal(100, 10)
    [density] = [diagnostics._gaussian(state_of(identity(10)), x, None, None, np.arange(100) % 5)]
    assert density is not None
    own = stats.multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True)).logpdf(x).mean()
    assert density.mean() < own - 0.5


@pytest.mark.parametrize(
    "x", [normal(7, 6), normal(50, 1) @ [[1.0, 1.0]], normal(50, 2) @ [[1.1, 0.3, 0.7], [0.1, 1.7, 0.9]]]
)
def test_no_gaussian_of_too_few_rows_or_equal_features(x: np.ndarray) -> None:
    report = identity(x.shape[1]).check(x)
    assert report.above_gaussian is None
    assert "too few rows, or too similar features, for a Gaussian" in repr(report)


def test_training_rows_are_those_of_the_best_epoch() -> None:
    flow = identity()
    flow.history = History([Epoch(i, i, 1.0, 10.0 - i, 9.0, 1e-3, 1.0) for i in (1, 2, 3)], best_epoch=2)
    report = flow.check(normal(100))
    assert report.above_training == pytest.approx(report.log_likelihood.value + 8.0)


def test_round_trip_is_in_deviations_and_goes_round() -> None:
    x = normal(200)
    steep = Flow(2, layers=neural_spline(2), seed=0)
    steep.parameters += 0.05 * np.random.default_rng(0).normal(size=steep.parameters.shape)
    single, double = (flow.check(x).round_trip for flow in (steep, steep.astype("float64")))
    assert single > 1e-6
    assert double < 1e-4 * single
    back, _ = steep.forward(steep.inverse(x)[0])
    assert single == pytest.approx((np.abs(back - x).max(axis=0) / x.std(axis=0)).max())
    seam = np.array([[0.0], [360.0], [1e-6], [180.0]])
    assert Flow(1, layers=[], support=Circle(0, 360)).check(seam).round_trip < 1e-5


def test_pit_of_other_bases() -> None:
    z = stats.t(3.0).rvs(size=(50, 2), random_state=0)
    u, radius = probability_integral(state_of(identity(base=StudentT(3.0))), z, None)
    np.testing.assert_allclose(u, stats.t(3.0).cdf(z), atol=1e-12)
    np.testing.assert_allclose(radius, stats.chi2(2).cdf((stats.norm.ppf(u) ** 2).sum(axis=1)), atol=1e-9)
    learned = identity(3, base=StudentT(3.0, learned=True), support=[Real(), Circle(0, 1), Real()])
    learned.parameters[:] = [0.0, 1.0]
    x = np.column_stack([z[:, 0], np.linspace(0, 1, 50), z[:, 1]])
    u, _ = probability_integral(state_of(learned), x, None)
    np.testing.assert_allclose(u[:, 0], stats.t(3.0).cdf(z[:, 0]), atol=1e-12)
    np.testing.assert_allclose(u[:, 1], x[:, 1], atol=1e-12)
    np.testing.assert_allclose(u[:, 2], stats.t(0.5 + 2.5 * math.e).cdf(z[:, 1]), atol=1e-12)
    box = identity(base=Uniform(), support=Interval(2, 4))
    u, _ = probability_integral(state_of(box), np.array([[2.0, 3.5], [4.0, 3.0]]), None)
    np.testing.assert_allclose(u, [[0, 0.75], [1, 0.5]])


@pytest.mark.parametrize("base", [StudentT(2.0), StudentT(2.0, learned=True)])
def test_own_samples_pass(base: StudentT) -> None:
    support = [Positive(), Circle(0, 2), Interval(0, 1)]
    flow = Flow(3, base=base, support=support, seed=0)
    report = flow.check(flow.sample(2000, seed=1), seed=0)
    assert min(found.p_value for found in (*report.pit, report.pit_radius)) > 0.005
    assert report.classifier is not None
    assert abs(report.classifier.value - 0.5) < 4 * report.classifier.error


def test_rows_outside_the_splines() -> None:
    layers = [Coupling(RationalQuadratic(bound=bound)) for bound in (3.0, 1.0, 2.0)]
    x = np.array([[0.5, -0.5], [0.0, 1.5], [-1.1, 0.0], [0.9, 0.9]])
    assert Flow(2, layers=layers).check(x).outside_splines == 0.5
    moved = Flow(2, layers=layers).initialize(10 * normal(1000) + 100)
    assert moved.check(10 * x + 100).outside_splines == 0.5
    angles = Flow(2, layers=layers, support=[Real(), Circle(0, 1)])
    assert angles.check(np.abs(x) % 1.0 + [[1.0, 0.0]]).outside_splines == 0.75
    assert Flow(2, layers=layers, support=Circle(-2, 2)).check(x).outside_splines is None


def test_what_has_no_density_is_named() -> None:
    x = normal(100, 3)
    x[:30, 1] = 7.0
    flow = identity(3)
    flow.columns = ("a", "b", "c")
    report = flow.check(x)
    assert [oddity.kind for oddity in report.oddities] == ["atom"]
    assert (
        report.next
        == "30.0% of the rows have the value 7 in 'b', where there is no density. Model these rows separately."
    )


def test_samples_between_two_clusters_are_named() -> None:
    x = np.concatenate([normal(500, 1) / 100 - 1, normal(500, 1) / 100 + 1])
    report = identity(1).check(x)
    assert report.between is not None
    assert report.between.share > 0.5
    assert report.next.startswith("Use base=Mixture(2) or more, or give neither layers nor base: ")
    assert "of the samples lie between -0.9" in report.next


# -- the classifier ------------------------------------------------------------------------------------------------


def test_classifier_tells_other_rows() -> None:
    pytest.importorskip("sklearn")
    same, other = (identity().check(normal(1000) * scale, seed=0).classifier for scale in (1.0, 3.0))
    assert same is not None
    assert other is not None
    assert same.error == pytest.approx(math.sqrt(same.value * (1 - same.value) / 2000))
    assert abs(same.value - 0.5) < 4 * same.error
    assert other.value > 0.7


def test_a_sample_does_not_tell_of_the_row_under_its_condition() -> None:
    """Rows with conditions of their own: the classifier could memorise each of them."""
    pytest.importorskip("sklearn")
    flow = Flow(1, layers=[], context=1, dtype="float64")
    context = np.arange(400.0)[:, None]
    found = flow.check(normal(400, 1), context, seed=0).classifier
    assert found is not None
    assert abs(found.value - 0.5) < 4 * found.error


def test_weights_of_the_classifier() -> None:
    pytest.importorskip("sklearn")
    x = np.concatenate([normal(500), normal(500, seed=1) + 5])
    found = identity().check(x, weights=np.repeat([1.0, 0.0], 500), seed=0).classifier
    assert found is not None
    assert abs(found.value - 0.5) < 4 * found.error


def test_without_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    report = identity().check(normal(99))
    assert report.classifier is None
    assert "left out: less than 100 rows" in repr(report)
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"] or ["sklearn", "sklearn.ensemble"]:
        monkeypatch.setitem(sys.modules, name, None)
    report = identity().check(normal(100))
    assert report.classifier is None
    assert "left out: pip install scikit-learn" in repr(report)


# -- large tables, conditions, wrong input -------------------------------------------------------------------------


def test_of_many_rows_all_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inverse = State.inverse
    monkeypatch.setattr(diagnostics, "_MOST_ROWS", 50)
    monkeypatch.setattr(State, "inverse", lambda self, x, *more: seen.append(len(x)) or inverse(self, x, *more))
    flow, x, c = identity(context=1), normal(300), normal(300, 1)
    report = flow.check(x, c, weights=np.arange(300.0) + 1)
    assert report.rows == 300
    assert report.log_likelihood.value == pytest.approx(np.average(flow.log_prob(x, c), weights=np.arange(300) + 1))
    assert set(seen) == {50}


def test_one_condition_for_all_rows() -> None:
    flow, x = Flow(2, context=1, seed=0, dtype="float64"), normal(200)
    one, each = flow.check(x, [0.3], seed=0), flow.check(x, np.full((200, 1), 0.3), seed=0)
    for name in ("log_likelihood", "above_gaussian", "round_trip", "pit_radius"):
        assert getattr(one, name) == pytest.approx(getattr(each, name)), name
    assert np.array(one.pit) == pytest.approx(np.array(each.pit))


def test_a_memory_map_in_single_precision(tmp_path: Any) -> None:
    x = normal(200).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    flow = Flow(2, seed=0)
    assert flow.check(np.load(tmp_path / "x.npy", mmap_mode="r"), seed=0) == flow.check(x, seed=0)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (normal(10, 3), {}, "x has shape (10, 3); this flow has dim=2"),
        (normal(1), {}, "x has 1 rows; a check needs at least 2"),
        (normal(10) * [1, np.nan], {}, "x has 10 rows with NaN or infinity, first at row 0"),
        (np.abs(normal(10)) * [-1, 1], {}, "x has 10 rows outside their support, first at row 0: feature 0"),
        (np.abs(normal(10)), {"context": [1.0]}, "context was given, but this flow has context=0"),
        (np.abs(normal(10)), {"weights": np.zeros(10)}, "weights are all zero"),
    ],
)
def test_wrong_input(monkeypatch: pytest.MonkeyPatch, x: np.ndarray, options: dict[str, Any], message: str) -> None:
    flow = identity(support=Positive())
    monkeypatch.setattr(State, "log_prob", None)  # no work is done before
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        flow.check(x, **options)


def test_a_condition_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="context has 10 rows with NaN"):
        identity(context=1).check(normal(10), [np.nan])


# -- the report ----------------------------------------------------------------------------------------------------

FINE = Report(
    rows=1000,
    log_likelihood=Mean(-3.0, 0.05),
    above_gaussian=Mean(1.5, 0.05),
    above_training=-0.01,
    round_trip=1e-6,
    pit=(Uniformity(0.01, 0.9), Uniformity(0.02, 0.5)),
    pit_radius=Uniformity(0.015, 0.7),
    classifier=Mean(0.505, 0.01),
    outside_splines=0.001,
)
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "gaussian": ({"above_gaussian": Mean(-0.2, 0.05)}, "a Gaussian does better"),
    "classifier": ({"classifier": Mean(0.56, 0.01)}, "a classifier recognises 56% of the rows and samples"),
    "feature": (
        {"pit": (Uniformity(0.01, 0.9), Uniformity(0.05, 1e-4))},
        "the latent rows differ from the base by a KS distance of 0.050",
    ),
    "radius": (
        {"pit_radius": Uniformity(0.08, 1e-9)},
        "the latent rows differ from the base by a KS distance of 0.080",
    ),
}
NO_FAULTS: list[dict[str, Any]] = [
    {},
    {"above_gaussian": None, "above_training": None, "classifier": None, "outside_splines": None},
    {"above_gaussian": Mean(-0.1, 0.05)},
    {"classifier": Mean(0.56, 0.03)},  # not by chance alone, perhaps
    {"classifier": Mean(0.51, 0.001)},  # no more than that
    {"pit_radius": Uniformity(0.08, 0.02)},
    {"pit_radius": Uniformity(0.01, 1e-9)},
    {"above_training": -2.0},
    {"outside_splines": 0.5},
    {"round_trip": 0.009},
    {"oddities": (Oddity("rounded", "'mass' is rounded"),)},
    {"stopped": "patience"},
]


@pytest.mark.parametrize("changes", NO_FAULTS)
def test_no_problem(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(FINE, **changes).next == "No problem detected in 1,000 rows."


@pytest.mark.parametrize("fault", FAULTS)
def test_what_to_try_next(fault: str) -> None:
    changes, says = FAULTS[fault]
    faulty = dataclasses.replace(FINE, **changes)
    assert faulty.next == f"Train for more epochs, then use more layers or wider networks: {says}."
    # What comes further up in the table goes before.
    inexact = dataclasses.replace(faulty, round_trip=0.5)
    assert inexact.next.startswith('Use dtype="float64", or flow.astype("float64"): mapping rows')
    assert "up to 0.5 standard deviations" in inexact.next
    heavy = dataclasses.replace(inexact, outside_splines=0.1)
    assert heavy.next.startswith("Try support=Positive(), base=StudentT(4.0) or splines with a larger bound")
    assert f"{says}, and 10% of the rows are outside the splines' range." in heavy.next
    overfitted = dataclasses.replace(heavy, above_training=-0.6)
    assert overfitted.next.startswith("The flow overfits. Use more rows, dropout, a larger weight_decay or")
    assert overfitted.next.endswith(f": {says}, and the training rows score better by 0.60 nats.")
    rounded = dataclasses.replace(overfitted, oddities=(Oddity("rounded", "'mass' is rounded"),))
    assert rounded.next == f"'mass' is rounded: {says}."
    bridged = dataclasses.replace(rounded, between=Between("mass", 1.0, 2.0, 0.3))
    assert "30% of the samples lie between 1 and 2 in 'mass', where there are no rows." in bridged.next
    counted = dataclasses.replace(bridged, oddities=(Oddity("discrete", "'mass' holds few values"),))
    assert counted.next == "'mass' holds few values."


def test_patience_that_ended_the_fit_asks_for_no_more_epochs() -> None:
    ended = dataclasses.replace(FINE, above_gaussian=Mean(-0.2, 0.05), stopped="patience")
    assert ended.next.startswith("Try a smaller network, other layers or more rows, since")


@pytest.mark.parametrize("below", [0.03, 0.14])  # a hundredth of a nat a feature, less than three errors
def test_a_little_better_in_training_is_no_overfitting(below: float) -> None:
    faulty = dataclasses.replace(FINE, classifier=Mean(0.6, 0.01), above_training=-below)
    assert faulty.next.startswith("Train for more epochs")


def test_an_inexact_flow_without_fault() -> None:
    assert dataclasses.replace(FINE, round_trip=0.5).next.startswith('Use dtype="float64"')


def test_it_prints_as_a_few_lines() -> None:
    assert (
        str(FINE)
        == repr(FINE)
        == """\
rows            1,000, 2 features
log-likelihood  -3.000 +- 0.050 nats a row; 1.500 +- 0.050 above a Gaussian; 0.01 below the training rows
round trip      error of at most 1.0e-06 standard deviations
latent side     KS distance from uniform 0.020 (p = 0.5) in z1, the worst
its radius      KS distance 0.015 (p = 0.7)
two samples     a classifier distinguishes rows from samples in 50.5 +- 1.0 % of cases (50: not at all)
splines         0.1 % of the rows outside their range
next            No problem detected in 1,000 rows."""
    )
    bad = dataclasses.replace(FINE, above_gaussian=Mean(-123.4, 20.0), above_training=0.3, classifier=None)
    lines = str(bad).splitlines()
    assert lines[1].endswith("123 +- 20 below a Gaussian; 0.30 above the training rows")
    assert max(map(len, lines)) <= 110
    assert all(line.startswith(" " * 16) or line[14:16] == "  " != line[:2] for line in lines)
    assert not any(
        line.startswith("splines") for line in str(dataclasses.replace(FINE, outside_splines=None)).split("\n")
    )


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FINE.rows = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Mean(1.23456, 0.0123), "1.235 +- 0.012"),
        (Mean(-1234.5, 67.0), "-1234 +- 67"),
        (Mean(2.0, 0.0), "2.0000 +- 0.0000"),
        (Mean(2.0, math.nan), "2.0000 +- nan"),
        (Mean(2.0, 1e-12), "2.000000 +- 0.000000"),
    ],
)
def test_an_estimate_prints_two_digits_of_its_error(estimate: Mean, text: str) -> None:
    assert str(estimate) == text


# -- astype ----------------------------------------------------------------------------------------------------------


def test_astype() -> None:
    x = normal(50, 3)
    c = normal(50, 1)
    flow = Flow(3, context=1, seed=0, base=StudentT(4.0, learned=True), num_threads=2)
    flow.fit(x, context=c, epochs=1, seed=0)
    flow.columns = ("a", "b", "c")
    double = flow.astype("float64")
    assert (double.dtype, double.columns, double.num_threads, double.history) == (
        "float64",
        flow.columns,
        2,
        flow.history,
    )
    np.testing.assert_array_equal(double.parameters, flow.parameters.astype(np.float64))
    np.testing.assert_allclose(double.log_prob(x, c), flow.log_prob(x, c), atol=1e-4)
    double.parameters *= 1 + 1e-12
    single = double.astype(np.float32)
    np.testing.assert_array_equal(single.parameters, flow.parameters)
    single.parameters[:] = 0
    assert double.parameters.any()
    with pytest.raises(ValueError, match="dtype is 'float16'; the choices are 'float32', 'float64'"):
        flow.astype("float16")
