"""Fits by maximum likelihood: from rows and options to the loop that is to run."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pushforward._fit import checkpoint
from pushforward._fit.frozen import resolve
from pushforward._fit.held_out import Names, held_out
from pushforward._fit.loop import Loop
from pushforward._fit.mixture import Components, calibrate_background, clusters, gaussian
from pushforward._fit.objective import MaximumLikelihood, gain, mean_loss
from pushforward._fit.oddities import oddities
from pushforward._fit.options import Options, optimizer_for
from pushforward._fit.progress import Progress, generator
from pushforward._fit.size import Size, size
from pushforward._fit.standardize import some_of, standardize
from pushforward._fit.start import latent, start
from pushforward._io.rows import Rows
from pushforward._io.scan import check_density
from pushforward._model.bases import Mixture
from pushforward._model.state import State
from pushforward._model.supports import Support
from pushforward._warn import warn
from pushforward.errors import TrainingDivergedError

# Short fits choose where a first fit begins. Each takes at most this share of the epochs, so many steps, this share of
# the time if that is limited, and so many rows.
_SHARE_OF_TRIAL = 0.25
_STEPS_OF_TRIAL = 2000
_TIME_OF_TRIAL = 0.05
_ROWS_OF_TRIAL = 200_000
# The share of rows that are held out of trials, if none are held out of the fit.
_HELD_OF_TRIALS = 0.1


def maximum_likelihood(state: State, rows: Rows, options: Options, columns: tuple[Names, Names]) -> Loop[State]:
    """Prepare a fit to rows, or resume one.

    Parameters
    ----------
    state : State
        The flow. It is initialised if it was not; of a fit that is resumed, it stays as it is.
    rows : Rows
        The rows; with several processes, this one's share.
    options : Options
        The options of the fit.
    columns : (sequence of str or None, sequence of str or None)
        Names of the features and of the conditioning features, if they are known.

    Returns
    -------
    Loop
        The fit, with the flow that it is going to change.
    """
    options = replace(options, frozen=resolve(options.frozen, len(state.layers)))
    check_density(rows, state.support)
    left_open = () if state.open is None else state.open.parts
    found = None
    if options.resume is not None:
        with rows.group.agree():
            found = checkpoint.read(options.resume, state)
    if found is None:
        # A generator of our own kind, whose state a checkpoint can hold.
        given = options.seed
        rng = np.random.default_rng(given.integers(1 << 63) if isinstance(given, np.random.Generator) else given)
    else:
        rng = generator(found.progress.rng_of_split)
        found.state.threads, found.state.left_open = state.threads, state.left_open
        state = found.state
    rng_of_split = rows.group.of_first(rng.bit_generator.state)
    rng = generator(rng_of_split)
    train, held = held_out(state, rows, options.validation, rng, columns)
    chosen = size(len(train), state.context)
    options = _filled(options, chosen, len(train))
    began = time.perf_counter()
    if not state.initialized:
        _warn_of_oddities(train, state.names if columns[0] is None else columns[0], state.support)
        state = _begin(state, rows, train, held, options, chosen)
        # Linear algebra need not give the same bits on other machines.
        state.parameters[...] = rows.group.of_first(state.parameters)
    elif options.restandardize and found is None:
        standardize(state, train)
    assert options.batch_size is not None
    objective = MaximumLikelihood(state, rows, train, held, options.batch_size)
    if found is None:
        progress = _progress(state, rng_of_split, rng, options)
        progress.elapsed, progress.left_open = time.perf_counter() - began, left_open
        progress.start = progress.good.copy() if left_open else None
        return _finished(Loop(state, objective, options, progress), held)
    loop = Loop(state, objective, options, found.progress)
    loop.resume(found.settings)
    return _finished(loop, held)


def _warn_of_oddities(rows: Rows, names: Sequence[str], support: Sequence[Support]) -> None:
    found = oddities(some_of(rows).x, names, support)
    if found:
        warn(". ".join(oddity.text for oddity in found))


def _filled(options: Options, chosen: Size, rows: int) -> Options:
    """Return options of which none is left to the size of the table."""
    batch_size = options.batch_size or chosen.batch_size
    epochs = options.epochs
    if epochs is None and options.max_time is None:
        epochs = chosen.epochs_of(-(-rows // batch_size))
    optimizer = optimizer_for(chosen.weight_decay, options.optimizer)
    return replace(options, batch_size=batch_size, epochs=epochs, optimizer=optimizer)


def _progress(state: State, rng_of_split: Mapping[str, Any], rng: np.random.Generator, options: Options) -> Progress:
    assert options.optimizer is not None
    good, average = state.parameters.copy(), state.parameters.copy()
    return Progress(rng_of_split, rng.bit_generator.state, good, average, options.optimizer.fresh())


def _finished(loop: Loop[State], held: Rows | None) -> Loop[State]:
    """Let a fit end with the choice between its start and its best epoch, and with that of the background."""
    if held is not None and (loop.progress.start is not None or loop.state.base.has_background):
        loop.finish = functools.partial(_finish, loop, held)
    return loop


def _finish(loop: Loop[State], held: Rows) -> None:
    state, progress, history = loop.state, loop.progress, loop.history
    if progress.start is not None and history.best_epoch > 0:
        # The rule of one standard error (Breiman, Friedman, Olshen, Stone 1984, section 3.4.3): among as good as equal
        # densities, the simplest. The best of many epochs looks better than it is on few held-out rows.
        mean, standard_error = gain(state, held, progress.start, state.parameters.copy())
        if mean <= standard_error:
            state.parameters[...] = progress.start
            history.best_epoch, history.best_loss = 0, history.initial_loss
    if state.base.has_background:
        calibrate_background(state, held)
        history.best_loss = mean_loss(state, held)


def _begin(state: State, rows: Rows, train: Rows, held: Rows | None, options: Options, chosen: Size) -> State:
    """Return the state in which a first fit begins: the best of a few, by a short fit of each."""
    if state.open is None:
        return start(state, train, chosen)
    if held is None:
        train, held = train.split(_HELD_OF_TRIALS, np.random.default_rng(0))
        if not len(train) or not len(held):
            return start(state, train, chosen)
    if not state.core.latent_domains.count("line"):
        return start(state, train, chosen)  # there is nothing to whiten, and no Gaussian
    best, begun = math.inf, None
    for whiten in (False, True):
        candidate = start(state, train, chosen, whiten=whiten)
        if state.open.base:
            one = gaussian(*latent(candidate, train))
            candidate = _with_base(candidate, one.with_background(one))
        loss = _trial(candidate, rows, train, held, options)
        if begun is None or loss < best:
            best, begun = loss, candidate
    assert begun is not None
    if state.open.base:
        z, weights = latent(begun, train)
        found = clusters(z, weights, state.num_threads)
        if found is not None:
            clustered = _with_base(begun, found.with_background(gaussian(z, weights)))
            if mean_loss(clustered, held) < best:
                return clustered
    return begun


def _with_base(state: State, found: Components) -> State:
    """Return a flow with a mixture as its base, and otherwise like this one."""
    result = State({**state.model, "base": Mixture(len(found), background=True).to_json()})
    parameters = result.named_parameters()
    for name, values in state.named_parameters().items():
        if not name.startswith("base."):
            parameters[name][...] = values
    found.write(result)
    result.set_standardization(state.standardization, state.context_standardization, state.cells)
    result.initialized, result.data_dtype, result.threads = True, state.data_dtype, state.threads
    result.columns, result.context_columns = state.columns, state.context_columns
    result.left_open = state.left_open
    return result


def _part(rows: Rows) -> Rows:
    """Return at most as many rows as a trial takes, evenly spaced."""
    step = -(-len(rows) // _ROWS_OF_TRIAL)
    return rows if step == 1 else replace(rows, blocks=rows.blocks[::step])


def _trial(state: State, rows: Rows, train: Rows, held: Rows, options: Options) -> float:
    """Return the validation loss that a short fit reaches; the flow is left as it was."""
    assert options.batch_size is not None
    train, held = _part(train), _part(held)
    # The same random numbers in each trial.
    rng_of_trial = np.random.default_rng(0)
    epochs = max(1, _STEPS_OF_TRIAL * options.batch_size // len(train))
    if options.epochs is not None:
        epochs = min(epochs, max(1, round(_SHARE_OF_TRIAL * options.epochs)))
    short = replace(
        options,
        epochs=epochs,
        max_time=None if options.max_time is None else _TIME_OF_TRIAL * options.max_time,
        patience=None,
        progress=False,
        callback=None,
        checkpoint=None,
    )
    objective = MaximumLikelihood(state, rows, train, held, options.batch_size)
    loop = Loop(state, objective, short, _progress(state, rng_of_trial.bit_generator.state, rng_of_trial, options))
    if state.base.has_background:
        loop.finish = functools.partial(calibrate_background, state, held)
    before = state.parameters.copy()
    try:
        loop.run()
        loss = mean_loss(state, held)
    except TrainingDivergedError:  # the fit itself tells, if it diverges too
        loss = math.inf
    finally:
        state.parameters[...] = before
    return loss if math.isfinite(loss) else math.inf
