"""Fits to an unnormalised log density: from the function and options to the loop that is to run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pushforward import _checks
from pushforward._fit import checkpoint
from pushforward._fit.adaptive import AdaptiveSampling
from pushforward._fit.frozen import resolve
from pushforward._fit.loop import Loop
from pushforward._fit.objective import Objective
from pushforward._fit.options import Options, optimizer_for, without_decay
from pushforward._fit.progress import Progress, generator
from pushforward._fit.reverse import SCORED_ROWS, ReverseKL
from pushforward._fit.size import size
from pushforward._fit.spread import Draws, spread
from pushforward._fit.start import rebuilt, start
from pushforward._fit.tempering import Path
from pushforward._io.rows import Rows
from pushforward._io.scan import check_density
from pushforward._model import presets
from pushforward._model.state import State
from pushforward._model.supports import refuse_cells
from pushforward._target import Target
from pushforward._typing import Array, Doubles

# Measured (docs/defaults.md).
_EPOCHS = 100
_STEPS, _DRAWS = 200, 128
_STEPS_OF_POPULATION, _ROWS_OF_STEP = 100, 256
_POPULATIONS = 30
_POPULATION = 2048
_FEWEST_OF_POPULATION = 64
_TRIED = 2


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fit to a density, checked; None is left to the fit.

    Parameters
    ----------
    steps : int or None
        Steps of an epoch.
    population : int or None
        Draws evaluated in an epoch, of a density without gradient.
    """

    steps: int | None
    population: int | None

    def __post_init__(self) -> None:
        for name in ("steps", "population"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _checks.integer(name, value, 1))


def fit_to_density(state: State, target: Target, rows: Rows | None, options: Options, sizes: Sizes) -> Loop[State]:
    """Prepare a fit to a density, or resume one.

    Parameters
    ----------
    state : State
        The flow.
    target : Target
        The density.
    rows : Rows or None
        Where a flow that was not initialised begins; None to find out.
    options : Options
        The options of the fit.
    sizes : Sizes
        More of them.

    Returns
    -------
    Loop
        The fit, with the flow that it is going to change.
    """
    if state.context:
        raise ValueError(f"fit_density is for flows without context; this one has context={state.context}")
    refuse_cells(state.support, "fit_density")
    if rows is not None:
        if state.initialized:
            raise ValueError("start= is for a flow that was not fitted or initialized yet")
        check_density(rows, state.support, "start")
    if options.resume is not None:
        return _resumed(state, target, options, sizes)
    left_open = () if state.open is None else state.open.parts
    given = options.seed
    rng = np.random.default_rng(given.integers(1 << 63) if isinstance(given, np.random.Generator) else given)
    rng_of_split = target.group.of_first(rng.bit_generator.state)
    rng = generator(rng_of_split)
    began = time.perf_counter()
    seed = _seed(rng_of_split)
    has_gradient: list[bool] = []

    def evaluate(x: Array) -> Doubles:
        values, gradient = target(x)
        has_gradient.append(gradient is not None)
        return values

    state = _with_layers(state)
    options = replace(options, frozen=resolve(options.frozen, len(state.layers)))
    state, first = _begin(state, rows, target, evaluate, seed)
    if not has_gradient:
        evaluate(state.sample(seed, target.left(_TRIED))[0])
    objective, options, last_epoch = _objective(state, target, first, has_gradient[-1], options, sizes, seed)
    assert options.optimizer is not None
    good, average = state.parameters.copy(), state.parameters.copy()
    progress = Progress(rng_of_split, rng.bit_generator.state, good, average, options.optimizer.fresh())
    progress.elapsed, progress.left_open = time.perf_counter() - began, left_open
    return Loop(state, objective, options, progress, last_epoch)


