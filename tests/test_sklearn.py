"""The estimators: scikit-learn's own checks, and what they add to a flow."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
from pushforward import (
    MLP,
    Circle,
    ContextNetwork,
    Flow,
    Householder,
    Interval,
    Positive,
    Real,
    StudentT,
    Uniform,
    maf,
    neural_spline,
    realnvp,
)
from pushforward.sklearn import ConditionalFlow, FlowDensity
from scipy import integrate, stats
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

QUICK: dict[str, Any] = {"depth": 2, "hidden": 16, "epochs": 5, "random_state": 0, "num_threads": 1}


def banana(n: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, a**2 + 0.3 * rng.normal(size=n)], axis=1)


def fan(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a feature, and a target whose skewed spread grows with it."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 3, size=(n, 1))
    return x, x[:, 0] * rng.gamma(4.0, size=n)


# -- scikit-learn's checks ---------------------------------------------------------------------------------------


@parametrize_with_checks(
    [
        FlowDensity(),
        FlowDensity(layers="maf", dtype="float64", validation=None),
        ConditionalFlow(),
        ConditionalFlow(layers="realnvp", base=StudentT(5.0)),
    ]
)
def test_scikit_learn_checks(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


def test_none_of_the_checks_is_skipped() -> None:
    """With this variable, which SciPy reads when it is imported, the check of array API input runs too."""
    program = (
        "from sklearn.utils.estimator_checks import check_estimator\n"
        "from pushforward.sklearn import ConditionalFlow, FlowDensity\n"
        "for estimator in (FlowDensity(), ConditionalFlow()):\n"
        "    print({result['status'] for result in check_estimator(estimator)})\n"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "{'passed'}\n{'passed'}\n", run.stderr


# -- the fit -----------------------------------------------------------------------------------------------------


def test_the_default_fit_is_that_of_a_flow() -> None:
    x = banana(7000)  # the default weight decay depends on the number of rows, from 5,000 on
    x = x[np.lexsort(x.T)]
    model = FlowDensity(random_state=3, epochs=1).fit(x)
    flow = Flow(2, seed=3).fit(x, seed=3, epochs=1)
    np.testing.assert_array_equal(model.flow_.parameters, flow.parameters)
    np.testing.assert_array_equal(model.score_samples(x), flow.log_prob(x))
    assert model.score(x) == pytest.approx(flow.log_prob(x).mean())


def test_settings_reach_the_flow_and_its_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fit(flow: Flow, x: np.ndarray, **options: Any) -> Flow:
        seen.update(options)
        return flow.initialize(x)

    monkeypatch.setattr(Flow, "fit", fit)
    model = FlowDensity(
        layers="nice", depth=3, hidden=(5,), base=StudentT(4.0), support=[Real(), Positive()], dtype="float64",
        epochs=7, batch_size=9, learning_rate=0.1, weight_decay=0.2, validation=None, patience=None, max_time=8.0,
        random_state=11, num_threads=1, verbose=True,
    )  # fmt: skip
    flow = model.fit(np.abs(banana())).flow_
    assert sum("Coupling(Additive()" in repr(layer).replace("transform=", "") for layer in flow.layers) == 3
    assert flow.layers[0].conditioner.hidden == (5,)
    assert (flow.base, flow.support, flow.dtype, flow.num_threads) == (
        StudentT(4.0), (Real(), Positive()), np.float64, 1
    )  # fmt: skip
    optimizer = seen.pop("optimizer")
    assert (optimizer.learning_rate, optimizer.weight_decay) == (0.1, 0.2)
    assert seen == {
        "context": None, "weights": None, "groups": None, "validation": 0.0, "epochs": 7, "batch_size": 9,
        "patience": None, "max_time": 8.0, "seed": 11, "progress": True,
    }  # fmt: skip


def test_a_context_network_reaches_the_flow() -> None:
    x = np.random.default_rng(0).normal(size=(200, 12))
    network = ContextNetwork(2, MLP((4,)))
    model = ConditionalFlow(context_network=network, **QUICK).fit(x, x[:, 0] + x[:, 1])
    assert clone(model).get_params() == model.get_params()
    assert model.flow_.context_network == network
    assert model.predict(x[:3]).shape == (3,)


@pytest.mark.parametrize("kind", [FlowDensity, ConditionalFlow])
def test_a_weight_is_a_number_of_rows(kind: type) -> None:
    """Not on average, but to the last bit, and in any order."""
    x = banana(200)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, size=len(x))
    order = rng.permutation(weights.sum())
    repeated = x.repeat(weights, axis=0)[order]
    y = x[:, 1] + x[:, 0]
    weighted = kind(**QUICK).fit(x, y, sample_weight=weights)
    expected = kind(**QUICK).fit(repeated, y.repeat(weights)[order])
    np.testing.assert_array_equal(weighted.flow_.parameters, expected.flow_.parameters)
    present = kind(**QUICK).fit(x[weights > 0], y[weights > 0])
    assert (present.flow_.parameters != expected.flow_.parameters).any()
    constant = kind(**QUICK).fit(x, y, sample_weight=np.full(len(x), 0.1))
    np.testing.assert_array_equal(constant.flow_.parameters, kind(**QUICK).fit(x, y).flow_.parameters)


def test_copies_of_a_row_are_not_held_out() -> None:
    """A model that memorises its training rows does not look good because copies of them are held out."""
    x = banana(30)
    settings = {"epochs": 300, "batch_size": 8, "weight_decay": 0.0, "random_state": 0, "patience": None}
    once = FlowDensity(**settings).fit(x).flow_.history
    often = FlowDensity(**settings).fit(np.repeat(x, 20, axis=0)).flow_.history
    np.testing.assert_array_equal(once["validation_loss"], often["validation_loss"])
    assert once.best_epoch < 150


def test_rows_equal_in_the_features_alone_are_different_rows() -> None:
    x = np.repeat([[0.0], [1.0]], 300, axis=0)
    y = np.random.default_rng(0).normal(size=600) + 3 * x[:, 0]
    model = ConditionalFlow(layers="realnvp", depth=2, hidden=(16,), weight_decay=0.1, random_state=0, epochs=200).fit(
        x, y
    )
    np.testing.assert_allclose(model.predict([[0.0], [1.0]]), [0, 3], atol=0.2)
    low, high = model.predict_quantiles([[0.0]], [0.16, 0.84])[0]
    assert high - low == pytest.approx(2, abs=0.3)


def test_layers_are_a_name_a_function_or_a_list() -> None:
    x = banana(100)
    settings = {"epochs": 1, "random_state": 0}
    by_name = FlowDensity(layers="realnvp", depth=2, hidden=(8,), **settings).fit(x)
    by_function = FlowDensity(layers=functools.partial(realnvp, hidden=(8,)), depth=2, **settings).fit(x)
    by_list = FlowDensity(layers=realnvp(2, depth=2, hidden=(8,)), **settings).fit(x)
    for model in (by_function, by_list):
        np.testing.assert_array_equal(model.flow_.parameters, by_name.flow_.parameters)
    assert repr(FlowDensity(layers=maf, **settings).fit(x).flow_.layers) == repr(maf(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "spline"}, "layers is 'spline'; the presets are .*'neural_spline'.*"),
        ({"layers": [], "depth": 2, "hidden": 3}, "depth and hidden change a preset; with a list of layers"),
        ({"validation": 1.5}, r"validation must be in \[0, 1\), not 1.5"),
        ({"validation": 0.999}, "leaves none of 50 rows to train on"),
        ({"learning_rate": 0.0}, "learning_rate must be in"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"support": [Real()]}, "support has 1 entries; this flow has dim=2"),
        ({"random_state": "seed"}, "cannot be used to seed"),
    ],
)
def test_settings_out_of_their_range_are_refused_by_the_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowDensity(**settings).fit(banana(50))


def test_random_states() -> None:
    x = banana(100)
    settings = {**QUICK, "epochs": 1}
    parameters = [
        FlowDensity(**{**settings, "random_state": state}).fit(x).flow_.parameters
        for state in (1, 1, 2, np.random.RandomState(1), np.random.RandomState(1))
    ]
    same = [[bool((a == b).all()) for b in parameters] for a in parameters]
    assert same == [[i == j or {i, j} in ({0, 1}, {3, 4}) for j in range(5)] for i in range(5)]


# -- a density ---------------------------------------------------------------------------------------------------


def test_rows_go_to_the_latent_side_and_back() -> None:
    x = banana(2000)
    model = FlowDensity(random_state=0, epochs=30, dtype="float64").fit(x)
    z = model.transform(x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.2)
    np.testing.assert_allclose(model.inverse_transform(z), x, atol=1e-9)
    sample = model.sample(2000, random_state=0)
    assert stats.ks_2samp(sample[:, 1], x[:, 1]).pvalue > 1e-3
    np.testing.assert_array_equal(sample, model.flow_.sample(2000, seed=0))
    assert model.sample().shape == (1, 2)
    assert model.fit(x.astype(np.float32)).sample(3).dtype == np.float32


def test_the_global_random_state_of_scikit_learn_counts() -> None:
    model = FlowDensity(**QUICK).fit(banana(100))
    np.random.seed(5)  # noqa: NPY002
    first = model.sample(3)
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(model.sample(3), first)
    assert (model.sample(3) != first).any()


def test_a_support_has_no_mass_outside() -> None:
    x = np.abs(banana())
    model = FlowDensity(support=Positive(), **QUICK).fit(x)
    assert (model.sample(1000) > 0).all()
    assert model.score_samples([[-1.0, 1.0]])[0] == model.score([[-1.0, 1.0], [1.0, 1.0]]) == -np.inf
    with pytest.raises(ValueError, match="outside their support"):
        model.fit(-x)


def test_searches_pipelines_and_cross_validation() -> None:
    x = banana()
    grid = {"epochs": [1, 40], "support": [None, (Real(), Real())], "hidden": [16]}
    search = GridSearchCV(FlowDensity(depth=2, random_state=0, num_threads=1), grid, cv=2).fit(x)
    assert search.best_params_["epochs"] == 40
    assert search.best_score_ > -3
    assert search.best_estimator_.score(x) == search.score(x)
    assert cross_val_score(FlowDensity(**QUICK), x, cv=3).shape == (3,)

    scaled = make_pipeline(StandardScaler(), FlowDensity(**QUICK)).fit(x)
    assert scaled.score_samples(x).shape == (600,)
    label = (x[:, 0] > 0).astype(int)
    classifier = make_pipeline(FlowDensity(**QUICK), LogisticRegression()).fit(x, label)
    assert classifier.score(x, label) > 0.9
    weighted = make_pipeline(FlowDensity(**QUICK)).fit(x, flowdensity__sample_weight=label)
    alone = FlowDensity(**QUICK).fit(x[label == 1])
    np.testing.assert_array_equal(weighted[-1].flow_.parameters, alone.flow_.parameters)


def test_names_of_features_go_in_and_out() -> None:
    table = pd.DataFrame(banana(100), columns=["mass", "radius"])
    model = FlowDensity(**QUICK).fit(table)
    assert model.feature_names_in_.tolist() == ["mass", "radius"]
    assert model.flow_.columns == ("mass", "radius")
    assert model.get_feature_names_out().tolist() == ["flowdensity0", "flowdensity1"]
    latent = model.set_output(transform="pandas").transform(table)
    assert latent.columns.tolist() == ["flowdensity0", "flowdensity1"]
    np.testing.assert_allclose(model.inverse_transform(latent), table, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="feature names should match"):
        model.score_samples(table[["radius", "mass"]])
    assert FlowDensity(**QUICK).fit(table.to_numpy()).flow_.columns is None


@pytest.mark.parametrize("method", ["score_samples", "score", "transform", "inverse_transform", "sample"])
def test_an_estimator_that_is_not_fitted_says_so(method: str) -> None:
    with pytest.raises(ValueError, match="This FlowDensity instance is not fitted yet"):
        getattr(FlowDensity(), method)(*[banana(5)] if method != "sample" else [])


def test_copies_have_the_settings_and_pickles_the_density() -> None:
    x = np.abs(banana(100))
    model = FlowDensity(support=[Positive(), Interval(0, 50)], base=StudentT(4.0), **QUICK).fit(x)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "flow_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).score_samples(x), model.score_samples(x))


# -- a conditional density ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted_fan() -> ConditionalFlow:
    return ConditionalFlow(support=Positive(), random_state=0, num_threads=1, epochs=20).fit(*fan(10_000))


def test_mean_and_quantiles_of_a_skewed_target(fitted_fan: ConditionalFlow) -> None:
    x = np.array([[1.2], [2.0], [2.8]])
    np.testing.assert_allclose(fitted_fan.predict(x), 4 * x[:, 0], rtol=0.06)
    expected = x * stats.gamma(4.0).ppf([0.05, 0.5, 0.95])
    np.testing.assert_allclose(fitted_fan.predict_quantiles(x), expected, rtol=0.1)


def test_mean_quantiles_draws_and_density_are_of_one_distribution(fitted_fan: ConditionalFlow) -> None:
    x = np.array([[1.5], [2.5]])
    draws = fitted_fan.sample(x, 100_000, random_state=0)
    assert draws.shape == (2, 100_000)
    np.testing.assert_allclose(fitted_fan.predict(x), draws.mean(axis=1), rtol=0.01)
    quantiles = fitted_fan.predict_quantiles(x, [0.01, 0.5, 0.99])
    below = (draws[:, None] < quantiles[:, :, None]).mean(axis=2)
    np.testing.assert_allclose(below, [[0.01, 0.5, 0.99]] * 2, atol=0.006)
    y = np.linspace(1e-3, 80, 20_000)
    for row in x:
        density = np.exp(fitted_fan.log_prob(np.tile(row, (len(y), 1)), y))
        assert integrate.trapezoid(density, y) == pytest.approx(1, abs=2e-3)
    assert fitted_fan.log_prob(x, [-1.0, 1.0])[0] == -np.inf


def test_two_targets_keep_their_dependence() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(2000, 1))
    first = x[:, 0] + 0.3 * rng.normal(size=2000)
    y = np.stack([first, first**2 + 0.1 * rng.normal(size=2000)], axis=1)
    model = ConditionalFlow(random_state=0, num_threads=1, depth=4, hidden=32).fit(x, y)
    at = np.array([[-0.5], [0.5]])
    draws = model.sample(at, 20_000, random_state=0)
    assert draws.shape == (2, 2, 20_000)
    assert abs(np.corrcoef(draws[0])[0, 1]) > 0.8
    mean, quantiles = model.predict(at), model.predict_quantiles(at, [0.1, 0.9])
    assert (mean.shape, quantiles.shape) == ((2, 2), (2, 2, 2))
    np.testing.assert_allclose(mean, draws.mean(axis=2), atol=0.02)
    np.testing.assert_allclose(quantiles, np.moveaxis(np.quantile(draws, [0.1, 0.9], axis=2), 0, 2), atol=0.04)
    assert model.log_prob(x, y).shape == (2000,)
    np.testing.assert_array_equal(model.log_prob(x, y), model.flow_.log_prob(y, context=x))


@pytest.mark.parametrize("columns", [1, 2])
def test_a_prediction_does_not_depend_on_the_other_rows(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = banana(200)
    model = ConditionalFlow(**QUICK).fit(x, x[:, :columns] + x[:, 1:])
    together = model.predict(x), model.predict_quantiles(x)
    monkeypatch.setattr("pushforward.sklearn._CHUNK_NUMBERS", 7000)
    np.testing.assert_allclose(model.predict(x), together[0], rtol=1e-12)
    np.testing.assert_array_equal(model.predict_quantiles(x), together[1])


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({"base": StudentT(4.0)}, 1),
        ({"base": StudentT(4.0, learned=True)}, 2),
        ({"layers": [Householder(1), *neural_spline(1, depth=2, hidden=16)]}, 1),
        (
            {
                "base": Uniform(),
                "support": Interval(-5, 40),
                "layers": functools.partial(neural_spline, depth=2, hidden=16, mixing="permutation"),
            },
            2,
        ),
    ],
    ids=["heavy", "learned", "reflected", "box"],
)
def test_bases_and_layers_of_all_kinds(settings: dict[str, Any], columns: int) -> None:
    x = banana(400)
    y = x[:, :1] + x[:, 1:] + np.random.default_rng(1).normal(size=(400, columns))
    model = ConditionalFlow(epochs=10, random_state=0, num_threads=1, **settings).fit(x, y)
    draws = model.sample(x[:2], 50_000, random_state=0)
    # The mean of so many draws has an error of 0.5 % of their deviation.
    np.testing.assert_allclose(model.predict(x[:2]), draws.mean(axis=2), atol=0.02 * draws.std())
    quantiles = np.moveaxis(np.quantile(draws, [0.2, 0.5, 0.7], axis=2), 0, 2)
    np.testing.assert_allclose(model.predict_quantiles(x[:2], [0.2, 0.5, 0.7]), quantiles, atol=0.04 * draws.std())


def test_an_angle_has_a_density_and_draws_but_no_mean() -> None:
    x = banana(300)
    angle = (x[:, 0] + 0.3 * x[:, 1]) % (2 * np.pi)
    model = ConditionalFlow(support=Circle(0, 2 * np.pi), **QUICK).fit(x, angle)
    assert model.sample(x, 2).shape == (300, 2)
    assert np.isfinite(model.log_prob(x, angle)).all()
    for call in (model.predict, model.predict_quantiles):
        with pytest.raises(ValueError, match=r"target 0 is an angle, .*; use sample"):
            call(x)


def test_the_shape_of_the_target_is_that_of_the_predictions() -> None:
    x = banana(100)
    for y, shape in ((x[:, 0], ()), (x[:, :1], (1,)), (x, (2,))):
        model = ConditionalFlow(**QUICK).fit(x, y)
        assert model.n_outputs_ == (shape or (1,))[0]
        assert model.predict(x).shape == (100, *shape)
        assert model.predict_quantiles(x, [0.1, 0.2, 0.3]).shape == (100, *shape, 3)
        assert model.sample(x, 4).shape == (100, *shape, 4)
        assert model.sample(x, 0).shape == (100, *shape, 0)


def test_draws_are_those_of_each_row() -> None:
    x = np.repeat([[0.0], [100.0]], 200, axis=0)
    y = np.stack([x[:, 0], x[:, 0] + 1000], axis=1) + np.random.default_rng(0).normal(size=(400, 2))
    model = ConditionalFlow(layers="realnvp", weight_decay=0.1, random_state=0, epochs=100, num_threads=1).fit(x, y)
    draws = model.sample([[0.0], [100.0]], 50, random_state=0)
    np.testing.assert_allclose(draws.mean(axis=2), [[0, 1000], [100, 1100]], atol=3)


def test_a_search_by_density_or_by_mean() -> None:
    x, y = fan(400)
    grid = {"epochs": [1, 60]}
    model = ConditionalFlow(depth=2, hidden=16, random_state=0, num_threads=1, learning_rate=1e-2)
    by_density = GridSearchCV(model, grid, cv=2, scoring=lambda m, x, y: m.log_prob(x, y).mean()).fit(x, y)
    assert by_density.best_params_ == {"epochs": 60}
    assert -4 < by_density.best_score_ < -2
    by_mean = GridSearchCV(model, grid, cv=2).fit(x, y)
    assert 0 < by_mean.best_score_ < 1


def test_names_of_target_and_features_are_the_flows() -> None:
    table = pd.DataFrame(banana(100), columns=["mass", "radius"])
    model = ConditionalFlow(**QUICK).fit(table[["mass"]], table[["radius"]])
    assert (model.flow_.columns, model.flow_.context_columns) == (("radius",), ("mass",))
    model.fit(table[["mass"]].to_numpy(), table["radius"])
    assert (model.flow_.columns, model.flow_.context_columns) == (None, None)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(20), "y has constant features: 0"),
        (np.stack([np.arange(20.0)] * 2, axis=1), "y has equal features: 0 and 1"),
        (np.arange(19.0), "inconsistent numbers of samples"),
        (np.full(20, np.nan), "Input y contains NaN"),
        (None, "requires y to be passed"),
    ],
)
def test_targets_without_a_density_are_refused(y: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalFlow().fit(banana(20), y)


def test_what_is_wrong_is_said(fitted_fan: ConditionalFlow) -> None:
    for quantiles in ([0.0], [0.5, 1.0], 0.5, [np.nan]):
        with pytest.raises(ValueError, match=r"quantiles must be a sequence of numbers in \(0, 1\)"):
            fitted_fan.predict_quantiles([[1.0]], quantiles)
    with pytest.raises(ValueError, match="n_samples must be at least 0"):
        fitted_fan.sample([[1.0]], -1)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted_fan.log_prob([[1.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\)"):
        fitted_fan.log_prob([[1.0]], [[1.0, 2.0]])
    for method in ("predict", "predict_quantiles", "sample"):
        with pytest.raises(ValueError, match="This ConditionalFlow instance is not fitted yet"):
            getattr(ConditionalFlow(), method)([[1.0]])


def test_without_scikit_learn_the_import_says_how_to_get_it() -> None:
    program = "import sys; sys.modules['sklearn'] = None; import pushforward.sklearn"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stderr.endswith('need scikit-learn 1.6 or newer: pip install "pushforward[sklearn]"\n')
