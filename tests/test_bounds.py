"""Bounded features under every base: all calls agree, the density integrates to one, and what a bound stands for."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from pushforward import (
    LU,
    MLP,
    Affine,
    Circle,
    Coupling,
    Flow,
    Interval,
    Mixture,
    Normal,
    Positive,
    RationalQuadratic,
    Real,
    StudentT,
    Uniform,
)
from pushforward._model.bases import Base
from pushforward._model.layer import Layer
from pushforward._model.supports import Support
from pushforward.errors import FileFormatError
from pushforward.kde import FlowKDE
from scipy import special, stats

SUPPORTS: dict[str, Support] = {
    "real": Real(),
    "positive": Positive(),
    "unit": Interval(0, 1),
    "interval": Interval(-2, 3),
    "far": Interval(1e6, 1e6 + 2),
    "circle": Circle(-180, 180),
}
BASES: dict[str, Base] = {
    "normal": Normal(),
    "t": StudentT(2.0),
    "cauchy": StudentT(1.0),
    "heavy": StudentT(0.5),
    "mixture": Mixture(2),
    "uniform": Uniform(),
}
NET = MLP(hidden=(7, 5), activation="tanh")
LAYERS: dict[str, list[Layer]] = {
    "none": [],
    "spline": [Coupling(RationalQuadratic(5), NET, unconditional=True)],
    "several": [Coupling(RationalQuadratic(5), NET), LU(), Coupling(Affine(), NET)],
}


def exists(support: str, base: str, layers: str) -> bool:
    if base == "uniform":
        return support not in ("real", "positive") and layers != "several"
    return layers != "several" or support != "circle"


ALL = [key for key in itertools.product(SUPPORTS, BASES, LAYERS) if exists(*key)]
every_flow = pytest.mark.parametrize(("support", "base", "layers"), ALL)
both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_tables = pytest.mark.parametrize("table", ["float32", "float64"])


def flow_of(support: str, base: str, layers: str, dtype: str, table: str = "float64", dim: int = 2) -> Flow:
    """A flow with random parameters, away from the special values of a data side."""
    rng = np.random.default_rng(0)
    flow = Flow(dim, layers=LAYERS[layers], base=BASES[base], support=SUPPORTS[support], dtype=dtype, seed=0)
    for values in flow.named_parameters().values():
        values[...] = rng.normal(scale=0.3, size=values.shape)
    parameters = flow.parameters.copy()
    # Bulk, and a cluster far out: the scale is that of the bulk.
    y = np.where(rng.random((500, dim)) < 0.003, rng.normal(4, 0.1, (500, dim)), rng.normal(0.4, 0.3, (500, dim)))
    if isinstance(SUPPORTS[support], Positive):
        y = np.exp(y)
    elif not isinstance(SUPPORTS[support], Real):
        low, high = SUPPORTS[support].ends
        y = low + (high - low) * special.ndtr(y)
    flow.initialize(y.astype(table))
    flow.parameters = parameters
    return flow


def assert_agree(got: np.ndarray, want: np.ndarray, *types: str) -> None:
    """Log densities, or log-determinants, must be the same to the rounding of these types."""
    tolerance = 2e-3 if "float32" in types else 1e-5
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# -- the laws ----------------------------------------------------------------------------------------------------


@every_flow
@both_precisions
@both_tables
def test_samples_are_scored_as_log_prob_scores_them(
    support: str, base: str, layers: str, dtype: str, table: str
) -> None:
    flow = flow_of(support, base, layers, dtype, table)
    x, density = flow.sample_and_log_prob(20_000, seed=0)
    assert x.dtype == table
    want = flow.log_prob(x)
    assert np.isfinite(want).all()
    # Where one feature is a million times another, float32 loses the other in layers that add them.
    kept = np.abs(flow.inverse(x)[0]).max(axis=1) < (
        1e3 if layers == "several" and "float32" in (dtype, table) else np.inf
    )
    assert kept.mean() > 0.9
    assert_agree(density[kept], want[kept], dtype, table)


@every_flow
@both_precisions
@both_tables
def test_forward_and_inverse_agree_at_any_distance(
    support: str, base: str, layers: str, dtype: str, table: str
) -> None:
    """A latent point and the point that its image comes back to have one image and one log-determinant."""
    flow = flow_of(support, base, layers, dtype, table)
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2000, 2)) * 10.0 ** rng.uniform(-1, 2.5, size=(2000, 1))
    if base == "uniform" or support == "circle":
        z = rng.uniform(-1, 1, size=(2000, 2))
    x, log_det = flow.forward(z.astype(table))
    back, log_det_back = flow.inverse(x)
    assert np.isfinite(x).all()
    assert np.isfinite(back).all()
    assert_agree(log_det, -log_det_back, dtype, table)
    again = flow.forward(back)[0].astype(np.float64)
    types = dtype, table
    tolerance = 1e-4 if "float32" in types else 1e-10
    # x is as exact as its distance from the ends, and as a log, which carries an error of y to x times its size.
    ends = np.abs(SUPPORTS[support].ends)
    size = np.maximum(
        np.abs(x.astype(np.float64)), max((end for end in ends if np.isfinite(end) and end > 1), default=0)
    )
    size = np.maximum(size, 1 if support == "real" else 8 * float(np.finfo(table).tiny) / tolerance)
    assert (np.abs(again - x) <= tolerance * (1 + np.abs(back.astype(np.float64))) * size).all()


def line_of(support: str, flow: Flow, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points x of one feature, and dx of each, fine in the bulk and far beyond it; the first and the last one."""
    (shift,), (scale,) = flow._state.standardization
    if support == "circle" or flow._state.core.domains[0] == "box":
        low, high = SUPPORTS[support].ends
        ends = np.linspace(low, high, n + 1)
        return (ends[1:] + ends[:-1]) / 2, np.diff(ends), ends[[0, -1]]
    far = {"real": 1e16, "positive": 650.0}.get(support, 7.5)
    if support == "unit":
        s = np.linspace(-np.arcsinh((37 + shift) / scale), np.arcsinh((7.5 - shift) / scale), n)
    else:
        s = np.linspace(-np.arcsinh((far + shift) / scale), np.arcsinh((far - shift) / scale), n)
    y, dy = shift + scale * np.sinh(s), scale * np.cosh(s) * (s[1] - s[0])
    if support == "real":
        return y, dy, y[[0, -1]]
    if support == "positive":
        return np.exp(y), np.exp(y) * dy, np.exp(y[[0, -1]])
    low, high = SUPPORTS[support].ends
    tail = (high - low) * special.ndtr(-np.abs(y))
    x = np.where(y < 0, low + tail, high - tail)
    return x, (high - low) * stats.norm.pdf(y) * dy, x[[0, -1]]


