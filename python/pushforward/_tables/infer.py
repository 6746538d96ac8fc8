"""What the columns of a table hold, found from their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pushforward._fit.cells import grid
from pushforward._fit.oddities import atoms_among
from pushforward._model.supports import Interval, Positive, Real
from pushforward._tables.cells import BOOL, DATE, INTEGER, TEXT, Cells
from pushforward._tables.kinds import UNITS, Boolean, Category, Date, Integer, Kind, Value
from pushforward._tables.schema import Column, Schema
from pushforward._typing import Array, Doubles

# A number with so few different values, each in so many rows on average, is a category with an order.
_FEW_VALUES = 20
_ROWS_OF_A_VALUE = 10
# Values that so many rows have are atoms, if together they are nearly all rows and not too many.
_SHARE_OF_COMMON = 0.9
_MOST_ATOMS = 300
# So few different values beside the atoms are atoms too: they show no density.
_FEWEST_OTHERS = 10


def infer(cells: Mapping[str, Cells], given: Mapping[str, Kind | Column]) -> tuple[Schema, list[str]]:
    """Return the schema of a table, and what there is to say of it.

    Parameters
    ----------
    cells : mapping of str to Cells
        The columns.
    given : mapping of str to kind or Column
        What is known of some of them.
    """
    unknown = [name for name in given if name not in cells]
    if unknown:
        raise ValueError(f"schema has a column {unknown[0]!r}; those of the table are {', '.join(map(repr, cells))}")
    columns: dict[str, Column] = {}
    left_out: list[str] = []
    notes: list[str] = []
    for name, column in cells.items():
        if column.missing.all():
            raise ValueError(f"column {name!r} has no value in any row; leave it out")
        known = given.get(name)
        if known is None and _is_identifier(column):
            left_out.append(name)
            notes.append(f"{name!r} is left out: all its values are different strings")
            continue
        columns[name] = known if isinstance(known, Column) else _column(column, known)
        columns[name] = replace(
            columns[name], gaps=columns[name].gaps or bool(column.missing.any()), dtype=column.dtype
        )
    if not columns:
        raise ValueError("no column is left: all hold different strings in every row")
    return Schema(columns, tuple(left_out)), notes


def _is_identifier(cells: Cells) -> bool:
    there = cells.values[~cells.missing]
    return cells.nature == TEXT and cells.levels is None and len(there) > 1 and len(set(there)) == len(there)


def _column(cells: Cells, kind: Kind | None) -> Column:
    """Return what a column holds, of a kind if that is known."""
    there = cells.values[~cells.missing]
    if isinstance(kind, (Category, Boolean)):
        return Column(kind)
    if kind is None and cells.nature == BOOL:
        return Column(Boolean())
    if kind is None and cells.nature == TEXT:
        levels = cells.levels if cells.levels is not None else tuple(sorted(set(there)))
        return Column(Category(levels, ordered=cells.ordered))
    if cells.nature == TEXT:
        raise TypeError(f"a column of strings cannot be {kind!r}")
    if kind is None and cells.nature == DATE:
        unit = _unit(there)
        first, last = (str(np.datetime64(int(stamp), "us").astype(f"datetime64[{unit}]")) for stamp in _ends(there))
        kind = Date(unit, first, last)
    if isinstance(kind, Date):
        there = np.floor(there / UNITS[kind.unit])
    values, counts = np.unique(there, return_counts=True)
    if kind is None and _is_category(values, len(there)):
        return Column(Category(_plain(values), ordered=True))
    kind = _number_kind(cells, values) if kind is None else kind
    atoms = _atoms(values, counts, len(there))
    if atoms.all() and not isinstance(kind, (Integer, Date)):
        return Column(Category(_plain(values), ordered=True))
    step = 0.0 if isinstance(kind, (Integer, Date)) else _step(values, len(there))
    if getattr(kind, "wraps", False):
        step = 0.0
    return Column(kind, atoms=tuple(values[atoms].tolist()), step=step)


def _unit(stamps: Doubles) -> str:
    """Return the coarsest unit in which all dates are whole numbers."""
    return next(unit for unit, size in UNITS.items() if (stamps % size == 0).all())


def _ends(values: Doubles) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _is_category(values: Doubles, rows: int) -> bool:
    return len(values) <= 2 or (len(values) <= _FEW_VALUES and rows >= _ROWS_OF_A_VALUE * len(values))


def _plain(values: Doubles) -> tuple[Value, ...]:
    """Return numbers as int where they are whole."""
    whole = bool((values == np.round(values)).all())
    return tuple(int(value) if whole else float(value) for value in values)


def _number_kind(cells: Cells, values: Doubles) -> Kind:
    low, high = float(values[0]), float(values[-1])
    if cells.nature == INTEGER or (values == np.round(values)).all():
        return Integer(int(low), int(high))
    if low >= 0 and high <= 1:
        return Interval(0.0, 1.0)
    return Positive() if low >= 0 else Real()


def _atoms(values: Doubles, counts: Array, rows: int) -> Array:
    """Return which values have masses of their own."""
    common = counts >= _ROWS_OF_A_VALUE
    if common.sum() > _MOST_ATOMS or counts[common].sum() < _SHARE_OF_COMMON * rows:
        common = atoms_among(counts, rows) & (counts >= _ROWS_OF_A_VALUE)
    if 0 < (~common).sum() < _FEWEST_OTHERS:
        common = np.ones(len(values), dtype=bool)
    result: Array = common
    return result


def _step(values: Doubles, rows: int) -> float:
    """Return the step of a grid through 0 on which all values are, if that is coarse enough for rows to meet; or 0."""
    if rows < 2 * len(values):
        return 0.0
    with np.errstate(all="ignore"):
        step = grid(values, 0.0)
    return step if math.isfinite(step) else 0.0
