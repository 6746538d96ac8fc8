"""Scores and draws of Dask are those of the flow, and fits by workers have the bits of one process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Ensemble, Flow, realnvp
from pushforward._fit import slots, workers
from pushforward._fit.objective import MaximumLikelihood
from pushforward._io import rows

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
pytest.importorskip("distributed")

from distributed import Client, LocalCluster, get_worker, wait  # noqa: E402
from pushforward.dask import fit, fits, log_prob, sample, tasks  # noqa: E402

OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 150, "seed": 3}


def table(rows: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and conditions of them."""
    rng = np.random.default_rng(0)
    context = rng.normal(size=(rows, 1))
    return rng.normal(size=(rows, 3)) + context, context


def small(context: int = 0, dtype: str = "float32") -> Flow:
    return Flow(3, layers=realnvp(3, depth=2, hidden=(8,)), context=context, dtype=dtype, seed=0)


def frame(x: np.ndarray, names: str, npartitions: int = 3) -> Any:
    return dd.from_pandas(pd.DataFrame(x, columns=list(names)), npartitions=npartitions)


def never(*arguments: object) -> np.ndarray:
    raise LookupError("as a test")


# -- scores and draws ------------------------------------------------------------------------------------------------


def test_scores_have_the_bits_chunks_and_index_of_the_table() -> None:
    x, context = table()
    flow, conditional = small(), small(1)
    scores = log_prob(flow, da.from_array(x, chunks=(300, 2)))
    assert scores.chunks == ((300, 300, 300, 100),)
    np.testing.assert_array_equal(scores.compute(scheduler="threads"), flow.log_prob(x))
    unknown = frame(x, "abc").values
    for given in (context, da.from_array(context, chunks=(170, 1))):
        scores = log_prob(conditional, da.from_array(x, chunks=(300, 3)), given)
        np.testing.assert_array_equal(scores.compute(scheduler="sync"), conditional.log_prob(x, context))
    np.testing.assert_array_equal(
        log_prob(conditional, unknown, [0.5]).compute(scheduler="sync"), conditional.log_prob(x, [0.5])
    )
    ensemble = Ensemble([flow, small(dtype="float64")])
    scores = log_prob(ensemble, frame(x, "abc"))
    assert scores.npartitions == 3
    assert isinstance(scores.compute(scheduler="sync"), pd.Series)
    np.testing.assert_array_equal(scores.compute(scheduler="sync"), ensemble.log_prob(x))
    conditions = frame(context, "k")
    scores = log_prob(conditional, frame(x, "abc"), conditions)
    np.testing.assert_array_equal(scores.compute(scheduler="sync"), conditional.log_prob(x, context))


def test_draws_are_those_of_the_seed_whatever_the_chunks() -> None:
    _, context = table()
    flow, conditional = small(), small(1)
    for chunks in (1000, 1, (400, 600), "auto", "2 kB"):
        draws = sample(flow, 100 if chunks == 1 else 1000, chunks=chunks, seed=1)
        np.testing.assert_array_equal(draws.compute(scheduler="threads"), flow.sample(len(draws), seed=1))
    for given in (context, da.from_array(context, chunks=(170, 1)), [0.5]):
        draws = sample(conditional, 1000, given, chunks=300, seed=1)
        expected = conditional.sample(1000, [0.5] if isinstance(given, list) else context, seed=1)
        np.testing.assert_array_equal(draws.compute(scheduler="sync"), expected)
    assert sample(flow, 0, seed=1).compute(scheduler="sync").shape == (0, 3)
    unseeded = sample(flow, 10)
    assert (unseeded.compute(scheduler="sync") == unseeded.compute(scheduler="sync")).all()


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    x = da.map_blocks(never, chunks=((5, 5), (3,)), dtype=float, meta=np.empty((0, 3)))
    scores, draws = log_prob(small(), x), sample(small(1), 10, x[:, :1])
    assert (scores.dtype, draws.dtype) == (np.float64, np.float64)
    for lazy in (scores, draws):
        with pytest.raises(LookupError, match="as a test"):
            lazy.compute(scheduler="sync")


