"""Every kind of array gives what its plain copy gives, to the last bit, and comes out as it went in."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cases import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from pushforward import Flow, realnvp

CASE = Case("realnvp", lambda dim: realnvp(dim, depth=2, hidden=(8,)), 3, context=2)
DIM, CONTEXT = CASE.dim, CASE.context
DTYPES = ("float32", "float64")
# One of each kind, and both byte orders where there are two.
NUMBERS = ["?", "i1", "u1", "g", *(order + kind + size for order in "<>" for kind in "fiu" for size in "248")]

both_precisions = pytest.mark.parametrize("dtype", DTYPES)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def plain(x: Any) -> np.ndarray:
    """The same values in the plainest array: float32 stays, everything else is float64."""
    array = np.asarray(x)
    kept = array.dtype.kind == "f" and array.itemsize == 4
    return np.array(array, dtype=np.float32 if kept else np.float64, order="C")


def flow_of(dtype: str) -> Flow:
    flow = CASE.flow(dtype)
    flow.num_threads = 1
    return flow


FLOWS = {dtype: flow_of(dtype) for dtype in DTYPES}


def every_result(flow: Flow, x: Any, context: Any) -> dict[str, np.ndarray]:
    """What each call returns; the table serves as points, as latent points and as their gradients."""
    n = len(x)
    results = {
        "log_prob": (flow.log_prob(x, context),),
        "inverse": flow.inverse(x, context),
        "forward": flow.forward(x, context),
        "log_prob_and_grad": flow.log_prob_and_grad(x, context),
        "forward_vjp": flow.forward_vjp(x, x, np.ones(n), context),
        "inverse_vjp": flow.inverse_vjp(x, x, np.ones(n), context),
        "log_prob_vjp": flow.log_prob_vjp(x, np.ones(n), context),
        "forward_and_log_prob": flow.forward_and_log_prob(x, context),
        "inverse_and_log_prob": flow.inverse_and_log_prob(x, context),
        "base_log_prob": (flow.base_log_prob(x),),
    }
    if n:
        loss, grad = flow.loss_and_grad(x, context)
        results["loss_and_grad"] = (np.array(loss), grad)
    return {f"{call}[{i}]": array for call, arrays in results.items() for i, array in enumerate(arrays)}


def assert_same_results(flow: Flow, x: Any, context: Any, plain_x: np.ndarray, plain_context: np.ndarray) -> None:
    got, want = every_result(flow, x, context), every_result(flow, plain_x, plain_context)
    assert got.keys() == want.keys()
    different = [name for name in want if not same_bits(got[name], want[name])]
    assert not different


# -- dtypes, byte orders, strides, alignment ---------------------------------------------------------------------


@st.composite
def views(draw: st.DrawFn, width: int, rows: int | None = None) -> tuple[np.ndarray, bytearray]:
    """An (n, width) array of any numeric dtype that lies anyhow in a buffer: gaps, odd strides, reversed, unaligned."""
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)))
    shape = draw(st.sampled_from([0, 1, 2]) | st.integers(3, 70)) if rows is None else rows, width
    inner = draw(st.integers(0, 1))
    strides = [0, 0]
    strides[inner] = dtype.itemsize * draw(st.integers(1, 3)) + draw(st.sampled_from([0, 0, 1]))
    strides[1 - inner] = strides[inner] * max(shape[inner], 1) + draw(st.integers(0, 17))
    offset = draw(st.integers(0, 15))
    buffer = bytearray(offset + sum(stride * n for stride, n in zip(strides, shape, strict=True)) + dtype.itemsize)
    array = np.ndarray(shape, dtype, buffer, offset, tuple(strides))
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(scale=3, size=shape)
    array[...] = values > 0 if dtype.kind == "b" else np.abs(values) if dtype.kind == "u" else values
    array = array[:: draw(st.sampled_from([1, -1])), :: draw(st.sampled_from([1, -1]))]
    array.flags.writeable = draw(st.booleans())
    return array, buffer


@settings(max_examples=150, deadline=None, derandomize=True)
@given(view=views(DIM), dtype=st.sampled_from(DTYPES), data=st.data())
def test_any_view_is_its_plain_copy(view: tuple[np.ndarray, bytearray], dtype: str, data: st.DataObject) -> None:
    x, buffer = view
    context, context_buffer = data.draw(views(CONTEXT, len(x)))
    before = bytes(buffer), bytes(context_buffer)
    assert_same_results(FLOWS[dtype], x, context, plain(x), plain(context))
    assert (bytes(buffer), bytes(context_buffer)) == before, "an input was modified"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(view=views(1), dtype=st.sampled_from(DTYPES))
def test_any_view_serves_as_weights_and_seeds(view: tuple[np.ndarray, bytearray], dtype: str) -> None:
    flow, (column, buffer) = FLOWS[dtype], view
    before, vector = bytes(buffer), column[:, 0]
    n, weights = len(vector), np.abs(vector.astype(np.float64))
    x, context = CASE.latent(n), CASE.condition(n)
    for call in (flow.forward_vjp, flow.inverse_vjp):
        for got, want in zip(call(x, x, vector, context), call(x, x, plain(vector), context), strict=True):
            assert same_bits(got, want)
    if vector.dtype.kind in "bu" and weights.any():
        _, got = flow.loss_and_grad(x, context, weights=vector)
        assert same_bits(got, flow.loss_and_grad(x, context, weights=weights)[1])
    assert bytes(buffer) == before


# -- what else holds numbers -------------------------------------------------------------------------------------


def frame(x: np.ndarray, dtype: Any) -> pd.DataFrame:
    return pd.DataFrame(x, columns=["mass", "spin", "time"]).astype(dtype)


def mapped(x: np.ndarray, path: Path, mode: str) -> np.ndarray:
    np.save(path / "x.npy", x)
    return np.load(path / "x.npy", mmap_mode=mode)


def packed(x: np.ndarray) -> np.ndarray:
    """A field of records of an odd size: unaligned, with strides that are no multiple of an item."""
    records = np.zeros(len(x), dtype=[("flag", "i1"), ("x", "f8", (DIM,))])
    records["x"] = x
    return records["x"]


def field_at_the_start(x: np.ndarray) -> np.ndarray:
    """As `packed`, but with an aligned first row: the only one when there is one."""
    records = np.zeros(len(x), np.dtype({"names": ["x"], "formats": [("f8", (DIM,))], "offsets": [0], "itemsize": 25}))
    records["x"] = x
    return records["x"]


class Wrapped:
    """Not an array, but can become one."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.x if dtype is None else self.x.astype(dtype)

    def __len__(self) -> int:
        return len(self.x)


