"""The edge of the region of highest density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pushforward import ContextShift, Flow, Normal
from scipy import stats


@pytest.mark.parametrize("level", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_normal_has_the_edge_of_its_ball(level: float, dim: int) -> None:
    flow = Flow(dim, base=Normal(), layers=[], dtype="float64")
    found = flow.density_threshold(level, n=200_000, seed=0)
    assert found.shape == ()
    inside = stats.chi2.cdf(-2 * (float(found) + dim / 2 * np.log(2 * np.pi)), dim)
    assert inside == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / 200_000))


def test_each_condition_has_its_own() -> None:
    rng = np.random.default_rng(0)
    context = rng.normal(size=(400, 1))
    flow = Flow(2, context=1, seed=0).fit(context + rng.normal(size=(400, 2)), context=context, epochs=3, seed=0)
    found = flow.density_threshold(0.9, context[:6].reshape(2, 3, 1), n=2000, seed=1)
    assert found.shape == (2, 3)
    _, density = flow.sample_and_log_prob((4000, 2, 3), context[:6].reshape(2, 3, 1), seed=2)
    inside = (density >= found).mean(axis=0)
    assert (np.abs(inside - 0.9) < 5 * np.sqrt(0.09 * (1 / 2000 + 1 / 4000))).all()
    assert flow.density_threshold(0.9, context[0], n=2000, seed=1).shape == ()
    again = flow.density_threshold(0.9, context[:6].reshape(2, 3, 1), n=2000, seed=1)
    assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"level": 0}, ValueError, r"level must be in \(0, 1\), not 0"),
        ({"level": 1.0}, ValueError, r"level must be in \(0, 1\), not 1.0"),
        ({"level": "a"}, TypeError, "level must be a number, not 'a'"),
        ({"level": 0.5, "n": 0}, ValueError, "n must be at least 1, not 0"),
        ({"level": 0.5, "context": None}, ValueError, "this flow has context=1"),
    ],
)
def test_arguments_that_are_none(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    flow = Flow(2, context=1, layers=[ContextShift()])
    with pytest.raises(error, match=message):
        flow.density_threshold(**{"context": [0.0], **arguments})
