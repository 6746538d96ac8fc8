"""Where the fit of a table's model starts: what is taken from its rows, and models of its parts without training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pushforward._fit.size import size
from pushforward._model import masses
from pushforward._model.bases import Normal
from pushforward._model.coupling import Coupling
from pushforward._model.layer import Layer
from pushforward._model.layers import ActNorm, ContextShift
from pushforward._model.masses import Masses
from pushforward._model.networks import MLP, ResNet
from pushforward._model.transforms import RationalQuadratic
from pushforward._tables.cells import Cells
from pushforward._tables.coding import Coding
from pushforward._tables.kinds import Category
from pushforward._tables.model import Coded, TableModel
from pushforward._tables.schema import Schema
from pushforward._tables.summary import Summary
from pushforward._tables.warp import Warp
from pushforward._typing import Array, Doubles
from pushforward.flow import Flow

# A linear regression on the context is of use from so many rows a conditioning number on.
_ROWS_A_SLOPE = 20
# Rows whose value a column of numbers must have for a network of its own.
_FEWEST_VALUES = 20
# Rows that a level of a category must have for a mass that depends on other columns.
_FEWEST_OF_A_LEVEL = 5
# Rows and epochs of the short fits that choose whether a column is warped.
_FEWEST_COMPARED, _MOST_COMPARED = 500, 10_000
_EPOCHS_OF_A_TRIAL = 20
_MOST_NATS = 5.0


@dataclass(frozen=True)
class Split:
    """Rows of a table, and which of them are held out.

    Parameters
    ----------
    coded : Coded
        The rows.
    held : (n,) array of bool
        Which of them are held out.
    weights : (n,) array, optional
        Their weights.
    """

    coded: Coded
    held: Array
    weights: Doubles | None

    def of_training(self, values: Array) -> Doubles:
        """Return the entries of the training rows."""
        entries: Doubles = values[~self.held]
        return entries

    @property
    def training_weights(self) -> Doubles | None:
        """Weights of the training rows."""
        return None if self.weights is None else self.of_training(self.weights)

    def rows(self, at: Array) -> Split:
        """Return some rows."""
        return Split(self.coded.part(at), self.held[at], None if self.weights is None else self.weights[at])


def summaries(schema: Schema, cells: Mapping[str, Cells], weights: Doubles | None) -> dict[str, Summary]:
    """Return what is taken from each column."""
    found = {}
    for name in schema:
        coding = Coding(name, schema[name])
        codes, values = coding.encode(cells[name])
        if coding.numbers is not None:
            found[name] = _of_numbers(coding, codes, values, weights)
        elif isinstance(coding.column.kind, Category) and not coding.ordered:
            found[name] = Summary(rare=_rare(coding, codes, weights))
        else:
            found[name] = Summary()
    return found


def _of_numbers(coding: Coding, codes: Doubles, values: Doubles, weights: Doubles | None) -> Summary:
    numbers = coding.number_of(codes, values)
    warp = None
    if coding.axis is not None:
        at = np.flatnonzero(codes == coding.rest)
        at = at[np.argsort(values[at], kind="stable")]
        there = values[at]
        # Equal values lie evenly in their cell.
        _, first, counts = np.unique(there, return_index=True, return_counts=True)
        places = (np.arange(len(there)) - np.repeat(first, counts) + 0.5) / np.repeat(counts, counts)
        warp = coding.axis.find_warp(there, places, None if weights is None else weights[at])
    known = ~np.isnan(numbers)
    shown = None
    if coding.axis is not None:
        shown = Warp.of(numbers[known], None if weights is None else weights[known], None)
    return Summary(float(np.median(numbers[known])) if known.any() else 0.0, warp, shown)


def with_chosen_warps(schema: Schema, found: Mapping[str, Summary], rows: Split, key: int) -> dict[str, Summary]:
    """Return summaries without the warps that do harm.

    A warp makes a column's own distribution simple, and a close dependence on other columns less smooth. Short fits
    with and without it tell which matters more. On few rows the warp stays, since they cannot tell.
    """
    model, chosen = TableModel(schema, found), dict(found)
    for number in model.numbers:
        coding = model.codings[number]
        at = np.flatnonzero(model.has_value(rows.coded, number) & ~rows.held)
        if coding.summary.warp is None or len(at) < _FEWEST_COMPARED:
            continue
        rng = np.random.default_rng([key, number, 2])
        some = rows.rows(rng.permutation(at)[:_MOST_COMPARED])
        plain = replace(coding.summary, warp=None)
        codings = [coding, Coding(coding.name, coding.column, plain)]
        context = model.context(some.coded, number)
        first, second = (_trial(one, some.coded.values[:, number], context, some.weights, rng) for one in codings)
        # A single row far out must not decide.
        if np.clip(second - first, -_MOST_NATS, _MOST_NATS).mean() > 0:
            chosen[coding.name] = plain
    return chosen


def _trial(
    coding: Coding, values: Doubles, context: Doubles | None, weights: Doubles | None, rng: np.random.Generator
) -> Doubles:
    """Return the log densities of the last fifth of some rows by a flow that was shortly fitted to the others."""
    assert coding.axis is not None
    train, test = np.split(np.arange(len(values)), [4 * len(values) // 5])
    points = coding.axis.points(values[train], rng.uniform(size=len(train)))
    inner, outer = (None, None) if context is None else (context[train], context[test])
    w = None if weights is None else weights[train]
    flow, is_trainable = start_flow(coding, points, inner, w, rng)
    if is_trainable:
        flow.fit(
            points[:, None],
            context=inner,
            weights=w,
            validation=None,
            epochs=_EPOCHS_OF_A_TRIAL,
            seed=int(rng.integers(1 << 62)),
            progress=False,
        )
    return coding.axis.log_density(flow, values[test], outer)


def _rare(coding: Coding, codes: Doubles, weights: Doubles | None) -> tuple[float, ...]:
    """Return the shares of rare levels; none if they are not several."""
    levels = coding.codes - coding.column.gaps
    known = (codes >= 0) & (codes < levels)
    found = codes[known].astype(np.int64)
    rows = np.bincount(found, minlength=levels)
    is_rare = rows < _FEWEST_OF_A_LEVEL
    if is_rare.sum() < 2:
        return ()
    counts = rows if weights is None else np.bincount(found, weights[known] / weights.mean(), minlength=levels)
    # A level of the schema that no row has is not impossible.
    shares = np.where(is_rare, counts + 0.5, 0.0)
    return tuple((shares / shares.sum()).tolist())


def start_masses(model: TableModel, codes: Doubles, weights: Doubles | None, rng: np.random.Generator) -> Masses:
    """Return masses with independent columns, in which each code has its share of the rows."""
    codings = [model.codings[i] for i in model.coded]
    found = Masses(
        masses.describe(
            [coding.codes for coding in codings],
            [coding.ordered for coding in codings],
            [coding.knots for coding in codings],
            conditioner=ResNet(hidden=128, blocks=1, activation="silu"),
        )
    )
    found.draw_parameters(rng)
    shares = []
    w = None if weights is None else weights / weights.mean()
    for column, count in zip(codes.T, found.categories, strict=True):
        counts = np.bincount(column.astype(np.int64), w, minlength=count) + 0.5
        shares.append(np.log(counts / counts.sum()))
    *_, bias = found.named_parameters().values()
    bias[...] = np.concatenate(shares)
    return found


def start_flow(
    coding: Coding, points: Doubles, context: Doubles | None, weights: Doubles | None, rng: np.random.Generator
) -> tuple[Flow, bool]:
    """Return the flow of a number, standardised by points of its line, and whether there is something to train."""
    axis = coding.axis
    assert axis is not None
    width = 0 if context is None else context.shape[1]
    different = len(np.unique(points))
    flow = Flow(
        1,
        layers=_layers(different, width),
        base=Normal(),
        support=axis.support,
        context=width,
        seed=int(rng.integers(1 << 62)),
    )
    if different < 2:
        if math.isinf(axis.cells):
            raise ValueError(
                f"column {coding.name!r} has {different} value{'s' * (different != 1)} beside its atoms; at least 2 "
                "are needed for a density"
            )
        return flow, False  # the same mass for all cells
    return flow.initialize(points[:, None], context, weights), True


def _layers(rows: int, width: int) -> list[Layer]:
    """Return the layers of the flow of one number."""
    if rows < _FEWEST_VALUES:
        return []
    network = MLP((64, 64), "silu")
    layers: list[Layer] = [Coupling(RationalQuadratic(bins=size(rows).bins), network), ActNorm()]
    return [*layers, ContextShift()] if width and rows >= _ROWS_A_SLOPE * width else layers