MIXED = {"mass": "int64", "spin": "float32", "time": "float64"}
FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "list of lists": lambda x, path: x.tolist(),
    "list of lists of ints": lambda x, path: x.astype(int).tolist(),
    "tuple of arrays": lambda x, path: tuple(x),
    "objects": lambda x, path: x.astype(object),
    "frame": lambda x, path: frame(x, "float64"),
    "frame of float32": lambda x, path: frame(x, "float32"),
    "frame of ints and floats": lambda x, path: frame(x, MIXED),
    "frame with bools": lambda x, path: frame(x, MIXED).assign(mass=x[:, 0] > 0),
    "frame of objects": lambda x, path: frame(x, object),
    "frame of one object column": lambda x, path: frame(x, {"spin": object}),
    "frame of nullable ints": lambda x, path: frame(x.round(), "Int64"),
    "frame, every second row": lambda x, path: frame(np.repeat(x, 2, axis=0), MIXED)[::2],
    "map": lambda x, path: mapped(x, path, "r"),
    "writable map of float32": lambda x, path: mapped(x.astype(np.float32), path, "r+"),
    "copy-on-write map": lambda x, path: mapped(x, path, "c"),
    "map of big-endian ints": lambda x, path: mapped(x.astype(">i2"), path, "r"),
    "field of records": lambda x, path: packed(x),
    "field at the start of records": lambda x, path: field_at_the_start(x),
    "one row for all": lambda x, path: np.broadcast_to(np.arange(1.0, DIM + 1), x.shape),
    "masked array without a mask": lambda x, path: np.ma.masked_array(x),
    "masked array without masked values": lambda x, path: np.ma.masked_array(x, mask=np.zeros(x.shape, bool)),
    "sent by another process": lambda x, path: pickle.loads(pickle.dumps(x)),  # its dtype equals NumPy's, but is not it
    "map in Fortran order": lambda x, path: mapped(np.asfortranarray(x), path, "r"),
    "something with __array__": lambda x, path: Wrapped(x),
}


SIZED_FORMS = [
    (form, size)
    for form in FORMS
    for size in (0, 1, 2, 65)
    if size or not form.startswith(("list", "tuple"))  # which, without rows, have no columns
]


@pytest.mark.parametrize(("form", "size"), SIZED_FORMS)
@both_precisions
def test_any_form_is_its_plain_copy(form: str, size: int, dtype: str, tmp_path: Path) -> None:
    values, context = 5 * CASE.latent(size), CASE.condition(size)
    x = FORMS[form](values, tmp_path)
    before = copy.deepcopy(x)
    assert_same_results(FLOWS[dtype], x, context, plain(x), context)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(before))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "one row for all"])
