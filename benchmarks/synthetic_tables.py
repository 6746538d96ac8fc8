"""Synthetic tables beside those of SDV: `python benchmarks/synthetic_tables.py FOLDER [--rows N] [NAME ...]`.

FOLDER holds the tables as NAME.csv. A fifth of the rows, at most 5,000, is held out. `TableFlow` and SDV's Gaussian
copula, CTGAN and TVAE are fitted to the others with their defaults, and each draws as many rows as were held out.
`--rows` keeps so many random rows of a table, for all of them. SDV 2.0 takes pandas 2, so it may need an environment of
its own.

- accuracy: of a classifier of boosted trees that tells held-out rows from samples (`table_flows.py`); 0.5 is best. On
  small tables it is the mean of four tables of samples.
- quality, validity: the scores of sdmetrics' quality and diagnostic reports beside the held-out rows; 1 is best.
- utility: boosted trees are trained on samples to predict one column of the held-out rows, from as many samples as
  there are rows of the fit: accuracy of a category, R^2 of a number. "rows of the fit" trains on those.
- nearer: the share of samples that are nearer to some row of the fit than to any held-out row, with as many of either.
  0.5 is best; a model that copies its rows comes to 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from environment import describe
from pushforward import TableFlow
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from table_flows import MOST_CATEGORIES, MOST_HELD_OUT, NAMES, two_sample

TARGETS = {
    "adult": "income",
    "diamonds": "price",
    "penguins": "species",
    "mpg": "mpg",
    "horse_colic": "outcome",
}
# The classifier is asked about so many tables of samples, where they have less rows than this.
MOST_TABLES, FEW_ROWS = 4, 500
Draw = Callable[[int], pd.DataFrame]


def fit_pushforward(rows: pd.DataFrame) -> Draw:
    flow = TableFlow().fit(rows, seed=0)
    return lambda n: flow.sample(n, seed=1)


def sdv(name: str) -> Callable[[pd.DataFrame], Draw]:
    """Return the fit of one of SDV's models."""

    def fit(rows: pd.DataFrame) -> Draw:
        import sdv.single_table
        import torch
        from sdv.metadata import Metadata

        torch.manual_seed(0)
        tables = {"table": rows}
        metadata = Metadata.detect_from_dataframes(tables, infer_keys=None)
        synthesizer = getattr(sdv.single_table, name)(metadata)
        synthesizer.fit(tables)
        return lambda n: _only(synthesizer.sample(num_rows=n))

    return fit


def _only(tables: Any) -> pd.DataFrame:
    return tables["table"] if isinstance(tables, dict) else tables


MODELS: dict[str, Callable[[pd.DataFrame], Draw]] = {
    "pushforward": fit_pushforward,
    "Gaussian copula": sdv("GaussianCopulaSynthesizer"),
    "CTGAN": sdv("CTGANSynthesizer"),
    "TVAE": sdv("TVAESynthesizer"),
}


def reports(real: pd.DataFrame, drawn: pd.DataFrame) -> tuple[float, float]:
    """Return sdmetrics' quality and diagnostic scores."""
    from sdmetrics.reports.single_table import DiagnosticReport, QualityReport

    columns = {
        name: {"sdtype": "numerical" if pd.api.types.is_numeric_dtype(real[name]) else "categorical"} for name in real
    }
    scores = []
    for report in (QualityReport(), DiagnosticReport()):
        report.generate(real, drawn, {"columns": columns}, verbose=False)
        scores.append(float(report.get_score()))
    return scores[0], scores[1]


