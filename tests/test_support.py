"""The data side: supports and their bijections, what happens on and beyond a bound, and a robust standardisation."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pushforward
import pytest
from pushforward import (
    LU,
    MLP,
    ActNorm,
    Affine,
    Autoregressive,
    Circle,
    Coupling,
    Ensemble,
    Flow,
    Householder,
    Interval,
    Normal,
    Permutation,
    Positive,
    RationalQuadratic,
    Real,
    ResNet,
    Uniform,
)
from pushforward._io import rows
from pushforward._model.bases import Base
from pushforward._model.layer import Layer
from pushforward._model.supports import Support
from scipy import special, stats

NET = MLP(hidden=(7, 5), activation="tanh")
TURN = Circle(0, 2 * math.pi)
LAYERS: dict[str, list[Layer]] = {
    "none": [],
    "spline": [Coupling(RationalQuadratic(), NET), ActNorm(), Coupling(RationalQuadratic(), NET)],
    "affine": [Coupling(Affine(), NET, mask="alternate"), Permutation("reverse"), ActNorm()],
    # Angles are moved on their circle, read by their cosines and sines, and left out of what is linear.
    "circular": [
        Coupling(RationalQuadratic(5), NET, unconditional=True),
        LU(),
        Autoregressive(RationalQuadratic(4), ResNet(9, 1, "tanh")),
        Householder(2),
        ActNorm(),
        Coupling(RationalQuadratic(3, scheme="clip"), NET),
    ],
    "boxed": [
        Coupling(RationalQuadratic(5), NET, mask="alternate", unconditional=True),
        Permutation("reverse"),
        Autoregressive(RationalQuadratic(4), NET, one_pass="forward"),
    ],
}


@dataclass(frozen=True)
class Case:
    name: str
    support: Sequence[Support]
    layers: str = "none"
    context: int = 0
    base: Base = Normal()  # noqa: RUF009 -- frozen

    def __str__(self) -> str:
        return f"{self.name}-{self.layers}-{len(self.support)}" + (f"|{self.context}" if self.context else "")

    @property
    def dim(self) -> int:
        return len(self.support)

    def flow(self, dtype: str = "float64") -> Flow:
        """A flow of this case whose parameters and data side are drawn at random."""
        rng = np.random.default_rng([self.dim, self.context])
        flow = Flow(
            self.dim,
            layers=LAYERS[self.layers],
            base=self.base,
            support=self.support,
            context=self.context,
            dtype=dtype,
            seed=0,
        )
        rows = flow.forward(0.7 * self.latent(200), self.condition(200))[0]
        flow.initialize(rows, rng.normal(2, 3, size=(200, self.context)) if self.context else None)
        for values in flow.named_parameters().values():
            values[...] = rng.normal(scale=0.3, size=values.shape)
        return flow

    def latent(self, n: int, seed: int = 1) -> np.ndarray:
        scale = 0.3 if isinstance(self.base, Uniform) else 1.0
        return scale * np.random.default_rng([seed, n]).normal(size=(n, self.dim)).clip(-3, 3)

    def base_log_prob(self, z: np.ndarray) -> np.ndarray:
        """Log density of latent points; no layer of a case with circles takes features out of order."""
        if isinstance(self.base, Uniform):
            return sum(-math.log(2 * math.pi if isinstance(s, Circle) else 2) for s in self.support)
        circles = np.array([isinstance(s, Circle) for s in self.latent_support()])
        return stats.norm.logpdf(z[:, ~circles]).sum(axis=1) - circles.sum() * math.log(2 * math.pi)

    def latent_support(self) -> list[Support]:
        """The support of each feature of the latent side."""
        support = list(self.support)
        for layer, entry in zip(LAYERS[self.layers], self.flow()._state.model["layers"], strict=True):
            if isinstance(layer, LU | Permutation):
                support = [support[entry["indices"].index(i)] for i in range(self.dim)]
        return support

    def condition(self, n: int) -> np.ndarray | None:
        return np.random.default_rng([2, n]).normal(1, 2, size=(n, self.context)) if self.context else None


MIXED = (Real(), Positive(), Interval(-1, 3))
CASES = [
    Case("positive", [Positive()]),
    Case("positive", [Positive()], "spline"),
    Case("interval", [Interval(0, 1)]),
    Case("interval", [Interval(1e6, 1e6 + 2)], "spline"),
    Case("two", [Interval(-5, -4), Positive()], "spline"),
    Case("mixed", MIXED, "spline"),
    Case("mixed", MIXED, "affine", context=2),
    Case("eight", [*MIXED, *MIXED, Positive(), Real()], "affine"),
]
CASES += [
    Case("circle", [TURN]),
    Case("circle", [TURN], "circular"),
    Case("circle", [TURN], "boxed", context=2),
    Case("torus", [TURN, Circle(-180, 180)], "circular"),
    Case("torus", [TURN, Circle(-1, 1), Circle(0, 24)], "circular", context=2),
    Case("all", [Circle(-180, 180), *MIXED, TURN], "circular"),
    Case("all", [Positive(), Circle(0, 1), Real()], "circular"),
    Case("box", [Interval(-2, 3)], "boxed", base=Uniform()),
    Case("box", [Interval(-2, 3), Interval(0, 1)], "boxed", base=Uniform()),
    Case("box", [Interval(-2, 3), TURN, Interval(0, 1)], "boxed", context=2, base=Uniform()),
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def derivative(f: Callable[[float], np.ndarray], h: float) -> np.ndarray:
    """f'(0) by the central difference of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def steps(case: Case, x: np.ndarray) -> list[np.ndarray]:
    """A step for each feature, in proportion to how far the bounds let it go."""
    sizes = np.ones_like(x)
    for i, support in enumerate(case.support):
        if isinstance(support, Positive):
            sizes[:, i] = x[:, i]
        elif not isinstance(support, Real):
            sizes[:, i] = np.minimum(x[:, i] - support.low, support.high - x[:, i])
    return [sizes * e for e in np.eye(case.dim)]


