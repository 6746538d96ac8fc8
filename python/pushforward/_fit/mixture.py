"""Mixtures of Gaussians as the base of a flow: where they start, and the background beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pushforward._io.rows import Rows
from pushforward._io.scan import pieces
from pushforward._model.gaussian import covariance
from pushforward._model.state import State
from pushforward._typing import Doubles

# The background's deviations over those of all rows: at first, and those that are tried.
_WIDTH = 3.0
_WIDTHS = (2.0, 3.0, 4.0, 6.0, 10.0)
_OFF = -60.0  # the logarithm of a weight that counts for nothing


@dataclass(frozen=True)
class Gaussians:
    """A mixture of Gaussians, as the parameters of the base `Mixture`.

    Parameters
    ----------
    log_weights : (k,) array
        Logarithms of the weights.
    means : (k, d) array
        Means.
    factors : (k, d, d) array
        Lower triangular factors A of the precisions, each A^T A.
    """

    log_weights: Doubles
    means: Doubles
    factors: Doubles

    @property
    def components(self) -> int:
        """The number of Gaussians."""
        return len(self.log_weights)

    def write(self, state: State) -> None:
        """Set the parameters of a flow's base."""
        parameters = state.named_parameters()
        diagonals = np.diagonal(self.factors, axis1=1, axis2=2)
        dim = self.means.shape[1]
        below = np.tril_indices(dim, -1)
        parameters["base.log_weights"][...] = self.log_weights
        parameters["base.means"][...] = self.means
        parameters["base.log_diagonals"][...] = np.log(diagonals)
        parameters["base.shears"][...] = (self.factors / diagonals[:, :, None])[:, below[0], below[1]]

    def with_background(self, other: Gaussians) -> Gaussians:
        """Add a broad Gaussian around another one as the last component."""
        return Gaussians(
            np.append(self.log_weights, _OFF),
            np.concatenate([self.means, other.means]),
            np.concatenate([self.factors, other.factors / _WIDTH]),
        )


def gaussian(z: Doubles, weights: Doubles) -> Gaussians:
    """Return the one Gaussian of rows."""
    mean = weights @ z / weights.sum()
    factor = np.linalg.inv(np.linalg.cholesky(covariance(z - mean, weights)))
    return Gaussians(np.zeros(1), mean[None], factor[None])


def calibrate_background(state: State, held: Rows) -> None:
    """Give the background, the last component of a flow's base, the share and width that suit held-out rows best.

    The layers fit their training rows closer than others. A broad component takes in what lies outside, so that a row
    that nothing has prepared the flow for costs little. Its share can only be learned from rows that the layers have
    not seen.
    """
    parameters = state.named_parameters()
    logits, diagonals = parameters["base.log_weights"], parameters["base.log_diagonals"]
    others, diagonal = logits[:-1].copy(), diagonals[-1].copy()
    weights = np.concatenate([np.ones(len(i)) if w is None else w[i] for _, _, w, i in pieces(held)])
    weights = weights * (len(weights) / weights.sum())
    main = _densities(state, held, np.append(others, _OFF))
    # A share that may be too small for rows to show, but is never none.
    shares = np.r_[0.1 / len(weights), np.logspace(-4, -0.5, 36)]
    best = (-math.inf, shares[0], _WIDTH)
    for width in _WIDTHS:
        diagonals[-1] = diagonal + math.log(_WIDTH / width)
        broad = _densities(state, held, np.append(np.full_like(others, _OFF), 0.0))
        for share in shares:
            # The last term stands for one more row, like the others.
            both = np.logaddexp(math.log1p(-share) + main, math.log(share) + broad)
            score = float(weights @ both) + math.log1p(-share)
            best = max(best, (score, share, width))
    _, share, width = best
    diagonals[-1] = diagonal + math.log(_WIDTH / width)
    total = float(np.logaddexp.reduce(others.astype(np.float64)))
    logits[:-1], logits[-1] = others, total + math.log(share) - math.log1p(-share)


def _densities(state: State, rows: Rows, log_weights: Doubles) -> Doubles:
    """Return the log density of rows under other weights of the base's components."""
    state.named_parameters()["base.log_weights"][...] = log_weights
    return np.concatenate([state.log_prob(x, context, index) for x, context, _, index in pieces(rows)])


def fit_mixture(z, weights, held, held_weights, *, seed, threads):
    from sklearn.mixture import GaussianMixture

    n, d = z.shape
    best = None
    bad = 0
    if not len(held):
        return None
    for k in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48):
        if n / k < 3 * (d + 2):
            break
        g = GaussianMixture(k, reg_covar=1e-4, random_state=0, max_iter=100).fit(z)
        s = g.score(held)
        if best is None or s > best[0]:
            best = (s, g)
            bad = 0
        else:
            bad += 1
            if bad >= 2:
                break
    if best is None:
        return None
    g = best[1]
    return Gaussians(
        np.log(g.weights_), g.means_, np.stack([np.linalg.inv(np.linalg.cholesky(c)) for c in g.covariances_])
    )
