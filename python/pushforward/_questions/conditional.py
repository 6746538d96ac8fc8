"""Conditional and marginal densities of a flow, as they are handed to the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model.state import State, sample_key
from pushforward._model.supports import refuse_cells
from pushforward._questions import triangular
from pushforward._questions.answers import Answer, answer, is_leading
from pushforward._questions.joint import Family, Joint
from pushforward._typing import Doubles, Indices, Seed


class Conditional:
    """The density of a flow's other columns given some, as `Flow.conditional` returns it.

    There is one for each row of known values. With known values that are single numbers, the axis of the rows is left
    out of every result.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns that are not known, in the order of the table; x0, x1, ... if they have none.
    method : str
        How the answer was found: "the chain rule", which is exact; "a grid", whose error is below 0.001 of the mass;
        "importance sampling"; or "importance sampling and chains".
    log_marginal : (n,) array
        The log density of the known values, in nats.
    error : (n,) array
        The standard error of `log_marginal`, and so of `log_prob`; 0 where the answer is exact.
    effective_size : (n,) array
        Effective number of the draws that `mean`, `quantile` and `sample` use; infinite on a grid.
    r_hat : (n,) array
        R-hat of the chains; NaN for rows that needed none.
    has_converged : (n,) array of bool
        Whether each row's answer can be relied on: the grid is fine enough, there are 50 effective draws or a quarter
        of `draws` if that is less, or R-hat of the chains is at most 1.05.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=2000)
    >>> flow = Flow(2, layers=[LU()], dtype="float64", seed=0).initialize(x)
    >>> given = flow.conditional({0: 1.0})
    >>> given.method
    'a grid'
    >>> bool(abs(given.mean()[0][0] - 0.8) < 0.1)
    True
    """

    def __init__(self, joint: Joint, shape: tuple[int, ...], found: Answer) -> None:
        self._joint, self._shape, self._found = joint, shape, found
        self.columns = tuple(joint.family.state.names[c] for c in joint.unknown)
        self.method = found.method
        self.log_marginal = found.log_marginal.reshape(shape)
        self.error = found.error.reshape(shape)
        self.effective_size = found.effective.reshape(shape)
        self.r_hat = found.r_hat.reshape(shape)
        self.has_converged = found.has_converged.reshape(shape)

    def log_prob(self, x: npt.ArrayLike) -> Doubles:
        """Return the conditional log density of values of the other columns, in nats.

        Parameters
        ----------
        x : (..., n, d) array
            Values of `columns` for each row of known values; one row of values (d,) is for all.

        Returns
        -------
        (..., n) array
            The log densities. Their error is `error`.

        Raises
        ------
        TypeError, ValueError
            If `x` has the wrong shape or type.
        """
        d, n = len(self.columns), len(self._joint)
        array = _checks.points(x, d, "x").astype(np.float64)
        try:
            shape = np.broadcast_shapes(array.shape[:-1], self._shape)
        except ValueError:
            raise ValueError(f"x has shape {array.shape}; {('...', *self._shape, d)} is expected") from None
        if shape[len(shape) - len(self._shape) :] != self._shape:
            raise ValueError(f"x has shape {array.shape}; {('...', *self._shape, d)} is expected")
        table = np.broadcast_to(array, (*shape, d)).reshape(-1, d)
        rows = np.tile(np.arange(n), len(table) // max(n, 1))
        joint = self._joint.log_prob(rows, table)
        with np.errstate(invalid="ignore"):
            return (joint - self._found.log_marginal[rows]).reshape(shape)

    def sample(self, n: int, *, seed: Seed = None) -> Doubles:
        """Draw values of the other columns for each row of known values.

        Parameters
        ----------
        n : int
            Draws for each row. By importance sampling they are chosen among as many weighted draws as the question
            asked for, so more of them repeat.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        (n, rows, d) array
            The draws; (n, d) for one row of single numbers.

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer.
        """
        count = _checks.row_count(n, max(1, len(self._joint)) * len(self.columns))
        drawn = self._found.sample(count, np.random.default_rng(seed))
        return np.moveaxis(drawn, 0, 1).reshape(count, *self._shape, len(self.columns))

    def mean(self) -> tuple[Doubles, Doubles]:
        """Return the means of the other columns, and their errors; on a circle, the mean direction.

        Returns
        -------
        (rows, d) array, (rows, d) array
            The means and their standard errors.
        """
        mean, error = self._found.mean()
        shape = (*self._shape, len(self.columns))
        return mean.reshape(shape), error.reshape(shape)

    def quantile(self, q: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Return quantiles of each of the other columns, and their errors.

        Parameters
        ----------
        q : float or (m,) array
            Probabilities in [0, 1].

        Returns
        -------
        (m, rows, d) array, and another
            The quantiles and their standard errors; without the first axis for one probability.

        Raises
        ------
        TypeError, ValueError
            If `q` is no such number or array.
        """
        wanted = _checks.floats(q, "q").astype(np.float64)
        if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"q must be numbers in [0, 1], one or an (m,) array, not {q!r}")
        values, errors = self._found.quantile(np.atleast_1d(wanted))
        shape = (*wanted.shape, *self._shape, len(self.columns))
        return values.reshape(shape), errors.reshape(shape)

    def __repr__(self) -> str:
        names = [self._joint.family.state.names[c] for c in self._joint.known]
        return described(self.columns, names, len(self._joint), self._found)