def inside(support: Support, x: np.ndarray) -> np.ndarray:
    """Whether values are within the bounds as they are, not as their type rounds them."""
    wide = x.astype(np.longdouble)
    if isinstance(support, Real):
        return np.isfinite(wide)
    if isinstance(support, Positive):
        return (wide > 0) & np.isfinite(wide)
    return (wide >= support.low) & (wide <= support.high)


# -- what a flow is made with ------------------------------------------------------------------------------------


def test_one_support_for_all_or_one_each() -> None:
    assert Flow(2).support == (Real(), Real())
    assert Flow(2, support=Positive()).support == (Positive(), Positive())
    assert Flow(2, support=[Positive(), Interval(0, 1)]).support == (Positive(), Interval(0.0, 1.0))


def test_supports_by_name_or_number() -> None:
    names, expected = ["mass", "ratio", "drift"], (Positive(), Real(), Interval(0, 1))
    by_name = {"drift": Interval(0, 1), "mass": Positive()}
    flow = Flow(3, columns=names, support=by_name)
    assert (flow.support, flow.columns) == (expected, tuple(names))
    assert Flow(3, support={2: Interval(0, 1), 0: Positive()}).support == expected
    assert Flow(3, columns=names, support={"drift": Interval(0, 1), 0: Positive()}).support == expected
    assert Flow(3, support={}).support == (Real(),) * 3
    assert Ensemble.of(3, members=2, columns=names, support=by_name).support == expected
    for columns, support, error, message in (
        (
            None,
            by_name,
            ValueError,
            "support names the column 'drift', but the names of the columns are not known: give",
        ),
        (names, {"mas": Real()}, ValueError, "support's column is 'mas'; the columns are .*; did you mean 'mass'"),
        (names, {3: Real()}, ValueError, "support's feature must be at most 2, not 3"),
        (names, {0: Real(), "mass": Real()}, ValueError, "support has feature 0 twice, by name and by number"),
        (names, {"mass": "positive"}, TypeError, r"support\['mass'\] must be .* not 'positive'"),
        (names, {0.5: Real()}, TypeError, "support's feature must be an integer, not 0.5"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            Flow(3, columns=columns, support=support)


def test_supports_by_name_in_scikit_learn() -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"a": rng.normal(size=60), "b": rng.uniform(size=60)})
    options = {"layers": [], "epochs": 1, "support": {"b": Interval(0, 1)}}
    assert sklearn.FlowDensity(**options).fit(x).flow_.support == (Real(), Interval(0, 1))
    assert sklearn.ConditionalFlow(**options).fit(x[["a"]], x[["b", "a"]]).flow_.support == (Interval(0, 1), Real())
    with pytest.raises(ValueError, match="the names of the columns are not known"):
        sklearn.FlowDensity(**options).fit(x.to_numpy())


