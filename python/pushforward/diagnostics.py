"""How well a flow describes rows that it was not fitted to: what `Flow.check` computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pushforward import checks, start
from pushforward.checks import Array
from pushforward.distributions import (
    Floats,
    chi_square_cdf,
    effective_number,
    normal_cdf,
    normal_quantile,
    student_t_cdf,
    uniformity,
)
from pushforward.flow import Flow
from pushforward.layers import Autoregressive, Coupling, RationalQuadratic, StudentT
from pushforward.report import LEAST_CLASSIFIED, Estimate, Report
from pushforward.rows import Rows
from pushforward.supports import Circle

if TYPE_CHECKING:
    from pushforward.flow import Seed

_FOLDS = 5
# What a feature has left, given the others, in parts of its deviation; rounding alone leaves about 1e-8.
_LEAST_SPREAD = 1e-7
# All rows are scored. What else there is to know shows in fewer, and takes memory for each.
_MOST_ROWS = 100_000
# Boosted trees take some seconds for so many rows and as many samples, and tell 50 from 52 percent by them.
_MOST_CLASSIFIED = 5000


def check(flow: Flow, x: object, context: object, weights: object, seed: Seed) -> Report:
    """Compare a flow with rows."""
    table = checks.table(x, flow.dim, "x")
    if len(table) < 2:
        raise ValueError(f"x has {len(table)} rows; a check needs at least 2, and tells more with hundreds")
    condition = checks.condition(context, flow.context, len(table))
    w = checks.row_weights(weights, len(table))
    # A stream of its own: rows drawn by the same seed, as in a trial, would be the samples too.
    rng = np.random.default_rng(np.random.default_rng(seed).integers(1 << 63))
    rows = len(table)
    check_rows(flow, table, condition)
    # One condition for all rows tells none of them from another.
    each = condition if condition is not None and condition.ndim == 2 else None

    density = flow.log_prob(table, condition).astype(np.float64)
    log_likelihood = _mean(density, w)
    if len(table) > _MOST_ROWS:
        index = np.sort(rng.choice(len(table), _MOST_ROWS, replace=False))
        table, density = table[index], density[index]
        each, w = (None if part is None else part[index] for part in (each, w))
        condition = condition if each is None else each
    folds = rng.permutation(len(table)) % _FOLDS
    gaussian = _gaussian(flow, table, each, w, folds)
    u, radius = latent_pit(flow, table, condition)
    epochs = flow.history.epochs if flow.history else []
    best = flow.history.best_epoch if flow.history else 0
    repeated = [float(np.unique(column, return_counts=True)[1].max()) / len(table) for column in table.T]
    return Report(
        rows=rows,
        log_likelihood=log_likelihood,
        above_gaussian=None if gaussian is None else _mean(density - gaussian, w),
        above_training=log_likelihood.value + epochs[best - 1].train_loss if best else None,
        round_trip=_round_trip(flow, table, condition),
        pit=tuple(uniformity(column, w) for column in u.T),
        pit_radius=uniformity(radius, w),
        classifier=_classifier(flow, table, condition, w, rng),
        outside_splines=_outside_splines(flow, table),
        repeated=max(repeated),
        repeated_feature=flow._names()[int(np.argmax(repeated))],
    )


def check_rows(flow: Flow, x: Array, context: Array | None, name: str = "x") -> None:
    """Raise if a row, or its context, holds NaN or infinity, or a value is outside its support."""
    each = None if context is None else np.broadcast_to(context, (len(x), flow.context))
    start.check_values(Rows.of(x, each, None), name, flow.support)


def _mean(values: Floats, weights: Floats | None) -> Estimate:
    w = np.ones(len(values)) if weights is None else weights
    share = w / w.sum()
    mean = float(share @ values)
    freedom = 1 - 1 / effective_number(w)
    return Estimate(mean, math.sqrt(float(share**2 @ (values - mean) ** 2) / freedom) if freedom > 0 else math.nan)


def latent_pit(flow: Flow, x: Array, context: Array | None) -> tuple[Floats, Floats]:
    """Return rows' probability integral transforms on the latent side: uniform, if the flow is the rows' density.

    Parameters
    ----------
    flow : Flow
        The flow.
    x : (n, dim) array
        Rows.
    context : (n, context) or (context,) array or None
        Their conditions.

    Returns
    -------
    (n, dim) array, (n,) array
        The distribution function of each latent feature, and that of the radius: of the sum of the squared features,
        each taken to a standard normal.
    """
    z = flow.inverse(x, context)[0].astype(np.float64)
    u, scores = np.empty_like(z), z.copy()
    degrees = iter(_degrees(flow))
    for i, domain in enumerate(flow._core.latent_domains):
        if domain != "line":
            half = 1.0 if domain == "box" else math.pi
            u[:, i] = np.clip(0.5 * (z[:, i] / half + 1), 0, 1)
        elif isinstance(flow.base, StudentT):
            u[:, i] = student_t_cdf(z[:, i], next(degrees))
        else:
            u[:, i] = normal_cdf(z[:, i])
            continue
        scores[:, i] = normal_quantile(u[:, i])
    return u, chi_square_cdf((scores**2).sum(axis=1), flow.dim)


def _degrees(flow: Flow) -> Floats:
    """Return the degrees of freedom of each latent feature on the line, in order; none but of Student's base."""
    if not isinstance(flow.base, StudentT):
        return np.empty(0)
    learned = flow.named_parameters().get("base.log_df")
    return np.broadcast_to(flow.base.degrees(learned), list(flow._core.latent_domains).count("line"))


