"""Conditional and marginal densities of the model of a table, as they are handed to the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._questions.chains import normalized, picked
from pushforward._questions.conditional import checked_effort
from pushforward._tables import frames
from pushforward._tables.axis import ends_of
from pushforward._tables.cells import Cells
from pushforward._tables.coding import UNKNOWN, Coding
from pushforward._tables.completion import Completer, density_of_complete, patterns_of
from pushforward._tables.kinds import Value
from pushforward._tables.model import Coded, TableModel
from pushforward._typing import Array, Doubles, Seed


class TableConditional:
    """The density of the unknown cells of rows given the others, as `TableFlow.conditional` returns it.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns with unknown cells, in the order of the table.
    method : str
        How the answer was found: "sums", which is exact; "importance sampling"; or "importance sampling and chains", of
        the rows that are hardest.
    log_marginal : (n,) array
        The log density of the known cells of each row, in nats.
    error : (n,) array
        The standard error of `log_marginal`, and so of `log_prob`; 0 where the answer is exact.
    effective_size : (n,) array
        Effective number of completions that `mean`, `quantile`, `probabilities` and `sample` use.
    r_hat : (n,) array
        R-hat of the chains; NaN for rows that needed none.
    has_converged : (n,) array of bool
        Whether each row's answer can be relied on: there are 50 effective completions or a quarter of `draws` if
        that is less, or R-hat of the chains is at most 1.05.

    Examples
    --------
    >>> import numpy as np
    >>> kind = np.random.default_rng(0).choice(["x", "y"], 1000)
    >>> table = {"kind": kind, "size": np.where(kind == "x", 1.0, -1.0) + np.random.default_rng(1).normal(size=1000)}
    >>> given = TableFlow().fit(table, epochs=10, seed=0).conditional({"size": [3.0]})
    >>> values, probabilities = given.probabilities("kind")
    >>> values
    ('x', 'y')
    >>> bool(probabilities[0, 0] > 0.9)
    True
    """

    def __init__(self, model: TableModel, known: Coded, unknown: Array, library: str, effort: tuple[int, int, Any]):
        draws, steps, rng = effort
        self._model, self._known, self._unknown, self._library = model, known, unknown, library
        self.columns = tuple(name for name, some in zip(model.schema, unknown.T, strict=True) if some.any())
        n, width = known.codes.shape
        self._codes, self._values = np.zeros((n, draws, width)), np.zeros((n, draws, width))
        self._log_weights = np.zeros((n, draws))
        self.log_marginal, self.error, self.effective_size = np.zeros(n), np.zeros(n), np.zeros(n)
        self.r_hat, self.has_converged = np.full(n, np.nan), np.ones(n, dtype=bool)
        methods = []
        for pattern, at in patterns_of(unknown):
            found = Completer(model, pattern).solve(known.part(at), draws, steps, rng)
            self._codes[at], self._values[at], self._log_weights[at] = found.codes, found.values, found.log_weights
            self.log_marginal[at], self.error[at], self.effective_size[at] = (
                found.log_marginal,
                found.error,
                found.effective,
            )
            self.r_hat[at], self.has_converged[at] = found.r_hat, found.has_converged
            methods.append(found.method)
        self.method = max(methods, key=len)

    def __len__(self) -> int:
        return len(self._codes)

    def log_prob(self, table: Any) -> Doubles:
        """Return the conditional log density of values of the unknown cells, in nats.

        Parameters
        ----------
        table : DataFrame, or mapping of str to array
            Values of `columns` for each row. What a row's known cells hold in it is ignored.

        Returns
        -------
        (n,) array
            The log densities; -inf for a value that the schema does not allow, and for a gap; NaN if what is known has
            the density 0. Their error is `error`.

        Raises
        ------
        TypeError, ValueError
            If a column is missing, or holds another type than the model's, or there are not as many rows.
        """
        cells, _ = frames.read(table)
        missing = [name for name in self.columns if name not in cells]
        if missing:
            raise ValueError(f"table has no column {missing[0]!r}; those with unknown cells are {self.columns}")
        codes, values = self._known.codes.copy(), self._known.values.copy()
        for i, coding in enumerate(self._model.codings):
            if coding.name not in self.columns:
                continue
            if len(cells[coding.name]) != len(self):
                raise ValueError(f"table has {len(cells[coding.name])} rows; {len(self)} were asked about")
            its_codes, its_values = coding.encode(cells[coding.name])
            its_codes = np.where(cells[coding.name].missing, UNKNOWN, its_codes)
            codes[:, i] = np.where(self._unknown[:, i], its_codes, codes[:, i])
            values[:, i] = np.where(self._unknown[:, i], its_values, values[:, i])
        joint = density_of_complete(self._model, Coded(codes, values), np.random.default_rng(0))
        with np.errstate(invalid="ignore"):
            return joint - self.log_marginal

    def sample(self, n: int, *, seed: Seed = None, library: str | None = None) -> Any:
        """Complete each row `n` times with draws.

        Parameters
        ----------
        n : int
            Completions of each row. They are chosen among as many weighted ones as the question asked for, so more of
            them repeat.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.
        library : {"pandas", "polars", "pyarrow", "arrays"}, optional
            What the table is of; "arrays" is a dict. By default what the table that was fitted was of.

        Returns
        -------
        DataFrame, or dict of str to array
            All columns, with n times as many rows as were asked about: a completion of each row, then the next of each.

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer.
        ImportError
            If the library is not installed.
        """
        count = _checks.row_count(n, max(1, len(self)) * len(self._model.schema))
        if library is not None:
            _checks.choice("library", library, frames.LIBRARIES)
        chosen = picked(self._log_weights, count, np.random.default_rng(seed))
        codes, values = (
            np.moveaxis(np.take_along_axis(part, chosen[:, :, None], axis=1), 0, 1).reshape(-1, part.shape[2])
            for part in (self._codes, self._values)
        )
        return frames.write(self._model.decode(Coded(codes, values)), library or self._library)

    def probabilities(self, column: str) -> tuple[tuple[Value | float, ...], Doubles]:
        """Return the probability of each value of a category or a boolean, or of each atom of a number.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        tuple of k values, (n, k) array
            The values, and their probabilities for each row. Those of atoms do not add up to 1: the rest is the mass of
            all other numbers.

        Raises
        ------
        ValueError
            If there is no such column, or it has neither values nor atoms.
        """
        at = self._number_of(column)
        values = self._model.codings[at].known_values
        if not values:
            raise ValueError(f"column {column!r} is a number without atoms; ask for its mean or quantiles")
        weights = normalized(self._log_weights)
        coding = self._model.codings[at]
        shares = [(weights * (self._codes[:, :, at] == code)).sum(axis=1) for code in range(coding.codes)]
        return values, coding.masses_of_known_values(np.stack(shares, axis=1))

    def mean(self, column: str) -> tuple[Doubles, Doubles]:
        """Return the mean of a column of numbers for each row, and its standard error.

        Parameters
        ----------
        column : str
            Its name. Dates are numbers of units since 1970.

        Returns
        -------
        (n,) array, (n,) array
            The means and their errors.

        Raises
        ------
        ValueError
            If there is no such column, or it holds no numbers.
        """
        values, weights = self._numbers_of(column), normalized(self._log_weights)
        mean = (weights * values).sum(axis=1)
        variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
        return mean, np.sqrt(variance / np.maximum(self.effective_size, 1.0))

    def quantile(self, column: str, q: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Return quantiles of a column of numbers for each row, and their standard errors.

        Parameters
        ----------
        column : str
            Its name. Dates are numbers of units since 1970.
        q : float or (m,) array
            Probabilities in [0, 1].

        Returns
        -------
        (m, n) array, (m, n) array
            The quantiles and their errors; without the first axis for one probability.

        Raises
        ------
        TypeError, ValueError
            If there is no such column, it holds no numbers, or `q` is no such number or array.
        """
        wanted = _checks.floats(q, "q").astype(np.float64)
        if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"q must be numbers in [0, 1], one or an (m,) array, not {q!r}")
        rows = zip(self._numbers_of(column), self._log_weights, strict=True)
        found = [_weights.quantiles(values, weights, np.atleast_1d(wanted)) for values, weights in rows]
        values, errors = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        return (values[0], errors[0]) if wanted.ndim == 0 else (values, errors)

    def _number_of(self, column: str) -> int:
        _checks.choice("column", column, tuple(self._model.schema), note="the columns")
        return list(self._model.schema).index(column)

    def _numbers_of(self, column: str) -> Doubles:
        at = self._number_of(column)
        if self._model.codings[at].numbers is None:
            raise ValueError(f"column {column!r} holds no numbers; ask for its probabilities")
        return self._model.codings[at].number_of(self._codes[:, :, at], self._values[:, :, at])

    def __repr__(self) -> str:
        rows = len(self)
        lines = [f"density of {', '.join(self.columns)}, for {rows:,} row{'s' * (rows != 1)}, by {self.method}"]
        low, high = float(self.log_marginal.min()), float(self.log_marginal.max())
        lines.append(f"log marginal    {low:.6g} to {high:.6g}, error at most {float(self.error.max()):.2g}")
        lines.append(f"effective draws {float(self.effective_size.min()):,.0f} or more a row")
        if not np.isnan(self.r_hat).all():
            count, worst = int((~np.isnan(self.r_hat)).sum()), float(np.nanmax(self.r_hat))
            lines.append(f"chains          for {count:,} rows, R-hat at most {worst:.3f}")
        if not self.has_converged.all():
            lines.append(f"not converged   {int((~self.has_converged).sum()):,} rows; ask with more draws or steps")
        return "\n".join(lines)


