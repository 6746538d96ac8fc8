"""The Gaussian from which a fit starts: a linear regression on the context, and the covariance of what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pushforward._typing import Doubles

# Shares of a scaled identity in the covariance that are tried.
_SHARES = np.r_[0.0, np.logspace(-6, 0, 25)]
_FOLDS = 5
# Of standardised features: what is below is the rounding of float32.
_LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Sample:
    """Standardised rows, from which layers start.

    Parameters
    ----------
    y : (n, k) array
        The features on the line, in their order.
    on_line : (dim,) array of bool
        Which features those are.
    context : (n, c) array or None
        The conditions.
    weights : (n,) array
        Weights of the rows.
    """

    y: Doubles
    on_line: npt.NDArray[np.bool_]
    context: Doubles | None
    weights: Doubles


def regression(y: Doubles, context: Doubles, weights: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Regress columns on the context by least squares.

    Parameters
    ----------
    y : (n, k) array
        Rows.
    context : (n, c) array
        Their conditions.
    weights : (n,) array
        Weights of the rows.

    Returns
    -------
    (k, c) array, (k,) array, (n, k) array
        Slopes, intercepts, and residuals.
    """
    center = weights @ context / weights.sum()
    mean = weights @ y / weights.sum()
    root = np.sqrt(weights)[:, None]
    # With more conditions than rows, or conditions that are equal, the solution of least norm.
    slopes = np.linalg.lstsq(root * (context - center), root * (y - mean), rcond=1e-10)[0].T
    intercepts = mean - slopes @ center
    return slopes, intercepts, y - context @ slopes.T - intercepts


def covariance(rows: Doubles, weights: Doubles) -> Doubles:
    """Return the covariance of centered rows, with the share of a scaled identity that predicts left-out rows best.

    The estimate is (1 - s) S + s m I, with S the sample's covariance and m the mean of its diagonal, as that of Ledoit
    and Wolf (2004). Their s minimises the squared error of the matrix, and can be far too large for its least
    eigenvalues, on which a density depends as much as on the others. Here s has the best log-likelihood in a
    cross-validation in five parts.

    Parameters
    ----------
    rows : (n, k) array
        Standardised rows of mean 0, in no particular order.
    weights : (n,) array
        Their weights.

    Returns
    -------
    (k, k) array
        The covariance; positive definite.
    """
    n, k = rows.shape
    fold = np.arange(n) % _FOLDS
    moments = np.stack([_moment(rows[fold == i], weights[fold == i]) for i in range(_FOLDS)])
    totals = np.array([weights[fold == i].sum() for i in range(_FOLDS)])
    sample = moments.sum(axis=0) / weights.sum()
    scores = np.zeros(len(_SHARES))
    for i in range(_FOLDS):
        rest = totals.sum() - totals[i]
        if totals[i] > 0 and rest > 0:
            scores += _log_likelihoods((moments.sum(axis=0) - moments[i]) / rest, moments[i], totals[i])
    # Equal scores: the least share with which the matrix has an inverse.
    share = _SHARES[int(np.argmax(scores))] if np.isfinite(scores).any() else 1.0
    result: Doubles = (1 - share) * sample + (share * np.trace(sample) / k + _LEAST_VARIANCE) * np.eye(k)
    return result


def _moment(rows: Doubles, weights: Doubles) -> Doubles:
    result: Doubles = (rows * weights[:, None]).T @ rows
    return result


def _log_likelihoods(sample: Doubles, moment: Doubles, weight: float) -> Doubles:
    """Return the log-likelihood, for each share, of rows whose second moments are given."""
    values, vectors = np.linalg.eigh(sample)
    inside = np.einsum("ji,jk,ki->i", vectors, moment, vectors)
    variances = (1 - _SHARES)[:, None] * np.maximum(values, 0) + (_SHARES * values.mean())[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = -0.5 * (weight * np.log(variances) + inside / variances).sum(axis=1)
    # A variance that rounding alone made is none.
    singular = variances.min(axis=1) <= 1e-13 * variances.max(axis=1)
    return np.where(singular | ~np.isfinite(scores), -np.inf, scores)


def whitening(matrix: Doubles) -> Doubles:
    """Return the symmetric W for which W C W is the identity.

    Of all maps that do this, it changes the features least (Kessy, Lewin, Strimmer 2018).
    """
    values, vectors = np.linalg.eigh(matrix)
    result: Doubles = (vectors / np.sqrt(values)) @ vectors.T
    return result


def triangles(matrix: Doubles) -> tuple[Doubles, Doubles]:
    """Return L with ones on its diagonal and U, lower and upper triangular, with L U a positive definite matrix."""
    upper = matrix.copy()
    lower = np.eye(len(matrix))
    for i in range(len(matrix) - 1):
        lower[i + 1 :, i] = upper[i + 1 :, i] / upper[i, i]
        upper[i + 1 :] -= lower[i + 1 :, i, None] * upper[i]
    return lower, np.triu(upper)
