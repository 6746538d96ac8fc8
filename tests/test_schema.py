"""Kinds of columns, the schema of a table, and what is inferred."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pushforward import (
    Above,
    Below,
    Boolean,
    Category,
    Circle,
    Column,
    Date,
    Integer,
    Interval,
    Positive,
    Real,
    Schema,
    TableFlow,
)
from pushforward._tables.cells import of_mapping
from pushforward._tables.coding import Coding
from pushforward._tables.infer import infer

N = 600
RNG = np.random.default_rng(0)

# A column, and the kind that is inferred.
INFERRED: dict[str, tuple[object, object]] = {
    "real": (RNG.normal(size=N), Real()),
    "positive": (RNG.gamma(2.0, size=N), Positive()),
    "fraction": (RNG.uniform(size=N), Interval(0, 1)),
    "counts": (RNG.poisson(300, N), None),
    "few": (RNG.integers(0, 4, N), Category((0, 1, 2, 3), ordered=True)),
    "few floats": (RNG.choice([0.5, 1.5], N), Category((0.5, 1.5), ordered=True)),
    "text": (RNG.choice(["b", "a"], N), Category(("a", "b"))),
    "boolean": (RNG.uniform(size=N) < 0.5, Boolean()),
    "constant": (np.full(N, 3), Category((3,), ordered=True)),
    "days": (np.datetime64("2020-01-01") + RNG.integers(0, 3000, N), "D"),
    "seconds": (np.datetime64("2020-01-01T00:00:01") + RNG.integers(0, 10**8, N), "s"),
}


@pytest.mark.parametrize("name", INFERRED)
def test_the_kind_is_inferred(name: str) -> None:
    values, kind = INFERRED[name]
    schema, notes = infer(of_mapping({name: values}), {})
    assert not notes
    found = schema[name].kind
    if isinstance(kind, str):
        kind = Date(kind, str(np.min(values)), str(np.max(values)))  # type: ignore[call-overload]
    if kind is None:
        values = np.asarray(values)
        kind = Integer(int(values.min()), int(values.max()))
    assert found == kind
    assert not schema[name].gaps


def test_values_of_many_rows_are_atoms() -> None:
    rain = np.where(RNG.uniform(size=N) < 0.7, 0.0, RNG.gamma(2.0, size=N))
    column = infer(of_mapping({"rain": rain}), {})[0]["rain"]
    assert column == Column(Positive(), atoms=(0.0,), dtype="float64")


def test_rounding_is_found() -> None:
    values = np.round(RNG.normal(0, 0.3, 4000), 2)
    column = infer(of_mapping({"x": values}), {})[0]["x"]
    assert column.step == pytest.approx(0.01)


def test_gaps_and_an_identifier_are_found() -> None:
    values = RNG.normal(size=N)
    values[::3] = np.nan
    schema, notes = infer(of_mapping({"x": values, "name": [f"row {i}" for i in range(N)]}), {})
    assert schema["x"].gaps
    assert schema.left_out == ("name",)
    assert notes == ["'name' is left out: all its values are different strings"]


def test_what_is_given_is_taken() -> None:
    table = {"x": RNG.uniform(size=N), "y": RNG.integers(0, 9, N)}
    schema, _ = infer(of_mapping(table), {"x": Real(), "y": Integer(0, 100)})
    assert schema["x"].kind == Real()
    assert schema["y"].kind == Integer(0, 100)
    with pytest.raises(ValueError, match="schema has a column 'z'; those of the table are 'x', 'y'"):
        infer(of_mapping(table), {"z": Real()})


def test_a_column_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'x' has no value in any row"):
        infer(of_mapping({"x": np.full(5, np.nan)}), {})


SCHEMA = Schema(
    {
        "a": Column(Category(["x", "y"]), gaps=True, dtype="str"),
        "b": Column(Integer(-3, 9), atoms=[0, 5]),
        "c": Column(Above(1.5), step=0.5),
        "d": Column(Below(0)),
        "e": Column(Circle(0, 360), atoms=[10.0]),
        "f": Column(Date("s")),
        "i": Column(Date("D", "2020-01-01", "2021-03-05")),
        "g": Column(Boolean()),
        "h": Column(Category([1, 2.5], ordered=True)),
    },
    left_out=["name"],
)


def test_a_schema_prints_as_code() -> None:
    assert eval(repr(SCHEMA)) == SCHEMA


def test_a_schema_becomes_json_and_back() -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Integer(3, 3), "low < high"),
        (lambda: Integer(0.5, 3), "must be an integer"),  # type: ignore[arg-type]
        (lambda: Integer(0, 1 << 60), "at most"),
        (lambda: Above(np.inf), "must be in"),
        (lambda: Category([]), "1 to 65534 values"),
        (lambda: Category(["a", "a"]), "twice"),
        (lambda: Category("ab"), "sequence of values"),
        (lambda: Category([None]), "strings, finite numbers or booleans"),  # type: ignore[list-item]
        (lambda: Date("h"), "Date's unit"),
        (lambda: Date("D", "2020-01-01"), "both ends"),
        (lambda: Date("D", "2020-01-02", "2020-01-01"), "low <= high"),
        (lambda: Date("D", "today", "later"), "must be a date"),
        (lambda: Date("D", 3, 4), "must be a string"),  # type: ignore[arg-type]
        (lambda: Column("Real"), "kind must be"),  # type: ignore[arg-type]
        (lambda: Column(Boolean(), atoms=[0]), "neither atoms nor a step"),
        (lambda: Column(Integer(0, 9), atoms=[0.5]), "must be whole numbers"),
        (lambda: Column(Real(), atoms=[1, 1]), "twice"),
        (lambda: Column(Circle(0, 1), step=0.1), "no step"),
        (lambda: Column(Real(), step=-1), "step must be"),
        (lambda: Schema({}), "needs a mapping"),
        (lambda: Schema({"a": Column(Real())}, left_out=["a"]), "left_out"),
        (lambda: TableFlow({"a": "Real"}), r"schema\['a'\] must be"),  # type: ignore[dict-item]
        (lambda: TableFlow(3), "schema must be"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_refused(make: object, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column(Real(), atoms=[0.5, 2.0]), [0.5, 1.0, 2.0, -7.25]),
        (Column(Integer(-3, 9), atoms=[0, 5]), [-3, 0, 1, 4, 5, 6, 9]),
        (Column(Positive(), atoms=[0.0, 0.3], step=0.1), [0.0, 0.1, 0.2, 0.3, 0.4, 70.3]),
        (Column(Real(), atoms=[-0.5, 0.5], step=0.5), [-3.0, -0.5, 0.0, 0.5, 1.0]),
        (Column(Above(1.5), step=0.5, atoms=[2.0]), [1.5, 2.0, 2.5, 9.0]),
        (Column(Above(1.5)), [1.75, 9.0]),
        (Column(Below(0), step=1, atoms=[-2.0, -5.0]), [0, -1, -2, -3, -5, -9]),
        (Column(Below(0)), [-0.25, -9.0]),
        (Column(Interval(0, 1), atoms=[1.0], step=0.25), [0, 0.25, 0.5, 0.75, 1.0]),
        (Column(Circle(0, 360)), [0.5, 359.0]),
    ],
    ids=str,
)
def test_numbers_return_from_their_line(column: Column, values: list[float]) -> None:
    coding = Coding("x", column)
    codes, rest = coding.encode(of_mapping({"x": np.array(values, dtype=np.float64)})["x"])
    assert coding.axis is not None
    numbers = sorted(np.unique(codes))
    assert numbers[0] >= 0
    assert numbers[-1] < coding.codes
    is_rest = ~np.isnan(rest)
    np.testing.assert_array_equal(is_rest, ~np.isin(values, column.atoms))
    back = rest.copy()
    back[is_rest] = coding.axis.values(coding.axis.points(rest[is_rest], np.full(is_rest.sum(), 0.7)))
    np.testing.assert_allclose(coding.decode(codes, back).values, values, atol=1e-12)


def test_dates_and_booleans_return() -> None:
    table = {"t": np.array(["2020-01-01", "NaT", "2021-03-04"], "datetime64[D]"), "b": [True, None, False]}
    schema = Schema({"t": Column(Date("D"), gaps=True), "b": Column(Boolean(), gaps=True)})
    cells = of_mapping(table)
    for name in schema:
        coding = Coding(name, schema[name])
        found = coding.decode(*coding.encode(cells[name]))
        np.testing.assert_array_equal(found.missing, cells[name].missing)
        np.testing.assert_array_equal(found.values[~found.missing], cells[name].values[~found.missing])
