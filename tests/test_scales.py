"""Rows, contexts and weights of any size: finite numbers give finite numbers, and units do not matter."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cases import CASES, Case
from pushforward import Ensemble, Flow, Interval, Positive, StudentT, maf, neural_spline, realnvp
from pushforward._checks import row_weights
from pushforward.kde import FlowKDE
from scipy import stats

both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])
SIZES = [1e6, 1e9, 1e12, 1e15, 1e18, 1e21, 1e30, 3e38, 1e60, 1e100, 1e150, 1e200, 1e300, 1.7e308]

some_cases = pytest.mark.parametrize("case", [case for case in CASES if case.dim in (2, 3)], ids=str)


def rows_of(width: int) -> np.ndarray:
    """Ordinary rows, and among them one for each size, sign and feature."""
    rng = np.random.default_rng(0)
    far = [s * size * e for size in SIZES for s in (-1, 1) for e in np.eye(width)]
    far += [size * rng.choice([-1, 1], size=width) for size in SIZES]
    return np.concatenate([rng.normal(size=(10, width)), far])


# -- rows --------------------------------------------------------------------------------------------------------


@some_cases
@both_precisions
def test_finite_rows_give_finite_numbers(case: Case, dtype: str) -> None:
    flow, x = case.flow(dtype), rows_of(case.dim)
    context = case.condition(len(x))
    density, gradient = flow.log_prob_and_grad(x, context)
    assert not np.isnan(density).any()
    assert (density < np.inf).all()
    assert np.isfinite(density[np.abs(x).max(axis=1) < 1e12]).all()
    assert np.isfinite(gradient).all()
    for points, log_det in (flow.inverse(x, context), flow.forward(x, context)):
        assert np.isfinite(points).all()
        assert np.isfinite(log_det).all()
    finite = np.isfinite(density)
    loss, gradient = flow.loss_and_grad(x[finite], None if context is None else context[finite])
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.dim == 2 and case.context], ids=str)
@both_precisions
def test_finite_contexts_give_finite_numbers(case: Case, dtype: str) -> None:
    flow, context = case.flow(dtype), rows_of(case.context)
    x = case.latent(len(context))
    density, gradient = flow.log_prob_and_grad(x, context)
    assert not np.isnan(density).any()
    assert np.isfinite(gradient).all()
    for points, log_det in (flow.inverse(x, context), flow.forward(x, context)):
        assert np.isfinite(points).all()
        assert np.isfinite(log_det).all()
    finite = np.isfinite(density)
    loss, gradient = flow.loss_and_grad(x[finite], context[finite])
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("layers", [realnvp, neural_spline, maf])
@both_precisions
def test_a_fill_value_is_a_row_far_out(layers: object, dtype: str) -> None:
    """That of netCDF, in a column of scale 1e-5, in the rows of a fit and of a call."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)) * [1e-5, 1]
    flow = Flow(2, layers=layers(2), dtype=dtype, seed=0).fit(x, epochs=2, seed=0)  # type: ignore[operator]
    far = np.array([[9.97e36, 0.0], [-9.97e36, 1e300], [0.0, 0.0]])
    density = flow.log_prob(far)
    assert (density[:2] < -1e30).all()
    assert np.isfinite(density[2])
    with_fill = x.copy()
    with_fill[7, 0] = 9.97e36
    fitted = Flow(2, layers=layers(2), dtype=dtype, seed=0).fit(with_fill, validation=None, epochs=2, seed=0)  # type: ignore[operator]
    assert np.isfinite(fitted.parameters).all()
    assert np.isfinite(fitted.log_prob(x)).all()


