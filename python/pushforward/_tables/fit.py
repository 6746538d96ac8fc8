"""The fit of a table's model: the masses, then the flow of each number, by the loop of every fit.

All parts start before any is trained, so that a fit which is interrupted leaves a whole model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pushforward._fit.bar import Show, bar
from pushforward._fit.held_out import Share, chosen_rows
from pushforward._fit.history import Epoch, History
from pushforward._fit.loop import Loop
from pushforward._fit.objective import MaximumLikelihood
from pushforward._fit.options import Options, optimizer_for
from pushforward._fit.progress import Progress
from pushforward._fit.size import size
from pushforward._io.rows import Rows
from pushforward._io.scan import fingerprint
from pushforward._model.masses import Masses
from pushforward._tables.cells import Cells
from pushforward._tables.files import Saved
from pushforward._tables.model import Coded, TableModel
from pushforward._tables.schema import Schema
from pushforward._tables.start import Split, start_flow, start_masses, summaries, with_chosen_warps
from pushforward._typing import Array, Doubles
from pushforward.errors import FileFormatError
from pushforward.flow import Flow

# An epoch of a large table does as much as many of a small one. More epochs than these did not score better.
_ROWS_IN_ALL = 1_500_000
_EPOCHS = (20, 60)
# Masses of few rows come from many small steps: 0.2 to 0.5 nats a row better than by the batches of flows.
_FEW_ROWS, _BATCH_OF_FEW = 1000, 16
# A larger decay leaves the masses of small tables too near to independence.
_MOST_DECAY_OF_MASSES = 3.0

MASSES = "masses"
"""The name of the part that is no column's."""

OnEpoch = Callable[[str, Epoch], object]


