"""How well the model of a table describes rows that it was not fitted to: what `TableFlow.check` computes."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pushforward._check.diagnostics import classifier
from pushforward._check.distributions import uniformity
from pushforward._check.report import LEAST_CLASSIFIED, Mean
from pushforward._model.special import chi_square_cdf, normal_cdf
from pushforward._tables.coding import UNKNOWN
from pushforward._tables.model import Coded, TableModel
from pushforward._typing import Array, Doubles

# Samples beside each row, so that their own chance adds little, and no more than this of either.
_SAMPLES_A_ROW = 10
_MOST_SAMPLES = 100_000
_MOST_CLASSIFIED = 5000
# The trees take no more categories than this; others are one.
_MOST_CATEGORIES = 250
# Cells of a test with so few rows expected are put together.
_LEAST_EXPECTED = 5.0
# Thresholds above which something is worth improving.
_BETTER_THAN_CHANCE = 0.03
_DISTANCE = 0.03
_RARE = 0.01
_SHARE_NOT_ALLOWED = 0.01


class ColumnCheck(NamedTuple):
    """How far a column of the rows is from the model's.

    Examples
    --------
    >>> import numpy as np
    >>> table = {"x": np.random.default_rng(0).normal(size=400)}
    >>> flow = TableFlow().fit(table, epochs=5, seed=0)
    >>> found = flow.check({"x": table["x"] + 2}, seed=0).columns["x"]
    >>> found.distance > 0.5, found.p_value < 1e-6
    (True, True)
    """

    distance: float
    """In [0, 1]. Of codes, which are categories, gaps and atoms: half the sum of the differences of shares of rows and
    samples, or their KS distance if the codes have an order. Of numbers given the other columns: the KS distance of
    their quantiles from uniform. The larger of both."""
    p_value: float
    """How often such rows of the model are as far."""


@dataclass(frozen=True, repr=False)
class TableReport:
    """What `TableFlow.check` found; it prints as a few lines, and the last says what to try next.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> kind = rng.choice(["a", "b"], 1200)
    >>> table = {"kind": kind, "x": rng.normal(np.where(kind == "a", 0.0, 4.0))}
    >>> flow = TableFlow().fit({name: values[:1000] for name, values in table.items()}, epochs=10, seed=0)
    >>> report = flow.check({name: values[1000:] for name, values in table.items()}, seed=0)
    >>> report.rows, report.not_allowed
    (200, {})
    """

    rows: int
    not_allowed: dict[str, int]
    """For each column, how many rows hold a value that the schema does not allow."""
    log_likelihood: Mean | None
    """Mean log density of the rows that the schema allows, in nats; None if there are none."""
    columns: dict[str, ColumnCheck]
    """Each column of those rows beside the model."""
    classifier: Mean | None
    """How often boosted trees tell the rows from samples, by cross-validation: 0.5 is by chance. None without
    scikit-learn, or for less than 100 rows."""

    @property
    def next(self) -> str:
        """What to try next, in a sentence."""
        refused = sum(self.not_allowed.values())
        if refused > _SHARE_NOT_ALLOWED * self.rows:
            worst = max(self.not_allowed, key=lambda name: self.not_allowed[name])
            return (
                f"Give a wider schema: {self.not_allowed[worst]:,} of {self.rows:,} rows hold a value of {worst!r} "
                "that the model does not allow."
            )
        far = [
            name
            for name, found in self.columns.items()
            if found.p_value * len(self.columns) < _RARE and found.distance > _DISTANCE
        ]
        better = None if self.classifier is None else Mean(self.classifier.value - 0.5, self.classifier.error)
        fault = ""
        if better is not None and better.value > _BETTER_THAN_CHANCE and better.clearly_above_0:
            fault = f"a classifier recognises {0.5 + better.value:.0%} of the rows and samples"
        if far:
            worst = max(far, key=lambda name: self.columns[name].distance)
            what = f"rows and model differ in {worst!r} by {self.columns[worst].distance:.3f}"
            fault = f"{what}, and {fault}" if fault else what
        if fault:
            return (
                f"Fit more rows, or for more epochs and patience, or give the kinds of columns in the schema: {fault}."
            )
        return f"No problem detected in {self.rows:,} rows."

    def __repr__(self) -> str:
        trees = "left out: pip install scikit-learn"
        if self.classifier is not None:
            percent = Mean(100 * self.classifier.value, 100 * self.classifier.error)
            trees = f"a classifier distinguishes rows from samples in {percent} % of cases (50: not at all)"
        elif self.rows < LEAST_CLASSIFIED:
            trees = f"left out: less than {LEAST_CLASSIFIED} rows"
        lines = [("rows", f"{self.rows:,}, {len(self.columns)} column{'s' * (len(self.columns) != 1)}")]
        if self.not_allowed:
            named = ", ".join(f"{count:,} in {name!r}" for name, count in self.not_allowed.items())
            lines.append(("not allowed", f"values that the schema does not have: {named}"))
        if self.log_likelihood is not None:
            lines.append(("log-likelihood", f"{self.log_likelihood} nats a row"))
            worst = min(self.columns, key=lambda name: self.columns[name].p_value)
            found = self.columns[worst]
            lines.append(
                ("columns", f"distance {found.distance:.3f} (p = {found.p_value:.2g}) in {worst!r}, the worst")
            )
        lines += [("two samples", trees), ("next", self.next)]
        return "\n".join(
            textwrap.fill(f"{label:<14}  {text}", 110, subsequent_indent=" " * 16, break_on_hyphens=False)
            for label, text in lines
        )


def check(model: TableModel, coded: Coded, rng: np.random.Generator) -> TableReport:
    """Compare the model of a table with rows."""
    rows = len(coded)
    if rows < 2:
        raise ValueError(f"table has {rows} rows; a check needs at least 2, and says more with hundreds")
    # A stream of its own: rows drawn by the same seed, as in a trial, would be the samples too.
    rng = np.random.default_rng(rng.integers(1 << 63))
    mass, density = model.log_prob(coded)
    score = mass + density
    allowed = np.isfinite(score)
    not_allowed = {} if allowed.all() else _not_allowed(model, coded)
    coded, score = coded.part(allowed), score[allowed]
    if len(coded) > _MOST_SAMPLES:
        coded = coded.part(np.sort(rng.choice(len(coded), _MOST_SAMPLES, replace=False)))
    if not len(coded):
        return TableReport(rows, not_allowed, None, {}, None)
    error = float(score.std(ddof=1)) / math.sqrt(len(score)) if len(score) > 1 else math.nan
    drawn = model.sample(rng, min(_SAMPLES_A_ROW * len(coded), _MOST_SAMPLES), gaps=True)
    some = coded.part(rng.permutation(len(coded))[:_MOST_CLASSIFIED])
    x, samples = (_features(model, part) for part in (some, drawn.part(slice(0, len(some)))))
    are_codes = [coding.numbers is None for coding in model.codings]
    return TableReport(
        rows=rows,
        not_allowed=not_allowed,
        log_likelihood=Mean(float(score.mean()), error),
        columns={coding.name: _column(model, i, coded, drawn, rng) for i, coding in enumerate(model.codings)},
        classifier=classifier(x, samples, None, None, rng, are_codes),
    )


def _not_allowed(model: TableModel, coded: Coded) -> dict[str, int]:
    counts = {}
    for i, coding in enumerate(model.codings):
        bad = coded.codes[:, i] == UNKNOWN
        if coding.axis is not None:
            at = np.flatnonzero(model.has_value(coded, i))
            bad[at] |= ~coding.axis.allows(coded.values[at, i])
        if bad.any():
            counts[coding.name] = int(bad.sum())
    return counts


def _column(model: TableModel, number: int, coded: Coded, drawn: Coded, rng: np.random.Generator) -> ColumnCheck:
    """Compare one column of rows and model: its codes with those of samples, its numbers given the other columns."""
    coding = model.codings[number]
    levels, of_samples = (_levels(model, number, part) for part in (coded, drawn))
    found = [_of_codes(levels, of_samples, coding.ordered > 0)]
    if coding.axis is not None:
        at = np.flatnonzero(model.has_value(coded, number))
        if len(at):
            some = coded.part(at)
            z = coding.axis.latent(
                model.flows[coding.name], some.values[:, number], rng.uniform(size=len(at)), model.context(some, number)
            )
            found.append(ColumnCheck(*uniformity(normal_cdf(z))))
    p_value = min(1.0, len(found) * min(each.p_value for each in found))
    return ColumnCheck(max(each.distance for each in found), p_value)


def _levels(model: TableModel, number: int, coded: Coded) -> Doubles:
    """Return codes in which rare levels are apart."""
    coding, codes = model.codings[number], coded.codes[:, number]
    if not len(coding.rare):
        return codes
    return np.where(model.has_value(coded, number), coding.codes + coded.values[:, number], codes)


def _of_codes(rows: Doubles, samples: Doubles, is_ordered: bool) -> ColumnCheck:
    """Compare two lists of codes by the test of chi-square, with rare codes put together."""
    codes = np.unique(np.concatenate([rows, samples]))
    counts = np.array([np.bincount(np.searchsorted(codes, part), minlength=len(codes)) for part in (rows, samples)])
    totals = counts.sum(axis=1, keepdims=True)
    difference = np.diff(counts / totals, axis=0)
    distance = float(np.abs(difference.cumsum()).max() if is_ordered else 0.5 * np.abs(difference).sum())
    expected = totals * counts.sum(axis=0) / totals.sum()
    rare = expected[0] < _LEAST_EXPECTED
    if rare.any():
        counts, expected = (np.column_stack([part[:, ~rare], part[:, rare].sum(axis=1)]) for part in (counts, expected))
    if counts.shape[1] < 2:
        return ColumnCheck(distance, 1.0)
    square = float(((counts - expected) ** 2 / expected).sum())
    return ColumnCheck(distance, max(0.0, 1 - float(chi_square_cdf(square, counts.shape[1] - 1))))


def _features(model: TableModel, coded: Coded) -> Array:
    """Return rows as trees take them: numbers, codes of categories, and NaN for gaps."""
    columns = []
    for i, coding in enumerate(model.codings):
        codes, values = coded.codes[:, i], coded.values[:, i]
        if coding.numbers is not None:
            columns.append(coding.number_of(codes, values))
        else:
            levels = np.minimum(_levels(model, i, coded), _MOST_CATEGORIES)
            columns.append(np.where(codes == coding.gap, np.nan, levels))
    return np.stack(columns, axis=1)