def _resumed(state: State, target: Target, options: Options, sizes: Sizes) -> Loop[State]:
    assert options.resume is not None
    with target.group.agree():
        found = checkpoint.read(options.resume, state)
    found.state.threads, state = state.threads, found.state
    options = replace(options, frozen=resolve(options.frozen, len(state.layers)))
    kind, used = found.settings.get("objective"), found.settings.get("used")
    if kind not in (ReverseKL.NAME, AdaptiveSampling.NAME) or type(used) is not int:
        raise ValueError(f"{options.resume}: the checkpoint is of a fit to rows, which fit resumes")
    target.calls = used
    seed = _seed(found.progress.rng_of_split)
    is_reverse = kind == ReverseKL.NAME
    objective, options, last_epoch = _objective(state, target, [], is_reverse, options, sizes, seed)
    loop = Loop(state, objective, options, found.progress, last_epoch)
    loop.resume(found.settings)
    return loop


def _seed(rng_of_split: Any) -> int:
    """Return what fixes the draws of a fit besides those of its steps."""
    return int(generator(rng_of_split).integers(1 << 62, size=2)[1])


def _with_layers(state: State) -> State:
    """Return a flow with the layers that suit a density, if it leaves them to the fit."""
    if state.open is None or state.initialized:
        return state
    is_unbounded = set(state.core.latent_domains) == {"line"}
    layers = presets.for_density(state.dim, is_unbounded=is_unbounded)
    return rebuilt(state, state.base, layers, copy.deepcopy(state.open.rng))


def _begin(
    state: State, rows: Rows | None, target: Target, evaluate: Callable[[Array], Doubles], seed: int
) -> tuple[State, list[Draws]]:
    """Return the flow in which a fit begins, and what was evaluated to find it."""
    if state.initialized:
        return state, []
    if rows is not None:
        return start(state, rows, size(len(rows))), []
    standardization, first = spread(state, evaluate, target, seed)
    state.set_standardization(standardization, state.context_standardization)
    state.initialized = True
    return state, first


def _objective(
    state: State,
    target: Target,
    first: list[Draws],
    has_gradient: bool,
    options: Options,
    sizes: Sizes,
    seed: int,
) -> tuple[Objective[Any], Options, str]:
    """Return what is minimised, the options with nothing left open, and what the end of all epochs is called."""
    steps = sizes.steps or (_STEPS if has_gradient else _STEPS_OF_POPULATION)
    batch_size = options.batch_size or (_DRAWS if has_gradient else _ROWS_OF_STEP)
    used, limit = target.calls, target.max_calls
    default = _EPOCHS if has_gradient else _POPULATIONS
    population = sizes.population or _POPULATION
    if has_gradient:
        if sizes.population is not None:
            raise ValueError("population= is for a log density without gradient; log_density returns one")
        once, each = 2 * SCORED_ROWS, steps * batch_size + SCORED_ROWS
    else:
        if limit is not None and sizes.population is None:
            share = (limit - used) // ((options.epochs or default) + 1)
            population = max(min(population, share), _FEWEST_OF_POPULATION)
        once = each = population
    epochs, last_epoch = options.epochs, "epochs"
    if epochs is None and options.max_time is None:
        epochs = default
    if limit is not None:
        most = (limit - used - once) // each
        if most < 1:
            raise ValueError(
                f"max_calls={limit} is too few: {used} rows were evaluated to begin, and the first epoch evaluates "
                f"{once + each}"
            )
        if epochs is None or most < epochs:
            epochs, last_epoch = most, "max_calls"
    objective: Objective[Any]
    if has_gradient:
        optimizer = without_decay(options.optimizer)
        objective = ReverseKL(state, target, Path(state.copy()), steps, batch_size, seed)
    else:
        decay = size(population * (epochs or _POPULATIONS)).weight_decay
        optimizer = optimizer_for(decay, options.optimizer)
        objective = AdaptiveSampling(state, target, first, population, steps, batch_size, seed)
    options = replace(options, epochs=epochs, batch_size=batch_size, optimizer=optimizer, patience=None)
    return objective, options, last_epoch
