"""What in its columns keeps a table from having a density: values that repeat, rounding, linear relations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pushforward._fit.cells import grid
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles

# Fewer rows cannot show what is in a column.
_FEWEST_ROWS = 50
# A column of so few different values is a count or a category.
_FEW_VALUES = 20
# A value is an atom if so many of the rows have it, and so many times as many as have the values beside it.
_SHARE_OF_ATOM = 0.01
_TIMES_ITS_NEIGHBORS = 5
# A column is rounded if rows share their values with so many others on average, and its step is so large a part of
# its deviation; a smaller one has no effect on a density.
_ROWS_A_VALUE = 2
_LEAST_STEP = 1e-3
# A value is far if it is so many times as far from the middle as three quarters of the others.
_FAR = 20
# What is left of a column, given the others, in parts of its deviation. Float32 leaves about 1e-7.
_LEFT_OVER = 1e-6
# The least eigenvalue of the correlations is below this if there is such a column; it costs less to find.
_LEAST_EIGENVALUE = 1e-9
_ROWS_PER_COLUMN = 10
_MOST_NAMED = 4
# A coefficient below this share of the largest, in deviations, is one of rounding.
_LEAST_COEFFICIENT = 1e-4

_DISCRETE = (
    "There are few different values, which have no density, in {}. Add uniform noise of one step to counts; pass "
    "categories as context, one column of 0 and 1 each"
)
_ROUNDED = "There are rounded numbers, which have no density, in {}. Add uniform noise of one step"
_LINEAR = "is a linear function of other columns, {} and a constant, and has no density. Leave it out"


@dataclass(frozen=True)
class Oddity:
    """One thing that a density cannot describe, in one column or several.

    Parameters
    ----------
    kind : {"discrete", "atom", "rounded", "relation"}
        What it is.
    text : str
        A sentence that names the columns, and one of advice.
    """

    kind: str
    text: str


def oddities(x: Array, names: Sequence[str], support: Sequence[Support] = ()) -> tuple[Oddity, ...]:
    """Return what is odd in the columns of a table; a column whose numbers stand for their cells has a density.

    Parameters
    ----------
    x : (n, dim) array
        Rows.
    names : sequence of str
        Names of the columns.
    support : sequence of Support
        The supports of the columns, if any is not to be looked at.
    """
    celled = {i for i, entry in enumerate(support) if entry.has_cells}
    if celled:
        kept = [i for i in range(x.shape[1]) if i not in celled]
        x, names = x[:, kept], [names[i] for i in kept]
    if len(x) < _FEWEST_ROWS or not len(names):
        return ()
    with np.errstate(all="ignore"):  # of numbers near the largest
        return _oddities(x, names)


def _oddities(x: Array, names: Sequence[str]) -> tuple[Oddity, ...]:
    discrete: list[str] = []
    rounded: list[str] = []
    found: list[Oddity] = []
    for name, column in zip(names, x.T, strict=True):
        values, counts = np.unique(column.astype(np.float64), return_counts=True)
        if len(values) <= _FEW_VALUES:
            discrete.append(f"{name!r} ({len(values)} values)")
            continue
        atoms = atoms_among(counts, len(x))
        for i in np.flatnonzero(atoms):
            found.append(_atom(name, values, int(i), counts[i] / len(x)))
        if len(x) < _ROWS_A_VALUE * len(values):
            continue
        step = grid(values[~atoms], values[~atoms][0])
        if step > _LEAST_STEP * column.std(dtype=np.float64):
            rounded.append(f"{name!r} (steps of {step:.3g})")
    if discrete:
        found.append(Oddity("discrete", _DISCRETE.format(_listed(discrete))))
    if rounded:
        found.append(Oddity("rounded", _ROUNDED.format(_listed(rounded))))
    return (*found, *(Oddity("relation", text) for text in _relations(x, names)))


def atoms_among(counts: Array, rows: int) -> Array:
    """Return which of the values, in their order, many more rows have than the values beside them."""
    around = np.pad(counts.astype(np.float64), 2, mode="reflect")
    beside = np.mean([around[i : i + len(counts)] for i in (0, 1, 3, 4)], axis=0)
    result: Array = (counts >= _SHARE_OF_ATOM * rows) & (counts > _TIMES_ITS_NEIGHBORS * beside)
    return result


def _atom(name: str, values: Doubles, i: int, share: float) -> Oddity:
    others = np.delete(values, i)
    middle = np.median(others)
    what = f"{share:.1%} of the rows have the value {values[i]:g} in {name!r}"
    if abs(values[i] - middle) > _FAR * np.quantile(np.abs(others - middle), 0.75):
        return Oddity("atom", f"{what}, far from all others. If it stands for a gap, leave these rows out")
    return Oddity("atom", f"{what}, where there is no density. Model these rows separately")


def _relations(x: Array, names: Sequence[str]) -> list[str]:
    """Name the columns that are linear functions of those before them."""
    n, dim = x.shape
    if n < 2 * dim + _FEWEST_ROWS:  # few rows are on a plane by chance
        return []
    x = x[:: max(1, n // (_ROWS_PER_COLUMN * dim + 1000))].astype(np.float64)
    y = (x - x.mean(axis=0)) / x.std(axis=0)
    kept: list[int] = [i for i in range(dim) if np.isfinite(y[:, i]).all()]
    if not kept or np.linalg.eigvalsh(y[:, kept].T @ y[:, kept] / len(y))[0] > _LEAST_EIGENVALUE:
        return []
    found: list[str] = []
    independent: list[int] = []
    for i in kept:
        if independent:
            coefficients = np.linalg.lstsq(y[:, independent], y[:, i], rcond=None)[0]
            if (y[:, i] - y[:, independent] @ coefficients).std() < _LEFT_OVER:
                found.append(_relation(x, names, i, independent, coefficients))
                continue
        independent.append(i)
    return found


def _relation(x: Array, names: Sequence[str], i: int, others: list[int], coefficients: Doubles) -> str:
    large = np.abs(coefficients) > _LEAST_COEFFICIENT * np.abs(coefficients).max()
    scale = x.std(axis=0)
    terms = [
        f"{coefficient * scale[i] / scale[k]:.4g} {names[k]}"
        for k, coefficient in zip(np.array(others)[large], coefficients[large], strict=True)
    ]
    right = " + ".join(terms[:_MOST_NAMED]) + (" + ..." if len(terms) > _MOST_NAMED else "")
    return (
        f"{names[i]!r} is a linear function of other columns, {right} and a constant, and has no density. Leave it out"
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
