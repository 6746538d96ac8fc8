"""The laws that every layer, preset and composition obeys."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import mixtures
import numpy as np
import pytest
from cases import CASES, SMOOTH, Case
from pushforward import Flow, Mixture, StudentT
from scipy import stats

SIZES = (0, 1, 2, 7, 64, 65)
DTYPES = ("float32", "float64")

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_smooth_case = pytest.mark.parametrize("case", SMOOTH, ids=str)
both_precisions = pytest.mark.parametrize("dtype", DTYPES)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# -- 1. inverse and forward undo each other ----------------------------------------------------------------------


@every_case
@both_precisions
def test_round_trip(case: Case, dtype: str) -> None:
    flow, tolerance = case.flow(dtype), {"float32": 1e-4, "float64": 1e-10}[dtype]
    for size, scale in itertools.product(SIZES, (1.0, 1e2, 1e4)):
        assert_round_trips(flow, case.latent(size) * scale, case.condition(size), tolerance)


def assert_round_trips(flow: Flow, points: np.ndarray, context: np.ndarray | None, tolerance: float) -> None:
    def close(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a - b).max(axis=1, initial=0) <= tolerance * np.maximum(1, np.abs(b).max(axis=1, initial=0))

    for there, back in ((flow.forward, flow.inverse), (flow.inverse, flow.forward)):
        middle, log_det = there(points, context)
        returned, log_det_back = back(middle, context)
        # Where the map is flat, a rounding error of its value is that much larger in its argument; then the error times
        # the slope counts, which is the error of the value.
        assert (close(returned, points) | close(there(returned, context)[0], middle)).all()
        # The way back starts a rounding error off, where log_det may be another: as much as nearby points tell.
        steep = np.zeros(len(points))
        for call, start, value in ((there, points, log_det), (back, middle, log_det_back)):
            for step in tolerance * np.array([-1, -0.1, 0.1, 1]):
                steep = np.maximum(steep, np.abs(call(start + step * np.maximum(1, np.abs(start)), context)[1] - value))
        assert (np.abs(log_det + log_det_back) <= 10 * tolerance * np.maximum(1, np.abs(log_det)) + 10 * steep).all()


# -- 2. log_det is that of the Jacobian --------------------------------------------------------------------------


def derivative(f: Callable[[float], np.ndarray], h: float) -> np.ndarray:
    """f'(0) by the central difference of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


@every_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_det_is_the_jacobians(case: Case, direction: str) -> None:
    flow, context = case.flow("float64"), case.condition(7)
    points, call = case.latent(7), getattr(flow, direction)
    _, log_det = call(points, context)

    def numerical(h: float) -> np.ndarray:
        columns = [derivative(lambda h, e=e: call(points + h * e, context)[0], h) for e in np.eye(case.dim)]
        return np.linalg.slogdet(np.stack(columns, axis=2))[1]

    # Rows so near a kink that a difference reaches across it have no Jacobian to compare with.
    want = numerical(2e-6)
    smooth = np.abs(want - numerical(4e-6)) < 1e-6
    assert smooth.sum() >= 5
    np.testing.assert_allclose(log_det[smooth], want[smooth], atol=1e-6)


# -- 3. adjoints -------------------------------------------------------------------------------------------------


class Functional:
    """A scalar of a map's results, sum(grad_out * out) + sum(grad_log_det * log_det), and its parts."""

    def __init__(self, case: Case, direction: str, size: int) -> None:
        rng = np.random.default_rng(5)
        self.flow, self.direction = case.flow("float64"), direction
        # Rows so near a kink (of relu, of a spline at a knot) that a difference reaches across it have no derivative to
        # compare with: take others.
        points, context = case.latent(2 * size + 20, seed=11), case.condition(2 * size + 20)
        grad_out, grad_log_det = rng.normal(size=points.shape), rng.normal(size=len(points))
        smooth = np.ones(len(points), dtype=bool)
        for _ in range(3):
            step = rng.normal(size=points.shape)

            def moved(h: float, step: np.ndarray = step) -> np.ndarray:
                out, log_det = getattr(self.flow, direction)(points + h * step, context)
                return (grad_out * out).sum(axis=1) + grad_log_det * log_det

            wide, narrow = derivative(moved, 4e-5), derivative(moved, 4e-6)
            smooth &= np.abs(wide - narrow) < 1e-4 * np.maximum(1, np.abs(narrow))
        rows = np.flatnonzero(smooth)[:size]
        assert len(rows) == size
        self.points, self.context = points[rows], None if context is None else context[rows]
        self.grad_out, self.grad_log_det = grad_out[rows], grad_log_det[rows]

    def of_rows(self, points: np.ndarray, context: np.ndarray | None) -> np.ndarray:
        out, log_det = getattr(self.flow, self.direction)(points, context)
        return (self.grad_out * out).sum(axis=1) + self.grad_log_det * log_det

    def of_parameters(self, parameters: np.ndarray) -> float:
        before = self.flow.parameters.copy()
        self.flow.parameters = parameters
        value = self.of_rows(self.points, self.context).sum()
        self.flow.parameters = before
        return value

    def adjoint(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        call = getattr(self.flow, f"{self.direction}_vjp")
        return call(self.points, self.grad_out, self.grad_log_det, self.context)


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    scale = max(1.0, np.abs(want).max(initial=0))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * scale)


