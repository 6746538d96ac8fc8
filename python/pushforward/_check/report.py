"""What `Flow.check` returns: numbers that print as a few lines, and what to try next."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pushforward._check.calibration import Calibration, Coverage
from pushforward._check.distributions import Uniformity
from pushforward._fit.oddities import Oddity

LEAST_CLASSIFIED = 100
"""Rows from which on a classifier can tell anything: one of its leaves takes 20."""

# Thresholds above which something is worth improving. A small p-value alone is not: with enough rows any flow has one.
_SHARE_OUTSIDE = 0.02  # by feature
_DEVIATIONS_OFF = 0.01
_BETTER_THAN_CHANCE = 0.03
_KS_DISTANCE = 0.03
_RARE = 0.01  # p-value of all tests of a kind together
_NATS_A_FEATURE = 0.02
_ERRORS = 3.0  # standard errors
_MOST_NAMED = 3


class Mean(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        known = self.error > 0 and math.isfinite(self.error)
        digits = min(max(1 - math.floor(math.log10(self.error)), 0), 6) if known else 4
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}"

    @property
    def clearly_above_0(self) -> bool:
        """Whether it is more than three standard errors above 0."""
        return self.value > _ERRORS * self.error


class Between(NamedTuple):
    """The widest gap between the rows in a feature, and the share of the samples in it."""

    feature: str
    low: float
    high: float
    share: float

    @property
    def text(self) -> str:
        """A sentence on it, without its end."""
        return f"{self.share:.0%} of the samples lie between {self.low:.4g} and {self.high:.4g} in {self.feature!r}"


@dataclass(frozen=True, repr=False)
class Report:
    """What `Flow.check` found; it prints as a few lines, and the last says what to try next.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(600, 2))
    >>> report = Flow(2, layers=[]).initialize(x[:500]).check(x[500:], seed=0)
    >>> report.rows
    100
    >>> report.round_trip < 1e-4
    True
    >>> report.pit[0].p_value > 0.01
    True
    """

    rows: int
    log_likelihood: Mean
    """Mean log density of the rows, in nats."""
    above_gaussian: Mean | None
    """How much more than under Gaussians that are each fitted to four fifths of the rows and score the others: of the
    values behind the support (the logarithm of `Positive`), and given a context with means linear in it. None where
    rows are too few, or depend linearly on each other."""
    above_training: float | None
    """How much more than the training rows of the fit in its best epoch, as its history has it; None without one."""
    round_trip: float
    """How far rows come back from the latent side, at most: in standard deviations of the feature."""
    pit: tuple[Uniformity, ...]
    """Whether the base's distribution function makes each latent feature uniform, as it should."""
    pit_radius: Uniformity
    """The same of the distance from the middle, all latent features taken as normal scores."""
    classifier: Mean | None
    """How often boosted trees tell the rows from samples, by cross-validation: 0.5 is by chance. None without
    scikit-learn, or for less than 100 rows."""
    outside_splines: float | None
    """Share of rows with a standardised feature beyond the narrowest spline's bound; None without splines."""
    oddities: tuple[Oddity, ...] = ()
    """What in the rows has no density: few values, atoms, rounding, linear relations."""
    between: Between | None = None
    """Where many samples lie between rows, as between two clusters; None if there is no such place."""
    stopped: str = ""
    """Why the fit ended, as its history has it."""
    has_cells: bool = False
    """Whether every feature is a whole number that stands for its cell, as with `Pixel`."""
    calibration: Calibration | None = None
    """Ranks of the rows among draws under their own conditions, and what share of them regions of each level hold. None
    without context: then `pit` shows as much, without draws."""

    @property
    def bits_per_dim(self) -> Mean | None:
        """Mean of minus log_prob over (dim log 2), of whole numbers: at least the bits that a lossless code would need.

        None unless every feature has the support `Pixel`.
        """
        if not self.has_cells:
            return None
        bit = len(self.pit) * math.log(2)
        return Mean(-self.log_likelihood.value / bit, self.log_likelihood.error / bit)

    @property
    def next(self) -> str:
        """What to try next, in a sentence."""
        return next(sentence(self) for applies, sentence in _NEXT if applies(self))

    def __repr__(self) -> str:
        gaussian = "too few rows, or too similar features, for a Gaussian"
        if self.above_gaussian is not None:
            gaussian = f"{_signed(self.above_gaussian)} a Gaussian"
        training = ""
        if self.above_training is not None:
            training = f"; {abs(self.above_training):.2f} {_side(self.above_training)} the training rows"
        worst = max(range(len(self.pit)), key=lambda i: self.pit[i].distance)
        classifier = "left out: pip install scikit-learn"
        if self.classifier is not None:
            percent = Mean(100 * self.classifier.value, 100 * self.classifier.error)
            classifier = f"a classifier distinguishes rows from samples in {percent} % of cases (50: not at all)"
        elif self.rows < LEAST_CLASSIFIED:
            classifier = f"left out: less than {LEAST_CLASSIFIED} rows"
        lines = [
            ("rows", f"{self.rows:,}, {len(self.pit)} feature{'s' * (len(self.pit) > 1)}"),
            ("log-likelihood", f"{self.log_likelihood} nats a row; {gaussian}{training}"),
            *([] if self.bits_per_dim is None else [("bits", f"{self.bits_per_dim} per dimension")]),
            ("round trip", f"error of at most {self.round_trip:.1e} standard deviations"),
            ("latent side", f"KS distance from uniform {_of(self.pit[worst])} in z{worst}, the worst"),
            ("its radius", f"KS distance {_of(self.pit_radius)}"),
            ("two samples", classifier),
        ]
        if self.calibration is not None:
            lines[-1:-1] = _calibration_lines(self.calibration)
        if self.outside_splines is not None:
            lines.append(("splines", f"{100 * self.outside_splines:.2g} % of the rows outside their range"))
        lines.append(("next", self.next))
        return "\n".join(
            textwrap.fill(f"{label:<14}  {text}", 110, subsequent_indent=" " * 16, break_on_hyphens=False)
            for label, text in lines
        )

    def _fault(self) -> str:
        """Say what is wrong with the density, if anything is."""
        if self.calibration is not None and (fault := _miscalibrated(self.calibration)):
            return fault
        gaussian = self.above_gaussian
        if gaussian is not None and Mean(-gaussian.value, gaussian.error).clearly_above_0:
            return "a Gaussian does better"
        better = None if self.classifier is None else Mean(self.classifier.value - 0.5, self.classifier.error)
        if better is not None and better.value > _BETTER_THAN_CHANCE and better.clearly_above_0:
            return f"a classifier recognises {0.5 + better.value:.0%} of the rows and samples"
        worst = min((*self.pit, self.pit_radius), key=lambda found: found.p_value)
        if worst.p_value * (len(self.pit) + 1) < _RARE and worst.distance > _KS_DISTANCE:
            return f"the latent rows differ from the base by a KS distance of {worst.distance:.3f}"
        return ""

    def _odd(self, *kinds: str) -> str:
        """Say what is odd in the rows, of some kinds."""
        return ". ".join(oddity.text for oddity in self.oddities if oddity.kind in kinds)

    def _too_narrow(self) -> bool:
        """Whether regions of highest density hold too few rows, with nothing said of the training rows."""
        found = self.calibration
        if found is None or self.above_training is not None:
            return False
        return found.highest_density.deviation < 0 and _coverage_fails(found, found.highest_density)

    def _overfitted(self) -> bool:
        below = -(self.above_training or 0.0)
        return below > _NATS_A_FEATURE * len(self.pit) and Mean(below, self.log_likelihood.error).clearly_above_0


