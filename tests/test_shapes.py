"""Rows in any number of axes give what the flat table gives, to the last bit, in the shape that NumPy gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cases import NET, SPLINE, Case
from hypothesis import given, settings
from hypothesis import strategies as st
from pushforward import Affine, Coupling, Ensemble, Flow

DIM, CONTEXT = 3, 2
CASE = Case("shapes", lambda dim: [Coupling(Affine(), NET), Coupling(SPLINE, NET)], DIM, CONTEXT)
CONDITIONAL = {dtype: CASE.flow(dtype) for dtype in ("float32", "float64")}
PLAIN = Case("plain", lambda dim: [Coupling(Affine(), NET)], DIM).flow("float32")
ENSEMBLE = Ensemble([CASE.flow("float32"), CASE.flow("float64")], weights=[1, 2])


def seeds_of(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(*shape, DIM)), rng.normal(size=shape)


Call = Callable[[Any, Any, Any], Any]
ROWS: dict[str, Call] = {
    "log_prob": lambda flow, x, c: flow.log_prob(x, c),
    "log_prob_and_grad": lambda flow, x, c: flow.log_prob_and_grad(x, c),
    "temperature": lambda flow, x, c: flow.log_prob(x, c, temperature=0.5),
}
MAPS: dict[str, Call] = ROWS | {
    "forward": lambda flow, x, c: flow.forward(x, c),
    "inverse": lambda flow, x, c: flow.inverse(x, c),
    "forward_and_log_prob": lambda flow, x, c: flow.forward_and_log_prob(x, c),
    "inverse_and_log_prob": lambda flow, x, c: flow.inverse_and_log_prob(x, c),
}


def leading(x: np.ndarray, c: np.ndarray | None) -> tuple[int, ...]:
    return np.broadcast_shapes(x.shape[:-1], () if c is None else c.shape[:-1])


VJPS: dict[str, Call] = {
    "log_prob_vjp": lambda flow, x, c: flow.log_prob_vjp(x, seeds_of(leading(x, c))[1], c),
    "forward_vjp": lambda flow, x, c: flow.forward_vjp(x, *seeds_of(leading(x, c)), c),
    "inverse_vjp": lambda flow, x, c: flow.inverse_vjp(x, *seeds_of(leading(x, c)), c),
}


def flat(x: np.ndarray, c: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The table with a row, and a condition, for each row of the results."""
    shape = leading(x, c)
    table = np.array(np.broadcast_to(x, (*shape, DIM))).reshape(-1, DIM)
    if c is None:
        return table, None
    return table, np.array(np.broadcast_to(c, (*shape, CONTEXT))).reshape(-1, CONTEXT)


def assert_like_the_flat_call(call: Call, flow: Any, x: np.ndarray, c: np.ndarray | None) -> None:
    got, want = call(flow, x, c), call_flat(call, flow, x, c)
    got, want = (result if isinstance(result, tuple) else (result,) for result in (got, want))
    shape = leading(x, c)
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is None or a.shape == flow_parameters(flow):
            assert a is None or a.tobytes() == b.tobytes()
            continue
        assert isinstance(a, np.ndarray)
        assert a.shape == shape + b.shape[1:]
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
        assert a.flags.c_contiguous
        assert a.flags.writeable


def flow_parameters(flow: Any) -> Any:
    return flow.parameters.shape if isinstance(flow, Flow) else None


def call_flat(call: Call, flow: Any, x: np.ndarray, c: np.ndarray | None) -> Any:
    table, condition = flat(x, c)
    if call in VJPS.values():
        # the same seeds, row by row
        shape = leading(x, c)
        by_x, by_log = seeds_of(shape)
        by_x, by_log = by_x.reshape(-1, DIM), by_log.reshape(-1)
        name = next(name for name, known in VJPS.items() if known is call)
        arguments = (by_log,) if name == "log_prob_vjp" else (by_x, by_log)
        return getattr(flow, name)(table, *arguments, condition)
    return call(flow, table, condition)


SHAPES = [
    ((), ()),
    ((), (5,)),
    ((5,), ()),
    ((5,), (5,)),
    ((1,), (5,)),
    ((5,), (1,)),
    ((4, 1), (5,)),
    ((4, 5), (4, 5)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 1, 4)),
    ((0,), ()),
    ((0, 5), (5,)),
    ((3, 0), (1, 1)),
    ((1, 1, 1), ()),
    ((70, 2), (2,)),
]


@pytest.mark.parametrize("dtype", CONDITIONAL)
@pytest.mark.parametrize("call", [*MAPS, *VJPS])
@pytest.mark.parametrize(("rows", "conditions"), SHAPES)
def test_a_conditional_flow(dtype: str, call: str, rows: tuple[int, ...], conditions: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(*rows, DIM)).astype(dtype), rng.normal(size=(*conditions, CONTEXT))
    assert_like_the_flat_call({**MAPS, **VJPS}[call], CONDITIONAL[dtype], x, c)


@pytest.mark.parametrize("call", [*MAPS, *VJPS])
@pytest.mark.parametrize("rows", [(), (1,), (5,), (2, 3), (2, 0, 3), (4, 1, 2, 5)])
def test_a_flow_without_context(call: str, rows: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(*rows, DIM))
    assert_like_the_flat_call({**MAPS, **VJPS}[call], PLAIN, x, None)


