"""Where a density has its mass, roughly: location and scale of each feature, found from the function alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pushforward._fit.standardize import by_channel
from pushforward._fit.tempering import effective_rows, largest_power
from pushforward._model import description
from pushforward._model.bases import Normal
from pushforward._model.state import Standardization, State
from pushforward._target import Target
from pushforward._typing import Array, Doubles

_ROUNDS = 30
_FEWEST_ROWS = 256
_ROWS_PER_FEATURE = 16
_EFFECTIVE = 0.5
# A round changes the scale by no more than this factor, and ends the search with less than the other change of every
# scale, and of every location in units of its scale.
_MOST_FACTOR = 4.0
_SETTLED = 0.2
# A fit narrows a flow that begins too wide, and may never see what is outside of one that begins too narrow.
_WIDER = 2.0


@dataclass(frozen=True)
class Draws:
    """Rows at which the density was evaluated, and the Gaussian they came from.

    Parameters
    ----------
    x : (n, dim) array
        The rows.
    log_p : (n,) array
        Their values.
    proposal : pair of arrays
        Location and scale of the features behind their supports.
    """

    x: Array
    log_p: Doubles
    proposal: Standardization


def rows_of_round(dim: int) -> int:
    """Return how many rows a round evaluates."""
    return max(_FEWEST_ROWS, _ROWS_PER_FEATURE * dim)


def spread(
    state: State, evaluate: Callable[[Array], Doubles], target: Target, key: int
) -> tuple[Standardization, list[Draws]]:
    """Return location and scale of each feature behind its support, and all that was evaluated.

    Independent Gaussians are fitted by tempered importance sampling: the weights of a round, p / q, are raised to the
    largest power at which half of the rows are effective (Koblents, Miguez 2015), and the moments follow them. A
    density with separate modes in reach gets Gaussians that span them.

    Parameters
    ----------
    state : State
        The flow, as it would begin without this.
    evaluate : callable
        Returns log p of rows.
    target : Target
        The density; what is left of its limit bounds the rounds.
    key : int
        Fixes the draws.
    """
    gaussian = independent(state, state.standardization)
    on_line = np.array([domain == "line" for domain in gaussian.core.domains])
    found: list[Draws] = []
    n = rows_of_round(state.dim)
    for number in range(_ROUNDS):
        if target.left(4 * n) < 4 * n or not on_line.any():
            break
        x, log_q = gaussian.sample(key + number, n, with_log_prob=True)
        log_p = evaluate(x)
        found.append(Draws(x, log_p, gaussian.standardization))
        shift, scale = gaussian.standardization
        ratio = log_p - log_q
        power = largest_power(np.zeros(n), ratio, 0.0, _EFFECTIVE * n) if effective_rows(ratio) else 0.0
        if not power:  # fewer rows than that have mass at all: their moments are all there is
            ratio, power = np.where(np.isfinite(ratio), 0.0, -np.inf), 1.0
            if not np.isfinite(ratio).any():
                scale = scale * _MOST_FACTOR
                gaussian.set_standardization((shift, scale), gaussian.context_standardization)
                continue
        weights = np.exp(power * (ratio - ratio.max()))
        weights /= weights.sum()
        y = gaussian.to_line(x).astype(np.float64)
        center = weights @ y
        width = np.sqrt(weights @ (y - center) ** 2 / (1 - weights @ weights))
        width = np.clip(width, scale / _MOST_FACTOR, scale * _MOST_FACTOR)
        center, width = by_channel(state, center, width)
        center, width = np.where(on_line, center, shift), np.where(on_line, width, scale)
        change = np.maximum(np.abs(np.log(width / scale)), np.abs(center - shift) / scale).max()
        gaussian.set_standardization((center, width), gaussian.context_standardization)
        if change < _SETTLED * power:
            break
    shift, scale = gaussian.standardization
    return (shift, np.where(on_line, _WIDER * scale, scale)), found


def independent(state: State, standardization: Standardization) -> State:
    """Return independent Gaussians behind the supports of a flow, as a flow without layers."""
    base = state.base if "box" in state.core.domains else Normal()
    rng = np.random.default_rng(0)  # nothing is drawn
    result = State(description.describe(state.dim, 0, None, "float64", base, state.support, [], rng))
    result.set_standardization(standardization, result.context_standardization)
    result.threads = state.threads
    return result