def test_a_flow_prints_its_support() -> None:
    assert "support" not in repr(Flow(2))
    assert "    support=Positive(),\n" in repr(Flow(2, support=Positive()))
    flow = Flow(3, support=[Real(), Interval(0, 1), Circle(-180, 180)], seed=0)
    assert "support=(Real(), Interval(low=0.0, high=1.0), Circle(low=-180.0, high=180.0))" in repr(flow)
    assert repr(eval(repr(flow), vars(pushforward))) == repr(flow)


# -- the laws ----------------------------------------------------------------------------------------------------


@every_case
@both_precisions
@pytest.mark.parametrize("size", [0, 1, 2, 7, 64, 65])
def test_round_trip(case: Case, dtype: str, size: int) -> None:
    flow, z, context = case.flow(dtype), case.latent(size), case.condition(size)
    x, log_det = flow.forward(z, context)
    back, log_det_back = flow.inverse(x, context)
    tolerance = {"float32": 2e-3, "float64": 1e-8}[dtype]  # of x near 1e6 ten digits are left
    np.testing.assert_allclose(back, z, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(log_det, -log_det_back, atol=10 * tolerance)
    for i, support in enumerate(case.support):
        assert inside(support, x[:, i]).all()


@every_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_det_is_the_jacobians(case: Case, direction: str) -> None:
    flow, z, context = case.flow(), case.latent(7), case.condition(7)
    points = z if direction == "forward" else flow.forward(z, context)[0]
    steps_of = list(np.eye(case.dim)[:, None]) if direction == "forward" else steps(case, points)
    call = getattr(flow, direction)

    def numerical(h: float) -> np.ndarray:
        columns = [
            derivative(lambda h, s=s: call(points + h * s, context)[0], h) / s.max(axis=1, keepdims=True)
            for s in steps_of
        ]
        return np.linalg.slogdet(np.stack(columns, axis=2))[1]

    # A difference that reaches across a knot, or across the seam of a circle, is no derivative.
    want = numerical(1e-3)
    smooth = np.abs(want - numerical(2e-3)) < 1e-5
    close = np.abs(call(points, context)[1] - want) < 5e-6
    assert (close | ~smooth).all()
    assert close.sum() >= 5


@every_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_adjoints_are_the_derivatives(case: Case, direction: str) -> None:
    flow, z, context = case.flow(), case.latent(65), case.condition(65)
    points = z if direction == "forward" else flow.forward(z, context)[0]
    rng = np.random.default_rng(5)
    seeds, log_det_seeds = rng.normal(size=points.shape), rng.normal(size=65)
    call = getattr(flow, direction)
    origin = call(points, context)[0]  # of a large x the last digits are wanted

    def scalar(at: np.ndarray) -> np.ndarray:
        out, log_det = call(at, context)
        return (seeds * (out - origin)).sum(axis=1) + log_det_seeds * log_det

    grad, grad_parameters, grad_context = getattr(flow, f"{direction}_vjp")(points, seeds, log_det_seeds, context)
    steps_of = list(np.eye(case.dim)[:, None]) if direction == "forward" else steps(case, points)
    for i, step in enumerate(steps_of):
        want = derivative(lambda h, step=step: scalar(points + h * step), 1e-3)
        close = np.isclose(grad[:, i] * (step[:, i] if direction == "inverse" else 1), want, rtol=1e-5, atol=1e-6)
        assert close.mean() > 0.9, "a knot of a spline may be within a few steps"
    parameters, v = flow.parameters.copy(), rng.normal(size=len(flow.parameters))

    def along(h: float) -> float:
        flow.parameters = parameters + h * v
        return float(scalar(points).sum())

    assert derivative(along, 1e-6) == pytest.approx(grad_parameters @ v, rel=1e-5, abs=1e-5)
    assert (grad_context is None) == (case.context == 0)


@every_case
def test_gradient_of_the_density(case: Case) -> None:
    flow, context = case.flow(), case.condition(65)
    x = flow.forward(case.latent(65), context)[0]
    density, grad = flow.log_prob_and_grad(x, context)
    assert same_bits(density, flow.log_prob(x, context))
    z, log_det = flow.inverse(x, context)
    np.testing.assert_allclose(density, case.base_log_prob(z) + log_det, rtol=1e-10, atol=1e-10)
    for i, step in enumerate(steps(case, x)):
        want = derivative(lambda h, step=step: flow.log_prob(x + h * step, context), 1e-3)
        assert np.isclose(grad[:, i] * step[:, i], want, rtol=1e-5, atol=1e-6).mean() > 0.9
    loss, grad_parameters = flow.loss_and_grad(x, context)
    assert loss == pytest.approx(-density.mean(), rel=1e-12)
    on_line = np.array([domain == "line" for domain in flow._state.core.latent_domains])
    want = flow.inverse_vjp(x, np.where(on_line, -z, 0), np.ones(65), context)[1]
    np.testing.assert_allclose(-65 * grad_parameters, want, rtol=1e-9, atol=1e-9)


@every_case
@both_precisions
def test_threads_splits_and_copies_do_not_change_a_bit(case: Case, dtype: str, tmp_path: Path) -> None:
    flow, z, context = case.flow(dtype), case.latent(700), case.condition(700)
    x = flow.forward(z, context)[0]
    flow.save(tmp_path / "flow.safetensors")
    twins = [Flow.load(tmp_path / "flow.safetensors"), pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)]

    def results(flow: Flow, part: slice = np.s_[:]) -> list[np.ndarray]:
        few = None if context is None else context[part]
        seeds = np.ones_like(z[part]), np.ones(len(z[part]))
        vjps = flow.forward_vjp(z[part], *seeds, few)[0], flow.inverse_vjp(x[part], *seeds, few)[0]
        return [*flow.forward(z[part], few), *flow.inverse(x[part], few), *flow.log_prob_and_grad(x[part], few), *vjps]

    flow.num_threads = 1
    once = results(flow)
    for twin in twins:
        assert twin.support == flow.support
        assert repr(twin) == repr(flow)
        for threads in (1, 2, 3, 8):
            twin.num_threads = threads
            assert all(map(same_bits, results(twin), once))
    for part in (np.s_[:1], np.s_[63:200], np.s_[699:]):
        assert all(map(same_bits, results(flow, part), [array[part] for array in once]))


