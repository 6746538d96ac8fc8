"""What a sampled posterior is: weighted draws, the evidence, and what says whether to trust them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._labelled import inference_data
from pushforward._posterior.rounds import Round
from pushforward._typing import Doubles, Seed

# The halves may differ by so many of their common standard errors. By chance 1 in 16,000 does.
_MOST_DEVIATIONS = 4.0
_LEAST_EFFECTIVE = 400


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weighted draws of a posterior, its evidence, and how far both can be trusted; what `sample_posterior` returns.

    Attributes
    ----------
    x : (n, dim) array
        Every row evaluated.
    log_weights : (n,) array
        The logarithms of their weights, in nats, whose mean is the evidence; -inf for a row that counts for nothing.
    log_likelihood, log_prior : (n,) array
        In nats.
    columns : tuple of str
        Names of the features.
    log_evidence : float
        The logarithm of the likelihood's mean over the prior, in nats.
    log_evidence_error : float
        Its standard error.
    log_evidences : tuple of two floats
        The estimates from either half of the rows. The flows that drew one half were fitted to the other.
    effective_size : float
        The number of independent draws that would estimate as precisely (Kish 1965).
    pareto_k : float
        The shape of the weights' tail (Vehtari et al. 2024). If it is above 0.7, and one row has more than 1 % of the
        weight, the errors cannot be trusted.
    rounds : tuple of Round
        The history: calls, inverse temperatures, effective sizes, acceptance and evidence, round by round.
    stopped : str
        Why it ended: "finished", "max_calls", "max_time", "callback", "interrupted" or "stalled".

    Examples
    --------
    >>> import numpy as np
    >>> posterior = sample_posterior(lambda x: -0.5 * x[:, 0] ** 2, Interval(-5, 5), dim=1, n_effective=500, seed=0)
    >>> isinstance(posterior, Posterior)
    True
    >>> posterior.problems
    ()
    """

    x: Doubles
    log_weights: Doubles
    log_likelihood: Doubles
    log_prior: Doubles
    columns: tuple[str, ...]
    log_evidence: float
    log_evidence_error: float
    log_evidences: tuple[float, float]
    effective_size: float
    pareto_k: float
    rounds: tuple[Round, ...]
    stopped: str

    def __len__(self) -> int:
        return len(self.x)

    @property
    def weights(self) -> Doubles:
        """The weights with the sum 1, (n,)."""
        return _weights.normalized(self.log_weights)

    @property
    def calls(self) -> int:
        """Rows of the likelihood evaluated."""
        return self.rounds[-1].calls

    @property
    def seconds(self) -> float:
        """Time that it took."""
        return self.rounds[-1].seconds

    @property
    def disagreement(self) -> float:
        """The difference of the two estimates of the evidence, in the standard errors of such a difference.

        That of both together is half the standard error of their difference.
        """
        first, second = self.log_evidences
        if first == second:  # for a constant likelihood, also in the error
            return 0.0
        if not (math.isfinite(first) and math.isfinite(second)):
            return math.inf
        return abs(first - second) / (2 * self.log_evidence_error)

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the result, one sentence each; empty if nothing was detected."""
        last = self.rounds[-1]
        found = []
        if last.beta < 1:
            found.append(
                f"The sampler stopped ({self.stopped}) at the inverse temperature {last.beta:.2g}, "
                "before it reached the posterior."
            )
        if self.effective_size < _LEAST_EFFECTIVE:
            found.append(f"The draws are worth {self.effective_size:.0f} independent ones only.")
        if self.stopped == "stalled":
            found.append("New rows no longer made the draws better: the flows do not get near the posterior.")
        greatest = self.weights.max()  # rows from the prior bound it
        if not self.pareto_k <= _weights.GOOD_K and greatest > _weights.GREATEST_WEIGHT:
            found.append(
                f"A few rows carry much of the weight: one has {greatest:.1%}, and Pareto k is {self.pareto_k:.2f}, "
                f"above {_weights.GOOD_K}."
            )
        if self.disagreement > _MOST_DEVIATIONS:
            found.append(
                f"The two halves of the rows disagree on the log evidence: {self.log_evidences[0]:.3f} and "
                f"{self.log_evidences[1]:.3f}."
            )
        return tuple(found)

    def mean(self) -> Doubles:
        """Return the posterior means, (dim,)."""
        return _weights.mean(self.x, self.log_weights)[0]

    def std(self) -> Doubles:
        """Return the posterior standard deviations, (dim,)."""
        return np.sqrt(_weights.mean((self.x - self.mean()) ** 2, self.log_weights)[0])

    def quantile(self, q: npt.ArrayLike) -> Doubles:
        """Return quantiles of each feature.

        Parameters
        ----------
        q : float or (k,) array
            Probabilities, in [0, 1].

        Returns
        -------
        (dim,) or (k, dim) array
            The quantiles.

        Raises
        ------
        TypeError, ValueError
            If a probability is out of its range.
        """
        wanted = _checks.floats(q, "q").astype(np.float64)
        if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"q must be probabilities in [0, 1], one or a row of them, not {q!r}")
        columns = [_weights.quantiles(values, self.log_weights, np.atleast_1d(wanted))[0] for values in self.x.T]
        return np.stack(columns, axis=-1).reshape(*wanted.shape, len(columns))

    def sample(self, n: int, seed: Seed = None) -> Doubles:
        """Draw rows of equal weight, by systematic resampling, in random order.

        Parameters
        ----------
        n : int
            How many, at least 1. With more than `effective_size`, many rows are there more than once.
        seed : int or numpy.random.Generator, optional
            Fixes the rows.

        Returns
        -------
        (n, dim) array
            The rows.

        Raises
        ------
        TypeError, ValueError
            If `n` is no such number.
        """
        n = _checks.integer("n", n, 1)
        return self.x[_weights.resampled(self.log_weights, n, np.random.default_rng(seed))]

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame of all rows that have a weight.

        Its columns are the features, "weight", "log_likelihood" and "log_prior".

        Returns
        -------
        pandas.DataFrame
            The rows.

        Raises
        ------
        ImportError
            Without pandas.
        """
        import pandas

        weights = self.weights
        kept = weights > 0
        frame = pandas.DataFrame(self.x[kept], columns=list(self.columns))
        return frame.assign(
            weight=weights[kept], log_likelihood=self.log_likelihood[kept], log_prior=self.log_prior[kept]
        )

    def to_arviz(self, n: int | None = None, seed: Seed = 0) -> Any:
        """Return draws of equal weight as ArviZ's ``InferenceData``, as one chain.

        Parameters
        ----------
        n : int, optional
            How many draws; by default `effective_size`.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        arviz.InferenceData
            With the groups "posterior" and "sample_stats"; "lp" in the latter is the log likelihood plus the log prior.
            The posterior's attributes hold the log evidence and its error, the effective size and the Pareto k. From
            ArviZ 1.0 on it is an ``xarray.DataTree``.

        Raises
        ------
        ImportError
            Without ArviZ.
        """
        n = max(1, int(self.effective_size)) if n is None else _checks.integer("n", n, 1)
        chosen = _weights.resampled(self.log_weights, n, np.random.default_rng(seed))
        attributes = {
            "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error,
            "effective_size": self.effective_size,
            "pareto_k": self.pareto_k,
        }
        lp = (self.log_likelihood + self.log_prior)[chosen]
        return inference_data(self.columns, self.x[chosen], attributes, lp=lp)

    def __repr__(self) -> str:
        width = max(map(len, self.columns))
        lines = [
            f"Posterior of {self.x.shape[1]} features from {self.calls} calls in {self.seconds:.1f} s "
            f"(stopped: {self.stopped})",
            f"  log evidence {self.log_evidence:.4f} +- {self.log_evidence_error:.4f}",
            f"  effective size {self.effective_size:.0f}, Pareto k {self.pareto_k:.2f}, "
            f"{len(self.rounds)} rounds, halves differ by {self.disagreement:.1f} standard errors",
        ]
        low, median, high = self.quantile([0.05, 0.5, 0.95])
        lines.append(f"  {'':{width}} {'mean':>10} {'std':>10} {'5 %':>10} {'50 %':>10} {'95 %':>10}")
        for name, *values in zip(self.columns, self.mean(), self.std(), low, median, high, strict=True):
            lines.append(f"  {name:{width}} " + " ".join(f"{value:10.4g}" for value in values))
        lines += [f"  Problem: {problem}" for problem in self.problems] or ["  No problem detected."]
        return "\n".join(lines)
