"""Mixtures of Gaussians by expectation-maximisation: against scikit-learn, and against its formulas in NumPy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from pushforward._dispatch import core

mixture = pytest.importorskip("sklearn.mixture")

Moments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weights (k,), means (k, d) and covariances (k, d, d)."""

SETTINGS: dict[str, Any] = {
    "weights": None, "components": 3, "covariance": "full", "ridge": 1e-6, "max_iterations": 100, "tolerance": 1e-5,
    "restarts": 1, "seed": 0, "threads": 1,
}  # fmt: skip
LEAST_SHARE = 0.1


def rows(n: int = 700, dim: int = 3, seed: int = 0) -> np.ndarray:
    """Rows of three Gaussians of other sizes and shapes, which overlap a little."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    centers, factors = 3 * rng.normal(size=(3, dim)), rng.normal(size=(3, dim, dim)) * [[[0.4]], [[0.8]], [[1.2]]]
    return centers[label] + np.einsum("nij,nj->ni", factors[label], rng.normal(size=(n, dim)))


def fit(z: np.ndarray, **settings: Any) -> tuple[Moments, float]:
    """Fit a mixture; return it, and the mean log density of the rows."""
    weights, means, log_diagonals, shears, density = core.expectation_maximization(z, **SETTINGS | settings)
    dim = z.shape[1]
    covariances = []
    for k in range(len(weights)):
        factor = np.eye(dim)
        if shears.shape[1]:
            factor[np.tril_indices(dim, -1)] = shears[k]
        inverse = np.linalg.inv(np.exp(log_diagonals[k])[:, None] * factor)
        covariances.append(inverse @ inverse.T)
    return (weights, means, np.array(covariances)), density


def peer(moments: Moments, covariance: str = "full", **settings: Any) -> Any:
    """A mixture of scikit-learn's with these moments, also as its start."""
    weights, means, covariances = moments
    precisions = np.linalg.inv(covariances)
    if covariance == "diagonal":
        precisions = np.diagonal(precisions, axis1=1, axis2=2)
    found = mixture.GaussianMixture(
        len(weights), covariance_type="diag" if covariance == "diagonal" else "full", weights_init=weights,
        means_init=means, precisions_init=precisions, **settings,
    )  # fmt: skip
    found.weights_, found.means_ = weights, means
    found.precisions_cholesky_ = (
        np.sqrt(precisions) if covariance == "diagonal" else np.linalg.cholesky(precisions).transpose(0, 1, 2)
    )
    return found


@functools.cache
def share_of_identity(key: tuple[Any, ...]) -> float:
    """The share of the identity in the covariance of all rows, from the fit of one Gaussian."""
    z, w = rows(*key[:3]), None if key[3] is None else np.array(key[3])
    (_, _, (fitted,)), _ = fit(z, components=1, weights=w)
    plain = np.cov(z.T, aweights=w, ddof=0)
    return float(1 - fitted[0, 1] / plain[0, 1])


def maximization(z: np.ndarray, w: np.ndarray, r: np.ndarray, share: float, covariance: str) -> Moments:
    """The update of docs/derivations.md from rows, their weights, and the responsibilities (n, k)."""
    dim = z.shape[1]
    effective = w.sum() ** 2 / (w**2).sum()
    r = r * (w * effective / w.sum())[:, None]
    counts = r.sum(axis=0)
    means = r.T @ z / counts[:, None]
    scatters = np.array([((z - m) * r[:, [k]]).T @ (z - m) for k, m in enumerate(means)])
    if covariance == "diagonal":
        scatters *= np.eye(dim)
    within = scatters.sum(axis=0) / effective
    size = np.trace(within)
    if covariance == "full":
        within = (1 - share) * within + share * size / dim * np.eye(dim)
    ratios = np.trace(scatters, axis1=1, axis2=2) / counts / size
    prior = dim + 1
    covariances = (scatters + prior * ratios[:, None, None] * within) / (counts + prior)[:, None, None]
    shares = (counts + LEAST_SHARE) / (effective + LEAST_SHARE * len(counts))
    return shares, means, covariances + SETTINGS["ridge"] * np.eye(dim)


WEIGHTS = [None, "some"]


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("dim", [2, 3, 9])
def test_a_step_is_scikit_learns_with_a_prior(covariance: str, weighted: str | None, dim: int) -> None:
    """Responsibilities and densities are scikit-learn's at the same parameters, updates those of the derivation."""
    z = rows(700, dim)
    w = None if weighted is None else np.random.default_rng(1).integers(0, 4, len(z)).astype(np.float64)
    share = share_of_identity((700, dim, 0, None if w is None else tuple(w))) if covariance == "full" else 0.0
    ones = np.ones(len(z)) if w is None else w
    settings: dict[str, Any] = {"weights": w, "covariance": covariance, "tolerance": -1.0}
    for step in (0, 1, 2, 7):
        moments, density = fit(z, max_iterations=step, **settings)
        theirs = peer(moments, covariance)
        assert density == pytest.approx(np.average(theirs.score_samples(z), weights=ones), rel=1e-10)
        expected = maximization(z, ones, theirs.predict_proba(z), share, covariance)
        found, _ = fit(z, max_iterations=step + 1, **settings)
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_from_the_same_start_it_ends_where_scikit_learn_does(covariance: str) -> None:
    """Of many rows, among which the prior's few count for little."""
    z = rows(20_000, 3)
    start, _ = fit(z, max_iterations=0, covariance=covariance)
    mine, density = fit(z, max_iterations=2000, tolerance=0.0, covariance=covariance)
    theirs = peer(start, covariance, reg_covar=1e-6, tol=1e-12, max_iter=2000).fit(z)
    assert density == pytest.approx(theirs.score(z), abs=1e-3)
    assert density <= theirs.score(z) + 1e-9  # it has the most likely parameters there
    np.testing.assert_allclose(mine[0], theirs.weights_, atol=2e-3)
    np.testing.assert_allclose(mine[1], theirs.means_, atol=0.02)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("components", [2, 3, 5])
