"""Hidden cells filled by draws, beside two imputers of scikit-learn: `python benchmarks/imputation.py DATA [NAME ...]`.

DATA holds uci/uci.npz and tables/NAME.csv. Of each table at most 3,000 rows are fitted and at most 300 others are held
out, of which each cell is hidden with the probability 0.2; a row keeps at least one. Each method draws 20 values for
each hidden cell:

- "flow": `Flow().fit(rows)`, or `TableFlow().fit(rows)` for the mixed tables, and draws given the rest of the row.
- "chained": `IterativeImputer(sample_posterior=True)`, Bayesian linear regressions of each column on the others (the 30
  that are most correlated), fitted to the rows of the fit and the held-out ones together, with 20 seeds.
- "neighbours": the values of the 20 nearest rows of the fit, by the distance over the cells that are there.

The other two see standardised numbers and categories as columns of 0 and 1. "CRPS" is the continuous ranked probability
score of hidden numbers in deviations of their column, without the bias of a finite number of draws (Gneiting, Raftery
2007; Ferro 2014). "Brier" is the quadratic score of hidden categories, by the frequencies of the draws. Both are means
over cells, with the standard error of the difference to the flow in brackets. Less is better. Cells of the mixed tables
that are missing from the start stay so. Text of more than 50 values is left out, and so are held-out rows with a value
that the schema does not allow.
"""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from environment import describe
from pushforward import Flow, TableFlow
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.metrics.pairwise import nan_euclidean_distances

NUMBERS = ("protein", "kin40k")
MIXED = ("adult", "diamonds", "penguins", "mpg", "horse_colic")
ROWS, HELD_OUT = 3000, 300
HIDDEN = 0.2
DRAWS = 20
MOST_VALUES = 50


def hidden_cells(present: np.ndarray, seed: int) -> np.ndarray:
    """Choose cells to hide, of those that are there; a row keeps at least one."""
    rng = np.random.default_rng(seed)
    hidden = (rng.uniform(size=present.shape) < HIDDEN) & present
    for row in np.flatnonzero((hidden == present).all(axis=1)):
        hidden[row, rng.choice(np.flatnonzero(present[row]))] = False
    return hidden


