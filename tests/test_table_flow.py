"""A density over the rows of a table: it is normalised, also with gaps, and its samples follow it."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pushforward import Adam, Category, Column, Epoch, FileFormatError, Flow, Integer, Positive, Real, TableFlow, plot
from scipy import stats

N = 2000


def frame(seed: int = 0, n: int = N) -> pd.DataFrame:
    """Return a table of every type, whose columns depend on each other."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    kind = np.where(size + 0.5 * rng.normal(size=n) > 0, "large", "small").astype(object)
    kind[rng.uniform(size=n) < 0.1] = None
    rain = np.where(rng.uniform(size=n) < 0.6, 0.0, rng.gamma(2.0, size=n))
    weight = 50 + 10 * size + rng.normal(size=n)
    weight[rng.uniform(size=n) < np.where(size > 0, 0.5, 0.1)] = np.nan
    return pd.DataFrame(
        {
            "size": size.astype(np.float32),
            "kind": kind,
            "grade": pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
            "rain": rain,
            "weight": weight,
            "count": rng.poisson(np.exp(4 + 0.3 * size)).astype(np.int64),
            "flag": rng.uniform(size=n) < 0.3,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), unit="D"),
            "planet": "earth",
        }
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return frame()


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame) -> TableFlow:
    return TableFlow().fit(table, epochs=15, seed=0)


# -- the density -------------------------------------------------------------------------------------------------


def small() -> tuple[TableFlow, dict[str, np.ndarray]]:
    """Return a model of few columns, all with gaps, whose density can be summed and integrated."""
    rng = np.random.default_rng(3)
    n = 3000
    kind = rng.choice(np.array(["a", "b", None], dtype=object), n, p=[0.5, 0.3, 0.2])
    x = rng.normal(np.where(kind == "a", 2.0, -1.0), 1.0)
    x[rng.uniform(size=n) < np.where(kind == "a", 0.4, 0.1)] = np.nan
    rain = np.where(rng.uniform(size=n) < 0.5, 0.0, rng.gamma(3.0, np.where(np.isnan(x), 1.0, 2.0)))
    rain[rng.uniform(size=n) < 0.2] = np.nan
    data = {"kind": kind, "x": x, "rain": rain}
    return TableFlow({"rain": Column(Positive(), atoms=[0])}).fit(data, epochs=10, seed=0), data


def grid_of(kinds: list[object], x: np.ndarray, rain: np.ndarray) -> dict[str, np.ndarray]:
    rows = list(itertools.product(kinds, x, rain))
    kind = np.empty(len(rows), dtype=object)
    kind[:] = [row[0] for row in rows]
    return {"kind": kind, "x": np.array([row[1] for row in rows]), "rain": np.array([row[2] for row in rows])}


