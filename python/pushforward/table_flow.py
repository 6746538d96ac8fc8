"""A density over the rows of a table with categories, whole numbers, dates and gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._fit.history import History
from pushforward._io.savable import Savable
from pushforward._model import threads
from pushforward._tables import files, frames
from pushforward._tables.cells import Cells, chosen, rows_of
from pushforward._tables.kinds import Kind, checked
from pushforward._tables.model import TableModel
from pushforward._tables.schema import Column, Schema
from pushforward._typing import Array, Doubles, PathLike, Seed
from pushforward._warn import warn

if TYPE_CHECKING:
    from pushforward._fit.history import Epoch
    from pushforward._fit.optimizer import Adam
    from pushforward._tables.check import TableReport
    from pushforward._tables.questions import TableConditional, TableMarginal


class TableFlow(Savable):
    """A density over the rows of a table as people have it: categories, whole numbers, dates, booleans and gaps.

    A row's density is a mass times a density. A masked autoregressive network gives the mass of its codes: its
    categories and booleans, single values of a number that many rows have, and which of its cells are missing (MADE:
    Germain et al. 2015). A flow for each number gives the density of its value, given the codes and the numbers before
    it. The factors of numbers that are missing are left out, so that the density of a row with gaps is that of what is
    there. Whole numbers, dates and rounded numbers have exact masses.

    Parameters
    ----------
    schema : Schema, or mapping of str to kind or Column, optional
        What some of the columns hold, or all. The first fit finds out the rest.
    num_threads : int, optional
        Threads of every call. The default is taken from OpenMP's settings (``OMP_NUM_THREADS``, or all cores).

    Raises
    ------
    TypeError
        If the schema holds anything else.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> size = rng.normal(size=500)
    >>> table = {"size": size, "kind": np.where(size + rng.normal(size=500) > 0, "large", "small")}
    >>> flow = TableFlow().fit(table, epochs=5, seed=0)
    >>> flow.schema["kind"].kind
    Category(values=('large', 'small'), ordered=False)
    >>> flow.log_prob(table).shape
    (500,)
    >>> sorted(flow.sample(3, seed=0))
    ['kind', 'size']
    """

    history: dict[str, History]
    """The curves of the last fit: of the masses, under "masses", and of the flow of each number, under its column."""

    def __init__(
        self, schema: Schema | Mapping[str, Kind | Column] | None = None, *, num_threads: int | None = None
    ) -> None:
        given: dict[str, Kind | Column] = {}
        if isinstance(schema, Schema):
            given = dict(schema.columns)
        elif isinstance(schema, Mapping):
            for name, entry in schema.items():
                given[name] = entry if isinstance(entry, Column) else checked(entry, f"schema[{name!r}]")
        elif schema is not None:
            raise TypeError(f"schema must be a Schema or a mapping of column names to kinds, not {schema!r}")
        self._given, self._left_out = given, set(schema.left_out) if isinstance(schema, Schema) else set()
        self._model: TableModel | None = None
        self._library = frames.ARRAYS
        self._threads = None if num_threads is None else threads.check("num_threads", num_threads)
        self.history = {}

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema:
        """What the columns hold; known after a fit.

        Raises
        ------
        ValueError
            Before any fit.
        """
        return self._fitted().schema

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of samples."""
        return tuple(self.schema)

    @property
    def num_threads(self) -> int:
        """Threads of every call. Set to None for the default, taken from OpenMP's settings."""
        return self._threads or threads.default()

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._threads = None if value is None else threads.check("num_threads", value)
        if self._model is not None:
            self._model.num_threads = self._threads

    def __repr__(self) -> str:
        return "TableFlow()" if self._model is None else f"TableFlow({self.schema!r})"

    def _fitted(self) -> TableModel:
        if self._model is None:
            raise ValueError("this TableFlow has not been fitted; call fit(table), or TableFlow.load(path)")
        return self._model

    # -- fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        table: Any,
        *,
        weights: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        validation: Any = 0.1,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: Adam | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        max_time: float | None = None,
        patience: int | None = 10,
        seed: Seed = None,
        progress: bool | None = None,
        callback: Callable[[TableFlow, str, Epoch], object] | None = None,
        checkpoint: PathLike | None = None,
        resume: PathLike | None = None,
    ) -> TableFlow:
        """Fit the density to the rows of a table by maximum likelihood. A later fit begins anew.

        The parts of the model are trained one after another: first the masses, then the flow of each number. A part
        that is not yet trained stands at its start, which has the right distribution of its column alone. Ctrl-C, or an
        exception from the callback, leaves the part that is being trained at its best state so far, and goes on to the
        caller; the model can then be used.

        The schema is inferred where it is not given:

        - Text is a `Category`, booleans are `Boolean`. Text that differs in every row identifies the row: the column is
          left out, with a warning.
        - Numbers of at most 20 different values, each in ten rows on average, are a `Category` with an order.
        - Whole numbers are `Integer` between the least and the greatest; dates are `Date`, in the coarsest unit.
        - Other numbers are `Positive` if none is below 0, and `Interval` if all are from 0 to 1.
        - Values that many rows have become atoms, and numbers on a grid are rounded: `Column.atoms`, `Column.step`.
        - A column with missing cells has gaps.

        Parameters
        ----------
        table : DataFrame, mapping of str to array, or (n, columns) array
            The rows: a DataFrame of pandas, polars or pyarrow, a mapping of column names to arrays of equal length, or
            an array of numbers, whose columns are called x0, x1, ... None, NaN, NaT and NA are gaps.
        weights : (n,) array, optional
            Non-negative weights of the rows; a row of weight 0 is left out. Their scale does not matter.
        groups : (n,) array of any type, optional
            Labels of rows that belong together, such as those of one person or household. Whole groups are held out, so
            that none is among the training rows and the validation rows at once.
        validation : float or table
            The fraction of rows that are held out at random to stop the fit in time, in [0, 1), or a table of the rows
            to hold out.
        epochs : int, optional
            Passes over the rows, of the masses and of each flow. By default as many as make 1.5 million rows, at least
            20 and at most 60; with `max_time` without limit.
        batch_size : int, optional
            Rows of a step. By default as in `Flow.fit`, but 16 for the masses of less than 1,000 rows.
        optimizer : Adam, optional
            Settings of the optimiser of each part, as in `Flow.fit`. A weight decay that it leaves open is that of
            `Flow.fit`, and at most 3 for the masses.
        schedule : {"cosine", "constant"}
            How the learning rate of each part goes, as in `Flow.fit`.
        max_time : float, optional
            Seconds after which to stop. The parts of the model share them.
        patience : int or None
            Epochs without a better validation loss after which a part's fit ends, as in `Flow.fit`.
        seed : int or numpy.random.Generator, optional
            Fixes the fit: the same table then gives the same model, unless `max_time` is given.
        progress : bool, optional
            Whether to show a progress bar. By default in a terminal or a notebook.
        callback : callable, optional
            Called after each epoch with this model, the name of the part, which is "masses" or a column, and the
            `Epoch`. A true result ends the fit.
        checkpoint : str or path, optional
            A file that is written after each part. `load` reads it too.
        resume : str or path, optional
            A checkpoint to go on from, with the same rows, schema and options; `seed` is the checkpoint's own. The part
            that was being trained begins anew, and the result is that of a fit that was not interrupted.

        Returns
        -------
        TableFlow
            This model.

        Raises
        ------
        TypeError, ValueError
            Before any work, if the table is no table, is empty, holds infinity or objects of other types, does not fit
            the schema, or an option is out of its range.
        """
        from pushforward._fit.held_out import NEEDS_FRACTION, Share
        from pushforward._fit.options import Options
        from pushforward._tables.fit import TableFit
        from pushforward._tables.infer import infer

        is_table = not (validation is None or isinstance(validation, (int, float)))
        fraction = 0.0 if validation is None or is_table else validation
        options = Options(
            validation=_checks.number("validation", fraction, 0.0, 1.0, closed="left"),
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            schedule=schedule,
            max_time=max_time,
            patience=patience,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
        )
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        cells, library = frames.read(table)
        rows = rows_of(cells)
        if not rows:
            raise ValueError("table has no rows")
        w = _checks.row_weights(weights, rows)
        labels = None if groups is None else _checks.labels(groups, rows, "groups")
        if labels is not None and not options.validation:
            raise ValueError(NEEDS_FRACTION)
        if w is not None and not w.all():
            kept = w > 0
            cells, w = {name: column.part(kept) for name, column in cells.items()}, w[kept]
            labels = None if labels is None else labels[kept]
        options = replace(options, validation=Share(options.validation, groups=labels))
        cells = {name: column for name, column in cells.items() if name not in self._left_out}
        schema, notes = infer(cells, self._given)
        schema = Schema(schema.columns, (*schema.left_out, *sorted(self._left_out)))
        for note in notes:
            warn(note)
        held = chosen(frames.read(validation, "validation")[0], schema, "validation") if is_table else None
        if held is not None and not rows_of(held):
            raise ValueError("validation has no rows")
        before = None if options.resume is None else files.load(options.resume)
        key = files.key_of(before) if before is not None else int(np.random.default_rng(options.seed).integers(1 << 62))
        fit = TableFit(schema, {name: cells[name] for name in schema}, held, w, options, key, self._threads)
        if before is not None:
            fit.resume(before)
        self._model, self._library, self.history = fit.model, library, fit.histories

        def write() -> None:
            if options.checkpoint is not None:
                files.save(options.checkpoint, replace(self._saved(), progress=fit.progress()))

        fit.run(None if callback is None else lambda part, epoch: callback(self, part, epoch), write)
        return self

    # -- densities and samples -----------------------------------------------------------------------------------

    def log_prob(self, table: Any) -> Doubles:
        """Return the log density of each row: the log mass of its codes and the log density of its numbers.

        The density of a row with gaps is that of what is there, and of the gaps. A value that the schema does not allow
        has the density 0, and so has a gap in a column without gaps.

        Parameters
        ----------
        table : DataFrame, or mapping of str to array
            The rows. Other columns than those of the model are ignored.

        Returns
        -------
        (n,) array of float64
            In nats.

        Raises
        ------
        TypeError, ValueError
            If a column is missing, or holds another type than the model's.

        Examples
        --------
        >>> import numpy as np
        >>> flow = TableFlow().fit({"a": ["x", "y", "y", "y", "y"] * 100}, epochs=20, seed=0)
        >>> np.exp(flow.log_prob({"a": ["x", "y", "z"]})).round(1)
        array([0.2, 0.8, 0. ])
        """
        model = self._fitted()
        mass, density = model.log_prob(model.encode(self._cells(table)))
        return mass + density

    def _cells(self, table: Any) -> dict[str, Cells]:
        """Return the model's columns of a table."""
        cells, library = frames.read(table)
        width = len(self.schema.columns) + len(tuple(self.schema.left_out))
        if library == frames.ARRAY and len(cells) != width:
            raise ValueError(f"table has {len(cells)} columns; the model's has {width}")
        return chosen(cells, self.schema, "table")

    def sample(self, n: int, *, gaps: bool = True, seed: Seed = None, library: str | None = None) -> Any:
        """Draw rows.

        Parameters
        ----------
        n : int
            The number of rows.
        gaps : bool
            Whether cells are missing as often as in the table that was fitted. Without gaps, each cell is drawn given
            that it is there.
        seed : int or numpy.random.Generator, optional
            Fixes the rows.
        library : {"pandas", "polars", "pyarrow", "arrays", "array"}, optional
            What the table is of; "arrays" is a dict, and "array" an (n, columns) array of numbers.
            By default what the table that was fitted was of.

        Returns
        -------
        DataFrame, or dict of str to array
            The rows, with the column names, the order and the types of the table that was fitted.

        Raises
        ------
        TypeError, ValueError
            If `n` or `gaps` is not such a value.
        ImportError
            If the library is not installed.
        """
        if not isinstance(gaps, bool):
            raise TypeError(f"gaps must be True or False, not {gaps!r}")
        if library is not None:
            _checks.choice("library", library, frames.LIBRARIES)
        model = self._fitted()
        rows = _checks.row_count(n, len(self.schema))
        drawn = model.decode(model.sample(np.random.default_rng(seed), rows, gaps))
        if library not in (None, self._library):
            drawn = {name: replace(column, dtype="") for name, column in drawn.items()}  # types are the library's own
        return frames.write(drawn, library or self._library)

    def check(self, table: Any, *, seed: Seed = None) -> TableReport:
        """Compare the model with rows that it was not fitted to.

        The rows are scored, each column is compared with the model, and a classifier learns to tell rows from samples,
        if scikit-learn is installed (a few seconds). Of more than 100,000 rows all are scored, and the columns of so
        many are compared; the classifier gets 5,000.

        Parameters
        ----------
        table : DataFrame, or mapping of str to array
            Rows held out of the fit, at least 2; hundreds tell more.
        seed : int or numpy.random.Generator, optional
            Fixes the samples and the parts for cross-validation.

        Returns
        -------
        TableReport
            The numbers, and in ``report.next`` what to try next. It prints as a few lines.

        Raises
        ------
        TypeError, ValueError
            As in `log_prob`, or if there are fewer than 2 rows.
        """
        from pushforward._tables.check import check

        model = self._fitted()
        return check(model, model.encode(self._cells(table)), np.random.default_rng(seed))

    # -- questions -----------------------------------------------------------------------------------------------

    def conditional(self, known: Any, *, draws: int = 200, steps: int = 200, seed: Seed = 0) -> TableConditional:
        """Return the density of the unknown cells of rows given the others.

        Cells are unknown in columns that `known` does not have, and where it has gaps. All is asked of complete rows:
        each cell given that it is there. The model is built code by code, then number by number in the order of the
        columns. The answer is exact where no unknown number comes before a known one, and the unknown codes have at
        most 1,024 combinations. Else it is by importance sampling with draws of the model, and of rows whose weights
        are too uneven by 32 chains.

        Parameters
        ----------
        known : DataFrame, or mapping of str to value or array
            What is known of the rows.
        draws : int
            Weighted completions of each row, at least 50.
        steps : int
            The most steps that chains may take; 0 for no chains.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        TableConditional
            With `log_prob`, `sample`, `mean`, `quantile`, `probabilities`, and the error and diagnostics of each row.

        Raises
        ------
        TypeError, ValueError
            Before any work, if a column is not one of the model's or holds another type, there is no row, a value is
            one that the schema does not allow, or an option is out of its range.
        """
        from pushforward._tables.questions import ask

        return ask(self._fitted(), known, self._library, draws, steps, seed)

    def marginal(self, columns: Sequence[str], *, draws: int = 200, steps: int = 200, seed: int = 0) -> TableMarginal:
        """Return the density of some columns of complete rows, whatever the others hold.

        Parameters
        ----------
        columns : sequence of str
            Their names.
        draws, steps : int
            As those of `conditional`, for the sum over the other columns.
        seed : int
            Fixes the draws.

        Returns
        -------
        TableMarginal
            With `log_prob`, `log_prob_and_error` and `sample`.

        Raises
        ------
        ValueError
            If a column is not one of the model's, or comes twice, or an option is out of its range.
        """
        from pushforward._tables.questions import marginal

        return marginal(self._fitted(), columns, self._library, draws, steps, seed)

    def impute(
        self,
        table: Any,
        *,
        method: Literal["draw", "mean"] = "draw",
        copies: int | None = None,
        draws: int = 200,
        steps: int = 200,
        seed: Seed = None,
    ) -> Any:
        """Fill the gaps of a table, by what is known of each row.

        Gaps are filled as if their cells were missing at random, given what is known of the row.

        Parameters
        ----------
        table : DataFrame, or mapping of str to array
            The rows. Other columns than those of the model are left out.
        method : {"draw", "mean"}
            Whether gaps are filled with a draw of their joint conditional density, which keeps spread and dependence,
            or each with its mean, or its most probable category.
        copies : int, optional
            How many times to fill all gaps with draws, for multiple imputation (Rubin 1987), at least 1.
        draws, steps : int
            As those of `conditional`.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        DataFrame, or dict of str to array
            The rows without gaps, in the library of `table`; with `copies`, a list of them. There is a warning if
            chains have not converged.

        Raises
        ------
        TypeError, ValueError
            Before any work, if a column is missing or holds another type than the model's, or a value is one that the
            schema does not allow.
        """
        from pushforward._tables.impute import impute

        library = frames.read(table)[1]
        effort = (draws, steps, seed)
        filled = [frames.write(c, library) for c in impute(self._fitted(), self._cells(table), method, copies, effort)]
        return filled[0] if copies is None else filled

    # -- files ---------------------------------------------------------------------------------------------------

    def _saved(self) -> files.Saved:
        return files.Saved(self._fitted(), self._library, self.history)

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Array]]:
        return files.to_file(self._saved())

    @classmethod
    def _of_file(cls, content: dict[str, Any], tensors: dict[str, Array]) -> TableFlow:
        flow = cls()
        flow._take(files.of_file(content, tensors))
        return flow

    def _take(self, saved: files.Saved) -> None:
        self._model, self._library, self.history = saved.model, saved.library, dict(saved.histories)
        self._model.num_threads = self._threads

    def __getstate__(self) -> dict[str, Any]:
        saved = None if self._model is None else files.content_of(self._saved())
        return {"given": self._given, "left_out": self._left_out, "threads": self._threads, "saved": saved}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given, self._left_out, self._threads = state["given"], state["left_out"], state["threads"]
        self._model, self._library, self.history = None, frames.ARRAYS, {}
        if state["saved"] is not None:
            self._take(files.restore(*state["saved"]))
