"""Flows with a shape: rows are images everywhere, and a table of pixels gives the same numbers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from pushforward import (
    Ensemble,
    Files,
    Flow,
    Pixel,
    Positive,
    glow,
    importance,
    lattice,
)
from pushforward._model.state import state_of
from pushforward.errors import FileFormatError

SHAPE = (2, 4, 4)
LAYERS = glow(SHAPE, levels=2, depth=1, hidden=4)


def flow_of(dtype: str = "float64", **options: object) -> Flow:
    flow = Flow(shape=SHAPE, layers=LAYERS, dtype=dtype, seed=0, **options)
    rng = np.random.default_rng(0)
    for values in flow.named_parameters().values():
        values[...] += rng.normal(scale=0.1, size=values.shape)
    return flow


def fields(*leading: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*leading, *SHAPE))


def test_every_call_takes_and_returns_images() -> None:
    flow, x = flow_of(), fields(3, 5)
    state, table = state_of(flow), fields(3, 5).reshape(15, 32)
    assert flow.dim == 32
    assert flow.shape == SHAPE
    want = state.log_prob(table).reshape(3, 5)
    assert (flow.log_prob(x) == want).all()
    assert flow.log_prob(x[0, 0]).shape == ()
    out = np.empty((3, 5))
    assert flow.log_prob(x, out=out) is out
    assert (out == want).all()
    z, log_det = flow.inverse(x)
    assert z.shape == (3, 5, 32)
    assert (z.reshape(15, 32) == state.inverse(table)[0]).all()
    back, forward_log_det = flow.forward(z)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(forward_log_det, -log_det, atol=1e-9)
    places = np.empty((3, 5, *SHAPE)), np.empty((3, 5))
    assert (flow.forward(z, out=places)[0] == back).all()
    places = np.empty((15, *SHAPE)), np.empty(15)
    assert (flow.forward(z.reshape(15, 32), out=places)[0].reshape(x.shape) == back).all()
    assert flow.forward_and_log_prob(z)[0].shape == x.shape
    assert flow.inverse_and_log_prob(x)[0].shape == z.shape
    assert flow.sample(7, seed=0).shape == (7, *SHAPE)
    assert flow.sample((2, 3), seed=0).shape == (2, 3, *SHAPE)
    samples, density = flow.sample_and_log_prob(7, seed=0)
    np.testing.assert_allclose(density, flow.log_prob(samples), atol=1e-9)
    assert flow.sample_latent(7, seed=0).shape == (7, 32)


def test_derivatives_have_the_shape_of_the_image() -> None:
    flow, x = flow_of(), fields(3, 5)
    density, gradient = flow.log_prob_and_grad(x)
    assert gradient.shape == x.shape
    direction, step = fields(3, 5, seed=1), 1e-6
    slope = (flow.log_prob(x + step * direction) - flow.log_prob(x - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(axis=(2, 3, 4)), slope, rtol=1e-6, atol=1e-6)
    seeds = np.random.default_rng(0).normal(size=(3, 5))
    by_x, by_parameters, _ = flow.log_prob_vjp(x, seeds)
    np.testing.assert_allclose(by_x, gradient * seeds[..., None, None, None], atol=1e-12)
    assert by_parameters.shape == flow.parameters.shape
    z = flow.inverse(x)[0]
    by_z = flow.forward_vjp(z, gradient, np.zeros((3, 5)))[0]
    assert by_z.shape == z.shape
    # The adjoint of the inverse undoes that of the map.
    np.testing.assert_allclose(flow.inverse_vjp(x, by_z, np.zeros((3, 5)))[0], gradient, atol=1e-9)
    loss, by_parameters = flow.loss_and_grad(x.reshape(15, *SHAPE))
    assert loss == pytest.approx(-density.mean())
    assert by_parameters.shape == flow.parameters.shape


def test_a_fit_takes_images(tmp_path: Path) -> None:
    x = 3 + 2 * fields(300).astype("float32")
    x[:, 1] *= 5
    flow = flow_of("float32").fit(x[:200], validation=x[200:], epochs=2, seed=0)
    shift, scale = (part.reshape(SHAPE) for part in state_of(flow).standardization)
    assert (shift == shift[:, :1, :1]).all()
    assert (scale == scale[:, :1, :1]).all()
    np.testing.assert_allclose(shift[:, 0, 0], x[:200].mean(axis=(0, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(scale[:, 0, 0], x[:200].std(axis=(0, 2, 3)), rtol=1e-2)
    assert flow.sample(3, seed=0).dtype == np.float32
    # The same rows as a memory map, and as flat rows in files.
    np.save(tmp_path / "images.npy", x[:200])
    np.save(tmp_path / "flat.npy", x[:200].reshape(200, -1))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for rows in (mapped, Files([tmp_path / "flat.npy"])):
        twin = flow_of("float32").fit(rows, validation=x[200:], epochs=2, seed=0)
        assert (twin.parameters == flow.parameters).all()
    assert flow.check(x[200:], seed=0).rows == 100
    assert flow.initialize(x).shape == SHAPE


def test_copies_and_files(tmp_path: Path) -> None:
    flow, x = flow_of(support=Positive()), np.exp(fields(4))
    flow.save(tmp_path / "flow")
    for twin in (Flow.load(tmp_path / "flow"), pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)):
        assert twin.shape == SHAPE
        assert repr(twin) == repr(flow)
        assert (twin.log_prob(x) == flow.log_prob(x)).all()
    assert flow.astype("float32").shape == SHAPE
    assert flow.reset(seed=0).shape == SHAPE
    assert "shape=(2, 4, 4)" in repr(flow)
    content = (tmp_path / "flow").read_bytes()
    assert content.count(b"[2,4,4]") + content.count(b"[2, 4, 4]") == 1
    broken = content.replace(b"[2,4,4]", b"[2,4,5]").replace(b"[2, 4, 4]", b"[2, 4, 5]")
    (tmp_path / "broken").write_bytes(broken)
    with pytest.raises(FileFormatError):
        Flow.load(tmp_path / "broken")


def test_a_context_broadcasts() -> None:
    flow, x = flow_of(context=2), fields(5)
    conditions = np.random.default_rng(0).normal(size=(3, 1, 2))
    assert flow.log_prob(x, conditions).shape == (3, 5)
    assert flow.inverse(x, conditions)[0].shape == (3, 5, 32)
    assert flow.sample((4, 3), context=conditions[:, 0], seed=0).shape == (4, 3, *SHAPE)
    by_x, _, by_context = flow.log_prob_vjp(x, np.ones(5), conditions[0, 0])
    assert by_x.shape == x.shape
    assert by_context is not None
    assert by_context.shape == (5, 2)


def test_ensembles(tmp_path: Path) -> None:
    ensemble = Ensemble.of(shape=SHAPE, members=2, layers=LAYERS, dtype="float64", seed=0)
    x = fields(200)
    ensemble.fit(x, epochs=2, seed=0)
    density, gradient = ensemble.log_prob_and_grad(x.reshape(4, 50, *SHAPE))
    assert density.shape == (4, 50)
    assert gradient.shape == (4, 50, *SHAPE)
    parts = np.stack([flow.log_prob(x) for flow in ensemble.flows])
    np.testing.assert_allclose(density.ravel(), np.logaddexp.reduce(parts, axis=0) - np.log(2), atol=1e-9)
    by_x = ensemble.log_prob_vjp(x, np.ones(200))[0]
    np.testing.assert_allclose(by_x, gradient.reshape(x.shape), atol=1e-9)
    samples, log_prob = ensemble.sample_and_log_prob(5, seed=0)
    assert samples.shape == (5, *SHAPE)
    np.testing.assert_allclose(ensemble.log_prob(samples), log_prob, atol=1e-9)
    ensemble.save(tmp_path / "ensemble")
    assert Ensemble.load(tmp_path / "ensemble").shape == SHAPE
    assert ensemble.fit_weights(x).weights.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="same shape"):
        Ensemble([Flow(32, layers=[]), Flow(shape=SHAPE, layers=[])])


def action(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian field on a ring lattice."""
    step = np.roll(field, -1, 3) - field
    gradient = -field - 2 * (np.roll(step, 1, 3) - step)
    return -0.5 * (field**2).sum(axis=(1, 2, 3)) - (step**2).sum(axis=(1, 2, 3)), gradient


