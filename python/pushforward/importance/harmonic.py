"""The evidence from draws alone: the harmonic mean with a flow as its density."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles, Indices, Seed
from pushforward._warn import warn
from pushforward.flow import Flow
from pushforward.importance.proposals import Proposal

# The share of the flow's mass in its truncated region is then known to 0.2 % at a coverage of 0.8.
_DRAWS_FOR_LEVEL = 100_000


@dataclass(frozen=True, repr=False, eq=False)
class Evidence:
    """The evidence that `log_evidence_from_draws` found.

    Parameters
    ----------
    log_evidence : float
        Logarithm of the integral of the unnormalised density.
    log_evidence_error : float
        Its standard error.
    pareto_k : float
        Pareto k of the largest ratios: up to 0.7 the estimate is reliable. It is -inf if the largest ratios are all
        equal, and NaN if there are too few to tell.
    rows, groups : int
        Draws that the estimate was taken from, and the groups they belong to.
    flow : Flow, Ensemble or other density
        The density.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward import importance
    >>> x = Flow(1, layers=[]).sample(1000, seed=0)
    >>> found = importance.log_evidence_from_draws(x, -0.5 * x[:, 0] ** 2, flow=Flow(1, layers=[]), seed=0)
    >>> bool(abs(found.log_evidence - 0.5 * np.log(2 * np.pi)) < 5 * found.log_evidence_error)
    True
    """

    log_evidence: float
    log_evidence_error: float
    pareto_k: float
    rows: int
    groups: int
    flow: Any

    def __repr__(self) -> str:
        return (
            f"log evidence  {self.log_evidence:.6g} +- {self.log_evidence_error:.2g}\n"
            f"Pareto k      {self.pareto_k:.2f}\n"
            f"from {self.rows:,} draws in {self.groups:,} groups"
        )


def log_evidence_from_draws(
    draws: npt.ArrayLike,
    log_density: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    flow: Any = None,
    support: Support | Sequence[Support] | Mapping[Any, Support] | None = None,
    coverage: float = 0.8,
    seed: Seed = None,
    **options: Any,
) -> Evidence:
    """Estimate the evidence from draws of a posterior and their unnormalised log density, without new evaluations.

    For every normalised density q, the mean of q / p over draws from the posterior is one over the evidence, the
    integral of p (Gelfand, Dey 1994). It has a small variance if q is close to the posterior and has no heavier tails.
    Here q is a flow (McEwen, Wallis, Price, Docherty 2021), fitted to half of the draws, and truncated to its region of
    highest density with a given share of its mass, which keeps it in the bulk. The mean is taken over the other half:
    at the rows that it was fitted to, a flow is too high.

    Parameters
    ----------
    draws : (n, dim) array
        Draws from the posterior, of any sampler.
    log_density : (n,) array
        The unnormalised log density at the draws, likelihood times prior, in nats.
    groups : (n,) array of any type, optional
        Labels of draws that belong together, such as those of one chain. Whole groups are used for the fit or for the
        mean, and the error is that of independent groups, however their draws are correlated. By default every draw is
        independent of the others, which draws of a Markov chain are not.
    flow : Flow, Ensemble or other density, optional
        A density that was fitted to other draws; all of `draws` are then used for the mean. By default a `Flow` is
        fitted.
    support : Real, Positive, Interval, Circle, a sequence or a mapping, optional
        What values the features may take, for the flow that is fitted.
    coverage : float
        The share of the flow's mass in the region it is truncated to, in (0, 1]. Smaller is more robust against tails
        that the flow has wrong, and uses fewer draws.
    seed : int or numpy.random.Generator, optional
        Fixes the split, the fit, and the truncation.
    **options
        Those of `Flow.fit`, for the flow that is fitted, such as ``epochs``.

    Returns
    -------
    Evidence
        The log evidence with its standard error, and the Pareto k of the ratios; above 0.7 there is a warning.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of its range, a draw has no finite density, there are fewer than two
        groups for the mean or for the fit, or no draw lies in the truncated region.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward import importance
    >>> x = 3 * np.random.default_rng(0).normal(size=(4000, 2))
    >>> found = importance.log_evidence_from_draws(x, -0.5 * (x**2).sum(axis=1) / 9, seed=0, epochs=5)
    >>> bool(abs(found.log_evidence - np.log(2 * np.pi * 9)) < 5 * found.log_evidence_error)
    True
    """
    rows = _checks.floats(draws, "draws").astype(np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"draws has shape {rows.shape}; (n, dim) with at least one row is expected")
    values = _checks.vector(log_density, len(rows), "log_density")
    for name, finite in (("draws", np.isfinite(rows).all(axis=1)), ("log_density", np.isfinite(values))):
        if not finite.all():
            raise ValueError(
                f"{name} is not finite in {int((~finite).sum())} rows, first at row {int(finite.argmin())}; draws from "
                "a posterior have a finite density"
            )
    coverage = _checks.number("coverage", coverage, 0, 1, closed="right")
    labels = np.arange(len(rows)) if groups is None else _checks.labels(groups, len(rows), "groups")
    count = int(labels.max()) + 1
    least = 2 if flow is not None else 4
    if count < least:
        raise ValueError(
            f"draws are in {count} groups; at least {least} are needed, half of them for the fit of a flow"
        )
    if flow is not None and (options or support is not None):
        given = ", ".join([*options, *(["support"] if support is not None else [])])
        raise TypeError(f"{given} would be for a flow that is fitted here, but flow was given")
    rng = np.random.default_rng(seed)
    if flow is None:
        fitted = np.isin(labels, rng.permutation(count)[: count // 2])
        flow = Flow(rows.shape[1], support=support, columns=_checks.column_names(draws), seed=rng)
        flow.fit(rows[fitted], groups=labels[fitted] if groups is not None else None, seed=rng, **options)
        rows, values, labels = rows[~fitted], values[~fitted], labels[~fitted]
    return _estimated(rows, values, labels, flow, coverage, rng)


def _estimated(
    rows: Doubles, values: Doubles, labels: Indices, flow: Any, coverage: float, rng: np.random.Generator
) -> Evidence:
    density = Proposal(flow, "flow", dim=rows.shape[1])
    level, mass_error = -math.inf, 0.0
    if coverage < 1:
        level = float(np.quantile(density.draw(_DRAWS_FOR_LEVEL, rng)[1], 1 - coverage))
        mass_error = math.sqrt((1 - coverage) / coverage / _DRAWS_FOR_LEVEL)
    log_prob = density.log_prob(rows)
    log_ratios = np.where(log_prob >= level, log_prob - values, -np.inf)
    highest = float(log_ratios.max())
    if highest == -math.inf:
        raise ValueError(f"none of the {len(rows)} draws lies in the region that holds {coverage:.0%} of the flow")
    ratios = np.exp(log_ratios - highest)
    relative_error, groups = _relative_error(ratios, labels)
    k = _weights.pareto_k(log_ratios)
    if k > _weights.GOOD_K:
        warn(
            f"the Pareto k of the ratios is {k:.2f}, above {_weights.GOOD_K}: a few draws dominate, and the evidence "
            "cannot be trusted. A smaller coverage keeps the flow further inside the posterior"
        )
    return Evidence(
        math.log(coverage) - highest - math.log(ratios.mean()),
        math.hypot(relative_error, mass_error),
        k,
        len(rows),
        groups,
        flow,
    )


def _relative_error(ratios: Array, labels: Indices) -> tuple[float, int]:
    """Return the standard error of the mean ratio over the mean, from independent groups, and their number."""
    numbers = np.unique(labels, return_inverse=True)[1]
    sizes, sums = np.bincount(numbers), np.bincount(numbers, ratios)
    count = len(sizes)
    deviations = sums - sizes * ratios.mean()
    return math.sqrt(count / (count - 1) * float((deviations**2).sum())) / float(ratios.sum()), count
