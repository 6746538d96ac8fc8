"""Gaps of a table of numbers, filled with draws or means of a flow's conditional densities."""

from __future__ import annotations

import numpy as np

from pushforward import _checks
from pushforward._model.state import State, sample_key
from pushforward._model.supports import refuse_cells
from pushforward._questions.answers import answer, moments
from pushforward._questions.conditional import checked_effort
from pushforward._questions.joint import Family, Joint
from pushforward._typing import Array, Doubles, Seed
from pushforward._warn import warn

METHODS = ("draw", "mean")


def impute(
    state: State, x: object, context: object, method: str, copies: int | None, effort: tuple[int, int, Seed]
) -> Array:
    """Return rows with their gaps filled; the arguments are those of `Flow.impute`."""
    refuse_cells(state.support, "impute")
    count = checked_copies(method, copies)
    draws, steps = checked_effort(*effort[:2])
    table = _checks.table(x, state.dim, "x", columns=state.columns)
    rows = np.array(table, dtype=np.float64)
    condition = _checks.condition(context, state.context, len(rows), state.context_columns)
    if condition is not None:
        condition = np.broadcast_to(condition, (len(rows), state.context))
    gaps = np.isnan(rows)
    _check_known(state, rows, gaps)
    filled = np.repeat(rows[None], count, axis=0)
    rng = np.random.default_rng(effort[2])
    if gaps.any():
        _fill(state, filled, gaps, condition, method, (draws, steps, rng))
    return (filled[0] if copies is None else filled).astype(table.dtype)


def checked_copies(method: str, copies: int | None) -> int:
    """Return how often gaps are filled."""
    _checks.choice("method", method, METHODS)
    if copies is not None and method != "draw":
        raise ValueError(f"copies={copies!r} goes with method='draw'; a mean is the same each time")
    return 1 if copies is None else _checks.integer("copies", copies, 1)


def _fill(
    state: State,
    filled: Doubles,
    gaps: Array,
    condition: Array | None,
    method: str,
    effort: tuple[int, int, np.random.Generator],
) -> None:
    """Fill the gaps of copies (count, n, dim) of the same rows."""
    draws, steps, rng = effort
    rows, count = filled[0], len(filled)
    family = Family(state, condition)
    patterns, kind = np.unique(gaps, axis=0, return_inverse=True)
    failed = 0
    for i, pattern in enumerate(patterns):
        at = np.flatnonzero(kind.ravel() == i)
        if not pattern.any():
            continue
        own = None if condition is None else np.ascontiguousarray(condition[at])
        if pattern.all():
            filled[:, at] = _of_nothing(state, own, len(at), method, count if method == "draw" else draws, rng)
            continue
        known, unknown = np.flatnonzero(~pattern), np.flatnonzero(pattern)
        found = answer(Joint(family, known, rows[np.ix_(at, known)], own), draws, steps, rng)
        values = np.moveaxis(found.sample(count, rng), 0, 1) if method == "draw" else found.mean()[0]
        filled[np.ix_(np.arange(count), at, unknown)] = values
        failed += int((~found.has_converged).sum())
    if failed:
        warn(f"{failed:,} of {len(rows):,} rows were filled by draws that have not converged; more draws or steps help")


def _of_nothing(
    state: State, context: Array | None, n: int, method: str, count: int, rng: np.random.Generator
) -> Doubles:
    """Return draws (count, n, dim), or the mean of so many, of rows of which nothing is known."""
    rows = None if context is None else np.repeat(context, count, axis=0)
    x = np.asarray(state.sample(sample_key(rng), n * count, rows)[0], dtype=np.float64).reshape(n, count, state.dim)
    return np.moveaxis(x, 0, 1) if method == "draw" else moments(x, np.full((n, count), 1 / count), state.support)[0]


def _check_known(state: State, rows: Doubles, gaps: Array) -> None:
    """Raise a ValueError for values that cannot be."""
    for i, (column, support) in enumerate(zip(rows.T, state.support, strict=True)):
        bad = np.isinf(column) | (~gaps[:, i] & support.outside(column))
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"x has {column[row]:g} in column {state.names[i]!r}, row {row}, outside {support!r}")