@pytest.mark.parametrize(
    ("support", "base", "layers"), [key for key in ALL if key[2] != "several" and not (key[0] == "far" and key[2])]
)
@both_precisions
def test_the_density_integrates_to_one(support: str, base: str, layers: str, dtype: str) -> None:
    """Over what the numbers of a table can hold: the rest is the base's mass beyond, which SciPy knows."""
    flow = flow_of(support, base, layers, dtype, dim=1)
    x, dx, ends = line_of(support, flow, 400_001)
    mass = float((np.exp(flow.log_prob(x[:, None])) * dx).sum())
    z = flow.inverse(ends[:, None])[0][:, 0].astype(np.float64)
    beyond = 0.0
    if base in ("t", "cauchy", "heavy") and support != "circle":
        beyond = float(stats.t(BASES[base].df).sf(np.abs(z)).sum())  # type: ignore[attr-defined]
    assert beyond < (0.15 if base == "heavy" else 0.05)
    assert mass + beyond == pytest.approx(1, abs=1e-3)


# -- where values stand ------------------------------------------------------------------------------------------


def standardised(support: Support, shift: float, scale: float, base: Base = Normal(), **options: str) -> Flow:  # noqa: B008
    flow = Flow(1, layers=[], support=support, base=base, **{"dtype": "float64", **options})  # type: ignore[arg-type]
    flow._state.set_standardization((np.array([shift]), np.array([scale])), (np.zeros(0), np.ones(0)))
    return flow


def test_heavy_tails_go_on_beyond_ten_deviations() -> None:
    flow = standardised(Positive(), 3.0, 1.5, StudentT(2.0))
    z = np.array([-9.0, -12, -20, -300, 9, 12, 20, 300])[:, None]
    x = np.exp(3 + 1.5 * z)
    want = stats.t(2, 3, 1.5).logpdf(np.log(x[:, 0])) - np.log(x[:, 0])
    np.testing.assert_allclose(flow.log_prob(x), want, rtol=1e-12)
    np.testing.assert_allclose(flow.inverse(x)[0], z, rtol=1e-12)
    np.testing.assert_allclose(flow.forward(z)[0], x, rtol=1e-12)