def by_chains(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Draw by scikit-learn's imputer."""
    draws = []
    for seed in range(DRAWS):
        imputer = IterativeImputer(
            sample_posterior=True, max_iter=5, n_nearest_features=30, random_state=seed, keep_empty_features=True
        )
        draws.append(imputer.fit_transform(np.concatenate([train, x]))[len(train) :])
    return np.stack(draws)


def by_neighbours(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Draw by the nearest rows; a cell that is missing from a neighbour too is drawn from all."""
    distances = nan_euclidean_distances(x, train)
    nearest = np.argsort(np.where(np.isnan(distances), np.inf, distances), axis=1)[:, :DRAWS]
    found, rng = train[nearest].transpose(1, 0, 2).copy(), np.random.default_rng(0)
    for column in range(train.shape[1]):
        there = train[~np.isnan(train[:, column]), column]
        gaps = np.isnan(found[:, :, column])
        found[gaps, column] = rng.choice(there, gaps.sum())
    return np.where(np.isnan(x), found, x)


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the score of each cell from its draws, (draws, cells)."""
    ordered = np.sort(draws, axis=0)
    m = len(draws)
    spread = ((2 * np.arange(1, m + 1) - m - 1)[:, None] * ordered).sum(axis=0) / (m * (m - 1))
    return np.abs(draws - truth).mean(axis=0) - spread


def compared(scores: dict[str, np.ndarray]) -> list[str]:
    """Return means, and behind those of the others the error of the difference to the flow."""
    ours, cells = scores["flow"], [f"{scores['flow'].mean():.4f}" if len(scores["flow"]) else ""]
    for name in ("chained", "neighbours"):
        other = scores[name]
        error = (other - ours).std() / np.sqrt(max(len(ours), 1)) if len(ours) else 0.0
        cells.append(f"{other.mean():.4f} ({error:.4f})" if len(ours) else "")
    return cells


def numbers(path: Path, name: str) -> list[str]:
    """Measure a table of numbers."""
    table = np.load(path)[name].astype(np.float64)
    order = np.random.default_rng(0).permutation(len(table))
    test, train = table[order[:HELD_OUT]], table[order[HELD_OUT : HELD_OUT + ROWS]]
    hidden = hidden_cells(np.ones(test.shape, dtype=bool), 1)
    seconds = [time.perf_counter()]
    flow = Flow(table.shape[1], seed=0).fit(train, seed=0, progress=False)
    seconds.append(time.perf_counter())
    known = np.where(hidden, np.nan, test)
    draws = {"flow": flow.impute(known, copies=DRAWS, draws=400, seed=0)}
    seconds.append(time.perf_counter())
    mean, scale = train.mean(axis=0), train.std(axis=0)
    rows, x = (train - mean) / scale, (known - mean) / scale
    draws["chained"] = by_chains(rows, x) * scale + mean
    seconds.append(time.perf_counter())
    draws["neighbours"] = by_neighbours(rows, x) * scale + mean
    units = np.broadcast_to(scale, test.shape)[hidden]
    scores = {key: crps(value[:, hidden], test[hidden]) / units for key, value in draws.items()}
    return [f"{len(train):,} x {test.shape[1]}", *compared(scores), "", "", "", *timed(seconds)]


def timed(seconds: list[float]) -> list[str]:
    return [f"{after - before:.0f}" for before, after in itertools.pairwise(seconds)]


def plain(table: pd.DataFrame, train: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a table as standardised numbers and indicators; and the indicated values of each category."""
    parts, values = [], {}
    for name in table:
        if pd.api.types.is_numeric_dtype(train[name]) and not pd.api.types.is_bool_dtype(train[name]):
            numbers = table[name].astype(float)
            parts.append(((numbers - train[name].mean()) / (train[name].std() or 1.0)).to_numpy()[:, None])
            continue
        values[name] = np.sort(train[name].dropna().astype(str).unique())
        cells = table[name].astype(object).where(table[name].notna(), None)
        indicators = (cells.astype(str).to_numpy()[:, None] == values[name]).astype(float)
        indicators[table[name].isna()] = np.nan
        parts.append(indicators)
    return np.concatenate(parts, axis=1), values


def mixed(path: Path) -> list[str]:
    """Measure a table of any columns."""
    table = pd.read_csv(path)
    table = table[
        [name for name in table if pd.api.types.is_numeric_dtype(table[name]) or table[name].nunique() <= MOST_VALUES]
    ]
    order = np.random.default_rng(0).permutation(len(table))
    count = min(HELD_OUT, len(table) // 5)
    test, train = table.iloc[order[:count]], table.iloc[order[count : count + ROWS]]
    seconds = [time.perf_counter()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are left out
        flow = TableFlow().fit(train, seed=0)
    seconds.append(time.perf_counter())
    names = list(flow.columns)
    test, train = test[names], train[names]
    test = test[np.isfinite(flow.log_prob(test))].reset_index(drop=True)
    hidden = hidden_cells(test.notna().to_numpy(), 1)
    known = test.mask(hidden)
    completed = flow.impute(known, copies=DRAWS, seed=0)
    seconds.append(time.perf_counter())
    rows, values = plain(train, train)
    x = plain(known, train)[0]
    others = {"chained": by_chains(rows, x)}
    seconds.append(time.perf_counter())
    others["neighbours"] = by_neighbours(rows, x)
    of_numbers: dict[str, list[np.ndarray]] = {"flow": [], "chained": [], "neighbours": []}
    of_kinds: dict[str, list[np.ndarray]] = {"flow": [], "chained": [], "neighbours": []}
    first = 0
    for column, name in enumerate(names):
        at = np.flatnonzero(hidden[:, column])
        width = len(values[name]) if name in values else 1
        for method in of_numbers:
            if name in values:
                truth = (test[name].iloc[at].astype(str).to_numpy()[:, None] == values[name]).astype(float)
                if method == "flow":
                    cells = np.stack([copy[name].iloc[at].astype(str) for copy in completed])
                    share = (cells[:, :, None] == values[name]).mean(axis=0)
                else:
                    chosen = others[method][:, at, first : first + width].argmax(axis=2)
                    share = (chosen[:, :, None] == np.arange(width)).mean(axis=0)
                of_kinds[method].append(((share - truth) ** 2).sum(axis=1))
                continue
            scale, mean = train[name].std() or 1.0, train[name].mean()
            if method == "flow":
                cells = np.stack([copy[name].iloc[at].to_numpy(dtype=float) for copy in completed])
            else:
                cells = others[method][:, at, first] * scale + mean
            of_numbers[method].append(crps(cells, test[name].iloc[at].to_numpy(dtype=float)) / scale)
        first += width
    scores = [
        {key: np.concatenate(value) if value else np.zeros(0) for key, value in part.items()}
        for part in (of_numbers, of_kinds)
    ]
    size = f"{len(train):,} x {len(names)}"
    return [size, *compared(scores[0]), *compared(scores[1]), *timed(seconds)]


def main() -> None:
    for key, value in describe().items():
        print(f"{key}: {value}")
    data = Path(sys.argv[1])
    warnings.filterwarnings("ignore", message=".*not converge.*|.*Early stopping.*")
    head = ("table", "rows x columns", "CRPS: flow", "chained", "neighbours", "Brier: flow", "chained", "neighbours")
    print(f"\n| {' | '.join(head)} | seconds: fit | flow | chained |")
    print(f"|{'---|' * 11}")
    for name in sys.argv[2:] or NUMBERS + MIXED:
        path = data / ("uci/uci.npz" if name in NUMBERS else f"tables/{name}.csv")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figures = numbers(path, name) if name in NUMBERS else mixed(path)
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