def test_the_log_likelihood_rises_at_each_step(covariance: str, components: int) -> None:
    """The prior counts four rows of 20,000 for each component; what it takes shows in the fourth digit at most."""
    z = rows(20_000, 3)
    settings: dict[str, Any] = {"covariance": covariance, "components": components, "tolerance": -1.0}
    densities = [fit(z, max_iterations=step, **settings)[1] for step in range(25)]
    steps = np.diff(densities)
    assert steps.min() > -1e-6
    assert densities[-1] > densities[0] + 1e-3


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 700, 5000])
def test_any_number_of_threads_gives_the_same_bits(covariance: str, n: int) -> None:
    z = rows(n, 5)
    w = np.random.default_rng(1).uniform(0.1, 2, n)
    settings: dict[str, Any] = SETTINGS | {
        "weights": w,
        "covariance": covariance,
        "components": min(n, 4),
        "restarts": 2,
    }
    expected = core.expectation_maximization(z, **settings)
    for threads in (2, 3, 8):
        found = core.expectation_maximization(z, **settings | {"threads": threads})
        for one, other in zip(found[:4], expected[:4], strict=True):
            assert one.tobytes() == other.tobytes()
        assert found[4] == expected[4]


def test_the_scale_of_weights_does_not_matter() -> None:
    z, w = rows(), np.random.default_rng(1).uniform(0.1, 2, 700)
    expected = core.expectation_maximization(z, **SETTINGS | {"weights": w})
    for scale in (2.0, 0.125):
        found = core.expectation_maximization(z, **SETTINGS | {"weights": scale * w})
        assert [part.tobytes() for part in found[:4]] == [part.tobytes() for part in expected[:4]]
    same = core.expectation_maximization(z, **SETTINGS | {"weights": np.full(700, 4.0)})
    plain = core.expectation_maximization(z, **SETTINGS)
    assert [part.tobytes() for part in same[:4]] == [part.tobytes() for part in plain[:4]]


def test_rows_of_weight_0_are_not_there() -> None:
    """Wherever they are, and whatever they hold."""
    z, rng = rows(), np.random.default_rng(1)
    at = np.sort(rng.choice(1000, 700, replace=False))
    more, w = 1e3 * rng.normal(size=(1000, 3)), np.zeros(1000)
    more[at], w[at] = z, 1.0
    (weights, means, covariances), density = fit(more, weights=w, max_iterations=3, tolerance=-1.0)
    expected, expected_density = fit(z, max_iterations=3, tolerance=-1.0)
    np.testing.assert_allclose(weights, expected[0], rtol=1e-9)
    np.testing.assert_allclose(means, expected[1], rtol=1e-9)
    np.testing.assert_allclose(covariances, expected[2], rtol=1e-8, atol=1e-10)
    assert density == pytest.approx(expected_density, rel=1e-10)


def test_a_far_row_that_counts_for_little_does_not_make_every_covariance_round() -> None:
    """The share of the identity is chosen by rows that are left out, each with the share of the weights that it has."""
    z = rows()
    w = np.append(np.ones(len(z)), 1e-12)
    (_, _, (expected,)), _ = fit(z, components=1)
    (_, _, (found,)), _ = fit(np.append(z, [[1e3, -1e3, 1e3]], axis=0), components=1, weights=w)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_weighted_rows_count_as_repeated_ones(covariance: str) -> None:
    """Up to the prior, which counts against the effective number of rows: that of copies is their number."""
    z, w = rows(6000), np.random.default_rng(1).integers(1, 4, 6000)
    settings: dict[str, Any] = {"covariance": covariance, "max_iterations": 3000, "tolerance": 0.0, "restarts": 4}
    weighted, density = fit(z, weights=w.astype(np.float64), **settings)
    repeated, expected = fit(np.repeat(z, w, axis=0), **settings)
    order, other = np.argsort(weighted[0]), np.argsort(repeated[0])
    assert density == pytest.approx(expected, abs=2e-4)
    np.testing.assert_allclose(weighted[0][order], repeated[0][other], atol=2e-3)
    np.testing.assert_allclose(weighted[1][order], repeated[1][other], atol=0.02)
    np.testing.assert_allclose(weighted[2][order], repeated[2][other], rtol=0.05, atol=0.02)


def test_of_one_component_it_is_the_gaussian_of_the_rows() -> None:
    z, w = rows(), np.random.default_rng(1).uniform(0.1, 2, 700)
    (weights, means, covariances), _ = fit(z, components=1, covariance="diagonal", weights=w)
    assert weights == 1
    np.testing.assert_allclose(means[0], np.average(z, axis=0, weights=w), rtol=1e-12)
    np.testing.assert_allclose(np.diag(covariances[0]), np.average((z - means[0]) ** 2, axis=0, weights=w) + 1e-6)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_more_components_than_rows_or_rows_that_are_all_the_same_give_a_density(covariance: str) -> None:
    for z in (rows(4), np.ones((30, 3)), np.repeat(rows(2), 20, axis=0), 1e8 + rows(50), 1e-8 * rows(50)):
        (weights, means, covariances), density = fit(z, components=6, covariance=covariance)
        assert weights.sum() == pytest.approx(1)
        assert (weights > 0).all()
        assert np.isfinite(means).all()
        assert np.isfinite(density)
        assert (np.linalg.eigvalsh(covariances) > 0).all()