class TableMarginal:
    """The density of some columns of a table, as `TableFlow.marginal` returns it.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns.
    """

    def __init__(self, model: TableModel, columns: tuple[str, ...], library: str, effort: tuple[int, int, int]):
        self.columns = columns
        self._model, self._library, self._effort = model, library, effort

    def log_prob(self, table: Any) -> Doubles:
        """Return the log density of rows, in nats, whatever the other columns hold.

        It is that of complete rows: of each cell given that it is there. A gap counts as another column does.

        Parameters
        ----------
        table : DataFrame, or mapping of str to array
            The rows, with these columns at least.

        Returns
        -------
        (n,) array of float64
            The log densities.

        Raises
        ------
        TypeError, ValueError
            If a column is missing, or holds another type than the model's, or a value that the schema does not allow.
        """
        return self.log_prob_and_error(table)[0]

    def log_prob_and_error(self, table: Any) -> tuple[Doubles, Doubles]:
        """Return the log densities of rows, and their standard errors, 0 where they are exact.

        Parameters are those of `log_prob`.

        Returns
        -------
        (n,) array, (n,) array
            The log densities and their errors.
        """
        draws, steps, seed = self._effort
        cells = _columns(table, self.columns)
        effort = (draws, steps, np.random.default_rng(seed))
        found = conditional(self._model, cells, self._library, effort)
        return found.log_marginal, found.error

    def sample(self, n: int, *, seed: Seed = None, library: str | None = None) -> Any:
        """Draw complete rows of the columns.

        Parameters
        ----------
        n : int
            The number of rows.
        seed : int or numpy.random.Generator, optional
            Fixes the rows.
        library : {"pandas", "polars", "pyarrow", "arrays"}, optional
            What the table is of; by default what the table that was fitted was of.

        Returns
        -------
        DataFrame, or dict of str to array
            The rows.

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer.
        """
        rows = _checks.row_count(n, len(self._model.schema))
        if library is not None:
            _checks.choice("library", library, frames.LIBRARIES)
        cells = self._model.decode(self._model.sample(np.random.default_rng(seed), rows, False))
        return frames.write({name: cells[name] for name in self.columns}, library or self._library)

    def __repr__(self) -> str:
        return f"density of {', '.join(self.columns)} of a table of {len(self._model.schema)} columns"