def test_the_density_of_rows_with_gaps_is_that_of_what_is_there_and_all_add_up_to_one() -> None:
    flow, _ = small()
    x, dx = np.linspace(-9, 11, 1601, retstep=True)
    # The density is uneven, and rain spreads over scales: cells of equal ratio, and their middles.
    ends = np.geomspace(1e-3, 200, 201)
    rain, drain = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    kinds: list[object] = ["a", "b", None]

    def mass(xs: np.ndarray, rains: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the mass of each kind, over values of the two numbers in cells of these sizes."""
        density = np.exp(flow.log_prob(grid_of(kinds, xs, rains)))
        return density.reshape(len(kinds), -1) @ cells.ravel()

    gap, zero = np.array([np.nan]), np.array([0.0])
    parts = {
        (False, False): mass(x, rain, np.full((len(x), 1), dx) * drain),
        (False, True): mass(x, gap, np.full(len(x), dx)),
        (True, False): mass(gap, rain, drain),
        (True, True): mass(gap, gap, np.ones(1)),
    }
    atoms = {False: mass(x, zero, np.full(len(x), dx)), True: mass(gap, zero, np.ones(1))}
    total = sum(part.sum() for part in (*parts.values(), *atoms.values()))
    assert total == pytest.approx(1, abs=3e-3)
    # The density of "kind" where both numbers are missing does not depend on what would stand there: it is the mass of
    # the codes alone. That of each pattern is the integral of the flows' parts, which are 1, times that mass.
    model = flow.schema
    assert all(model[name].gaps for name in ("kind", "x", "rain"))
    counts = np.array([np.exp(flow.log_prob({"kind": [kind], "x": gap, "rain": gap}))[0] for kind in kinds])
    np.testing.assert_allclose(parts[True, True], counts, rtol=1e-12)


def test_a_gap_leaves_out_a_factor_and_nothing_else() -> None:
    """The ratio of the densities with and without a last number integrates to the ratio of the masses of its codes."""
    flow, _ = small()
    rain, drain = np.linspace(0.005, 60, 6000, retstep=True)
    n = len(rain)
    kind = np.empty(n, dtype=object)
    kind[:] = "a"
    integral = np.exp(flow.log_prob({"kind": kind, "x": np.full(n, 0.3), "rain": rain})).sum() * drain
    one = {"kind": kind[:1], "x": np.array([0.3])}
    there = integral + np.exp(flow.log_prob({**one, "rain": np.array([0.0])}))[0]
    missing = np.exp(flow.log_prob({**one, "rain": np.array([np.nan])}))[0]
    # Summed over what "rain" may be, this is the density of the other two, which is the same from many draws.
    draws = flow.sample(200_000, seed=4)
    near = (np.abs(draws["x"] - 0.3) < 0.1) & (draws["kind"] == "a")
    share = near.mean() / 0.2
    assert there + missing == pytest.approx(share, abs=5 * np.sqrt(near.mean() / 200_000) / 0.2 + 0.002)


def test_masses_of_whole_numbers_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.uniform(size=N) < 0.3, 7, rng.poisson(60, N))
    flow = TableFlow({"n": Column(Integer(0, 200), atoms=[7])}).fit({"n": values}, epochs=5, seed=0)
    mass = np.exp(flow.log_prob({"n": np.arange(-5, 250)}))
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    assert mass[5 + 7] == pytest.approx(0.3, abs=0.05)
    assert mass[:5].sum() == mass[206:].sum() == 0
    assert flow.log_prob({"n": [3.5]})[0] == -np.inf


def test_the_density_of_rounded_numbers_is_that_of_their_cells() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=5000), 1)
    flow = TableFlow().fit({"x": values}, epochs=5, seed=0)
    column = flow.schema["x"]
    assert column.step == pytest.approx(0.1)
    every = np.round(np.arange(-300, 301) * 0.1, 1)
    density = np.exp(flow.log_prob({"x": every}))
    is_atom = np.isin(every, column.atoms)
    assert density[is_atom].sum() + 0.1 * density[~is_atom].sum() == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_density() -> None:
    flow, _ = small()
    n = 50_000
    draws = flow.sample(n, seed=1)
    kinds: list[object] = ["a", "b", None]
    gap = np.array([np.nan])
    for kind in kinds:
        is_kind = pd.isna(draws["kind"]) if kind is None else draws["kind"] == kind
        for other, there in ((0.0, draws["rain"] == 0), (np.nan, np.isnan(draws["rain"]))):
            found = is_kind & np.isnan(draws["x"]) & there
            mass = np.exp(flow.log_prob({"kind": [kind], "x": gap, "rain": np.array([other])}))[0]
            assert found.mean() == pytest.approx(mass, abs=5 * np.sqrt(mass / n))
    chosen = (draws["kind"] == "b") & (draws["rain"] == 0) & ~np.isnan(draws["x"])
    x = np.linspace(-12, 12, 4001)
    kind_b = np.empty(len(x), dtype=object)
    kind_b[:] = "b"
    density = np.exp(flow.log_prob({"kind": kind_b, "x": x, "rain": np.zeros(len(x))}))
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    assert stats.kstest(draws["x"][chosen], lambda v: np.interp(v, x, cdf / cdf[-1])).pvalue > 1e-4


# -- tables ------------------------------------------------------------------------------------------------------


def test_samples_are_a_table_like_the_one_fitted(table: pd.DataFrame, fitted: TableFlow) -> None:
    draws = fitted.sample(500, seed=0)
    assert list(draws.columns) == list(table.columns)
    assert draws.dtypes.to_dict() == table.dtypes.to_dict()
    assert (draws["planet"] == "earth").all()
    assert set(draws["kind"].dropna()) == {"large", "small"}
    assert draws["count"].between(table["count"].min(), table["count"].max()).all()
    assert (draws["day"].dt.normalize() == draws["day"]).all()
    assert np.isfinite(fitted.log_prob(draws)).all()


def test_gaps_come_as_often_as_in_the_table_or_not_at_all(table: pd.DataFrame, fitted: TableFlow) -> None:
    draws = fitted.sample(4000, seed=0)
    for name in table:
        share = table[name].isna().mean()
        assert draws[name].isna().mean() == pytest.approx(share, abs=0.05)
    # They come where they came.
    assert draws["weight"].isna()[draws["size"] > 0].mean() > 0.35 > draws["weight"].isna()[draws["size"] < 0].mean()
    assert not fitted.sample(500, gaps=False, seed=0).isna().any().any()


def test_a_column_that_is_nearly_empty_stays_so() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, N)
    x[rng.uniform(size=N) < 0.9] = np.nan
    draws = TableFlow().fit({"x": x, "y": rng.normal(size=N)}, epochs=10, seed=0).sample(4000, seed=0)
    assert np.isnan(draws["x"]).mean() == pytest.approx(0.9, abs=0.03)
    assert np.nanmean(draws["x"]) == pytest.approx(5, abs=0.7)


def test_a_nullable_table_of_pandas_keeps_its_types() -> None:
    rng = np.random.default_rng(0)
    numbers = pd.Series(rng.integers(0, 500, N), dtype="Int32").mask(rng.uniform(size=N) < 0.2)
    flags = pd.Series(rng.uniform(size=N) < 0.5, dtype="boolean").mask(rng.uniform(size=N) < 0.2)
    table = pd.DataFrame({"n": numbers, "flag": flags, "zone": pd.Timestamp("2020-01-01", tz="Europe/Berlin")})
    draws = TableFlow().fit(table, epochs=3, seed=0).sample(300, seed=0)
    assert draws.dtypes.to_dict() == table.dtypes.to_dict()
    assert 0.1 < draws["n"].isna().mean() < 0.3
    assert (draws["zone"] == table["zone"][0]).all()


def test_a_table_of_pyarrow(table: pd.DataFrame) -> None:
    given = pa.Table.from_pandas(table.drop(columns="grade"))
    flow = TableFlow().fit(given, epochs=3, seed=0)
    draws = flow.sample(200, seed=0)
    assert isinstance(draws, pa.Table)
    assert draws.column_names == given.column_names
    assert flow.log_prob(draws).shape == (200,)
    for name in ("size", "kind", "count", "flag"):
        assert draws.schema.field(name).type in (given.schema.field(name).type, pa.string())


def test_columns_may_stand_in_any_order_and_beside_others(table: pd.DataFrame, fitted: TableFlow) -> None:
    expected = fitted.log_prob(table[:100])
    shuffled = table[:100][table.columns[::-1]].assign(more=1)
    np.testing.assert_array_equal(fitted.log_prob(shuffled), expected)


def test_what_the_schema_does_not_allow_has_no_mass(table: pd.DataFrame, fitted: TableFlow) -> None:
    row = table[:1]
    for change in ({"kind": "huge"}, {"planet": "mars"}, {"rain": -1.0}, {"size": np.nan}, {"count": -3}):
        assert fitted.log_prob(row.assign(**change))[0] == -np.inf


def test_an_identifier_is_left_out_and_named() -> None:
    rng = np.random.default_rng(0)
    table = {"x": rng.normal(size=200), "id": [f"p{i}" for i in range(200)]}
    with pytest.warns(RuntimeWarning, match="'id' is left out: all its values are different strings"):
        flow = TableFlow().fit(table, epochs=2, seed=0)
    assert flow.columns == ("x",)
    again = TableFlow(flow.schema).fit(table, epochs=2, seed=0)  # known by now
    assert again.schema == flow.schema


def test_an_array_with_gaps() -> None:
    """The density of a row with gaps is that of what is there, and the pattern of gaps is modelled."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 1)) + 0.3 * rng.normal(size=(N, 3))
    x[x[:, 0] > 0.5, 1] = np.nan
    x[rng.uniform(size=N) < 0.2, 2] = np.nan
    flow = TableFlow().fit(x, epochs=10, seed=0)
    assert flow.columns == ("x0", "x1", "x2")
    draws = flow.sample(3000, seed=0)
    assert draws.shape == (3000, 3)
    assert np.isnan(draws[draws[:, 0] > 0.7, 1]).mean() > 0.8
    assert np.isnan(draws[draws[:, 0] < 0.2, 1]).mean() < 0.2
    assert np.isnan(draws[:, 2]).mean() == pytest.approx(0.2, abs=0.04)
    # Summed over the last column, gap and numbers, the density is that of the others: the same with any order of sums.
    at, last = np.array([-0.5, -0.4]), np.linspace(-8, 8, 4001)
    rows = np.column_stack([np.tile(at, (len(last), 1)), last])
    there = np.exp(flow.log_prob(rows)).sum() * (last[1] - last[0])
    missing = np.exp(flow.log_prob(np.array([[*at, np.nan]])))[0]
    assert missing / (there + missing) == pytest.approx(0.2, abs=0.05)
    with pytest.raises(ValueError, match="table has 2 columns; the model's has 3"):
        flow.log_prob(x[:, :2])
    with pytest.raises(ValueError, match="rows with NaN or infinity, first at row"):
        Flow(3).fit(x)
    single = TableFlow().fit(x.astype(np.float32), epochs=1, seed=0).sample(3, seed=0)
    assert single.dtype == np.float32
    with pytest.raises(TypeError, match="column 'kind' holds no numbers"):
        small()[0].sample(3, library="array")


# -- the same bits -----------------------------------------------------------------------------------------------


def test_bits_depend_on_neither_threads_nor_neighbours(table: pd.DataFrame, fitted: TableFlow) -> None:
    expected, draws = fitted.log_prob(table), fitted.sample(300, seed=5)
    try:
        for threads in (1, 2, 3):
            fitted.num_threads = threads
            assert fitted.log_prob(table).tobytes() == expected.tobytes()
            pd.testing.assert_frame_equal(fitted.sample(300, seed=5), draws)
    finally:
        fitted.num_threads = None
    parts = [fitted.log_prob(table[:700]), fitted.log_prob(table[700:])]
    assert np.concatenate(parts).tobytes() == expected.tobytes()


def test_a_seed_fixes_the_fit() -> None:
    table = frame(n=300)
    scores = [TableFlow(num_threads=k).fit(table, epochs=2, seed=3).log_prob(table).tobytes() for k in (1, 2)]
    assert scores[0] == scores[1]


def test_a_file_holds_the_same_model(table: pd.DataFrame, fitted: TableFlow, tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    fitted.save(path)
    twin = TableFlow.load(path)
    assert twin.schema == fitted.schema
    assert twin.log_prob(table).tobytes() == fitted.log_prob(table).tobytes()
    pd.testing.assert_frame_equal(twin.sample(100, seed=0), fitted.sample(100, seed=0))
    assert {name: len(curves) for name, curves in twin.history.items()} == {
        name: len(curves) for name, curves in fitted.history.items()
    }
    with pytest.raises(FileFormatError, match=r"the model of a table, which TableFlow\.load reads"):
        Flow.load(path)
    Flow(1).save(path)
    with pytest.raises(FileFormatError, match=r"no model of a table; a flow is loaded with Flow\.load"):
        TableFlow.load(path)


def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path) -> None:
    flow, data = small()
    path = tmp_path / "table.safetensors"
    flow.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(header))] = int(rng.integers(32, 127))
        path.write_bytes(damaged)
        try:
            twin = TableFlow.load(path)
        except FileFormatError:
            refused += 1
            continue
        if set(twin.columns) == set(data):
            with_gaps = {name: values[:5] for name, values in data.items()}
            assert twin.log_prob(with_gaps).shape == (5,)
    assert refused > 200


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda flow: flow.fit([1.0, 2.0]), "must be a DataFrame"),
        (lambda flow: flow.fit(np.zeros(5)), r"table has shape \(5,\); an array must be"),
        (lambda flow: flow.fit(np.array([["a"]])), "an array must hold numbers"),
        (lambda flow: flow.fit({"x": []}), "no rows"),
        (lambda flow: flow.fit({}), "no columns"),
        (lambda flow: flow.fit({"x": [1.0], "y": [1.0, 2.0]}), "different lengths"),
        (lambda flow: flow.fit({"x": [1.0, np.inf]}), "column 'x' has 1 cell with infinity, first at row 1"),
        (lambda flow: flow.fit({"x": [object(), 1]}), "column 'x' holds int, object"),
        (lambda flow: flow.fit({"x": np.zeros((3, 2))}), "column 'x' has shape"),
        (lambda flow: flow.fit({3: [1.0]}), "strings as names"),
        (lambda flow: flow.fit({"x": [1.0]}, validation=1.0), "validation must be in"),
        (lambda flow: flow.fit({"x": [1.0]}, epochs=0), "epochs must be at least 1"),
        (lambda flow: flow.log_prob({"x": [1.0]}), "has not been fitted"),
        (lambda flow: flow.sample(3), "has not been fitted"),
        (lambda flow: flow.save("x.safetensors"), "has not been fitted"),
    ],
)
def test_wrong_tables_are_refused(call: Callable[[TableFlow], object], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        call(TableFlow())


def test_wrong_columns_are_refused(table: pd.DataFrame, fitted: TableFlow) -> None:
    with pytest.raises(ValueError, match="table has no column 'size'"):
        fitted.log_prob(table.drop(columns="size"))
    with pytest.raises(TypeError, match="column 'rain' holds strings; the model's holds Positive"):
        fitted.log_prob(table.assign(rain="wet"))
    with pytest.raises(TypeError, match="gaps must be True or False"):
        fitted.sample(3, gaps="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a column of strings cannot be Real"):
        TableFlow({"kind": Real()}).fit(table)
    with pytest.raises(TypeError, match="column 'day' holds dates; the model's holds Category"):
        TableFlow({"day": Category(["a"])}).fit(table)


# -- what a fit is told, and what is left when it is interrupted ----------------------------------------------------


def test_a_column_of_any_shape_is_drawn_as_it_is() -> None:
    """Clusters far apart, and values that come often: what a spline alone does not reach in few steps."""
    rng = np.random.default_rng(0)
    far = np.where(rng.uniform(size=N) < 0.2, rng.normal(5e6, 1e3, N), rng.normal(5e5, 1e3, N)).round()
    often = rng.choice([3, 10, 11, 40, 90], N) * 10 + np.where(rng.uniform(size=N) < 0.5, rng.integers(0, 9, N), 0)
    flow = TableFlow({"often": Integer(0, 1000)}).fit({"far": far, "often": often}, epochs=3, seed=0)
    draws = flow.sample(4000, seed=0)
    for name, values in (("far", far), ("often", often)):
        assert stats.ks_2samp(draws[name], values).statistic < 0.05
    assert not ((draws["far"] > 6e5) & (draws["far"] < 4.9e6)).mean() > 0.01


def test_rare_levels_have_their_shares() -> None:
    rng = np.random.default_rng(0)
    levels = np.array(["often", "rare a", "rare b", "rare c"], dtype=object)
    kind = np.concatenate([np.full(190, levels[0]), np.repeat(levels[1:], [4, 3, 2])])
    rng.shuffle(kind)
    flow = TableFlow().fit({"kind": kind, "x": rng.normal(size=199)}, epochs=2, seed=0)
    draws = flow.sample(20_000, seed=0)["kind"]
    counts = pd.Series(draws).value_counts()
    assert set(counts.index) == set(levels)
    # Half a row more for each, so that a level of the schema without rows is not impossible.
    assert counts["rare a"] / counts["rare c"] == pytest.approx(4.5 / 2.5, abs=0.5)
    x = np.linspace(-15, 15, 4001)
    total = 0.0
    for level in levels:
        column = np.full(len(x), level, dtype=object)
        total += np.exp(flow.log_prob({"kind": column, "x": x})).sum() * (x[1] - x[0])
    assert total == pytest.approx(1, abs=2e-3)


def test_weights_are_numbers_of_rows() -> None:
    rng = np.random.default_rng(0)
    kind, x = rng.choice(np.array(["a", "b"], dtype=object), N), rng.normal(size=N)
    weights = np.where(kind == "a", 3.0, 1.0) * (x > -0.5)
    flow = TableFlow().fit({"kind": kind, "x": x}, weights=weights, epochs=10, seed=0)
    draws = flow.sample(5000, seed=0)
    assert (draws["kind"] == "a").mean() == pytest.approx(0.75, abs=0.03)
    assert (draws["x"] < -0.6).mean() < 0.02
    with pytest.raises(ValueError, match="weights has shape"):
        flow.fit({"x": x}, weights=weights[:5])


def test_a_schedule_holds_for_every_part() -> None:
    table = frame(n=300)[["size", "kind"]]
    for schedule in ("constant", "cosine"):
        flow = TableFlow().fit(table, epochs=30, patience=None, optimizer=Adam(2e-3), schedule=schedule, seed=0)
        assert set(flow.history) == {"masses", "size"}
        for history in flow.history.values():
            rates = history["learning_rate"]
            assert rates.max() <= 2e-3
            assert (rates[-1] == 2e-3) == (schedule == "constant")


def test_rows_to_hold_out_can_be_a_table() -> None:
    table, held = frame(0, 400), frame(1, 100)
    flow = TableFlow().fit(table.drop(columns="day"), validation=held, epochs=3, seed=0)
    for history in flow.history.values():
        assert np.isfinite(history["validation_loss"]).all()
    with pytest.raises(ValueError, match="validation has 1 row with values that the schema does not allow, first at"):
        flow.fit(table[["kind"]], validation=held[["kind"]].assign(kind=["huge"] + ["large"] * 99))
    with pytest.raises(ValueError, match="validation has no column 'kind'"):
        flow.fit(table[["kind"]], validation=held[["rain"]])


def test_a_callback_sees_every_epoch_and_can_end_the_fit() -> None:
    table, seen = frame(n=300), list[tuple[str, int]]()

    def stop(flow: TableFlow, part: str, epoch: Epoch) -> bool:
        seen.append((part, epoch.epoch))
        assert np.isfinite(flow.log_prob(table)).all()
        return part == "rain"

    flow = TableFlow().fit(table, epochs=2, seed=0, callback=stop)
    assert seen == [("masses", 1), ("masses", 2), ("size", 1), ("size", 2), ("rain", 1)]
    assert flow.history["rain"].stopped == "callback"
    assert set(flow.history) == {"masses", "size", "rain"}
    with pytest.raises(TypeError, match="callback must be callable"):
        flow.fit(table, callback=3)  # type: ignore[arg-type]


def test_an_interrupted_fit_leaves_a_model_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    table, path = frame(n=300), tmp_path / "fit.safetensors"
    options: dict[str, object] = {"epochs": 2, "seed": 3}
    whole = TableFlow().fit(table, **options)  # type: ignore[arg-type]

    def interrupt(_: TableFlow, part: str, __: Epoch) -> None:
        if part == "rain":
            raise KeyboardInterrupt

    flow = TableFlow()
    with pytest.raises(KeyboardInterrupt):
        flow.fit(table, callback=interrupt, checkpoint=path, **options)  # type: ignore[arg-type]
    assert np.isfinite(flow.log_prob(table)).all()
    assert flow.history["rain"].stopped == "interrupted"
    assert np.isfinite(TableFlow.load(path).log_prob(table)).all()
    again = TableFlow().fit(table, resume=path, checkpoint=path, epochs=2)
    assert again.log_prob(table).tobytes() == whole.log_prob(table).tobytes()
    assert list(again.history) == list(whole.history)
    with pytest.raises(ValueError, match="here epochs was 2, now 3"):
        TableFlow().fit(table, resume=path, epochs=3)
    with pytest.raises(ValueError, match=r"here optimizer was None, now Adam.*; schedule was cosine, now constant"):
        TableFlow().fit(table, resume=path, epochs=2, optimizer=Adam(0.1), schedule="constant")
    with pytest.raises(ValueError, match="here rows was 300 rows with the hash"):
        TableFlow().fit(table[:299], resume=path, epochs=2)
    flow.save(path)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        TableFlow().fit(table, resume=path)


def test_a_bar_shows_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    TableFlow().fit(frame(n=200)[["size", "kind"]], epochs=2, seed=0, progress=True)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "size: epoch 2/2" in shown


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda flow: pickle.loads(pickle.dumps(flow))], ids=["copy", "pickle"]
)
def test_copies_are_the_same_model(twin_of: Callable[[TableFlow], TableFlow]) -> None:
    table = frame(n=200)
    flow = TableFlow({"count": Integer(0, 1000)}, num_threads=2)
    assert repr(twin_of(flow)) == repr(flow)
    flow.fit(table, epochs=1, seed=0)
    twin = twin_of(flow)
    assert twin.log_prob(table).tobytes() == flow.log_prob(table).tobytes()
    pd.testing.assert_frame_equal(twin.sample(50, seed=0), flow.sample(50, seed=0))
    assert twin.num_threads == 2
    # They share nothing.
    scores = flow.log_prob(table)
    twin.fit(table[:100], epochs=1, seed=1)
    assert flow.log_prob(table).tobytes() == scores.tobytes()


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_tables_of_other_libraries(library: str) -> None:
    table = frame(n=400).drop(columns="grade").astype({"kind": object, "planet": object})
    given = pl.from_pandas(table) if library == "polars" else pa.Table.from_pandas(table, preserve_index=False)
    flow = TableFlow().fit(given, epochs=2, seed=0)
    draws = flow.sample(100, seed=0)
    assert type(draws) is type(given)
    if library == "polars":
        assert dict(draws.schema) == {**given.schema, "day": pl.Datetime("us")}
    else:
        assert [field.name for field in draws.schema] == [field.name for field in given.schema]
        # Dates are in microseconds, and text is of the plain type.
        expected = {"day": pa.timestamp("us"), "kind": pa.string(), "planet": pa.string()}
        for field in given.schema:
            assert draws.schema.field(field.name).type == expected.get(field.name, field.type), field.name
    # A table means the same whatever library it is of.
    assert flow.log_prob(given).tobytes() == flow.log_prob(table).tobytes()
    kinds: dict[str, type] = {"arrays": dict, "pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table}
    for other, kind in kinds.items():
        drawn = flow.sample(5, library=other, seed=0)
        assert isinstance(drawn, kind)
        assert np.isfinite(flow.log_prob(drawn)).all()


# -- checks ------------------------------------------------------------------------------------------------------


def test_a_check_finds_nothing_in_samples_and_names_what_differs(fitted: TableFlow) -> None:
    rows = fitted.sample(1500, seed=7)
    report = fitted.check(rows, seed=0)
    assert report.rows == 1500
    assert report.next == "No problem detected in 1,500 rows."
    assert report.log_likelihood is not None
    assert report.log_likelihood.value == pytest.approx(fitted.log_prob(rows).mean())
    assert min(found.p_value for found in report.columns.values()) > 1e-4
    assert report.classifier is not None
    assert abs(report.classifier.value - 0.5) < 5 * report.classifier.error
    for change, name in (
        ({"weight": rows["weight"] * 1.1}, "weight"),
        ({"flag": ~rows["flag"]}, "flag"),
        ({"kind": rows["kind"].fillna("small")}, "kind"),
    ):
        report = fitted.check(rows.assign(**change), seed=0)
        assert f"rows and model differ in '{name}'" in report.next
        assert min(report.columns, key=lambda column: report.columns[column].p_value) == name


def test_a_check_counts_values_that_are_not_allowed(table: pd.DataFrame, fitted: TableFlow) -> None:
    rows = table[:300].reset_index(drop=True)
    report = fitted.check(
        rows.assign(kind=rows["kind"].where(rows.index > 9, "huge"), count=rows["count"] - 30), seed=0
    )
    assert report.not_allowed["kind"] == 10
    assert report.not_allowed["count"] == (rows["count"] - 30 < table["count"].min()).sum()
    assert report.next.startswith("Give a wider schema")
    nothing = fitted.check(rows.assign(planet="mars"), seed=0)
    assert nothing.log_likelihood is None
    assert nothing.columns == {}
    assert "values that the schema does not have: 300 in 'planet'" in repr(nothing)
    with pytest.raises(ValueError, match="table has 1 rows; a check needs at least 2"):
        fitted.check(rows[:1])


# -- plots -------------------------------------------------------------------------------------------------------


def test_a_plot_shows_shares_of_rows_and_samples(table: pd.DataFrame, fitted: TableFlow) -> None:
    figure = plot.table_corner(fitted, table, columns=["kind", "weight", "rain"], n=2000, seed=0)
    assert len(figure.axes) == 6
    bars = figure.axes[0].patches
    heights = [bar.get_data().values[0] for bar in bars]
    shares = table["kind"].value_counts(normalize=True, dropna=False)
    np.testing.assert_allclose(heights[:3], [shares["large"], shares["small"], table["kind"].isna().mean()])
    drawn = fitted.sample(2000, seed=0)["kind"]
    np.testing.assert_allclose(heights[3:], [(drawn == "large").mean(), (drawn == "small").mean(), drawn.isna().mean()])
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["large", "small", "missing"]
    assert "missing" in [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert len(plot.table_corner(fitted, seed=0, columns=["day"]).axes) == 1
    many = TableFlow({"x": Category(list(range(30)))}).fit({"x": np.arange(30).repeat(20)}, epochs=1, seed=0)
    labels = [label.get_text() for label in plot.table_corner(many, n=500, seed=0).axes[0].get_xticklabels()]
    assert len(labels) == 8
    assert labels[-1] == "others"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"columns": ["nothing"]}, "column is 'nothing'; the model's columns are"),
        ({"columns": "size"}, "a sequence of names"),
        ({"columns": ["size", "size"]}, "different columns"),
        ({"n": 10}, "n must be at least 100"),
        ({"data": {"size": [1.0]}}, "data has no column 'kind'"),
    ],
    ids=["unknown", "string", "twice", "few", "missing"],
)
def test_wrong_plots_are_refused(fitted: TableFlow, options: dict[str, object], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        plot.table_corner(fitted, **options)  # type: ignore[arg-type]
