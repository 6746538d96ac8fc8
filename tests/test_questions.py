"""Conditionals and marginals of a flow are those of its density: exactly, to a grid, or to their standard error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pushforward import (
    LU,
    ActNorm,
    Circle,
    ContextNetwork,
    ContextShift,
    Flow,
    Interval,
    Mixture,
    Permutation,
    Positive,
    Real,
    StudentT,
    neural_spline,
    triangular,
)
from pushforward._model.state import state_of
from pushforward._questions import chains
from pushforward._questions.answers import moments
from pushforward._questions.joint import Family, Joint
from pushforward._questions.lines import Lines
from scipy import stats

DTYPES = ("float32", "float64")


def gaussian(dim: int, dtype: str = "float64") -> tuple[Flow, np.ndarray, np.ndarray]:
    """Return a flow that is a Gaussian, its mean and its covariance."""
    rng = np.random.default_rng(0)
    x = 3 + rng.normal(size=(1000, dim)) @ rng.normal(size=(dim, dim))
    flow = Flow(dim, layers=[LU()], dtype=dtype, seed=0).initialize(x)
    mean = flow.forward(np.zeros(dim))[0]
    factor = (flow.forward(np.eye(dim))[0] - mean).T
    return flow, mean, factor @ factor.T


def conditioned(
    mean: np.ndarray, covariance: np.ndarray, known: list[int], values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and the covariance of the other columns."""
    other = [i for i in range(len(mean)) if i not in known]
    gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, other)]).T
    inner = covariance[np.ix_(other, other)] - gain @ covariance[np.ix_(known, other)]
    return mean[other] + (values - mean[known]) @ gain.T, inner


