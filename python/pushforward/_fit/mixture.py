"""Mixtures of Gaussians as the base of a flow: where they start, and the background beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from pushforward._dispatch import core
from pushforward._io.rows import Rows
from pushforward._io.scan import pieces
from pushforward._model.gaussian import covariance
from pushforward._model.state import State
from pushforward._typing import Doubles

# The background's deviations over those of all rows: at first, and those that are tried.
_WIDTH = 3.0
_WIDTHS = (2.0, 3.0, 4.0, 6.0, 10.0)
_OFF = -60.0  # the logarithm of a weight that counts for nothing

# Numbers of components that are tried, until so many in a row are no better. Each needs rows for its covariance.
_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
_WORSE_COUNTS = 3
_ROWS_PER_FEATURE = 3
_FOLDS = 5
_ROWS_TO_CROSS_VALIDATE = 4000
_RESTARTS = 4


@dataclass(frozen=True)
class Components:
    """A mixture of Gaussians, as the parameters of the base `Mixture` with full covariances.

    Parameters
    ----------
    log_weights : (k,) array
        Logarithms of the weights, which sum to 1.
    means : (k, d) array
        Means.
    log_diagonals : (k, d) array
        Logarithms of the diagonals of the triangular factors A of the precisions A^T A.
    shears : (k, d (d - 1) / 2) array
        The factors below the diagonal, row by row, each row divided by its diagonal.
    """

    log_weights: Doubles
    means: Doubles
    log_diagonals: Doubles
    shears: Doubles

    def __len__(self) -> int:
        return len(self.log_weights)

    def write(self, state: State) -> None:
        """Set the parameters of a flow's base."""
        parameters = state.named_parameters()
        for field in fields(self):
            if f"base.{field.name}" in parameters:  # diagonal covariances have no shears
                parameters[f"base.{field.name}"][...] = getattr(self, field.name)

    def with_background(self, around: Components) -> Components:
        """Add a broad Gaussian around another one as the last component, with a weight that counts for nothing yet."""
        return Components(
            np.append(self.log_weights, _OFF),
            np.concatenate([self.means, around.means]),
            np.concatenate([self.log_diagonals, around.log_diagonals - math.log(_WIDTH)]),
            np.concatenate([self.shears, around.shears[:, : self.shears.shape[1]]]),  # none for diagonal covariances
        )

    def log_density(self, z: Doubles) -> Doubles:
        """Return the log density of points, (n,)."""
        dim = z.shape[1]
        below = np.tril_indices(dim, -1)
        terms = np.empty((len(z), len(self)))
        for k, log_weight in enumerate(self.log_weights):
            unit = np.eye(dim)
            unit[below] = self.shears[k]
            u = (z - self.means[k]) @ unit.T * np.exp(self.log_diagonals[k])
            terms[:, k] = log_weight + self.log_diagonals[k].sum() - 0.5 * (u**2).sum(axis=1)
        result: Doubles = np.logaddexp.reduce(terms, axis=1) - 0.5 * dim * math.log(2 * math.pi)
        return result


def gaussian(z: Doubles, weights: Doubles) -> Components:
    """Return the one Gaussian of rows."""
    mean = weights @ z / weights.sum()
    factor = np.linalg.inv(np.linalg.cholesky(covariance(z - mean, weights)))
    diagonal = np.diag(factor)
    shears = (factor / diagonal[:, None])[np.tril_indices(len(factor), -1)]
    return Components(np.zeros(1), mean[None], np.log(diagonal)[None], shears[None])


def clusters(z: Doubles, weights: Doubles, threads: int) -> Components | None:
    """Return the mixture of Gaussians of rows, with the number of components that predicts left-out rows best.

    The number is chosen in a cross-validation; None if one Gaussian is best.

    Parameters
    ----------
    z : (n, d) array
        Rows, in no particular order.
    weights : (n,) array
        Their weights.
    threads : int
        Threads to use.
    """
    n, dim = z.shape
    most = n // (_ROWS_PER_FEATURE * (dim + 2))
    fold = np.arange(n) % _FOLDS
    tested = range(_FOLDS if n <= _ROWS_TO_CROSS_VALIDATE else 1)
    best, found, worse = -math.inf, 1, 0
    for count in (count for count in _COUNTS if count <= most or count == 1):
        score = 0.0
        for i in tested:
            left = fold == i
            if not weights[~left].any():
                return None
            fitted = _expectation_maximization(z[~left], weights[~left], count, 1, threads)
            score += float(weights[left] @ fitted.log_density(z[left]))
        if score > best:
            best, found, worse = score, count, 0
        else:
            worse += 1
        if worse == _WORSE_COUNTS:
            break
    return None if found == 1 else _expectation_maximization(z, weights, found, _RESTARTS, threads)


def start_base(state: State, z: Doubles, weights: Doubles) -> None:
    """Start a base that is a mixture, and that nothing was written to yet, at the mixture of latent rows.

    `z` are the features on the line, (n, d).
    """
    base, parameters = state.base, state.named_parameters()
    # The means are drawn at random; the others are 0 unless they were set by hand.
    own = [values for name, values in parameters.items() if name.startswith("base.") and name != "base.means"]
    if not base.gaussians or not z.shape[1] or any(values.any() for values in own):
        return
    covariances = "full" if "base.shears" in parameters else "diagonal"
    found = _expectation_maximization(z, weights, base.gaussians, _RESTARTS, state.num_threads, covariances)
    (found.with_background(gaussian(z, weights)) if base.has_background else found).write(state)


def _expectation_maximization(
    z: Doubles, weights: Doubles, count: int, restarts: int, threads: int, covariances: str = "full"
) -> Components:
    shares, means, log_diagonals, shears, _ = core.expectation_maximization(
        np.ascontiguousarray(z),
        weights=weights,
        components=count,
        covariance=covariances,
        ridge=1e-6,
        max_iterations=100,
        tolerance=1e-5,
        restarts=restarts,
        seed=0,
        threads=threads,
    )
    return Components(np.log(shares), means, log_diagonals, shears)


def calibrate_background(state: State, held: Rows) -> None:
    """Give the background, the last component of a flow's base, the share and width that suit held-out rows best.

    The layers fit their training rows closer than others. A broad component takes in what lies outside, so that a row
    that nothing has prepared the flow for costs little. Its share can only be learned from rows that the layers have
    not seen.
    """
    parameters = state.named_parameters()
    logits, diagonals = parameters["base.log_weights"], parameters["base.log_diagonals"]
    before = logits.copy(), diagonals.copy()
    try:
        share, width = _best_background(state, held)
    finally:  # also if the search is interrupted: it sets weights that no flow should be left with
        logits[...], diagonals[...] = before
    diagonals[-1] += math.log(_WIDTH / width)
    total = float(np.logaddexp.reduce(logits[:-1].astype(np.float64)))
    logits[-1] = total + math.log(share) - math.log1p(-share)


def _best_background(state: State, held: Rows) -> tuple[float, float]:
    """Return the share and the width of the background that suit held-out rows best.

    The parameters are left changed.
    """
    parameters = state.named_parameters()
    others, diagonals = parameters["base.log_weights"][:-1].copy(), parameters["base.log_diagonals"]
    diagonal = diagonals[-1].copy()
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
    return best[1:]


def _densities(state: State, rows: Rows, log_weights: Doubles) -> Doubles:
    """Return the log density of rows under other weights of the base's components."""
    state.named_parameters()["base.log_weights"][...] = log_weights
    return np.concatenate([state.log_prob(x, context, index) for x, context, _, index in pieces(rows)])
