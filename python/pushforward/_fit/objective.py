"""What a fit minimises: the loss of a step, and the score by which epochs are compared."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np

from pushforward._fit.exact import ExactSums
from pushforward._fit.held_out import mean_weight
from pushforward._fit.slots import SlotSums
from pushforward._group import ALONE, Group
from pushforward._io.rows import Rows, Window
from pushforward._io.scan import fingerprint, pieces
from pushforward._model.parametric import Parametric
from pushforward._model.state import State
from pushforward._typing import Array, Floats

B = TypeVar("B")

_PROBED_ROWS = 1024


class Objective(ABC, Generic[B]):
    """What a fit minimises over the parameters of a model.

    An epoch is a walk over batches, of any type B. A fit that is resumed begins in the middle of an epoch, so the
    batches must follow from the generator's state alone.

    Attributes
    ----------
    steps : int
        Batches of an epoch.
    spare : int
        How many more there may be.
    is_scored : bool
        Whether epochs have a score by which the best one is chosen; else the last one is.
    group : Group
        The processes that do the work together.
    """

    steps: int
    spare: int = 0
    is_scored: bool
    group: Group = ALONE

    @abstractmethod
    def batches(self, rng: np.random.Generator) -> Iterator[B]:
        """Walk over the batches of one epoch."""

    @abstractmethod
    def size(self, batch: B) -> int:
        """Return how many rows a batch has: its part in the mean loss of an epoch."""

    @abstractmethod
    def loss_and_grad(self, batch: B, gradient: Floats, dropout: int) -> tuple[float, float]:
        """Write the gradient of a batch's loss; return the loss, and the gradient's norm.

        `dropout` decides which units are left out, if the flow has dropout.
        """

    @abstractmethod
    def score(self) -> float:
        """Return the score of the present parameters, the lower the better; NaN if epochs have none."""

    @abstractmethod
    def probe(self) -> float:
        """Return a loss of the present parameters that is not finite if they are of no use."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what a fit must have in common with the one that it resumes, in JSON's types."""

    # What follows is for objectives that change from epoch to epoch.

    def advance(self, done: float) -> None:
        """Go on to the next epoch, from the present parameters, when the share `done` of the fit is done.

        It comes after `score`, before the first epoch and at the end of each.
        """

    def estimates(self) -> dict[str, Any]:
        """Return fields of the epoch's record that this objective alone has."""
        return {}

    def carried(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what the next epoch depends on besides the parameters: values in JSON's types, and arrays."""
        return {}, {}

    def restore(self, numbers: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take up what `carried` returned; raise FileFormatError if it cannot be that."""


class MaximumLikelihood(Objective[Window]):
    """The mean negative log-likelihood of rows.

    Parameters
    ----------
    state : Parametric
        The model: a flow, or masses.
    rows : Rows
        The rows that were given to the fit.
    train, held : Rows, Rows or None
        Those to train on, and those by which epochs are scored.
    batch_size : int
        Rows of a batch, at most.
    """

    def __init__(self, state: Parametric, rows: Rows, train: Rows, held: Rows | None, batch_size: int) -> None:
        self._state, self._rows, self._train, self._held, self._batch_size = state, rows, train, held, batch_size
        self.group = rows.group
        self._shared: SlotSums | None = None
        if self.group.size > 1:
            assert isinstance(state, State)
            self._shared = SlotSums(state, self.group)
        self._mean_weight = mean_weight(train)
        # Without held-out rows these show whether an epoch left a density at all.
        self._probed = replace(train, blocks=train.blocks[: max(1, _PROBED_ROWS // train.block)])
        self.steps, self.spare = -(-len(train) // batch_size), train.window_count - 1
        self.is_scored = held is not None

    def batches(self, rng: np.random.Generator) -> Iterator[Window]:
        """Walk over the training rows once, shuffled."""
        return self._train.batches(self._batch_size, rng, None if self._shared is None else self._shared.part)

    def size(self, batch: Window) -> int:
        """Return the number of rows."""
        return len(batch)

    def loss_and_grad(self, batch: Window, gradient: Floats, dropout: int) -> tuple[float, float]:
        """Write the gradient of a batch's loss; return the loss, and the gradient's norm."""
        normalizer = len(batch) * self._mean_weight
        if self._shared is not None:
            return self._shared.loss_and_grad(batch, gradient, normalizer, dropout)
        loss, norm = self._state.core.loss_and_grad(
            batch.x,
            gradient,
            context=batch.context,
            weights=batch.weights,
            index=batch.index,
            normalizer=normalizer,
            dropout=dropout,
            threads=self._state.num_threads,
        )
        return loss, norm

    def score(self) -> float:
        """Return the mean negative log-likelihood of the held-out rows."""
        return math.nan if self._held is None else mean_loss(self._state, self._held)

    def probe(self) -> float:
        """Return the mean negative log-likelihood of some training rows."""
        return mean_loss(self._state, self._probed)

    def settings(self) -> dict[str, Any]:
        """Return what tells the tables from others, and the size of a batch."""
        return {**self._tables, "training_rows": len(self._train), "batch_size": self._batch_size}

    @functools.cached_property
    def _tables(self) -> dict[str, Any]:
        """Sizes and hashes of the tables: read once, since a fit writes many checkpoints."""
        return {
            "rows": fingerprint(self._rows),
            "validation": None if self._held is None else fingerprint(self._held),
        }


def mean_loss(state: Parametric, rows: Rows) -> float:
    """Return the mean negative log-likelihood of rows."""
    sums = ExactSums(2)
    for x, context, weights, index in pieces(rows):
        density = state.log_prob(x, context, index)
        w = np.ones(len(index)) if weights is None else weights[index]
        sums.add(np.stack([-w * density, w], axis=1))
    total, weight = sums.totals(rows.group)
    return float(total / weight) if weight else math.nan


def gain(state: Parametric, rows: Rows, before: Floats, after: Floats) -> tuple[float, float]:
    """Return how much higher the mean log density of rows is with other parameters, and its standard error.

    The flow is left with those of `after`.
    """
    sums = ExactSums(5)
    for x, context, weights, index in pieces(rows):
        densities = []
        for parameters in (before, after):
            state.parameters[...] = parameters
            densities.append(state.log_prob(x, context, index))
        difference = densities[1] - densities[0]
        w = np.ones(len(index)) if weights is None else weights[index]
        wd = w * difference
        sums.add(np.stack([w, w * w, wd, wd * w, wd * wd], axis=1))
    state.parameters[...] = after
    n = len(rows)
    total, squares, sum_of_gains, cross, sum_of_squares = sums.totals(rows.group)
    mean = sum_of_gains / total
    spread = max(0.0, sum_of_squares - 2 * mean * cross + mean**2 * squares)
    return float(mean), math.sqrt(spread * n / max(n - 1, 1)) / float(total)