@pytest.mark.parametrize("case", [case for case in CASES if case.dim == 1 and not case.context], ids=str)
@both_precisions
def test_density_integrates_to_one_in_one_dimension(case: Case, dtype: str) -> None:
    flow = case.flow(dtype)
    sample = flow.sample(20_000, seed=0)[:, 0]
    support = case.support[0]
    ends = np.linspace(0, 1, 200_001)
    if isinstance(support, Positive):
        ends = np.exp(np.linspace(math.log(sample.min()) - 5, math.log(sample.max()) + 5, 200_001))
    else:
        ends = support.low + (support.high - support.low) * ends
    mass = np.exp(flow.log_prob((ends[1:] + ends[:-1])[:, None] / 2)) * np.diff(ends)
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    assert stats.kstest(np.interp(sample, ends[1:], mass.cumsum()), "uniform").pvalue > 1e-4


@both_precisions
def test_density_integrates_to_one_in_two_dimensions(dtype: str) -> None:
    flow = next(case for case in CASES if case.name == "two").flow(dtype)
    sample = flow.sample(20_000, seed=0)
    low, high = np.log(sample[:, 1].min()) - 3, np.log(sample[:, 1].max()) + 3
    axes = [np.linspace(-5, -4, 1201), np.exp(np.linspace(low, high, 1201))]
    centers = np.stack(np.meshgrid(*[(a[1:] + a[:-1]) / 2 for a in axes], indexing="ij"), axis=-1)
    mass = np.exp(flow.log_prob(centers.reshape(-1, 2))).reshape(1200, 1200) * np.diff(axes[0])[:, None]
    mass *= np.diff(axes[1])
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    for axis in range(2):
        cdf = np.interp(sample[:, axis], axes[axis][1:], mass.sum(axis=1 - axis).cumsum())
        assert stats.kstest(cdf, "uniform").pvalue > 1e-4


# -- the bijections ----------------------------------------------------------------------------------------------


