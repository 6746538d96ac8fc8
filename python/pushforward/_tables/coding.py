"""Cells as codes and numbers: what the model of a table works on, column by column.

A column has a code for each of its values or atoms, one for all other values of a number, and one for a gap. The value
of a number that is no atom is modelled by a flow, given the codes. A category's rare levels have one code together, and
the value is then the number of the level.
"""

from __future__ import annotations

import numpy as np

from pushforward._tables.axis import Axis
from pushforward._tables.cells import BOOL, DATE, INTEGER, NUMBER, TEXT, Cells, with_none
from pushforward._tables.kinds import UNITS, Boolean, Category, Date, Integer, Value
from pushforward._tables.schema import Column
from pushforward._tables.summary import Summary
from pushforward._typing import Array, Doubles

# The network reads the place of a code in its order by no more hat functions.
_MOST_KNOTS = 16
# Flows read an indicator of each code of a column with at most so many, and of its first ones. Numbers of more atoms
# are read as numbers.
_MOST_INDICATORS = 64
_MOST_ATOMS_SHOWN = 16
# What flows read of a number is no larger.
_MOST_SHOWN = 4.0

UNKNOWN = -1.0
"""The code of a value that a column does not have."""


class Coding:
    """The codes of one column.

    Parameters
    ----------
    name : str
        Its name.
    column : Column
        What it holds.
    summary : Summary
        What was taken from the rows of the fit.

    Attributes
    ----------
    codes : int
        How many codes it has.
    ordered, knots : int
        How many of the first codes are in an order, and by how many hat functions a network reads them.
    axis : Axis or None
        That of the values that are no atoms; None if there are none.
    """

    def __init__(self, name: str, column: Column, summary: Summary = Summary()) -> None:  # noqa: B008 -- frozen
        self.name, self.column, self.summary = name, column, summary
        self._levels: tuple[Value, ...] = ()
        self._rare: Doubles = np.zeros(0)
        self._atoms: Doubles = np.zeros(0)
        self.axis: Axis | None = None
        axis = None
        if isinstance(column.kind, Category):
            self._levels = tuple(column.kind.values)
            if summary.rare and (column.kind.ordered or len(summary.rare) != len(self._levels)):
                raise ValueError(f"rare levels are not those of column {name!r}")
            self._rare = np.array(summary.rare, dtype=np.float64)
            self._common = np.flatnonzero(self._rare == 0) if len(self._rare) else np.arange(len(self._levels))
            values = len(self._common) + bool(len(self._rare))
            self.ordered = len(self._levels) if column.kind.ordered else 0
        elif isinstance(column.kind, Boolean):
            self._levels, values, self.ordered = (False, True), 2, 0
        else:
            self._atoms = np.array(column.atoms, dtype=np.float64)
            axis = Axis(column, summary.warp)
            self.axis = axis if axis.cells > 0 else None
            values = len(self._atoms) + (self.axis is not None)
            self.ordered = len(self._atoms)
        self._axis = axis
        self.codes = values + column.gaps
        self.knots = min(self.ordered, _MOST_KNOTS)
        self._numbers_of_levels = {level: float(number) for number, level in enumerate(self._levels)}

    @property
    def gap(self) -> float:
        """The code of a missing cell, or that of an unknown value."""
        return float(self.codes - 1) if self.column.gaps else UNKNOWN

    @property
    def rest(self) -> float:
        """The code of a number that is no atom, or of a rare level."""
        return float(len(self._common) if len(self._rare) else len(self._atoms))

    @property
    def rare(self) -> Doubles:
        """The share that each level has of the rare ones; empty if none is rare."""
        return self._rare

    @property
    def numbers(self) -> Doubles | None:
        """The numbers that its first codes stand for; None for a column that holds none."""
        if self._axis is not None:
            return self._atoms
        if isinstance(self.column.kind, Category) and self.ordered and not isinstance(self._levels[0], str):
            return np.array(self._levels, dtype=np.float64)
        return None

    @property
    def known_values(self) -> tuple[Value | float, ...]:
        """The values that have masses: those of a category or a boolean, or the atoms of a number."""
        return self._levels or tuple(self._atoms.tolist())

    def masses_of_known_values(self, masses: Doubles) -> Doubles:
        """Return the masses of `known_values` of those of codes, (n, codes) to (n, values)."""
        if not len(self._rare):
            return masses[:, : len(self.known_values)]
        found = masses[:, [int(self.rest)]] * self._rare
        found[:, self._common] = masses[:, : len(self._common)]
        return found

    def codes_of_known_values(self, numbers: Doubles) -> tuple[Doubles, Doubles]:
        """Return the codes and values of numbers of `known_values`."""
        return self._split(numbers, np.zeros(len(numbers), dtype=bool))

    # -- cells to codes ------------------------------------------------------------------------------------------

    def encode(self, cells: Cells) -> tuple[Doubles, Doubles]:
        """Return the codes of cells, and the values of those that are no atoms; NaN in all others."""
        self._check_nature(cells)
        if self._axis is None:
            numbers = np.where(cells.missing, UNKNOWN, self._numbers_of(cells))
            return self._split(numbers, cells.missing)
        values = np.where(cells.missing, 0.0, cells.values)
        if isinstance(self.column.kind, Date):
            values = np.floor(values / UNITS[self.column.kind.unit])
        atom, hit = self._axis.atoms_of(values, self._atoms)
        codes = np.where(hit, atom, self.rest if self.axis is not None else UNKNOWN)
        codes = np.where(cells.missing, self.gap, codes)
        is_rest = (codes == self.rest) & ~cells.missing if self.axis is not None else np.zeros(len(cells), dtype=bool)
        return codes, np.where(is_rest, values, np.nan)

    def _split(self, numbers: Doubles, missing: Array) -> tuple[Doubles, Doubles]:
        """Return codes of the numbers of levels, and the numbers of those that are rare."""
        codes = numbers
        if len(self._rare):
            codes_of_numbers = np.full(len(self._levels), self.rest)
            codes_of_numbers[self._common] = np.arange(len(self._common))
            codes = np.where(numbers == UNKNOWN, UNKNOWN, codes_of_numbers[numbers.astype(np.int64)])
        values = np.where((codes == self.rest) & bool(len(self._rare)), numbers, np.nan)
        return np.where(missing, self.gap, codes), values

    def _numbers_of(self, cells: Cells) -> Doubles:
        if cells.nature == TEXT:
            found = [self._numbers_of_levels.get(value, UNKNOWN) for value in with_none(cells.values, cells.missing)]
            return np.array(found, dtype=np.float64)
        levels = np.array(self._levels, dtype=np.float64)
        order = np.argsort(levels)
        at = order[np.minimum(np.searchsorted(levels[order], cells.values), len(levels) - 1)]
        return np.where(levels[at] == cells.values, at.astype(np.float64), UNKNOWN)

    def _check_nature(self, cells: Cells) -> None:
        """Raise a TypeError if the cells cannot be values of this column."""
        kind = self.column.kind
        if cells.missing.all():
            return
        if isinstance(kind, Date):
            fits = cells.nature == DATE
        elif isinstance(kind, Category):
            is_text = any(isinstance(level, str) for level in self._levels)
            fits = (cells.nature == TEXT) if is_text else cells.nature in (NUMBER, INTEGER, BOOL, TEXT)
        elif isinstance(kind, Boolean):
            fits = cells.nature in (BOOL, INTEGER, NUMBER)
        else:
            fits = cells.nature in (NUMBER, INTEGER, BOOL)
        if not fits:
            raise TypeError(
                f"column {self.name!r} holds {_NAMES[cells.nature]}; the model's holds {type(kind).__name__}"
            )

    # -- codes to cells ------------------------------------------------------------------------------------------

    def decode(self, codes: Doubles, values: Doubles) -> Cells:
        """Return cells of codes, and of the values where the code is that of the rest."""
        missing = codes == self.gap
        dtype, kind = self.column.dtype, self.column.kind
        at = np.where(missing, 0, codes).astype(np.int64)
        if len(self._rare):
            is_rare = codes == self.rest
            at = np.where(is_rare, values, 0).astype(np.int64)
            at[~is_rare & ~missing] = self._common[codes[~is_rare & ~missing].astype(np.int64)]
        if self._axis is None:
            if isinstance(kind, Boolean):
                return Cells(BOOL, at.astype(np.float64), missing, dtype)
            if all(type(level) in (int, float, bool) for level in self._levels) and dtype != "category":
                numbers = np.array(self._levels, dtype=np.float64)[at]
                whole = all(type(level) is int for level in self._levels)
                return Cells(INTEGER if whole else NUMBER, numbers, missing, dtype)
            levels = np.empty(len(self._levels), dtype=object)
            levels[:] = self._levels
            is_category = dtype.lower().startswith(("category", "categorical", "enum"))
            return Cells(TEXT, levels[at], missing, dtype, self._levels if is_category else None, bool(self.ordered))
        is_rest = codes == self.rest if self.axis is not None else np.zeros(len(codes), dtype=bool)
        atoms = self._atoms[np.minimum(at, len(self._atoms) - 1)] if len(self._atoms) else np.zeros(len(at))
        numbers = np.where(missing, np.nan, np.where(is_rest, values, atoms))
        if isinstance(kind, Date):
            return Cells(DATE, np.where(missing, 0.0, numbers * UNITS[kind.unit]), missing, dtype)
        return Cells(INTEGER if isinstance(kind, Integer) else NUMBER, numbers, missing, dtype)

    # -- what flows of other columns read ------------------------------------------------------------------------

    def indicators(self, codes: Doubles) -> Doubles:
        """Return an indicator of each code that is shown to flows, (n, k)."""
        if self.codes < 2:
            return np.zeros((len(codes), 0))
        first, last = 0, min(self.codes, _MOST_INDICATORS)
        if self.numbers is not None and self.codes > _MOST_ATOMS_SHOWN:
            first, last = len(self.numbers), self.codes
        shown = np.arange(first, last, dtype=np.float64)
        indicators: Doubles = (codes[:, None] == shown).astype(np.float64)
        return indicators

    def number_of(self, codes: Doubles, values: Doubles) -> Doubles:
        """Return the number that each cell holds; NaN for a gap."""
        numbers = self.numbers
        assert numbers is not None
        if not len(numbers):
            return values
        at = np.clip(codes, 0, len(numbers) - 1).astype(np.int64)
        known = (codes >= 0) & (codes < len(numbers))
        return np.where(known, numbers[at], values)

    def shown(self, codes: Doubles, values: Doubles) -> Doubles:
        """Return the number of each cell as flows of other columns read it, and its normal score if it has one."""
        numbers = self.number_of(codes, values)
        columns = [np.where(np.isnan(numbers), self.summary.center, numbers)]
        if self.summary.shown is not None:
            scores = np.clip(self.summary.shown.scores(columns[0]), -_MOST_SHOWN, _MOST_SHOWN)
            columns.append(scores)
        return np.stack(columns, axis=1)


_NAMES = {NUMBER: "numbers", INTEGER: "whole numbers", BOOL: "booleans", TEXT: "strings", DATE: "dates"}


def stacked(columns: list[Array], rows: int) -> Doubles:
    """Return columns beside each other, (rows, k)."""
    return np.column_stack(columns) if columns else np.zeros((rows, 0))
