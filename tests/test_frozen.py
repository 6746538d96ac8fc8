"""Layers that a fit leaves as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import LU, ActNorm, Adam, Coupling, Ensemble, Flow, realnvp

X = np.random.default_rng(0).gamma(2.0, size=(600, 3))
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 50, "seed": 3}


def made(dtype: str = "float32") -> Flow:
    flow = Flow(3, layers=[*realnvp(3, depth=2, hidden=(8,)), LU(), ActNorm(), Coupling()], dtype=dtype, seed=1)
    flow.initialize(X)
    for name, values in flow.named_parameters().items():
        if name.endswith("bias"):
            values[...] = -0.0  # steps of 0 make 0 of it
            values[0] = np.finfo(values.dtype).tiny / 4
    return flow


def bits(flow: Flow) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in flow.named_parameters().items()}


def layer_of(name: str) -> int:
    return int(name.split(".")[1]) if name.startswith("layers.") else -1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 5.0])
@pytest.mark.parametrize("frozen", [(0,), [-1, 2], range(5)])
def test_frozen_layers_stay_to_the_bit_and_the_others_move(dtype: str, decay: float, frozen: Any) -> None:
    flow = made(dtype)
    before, layers = bits(flow), len(flow.layers)
    flow.fit(X, frozen=frozen, optimizer=Adam(weight_decay=decay), validation=None, **OPTIONS)
    kept = {index % layers for index in frozen}
    for name, values in bits(flow).items():
        assert (values == before[name]) == (layer_of(name) in kept), name


def test_nothing_moves_if_every_layer_is_frozen() -> None:
    flow = made()
    before = flow.parameters.copy()
    flow.fit(X, frozen=range(len(flow.layers)), validation=None, **OPTIONS)
    np.testing.assert_array_equal(flow.parameters, before)
    assert flow.history.epochs[-1].grad_norm == 0


def test_the_others_step_as_if_the_frozen_layers_had_no_gradient() -> None:
    flow, twin = made(), made()
    flow.fit(X, frozen=[0], epochs=1, batch_size=1000, validation=None, clip_norm=1e-3, seed=0)
    _, gradient = twin.loss_and_grad(X)
    start = sum(values.size for name, values in twin.named_parameters().items() if layer_of(name) == 0)
    gradient[:start] = 0
    assert flow.history.epochs[0].grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


def test_a_first_fit_leaves_frozen_layers_as_they_start() -> None:
    layers = [Coupling(), LU(), ActNorm()]
    started = Flow(3, layers=layers, seed=1).initialize(X)
    fitted = Flow(3, layers=layers, seed=1).fit(X, frozen=[1, 2], validation=None, **OPTIONS)
    before = bits(started)
    for name, values in bits(fitted).items():
        assert (values == before[name]) == (layer_of(name) in (1, 2)), name


def test_a_fit_without_frozen_layers_is_the_one_that_it_was() -> None:
    one, other = (made().fit(X, frozen=frozen, **OPTIONS) for frozen in ((), []))
    assert one.parameters.tobytes() == other.parameters.tobytes()


def test_the_default_flow_may_have_frozen_layers() -> None:
    flow = Flow(3, seed=0).fit(X, frozen=[0], epochs=2, seed=0)
    before = bits(flow)
    flow.fit(X, frozen=[0], epochs=2, validation=None, seed=1)
    assert [name for name, values in bits(flow).items() if values == before[name]] == [
        name for name in before if layer_of(name) == 0
    ]


def test_ensembles_have_them() -> None:
    ensemble = Ensemble([made(), made()])
    before = bits(ensemble.flows[0])
    ensemble.fit(X, frozen=[0], epochs=1, seed=0)
    assert all(bits(flow)[name] == before[name] for flow in ensemble.flows for name in before if layer_of(name) == 0)


def test_a_resumed_fit_has_the_same_frozen_layers(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    whole = made().fit(X, frozen=[0, 2], checkpoint=path, **OPTIONS)
    again = made().fit(X, frozen=[2, 0], resume=path, **OPTIONS)
    assert again.parameters.tobytes() == whole.parameters.tobytes()
    with pytest.raises(ValueError, match=r"frozen was \[0, 2\], now None"):
        made().fit(X, resume=path, **OPTIONS)
    with pytest.raises(ValueError, match=r"frozen was \[0, 2\], now \[0\]"):
        made().fit(X, frozen=[0], resume=path, **OPTIONS)


@pytest.mark.parametrize(
    ("frozen", "error", "message"),
    [
        ([7], ValueError, r"frozen\[0\] is 7; this flow has 7 layers, numbered from 0"),
        ([0, -8], ValueError, r"frozen\[1\] must be at least -7, not -8"),
        (["0"], TypeError, r"frozen\[0\] must be an integer, not '0'"),
        ("01", TypeError, "frozen must be a sequence of numbers of layers, not '01'"),
        (3, TypeError, "frozen must be a sequence of numbers of layers, not 3"),
        ([True], TypeError, r"frozen\[0\] must be an integer, not True"),
    ],
)
def test_other_layers_are_refused_before_any_work(frozen: Any, error: type[Exception], message: str) -> None:
    flow = made()
    assert len(flow.layers) == 7
    before = bits(flow)
    with pytest.raises(error, match=message):
        flow.fit(X, frozen=frozen)
    assert bits(flow) == before