def test_a_flat_density_becomes_a_standard_normal() -> None:
    flow = Flow(1, layers=[], support=Interval(0, 1), dtype="float64")
    u = np.concatenate([np.random.default_rng(0).random(10_000), 10.0 ** -np.arange(1, 23), [0.5, 0.925, 0.075]])
    z, _ = flow.inverse(u[:, None])
    np.testing.assert_allclose(z[:, 0], special.ndtri(u), rtol=3e-15, atol=1e-16)
    np.testing.assert_allclose(flow.log_prob(u[:, None]), 0, atol=1e-13)
    # The upper end has as many digits as the lower one where numbers have them.
    mirrored = Flow(1, layers=[], support=Interval(-1, 0), dtype="float64")
    np.testing.assert_array_equal(mirrored.inverse(-u[:, None])[0], -z)
    np.testing.assert_array_equal(mirrored.forward(-z)[0], -flow.forward(z)[0])


def test_positive_is_the_log_normal() -> None:
    flow = Flow(1, layers=[], support=Positive(), dtype="float64")
    x = np.exp(np.random.default_rng(0).normal(2, 3, size=(1000, 1)))
    np.testing.assert_allclose(flow.log_prob(x), stats.lognorm(1).logpdf(x[:, 0]), rtol=1e-12)
    flow.initialize(x)
    shift, scale = flow._state.standardization
    np.testing.assert_allclose([shift[0], scale[0]], [np.log(x).mean(), np.log(x).std()], rtol=1e-12)


def test_a_circle_is_wrapped_on_writing_only() -> None:
    flow = Flow(1, layers=[], support=Circle(10, 14), dtype="float64")
    z = np.array([[-math.pi], [0.0], [math.pi / 2], [math.pi], [3 * math.pi], [-1.5 * math.pi], [1e4]])
    x, log_det = flow.forward(z)
    want = (z[:, 0] / (2 * math.pi) + 0.5) % 1 * 4 + 10
    np.testing.assert_allclose((x[:, 0] - want + 2) % 4 - 2, 0, atol=1e-10)
    np.testing.assert_allclose(log_det, math.log(4 / (2 * math.pi)))
    back, _ = flow.inverse(np.array([[10.0], [14.0], [12.0]]))
    np.testing.assert_allclose(back[:, 0], [-math.pi, math.pi, 0], atol=1e-15)
    assert np.isnan(flow.inverse(np.array([[14.1]]))[0])


# -- bounds ------------------------------------------------------------------------------------------------------

BOUNDED: dict[str, tuple[Support, list[float], list[float]]] = {
    "positive": (Positive(), [0.0, -0.0, 5e-324, 1.7e308], [-5e-324, -1.0, -1e300]),
    "interval": (Interval(-2, 3), [-2.0, 3.0, np.nextafter(3, 0)], [np.nextafter(-2, -3), 3.1, 1e300]),
    "tenths": (Interval(0.1, 0.3), [0.1, 0.3], [np.nextafter(0.1, 0), np.nextafter(0.3, 1)]),
    "circle": (TURN, [0.0, 2 * math.pi], [-0.1, 6.3, -1e300]),
}


@pytest.mark.parametrize("name", BOUNDED)
@both_precisions
def test_on_a_bound_all_is_finite(name: str, dtype: str) -> None:
    support, allowed, _ = BOUNDED[name]
    for layers in ([], [ActNorm()]):
        flow = Flow(1, layers=layers, support=support, dtype=dtype)
        x = np.array(allowed)[:, None]
        z, log_det = flow.inverse(x)
        density, grad = flow.log_prob_and_grad(x)
        assert np.isfinite(z).all()
        assert np.isfinite(log_det).all()
        assert np.isfinite(density).all() or isinstance(support, Circle)
        stopped = np.isin(x, [0.0, 5e-324, -2.0, 3.0, 0.1, 0.3]) & (not isinstance(support, Circle))
        assert (grad[stopped] == 0).all()
        assert np.isfinite(flow.loss_and_grad(x)[1]).all()