@both_precisions
def test_the_gradient_by_a_far_row_is_the_right_one(dtype: str) -> None:
    flow = Flow(1, layers=[], dtype=dtype)
    x = np.array([[1e3], [-1e9], [1e12], [1e17]])
    np.testing.assert_allclose(flow.log_prob(x), stats.norm.logpdf(x[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(flow.log_prob_and_grad(x)[1], -x, rtol=1e-6)


def test_results_stay_within_the_type_that_holds_them() -> None:
    flow = Flow(1, layers=[], base=StudentT(0.05), seed=0)
    x, density = flow.sample_and_log_prob(10_000, seed=0)
    for rows in (x, flow.forward(np.full((3, 1), 3e38, dtype=np.float32))[0]):
        assert np.isfinite(rows).all()
        assert np.isfinite(flow.log_prob(rows)).all()
    np.testing.assert_allclose(density, flow.log_prob(x), rtol=1e-5)
    flow._state.set_standardization((np.zeros(1), np.full(1, 1e30)), (np.zeros(0), np.ones(0)))
    assert np.isfinite(flow.forward(np.full((3, 1), 1e15, dtype=np.float32))[0]).all()


# -- units -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e-30, 1e30, 1e170, 1e290])
@both_precisions
def test_units_do_not_matter(unit: float, dtype: str) -> None:
    """A power of two changes no bit; any other unit no more than rounding does."""
    rng = np.random.default_rng(0)
    x, context = rng.normal(3, 2, size=(1000, 2)), rng.normal(1, 3, size=(1000, 1))
    x[3] = 50  # trimmed

    def fitted(unit: float) -> Flow:
        return Flow(2, context=1, dtype=dtype, seed=0).fit(x * unit, context=context * unit, epochs=2, seed=0)

    flow, power = fitted(1.0), 2.0 ** np.round(np.log2(unit))
    twin, other = fitted(power), fitted(unit)
    np.testing.assert_array_equal(twin.parameters, flow.parameters)
    want = flow.log_prob(x, context)
    got = twin.log_prob(x * power, context * power) + 2 * np.log(power)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other.log_prob(x * unit, context * unit) + 2 * np.log(unit), want, atol=0.05)


def test_units_of_a_bounded_feature_do_not_matter() -> None:
    x = np.random.default_rng(0).beta(2, 3, size=(1000, 1))
    want = Flow(1, layers=[], support=Interval(0, 1)).initialize(x).log_prob(x)
    for unit in (1e-200, 1e200):
        flow = Flow(1, layers=[], support=Interval(0, unit)).initialize(x * unit)
        np.testing.assert_allclose(flow.log_prob(x * unit) + np.log(unit), want, rtol=1e-6, atol=1e-4)
        flow = Flow(1, layers=[], support=Positive(), dtype="float64").initialize(x * unit)
        one = Flow(1, layers=[], support=Positive(), dtype="float64").initialize(x)
        np.testing.assert_allclose(flow.log_prob(x * unit) + np.log(unit), one.log_prob(x), rtol=1e-9, atol=1e-9)


def test_a_small_context_is_kept() -> None:
    rng = np.random.default_rng(0)
    context = rng.normal(size=(1000, 1)) * 1e-170
    flow = Flow(1, layers=[], context=1).initialize(rng.normal(size=(1000, 1)), context)
    (scale,) = flow._state.context_standardization[1]
    assert scale == pytest.approx(1e-170, rel=0.1)


def test_a_scale_without_an_inverse_is_refused() -> None:
    rng = np.random.default_rng(0)
    rows, small = rng.normal(size=(100, 1)), rng.normal(size=(100, 1)) * 1e-310
    with pytest.raises(ValueError, match=r"the training rows' spread is \S+e-31\d in feature 0; it must be above 0"):
        Flow(1, layers=[]).initialize(small)
    with pytest.raises(ValueError, match=r"the spread of the context is \S+e-31\d in column 0; it must be above 0"):
        Flow(1, layers=[], context=1).initialize(rows, small)


# -- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-30, 1e30, 1e200, 1e307])
def test_the_scale_of_weights_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(500, 2)), rng.uniform(0.5, 1.5, size=500)
    power = 2.0 ** np.round(np.log2(scale))
    flow, twin, other = (
        Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), seed=0).fit(x, weights=w * s, epochs=3, seed=0)
        for s in (1, power, scale)
    )
    np.testing.assert_array_equal(twin.parameters, flow.parameters)
    np.testing.assert_array_equal(twin.history["train_loss"], flow.history["train_loss"])
    np.testing.assert_allclose(other.history["train_loss"], flow.history["train_loss"], rtol=1e-3)
    loss, gradient = flow.loss_and_grad(x, weights=w * power)
    assert loss == flow.loss_and_grad(x, weights=w)[0]
    assert loss > 1
    np.testing.assert_array_equal(gradient, flow.loss_and_grad(x, weights=w)[1])


@pytest.mark.parametrize("scale", [1e-200, 1e200, 1e307])
def test_a_kde_takes_weights_of_any_scale(scale: float) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 300)), rng.uniform(size=300)
    kde = FlowKDE(x, weights=w * scale, flow=Flow(2, layers=[]), epochs=1)
    assert kde.neff == pytest.approx(w.sum() ** 2 / (w @ w))
    assert kde.resample(seed=0).shape == (2, int(kde.neff))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e308])
def test_an_ensemble_takes_weights_of_any_scale(scale: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ensemble = Ensemble([Flow(1, layers=[]), Flow(1, layers=[])], weights=[scale, scale / 2])
    np.testing.assert_allclose(ensemble.weights, [2 / 3, 1 / 3], rtol=1e-15)


def test_weights_lose_no_digit_to_their_scale() -> None:
    w = np.array([1e-3, 0.7, 1 / 3, 0.0])
    np.testing.assert_array_equal(row_weights(w * 2.0**900, 4), row_weights(w * 2.0**-900, 4))
    scaled = row_weights(w, 4)
    assert scaled is not None
    np.testing.assert_array_equal(scaled * (w[1] / scaled[1]), w)
    assert scaled.max() == 0.7
