"""Mixtures of Gaussians as the base of a flow: where they start, and the background beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from pushforward._dispatch import core
from pushforward._fit.standardize import Some, some_of
from pushforward._io.rows import Rows
from pushforward._model.gaussian import covariance
from pushforward._model.state import State
from pushforward._typing import Doubles

# The background's deviations over those of all rows: at first, and those that are tried.
_WIDTH = 3.0
_WIDTHS = (2.0, 3.0, 4.0, 6.0, 10.0)
_OFF = -60.0  # the logarithm of a weight that counts for nothing

# Numbers of components that are tried. Each component needs rows for its covariance.
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_ROWS_PER_FEATURE = 3
_FAR = 8  # times the best number so far: more are not tried, unless rows are few
# Below so many rows one fold of them is too few to choose by, and kernels can be better than components.
_SMALL = 1000
_FOLDS = 5
# The deviations of kernels over those of the rows; and the most kernels, since a base has 256 components.
_BANDWIDTHS = np.geomspace(0.05, 1.0, 14)
_KERNELS = 255
_RESTARTS = 3
_ITERATIONS_OF_CHOICE = 30
_BLOCK = 1 << 20  # numbers in memory at a time


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
        factors = np.tile(np.eye(dim), (len(self), 1, 1))
        rows, columns = np.tril_indices(dim, -1)
        factors[:, rows, columns] = self.shears
        factors *= np.exp(self.log_diagonals)[:, :, None]
        moved = np.einsum("kij,kj->ki", factors, self.means)
        squares = np.empty((len(z), len(self)))
        for block in np.array_split(np.arange(len(z)), max(1, len(z) * len(self) * dim // _BLOCK)):
            u = np.tensordot(z[block], factors, axes=(1, 2)) - moved
            squares[block] = np.einsum("nki,nki->nk", u, u)
        terms = self.log_weights + self.log_diagonals.sum(axis=1) - 0.5 * squares
        result: Doubles = np.logaddexp.reduce(terms, axis=1) - 0.5 * dim * math.log(2 * math.pi)
        return result


def gaussian(z: Doubles, weights: Doubles) -> Components:
    """Return the one Gaussian of rows."""
    mean = weights @ z / weights.sum()
    factor = np.linalg.inv(np.linalg.cholesky(covariance(z - mean, weights)))
    diagonal = np.diag(factor)
    shears = (factor / diagonal[:, None])[np.tril_indices(len(factor), -1)]
    return Components(np.zeros(1), mean[None], np.log(diagonal)[None], shears[None])


def kernels(bandwidth: float, z: Doubles, weights: Doubles) -> Components:
    """Return a kernel density estimate: the Gaussian of all rows, with other deviations, at each of some rows."""
    around = gaussian(z, weights)
    z, weights = z[:_KERNELS], weights[:_KERNELS]
    n = len(z)
    with np.errstate(divide="ignore"):
        log_weights = np.maximum(np.log(weights / weights.sum()), _OFF)
    return Components(
        log_weights,
        z,
        np.repeat(around.log_diagonals - math.log(bandwidth), n, axis=0),
        np.repeat(around.shears, n, axis=0),
    )


def clusters(z: Doubles, weights: Doubles, threads: int) -> Components | None:
    """Return the mixture of Gaussians that predicts left-out rows best, or None if that is one Gaussian.

    The number of components is chosen in a cross-validation. A kernel density estimate competes if rows are few.

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
    small = n < _SMALL
    fold = np.arange(n) % _FOLDS
    left_out = [fold == i for i in range(_FOLDS if small else 1)]
    if not all(weights[~left].any() for left in left_out):
        return None

    def score(estimate: Callable[[Doubles, Doubles], Components]) -> float:
        return sum(float(weights[i] @ estimate(z[~i], weights[~i]).log_density(z[i])) for i in left_out)

    def components(count: int, rows: Doubles, weights: Doubles) -> Components:
        restarts = _RESTARTS if small else 1
        return _expectation_maximization(rows, weights, count, restarts, threads, iterations=_ITERATIONS_OF_CHOICE)

    most = max(1, min(n // (_ROWS_PER_FEATURE * (dim + 2)), _COUNTS[-1]))
    scores: dict[int, float] = {}
    tried = {*(count for count in _COUNTS if count < most), most}
    for step in (1 / 4, 1 / 8, 0):  # then between the best count and those on both sides of it
        for count in sorted(tried - set(scores)):
            scores[count] = score(partial(components, count))
            if not small and count >= _FAR * max(scores, key=scores.__getitem__):
                break
        best = max(scores, key=scores.__getitem__)
        tried = {round((1 - step) * best), min(round((1 + 2 * step) * best), most)}
    if small:
        of_kernels = {h: score(partial(kernels, h)) for h in _BANDWIDTHS}
        bandwidth = max(of_kernels, key=of_kernels.__getitem__)
        if of_kernels[bandwidth] > scores[best]:
            return kernels(bandwidth, z, weights)
    return None if best == 1 else _expectation_maximization(z, weights, best, _RESTARTS, threads)


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
    z: Doubles,
    weights: Doubles,
    count: int,
    restarts: int,
    threads: int,
    covariances: str = "full",
    iterations: int = 100,
) -> Components:
    shares, means, log_diagonals, shears, _ = core.expectation_maximization(
        np.ascontiguousarray(z),
        weights=weights,
        components=count,
        covariance=covariances,
        ridge=1e-6,
        max_iterations=iterations,
        tolerance=1e-4,
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
    some = some_of(held)  # enough to tell
    weights = np.ones(len(some.x)) if some.weights is None else some.weights
    weights = weights * (len(weights) / weights.sum())
    main = _densities(state, some, np.append(others, _OFF))
    # A share that may be too small for rows to show, but is never none.
    shares = np.r_[0.1 / len(weights), np.logspace(-4, -0.5, 36)]
    best = (-math.inf, shares[0], _WIDTH)
    for width in _WIDTHS:
        diagonals[-1] = diagonal + math.log(_WIDTH / width)
        broad = _densities(state, some, np.append(np.full_like(others, _OFF), 0.0))
        for share in shares:
            # The last term stands for one more row, like the others.
            both = np.logaddexp(math.log1p(-share) + main, math.log(share) + broad)
            score = float(weights @ both) + math.log1p(-share)
            best = max(best, (score, share, width))
    return best[1:]


def _densities(state: State, some: Some, log_weights: Doubles) -> Doubles:
    """Return the log density of rows under other weights of the base's components."""
    state.named_parameters()["base.log_weights"][...] = log_weights
    return state.log_prob(some.x, some.context)
