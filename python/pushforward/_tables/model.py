"""The model of a table: masses of the codes of its columns, and a flow for each number given those.

With m the codes of a row and x_j the values of its numbers that are no atoms,

    p(row) = P(m) prod_j p(x_j | m, x_i for i < j),

where the product goes over the numbers that the codes say are there. The codes say which cells are missing. Summed and
integrated over all that a row may hold, this is 1: over x_j from the last to the first, each factor gives 1, and the
masses add up to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pushforward._model.masses import Masses
from pushforward._tables.cells import Cells, rows_of
from pushforward._tables.coding import UNKNOWN, Coding, stacked
from pushforward._tables.schema import Schema
from pushforward._tables.summary import Summary
from pushforward._typing import Array, Doubles
from pushforward.flow import Flow

# Rows that are scored or drawn at once: what flows read of them takes some hundred numbers a row.
_PIECE = 1 << 15


@dataclass(frozen=True)
class Coded:
    """Rows of a table as the model sees them.

    Parameters
    ----------
    codes : (n, columns) array
        The code of each cell.
    values : (n, columns) array
        The values of numbers that are no atoms, and the numbers of rare levels; NaN elsewhere.
    """

    codes: Doubles
    values: Doubles

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, rows: Array | slice) -> Coded:
        """Return some rows."""
        return Coded(self.codes[rows], self.values[rows])


class TableModel:
    """A density over the rows of a table.

    Parameters
    ----------
    schema : Schema
        What the columns hold.
    summaries : mapping of str to Summary
        What was taken from the rows of the fit, by column.

    Attributes
    ----------
    codings : list of Coding
        The coding of each column, in order.
    masses : Masses or None
        Those of the columns with more than one code; None if there are none.
    flows : dict of str to Flow
        The flow of each column of numbers that are not all atoms.
    """

    def __init__(self, schema: Schema, summaries: Mapping[str, Summary]) -> None:
        self._threads: int | None = None
        self.schema = schema
        self.codings = [Coding(name, schema[name], summaries[name]) for name in schema]
        self.coded = np.array([i for i, coding in enumerate(self.codings) if coding.codes > 1], dtype=np.int64)
        self.numbers = [i for i, coding in enumerate(self.codings) if coding.axis is not None]
        self.masses: Masses | None = None
        self.flows: dict[str, Flow] = {}

    @property
    def num_threads(self) -> int | None:
        """Threads of every call; None for the default."""
        return self._threads

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._threads = value
        if self.masses is not None:
            self.masses.threads = value
        for flow in self.flows.values():
            flow.num_threads = value

    # -- cells and codes -----------------------------------------------------------------------------------------

    def encode(self, cells: Mapping[str, Cells]) -> Coded:
        """Return the codes and values of rows, whose columns were checked."""
        rows = rows_of(cells)
        pairs = [coding.encode(cells[coding.name]) for coding in self.codings]
        return Coded(stacked([codes for codes, _ in pairs], rows), stacked([values for _, values in pairs], rows))

    def decode(self, coded: Coded) -> dict[str, Cells]:
        """Return rows as cells."""
        return {
            coding.name: coding.decode(coded.codes[:, i], coded.values[:, i]) for i, coding in enumerate(self.codings)
        }

    def context(self, coded: Coded, number: int) -> Doubles | None:
        """Return what the flow of a number reads of rows; None if nothing.

        That is all codes, with the atoms they stand for, and the numbers before it.
        """
        columns = []
        for i, coding in enumerate(self.codings):
            columns.append(coding.indicators(coded.codes[:, i]))
            if coding.numbers is None or i == number:
                continue
            is_later = coding.axis is not None and i > number
            if (coding.codes == 1 and coding.axis is None) or (is_later and not len(coding.numbers)):
                continue  # a constant, or nothing that is known yet
            # Of a later number only the atoms are known.
            values = np.full(len(coded), np.nan) if is_later else coded.values[:, i]
            columns.append(coding.shown(coded.codes[:, i], values))
        context = np.concatenate(columns, axis=1)
        return context if context.shape[1] else None

    def context_width(self, number: int) -> int:
        """Return how many numbers that is."""
        empty = np.zeros((0, len(self.codings)))
        context = self.context(Coded(empty, empty), number)
        return 0 if context is None else context.shape[1]

    def has_value(self, coded: Coded, number: int) -> Array:
        """Return which rows have a value of a number that is no atom, or a rare level of a category."""
        result: Array = coded.codes[:, number] == self.codings[number].rest
        return result

    def codes_of(self, coded: Coded) -> Doubles:
        """Return the codes that masses are of."""
        return np.ascontiguousarray(coded.codes[:, self.coded])

    # -- density and draws ---------------------------------------------------------------------------------------

    def log_prob(self, coded: Coded) -> tuple[Doubles, Doubles]:
        """Return the log mass of the codes of each row, and the log density of its values given those."""
        mass, density = np.zeros(len(coded)), np.zeros(len(coded))
        for rows in _pieces(len(coded)):
            mass[rows], density[rows] = self._log_prob(coded.part(rows))
        return mass, density

    def _log_prob(self, coded: Coded) -> tuple[Doubles, Doubles]:
        density = np.zeros(len(coded))
        # What is no code of a column with one code has no mass either.
        mass = np.where((coded.codes == UNKNOWN).any(axis=1), -np.inf, 0.0)
        if self.masses is not None:
            mass = np.minimum(mass, self.masses.log_prob(self.codes_of(coded)))
        for number, coding in enumerate(self.codings):
            if len(coding.rare):
                at = np.flatnonzero(self.has_value(coded, number))
                mass[at] += np.log(coding.rare[coded.values[at, number].astype(np.int64)])
        for number in self.numbers:
            at = np.flatnonzero(self.has_value(coded, number))
            if not len(at):
                continue
            some, coding = coded.part(at), self.codings[number]
            assert coding.axis is not None
            density[at] += coding.axis.log_density(
                self.flows[coding.name], some.values[:, number], self.context(some, number)
            )
        return mass, density

    def sample(self, rng: np.random.Generator, n: int, gaps: bool) -> Coded:
        """Draw rows; without gaps each cell is drawn given that it is there."""
        key = int(rng.integers(2**64, dtype=np.uint64))
        pieces = [
            self._sample(key, np.random.default_rng([key, rows.start]), rows.start, rows.stop - rows.start, gaps)
            for rows in _pieces(n)
        ]
        none = np.zeros((0, len(self.codings)))
        return Coded(
            np.concatenate([none, *(piece.codes for piece in pieces)]),
            np.concatenate([none, *(piece.values for piece in pieces)]),
        )

    def _sample(self, key: int, rng: np.random.Generator, first: int, n: int, gaps: bool) -> Coded:
        coded = Coded(np.zeros((n, len(self.codings))), np.full((n, len(self.codings)), np.nan))
        if self.masses is not None:
            shown = [self.codings[i] for i in self.coded]
            counts = None if gaps else [coding.codes - coding.column.gaps for coding in shown]
            coded.codes[:, self.coded] = self.masses.sample(key, n, first=first, counts=counts)
        for number, coding in enumerate(self.codings):
            if len(coding.rare):
                at = np.flatnonzero(self.has_value(coded, number))
                coded.values[at, number] = rng.choice(len(coding.rare), len(at), p=coding.rare)
        for number in self.numbers:
            at = np.flatnonzero(self.has_value(coded, number))
            coding = self.codings[number]
            seed = int(rng.integers(1 << 63))
            if not len(at):
                continue
            assert coding.axis is not None
            points = self.flows[coding.name].sample(len(at), self.context(coded.part(at), number), seed=seed)
            coded.values[at, number] = coding.axis.values(np.asarray(points[:, 0], dtype=np.float64))
        return coded


def _pieces(rows: int) -> Iterator[slice]:
    return (slice(first, min(first + _PIECE, rows)) for first in range(0, rows, _PIECE))
