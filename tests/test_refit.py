"""Fits after the first: standardised anew, and from the beginning."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import (
    LU,
    Affine,
    Circle,
    ContextNetwork,
    Coupling,
    Ensemble,
    Flow,
    Interval,
    Mixture,
    Permutation,
    Positive,
    neural_spline,
    realnvp,
)

OPTIONS: dict[str, Any] = {"epochs": 4, "batch_size": 100, "seed": 3}


def banana(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, a**2 + 0.5 * rng.normal(size=n)], axis=1)


@pytest.mark.parametrize("layers", [lambda: neural_spline(2, depth=4, hidden=32), lambda: realnvp(2)])
def test_a_narrow_target_is_reached_as_by_a_fresh_fit(layers: Callable[[], Any]) -> None:
    """The scale goes to 0.003 of what it was: from the old standardisation a refit ends nats short."""
    wide, narrow = 10 + banana(2000, 0), 3 + 0.003 * banana(2000, 1)
    test = 3 + 0.003 * banana(20_000, 2)
    options: dict[str, Any] = {"epochs": 40, "seed": 3}
    flow = Flow(2, layers=layers(), seed=1).fit(wide, **options)
    fresh = Flow(2, layers=layers(), seed=1).fit(narrow, **options).log_prob(test).mean()
    cold = copy.deepcopy(flow).fit(narrow, **options).log_prob(test).mean()
    again = flow.fit(narrow, restandardize=True, **options).log_prob(test).mean()
    assert again > fresh - 0.03
    assert again > cold + 0.1


X = np.random.default_rng(0).gamma(2.0, size=(300, 3))
C = np.random.default_rng(1).normal(size=(300, 2))


def test_the_standardisation_is_that_of_the_rows_and_the_parameters_stay() -> None:
    flow = Flow(3, layers=realnvp(3, depth=2, hidden=(8,)), context=2, seed=1).fit(X, context=C, **OPTIONS)
    twin = Flow(3, layers=flow.layers, context=2, seed=5).initialize(50 + 3 * X, 7 * C)
    before = flow.parameters.copy()
    frozen = range(len(flow.layers))
    flow.fit(50 + 3 * X, context=7 * C, restandardize=True, frozen=frozen, validation=None, **OPTIONS)
    assert flow.parameters.tobytes() == before.tobytes()
    twin.parameters = before
    z = np.random.default_rng(2).normal(size=(50, 3))
    np.testing.assert_array_equal(flow.forward(z, 7 * C[:50])[0], twin.forward(z, 7 * C[:50])[0])
    # The same density in other units.
    first = Flow(3, layers=flow.layers, context=2, seed=1).initialize(X, C)
    first.parameters = before
    np.testing.assert_allclose(
        flow.log_prob(50 + 3 * X, 7 * C), first.log_prob(X, C) - 3 * np.log(3), rtol=1e-3, atol=1e-3
    )


def test_a_first_fit_is_what_it_is() -> None:
    one, other = (Flow(3, layers=realnvp(3), seed=0).fit(X, restandardize=anew, **OPTIONS) for anew in (False, True))
    assert one.parameters.tobytes() == other.parameters.tobytes()


def test_supports_keep_their_bounds() -> None:
    flow = Flow(3, support=[Positive(), Interval(0, 50), Circle(0, 50)], layers=neural_spline(3, depth=2), seed=0)
    flow.fit(X, **OPTIONS).fit(0.003 * X, restandardize=True, **OPTIONS)
    assert np.isfinite(flow.log_prob(0.003 * X)).all()
    assert (flow.log_prob([[-1.0, 1, 1], [1, 60, 1], [1, 1, 60]]) == -np.inf).all()
    mixed = Flow(3, base=Mixture(2), layers=[LU()], seed=0).fit(X, **OPTIONS)
    assert np.isfinite(mixed.fit(1e6 + X, restandardize=True, **OPTIONS).log_prob(1e6 + X)).all()


def test_a_resumed_fit_keeps_the_standardisation_that_it_took(tmp_path: Path) -> None:
    def fitted() -> Flow:
        return Flow(3, layers=realnvp(3, depth=2, hidden=(8,)), seed=1).fit(X, **OPTIONS)

    path = tmp_path / "checkpoint"
    whole = fitted().fit(9 * X, restandardize=True, **OPTIONS)

    def stop(_: Flow, epoch: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted().fit(9 * X, restandardize=True, checkpoint=path, checkpoint_every=3, callback=stop, **OPTIONS)
    for again in (False, True):
        resumed = fitted().fit(9 * X, restandardize=again, resume=path, **OPTIONS)
        assert resumed.parameters.tobytes() == whole.parameters.tobytes()
        assert resumed.sample(5, seed=0).tobytes() == whole.sample(5, seed=0).tobytes()


def test_ensembles_have_it() -> None:
    ensemble = Ensemble.of(3, members=2, layers=[LU()], seed=0).fit(X, **OPTIONS)
    ensemble.fit(100 + 0.01 * X, restandardize=True, **OPTIONS)
    np.testing.assert_allclose(ensemble.sample(500, seed=0).mean(axis=0), 102e-2 * 100 - 2 + 0.02, atol=0.1)


def test_errors_come_before_any_work() -> None:
    flow = Flow(3, layers=[LU()], seed=0).fit(X, **OPTIONS)
    before = pickle.dumps(flow)
    with pytest.raises(TypeError, match="restandardize must be True or False, not 1"):
        flow.fit(X, restandardize=1)
    constant = np.array(X)
    constant[:, 1] = 3
    with pytest.raises(ValueError, match="constant features: 1"):
        flow.fit(constant, restandardize=True)
    assert pickle.dumps(flow) == before


# -- from the beginning ------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[int], Flow]] = {
    "default": lambda seed: Flow(3, seed=seed),
    "base": lambda seed: Flow(3, base=Mixture(2), seed=seed),
    "layers": lambda seed: Flow(
        3, layers=[Coupling(Affine(), mask="random"), Permutation("random"), LU("random")], seed=seed, dtype="float64"
    ),
    "support": lambda seed: Flow(3, support=Positive(), columns=["a", "b", "c"], num_threads=1, seed=seed),
    "context": lambda seed: Flow(3, context=2, context_network=ContextNetwork(3), seed=seed),
}


def same(a: Flow, b: Flow) -> bool:
    return repr(a) == repr(b) and a.parameters.tobytes() == b.parameters.tobytes()


@pytest.mark.parametrize("name", MAKERS)
def test_a_flow_that_is_reset_is_a_new_one(name: str) -> None:
    make = MAKERS[name]
    options = {"context": C, **OPTIONS, "epochs": 2} if name == "context" else {**OPTIONS, "epochs": 2}
    flow = make(4).fit(np.exp(X[:150]), **{**options, "context": C[:150] if name == "context" else None})
    copies = [copy.deepcopy(flow), flow.astype(flow.dtype)]
    assert flow.history is not None
    assert flow.reset(seed=7) is flow
    assert same(flow, make(7))
    assert flow.history is None
    assert (flow.columns, flow.num_threads) == (make(7).columns, make(7).num_threads)
    assert all(same(twin.reset(seed=7), flow) for twin in copies)
    assert same(flow.fit(X, **options), make(7).fit(X, **options))


def test_a_loaded_flow_keeps_what_was_chosen(tmp_path: Path) -> None:
    flow = Flow(3, seed=0).fit(X, **OPTIONS)
    flow.save(tmp_path / "flow.safetensors")
    loaded = Flow.load(tmp_path / "flow.safetensors").reset(seed=1)
    assert repr(loaded) == repr(flow)
    assert np.isfinite(loaded.fit(X, **OPTIONS).log_prob(X)).all()


def test_a_resumed_flow_is_open_again(tmp_path: Path) -> None:
    Flow(3, seed=0).fit(X, checkpoint=tmp_path / "checkpoint", **OPTIONS)
    flow = Flow(3, seed=0).fit(X, resume=tmp_path / "checkpoint", **OPTIONS)
    assert same(flow.reset(seed=2), Flow(3, seed=2))
