"""The training loop: minibatches, learning rates, early stopping, and what happens when something goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pushforward import checkpoint, checks, files, start
from pushforward.errors import TrainingDivergedError
from pushforward.history import Epoch, History
from pushforward.optimizer import Adam
from pushforward.progress import Show, bar, in_view
from pushforward.rows import Rows

if TYPE_CHECKING:
    from pushforward.flow import Flow, Seed

_WARM_UP_STEPS = 100
# A diverging fit goes back, and on at this fraction of its learning rate, at most so many times.
_LOWER_RATE = 0.3
_MOST_FAILURES = 8


@dataclass(frozen=True)
class Options:
    """The options of `Flow.fit` that do not touch the data, checked."""

    epochs: int | None
    batch_size: int | None
    optimizer: Adam | None
    schedule: str
    max_time: float | None
    patience: int | None
    clip_norm: float | None
    seed: Seed
    progress: bool
    callback: Callable[[Flow, Epoch], object] | None
    checkpoint: files.PathLike | None
    checkpoint_every: int
    resume: files.PathLike | None

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
        checkpoint: files.PathLike | None,
        checkpoint_every: int,
        resume: files.PathLike | None,
    ) -> Options:
        """Check each option against its range."""
        if optimizer is not None and not isinstance(optimizer, Adam):
            raise TypeError(f"optimizer must be Adam(), not {optimizer!r}")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        if not isinstance(progress, bool | None):
            raise TypeError(f"progress must be True, False or None, not {progress!r}")
        np.random.default_rng(seed)  # raises what it has to say
        return cls(
            epochs=None if epochs is None else checks.integer("epochs", epochs, 1),
            batch_size=None if batch_size is None else checks.integer("batch_size", batch_size, 1),
            optimizer=optimizer,
            schedule=checks.choice("schedule", schedule, ("cosine", "constant")),
            max_time=None if max_time is None else checks.number("max_time", max_time, 0.0, closed="neither"),
            patience=None if patience is None else checks.integer("patience", patience, 1),
            clip_norm=None if clip_norm is None else checks.number("clip_norm", clip_norm, 0.0, closed="right"),
            seed=seed,
            progress=in_view() if progress is None else progress,
            callback=callback,
            checkpoint=None if checkpoint is None else checks.path("checkpoint", checkpoint),
            checkpoint_every=checks.integer("checkpoint_every", checkpoint_every, 1),
            resume=None if resume is None else checks.path("resume", resume),
        )


def fit(flow: Flow, rows: Rows, validation: object, options: Options) -> None:
    """Fit a flow to rows."""
    start.check_density(rows, flow.support)
    if options.resume is not None:
        _resume(flow, rows, validation, options, options.resume)
        return
    # A generator of our own kind, whose state a checkpoint can hold.
    given = options.seed
    rng = np.random.default_rng(given.integers(1 << 63) if isinstance(given, np.random.Generator) else given)
    rng_of_split = rng.bit_generator.state
    train, held = start.held_out(flow, rows, validation, rng)
    mean_weight = start.mean_weight(train)
    if held is not None:
        start.mean_weight(held, "validation")
    if not flow._initialized:
        start.initialize(flow, train)
    _Fit(flow, rows, train, held, options, rng, rng_of_split, mean_weight).run()


def _resume(flow: Flow, rows: Rows, validation: object, options: Options, path: files.PathLike) -> None:
    """Go on with the fit that a checkpoint holds."""
    found = checkpoint.load(flow, path)
    rng = _generator(found.state["rng_of_split"])
    train, held = start.held_out(flow, rows, validation, rng)
    mean_weight = start.mean_weight(train)
    fit = _Fit(found.flow, rows, train, held, options, rng, found.state["rng_of_split"], mean_weight)
    fit.go_on(found)
    flow.__dict__.update(found.flow.__dict__)
    fit.flow = flow
    fit.run()


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return rng


def default_optimizer(rows: int) -> Adam:
    """Return the settings for a number of training rows: the fewer rows, the more a flow is held back by decay."""
    # Measured (docs/defaults.md): a decay of 1 costs 1.5 nats on 45,000 rows, none costs 3 on 3,000.
    return Adam(learning_rate=3e-3, weight_decay=min(1.0, 5000 / rows))


def _network_weights(flow: Flow) -> npt.NDArray[np.int64]:
    """Return where the weights of networks stand in the parameter vector, (k, 2) of first and last + 1."""
    runs, first = [], 0
    for name, values in flow.named_parameters().items():
        if ".conditioner." in name and name.endswith(".weight"):
            runs.append((first, first + values.size))
        first += values.size
    return np.array(runs, dtype=np.int64).reshape(-1, 2)


class _Fit:
    """One fit: the loop, and what it has to remember.

    An epoch's minibatches follow from the state of the random numbers at its start, so that with the number of those
    done a checkpoint can stand at any step.
    """

    def __init__(
        self,
        flow: Flow,
        rows: Rows,
        train: Rows,
        held: Rows | None,
        options: Options,
        rng: np.random.Generator,
        rng_of_split: Mapping[str, Any],
        mean_weight: float,
    ) -> None:
        self.flow, self.rows, self.train, self.held, self.options, self.rng = flow, rows, train, held, options, rng
        self.parameters = flow.parameters
        self.gradient = np.empty_like(self.parameters)
        self.settings_of_adam = options.optimizer or default_optimizer(len(train))
        self.optimizer = self.settings_of_adam.fresh()
        self.decayed = _network_weights(flow)
        self.history = flow.history = History()
        self.best: npt.NDArray[Any] | None = None
        self.best_loss = math.inf
        self.good = self.parameters.copy()  # where to go back to when the loss is no longer finite
        self.failures = 0
        self.steps = 0
        self.mean_weight = mean_weight
        # Without held-out rows these tell whether an epoch left a density at all.
        self.probe = replace(train, blocks=train.blocks[: max(1, 1024 // train.block)])
        # From 100,000 rows on an epoch has steps enough, and larger ones cost less a row.
        self.batch_size = options.batch_size or (256 if len(train) < 100_000 else 512)
        steps = -(-len(train) // self.batch_size)
        self.epochs: float = options.epochs or math.inf
        if options.epochs is None and options.max_time is None:
            self.epochs = min(100, max(1, 100_000 // steps))
        self.steps_an_epoch = steps
        self.total_steps = self.epochs * steps
        self.show: Show | None = None
        self.started = time.perf_counter()
        self.rng_of_split = rng_of_split
        self.dropout_seed = int(_generator(rng_of_split).integers(1 << 62))
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self.rng_of_epoch = self.rng.bit_generator.state
        self.position = 0  # minibatches done
        self.losses = self.norms = self.rate = 0.0
        self.rows_done = self.steps_done = 0

    def run(self) -> None:
        reason = self.history.stopped
        self.history.stopped = "interrupted"
        try:
            with bar(self.done()) if self.options.progress else contextlib.nullcontext() as self.show:
                while not reason:
                    reason = self.why_stop(self.epoch())
            self.history.stopped = reason
            if self.options.checkpoint is not None:
                self.save_checkpoint()
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

    def done(self) -> float:
        """Return the share of the fit that is done, by steps or by time, whichever is more."""
        epochs = len(self.history) + min(self.position / self.steps_an_epoch, 1.0)
        by_time = 0.0 if self.options.max_time is None else self.elapsed() / self.options.max_time
        return min(max(epochs / self.epochs, by_time), 1.0)

    def report(self) -> None:
        """Move the bar: after each step with the loss of the epoch so far, and at its end."""
        if self.show is None or not (self.rows_done or self.history):
            return
        last = self.history.epochs[-1] if self.history else None
        number = len(self.history) + (self.position > 0)
        of = "" if math.isinf(self.epochs) else f"/{self.epochs:.0f}"
        loss = self.losses / self.rows_done if self.rows_done or last is None else last.train_loss
        held = "" if last is None or self.held is None else f", validation {last.validation_loss:.4f}"
        self.show(self.done(), f"epoch {number}{of}, loss {loss:.4f}{held}")

    def why_stop(self, epoch: Epoch) -> str:
        if self.options.callback is not None and self.options.callback(self.flow, epoch):
            return "callback"
        if self.out_of_time():
            return "max_time"
        if epoch.epoch >= self.epochs:
            return "epochs"
        patience = self.options.patience
        if self.held is not None and patience is not None and epoch.epoch - self.history.best_epoch >= patience:
            return "patience"
        return ""

    def learning_rate(self) -> float:
        rate = self.settings_of_adam.learning_rate * _LOWER_RATE**self.failures
        # The first steps follow moments of a few gradients only; growing the rate over them keeps them short.
        rate *= min(1.0, (self.steps + 1) / min(_WARM_UP_STEPS, max(1.0, 0.1 * self.total_steps)))
        if self.options.schedule == "constant":
            return rate
        done = self.steps / self.total_steps
        if self.options.max_time is not None:
            done = max(done, self.elapsed() / self.options.max_time)
        return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def dropout_key(self) -> int:
        """Return what decides which units the next step leaves out, another for each minibatch of the fit."""
        return (self.dropout_seed + (len(self.history) << 32) + self.position) | 1 << 63

    def epoch(self) -> Epoch:
        """Go over the training rows once, or until the time is out, and score the validation rows."""
        clip_norm = math.inf if self.options.clip_norm is None else self.options.clip_norm
        for batch in itertools.islice(self.train.batches(self.batch_size, self.rng), self.position, None):
            self.rate = self.learning_rate()
            loss, norm = self.flow._core.loss_and_grad(
                batch.x,
                self.gradient,
                context=batch.context,
                weights=batch.weights,
                index=batch.index,
                normalizer=len(batch.index) * self.mean_weight,
                dropout=self.dropout_key(),
                threads=self.flow.num_threads,
            )
            finite = math.isfinite(loss) and math.isfinite(norm)
            if finite:
                self.optimizer.update(
                    self.parameters, self.gradient, self.rate, clip_norm, self.flow.num_threads, self.decayed, norm
                )
            self.position += 1
            if not finite:
                self.roll_back()
                continue
            self.steps += 1
            self.losses += loss * len(batch.index)
            self.norms += norm
            self.rows_done += len(batch.index)
            self.steps_done += 1
            self.report()
            if self.options.checkpoint is not None and self.steps % self.options.checkpoint_every == 0:
                self.save_checkpoint()
            if self.options.max_time is not None and self.out_of_time():
                break
        validation = math.nan if self.held is None else start.loss(self.flow, self.held)
        epoch = Epoch(
            epoch=len(self.history) + 1,
            steps=self.steps,
            seconds=self.elapsed(),
            train_loss=self.losses / self.rows_done if self.rows_done else math.nan,
            validation_loss=validation,
            learning_rate=self.rate,
            grad_norm=self.norms / self.steps_done if self.steps_done else math.nan,
        )
        self.history.epochs.append(epoch)
        if not math.isfinite(start.loss(self.flow, self.probe) if self.held is None else validation):
            self.roll_back()
        else:
            self.good = self.parameters.copy()
            if self.held is None or validation < self.best_loss:
                self.best, self.best_loss = self.good, validation
                self.history.best_epoch = epoch.epoch
        self.begin_epoch()
        self.report()
        return epoch

    def roll_back(self) -> None:
        """Answer a loss that is not finite."""
        self.failures += 1
        self.parameters[...] = self.good
        self.optimizer = self.settings_of_adam.fresh()
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
                f"{self.rate:.1e}; the flow is at its best state so far. Look for extreme rows, or start "
                "with a lower learning rate"
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what a fit must have in common with the one it goes on with."""
        return {
            "rows": checkpoint.fingerprint(self.rows),
            "training_rows": len(self.train),
            "validation": None if self.held is None else checkpoint.fingerprint(self.held),
            "batch_size": self.batch_size,
            "epochs": None if math.isinf(self.epochs) else self.epochs,
            "optimizer": repr(self.settings_of_adam),
            "schedule": self.options.schedule,
            "max_time": self.options.max_time,
            "patience": self.options.patience,
            "clip_norm": self.options.clip_norm,
        }

    def save_checkpoint(self) -> None:
        assert self.options.checkpoint is not None
        vectors = {"best": self.best, "good": self.good, "mean": self.optimizer.mean, "square": self.optimizer.square}
        state = {
            "rng_of_split": self.rng_of_split,
            "rng_of_epoch": self.rng_of_epoch,
            "position": self.position,
            "steps": self.steps,
            "adam_steps": self.optimizer.steps,
            "failures": self.failures,
            "best_loss": None if not math.isfinite(self.best_loss) else self.best_loss,
            "losses": self.losses,
            "norms": self.norms,
            "rate": self.rate,
            "rows_done": self.rows_done,
            "steps_done": self.steps_done,
            "elapsed": self.elapsed(),
        }
        present = {name: vector for name, vector in vectors.items() if vector is not None}
        checkpoint.save(
            self.options.checkpoint,
            checkpoint.Checkpoint(self.flow, self.history, present, state, self.settings()),
        )

    def go_on(self, found: checkpoint.Checkpoint) -> None:
        """Take over the state of a checkpoint."""
        mine = self.settings()
        if mine != found.settings:
            differ = [
                f"{k} was {found.settings.get(k)}, now {mine[k]}" for k in mine if mine[k] != found.settings.get(k)
            ]
            raise ValueError(f"resume= goes on with the same fit on the same rows; here {'; '.join(differ)}")
        state, vectors = found.state, found.vectors
        self.history = self.flow.history = found.history
        if self.history.stopped == "interrupted":
            self.history.stopped = ""
        self.best, self.good = vectors.get("best"), vectors["good"].copy()
        self.best_loss = math.inf if state["best_loss"] is None else float(state["best_loss"])
        if "mean" in vectors:
            self.optimizer.mean, self.optimizer.square = vectors["mean"].copy(), vectors["square"].copy()
        self.optimizer.steps, self.failures = int(state["adam_steps"]), int(state["failures"])
        self.rng = _generator(state["rng_of_epoch"])
        self.begin_epoch()
        self.position, self.steps = int(state["position"]), int(state["steps"])
        self.losses, self.norms, self.rate = float(state["losses"]), float(state["norms"]), float(state["rate"])
        self.rows_done, self.steps_done = int(state["rows_done"]), int(state["steps_done"])
        self.started = time.perf_counter() - float(state["elapsed"])
