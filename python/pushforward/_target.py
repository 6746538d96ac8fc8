"""A density that comes as a function of the user's: called, counted, and its answers checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from pushforward import _checks
from pushforward._group import ALONE, Group
from pushforward._typing import Array, Doubles
from pushforward._warn import warn

_PIECES = 64
"""A pool gets a call's rows in so many pieces, at most: enough for its workers to end together."""


class Pool(Protocol):
    """What runs a function over pieces: an executor of `concurrent.futures`, a pool of `multiprocessing`, and so on."""

    def map(self, function: Callable[[Any], Any], pieces: Iterable[Any], /) -> Iterable[Any]:
        """Return the results for the pieces, in their order."""


class CallLimitError(Exception):
    """The next rows are more than the limit allows; none of them was evaluated."""


class Target:
    """An unnormalised log density as a function of rows.

    Parameters
    ----------
    log_density : callable
        Takes an (n, dim) array of float64, its own to change, and returns (n,) values in nats, or a tuple of the values
        and their (n, dim) gradient. A value of -inf is a row without mass.
    dim : int
        Features of a row.
    shape : tuple of int, optional
        That in which the function takes a row, and returns its gradient; by default (dim,).
    name : str
        What messages call the function.
    max_calls : int, optional
        How many rows may be evaluated, in all; by default any.
    pool : Pool, optional
        Where the function is called; by default here.
    group : Group
        Processes that all make the same calls, and evaluate a part of the rows each.

    Attributes
    ----------
    calls : int
        Rows evaluated so far.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of its range.
    """

    def __init__(
        self,
        log_density: Callable[[Doubles], Any],
        dim: int,
        *,
        shape: tuple[int, ...] | None = None,
        name: str = "log_density",
        max_calls: int | None = None,
        pool: Pool | None = None,
        group: Group = ALONE,
    ) -> None:
        if not callable(log_density):
            expected = ", ".join(map(str, shape or (dim,)))
            raise TypeError(f"{name} must be a function of (n, {expected}) rows, not {log_density!r}")
        if pool is not None and not callable(getattr(pool, "map", None)):
            raise TypeError(f"pool must have a method map(function, pieces), which {pool!r} has not")
        self._function, self._pool, self._name = log_density, pool, name
        self.dim, self.calls, self.group = dim, 0, group
        self._row = shape or (dim,)
        self.max_calls = None if max_calls is None else _checks.integer("max_calls", max_calls, 1)
        self._has_warned = False

    def left(self, wanted: int) -> int:
        """Return how many rows may be evaluated: `wanted`, or fewer if the limit is near."""
        return wanted if self.max_calls is None else min(wanted, self.max_calls - self.calls)

    def __call__(self, x: Array) -> tuple[Doubles, Doubles | None]:
        """Evaluate rows.

        A value that is NaN, or whose gradient is not finite, becomes -inf, and the first time there is a warning: such
        a row has no weight in whatever is estimated.

        Parameters
        ----------
        x : (n, dim) array
            The rows.

        Returns
        -------
        (n,) array of float64, (n, dim) array of float64 or None
            The values, and their gradient if the function gives it. It is 0 where the value is -inf.

        Raises
        ------
        CallLimitError
            If these rows are more than the limit allows.
        TypeError, ValueError
            If the function returned another shape or type, or +inf; what it raises goes on to the caller.
        """
        if self.left(len(x)) < len(x):
            raise CallLimitError
        self.calls += len(x)
        if not len(x):
            return np.empty(0), None
        if self.group.size == 1:
            return self._evaluated(x)
        values, gradient = np.empty(0), None
        with self.group.agree():
            own = np.array_split(x, self.group.size)[self.group.rank]
            if len(own):
                values, gradient = self._evaluated(own)
        found = self.group.collected(None if not len(own) else gradient is not None)
        if {True, False} <= set(found):
            raise ValueError(f"{self._name} returned a gradient in some processes and none in others")
        values = self.group.joined(values)
        if True not in found:
            return values, None
        return values, self.group.joined(np.empty((0, self.dim)) if gradient is None else gradient)

    def _evaluated(self, x: Array) -> tuple[Doubles, Doubles | None]:
        given = np.array(x, np.float64).reshape((len(x), *self._row))
        if self._pool is None:
            return self._checked(self._function(given), len(x))
        pieces = np.array_split(given, min(_PIECES, len(x)))
        answers = zip(self._pool.map(self._function, pieces), pieces, strict=True)
        found = [self._checked(answer, len(piece)) for answer, piece in answers]
        gradients = [gradient for _, gradient in found if gradient is not None]
        if 0 < len(gradients) < len(found):
            raise ValueError(f"{self._name} returned a gradient for some rows of a call and none for others")
        return np.concatenate([values for values, _ in found]), np.concatenate(gradients) if gradients else None

    def _checked(self, answer: object, n: int) -> tuple[Doubles, Doubles | None]:
        values, gradient = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        values = self._floats(values, (n,), "values")
        if np.isposinf(values).any():
            raise ValueError(
                f"{self._name} returned +inf at row {int(np.argmax(np.isposinf(values)))} of {n}; a log density is "
                "finite, or -inf where there is no mass"
            )
        useless = np.isnan(values)
        if gradient is not None:
            gradient = self._floats(gradient, (n, *self._row), "a gradient").reshape(n, self.dim)
            useless |= np.isfinite(values) & ~np.isfinite(gradient).all(axis=1)
        if useless.any():
            self._warn_of(useless, values)
            values[useless] = -np.inf
        if gradient is not None:
            gradient[np.isneginf(values)] = 0
        return values, gradient

    def _floats(self, answer: object, shape: tuple[int, ...], what: str) -> Doubles:
        """Return a copy of one array of an answer."""
        kind = type(answer).__name__
        try:
            if answer is None:  # which NumPy takes for NaN
                raise TypeError
            array = np.array(answer, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{self._name} must return an array of real numbers, not {kind}") from None
        if array.shape != shape:
            raise ValueError(
                f"{self._name} returned {what} of shape {array.shape} for x of shape {(shape[0], *self._row)}; "
                f"expected {shape}"
            )
        return array

    def _warn_of(self, useless: Array, values: Array) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        first = int(np.argmax(useless))
        what = "NaN" if np.isnan(values[first]) else "a gradient that is not finite"
        warn(
            f"{self._name} returned {what} at row {first} of {len(values)} (such rows: {int(useless.sum())}); they "
            "count as rows without mass, there and from now on"
        )