@pytest.mark.parametrize("name", BOUNDED)
@both_precisions
def test_a_row_outside_stays_alone(name: str, dtype: str) -> None:
    support, _, refused = BOUNDED[name]
    case = Case("", [Real(), support], "none" if isinstance(support, Circle) else "affine", context=1)
    flow, context = case.flow(dtype), case.condition(100)
    x = flow.forward(case.latent(100), context)[0]
    spoiled, where = x.copy(), np.array([0, 31, 64, 99])
    spoiled[where, 1] = np.resize(refused, 4)
    spoiled[50, 0] = np.nan  # and one that is not finite
    spoiled[64, 0], spoiled[65] = np.nan, [np.inf, refused[0]]
    not_finite = np.array([50, 64, 65])
    good = np.setdiff1d(np.arange(100), [*where, *not_finite])
    n, m = np.ones(100), np.ones((100, 2))
    for call in (
        flow.inverse,
        lambda x, c: flow.log_prob_and_grad(x, c)[1:],
        lambda x, c: flow.inverse_vjp(x, m, n, c)[::2],
    ):
        for a, b in zip(call(x, context), call(spoiled, context), strict=True):
            assert same_bits(a[good], b[good])
            assert np.isnan(b[where]).all()
            assert np.isnan(b[not_finite]).all()
    density = flow.log_prob(spoiled, context)
    assert same_bits(density[good], flow.log_prob(x, context)[good])
    assert (density[np.setdiff1d(where, not_finite)] == -np.inf).all()
    assert np.isnan(density[not_finite]).all()
    assert same_bits(density, flow.log_prob_and_grad(spoiled, context)[0])
    one = x.copy()
    one[5, 1] = refused[0]
    loss, grad = flow.loss_and_grad(one, context)
    assert loss == np.inf
    assert np.isnan(grad).all() or not len(grad)
    assert flow.loss_and_grad(one, context, weights=n)[0] == np.inf
    broken = context.copy()
    broken[5] = np.nan
    assert np.isnan(flow.log_prob(one, broken)[5])


@both_precisions
@pytest.mark.parametrize("output", ["float32", "float64"])
@pytest.mark.parametrize(
    "support",
    [Positive(), Interval(0.1, 0.3), Interval(-1e6, 1e6 + 0.1), Interval(1 / 3, 1e300), Interval(-1e300, 7), TURN,
     Circle(-180, 180), Circle(0.1, 0.7)],
    ids=repr,
)  # fmt: skip
def test_samples_are_inside(support: Support, dtype: str, output: str) -> None:
    flow = Flow(1, layers=[], support=support, dtype=dtype)
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=1000) * 10.0 ** rng.uniform(-2, 4, 1000), [1e4, -1e4, 0, math.pi, -math.pi]])
    x, log_det = flow.forward(z[:, None].astype(output))
    assert x.dtype == output
    assert inside(support, x[:, 0]).all()
    assert np.isfinite(log_det).all()
    grad = flow.forward_vjp(z[:, None].astype(output), np.ones((len(z), 1)), np.ones(len(z)))[0]
    assert np.isfinite(grad).all() if dtype == output == "float64" else not np.isnan(grad).any()  # float32 overflows
    assert np.isfinite(flow.inverse(x)[0]).all()


def test_bounds_are_rounded_like_the_table() -> None:
    x = np.array([[np.float32(2 * math.pi)]])
    assert float(x[0, 0]) > 2 * math.pi
    flow = Flow(1, layers=[], support=TURN)
    assert np.isfinite(flow.inverse(x)[0])
    assert np.isnan(flow.inverse(x.astype(np.float64))[0])
    ends = np.array([[0.1], [0.3]], dtype=np.float32)
    assert np.isfinite(Flow(1, layers=[], support=Interval(0.1, 0.3)).log_prob(ends)).all()
    # No float32 between the bounds: the nearest stands for all.
    close = Flow(1, layers=[], support=Interval(1 + 1e-9, 1 + 2e-9), dtype="float64")
    assert (close.forward(np.array([[-1], [1]], dtype=np.float32))[0] == 1).all()