@every_smooth_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("size", [1, 65])
def test_adjoints_are_the_derivatives(case: Case, direction: str, size: int) -> None:
    functional = Functional(case, direction, size)
    grad_input, grad_parameters, grad_context = functional.adjoint()
    for i, e in enumerate(np.eye(case.dim)):
        want = derivative(lambda h, e=e: functional.of_rows(functional.points + h * e, functional.context), 2e-6)
        assert_close(grad_input[:, i], want)
    if case.context:
        for i, e in enumerate(np.eye(case.context)):
            want = derivative(lambda h, e=e: functional.of_rows(functional.points, functional.context + h * e), 2e-6)
            assert_close(grad_context[:, i], want)
    else:
        assert grad_context is None
    parameters = functional.flow.parameters.copy()
    # All parameters of small flows; of large ones some, and every one of them in the inner products below.
    some = np.random.default_rng(7).permutation(len(parameters))[:100]

    def along(i: int, h: float) -> float:
        moved = parameters.copy()
        moved[i] += h
        return functional.of_parameters(moved)

    want = np.array([derivative(lambda h, i=i: along(i, h), 2e-6) for i in some])
    assert_close(grad_parameters[some], want)


@every_smooth_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_inner_products_agree(case: Case, direction: str) -> None:
    """<seed, J v> = <J^T seed, v> for directions v of input, context and parameters together."""
    functional = Functional(case, direction, 64)
    grad_input, grad_parameters, grad_context = functional.adjoint()
    rng = np.random.default_rng(6)
    v_points, v_parameters = rng.normal(size=functional.points.shape), rng.normal(size=grad_parameters.shape)
    v_context = None if grad_context is None else rng.normal(size=functional.context.shape)
    parameters = functional.flow.parameters.copy()

    def along(h: float) -> float:
        functional.flow.parameters = parameters + h * v_parameters
        context = None if v_context is None else functional.context + h * v_context
        return functional.of_rows(functional.points + h * v_points, context).sum()

    left = derivative(along, 2e-7)
    right = (grad_input * v_points).sum() + grad_parameters @ v_parameters
    if v_context is not None:
        right += (grad_context * v_context).sum()
    assert left == pytest.approx(right, rel=1e-6, abs=1e-6)


