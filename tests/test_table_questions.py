"""Conditionals and marginals of the model of a table are those of its density, summed and integrated by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pushforward import Boolean, Category, Circle, Column, Positive, Real, TableFlow
from pushforward._questions import chains

X = np.linspace(-9, 9, 721)
RAIN = np.linspace(0.01, 30, 600)


def without_gaps() -> TableFlow:
    """Return a model of a category, two numbers, of which one has an atom, and a boolean."""
    rng = np.random.default_rng(3)
    n = 1500
    kind = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    x = rng.normal(np.where(kind == "a", 2.0, -1.0), 1.0)
    rain = np.where(rng.uniform(size=n) < 0.4, 0.0, rng.gamma(3.0, np.where(x > 0, 1.0, 2.0)))
    flag = rng.uniform(size=n) < np.where(kind == "c", 0.8, 0.3)
    data = {"kind": kind, "x": x, "rain": rain, "flag": flag}
    return TableFlow({"rain": Column(Positive(), atoms=[0]), "x": Real()}).fit(data, epochs=8, seed=0)


def with_gaps() -> TableFlow:
    rng = np.random.default_rng(4)
    n = 1500
    kind = rng.choice(np.array(["a", "b", None], dtype=object), n, p=[0.5, 0.3, 0.2])
    x = rng.normal(np.where(kind == "a", 2.0, -1.0), 1.0)
    x[rng.uniform(size=n) < np.where(kind == "a", 0.4, 0.1)] = np.nan
    return TableFlow({"x": Real()}).fit({"kind": kind, "x": x}, epochs=8, seed=0)


@pytest.fixture(scope="module")
def model() -> TableFlow:
    return without_gaps()


@pytest.fixture(scope="module")
def gappy() -> TableFlow:
    return with_gaps()


@pytest.fixture(params=["importance", "chains"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Answer as always, or send all rows that have no exact answer to chains."""
    if request.param == "chains":
        honest = chains.converged

        def converged(effective: np.ndarray, r_hat: np.ndarray, count: int) -> np.ndarray:
            return honest(effective, r_hat, count) & ~np.isnan(r_hat)

        monkeypatch.setattr(chains, "converged", converged)
    return str(request.param)


def table(n: int, **columns: object) -> dict[str, np.ndarray]:
    return {name: np.array(np.broadcast_to(np.array(values), (n,))) for name, values in columns.items()}


