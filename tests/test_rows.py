"""Walking over a table: every row once an epoch, fairly shuffled, also where the table is large or lies in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pushforward import Flow, realnvp
from pushforward._io import rows
from pushforward._io.rows import Rows, Window
from scipy import stats

# Small stand-ins for the sizes from which tables are cut into blocks and read in windows: 8 blocks of 16 rows.
BLOCK, WINDOW = 16, 128
MODES = ("rows", "blocks", "map")
SIZES = (1, 2, 100, 128, 129, 1000)
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def _blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tables as if they were large."""
    monkeypatch.setattr(rows, "_MOST_SHUFFLED_ROWS", WINDOW)
    monkeypatch.setattr(rows, "_BLOCK_ROWS", BLOCK)
    monkeypatch.setattr(rows, "_WINDOW_BYTES", WINDOW * 4 * 8)


@pytest.fixture
def table_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator:
    """Make a table of n rows that tell their number, to be walked in one of the modes."""

    def make(n: int, mode: str) -> Rows:
        if mode != "rows":
            monkeypatch.setattr(rows, "_MOST_SHUFFLED_ROWS", WINDOW)
            monkeypatch.setattr(rows, "_BLOCK_ROWS", BLOCK)
        number = np.arange(n, dtype=np.float64)
        x, context = np.stack([number, -number], axis=1), number[:, None] + 0.25
        if mode == "map":
            monkeypatch.setattr(rows, "_WINDOW_BYTES", WINDOW * 4 * 8)
            np.save(tmp_path / "x.npy", x)
            x = np.load(tmp_path / "x.npy", mmap_mode="r")
        return Rows.of(x, context, number + 0.5)

    return make


def numbers(window: Window) -> np.ndarray:
    """The numbers of a window's rows; x, context and weights must tell the same."""
    x, context, weights = window.x[window.index], window.context[window.index], window.weights[window.index]
    np.testing.assert_array_equal(x[:, 1], -x[:, 0])
    np.testing.assert_array_equal(context[:, 0], x[:, 0] + 0.25)
    np.testing.assert_array_equal(weights, x[:, 0] + 0.5)
    return x[:, 0].astype(int)


@every_mode
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("size", [5, 64, 10**6])
def test_an_epoch_has_every_row_once(table_of, mode: str, n: int, size: int) -> None:
    table, rng = table_of(n, mode), np.random.default_rng(0)
    assert len(table) == n
    epochs = [np.concatenate([numbers(batch) for batch in table.batches(size, rng)]) for _ in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))
    if n >= 100:
        assert (epochs[0] != epochs[1]).any()
        assert (epochs[0] != np.arange(n)).any()
    again = np.random.default_rng(0)
    np.testing.assert_array_equal(np.concatenate([numbers(batch) for batch in table.batches(size, again)]), epochs[0])


@every_mode
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_batches_are_nearly_equal(table_of, mode: str, n: int, size: int) -> None:
    """A batch of few rows would count as much as any other, each of its rows many times."""
    for seed in range(5):
        sizes = [len(batch.index) for batch in table_of(n, mode).batches(size, np.random.default_rng(seed))]
        assert max(sizes) <= size
        assert min(sizes) >= min(size, n) / 2
        if mode == "rows":
            assert max(sizes) - min(sizes) <= 1
            assert len(sizes) == -(-n // size)


@every_mode
@pytest.mark.parametrize("n", SIZES)
def test_in_table_order(table_of, mode: str, n: int) -> None:
    table = table_of(n, mode)
    np.testing.assert_array_equal(np.concatenate([numbers(window) for window in table.windows()]), np.arange(n))


@every_mode
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_held_out_rows_and_the_others_are_the_table(table_of, mode: str, n: int, fraction: float) -> None:
    table = table_of(n, mode)
    parts = table.split(fraction, np.random.default_rng(0))
    found = [np.concatenate([[], *(numbers(window) for window in part.windows())]).astype(int) for part in parts]
    assert [len(part) for part in parts] == [len(rows_found) for rows_found in found]
    for rows_found in found:
        assert (np.diff(rows_found) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))
    assert len(found[1]) == pytest.approx(fraction * n, abs=table.block)
    for part, rows_found in zip(parts, found, strict=True):
        shuffled = np.concatenate([[], *(numbers(batch) for batch in part.batches(10, np.random.default_rng(1)))])
        np.testing.assert_array_equal(np.sort(shuffled), rows_found)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(n=st.integers(1, 70), block=st.integers(1, 20), data=st.data())
