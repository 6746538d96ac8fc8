"""What in a table has no density: it is named by a fit, before any work."""

import warnings
from typing import Any

import numpy as np
import pytest
from pushforward import LU, Flow
from pushforward._fit.oddities import oddities

NAMES = ("a", "b", "c")


def normal(n: int = 1000, dim: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def kinds(x: np.ndarray) -> list[str]:
    return [oddity.kind for oddity in oddities(x, NAMES[: x.shape[1]])]


@pytest.mark.parametrize("n", [3, 60, 1000, 50_000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=(n, 3)),
        lambda rng, n: rng.standard_t(2, size=(n, 3)),
        lambda rng, n: np.exp(3 * rng.normal(size=(n, 3))),
        lambda rng, n: rng.uniform(size=(n, 3)).astype(np.float32),
        lambda rng, n: np.round(rng.normal(size=(n, 3)), 5),  # far finer than any density
        lambda rng, n: np.cumsum(rng.normal(size=(n, 3)), axis=1) * [1, 1e-9, 1e9],
    ],
)
def test_a_density_is_not_odd(draw: Any, n: int) -> None:
    assert kinds(draw(np.random.default_rng(0), n)) == []


def test_few_values_are_named_all_at_once() -> None:
    x = np.random.default_rng(0).integers(0, 5, size=(300, 3)).astype(float)
    [found] = oddities(x, NAMES)
    assert found.text.startswith("There are few different values, which have no density, in 'a' (5 values), 'b' (5")


def test_an_atom_is_named_with_its_share() -> None:
    x = np.exp(normal())
    x[:600, 1] = 0
    [found] = oddities(x, NAMES)
    assert (
        found.text
        == "60.0% of the rows have the value 0 in 'b', where there is no density. Model these rows separately"
    )


def test_a_placeholder_is_named() -> None:
    x = normal()
    x[:15, 2] = 999_999
    [found] = oddities(x, NAMES)
    assert found.text.startswith(
        "1.5% of the rows have the value 999999 in 'c', far from all others. If it stands for a gap"
    )


@pytest.mark.parametrize("digits", [1, 2])
def test_rounded_columns_are_named_with_their_steps(digits: int) -> None:
    x = normal(5000)
    x[:, :2] = np.round(x[:, :2], digits)
    [found] = oddities(x, NAMES)
    step = f"(steps of {10.0**-digits:g})"
    assert found.text.startswith(f"There are rounded numbers, which have no density, in 'a' {step}, 'b' {step}. Add")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_relations_are_named_with_their_coefficients(dtype: str) -> None:
    x = normal(500)
    x[:, 2] = 2 * x[:, 0] - x[:, 1] + 30
    [found] = oddities(x.astype(dtype), NAMES)
    assert found.text.startswith("'c' is a linear function of other columns, 2 a + -1 b and a constant")
    x[:, 2] += 1e-3 * normal(500, 1)[:, 0]
    assert kinds(x.astype(dtype)) == []


def test_few_rows_of_many_columns_are_on_a_plane_by_chance() -> None:
    assert oddities(normal(55, 60), [f"x{i}" for i in range(60)]) == ()


def test_the_first_fit_warns_once() -> None:
    x = normal(300, 2)
    x[:, 1] = 2 * x[:, 0]
    flow = Flow(2, layers=[LU()], seed=0)
    with pytest.warns(RuntimeWarning, match=r"'x1' is a linear function of other columns, 2 x0 and") as found:
        flow.fit(x, epochs=1, seed=0)
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.fit(x, epochs=1, seed=0)


@pytest.mark.parametrize("values", [[-1, 0.001, 0, 0.002, 1], [0.3, -0.2, 0.1, 0.15]])
def test_few_rows_keep_their_scale(values: list[float]) -> None:
    x = np.array(values)[:, None]
    flow = Flow(1, layers=[], seed=0).initialize(x)
    assert flow.log_prob(x).mean() == pytest.approx(-0.5 - np.log(x.std() * np.sqrt(2 * np.pi)), abs=1e-4)


def test_an_outlier_of_many_rows_takes_no_scale() -> None:
    x = normal(100, 1)
    x[0] = 1e6
    assert Flow(1, layers=[]).initialize(x).log_prob(x[1:]).mean() > -3


def test_nearly_collinear_columns_are_fitted_as_well_as_others() -> None:
    z = normal(2000, 2)
    for left in (1e-3, 1e-4):  # correlations of 1 - 5e-7 and 1 - 5e-9
        x = np.stack([z[:, 0], z[:, 0] + left * z[:, 1]], axis=1)
        flow = Flow(2, seed=0, dtype="float64").fit(x[:1500], epochs=3, seed=0)
        truth = -np.log(2 * np.pi) - np.log(left) - 0.5 * (z[1500:] ** 2).sum(axis=1)
        assert (truth - flow.log_prob(x[1500:])).mean() < 0.03