def test_a_fit_on_any_form_is_that_on_its_plain_copy(form: str, tmp_path: Path) -> None:
    x, context = FORMS[form](5 * CASE.latent(65), tmp_path), CASE.condition(65)
    before = copy.deepcopy(x)
    flows = []
    for table in (x, plain(x)):
        flow = Flow(DIM, layers=CASE.layers(DIM), context=CONTEXT, seed=0, num_threads=1)
        flows.append(flow.fit(table, context=context, epochs=2, batch_size=16, seed=0))
    got, want = flows
    # Sums over rows may go in another order when columns lie together, so the last bit is free.
    np.testing.assert_allclose(got.parameters, want.parameters, rtol=1e-4, atol=1e-6)
    assert got.sample(5, context[0], seed=0).dtype == plain(x).dtype
    np.testing.assert_array_equal(np.asarray(x), np.asarray(before))


STRANGERS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "string column": (lambda x: frame(x, {"spin": str}), "the column 'spin' is not"),
    "column of digits": (lambda x: frame(x, {"spin": int}).astype({"spin": str}), "the column 'spin' is not"),
    "string and object columns": (lambda x: frame(x, {"mass": object, "time": str}), "the column 'time' is not"),
    "two string columns": (lambda x: frame(x, {"mass": str, "time": str}), "the columns 'mass', 'time' are not"),
    "date column": (lambda x: frame(x, {}).assign(spin=pd.Timestamp("2020-01-01")), "the column 'spin' is not"),
    "all dates": (lambda x: frame(x, "int64").astype("datetime64[s]"), r"it has dtype datetime64\[s\]"),
    "complex column": (lambda x: frame(x, {"mass": complex}), "it has dtype complex128"),
}


@pytest.mark.parametrize("kind", ["Int64", "Float64", "object", "int64[pyarrow]"])
def test_a_missing_value_of_any_kind_is_nan(kind: str) -> None:
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    x = np.random.default_rng(0).normal(size=(50, 3)).round(1) * 10
    flow = Flow(3, layers=[]).initialize(x)
    table = frame(x.round().astype(int), kind)
    table.iloc[4, 1] = pd.NA
    expected = flow.log_prob(table.drop(index=4).astype(float))
    assert np.isnan(flow.log_prob(table)[4])
    np.testing.assert_array_equal(np.delete(flow.log_prob(table), 4), expected)
    with pytest.raises(ValueError, match=r"^x has 1 row with NaN or infinity, first at row 4"):
        flow.fit(table)


def test_the_columns_of_a_pyarrow_table_are_its_names() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    x = np.random.default_rng(0).normal(size=(50, 3))
    table = pyarrow.table({name: x[:, i] for i, name in enumerate(("mass", "spin", "time"))})
    for rows in (table, table.to_batches()[0]):
        flow = Flow(3, layers=[]).initialize(rows)
        assert flow.columns == ("mass", "spin", "time")
        np.testing.assert_array_equal(flow.log_prob(rows), flow.log_prob(x))
        with pytest.raises(ValueError, match="this flow has the same columns in the order"):
            flow.log_prob(rows.select(["spin", "mass", "time"]))
    text = pyarrow.table({"mass": ["a"] * 50, "spin": x[:, 0], "time": x[:, 1]})
    with pytest.raises(TypeError, match="the column 'mass' is not"):
        flow.log_prob(text)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_columns_without_numbers_are_named(stranger: str) -> None:
    make, message = STRANGERS[stranger]
    with pytest.raises(TypeError, match=f"^x must be an array of real numbers; {message}"):
        FLOWS["float64"].log_prob(make(5 * CASE.latent(9)), CASE.condition(9))


# -- what comes out ----------------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize("given_dtype", ["float32", "float64", "float16", "int8", "bool", ">f4"])
def test_dtypes_and_shapes_of_results(dtype: str, given_dtype: str) -> None:
    flow, x, context = FLOWS[dtype], CASE.latent(7).astype(given_dtype), CASE.condition(7)
    points = np.float32 if given_dtype in ("float32", ">f4") else np.float64
    p = flow.parameters.shape
    expected = {
        "log_prob": [((7,), np.float64)],
        "inverse": [((7, DIM), points), ((7,), np.float64)],
        "forward": [((7, DIM), points), ((7,), np.float64)],
        "log_prob_and_grad": [((7,), np.float64), ((7, DIM), points)],
        "loss_and_grad": [((), np.float64), (p, flow.dtype)],
        "forward_vjp": [((7, DIM), points), (p, flow.dtype), ((7, CONTEXT), np.float64)],
        "inverse_vjp": [((7, DIM), points), (p, flow.dtype), ((7, CONTEXT), np.float64)],
        "log_prob_vjp": [((7, DIM), points), (p, flow.dtype), ((7, CONTEXT), np.float64)],
        "forward_and_log_prob": [((7, DIM), points), ((7,), np.float64)],
        "inverse_and_log_prob": [((7, DIM), points), ((7,), np.float64)],
        "base_log_prob": [((7,), np.float64)],
    }
    for name, array in every_result(flow, x, context).items():
        call, i = name[:-1].split("[")
        assert (array.shape, array.dtype) == expected[call][int(i)], name
        assert array.flags.c_contiguous, name
        assert array.flags.writeable, name