def test_any_blocks_know_their_rows(n: int, block: int, data: st.DataObject) -> None:
    count = -(-n // block)
    blocks = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1)))), dtype=np.int64)
    table = Rows(np.zeros((n, 1)), None, None, block, blocks)
    index = np.concatenate([np.empty(0, int), *(window.index for window in table.windows())])
    np.testing.assert_array_equal(index, [row for row in range(n) if row // block in blocks])
    assert len(table) == len(index)


def test_every_row_is_held_out_as_often() -> None:
    table = Rows.of(np.zeros((50, 1)), None, None)
    held = np.zeros(50)
    for seed in range(2000):
        held[table.split(0.2, np.random.default_rng(seed))[1].blocks] += 1
    assert stats.chisquare(held).pvalue > 1e-3


@every_mode
def test_every_row_comes_at_every_place_as_often(table_of, mode: str) -> None:
    """Over 800 epochs each of 320 rows comes in each fifth of the epoch as often as chance has it."""
    table, rng, count = table_of(320, mode), np.random.default_rng(0), np.zeros((320, 5))
    for _ in range(800):
        order = np.concatenate([window.index if mode != "map" else numbers(window) for window in table.windows(rng)])
        count[order, np.arange(320) // 64] += 1
    statistic = ((count - 160) ** 2 / 160).sum(axis=1)
    pvalues = stats.chi2(4).sf(statistic)
    if mode == "rows":
        assert stats.kstest(pvalues, "uniform").pvalue > 1e-3
    # Rows of a block share a window, so their counts go together; each row's own must be chance all the same.
    assert pvalues.min() > 1e-3 / 320


@every_mode
def test_neighbours_in_the_table_do_not_stay_together(table_of, mode: str) -> None:
    """Rows of one block share a window, and within it a batch no more often than by chance."""
    table, rng, together, epochs = table_of(256, mode), np.random.default_rng(0), 0, 300
    for _ in range(epochs):
        batch_of = np.empty(256, int)
        for i, batch in enumerate(table.batches(32, rng)):
            batch_of[numbers(batch)] = i
        together += (batch_of[:-1:2] == batch_of[1::2]).mean()
    window = 256 if mode == "rows" else WINDOW
    assert together / epochs == pytest.approx(31 / (window - 1), rel=0.1)


# -- tables in a file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("view", [np.s_[:], np.s_[::2], np.s_[::-1], np.s_[5:-5, ::-1]])
@pytest.mark.usefixtures("_blocks")
def test_a_map_is_read_as_it_is(tmp_path: Path, dtype: str, view) -> None:
    values = np.random.default_rng(0).normal(size=(1500, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[view]
    assert rows.is_large_map(x)
    read = np.concatenate([window.x[window.index] for window in Rows.of(x, None, None).windows()])
    np.testing.assert_array_equal(read, values[view])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)


@pytest.mark.parametrize("mode", ["r+", "c"])
@pytest.mark.usefixtures("_blocks")
def test_what_is_written_to_a_map_and_not_yet_in_the_file_is_kept(tmp_path: Path, mode: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1500, 2)))
    x = np.load(tmp_path / "x.npy", mmap_mode=mode)
    x[...] = np.arange(3000).reshape(1500, 2)
    flow = Flow(2, layers=[], num_threads=1).fit(x, epochs=1, seed=0)
    np.testing.assert_array_equal(x, np.arange(3000).reshape(1500, 2))
    assert flow.sample(1000, seed=0).mean() == pytest.approx(1500, rel=0.1)
    assert np.load(tmp_path / "x.npy").any() == (mode == "r+")


@every_mode
def test_a_fit_does_not_depend_on_how_the_table_is_walked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    """The loss that a fit reaches is the same, up to the chance of another shuffle."""
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 1))
    x[:, 0] += 0.5 * x[:, 1] ** 2 + c[:, 0]
    weights = rng.random(3000)
    given_x, given_c = x, c
    if mode != "rows":
        monkeypatch.setattr(rows, "_MOST_SHUFFLED_ROWS", 1000)
        monkeypatch.setattr(rows, "_BLOCK_ROWS", BLOCK)
    if mode == "map":
        monkeypatch.setattr(rows, "_WINDOW_BYTES", 20_000)
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "c.npy", c)
        given_x, given_c = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xc")
    flow = Flow(2, layers=realnvp(2, depth=4, hidden=(16,)), context=1, seed=0, num_threads=1)
    flow.fit(given_x, context=given_c, weights=weights, epochs=30, seed=0)
    entropy = 2 * stats.norm.entropy()  # given the context, and of shears of two standard normals
    assert -np.average(flow.log_prob(x, c), weights=weights) == pytest.approx(entropy, abs=0.04)


