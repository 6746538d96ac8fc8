"""Rows of a table of which some cells are known, completed by the model: exactly by sums, or by weighted draws.

The model draws a row code by code, then number by number, each given those before it. With cells that are known left
as they are, a completed row has the product of the masses and densities of the known cells as its weight. If no known
number comes after an unknown one, only the codes need a sum, and few of them are summed exactly. Otherwise proposals
for the latent points of the unknown numbers adapt to each row, and rows whose weights stay uneven get chains of those
points and of the codes, as in `_questions.chains`.

All is under the density of complete rows, in which each cell is drawn given that it is there.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from pushforward._questions import chains
from pushforward._questions.proposals import Adapted
from pushforward._tables.coding import Coding
from pushforward._tables.model import Coded, TableModel
from pushforward._tables.walk import Proposed, Walk
from pushforward._typing import Array, Doubles, Indices

# Combinations of unknown codes that are summed, and rows with a combination that are in memory at a time.
_MOST_SUMMED = 1024
_ROWS = 1 << 16
_ROUNDS = 2  # of adapting proposals
# Times as many draws for rows whose weights stay uneven, before chains.
_MORE = (8, 32)


class Base:
    """The density of latent points, a standard normal for each of some rows: where proposals start."""

    def __init__(self, n: int, dim: int) -> None:
        self._shape = (n, dim)

    def sample(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw so many points for each row, (n, count, d)."""
        return np.asarray(rng.normal(size=(self._shape[0], count, self._shape[1])), dtype=np.float64)

    def log_prob(self, y: Doubles) -> Doubles:
        """Return the log density of points (n, count, d), (n, count)."""
        return self.log_density(y)

    @staticmethod
    def log_density(y: Doubles) -> Doubles:
        """Return the log density of points (n, count, d), (n, count)."""
        result: Doubles = -0.5 * (y**2).sum(axis=2) - 0.5 * y.shape[2] * math.log(2 * math.pi)
        return result


@dataclass(frozen=True)
class Completed:
    """Weighted completions of each row.

    Parameters
    ----------
    codes, values : (n, count, columns) array
        The codes and values of each completion.
    log_weights : (n, count) array
        Their log weights.
    log_marginal, error : (n,) array
        The log density of the known cells, and its standard error.
    effective, r_hat : (n,) array
        Effective completions, and R-hat of the chains, NaN for rows without.
    method : str
        How they were found.
    """

    codes: Doubles
    values: Doubles
    log_weights: Doubles
    log_marginal: Doubles
    error: Doubles
    effective: Doubles
    r_hat: Doubles
    method: str

    @property
    def weights(self) -> Doubles:
        """The weights, with the sum 1 in each row."""
        return chains.normalized(self.log_weights)

    @property
    def has_converged(self) -> Array:
        """Whether each row's completions can be relied on."""
        return chains.converged(self.effective, self.r_hat, self.codes.shape[1])


