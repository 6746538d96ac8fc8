"""Real tables, prepared alike, on which `quality.py` measures the log-likelihood of held-out rows.

Every table is made of its numeric columns. Rows with gaps and repeated rows are left out: a repeated row would be both
in the fitted rows and in the held-out ones. So are constant columns, and columns that are linear functions of those
before them, because a density would be infinite on them. A column with many ties was rounded; it is dithered with
uniform noise of one rounding step. At last the columns are standardised.

The folder holds uci/uci.npz, power/train.npy and tables/NAME.csv; what it lacks is skipped. Four tables are
scikit-learn's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import datasets

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

UCI = ("protein", "kin40k", "pumadyn32nm", "parkinsons", "gas", "skillcraft", "wine")
CSV = ("penguins", "mpg", "diamonds")
MOST_ROWS = 20_000
POWER_ROWS = 10_000
# Below this number of rows a single split is too noisy.
ROWS_FOR_ONE_SPLIT = 2000
# Residual of a column after regression on others, in its deviations; rounding to 6 digits leaves more.
COLLINEAR = 1e-6
# A column with fewer distinct values than this share of the rows was rounded.
DISTINCT = 0.8


@dataclass(frozen=True)
class Table:
    """A table that was prepared, and the columns that were left out."""

    name: str
    x: Doubles
    left_out: list[str]


def _npz(path: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(np.load(path)[name])


def _sklearn(load: Callable[..., object], target: bool) -> pd.DataFrame:
    frame: pd.DataFrame = load(as_frame=True).frame  # type: ignore[attr-defined]
    return frame if target else frame.drop(columns="target")


def _power(path: Path) -> pd.DataFrame:
    table = np.load(path, mmap_mode="r")
    rows = np.random.default_rng(0).choice(len(table), POWER_ROWS, replace=False)
    return pd.DataFrame(table[np.sort(rows)])


def sources(folder: Path) -> dict[str, tuple[Path | None, Callable[[], pd.DataFrame]]]:
    """Return the file of each table, if it has one, and how to read it."""
    uci, power = folder / "uci" / "uci.npz", folder / "power" / "train.npy"
    found: dict[str, tuple[Path | None, Callable[[], pd.DataFrame]]] = {
        "iris": (None, partial(_sklearn, datasets.load_iris, False)),
        "wine cultivars": (None, partial(_sklearn, datasets.load_wine, False)),
        "diabetes": (None, partial(_sklearn, datasets.load_diabetes, True)),
        "breast cancer": (None, partial(_sklearn, datasets.load_breast_cancer, False)),
    }
    for name in CSV:
        path = folder / "tables" / f"{name}.csv"
        found[name] = path, partial(pd.read_csv, path)
    found |= {name: (uci, partial(_npz, uci, name)) for name in UCI}
    return found | {"power": (power, partial(_power, power))}


def load(folder: Path, names: list[str] | None = None) -> Iterator[Table]:
    """Yield the tables of a folder, small ones first, and those of scikit-learn; print what was left out."""
    found = sources(folder)
    if names and (unknown := set(names) - set(found)):
        raise SystemExit(f"unknown tables: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    tables = []
    for name in names or found:
        path, read = found[name]
        if path is not None and not path.exists():
            print(f"{name} is skipped: there is no {path}", file=sys.stderr)
            continue
        tables.append(prepare(name, read()))
    for table in sorted(tables, key=lambda table: len(table.x)):
        left_out = f", without {', '.join(table.left_out)}" if table.left_out else ""
        print(f"{table.name}: {len(table.x)} rows of {table.x.shape[1]} columns{left_out}", flush=True)
        yield table


def prepare(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of finite, distinct, dithered and standardised rows in random order."""
    rng = np.random.default_rng(0)
    frame = frame.select_dtypes("number").dropna()
    x = np.unique(frame.to_numpy(np.float64), axis=0)
    x = rng.permutation(x)[:MOST_ROWS]
    kept = independent(x)
    left_out = [str(column) for column, keep in zip(frame.columns, kept, strict=True) if not keep]
    x = np.column_stack([dithered(column, rng) for column in x[:, kept].T])
    return Table(name, (x - x.mean(axis=0)) / x.std(axis=0), left_out)


def independent(x: Doubles) -> Mask:
    """Return which columns are neither constant nor a linear function of kept columns before them."""
    kept = np.zeros(x.shape[1], dtype=bool)
    basis = np.empty((len(x), 0))
    for i, column in enumerate(x.T):
        if np.ptp(column) == 0:
            continue
        rest = (column - column.mean()) / column.std()
        for _ in range(2):  # once leaves rounding errors
            rest = rest - basis @ (basis.T @ rest)
        norm = float(np.linalg.norm(rest))
        if norm > COLLINEAR * np.sqrt(len(x)):
            kept[i] = True
            basis = np.column_stack([basis, rest / norm])
    return kept


def dithered(column: Doubles, rng: np.random.Generator) -> Doubles:
    """Return a rounded column with uniform noise of one step of its rounding, and another column as it is."""
    values = np.unique(column)
    if len(values) >= DISTINCT * len(column):
        return column
    noisy: Doubles = column + rng.uniform(size=len(column)) * np.median(np.diff(values))
    return noisy


def folds(rows: int) -> list[Mask]:
    """Return the held-out rows of each fit: five folds of a small table, 15 % of a large one."""
    order = np.random.default_rng(1).permutation(rows)
    parts = np.array_split(order, 5) if rows < ROWS_FOR_ONE_SPLIT else [order[: round(0.15 * rows)]]
    masks = np.zeros((len(parts), rows), dtype=bool)
    for mask, part in zip(masks, parts, strict=True):
        mask[part] = True
    return list(masks)
