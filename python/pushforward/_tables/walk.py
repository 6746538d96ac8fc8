"""Chains of completions of rows of a table: of the latent points of unknown numbers, and of unknown codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pushforward._questions import chains
from pushforward._questions.proposals import Adapted
from pushforward._tables.model import Coded
from pushforward._typing import Doubles

_CHAINS = 32
_HALVES = (slice(0, _CHAINS // 2), slice(_CHAINS // 2, None))
_BLOCK = 50  # steps between two looks at R-hat
_JUMPS = 0.1  # of the steps go by the whole difference, from mode to mode
_INDEPENDENT = 4  # every so many steps, to a new draw


@dataclass(frozen=True)
class Proposed:
    """Completions, the latent points of their unknown numbers, and their log weights."""

    codes: Doubles
    values: Doubles
    z: Doubles
    log_weights: Doubles


class Completer(Protocol):
    """What a walk asks of what completes rows; see `completion.Completer`."""

    free: list[int]
    line: list[int]

    def other_code(self, column: int, shape: tuple[int, ...], rng: np.random.Generator) -> Doubles: ...

    def latents(self, count: int, rng: np.random.Generator) -> Doubles: ...

    def adapted(self, z: Doubles, log_weights: Doubles) -> Adapted | None: ...

    def proposed(self, known: Coded, count: int, adapted: Adapted | None, rng: np.random.Generator) -> Proposed: ...

    def scored(
        self, known: Coded, codes: Doubles, z: Doubles, adapted: Adapted | None, rng: np.random.Generator
    ) -> tuple[Doubles, Doubles, Doubles]: ...


class Walk:
    """A population of chains for each of some rows.

    Each step moves the latent points of either half of the chains by differences of the other half (ter Braak 2006;
    Foreman-Mackey et al. 2013), and one unknown code of each chain. Every fourth step proposes whole completions.

    Parameters
    ----------
    completer : Completer
        Completes the rows.
    known : Coded
        What is known of them.
    codes, z : (n, count, columns) and (n, count, numbers) array
        Completions to start from, all of the same weight.
    rng : numpy.random.Generator
        Where random numbers come from.
    """

    def __init__(
        self, completer: Completer, known: Coded, codes: Doubles, z: Doubles, rng: np.random.Generator
    ) -> None:
        self._completer, self._known, self._rng = completer, known, rng
        self._adapted = completer.adapted(z, np.zeros(z.shape[:2]))
        chosen = rng.integers(codes.shape[1], size=(len(codes), _CHAINS))[:, :, None]
        self._codes, self._z = (np.take_along_axis(part, chosen, axis=1) for part in (codes, z))
        self._values, self._joint, self._weight = self._scored(self._codes, self._z)

    def run(self, count: int, steps: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Walk until all chains agree, or as many steps.

        Returns
        -------
        array, array, array, array
            Codes and values of `count` draws of the second half (n, count, columns), the effective number of draws, and
            R-hat; both are those of the worst of all latent points and the log density.
        """
        n = len(self._codes)
        kept: list[tuple[Doubles, Doubles, Doubles]] = []
        r_hat, effective = np.full(n, np.inf), np.zeros(n)
        while len(kept) < steps:
            for _ in range(min(_BLOCK, steps - len(kept))):
                self._step(len(kept))
                trace = np.concatenate([self._z, self._joint[:, :, None]], axis=2)
                kept.append((self._codes.copy(), self._values.copy(), trace))
            late = kept[len(kept) // 2 :]
            r_hat, effective = chains.convergence(np.stack([trace for _, _, trace in late], axis=2))
            if (r_hat <= chains.GOOD_R_HAT).all():
                break
        late = kept[len(kept) // 2 :]
        step = self._rng.integers(len(late), size=(n, count))
        chain, row = self._rng.integers(_CHAINS, size=(n, count)), np.arange(n)[:, None]
        codes = np.stack([part for part, _, _ in late])[step, row, chain]
        values = np.stack([part for _, part, _ in late])[step, row, chain]
        return codes, values, np.minimum(effective, count), r_hat

    def _step(self, number: int) -> None:
        every, completer, rng = slice(None), self._completer, self._rng
        for movers, others in (_HALVES, _HALVES[::-1]) if self._z.shape[2] else ():
            self._try(movers, self._codes[:, movers], self._moved(movers, others))
        if completer.free:
            codes, column = self._codes.copy(), int(rng.choice(completer.free))
            codes[:, :, column] = completer.other_code(column, codes.shape[:2], rng)
            self._try(every, codes, self._z)
        if number % _INDEPENDENT == _INDEPENDENT - 1:
            new = completer.proposed(self._known, _CHAINS, self._adapted, rng)
            self._try(every, new.codes, new.z, is_fresh=True)

    def _scored(self, codes: Doubles, z: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        return self._completer.scored(self._known, codes, z, self._adapted, self._rng)

    def _try(self, movers: slice, codes: Doubles, z: Doubles, *, is_fresh: bool = False) -> None:
        """Move some chains, each with the probability of Metropolis and Hastings."""
        values, joint, weight = self._scored(codes, z)
        # What was drawn from the proposal is accepted by its weight; other moves are as probable back.
        with np.errstate(invalid="ignore"):  # from one impossible state to another: NaN, which is not accepted
            ratio = weight - self._weight[:, movers] if is_fresh else joint - self._joint[:, movers]
        accepted = np.log(self._rng.uniform(size=ratio.shape)) < ratio
        for old, new in ((self._codes, codes), (self._z, z), (self._values, values)):
            old[:, movers] = np.where(accepted[:, :, None], new, old[:, movers])
        for old, new in ((self._joint, joint), (self._weight, weight)):
            old[:, movers] = np.where(accepted, new, old[:, movers])

    def _moved(self, movers: slice, others: slice) -> Doubles:
        """Return latent points of one half, moved by differences of the other; on a circle, new ones."""
        n, half, rng, line = len(self._z), _CHAINS // 2, self._rng, self._completer.line
        new = self._completer.latents(n * half, rng).reshape(n, half, -1)
        pool = self._z[:, others]
        first = rng.permuted(np.tile(np.arange(half), (n, 1)), axis=1)
        second = (first + rng.integers(1, half, size=(n, 1))) % half
        take = np.take_along_axis
        step = take(pool, first[:, :, None], axis=1) - take(pool, second[:, :, None], axis=1)
        scale = 1.0 if rng.uniform() < _JUMPS else 2.38 / math.sqrt(2 * max(1, len(line)))
        moved = self._z[:, movers] + scale * step + 1e-6 * rng.normal(size=step.shape)
        new[:, :, line] = moved[:, :, line]
        return new