@pytest.mark.parametrize("call", ROWS)
@pytest.mark.parametrize(("rows", "conditions"), SHAPES)
def test_an_ensemble(call: str, rows: tuple[int, ...], conditions: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(*rows, DIM)), rng.normal(size=(*conditions, CONTEXT))
    assert_like_the_flat_call(ROWS[call], ENSEMBLE, x, c)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_strides(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    x = np.random.default_rng(0).normal(size=(*shape, 2 * DIM))[..., :: data.draw(st.sampled_from([2, -2]))]
    x = np.moveaxis(x, range(len(shape)), data.draw(st.permutations(range(len(shape)))))
    assert_like_the_flat_call(ROWS["log_prob"], PLAIN, x, None)


def test_base_densities_and_lists() -> None:
    z = np.random.default_rng(0).normal(size=(2, 3, DIM))
    density = PLAIN.base_log_prob(z)
    assert density.shape == (2, 3)
    assert density.tobytes() == PLAIN.base_log_prob(z.reshape(-1, DIM)).tobytes()
    assert PLAIN.base_log_prob([0.0, 1.0, 2.0]).shape == ()
    assert float(PLAIN.log_prob([0.0, 1.0, 2.0])) == PLAIN.log_prob([[0.0, 1.0, 2.0]])[0]
    assert Flow(1, layers=[]).log_prob([0.5]).shape == ()


def test_a_row_of_a_data_frame() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(4, DIM)), columns=["a", "b", "c"])
    assert float(PLAIN.log_prob(frame.iloc[2])) == PLAIN.log_prob(frame)[2]


@pytest.mark.parametrize("flow", [CONDITIONAL["float32"], ENSEMBLE], ids=["flow", "ensemble"])
@pytest.mark.parametrize(
    ("n", "conditions"),
    [
        ((4, 5), (5,)),
        ((4, 5), ()),
        ((4, 5), (4, 5)),
        ((4, 5), (4, 1)),
        ((3,), (3,)),
        ((), ()),
        ((2, 0, 3), (3,)),
        (7, (1,)),
    ],
)
def test_draws(flow: Any, n: Any, conditions: tuple[int, ...]) -> None:
    shape = n if isinstance(n, tuple) else (n,)
    c = np.random.default_rng(0).normal(size=(*conditions, CONTEXT))
    count = int(np.prod(shape, dtype=int))
    tiled = np.broadcast_to(c, (*shape, CONTEXT)).reshape(count, CONTEXT)
    x, density = flow.sample_and_log_prob(n, c, seed=5)
    want_x, want_density = flow.sample_and_log_prob(count, tiled, seed=5)
    assert (x.shape, density.shape) == ((*shape, DIM), shape)
    assert x.tobytes() == want_x.tobytes()
    assert density.tobytes() == want_density.tobytes()
    assert flow.sample(n, c, seed=5).tobytes() == x.tobytes()
    assert flow.sample(list(shape), c, seed=5).tobytes() == x.tobytes()


def test_results_go_to_out_in_their_shape() -> None:
    flow, rng = CONDITIONAL["float64"], np.random.default_rng(0)
    x, c = rng.normal(size=(4, 1, DIM)), rng.normal(size=(5, CONTEXT))
    out = np.empty((4, 5), np.float32)
    assert flow.log_prob(x, c, out=out) is out
    np.testing.assert_array_equal(out, flow.log_prob(x, c).astype(np.float32))
    z, log_det = np.empty((5, 4, DIM)).swapaxes(0, 1), np.empty((4, 5))
    flow.inverse(x, c, out=(z, log_det))
    np.testing.assert_array_equal(z, flow.inverse(x, c)[0])
    one = np.empty(())
    flow.log_prob(x[0, 0], c[0], out=one)
    assert one == flow.log_prob(x[0, 0], c[0])
    with pytest.raises(ValueError, match=r"out has an array of shape \(20,\); \(4, 5\) is expected"):
        flow.log_prob(x, c, out=np.empty(20))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: f.log_prob(np.zeros((4, 2, DIM)), np.zeros((3, CONTEXT))),
            r"context has shape \(3, 2\); with context=2 and rows of shape \(4, 2\), \(..., 2\) is expected, with",
        ),
        (
            lambda f: f.log_prob(np.zeros(DIM), np.zeros(3)),
            r"context has shape \(3,\); with context=2 and rows of shape \(\), \(..., 2\) is expected",
        ),
        (
            lambda f: f.log_prob(np.zeros((4, 2, 5)), np.zeros(2)),
            r"x has shape \(4, 2, 5\); this flow has dim=3, so \(..., 3\) is expected",
        ),
        (
            lambda f: f.sample((4, 2), np.zeros((3, CONTEXT))),
            r"context has shape \(3, 2\); with context=2 and rows of shape \(4, 2\), \(..., 2\) is expected",
        ),
        (
            lambda f: f.sample(1, np.zeros((3, CONTEXT))),
            r"context has shape \(3, 2\); with context=2 and 1 rows, \(1, 2\) or \(2,\) is expected",
        ),
        (
            lambda f: f.forward_vjp(np.zeros((4, 1, DIM)), np.zeros((4, 1, DIM)), np.zeros((4, 5)), np.zeros((5, 2))),
            r"grad_x has shape \(4, 1, 3\); \(4, 5, 3\) is expected",
        ),
        (
            lambda f: f.log_prob_vjp(np.zeros((4, 1, DIM)), np.zeros((4, 1)), np.zeros((5, 2))),
            r"grad_log_prob has shape \(4, 1\); \(4, 5\) is expected",
        ),
    ],
)
def test_shapes_that_do_not_fit(call: Callable[[Flow], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(CONDITIONAL["float32"])
