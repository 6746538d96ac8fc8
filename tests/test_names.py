"""Columns that have names: equal ones are fine, others and other orders are refused by every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pushforward import Flow
from pushforward.kde import FlowKDE

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(60, 2)) * [1, 9], columns=["a", "b"])
C = pd.DataFrame(RNG.normal(size=(60, 2)), columns=["c", "d"])
ZEROS, ONES = np.zeros((60, 2)), np.ones(60)
Call = Callable[[Flow, Any, Any], Any]


@pytest.fixture(scope="module")
def flow() -> Flow:
    return Flow(2, layers=[], context=2, seed=0).initialize(X, C)


def corner(flow: Flow, x: Any, c: Any) -> Any:
    return pytest.importorskip("pushforward.plot").corner(flow, x, context=c, n=100)


def calibration(flow: Flow, x: Any, c: Any) -> Any:
    return pytest.importorskip("pushforward.plot").calibration(flow, x, context=c)


def coverage(flow: Flow, x: Any, c: Any) -> Any:
    return pytest.importorskip("pushforward.plot").coverage(flow, x, context=c)


TABLES: dict[str, Call] = {
    "log_prob": lambda flow, x, c: flow.log_prob(x, c),
    "inverse": lambda flow, x, c: flow.inverse(x, c),
    "log_prob_and_grad": lambda flow, x, c: flow.log_prob_and_grad(x, c),
    "loss_and_grad": lambda flow, x, c: flow.loss_and_grad(x, c),
    "inverse_vjp": lambda flow, x, c: flow.inverse_vjp(x, ZEROS, ONES, c),
    "log_prob_vjp": lambda flow, x, c: flow.log_prob_vjp(x, ONES, c),
    "inverse_and_log_prob": lambda flow, x, c: flow.inverse_and_log_prob(x, c),
    "initialize": lambda flow, x, c: flow.initialize(x, c),
    "fit": lambda flow, x, c: flow.fit(x, context=c, epochs=1),
    "validation": lambda flow, x, c: flow.fit(np.array(X), context=np.array(C), validation=(x, c), epochs=1),
    "check": lambda flow, x, c: flow.check(x, c),
    "corner": corner,
    "calibration": calibration,
    "coverage": coverage,
}
CONTEXTS: dict[str, Call] = TABLES | {
    "forward": lambda flow, _, c: flow.forward(ZEROS, c),
    "forward_vjp": lambda flow, _, c: flow.forward_vjp(ZEROS, ZEROS, ONES, c),
    "forward_and_log_prob": lambda flow, _, c: flow.forward_and_log_prob(ZEROS, c),
    "sample": lambda flow, _, c: flow.sample(60, c),
    "sample_and_log_prob": lambda flow, _, c: flow.sample_and_log_prob(60, c),
}
OTHERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "permuted": (lambda table: table[list(table.columns[::-1])], "the same columns in the order"),
    "renamed": (lambda table: table.set_axis(["x", "y"], axis=1), "has the columns 'x', 'y'; those of this flow are"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("call", TABLES)
def test_a_table_with_other_columns_is_refused(flow: Flow, call: str, other: str) -> None:
    change, message = OTHERS[other]
    with pytest.raises(ValueError, match=message):
        TABLES[call](flow, change(X), C)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("call", CONTEXTS)
def test_a_context_with_other_columns_is_refused(flow: Flow, call: str, other: str) -> None:
    change, message = OTHERS[other]
    with pytest.raises(ValueError, match=f"context has the columns .*{message.partition(';')[2]}"):
        CONTEXTS[call](flow, X, change(C))


@pytest.mark.parametrize("call", CONTEXTS)
def test_the_same_columns_and_arrays_are_taken(flow: Flow, call: str) -> None:
    for x, c in ((X, C), (np.array(X), np.array(C)), (X, np.array(C)), (pd.DataFrame(np.array(X)), C)):
        CONTEXTS[call](flow, x, c)
    unnamed = Flow(2, layers=[], context=2, seed=0)
    if call != "validation":
        CONTEXTS[call](unnamed.initialize(np.array(X), np.array(C)), X, C)


def test_validation_rows_have_the_columns_of_the_rows_of_the_first_fit() -> None:
    with pytest.raises(ValueError, match="validation has the columns 'b', 'a'"):
        Flow(2, layers=[]).fit(X, validation=X[["b", "a"]], epochs=1)


def test_a_later_fit_keeps_the_names() -> None:
    flow = Flow(2, layers=[]).fit(X, epochs=1)
    assert flow.fit(np.array(X), epochs=1).columns == ("a", "b")
    flow.columns = None
    assert flow.fit(X[["b", "a"]], epochs=1).columns == ("b", "a")


def test_targets_with_other_columns_are_refused() -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    model = sklearn.ConditionalFlow(depth=1, hidden=4, epochs=1, random_state=0).fit(C, X)
    model.log_prob(C, X)
    model.log_prob(C, np.array(X))
    with pytest.raises(ValueError, match="y has the columns 'b', 'a'; this flow has the same columns in the order"):
        model.log_prob(C, X[["b", "a"]])


def test_points_of_a_kde_have_no_names() -> None:
    """There the columns are points."""
    flow = Flow(2, layers=[])
    flow.columns = ["a", "b"]
    kde = FlowKDE(X.T, flow=flow, epochs=1)
    assert kde.logpdf(X.T).shape == (60,)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), [], "ab", "a", 3, ("a", 3), (None, None)])
def test_names_are_checked_when_they_are_assigned(flow: Flow, names: Any) -> None:
    for attribute in ("columns", "context_columns"):
        before = getattr(flow, attribute)
        with pytest.raises((TypeError, ValueError), match=rf"^{attribute} "):
            setattr(flow, attribute, names)
        assert getattr(flow, attribute) == before


def test_names_that_were_assigned_are_saved(tmp_path: Any) -> None:
    flow = Flow(2, layers=[])
    flow.columns = pd.Index(["a", "b"])
    flow.save(tmp_path / "flow.safetensors")
    assert Flow.load(tmp_path / "flow.safetensors").columns == ("a", "b")
