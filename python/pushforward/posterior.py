"""Posteriors of black-box likelihoods in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pushforward import _checks, _weights
from pushforward._fit.bar import in_view
from pushforward._model import threads
from pushforward._posterior.prior import resolve
from pushforward._posterior.result import Posterior
from pushforward._posterior.rounds import Round
from pushforward._posterior.sampler import Sampler, Settings
from pushforward._target import Pool, Target
from pushforward._typing import Doubles, PathLike, Seed
from pushforward._warn import warn


def sample_posterior(
    log_likelihood: Callable[[Doubles], Any],
    prior: Any,
    *,
    dim: int | None = None,
    columns: Sequence[str] | None = None,
    n_effective: int = 2000,
    evidence_error: float = 0.0175,
    rows: int = 1000,
    max_calls: int | None = None,
    max_time: float | None = None,
    pool: Pool | None = None,
    seed: Seed = None,
    num_threads: int | None = None,
    progress: bool | None = None,
    callback: Callable[[Round], object] | None = None,
    checkpoint: PathLike | None = None,
    resume: PathLike | None = None,
) -> Posterior:
    """Sample the posterior of a likelihood that comes as a function, and estimate its evidence; no gradient is needed.

    Rounds of new rows lead from the prior to the posterior. The likelihood counts with a power beta, which grows as far
    as the rows so far have enough effective weight (as in tempered sequential Monte Carlo; Del Moral, Doucet, Jasra
    2006). Small flows are fitted to the weighted rows and propose the next ones, with a few from the prior among them
    (Gabrié, Rotskoff, Vanden-Eijnden 2022; Karamanis et al. 2022). Every row evaluated counts to the end: its weight is
    its posterior density over that of the mixture of all proposals (Cornuet et al. 2012; Karamanis, Seljak 2025).

    The rows are in two halves. The flows that draw one half are fitted to the other, because a flow's density is too
    high at the rows that it was fitted to: with one half, the evidence would be too small. So there are two nearly
    independent estimates of the evidence, whose difference is a check.

    Parameters
    ----------
    log_likelihood : callable
        Takes an (n, dim) array of rows, its own to change, and returns their (n,) log likelihoods in nats. It may be
        -inf.
    prior : Flow, Interval, Circle, distribution of scipy.stats, or sequence
        A `Flow`, or anything with ``dim``, ``sample(n, seed=)`` and a normalised ``log_prob(x)``. Or the priors of
        independent features, one for all or a sequence with one per feature: `Interval` or `Circle` for a uniform
        density, or a frozen distribution of scipy.stats.
    dim : int, optional
        Number of features, at least 1; needed if one prior is that of all features and there are no `columns`.
    columns : sequence of str, optional
        Names of the features.
    n_effective : int
        Sampling goes on until the draws are worth so many independent ones, at least 10.
    evidence_error : float
        Sampling also goes on until the standard error of the log evidence is no larger than this, above 0.
    rows : int
        Rows of a round, at least 100; the first has three times as many. More rows make small modes safer.
    max_calls : int, optional
        The most rows to evaluate, at least 2; by default any number.
    max_time : float, optional
        Seconds after which to stop, above 0; it is checked after each round.
    pool : pool, optional
        Where the likelihood is called: anything with ``map(function, pieces)``; by default here.
    seed : int or numpy.random.Generator, optional
        Fixes the result to the last bit, for any number of threads, as long as `max_time` does not end it.
    num_threads : int, optional
        Threads of the flows; by default as for `Flow`.
    progress : bool, optional
        Whether to show a progress bar on standard error; by default only in a terminal or a notebook.
    callback : callable, optional
        Called as ``callback(round)`` after each round; a true result ends the sampling.
    checkpoint : str or path, optional
        A file that is written after each round, whole or not at all. It holds all rows evaluated and all proposals, so
        that it grows with the rounds: by about 0.1 MB each, and 8 bytes for each row and proposal.
    resume : str or path, optional
        A checkpoint to go on from, with the same prior, likelihood and `rows`; it may be the file of `checkpoint`. The
        result is that of the run that was never cut off, to the last bit, as long as `max_time` does not end it. `seed`
        is not used. The conditions to stop may be others than before, so that a run that ended can be continued:
        ``n_effective``, ``evidence_error``, ``max_calls`` and ``max_time``, which count from the very beginning.
        Whether the likelihood is the same is not checked.

    Returns
    -------
    Posterior
        Weighted draws, the evidence with its standard error, and diagnostics. Ctrl-C ends the sampling and returns what
        is there.

    Raises
    ------
    TypeError, ValueError
        Before any call, if an argument is out of its range; later if the likelihood returns another shape or type, or
        +inf, or if it is -inf for nearly all of the first rows. What it raises itself goes on to the caller. Also if
        the checkpoint to go on from is of another prior or of other options.
    FileFormatError
        If that checkpoint is damaged.
    OSError
        If a checkpoint cannot be read or written.

    Warns
    -----
    RuntimeWarning
        If a value is NaN, which counts as -inf, or if the result has problems.

    Examples
    --------
    >>> import numpy as np
    >>> def log_likelihood(x):
    ...     return -0.5 * ((x[:, 0] - 1) ** 2 + (x[:, 1] - x[:, 0] ** 2) ** 2 / 0.25)
    >>> posterior = sample_posterior(log_likelihood, Interval(-10, 10), dim=2, n_effective=1000, seed=0)
    >>> bool(abs(posterior.log_evidence - np.log(2 * np.pi * 0.5 / 400)) < 0.15)
    True
    >>> posterior.sample(5, seed=0).shape
    (5, 2)
    """
    known = resolve(prior, dim, columns)
    target = Target(
        log_likelihood,
        known.dim,
        name="log_likelihood",
        max_calls=None if max_calls is None else _checks.integer("max_calls", max_calls, 2),
        pool=pool,
    )
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, not {callback!r}")
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False or None, not {progress!r}")
    settings = Settings(
        n_effective=_checks.integer("n_effective", n_effective, 10),
        evidence_error=_checks.number("evidence_error", evidence_error, 0.0, closed="right"),
        rows=_checks.integer("rows", rows, 100),
        max_time=None if max_time is None else _checks.number("max_time", max_time, 0.0, closed="neither"),
        progress=in_view() if progress is None else progress,
        callback=callback,
        num_threads=None if num_threads is None else threads.check("num_threads", num_threads),
        checkpoint=None if checkpoint is None else _checks.path("checkpoint", checkpoint),
    )
    # A generator of our own kind, whose state a checkpoint can hold.
    rng = np.random.default_rng(seed.integers(1 << 63) if isinstance(seed, np.random.Generator) else seed)
    sampler = Sampler(target, known, settings, rng)
    if resume is not None:
        sampler.resume(_checks.path("resume", resume))
    stopped = sampler.run()
    x = known.to_x(np.concatenate([fold.t for fold in sampler.folds]))
    by_fold = sampler.log_weights()
    log_weights = np.concatenate(by_fold)
    log_evidence, log_evidence_error = _weights.log_evidence(log_weights)
    first, second = (_weights.log_evidence(one)[0] for one in by_fold)
    posterior = Posterior(
        x=x,
        log_weights=log_weights,
        log_likelihood=np.concatenate([fold.log_likelihood for fold in sampler.folds]),
        log_prior=known.log_prob_x(x),
        columns=known.columns,
        log_evidence=log_evidence,
        log_evidence_error=log_evidence_error,
        log_evidences=(first, second),
        effective_size=_weights.effective_size(log_weights),
        pareto_k=_weights.pareto_k(log_weights),
        rounds=tuple(sampler.rounds),
        stopped=stopped,
    )
    if posterior.problems:
        warn(" ".join(posterior.problems))
    return posterior
