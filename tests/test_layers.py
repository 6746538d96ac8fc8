"""What single layers and bases promise beyond the laws: masks, dropout, learned tails, the start of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import (
    LU,
    MLP,
    Adam,
    Affine,
    Autoregressive,
    ContextNetwork,
    Coupling,
    Flow,
    Householder,
    RationalQuadratic,
    ResNet,
    StudentT,
    maf,
    neural_spline,
)
from pushforward._model.layer import Layer
from pushforward._model.networks import DenseNetwork
from scipy import stats


def randomised(layers: Sequence[Layer], dim: int, context: int = 0, seed: int = 0) -> Flow:
    flow = Flow(dim, layers=layers, context=context, dtype="float64", seed=seed)
    flow.parameters[...] = np.random.default_rng(seed).normal(scale=0.3, size=flow.parameters.shape)
    return flow


def depends(flow: Flow, direction: str, dim: int) -> np.ndarray:
    """depends[i, j]: whether output i changes with input j."""
    rng = np.random.default_rng(1)
    points, call = rng.normal(size=(50, dim)), getattr(flow, direction)
    moved = [call(points + 0.1 * e)[0] - call(points)[0] for e in np.eye(dim)]
    return np.stack([(np.abs(change) > 0).any(axis=0) for change in moved], axis=1)


@pytest.mark.parametrize("conditioner", [MLP((20, 13), "tanh"), ResNet(16, 2, "tanh"), MLP(())], ids=str)
@pytest.mark.parametrize("one_pass", ["inverse", "forward"])
@pytest.mark.parametrize("order", ["natural", "reverse", (1, 0, 2, 0, 1)])
def test_a_feature_depends_on_earlier_passes_alone(conditioner: DenseNetwork, one_pass: str, order: str) -> None:
    layer = Autoregressive(Affine(), conditioner, order=order, one_pass=one_pass)
    flow = randomised([layer], 5)
    passes = np.array(layer.passes(5))
    allowed = (passes[:, None] > passes[None, :]) | np.eye(5, dtype=bool)
    found = depends(flow, one_pass, 5)
    np.testing.assert_array_equal(found, allowed)
    # The other way, what an earlier feature depends on counts too; still nothing of a later pass.
    other = depends(flow, "forward" if one_pass == "inverse" else "inverse", 5)
    assert not (other & (passes[:, None] < passes[None, :])).any()


def test_a_context_reaches_every_feature() -> None:
    flow = randomised([Autoregressive(Affine(), MLP((9,), "tanh"))], 3, context=2)
    x, contexts = np.ones((10, 3)), np.random.default_rng(0).normal(size=(10, 2))
    z, _ = flow.inverse(x, contexts)
    assert (np.ptp(z, axis=0) > 0).all()
    several = flow.sample(10, contexts, seed=0)
    single = [flow.sample(10, c, seed=0)[i] for i, c in enumerate(contexts)]
    np.testing.assert_array_equal(several, single)


def test_dead_weights_of_a_mask_count_for_nothing() -> None:
    flow = randomised([Autoregressive(Affine(), MLP((6,), "tanh"))], 3)
    x = np.random.default_rng(0).normal(size=(20, 3))
    _, grad = flow.loss_and_grad(x)
    before = flow.log_prob(x)
    dead = grad == 0
    assert 0 < dead.sum() < len(grad)
    flow.parameters[dead] = 1e3
    np.testing.assert_array_equal(flow.log_prob(x), before)


def test_an_orthogonal_map_keeps_lengths() -> None:
    flow = randomised([Householder(3)], 5)
    z = np.random.default_rng(0).normal(size=(100, 5))
    x, log_det = flow.forward(z)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), np.linalg.norm(z, axis=1), rtol=1e-14)
    assert (log_det == 0).all()
    flow.parameters = 0 * flow.parameters
    np.testing.assert_array_equal(flow.forward(z)[0], z)


def test_lu_is_the_product_of_its_triangles() -> None:
    dim = 4
    flow = randomised([LU([2, 0, 3, 1])], dim)
    weight, bias = flow.named_parameters()["layers.0.weight"], flow.named_parameters()["layers.0.bias"]
    lower = np.tril(weight, -1) + np.eye(dim)
    upper = np.triu(weight, 1) + np.diag(np.exp(np.diag(weight)))
    x = np.random.default_rng(0).normal(size=(10, dim))
    z, log_det = flow.inverse(x)
    y = np.empty_like(x)
    y[:, [2, 0, 3, 1]] = x
    np.testing.assert_allclose(z, y @ (lower @ upper).T + bias, rtol=1e-12)
    np.testing.assert_allclose(log_det, np.diag(weight).sum(), rtol=1e-12)


# -- dropout -----------------------------------------------------------------------------------------------------


def dropping(dim: int = 3, dropout: float = 0.5) -> Flow:
    return Flow(dim, layers=neural_spline(dim, depth=2, hidden=16, dropout=dropout), seed=0, num_threads=1)


def test_dropout_is_of_training_alone() -> None:
    x = np.random.default_rng(0).normal(size=(300, 3))
    flow, plain = dropping(), dropping(dropout=0.0)
    np.testing.assert_array_equal(flow.parameters, plain.parameters)
    np.testing.assert_array_equal(flow.loss_and_grad(x)[1], plain.loss_and_grad(x)[1])
    np.testing.assert_array_equal(flow.log_prob(x), plain.log_prob(x))
    # The last layer starts at zero: whatever the networks do shows from the second step on.
    flow.fit(x, epochs=2, validation=None, seed=1)
    plain.fit(x, epochs=2, validation=None, seed=1)
    assert (flow.parameters != plain.parameters).any()


def test_dropout_is_seeded_and_the_same_for_any_threads() -> None:
    x = np.random.default_rng(0).normal(size=(700, 3))
    flows = [dropping() for _ in range(4)]
    for flow, (seed, threads) in zip(flows, [(1, 1), (1, 1), (1, 3), (2, 1)], strict=True):
        flow.num_threads = threads
        flow.fit(x, epochs=2, batch_size=300, seed=seed)
    np.testing.assert_array_equal(flows[0].parameters, flows[1].parameters)
    np.testing.assert_array_equal(flows[0].parameters, flows[2].parameters)
    assert (flows[0].parameters != flows[3].parameters).any()


def test_a_fit_with_dropout_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).normal(size=(500, 3)), tmp_path / "checkpoint"
    whole = dropping().fit(x, epochs=4, seed=5)

    class CutError(Exception):
        pass

    def cut(flow: Flow, epoch: object) -> None:
        raise CutError

    flow = dropping()
    with pytest.raises(CutError):
        flow.fit(x, epochs=4, seed=5, checkpoint=path, checkpoint_every=1, callback=cut)
    flow.fit(x, epochs=4, seed=5, resume=path)
    np.testing.assert_array_equal(flow.parameters, whole.parameters)


def test_dropout_keeps_the_mean() -> None:
    """Over many masks the mean of a linear network's loss gradient is that without dropout."""
    layers = [Coupling(Affine(), ResNet(400, 1, "relu", dropout=0.3))]
    flow = Flow(2, layers=layers, dtype="float64", seed=0)
    flow.parameters[...] = np.random.default_rng(0).normal(scale=0.05, size=flow.parameters.shape)
    x = np.random.default_rng(1).normal(size=(64, 2))
    gradient, sums = np.empty_like(flow.parameters), []
    for key in range(1, 200):
        flow._state.core.loss_and_grad(x, gradient, dropout=key << 32 | 1, threads=1)
        sums.append(gradient.copy())
    want = flow.loss_and_grad(x)[1]
    mean, error = np.mean(sums, axis=0), np.std(sums, axis=0) / np.sqrt(len(sums))
    far = np.abs(mean - want) > 5 * error + 0.05 * np.abs(want).max()
    assert far.mean() < 0.01
    assert (error > 0).any()