def _columns(table: Any, names: Sequence[str]) -> dict[str, Cells]:
    """Return some columns of a table."""
    cells, _ = frames.read(table)
    missing = [name for name in names if name not in cells]
    if missing:
        raise ValueError(f"table has no column {missing[0]!r}; its columns are {', '.join(map(repr, cells))}")
    return {name: cells[name] for name in names}


def encoded(model: TableModel, cells: Mapping[str, Cells], name: str) -> tuple[Coded, Array]:
    """Return the codes and values of rows, and which of their cells are unknown: missing ones, and other columns."""
    rows = {len(column) for column in cells.values()}
    n = rows.pop()
    shape = (n, len(model.codings))
    codes, values, unknown = np.zeros(shape), np.full(shape, np.nan), np.ones(shape, dtype=bool)
    for i, coding in enumerate(model.codings):
        if coding.name not in cells:
            continue
        column = cells[coding.name]
        unknown[:, i] = column.missing
        if column.missing.all():
            continue  # of a type that nothing tells
        codes[:, i], values[:, i] = coding.encode(column)
        strange = ~column.missing & ((codes[:, i] == UNKNOWN) | _impossible(coding, codes[:, i], values[:, i]))
        if strange.any():
            raise ValueError(
                f"{name} has a value in column {coding.name!r}, row {int(strange.argmax())}, that the schema does not "
                f"allow: it is {model.schema[coding.name].kind!r}"
            )
    return Coded(np.where(unknown, 0.0, codes), np.where(unknown, np.nan, values)), unknown


