"""The training loop: batches, learning rates, early stopping, and what happens when something goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from pushforward._fit import checkpoint
from pushforward._fit.bar import Show, bar
from pushforward._fit.frozen import Frozen, decayed
from pushforward._fit.history import Epoch
from pushforward._fit.objective import Objective
from pushforward._fit.options import Options
from pushforward._fit.progress import Progress, generator
from pushforward._fit.schedule import Schedule
from pushforward._io import files
from pushforward._model.parametric import Parametric
from pushforward._model.state import State
from pushforward._typing import Floats
from pushforward._warn import warn
from pushforward.errors import FileFormatError, TrainingDivergedError

_MOST_FAILURES = 8
_STOPPED = ("epochs", "max_calls", "max_time", "patience", "callback", "interrupted")
"""Why a fit that left a checkpoint ended."""
# Measured (docs/defaults.md): the moving average of the parameters reaches over so many epochs, and no more steps than
# this.
_AVERAGED_EPOCHS = 5
_MOST_AVERAGED_STEPS = 500

M = TypeVar("M", bound=Parametric)


class Loop(Generic[M]):
    """A fit: steps of an optimiser on an objective, until there is a reason to stop.

    Parameters
    ----------
    state : Parametric
        The model; its parameters change in place. Checkpoints are for a flow's `State`.
    objective : Objective
        What is minimised.
    options : Options
        The options of the fit, with an optimiser and a batch size.
    progress : Progress
        Where the fit begins, or is resumed.
    last_epoch : str
        What the reason to stop is called when the epochs are done.
    """

    def __init__(
        self,
        state: M,
        objective: Objective[Any],
        options: Options,
        progress: Progress,
        last_epoch: str = "epochs",
    ) -> None:
        optimizer = options.optimizer
        assert optimizer is not None
        self.state, self.progress, self.history = state, progress, progress.history
        self._objective, self._options, self._adam = objective, options, optimizer
        progress.optimizer = optimizer.fresh(progress.optimizer)
        self._parameters = state.parameters
        self._window = min(_AVERAGED_EPOCHS * objective.steps, _MOST_AVERAGED_STEPS)
        self._gradient = np.empty_like(self._parameters)
        self._frozen = Frozen(state, tuple(options.frozen))
        self._decayed = decayed(state, self._frozen)
        self._epochs = math.inf if options.epochs is None else options.epochs
        self._schedule = Schedule(
            options.schedule, optimizer.learning_rate, self._epochs * objective.steps, options.max_time
        )
        self._dropout_seed = int(generator(progress.rng_of_split).integers(1 << 62))
        self._rng = generator(progress.rng_of_epoch)
        self._started, self._last_epoch = time.perf_counter() - progress.elapsed, last_epoch
        self._group, self._now = objective.group, progress.elapsed
        self._show: Show | None = None
        self.finish: Callable[[], None] | None = None
        """What is done with the best state at the end, unless an exception ends the fit."""

    def run(self, on_epoch: Callable[[Epoch], object] | None = None) -> None:
        """Go through the fit, and leave the flow at its best parameters, also if an exception ends it.

        `on_epoch` is called with the record of each epoch; a true result ends the fit.
        """
        reason = self.history.stopped
        self.history.stopped = "interrupted"
        try:
            if not reason:
                if not self.history and not self.progress.position:
                    self._score_start()
                    self._objective.advance(0.0)
                with bar(self._done()) if self._options.progress else contextlib.nullcontext() as self._show:
                    while not reason:
                        reason = self._why_stop(self._epoch(), on_epoch)
                self._let_last_state_compete()
            self.history.stopped = reason
            if self._options.checkpoint is not None:
                self._write_checkpoint()
        except TrainingDivergedError:
            self.history.stopped = "diverged"
            raise
        finally:
            if self.progress.best is not None:
                self._parameters[...] = self.progress.best
        if self.finish is not None:
            self.finish()

    def settings(self) -> dict[str, Any]:
        """Return what a fit must have in common with the one that it resumes, in JSON's types."""
        options = self._options
        return {
            **self._objective.settings(),
            "epochs": None if math.isinf(self._epochs) else self._epochs,
            "optimizer": repr(self._adam),
            "schedule": options.schedule,
            "max_time": options.max_time,
            "patience": options.patience,
            "clip_norm": options.clip_norm,
            **({"frozen": list(self._frozen.layers)} if self._frozen.layers else {}),
        }

    def resume(self, settings: Mapping[str, Any]) -> None:
        """Check that the progress is that of this fit, with the settings that a checkpoint has, and go on from it.

        Another fit is a ValueError, progress that this fit cannot have made a FileFormatError.
        """
        mine = self.settings()
        names = {**mine, **settings}
        differ = [f"{k} was {settings.get(k)}, now {mine.get(k)}" for k in names if mine.get(k) != settings.get(k)]
        if differ:
            raise ValueError(f"resume= goes on with the same fit on the same rows; here {'; '.join(differ)}")
        assert self._options.resume is not None
        with files.reading(self._options.resume):
            self._check_progress()
            self._objective.restore(self.progress.carried, self.progress.carried_arrays)
        if self.history.stopped == "interrupted":
            self.history.stopped = ""

    def _check_progress(self) -> None:
        progress, rate = self.progress, self._adam.learning_rate
        steps, batch_size = self._objective.steps + self._objective.spare, self._options.batch_size
        assert batch_size is not None
        for name, is_so in (
            ("epochs", len(self.history) <= self._epochs),
            ("stopped", self.history.stopped in _STOPPED),
            ("position", progress.position <= steps),
            ("steps", progress.steps <= (len(self.history) + 1) * steps),
            ("rows_done", progress.rows_done <= progress.steps_done * batch_size),
            ("failures", progress.failures <= _MOST_FAILURES),
            ("rate", progress.rate <= rate),
            ("cooling_steps", progress.cooling_steps <= (self._options.patience or 0) * steps),
            ("cooling_rate", progress.cooling_rate <= rate),
        ):
            if not is_so:
                raise FileFormatError(f"the state is damaged: {name} is not possible in this fit")

    # -- what is scored and kept ---------------------------------------------------------------------------------

    def _score_start(self) -> None:
        """Score the state in which the fit begins: it is kept if no epoch is better."""
        if not self._objective.is_scored:
            return
        score = self._objective.score()
        self.history.initial_loss = score
        self._keep_if_best(self._parameters, score, 0)

    def _let_last_state_compete(self) -> None:
        """Score the parameters of the last step too, which the average has not reached yet."""
        if self._objective.is_scored and self.history:
            self._parameters[...] = self.progress.good
            self._keep_if_best(self._parameters, self._objective.score(), len(self.history))

    def _keep_if_best(self, parameters: Floats, score: float, epoch: int) -> None:
        if score < self.progress.best_loss:
            self.progress.best, self.progress.best_loss = parameters.copy(), score
            self.history.best_epoch, self.history.best_loss = epoch, score

    # -- one epoch -----------------------------------------------------------------------------------------------

    def _epoch(self) -> Epoch:
        """Go over the batches once, or until the time is out, and score the average of the parameters.

        The flow is left with the average; the next epoch goes on from `progress.good`.
        """
        progress, objective = self.progress, self._objective
        if self.history and not progress.position:
            self._parameters[...] = progress.good
        for batch in itertools.islice(objective.batches(self._rng), progress.position, None):
            if not self._step(batch):
                continue
            self._report()
            if self._options.checkpoint is not None and progress.steps % self._options.checkpoint_every == 0:
                self._write_checkpoint()
            if self._out_of_time():
                break
        last = self._parameters.copy()
        self._parameters[...] = progress.average
        score = objective.score()
        self._look_at_clock()
        is_sound = math.isfinite(score if objective.is_scored else objective.probe())
        if is_sound:
            objective.advance(self._done_after(len(self.history) + 1))
        epoch = Epoch(
            epoch=len(self.history) + 1,
            steps=progress.steps,
            seconds=self._elapsed(),
            train_loss=progress.losses / progress.rows_done if progress.rows_done else math.nan,
            validation_loss=score,
            learning_rate=progress.rate,
            grad_norm=progress.norms / progress.steps_done if progress.steps_done else math.nan,
            **objective.estimates(),
        )
        self.history.epochs.append(epoch)
        if not is_sound:
            self._roll_back()
        else:
            progress.good = last
            if objective.is_scored:
                self._keep_if_best(progress.average, score, epoch.epoch)
            else:
                progress.best, self.history.best_epoch = progress.average.copy(), epoch.epoch
        progress.begin_epoch(self._rng)
        self._report()
        return epoch

    def _step(self, batch: Any) -> bool:
        """Make one step; return whether the loss was finite."""
        progress, options = self.progress, self._options
        if options.max_time is not None:
            self._look_at_clock()
        progress.rate = self._schedule.rate(progress.steps, progress.failures, self._elapsed(), progress.cooling)
        loss, norm = self._objective.loss_and_grad(batch, self._gradient, self._dropout_key())
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            self._frozen.clear(self._gradient)
            norm = progress.optimizer.update(
                self._parameters,
                self._gradient,
                progress.rate,
                math.inf if options.clip_norm is None else options.clip_norm,
                self.state.num_threads,
                self._decayed,
                None if self._frozen else norm,
                progress.average,
                1 / min(progress.averaged + 1, self._window),
            )
            self._frozen.restore(self._parameters, progress.average)
        progress.position += 1
        if not finite:
            self._roll_back()
            return False
        size = self._objective.size(batch)
        progress.steps += 1
        progress.averaged += 1
        progress.losses += loss * size
        progress.norms += norm
        progress.rows_done += size
        progress.steps_done += 1
        return True

    def _dropout_key(self) -> int:
        """Return what decides which units the next step leaves out, another for each batch of the fit."""
        return (self._dropout_seed + (len(self.history) << 32) + self.progress.position) | 1 << 63

    def _roll_back(self) -> None:
        """Go back to the last good parameters, and on with a lower learning rate."""
        progress = self.progress
        progress.failures += 1
        self._go_on_from(progress.good)
        progress.optimizer = self._adam.fresh()
        if progress.failures == 1:
            warn(
                f"the loss became non-finite at step {progress.steps + 1}: the fit goes back to the last good "
                "parameters, and on with a lower learning rate"
            )
        if progress.failures > _MOST_FAILURES:
            raise TrainingDivergedError(
                f"the loss became non-finite {progress.failures} times, the last time with a learning rate of "
                f"{progress.rate:.1e}; the flow is at its best state so far. Look for extreme rows, or start with a "
                "lower learning rate"
            )

    def _go_on_from(self, parameters: Floats) -> None:
        """Set the parameters, from which the average begins anew."""
        self.progress.good = parameters.copy()
        self.progress.average[...] = self._parameters[...] = parameters
        self.progress.averaged = 0

    # -- when to stop --------------------------------------------------------------------------------------------

    def _why_stop(self, epoch: Epoch, on_epoch: Callable[[Epoch], object] | None) -> str:
        """Return the reason to stop after an epoch, or an empty string."""
        with self._group.agree():
            wants_to_stop = on_epoch is not None and bool(on_epoch(epoch))
        if any(self._group.collected(wants_to_stop)):
            return "callback"
        if self._out_of_time():
            return "max_time"
        if epoch.epoch >= self._epochs:
            return self._last_epoch
        return "patience" if self._objective.is_scored and self._patience_is_out(epoch) else ""

    def _patience_is_out(self, epoch: Epoch) -> bool:
        """Whether to stop because epochs no longer get better.

        The first time that they do not, the fit goes back to its best state, and the learning rate falls to 0.
        """
        progress, patience = self.progress, self._options.patience
        if progress.cooling is not None:
            return progress.cooling.is_over(progress.steps)
        if patience is None or epoch.epoch - self.history.best_epoch < patience:
            return False
        assert progress.best is not None
        self._go_on_from(progress.best)
        epochs = min(patience, max(self.history.best_epoch, 1))
        progress.cooling_start, progress.cooling_steps = progress.steps, epochs * self._objective.steps
        progress.cooling_rate = epoch.learning_rate
        return False

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started if self._group.size == 1 else self._now

    def _look_at_clock(self) -> None:
        """Let several processes have one time, that of the first: they have to stop together."""
        if self._group.size > 1:
            self._now = self._group.of_first(time.perf_counter() - self._started)

    def _out_of_time(self) -> bool:
        return self._options.max_time is not None and self._elapsed() >= self._options.max_time

    # -- what is shown and written -------------------------------------------------------------------------------

    def _done(self) -> float:
        """Return the share of the fit that is done, by steps or by time, whichever is more."""
        return self._done_after(len(self.history) + min(self.progress.position / self._objective.steps, 1.0))

    def _done_after(self, epochs: float) -> float:
        by_time = 0.0 if self._options.max_time is None else self._elapsed() / self._options.max_time
        return min(max(epochs / self._epochs, by_time), 1.0)

    def _report(self) -> None:
        """Move the bar: after each step with the loss of the epoch so far, and at its end."""
        progress = self.progress
        if self._show is None or not (progress.rows_done or self.history):
            return
        last = self.history.epochs[-1] if self.history else None
        number = len(self.history) + (progress.position > 0)
        of = "" if math.isinf(self._epochs) else f"/{self._epochs:.0f}"
        loss = progress.losses / progress.rows_done if progress.rows_done or last is None else last.train_loss
        held = "" if last is None or not self._objective.is_scored else f", validation {last.validation_loss:.4f}"
        self._show(self._done(), f"epoch {number}{of}, loss {loss:.4f}{held}")

    def _write_checkpoint(self) -> None:
        assert self._options.checkpoint is not None
        if not (np.isfinite(self._parameters).all() and self.progress.is_finite):
            return  # the fit is about to go back; the checkpoint before this one can be resumed
        assert isinstance(self.state, State)
        self._look_at_clock()
        self.progress.elapsed = self._elapsed()
        self.progress.carried, self.progress.carried_arrays = self._objective.carried()
        found = checkpoint.Checkpoint(self.state, self.progress, self.settings())
        with self._group.agree():
            if self._group.is_first:
                checkpoint.write(self._options.checkpoint, found)
