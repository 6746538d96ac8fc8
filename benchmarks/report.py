"""Markdown tables of the records that `quality.py` writes: of one run, and of two runs compared."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

# Divergences below a thousandth of a nat count as that in ratios: they may be zero, or negative by chance.
LEAST_DIVERGENCE = 1e-3
REFERENCE = "flow"


@dataclass(frozen=True)
class Cell:
    """The mean score of a method on a problem over seeds and folds, its standard error, and the mean time of a fit."""

    score: float
    error: float
    seconds: float

    @classmethod
    def of(cls, records: Iterable[Record], prefix: str = "") -> Cell:
        """Return the mean of records; seeds share their test rows, folds have their own."""
        seeds = defaultdict(list)
        for record in records:
            seeds[record["seed"]].append(record)
        scores, errors, seconds = [], [], []
        for parts in seeds.values():
            shares = [part["test_rows"] / sum(part["test_rows"] for part in parts) for part in parts]
            pairs = list(zip(shares, parts, strict=True))
            scores.append(sum(share * part[f"{prefix}score"] for share, part in pairs))
            errors.append(math.hypot(*(share * part[f"{prefix}error"] for share, part in pairs)))
            seconds.append(statistics.mean(part["seconds"] for part in parts))
        return cls(*map(statistics.mean, (scores, errors, seconds)))

    def __str__(self) -> str:
        digits = 2 if abs(self.score) >= 10 or self.error > 0.1 else 3
        return f"{self.score:.{digits}f} ± {self.error:.{digits}f}"


Cells = dict[str, dict[str, Cell]]
"""By problem, then by method."""


def grouped(records: list[Record]) -> dict[tuple[str, int], dict[str, dict[str, list[Record]]]]:
    """Return records by kind and number of rows (0 for tables), problem and method."""
    groups: dict[tuple[str, int], dict[str, dict[str, list[Record]]]] = {}
    for record in records:
        key = record["kind"], record["rows"] if record["kind"] == "kl" else 0
        problem = groups.setdefault(key, {}).setdefault(record["name"], {})
        problem.setdefault(record["method"], []).append(record)
    return groups


def print_table(head: list[str], lines: Iterable[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def title(kind: str, rows: int) -> str:
    if kind == "kl":
        return f"KL divergence in nats, {rows} rows (lower is better)"
    return "Held-out log-likelihood in nats a row, standardised (higher is better)"


def ratio(kind: str, score: float, reference: float) -> float:
    """Return what compares two scores: a ratio of divergences, or a difference of log-likelihoods."""
    if kind == "kl":
        return max(score, LEAST_DIVERGENCE) / max(reference, LEAST_DIVERGENCE)
    return score - reference


def average(kind: str, ratios: list[float]) -> str:
    """Return the geometric mean of ratios, or the median of differences, which single tables can dominate."""
    if not ratios:
        return "-"
    return f"{statistics.geometric_mean(ratios):.3f}" if kind == "kl" else f"{statistics.median(ratios):+.3f}"


def print_run(records: list[Record]) -> None:
    """Print the scores and the seconds of a run."""
    for (kind, rows), problems in grouped(records).items():
        methods = list(dict.fromkeys(method for fits in problems.values() for method in fits))
        cells = {name: {method: Cell.of(fits[method]) for method in fits} for name, fits in problems.items()}
        print(f"\n### {title(kind, rows)}")
        lines = [[name, *(str(line.get(m, "-")) for m in methods)] for name, line in cells.items()]
        print_table(["", *methods], [*lines, _averages(kind, cells, methods)])
        _print_floored(problems)
        print("\nSeconds of a fit")
        seconds = [
            [name, *(f"{line[m].seconds:.1f}" if m in line else "-" for m in methods)] for name, line in cells.items()
        ]
        print_table(["", *methods], seconds)


def _averages(kind: str, cells: Cells, methods: list[str]) -> list[str]:
    """Return the last line of a table, which compares each method with the flow."""
    result = [f"geometric mean, / {REFERENCE}" if kind == "kl" else f"median, - {REFERENCE}"]
    for method in methods:
        both = [line for line in cells.values() if method in line and REFERENCE in line]
        result.append(average(kind, [ratio(kind, line[method].score, line[REFERENCE].score) for line in both]))
    return result


def _print_floored(problems: dict[str, dict[str, list[Record]]]) -> None:
    """Print where rows have log densities so low that they dominate the mean."""
    lines = []
    for name, fits in problems.items():
        for method, records in fits.items():
            low, bad = (sum(record[count] for record in records) for count in ("below_floor", "not_finite"))
            if low or bad:
                total = sum(record["test_rows"] for record in records)
                lines.append([name, method, str(low), str(bad), str(total), str(Cell.of(records, "floored_"))])
    if lines:
        print("\nRows below -745 nats, and rows without a finite log density among them")
        print_table(["", "method", "below -745", "not finite", "of rows", "score with those at -745"], lines)


def compare(before: list[Record], after: list[Record]) -> None:
    """Print the scores of two runs on the fits that both have."""

    def key(record: Record) -> tuple[Any, ...]:
        return tuple(record[name] for name in ("kind", "name", "rows", "seed", "fold", "method"))

    common = {key(record) for record in before} & {key(record) for record in after}
    old, new = (grouped([record for record in run if key(record) in common]) for run in (before, after))
    for (kind, rows), problems in old.items():
        for method in dict.fromkeys(method for fits in problems.values() for method in fits):
            lines, ratios = [], []
            for name, fits in problems.items():
                if method not in fits:
                    continue
                first, second = Cell.of(fits[method]), Cell.of(new[kind, rows][name][method])
                ratios.append(ratio(kind, second.score, first.score))
                compared = f"{ratios[-1]:.3f}" if kind == "kl" else f"{ratios[-1]:+.3f}"
                times = f"{first.seconds:.1f}", f"{second.seconds:.1f}"
                lines.append([name, str(first), str(second), compared, *times])
            print(f"\n### {method}: {title(kind, rows)}")
            last = ["geometric mean" if kind == "kl" else "median", "", "", average(kind, ratios), "", ""]
            column = "after / before" if kind == "kl" else "after - before"
            print_table(["", "before", "after", column, "seconds before", "seconds after"], [*lines, last])
