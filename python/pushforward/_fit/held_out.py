"""Training rows and validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._fit.exact import ExactSums
from pushforward._io.rows import Rows
from pushforward._io.scan import check_values, pieces
from pushforward._model.state import State
from pushforward._typing import Doubles, Indices
from pushforward._warn import warn

Names = Sequence[str] | None

NEEDS_FRACTION = "groups say which rows are held out together; validation must then be a fraction above 0"
"""The message for groups without a fraction of rows to hold out."""

# Fewer rows tell next to nothing of a density.
_FEW, _FEW_PER_FEATURE = 10, 5


@dataclass(frozen=True)
class Share:
    """A fraction of the rows.

    Parameters
    ----------
    fraction : float
        How many, in [0, 1).
    seed : int, optional
        A seed of its own: fits with other seeds hold out the same rows.
    groups : (n,) array of int64, optional
        Which rows belong together.
    """

    fraction: float
    seed: int | None = None
    groups: Indices | None = None


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
    groups = None
    if isinstance(validation, Share):
        groups = validation.groups
        rng = rng if validation.seed is None else np.random.default_rng(validation.seed)
        validation = validation.fraction
    if _is_fraction(validation):
        fraction = check_fraction(validation)
        if groups is None:
            train, held = rows.split(fraction, rng)
        else:
            train, held = rows.split_at(chosen_rows(len(rows.x), fraction, rng, groups, rows.weights))
        if not len(train):
            raise ValueError(f"validation={validation} leaves none of {len(rows)} rows to train on")
        return train, held if len(held) else None
    x, context, weights = _parts_of(validation, bool(state.context))
    widths = (state.dim, state.context)
    held = Rows.checked(x, context, weights, widths, columns, "validation", rows.group, state.shape)
    check_values(held, "validation", state.support)
    return rows, held


def check_fraction(validation: object) -> float:
    """Return a fraction of rows to hold out."""
    return _checks.number("validation", validation, 0.0, 1.0, closed="left", what="a fraction, rows or None")


def _is_fraction(validation: Any) -> bool:
    return not isinstance(validation, (tuple, list, str)) and np.ndim(validation) == 0


def _parts_of(validation: Any, is_conditional: bool) -> tuple[Any, Any, Any]:
    """Take apart ``(x, context)`` or ``(x, context, weights)``; without a context, x alone or with None as context."""
    parts = len(validation) if isinstance(validation, tuple) else 1
    if is_conditional:
        if parts not in (2, 3):
            raise ValueError("with a context, validation rows come as a tuple (x, context) or (x, context, weights)")
        return validation[0], validation[1], validation[2] if parts == 3 else None
    if parts in (2, 3) and validation[1] is None:
        return validation[0], None, validation[2] if parts == 3 else None
    if parts in (2, 3) and getattr(validation[0], "ndim", 1) == 2:
        raise ValueError("validation is a tuple (x, context), but this flow has context=0: pass (x, None, weights)")
    return validation, None, None


def grouped(validation: Any, groups: object, rows: int) -> Any:
    """Return the argument `validation` of a fit with the labels of its rows' groups, if there are any."""
    if groups is None:
        return validation
    if validation is None or not _is_fraction(validation) or check_fraction(validation) == 0:
        raise ValueError(NEEDS_FRACTION)
    return Share(check_fraction(validation), groups=_checks.labels(groups, rows, "groups"))


def chosen_rows(
    rows: int,
    fraction: float,
    rng: np.random.Generator,
    groups: Indices | None = None,
    weights: Doubles | None = None,
) -> npt.NDArray[np.bool_]:
    """Return which of so many rows to hold out: a fraction of them, drawn at random, in whole groups.

    Rows of weight 0 do not count. Of two groups or more at least one is held out, and at least one is not.
    """
    chosen = np.zeros(rows, dtype=bool)
    if groups is None:
        chosen[rng.permutation(rows)[: round(fraction * rows)]] = True
        return chosen
    sizes = np.bincount(groups, None if weights is None else weights > 0)
    order = rng.permutation(np.flatnonzero(sizes))
    if len(order) < 2:
        raise ValueError("all rows are of one group; to hold out whole groups, at least two are needed")
    # So many groups that the rows come nearest to the fraction.
    count = 1 + int(np.abs(sizes[order][:-1].cumsum() - fraction * rows).argmin())
    is_chosen = np.zeros(len(sizes), dtype=bool)
    is_chosen[order[:count]] = True
    return is_chosen[groups]


def warn_of_few(rows: int, state: State) -> None:
    """Warn of a fit to so few rows that it can tell nothing of their density."""
    if rows < max(_FEW, _FEW_PER_FEATURE * state.dim) and state.parameters.size > rows:
        features = f"{state.dim} feature{'s' * (state.dim > 1)}"
        warn(
            f"{rows} rows are few for {features}: a flow with {state.parameters.size:,} parameters overfits them. Use "
            "100 rows per feature or more, or a Gaussian, layers=[LU()]"
        )


def mean_weight(rows: Rows) -> float:
    """Return the mean weight of rows; none of them has the weight 0."""
    if rows.weights is None:
        return 1.0
    total = ExactSums(1)
    for _, _, weights, index in pieces(rows):
        if weights is not None:
            total.add(weights[index])
    return float(total.totals(rows.group)[0]) / len(rows)