@pytest.mark.parametrize(
    ("known", "method"),
    [({"x": 1.0}, "sums"), ({"rain": 1.0}, "importance sampling and chains")],
)
def test_a_known_category_of_mass_zero_has_the_density_zero(
    model: TableFlow, known: dict[str, float], method: str
) -> None:
    model = copy.deepcopy(model)
    masses = model._model.masses  # type: ignore[union-attr]
    *_, bias = masses.named_parameters().values()  # type: ignore[union-attr]
    # The masses of "kind" come first: a, b and c.
    bias[:3] = np.finfo(np.float32).max
    bias[0] *= -1
    draws = model.conditional(table(2, **known), draws=50, steps=50, seed=0).probabilities("kind")[1]
    assert not draws[:, 0].any()
    given = model.conditional(table(2, kind=["a", "b"], **known), draws=50, steps=50, seed=0)
    assert given.method == method
    assert given.log_marginal[0] == -np.inf
    assert np.isfinite(given.log_marginal[1])
    assert given.effective_size[0] == 0
    assert given.has_converged.tolist() == [False, True]
    np.testing.assert_allclose(given.probabilities("kind")[1], [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    # What a density would be, given what has none, is not known.
    scores = given.log_prob(table(2, kind=["a", "b"], x=1.0, rain=1.0, flag=True))
    assert np.isnan(scores).tolist() == [True, False]
    marginal = model.marginal(["kind", *known]).log_prob(table(2, kind=["a", "b"], **known))
    assert np.isneginf(marginal).tolist() == [True, False]


def test_unknown_categories_are_summed(model: TableFlow) -> None:
    rows = model.sample(30, seed=0)
    given = model.conditional({name: rows[name] for name in ("x", "rain", "flag")})
    joint = np.stack([model.log_prob({**rows, "kind": np.full(30, kind)}) for kind in "abc"], axis=1)
    assert given.method == "sums"
    assert not given.error.any()
    assert given.columns == ("kind",)
    np.testing.assert_allclose(given.log_marginal, np.logaddexp.reduce(joint, axis=1), atol=1e-4)
    values, shares = given.probabilities("kind")
    assert values == ("a", "b", "c")
    np.testing.assert_allclose(shares, np.exp(joint - given.log_marginal[:, None]), atol=1 / 200 + 1e-6)
    np.testing.assert_allclose(
        given.log_prob(rows), model.log_prob(rows) - np.logaddexp.reduce(joint, axis=1), atol=1e-4
    )


def test_numbers_after_all_that_is_known_are_exact(model: TableFlow) -> None:
    given = model.conditional({"kind": "a", "x": 2.0, "flag": True})
    n = len(RAIN)
    dry = model.log_prob(table(1, kind="a", x=2.0, rain=0.0, flag=True))
    wet = np.exp(model.log_prob(table(n, kind="a", x=2.0, rain=RAIN, flag=True)))
    step = RAIN[1] - RAIN[0]
    total = np.exp(dry[0]) + wet.sum() * step
    assert given.method == "sums"
    assert given.log_marginal[0] == pytest.approx(np.log(total), abs=2e-3)
    assert given.probabilities("rain")[1][0, 0] == pytest.approx(np.exp(dry[0]) / total, abs=1 / 200 + 1e-3)
    mean, error = given.mean("rain")
    assert abs(mean[0] - (RAIN * wet).sum() * step / total) < 4 * error[0]
    drawn = given.sample(400, seed=0)
    assert len(drawn["rain"]) == 400
    assert (drawn["x"] == 2.0).all()


def test_numbers_before_what_is_known_are_right_to_their_error(model: TableFlow, way: str) -> None:
    rain = np.array([0.0, 1.0, 3.0, 12.0])
    kind, flag = ["a", "b", "a", "c"], [True, False, True, True]
    given = model.conditional({"kind": kind, "rain": rain, "flag": flag}, steps=200)
    assert given.method == ("importance sampling" if way == "importance" else "importance sampling and chains")
    assert given.has_converged.all()
    for i in range(4):
        density = np.exp(model.log_prob(table(len(X), kind=kind[i], x=X, rain=rain[i], flag=flag[i])))
        step, total = X[1] - X[0], density.sum() * (X[1] - X[0])
        assert abs(given.log_marginal[i] - np.log(total)) < 5 * given.error[i] + 1e-3
        mean = (X * density).sum() * step / total
        assert abs(given.mean("x")[0][i] - mean) < 5 * given.mean("x")[1][i]
        below = np.cumsum(density) * step / total
        found, error = given.quantile("x", 0.5)
        assert abs(found[i] - X[np.searchsorted(below, 0.5)]) < 5 * error[i] + 2 * step


def test_codes_and_numbers_together_are_right_to_their_error(model: TableFlow, way: str) -> None:
    given = model.conditional({"rain": [4.0, 0.5]}, steps=300)
    assert given.columns == ("kind", "x", "flag")
    for i, rain in enumerate((4.0, 0.5)):
        joint = {
            (kind, flag): np.exp(model.log_prob(table(len(X), kind=kind, x=X, rain=rain, flag=flag))).sum()
            * (X[1] - X[0])
            for kind in "abc"
            for flag in (False, True)
        }
        total = sum(joint.values())
        assert abs(given.log_marginal[i] - np.log(total)) < 5 * given.error[i] + 1e-3
        expected = np.array([joint[kind, False] + joint[kind, True] for kind in "abc"]) / total
        shares = given.probabilities("kind")[1][i]
        assert (np.abs(shares - expected) < 5 * np.sqrt(0.25 / given.effective_size[i])).all()


def test_gaps_in_what_is_known_are_unknown(model: TableFlow) -> None:
    known = {"kind": np.array(["a", None], dtype=object), "x": [1.0, 1.0], "rain": [2.0, 2.0], "flag": [True, True]}
    given = model.conditional(known)
    one = model.conditional({"x": 1.0, "rain": 2.0, "flag": True})
    assert given.log_marginal[1] == pytest.approx(one.log_marginal[0], abs=1e-6)
    assert given.log_prob({"kind": ["b", "b"]})[0] == pytest.approx(0, abs=1e-6)
    everything = model.conditional({"x": np.array([None, None], dtype=object)})
    np.testing.assert_allclose(everything.log_marginal, 0, atol=1e-6)


def test_the_density_of_complete_rows_adds_up_to_one(gappy: TableFlow) -> None:
    total = sum(
        np.exp(gappy.marginal(["kind", "x"]).log_prob(table(len(X), kind=kind, x=X))).sum() * (X[1] - X[0])
        for kind in "ab"
    )
    assert total == pytest.approx(1, abs=2e-3)
    drawn = gappy.sample(4000, gaps=False, seed=0)
    share = np.exp(gappy.marginal(["kind"]).log_prob({"kind": ["a"]})[0])
    assert abs(share - (drawn["kind"] == "a").mean()) < 5 * np.sqrt(0.25 / 4000)
    marginal = gappy.marginal("x")
    density, error = marginal.log_prob_and_error({"x": [0.0]})
    both = gappy.marginal(["x", "kind"]).log_prob({"kind": ["a", "b"], "x": [0.0, 0.0]})
    assert density[0] == pytest.approx(np.logaddexp(*both), abs=1e-6)
    assert not error.any()
    assert set(marginal.sample(5, seed=0)) == {"x"}


def test_gaps_of_a_table_are_filled(gappy: TableFlow) -> None:
    rows = gappy.sample(200, seed=1)
    drawn, centers = gappy.impute(rows, seed=0), gappy.impute(rows, method="mean", seed=0)
    there = np.array([kind is not None for kind in rows["kind"]])
    for filled in (drawn, centers):
        assert (filled["kind"][there] == rows["kind"][there]).all()
        assert all(kind in ("a", "b") for kind in filled["kind"])
        assert np.isfinite(filled["x"]).all()
    assert (gappy.impute(rows, seed=0)["x"] == drawn["x"]).all()
    missing = np.isnan(rows["x"]) & (rows["kind"] == "a")
    assert abs(drawn["x"][missing].mean() - 2) < 1
    assert np.ptp(centers["x"][missing]) < 1e-9 + 1.0
    copies = gappy.impute(rows, copies=2, seed=0)
    assert [len(copy["x"]) for copy in copies] == [200, 200]
    assert (copies[0]["x"] != copies[1]["x"]).any()
    frame = gappy.impute(pd.DataFrame(rows), seed=0)
    assert isinstance(frame, pd.DataFrame)
    assert not frame.isna().any().any()


def test_a_number_on_a_circle_is_answered(way: str) -> None:
    rng = np.random.default_rng(0)
    angle = rng.vonmises(0, 2, 600) % (2 * np.pi)
    data = {"angle": angle, "y": np.cos(angle) + 0.5 * rng.normal(size=600)}
    flow = TableFlow({"angle": Circle(0, 2 * np.pi), "y": Real()}).fit(data, epochs=5, seed=0)
    given = flow.conditional({"y": [1.0, -1.0]}, steps=100)
    grid = np.linspace(0, 2 * np.pi, 401)[:-1]
    for i, y in enumerate((1.0, -1.0)):
        density = np.exp(flow.log_prob({"angle": grid, "y": np.full(400, y)}))
        assert abs(given.log_marginal[i] - np.log(density.mean() * 2 * np.pi)) < 5 * given.error[i] + 1e-2


def test_what_cannot_be_answered_is_refused(model: TableFlow) -> None:
    with pytest.raises(ValueError, match="'weather'"):
        model.conditional({"weather": ["dry"]})
    with pytest.raises(ValueError, match="column 'kind', row 1, that the schema does not allow"):
        model.conditional({"kind": ["a", "z"]})
    with pytest.raises(ValueError, match="column 'rain', row 0"):
        model.conditional({"rain": [-1.0]})
    with pytest.raises(ValueError, match="known has no rows"):
        model.conditional({"x": []})
    with pytest.raises(TypeError, match="holds strings"):
        model.conditional({"x": ["one"]})
    given = model.conditional({"x": [0.0]})
    with pytest.raises(ValueError, match="is a number without atoms"):
        given.probabilities("x")
    with pytest.raises(ValueError, match="holds no numbers"):
        given.mean("kind")
    with pytest.raises(ValueError, match="1 were asked about"):
        given.log_prob({"kind": ["a", "b"], "rain": [1.0, 1.0], "flag": [True, True]})
    with pytest.raises(ValueError, match="columns must be names"):
        model.marginal(["x", "x"])
    assert repr(model.marginal(["x"])) == "density of x of a table of 4 columns"
    assert repr(given).startswith("density of kind, rain, flag, for 1 row, by sums\nlog marginal    ")


def test_answers_are_those_of_the_saved_model(model: TableFlow, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    one, other = (flow.conditional({"rain": 1.0}) for flow in (model, TableFlow.load(tmp_path / "model")))
    assert one.log_marginal == other.log_marginal
    assert (one.sample(9, seed=0)["x"] == other.sample(9, seed=0)["x"]).all()


def test_a_row_of_categories_alone_has_sums() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(["x", "y"], 500)
    data = {"a": a, "b": np.where(rng.uniform(size=500) < 0.9, a, "z"), "c": rng.uniform(size=500) < 0.5}
    flow = TableFlow({"b": Category(["x", "y", "z"]), "c": Boolean()}).fit(data, epochs=5, seed=0)
    given = flow.conditional({"b": ["x", "z"]})
    assert given.method == "sums"
    joint = [[flow.log_prob({"a": [a], "b": ["x"], "c": [c]})[0] for c in (False, True)] for a in ("x", "y")]
    expected = np.exp(joint - given.log_marginal[0]).sum(axis=1)
    np.testing.assert_allclose(given.probabilities("a")[1][0], expected, atol=1 / 200 + 1e-6)


def test_rare_levels_keep_their_shares() -> None:
    rng = np.random.default_rng(0)
    levels = np.array(["often", "rare a", "rare b", "rare c"], dtype=object)
    kind = np.concatenate([np.full(190, levels[0]), np.repeat(levels[1:], [4, 3, 2])])
    data = {"kind": kind, "x": rng.normal(size=199) + 3 * (kind != "often")}
    flow = TableFlow().fit(data, epochs=5, seed=0)
    given = flow.conditional({"x": np.array([4.0, 0.0])})
    joint = np.stack([flow.log_prob({"kind": np.full(2, level), "x": [4.0, 0.0]}) for level in levels], axis=1)
    np.testing.assert_allclose(given.log_marginal, np.logaddexp.reduce(joint, axis=1), atol=1e-4)
    values, shares = given.probabilities("kind")
    expected = np.exp(joint - given.log_marginal[:, None])
    order = [values.index(level) for level in levels]
    np.testing.assert_allclose(shares[:, order], expected, atol=0.08)
    found = np.stack([given.log_prob({"kind": np.full(2, level)}) for level in levels], axis=1)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-4)
    known = flow.conditional({"kind": ["rare b", "often"]})
    marginal = flow.marginal(["kind"]).log_prob({"kind": levels})
    assert np.exp(marginal).sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(known.log_marginal, marginal[[2, 0]], atol=1e-6)
    assert (np.diff(np.exp(marginal[1:])) < 0).all()
    assert known.sample(3, seed=0)["kind"].tolist() == ["rare b", "often"] * 3


def test_rare_levels_are_asked_and_answered() -> None:
    rng = np.random.default_rng(0)
    kind = np.concatenate([np.full(150, "often", dtype=object), np.array(["a", "a", "a", "b", "b", "c"], dtype=object)])
    x = rng.normal(np.where(kind == "often", 0.0, 3.0))
    flow = TableFlow().fit({"kind": kind, "x": x}, epochs=3, seed=0)
    found = flow.conditional({"x": [0.5, 2.5]})
    values, shares = found.probabilities("kind")
    joint = np.stack([flow.log_prob({"kind": [value] * 2, "x": [0.5, 2.5]}) for value in values], axis=1)
    expected = np.exp(joint) / np.exp(joint).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, expected, atol=0.01)  # of draws
    log_prob = found.log_prob({"kind": ["a", "b"]})
    picked = [expected[0, values.index("a")], expected[1, values.index("b")]]
    np.testing.assert_allclose(np.exp(log_prob), picked, rtol=1e-9)
    drawn = pd.Series(flow.conditional({"x": [2.5]}, draws=5000).sample(5000, seed=0)["kind"]).value_counts()
    assert drawn["a"] / drawn["c"] == pytest.approx(3.5 / 1.5, abs=0.8)
    known = flow.conditional({"kind": ["a"]})
    assert known.log_prob({"x": [1.0]})[0] == pytest.approx(
        flow.log_prob({"kind": ["a"], "x": [1.0]})[0] - known.log_marginal[0]
    )
    filled = flow.impute({"kind": np.array([None, "b"], dtype=object), "x": [3.0, 3.0]}, seed=0)["kind"]
    assert filled[1] == "b"
    assert filled[0] in values
    assert flow.impute({"kind": np.array([None], dtype=object), "x": [0.0]}, method="mean")["kind"][0] == "often"