# The first that applies is what to try next.
_NEXT: tuple[tuple[Callable[[Report], bool], Callable[[Report], str]], ...] = (
    (
        lambda report: bool(report._odd("discrete", "atom", "relation")),
        lambda report: f"{report._odd('discrete', 'atom', 'relation')}.",
    ),
    (
        lambda report: report.between is not None,
        lambda report: (
            "Use base=Mixture(2) or more, or give neither layers nor base: "
            f"{report.between and report.between.text}, where there are no rows."
        ),
    ),
    (
        lambda report: bool(report._fault()) and bool(report._odd("rounded")),
        lambda report: f"{report._odd('rounded')}: {report._fault()}.",
    ),
    (
        lambda report: bool(report._fault()) and report._overfitted(),
        lambda report: (
            "The flow overfits. Use more rows, dropout, a larger weight_decay or a smaller network: "
            f"{report._fault()}, and the training rows score better by {-(report.above_training or 0):.2f} nats."
        ),
    ),
    (
        lambda report: bool(report._fault()) and (report.outside_splines or 0) > _SHARE_OUTSIDE * len(report.pit),
        lambda report: (
            "Try support=Positive(), base=StudentT(4.0) or splines with a larger bound, for features with heavy tails: "
            f"{report._fault()}, and {report.outside_splines:.0%} of the rows are outside the splines' range."
        ),
    ),
    (
        lambda report: report.round_trip > _DEVIATIONS_OFF,
        lambda report: (
            'Use dtype="float64", or flow.astype("float64"): mapping rows to latent space and back has an error of '
            f"up to {report.round_trip:.1g} standard deviations."
        ),
    ),
    (
        lambda report: bool(report._fault()) and report._too_narrow(),
        lambda report: (
            "Check the training rows too. If they pass, the flow overfits: use more rows, dropout, a larger "
            f"weight_decay or a smaller network. Otherwise train for more epochs: {report._fault()}."
        ),
    ),
    (
        lambda report: bool(report._fault()) and report.stopped == "patience",
        lambda report: (
            "Try a smaller network, other layers or more rows, since the validation loss no longer fell at the end: "
            f"{report._fault()}."
        ),
    ),
    (
        lambda report: bool(report._fault()),
        lambda report: f"Train for more epochs, then use more layers or wider networks: {report._fault()}.",
    ),
    (
        lambda report: True,
        lambda report: f"No problem detected in {report.rows:,} rows.",
    ),
)