def test_a_later_fit_does_not_change_scores() -> None:
    x, _ = table(200)
    flow = small()
    scores, before = log_prob(flow, da.from_array(x)), flow.log_prob(x)
    flow.fit(x, **OPTIONS)
    np.testing.assert_array_equal(scores.compute(scheduler="sync"), before)


X = da.zeros((100, 3), chunks=(40, 3))
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "flow": (lambda: log_prob(3, X), TypeError, "flow must be a Flow or an Ensemble, not int"),
    "numpy": (lambda: log_prob(small(), np.zeros((3, 3))), TypeError, "an array or a DataFrame of Dask, not ndarray"),
    "width": (lambda: log_prob(small(), X[:, :2]), ValueError, r"x has shape \('n', 2\).*\(n, 3\)"),
    "axes": (lambda: log_prob(small(), X[0]), ValueError, "x has shape"),
    "no context": (lambda: log_prob(small(1), X), ValueError, "this flow has context=1"),
    "a context": (lambda: log_prob(small(), X, X), ValueError, "context was given, but this flow has context=0"),
    "conditions": (lambda: log_prob(small(1), X, np.zeros((9, 1))), ValueError, r"shape \(9, 1\); x has 100 rows"),
    "vector": (lambda: log_prob(small(1), X, [1.0, 2.0]), ValueError, r"context has shape \(2,\)"),
    "kind": (
        lambda: sample(small(1), 9, frame(np.zeros((9, 1)), "k", 1), chunks=9),
        TypeError, "context must be an array of Dask",
    ),
    "partitions": (
        lambda: log_prob(small(1), frame(np.zeros((9, 3)), "abc"), frame(np.zeros((9, 1)), "k", 2)),
        ValueError, "context has 2 partitions of rows; x has 3",
    ),
    "rows": (lambda: sample(small(), -1), ValueError, "n must be at least 0"),
    "of ensembles": (lambda: sample(Ensemble([small()]), 3), TypeError, "flow must be a Flow, not Ensemble"),
    "chunks": (lambda: sample(small(), 10, chunks=(3, 3)), ValueError, "Chunks do not add up"),
    "client": (lambda: fit(3, small(), X), TypeError, "client must be a distributed.Client, not int"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


# -- fits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster of two processes."""
    folder = tmp_path_factory.mktemp("workers")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0", local_directory=str(folder)
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def assert_same(found: Flow, expected: Flow) -> None:
    assert found.parameters.tobytes() == expected.parameters.tobytes()
    assert found.history is not None
    assert expected.history is not None
    np.testing.assert_array_equal(found.history["train_loss"], expected.history["train_loss"])
    assert found.history.best_loss == expected.history.best_loss


def cut_small(dask_worker: object = None) -> None:
    """Treat a small table as a large one: cut it into blocks and windows."""
    rows._BLOCK_ROWS, rows._WINDOW_BYTES = 64, 9000


def cut_as_before(dask_worker: object = None) -> None:
    rows._BLOCK_ROWS, rows._WINDOW_BYTES = 1024, 16 << 20


def test_a_fit_has_the_bits_of_one_process(client: Client) -> None:
    x, context = table()
    weights = np.random.default_rng(1).integers(0, 3, size=len(x)).astype(float)
    held = table(90)
    expected = small(1).fit(x, context=context, weights=weights, validation=held, progress=False, **OPTIONS)
    flow = small(1)
    found = fit(
        client, flow, da.from_array(x, chunks=(170, 2)), da.from_array(context, chunks=(300, 1)), weights,
        validation=held, **OPTIONS,
    )  # fmt: skip
    assert found is flow
    assert_same(flow, expected)
    left = client.run(lambda dask_worker: [name for name in os.listdir(dask_worker.local_directory) if "push" in name])
    assert list(left.values()) == [[], []]


def test_long_messages_have_the_bits_of_one_process(client: Client) -> None:
    """Of many parameters each worker sums a part, which the others then get."""
    x, _ = table()
    flows = [Flow(3, layers=realnvp(3, depth=2, hidden=(192, 192)), seed=0) for _ in range(2)]
    assert 2 * flows[0].parameters.nbytes > slots._MOST_BYTES_OF_ONE_MESSAGE
    options = OPTIONS | {"epochs": 1}
    assert_same(
        fit(client, flows[0], da.from_array(x, chunks=(170, 3)), **options), flows[1].fit(x, progress=False, **options)
    )


def test_a_large_table_is_mapped(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are those of one process with a map, not those of one with an array."""
    x, _ = table()
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(fits, "_MOST_BYTES_IN_MEMORY", x.nbytes - 1)
    try:
        cut_small()
        client.run(cut_small)
        expected = small().fit(np.load(tmp_path / "x.npy", mmap_mode="r"), progress=False, **OPTIONS)
        in_memory = small().fit(x, progress=False, **OPTIONS)
        assert_same(fit(client, small(), da.from_array(x, chunks=(170, 3)), **OPTIONS), expected)
        assert (in_memory.parameters != expected.parameters).any()
    finally:
        cut_as_before()
        client.run(cut_as_before)


def test_a_data_frame_gives_names_and_a_single_partition_one_worker(client: Client) -> None:
    x, context = table()
    expected = small(1).fit(pd.DataFrame(x, columns=list("abc")), context=context, progress=False, **OPTIONS)
    flow = fit(client, small(1), frame(x, "abc"), frame(context, "k"), **OPTIONS)
    assert_same(flow, expected)
    assert (flow.columns, flow.context_columns) == (("a", "b", "c"), ("k",))
    with pytest.raises(ValueError, match="x has the columns 'c', 'b', 'a'"):
        fit(client, flow, frame(x, "cba"), frame(context, "k"))
    alone = fit(client, small(), da.from_array(x, chunks=(1000, 3)), **OPTIONS)
    assert_same(alone, small().fit(x, progress=False, **OPTIONS))


def test_partitions_stay_on_the_workers_that_hold_them(client: Client) -> None:
    x, _ = table()
    workers, shares = sorted(client.nthreads()), np.array_split(x, 5)
    futures = [
        client.submit(np.asarray, share, key=("share", i, 0), workers=[workers[i % 2]], allow_other_workers=False)
        for i, share in enumerate(shares)
    ]
    held = da.Array({future.key: future for future in futures}, "share", ((200,) * 5, (3,)), dtype=x.dtype)
    assert fits._workers_of(client, held) == [workers[i % 2] for i in range(5)]
    expected = small().fit(1 + np.concatenate([shares[i] for i in (0, 2, 4, 1, 3)]), progress=False, **OPTIONS)
    assert_same(fit(client, small(), 1 + held, **OPTIONS), expected)
    np.testing.assert_array_equal(log_prob(small(), held).compute(), small().log_prob(x))
    kept = client.persist(frame(x, "abc", 4))
    wait(client.futures_of(kept))
    holders = client.who_has(client.futures_of(kept))
    assert fits._workers_of(client, kept) == [holders[key][0] for key in sorted(holders)]


def on_second(client: Client, call: Callable[[Flow, Any], object]) -> Callable[[Flow, Any], object]:
    """Return a callback that does something in the second worker after the third epoch."""
    second = sorted(client.nthreads())[1]

    def callback(flow: Flow, epoch: Any) -> object:
        return call(flow, epoch) if epoch.epoch == 3 and get_worker().address == second else None

    return callback


def test_what_is_wrong_in_one_worker_ends_the_fit_in_all(client: Client) -> None:
    x, _ = table()
    flow, before = small(), small().parameters
    bad = x.copy()
    bad[7, 1] = np.nan
    blocks = da.from_array(x, chunks=(300, 3))
    with pytest.raises(ValueError, match="x has 1 row with NaN or infinity, first at row 7"):
        fit(client, flow, da.from_array(bad, chunks=(300, 3)))
    with pytest.raises(ValueError, match="weights must not be negative"):
        fit(client, flow, blocks, weights=da.full(1000, -1.0, chunks=300))
    with pytest.raises(LookupError, match="as a test"):
        fit(client, flow, da.concatenate([blocks, da.map_blocks(never, chunks=((5,), (3,)), dtype=float)]))
    with pytest.raises(ValueError, match=r"an option is 'epoch'.*did you mean 'epochs'"):
        fit(client, flow, blocks, epoch=3)
    with pytest.raises(ValueError, match="epochs must be at least"):
        fit(client, flow, blocks, epochs=-3)
    with pytest.raises(ValueError, match="x has no rows"):
        fit(client, flow, blocks[:0])
    with pytest.raises(TypeError, match="validation rows must be arrays of NumPy"):
        fit(client, flow, blocks, validation=blocks)
    assert flow.history is None
    assert (flow.parameters == before).all()
    with pytest.raises(RuntimeError, match="process 1: as a test"):
        fit(client, flow, blocks, callback=on_second(client, never), **OPTIONS | {"epochs": 10})
    assert flow.history is not None
    assert len(flow.history) == 3
    with pytest.warns(RuntimeWarning, match="9 rows are few"):
        fit(client, small(), blocks[:9].rechunk((5, 3)), epochs=1)


def fail_to_score(dask_worker: object = None) -> None:
    kept.append(MaximumLikelihood.score)
    MaximumLikelihood.score = lambda self: 1 / 0  # type: ignore[assignment]


def score_again(dask_worker: object = None) -> None:
    MaximumLikelihood.score = kept.pop()  # type: ignore[method-assign]


kept: list[Any] = []


def test_a_failure_that_the_others_cannot_know_of_ends_the_fit(client: Client) -> None:
    second = sorted(client.nthreads())[1]
    client.run(fail_to_score, workers=[second])
    try:
        with pytest.raises(RuntimeError, match="process 1: division by zero"):
            fit(client, small(), da.from_array(table()[0], chunks=(500, 3)), **OPTIONS)
    finally:
        client.run(score_again, workers=[second])


def meet_within(seconds: float, dask_worker: object = None) -> None:
    workers._SECONDS_TO_MEET = seconds


def sleep_until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_a_fit_does_not_wait_for_a_busy_worker_without_an_end(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, busy = sorted(client.nthreads())[1], []
    submitted = fits._Fit._submitted

    def after_another(self: fits._Fit, task: Callable[..., Any], arguments: Any) -> Any:
        if task is tasks.fit_share:
            busy.append(client.submit(sleep_until, tmp_path / "free", workers=[second], pure=False))
        return submitted(self, task, arguments)

    monkeypatch.setattr(fits._Fit, "_submitted", after_another)
    monkeypatch.setattr(fits, "_SECONDS_TO_AGREE", 0.0)
    client.run(meet_within, 0.3)
    try:
        with pytest.raises(
            RuntimeError, match=f"process 1 of 2 has not begun within 0.3 seconds: its worker at {second}"
        ):
            fit(client, small(), da.from_array(table()[0], chunks=(500, 3)), **OPTIONS)
    finally:
        (tmp_path / "free").touch()
        client.run(meet_within, 60.0)
    wait(busy)


def test_ctrl_c_ends_the_fit_in_all_workers(client: Client, tmp_path: Path) -> None:
    begun, main = tmp_path / "begun", threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        sleep_until(begun)
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt, daemon=True)
    flow = small()
    # A program in the background of a shell ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            fit(
                client, flow, da.from_array(table()[0], chunks=(300, 3)), max_time=60, patience=None, batch_size=500,
                callback=on_second(client, lambda flow, epoch: begun.touch()),
            )  # fmt: skip
        helper.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert flow.history is not None
    assert flow.history.stopped == "interrupted"


def test_a_worker_that_dies_ends_the_fit(client: Client) -> None:
    kill = on_second(client, lambda flow, epoch: os.kill(os.getpid(), signal.SIGKILL))
    second = sorted(client.nthreads())[1]
    flow = small()
    with pytest.raises(RuntimeError, match=f"the worker at {second} was lost"):
        fit(client, flow, da.from_array(table()[0], chunks=(300, 3)), epochs=10, batch_size=150, callback=kill)
    assert flow.history is not None
    assert len(flow.history) >= 3
    client.wait_for_workers(2)
