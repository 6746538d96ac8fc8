"""Importance sampling of an unnormalised density by draws from a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._target import Pool, Target
from pushforward._typing import Doubles, Seed
from pushforward._warn import warn
from pushforward.importance.draws import Draws
from pushforward.importance.proposals import Mixture, Proposal


def sample(
    flow: Any,
    log_density: Callable[[Doubles], Any],
    n: int = 10_000,
    *,
    context: npt.ArrayLike | None = None,
    wider: Any = None,
    wider_share: float = 0.1,
    smooth: bool = False,
    pool: Pool | None = None,
    seed: Seed = None,
) -> Draws:
    """Draw rows from a flow and weight them by an unnormalised density over the flow's.

    With w = p(x) / q(x), weighted averages over the draws estimate averages over p, and the mean weight estimates the
    integral of p, the evidence. Errors of the flow q cost effective draws but do not bias the results, as long as q
    covers p. Where q has lighter tails than p, a few weights dominate: the Pareto k of the largest weights shows this,
    and above 0.7 there is a warning (Vehtari, Simpson, Gelman, Yao, Gabry 2024).

    Parameters
    ----------
    flow : Flow, Ensemble or other density
        What to draw from: anything with `sample_and_log_prob(n, seed=)`, `log_prob(x)` and `dim`, or a frozen
        distribution with SciPy's `rvs` and `logpdf`.
    log_density : callable
        Takes an (n, dim) array of float64 and returns the (n,) values of log p in nats, without its normalising
        constant; -inf where there is no mass. A value of NaN counts as -inf, with a warning. If it returns a tuple of
        values and gradients, the gradients are ignored.
    n : int
        Number of draws, and of evaluations, at least 2.
    context : (context,) array, optional
        The condition of all draws, for a flow that has any.
    wider : Flow or other density, optional
        A density with heavier tails, such as the prior: a share of the draws comes from it, and all weights are those
        of the mixture (Hesterberg 1995; Owen, Zhou 2000). If p is bounded by a multiple of `wider`, the weights are
        bounded.
    wider_share : float
        The share of draws from `wider`, in (0, 1).
    smooth : bool
        Whether to replace the largest weights by quantiles of a Pareto distribution that is fitted to them. That
        lowers the variance of averages and of the evidence, for a small bias.
    pool : Pool, optional
        Where to call `log_density`, in pieces: anything with `map(function, pieces)`, such as an executor of
        `concurrent.futures`.
    seed : int or numpy.random.Generator, optional
        Fixes the draws.

    Returns
    -------
    Draws
        The draws with their log weights, and everything that is computed from them.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of its range, or if `log_density` returns another shape, or +inf.
        What `log_density` raises goes on to the caller.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward import importance
    >>> flow = Flow(2, layers=[])  # a standard normal
    >>> draws = importance.sample(flow, lambda x: -0.7 * (x**2).sum(axis=1), 5000, seed=0)
    >>> bool(abs(draws.log_evidence - np.log(np.pi / 0.7)) < 5 * draws.log_evidence_error)
    True
    """
    own = Proposal(flow, "flow", context=context)
    n = _checks.integer("n", n, 2)
    share = _checks.number("wider_share", wider_share, 0, 1, closed="neither")
    proposal = own if wider is None else Mixture(own, Proposal(wider, "wider", dim=own.dim), share)
    target = Target(log_density, proposal.dim, shape=proposal.shape, pool=pool)
    x, log_proposal = proposal.draw(n, np.random.default_rng(seed))
    values, _ = target(x)
    log_weights = values - log_proposal
    smoothed, k = _weights.pareto_smoothed(log_weights)
    if k > _weights.GOOD_K:
        warn(
            f"the Pareto k of the weights is {k:.2f}, above {_weights.GOOD_K}: a few draws dominate, and no average "
            "can be trusted. The tails of the flow are too light: add wider=, fit the flow again to these draws with "
            "weights=, or give it heavier tails, as by base=StudentT(5.0)"
        )
    columns = getattr(flow, "columns", None) or tuple(f"x{i}" for i in range(proposal.dim))
    x = x if proposal.shape is None else x.reshape((n, *proposal.shape))
    return Draws(x, values, log_proposal, smoothed if smooth else log_weights, k, tuple(columns), smooth)
