"""Ranks of rows among draws under their own conditions: what they are, what they show, and what is printed of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from pushforward import Circle, Flow, Interval, Positive, Real, StudentT, Uniform
from pushforward._check import calibration as module
from pushforward._check import diagnostics
from pushforward._check.calibration import Calibration, Coverage, Marginal, Ranks, calibration, ranks
from pushforward._check.distributions import uniform_band, uniformity
from pushforward._check.report import Report
from pushforward._model.state import State, state_of

stats = pytest.importorskip("scipy.stats")


@pytest.fixture(autouse=True)
def _without_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "LEAST_CLASSIFIED", 10**9)  # trees take seconds


def normal(n: int, dim: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def identity(dim: int = 2, context: int = 1, **options: Any) -> Flow:
    """A flow that is its base, whatever its context."""
    return Flow(dim, layers=[], context=context, dtype="float64", **options)


def ranked(flow: Flow, x: np.ndarray, c: Any, weights: Any = None, seed: int = 0) -> Ranks:
    return ranks(state_of(flow), x, c, weights, np.random.default_rng(seed))


def found(flow: Flow, x: np.ndarray, c: Any, seed: int = 0) -> Calibration:
    return calibration(state_of(flow).names, ranked(flow, x, c, seed=seed))


def p_values(result: Calibration) -> list[float]:
    coverages = (result.highest_density, result.random_points)
    return [part.p_value for part in (*result.marginals, *coverages)]


# -- what the ranks are --------------------------------------------------------------------------------------------


def test_ranks_are_shares_of_the_density() -> None:
    """With so many draws each rank is near the probability that it estimates."""
    x, c = normal(200), normal(200, 1, seed=1)
    ours = ranked(identity(), x, c, seed=5)
    rows = x[np.random.default_rng(5).permutation(200)]
    error = 4.5 * 0.5 / math.sqrt(module.DRAWS)
    np.testing.assert_allclose(ours.features, stats.norm.cdf(rows), atol=error)
    np.testing.assert_allclose(ours.density, stats.chi2(2).cdf((rows**2).sum(axis=1)), atol=error)
    references = np.concatenate([np.zeros((1, 2)), rows])[
        module._references(c[np.random.default_rng(5).permutation(200)], 200)
    ]
    squares = ((rows - references) ** 2).sum(axis=1)
    nearer = stats.ncx2.cdf(squares, 2, (references**2).sum(axis=1))
    assert np.quantile(np.abs(ours.random_points - nearer), 0.95) < error  # the units are estimates too


def test_the_reference_is_the_latest_row_of_the_most_similar_condition_before() -> None:
    c = np.array([[0.0, 0.0], [100.0, 0.0], [1.0, 0.1], [99.0, 0.4], [100.0, 0.0], [100.0, 0.0]])
    # 0 is the middle of the data, k row k - 1.
    np.testing.assert_array_equal(module._references(c, 6), [0, 1, 1, 2, 2, 5])
    np.testing.assert_array_equal(module._references(np.zeros((4, 1)), 4), [0, 1, 2, 3])
    np.testing.assert_array_equal(module._references(None, 4), [0, 1, 2, 3])
    units = module._references(c * [1e-3, 1e6], 6)
    np.testing.assert_array_equal(units, module._references(c, 6))


def test_the_first_reference_is_the_middle_of_the_data() -> None:
    flow = identity(1).initialize(np.array([[4.0], [6.0]]), [[0.0], [1.0]])
    near, far = (ranked(flow, np.array([[value]]), np.zeros((1, 1))).random_points for value in (5.001, 9.0))
    assert near < 0.05 < 0.95 < far


def test_ties_and_steps_are_filled_at_random() -> None:
    values = np.array([[1.0, 0.0, 1.0, 1.0, 2.0]] * 4000)
    u = module._rank(values, np.random.default_rng(0))
    assert 0.2 <= u.min() < 0.21 < 0.79 < u.max() <= 0.8
    assert uniformity((u - 0.2) / 0.6).p_value > 0.001


def test_a_constant_density_has_ties_alone() -> None:
    flow = identity(base=Uniform(), support=[Interval(2, 4), Circle(0, 1)])
    x = np.random.default_rng(0).uniform([2, 0], [4, 1], size=(500, 2))
    ours = ranked(flow, x, normal(500, 1))
    assert uniformity(ours.density).p_value > 0.001


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, x, c = Flow(2, context=1, seed=0), normal(70), normal(70, 1)
    whole = ranked(flow, x, c)
    monkeypatch.setattr(module, "_NUMBERS_AT_A_TIME", 3 * 9 * (module.DRAWS + 1))
    seen = []
    sample = State.sample
    monkeypatch.setattr(
        State, "sample", lambda self, key, n, *more, **options: seen.append(n) or sample(self, key, n, *more, **options)
    )
    parts = ranked(flow, x, c)
    assert seen == [9 * module.DRAWS] * 7 + [7 * module.DRAWS]
    for mine, theirs in zip(parts[:3], whole[:3], strict=True):
        steps = np.floor(np.array([mine, theirs]) * (module.DRAWS + 1))
        np.testing.assert_array_equal(*steps)


def test_of_many_rows_some_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 50)
    weights = np.arange(1.0, 301)
    ours = ranked(identity(), normal(300), normal(300, 1), weights)
    assert ours.features.shape == (50, 2)
    assert ours.weights is not None
    assert len(np.unique(ours.weights)) == 50
    assert found(identity(), normal(300), normal(300, 1)).rows == 50


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_at_the_ends_of_their_support(dtype: str) -> None:
    flow = Flow(3, layers=[], context=1, support=[Positive(), Interval(0, 1), Circle(0, 360)], dtype=dtype)
    x = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 360.0], [0.0, 0.0, 360.0], [2.0, 0.5, 0.0]], dtype)
    ours = ranked(flow, x, np.zeros((4, 1)))
    for part in ours[:3]:
        assert ((part >= 0) & (part <= 1)).all()
    assert (ours.features[:, 1] < 1 / 200).sum() == 2
    assert (ours.features[:, 1] > 199 / 200).sum() == 1


def test_draws_up_to_the_largest_number() -> None:
    c = normal(300, 1)
    flow = Flow(1, layers=[], context=1, base=StudentT(1.0))
    flow.initialize(np.array([[1e36], [-1e36]], np.float32), [[0.0], [1.0]])
    draws = flow.sample(60_000, [0.0], seed=0)
    assert np.abs(draws).max() == np.finfo(np.float32).max
    assert min(p_values(found(flow, draws[:300], c))) > 0.001


# -- of a calibrated flow ------------------------------------------------------------------------------------------


def test_own_samples_pass() -> None:
    flow = Flow(3, context=2, support=[Positive(), Interval(0, 1), Circle(0, 360)], seed=0)
    flow.parameters += 0.1 * np.random.default_rng(1).normal(size=flow.parameters.shape)
    least = []
    for seed in range(8):
        c = normal(300, 2, seed)
        least.append(min(p_values(found(flow, flow.sample(300, c, seed=seed), c, seed))))
    # 40 p-values: one in 10,000 fails by chance.
    assert min(least) * 40 > 1e-4
    report = flow.check(flow.sample(300, c, seed=9), c, seed=0)
    assert report.next == "No problem detected in 300 rows."


def test_ranks_are_uniform_and_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few draws and few rows too: their mean varies as that of independent uniform numbers."""
    monkeypatch.setattr(module, "DRAWS", 10)
    flow = identity(2, support=[Real(), Circle(0, 1)])
    c = np.repeat(normal(10, 1), 2, axis=0)
    trials = [ranked(flow, flow.sample(20, c, seed=seed), c, seed=1000 + seed) for seed in range(400)]
    for ours in (
        np.array([trial.density for trial in trials]),
        np.array([trial.random_points for trial in trials]),
        *np.moveaxis([trial.features for trial in trials], 2, 0),
    ):
        assert uniformity(ours.ravel()).p_value > 0.001
        spread = ours.mean(axis=1).var() * 12 * 20
        low, high = stats.chi2(399).ppf([0.0005, 0.9995]) / 399
        assert low < spread < high


