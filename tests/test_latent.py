"""The latent side against SciPy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from pushforward import (
    Circle,
    Coupling,
    Flow,
    Householder,
    Interval,
    Mixture,
    Normal,
    RationalQuadratic,
    StudentT,
    Uniform,
)
from pushforward._model import latent
from pushforward._model.state import state_of
from scipy import stats

BELOW = np.array([1e-20, 0.1, 0.5])


@pytest.mark.parametrize(
    ("base", "quantiles"),
    [
        (Normal(), stats.norm.ppf(BELOW)),
        (StudentT(2.5), stats.t(2.5).ppf(BELOW)),
        (StudentT(2.5, learned=True), stats.t(2.5).ppf(BELOW)),
        (Uniform(), 2 * BELOW - 1),
    ],
)
def test_quantiles_of_a_base(base: Normal | StudentT | Uniform, quantiles: np.ndarray) -> None:
    layers = [Coupling(RationalQuadratic())]
    flow = Flow(2, layers=layers, base=base, support=Interval(0, 1) if base == Uniform() else None)
    t = np.stack([stats.norm.ppf(BELOW), -stats.norm.ppf(BELOW)], axis=1)
    expected = np.stack([quantiles, -quantiles], axis=1)
    np.testing.assert_allclose(latent.from_normal(state_of(flow), t), expected, rtol=1e-9, atol=1e-14)


def test_each_learned_feature_has_its_own_tail() -> None:
    flow = Flow(2, layers=[], base=StudentT(3.0, learned=True))
    flow.parameters = [0.0, 1.0]
    t = stats.norm.ppf([[0.01, 0.01]])
    df = flow.base.degrees(flow.parameters)
    np.testing.assert_allclose(latent.from_normal(state_of(flow), t), [stats.t(df).ppf(0.01)])


def test_angles_are_uniform_under_any_base() -> None:
    flow = Flow(2, layers=[], base=StudentT(3.0), support=[Interval(0, 1), Circle(0, 1)])
    z = latent.from_normal(state_of(flow), stats.norm.ppf([[0.25, 0.25]]))
    np.testing.assert_allclose(z, [[stats.t(3).ppf(0.25), -np.pi / 2]])


@pytest.mark.parametrize("count", [1, 2])
def test_one_feature_is_monotone(count: int) -> None:
    """A reflection turns the order round, two turn it back."""
    assert latent.is_increasing(state_of(Flow(1, layers=[Householder(count)], seed=0))) == (count == 2)
    conditional = Flow(1, layers=[Householder(count), Coupling()], context=2, seed=0)
    assert latent.is_increasing(state_of(conditional)) == (count == 2)


def test_infinite_scores_of_a_mixture_are_its_ends() -> None:
    flow = Flow(2, layers=[], base=Mixture(2), seed=0)
    t = np.array([[-np.inf, 0.3], [np.inf, -0.2], [0.1, np.inf], [0.1, -np.inf]])
    with np.errstate(all="raise", under="ignore"):
        z = flow.base.from_normal(t[2:], state_of(flow).named_parameters())
    assert z[:, 1].tolist() == [np.inf, -np.inf]
    assert np.isfinite(z[:, 0]).all()
