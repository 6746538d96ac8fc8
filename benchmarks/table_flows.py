"""Mixed tables as people have them, fitted in one call: `python benchmarks/table_flows.py FOLDER [NAME ...]`.

FOLDER holds the tables as NAME.csv. A fifth of the rows, at most 5,000, is held out. The others are fitted by
`TableFlow().fit(rows)`, with no preparation. Then a classifier of boosted trees, which takes categories and gaps as
they are, learns to tell the held-out rows from as many samples: its accuracy and its area under the curve, in five-fold
cross-validation. 0.5 is best for both. "floor" is the same for held-out rows against rows of the fit, which shows what
chance does. "seconds" are those of the fit, by the clock; "of processor" those of all threads together.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from environment import describe
from pushforward import TableFlow
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

NAMES = ("adult", "diamonds", "penguins", "mpg", "horse_colic")
MOST_HELD_OUT = 5000
# The trees take no more categories than this; rarer ones are one.
MOST_CATEGORIES = 250


def two_sample(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, float]:
    """Return accuracy and area under the curve of a classifier that tells the rows of two tables apart."""
    rows = pd.concat([a, b], ignore_index=True)
    for name in rows:
        if not pd.api.types.is_numeric_dtype(rows[name]):
            codes = pd.Series(pd.factorize(rows[name])[0]).astype(float)
            codes[codes < 0] = np.nan
            common = codes.value_counts().index[:MOST_CATEGORIES]
            codes[codes.notna() & ~codes.isin(common)] = -1
            rows[name] = pd.Categorical(codes)
    label = np.repeat([0, 1], [len(a), len(b)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    trees = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    share = cross_val_predict(trees, rows, label, cv=folds, method="predict_proba")[:, 1]
    return float(((share > 0.5) == label).mean()), float(roc_auc_score(label, share))


def measure(name: str, table: pd.DataFrame) -> str:
    """Fit a table, and return a line of the report."""
    order = np.random.default_rng(0).permutation(len(table))
    count = min(len(table) // 5, MOST_HELD_OUT)
    held, rows = table.iloc[order[:count]], table.iloc[order[count:]]
    began, used = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are left out
        flow = TableFlow().fit(rows, seed=0)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    columns = list(flow.columns)
    scores = flow.log_prob(held)
    accuracy, area = two_sample(held[columns], flow.sample(count, seed=1))
    floor, floor_area = two_sample(held[columns], rows[columns].sample(count, random_state=0))
    allowed = np.isfinite(scores)
    figures = (
        f"{len(rows):,} x {len(columns)}",
        f"{seconds:.0f}",
        f"{processor:.0f}",
        f"{scores[allowed].mean():.2f}",
        f"{1 - allowed.mean():.2%}",
        *(f"{figure:.3f}" for figure in (accuracy, area, floor, floor_area)),
    )
    return f"| {' | '.join((name, *figures))} |"


def main() -> None:
    for key, value in describe().items():
        print(f"{key}: {value}")
    folder = Path(sys.argv[1])
    head = ("table", "rows x columns", "seconds", "of processor", "log p", "not allowed", "accuracy", "area", "floor")
    print(f"\n| {' | '.join(head)} | its area |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in sys.argv[2:] or NAMES:
        path = folder / f"{name}.csv"
        if path.exists():
            print(measure(name, pd.read_csv(path)), flush=True)
        else:
            print(f"{path} is not there", file=sys.stderr)


if __name__ == "__main__":
    main()