def test_fits_to_a_density_of_fields() -> None:
    shape = (1, 2, 4)
    seen = []

    def log_density(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(field.shape[1:])
        return action(field)

    flow = Flow(shape=shape, layers=lattice(shape, depth=2, hidden=4, layers=1), seed=0)
    flow.fit_density(log_density, epochs=20, steps=50, seed=0)
    assert set(seen) == {shape}
    assert flow.history is not None
    # Ring modes have the precision 1 + 8 sin(pi k / 4)^2.
    precisions = 1 + 8 * np.sin(np.pi * np.arange(4) / 4) ** 2
    truth = 2 * 0.5 * (np.log(2 * np.pi) - np.log(precisions)).sum()
    draws = importance.sample(flow, lambda field: action(field)[0], 4000, seed=0)
    assert abs(draws.log_evidence - truth) < 5 * draws.log_evidence_error + 0.02
    assert draws.x.shape == (4000, *shape)
    assert draws.mean()[0].shape == shape
    assert draws.quantile([0.1, 0.9])[0].shape == (2, *shape)
    assert draws.resample(10, seed=0).shape == (10, *shape)
    # Exact symmetry under the change of sign.
    x = draws.x[:50]
    np.testing.assert_allclose(flow.log_prob(-x), flow.log_prob(x), rtol=1e-5, atol=1e-4)
    start = np.random.default_rng(0).normal(size=(50, *shape))
    again = Flow(shape=shape, layers=[], seed=0).fit_density(log_density, start=start, epochs=1, steps=2, seed=0)
    assert again.sample(2, seed=0).shape == (2, *shape)
    values_only = Flow(shape=shape, layers=[], seed=0)
    values_only.fit_density(lambda field: action(field)[0], epochs=1, steps=2, population=128, seed=0)
    with pytest.raises(ValueError, match=r"a gradient of shape \(\d+, 8\) for x of shape \(\d+, 1, 2, 4\)"):
        flow.fit_density(lambda field: (action(field)[0], np.zeros((len(field), 8))), epochs=1)


def test_messages() -> None:
    flow = flow_of()
    for call, words in (
        (lambda: flow.log_prob(np.zeros((3, 32))), r"x has shape \(3, 32\); this flow has shape=\(2, 4, 4\)"),
        (lambda: flow.fit(np.zeros((3, 2, 4))), r"so \(n, 2, 4, 4\) is expected"),
        (lambda: flow.fit(fields(30), validation=np.zeros((3, 32))), r"validation has shape \(3, 32\)"),
        (lambda: flow.check(np.zeros((3, 32))), r"x has shape \(3, 32\)"),
        (lambda: flow.forward(fields(3)), r"z has shape \(3, 2, 4, 4\); this flow has dim=32"),
        (lambda: flow.fit_density(lambda x: x.sum(axis=(1, 2, 3)), start=np.zeros((3, 32))), "start has shape"),
        (lambda: Flow(), "dim"),
        (lambda: Flow(8, shape=SHAPE), "32 pixels; the flow has dim=8"),
        (lambda: Flow(shape=(2, 0, 4)), r"shape\[1\] must be at least 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    with pytest.raises(TypeError, match="shape must be"):
        Flow(shape=(4, 4))
    assert Flow(32, shape=SHAPE, layers=[]).shape == SHAPE
    assert Flow(32, layers=[]).shape is None


def test_default_layers_are_those_of_images() -> None:
    flow = Flow(shape=(1, 8, 8), support=Pixel(17), seed=0)
    kinds = {type(layer).__name__ for layer in flow.layers}
    assert {"Conv1x1", "Coupling", "Squeeze"} <= kinds


def test_gaps_of_images_are_filled() -> None:
    flow, x = flow_of(), fields(3)
    x[0, 0, 0, 0] = np.nan
    filled = flow.impute(x, draws=50, steps=0, seed=0)
    assert filled.shape == x.shape
    assert np.isfinite(filled).all()
    assert (filled[1:] == x[1:]).all()
    assert flow.impute(x, copies=2, draws=50, steps=0, seed=0).shape == (2, *x.shape)
