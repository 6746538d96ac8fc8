"""Weights of several densities, learned from rows that none of them was fitted to."""

from __future__ import annotations

import numpy as np

from pushforward._typing import Doubles

# The mean log density is closer than this to its maximum, in nats; rows are never enough to see a tenth of it.
_GAP = 1e-5
_MOST_STEPS = 10_000


def learned_weights(log_densities: Doubles, counts: Doubles) -> Doubles:
    """Return the weights of a mixture of densities that make rows most likely.

    It is the stacking of densities (Smyth and Wolpert 1999; Yao et al. 2018): sum_i c_i log sum_m w_m p_m(x_i) is
    maximised over w >= 0 with sum_m w_m = 1. The sum is concave in w, so EM finds its maximum. One row that only
    density m explains is added for each m (a Dirichlet prior with all parameters 2). Without it, a few rows could give
    a good density no weight (measured: docs/ensembles.md).

    Parameters
    ----------
    log_densities : (m, n) array
        log p_m(x_i). NaN counts as -inf.
    counts : (n,) array
        How often each row is there, above 0.

    Returns
    -------
    (m,) array of float64
        The weights, all above 0. They are equal if no row has a density.
    """
    members = len(log_densities)
    logs = np.where(np.isnan(log_densities), -np.inf, log_densities)
    known = np.isfinite(logs).any(axis=0)
    logs, counts = logs[:, known], counts[known]
    density = np.exp(logs - logs.max(axis=0, initial=-np.inf))
    weights = np.full(members, 1 / members)
    total = counts.sum() + members
    for _ in range(_MOST_STEPS):
        # The derivatives of the mean by each weight. The mean is concave: it is at most max(slopes) - 1 below its
        # maximum.
        slopes = (density @ (counts / (weights @ density)) + 1 / weights) / total
        weights = weights * slopes
        if slopes.max() <= 1 + _GAP:
            break
    shares: Doubles = weights / weights.sum()
    return shares