# -- fitting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", ["fit", "initialize"])
def test_rows_outside_are_refused_before_any_work(dtype: str, layers: str) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=50), rng.random(50), rng.gamma(2, size=50)], axis=1).astype(dtype)
    flow = Flow(3, support=[Real(), Interval(0, 1), Positive()], layers=[], seed=0)
    before = pickle.dumps(flow)
    bad = x.copy()
    bad[[17, 20, 33], 2] = -0.1
    message = "x has 3 rows outside their support, first at row 17: feature 2 is -0.1, support Positive()"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        getattr(flow, layers)(bad)
    bad = x.copy()
    bad[4, 1:] = [1.5, -1]
    message = "x has 1 row outside their support, first at row 4: feature 1 is 1.5, support Interval(low=0.0, high=1.0)"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        getattr(flow, layers)(bad)
    bad[8, 0] = np.nan
    with pytest.raises(ValueError, match=r"^x has 1 row with NaN or infinity, first at row 8$"):
        getattr(flow, layers)(bad)
    bad = x[:10].copy()
    bad[3, 1] = 2
    with pytest.raises(ValueError, match=r"^validation has 1 row outside their support, first at row 3: "):
        flow.fit(x, validation=bad)
    assert pickle.dumps(flow) == before
    x[0, 1], x[1, 1], x[2, 2] = 0, 1, 0
    flow.fit(x, epochs=2, seed=0)
    assert np.isfinite(flow.log_prob(x)).all()


def test_a_fit_on_bounded_features() -> None:
    rng = np.random.default_rng(0)
    u = rng.beta(0.5, 0.5, size=3000)
    x = np.stack([u, rng.gamma(1 + 3 * u), rng.normal(u, 0.2)], axis=1)
    flow = Flow(3, support=[Interval(0, 1), Positive(), Real()], layers=LAYERS["spline"], seed=0).fit(
        x, epochs=40, seed=0
    )
    want = stats.beta.logpdf(u, 0.5, 0.5) + stats.gamma.logpdf(x[:, 1], 1 + 3 * u) + stats.norm.logpdf(x[:, 2], u, 0.2)
    assert flow.log_prob(x).mean() == pytest.approx(want.mean(), abs=0.15)
    sample = flow.sample(1000, seed=0)
    assert ((sample[:, 0] >= 0) & (sample[:, 0] <= 1) & (sample[:, 1] > 0)).all()


def test_values_on_a_bound_do_not_count_in_the_standardisation() -> None:
    x = np.exp(np.random.default_rng(0).normal(1, 2, size=(500, 1)))
    weights = np.random.default_rng(1).random(600)
    y = np.log(x[:, 0])
    zeros = np.concatenate([x, np.zeros((100, 1))])[np.random.default_rng(2).permutation(600)]
    flow = Flow(1, layers=[], support=Positive()).initialize(zeros)
    np.testing.assert_allclose([part[0] for part in flow._state.standardization], [y.mean(), y.std()], rtol=1e-12)
    flow.initialize(zeros, weights=weights)
    kept = zeros[:, 0] > 0
    mean = np.average(np.log(zeros[kept, 0]), weights=weights[kept])
    assert flow._state.standardization[0][0] == pytest.approx(mean, rel=1e-12)
    with pytest.raises(ValueError, match="the training rows' spread is 0 in feature 0"):
        flow.initialize(np.array([[0.0], [0.0], [2.0]]))
    ends = Flow(1, layers=[], support=Interval(0, 1))
    with pytest.raises(ValueError, match="the training rows' spread is 0 in feature 0"):
        ends.initialize(np.array([[0.0], [1.0], [0.0]]))


def test_a_circle_is_not_standardised() -> None:
    x = np.random.default_rng(0).uniform(100, 130, size=(100, 1))
    flow = Flow(1, layers=[], support=Circle(0, 360)).initialize(x)
    assert flow._state.standardization == (np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="box or a circle"):
        flow._state.core.set_standardization(np.ones(1), np.ones(1))


# -- robust standardisation --------------------------------------------------------------------------------------


def standardisation(x: np.ndarray, **options: Any) -> tuple[float, float]:
    shift, scale = Flow(x.shape[1], layers=[]).initialize(x, **options)._state.standardization
    return float(shift[0]), float(scale[0])


def test_one_wild_value_does_not_make_the_scale() -> None:
    rng = np.random.default_rng(0)
    for n in (20, 199, 1000, 100_000):
        x = rng.normal(size=(n, 2))
        for value in (1e6, -1e6, 1e300):
            x[n // 3, 0] = value
            shift, scale = standardisation(x)
            assert abs(shift) < 0.5
            assert scale == pytest.approx(1, rel=0.1 if n >= 1000 else 0.4)
        if n >= 1000:
            assert standardisation(x, weights=rng.random(n))[1] == pytest.approx(1, rel=0.1)


def test_what_is_not_wild_keeps_its_moments() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 1))
    assert standardisation(x) == pytest.approx((x.mean(), x.std()), rel=1e-12)
    x[rng.permutation(1000)[:50]] += 50
    assert standardisation(x) == pytest.approx((x.mean(), x.std()), rel=1e-12)
    t = rng.standard_t(3, size=(10_000, 1))
    assert standardisation(t) == pytest.approx((t.mean(), t.std()), rel=1e-9)
    rare = (rng.random((10_000, 1)) < 0.003).astype(float)  # without them nothing is left to tell
    assert standardisation(rare) == pytest.approx((rare.mean(), rare.std()), rel=1e-9)