def _calibration_lines(found: Calibration) -> list[tuple[str, str]]:
    worst = min(found.marginals, key=lambda marginal: marginal.p_value)
    of_all = Uniformity(worst.distance, min(1.0, worst.p_value * len(found.marginals)))
    direction = f": {worst.direction}" if of_all.p_value < _RARE and worst.direction else ""
    return [
        ("ranks", f"KS distance from uniform {_of(of_all)} in {worst.feature}, the worst{direction}"),
        ("coverage", _held(found.highest_density, "regions of highest density")),
        ("random points", _held(found.random_points, "balls around similar rows")),
    ]


def _held(found: Coverage, regions: str) -> str:
    half, most = (100 * found.holds(level) for level in (0.5, 0.9))
    return f"50 % {regions} hold {half:.1f} % of the rows, 90 % {most:.1f} % (p = {found.p_value:.2g})"


def _miscalibrated(found: Calibration) -> str:
    """Say what ranks and coverage show to be wrong, if anything: the narrowest statement that they allow."""
    failed = [marginal for marginal in found.marginals if _fails(found, marginal.p_value, marginal.distance)]
    if failed:
        direction = min(failed, key=lambda marginal: marginal.p_value).direction
        names = [repr(marginal.feature) for marginal in failed if marginal.direction == direction]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        shape = direction or "of another shape than the rows"
        return f"given its context, the density is {shape} in {', '.join(names[:_MOST_NAMED])}{more}"
    if _coverage_fails(found, found.highest_density):
        return _off(found.highest_density, "regions of highest density")
    if _coverage_fails(found, found.random_points):
        off = _off(found.random_points, "balls around similar rows")
        return f"the density misses how features depend on the context or on each other, as {off}"
    return ""


def _off(found: Coverage, regions: str) -> str:
    level = max(found.levels, key=lambda level: abs(found.holds(level) - level))
    return f"{level:.0%} {regions} hold {found.holds(level):.0%} of the rows"


def _coverage_fails(found: Calibration, coverage: Coverage) -> bool:
    return _fails(found, coverage.p_value, abs(coverage.deviation))


def _fails(found: Calibration, p_value: float, distance: float) -> bool:
    return p_value * found.tests < _RARE and distance > _KS_DISTANCE


def _side(difference: float) -> str:
    return "above" if difference >= 0 else "below"


def _signed(difference: Mean) -> str:
    return f"{Mean(abs(difference.value), difference.error)} {_side(difference.value)}"


def _of(found: Uniformity) -> str:
    return f"{found.distance:.3f} (p = {found.p_value:.2g})"
