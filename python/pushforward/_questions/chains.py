"""Several unknown columns: importance sampling with proposals that adapt to each row, and chains where that fails.

Each row has weighted draws. Draws come from a mixture that knows the columns given, then from a density fitted to the
row's own draws. Rows whose weights stay uneven get chains, which move by Hamiltonian dynamics with the gradient of the
flow's density (Neal 2011), and every fourth step to a draw of the proposal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pushforward._questions.joint import Joint
from pushforward._questions.proposals import Adapted, Proposal
from pushforward._typing import Array, Doubles, Indices

GOOD_R_HAT = 1.05
"""Chains with a larger R-hat have not converged."""
# Rounds of adaption, and the share of effective draws that ends them.
_ROUNDS = 3
_GOOD_SHARE = 0.3
# Times as many draws for rows whose weights stay uneven, before chains.
_MORE = (8, 32)
# Effective draws below which a row gets chains.
_ENOUGH = 50
_CHAINS = 32
_BLOCK = 20  # steps between two looks at R-hat
_ACCEPTED = 0.8  # the share of steps that are accepted, at which sizes of steps aim
_MOST_LEAPS = 8
_INDEPENDENT = 4  # every so many steps, to a draw of the proposal
# Numbers in memory at a time.
_MOST = 4 << 20


@dataclass(frozen=True)
class Drawn:
    """Weighted draws of the unknown columns of each row.

    Parameters
    ----------
    points : (n, count, d) array
        The draws.
    log_weights : (n, count) array
        Their log weights.
    log_marginal, error : (n,) array
        The log density of what is known, and its standard error.
    effective : (n,) array
        Effective draws.
    r_hat : (n,) array
        R-hat of the chains, the largest of all columns; NaN for rows without chains.
    """

    points: Doubles
    log_weights: Doubles
    log_marginal: Doubles
    error: Doubles
    effective: Doubles
    r_hat: Doubles

    @property
    def weights(self) -> Doubles:
        """The weights, with the sum 1 in each row."""
        return normalized(self.log_weights)

    @property
    def has_converged(self) -> Array:
        """Whether each row's draws can be relied on."""
        return converged(self.effective, self.r_hat, self.points.shape[1])


def converged(effective: Doubles, r_hat: Doubles, count: int) -> Array:
    """Return which rows have enough effective draws of `count`, or chains that agree."""
    enough = min(_ENOUGH, 0.25 * count)
    result: Array = np.where(np.isnan(r_hat), effective >= enough, r_hat <= GOOD_R_HAT)
    return result


