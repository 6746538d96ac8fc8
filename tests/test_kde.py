"""The adapter beside scipy.stats.gaussian_kde."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from pushforward import (
    Adam,
    Circle,
    Flow,
    Householder,
    Interval,
    Positive,
    StudentT,
    Uniform,
    neural_spline,
)
from pushforward.kde import Estimate, FlowKDE
from scipy import integrate, stats

COVARIANCE = np.array([[2.0, 0.9], [0.9, 0.6]])
GAUSSIAN = stats.multivariate_normal([1.0, -3.0], COVARIANCE)


class Mixture:
    """Two narrow clusters far apart, which a kernel of one width smears out."""

    parts = (
        stats.multivariate_normal([-5, 0], np.diag([0.1, 1.0])),
        stats.multivariate_normal([5, 2], 0.2 * np.eye(2)),
    )

    def rvs(self, n: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        first = rng.random(n) < 0.3
        return np.where(first[:, None], *(part.rvs(n, random_state=rng) for part in self.parts))

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp(np.log(0.3) + self.parts[0].logpdf(x), np.log(0.7) + self.parts[1].logpdf(x))


@pytest.fixture(scope="module")
def gaussian() -> tuple[FlowKDE, stats.gaussian_kde]:
    x = GAUSSIAN.rvs(3000, random_state=0).T
    flow = Flow(2, layers=neural_spline(2, depth=2, hidden=16), seed=0)
    return FlowKDE(x, flow=flow, seed=0, epochs=60), stats.gaussian_kde(x)


@pytest.fixture(scope="module")
def line() -> FlowKDE:
    x = np.random.default_rng(0).gamma(3.0, size=1000)
    return FlowKDE(x, flow=Flow(1, layers=neural_spline(1, depth=1), support=Positive(), seed=0), seed=0, epochs=30)


def nats_lost(model: FlowKDE | stats.gaussian_kde, truth: object, x: np.ndarray) -> float:
    """Return the mean of log p_truth - log p_model over rows drawn from the truth."""
    return float((truth.logpdf(x) - model.logpdf(x.T)).mean())


# -- densities ---------------------------------------------------------------------------------------------------


def test_a_gaussian_is_found_as_well_as_by_scipy(gaussian: tuple[FlowKDE, stats.gaussian_kde]) -> None:
    kde, peer = gaussian
    x = GAUSSIAN.rvs(3000, random_state=1)
    assert nats_lost(kde, GAUSSIAN, x) < 0.03
    assert nats_lost(kde, GAUSSIAN, x) < nats_lost(peer, GAUSSIAN, x) + 0.01


def test_a_mixture_is_found_better_than_by_scipy() -> None:
    truth = Mixture()
    x = truth.rvs(3000, seed=0)
    kde = FlowKDE(x.T, flow=Flow(2, layers=neural_spline(2, depth=4, hidden=32), seed=0), seed=0)
    test = truth.rvs(3000, seed=1)
    assert nats_lost(kde, truth, test) < 0.15
    assert nats_lost(stats.gaussian_kde(x.T), truth, test) > 5 * nats_lost(kde, truth, test)


def test_the_methods_agree_with_each_other_and_with_the_flow(gaussian: tuple[FlowKDE, stats.gaussian_kde]) -> None:
    kde, _ = gaussian
    x = GAUSSIAN.rvs(5, random_state=2)
    np.testing.assert_array_equal(kde.logpdf(x.T), kde.flow.log_prob(x))
    for density in (kde.pdf(x.T), kde.evaluate(x.T), kde(x.T)):
        np.testing.assert_array_equal(density, np.exp(kde.logpdf(x.T)))
    np.testing.assert_array_equal(kde.resample(7, seed=3), kde.flow.sample(7, seed=3).T)


@pytest.mark.parametrize("method", ["logpdf", "pdf", "evaluate"])
def test_shapes_are_those_of_scipy(gaussian: tuple[FlowKDE, stats.gaussian_kde], method: str) -> None:
    kde, peer = gaussian
    for shape in ((2, 6), (2, 1), (2, 2), (2,), (1, 2)):
        x = np.ones(shape)
        assert getattr(kde, method)(x).shape == getattr(peer, method)(x).shape
    assert kde.resample(4).shape == peer.resample(4).shape == (2, 4)
    assert kde.resample().shape == (2, 3000)


def test_shapes_on_the_line_are_those_of_scipy(line: FlowKDE) -> None:
    peer = stats.gaussian_kde(np.random.default_rng(0).gamma(3.0, size=1000))
    for x in (1.0, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0, 3.0]]):
        assert line.logpdf(x).shape == peer.logpdf(x).shape
    assert line.resample(4).shape == peer.resample(4).shape == (1, 4)


def test_numbers_of_points_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(3, 50)), rng.random(50)
    kde = FlowKDE(x, weights=weights, flow=Flow(3, layers=[]), epochs=1)
    peer = stats.gaussian_kde(x, weights=weights)
    assert (kde.d, kde.n) == (peer.d, peer.n) == (3, 50)
    assert kde.neff == pytest.approx(peer.neff)
    assert kde.resample().shape == (3, int(kde.neff))
    assert FlowKDE(x, flow=Flow(3, layers=[]), epochs=1).neff == 50


def test_weights_count() -> None:
    x = np.concatenate([np.zeros(200), np.ones(200)]) + 0.01 * np.random.default_rng(0).normal(size=400)
    weights = np.repeat([0.9, 0.1], 200)
    kde = FlowKDE(x, weights=weights, flow=Flow(1, layers=neural_spline(1, depth=2), seed=0), seed=0, epochs=200)
    assert kde.integrate_box_1d(-np.inf, 0.5) == pytest.approx(0.9, abs=0.05)


def test_the_default_flow_and_the_options_of_fit() -> None:
    x = np.random.default_rng(0).normal(size=(2, 300))
    kde = FlowKDE(x, seed=1, epochs=2, validation=None)
    flow = Flow(2, seed=1).fit(x.T, epochs=2, validation=None, seed=1)
    np.testing.assert_array_equal(kde.flow.parameters, flow.parameters)


# -- integrals ---------------------------------------------------------------------------------------------------


def test_a_box_has_the_mass_of_scipy_within_its_error(gaussian: tuple[FlowKDE, stats.gaussian_kde]) -> None:
    kde, peer = gaussian
    for low, high in (([0, -4], [2, -3]), ([-np.inf, -np.inf], [1, -3]), ([1, -np.inf], [np.inf, np.inf])):
        share = kde.integrate_box(low, high, seed=0)
        expected = GAUSSIAN.cdf(high, lower_limit=np.array(low, dtype=float))
        assert share == pytest.approx(expected, abs=0.02)
        assert share == pytest.approx(peer.integrate_box(low, high), abs=0.04)
        assert 0.0005 < share.error < 0.0016
    assert kde.integrate_box([-np.inf] * 2, [np.inf] * 2, size=1000) == 1.0


def test_the_error_is_that_of_repetitions(gaussian: tuple[FlowKDE, stats.gaussian_kde]) -> None:
    kde, _ = gaussian
    shares = [kde.integrate_box([0, -4], [2, -3], size=1000, seed=seed) for seed in range(200)]
    # The deviation of 200 numbers has itself an error of 5 %.
    assert np.std(shares) == pytest.approx(shares[0].error, rel=0.2)
    assert kde.integrate_box([0, -4], [2, -3], size=1000, seed=5) == shares[5]


def test_no_point_in_a_box_is_not_certainty(gaussian: tuple[FlowKDE, stats.gaussian_kde]) -> None:
    kde, _ = gaussian
    nothing = kde.integrate_box([1e6, 0], [1e6 + 1, 1], size=1000, seed=0)
    everything = kde.integrate_box([-1e6, -1e6], [1e6, 1e6], size=1000, seed=0)
    assert (nothing, everything) == (0.0, 1.0)
    assert nothing.error == pytest.approx(0.7 / 1000, rel=0.02)
    assert everything.error == pytest.approx(nothing.error)


def test_many_points_are_drawn_in_parts(
    gaussian: tuple[FlowKDE, stats.gaussian_kde], monkeypatch: pytest.MonkeyPatch
) -> None:
    kde, _ = gaussian
    monkeypatch.setattr("pushforward.kde._CHUNK_ROWS", 300)
    drawn = []
    monkeypatch.setattr(kde, "flow", copy.copy(kde.flow))
    sample = kde.flow.sample
    monkeypatch.setattr(kde.flow, "sample", lambda n, seed: drawn.append(n) or sample(n, seed=seed))
    assert kde.integrate_box([0, -4], [2, -3], size=1000, seed=0) == pytest.approx(0.3, abs=0.1)
    assert drawn == [300, 300, 300, 100]


@pytest.mark.parametrize(
    "flow",
    [
        Flow(1, layers=neural_spline(1, depth=2), dtype="float64", seed=0),
        Flow(1, layers=[Householder(1), *neural_spline(1, depth=1)], dtype="float64", seed=0),
        Flow(1, layers=neural_spline(1, depth=1), support=Positive(), dtype="float64", seed=0),
        Flow(1, layers=neural_spline(1, depth=1), support=Interval(0, 30), dtype="float64", seed=0),
        Flow(
            1,
            layers=neural_spline(1, depth=1, mixing="permutation"),
            base=Uniform(),
            support=Interval(0, 30),
            dtype="float64",
            seed=0,
        ),
    ],
    ids=["real", "reflected", "positive", "interval", "box"],
)
def test_the_mass_on_the_line_is_exact(flow: Flow) -> None:
    x = np.random.default_rng(0).gamma(3.0, size=500)
    kde = FlowKDE(x, flow=copy.deepcopy(flow), seed=0, epochs=60, batch_size=32, optimizer=Adam(3e-2))
    for low, high in ((1.0, 4.0), (7.0, 9.0), (0.5, 0.5)):
        share = kde.integrate_box_1d(low, high)
        expected, _ = integrate.quad(lambda t: kde.pdf(t)[0], low, high, limit=200)
        assert share == pytest.approx(expected, abs=1e-6)
        assert share.error == 0.0
        assert kde.integrate_box(low, high) == kde.integrate_box([low], [high]) == share
    below, above = kde.integrate_box_1d(-np.inf, 4.0), kde.integrate_box_1d(4.0, np.inf)
    assert below == pytest.approx(np.mean(x < 4.0), abs=0.06)
    assert below + above == pytest.approx(1.0, abs=1e-9)
    for end in (1e3, np.inf):
        assert kde.integrate_box_1d(-end, end) == pytest.approx(1.0, abs=1e-9)


def test_a_far_tail_keeps_its_digits() -> None:
    kde = FlowKDE(np.random.default_rng(0).normal(size=500), flow=Flow(1, layers=[], dtype="float64"), epochs=1)
    (shift,), (scale,) = kde.flow._state.standardization
    peer = stats.norm(shift, scale)
    np.testing.assert_allclose(kde.integrate_box_1d(9.0, 14.0), peer.sf(9.0), rtol=1e-9)
    np.testing.assert_allclose(kde.integrate_box_1d(-14.0, -9.0), peer.cdf(-9.0), rtol=1e-9)


@pytest.mark.parametrize(
    "flow",
    [
        Flow(1, layers=[], base=StudentT(3.0), seed=0),
        Flow(1, layers=neural_spline(1, depth=1), support=Circle(0, 30), seed=0),
    ],
    ids=["heavy", "circle"],
)
def test_without_a_closed_form_the_mass_on_the_line_is_that_of_points(flow: Flow) -> None:
    kde = FlowKDE(np.random.default_rng(0).gamma(3.0, size=500), flow=flow, seed=0, epochs=10)
    share = kde.integrate_box_1d(1.0, 4.0, seed=0)
    expected, _ = integrate.quad(lambda t: kde.pdf(t)[0], 1.0, 4.0)
    assert 0 < share.error < 0.002
    assert abs(share - expected) < 4 * share.error


def test_an_estimate_is_a_float() -> None:
    share = Estimate(0.25, 0.01)
    assert isinstance(share, float)
    assert f"{share:.2f}" == "0.25"
    assert str(share) == "Estimate(0.25, error=0.01)"
    same = pickle.loads(pickle.dumps(share))
    assert (same, same.error) == (0.25, 0.01)


# -- errors ------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said(gaussian: tuple[FlowKDE, stats.gaussian_kde], line: FlowKDE) -> None:
    kde, _ = gaussian
    with pytest.raises(ValueError, match=r"x has shape \(3, 2\); with d=2, \(2, m\) is expected"):
        kde.logpdf(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 1\)"):
        kde.pdf(np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="d=2"):
        kde.integrate_box_1d(0, 1)
    with pytest.raises(ValueError, match="low_bounds must not be above high_bounds"):
        kde.integrate_box([0, 1], [1, 0])
    with pytest.raises(ValueError, match="low_bounds must not be above high_bounds"):
        line.integrate_box_1d(0, np.nan)
    with pytest.raises(ValueError, match=r"high_bounds has shape \(3,\); \(2,\) is expected"):
        kde.integrate_box([0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="size must be at least 1"):
        kde.integrate_box([0, 1], [1, 2], size=0)
    with pytest.raises(ValueError, match="dataset has 100 dimensions, one per row"):
        FlowKDE(np.zeros((100, 2)), flow=Flow(2))
    with pytest.raises(ValueError, match=r"dataset has shape \(2, 2, 2\)"):
        FlowKDE(np.zeros((2, 2, 2)))
    with pytest.raises(TypeError, match="positional"):
        FlowKDE(np.zeros((2, 100)), "silverman")  # a bandwidth
