"""Fitting: what is taken from data at the start, and the loop over minibatches."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pushforward import checks
from pushforward.errors import TrainingDivergedError
from pushforward.history import Epoch, History
from pushforward.optimizer import Adam
from pushforward.rows import Array, Index, Rows

if TYPE_CHECKING:
    from pushforward.flow import Flow, Seed

# Scoring and statistics go over a table in pieces of this many rows: their temporaries stay below a few megabytes.
_PIECE_ROWS = 1 << 16
# ActNorm's start needs means and deviations only: more rows change them by less than a percent.
_ROWS_TO_START = 1 << 16
_WARM_UP_STEPS = 100
# A diverging fit goes back, and on at this fraction of its learning rate, at most so many times.
_LOWER_RATE = 0.3
_MOST_FAILURES = 8


@dataclass(frozen=True)
class Options:
    """The options of `Flow.fit` that do not touch the data, checked."""

    epochs: int | None
    batch_size: int | None
    optimizer: Adam
    schedule: str
    max_time: float | None
    patience: float
    clip_norm: float
    seed: Seed
    progress: bool
    callback: Callable[[Flow, Epoch], object] | None

    @classmethod
    def checked(
        cls,
        *,
        epochs: int | None,
        batch_size: int | None,
        optimizer: Adam | None,
        schedule: str,
        max_time: float | None,
        patience: int | None,
        clip_norm: float | None,
        seed: Seed,
        progress: bool | None,
        callback: Callable[[Flow, Epoch], object] | None,
    ) -> Options:
        """Check each option against its range."""
        if optimizer is not None and not isinstance(optimizer, Adam):
            raise TypeError(f"optimizer must be Adam(), not {optimizer!r}")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        if not isinstance(progress, bool | None):
            raise TypeError(f"progress must be True, False or None, not {progress!r}")
        return cls(
            epochs=None if epochs is None else checks.integer("epochs", epochs, 1),
            batch_size=None if batch_size is None else checks.integer("batch_size", batch_size, 1),
            optimizer=Adam(learning_rate=2e-3) if optimizer is None else optimizer,
            schedule=checks.choice("schedule", schedule, ("cosine", "constant")),
            max_time=None if max_time is None else checks.number("max_time", max_time, 0.0, closed="neither"),
            patience=math.inf if patience is None else checks.integer("patience", patience, 1),
            clip_norm=math.inf if clip_norm is None else checks.number("clip_norm", clip_norm, 0.0, closed="right"),
            seed=seed,
            progress=_in_view() if progress is None else progress,
            callback=callback,
        )


def _in_view() -> bool:
    """Whether somebody looks at standard error: a terminal, or a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" or bool(sys.stderr and sys.stderr.isatty())


def table_of(flow: Flow, x: object, context: object, weights: object, name: str = "x") -> Rows:
    """Check a table of training rows by shape and type."""
    table = checks.table(x, flow.dim, name)
    if len(table) == 0:
        raise ValueError(f"{name} has no rows")
    conditions = checks.condition(context, flow.context, len(table))
    if conditions is not None and conditions.ndim == 1:
        raise ValueError(f"to fit, context must have one row per row of {name}: ({len(table)}, {flow.context})")
    return Rows.of(table, conditions, checks.row_weights(weights, len(table)))


def _pieces(rows: Rows) -> Iterator[tuple[Array, Array | None, Array | None, Index]]:
    """Walk rows in table order, a few at a time: the arrays and which rows of them."""
    for window in rows.windows():
        for first in range(0, len(window.index), _PIECE_ROWS):
            yield window.x, window.context, window.weights, window.index[first : first + _PIECE_ROWS]


def _check_finite(rows: Rows, name: str) -> None:
    for part, label in (("x", name), ("context", "context")):
        count, first, seen = 0, 0, 0
        for x, context, _, index in _pieces(rows):
            array = x if part == "x" else context
            if array is None:
                break
            bad = ~np.isfinite(array[index]).all(axis=1)
            if bad.any():
                first = first if count else seen + int(bad.argmax())
                count += int(bad.sum())
            seen += len(index)
        if count:
            raise ValueError(f"{label} has {count} rows with NaN or infinity, first at row {first}")


