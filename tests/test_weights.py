"""A weight says how often a row is there: a row of weight 0 is not."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from pushforward import LU, MLP, ContextNetwork, Flow, Positive, realnvp
from pushforward._check import diagnostics
from pushforward._io import rows as rows_module
from pushforward._io.rows import Rows
from pushforward.kde import FlowKDE

RNG = np.random.default_rng(0)
X, C, W = RNG.gamma(2.0, size=(300, 2)), RNG.normal(size=(300, 1)), RNG.uniform(0.5, 2, size=300)
BAD = {"outside": -1.0, "nan": np.nan, "infinite": np.inf}
every_value = pytest.mark.parametrize("value", BAD.values(), ids=BAD)
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 50, "seed": 0}


def with_weightless(value: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows with others of weight 0 among them."""
    x, c, w = (np.insert(array, [0, 7, 7, 300], 0.0, axis=0) for array in (X, C, W))
    x[w == 0, 1] = value
    c[w == 0] = value
    return x, c, w


def flow(**options: Any) -> Flow:
    return Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), support=Positive(), context=1, seed=0, **options)


@every_value
def test_a_fit_is_that_of_the_other_rows(value: float) -> None:
    x, c, w = with_weightless(value)
    assert np.isfinite(flow().fit(x, context=c, weights=w, **OPTIONS).history["train_loss"]).all()
    for validation in (None, (X, C)):
        got = flow().fit(x, context=c, weights=w, validation=validation, **OPTIONS)
        want = flow().fit(X, context=C, weights=W, validation=validation, **OPTIONS)
        for a, b in zip(got._state.standardization, want._state.standardization, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        assert np.isfinite(got.history["train_loss"]).all()
        assert len(got.history) == len(want.history)
        assert [epoch.steps for epoch in got.history] == [epoch.steps for epoch in want.history]


@every_value
@pytest.mark.parametrize("network", [None, ContextNetwork(2, MLP((4,)))], ids=["plain", "context network"])
def test_loss_and_gradient_are_those_of_the_other_rows(network: ContextNetwork | None, value: float) -> None:
    x, c, w = with_weightless(value)
    fitted = flow(dtype="float64", context_network=network).fit(X, context=C, **OPTIONS)
    loss, gradient = fitted.loss_and_grad(x, c, w)
    expected, expected_gradient = fitted.loss_and_grad(X, C, W)
    assert loss == expected
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert np.isfinite(fitted.loss_and_grad(x, C[0], w)[0])


@every_value
def test_a_check_is_that_of_the_other_rows(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(diagnostics, "LEAST_CLASSIFIED", 1000)  # trees take seconds
    x, c, w = with_weightless(value)
    fitted = flow().fit(X, context=C, **OPTIONS)
    assert repr(fitted.check(x, c, w, seed=0)) == repr(fitted.check(X, C, W, seed=0))


@every_value
def test_pictures_are_those_of_the_other_rows(value: float) -> None:
    plot = pytest.importorskip("pushforward.plot")
    x, c, w = with_weightless(value)
    fitted = flow().fit(X, context=C, **OPTIONS)
    plot.corner(fitted, x, context=c, weights=w, n=100)
    for draw in (plot.calibration, functools.partial(plot.coverage, seed=0)):
        titles = [
            [ax.get_title() for ax in draw(fitted, rows, context=context, weights=weights).axes]
            for rows, context, weights in ((x, c, w), (X, C, W))
        ]
        assert titles[0] == titles[1]


@every_value
def test_estimators_and_kde(value: float) -> None:
    x, _, w = with_weightless(value)
    kde = FlowKDE(x.T, weights=w, flow=Flow(2, layers=[], support=Positive()), epochs=1)
    assert np.isfinite(kde.logpdf(X.T)).all()
    if value == -1.0:  # scikit-learn refuses the others before it looks at weights
        sklearn = pytest.importorskip("pushforward.sklearn")
        options = {"support": Positive(), "epochs": 1, "depth": 1, "hidden": 4, "random_state": 0}
        sklearn.FlowDensity(**options).fit(x, sample_weight=w)
        sklearn.ConditionalFlow(**options).fit(np.zeros((304, 1)), x, sample_weight=w)


def test_bad_rows_with_weight_are_found_where_they_are() -> None:
    x, c, w = with_weightless(np.nan)
    x[5, 0] = np.inf
    with pytest.raises(ValueError, match="x has 1 row with NaN or infinity, first at row 5"):
        flow().fit(x, context=c, weights=w)
    x[5, 0] = -1
    with pytest.raises(ValueError, match=r"x has 1 row outside their support, first at row 5: feature 0 is -1\.0"):
        flow().fit(x, context=c, weights=w)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_walk_leaves_them_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, large: bool, mapped: bool) -> None:
    if large:
        monkeypatch.setattr(rows_module, "_MOST_SHUFFLED_ROWS", 100)
        monkeypatch.setattr(rows_module, "_BLOCK_ROWS", 16)
        monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 2000)
    x, weights = np.arange(1000.0)[:, None], np.random.default_rng(0).integers(0, 2, 1000).astype(float)
    weights[32:64] = 0  # two whole blocks
    if mapped:
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    table = Rows.of(x, None, weights)
    train, held = table.split(0.3, np.random.default_rng(1))
    expected = np.flatnonzero(weights)
    walked = np.concatenate([window.x[window.index, 0] for window in table.windows()])
    np.testing.assert_array_equal(walked, expected)
    assert [table.number_of(i) for i in (0, 100, -1)] == [expected[i] for i in (0, 100, -1)]
    rng = np.random.default_rng(2)
    parts = [np.concatenate([b.x[b.index, 0] for b in part.batches(20, rng)]) for part in (train, held)]
    assert [len(part) for part in (table, train, held)] == [len(expected), *map(len, parts)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), expected)


