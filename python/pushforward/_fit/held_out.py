"""Training rows and validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._io.rows import Rows
from pushforward._io.scan import check_values, pieces
from pushforward._model.state import State
from pushforward._typing import Doubles

Names = Sequence[str] | None


@dataclass(frozen=True)
class Share:
    """A fraction of the rows, drawn by a seed of its own: fits with other seeds hold out the same rows."""

    fraction: float
    seed: int


def held_out(
    state: State, rows: Rows, validation: Any, rng: np.random.Generator, columns: tuple[Names, Names]
) -> tuple[Rows, Rows | None]:
    """Return the training rows and the validation rows.

    Parameters
    ----------
    state : State
        The flow.
    rows : Rows
        The rows that were given to the fit.
    validation : float, array, tuple, Share or None
        The argument of `Flow.fit`, or the share that several fits hold out.
    rng : numpy.random.Generator
        Draws the rows to hold out.
    columns : (sequence of str or None, sequence of str or None)
        Names of the features and of the conditioning features, which validation rows of their own must have.
    """
    if validation is None:
        return rows, None
    if isinstance(validation, Share):
        validation, rng = validation.fraction, np.random.default_rng(validation.seed)
    if not isinstance(validation, (tuple, list, str)) and np.ndim(validation) == 0:
        fraction = check_fraction(validation)
        train, held = rows.split(fraction, rng)
        if not len(train):
            raise ValueError(f"validation={validation} leaves none of {len(rows)} rows to train on")
        return train, held if len(held) else None
    x, context = validation, None
    if state.context:
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise ValueError("with a context, validation rows come as a tuple (x, context)")
        x, context = validation
    held = Rows.checked(x, context, None, (state.dim, state.context), columns, "validation")
    check_values(held, "validation", state.support)
    return rows, held


def check_fraction(validation: object) -> float:
    """Return a fraction of rows to hold out."""
    return _checks.number("validation", validation, 0.0, 1.0, closed="left", what="a fraction, rows or None")


def mean_weight(rows: Rows) -> float:
    """Return the mean weight of rows; none of them has the weight 0."""
    if rows.weights is None:
        return 1.0
    return sum(float(weights[index].sum()) for _, _, weights, index in pieces(rows) if weights is not None) / len(rows)


def training_rows(rows: int, weights: Doubles | None, validation: object) -> int:
    """Return about how many of a table's rows a fit is going to train on."""
    count = rows if weights is None else int(np.count_nonzero(weights))
    is_fraction = isinstance(validation, (int, float, np.number))
    return max(1, count - round(check_fraction(validation) * count)) if is_fraction else count