class TableFit:
    """The fit of a table's model.

    Parameters
    ----------
    schema : Schema
        What the columns hold.
    cells : mapping of str to Cells
        The rows.
    validation : mapping of str to Cells, optional
        Rows to hold out; without any a fraction of the others.
    weights : (n,) array, optional
        Positive weights of the rows.
    options : Options
        The options of the fit; its validation is a `Share` of the rows.
    key : int
        Fixes all that is random.
    num_threads : int, optional
        Threads of every call.

    Attributes
    ----------
    model : TableModel
        The model; each part is at its start until it is trained.
    histories : dict of str to History
        The curves of each part that was trained, by its name.
    done : int
        How many parts are trained.
    """

    def __init__(
        self,
        schema: Schema,
        cells: Mapping[str, Cells],
        validation: Mapping[str, Cells] | None,
        weights: Doubles | None,
        options: Options,
        key: int,
        num_threads: int | None,
    ) -> None:
        found = summaries(schema, cells, weights)
        self.model = TableModel(schema, found)
        self._options, self.key = options, key
        self.histories: dict[str, History] = {}
        self.done = 0
        self.elapsed = 0.0
        self._split = self._split_of(cells, validation, weights)
        self.model = TableModel(schema, with_chosen_warps(schema, found, self._split, key))
        self._trainable: set[int] = set()
        if len(self.model.coded):
            codes, w = self._split.of_training(self._codes()), self._split.training_weights
            self.model.masses = start_masses(self.model, codes, w, self._rng(0))
        for number in self.model.numbers:
            self._start_flow(number)
        self.model.num_threads = num_threads
        if validation is not None:
            self._check_held()

    def _check_held(self) -> None:
        """Raise a ValueError for held-out rows without a density: their loss would be infinite."""
        bad = ~np.isfinite(np.add(*self.model.log_prob(self._split.coded.part(self._split.held))))
        if bad.any():
            count = int(bad.sum())
            raise ValueError(
                f"validation has {count} row{'s' * (count > 1)} with values that the schema does not allow, first at "
                f"row {bad.argmax()}"
            )

    def _split_of(
        self, cells: Mapping[str, Cells], validation: Mapping[str, Cells] | None, weights: Doubles | None
    ) -> Split:
        coded = self.model.encode(cells)
        rows = len(coded)
        if validation is None:
            share: Share = self._options.validation
            held = chosen_rows(rows, share.fraction, np.random.default_rng(self.key), share.groups)
            return Split(coded, held, weights)
        more = self.model.encode(validation)
        coded = Coded(np.concatenate([coded.codes, more.codes]), np.concatenate([coded.values, more.values]))
        held = np.arange(len(coded)) >= rows
        return Split(coded, held, None if weights is None else np.concatenate([weights, np.ones(len(more))]))

    def _rng(self, part: int) -> np.random.Generator:
        """Return random numbers of one part's start; its training has others."""
        return np.random.default_rng([self.key, part])

    def _codes(self) -> Doubles:
        return self.model.codes_of(self._split.coded)

    def _rows_of(self, number: int) -> tuple[Split, Doubles, Doubles | None]:
        """Return the rows that have a value of a number which is no atom, its points, and the context."""
        at = np.flatnonzero(self.model.has_value(self._split.coded, number))
        some, axis = self._split.rows(at), self.model.codings[number].axis
        assert axis is not None
        # Where in its cell a rounded number lies is drawn once for all epochs.
        places = self._rng(1 + number).uniform(size=len(at))
        return some, axis.points(some.coded.values[:, number], places), self.model.context(some.coded, number)

    def _start_flow(self, number: int) -> None:
        coding = self.model.codings[number]
        some, points, context = self._rows_of(number)
        context = None if context is None else some.of_training(context)
        flow, is_trainable = start_flow(
            coding, some.of_training(points), context, some.training_weights, self._rng(1 + number)
        )
        # Differences of a distribution function need the digits; training does not.
        self.model.flows[coding.name] = flow.astype("float64")
        if is_trainable:
            self._trainable.add(number)

    # -- the parts, one after another ----------------------------------------------------------------------------

    @property
    def parts(self) -> list[int | None]:
        """The columns whose flows are trained, in order; None stands for the masses, which come first."""
        masses: list[int | None] = [None] if self.model.masses is not None else []
        return [*masses, *(number for number in self.model.numbers if number in self._trainable)]

    def settings(self) -> dict[str, Any]:
        """Return what a fit must have in common with the one that it resumes, in JSON's types."""
        options, split = self._options, self._split
        table = np.ascontiguousarray(np.column_stack([split.coded.codes, split.coded.values, split.held]))
        return {
            "rows": fingerprint(Rows.of(table, None, split.weights)),
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "max_time": options.max_time,
            "optimizer": repr(options.optimizer),
            "schedule": options.schedule,
            "patience": options.patience,
        }

    def progress(self) -> dict[str, Any]:
        """Return how far the fit has come, in JSON's types."""
        return {"key": self.key, "done": self.done, "elapsed": self.elapsed, "settings": self.settings()}

    def resume(self, saved: Saved) -> None:
        """Take the parts that are done from a checkpoint. One of another fit is a ValueError."""
        assert saved.progress is not None
        mine, theirs = self.settings(), saved.progress["settings"]
        names = {**mine, **theirs}
        differ = [f"{k} was {theirs.get(k)}, now {mine.get(k)}" for k in names if mine.get(k) != theirs.get(k)]
        if saved.model.schema != self.model.schema:
            differ.append("the schema is another one")
        if differ:
            raise ValueError(f"resume= goes on with the same fit on the same rows; here {'; '.join(differ)}")
        self.done, self.elapsed = saved.progress["done"], saved.progress["elapsed"]
        if self.done > len(self.parts):
            raise FileFormatError("the progress of the fit is damaged: more parts are done than there are")
        for part in self.parts[: self.done]:
            name = self._name(part)
            if part is None:
                self.model.masses = saved.model.masses
            else:
                self.model.flows[name] = saved.model.flows[name]
            if name in saved.histories:
                self.histories[name] = saved.histories[name]
        self.model.num_threads = self.model.num_threads  # those of the parts too

    def run(self, on_epoch: OnEpoch | None, on_part: Callable[[], None] | None) -> None:
        """Train the parts that are not done, and leave each at its best state, also if an exception ends the fit.

        `on_epoch` is called with the name of the part and the record of each epoch; a true result ends the fit.
        `on_part` is called after each part.
        """
        began = time.perf_counter() - self.elapsed
        parts, stopped = self.parts, False
        with bar(self.done / max(len(parts), 1)) if self._options.progress else contextlib.nullcontext() as show:
            for part in parts[self.done :]:
                if stopped:
                    break
                options = self._options_of(part, began, len(parts) - self.done)

                def watch(epoch: Epoch, part: int | None = part, options: Options = options) -> bool:
                    nonlocal stopped
                    if show is not None:
                        self._report(show, part, epoch, options)
                    stopped = on_epoch is not None and bool(on_epoch(self._name(part), epoch))
                    return stopped

                self._train(part, options, watch)
                self.elapsed = time.perf_counter() - began
                if not stopped:
                    self.done += 1
                if on_part is not None:
                    on_part()

    def _options_of(self, part: int | None, began: float, left: int) -> Options:
        """Return the options of one part: its seed, its epochs, and its share of the time."""
        options, max_time, epochs = self._options, self._options.max_time, self._options.epochs
        if max_time is None:
            rows = self._split if part is None else self._rows_of(part)[0]
            epochs = default_epochs(int((~rows.held).sum())) if epochs is None else epochs
        else:
            max_time = max((max_time - (time.perf_counter() - began)) / left, 0.01)
        seed = int(np.random.default_rng([self.key, 1 + (0 if part is None else 1 + part), 1]).integers(1 << 62))
        return replace(options, max_time=max_time, epochs=epochs, seed=seed, progress=False, checkpoint=None)

    def _name(self, part: int | None) -> str:
        return MASSES if part is None else self.model.codings[part].name

    def _report(self, show: Show, part: int | None, epoch: Epoch, options: Options) -> None:
        by_epochs = 0.0 if options.epochs is None else epoch.epoch / options.epochs
        by_time = 0.0 if options.max_time is None else epoch.seconds / options.max_time
        of = "" if options.epochs is None else f"/{options.epochs}"
        held = f", validation {epoch.validation_loss:.4f}" if np.isfinite(epoch.validation_loss) else ""
        text = f"{self._name(part)}: epoch {epoch.epoch}{of}, loss {epoch.train_loss:.4f}{held}"
        show((self.done + min(max(by_epochs, by_time), 1.0)) / len(self.parts), text)

    def _train(self, part: int | None, options: Options, watch: Callable[[Epoch], bool]) -> None:
        if part is None:
            assert self.model.masses is not None
            loop = self._loop(self.model.masses, options)
            self.histories[MASSES] = loop.history
            loop.run(watch)
            return
        flow = self.model.flows[self._name(part)].astype("float32")
        try:
            self._fit_flow(flow, part, options, watch)
        finally:
            if flow.history is not None:
                self.histories[self._name(part)] = flow.history
            self.model.flows[self._name(part)] = flow.astype("float64")

    def _loop(self, found: Masses, options: Options) -> Loop[Masses]:
        rows = Rows.of(self._codes(), None, self._split.weights)
        train, held = rows.split_at(self._split.held) if self._split.held.any() else (rows, None)
        chosen, batch_size = size(len(train)), options.batch_size
        if batch_size is None:
            batch_size = _BATCH_OF_FEW if len(train) < _FEW_ROWS else chosen.batch_size
        adam = optimizer_for(min(chosen.weight_decay, _MOST_DECAY_OF_MASSES), options.optimizer)
        options = replace(options, batch_size=batch_size, optimizer=adam)
        rng = np.random.default_rng(options.seed)
        progress = Progress(
            rng.bit_generator.state,
            rng.bit_generator.state,
            found.parameters.copy(),
            found.parameters.copy(),
            adam.fresh(),
        )
        return Loop(found, MaximumLikelihood(found, rows, train, held, batch_size), options, progress)

    def _fit_flow(self, flow: Flow, number: int, options: Options, watch: Callable[[Epoch], bool]) -> None:
        some, points, context = self._rows_of(number)
        x, w = points[:, None], some.weights
        trained, held = ~some.held, some.held
        validation: tuple[Array | None, ...] | None = None
        if held.any():
            validation = (x[held], None if context is None else context[held], None if w is None else w[held])
        flow.fit(
            x[trained],
            context=None if context is None else context[trained],
            weights=some.training_weights,
            validation=validation,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            schedule=options.schedule,
            max_time=options.max_time,
            patience=options.patience,
            seed=options.seed,
            progress=False,
            callback=lambda _, epoch: watch(epoch),
        )


def default_epochs(rows: int) -> int:
    """Return the epochs of a part that is fitted to so many rows."""
    return int(np.clip(_ROWS_IN_ALL // max(rows, 1), *_EPOCHS))
