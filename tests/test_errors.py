"""Refusals: the type of the exception, a message that says what was expected and what came, and nothing changed."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pushforward import Adam, Ensemble, Flow, Real, realnvp
from pushforward._io import scan
from pushforward._io.rows import Rows
from pushforward._io.scan import check_density

DIM, CONTEXT, ROWS = 3, 2, 20
RNG = np.random.default_rng(0)
X, C = RNG.normal(size=(ROWS, DIM)), RNG.normal(size=(ROWS, CONTEXT))


def refused(exception: type[Exception], message: str) -> Any:
    """Expect an exception whose message begins with this."""
    return pytest.raises(exception, match="^" + re.escape(message))


def altered(array: np.ndarray, at: Any, value: float) -> np.ndarray:
    copy = array.copy()
    copy[at] = value
    return copy


# -- arrays ------------------------------------------------------------------------------------------------------


def pickled_flow(context: int = 0, fitted: bool = True) -> bytes:
    layers = realnvp(DIM, depth=2, hidden=(4,))
    flow = Flow(DIM, layers=layers, context=context, seed=0, num_threads=1)
    return pickle.dumps(flow.fit(X, context=C if context else None, epochs=2, seed=0) if fitted else flow)


PICKLED = {"fitted": pickled_flow(), "conditional": pickled_flow(CONTEXT), "fresh": pickled_flow(fitted=False)}


@pytest.fixture
def flows() -> Iterator[dict[str, Flow]]:
    """Flows that, when the test is over, must be what they were: parameters, data side, history, settings."""
    flows = {name: pickle.loads(flow) for name, flow in PICKLED.items()}
    before = {name: pickle.dumps(flow) for name, flow in flows.items()}
    histories = {name: flow.history for name, flow in flows.items()}
    yield flows
    for name, flow in flows.items():
        assert flow.history is histories[name], f"the {name} flow has another history"
        assert pickle.dumps(flow) == before[name], f"the {name} flow has changed"


def calls_on_points(context: Any = None) -> dict[str, Callable[[Flow, Any], Any]]:
    n = np.ones(ROWS)
    return {
        "log_prob": lambda flow, x: flow.log_prob(x, context),
        "inverse": lambda flow, x: flow.inverse(x, context),
        "forward": lambda flow, z: flow.forward(z, context),
        "log_prob_and_grad": lambda flow, x: flow.log_prob_and_grad(x, context),
        "loss_and_grad": lambda flow, x: flow.loss_and_grad(x, context),
        "forward_vjp": lambda flow, z: flow.forward_vjp(z, X, n, context),
        "inverse_vjp": lambda flow, x: flow.inverse_vjp(x, X, n, context),
        "initialize": lambda flow, x: flow.initialize(x, context),
        "fit": lambda flow, x: flow.fit(x, context=context, epochs=1),
    }


NO_NUMBERS = "{} must be an array of real numbers; "
NO_TABLE = "{} has shape {shape}; this flow has dim=3, so (n, 3) is expected"
BAD_POINTS: dict[str, tuple[Any, type[Exception], str]] = {
    "too wide": (np.zeros((ROWS, 4)), ValueError, NO_TABLE.replace("{shape}", "(20, 4)")),
    "flat": (np.zeros(ROWS), ValueError, NO_TABLE.replace("{shape}", "(20,)")),
    "number": (1.5, ValueError, NO_TABLE.replace("{shape}", "()")),
    "nothing": ([], ValueError, NO_TABLE.replace("{shape}", "(0,)")),
    "ragged": ([[1, 2, 3], [4, 5]], TypeError, NO_NUMBERS + "its rows have different lengths"),
    "strings": ([["1", "2", "3"]], TypeError, NO_NUMBERS + "it has dtype <U1"),
    "bytes": (np.array([[b"1", b"2", b"3"]]), TypeError, NO_NUMBERS + "it has dtype |S1"),
    "complex": (np.zeros((ROWS, 3), complex), TypeError, NO_NUMBERS + "it has dtype complex128"),
    "dates": (np.zeros((ROWS, 3), "M8[D]"), TypeError, NO_NUMBERS + "it has dtype datetime64[D]"),
    "time spans": (np.zeros((ROWS, 3), "m8[s]"), TypeError, NO_NUMBERS + "it has dtype timedelta64[s]"),
    "records": (np.zeros(ROWS, "f8,f8,f8"), TypeError, NO_NUMBERS + "it has dtype [("),
    "objects": (np.array([[1, 2, {}]], object), TypeError, NO_NUMBERS + "it holds other objects"),
    "strings as objects": (np.array([["1", 2, 3]], object), TypeError, NO_NUMBERS + "it holds other objects"),
    "dict": ({"a": 1}, TypeError, NO_NUMBERS + "it holds other objects"),
    "masked": (np.ma.masked_array(X, X > 1), ValueError, f"{{}} has masked values in {(X > 1).sum()} places"),
}  # fmt: skip


@pytest.mark.parametrize("call", calls_on_points())
@pytest.mark.parametrize("bad", BAD_POINTS)
def test_tables_that_are_none(flows: dict[str, Flow], call: str, bad: str) -> None:
    points, exception, message = BAD_POINTS[bad]
    for flow, context in ((flows["fitted"], None), (flows["conditional"], C)):
        with refused(exception, message.replace("{}", "z" if call.startswith("forward") else "x")):
            calls_on_points(context)[call](flow, points)


@pytest.mark.parametrize("call", ["loss_and_grad", "initialize", "fit"])
def test_fits_take_tables_alone(flows: dict[str, Flow], call: str) -> None:
    for points, shape, hint in (
        (np.zeros(3), "(3,)", "; one row is x[None, :]"),
        (np.zeros((ROWS, 1, 3)), "(20, 1, 3)", ""),
    ):
        for flow, context in ((flows["fitted"], None), (flows["conditional"], C)):
            with refused(ValueError, NO_TABLE.format("x", shape=shape) + hint):
                calls_on_points(context)[call](flow, points)


def test_what_an_array_says_itself_goes_to_the_caller() -> None:
    class Lazy:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise ValueError("the file is gone")

    with refused(ValueError, "the file is gone"):
        Flow(1).log_prob(Lazy())


def test_sizes_beyond_memory_are_named() -> None:
    with refused(ValueError, "dim must be at most 16777216, not 1099511627776"):
        Flow(2**40)
    with refused(ValueError, "context must be at most 16777216, not 1099511627776"):
        Flow(1, context=2**40)
    for width in (10**9, 2**30):
        with refused(MemoryError, "a flow with dim=2, context=0 and these 19 layers has more parameters than fit into"):
            Flow(2, layers=realnvp(2, hidden=(width, width)))
    with refused(ValueError, "n must be at most "):
        Ensemble.of(2, layers=[]).sample(2**62)


def test_one_column_is_two_dimensional() -> None:
    with refused(
        ValueError,
        "context has shape (5,); with context=1 and 5 rows, (5, 1) or (1,) is expected; one column is context[:, None]",
    ):
        Flow(1, context=1).log_prob(np.zeros((5, 1)), np.zeros(5))
    with refused(ValueError, "x has shape (5,); this flow has dim=1, so (n, 1) is expected; one column is x[:, None]"):
        Flow(1).log_prob(np.zeros(5))


BAD_CONTEXTS: dict[str, tuple[Any, type[Exception], str]] = {
    "missing": (None, ValueError, "this flow has context=2: pass context= of shape (n, 2) or (2,)"),
    "wide": (X, ValueError, "context has shape (20, 3); with context=2 and 20 rows, (20, 2) or (2,) is expected"),
    "short": (C[:9], ValueError, "context has shape (9, 2); with context=2 and 20 rows, (20, 2) or (2,) is expected"),
    "flat": (C[:, 0], ValueError, "context has shape (20,); with context=2 and 20 rows, (20, 2) or (2,) is expected"),
    "number": (1.0, ValueError, "context has shape (); with context=2 and 20 rows, (20, 2) or (2,) is expected"),
    "strings": (["a", "b"], TypeError, "context must be an array of real numbers; it has dtype <U1"),
    "ragged": ([[1, 2], [3]], TypeError, "context must be an array of real numbers; its rows have different lengths"),
}


@pytest.mark.parametrize("call", [*calls_on_points(), "sample", "sample_and_log_prob"])
@pytest.mark.parametrize("bad", BAD_CONTEXTS)
def test_contexts_that_are_none(flows: dict[str, Flow], call: str, bad: str) -> None:
    context, exception, message = BAD_CONTEXTS[bad]
    calls = calls_on_points(context)
    calls |= {name: lambda flow, x: getattr(flow, call)(len(x), context) for name in ("sample", "sample_and_log_prob")}
    with refused(exception, message):
        calls[call](flows["conditional"], X)
    if context is not None:
        for name in ("fitted", "fresh"):
            with refused(ValueError, "context was given, but this flow has context=0"):
                calls[call](flows[name], X)


@pytest.mark.parametrize("call", ["fit", "initialize"])
def test_a_fit_needs_a_condition_for_each_row(flows: dict[str, Flow], call: str) -> None:
    with refused(ValueError, "to fit, context must have one row per row of x: (20, 2)"):
        getattr(flows["conditional"], call)(X, context=C[0])


BAD_WEIGHTS: dict[str, tuple[Any, type[Exception], str]] = {
    "short": (np.ones(3), ValueError, "weights has shape (3,); with 20 rows, (20,) is expected"),
    "two axes": (np.ones((ROWS, 1)), ValueError, "weights has shape (20, 1); with 20 rows, (20,) is expected"),
    "NaN": (altered(np.ones(ROWS), [7, 9], np.nan), ValueError, "weights has 2 rows with NaN or infinity, first at"),
    "infinite": (altered(np.ones(ROWS), 3, np.inf), ValueError, "weights has 1 row with NaN or infinity, first at"),
    "all zero": (np.zeros(ROWS), ValueError, "weights are all zero"),
    "strings": (["a"] * ROWS, TypeError, "weights must be an array of real numbers; it has dtype <U1"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@pytest.mark.parametrize("call", ["loss_and_grad", "fit", "initialize"])
@pytest.mark.parametrize("name", ["fitted", "fresh"])
def test_weights_that_are_none(flows: dict[str, Flow], bad: str, call: str, name: str) -> None:
    weights, exception, message = BAD_WEIGHTS[bad]
    with refused(exception, message):
        getattr(flows[name], call)(X, weights=weights)


@pytest.mark.parametrize("call", ["fit", "initialize"])
@pytest.mark.parametrize("name", ["fitted", "fresh"])
def test_fits_take_no_negative_weights(flows: dict[str, Flow], call: str, name: str) -> None:
    with refused(ValueError, "weights must not be negative; -2.0 at row 7"):
        getattr(flows[name], call)(X, weights=altered(np.ones(ROWS), 7, -2))


ONES = np.ones(ROWS)
BAD_CALLS: list[tuple[Callable[[Flow], Any], type[Exception], str]] = [
    (lambda f: f.loss_and_grad(X[:0]), ValueError, "x has no rows; a mean needs at least one"),
    (lambda f: f.forward_vjp(X, X[:5], ONES), ValueError, "grad_x has 5 rows, z has 20"),
    (lambda f: f.inverse_vjp(X, X[:5], ONES), ValueError, "grad_z has 5 rows, x has 20"),
    (lambda f: f.forward_vjp(X, C, ONES), ValueError, "grad_x has shape (20, 2); this flow has dim=3"),
    (lambda f: f.inverse_vjp(X, "a", ONES), TypeError, "grad_z must be an array of real numbers"),
    (lambda f: f.inverse_vjp(X, X, ONES[1:]), ValueError, "grad_log_det has shape (19,); (20,) is expected"),
    (lambda f: f.forward_vjp(X, X, 1.0), ValueError, "grad_log_det has shape (); (20,) is expected"),
    (lambda f: f.forward_vjp(X, X, ["a"] * ROWS), TypeError, "grad_log_det must be an array of real numbers"),
    (lambda f: f.log_prob_vjp(X, X), ValueError, "grad_log_prob has shape (20, 3); (20,) is expected"),
    (lambda f: f.log_prob_vjp(X, ONES, parameters=1), TypeError, "parameters must be True or False, not 1"),
    (lambda f: f.inverse_vjp(X, X, ONES, parameters=None), TypeError, "parameters must be True or False, not None"),
    (lambda f: f.log_prob(X, temperature=0), ValueError, "temperature must be in [1e-100, 1e+100], not 0"),
    (lambda f: f.base_log_prob(X, temperature="a"), TypeError, "temperature must be a number, not 'a'"),
    (lambda f: f.base_log_prob(C), ValueError, "z has shape (20, 2); this flow has dim=3"),
    (lambda f: f.sample(3, temperature=-1.0), ValueError, "temperature must be in [1e-100, 1e+100], not -1.0"),
    (lambda f: f.loss_and_grad(X[:1], weights=1.0), ValueError, "weights has shape (); with 1 rows, (1,) is expected"),
    (lambda f: setattr(f, "parameters", f.parameters[1:]), ValueError, "parameters has shape ("),
    (lambda f: setattr(f, "parameters", f.parameters[None]), ValueError, "parameters has shape (1, "),
    (lambda f: setattr(f, "parameters", 0.0), ValueError, "parameters has shape (); this flow has ("),
    (lambda f: setattr(f, "parameters", "a"), TypeError, "parameters must be an array of real numbers"),
    (lambda f: setattr(f, "num_threads", 0), ValueError, "num_threads must be at least 1, not 0"),
    (lambda f: setattr(f, "num_threads", "2"), TypeError, "num_threads must be an integer, not '2'"),
    *[entry for call in ("sample", "sample_and_log_prob", "sample_latent") for entry in [
        (lambda f, c=call: getattr(f, c)(-1), ValueError, "n must be at least 0, not -1"),
        (lambda f, c=call: getattr(f, c)(3.0), TypeError, "n must be an integer, not 3.0"),
        (lambda f, c=call: getattr(f, c)(True), TypeError, "n must be an integer, not True"),
        (lambda f, c=call: getattr(f, c)(None), TypeError, "n must be an integer, not None"),
        (lambda f, c=call: getattr(f, c)(2**63), ValueError, "n must be at most 384307168202282325, not 9223372036854"),
        (lambda f, c=call: getattr(f, c)(2**60), ValueError, "n must be at most 384307168202282325, not 1152921504606"),
        (lambda f, c=call: getattr(f, c)((2, 3.0)), TypeError, "n[1] must be an integer, not 3.0"),
        (lambda f, c=call: getattr(f, c)((2, -3)), ValueError, "n[1] must be at least 0, not -3"),
        (lambda f, c=call: getattr(f, c)((2**31, 2**31)), ValueError, "n must be at most 384307168202282325, not 461"),
    ]],
]  # fmt: skip


@pytest.mark.parametrize(("call", "exception", "message"), BAD_CALLS)
@pytest.mark.parametrize("name", ["fitted", "fresh"])
def test_calls_out_of_range(
    flows: dict[str, Flow], call: Callable[[Flow], Any], exception: type[Exception], message: str, name: str
) -> None:
    with refused(exception, message):
        call(flows[name])


@pytest.mark.parametrize(
    ("seed", "exception"), [("abc", TypeError), (1.5, TypeError), ({}, TypeError), (-1, ValueError)]
)
def test_seeds_that_are_none(flows: dict[str, Flow], seed: Any, exception: type[Exception]) -> None:
    calls = (lambda: Flow(2, seed=seed), lambda: flows["fitted"].sample(3, seed=seed))
    for call in (*calls, *[lambda name=name: flows[name].fit(X, seed=seed) for name in ("fitted", "fresh")]):
        with pytest.raises(exception, match=r"(?i)seed|non-negative"):
            call()


# -- fit ---------------------------------------------------------------------------------------------------------

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"epochs": 0}, ValueError, "epochs must be at least 1, not 0"),
    ({"epochs": 2.0}, TypeError, "epochs must be an integer, not 2.0"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
    ({"batch_size": "all"}, TypeError, "batch_size must be an integer, not 'all'"),
    ({"optimizer": "adam"}, TypeError, "optimizer must be Adam(), not 'adam'"),
    ({"optimizer": Adam}, TypeError, "optimizer must be Adam(), not <class"),
    ({"optimizer": 1e-3}, TypeError, "optimizer must be Adam(), not 0.001"),
    ({"schedule": "cosin"}, ValueError,
     "schedule is 'cosin'; the choices are 'cosine', 'constant'; did you mean 'cosine'?"),
    ({"schedule": "step"}, ValueError, "schedule is 'step'; the choices are 'cosine', 'constant'"),
    ({"schedule": None}, ValueError, "schedule is None; the choices are 'cosine', 'constant'"),
    ({"max_time": 0}, ValueError, "max_time must be in (0, inf), not 0"),
    ({"max_time": np.nan}, ValueError, "max_time must be in (0, inf), not nan"),
    ({"max_time": "1 min"}, TypeError, "max_time must be a number, not '1 min'"),
    ({"patience": 0}, ValueError, "patience must be at least 1, not 0"),
    ({"patience": 1.5}, TypeError, "patience must be an integer, not 1.5"),
    ({"clip_norm": 0.0}, ValueError, "clip_norm must be in (0, inf], not 0.0"),
    ({"clip_norm": -1}, ValueError, "clip_norm must be in (0, inf], not -1"),
    ({"clip_norm": "5"}, TypeError, "clip_norm must be a number, not '5'"),
    ({"progress": 1}, TypeError, "progress must be True, False or None, not 1"),
    ({"callback": "print"}, TypeError, "callback must be callable, not 'print'"),
    ({"validation": 1.0}, ValueError, "validation must be in [0, 1), not 1.0"),
    ({"validation": -0.1}, ValueError, "validation must be in [0, 1), not -0.1"),
    ({"validation": np.nan}, ValueError, "validation must be in [0, 1), not nan"),
    ({"validation": 0.99}, ValueError, "validation=0.99 leaves none of 20 rows to train on"),
    ({"validation": True}, TypeError, "validation must be a fraction, rows or None, not True"),
    ({"validation": "0.1"}, TypeError, "validation must be an array of real numbers; it has dtype <U3"),
    ({"validation": C}, ValueError, "validation has shape (20, 2); this flow has dim=3, so (n, 3) is expected"),
    ({"validation": X[:0]}, ValueError, "validation has no rows"),
    ({"validation": altered(X, [4, 6], np.inf)}, ValueError,
     "validation has 2 rows with NaN or infinity, first at row 4"),
    ({"validation": (X, C)}, ValueError, "validation is a tuple (x, context), but this flow has context=0"),
    ({"groups": np.arange(ROWS - 1)}, ValueError, "groups has shape (19,); with 20 rows, (20,) is expected"),
    ({"groups": np.zeros(ROWS)}, ValueError, "all rows are of one group; to hold out whole groups, at least two are"),
    ({"groups": [None, *"a" * 19]}, ValueError, "groups has 1 row without a label, first at row 0"),
    ({"groups": altered(np.ones(ROWS), [2, 5], np.nan)}, ValueError, "groups has 2 rows without a label, first at"),
    ({"groups": np.arange(ROWS), "validation": 0}, ValueError, "groups say which rows are held out together; validati"),
    ({"groups": np.arange(ROWS), "validation": None}, ValueError, "groups say which rows are held out together; valid"),
    ({"groups": np.arange(ROWS), "validation": X}, ValueError, "groups say which rows are held out together; validat"),
    *[({name: 10**400}, ValueError, f"{name} must be at most 9223372036854775807, not about 1e400")
      for name in ("epochs", "batch_size", "patience", "checkpoint_every")],
    *[({name: 10**400}, ValueError, f"{name} must be a number that a float can hold, not about 1e400")
      for name in ("max_time", "clip_norm")],
    ({"validation": 10**400}, ValueError, "validation must be a fraction, rows or None that a float can hold, not"),
    ({"validation": [[1, 2, 3], [4]]}, TypeError, "validation must be an array of real numbers; its rows have differ"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "exception", "message"), BAD_OPTIONS)
@pytest.mark.parametrize("name", ["fitted", "fresh"])
def test_options_of_fit(
    flows: dict[str, Flow], options: dict[str, Any], exception: type[Exception], message: str, name: str
) -> None:
    with refused(exception, message):
        flows[name].fit(X, **{"epochs": 1, **options})


BAD_ROWS: dict[str, tuple[np.ndarray, str]] = {
    "no row": (X[:0], "x has no rows"),
    "one row": (X[:1], "x has constant features: 0, 1, 2; a density needs some spread in each"),
    "a constant feature": (altered(X, np.s_[:, 1], 7.0), "x has constant features: 1; a density needs some spread"),
    "two of them": (altered(X, np.s_[:, ::2], -1e9), "x has constant features: 0, 2; a density needs some spread"),
    "a NaN": (altered(X, (5, 1), np.nan), "x has 1 row with NaN or infinity, first at row 5"),
    "infinities": (altered(X, ([9, 5, 5], [0, 1, 2]), -np.inf), "x has 2 rows with NaN or infinity, first at row 5"),
    "two equal features": (altered(X, np.s_[:, 2], X[:, 0]), "x has equal features: 0 and 2"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("call", ["fit", "initialize"])
@pytest.mark.parametrize("name", ["fitted", "fresh"])
def test_rows_that_have_no_density(flows: dict[str, Flow], bad: str, call: str, name: str) -> None:
    rows, message = BAD_ROWS[bad]
    with refused(ValueError, message):
        getattr(flows[name], call)(rows)


def test_equal_features_among_many_are_found_in_one_pass() -> None:
    """Of 3,072 features with the same ends, as pixels have, there are 4.7 million pairs."""
    x = np.random.default_rng(0).integers(1, 255, size=(60, 3072)).astype(float)
    x[0], x[1] = 0, 255
    rows = Rows.of(x, None, None)
    began = time.perf_counter()
    check_density(rows, [Real()] * 3072)
    assert time.perf_counter() - began < 3
    x[:, 2000] = x[:, 40]
    x[:, 3000] = x[:, 40]
    x[:, 1999] = x[:, 41]
    with refused(ValueError, "x has equal features: 41 and 1999; they have no density together"):
        check_density(rows, [Real()] * 3072)


def test_features_that_are_equal_in_one_piece_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    x[:, 1], x[:, 2] = x[:, 0], x[:, 0]
    x[150, 1] *= 0.5
    x[160, 2], x[0] = 0.0, [0.0, 0.0, -0.0]
    x[160, 0] = -0.0
    monkeypatch.setattr(scan, "_PIECE_BYTES", 1)
    with refused(ValueError, "x has equal features: 0 and 2; they have no density together"):
        check_density(Rows.of(x, None, None), [Real()] * 3)


@pytest.mark.parametrize("value", [7.0, 0.1, 1 / 3, 1e9 + 0.1])  # the mean of many 0.1 need not be 0.1
def test_rows_without_weight_have_no_spread(flows: dict[str, Flow], value: float) -> None:
    """A feature is constant if it is so on the rows that have weight: the others are not there."""
    x = altered(X, np.s_[1:, 1], value)
    for seed in range(5):
        weights = altered(np.random.default_rng(seed).random(ROWS), 0, 0.0)
        for call in (flows["fresh"].initialize, flows["fitted"].fit):
            with refused(ValueError, "x has constant features: 1; a density needs some spread in each"):
                call(x, weights=weights)


def test_rows_without_weight_are_neither_held_out_nor_trained_on(flows: dict[str, Flow]) -> None:
    """Of two rows with weight one is held out, whatever the seed."""
    weights = np.zeros(ROWS)
    weights[[3, 8]] = 1
    for seed in range(12):
        flow = pickle.loads(pickle.dumps(flows["fitted"])).fit(X, weights=weights, validation=0.5, seed=seed, epochs=1)
        assert np.isfinite(flow.history["validation_loss"]).all()
    with refused(ValueError, "the training rows' spread is 0 in feature 0"):
        flows["fresh"].fit(X, weights=weights, validation=0.5, seed=0)
    weights[8] = 0
    with refused(ValueError, "x has constant features"):
        flows["fitted"].fit(X, weights=weights, validation=0.5, seed=0)


def test_conditions_of_fit(flows: dict[str, Flow]) -> None:
    flow, bad = flows["conditional"], altered(C, ([3, 8], 0), np.nan)
    with refused(ValueError, "context has 2 rows with NaN or infinity, first at row 3"):
        flow.fit(X, context=bad)
    with refused(ValueError, "context has 2 rows with NaN or infinity, first at row 3"):
        flow.initialize(X, bad)
    for validation in (X, (X,), (X, C, ONES, C), [X, C]):
        with refused(ValueError, "with a context, validation rows come as a tuple (x, context)"):
            flow.fit(X, context=C, validation=validation)
    for validation, message in (
        ((X, C[:3]), "context has shape (3, 2)"),
        ((X, None), "this flow has context=2"),
        ((X, bad), "context has 2 rows with NaN or infinity, first at row 3"),
        ((altered(X, 0, np.nan), C), "validation has 1 row with NaN or infinity, first at row 0"),
    ):
        with refused(ValueError, message):
            flow.fit(X, context=C, validation=validation)