def gaussian_log_prob(train: Array, test: Array, weights: Floats | None = None) -> Floats:
    """Return the log density of rows under the Gaussian of others.

    Parameters
    ----------
    train, test : (m, dim) array, (n, dim) array
        The rows to fit, and those to score.
    weights : (m,) array, optional
        Weights of the rows to fit.

    Returns
    -------
    (n,) array of float64
        Log densities, in nats.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance has no inverse.
    """
    share = np.full(len(train), 1 / len(train)) if weights is None else weights / weights.sum()
    mean = share @ train.astype(np.float64)
    residuals = train - mean
    covariance = (share[:, None] * residuals).T @ residuals
    root = np.linalg.cholesky(covariance)
    if (np.diag(root) < _LEAST_SPREAD * np.sqrt(np.diag(covariance))).any():
        raise np.linalg.LinAlgError("the covariance has no inverse but that of rounding")
    z = np.linalg.solve(root, (test - mean).T)
    density: Floats = -0.5 * (z**2).sum(axis=0) - np.log(np.diag(root)).sum() - 0.5 * len(z) * np.log(2 * np.pi)
    return density


def _gaussian(flow: Flow, x: Array, context: Array | None, weights: Floats | None, folds: Array) -> Floats | None:
    """Return log densities under Gaussians fitted to the rows of the other folds, behind the flow's support."""
    support_only = Flow(flow.dim, layers=[], base=flow.base, support=flow.support, dtype="float64")
    y, log_det = support_only.inverse(x)
    y = y.astype(np.float64)
    for i, support in enumerate(flow.support):
        if isinstance(support, Circle):  # cut open opposite to where most of it is
            turned = np.exp(1j * y[:, i])
            y[:, i] = np.angle(turned * np.conj(turned.mean()))
    known = np.column_stack([np.ones(len(y)), *([] if context is None else [context])])
    w = np.ones(len(y)) if weights is None else weights
    root = np.sqrt(w)[:, None]
    density = np.empty(len(y))
    for fold in range(_FOLDS):
        train = folds != fold
        if np.count_nonzero(w[train]) <= flow.dim + known.shape[1]:
            return None
        mean = known @ np.linalg.lstsq(root[train] * known[train], root[train] * y[train], rcond=None)[0]
        residuals = y - mean
        try:
            density[~train] = gaussian_log_prob(residuals[train], residuals[~train], w[train])
        except np.linalg.LinAlgError:
            return None
    return density + log_det


def _round_trip(flow: Flow, x: Array, context: Array | None) -> float:
    z, _ = flow.inverse(x, context)
    back, _ = flow.forward(z, context)
    off = np.abs(back.astype(np.float64) - x)
    for i, support in enumerate(flow.support):
        if isinstance(support, Circle):
            off[:, i] = np.minimum(off[:, i], np.abs(support.high - support.low - off[:, i]))
    spread = x.std(axis=0, dtype=np.float64)
    return float((off.max(axis=0) / np.where(spread > 0, spread, 1.0)).max())


def _outside_splines(flow: Flow, x: Array) -> float | None:
    transforms = [layer.transform for layer in flow.layers if isinstance(layer, Coupling | Autoregressive)]
    bounds = [transform.bound for transform in transforms if isinstance(transform, RationalQuadratic)]
    lines = np.array(flow._core.domains) == "line"
    if not bounds or not lines.any():
        return None
    shift, scale = flow._standardization
    standard = (flow._core.to_line(x, threads=flow.num_threads) - shift) / scale
    return float((np.abs(standard[:, lines]) > min(bounds)).any(axis=1).mean())


def _classifier(
    flow: Flow, x: Array, context: Array | None, weights: Floats | None, rng: np.random.Generator
) -> Estimate | None:
    """Return how often a classifier is right about rows and samples that it was not fitted to."""
    if len(x) < LEAST_CLASSIFIED:
        return None
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        return None
    index = rng.permutation(len(x))[:_MOST_CLASSIFIED]
    conditions = context[index] if context is not None and context.ndim == 2 else context
    samples = flow.sample(len(index), conditions, rng)
    tables: list[npt.NDArray[np.float64]] = [
        np.column_stack([table, *([conditions] if conditions is not None and conditions.ndim == 2 else [])])
        for table in (x[index], samples)
    ]
    w = np.ones(len(index)) if weights is None else weights[index]
    # A row and the sample under its condition are in one fold: the one would tell what the other is not.
    folds = np.arange(len(index)) % _FOLDS
    right = 0.0
    for fold in range(_FOLDS):
        train, test = (
            (np.concatenate([table[rows] for table in tables]), np.repeat([0, 1], rows.sum()), np.tile(w[rows], 2))
            for rows in (folds != fold, folds == fold)
        )
        trees = HistGradientBoostingClassifier(random_state=int(rng.integers(1 << 31)))
        trees.fit(train[0], train[1], sample_weight=train[2])
        right += float(test[2] @ (trees.predict(test[0]) == test[1]))
    accuracy = right / (2 * w.sum())
    return Estimate(accuracy, math.sqrt(accuracy * (1 - accuracy) / (2 * effective_number(w))))