# -- context network ---------------------------------------------------------------------------------------------


def conditional(network: ContextNetwork | None) -> Flow:
    layers = neural_spline(2, depth=2, hidden=8, bins=4)
    return Flow(2, layers=layers, context=20, context_network=network, seed=0, num_threads=1)


def test_layers_read_the_embedding_alone() -> None:
    flow = conditional(ContextNetwork(3, MLP((10,))))
    shapes = {name: values.shape for name, values in flow.named_parameters().items()}
    assert shapes["context_network.0.weight"] == (10, 20)
    assert shapes["context_network.1.weight"] == (3, 10)
    first = [shape for name, shape in shapes.items() if name.endswith("conditioner.first.weight")]
    assert first == [(8, 1 + 3)] * 2


def test_a_context_network_does_not_start_at_zero() -> None:
    """Else the first step could not tell one condition from another."""
    named = conditional(ContextNetwork(3, MLP((10,)))).named_parameters()
    for name, values in named.items():
        if name.startswith("context_network."):
            width = named[name.replace("bias", "weight")].shape[1]
            assert 0.3 / np.sqrt(width) < np.abs(values).max() <= 1 / np.sqrt(width)


def test_a_linear_context_network_is_a_linear_map_of_the_context() -> None:
    """A flow that reads c W^T + b through the identity is the flow that reads those numbers."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = [Coupling(Affine(), MLP((8,)))] * 2
    flow = Flow(2, layers=layers, context=20, context_network=ContextNetwork(3, MLP(())), dtype="float64")
    flow.parameters = rng.normal(scale=0.3, size=flow.parameters.shape)
    named = flow.named_parameters()
    x, context = rng.normal(size=(50, 2)), rng.normal(size=(50, 20))
    embedding = context @ named["context_network.0.weight"].T + named["context_network.0.bias"]
    twin = Flow(2, layers=layers, context=3, dtype="float64")
    twin.parameters = flow.parameters[: len(twin.parameters)]
    np.testing.assert_allclose(flow.log_prob(x, context), twin.log_prob(x, embedding), rtol=1e-12)


def test_the_weights_of_a_context_network_are_decayed() -> None:
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(300, 2)), rng.normal(size=(300, 20))
    sizes = []
    for decay in (0.0, 30.0):
        flow = conditional(ContextNetwork(3, MLP((10,))))
        flow.fit(x, context=context, epochs=20, optimizer=Adam(1e-3, weight_decay=decay), seed=0)
        sizes.append({name: np.abs(values).mean() for name, values in flow.named_parameters().items()})
    for layer in ("0", "1"):
        name = f"context_network.{layer}.weight"
        assert sizes[1][name] < 0.8 * sizes[0][name]
        name = f"context_network.{layer}.bias"
        assert sizes[1][name] > 0.8 * sizes[0][name]


def test_dropout_in_a_context_network_is_of_training_alone_and_seeded() -> None:
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(700, 2)), rng.normal(size=(700, 20))
    flows = [conditional(ContextNetwork(3, ResNet(10, 1, dropout=rate))) for rate in (0.0, 0.5, 0.5, 0.5)]
    assert flows[0].loss_and_grad(x, context)[0] == flows[1].loss_and_grad(x, context)[0]
    for flow, (seed, threads) in zip(flows, [(1, 1), (1, 1), (1, 3), (2, 1)], strict=True):
        flow.num_threads = threads
        flow.fit(x, context=context, epochs=2, batch_size=300, seed=seed)
    np.testing.assert_array_equal(flows[1].parameters, flows[2].parameters)
    assert (flows[1].parameters != flows[0].parameters).any()
    assert (flows[1].parameters != flows[3].parameters).any()


def test_a_context_network_finds_the_number_that_counts() -> None:
    """Of forty columns the target follows the product of two sums."""
    rng = np.random.default_rng(0)
    context = rng.normal(size=(4000, 40))
    summary = context[:, :20].mean(axis=1) * context[:, 20:].mean(axis=1) * 20
    x = summary + 0.3 * rng.normal(size=4000)
    layers = [Coupling(RationalQuadratic(), MLP((32,)))] * 2
    held = []
    for network in (None, ContextNetwork(4, MLP((32,), "silu"))):
        flow = Flow(1, layers=layers, context=40, context_network=network, seed=0, num_threads=1)
        flow.fit(x[:3000, None], context=context[:3000], epochs=40, seed=0)
        held.append(flow.log_prob(x[3000:, None], context[3000:]).mean())
    assert held[1] > held[0] + 0.1


# -- bases -------------------------------------------------------------------------------------------------------


def test_learned_tails_find_the_degrees_of_freedom() -> None:
    x = stats.t(3).rvs((4000, 1), random_state=0)
    flow = Flow(1, layers=[LU()], base=StudentT(10.0, learned=True), dtype="float64", seed=0)
    flow.fit(x, epochs=60, optimizer=Adam(0.05), seed=0)
    base = flow.base
    assert isinstance(base, StudentT)
    assert 2.3 < base.degrees(flow.named_parameters()["base.log_df"])[0] < 4
    assert flow.log_prob(x).mean() > stats.t(3).logpdf(x).mean() - 0.02
    assert stats.ks_2samp(flow.sample(20_000, seed=0)[:, 0], x[:, 0]).pvalue > 1e-3


def test_one_wild_row_does_not_squash_the_rest() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)) @ [[1, 0.8], [0, 0.6]]
    spoiled = np.vstack([x, [[1e6, -1e6]]])
    held = rng.normal(size=(2000, 2)) @ [[1, 0.8], [0, 0.6]]
    clean, robust = (Flow(2, seed=0, num_threads=1).fit(rows, epochs=15, seed=0) for rows in (x, spoiled))
    assert robust.log_prob(held).mean() > clean.log_prob(held).mean() - 0.3


# -- presets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"autoregressive": True}, {"mixing": "permutation", "hidden": (32, 32)}], ids=str
)
def test_the_spline_preset_fits(dim: int, options: dict[str, Any]) -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(2000, dim)) @ np.triu(np.ones((dim, dim)))
    flow = Flow(dim, layers=neural_spline(dim, depth=4, **options), seed=0, num_threads=1).fit(x, epochs=40, seed=0)
    back = x @ np.linalg.inv(np.triu(np.ones((dim, dim))))
    truth = stats.gamma(2.0).logpdf(back).sum(axis=1).mean()
    assert flow.log_prob(x).mean() > truth - 0.2 * dim


def test_maf_fits_what_each_feature_makes_of_those_before() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=3000)
    x = np.column_stack([a, a**2 + 0.3 * rng.normal(size=3000)])
    flow = Flow(2, layers=maf(2, depth=2), seed=0, num_threads=1).fit(x, epochs=40, seed=0)
    truth = stats.norm.logpdf(a) + stats.norm.logpdf(x[:, 1] - a**2, scale=0.3)
    assert flow.log_prob(x).mean() > truth.mean() - 0.15


def test_splines_of_the_preset_learn_what_no_affine_map_can() -> None:
    """One feature, two modes: a spline alone, without any input to its network."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 0.3, 2000), rng.normal(2, 0.3, 2000)])[:, None]
    flow = Flow(1, layers=[Coupling(RationalQuadratic(), MLP(()))], seed=0)
    flow.fit(x, epochs=60, optimizer=Adam(0.02), seed=0)
    truth = np.log(0.5 * stats.norm(-2, 0.3).pdf(x) + 0.5 * stats.norm(2, 0.3).pdf(x)).mean()
    assert flow.log_prob(x).mean() > truth - 0.1
