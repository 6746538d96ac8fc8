"""A flow's density as a function of some of its columns, at rows of the others."""

from __future__ import annotations

import functools

import numpy as np

from pushforward._model.state import State
from pushforward._questions.lines import Lines
from pushforward._questions.proposals import Conditionals, Mixture
from pushforward._typing import Array, Doubles, Indices

# Draws of the joint that scales and proposals are fitted to. More did not make the proposals better.
_DRAWS = 8192
# Rows that are scored at once.
_PIECE = 1 << 16


class Family:
    """A flow with what questions about any of its columns share: draws, coordinates, a mixture fitted to the draws.

    Parameters
    ----------
    state : State
        The flow.
    context : (n, context) or (context,) array or None
        The conditions that questions will have.
    """

    def __init__(self, state: State, context: Array | None) -> None:
        self.state = state
        rows = None
        if context is not None:
            table = np.atleast_2d(context)
            rows = np.ascontiguousarray(table[np.arange(_DRAWS) % len(table)])
        draws = np.asarray(state.sample(0, _DRAWS, rows)[0], dtype=np.float64)
        sound = np.isfinite(draws).all(axis=1)
        self._draws = draws[sound]
        self._context = None if rows is None else rows[sound].astype(np.float64)
        self.lines = [Lines([entry], self._draws[:, [i]]) for i, entry in enumerate(state.support)]

    def to_line(self, x: Doubles, columns: Indices) -> Doubles:
        """Return the coordinates of some columns, (..., k)."""
        return np.concatenate([self.lines[c].to_line(x[..., [i]]) for i, c in enumerate(columns)], axis=-1)

    def from_line(self, y: Doubles, columns: Indices) -> tuple[Doubles, Doubles]:
        """Return the values of coordinates, and log |dx/dy|."""
        parts = [self.lines[c].from_line(y[..., [i]]) for i, c in enumerate(columns)]
        return np.concatenate([x for x, _ in parts], axis=-1), np.sum([slope for _, slope in parts], axis=0)

    def conditions(self, context: Doubles) -> Doubles:
        """Return conditions in units of their spread."""
        assert self._context is not None
        scale = self._context.std(axis=0)
        result: Doubles = (context - self._context.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        return result

    @functools.cached_property
    def mixture(self) -> Mixture:
        """The mixture fitted to coordinates of draws, those of the context last."""
        y = self.to_line(self._draws, np.arange(self.state.dim))
        if self._context is not None:
            y = np.concatenate([y, self.conditions(self._context)], axis=1)
        return Mixture(y, self.state.num_threads)


class Joint:
    """The density of a flow as a function of the unknown columns, for rows of the known ones.

    Parameters
    ----------
    family : Family
        The flow.
    known : (k,) array of int
        The columns that are known.
    values : (n, k) array
        Their values.
    context : (n, context) array or None
        The condition of each row.
    """

    def __init__(self, family: Family, known: Indices, values: Doubles, context: Array | None) -> None:
        self.family, self.known, self.values, self.context = family, known, values, context
        self.unknown: Indices = np.setdiff1d(np.arange(family.state.dim), known)

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, at: Indices, u: Doubles) -> Doubles:
        """Return full rows: the known values of rows `at`, (m,), and unknown ones, (m, d)."""
        x = np.empty((len(at), self.family.state.dim))
        x[:, self.known], x[:, self.unknown] = self.values[at], u
        return x

    def log_prob(self, at: Indices, u: Doubles) -> Doubles:
        """Return the log joint density, (m,), of rows `at` with these unknown values; -inf where there is none."""
        result = np.empty(len(at))
        for first in range(0, len(at), _PIECE):
            piece = slice(first, first + _PIECE)
            context = None if self.context is None else np.ascontiguousarray(self.context[at[piece]])
            result[piece] = self.family.state.log_prob(self.rows(at[piece], u[piece]), context)
        return np.where(np.isnan(result), -np.inf, result)

    def on_line(self, at: Indices, y: Doubles) -> tuple[Doubles, Doubles]:
        """Return values (r, s, d) of coordinates of the unknown columns, and the log density of the coordinates (r, s).

        Row i of `y` belongs to row ``at[i]``.
        """
        x, log_slope = self.family.from_line(y, self.unknown)
        rows = np.repeat(at, y.shape[1])
        density = self.log_prob(rows, x.reshape(-1, y.shape[2])).reshape(y.shape[:2]) + log_slope
        return x, np.where(np.isnan(density), -np.inf, density)

    def gradient(self, at: Indices, y: Doubles) -> tuple[Doubles, Doubles]:
        """Return the log density of coordinates, as `on_line`, and its gradient (r, s, d); 0 where there is no density.

        Row i of `y` belongs to row ``at[i]``.
        """
        state, (x, log_slope) = self.family.state, self.family.from_line(y, self.unknown)
        rows = np.repeat(at, y.shape[1])
        full = self.rows(rows, x.reshape(-1, y.shape[2]))
        context = None if self.context is None else np.ascontiguousarray(self.context[rows])
        density, by_x = state.core.log_prob_and_grad(full, context=context, threads=state.num_threads)
        parts = [self.family.lines[c].slopes(y[..., [i]]) for i, c in enumerate(self.unknown)]
        slopes, bends = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        total = density.reshape(y.shape[:2]) + log_slope
        gradient = by_x[:, self.unknown].reshape(y.shape) * slopes + bends
        sound = np.isfinite(total) & np.isfinite(gradient).all(axis=2)
        return np.where(sound, total, -np.inf), np.where(sound[:, :, None], gradient, 0.0)

    def proposal(self, at: Indices) -> Conditionals:
        """Return the mixture of the unknown columns' coordinates given what is known of some rows."""
        given, columns = self.family.to_line(self.values[at], self.known), self.known
        if self.context is not None:
            dim = self.family.state.dim
            given = np.concatenate([given, self.family.conditions(self.context[at].astype(np.float64))], axis=1)
            columns = np.concatenate([columns, dim + np.arange(self.context.shape[1])])
        return self.family.mixture.given(columns, given, self.unknown)