def utility(train: pd.DataFrame, test: pd.DataFrame, target: str) -> float:
    """Return how well trees that were trained on one table predict a column of another."""
    both = pd.concat([train, test], ignore_index=True)
    for name in both:
        if name != target and not pd.api.types.is_numeric_dtype(both[name]):
            codes = pd.factorize(both[name])[0].astype(float)
            codes[(codes < 0) | (codes >= MOST_CATEGORIES)] = np.nan
            both[name] = pd.Categorical(codes)
    is_train = np.arange(len(both)) < len(train)
    is_number = pd.api.types.is_float_dtype(test[target]) or test[target].nunique() > 20
    model = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    there = both[target].notna().to_numpy()
    x, y = both.drop(columns=target), both[target]
    trees = model(categorical_features="from_dtype", random_state=0)
    trees.fit(x[is_train & there], y[is_train & there])
    return float(trees.score(x[~is_train & there], y[~is_train & there]))


def nearer(fitted: pd.DataFrame, held: pd.DataFrame, drawn: pd.DataFrame) -> float:
    """Return the share of samples that are nearer to a row of the fit than to any held-out row."""
    n = min(len(held), len(drawn), 1000)
    parts = [table.iloc[:n] for table in (fitted.sample(n, random_state=0), held, drawn)]
    distances = np.zeros((2, n, n))
    for name in held:
        columns = [part[name] for part in parts]
        if pd.api.types.is_numeric_dtype(held[name]):
            spread = fitted[name].std() or 1.0
            values = [column.to_numpy(dtype=np.float64, na_value=np.nan) / spread for column in columns]
            gaps = [np.isnan(value) for value in values]
            for i in range(2):
                apart = np.abs(np.nan_to_num(values[2])[:, None] - np.nan_to_num(values[i]))
                one = gaps[2][:, None] != gaps[i]
                both = gaps[2][:, None] & gaps[i]
                distances[i] += np.where(both, 0.0, np.where(one, 1.0, np.minimum(apart, 1.0)))
        else:
            values = [column.astype(object).where(column.notna(), "").to_numpy() for column in columns]
            for i in range(2):
                distances[i] += values[2][:, None] != values[i]
    to_fitted, to_held = distances.min(axis=2)
    return float((to_fitted < to_held).mean() + 0.5 * (to_fitted == to_held).mean())


def measure(name: str, table: pd.DataFrame, models: list[str]) -> None:
    """Fit all models to a table, and print a line for each."""
    order = np.random.default_rng(0).permutation(len(table))
    count = min(len(table) // 5, MOST_HELD_OUT)
    held, rows = table.iloc[order[:count]], table.iloc[order[count:]]
    target = TARGETS[name]
    real = f"{utility(rows, held, target):.3f}"
    for model in models:
        began = time.perf_counter()
        draw = MODELS[model](rows)
        seconds = time.perf_counter() - began
        drawn = draw(len(rows))
        columns = [column for column in rows if column in drawn]
        drawn = drawn[columns]
        some = drawn.iloc[:count]
        # A few dozen rows leave much to chance: then it is the mean of several tables of samples.
        tables = [drawn.iloc[i * count : (i + 1) * count] for i in range(MOST_TABLES if count < FEW_ROWS else 1)]
        accuracy = np.mean([two_sample(held[columns], table)[0] for table in tables if len(table) == count])
        quality, validity = reports(held[columns], some)
        copied = nearer(rows[columns], held[columns], some)
        trained = utility(drawn, held[columns], target)
        figures = (accuracy, quality, validity, trained)
        shown = (f"{seconds:.0f}", *(f"{figure:.3f}" for figure in figures), real, f"{copied:.2f}")
        print(f"| {' | '.join((name, f'{len(rows):,}', model, *shown))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    args = parser.parse_args()
    for key, value in describe().items():
        print(f"{key}: {value}")
    head = ("table", "rows", "model", "seconds", "accuracy", "quality", "validity", "utility", "rows of the fit")
    print(f"\n| {' | '.join(head)} | nearer |")
    print("|---" * 10 + "|")
    for name in args.names:
        path = args.folder / f"{name}.csv"
        if not path.exists():
            print(f"{path} is not there", file=sys.stderr)
            continue
        table = pd.read_csv(path)
        if args.rows is not None and len(table) > args.rows:
            table = table.sample(args.rows, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are left out, and SDV's own
            measure(name, table, args.models)


if __name__ == "__main__":
    main()
