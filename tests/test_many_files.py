"""Many files as one table: what is read is what one array has, a window at a time, and a fit has the same bits."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Ensemble, Files, Flow, realnvp
from pushforward._check import diagnostics
from pushforward._io import many, rows
from pushforward._io.many import FilesTable
from pushforward._io.parts import NpyFiles, ParquetFiles
from pushforward.cli import main

BLOCK, WINDOW = 32, 400  # rows, where x has two columns of float32
KINDS = ("npy", "parquet")
every_kind = pytest.mark.parametrize("kind", KINDS)
N = 2500
CUTS = {1: [0, N], 3: [0, 700, 700, N], 40: [0, *range(5, N, 64), N]}


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat tables as if they were large."""
    monkeypatch.setattr(rows, "_BLOCK_ROWS", BLOCK)
    monkeypatch.setattr(rows, "_WINDOW_BYTES", WINDOW * 4 * 2)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, size=(N, 4)).astype(np.float32)


def write(folder: Path, table: np.ndarray, cuts: list[int], kind: str = "npy", group: int = 100) -> list[str]:
    """Write rows to files; of .parquet with some columns of other kinds, and row groups of some size."""
    paths = [str(folder / f"part-{i:03}.{kind}") for i in range(len(cuts) - 1)]
    for path, first, last in zip(paths, cuts, cuts[1:], strict=False):
        if kind == "npy":
            np.save(path, table[first:last])
            continue
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = {name: table[first:last, i] for i, name in enumerate("abcd")}
        label = [f"group {row // 50}" for row in range(first, last)]
        parquet.write_table(pyarrow.table({"label": label, **columns}), path, row_group_size=group)
    return paths


def opened(folder: Path, table: np.ndarray, cuts: list[int], kind: str) -> Files:
    return Files(write(folder, table, cuts, kind), columns=["a", "b", "c", "d"] if kind == "parquet" else range(4))


# -- an array ----------------------------------------------------------------------------------------------------


@every_kind
def test_rows_are_those_of_one_array(tmp_path: Path, table: np.ndarray, kind: str) -> None:
    files = opened(tmp_path, table, CUTS[3], kind)
    assert (files.shape, files.ndim, len(files), files.nbytes) == (table.shape, 2, N, table.nbytes)
    assert files.dtype == table.dtype
    np.testing.assert_array_equal(np.asarray(files), table)
    mask = np.arange(N) % 7 == 3
    for index in (slice(690, 710), slice(-3, None), slice(9, 9), slice(40, 5), slice(None, None, 97), slice(50, 5, -3),
                  [5, -1, 699, 700, 5], np.array([], int), mask, 701, -1):  # fmt: skip
        found = files[index]
        np.testing.assert_array_equal(found, table[index])
        assert found.dtype == table.dtype
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(files))[:5], table[:5])
    for wrong in (N, -N - 1, [0, N], [0.5], mask[1:], (0, 1), None, "a"):
        with pytest.raises(IndexError):
            files[wrong]


@every_kind
def test_columns_and_rows_are_chosen_without_reading(tmp_path: Path, table: np.ndarray, kind: str) -> None:
    files = opened(tmp_path, table, CUTS[40], kind)
    first = 1 if kind == "parquet" else 0  # column 0 is of text
    some = files.select([first + 3, first]).rows(60, 900).rows(10, 800)
    np.testing.assert_array_equal(np.asarray(some), table[70:860][:, [3, 0]])
    np.testing.assert_array_equal(some.column(first + 2), table[70:860, 2])
    assert some.columns == (("d", "a") if kind == "parquet" else None)
    assert some.rows(5, 5).shape == (0, 2)


def test_numbers_of_other_types_are_floats(tmp_path: Path) -> None:
    counts = np.arange(40).reshape(20, 2)
    for name, array in (("a", np.asfortranarray(counts)), ("b", counts)):
        np.save(tmp_path / f"{name}.npy", array)
    files = Files(tmp_path / "*.npy")
    assert files.dtype == np.float64
    np.testing.assert_array_equal(files[15:25], np.concatenate([counts, counts])[15:25])


# -- fits, scores and checks -------------------------------------------------------------------------------------


def fitted(x: Any, context: Any, weights: Any = None, dtype: str = "float32", **options: Any) -> Flow:
    flow = Flow(2, layers=realnvp(2, depth=1, hidden=(8,)), context=1, dtype=dtype, seed=1)
    return flow.fit(x, context=context, weights=weights, epochs=2, batch_size=100, seed=3, progress=False, **options)