@both_precisions
def test_values_far_from_the_bulk_keep_their_places(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(np.where(rng.random(20_000) < 0.004, rng.normal(-12, 1, 20_000), rng.normal(0, 0.1, 20_000)))[:, None]
    flow = Flow(1, layers=[], support=Positive(), dtype=dtype).initialize(x)
    (shift,), (scale,) = flow._state.standardization
    assert scale < 0.2
    far = np.array([1e-6, 1e-3, 0.1, 0.3])
    np.testing.assert_allclose(flow.inverse(far[:, None])[0][:, 0], (np.log(far) - shift) / scale, rtol=1e-6)
    want = stats.norm(shift, scale).logpdf(np.log(far)) - np.log(far)
    np.testing.assert_allclose(flow.log_prob(far[:, None]), want, rtol=1e-6)


def test_an_interval_keeps_its_digits_at_both_ends() -> None:
    flow = standardised(Interval(-1, 1), 0.2, 0.5, StudentT(3.0))
    tails = 10.0 ** -np.arange(1, 16)
    for x in (-1 + tails, 1 - tails):
        inside = np.where(x < 0, x + 1, 1 - x) / 2  # what of the tail the number has kept
        y = np.sign(x) * -special.ndtri(inside)
        z, log_det = flow.inverse(x[:, None])
        np.testing.assert_allclose(z[:, 0], (y - 0.2) / 0.5, rtol=1e-12)
        np.testing.assert_allclose(log_det, -math.log(0.5) - math.log(2) - stats.norm.logpdf(y), rtol=1e-12)


# -- on a bound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [0.0, 1.0, -3.0, 0.1])
@both_precisions
@both_tables
def test_a_flat_density_is_flat_up_to_the_bound(low: float, dtype: str, table: str) -> None:
    """Where the table's own rounding makes the cell."""
    flow = Flow(1, layers=[], support=Interval(low, low + 2), dtype=dtype)
    x = np.array([[low], [low + 2]], dtype=table)
    np.testing.assert_allclose(flow.log_prob(x), -math.log(2), atol=1e-4 if dtype == "float32" else 1e-12)
    assert (flow.log_prob_and_grad(x)[1] == 0).all()
    edges = np.array([[-1.0, 1.0]]).T * 50
    np.testing.assert_array_equal(flow.forward(edges.astype(table))[0], x)


def test_a_float32_bound_is_scored_as_its_cell() -> None:
    """Probits around 4.6: every 250th row is rounded to 1."""
    shift, scale = 4.6, 0.3
    flow = standardised(Interval(0, 1), shift, scale, dtype="float32")
    cell = 2.0**-25
    edge = -special.ndtri(cell)
    want = math.log(stats.norm(shift, scale).sf(edge) / cell)
    assert flow.log_prob(np.ones((1, 1), dtype=np.float32))[0] == pytest.approx(want, abs=0.5)
    neighbour = np.nextafter(np.float32(1), np.float32(0))[None, None]
    assert flow.log_prob(neighbour)[0] == pytest.approx(want, abs=2)
    x, density = flow.sample_and_log_prob(10_000, seed=0)
    flow._state.data_dtype = np.dtype(np.float32)
    x, density = flow.sample_and_log_prob(10_000, seed=0)
    assert 10 < (x == 1).sum() < 200
    np.testing.assert_allclose(density, flow.log_prob(x), rtol=1e-4, atol=1e-3)


@both_precisions
@pytest.mark.parametrize("table", ["float32", "float64"])
@pytest.mark.parametrize("step", [0.01, 0.05, 1 / 3])
def test_rounded_columns_have_the_cells_of_their_grid(step: float, dtype: str, table: str) -> None:
    rng = np.random.default_rng(0)
    x = (np.round(rng.random((5000, 1)) / step) * step).astype(table)
    flow = Flow(1, layers=[], support=Interval(0, 1), dtype=dtype).initialize(x)
    np.testing.assert_allclose(flow._state.cells, step / 2, rtol=1e-6)
    shift, scale = (float(part[0]) for part in flow._state.standardization)
    ends = np.array([[0.0], [1.0]], dtype=table)
    z = flow.inverse(ends)[0][:, 0]
    np.testing.assert_allclose(z * scale + shift, special.ndtri([step / 4, 1 - step / 4]), rtol=1e-5)
    # The density of the numbers before they were rounded.
    flow._state.set_standardization((np.zeros(1), np.ones(1)), (np.zeros(0), np.ones(0)), flow._state.cells)
    np.testing.assert_allclose(flow.log_prob(ends), 0, atol=1e-5)


def test_counts_have_the_cells_of_whole_numbers() -> None:
    x = np.random.default_rng(0).poisson(3.0, size=(1000, 1)).astype(float)
    flow = Flow(1, layers=[], support=Positive()).initialize(x)
    np.testing.assert_array_equal(flow._state.cells, [[0.5, 0]])
    assert np.isfinite(flow.log_prob(x)).all()
    assert flow.log_prob([[0.0]])[0] == flow.log_prob([[0.25]])[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_grid_a_cell_ends_half_way_to_the_nearest_row(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.beta(2, 2, size=(1000, 1))
    weights = np.ones(1002) if weighted else None
    nearest = x.min()
    x = np.concatenate([x, [[0.0], [nearest / 100]]])
    if weights is None:
        x = x[:-1]
    else:
        weights[-1] = 0  # a row that is not there
    flow = Flow(1, layers=[], support=Interval(0, 1)).initialize(x, weights=weights)
    np.testing.assert_allclose(flow._state.cells, [[nearest / 2, 0]], rtol=1e-12)
    assert flow.log_prob([[0.0]])[0] == flow.log_prob([[nearest / 4]])[0]
    # No row is on the other bound, nor in a column without rows on either.
    assert Flow(1, layers=[], support=Interval(0, 1)).initialize(x[:1000])._state.cells.any() is np.False_


def test_a_few_zeros_do_not_spoil_a_fit() -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.normal(size=(2000, 1)))
    x[::200] = 0
    flow = Flow(1, support=Positive(), seed=0).fit(x, epochs=10, seed=0)
    bulk = flow.log_prob(x[x[:, 0] > 0]).mean()
    assert bulk == pytest.approx(stats.lognorm(1).logpdf(x[x > 0]).mean(), abs=0.1)
    assert np.isfinite(flow.log_prob(x)).all()


def test_zero_without_data_is_the_least_number() -> None:
    flow = standardised(Positive(), 0.0, 100.0)
    for table in (np.float32, np.float64):
        least = np.array([[np.finfo(table).tiny]], dtype=table)
        np.testing.assert_array_equal(flow.log_prob(np.zeros((1, 1), dtype=table)), flow.log_prob(least))
        np.testing.assert_allclose(flow.inverse(least)[0][:, 0], np.log(least[:, 0].astype(float)) / 100, rtol=1e-6)


def test_all_mass_is_between_the_bounds() -> None:
    x = np.round(np.random.default_rng(0).random((1000, 1)), 1)
    kde = FlowKDE(x.T, flow=Flow(1, layers=[], support=Interval(0, 1)), epochs=1)
    assert kde.flow._state.cells.any()
    assert kde.integrate_box_1d(0, 1) == 1
    assert kde.integrate_box_1d(-np.inf, np.inf) == 1
    assert 0.4 < kde.integrate_box_1d(0, 0.5) < 0.6


# -- the cells travel with the flow ------------------------------------------------------------------------------


def test_cells_are_saved_with_the_flow(tmp_path: Path) -> None:
    x = np.round(np.random.default_rng(0).random((1000, 2)), 2)
    flow = Flow(2, layers=[], support=[Interval(0, 1), Real()]).initialize(x)
    np.testing.assert_allclose(flow._state.cells, [[0.005, 0.005], [0, 0]], rtol=1e-9)
    flow.save(tmp_path / "flow.safetensors")
    for twin in (Flow.load(tmp_path / "flow.safetensors"), pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)):
        np.testing.assert_array_equal(twin._state.cells, flow._state.cells)
        np.testing.assert_array_equal(twin.log_prob(x), flow.log_prob(x))
    fitted = Flow(2, support=Interval(0, 1), seed=0).fit(x, epochs=2, seed=0)  # the flow may be another one by then
    np.testing.assert_allclose(fitted._state.cells, 0.005, rtol=1e-9)


@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
def test_damaged_cells_are_refused(value: float, tmp_path: Path) -> None:
    x = np.round(np.random.default_rng(0).random((1000, 1)), 2)
    flow = Flow(1, layers=[], support=Interval(0, 1)).initialize(x)
    flow._state.cells = np.array([[0.0, value]])
    flow.save(tmp_path / "flow.safetensors")
    with pytest.raises(FileFormatError, match=r"standardization\.cells"):
        Flow.load(tmp_path / "flow.safetensors")


def test_files_name_cells_only_if_there_are_some(tmp_path: Path) -> None:
    """So that older versions read the others."""
    x = np.random.default_rng(0).random((1000, 1))
    for rows, expected in ((x, False), (np.round(x, 2), True)):
        Flow(1, layers=[], support=Interval(0, 1)).initialize(rows).save(tmp_path / "flow")
        assert (b"standardization.cells" in (tmp_path / "flow").read_bytes()) == expected
