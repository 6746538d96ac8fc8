"""Scores and draws of partitions."""

from __future__ import annotations

import copy
from typing import Any

import dask
import dask.array as da
import numpy as np

from pushforward import _checks
from pushforward._model.state import sample_key, state_of
from pushforward._typing import Array, Floats, Seed
from pushforward.dask.tables import conditions, table
from pushforward.ensemble import Ensemble
from pushforward.flow import Flow


def log_prob(flow: Flow | Ensemble, x: Any, context: Any = None) -> Any:
    """Return the log density of each row of a Dask array or DataFrame, in nats, without computing it yet.

    Each partition is scored by itself, on one thread. The results are those of `Flow.log_prob` for the whole table, to
    the last bit.

    Parameters
    ----------
    flow : Flow or Ensemble
        The density, as it is now: later changes of it do not matter.
    x : (n, dim) dask.array.Array, or dask.dataframe.DataFrame
        Rows of data. Columns in several chunks are merged. The number of rows may be unknown.
    context : (n, context) array of Dask or NumPy, or dask.dataframe.DataFrame, optional
        Conditions of each row, or (context,) of NumPy, of all. Conditions of a DataFrame's rows are a DataFrame with as
        many partitions.

    Returns
    -------
    (n,) dask.array.Array of float64, or dask.dataframe.Series
        With the chunks of `x`, or with its partitions and index.

    Raises
    ------
    TypeError, ValueError
        If the flow or a table is of another type, or the number of columns or partitions is wrong. What is wrong with
        the values of a partition is raised when it is computed.

    Examples
    --------
    >>> import dask.array as da
    >>> from pushforward.dask import log_prob
    >>> table = da.random.default_rng(0).normal(size=(1000, 2), chunks=(300, 2))
    >>> log_prob(Flow(2, seed=0), table)
    dask.array<log_prob, shape=(1000,), dtype=float64, chunksize=(300,), chunktype=numpy.ndarray>
    """
    if not isinstance(flow, (Flow, Ensemble)):
        raise TypeError(f"flow must be a Flow or an Ensemble, not {type(flow).__name__}")
    x = table(x, flow.dim, "x", flow.columns)
    context = _of_rows(context, flow, x)
    scorer = dask.delayed(_one_thread(flow))
    if not isinstance(x, da.Array):
        return x.map_partitions(_scores_of_frame, scorer, context, meta=("log_prob", "float64"))
    empty = np.empty(0, dtype=np.float64)
    return da.map_blocks(_scores, x, context, flow=scorer, token="log_prob", drop_axis=1, dtype=empty.dtype, meta=empty)


def sample(flow: Flow, n: int, context: Any = None, *, chunks: Any = "auto", seed: Seed = None) -> Any:
    """Return draws from the density as a Dask array, without drawing them yet.

    A row depends on the seed and on its number alone. So the rows are those of ``flow.sample(n, context, seed)``,
    whatever the chunks are.

    Parameters
    ----------
    flow : Flow
        The density, as it is now: later changes of it do not matter.
    n : int
        Rows, at least 0.
    context : (n, context) array of Dask or NumPy, or (context,) array, optional
        Conditions of each row, or of all.
    chunks : int, tuple of int or str
        Rows of a chunk, rows of each chunk, or what else Dask takes for one axis, such as "64 MB".
    seed : int or numpy.random.Generator, optional
        Fixes the rows drawn.

    Returns
    -------
    (n, dim) dask.array.Array
        In the dtype of the data fitted; float64 before any fit. All columns are in one chunk.

    Raises
    ------
    TypeError, ValueError
        If the flow, `n`, the context or the chunks are of another type or shape.

    Examples
    --------
    >>> from pushforward.dask import sample
    >>> flow = Flow(2, seed=0)
    >>> draws = sample(flow, 1000, chunks=300, seed=1)
    >>> bool((draws.compute() == flow.sample(1000, seed=1)).all())
    True
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"flow must be a Flow, not {type(flow).__name__}")
    n = _checks.row_count(n, flow.dim)
    empty: Floats = np.empty((0, flow.dim), state_of(flow).data_dtype)
    rows, columns = da.core.normalize_chunks((chunks, -1), (n, flow.dim), dtype=empty.dtype)
    context = _of_rows(context, flow, da.empty((n, 1), chunks=(rows, 1)))
    for_all = None if isinstance(context, da.Array) else context
    key, drawer = sample_key(seed), dask.delayed(_one_thread(flow))
    return da.map_blocks(
        _draws, *(() if context is for_all else (context,)), for_all=for_all, key=key, flow=drawer, token="sample",
        chunks=(rows, columns), dtype=empty.dtype, meta=empty,
    )  # fmt: skip


def _of_rows(context: Any, flow: Flow | Ensemble, x: Any) -> Any:
    """Return conditions of each row, of Dask as the rows are; or a condition of all, (context,), or None."""
    if context is not None and not dask.is_dask_collection(context) and np.ndim(context) == 1:
        return _checks.conditions(context, flow.context, flow.context_columns, ())
    context = conditions(context, flow, x)
    if context is not None and isinstance(context, da.Array) != isinstance(x, da.Array):
        what = "an array" if isinstance(x, da.Array) else "a DataFrame"
        raise TypeError(f"context must be {what} of Dask, as the rows are, not {type(context).__name__}")
    return context


def _one_thread(flow: Flow | Ensemble) -> Flow | Ensemble:
    """Return a copy that works on one thread: a worker calls it in each of its own."""
    twin = copy.deepcopy(flow)
    twin.num_threads = 1
    return twin


def _scores(x: Array, context: Array | None, flow: Flow | Ensemble) -> Floats:
    return flow.log_prob(x, context)


def _scores_of_frame(x: Any, flow: Flow | Ensemble, context: Any) -> Any:
    import pandas as pd

    return pd.Series(flow.log_prob(x, context), index=x.index, name="log_prob")


def _draws(context: Array | None = None, *, for_all: Array | None, key: int, flow: Flow, block_info: Any) -> Floats:
    (first, last), _ = block_info[None]["array-location"]
    return state_of(flow).sample(key, last - first, for_all if context is None else context, first=first)[0]