def weights_of(table: np.ndarray) -> np.ndarray:
    return np.where(table[:, 3] < 1, 0, table[:, 3])


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_has_the_bits_of_one_memory_map(tmp_path: Path, table: np.ndarray, dtype: str, weighted: bool) -> None:
    np.save(tmp_path / "all.npy", table)
    whole = np.load(tmp_path / "all.npy", mmap_mode="r")
    weights = weights_of(table) if weighted else None
    expected = fitted(whole[:, :2], whole[:, 2:3], weights, dtype)
    in_memory = fitted(table[:, :2], table[:, 2:3], weights, dtype)
    assert in_memory.parameters.tobytes() != expected.parameters.tobytes()  # there are windows
    for count, cuts in CUTS.items():
        (tmp_path / str(count)).mkdir()
        files = Files(write(tmp_path / str(count), table, cuts))
        flow = fitted(
            files.select([0, 1]), files.select([2]), None if weights is None else files.column(3) * (weights > 0), dtype
        )
        assert flow.parameters.tobytes() == expected.parameters.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_small_files_are_as_an_array(tmp_path: Path, table: np.ndarray, kind: str) -> None:
    files = opened(tmp_path, table, CUTS[3], kind)
    first = 1 if kind == "parquet" else 0
    x, context = files.select([first, first + 1]), files.select([first + 2])
    flow = fitted(x, context)
    assert flow.parameters.tobytes() == fitted(table[:, :2], table[:, 2:3]).parameters.tobytes()
    assert flow.columns == (("a", "b") if kind == "parquet" else None)
    assert flow.context_columns == (("c",) if kind == "parquet" else None)
    if kind == "parquet":
        with pytest.raises(ValueError, match="in the order 'a', 'b'"):
            flow.log_prob(files.select(["b", "a"]), context)


@pytest.mark.usefixtures("_windows")
@every_kind
def test_scores_and_checks_are_those_of_an_array(
    tmp_path: Path, table: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "_MOST_ROWS", 1000)
    monkeypatch.setattr(diagnostics, "LEAST_CLASSIFIED", N + 1)  # trees take seconds
    files = opened(tmp_path, table, CUTS[3], kind)
    first = 1 if kind == "parquet" else 0
    x, context = files.select([first, first + 1]), files.select([first + 2])
    flow = fitted(table[:, :2], table[:, 2:3])
    expected = flow.log_prob(table[:, :2], table[:, 2:3])
    np.testing.assert_array_equal(flow.log_prob(x, context), expected)
    out = np.empty(N, np.float32)
    assert flow.log_prob(x, table[:, 2:3], out=out) is out
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    np.testing.assert_array_equal(flow.log_prob(x, [1.0]), flow.log_prob(table[:, :2], [1.0]))
    weights = weights_of(table)
    assert str(flow.check(x, context, weights, seed=0)) == str(flow.check(table[:, :2], table[:, 2:3], weights, seed=0))
    np.testing.assert_array_equal(flow.inverse(x, context)[0], flow.inverse(table[:, :2], table[:, 2:3])[0])


@pytest.mark.usefixtures("_windows")
def test_an_ensemble_and_validation_rows(tmp_path: Path, table: np.ndarray) -> None:
    np.save(tmp_path / "all.npy", table[:, :2])
    (tmp_path / "parts").mkdir()
    both = np.load(tmp_path / "all.npy", mmap_mode="r"), Files(write(tmp_path / "parts", table[:, :2], CUTS[3]))
    found = []
    for x in both:
        ensemble = Ensemble([Flow(2, layers=realnvp(2, depth=1, hidden=(8,)), seed=i) for i in range(2)])
        ensemble.fit(x, epochs=1, seed=3, validation=x if isinstance(x, Files) else both[0], progress=False)
        found.append([flow.parameters.tobytes() for flow in ensemble.flows])
    assert found[0] == found[1]