def _impossible(coding: Coding, codes: Doubles, values: Doubles) -> Array:
    """Return which values of a number lie outside its kind."""
    if coding.axis is None:
        return np.zeros(len(codes), dtype=bool)
    low, high = ends_of(coding.column.kind)
    result: Array = (values < low) | (values > high)
    return result | ((values != np.round(values)) & ~np.isnan(values) if coding.axis.has_masses else False)


def conditional(
    model: TableModel, cells: Mapping[str, Cells], library: str, effort: tuple[int, int, np.random.Generator]
) -> TableConditional:
    """Return the density of all other cells given some."""
    known, unknown = encoded(model, cells, "known")
    if not len(known):
        raise ValueError("known has no rows")
    return TableConditional(model, known, unknown, library, effort)


def ask(model: TableModel, known: Any, library: str, draws: int, steps: int, seed: Seed) -> TableConditional:
    """Answer a question; the arguments are those of `TableFlow.conditional`."""
    draws, steps = checked_effort(draws, steps)
    if isinstance(known, Mapping):
        known = {name: np.atleast_1d(values) if np.ndim(values) == 0 else values for name, values in known.items()}
    cells, _ = frames.read(known, "known")
    for name in cells:
        _checks.choice("a column of known", name, tuple(model.schema), note="the columns")
    return conditional(model, cells, library, (draws, steps, np.random.default_rng(seed)))


def marginal(
    model: TableModel, columns: Sequence[str], library: str, draws: int, steps: int, seed: int
) -> TableMarginal:
    """Return the density of some columns; the arguments are those of `TableFlow.marginal`."""
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        _checks.choice("a column of columns", name, tuple(model.schema), note="the columns")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"columns must be names of columns, at least one and each once, not {columns!r}")
    return TableMarginal(model, names, library, (*checked_effort(draws, steps), _checks.integer("seed", seed)))