@pytest.fixture(params=["importance", "chains"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Answer as always, or send all rows to chains."""
    if request.param == "chains":
        honest = chains.converged

        def converged(effective: np.ndarray, r_hat: np.ndarray, count: int) -> np.ndarray:
            return honest(effective, r_hat, count) & ~np.isnan(r_hat)

        monkeypatch.setattr(chains, "converged", converged)
    return str(request.param)


# -- a known joint -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_unknown_column_is_exact_to_the_grid(dtype: str) -> None:
    flow, mean, covariance = gaussian(4, dtype)
    x = flow.sample(20, seed=0)
    given = flow.conditional({0: x[:, 0], 1: x[:, 1], 3: x[:, 3]})
    centers, inner = conditioned(mean, covariance, [0, 1, 3], x[:, [0, 1, 3]])
    known = stats.multivariate_normal(mean[[0, 1, 3]], covariance[np.ix_([0, 1, 3], [0, 1, 3])])
    deviation = np.sqrt(inner[0, 0])
    assert given.method == "a grid"
    assert given.has_converged.all()
    assert (given.error <= 1e-3).all()
    np.testing.assert_allclose(given.log_marginal, known.logpdf(x[:, [0, 1, 3]]), atol=1e-3)
    np.testing.assert_allclose(given.mean()[0], centers, atol=2e-3 * deviation)
    expected = centers + deviation * stats.norm.ppf([0.01, 0.5, 0.9])[:, None, None]
    np.testing.assert_allclose(given.quantile([0.01, 0.5, 0.9])[0], expected, atol=0.02 * deviation)
    density = stats.norm(centers[:, 0], deviation).logpdf(x[:, 2])
    np.testing.assert_allclose(given.log_prob(x[:, [2]]), density, atol=1e-3)
    u = stats.norm(centers, deviation).cdf(given.sample(100, seed=1))
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_several_unknown_columns_are_right_to_their_error(way: str) -> None:
    flow, mean, covariance = gaussian(5)
    x = flow.sample(30, seed=0)
    given = flow.conditional({1: x[:, 1], 3: x[:, 3]}, steps=200)
    assert given.method == ("importance sampling" if way == "importance" else "importance sampling and chains")
    assert np.isnan(given.r_hat).all() == (way == "importance")
    assert given.has_converged.all()
    centers, inner = conditioned(mean, covariance, [1, 3], x[:, [1, 3]])
    found, error = given.mean()
    assert (np.abs(found - centers) < 5 * error).all()
    assert np.sqrt((((found - centers) / error) ** 2).mean()) < 1.5
    known = stats.multivariate_normal(mean[[1, 3]], covariance[np.ix_([1, 3], [1, 3])])
    assert (np.abs(given.log_marginal - known.logpdf(x[:, [1, 3]])) < 5 * given.error).all()
    assert (given.error < 0.1).all()
    scaled = np.linalg.solve(np.linalg.cholesky(inner), (given.sample(40, seed=0) - centers).reshape(-1, 3).T)
    np.testing.assert_allclose(scaled @ scaled.T / scaled.shape[1], np.eye(3), atol=0.2)
    np.testing.assert_allclose(
        given.quantile(0.9)[0], centers + 1.2816 * np.sqrt(np.diag(inner)), atol=0.5 * np.sqrt(inner.max())
    )
    density = given.log_prob(np.stack([centers, centers + 1]))
    normal = stats.multivariate_normal(np.zeros(3), inner)
    assert (np.abs(density - [[normal.logpdf(np.zeros(3))], [normal.logpdf(np.ones(3))]]) < 5 * given.error).all()


def test_a_mixture_keeps_its_modes(way: str) -> None:
    """Two columns known only to lie on a circle: x0 = +-2, the sign of x1, and x2 is close to the sum of squares."""
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], 2000)
    x = np.stack([2 * side, -2 * side, np.zeros(2000)], axis=1) + 0.3 * rng.normal(size=(2000, 3))
    flow = Flow(3, layers=[], base=Mixture(2), dtype="float64", seed=0).initialize(x)
    given = flow.conditional({2: [0.0, 0.1]}, steps=200)
    drawn = given.sample(2000, seed=0)
    assert (drawn[..., 0] * drawn[..., 1] < 0).mean() > 0.99
    share = (drawn[..., 0] > 0).mean(axis=0)
    np.testing.assert_allclose(share, (side > 0).mean(), atol=0.15)
    error = given.error
    grid = np.linspace(-4, 4, 161)
    points = np.stack(np.meshgrid(grid, grid, [0.0, 0.1], indexing="ij"), axis=-1)
    integral = np.exp(flow.log_prob(points)).sum(axis=(0, 1)) * (grid[1] - grid[0]) ** 2
    assert (np.abs(given.log_marginal - np.log(integral)) < 5 * error + 1e-3).all()


# -- bounds, circles and contexts --------------------------------------------------------------------------------


def bounded() -> tuple[Flow, np.ndarray]:
    rng = np.random.default_rng(1)
    angle = rng.vonmises(3.0, 2.0, 800) % (2 * np.pi)
    share = rng.beta(2, 3, 800)
    size = np.exp(np.cos(angle) + 0.3 * rng.normal(size=800))
    x = np.stack([angle, share, size], axis=1)
    support = [Circle(0, 2 * np.pi), Interval(0, 1), Positive()]
    flow = Flow(3, layers=neural_spline(3, depth=2, hidden=16), support=support, dtype="float64", seed=0)
    return flow.fit(x, epochs=2, seed=0), x


def test_grids_and_draws_keep_to_the_supports() -> None:
    flow, x = bounded()
    angles, shares, sizes = (
        (np.linspace(low, high, 241)[:-1] + (high - low) / 480) for low, high in ((0, 2 * np.pi), (0, 1), (0, 20))
    )
    for column, values in enumerate((angles, shares, sizes)):
        rows = np.repeat(x[:3, None], len(values), axis=1)
        rows[:, :, column] = values
        expected = np.log(np.exp(flow.log_prob(rows)).sum(axis=1) * (values[1] - values[0]))
        known = {i: x[:3, i] for i in range(3) if i != column}
        given = flow.conditional(known)
        np.testing.assert_allclose(given.log_marginal, expected, atol=0.02)
        drawn = given.sample(200, seed=0)
        low, high = flow.support[column].ends
        assert ((drawn >= low) & (drawn <= high)).all()
    rows = np.stack(np.meshgrid(angles, [x[0, 1]], sizes, indexing="ij"), axis=-1)
    area = (angles[1] - angles[0]) * (sizes[1] - sizes[0])
    given = flow.conditional({1: x[0, 1]})
    assert given.sample(7, seed=0).shape == (7, 2)
    assert abs(given.log_marginal - np.log(np.exp(flow.log_prob(rows)).sum() * area)) < 5 * given.error + 0.02
    with pytest.raises(ValueError, match=r"known\['x1'\] is 2 in row 0, outside Interval"):
        flow.conditional({1: 2.0})


def test_gradients_on_the_line_are_those_of_central_differences() -> None:
    flow, x = bounded()
    joint = Joint(Family(state_of(flow), None), np.array([1]), x[:4, [1]], None)
    at, h = np.arange(4), 1e-5
    y = joint.family.to_line(x[:4, None, ::2], joint.unknown)
    density, gradient = joint.gradient(at, y)
    np.testing.assert_allclose(density, joint.on_line(at, y)[1])
    for i in range(2):
        step = h * np.eye(2)[i]
        ends = [joint.on_line(at, y + sign * step)[1] for sign in (1, -1)]
        np.testing.assert_allclose(gradient[..., i], (ends[0] - ends[1]) / (2 * h), atol=1e-4)


def test_means_on_a_circle_are_directions() -> None:
    points, equal = np.array([[[350.0], [20.0]]]), np.full((1, 2), 0.5)
    mean, deviation = moments(points, equal, [Circle(0, 360)])
    assert mean[0, 0] == pytest.approx(5)
    assert deviation[0, 0] == pytest.approx(15, abs=0.5)
    lines = Lines([Circle(0, 360)], np.array([[350.0], [355.0], [5.0], [10.0]] * 10))
    y = lines.to_line(np.array([[350.0], [10.0]]))
    assert abs(y[0, 0] - y[1, 0]) < 10  # not cut between them
    np.testing.assert_allclose(lines.from_line(y)[0], [[350.0], [10.0]])


@pytest.mark.parametrize("support", [Real(), Positive(), Interval(-1, 3), Circle(0, 2)], ids=repr)
def test_lines_are_invertible_with_their_slopes(support: object) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.05, 1.9, size=(50, 1))
    lines = Lines([support], x)  # type: ignore[list-item]
    y = lines.to_line(x)
    back, log_slope = lines.from_line(y)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    h = 1e-6
    slope = (lines.from_line(y + h)[0] - lines.from_line(y - h)[0])[:, 0] / (2 * h)
    np.testing.assert_allclose(np.log(slope), log_slope, atol=1e-6)
    slopes, bends = lines.slopes(y)
    np.testing.assert_allclose(slopes[:, 0], slope, rtol=1e-6)
    bend = (lines.from_line(y + h)[1] - lines.from_line(y - h)[1]) / (2 * h)
    np.testing.assert_allclose(bends[:, 0], bend, atol=1e-6)


def test_contexts_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    context = rng.normal(size=(500, 1))
    x = rng.normal(size=(500, 3)) + context
    flow = Flow(3, layers=[LU(), ContextShift()], context=1, dtype="float64", seed=0).initialize(x, context)
    shift = flow.sample(1, [1.0], seed=0) - flow.sample(1, [0.0], seed=0)
    given = flow.conditional({0: [0.0, shift[0, 0]]}, [[0.0], [1.0]])
    np.testing.assert_allclose(given.mean()[0][1] - given.mean()[0][0], shift[0, 1:], atol=0.3)
    one = flow.conditional({0: [0.0, 0.0], 1: [0.0, 0.0]}, [0.0])
    assert one.log_marginal[0] == pytest.approx(one.log_marginal[1], abs=1e-3)
    marginal = flow.marginal([1, 0])
    density = marginal.log_prob([[0.0, 0.0]], [0.0])
    assert density[0] == pytest.approx(one.log_marginal[0], abs=2e-3)
    assert marginal.sample(4, [0.0], seed=0).shape == (4, 2)


# -- triangular flows --------------------------------------------------------------------------------------------

TRIANGULAR: dict[str, Callable[[], Flow]] = {
    "natural": lambda: Flow(3, layers=triangular(3, depth=1, hidden=8), dtype="float64", seed=0),
    "order": lambda: Flow(3, layers=triangular(3, order=[2, 0, 1], depth=2, hidden=(8, 6)), seed=0),
    "ActNorm and heavy tails": lambda: Flow(
        3,
        layers=[*triangular(3, order=[1, 2, 0], depth=1, hidden=(8,)), ActNorm()],
        base=StudentT(5.0),
        support=[Positive(), Real(), Interval(0, 1)],
        dtype="float64",
        seed=0,
    ),
    "context": lambda: Flow(
        3, layers=[*triangular(3, depth=1, hidden=8, blocks=2), ContextShift()], context=2, dtype="float64", seed=0
    ),
    "context network": lambda: Flow(
        3,
        layers=triangular(3, depth=1, hidden=(8,)),
        context=2,
        context_network=ContextNetwork(3),
        dtype="float64",
        seed=0,
    ),
}


@pytest.mark.parametrize("name", TRIANGULAR)
def test_leading_marginals_and_trailing_conditionals_follow_from_the_chain_rule(name: str) -> None:
    """The density of the first columns is that of their latent features times the diagonal of the Jacobian."""
    flow, rng, n = TRIANGULAR[name](), np.random.default_rng(0), 40
    x = np.stack([rng.uniform(0.1, 2, n), rng.normal(size=n), rng.uniform(0.1, 0.9, n)], axis=1)
    context = rng.normal(size=(n, 2)) if flow.context else None
    flow.initialize(x, context)
    flow.parameters = flow.parameters + 0.3 * rng.normal(size=flow.parameters.shape)
    order = {"order": [2, 0, 1], "ActNorm and heavy tails": [1, 2, 0]}.get(name, [0, 1, 2])
    z = flow.inverse(x, context)[0]
    for count in (1, 2):
        known, other = order[:count], order[count:]
        log_density = np.zeros(n)
        for i in range(count):
            seed = np.zeros((n, 3))
            seed[:, i] = 1
            row = flow.inverse_vjp(x, seed, np.zeros(n), context)[0]
            one = Flow(1, layers=[], base=flow.base, dtype="float64")
            log_density += one.base_log_prob(z[:, [i]]) + np.log(np.abs(row[:, order[i]]))
        marginal = flow.marginal(known)
        assert marginal.is_exact
        tolerance = 1e-10 if flow.dtype == np.float64 else 1e-4
        np.testing.assert_allclose(marginal.log_prob(x[:, known], context), log_density, atol=tolerance)
        given = flow.conditional({c: x[:, c] for c in known}, context, draws=50)
        assert given.method == "the chain rule"
        assert not given.error.any()
        joint = flow.log_prob(x, context)
        np.testing.assert_allclose(given.log_marginal + given.log_prob(x[:, sorted(other)]), joint, atol=tolerance)
        drawn = np.repeat(x[None], 30, axis=0)
        drawn[:, :, sorted(other)] = given.sample(30, seed=0)
        latent = flow.inverse(drawn.reshape(-1, 3), None if context is None else np.tile(context, (30, 1)))[0]
        base = stats.t(5) if name.startswith("ActNorm") else stats.norm
        assert stats.kstest(base.cdf(latent[:, count:]).ravel(), "uniform").pvalue > 1e-3
    assert not flow.marginal([order[1]]).is_exact


@pytest.mark.parametrize(
    "layers", [[LU()], [Permutation("reverse"), *triangular(2, depth=1, hidden=8)]], ids=["LU", "permuted"]
)
def test_other_flows_are_not_taken_for_triangular_ones(layers: list[object]) -> None:
    flow = Flow(2, layers=layers, seed=0)  # type: ignore[arg-type]
    assert not flow.marginal([0]).is_exact


def test_a_triangular_flow_can_be_fitted_saved_and_asked(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=2000)
    x = np.stack([a, a**2 + 0.1 * rng.normal(size=2000)], axis=1)
    flow = Flow(2, layers=triangular(2, depth=1, hidden=32), seed=0).fit(x, epochs=30, seed=0)
    flow.save(f"{tmp_path}/flow")
    given = Flow.load(f"{tmp_path}/flow").conditional({0: [-1.0, 0.0, 1.0]})
    np.testing.assert_allclose(given.mean()[0][:, 0], [1, 0, 1], atol=0.4)
    with pytest.raises(ValueError, match="order must hold each of 0"):
        triangular(2, order=[0, 0])


# -- marginals ---------------------------------------------------------------------------------------------------


def test_marginals_are_those_of_the_joint() -> None:
    flow, mean, covariance = gaussian(4)
    x = flow.sample(20, seed=0)
    for columns in ([2], [3, 0], [0, 1, 2], [3, 1, 0, 2]):
        marginal = flow.marginal(columns)
        density, error = marginal.log_prob_and_error(x[:, columns])
        expected = stats.multivariate_normal(mean[columns], covariance[np.ix_(columns, columns)]).logpdf(x[:, columns])
        assert (np.abs(density - expected) <= 5 * error + 1e-6).all()
        assert error.max() < 0.1
        drawn = marginal.sample(4000, seed=0)
        np.testing.assert_allclose(drawn.mean(axis=0), mean[columns], atol=5 * np.sqrt(covariance.max() / 4000))
    flow, _ = bounded()
    assert flow.marginal([1, 2]).log_prob([[0.5, -1.0]])[0] == -np.inf


def test_a_score_does_not_depend_on_an_unseeded_draw() -> None:
    flow, *_ = gaussian(4)
    marginal = flow.marginal([0])
    assert (marginal.log_prob([[3.0]]) == marginal.log_prob([[3.0]])).all()
    one, other = (flow.conditional({0: 3.0}) for _ in range(2))
    assert one.log_prob([3.0, 3.0, 3.0]) == other.log_prob([3.0, 3.0, 3.0])
    assert (one.sample(5, seed=1) == other.sample(5, seed=1)).all()


# -- gaps --------------------------------------------------------------------------------------------------------


def test_gaps_are_filled_given_the_rest_of_the_row() -> None:
    flow, mean, covariance = gaussian(4)
    x = flow.sample(400, seed=0)
    gaps = x.copy()
    gaps[:200, 2], gaps[200:399, :2], gaps[399] = np.nan, np.nan, np.nan
    drawn, means = flow.impute(gaps, seed=0), flow.impute(gaps, method="mean", seed=0)
    known = ~np.isnan(gaps)
    for filled in (drawn, means):
        assert (filled[known] == x[known]).all()
        assert np.isfinite(filled).all()
    centers, inner = conditioned(mean, covariance, [0, 1, 3], x[:200][:, [0, 1, 3]])
    np.testing.assert_allclose(means[:200, [2]], centers, atol=1e-2)
    assert stats.kstest((drawn[:200, 2] - centers[:, 0]) / np.sqrt(inner[0, 0]), "norm").pvalue > 1e-3
    centers, inner = conditioned(mean, covariance, [2, 3], x[200:399][:, [2, 3]])
    scores = np.linalg.solve(np.linalg.cholesky(inner), (drawn[200:399, :2] - centers).T)
    assert stats.kstest(scores.ravel(), "norm").pvalue > 1e-3
    assert (flow.impute(gaps, seed=0) == drawn).all()
    assert (flow.impute(x) == x).all()
    copies = flow.impute(gaps, copies=3, seed=0)
    assert copies.shape == (3, 400, 4)
    assert (copies[:, known] == x[known]).all()
    assert (copies[0, ~known] != copies[1, ~known]).mean() > 0.9
    with pytest.raises(ValueError, match="a mean is the same each time"):
        flow.impute(gaps, method="mean", copies=2)


def test_rows_that_have_not_converged_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, *_ = gaussian(4)
    monkeypatch.setattr(chains, "_ENOUGH", np.inf)
    monkeypatch.setattr(chains, "converged", lambda effective, r_hat, count: np.zeros(len(effective), dtype=bool))
    with pytest.warns(RuntimeWarning, match="1 of 2 rows were filled by draws that have not converged"):
        flow.impute([[3.0, 3.0, np.nan, np.nan], [3.0, 3.0, 3.0, 3.0]], steps=0, seed=0)
    given = flow.conditional({0: 3.0}, steps=20)
    assert "not converged   1 rows; ask with more draws or steps" in repr(given)


# -- arguments and units -----------------------------------------------------------------------------------------


def test_what_cannot_be_answered_is_refused() -> None:
    flow, *_ = gaussian(3)
    flow.columns = ["a", "b", "c"]
    for known, match in (
        ({}, "known has no columns"),
        ({"d": 1.0}, "did you mean|the columns are"),
        ({3: 1.0}, "must be at most 2"),
        ({"a": 1.0, 0: 1.0}, "twice"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, "at least one must be left"),
        ({0: [1.0, 2.0], 1: [1.0, 2.0, 3.0]}, "different lengths"),
        ({0: [[1.0]]}, "a number or"),
        ({0: [1.0, np.nan]}, "1 row with NaN or infinity, first at row 1"),
    ):
        with pytest.raises(ValueError, match=match):
            flow.conditional(known)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a mapping"):
        flow.conditional([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws must be at least 50"):
        flow.conditional({0: 1.0}, draws=1)
    with pytest.raises(ValueError, match="'median'"):
        flow.impute([[np.nan, 1.0, 1.0]], method="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inf in column 'a'"):
        flow.impute([[np.inf, 1.0, 1.0]])
    with pytest.raises(ValueError, match="is expected"):
        flow.conditional({0: [1.0, 2.0]}).log_prob(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="q must be numbers"):
        flow.conditional({0: 1.0}).quantile(2.0)


def test_an_answer_says_how_it_was_found() -> None:
    flow, *_ = gaussian(3)
    text = repr(flow.conditional({0: [1.0, 2.0]}))
    assert text.startswith("density of x1, x2 given x0, for 2 rows, by importance sampling\nlog marginal    ")
    assert "effective draws" in text
    assert repr(flow.marginal([1])) == "density of x1 of a flow of 3 columns, an estimate"


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_a_fit_does_not_depend_on_units(factor: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    x = np.stack([a, a**2 + rng.normal(size=300)], axis=1)
    one = Flow(2, seed=0).fit(x, epochs=3, seed=0)
    other = Flow(2, seed=0).fit(factor * x, epochs=3, seed=0)
    np.testing.assert_allclose(other.log_prob(factor * x) + 2 * np.log(factor), one.log_prob(x), atol=0.01)
    given, scaled = one.conditional({0: 1.0}), other.conditional({0: factor})
    np.testing.assert_allclose(scaled.mean()[0] / factor, given.mean()[0], atol=0.02)


def test_a_fit_does_not_depend_on_the_order_of_columns_beyond_the_seed() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=1200)
    x = np.stack([a, a**2 + rng.normal(size=1200), rng.normal(size=1200)], axis=1)
    train, test = x[:800], x[800:]

    def fitted(order: list[int], seed: int) -> float:
        layers = neural_spline(3, depth=2, hidden=16)
        flow = Flow(3, layers=layers, seed=seed).fit(train[:, order], epochs=15, seed=seed)
        return float(flow.log_prob(test[:, order]).mean())

    one, other = (np.array([fitted(order, seed) for seed in range(3)]) for order in ([0, 1, 2], [2, 1, 0]))
    noise = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 3)
    assert abs(one.mean() - other.mean()) < 4 * noise + 0.02