def described(columns: Sequence[str], known: Sequence[str], rows: int, found: Answer) -> str:
    """Describe a conditional density in a few lines."""
    lines = [
        f"density of {', '.join(columns)} given {', '.join(known)}, for {rows:,} row{'s' * (rows != 1)}, by "
        f"{found.method}"
    ]
    if rows:
        low, high = float(np.min(found.log_marginal)), float(np.max(found.log_marginal))
        lines.append(f"log marginal    {low:.6g} to {high:.6g}, error at most {float(np.max(found.error)):.2g}")
        if np.isfinite(found.effective).any():
            lines.append(f"effective draws {float(np.min(found.effective)):,.0f} or more a row")
        if not np.isnan(found.r_hat).all():
            lines.append(
                f"chains          for {int((~np.isnan(found.r_hat)).sum()):,} rows, R-hat at most "
                f"{float(np.nanmax(found.r_hat)):.3f}"
            )
        if not found.has_converged.all():
            lines.append(f"not converged   {int((~found.has_converged).sum()):,} rows; ask with more draws or steps")
    return "\n".join(lines)


class Marginal:
    """The density of some of a flow's columns, as `Flow.marginal` returns it.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns, in the order of points and samples; x0, x1, ... if they have none.
    is_exact : bool
        Whether `log_prob` is exact: for all columns, or the first ones of a flow that is triangular in their order.

    Examples
    --------
    >>> flow = Flow(3, layers=triangular(3, depth=1, hidden=(8,)), dtype="float64", seed=0)
    >>> flow.marginal([0, 1]).is_exact
    True
    >>> flow.marginal([0, 1]).log_prob([[0.0, 0.0]]).round(3)
    array([-1.838])
    """

    def __init__(self, state: State, columns: Indices, draws: int, steps: int, seed: int) -> None:
        self._state, self._chosen = state, columns
        self._draws, self._steps, self._seed = draws, steps, seed
        self.columns = tuple(state.names[c] for c in columns)
        self.is_exact = len(columns) == state.dim or is_leading(state, columns)

    def log_prob(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> Doubles:
        """Return the log density of points, in nats.

        Parameters
        ----------
        x : (n, k) array
            Values of the columns.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.

        Returns
        -------
        (n,) array of float64
            The log densities: exact, or on a grid or by importance sampling over the other columns, as
            `Flow.conditional` does it. -inf where a value is outside its support.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or holds NaN.
        """
        return self.log_prob_and_error(x, context)[0]

    def log_prob_and_error(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Doubles, Doubles]:
        """Return the log densities of points, and their standard errors; parameters are those of `log_prob`.

        Returns
        -------
        (n,) array, (n,) array
            The log densities and their errors, 0 where they are exact.
        """
        state, width = self._state, len(self._chosen)
        values = _checks.table(x, width, "x", "columns").astype(np.float64)
        condition = _checks.condition(context, state.context, len(values), state.context_columns)
        check_finite(values, "x")
        order = np.argsort(self._chosen)
        if self.is_exact:
            if width == state.dim:
                return state.log_prob(np.ascontiguousarray(values[:, order]), condition), np.zeros(len(values))
            leading = triangular.order_of(state)
            assert leading is not None
            places = [int(np.flatnonzero(self._chosen == c)[0]) for c in leading[:width]]
            part = triangular.leading(state, width)
            return part.log_prob(np.ascontiguousarray(values[:, places]), condition), np.zeros(len(values))
        outside = np.zeros(len(values), dtype=bool)
        for column, chosen in zip(values.T, self._chosen, strict=True):
            outside |= state.support[chosen].outside(column)
        inside = np.flatnonzero(~outside)
        result, error = np.full(len(values), -np.inf), np.zeros(len(values))
        if len(inside):
            rows = None if condition is None else np.broadcast_to(condition, (len(values), state.context))[inside]
            joint = Joint(Family(state, rows), self._chosen[order], values[inside][:, order], rows)
            found = answer(joint, self._draws, self._steps, np.random.default_rng(self._seed))
            result[inside], error[inside] = found.log_marginal, found.error
        return result, error

    def sample(self, n: int, context: npt.ArrayLike | None = None, *, seed: Seed = None) -> Doubles:
        """Draw rows: those of the joint, without the other columns.

        Parameters
        ----------
        n : int
            Rows, at least 0.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        seed : int or numpy.random.Generator, optional
            Fixes the rows.

        Returns
        -------
        (n, k) array
            The rows.

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, or the context has the wrong shape or type.
        """
        count = _checks.row_count(n, self._state.dim)
        condition = _checks.condition(context, self._state.context, count, self._state.context_columns)
        x = self._state.sample(sample_key(seed), count, condition)[0]
        return np.asarray(x[:, self._chosen], dtype=np.float64)

    def __repr__(self) -> str:
        how = "exact" if self.is_exact else "a grid" if len(self._chosen) == self._state.dim - 1 else "an estimate"
        return f"density of {', '.join(self.columns)} of a flow of {self._state.dim} columns, {how}"


def conditional(
    state: State, known: Mapping[Any, npt.ArrayLike], context: object, draws: int, steps: int, seed: Seed
) -> Conditional:
    """Return the density of the other columns given some; the arguments are those of `Flow.conditional`."""
    if not isinstance(known, Mapping):
        raise TypeError(f"known must be a mapping of columns to values, not {type(known).__name__}")
    refuse_cells(state.support, "conditional")
    chosen = columns_of(state, list(known), "known")
    if len(chosen) == state.dim:
        raise ValueError(f"known has all {state.dim} columns; at least one must be left")
    parts = []
    for label, values in known.items():
        part = _checks.floats(values, f"known[{label!r}]").astype(np.float64)
        if part.ndim > 1:
            raise ValueError(f"known[{label!r}] has shape {part.shape}; a number or (n,) is expected")
        parts.append(part)
    lengths = {len(part) for part in parts if part.ndim}
    if len(lengths) > 1:
        raise ValueError(f"the values of known have different lengths: {sorted(lengths)}")
    shape = tuple(lengths)
    n = shape[0] if shape else 1
    order = np.argsort(chosen)
    values = np.stack([np.broadcast_to(parts[i], (n,)) for i in order], axis=1)
    check_finite(values, "known")
    for column, c in zip(values.T, chosen[order], strict=True):
        outside = state.support[c].outside(column)
        if outside.any():
            row = int(outside.argmax())
            raise ValueError(f"known[{state.names[c]!r}] is {column[row]:g} in row {row}, outside {state.support[c]!r}")
    condition = _checks.condition(context, state.context, n, state.context_columns)
    if condition is not None:
        condition = np.broadcast_to(condition, (n, state.context))
    draws, steps = checked_effort(draws, steps)
    joint = Joint(Family(state, condition), chosen[order], values, condition)
    return Conditional(joint, shape, answer(joint, draws, steps, np.random.default_rng(seed)))


def marginal(state: State, columns: Sequence[Any], draws: int, steps: int, seed: int) -> Marginal:
    """Return the density of some columns; the arguments are those of `Flow.marginal`."""
    refuse_cells(state.support, "marginal")
    if isinstance(columns, (str, int, np.integer)):
        columns = [columns]
    draws, steps = checked_effort(draws, steps)
    return Marginal(state, columns_of(state, list(columns), "columns"), draws, steps, _checks.integer("seed", seed))


def checked_effort(draws: int, steps: int) -> tuple[int, int]:
    """Return the numbers of draws and of steps."""
    return _checks.integer("draws", draws, 50, 1_000_000), _checks.integer("steps", steps, 0, 1_000_000)


def columns_of(state: State, labels: Sequence[Any], name: str) -> Indices:
    """Return the numbers of columns that are given by name or number, at least one."""
    found: list[int] = []
    for label in labels:
        if isinstance(label, str):
            _checks.choice(f"a column of {name}", label, state.names, note="the columns")
            found.append(state.names.index(label))
        else:
            found.append(_checks.integer(f"a column of {name}", label, 0, state.dim - 1))
    if not found:
        raise ValueError(f"{name} has no columns; at least one is needed")
    twice = [column for i, column in enumerate(found) if column in found[:i]]
    if twice:
        raise ValueError(f"{name} has column {state.names[twice[0]]!r} twice")
    return np.array(found, dtype=np.int64)


def check_finite(values: Doubles, name: str) -> None:
    """Raise a ValueError for rows with NaN or infinity."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        count = int(bad.sum())
        raise ValueError(f"{name} has {count} row{'s' * (count > 1)} with NaN or infinity, first at row {bad.argmax()}")