@both_precisions
@pytest.mark.parametrize("given_dtype", ["float32", "float64", "int32", "float16"])
def test_samples_come_in_the_dtype_of_the_data_fitted(dtype: str, given_dtype: str) -> None:
    flow = Flow(DIM, layers=[], dtype=dtype, num_threads=1)
    assert flow.sample(3).dtype == np.float64
    flow.fit((9 * CASE.latent(50)).astype(given_dtype), epochs=1)
    x, density = flow.sample_and_log_prob(4, seed=0)
    assert x.dtype == (np.float32 if given_dtype == "float32" else np.float64)
    assert density.dtype == np.float64
    assert same_bits(x, flow.sample(4, seed=0))
    assert flow.sample(0).shape == (0, DIM)


@both_precisions
@pytest.mark.parametrize("size", [0, 1, 2, 65])
@pytest.mark.parametrize(
    "one",
    [[1.5, -2.0], [1, -2], np.float32([1.5, -2.0]), np.array([1.5, 0, -2.0])[::2], np.array([-2, 1], ">i2")[::-1]],
)
def test_one_context_is_that_of_every_row(dtype: str, size: int, one: Any) -> None:
    flow, x = FLOWS[dtype], CASE.latent(size)
    tiled = np.tile(plain(one), (size, 1))
    assert_same_results(flow, x, one, x, tiled)
    for call in (flow.sample, lambda *a, **k: flow.sample_and_log_prob(*a, **k)[1]):
        assert same_bits(call(size, context=one, seed=0), call(size, context=tiled, seed=0))


@both_precisions
def test_results_are_the_callers_own(dtype: str) -> None:
    """No result lies in an input's memory, in the flow's or in another result's, not even where a map does nothing."""
    flow = Flow(2, layers=[], dtype=dtype, num_threads=1)
    x = np.zeros((5, 2))
    (z, _), (again, _), (y, _) = flow.inverse(x), flow.inverse(x), flow.forward(x)
    z[...] = 7.0
    for array in (x, again, y):
        assert not array.any()
    flow = FLOWS[dtype]
    parameters = flow.parameters.copy()
    _, grad = flow.loss_and_grad(CASE.latent(5), CASE.condition(5))
    kept = grad.copy()
    flow.loss_and_grad(CASE.latent(6), CASE.condition(6))
    assert same_bits(grad, kept)
    assert same_bits(parameters, flow.parameters)


# -- features far from zero --------------------------------------------------------------------------------------


def test_a_gps_time_keeps_its_digits_in_float32() -> None:
    """A feature near 1.2e9 s with a spread of 1 s, of which float32 itself would keep nothing: its steps are 128 s."""
    offset = np.array([1.2e9, 0.0])
    near_zero = np.random.default_rng(0).normal(size=(500, 2)) @ [[1.0, 0.5], [0.0, 1.0]]
    x = near_zero + offset
    near_zero = x - offset  # exact in float64, so that both tables hold the same digits
    flow, shifted = (Flow(2, layers=realnvp(2, depth=4, hidden=(16,)), num_threads=1, seed=0) for _ in "ab")
    flow.initialize(x).fit(x, epochs=5, seed=0)
    shifted.initialize(near_zero)
    shifted.parameters = flow.parameters
    z, _ = flow.inverse(x)
    assert z.std(axis=0) == pytest.approx(1, abs=0.3)
    back, _ = flow.forward(z)
    assert np.abs(back - x)[:, 0].max() < 3e-6
    np.testing.assert_allclose(flow.log_prob(x), shifted.log_prob(near_zero), atol=1e-5)
    np.testing.assert_allclose(flow.log_prob_and_grad(x)[1], shifted.log_prob_and_grad(near_zero)[1], atol=1e-4)
    sample = flow.sample(500, seed=0)
    assert sample[:, 0].mean() == pytest.approx(1.2e9, abs=0.5)
    assert len(np.unique(sample[:, 0])) == 500
