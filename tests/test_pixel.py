"""Whole numbers that stand for their cells: noise, bits, samples, and what refuses them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from pushforward import (
    LU,
    MLP,
    Column,
    Coupling,
    Ensemble,
    Flow,
    Integer,
    Pixel,
    Positive,
    RationalQuadratic,
    importance,
)
from pushforward._io.rows import Rows
from pushforward._io.scan import check_density
from pushforward._model.state import state_of

both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


def flow_of(dtype: str = "float64", levels: int = 5, alpha: float = 0.05, **options: object) -> Flow:
    """A flow that is no map of each pixel alone, with little mass at the ends."""
    layers = [Coupling(RationalQuadratic(bins=4), MLP((8,))), LU()]
    flow = Flow(4, layers=layers, support=Pixel(levels, alpha), dtype=dtype, seed=0, **options)
    rng = np.random.default_rng(0)
    for values in flow.named_parameters().values():
        values[...] = rng.normal(scale=0.2, size=values.shape)
    return flow


def images(n: int, levels: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, levels, (n, 4)).astype(float)


@both_precisions
def test_a_row_has_one_score_wherever_it_stands(dtype: str) -> None:
    flow, x = flow_of(dtype), images(200)
    whole = flow.log_prob(x)
    assert np.isfinite(whole).all()
    assert (flow.log_prob(x[::-1])[::-1] == whole).all()
    assert (flow.log_prob(x[77]) == whole[77]).all()
    assert (flow.log_prob(x.astype("uint8")) == whole).all()
    flow.num_threads = 1
    assert (flow.log_prob(x) == whole).all()
    # The noise is that of the row: an image that differs in one pixel lies elsewhere in all cells.
    z, other = flow.inverse(x[0])[0], flow.inverse(np.r_[x[0, :3], (x[0, 3] + 1) % 5])[0]
    assert (z != other).all()


def test_noise_is_uniform_and_independent() -> None:
    flow = Flow(3, layers=[], support=Pixel(50_000, 0.0), dtype="float64")
    x = np.random.default_rng(0).integers(0, 50_000, (20_000, 3)).astype(float)
    y = flow.inverse(x)[0]
    u = 50_000 / (1 + np.exp(-y)) - x
    assert u.min() > 0
    assert u.max() < 1
    for column in u.T:
        assert abs(np.histogram(column, bins=10, range=(0, 1))[0] - 2000).max() < 5 * np.sqrt(1800)
    correlations = np.corrcoef(np.c_[u, x].T)
    assert abs(correlations - np.eye(6))[:3].max() < 5 / np.sqrt(20_000)


@both_precisions
def test_samples_are_whole_and_scored_as_log_prob_scores_them(dtype: str) -> None:
    flow = flow_of(dtype)
    x, density = flow.sample_and_log_prob(2000, seed=1)
    assert (x == np.floor(x)).all()
    assert x.min() == 0
    assert x.max() == 4
    assert (density == flow.log_prob(x)).all()
    points, log_det = flow.forward(flow.sample_latent(2000, seed=1))
    assert (np.floor(points) == x).all()
    assert (points != x).all()
    z, inverse_log_det = flow.inverse(points)
    inner = ((points > 1e-3) & (points < 4.999)).all(axis=1)
    np.testing.assert_allclose(
        z[inner], flow.sample_latent(2000, seed=1)[inner], atol=1e-3 if dtype == "float32" else 1e-9
    )
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-3 if dtype == "float32" else 1e-9)


@both_precisions
def test_derivatives_are_those_at_the_point(dtype: str) -> None:
    flow = flow_of(dtype)
    points = flow.forward(0.3 * flow.sample_latent(20, seed=1))[0]
    density, gradient = flow.log_prob_and_grad(points)
    np.testing.assert_array_equal(density, flow.log_prob(points))
    if dtype == "float64":
        step = 1e-6
        for j in range(4):
            moved = step * (np.arange(4) == j)
            slope = (flow.log_prob(points + moved) - flow.log_prob(points - moved)) / (2 * step)
            np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-5, atol=1e-5)
    x = images(5)
    assert (flow.log_prob_and_grad(x)[0] == flow.log_prob(x)).all()
    assert np.isfinite(flow.log_prob_and_grad(x)[1]).all()


def test_a_step_of_a_fit_has_noise_of_its_own() -> None:
    core = state_of(flow_of()).core  # the key of a step is no argument of a public call
    x, gradient = images(64), np.empty(flow_of().parameters.size)
    losses = {key: core.loss_and_grad(x, gradient, dropout=key)[0] for key in (0, 1, 1 << 63)}
    assert len(set(losses.values())) == 3
    assert losses[0] == pytest.approx(-flow_of().log_prob(x).mean(), rel=1e-12)


def test_values_outside() -> None:
    flow = flow_of()
    x = np.array([[0.0, 4, 0, 0], [5, 0, 0, 0], [0, 0, -1, 0], [np.nan, 0, 0, 0], [4.5, 0, 0, 0]])
    for table in (x, x.astype("float32")):
        density = flow.log_prob(table)
        assert np.isfinite(density[[0, 4]]).all()
        assert np.isneginf(density[[1, 2]]).all()
        assert np.isnan(density[3])
    with pytest.raises(ValueError, match=r"x has 1 row outside their support, first at row 1: feature 0 is 5\.0"):
        flow.fit(np.repeat(x[:2], 20, axis=0)[19:21])


def test_pixels_that_never_change_are_no_error() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (400, 4)).astype("uint8")
    x[:, 1], x[:, 2] = 0, x[:, 0]
    flow = Flow(4, layers=[LU()], support=Pixel(3), seed=0).fit(x, epochs=3, seed=0)
    report = flow.check(x, seed=0)
    assert report.oddities == ()
    assert report.round_trip == 0
    bits = report.bits_per_dim
    assert bits is not None
    assert bits.value == pytest.approx(-flow.log_prob(x).mean() / (4 * np.log(2)))
    assert "per dimension" in repr(report)
    with pytest.raises(ValueError, match="x has constant features: 1"):
        check_density(Rows.of(x.astype(float), None, None), Flow(4, layers=[]).support)


def test_files_and_ensembles(tmp_path: Path) -> None:
    flow, x = flow_of("float32"), images(50)
    flow.save(tmp_path / "flow")
    for twin in (Flow.load(tmp_path / "flow"), pickle.loads(pickle.dumps(flow))):
        assert twin.support == (Pixel(5),) * 4
        assert (twin.log_prob(x) == flow.log_prob(x)).all()
        assert (twin.sample(9, seed=0) == flow.sample(9, seed=0)).all()
    samples, density = Ensemble([flow, flow_of("float32", context=0)]).sample_and_log_prob(100, seed=0)
    assert (samples == np.floor(samples)).all()
    assert np.isfinite(density).all()


def test_what_needs_a_density_refuses_whole_numbers() -> None:
    flow = flow_of()
    for call in (
        lambda: flow.fit_density(lambda x: -x.sum(axis=1)),
        lambda: flow.conditional({0: 1.0}),
        lambda: flow.marginal([0]),
        lambda: flow.impute(np.full((1, 4), np.nan)),
        lambda: importance.sample(flow, lambda x: -x.sum(axis=1)),
    ):
        with pytest.raises(ValueError, match="needs a density"):
            call()
    with pytest.raises(TypeError, match="Integer"):
        Column(Pixel())
    assert Column(Integer(0, 9))


def test_arguments() -> None:
    assert repr(Pixel()) == "Pixel(levels=256, alpha=0.05)"
    assert Pixel(2).ends == (0.0, 2.0)
    assert not Positive().has_cells
    for levels, alpha, error in (
        (1, 0, ValueError),
        (2.5, 0, TypeError),
        (2, 0.3, ValueError),
        (1 << 17, 0, ValueError),
    ):
        with pytest.raises(error, match="Pixel's"):
            Pixel(levels, alpha)
