"""Flows in other processes, and over tables larger than memory."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from pushforward import Flow, neural_spline

joblib = pytest.importorskip("joblib")
da = pytest.importorskip("dask.array")


def table(n: int = 400) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0.3, 0, 2]])


def small(seed: int = 0, context: int = 0) -> Flow:
    return Flow(3, layers=neural_spline(3, depth=2, hidden=16), context=context, seed=seed, num_threads=1)


def fit(x: np.ndarray, seed: int) -> Flow:
    return small(seed).fit(x, epochs=3, seed=seed, progress=False)


def test_a_pickle_is_the_parameters_and_little_more() -> None:
    layers = neural_spline(3)
    flow = Flow(3, layers=layers, seed=0).fit(table(), epochs=50, patience=None, seed=0)
    assert len(pickle.dumps(flow)) < 1.05 * flow.parameters.nbytes
    # What a longer fit or a larger table adds is a record per epoch.
    longer = Flow(3, layers=layers, seed=0).fit(table(4000), epochs=100, patience=None, seed=0)
    assert 0 < len(pickle.dumps(longer)) - len(pickle.dumps(flow)) < 50 * 100


def test_an_ensemble_in_other_processes_is_that_of_this_one() -> None:
    x = table()
    ensemble = joblib.Parallel(n_jobs=2)(joblib.delayed(fit)(x, seed) for seed in range(3))
    for seed, flow in enumerate(ensemble):
        np.testing.assert_array_equal(flow.parameters, fit(x, seed).parameters)


def test_a_flow_goes_to_other_processes() -> None:
    x, flow = table(), fit(table(), 0)
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(flow.log_prob)(part) for part in np.array_split(x, 3))
    np.testing.assert_array_equal(np.concatenate(parts), flow.log_prob(x))


def test_a_search_in_other_processes_is_that_of_this_one() -> None:
    pytest.importorskip("sklearn")
    from pushforward.sklearn import FlowDensity
    from sklearn.model_selection import GridSearchCV

    model = FlowDensity(hidden=8, epochs=2, random_state=0, num_threads=1)
    scores = [
        GridSearchCV(model, {"depth": [1, 2]}, cv=2, n_jobs=n_jobs).fit(table()).cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)
    assert np.isfinite(scores).all()


def test_workers_of_joblib_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They set OMP_NUM_THREADS, and a flow without a number of its own follows."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("loky", inner_max_num_threads=3):
        counts = joblib.Parallel(n_jobs=2)(joblib.delayed(getattr)(Flow(1), "num_threads") for _ in range(2))
    assert counts == [3, 3]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_blocks_have_the_scores_of_the_table(scheduler: str) -> None:
    x, context = table(), table()[:, :2] * 0.5
    flow, conditional = small(), small(context=2).fit(x, context=context, epochs=2, seed=0)
    blocks, conditions = da.from_array(x, chunks=(70, 3)), da.from_array(context, chunks=(70, 2))
    scores = blocks.map_blocks(flow.log_prob, drop_axis=1, dtype=np.float64)
    np.testing.assert_array_equal(scores.compute(scheduler=scheduler), flow.log_prob(x))
    scores = da.map_blocks(conditional.log_prob, blocks, conditions, drop_axis=1, dtype=np.float64)
    np.testing.assert_array_equal(scores.compute(scheduler=scheduler), conditional.log_prob(x, context=context))


def test_a_table_larger_than_memory() -> None:
    """512 MB of rows, made as they are needed, are scored in less than 64 MB."""
    resource = pytest.importorskip("resource")
    assert resource
    program = """
import resource, sys
import dask.array as da, numpy as np
from pushforward import Flow, neural_spline

def peak():
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1024 / (1024 if sys.platform == "darwin" else 1)

flow = Flow(128, layers=neural_spline(128, depth=1, hidden=8), seed=0, num_threads=1)
rows = 1 << 19
def block(block_info):
    (start, stop), _ = block_info[None]["array-location"]
    return np.random.default_rng(start).standard_normal((stop - start, 128))
x = da.map_blocks(block, chunks=((4096,) * (rows // 4096), (128,)), dtype=np.float64)
score = lambda x: x.map_blocks(flow.log_prob, drop_axis=1, dtype=np.float64).mean().compute(num_workers=2)
score(x[:8192])
before = peak()
mean = score(x)
print(x.nbytes >> 20, peak() - before, mean)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, grown, mean = map(float, run.stdout.split())
    assert size == 512
    assert grown < 64
    assert np.isfinite(mean)