@pytest.mark.usefixtures("_windows")
def test_a_fit_to_files_is_resumed_with_a_memory_map(tmp_path: Path, table: np.ndarray) -> None:
    np.save(tmp_path / "all.npy", table)
    whole = np.load(tmp_path / "all.npy", mmap_mode="r")
    (tmp_path / "parts").mkdir()
    files = Files(write(tmp_path / "parts", table, CUTS[3]))
    kept = tmp_path / "checkpoint"

    def stop(flow: Flow, epoch: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        fitted(files.select([0, 1]), files.select([2]), checkpoint=kept, checkpoint_every=5, callback=stop)
    flow = fitted(whole[:, :2], whole[:, 2:3], resume=kept)
    assert flow.parameters.tobytes() == fitted(whole[:, :2], whole[:, 2:3]).parameters.tobytes()


# -- what is read ------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Record the rows of each read, the files that are opened, and the windows of shuffled rows."""
    found: dict[str, list[Any]] = {"rows": [], "opened": [], "windows": []}

    def recorded(kind: type, name: str, note: Callable[..., tuple[str, Any]]) -> None:
        call = getattr(kind, name)

        @functools.wraps(call)
        def wrapper(self: Any, *args: Any) -> Any:
            key, value = note(*args)
            found[key].append(value)
            return call(self, *args)

        monkeypatch.setattr(kind, name, wrapper)

    recorded(Files, "_read", lambda first, last: ("rows", (first, last)))
    recorded(Files, "_taken", lambda numbers: ("rows", (numbers[0], numbers[0] + len(numbers))))
    recorded(NpyFiles, "open", lambda part, columns: ("opened", part))
    recorded(ParquetFiles, "open", lambda part, columns: ("opened", part))
    recorded(rows.Rows, "_read", lambda blocks, buffers: ("windows", len(blocks)))
    return found


@pytest.mark.usefixtures("_windows")
@every_kind
def test_no_more_than_a_window_is_read_at_a_time(
    tmp_path: Path, table: np.ndarray, kind: str, reads: dict[str, list[Any]]
) -> None:
    write(tmp_path, table, CUTS[40], kind)
    files = Files(str(tmp_path / f"part-*.{kind}"), columns=["a", "b"] if kind == "parquet" else [0, 1])
    flow = Flow(2, layers=realnvp(2, depth=1, hidden=(8,)), seed=1)
    flow.fit(files, epochs=1, seed=3, progress=False)
    flow.log_prob(files)
    assert max(last - first for first, last in reads["rows"]) <= WINDOW
    # Whatever walks over the table opens each file once in a window, and goes over the files in order otherwise.
    parts = len(CUTS[40]) - 1
    assert len(reads["windows"]) > 10
    assert len(reads["opened"]) <= parts * (len(reads["windows"]) + 1)
    reads["opened"].clear()
    rows.Rows.of(files, None, None)
    list(rows.Rows.of(files, None, None).windows())
    assert len(reads["opened"]) <= 2 * parts  # a file, and its first block that began in the one before


def test_a_context_that_is_larger_than_the_rows(
    tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch, reads: dict[str, list[Any]]
) -> None:
    monkeypatch.setattr(rows, "_BLOCK_ROWS", BLOCK)
    monkeypatch.setattr(rows, "_WINDOW_BYTES", N * 4)  # as much as the rows have, a third of the context
    files = Files(write(tmp_path, table, CUTS[3]))
    flow = Flow(1, layers=realnvp(1, depth=1, hidden=(8,)), context=3, seed=1)
    flow.fit(files.select([0]), context=files.select([1, 2, 3]), epochs=1, seed=3, progress=False)
    assert max(last - first for first, last in reads["rows"]) <= N // 3
    in_memory = [
        flow.reset(seed=1).fit(table[:, :1], context=context, epochs=1, seed=3, progress=False).parameters.tobytes()
        for context in (files.select([1, 2, 3]), table[:, 1:])
    ]
    assert in_memory[0] == in_memory[1]


@every_kind
def test_a_row_group_is_opened_once_in_a_shuffled_window(
    tmp_path: Path, table: np.ndarray, kind: str, reads: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_BLOCK_ROWS", 8)
    monkeypatch.setattr(rows, "_WINDOW_BYTES", WINDOW * 4 * 2)
    files = opened(tmp_path, table, CUTS[3], kind)
    for _ in rows.Rows.of(files, None, None).windows(np.random.default_rng(0)):
        assert reads["opened"], "each window reads"
        assert len(reads["opened"]) == len(set(reads["opened"]))
        reads["opened"].clear()
        files._kept = None  # the part that was opened last stays open for the next window


@every_kind
def test_a_share_reads_its_own_rows_only(
    tmp_path: Path, table: np.ndarray, kind: str, reads: dict[str, list[Any]]
) -> None:
    paths = write(tmp_path, table, CUTS[40], kind)
    part = FilesTable(paths, lambda count: slice(count // 2, 3 * count // 4))
    columns = [part.find(name) for name in (("a", "d") if kind == "parquet" else ("0", "3"))]
    (x, none), _ = part.read([columns, []])
    np.testing.assert_array_equal(np.asarray(x), table[N // 2 : 3 * N // 4][:, [0, 3]])
    assert np.asarray(none).shape == (N // 4, 0)
    assert {entry.path for entry in reads["opened"]} < set(paths[19:31])
    assert part.place(0) == f"row {(N // 2 - 5) % 64 + (kind == 'parquet')} of {paths[(N // 2 - 5) // 64 + 1]}"


# -- blocks ------------------------------------------------------------------------------------------------------


def test_blocks_are_written_to_files(tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_PART_BYTES", 700 * table.itemsize * 4)

    def blocks() -> Iterator[np.ndarray]:
        block = np.empty((100, 4), np.float32)
        for first in range(0, N, 100):
            block[...] = table[first : first + 100]
            yield block  # the same memory again and again

    files = Files.of_blocks(blocks(), tmp_path / "new" / "folder")
    np.testing.assert_array_equal(np.asarray(files), table)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        f"part-{i:05}.npy" for i in range(4)
    ]
    with pytest.raises(ValueError, match="already"):
        Files.of_blocks(blocks(), tmp_path / "new" / "folder")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no array"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], "block 1 has 3 columns of float64; block 0 has 2 of float64"),
        ([np.zeros((2, 2)), np.zeros((2, 2), np.float32)], "block 1 has 2 columns of float32"),
        ([np.zeros(3)], r"block 0 has shape \(3,\)"),
    ],
    ids=["none", "columns", "types", "axes"],
)
def test_blocks_that_are_no_table(tmp_path: Path, blocks: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Files.of_blocks(blocks, tmp_path)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_files_that_do_not_agree_are_named(tmp_path: Path, table: np.ndarray) -> None:
    first, second = write(tmp_path, table, CUTS[3])[:2]
    for wrong, message in (
        (table[:, :3], "part-001.npy has 3 columns of float32; .*part-000.npy has 4 columns of float32"),
        (table.astype(float), "part-001.npy has 4 columns of float64"),
        (np.array(["a"]), "part-001.npy: <U1 of shape"),
    ):
        np.save(second, wrong)
        with pytest.raises(ValueError, match=message):
            Files([first, second])
    Path(second).write_text("a,b\n")
    with pytest.raises(ValueError, match=r"part-001.npy: not a .npy file"):
        Files([first, second])
    csv = tmp_path / "table.csv"
    csv.write_text("a,b\n")
    for paths in ([first, csv], [csv], csv):
        with pytest.raises(ValueError, match=r"table.csv: the files of one table are all .npy, or all .parquet"):
            Files(paths)
    with pytest.raises(ValueError, match="given twice"):
        Files([first, first])
    with pytest.raises(ValueError, match=r"none-\*.npy: no file has such a name"):
        Files(str(tmp_path / "none-*.npy"))
    with pytest.raises(ValueError, match="no file"):
        Files([])
    with pytest.raises(FileNotFoundError):
        Files([first, str(tmp_path / "missing.npy")])
    with pytest.raises(TypeError, match="paths must be"):
        Files([table])  # type: ignore[list-item]


def test_parquet_files_that_do_not_agree_are_named(tmp_path: Path, table: np.ndarray) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    first, second = write(tmp_path, table, CUTS[3], "parquet")[:2]
    with pytest.raises(ValueError, match=r"part-000.parquet: column 'label' holds string"):
        Files([first, second])
    parquet.write_table(pyarrow.table({"a": [1.0], "c": [1.0]}), second)
    with pytest.raises(ValueError, match=r"part-001.parquet has 2 columns: a, c; .*part-000.parquet has 5 columns"):
        Files([first, second])


def test_columns_and_rows_that_are_not_there(tmp_path: Path, table: np.ndarray) -> None:
    files = Files(write(tmp_path, table, CUTS[3]))
    for call, kind, message in (
        (lambda: files.select([4]), ValueError, "columns must be at most 3"),
        (lambda: files.select(["x7"]), ValueError, "no column 'x7'; they are numbered 0 to 3"),
        (lambda: files.select("x1"), TypeError, "sequence"),
        (lambda: files.column(1.5), TypeError, "integer"),
        (lambda: files.rows(0, N + 1), ValueError, "stop must be at most"),
        (lambda: files.rows(5, 4), ValueError, "stop must be at least 5"),
    ):
        with pytest.raises(kind, match=message):
            call()
    flow = Flow(3, layers=[])
    with pytest.raises(ValueError, match=r"x has shape \(2500, 4\); this flow has dim=3"):
        flow.fit(files)
    with pytest.raises(ValueError, match=r"x has shape \(2500, 4\); this flow has dim=3"):
        flow.log_prob(files)


@pytest.mark.usefixtures("_windows")
def test_a_file_that_changes_is_noticed(tmp_path: Path, table: np.ndarray) -> None:
    paths = write(tmp_path, table, CUTS[3])
    files = Files(paths)
    np.save(paths[2], table[:5])
    with pytest.raises(ValueError, match=r"part-002.npy has changed"):
        files[-1]


@pytest.mark.usefixtures("_windows")
def test_bad_rows_are_named(tmp_path: Path, table: np.ndarray) -> None:
    bad = table[:, :2].copy()
    bad[1234, 1] = np.nan
    files = Files(write(tmp_path, bad, CUTS[40]))
    flow = Flow(2, layers=[])
    for call in (flow.fit, flow.initialize(table[:, :2]).check):
        with pytest.raises(ValueError, match="x has 1 row with NaN or infinity, first at row 1234"):
            call(files)


# -- the command line --------------------------------------------------------------------------------------------


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.chdir(folder)
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


FIT = ["--preset", "realnvp", "--depth", "1", "--hidden", "8", "--epochs", "1", "--seed", "3"]


@pytest.mark.usefixtures("_windows")
@every_kind
def test_commands_take_many_files(
    tmp_path: Path, table: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(diagnostics, "LEAST_CLASSIFIED", N + 1)
    call = functools.partial(run, tmp_path, monkeypatch, capsys)
    write(tmp_path, table, CUTS[3], kind)
    np.save(tmp_path / "all.npy", table)
    names = ["a,b", "c", "d"] if kind == "parquet" else ["0,1", "2", "3"]
    chosen = [f"--{what}={name}" for what, name in zip(("columns", "context", "weights"), names, strict=True)]
    status, _, said = call("fit", f"part-*.{kind}", "-o", "many", *FIT, *chosen)
    assert (status, said.count("fitted 2500 rows of 2 columns")) == (0, 1), said
    alone = call("fit", "all.npy", "-o", "one", *FIT, "--columns=0,1", "--context=2", "--weights=3")
    assert alone[0] == 0, alone
    flows = [Flow.load(tmp_path / name) for name in ("many", "one")]
    assert flows[0].parameters.tobytes() == flows[1].parameters.tobytes()
    paths = [f"part-00{i}.{kind}" for i in range(3)]
    found = call("score", "many", *paths)
    assert found == call("score", "one", "all.npy")
    assert found[0] == 0
    found = call("check", "many", *paths, f"--weights={names[2]}", "--seed=0")
    one = call("check", "one", "all.npy", "--weights=3", "--seed=0")
    assert found[0] == one[0] == 0
    assert found[1].splitlines()[:5] == one[1].splitlines()[:5]  # the others name columns


@pytest.mark.usefixtures("_windows")
def test_rows_of_many_files_that_have_gaps(
    tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    call = functools.partial(run, tmp_path, monkeypatch, capsys)
    bad = table[:, :2].copy()
    bad[705, 1] = np.nan
    write(tmp_path, bad, CUTS[3])
    status, _, said = call("fit", "part-*.npy", "-o", "model", *FIT)
    assert status == 2
    assert "part-000.npy and 2 other files: 1 row with a missing value, first in row 5 of part-002.npy" in said
    status, _, said = call("fit", "part-*.npy", "-o", "model", *FIT, "--drop-missing", "--held-out", "held.npy")
    assert (status, said.count("1 of 2,500 rows are left out")) == (0, 1), said
    assert len(np.load(tmp_path / "held.npy")) == 500
    status, scores, _ = call("score", "model", "part-000.npy", "part-001.npy", "part-002.npy")
    assert scores.splitlines()[706] == "nan"
    assert scores.count("nan") == 1


def test_what_the_commands_refuse(
    tmp_path: Path, table: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    call = functools.partial(run, tmp_path, monkeypatch, capsys)
    write(tmp_path, table, CUTS[3])
    for arguments, message in (
        (["fit", "none-*.npy", "-o", "model"], "none-*.npy: no file has such a name"),
        (["fit", "part-*.npy", "-o", "part-001.npy"], "part-001.npy is the same file as"),
        (["fit", "part-*.npy", "-", "-o", "model"], "none is .csv"),
        (["fit", "part-*.npy", "-o", "model", "--mixed"], "is read from one file"),
    ):
        status, _, said = call(*arguments)
        assert (status, message in said) == (2, True), said
