"""How well a flow describes rows that it was not fitted to: what `Flow.check` computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from pushforward import _checks
from pushforward._check.calibration import calibration, ranks
from pushforward._check.distributions import effective_number, uniformity
from pushforward._check.report import LEAST_CLASSIFIED, Between, Mean, Report
from pushforward._fit.history import History
from pushforward._fit.oddities import oddities
from pushforward._io.rows import Rows, checked, taken
from pushforward._io.scan import check_values, pieces
from pushforward._io.stored import Stored
from pushforward._model import description
from pushforward._model.latent import probability_integral
from pushforward._model.state import State, sample_key
from pushforward._typing import Array, Doubles, Indices, Seed

_FOLDS = 5
# What a feature has left, given the others, in parts of its deviation; rounding alone leaves about 1e-8.
_LEAST_SPREAD = 1e-7
# All rows are scored. What else there is to know shows in fewer, and takes memory for each.
_MOST_ROWS = 100_000
# Boosted trees take some seconds for so many rows and as many samples, and tell 50 from 52 percent by them.
_MOST_CLASSIFIED = 5000
# So many of the rows at least are on either side of a gap between clusters.
_SHARE_OF_CLUSTER = 0.05
# Samples in a gap between two rows: so large a part of them, and so many times one in the number of rows.
_SHARE_BETWEEN, _GAPS_BETWEEN = 0.01, 20


def check(state: State, history: History | None, x: object, context: object, weights: object, seed: Seed) -> Report:
    """Compare a flow, and the history of its fit, with rows."""
    widths, columns = (state.dim, state.context), (state.columns, state.context_columns)
    given, condition = checked(x, context, widths, columns, shape=state.shape)
    if len(given) < 2:
        raise ValueError(f"x has {len(given)} rows; a check needs at least 2, and says more with hundreds")
    w = _checks.row_weights(weights, len(given))
    # A stream of its own: rows drawn by the same seed, as in a trial, would be the samples too.
    rng = np.random.default_rng(np.random.default_rng(seed).integers(1 << 63))
    density = _scored(state, given, condition, w)
    rows = len(density)
    counted = None if w is None or w.all() else np.flatnonzero(w)
    w = w if w is None or counted is None else w[counted]
    log_likelihood = _mean(density, w)
    chosen = counted
    if rows > _MOST_ROWS:
        index = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
        density, w = density[index], None if w is None else w[index]
        chosen = index if counted is None else counted[index]
    table = _some(given, chosen)
    # A single condition for all rows carries no information.
    each = None if condition is None or condition.ndim == 1 else _some(condition, chosen)
    condition = cast("Array | None", condition) if each is None else each
    folds = rng.permutation(len(table)) % _FOLDS
    gaussian = _gaussian(state, table, each, w, folds)
    u, radius = probability_integral(state, table, condition)
    best = history.best_epoch if history else 0
    training_loss = history.epochs[best - 1].train_loss if history and best else None
    index = rng.permutation(len(table))[:_MOST_CLASSIFIED]
    some, conditions = table[index], condition if each is None else each[index]
    samples, _ = state.sample(sample_key(rng), len(index), conditions)
    return Report(
        rows=rows,
        log_likelihood=log_likelihood,
        above_gaussian=None if gaussian is None else _mean(density - gaussian, w),
        above_training=None if training_loss is None else log_likelihood.value + training_loss,
        round_trip=_round_trip(state, table, condition),
        pit=tuple(uniformity(column, w) for column in u.T),
        pit_radius=uniformity(radius, w),
        classifier=classifier(
            some, samples, None if each is None else conditions, None if w is None else w[index], rng
        ),
        calibration=calibration(state.names, ranks(state, table, condition, w, rng)) if state.context else None,
        outside_splines=_outside_splines(state, table),
        oddities=oddities(table, state.names, state.support),
        has_cells=all(support.has_cells for support in state.support),
        between=_between(some, samples, state.names),
        stopped=history.stopped if history else "",
    )


def _scored(state: State, x: Array | Stored, context: Array | Stored | None, weights: Doubles | None) -> Doubles:
    """Check the values of rows with weight; return the log density of each."""
    if not isinstance(x, Stored):
        x, condition, _ = _checks.counted(x, cast("Array | None", context), weights)
        check_values(Rows.of(x, _of_each(condition, len(x)), None), "x", state.support)
        return state.log_prob(x, condition)
    rows = Rows.of(x, _of_each(context, len(x)), weights)
    check_values(rows, "x", state.support)
    found = [np.empty(0)]
    for part, conditions, _, index in pieces(rows):
        found.append(state.log_prob(part[index], None if conditions is None else conditions[index]))
    return np.concatenate(found)


def _of_each(context: Array | Stored | None, rows: int) -> Array | Stored | None:
    """Return a condition for each of so many rows."""
    if isinstance(context, Stored) or context is None or context.ndim == 2:
        return context
    return np.broadcast_to(context, (rows, len(context)))


def _some(rows: Array | Stored, chosen: Indices | None) -> Array:
    """Return all rows, or some of them."""
    if isinstance(rows, Stored):
        return taken(rows, np.arange(len(rows)) if chosen is None else chosen)
    return rows if chosen is None else rows[chosen]


def _mean(values: Doubles, weights: Doubles | None) -> Mean:
    w = np.ones(len(values)) if weights is None else weights
    share = w / w.sum()
    mean = float(share @ values)
    freedom = 1 - 1 / effective_number(w)
    return Mean(mean, math.sqrt(float(share**2 @ (values - mean) ** 2) / freedom) if freedom > 0 else math.nan)


def gaussian_log_prob(train: Array, test: Array, weights: Doubles | None = None) -> Doubles:
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
    density: Doubles = -0.5 * (z**2).sum(axis=0) - np.log(np.diag(root)).sum() - 0.5 * len(z) * np.log(2 * np.pi)
    return density


def _gaussian(state: State, x: Array, context: Array | None, weights: Doubles | None, folds: Array) -> Doubles | None:
    """Return log densities under Gaussians fitted to the rows of the other folds, behind the flow's support."""
    model = description.describe(state.dim, 0, None, "float64", state.base, state.support, [], np.random.default_rng(0))
    support_only = State(model)
    support_only.threads = state.threads
    y, log_det = support_only.inverse(x)
    y = y.astype(np.float64)
    for i, support in enumerate(state.support):
        if support.wraps:  # cut open opposite to where most of it is
            turned = np.exp(1j * y[:, i])
            y[:, i] = np.angle(turned * np.conj(turned.mean()))
    known = np.column_stack([np.ones(len(y)), *([] if context is None else [context])])
    w = np.ones(len(y)) if weights is None else weights
    root = np.sqrt(w)[:, None]
    density = np.empty(len(y))
    for fold in range(_FOLDS):
        train = folds != fold
        if np.count_nonzero(w[train]) <= state.dim + known.shape[1]:
            return None
        mean = known @ np.linalg.lstsq(root[train] * known[train], root[train] * y[train], rcond=None)[0]
        residuals = y - mean
        try:
            density[~train] = gaussian_log_prob(residuals[train], residuals[~train], w[train])
        except np.linalg.LinAlgError:
            return None
    return density + log_det


