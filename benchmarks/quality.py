"""Measure how close fitted densities come, beside other estimators: `python benchmarks/quality.py`.

Each estimator is fitted to rows of the known densities of `densities.py`. The figure is the KL divergence in nats: the
mean of log p - log q over 20,000 fresh rows, with its standard error. With `--tables FOLDER`, it is fitted to the real
tables of `tables.py`, and the figure is the log-likelihood of held-out rows in nats per row.

    python benchmarks/quality.py --rows 300,2000 --seeds 2 --out before.jsonl
    python benchmarks/quality.py --tables FOLDER --methods flow,mixture --out before.jsonl
    python benchmarks/quality.py --report before.jsonl             # the tables of a run
    python benchmarks/quality.py --report before.jsonl after.jsonl # two runs compared

The file gets one line of JSON per fit, as soon as it is done. A run that was interrupted continues when the same
command is given again. Rows to which an estimator gives no finite log density count as -745 nats, where the density
underflows in double precision; their number is printed. Finite log densities count as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tables
from densities import DENSITIES, test_rows, training_rows
from environment import describe
from estimators import ESTIMATORS, Doubles, Fit, Supports, Task, missing_package
from report import compare, print_run
from threadpoolctl import threadpool_limits
from variants import VARIANTS

METHODS: dict[str, Callable[[Task], Fit]] = {**ESTIMATORS, **VARIANTS}
DEFAULT_METHODS = ("flow", "mixture", "stack", "kde", "gaussian")
# The logarithm of the least positive double.
FLOOR = -745.0


@dataclass(frozen=True)
class Problem:
    """Rows to fit to, and rows to score; `load` returns both, and the exact log densities of the latter if known."""

    kind: str
    name: str
    rows: int
    seed: int
    fold: int
    support: Supports
    load: Callable[[], tuple[Doubles, Doubles, Doubles | None]]

    def key(self, method: str) -> tuple[Any, ...]:
        return self.name, self.rows, self.seed, self.fold, method


def known_densities(names: list[str], sizes: list[int], seeds: int) -> Iterator[Problem]:
    """Yield the problems of known densities, small ones first."""

    def loader(name: str, rows: int, seed: int) -> Callable[[], tuple[Doubles, Doubles, Doubles]]:
        def load() -> tuple[Doubles, Doubles, Doubles]:
            test = test_rows(name)
            return training_rows(name, rows, seed), test, DENSITIES[name].log_prob(test)

        return load

    for rows in sizes:
        for seed in range(seeds):
            for name in names:
                yield Problem("kl", name, rows, seed, 0, DENSITIES[name].support, loader(name, rows, seed))


def real_tables(folder: Path, names: list[str] | None, seeds: int) -> Iterator[Problem]:
    """Yield the folds of real tables."""

    def loader(x: Doubles, is_test: np.ndarray) -> Callable[[], tuple[Doubles, Doubles, None]]:
        return lambda: (x[~is_test], x[is_test], None)

    for table in tables.load(folder, names):
        for seed in range(seeds):
            for fold, is_test in enumerate(tables.folds(len(table.x))):
                yield Problem("table", table.name, len(table.x), seed, fold, None, loader(table.x, is_test))


def score(log_q: Doubles, log_p: Doubles | None) -> dict[str, Any]:
    """Return the mean and its standard error: of log p - log q, or of log q if there is no p."""
    is_finite = np.isfinite(log_q)

    def mean_and_error(values: Doubles) -> tuple[float, float]:
        terms = values if log_p is None else log_p - values
        return float(terms.mean()), float(terms.std() / np.sqrt(len(terms)))

    mean, error = mean_and_error(np.where(is_finite, log_q, FLOOR))
    floored, floored_error = mean_and_error(np.where(is_finite, np.maximum(log_q, FLOOR), FLOOR))
    return {
        "score": mean,
        "error": error,
        "test_rows": len(log_q),
        "not_finite": int((~is_finite).sum()),
        "below_floor": int((log_q < FLOOR).sum()),
        "floored_score": floored,
        "floored_error": floored_error,
    }


def measure(problem: Problem, methods: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """Yield the record of each method on a problem."""
    train, test, log_p = problem.load()
    task = Task(train, problem.support, problem.seed, threads)
    for method in methods:
        try:
            fit = task.fit(method, METHODS[method])
        except Exception as error:  # another library's failure must not end a run of hours
            print(f"{method} on {problem.name}, {problem.rows} rows: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            log_q = fit.log_prob(test)
        yield {
            "kind": problem.kind,
            "name": problem.name,
            "rows": problem.rows,
            "seed": problem.seed,
            "fold": problem.fold,
            "method": method,
            **score(log_q, log_p),
            "seconds": fit.seconds,
            "score_seconds": time.perf_counter() - start,
            "threads": threads,
            "details": fit.details,
        }


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file; the last line of an interrupted run may be incomplete."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: left out an incomplete line", file=sys.stderr)
    return records


def available(methods: list[str]) -> list[str]:
    """Return the methods whose packages can be imported."""
    found = []
    for method in methods:
        if package := missing_package(method):
            print(f"{method} is skipped: {package} is not installed", file=sys.stderr)
        else:
            found.append(method)
    return found


def run(problems: Iterator[Problem], methods: list[str], threads: int, out: Path) -> list[dict[str, Any]]:
    """Measure what is not in the file yet, and return all records of the file."""
    done = {(r["name"], r["rows"], r["seed"], r["fold"], r["method"]) for r in read(out)}
    methods = available(methods)
    for problem in problems:
        missing = [method for method in methods if problem.key(method) not in done]
        if not missing:
            continue
        for record in measure(problem, missing, threads):
            with out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(
                f"{record['name']} {record['rows']} seed {record['seed']} fold {record['fold']} {record['method']}: "
                f"{record['score']:.4f} +- {record['error']:.4f} nats, {record['seconds']:.1f} s",
                flush=True,
            )
    return read(out)


def names(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods_help = f"of {', '.join(ESTIMATORS)}, and of variants.py by name, or all of them with `variants`"
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[300, 2000, 20_000])
    parser.add_argument("--seeds", type=int, default=2, help="fits per problem (default: 2)")
    parser.add_argument("--densities", type=names, default=list(DENSITIES), help="names, separated by commas")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="measure on real tables instead")
    parser.add_argument("--names", type=names, help="names of tables (default: all)")
    parser.add_argument("--methods", type=names, default=list(DEFAULT_METHODS), help=methods_help)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE", help="print the tables of one run, or of two")
    arguments = parser.parse_args()
    if arguments.report:
        runs = [read(path) for path in arguments.report]
        print_run(runs[0]) if len(runs) == 1 else compare(*runs)
        return
    methods = [name for given in arguments.methods for name in (VARIANTS if given == "variants" else [given])]
    unknown = set(methods) - set(METHODS) | set(arguments.densities) - set(DENSITIES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(describe())
    if arguments.tables:
        problems = real_tables(arguments.tables, arguments.names, arguments.seeds)
    else:
        problems = known_densities(arguments.densities, arguments.rows, arguments.seeds)
    with threadpool_limits(arguments.threads):
        print_run(run(problems, methods, arguments.threads, arguments.out))


if __name__ == "__main__":
    main()