# -- results in the table's own memory ---------------------------------------------------------------------------

SHIFTS = [-70, -1, 0, 1, 70]


@pytest.mark.parametrize("window", [1000, 1 << 24], ids=["many windows", "one window"])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("call", ["forward", "inverse"])
def test_results_may_overlap_the_rows(monkeypatch: pytest.MonkeyPatch, window: int, shift: int, call: str) -> None:
    """The results are those in memory of their own, wherever in the table they are written, at any size."""
    monkeypatch.setattr(rows, "_WINDOW_BYTES", window)
    flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), context=1, seed=0, num_threads=1)
    memory = np.random.default_rng(0).normal(size=(600, 3))
    first, to = max(0, -shift), max(0, shift)
    n = len(memory) - abs(shift)
    # Context and rows are columns of one buffer, and so are the results.
    x, c = memory[first : first + n, :2], memory[first : first + n, 2:]
    points, log_det = getattr(flow, call)(x.copy(), c.copy())
    out = (memory[to : to + n, 1:], memory[to : to + n, 0])
    assert getattr(flow, call)(x, c, out=out)[0] is out[0]
    np.testing.assert_array_equal(out[0], points)
    np.testing.assert_array_equal(out[1], log_det)


@pytest.mark.parametrize("window", [1000, 1 << 24], ids=["many windows", "one window"])
@pytest.mark.parametrize("shift", SHIFTS)
def test_densities_may_overlap_the_context(monkeypatch: pytest.MonkeyPatch, window: int, shift: int) -> None:
    monkeypatch.setattr(rows, "_WINDOW_BYTES", window)
    flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), context=1, seed=0, num_threads=1)
    rng = np.random.default_rng(0)
    x, memory = rng.normal(size=(500, 2)), rng.normal(size=640)
    context = memory[70:570, None]
    expected = flow.log_prob(x, context.copy())
    out = memory[70 + shift : 570 + shift]
    np.testing.assert_array_equal(flow.log_prob(x, context, out=out), expected)
    one = memory[100:101]  # the same condition for all rows, in the middle of the results
    expected = flow.log_prob(x, one.copy())
    np.testing.assert_array_equal(flow.log_prob(x, one, out=out), expected)


def test_rows_in_their_own_place_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map larger than memory may be carried over in place."""
    monkeypatch.setattr(rows, "_WINDOW_BYTES", 1000)
    flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), seed=0, num_threads=1)
    x = np.random.default_rng(0).normal(size=(500, 2))
    expected = flow.inverse(x)[0]
    copies = []
    monkeypatch.setattr(rows.np, "array", lambda *_: copies.append(1))
    flow.inverse(x, out=(x, np.empty(500)))
    assert not copies
    np.testing.assert_array_equal(x, expected)


def test_results_that_share_memory_are_refused() -> None:
    flow, x, memory = Flow(2, layers=[]), np.ones((5, 2)), np.empty((5, 3))
    with pytest.raises(ValueError, match="out has arrays that share memory; each result needs its own"):
        flow.inverse(x, out=(memory[:, :2], memory[:, 1]))
    flow.inverse(x, out=(memory[:, :2], memory[:, 2]))  # side by side
