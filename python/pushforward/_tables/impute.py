"""Gaps of a table of any columns, filled with draws or means of completed rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pushforward._questions.chains import resampled
from pushforward._questions.conditional import checked_effort
from pushforward._questions.impute import checked_copies
from pushforward._tables.cells import Cells
from pushforward._tables.completion import Completed, Completer, patterns_of
from pushforward._tables.model import Coded, TableModel
from pushforward._tables.questions import encoded
from pushforward._typing import Doubles, Seed
from pushforward._warn import warn

# Completions in memory at a time.
_MOST = 1 << 18


def impute(
    model: TableModel, cells: Mapping[str, Cells], method: str, copies: int | None, effort: tuple[int, int, Seed]
) -> list[dict[str, Cells]]:
    """Return copies of rows whose gaps are filled; the arguments are those of `TableFlow.impute`."""
    count = checked_copies(method, copies)
    draws, steps = checked_effort(*effort[:2])
    rng = np.random.default_rng(effort[2])
    coded, unknown = encoded(model, cells, "table")
    codes, values = (np.repeat(part[None], count, axis=0) for part in (coded.codes, coded.values))
    failed = 0
    for pattern, at in patterns_of(unknown):
        if not pattern.any():
            continue
        for some in np.array_split(at, max(1, len(at) * draws // _MOST)):
            found = Completer(model, pattern).solve(coded.part(some), draws, steps, rng)
            failed += int((~found.has_converged).sum())
            if method == "draw":
                chosen = resampled(found.log_weights, count, rng).T
                row = np.arange(len(some))
                codes[:, some], values[:, some] = found.codes[row, chosen], found.values[row, chosen]
                continue
            for i in np.flatnonzero(pattern):
                codes[:, some, i], values[:, some, i] = _center(model, int(i), found)
    if failed:
        warn(
            f"{failed:,} of {len(coded):,} rows were filled by draws that have not converged; more draws or steps help"
        )
    return [model.decode(Coded(*copy)) for copy in zip(codes, values, strict=True)]


def _center(model: TableModel, column: int, found: Completed) -> tuple[Doubles, Doubles]:
    """Return the code and value that stand for a cell: of a number the mean, else the most probable code."""
    coding, codes, weights = model.codings[column], found.codes[:, :, column], found.weights
    shares = np.stack([(weights * (codes == code)).sum(axis=1) for code in range(coding.codes)], axis=1)
    if coding.axis is None:
        return coding.codes_of_known_values(coding.masses_of_known_values(shares).argmax(axis=1).astype(np.float64))
    mean = (weights * coding.number_of(codes, found.values[:, :, column])).sum(axis=1)
    step = coding.column.step
    # A mean stands as a number, also where an atom is more probable.
    return np.full(len(mean), coding.rest), np.round(mean / step) * step if step else mean