@pytest.mark.parametrize("validation", [0.2, None])
def test_rows_of_weight_0_may_hold_anything(validation: float | None) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(300, 2)), rng.uniform(0.5, 1, size=300)
    weights[::5] = 0
    spoiled = x.copy()
    spoiled[::5] = [[np.nan, np.inf]]
    one, other = (
        Flow(2, layers=[LU()], seed=0).fit(rows, weights=weights, validation=validation, epochs=2, seed=0)
        for rows in (x, spoiled)
    )
    assert one.parameters.tobytes() == other.parameters.tobytes()


@pytest.mark.parametrize("context", [0, 1])
def test_weights_of_validation_rows_are_repetitions(context: int) -> None:
    rng = np.random.default_rng(0)
    x, held = rng.normal(size=(300, 2)), rng.normal(1.0, 2.0, size=(40, 2))
    given = {"context": rng.normal(size=(300, 1))} if context else {}
    conditions = rng.normal(size=(40, 1)) if context else None
    counts = rng.integers(0, 4, size=40)
    rows = np.repeat(np.arange(40), counts)
    spoiled = np.where(counts[:, None] > 0, held, np.nan)
    repeated = (held[rows], None if conditions is None else conditions[rows])
    losses = [
        Flow(2, context=context, layers=[LU()], seed=0).fit(x, validation=part, epochs=3, seed=0, **given).history
        for part in ((spoiled, conditions, 0.25 * counts), repeated)
    ]
    np.testing.assert_allclose(losses[0]["validation_loss"], losses[1]["validation_loss"], rtol=1e-9)
    assert losses[0].best_epoch == losses[1].best_epoch
    with pytest.raises(ValueError, match=r"validation weights has shape \(3,\); with 40 rows, \(40,\) is expected"):
        Flow(2, context=context).fit(x, validation=(held, conditions, np.ones(3)), **given)
    with pytest.raises(ValueError, match=r"validation weights must not be negative; -1\.0 at row 0"):
        Flow(2, context=context).fit(x, validation=(held, conditions, -np.ones(40)), **given)