class Completer:
    """Completes rows that have the same cells unknown.

    Parameters
    ----------
    model : TableModel
        The model.
    unknown : (columns,) array of bool
        Which cells are unknown.
    """

    def __init__(self, model: TableModel, unknown: Array) -> None:
        self._model, self._unknown = model, unknown
        self._counts = np.array([coding.codes - coding.column.gaps for coding in model.codings], dtype=np.int64)
        # Unknown numbers, and unknown codes.
        self._numbers = [i for i in model.numbers if unknown[i]]
        self._coded = [i for i in model.coded if unknown[i]]
        self.free = [i for i in self._coded if self._counts[i] > 1]
        # Which latent points are on the line, and not on a circle.
        self.line = [i for i, number in enumerate(self._numbers) if not self._wraps(number)]

    @functools.cached_property
    def _everything(self) -> Completer:
        """The same with all cells known: it scores."""
        return Completer(self._model, np.zeros_like(self._unknown))

    # -- completions ---------------------------------------------------------------------------------------------

    def other_code(self, column: int, shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
        """Draw codes of a column evenly."""
        return rng.integers(self._counts[column], size=shape).astype(np.float64)

    def codes(self, known: Doubles, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
        """Draw the unknown codes of rows; return all codes, and the log mass of each (m, columns)."""
        model = self._model
        codes, masses = np.where(self._unknown, 0.0, known), np.zeros(known.shape)
        # A column of one code has no masses, and a known code that its column does not have is refused before.
        if model.masses is not None:
            shown = np.where(self._unknown, -1.0, known)[:, model.coded]
            key = int(rng.integers(2**64, dtype=np.uint64))
            counts = self._counts[model.coded].tolist()
            drawn, of_codes = model.masses.complete(key, np.ascontiguousarray(shown), counts=counts)
            codes[:, model.coded], masses[:, model.coded] = drawn, of_codes
        return codes, masses

    def latents(self, count: int, rng: np.random.Generator) -> Doubles:
        """Draw latent points of the unknown numbers, (count, numbers)."""
        z = rng.normal(size=(count, len(self._numbers)))
        for i, number in enumerate(self._numbers):
            if self._wraps(number):
                flow = self._model.flows[self._model.codings[number].name]
                z[:, i] = flow.sample_latent(count, seed=int(rng.integers(1 << 62)))[:, 0]
        return z

    def _wraps(self, number: int) -> bool:
        axis = self._model.codings[number].axis
        assert axis is not None
        return axis.support.wraps

    def numbers(self, codes: Doubles, known: Doubles, z: Doubles | None) -> tuple[Doubles, Doubles]:
        """Return the values of all numbers, and the log density of the known ones.

        Unknown numbers are made of latent points. Without these they are left out, which no number before them reads.
        """
        coded = Coded(codes, np.where(self._unknown, np.nan, known))
        log_density = np.zeros(len(codes))
        for number in self._model.numbers:
            at, coding = np.flatnonzero(self._model.has_value(coded, number)), self._model.codings[number]
            if not len(at) or (self._unknown[number] and z is None):
                continue
            some, flow = coded.part(at), self._model.flows[coding.name]
            context = self._model.context(some, number)
            assert coding.axis is not None
            if self._unknown[number] and z is not None:
                points = flow.forward(z[at, self._numbers.index(number), None], context)[0][:, 0]
                coded.values[at, number] = coding.axis.values(np.asarray(points, dtype=np.float64))
            else:
                log_density[at] += coding.axis.log_density(flow, some.values[:, number], context)
        return coded.values, np.where(np.isnan(log_density), -np.inf, log_density)

    # -- solutions -----------------------------------------------------------------------------------------------

    def solve(self, known: Coded, count: int, steps: int, rng: np.random.Generator) -> Completed:
        """Complete each row `count` times, with at most `steps` steps of chains."""
        last_known = max((i for i in self._model.numbers if not self._unknown[i]), default=-1)
        combinations = int(np.prod([float(self._counts[i]) for i in self._coded]))
        summed = combinations <= _MOST_SUMMED and all(number > last_known for number in self._numbers)
        rows = max(1, _ROWS // max(count, combinations if summed else 1))
        parts = [
            self._sum(known.part(slice(i, i + rows)), count, rng)
            if summed
            else self._draw(known.part(slice(i, i + rows)), count, steps, rng)
            for i in range(0, len(known), rows)
        ]
        names = ("codes", "values", "log_weights", "log_marginal", "error", "effective", "r_hat")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        for i, coding in enumerate(self._model.codings):
            if not len(coding.rare):
                continue
            # A rare level depends on nothing but its code.
            codes, values = arrays["codes"][:, :, i], arrays["values"][:, :, i]
            if self._unknown[i]:
                at = codes == coding.rest
                values[at] = rng.choice(len(coding.rare), int(at.sum()), p=coding.rare)
            else:
                values[...] = known.values[:, i, None]
                arrays["log_marginal"] += log_shares(coding, known.codes[:, i], known.values[:, i])
        return Completed(**arrays, method=max((part.method for part in parts), key=len))

    def _sum(self, known: Coded, count: int, rng: np.random.Generator) -> Completed:
        """Sum over all unknown codes; unknown numbers come last, and are drawn."""
        n = len(known)
        grids = np.meshgrid(*(np.arange(self._counts[i]) for i in self._coded), indexing="ij")
        table = np.stack([grid.ravel() for grid in grids], axis=1) if grids else np.zeros((1, 0))
        each = len(table)
        codes = np.repeat(np.where(self._unknown, 0.0, known.codes), each, axis=0)
        codes[:, self._coded] = np.tile(table, (n, 1))
        values = np.repeat(known.values, each, axis=0)
        masses = self._everything.codes(codes, rng)[1].sum(axis=1)
        # With the unknown numbers left out: they come after all that is known, and integrate to 1.
        is_left_out = np.zeros(self._unknown.shape, dtype=bool)
        is_left_out[self._numbers] = True
        density = Completer(self._model, is_left_out).numbers(codes, values, None)[1]
        joint = (masses + density).reshape(n, each)
        log_marginal = np.logaddexp.reduce(joint, axis=1)
        chosen = chains.resampled(joint, count, rng)
        codes = np.take_along_axis(codes.reshape(n, each, -1), chosen[:, :, None], axis=1).reshape(n * count, -1)
        values = self.numbers(codes, np.repeat(known.values, count, axis=0), self.latents(n * count, rng))[0]
        shape, rest = (n, count, -1), np.zeros(n)
        return Completed(
            codes.reshape(shape),
            values.reshape(shape),
            np.zeros((n, count)),
            log_marginal,
            rest,
            np.where(np.isfinite(log_marginal), float(count), 0.0),  # what is impossible has no completions
            np.full(n, np.nan),
            "sums",
        )

    def _draw(self, known: Coded, count: int, steps: int, rng: np.random.Generator) -> Completed:
        """Draw completions, weighted by what is known."""
        n, width = known.codes.shape
        codes, values = np.zeros((n, count, width)), np.zeros((n, count, width))
        z, log_weights = np.zeros((n, count, len(self._numbers))), np.full((n, count), -np.inf)
        effective, todo = np.full(n, -1.0), np.arange(n)
        for trial in range(1 + _ROUNDS):
            adapted = self.adapted(z[todo], log_weights[todo]) if trial else None
            some = known.part(todo)
            drawn = self.proposed(some, count, adapted, rng)
            size = chains.evidence(drawn.log_weights)[2]
            better = size > effective[todo]
            at = todo[better]
            codes[at], values[at], z[at], log_weights[at], effective[at] = (
                drawn.codes[better],
                drawn.values[better],
                drawn.z[better],
                drawn.log_weights[better],
                size[better],
            )
            todo = np.flatnonzero(~chains.converged(effective, np.full(n, np.nan), count))
            if not len(todo) or not self.line:
                break
        log_marginal, error, effective = chains.evidence(log_weights)
        for times in _MORE:  # more draws cost less than chains
            todo = np.flatnonzero(~chains.converged(effective, np.full(n, np.nan), count))
            for rows in np.array_split(todo, max(1, -(-len(todo) * times * count // _ROWS))) if len(todo) else ():
                adapted = self.adapted(z[rows], log_weights[rows])
                drawn = self.proposed(known.part(rows), times * count, adapted, rng)
                log_marginal[rows], error[rows], effective[rows] = chains.evidence(drawn.log_weights)
                chosen = chains.resampled(drawn.log_weights, count, rng)[:, :, None]
                for part, of_all in ((codes, drawn.codes), (values, drawn.values), (z, drawn.z)):
                    part[rows] = np.take_along_axis(of_all, chosen, axis=1)
                log_weights[rows], effective[rows] = 0.0, np.minimum(effective[rows], count)
        r_hat, method = np.full(n, np.nan), "importance sampling"
        todo = np.flatnonzero(~chains.converged(effective, r_hat, count)) if steps else todo[:0]
        if len(todo):
            method = "importance sampling and chains"
            walk = Walk(self, known.part(todo), codes[todo], z[todo], rng)
            codes[todo], values[todo], effective[todo], r_hat[todo] = walk.run(count, steps)
        return Completed(codes, values, log_weights, log_marginal, error, effective, r_hat, method)

    def adapted(self, z: Doubles, log_weights: Doubles) -> Adapted | None:
        """Return proposals for the latent points of each row, fitted to weighted draws of them."""
        if not self.line:
            return None
        return Adapted(Base(len(z), len(self.line)), z[:, :, self.line], chains.normalized(log_weights))

    def proposed(self, known: Coded, count: int, adapted: Adapted | None, rng: np.random.Generator) -> Proposed:
        """Draw completions: codes as the model does, latent points so too, or from adapted proposals."""
        n, width = known.codes.shape
        codes, masses = self.codes(np.repeat(known.codes, count, axis=0), rng)
        z = self.latents(len(codes), rng).reshape(n, count, -1)
        ratio = np.zeros((n, count))
        if adapted is not None:
            y = adapted.sample(count, rng)
            z[:, :, self.line] = y
            ratio = Base.log_density(y) - adapted.log_prob(y)
        values, density = self.numbers(codes, np.repeat(known.values, count, axis=0), z.reshape(n * count, -1))
        log_weights = (masses[:, ~self._unknown].sum(axis=1) + density).reshape(n, count) + ratio
        return Proposed(codes.reshape(n, count, width), values.reshape(n, count, width), z, log_weights)

    def scored(
        self, known: Coded, codes: Doubles, z: Doubles, adapted: Adapted | None, rng: np.random.Generator
    ) -> tuple[Doubles, Doubles, Doubles]:
        """Return the values of completions, their log density, and its ratio to that of `proposed`; all (n, count)."""
        n, count, width = codes.shape
        flat = codes.reshape(-1, width)
        masses = self._everything.codes(flat, rng)[1]
        values, density = self.numbers(flat, np.repeat(known.values, count, axis=0), z.reshape(n * count, -1))
        y = z[:, :, self.line]
        base = Base.log_density(y)
        joint = (masses.sum(axis=1) + density).reshape(n, count) + base
        weight = (masses[:, ~self._unknown].sum(axis=1) + density).reshape(n, count)
        if adapted is not None:
            weight = weight + base - adapted.log_prob(y)
        return values.reshape(codes.shape), joint, weight


def log_shares(coding: Coding, codes: Doubles, values: Doubles) -> Doubles:
    """Return the log share of each level that is rare among the rare ones; 0 for others."""
    result = np.zeros(len(codes))
    if len(coding.rare):
        at = np.flatnonzero(codes == coding.rest)
        result[at] = np.log(coding.rare[values[at].astype(np.int64)])
    return result


def density_of_complete(model: TableModel, coded: Coded, rng: np.random.Generator) -> Doubles:
    """Return the log density of complete rows; -inf where a cell is missing or holds what the schema does not allow."""
    result = np.full(len(coded), -np.inf)
    counts = np.array([coding.codes - coding.column.gaps for coding in model.codings])
    sound = np.flatnonzero(((coded.codes >= 0) & (coded.codes < counts)).all(axis=1))
    everything = Completer(model, np.zeros(len(model.codings), dtype=bool))
    for first in range(0, len(sound), _ROWS):
        at = sound[first : first + _ROWS]
        some = coded.part(at)
        masses = everything.codes(some.codes, rng)[1].sum(axis=1)
        result[at] = masses + everything.numbers(some.codes, some.values, None)[1]
        for i, coding in enumerate(model.codings):
            result[at] += log_shares(coding, some.codes[:, i], some.values[:, i])
    return result


def patterns_of(unknown: Array) -> list[tuple[Array, Indices]]:
    """Return the patterns of unknown cells, each with the rows that have it."""
    patterns, kind = np.unique(unknown, axis=0, return_inverse=True)
    return [(pattern, np.flatnonzero(kind.ravel() == i)) for i, pattern in enumerate(patterns)]