@dataclass
class _Moments:
    """Weighted mean and variance by column, combined piece by piece (Chan, Golub, LeVeque 1983)."""

    weight: float
    mean: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, width: int) -> _Moments:
        return cls(0.0, np.zeros(width), np.zeros(width), np.full(width, math.inf), np.full(width, -math.inf))

    def add(self, values: Array, weights: Array | None) -> None:
        values = values.astype(np.float64)
        w = np.ones(len(values)) if weights is None else weights
        values, w = values[w > 0], w[w > 0]
        if not len(values):
            return
        weight = float(w.sum())
        mean = w @ values / weight
        step, total = mean - self.mean, self.weight + weight
        self.square += w @ (values - mean) ** 2 + step**2 * self.weight * weight / total
        self.mean = self.mean + step * weight / total
        self.weight = total
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))

    def standardization(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        constant = np.flatnonzero(self.low == self.high)
        if len(constant):
            raise ValueError(
                f"{name} has constant features: {', '.join(map(str, constant))}; a density needs some spread in each"
            )
        with np.errstate(over="ignore"):
            scale = np.sqrt(self.square / self.weight)
        wide = np.flatnonzero(~np.isfinite(scale) | (scale == 0))
        if len(wide):
            raise ValueError(f"{name} has features whose spread is not a float64: {', '.join(map(str, wide))}")
        return self.mean, scale


def initialize(flow: Flow, rows: Rows) -> None:
    """Set standardisation and ActNorm from rows."""
    _check_finite(rows, "x")
    _start(flow, rows)


def _start(flow: Flow, rows: Rows) -> None:
    data, conditions = _Moments.of(flow.dim), _Moments.of(flow.context)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, context, weights, index in _pieces(rows):
            w = None if weights is None else weights[index]
            data.add(x[index], w)
            if context is not None:
                conditions.add(context[index], w)
    standardization = data.standardization("x")
    if flow.context:
        # A constant condition carries nothing, and does no harm.
        spread = np.sqrt(conditions.square / conditions.weight)
        context_standardization = conditions.mean, np.where(spread > 0, spread, 1.0)
    else:
        context_standardization = np.zeros(0), np.ones(0)
    flow._set_standardization(standardization, context_standardization)
    flow._data_dtype = rows.x.dtype
    flow._initialized = True
    x, context, weights = _some(rows)
    flow._core.initialize_from_data(x, context, weights, flow.num_threads)


def _some(rows: Rows) -> tuple[Array, Array | None, Array | None]:
    """Copy at most `_ROWS_TO_START` rows, evenly spaced."""
    step = -(-len(rows) // _ROWS_TO_START)
    parts = []
    for x, context, weights, index in _pieces(rows):
        at = index[::step]
        parts.append((x[at], None if context is None else context[at], None if weights is None else weights[at]))
    xs, contexts, all_weights = zip(*parts, strict=True)
    return (
        np.concatenate(xs),
        None if contexts[0] is None else np.concatenate(contexts),
        None if all_weights[0] is None else np.concatenate(all_weights),
    )


def _held_out(flow: Flow, rows: Rows, validation: Any, rng: np.random.Generator) -> tuple[Rows, Rows | None]:
    """Return the training rows and the validation rows."""
    if validation is None:
        return rows, None
    if np.ndim(validation) == 0 and not isinstance(validation, str):
        fraction = checks.number("validation", validation, 0.0, 1.0, closed="left", what="a fraction, rows or None")
        train, held = rows.split(fraction, rng)
        if not len(train):
            raise ValueError(f"validation={validation} leaves none of {len(rows)} rows to train on")
        return train, held if len(held) else None
    x, context = validation, None
    if flow.context:
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise ValueError("with a context, validation rows come as a tuple (x, context)")
        x, context = validation
    held = table_of(flow, x, context, None, "validation")
    _check_finite(held, "validation")
    return rows, held


def _loss(flow: Flow, rows: Rows) -> float:
    """Return the mean negative log-likelihood of rows."""
    total = weight = 0.0
    for x, context, weights, index in _pieces(rows):
        density = flow._core.log_prob(x, context, index, flow.num_threads)
        if weights is None:
            total, weight = total - float(density.sum()), weight + len(index)
        else:
            w = weights[index]
            total, weight = total - float(w[w > 0] @ density[w > 0]), weight + float(w.sum())
    return total / weight if weight else math.nan


def fit(flow: Flow, rows: Rows, validation: object, options: Options) -> None:
    """Fit a flow to rows."""
    rng = np.random.default_rng(options.seed)
    _check_finite(rows, "x")
    train, held = _held_out(flow, rows, validation, rng)
    if not flow._initialized:
        _start(flow, train)
    _Fit(flow, train, held, options, rng).run()


class _Fit:
    """One fit: the loop, and what it has to remember."""

    def __init__(self, flow: Flow, train: Rows, held: Rows | None, options: Options, rng: np.random.Generator) -> None:
        self.flow, self.train, self.held, self.options, self.rng = flow, train, held, options, rng
        self.parameters = flow.parameters
        self.gradient = np.empty_like(self.parameters)
        self.optimizer = options.optimizer.fresh()
        self.history = flow.history = History()
        self.best: npt.NDArray[Any] | None = None
        self.best_loss = math.inf
        self.good = self.parameters.copy()  # where to go back to when the loss is no longer finite
        self.failures = 0
        self.mean_weight = _mean_weight(train)
        # Measured on nine tables (docs/defaults.md): 256 rows a step do as well per epoch as fewer, and from 100,000
        # rows on 512 do as well per step as 256 and better per second.
        self.batch_size = options.batch_size or (256 if len(train) < 100_000 else 512)
        steps = -(-len(train) // self.batch_size)
        self.epochs: float = options.epochs or math.inf
        if options.epochs is None and options.max_time is None:
            self.epochs = min(200, max(1, 100_000 // steps))
        self.total_steps = self.epochs * steps
        self.started = time.perf_counter()
        self.steps = 0

    def run(self) -> None:
        self.history.stopped = "interrupted"
        try:
            with _Bar(self.options, self.epochs) as bar:
                while not self.history.stopped or self.history.stopped == "interrupted":
                    epoch = self.epoch()
                    bar.show(epoch)
                    if reason := self.why_stop(epoch):
                        self.history.stopped = reason
        except TrainingDivergedError:
            self.history.stopped = "diverged"
            raise
        finally:
            if self.best is not None:
                self.parameters[...] = self.best

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def out_of_time(self) -> bool:
        return self.options.max_time is not None and self.elapsed() >= self.options.max_time

    def why_stop(self, epoch: Epoch) -> str:
        if self.options.callback is not None and self.options.callback(self.flow, epoch):
            return "callback"
        if self.out_of_time():
            return "max_time"
        if epoch.epoch >= self.epochs:
            return "epochs"
        if self.held is not None and epoch.epoch - self.history.best_epoch >= self.options.patience:
            return "patience"
        return ""

    def learning_rate(self) -> float:
        rate = self.options.optimizer.learning_rate * _LOWER_RATE**self.failures
        # The first steps follow moments of a few gradients only; growing the rate over them keeps them short.
        rate *= min(1.0, (self.steps + 1) / min(_WARM_UP_STEPS, max(1.0, 0.1 * self.total_steps)))
        if self.options.schedule == "constant":
            return rate
        done = self.steps / self.total_steps
        if self.options.max_time is not None:
            done = max(done, self.elapsed() / self.options.max_time)
        return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def epoch(self) -> Epoch:
        """Go over the training rows once, or until the time is out, and score the validation rows."""
        losses = norms = rate = 0.0
        rows = steps = 0
        for batch in self.train.batches(self.batch_size, self.rng):
            rate = self.learning_rate()
            loss = self.flow._core.loss_and_grad(
                batch.x, batch.context, batch.weights, batch.index, len(batch.index) * self.mean_weight,
                self.gradient, self.flow.num_threads,
            )  # fmt: skip
            norm = math.nan
            if math.isfinite(loss):
                norm = self.optimizer.update(
                    self.parameters, self.gradient, rate, self.options.clip_norm, self.flow.num_threads
                )
            if not math.isfinite(norm):
                self.roll_back()
                continue
            self.steps += 1
            losses, norms = losses + loss * len(batch.index), norms + norm
            rows, steps = rows + len(batch.index), steps + 1
            if self.options.max_time is not None and self.out_of_time():
                break
        validation = math.nan if self.held is None else _loss(self.flow, self.held)
        epoch = Epoch(
            epoch=len(self.history) + 1,
            steps=self.steps,
            seconds=self.elapsed(),
            train_loss=losses / rows if rows else math.nan,
            validation_loss=validation,
            learning_rate=rate,
            grad_norm=norms / steps if steps else math.nan,
        )
        self.history.epochs.append(epoch)
        if self.held is None or validation < self.best_loss:
            self.best, self.best_loss = self.parameters.copy(), validation
            self.history.best_epoch = epoch.epoch
        if rows and not math.isinf(validation):
            self.good = self.parameters.copy()
        return epoch

    def roll_back(self) -> None:
        """Answer a loss that is not finite."""
        self.failures += 1
        self.parameters[...] = self.good
        self.optimizer = self.options.optimizer.fresh()
        if self.failures == 1:
            warnings.warn(
                f"the loss became non-finite at step {self.steps + 1}: going back to the last good parameters, "
                "and on with a lower learning rate",
                RuntimeWarning,
                stacklevel=6,
            )
        if self.failures > _MOST_FAILURES:
            raise TrainingDivergedError(
                f"the loss became non-finite {self.failures} times, at last with a learning rate of "
                f"{self.learning_rate():.1e}; the flow is at its best state so far. Look for extreme rows, or start "
                "with a lower learning rate"
            )


def _mean_weight(rows: Rows) -> float:
    if rows.weights is None:
        return 1.0
    total = sum(float(window.weights[window.index].sum()) for window in rows.windows() if window.weights is not None)
    if not total > 0:
        raise ValueError("the weights of the training rows are all zero")
    return total / len(rows)


class _Bar:
    """The progress bar: epochs, or seconds where only the time is limited."""

    def __init__(self, options: Options, epochs: float) -> None:
        self.by_time = math.isinf(epochs)
        self.total = options.max_time if self.by_time else epochs
        self.shown = options.progress
        self.bar: Any = None

    def __enter__(self) -> _Bar:
        if self.shown:
            from tqdm.auto import tqdm  # 15 ms to import

            layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(total=self.total, desc="fit", unit="s" if self.by_time else "epochs", bar_format=layout)
        return self

    def show(self, epoch: Epoch) -> None:
        if self.bar is not None:
            done = min(epoch.seconds, self.total or 0.0) if self.by_time else epoch.epoch
            self.bar.update(done - self.bar.n)
            self.bar.set_postfix_str(f"loss {epoch.train_loss:.4f}, validation {epoch.validation_loss:.4f}")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
