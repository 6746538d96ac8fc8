"""The sampler: rounds of new rows, from the prior to the posterior by temperatures."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward import _weights
from pushforward._fit.bar import Show, bar
from pushforward._posterior import checkpoint, proposal
from pushforward._posterior.fold import Draw, Fold, Proposal
from pushforward._posterior.kernels import Kernels
from pushforward._posterior.prior import Prior
from pushforward._posterior.proposal import Widened
from pushforward._posterior.rounds import Round
from pushforward._target import Target
from pushforward._typing import Doubles, PathLike
from pushforward.flow import Flow

# Measured on benchmarks/posterior_problems.py: how many more rows the first round has, and the effective size that a
# temperature must keep, over the rows of a round. With half as many, small modes were lost.
_FIRST = 3
_KEPT = 0.8
# The share of new rows from the prior, so that no weight is larger than the likelihood allows; and from kernels around
# the rows so far, and from a wider flow. A flow ends where its rows end. Without steps beyond, a posterior far from the
# prior is not reached, and single rows in the tails have great weights.
_FROM_PRIOR = 0.05
_FROM_KERNELS = 0.1
_FROM_WIDER = 0.15
# Rows outside the prior: how often a flow is asked for more, and from how many draws the share inside is known.
_MOST_TRIES = 50
_SHARE_FROM = 10
# More batches of first rows, if the likelihood of nearly all is 0.
_MOST_FIRST = 20
_LEAST_FIRST = 100
# Inverse temperatures are found by so many halves of their logarithm, from this one on.
_LEAST_BETA = 1e-30
_HALVES = 40
# After so many rounds without a higher temperature, or without more effective rows, a sampler gives up.
_PATIENCE = 20
_GAIN = 1.01
# Rounds differ in the evidence by so many standard errors at most, or the last one has found something new.
_CHANCE = 3.0
# So many rows show that the prior of a run that is resumed is the same.
_COMPARED = 20


@dataclass(frozen=True)
class Settings:
    """The options of a sampler, checked."""

    n_effective: int
    evidence_error: float
    rows: int
    max_time: float | None
    progress: bool
    callback: Callable[[Round], object] | None
    num_threads: int | None
    checkpoint: PathLike | None


class Sampler:
    """Draws of a posterior by tempered importance sampling with flows that are fitted to each other's draws.

    Parameters
    ----------
    target : Target
        The log likelihood.
    prior : Prior
        The prior.
    settings : Settings
        The options.
    rng : numpy.random.Generator
        Fixes the result.
    """

    def __init__(self, target: Target, prior: Prior, settings: Settings, rng: np.random.Generator) -> None:
        self._target, self._prior, self._settings, self._rng = target, prior, settings, rng
        self._started = time.perf_counter()
        self._acceptance = math.nan
        self._proposals: tuple[Doubles, ...] = ()
        self.folds: tuple[Fold, ...] = (Fold.empty(prior.dim),) * 2
        self.rounds: list[Round] = []

    def resume(self, path: PathLike) -> None:
        """Take up the rows, proposals and rounds of a checkpoint, and the random numbers after them.

        Another run is a ValueError, a damaged file a FileFormatError.
        """
        found = checkpoint.read(path, self.description(), self._settings.num_threads)
        if found.prior != self._prior_at(found.folds[0]):
            raise ValueError(f"{path}: resume= goes on with the same prior; this one has another density")
        self.folds, self.rounds = found.folds, list(found.rounds)
        self._proposals = tuple(fold.log_proposal() for fold in found.folds)
        self._rng.bit_generator.state = found.random_state
        self._target.calls = self.rounds[-1].calls
        self._acceptance, self._started = self.rounds[-1].acceptance, time.perf_counter() - self.rounds[-1].seconds

    def description(self) -> dict[str, Any]:
        """Return what a run must have in common with the one that it resumes."""
        return {"dim": self._prior.dim, "columns": list(self._prior.columns), "rows": self._settings.rows}

    def _prior_at(self, fold: Fold) -> list[float]:
        """Return the first rows of a fold and their log prior density: what shows whether a prior is another one."""
        x = self._prior.to_x(fold.t[:_COMPARED])
        values: list[float] = np.concatenate([x.ravel(), self._prior.log_prob_x(x)]).tolist()
        return values

    def run(self) -> str:
        """Sample until there is a reason to stop, and return it.

        Ctrl-C is one, once there are rows.
        """
        try:
            with bar(0.0, "posterior") if self._settings.progress else contextlib.nullcontext() as show:
                if self.rounds:
                    reason = self._why_stop()
                else:
                    self._first_rows()
                    reason = self._end_round(show)
                while not reason:
                    self._new_rows(self.rounds[-1].beta)
                    reason = self._end_round(show)
                return reason
        except KeyboardInterrupt:
            if not self.rounds:
                raise
            return "interrupted"

    def log_weights(self, beta: float = 1.0) -> list[Doubles]:
        """Return the log weights of each fold's rows at a temperature, by default those of the posterior."""
        return [fold.log_weights(known, beta) for fold, known in zip(self.folds, self._proposals, strict=True)]

    # -- rows ----------------------------------------------------------------------------------------------------

    def _first_rows(self) -> None:
        """Draw from the prior until there are rows with a likelihood."""
        found = 0
        for _ in range(_MOST_FIRST):
            n = self._target.left(_FIRST * self._settings.rows)
            if n < len(self.folds):
                break
            parts = np.array_split(self._prior.sample(n, self._rng), len(self.folds))
            self._evaluate([[Draw(part, None, len(part))] for part in parts])
            found = min(int(np.isfinite(fold.log_likelihood).sum()) for fold in self.folds)
            if found >= _LEAST_FIRST:
                return
        if not found:
            raise ValueError(
                f"log_likelihood is -inf at all, or nearly all, of {self._target.calls} rows drawn from the prior: "
                "there is nothing to begin with. Is the prior far wider than the likelihood, or max_calls too small?"
            )

    def _new_rows(self, beta: float) -> None:
        """Fit a flow and kernels to each fold, and draw rows from them for the other."""
        support, threads = self._prior.support, self._settings.num_threads
        fitted: list[tuple[Proposal, Flow] | None] = []
        for fold, weights, mixture in zip(self.folds, self.log_weights(beta), self._proposals, strict=True):
            flow = proposal.fit(fold.t, weights, mixture, support, self._seed(), threads)
            fitted.append(None if flow is None else (Kernels.around(fold.t, weights, self._rng), flow))
        n = self._target.left(self._settings.rows)
        draws = [
            self._draws(proposals, size) for proposals, size in zip(reversed(fitted), (n - n // 2, n // 2), strict=True)
        ]
        self._evaluate(draws)
        shares = [
            fold.acceptance(0 if of_fold[-1].proposal is None else len(of_fold[-1].t), beta)
            for fold, of_fold in zip(self.folds, draws, strict=True)
        ]
        self._acceptance = float(np.mean(shares))

    def _draws(self, proposals: tuple[Proposal, Flow] | None, n: int) -> list[Draw]:
        """Draw n rows: most from a flow, last; some from steps beyond it, and the prior; all from it without a flow."""
        draws: list[Draw] = []
        if proposals is not None:
            kernels, flow = proposals
            shares = [(kernels, _FROM_KERNELS), (flow, 1 - _FROM_KERNELS - _FROM_PRIOR)]
            if any(not feature.wraps for feature in self._prior.support):  # angles have no width
                shares[1:] = [(Widened(flow), _FROM_WIDER), (flow, shares[1][1] - _FROM_WIDER)]
            draws = [self._draw(one, int(share * n)) for one, share in shares]
        rest = n - sum(len(draw.t) for draw in draws)
        return [Draw(self._prior.sample(rest, self._rng), None, rest), *draws]

    def _draw(self, proposal: Proposal, n: int) -> Draw:
        """Draw n rows inside the prior, or fewer if those are rare."""
        if not n:
            return Draw(np.empty((0, self._prior.dim)), proposal, 0)
        inside, drawn, kept = 0, 0, []
        for _ in range(_MOST_TRIES):
            t = proposal.sample(n, seed=self._seed()).astype(np.float64, copy=False)
            kept.append(t[np.isfinite(self._prior.log_prob(t))])
            inside, drawn = inside + len(kept[-1]), drawn + n
            # If all are inside, so are all others; if not, more draws tell the share, and are no calls.
            if inside == drawn or (inside >= n and drawn >= _SHARE_FROM * n):
                break
        rows = np.concatenate(kept)[:n]
        return Draw(rows, proposal, len(rows) * drawn / max(inside, 1))

    def _evaluate(self, draws: list[list[Draw]]) -> None:
        """Evaluate the rows that were drawn for each fold, in one call, and add them."""
        t = np.concatenate([draw.t for of_fold in draws for draw in of_fold])
        likelihood, _ = self._target(self._prior.to_x(t))
        prior = self._prior.log_prob(t)
        folds, first = [], 0
        for fold, of_fold in zip(self.folds, draws, strict=True):
            for draw in of_fold:
                rows = slice(first, first + len(draw.t))
                fold = fold.with_rows(draw, likelihood[rows], prior[rows])
                first = rows.stop
            folds.append(fold)
        proposals = tuple(fold.log_proposal() for fold in folds)
        # Together, so that Ctrl-C leaves none without the other.
        self.folds, self._proposals = tuple(folds), proposals

    def _seed(self) -> int:
        return int(self._rng.integers(1 << 62))

    # -- temperatures --------------------------------------------------------------------------------------------

    def _effective_size(self, beta: float) -> float:
        """Return twice the effective size of the fold that has less, at a temperature."""
        return 2 * min(map(_weights.effective_size, self.log_weights(beta)))

    def _next_beta(self) -> float:
        """Return the greatest inverse temperature that keeps enough effective rows.

        It may be below the last one: a row of great weight, of a mode that nobody had seen, must not be alone in a fit.
        """
        least = _KEPT * self._settings.rows
        if self._effective_size(1.0) >= least:
            return 1.0
        low, high = 0.0, 1.0
        # By halves of the logarithm.
        for _ in range(_HALVES):
            middle = math.sqrt(max(low, _LEAST_BETA) * high)
            if self._effective_size(middle) >= least:
                low = middle
            else:
                high = middle
        return low

    def _end_round(self, show: Show | None) -> str:
        """Record a round, write it and show it; return the reason to stop, or an empty string."""
        self._record(self._next_beta())
        if self._settings.checkpoint is not None:
            state = self._rng.bit_generator.state
            prior = self._prior_at(self.folds[0])
            found = checkpoint.Checkpoint(self.folds, tuple(self.rounds), state, self.description(), prior)
            checkpoint.write(self._settings.checkpoint, found)
        if show is not None:
            self._show(show)
        callback = self._settings.callback
        return "callback" if callback is not None and callback(self.rounds[-1]) else self._why_stop()

    def _record(self, beta: float) -> None:
        log_evidence, error = _weights.log_evidence(np.concatenate(self.log_weights()))
        self.rounds.append(
            Round(
                calls=self._target.calls,
                beta=beta,
                effective_size=self._effective_size(beta),
                acceptance=self._acceptance,
                log_evidence=log_evidence,
                log_evidence_error=error,
                seconds=time.perf_counter() - self._started,
            )
        )

    # -- when to stop --------------------------------------------------------------------------------------------

    def _why_stop(self) -> str:
        """Return the reason to stop after a round, or an empty string."""
        settings, last = self._settings, self.rounds[-1]
        if (
            last.beta == 1.0
            and last.effective_size >= settings.n_effective
            and last.log_evidence_error <= settings.evidence_error
            and self._is_settled()
        ):
            return "finished"
        if not self._target.left(1):
            return "max_calls"
        if settings.max_time is not None and last.seconds >= settings.max_time:
            return "max_time"
        return "stalled" if self._is_stalled() else ""

    def _is_settled(self) -> bool:
        """Whether the last rows changed the evidence by no more than chance does."""
        if len(self.rounds) < 2:
            return True
        before, last = self.rounds[-2:]
        return abs(last.log_evidence - before.log_evidence) <= _CHANCE * before.log_evidence_error

    def _is_stalled(self) -> bool:
        if len(self.rounds) <= _PATIENCE:
            return False
        before, after = (
            max((one.beta, one.effective_size) for one in part)
            for part in (self.rounds[:-_PATIENCE], self.rounds[-_PATIENCE:])
        )
        return after[0] <= _GAIN * before[0] and after[1] <= _GAIN * before[1]

    def _show(self, show: Show) -> None:
        last = self.rounds[-1]
        done = 0.0
        if last.beta == 1.0:  # the square of the error falls with the number of rows
            by_error = (self._settings.evidence_error / max(last.log_evidence_error, 1e-9)) ** 2
            done = min(last.effective_size / self._settings.n_effective, by_error, 1.0)
        if self._target.max_calls is not None:
            done = max(done, last.calls / self._target.max_calls)
        if self._settings.max_time is not None:
            done = max(done, min(last.seconds / self._settings.max_time, 1.0))
        show(done, f"{last.calls} calls, beta {last.beta:.2g}, effective {last.effective_size:.0f}")