def test_weights_are_repetitions_of_wild_rows_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 1))
    x[3] = 1e6
    counts = np.full(1000, 3)
    repeated = standardisation(np.repeat(x, counts, axis=0))
    assert standardisation(x, weights=counts) == pytest.approx(repeated, rel=1e-12)
    # A wild row without weight is no row; one with the weight of many is no accident.
    weights = np.ones(1000)
    weights[3] = 0
    rest = np.delete(x, 3)
    assert standardisation(x, weights=weights) == pytest.approx((rest.mean(), rest.std()), rel=1e-9)
    weights[3] = 50
    assert standardisation(x, weights=weights)[1] > 1e5


def test_the_context_is_as_robust() -> None:
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(1000, 1)), rng.normal(size=(1000, 2))
    context[7, 1] = 1e6
    flow = Flow(1, layers=[], context=2).initialize(x, context)
    assert flow._state.context_standardization[1] == pytest.approx(np.ones(2), rel=0.1)


def test_the_trimmed_moments_are_those_of_the_bounded_feature() -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.normal(2, 1, size=(1000, 1)))
    x[5] = 1e-300
    flow = Flow(1, layers=[], support=Positive()).initialize(x)
    assert flow._state.standardization[1] == pytest.approx([1], rel=0.1)


@pytest.mark.parametrize("weighted", [False, True])
def test_actnorm_starts_from_the_rest(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 2)) @ [[1, 0.5], [0, 2]]
    weights = rng.random(1000) if weighted else None
    layers = [ActNorm(), Coupling(Affine(), NET), ActNorm()]
    x[500, 0] = 1e6
    flow = Flow(2, layers=layers, seed=0).initialize(x, weights=weights)
    z = flow.inverse(np.delete(x, 500, axis=0))[0]
    weights = None if weights is None else np.delete(weights, 500)
    np.testing.assert_allclose(np.average(z, axis=0, weights=weights), 0, atol=0.1)
    np.testing.assert_allclose(np.sqrt(np.average(z**2, axis=0, weights=weights)), 1, atol=0.1)
    for threads in (1, 2, 3, 8):
        twin = Flow(2, layers=layers, seed=0, num_threads=threads).initialize(x)
        assert same_bits(twin.parameters, Flow(2, layers=layers, seed=0, num_threads=1).initialize(x).parameters)


def test_actnorm_takes_far_rows_when_there_are_no_others() -> None:
    flow = Flow(1, layers=[ActNorm()], dtype="float64")
    x = 1000 + np.random.default_rng(0).normal(size=(100, 1))
    flow._state.core.initialize_from_data(x, threads=1)  # without standardisation every row is far
    z = flow.inverse(x)[0]
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-9)


def test_a_map_starts_like_the_table_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=5000), rng.gamma(2, size=5000), rng.random(5000)], axis=1)
    x[17, 0], x[18, 1], x[19, 2] = 1e6, 0, 1
    support = [Real(), Positive(), Interval(0, 1)]
    whole = Flow(3, layers=[ActNorm()], support=support).initialize(x)
    monkeypatch.setattr(rows, "_MOST_SHUFFLED_ROWS", 1000)
    monkeypatch.setattr(rows, "_BLOCK_ROWS", 16)
    monkeypatch.setattr(rows, "_WINDOW_BYTES", 20_000)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert rows.is_large_map(mapped)
    streamed = Flow(3, layers=[ActNorm()], support=support).initialize(mapped)
    for a, b in zip(streamed._state.standardization, whole._state.standardization, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_allclose(streamed.parameters, whole.parameters, rtol=1e-4, atol=1e-4)
    assert streamed.log_prob(mapped).tobytes() == streamed.log_prob(x).tobytes()
