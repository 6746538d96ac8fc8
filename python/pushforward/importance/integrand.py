"""A function to integrate, and the density that its integration starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pushforward._model.supports import Support
from pushforward._target import Target
from pushforward._typing import Array, Doubles, Seed


class Integrand(Target):
    """A function of rows to integrate: called, counted, and its values checked, which may have any sign.

    Attributes
    ----------
    width : int or None
        How many values a row has; None for one that comes as an (n,) array, and before any call.
    """

    width: int | None = None
    _was_called = False

    def _checked(self, answer: object, n: int) -> tuple[Doubles, None]:
        if not self._was_called:
            shape = np.shape(answer) if isinstance(answer, np.ndarray) else ()
            self.width = shape[1] if len(shape) == 2 and shape[0] == n and shape[1] else None
            self._was_called = True
        values = self._floats(answer, (n,) if self.width is None else (n, self.width), "values")
        bad = ~np.isfinite(values if self.width is None else values.sum(axis=1))
        if bad.any():
            raise ValueError(
                f"{self._name} returned {values[bad][0]} at row {int(bad.argmax())} of {n} (such rows: "
                f"{int(bad.sum())}); an integrand must be finite"
            )
        return values, None


class Broad:
    """A product density that covers a support: where an integration starts, and what is mixed into every proposal.

    It is uniform on bounded features, a Student's t of 2 degrees of freedom on real ones, and log-logistic on positive
    ones. Few integrable functions have heavier tails than those.

    Parameters
    ----------
    support : sequence of Support
        That of each feature.
    """

    def __init__(self, support: Sequence[Support]) -> None:
        self._ends = [entry.ends for entry in support]
        self.dim = len(self._ends)

    def sample_and_log_prob(self, n: int, seed: Seed = None) -> tuple[Doubles, Doubles]:
        """Return draws, (n, dim), and their log density, (n,)."""
        rng = np.random.default_rng(seed)
        columns = []
        for low, high in self._ends:
            if math.isinf(low):
                columns.append(rng.standard_t(2, n))
            elif math.isinf(high):
                columns.append(low + np.exp(rng.logistic(size=n)))
            else:
                columns.append(rng.uniform(low, high, n))
        x = np.stack(columns, axis=1)
        return x, self.log_prob(x)

    def log_prob(self, x: Array) -> Doubles:
        """Return the log density of rows, (n,)."""
        total = np.zeros(len(x))
        for (low, high), column in zip(self._ends, x.T, strict=True):
            if math.isinf(low):
                total -= 1.5 * np.log(2 + column**2)  # Student's t: (2 + x^2)^(-3/2)
            elif math.isinf(high):
                total -= 2 * np.log1p(column - low)  # log-logistic: (1 + x)^-2
            else:
                total -= math.log(high - low)
        return total


def supports_of(support: Any) -> tuple[Support, ...]:
    """Return the support of each feature, from one, a sequence, or the (dim, 2) bounds of a box."""
    from pushforward._model.supports import Interval, resolve

    if isinstance(support, Support):
        return (support,)
    if isinstance(support, Sequence) and support and all(isinstance(entry, Support) for entry in support):
        return resolve(support, len(support))
    try:
        bounds = np.asarray(support, np.float64)
    except (TypeError, ValueError):
        bounds = np.empty(0)
    if bounds.ndim != 2 or bounds.shape[1] != 2 or not len(bounds):
        raise TypeError(
            "support must be Real(), Positive(), Interval() or Circle(), a sequence of one per feature, or an array of "
            f"bounds of shape (dim, 2), not {support!r}"
        )
    return tuple(Interval(float(low), float(high)) for low, high in bounds)