def base_density(flow: Flow, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density of the base at latent points, and its gradient."""
    if isinstance(flow.base, StudentT):
        df = flow.base.degrees(flow.named_parameters().get("base.log_df"))
        return stats.t.logpdf(z, df).sum(axis=1), -(df + 1) * z / (df + z**2)
    if isinstance(flow.base, Mixture):
        mixture = mixtures.moments(flow.named_parameters())
        z = z.astype(np.float64)
        return mixtures.log_density(z, *mixture), mixtures.gradient(z, *mixture)
    return stats.norm.logpdf(z).sum(axis=1), -z


@every_smooth_case
@both_precisions
def test_gradients_of_the_density_are_the_adjoints(case: Case, dtype: str) -> None:
    flow, x, context = case.flow(dtype), case.latent(65), case.condition(65)
    density, grad_x = flow.log_prob_and_grad(x, context)
    assert same_bits(density, flow.log_prob(x, context))
    z, log_det = flow.inverse(x, context)
    base, grad_z = base_density(flow, z)
    np.testing.assert_allclose(density, base + log_det, rtol=1e-5, atol=1e-5)
    want_x, want_parameters, _ = flow.inverse_vjp(x, grad_z, np.ones(65), context)
    tolerance = {"float32": 2e-4, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(grad_x, want_x, rtol=tolerance, atol=tolerance)
    loss, grad_parameters = flow.loss_and_grad(x, context)
    assert loss == pytest.approx(-density.mean(), rel=1e-12)
    # The base's own parameters are not those of the map.
    of_base = np.concatenate(
        [np.full(v.size, k.startswith("base.")) for k, v in flow.named_parameters().items()] or [np.zeros(0, bool)]
    )
    np.testing.assert_allclose(
        -65 * grad_parameters[~of_base], want_parameters[~of_base], rtol=tolerance, atol=65 * tolerance
    )
    assert not want_parameters[of_base].any()
    if dtype == "float64":
        for i in np.flatnonzero(of_base):
            parameters = flow.parameters.copy()

            def along(h: float, i: int = i, parameters: np.ndarray = parameters) -> float:
                flow.parameters[i] = parameters[i] + h
                return flow.log_prob(x, context).mean()

            assert -grad_parameters[i] == pytest.approx(derivative(along, 1e-4), rel=1e-7, abs=1e-9)
            flow.parameters = parameters


@pytest.mark.parametrize("case", SMOOTH[::7], ids=str)
def test_weights_are_repetitions(case: Case) -> None:
    flow, x, context = case.flow("float64"), case.latent(100), case.condition(100)
    counts = np.random.default_rng(0).integers(0, 4, size=100)
    rows = np.repeat(np.arange(100), counts)
    loss, grad = flow.loss_and_grad(x, context, weights=counts)
    want_loss, want_grad = flow.loss_and_grad(x[rows], None if context is None else context[rows])
    assert loss == pytest.approx(want_loss, rel=1e-12)
    np.testing.assert_allclose(grad, want_grad, rtol=1e-9, atol=1e-12)


# -- 4. the same bits for any threads, any split, any copy -------------------------------------------------------


def results(flow: Flow, case: Case, size: int, threads: int) -> list[np.ndarray]:
    flow.num_threads = threads
    x, context = case.latent(size, "float32"), case.condition(size)
    seeds = np.random.default_rng(3).normal(size=(size, case.dim)), np.random.default_rng(4).normal(size=size)
    loss, grad = flow.loss_and_grad(x, context)
    arrays = [np.array(loss), grad, flow.log_prob(x, context), *flow.log_prob_and_grad(x, context)]
    arrays += [*flow.forward(x, context), *flow.inverse(x, context)]
    arrays += [*flow.forward_vjp(x, *seeds, context), *flow.inverse_vjp(x, *seeds, context)]
    arrays += [*flow.log_prob_vjp(x, seeds[1], context), flow.base_log_prob(x), flow.sample_latent(size, seed=0)]
    arrays += [*flow.forward_and_log_prob(x, context), *flow.inverse_and_log_prob(x, context)]
    arrays += [*flow.sample_and_log_prob(size, context, seed=0)]
    return [array for array in arrays if array is not None]


@every_case
@both_precisions
def test_threads_do_not_change_a_bit(case: Case, dtype: str) -> None:
    flow = case.flow(dtype)
    for size in (350, 700):  # six tiles and eleven: gradients sum those of few rows another way
        once = results(flow, case, size, 1)
        for threads in (1, 2, 3, 8):
            assert all(map(same_bits, results(flow, case, size, threads), once))


@every_case
@both_precisions
def test_rows_do_not_change_each_other(case: Case, dtype: str) -> None:
    flow, x, context = case.flow(dtype), case.latent(200), case.condition(200)
    rng = np.random.default_rng(0)
    calls = (flow.log_prob, flow.inverse, flow.forward, flow.log_prob_and_grad)
    for call in calls:
        whole = call(x, context)
        whole = whole if isinstance(whole, tuple) else (whole,)
        for cuts in ([1, 2, 9, 73, 137, 138], np.sort(rng.integers(0, 200, size=5))):
            parts = [
                call(part, condition)
                for part, condition in zip(
                    np.split(x, cuts),
                    [None] * 99 if context is None else np.split(context, cuts),
                    strict=False,
                )
            ]
            parts = [part if isinstance(part, tuple) else (part,) for part in parts]
            for i, array in enumerate(whole):
                assert same_bits(np.concatenate([part[i] for part in parts]), array)


@every_case
@both_precisions
def test_copies_do_not_change_a_bit(case: Case, dtype: str) -> None:
    flow = case.flow(dtype)
    want, before = results(flow, case, 65, 2), results(flow, case, 7, 1)
    for copied in (copy.deepcopy, copy.copy, lambda flow: pickle.loads(pickle.dumps(flow))):
        twin = copied(flow)
        assert repr(twin) == repr(flow)
        assert all(map(same_bits, results(twin, case, 65, 2), want))
        twin.parameters += 1
        assert all(map(same_bits, results(flow, case, 7, 1), before)), "the copy shares memory with the original"


# -- 5. it is a density, and the samples follow it ---------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.dim <= 2], ids=str)
@both_precisions
def test_density_integrates_to_one_and_samples_follow_it(case: Case, dtype: str) -> None:
    flow = case.flow(dtype)
    context = case.condition(1)
    context = None if context is None else context[0]
    sample = flow.sample(20_000, context, seed=0)
    # An equal grid far beyond the sample; its cells are fine enough where relu bends the density.
    cells = 20_000 if case.dim == 1 else 1400
    spread = sample.std(axis=0)
    low, high = sample.min(axis=0) - 3 * spread, sample.max(axis=0) + 3 * spread
    axes = [np.linspace(a, b, cells + 1) for a, b in zip(low, high, strict=True)]
    centers = np.stack(np.meshgrid(*[(a[1:] + a[:-1]) / 2 for a in axes], indexing="ij"), axis=-1)
    volume = np.prod([a[1] - a[0] for a in axes])
    mass = np.exp(flow.log_prob(centers.reshape(-1, case.dim), context)).reshape([cells] * case.dim) * volume
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    for axis in range(case.dim):
        marginal = mass.sum(axis=tuple(i for i in range(case.dim) if i != axis)).cumsum()
        cdf = np.interp(sample[:, axis], axes[axis][1:], marginal / marginal[-1])
        assert stats.kstest(cdf, "uniform").pvalue > 1e-4
    if case.dim == 2:
        inside = (sample[:, 0, None] <= axes[0][::100]) & (sample[:, 1, None] <= axes[1][::100])
        expected = mass.cumsum(axis=0).cumsum(axis=1)[99::100, 99::100].diagonal()
        assert np.abs(inside[:, 1:].mean(axis=0) - expected).max() < 5 / np.sqrt(len(sample))


# -- 6. a bad row stays alone ------------------------------------------------------------------------------------


@every_case
@both_precisions
def test_a_bad_row_spoils_itself_alone(case: Case, dtype: str) -> None:
    flow, x, context = case.flow(dtype), case.latent(100), case.condition(100)
    rng = np.random.default_rng(8)
    rows = np.array([0, 31, 64, 99])
    spots = rows, rng.integers(case.dim, size=4)
    good = np.setdiff1d(np.arange(100), rows)
    calls = [flow.log_prob, flow.inverse, flow.forward, flow.log_prob_and_grad]
    seeds = rng.normal(size=x.shape), rng.normal(size=100)
    calls += [
        lambda x, c: flow.forward_vjp(x, *seeds, c)[::2],
        lambda x, c: flow.inverse_vjp(x, *seeds, c)[::2],
        lambda x, c: flow.log_prob_vjp(x, seeds[1], c)[::2],
        lambda x, c: flow.base_log_prob(x),
        flow.forward_and_log_prob,
        flow.inverse_and_log_prob,
    ]
    cleans = [call(x, context) for call in calls]
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = x.copy()
        spoiled[spots] = bad
        for call, clean in zip(calls, cleans, strict=True):
            dirty = call(spoiled, context)
            for a, b in zip(*[r if isinstance(r, tuple) else (r,) for r in (clean, dirty)], strict=True):
                if a is not None:
                    assert same_bits(a[good], b[good])
                    assert np.isnan(b[rows]).all()
        if context is not None:
            broken = context.copy()
            broken[5, 1] = bad
            density = flow.log_prob(x, broken)
            assert np.isnan(density[5])
            assert same_bits(np.delete(density, 5), np.delete(cleans[0], 5))
        loss, grad = flow.loss_and_grad(spoiled, context)
        assert np.isnan(loss)
        if case.name != "no-layer" and len(grad):
            assert np.isnan(grad).any()
