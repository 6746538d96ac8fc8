"""Flows in PyTensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import NET, Case
from pushforward import Affine, Coupling, Ensemble, Flow, Mixture, StudentT

pytensor = pytest.importorskip("pytensor")

import pytensor.tensor as pt  # noqa: E402
from pushforward import pytensor as bridge  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # those of PyTensor


def made(base: Any) -> Flow:
    return Case("pytensor", lambda dim: [Coupling(Affine(), NET)] * 2, 3, 2, base).flow("float64")


FLOWS = [made(StudentT(4.0)), made(Mixture(2))]
CALLS = [(flow, call) for flow in FLOWS for call in ("log_prob", "forward", "inverse")]
CALLS.append((Ensemble(FLOWS), "log_prob"))
# Graphs that are run as they are: nothing is compiled.
MODE = pytensor.compile.mode.Mode(linker="py", optimizer=None)


@pytest.mark.parametrize(("flow", "call"), CALLS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize(("rows", "conditions"), [((5,), (5,)), ((5,), ()), ((), (4,)), ((3, 1), (4,)), ((), ())])
def test_values_and_derivatives(flow: Any, call: str, rows: Any, conditions: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(*rows, 3)), rng.normal(size=(*conditions, 2))
    x, c = pt.tensor(shape=(None,) * len(rows) + (3,)), pt.tensor(shape=(None,) * len(conditions) + (2,))
    outputs = getattr(bridge, call)(flow, x, c)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    want = getattr(flow, call)(*values)
    got = pytensor.function([x, c], outputs, mode=MODE)(*values)
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_array_equal(a, b)
    seeds = [rng.normal(size=result.shape) for result in got]

    def scalar(x: np.ndarray, c: np.ndarray) -> float:
        results = getattr(flow, call)(x, c)
        results = results if isinstance(results, tuple) else (results,)
        return sum(float((seed * result).sum()) for seed, result in zip(seeds, results, strict=True))

    cost = sum((seed * output).sum() for seed, output in zip(seeds, outputs, strict=True))
    slopes = pytensor.function([x, c], pytensor.grad(cost, [x, c]), mode=MODE)(*values)
    directions = [rng.normal(size=value.shape) for value in values]

    def along(h: float) -> float:
        return scalar(*(value + h * direction for value, direction in zip(values, directions, strict=True)))

    numerical = (along(1e-6) - along(-1e-6)) / 2e-6
    analytical = sum((slope * direction).sum() for slope, direction in zip(slopes, directions, strict=True))
    assert numerical == pytest.approx(analytical, rel=1e-5, abs=1e-6)
    for slope, value in zip(slopes, values, strict=True):
        assert slope.shape == value.shape


def test_one_output_may_be_left_out() -> None:
    flow, z = Flow(2, layers=[], seed=0).initialize(np.random.default_rng(0).normal(size=(50, 2)) * [2, 3]), pt.matrix()
    x, _ = bridge.forward(flow, z)
    slope = pytensor.function([z], pytensor.grad(x.sum(), z), mode=MODE)(np.zeros((4, 2)))
    _, scale = flow.forward(np.eye(2))[0], flow.forward([[1.0, 0], [0, 0]])[0]
    np.testing.assert_allclose(slope[:, 0], scale[0, 0] - scale[1, 0])


def test_what_no_value_makes_right_is_refused() -> None:
    with pytest.raises(ValueError, match="this flow has context=2; context is None"):
        bridge.log_prob(FLOWS[0], pt.matrix())
    with pytest.raises(ValueError, match="this flow has context=0"):
        bridge.log_prob(Flow(2), pt.matrix(), pt.matrix())
    with pytest.raises(ValueError, match="x is a number"):
        bridge.log_prob(Flow(2), 1.0)
