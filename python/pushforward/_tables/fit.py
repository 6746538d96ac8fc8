"""The fit of a table's model: the masses, then the flow of each number, by the loop of every fit."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pushforward._fit.history import History
from pushforward._fit.loop import Loop
from pushforward._fit.objective import MaximumLikelihood
from pushforward._fit.options import Options, optimizer_for
from pushforward._fit.progress import Progress
from pushforward._fit.size import size
from pushforward._io.rows import Rows
from pushforward._model import masses
from pushforward._model.bases import Normal
from pushforward._model.layers import ActNorm, ContextShift, Coupling, Layer
from pushforward._model.masses import Masses
from pushforward._model.networks import MLP, ResNet
from pushforward._model.transforms import RationalQuadratic
from pushforward._tables.cells import Cells
from pushforward._tables.coding import Coding
from pushforward._tables.model import Coded, TableModel
from pushforward._tables.schema import Schema
from pushforward._typing import Array, Doubles
from pushforward.flow import Flow

# A linear regression on the context is of use from so many rows a conditioning number on.
_ROWS_A_SLOPE = 20
# An epoch of a large table does as much as many of a small one. More epochs than these did not score better.
_ROWS_IN_ALL = 1_500_000
_EPOCHS = (20, 60)
# Rows whose value a column of numbers must have for a network of its own.
_FEWEST_VALUES = 20


def fit(
    schema: Schema, cells: Mapping[str, Cells], options: Options, num_threads: int | None
) -> tuple[TableModel, dict[str, History]]:
    """Return the model of a table, fitted, and the history of each part by its name."""
    coded_model = TableModel(schema, {})
    coded = coded_model.encode(cells)
    model = TableModel(schema, _centers(coded_model.codings, coded))
    model.num_threads = num_threads
    seed = options.seed
    rng = np.random.default_rng(seed)
    held = np.zeros(len(coded), dtype=bool)
    held[rng.permutation(len(coded))[: round((options.validation or 0.0) * len(coded))]] = True
    ends_at = None if options.max_time is None else time.perf_counter() + options.max_time
    seeds = [int(value) for value in rng.integers(1 << 62, size=1 + len(model.numbers))]
    histories: dict[str, History] = {}
    left = len(seeds)

    def next_options() -> Options:
        nonlocal left
        max_time = None if ends_at is None else max((ends_at - time.perf_counter()) / left, 0.01)
        left -= 1
        return replace(options, max_time=max_time, seed=seeds[left])

    part = next_options()
    if len(model.coded):
        model.masses, histories["masses"] = _fit_masses(model, coded, held, part, num_threads)
    for number in model.numbers:
        name = model.codings[number].name
        flow = _fit_flow(model, coded, number, held, next_options(), num_threads)
        model.flows[name] = flow
        if flow.history is not None:
            histories[name] = flow.history
    model.num_threads = num_threads
    return model, histories


def default_epochs(rows: int) -> int:
    """Return the epochs of a part that is fitted to so many rows."""
    return int(np.clip(_ROWS_IN_ALL // rows, *_EPOCHS))


def _centers(codings: list[Coding], coded: Coded) -> dict[str, float]:
    centers = {}
    for i, coding in enumerate(codings):
        if coding.numbers is not None:
            values = coding.number_of(coded.codes[:, i], coded.values[:, i])
            centers[coding.name] = float(np.median(values[~np.isnan(values)]))
    return centers


def _fit_masses(
    model: TableModel, coded: Coded, held: Array, options: Options, num_threads: int | None
) -> tuple[Masses, History]:
    """Fit the masses of the codes."""
    codings = [model.codings[i] for i in model.coded]
    found = Masses(
        masses.describe(
            [coding.codes for coding in codings],
            [coding.ordered for coding in codings],
            [coding.knots for coding in codings],
            conditioner=ResNet(hidden=128, blocks=1, activation="silu"),
        )
    )
    found.threads = num_threads
    rng = np.random.default_rng(options.seed)
    found.draw_parameters(rng)
    codes = np.ascontiguousarray(coded.codes[:, model.coded])
    _start_at_shares(found, codes[~held])
    loop = _loop(found, codes, held, options)
    loop.run()
    return found, loop.history


def _start_at_shares(found: Masses, codes: Doubles) -> None:
    """Let the columns begin independent, each code with its share of the rows."""
    shares = []
    for column, count in zip(codes.T, found.categories, strict=True):
        counts = np.bincount(column.astype(np.int64), minlength=count) + 0.5
        shares.append(np.log(counts / counts.sum()))
    *_, bias = found.named_parameters().values()
    bias[...] = np.concatenate(shares)


def _loop(found: Masses, codes: Doubles, held: Array, options: Options) -> Loop[Masses]:
    rows = Rows.of(codes, None, None)
    train, held_rows = rows.split_at(held) if held.any() else (rows, None)
    chosen = size(len(train))
    batch_size = options.batch_size or chosen.batch_size
    epochs = options.epochs
    if epochs is None and options.max_time is None:
        epochs = default_epochs(len(train))
    options = replace(
        options, batch_size=batch_size, epochs=epochs, optimizer=optimizer_for(len(train), options.optimizer)
    )
    assert options.optimizer is not None
    rng = np.random.default_rng(options.seed)
    progress = Progress(
        rng.bit_generator.state,
        rng.bit_generator.state,
        found.parameters.copy(),
        found.parameters.copy(),
        options.optimizer.fresh(),
    )
    return Loop(found, MaximumLikelihood(found, rows, train, held_rows, batch_size), options, progress)


def _fit_flow(
    model: TableModel, coded: Coded, number: int, held: Array, options: Options, num_threads: int | None
) -> Flow:
    """Fit the flow of a number to the rows that have a value of it which is no atom."""
    coding = model.codings[number]
    axis = coding.axis
    assert axis is not None
    at = np.flatnonzero(model.has_value(coded, number))
    some, held = coded.part(at), held[at]
    rng = np.random.default_rng(options.seed)
    # Where in its cell a rounded number lies is drawn once for all epochs.
    points = axis.points(some.values[:, number], rng.uniform(size=len(at)))
    context = model.context(some, number)
    width = 0 if context is None else context.shape[1]
    different = len(np.unique(points[~held]))
    layers = _layers(different, width)
    flow = Flow(
        1, layers=layers, base=Normal(), support=axis.support, context=width, seed=int(rng.integers(1 << 62)),
        num_threads=num_threads,
    )  # fmt: skip
    if different < 2:
        if math.isinf(axis.cells):
            raise ValueError(
                f"column {coding.name!r} has {different} value{'s' * (different != 1)} beside its atoms; at least 2 "
                "are needed for a density"
            )
        return flow.astype("float64")  # the same mass for all cells
    validation = None
    if held.any():
        validation = (points[held, None], context[held]) if context is not None else points[held, None]
    trained = ~held
    epochs = options.epochs
    if epochs is None and options.max_time is None:
        epochs = default_epochs(int(trained.sum()))
    flow.fit(
        points[trained, None],
        context=None if context is None else context[trained],
        validation=validation,
        epochs=epochs,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        schedule=options.schedule,  # type: ignore[arg-type]
        max_time=options.max_time,
        patience=options.patience,
        clip_norm=options.clip_norm,
        seed=int(rng.integers(1 << 62)),
        progress=False,
    )
    return flow.astype("float64")


def _layers(rows: int, width: int) -> list[Layer]:
    """Return the layers of the flow of one number."""
    if rows < _FEWEST_VALUES:
        return []
    network = MLP((64, 64), "silu")
    layers: list[Layer] = [Coupling(RationalQuadratic(bins=size(rows).bins), network), ActNorm()]
    return [*layers, ContextShift()] if width and rows >= _ROWS_A_SLOPE * width else layers
