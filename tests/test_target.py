"""The user's function: what it may return, what is refused, how its calls are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pushforward._target import CallLimitError, Target

X = np.random.default_rng(0).normal(size=(100, 2))


def normal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return -0.5 * (x**2).sum(axis=1), -x


def with_answer(answer: Any, **options: Any) -> tuple[np.ndarray, np.ndarray | None]:
    return Target(lambda x: answer, 2, **options)(X)


def test_values_and_gradient() -> None:
    values, gradient = Target(normal, 2)(X)
    np.testing.assert_array_equal(values, normal(X)[0])
    np.testing.assert_array_equal(gradient, -X)
    values, gradient = Target(lambda x: normal(x)[0], 2)(X.astype(np.float32))
    assert values.dtype == np.float64
    assert gradient is None


def test_the_function_may_change_its_rows() -> None:
    def greedy(x: np.ndarray) -> np.ndarray:
        x *= 2
        return x[:, 0]

    before = X.copy()
    with ThreadPoolExecutor(2) as pool:
        for target in (Target(greedy, 2), Target(greedy, 2, pool=pool)):
            np.testing.assert_array_equal(target(X)[0], 2 * before[:, 0])
            np.testing.assert_array_equal(before, X)


def test_a_pool_gives_the_same() -> None:
    with ThreadPoolExecutor(3) as pool:
        target = Target(normal, 2, pool=pool)
        for n in (1, 63, 64, 65, 100):
            for mine, others in zip(target(X[:n]), normal(X[:n]), strict=True):
                np.testing.assert_array_equal(mine, others)
        assert target.calls == 293


def test_calls_are_counted_and_limited() -> None:
    seen = []
    target = Target(lambda x: (seen.append(len(x)), np.zeros(len(x)))[1], 2, max_calls=150)
    target(X)
    assert target.left(100) == 50
    with pytest.raises(CallLimitError):
        target(X)
    target(X[:50])
    assert target.left(1) == 0
    assert seen == [100, 50]
    assert target.calls == 150


def test_no_rows_are_no_call() -> None:
    values, gradient = Target(lambda x: pytest.fail("called"), 2)(X[:0])
    assert values.shape == (0,)
    assert gradient is None


def test_rows_without_mass() -> None:
    values, gradient = normal(X)
    values[3] = -np.inf
    gradient[3] = np.nan
    values, gradient = with_answer((values, gradient))
    assert np.isneginf(values[3])
    assert (gradient[3] == 0).all()


@pytest.mark.parametrize("broken", ["value", "gradient"])
def test_a_row_of_nan_has_no_mass_and_is_told_once(broken: str) -> None:
    values, gradient = normal(X)
    if broken == "value":
        values[[3, 5]] = np.nan
    else:
        gradient[[3, 5], 1] = np.inf
    target = Target(lambda x: (values, gradient), 2)
    with pytest.warns(RuntimeWarning, match=r"row 3 of 100 \(such rows: 2\)"):
        found, slope = target(X)
    assert np.isneginf(found[[3, 5]]).all()
    assert np.isfinite(np.delete(found, [3, 5])).all()
    assert np.isfinite(slope).all()
    target(X)  # pytest makes a second warning an error


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (np.zeros(99), ValueError, r"log_density returned values of shape \(99,\) for x of shape \(100, 2\)"),
        (np.zeros((100, 1)), ValueError, r"values of shape \(100, 1\)"),
        (0.0, ValueError, r"values of shape \(\)"),
        ((np.zeros(100), np.zeros((100, 3))), ValueError, r"a gradient of shape \(100, 3\).*expected \(100, 2\)"),
        (None, TypeError, "must return an array of real numbers, not NoneType"),
        (["one"] * 100, TypeError, "must return an array of real numbers, not list"),
        (np.where(np.arange(100) == 7, np.inf, 0), ValueError, r"\+inf at row 7 of 100"),
    ],
)
def test_refused_answers(answer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with_answer(answer)


def test_the_function_s_own_exception_goes_on() -> None:
    def fails(x: np.ndarray) -> np.ndarray:
        raise OSError("no model today")

    with pytest.raises(OSError, match="no model today"):
        Target(fails, 2)(X)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_calls": 0}, ValueError, "max_calls must be at least 1"),
        ({"pool": 4}, TypeError, r"pool must have a method map"),
    ],
)
def test_refused_options(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Target(normal, 2, **options)


def test_a_target_must_be_a_function() -> None:
    with pytest.raises(TypeError, match=r"prior must be a function of \(n, 2\) rows"):
        Target(3, 2, name="prior")  # type: ignore[arg-type]