def _round_trip(state: State, x: Array, context: Array | None) -> float:
    z, _ = state.inverse(x, context)
    back, _ = state.forward(z, context)
    back = back.astype(np.float64)
    celled = [support.has_cells for support in state.support]
    back[:, celled] = np.floor(back[:, celled])  # points in cells
    off = np.abs(back - x)
    for i, support in enumerate(state.support):
        if support.wraps:
            low, high = support.ends
            off[:, i] = np.minimum(off[:, i], np.abs(high - low - off[:, i]))
    spread = x.std(axis=0, dtype=np.float64)
    return float((off.max(axis=0) / np.where(spread > 0, spread, 1.0)).max())


def _outside_splines(state: State, x: Array) -> float | None:
    bound = min((layer.reach for layer in state.layers), default=math.inf)
    lines = np.array(state.core.domains) == "line"
    if math.isinf(bound) or not lines.any():
        return None
    shift, scale = state.standardization
    standard = (state.to_line(x) - shift) / scale
    return float((np.abs(standard[:, lines]) > bound).any(axis=1).mean())


def _between(x: Array, samples: Array, names: Sequence[str]) -> Between | None:
    """Return where most samples lie in the widest gap between clusters of rows in a feature, if that are too many."""
    found = []
    end = math.ceil(_SHARE_OF_CLUSTER * len(x))
    if len(x) < 2 * end:
        return None
    for name, rows, column in zip(names, np.sort(x, axis=0).T, samples.T, strict=True):
        gap = end - 1 + int(np.diff(rows[end - 1 : len(x) - end + 1]).argmax())
        low, high = float(rows[gap]), float(rows[gap + 1])
        found.append(Between(name, low, high, float(((column > low) & (column < high)).mean())))
    worst = max(found, key=lambda between: between.share)
    # A gap at random between two of n rows has a share of the order of 1 / n.
    return worst if worst.share > max(_SHARE_BETWEEN, _GAPS_BETWEEN / len(x)) else None


def classifier(
    x: Array,
    samples: Array,
    context: Array | None,
    weights: Doubles | None,
    rng: np.random.Generator,
    categories: Sequence[bool] | None = None,
) -> Mean | None:
    """Return how often a classifier is right about rows and samples that it was not fitted to.

    `categories` says which columns hold codes of categories. None without scikit-learn, or for too few rows.
    """
    if len(x) < LEAST_CLASSIFIED:
        return None
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        return None
    known = [] if context is None else [context]
    tables: list[Doubles] = [np.column_stack([table, *known]) for table in (x, samples)]
    w = np.ones(len(x)) if weights is None else weights
    # A row and the sample under its condition are in one fold: the one would tell what the other is not.
    folds = np.arange(len(x)) % _FOLDS
    right = 0.0
    for fold in range(_FOLDS):
        train, test = (
            (np.concatenate([table[rows] for table in tables]), np.repeat([0, 1], rows.sum()), np.tile(w[rows], 2))
            for rows in (folds != fold, folds == fold)
        )
        trees = HistGradientBoostingClassifier(random_state=int(rng.integers(1 << 31)), categorical_features=categories)
        trees.fit(train[0], train[1], sample_weight=train[2])
        right += float(test[2] @ (trees.predict(test[0]) == test[1]))
    accuracy = right / (2 * w.sum())
    return Mean(accuracy, math.sqrt(accuracy * (1 - accuracy) / (2 * effective_number(w))))