def normalized(log_weights: Doubles) -> Doubles:
    """Return weights (n, count) with the sum 1 in each row; equal ones where all are 0."""
    top = log_weights.max(axis=1, keepdims=True)
    sound = np.isfinite(top)
    weights: Doubles = np.exp(np.where(sound, log_weights - np.where(sound, top, 0.0), 0.0))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def evidence(log_weights: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return the log mean weight of each row, its standard error, and the effective number of draws."""
    count, top = log_weights.shape[1], log_weights.max(axis=1)
    sound = np.isfinite(top)
    weights = np.exp(np.where(sound[:, None], log_weights - np.where(sound, top, 0.0)[:, None], -np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = weights.mean(axis=1)
        error = weights.std(axis=1, ddof=1) / mean / math.sqrt(count)
        effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
        log_mean = np.log(mean) + np.where(sound, top, 0.0)
    return log_mean, np.where(sound, error, np.inf), np.where(sound, effective, 0.0)


def picked(log_weights: Doubles, count: int, rng: np.random.Generator) -> Indices:
    """Return the numbers of `count` draws of each row, each drawn by their weights alone, (n, count)."""
    ends = np.cumsum(normalized(log_weights), axis=1)
    places = rng.uniform(size=(len(ends), count)) * ends[:, -1:]
    return _found(ends, places)


def _found(ends: Doubles, places: Doubles) -> Indices:
    """Return where places are among the ends of each row."""
    chosen = np.zeros(places.shape, dtype=np.int64)
    for i, (end, place) in enumerate(zip(ends, places, strict=True)):
        chosen[i] = np.searchsorted(end, place, side="right")
    found: Indices = np.minimum(chosen, ends.shape[1] - 1)  # a place may be rounded to the last end
    return found


def resampled(log_weights: Doubles, count: int, rng: np.random.Generator) -> Indices:
    """Return the numbers of `count` draws of each row, drawn systematically by their weights, (n, count)."""
    ends = np.cumsum(normalized(log_weights), axis=1)
    places = (np.arange(count) + rng.uniform(size=(len(ends), 1))) / count * ends[:, -1:]
    # In random order, since neighbours may be the same draw.
    result: Indices = rng.permuted(_found(ends, places), axis=1)
    return result


def solve(joint: Joint, count: int, steps: int, rng: np.random.Generator) -> Drawn:
    """Draw the unknown columns of each row, `count` times, with at most `steps` steps of chains."""
    dim, n = len(joint.unknown), len(joint)
    rows = max(1, _MOST // (count * dim * 8))
    parts = [_solve(joint, np.arange(i, min(i + rows, n)), count, steps, rng) for i in range(0, n, rows)]
    if not parts:
        none = np.zeros(0)
        return Drawn(np.zeros((0, count, dim)), np.zeros((0, count)), none, none, none, none)
    names = ("points", "log_weights", "log_marginal", "error", "effective", "r_hat")
    return Drawn(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _solve(joint: Joint, at: Indices, count: int, steps: int, rng: np.random.Generator) -> Drawn:
    """Solve some rows."""
    dim = len(joint.unknown)
    y, x = np.zeros((len(at), count, dim)), np.zeros((len(at), count, dim))
    log_weights = np.full((len(at), count), -np.inf)
    effective = np.zeros(len(at))
    todo = np.arange(len(at))
    for trial in range(1 + _ROUNDS):
        first = joint.proposal(at[todo])
        proposal: Proposal = first
        if trial:
            proposal = Adapted(first, y[todo], normalized(log_weights[todo]))
        drawn = proposal.sample(count, rng)
        values, density = joint.on_line(at[todo], drawn)
        found = density - proposal.log_prob(drawn)
        size = evidence(found)[2]
        # Rows that lost by adapting keep what they had.
        better = size > effective[todo]
        rows = todo[better]
        y[rows], x[rows], log_weights[rows], effective[rows] = (
            drawn[better],
            values[better],
            found[better],
            size[better],
        )
        todo = np.flatnonzero(effective < _GOOD_SHARE * count)
        if not len(todo):
            break
    log_marginal, error, effective = evidence(log_weights)
    for times in _MORE:  # more draws cost less than chains
        todo = np.flatnonzero(~converged(effective, np.full(len(at), np.nan), count))
        for poor in np.array_split(todo, max(1, -(-len(todo) * times * count * dim // _MOST))) if len(todo) else ():
            proposal = Adapted(joint.proposal(at[poor]), y[poor], normalized(log_weights[poor]))
            drawn = proposal.sample(times * count, rng)
            values, density = joint.on_line(at[poor], drawn)
            found = density - proposal.log_prob(drawn)
            log_marginal[poor], error[poor], effective[poor] = evidence(found)
            chosen = resampled(found, count, rng)[:, :, None]
            y[poor], x[poor] = (np.take_along_axis(part, chosen, axis=1) for part in (drawn, values))
            log_weights[poor], effective[poor] = 0.0, np.minimum(effective[poor], count)
    r_hat = np.full(len(at), np.nan)
    poor = np.flatnonzero(~converged(effective, r_hat, count))
    block = max(1, _MOST // (_CHAINS * dim * max(steps, 1)))
    for start in range(0, len(poor) if steps else 0, block):
        rows = poor[start : start + block]
        before = joint.proposal(at[rows])
        fitted = Adapted(before, y[rows], normalized(log_weights[rows]))
        kept, r_hat[rows], effective[rows] = _chains(joint, at[rows], y[rows], log_weights[rows], fitted, steps, rng)
        # The chains' draws make the last proposal, for the density of what is known.
        equal = np.full(kept.shape[:2], 1 / kept.shape[1])
        proposal = Adapted(before, kept, equal)
        drawn = proposal.sample(count, rng)
        found = joint.on_line(at[rows], drawn)[1] - proposal.log_prob(drawn)
        ours, its_error, _ = evidence(found)
        better = its_error < error[rows]
        log_marginal[rows[better]], error[rows[better]] = ours[better], its_error[better]
        chosen = rng.integers(kept.shape[1], size=(len(rows), count))
        x[rows] = joint.family.from_line(np.take_along_axis(kept, chosen[:, :, None], axis=1), joint.unknown)[0]
        log_weights[rows] = 0.0
        effective[rows] = np.minimum(effective[rows], count)
    return Drawn(x, log_weights, log_marginal, error, effective, r_hat)


def _chains(
    joint: Joint,
    at: Indices,
    starts: Doubles,
    log_weights: Doubles,
    proposal: Adapted,
    steps: int,
    rng: np.random.Generator,
) -> tuple[Doubles, Doubles, Doubles]:
    """Run chains for some rows; return draws of the second half (n, k, d), R-hat, and effective draws."""
    n, _, dim = starts.shape
    ends = np.cumsum(normalized(log_weights), axis=1)
    chosen = (rng.uniform(size=(n, _CHAINS, 1)) * ends[:, None, -1:] > ends[:, None]).sum(axis=2)
    y = np.take_along_axis(starts, np.minimum(chosen, starts.shape[1] - 1)[:, :, None], axis=1)
    (density, gradient), own = joint.gradient(at, y), proposal.log_prob(y)
    log_step = np.full((n, 1, 1), math.log(dim**-0.25))  # (Neal 2011, section 4.4)
    kept: list[Doubles] = []
    r_hat, effective = np.full(n, np.inf), np.zeros(n)
    while len(kept) < steps:
        for _ in range(min(_BLOCK, steps - len(kept))):
            number = len(kept)
            if number % _INDEPENDENT == _INDEPENDENT - 1:
                moved = proposal.sample(_CHAINS, rng)
                new_density, new_gradient = joint.gradient(at, moved)
                ratio = new_density - density + own - proposal.log_prob(moved)
            else:
                size = np.exp(log_step) * rng.uniform(0.8, 1.2)
                moved, new_density, new_gradient, ratio = _leap(joint, at, (y, density, gradient), proposal, size, rng)
                # The first half of the steps, which are left out, finds the size of the others.
                share = np.exp(np.minimum(ratio, 0.0)).mean(axis=1)[:, None, None]
                log_step += (share - _ACCEPTED) / math.sqrt(1 + number) if number < steps // 2 else 0.0
            accepted = np.log(rng.uniform(size=ratio.shape)) < ratio
            y, gradient = (
                np.where(accepted[:, :, None], new, old) for new, old in ((moved, y), (new_gradient, gradient))
            )
            density, own = np.where(accepted, new_density, density), proposal.log_prob(y)
            kept.append(y)
        r_hat, effective = convergence(np.stack(kept[len(kept) // 2 :], axis=2))
        if (r_hat <= GOOD_R_HAT).all() and (effective >= _ENOUGH).all():
            break
    draws = np.stack(kept[len(kept) // 2 :], axis=1).reshape(n, -1, dim)
    return draws, r_hat, effective


def _leap(
    joint: Joint,
    at: Indices,
    state: tuple[Doubles, Doubles, Doubles],
    proposal: Adapted,
    size: Doubles,
    rng: np.random.Generator,
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Move chains by Hamiltonian dynamics, in coordinates in which the proposal is round (Neal 2011).

    Returns
    -------
    array, array, array, array
        The new points, their log density, its gradient, and the logarithm of the ratio that decides on acceptance.
    """
    y, density, gradient = state
    factors = proposal.factors
    momentum = rng.normal(size=y.shape)
    before = density - 0.5 * (momentum**2).sum(axis=2)
    leaps = int(rng.integers(3, _MOST_LEAPS + 1))
    momentum = momentum + 0.5 * size * (gradient @ factors)
    for leap in range(leaps):
        y = y + size * (momentum @ factors.transpose(0, 2, 1))
        density, gradient = joint.gradient(at, y)
        momentum = momentum + (0.5 if leap == leaps - 1 else 1.0) * size * (gradient @ factors)
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = density - 0.5 * (momentum**2).sum(axis=2) - before
    return y, density, gradient, np.where(np.isnan(ratio), -np.inf, ratio)


def convergence(chains: Doubles) -> tuple[Doubles, Doubles]:
    """Return split R-hat and the effective number of draws of rows' chains (n, chains, steps, d).

    Both are those of the worst column (Gelman et al. 2013, section 11.4). The effective number is the one that the
    variance between the means of the chains shows.
    """
    half = chains.shape[2] // 2
    split = np.concatenate([chains[:, :, :half], chains[:, :, -half:]], axis=1)
    count, length = split.shape[1], split.shape[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        within = split.var(axis=2, ddof=1).mean(axis=1)
        between = split.mean(axis=2).var(axis=1, ddof=1)
        total = within * (length - 1) / length + between
        r_hat = np.sqrt(total / within)
        effective = np.minimum(count * length, count * total / between)
    # A column that has one value in all chains has converged; chains that each stay where they are have not, and those
    # that hold a log density of -inf neither.
    stuck, constant = (within == 0) | np.isnan(within), total == 0
    r_hat = np.where(constant, 1.0, np.where(stuck, np.inf, r_hat))
    effective = np.where(constant, count * length, np.where(stuck, 0.0, effective))
    return r_hat.max(axis=1), effective.min(axis=1)