def test_one_condition_and_none() -> None:
    flow, x = Flow(2, context=1, seed=0), normal(100)
    one, each = found(flow, x, np.array([0.3])), found(flow, x, np.full((100, 1), 0.3))
    assert one == each
    assert min(p_values(found(identity(context=0), normal(500), None))) > 0.001


def test_one_row() -> None:
    result = found(identity(), normal(1), np.zeros((1, 1)))
    assert result.rows == 1
    assert all(0 <= p_value <= 1 for p_value in p_values(result))
    assert [marginal.direction for marginal in result.marginals] == ["", ""]


# -- of a wrong one ------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[float, float], tuple[float, float], str]] = {
    "narrow": ((1.5, 1.0), (0.0, 0.0), "too narrow"),
    "wide": ((0.6, 1.0), (0.0, 0.0), "too wide"),
    "low": ((1.0, 1.0), (0.5, 0.0), "too low"),
    "high": ((1.0, 1.0), (-0.5, 0.0), "too high"),
    "far too low": ((1.0, 1.0), (3.0, 0.0), "too low"),
    "narrow and low": ((2.0, 1.0), (0.4, 0.0), "too narrow and too low"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_with_a_feature(fault: str) -> None:
    scale, shift, says = WRONG[fault]
    x, c = normal(1000) * scale + shift, normal(1000, 1, seed=1)
    report = identity().check(x, c, seed=0)
    assert report.calibration is not None
    wrong, right = report.calibration.marginals
    assert (wrong.feature, wrong.direction) == ("x0", says)
    assert wrong.p_value < 1e-6 < 0.001 < right.p_value
    assert right.direction == ""
    assert wrong.distance > 0.1 > right.distance
    assert f"given its context, the density is {says} in 'x0'" in report.next
    assert f"in x0, the worst: {says}" in " ".join(str(report).split())


def test_coverage_of_a_wrong_flow() -> None:
    for scale in (1.5, 0.6):
        x = scale * normal(1000)
        regions = found(identity(), x, normal(1000, 1, seed=1)).highest_density
        for level in (0.5, 0.9):
            exact = stats.chi2(2).cdf(stats.chi2(2).ppf(level) / scale**2)
            assert regions.holds(level) == pytest.approx(exact, abs=0.07)
        assert np.sign(regions.deviation) == np.sign(regions.area) == np.sign(1 - scale)
        assert regions.p_value < 1e-6


def test_an_angle_is_cut_where_it_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws on both sides of the seam, and rows that scatter more, or are turned."""

    def sample(self: State, key: int, n: int, context: Any, *, first: int) -> tuple[np.ndarray, None]:
        return (360 + 10 * np.random.default_rng(key).normal(size=(n, 1))) % 360, None

    monkeypatch.setattr(State, "sample", sample)
    monkeypatch.setattr(State, "log_prob", lambda self, x, context: np.cos(np.radians(x[:, 0])))
    flow = identity(1, support=Circle(0, 360))
    rows, c = normal(500, 1), normal(500, 1, seed=1)
    for degrees, says in (
        (10 * rows, ""),
        (20 * rows, "too narrow"),
        (5 * rows, "too wide"),
        (10 * rows + 8, "too low"),
    ):
        result = found(flow, degrees % 360, c)
        assert result.marginals[0].direction == says
        assert (min(p_values(result)) > 0.001) == (says == "")


@pytest.mark.parametrize("square", [False, True])
def test_a_flow_that_ignores_its_context(square: bool) -> None:
    """Its marginal density is right, so only regions that depend on the context show it."""
    c = normal(600, 1)
    t = stats.norm.ppf(stats.chi2(1).cdf(c**2)) if square else c
    x = 0.7 * t + math.sqrt(1 - 0.49) * normal(600, 1, seed=1)
    result = found(identity(1), x, c)
    assert result.random_points.p_value < 1e-9
    assert result.random_points.deviation > 0.1
    assert min(p_values(result)[:-1]) > 0.001
    says = "the density misses how features depend on the context or on each other, as "
    assert says in identity(1).check(x, c, seed=0).next


def test_narrow_features_count_for_random_points() -> None:
    """What is wrong in one shows, though another has a far larger scale."""
    x = normal(600) * [1.0, 1e-3]
    flow = identity().initialize(normal(600, seed=2) * [1.0, 1e-3], normal(600, 1))
    state_of(flow).set_standardization((np.zeros(2), np.array([1.0, 1e-3])), (np.zeros(1), np.ones(1)))
    assert found(flow, x, normal(600, 1, seed=1)).random_points.p_value > 0.001
    assert found(flow, x * [1.0, 2.5], normal(600, 1, seed=1)).random_points.p_value < 1e-6


# -- the numbers ---------------------------------------------------------------------------------------------------


def test_coverage_is_the_distribution_function_of_the_ranks() -> None:
    u = np.random.default_rng(0).beta(2, 1, size=400)
    regions = module._coverage(u, None)
    np.testing.assert_allclose(regions.actual, [(u <= level).mean() for level in regions.levels])
    assert regions.p_value == uniformity(u).p_value
    assert (regions.holds(0.0), regions.holds(1.0), regions.holds(0.25)) == (0.0, 1.0, (u <= 0.25).mean())
    assert regions.area == pytest.approx(0.5 - u.mean())
    assert regions.area == pytest.approx(np.mean(np.subtract(regions.actual, regions.levels)), abs=0.01)
    assert abs(regions.deviation) == pytest.approx(uniformity(u).distance, abs=0.01)
    assert regions.deviation < 0


def test_weights_count_rows() -> None:
    rng = np.random.default_rng(0)
    features, density, points = rng.uniform(size=(200, 2)), rng.beta(2, 1, 200), rng.uniform(size=200)
    repeats = rng.integers(1, 4, size=200)
    one = calibration(("a", "b"), Ranks(features, density, points, 0.1 * repeats))
    other = calibration(
        ("a", "b"), Ranks(*(np.repeat(part, repeats, axis=0) for part in (features, density, points)), None)
    )
    for name in ("highest_density", "random_points"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.actual == pytest.approx(theirs.actual)
        assert mine.area == pytest.approx(theirs.area)
        assert mine.p_value > theirs.p_value  # fewer effective rows than copies
    for left, right in zip(one.marginals, other.marginals, strict=True):
        assert left.distance == pytest.approx(right.distance)
    even = calibration(("a", "b"), Ranks(features, density, points, np.full(200, 7.0)))
    plain = calibration(("a", "b"), Ranks(features, density, points, None))
    assert np.array(p_values(even)) == pytest.approx(np.array(p_values(plain)))


def test_the_band_is_that_of_the_test() -> None:
    for n in (20, 1000):
        reach = uniform_band(n, 0.99)
        points = (np.arange(n) + 0.5) / n
        shifted = np.clip(points - reach + 0.5 / n + 1e-9, 0, 1)
        assert uniformity(shifted).p_value == pytest.approx(0.01, rel=1e-3)
    assert uniform_band(1, 0.99) == 1.0
    assert uniform_band(1000, 0.99) == pytest.approx(stats.kstwo(1000).ppf(0.99), rel=0.01)


# -- the report ----------------------------------------------------------------------------------------------------


def coverage(deviation: float = 0.0, p_value: float = 0.5) -> Coverage:
    levels = module._LEVELS
    return Coverage(
        levels,
        tuple(level + 4 * deviation * level * (1 - level) for level in levels),
        deviation,
        0.6 * deviation,
        p_value,
    )


def report_of(**changes: Any) -> Report:
    x, c = normal(400), normal(400, 1, seed=1)
    report = identity().check(x, c, seed=0)
    fine = Calibration(400, 200, (Marginal("a", 0.03, 0.6, ""), Marginal("b", 0.04, 0.4, "")), coverage(), coverage())
    return dataclasses.replace(report, calibration=dataclasses.replace(fine, **changes))


def test_it_prints_as_three_lines() -> None:
    narrow = (Marginal("a", 0.03, 0.6, ""), Marginal("b", 0.124, 1.1e-10, "too narrow"))
    lines = str(report_of(marginals=narrow, highest_density=coverage(-0.1, 2e-9))).splitlines()
    assert lines[5:8] == [
        "ranks           KS distance from uniform 0.124 (p = 2.2e-10) in b, the worst: too narrow",
        "coverage        50 % regions of highest density hold 40.0 % of the rows, 90 % 86.4 % (p = 2e-09)",
        "random points   50 % balls around similar rows hold 50.0 % of the rows, 90 % 90.0 % (p = 0.5)",
    ]
    assert "ranks           KS distance from uniform 0.040 (p = 0.8) in b, the worst" in str(report_of()).splitlines()
    without = dataclasses.replace(report_of(), calibration=None)
    assert not any(line.startswith(("ranks", "coverage", "random")) for line in str(without).splitlines())


def test_without_context_there_is_none() -> None:
    assert identity(context=0).check(normal(100)).calibration is None


def test_a_seed_repeats_it() -> None:
    x, c = normal(200), normal(200, 1)
    flow = Flow(2, context=1, seed=0)
    assert flow.check(x, c, seed=3) == flow.check(x, c, seed=3)
    assert flow.check(x, c, seed=3).calibration != flow.check(x, c, seed=4).calibration


FAIL = Marginal("a", 0.1, 1e-9, "too narrow")
NEXT: list[tuple[dict[str, Any], str]] = [
    ({"marginals": (FAIL,)}, "given its context, the density is too narrow in 'a'"),
    (
        {"marginals": tuple(FAIL._replace(feature=name) for name in "abcde")},
        "given its context, the density is too narrow in 'a', 'b', 'c' and 2 more",
    ),
    (
        {"marginals": (FAIL._replace(direction="too low", p_value=1e-7), FAIL._replace(feature="b"))},
        "given its context, the density is too narrow in 'b'",
    ),
    (
        {"marginals": (FAIL._replace(direction=""),)},
        "given its context, the density is of another shape than the rows in 'a'",
    ),
    ({"highest_density": coverage(-0.1, 1e-9)}, "50% regions of highest density hold 40% of the rows"),
    (
        {"random_points": coverage(0.1, 1e-9)},
        "the density misses how features depend on the context or on each other, as 50% balls around similar rows "
        "hold 60% of the rows",
    ),
]


@pytest.mark.parametrize(("changes", "says"), NEXT)
def test_what_to_try_next(changes: dict[str, Any], says: str) -> None:
    report = report_of(**changes)
    assert report.next.endswith(f"{says}.")
    known = dataclasses.replace(report, above_training=-0.01)
    assert known.next == f"Train for more epochs, then use more layers or wider networks: {says}."
    overfitted = dataclasses.replace(report, above_training=-2.0)
    assert overfitted.next.startswith("The flow overfits. Use more rows")
    assert says in overfitted.next


def test_a_flow_that_is_too_narrow_may_overfit() -> None:
    narrow = report_of(highest_density=coverage(-0.1, 1e-9))
    assert narrow.next.startswith("Check the training rows too. If they pass, the flow overfits: use more rows")
    for other in (
        dataclasses.replace(narrow, above_training=-0.01),
        report_of(highest_density=coverage(0.1, 1e-9)),
        report_of(random_points=coverage(-0.1, 1e-9)),
    ):
        assert other.next.startswith("Train for more epochs")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"marginals": (FAIL._replace(p_value=0.004),)},  # one of three tests
        {"marginals": (FAIL._replace(distance=0.02),)},
        {"highest_density": coverage(-0.02, 1e-9)},
        {"random_points": coverage(0.1, 0.004)},
    ],
)
def test_no_problem(changes: dict[str, Any]) -> None:
    assert report_of(**changes).next == "No problem detected in 400 rows."


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite(bad: float) -> None:
    x = normal(10)
    x[3, 1] = bad
    with pytest.raises(ValueError, match="x has 1 row with NaN or infinity, first at row 3"):
        identity().check(x, normal(10, 1))
