"""The fits of a flow: to rows, and to densities given as functions."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._fit.history import History
from pushforward._flow.density import Density
from pushforward._group import ALONE, Group, same
from pushforward._io import rows
from pushforward._model.new import anew
from pushforward._model.state import State, state_of
from pushforward._typing import Doubles, Floats, PathLike, Seed

if TYPE_CHECKING:
    from mpi4py import MPI

    from pushforward._fit.history import Epoch
    from pushforward._fit.optimizer import Adam
    from pushforward._fit.options import Options
    from pushforward._target import Pool

Self = TypeVar("Self", bound="Fitting")


class Fitting(Density[Floats]):
    """What can be fitted: a state, which a fit replaces.

    Attributes
    ----------
    _state : State
        The flow.
    history : History or None
        The curves of the last fit.
    """

    _state: State
    history: History | None

    def initialize(
        self: Self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
    ) -> Self:
        """Set what is taken from data without training.

        That is the standardisation, ActNorm's scales and shifts, and the layers that stand last, if they are linear:
        `ContextShift` starts at the linear regression on the context, and `LU` makes the features uncorrelated. The
        first `fit` does this with its training rows; a later one does not.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data.
        context : (n, context) array, optional
            Their conditions, for a flow that has any.
        weights : (n,) array, optional
            Non-negative weights of the rows.

        Returns
        -------
        Flow
            This flow.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, is empty, holds NaN or infinity or a value outside its support,
            or has a constant feature.
        """
        from pushforward._fit.size import size
        from pushforward._fit.start import start
        from pushforward._io.scan import check_density

        table = self._table(x, context, weights)
        check_density(table, self.support)
        self._state = start(self._state, table, size(len(table)))
        self._take_names(_checks.column_names(x), _checks.column_names(context))
        return self

    def fit(
        self: Self,
        x: npt.ArrayLike,
        *,
        context: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        validation: float | npt.ArrayLike | tuple[npt.ArrayLike | None, ...] | None = 0.1,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: Adam | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        max_time: float | None = None,
        patience: int | None = 30,
        clip_norm: float | None = 5.0,
        frozen: Sequence[int] = (),
        restandardize: bool = False,
        seed: Seed = None,
        progress: bool | None = None,
        callback: Callable[[Self, Epoch], object] | None = None,
        checkpoint: PathLike | None = None,
        checkpoint_every: int = 1000,
        resume: PathLike | None = None,
        comm: MPI.Intracomm | None = None,
    ) -> Self:
        """Fit the density to rows of data by maximum likelihood; a later fit goes on from the present state.

        The mean negative log-likelihood is minimised over shuffled minibatches. What is kept is a moving average of the
        parameters over the last 5 epochs, or 500 steps if those are fewer (Izmailov et al. 2018). After each epoch the
        average is scored on the validation rows, and at the end that of the best epoch is taken. The state in which the
        fit begins, and the parameters of the last step, compete too. Ctrl-C, or an exception from the callback, leaves
        the flow at its best state so far and goes on to the caller.

        A flow that was given no layers begins at a Gaussian or a mixture of Gaussians. Short fits tell whether the
        layers shall first make the features uncorrelated, and whether several Gaussians, found by
        expectation-maximisation, are the better start. The first fit keeps this start unless the best epoch is better
        by more than one standard error of the difference on the validation rows. At the end, the base gets a broad
        background with the share and width that suit the validation rows.

        Up to two million rows are shuffled one by one. A larger table is cut into runs of 1,024 rows: an epoch takes
        the runs in random order, as many at a time as make two million rows (16 MB of a memory map or of `Files`, which
        are read into memory), and shuffles the rows of those. Held-out rows are then whole runs, drawn at random.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data: float32, float64, integers or booleans, with any strides, a memory map, `Files`, a pandas
            DataFrame, or draws of xarray or ArviZ, whose axes chain, draw and sample become rows. Never modified.
        context : (n, context) array, optional
            Their conditions, for a flow that has any.
        weights : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.
        groups : (n,) array of any type, optional
            Labels of rows that belong together, such as those of one Markov chain, person or household. Whole groups
            are held out, so that none is among the training rows and the validation rows at once.
        validation : float, array, tuple or None
            The fraction of rows held out at random, in [0, 1), rows of their own, or ``(rows, context)`` or
            ``(rows, context, weights)``, where the context is None for a flow without one. With None or 0
            nothing is held out, and the last parameters are taken.
        epochs : int, optional
            Passes over the training rows. By default 100, or 60 for 1,000 to 4,000 rows, and no more than make 100,000
            steps; with `max_time` without limit.
        batch_size : int, optional
            Rows of a step. By default 64, 128 from 4,000 rows on, 256 from 10,000, and 512 from 100,000.
        optimizer : Adam, optional
            Settings of the optimiser; its moments are not used. By default ``Adam()``, which has the learning rate
            3e-3. A weight decay that it leaves open is 5,000 divided by the number of training rows, at most 1; 10
            below 1,000 rows.
        schedule : {"cosine", "constant"}
            How the learning rate goes, after a warm-up of at most 100 steps: down to 0 along a half cosine over the
            steps, or over the time with `max_time`; or not at all.
        max_time : float, optional
            Seconds after which to stop, above 0.
        patience : int or None
            After so many epochs without a better validation loss, at least 1, the fit goes back to its best state, and
            the learning rate falls to 0 over as many epochs as led there, at most `patience`. Then it stops. With None
            it does not.
        clip_norm : float or None
            Gradients longer than this are shortened to it, above 0; None leaves them.
        frozen : sequence of int
            Layers to leave out of the training, by their numbers in `layers`; -1 is the last. They keep their
            parameters, or in a first fit those that `initialize` gives them, to the last bit.
        restandardize : bool
            Whether a later fit takes the standardisation anew from its training rows, and goes on from the parameters
            in the new units: for rows that lie elsewhere, or are far narrower or wider, than those before. A
            first fit always standardises, and a fit that is resumed does not again.
        seed : int or numpy.random.Generator, optional
            Fixes the held-out rows and the shuffling: with it, and without `max_time`, the same flow and rows give
            the same parameters to the last bit.
        progress : bool, optional
            Whether to show a progress bar on standard error; by default only in a terminal or a notebook.
        callback : callable, optional
            Called as ``callback(flow, epoch)`` after each epoch, with the last record of the history; a true result
            ends the fit.
        checkpoint : str or path, optional
            File to keep the fit in, written atomically: parameters, best parameters, moments, random state, history.
        checkpoint_every : int
            Steps from one writing to the next, at least 1; a finished fit is written too.
        resume : str or path, optional
            A checkpoint to go on from, with the same rows and options (`seed` is the checkpoint's own), and a flow that
            is described in the same way: without `max_time`, the parameters end as those of the fit that was never cut
            off, to the last bit. Every row is compared, by a hash.
        comm : mpi4py.MPI.Intracomm, optional
            Processes that fit the flow together; each calls `fit` with the same options and its own share of the rows.
            The table is all shares, in the order of the processes; they may differ in size, and one may have no rows.
            So are the validation rows, if they are given. The flow that is fitted, and the seed, are those of the first
            process, which alone shows the progress and writes checkpoints, and all have the result. The callback is
            called in every process, and a true result of one ends the fit. The parameters are those of one process
            with the whole table, to the last bit.

        Returns
        -------
        Flow
            This flow; its `history` holds the curves.

        Raises
        ------
        TypeError, ValueError
            Before any work, if an array has the wrong shape or type, holds NaN or infinity or a value outside its
            support, is empty, or has a constant feature, or two that are equal, or if an option is out of its range;
            or if the checkpoint to go on from is of another fit or another flow.
        FileFormatError
            If that checkpoint is damaged.
        OSError
            If a checkpoint cannot be read or written; the flow is at its best state so far.
        TrainingDivergedError
            If the loss keeps becoming non-finite although the learning rate was lowered.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).gamma(3.0, size=(500, 2))
        >>> flow = Flow(2, seed=0).fit(x, epochs=5, seed=0)
        >>> len(flow.history)
        5
        """
        return self._fit_together(
            comm,
            functools.partial(self._fit, x, context, weights, groups),
            validation=validation,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            schedule=schedule,
            max_time=max_time,
            patience=patience,
            clip_norm=clip_norm,
            frozen=frozen,
            restandardize=restandardize,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )

    def _fit_together(self: Self, comm: object, fit: Callable[[Options, Group], Self], **given: Any) -> Self:
        """Fit with these options; several processes fit the flow of the first one."""
        from pushforward._fit.options import Options

        group = _group_of(comm)
        if group.size == 1:
            return fit(Options(**given), group)
        with warnings.catch_warnings(), group.together():
            here = group.prepared()
            with group.agree():
                options = Options(**given)
            same(group, **options.shared())
            if not group.is_first:
                warnings.simplefilter("ignore")  # the first process warns
                options = dataclasses.replace(options, progress=False)
            state, history = self._state, self.history
            threads_given = state.threads
            self._state = state_of(group.of_first(self))
            self._state.threads = threads_given or here
            try:
                return fit(options, group)
            except BaseException:
                if self.history is history:  # nothing has begun
                    self._state = state
                raise
            finally:
                self._state.threads = threads_given

    def _fit(
        self: Self, x: object, context: object, weights: object, groups: object, options: Options, group: Group
    ) -> Self:
        from pushforward._fit.held_out import grouped, warn_of_few
        from pushforward._fit.likelihood import maximum_likelihood

        table = self._table(x, context, weights, group)
        with group.agree():
            if group.size > 1 and groups is not None:
                raise ValueError("groups= is not for several processes: pass validation rows of your own")
            options = dataclasses.replace(options, validation=grouped(options.validation, groups, len(table.x)))
        callback = options.callback
        known = (self.columns or _checks.column_names(x), self.context_columns or _checks.column_names(context))
        loop = maximum_likelihood(self._state, table, options, known)
        for name, given, names in (
            ("x", x, loop.state.columns),
            ("context", context, loop.state.context_columns),
        ):
            _checks.names(given, names, name)  # those of a checkpoint
        self._state, self.history = loop.state, loop.history
        self._take_names(*known)
        warn_of_few(len(table), self._state)
        loop.run(None if callback is None else functools.partial(callback, self))
        return self

    def fit_density(
        self: Self,
        log_density: Callable[[Doubles], Any],
        *,
        start: npt.ArrayLike | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        population: int | None = None,
        optimizer: Adam | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        max_time: float | None = None,
        max_calls: int | None = None,
        pool: Pool | None = None,
        clip_norm: float | None = 5.0,
        frozen: Sequence[int] = (),
        seed: Seed = None,
        progress: bool | None = None,
        callback: Callable[[Self, Epoch], object] | None = None,
        checkpoint: PathLike | None = None,
        checkpoint_every: int = 1000,
        resume: PathLike | None = None,
        comm: MPI.Intracomm | None = None,
    ) -> Self:
        """Fit to an unnormalised log density given as a function; a later fit goes on from the present state.

        If the function returns a gradient, the reverse Kullback-Leibler divergence E[log q(x) - log p(x)] is minimised
        over draws from the flow. A step follows a weighted mean of two unbiased estimates of its gradient, which both
        vanish where q = p: the path gradient (Roeder, Wu, Duvenaud 2017; Vaitl, Nicoli, Nakajima, Kessel 2022), and the
        score-function gradient (Mnih, Gregor 2014), which balances the masses of separate modes.
        The target is approached along densities q0^(1 - b) p^b from the density q0 in which the fit begins. The power
        b rises after each epoch as far as 30 % of the draws stay effective, and is 1 after half of the fit at the
        latest. A quarter of the draws of each step are widened along one latent feature, so that the flow also sees
        the tails that it does not cover yet.

        If the function returns values only, the flow is fitted by adaptive importance sampling (Cappe, Douc, Guillin,
        Marin, Robert 2008). Each epoch evaluates one population of draws. The flow then follows the values of p at all
        rows evaluated so far, as draws from the mixture of all proposals (Cornuet, Marin, Mira, Robert 2012), by the
        generalised Kullback-Leibler divergence, whose gradient vanishes at every row where q = p. The density is
        tempered until half of a population is effective.

        A flow that was not fitted or initialized yet needs a location and a scale for each feature. Without `start`
        they are found by up to 30 rounds of importance sampling with independent Gaussians, which begin at 0 with scale
        1: for a `Positive` feature that is its logarithm, and for an `Interval` its probit, where a uniform density
        is standard normal. A mass hundreds of units away is not found in this way; rescale it, or give `start`.

        A row where the value is -inf has no mass. So does a row where the value or its gradient is NaN; the first one
        is announced by a RuntimeWarning. Bounds are better given as `support`, which keeps every draw inside.

        Parameters
        ----------
        log_density : callable
            Takes an (n, dim) array of float64 and returns log p of its rows, (n,), up to a constant and in nats; or a
            tuple of these and their gradient by the rows, (n, dim).
        start : (m, dim) array, optional
            Rows from where the mass is, such as draws from the prior or from a short run of a sampler. A flow without
            fit or `initialize` takes its location and scale from them.
        epochs : int, optional
            Epochs. By default 100, or 30 of a function without gradient; with `max_time` without limit.
        steps : int, optional
            Steps of an epoch; by default 200, or 100 of a function without gradient.
        batch_size : int, optional
            Draws of a step, by default 128; of a function without gradient, rows of a step, by default 256.
        population : int, optional
            Draws evaluated in an epoch, for a function without gradient. By default 2,048, or fewer if `max_calls`
            would not do for all epochs.
        optimizer : Adam, optional
            As in `fit`. A weight decay that it leaves open is 0 for a function with gradient.
        schedule, max_time, clip_norm, frozen, progress, callback, checkpoint, checkpoint_every
            As in `fit`.
        max_calls : int, optional
            How many rows may be evaluated in all. The fit is planned to end in time.
        pool : object with a method ``map``, optional
            Where the function is called, on pieces of the rows: an executor of `concurrent.futures`, a pool of
            `multiprocessing`, or alike.
        seed : int or numpy.random.Generator, optional
            Fixes the draws: with it, and without `max_time`, the same flow and function give the same parameters to
            the last bit.
        resume : str or path, optional
            A checkpoint to go on from, with the same function and options, as in `fit`. The rows evaluated before are
            not evaluated again. Whether the function is the same is not checked.
        comm : mpi4py.MPI.Intracomm, optional
            Processes that share the evaluations: each calls `fit_density` with the same arguments, and its function
            gets a part of the draws. All have the result, which is that of one process. As in `fit`, the flow and the
            seed are those of the first process; so is `start`.

        Returns
        -------
        Flow
            This flow; its `history` holds the curves: ``elbo``, ``effective``, ``power`` and ``evaluations`` too. With
            a gradient, the parameters are those of the epoch with the largest ELBO; else those at the end.

        Raises
        ------
        TypeError, ValueError
            If an option is out of its range, the flow has a context, `max_calls` is too few for an epoch, or the
            function returns another shape, another type, +inf, or -inf for all draws. What the function itself raises
            goes on to the caller. The flow is at its best state so far.
        FileFormatError, OSError, TrainingDivergedError
            As in `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> def log_density(x):  # a normal of scale 2, without its constant
        ...     return -0.5 * (x**2).sum(axis=1) / 4, -x / 4
        >>> flow = Flow(2, layers=[LU()], seed=0).fit_density(log_density, epochs=20, seed=0)
        >>> bool(abs(flow.history["elbo"][-1] - np.log(2 * np.pi * 4)) < 0.01)  # the log evidence
        True
        """
        return self._fit_together(
            comm,
            functools.partial(self._fit_density, log_density, start, max_calls, pool, steps, population),
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            schedule=schedule,
            max_time=max_time,
            clip_norm=clip_norm,
            frozen=frozen,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )

    def _fit_density(
        self: Self,
        log_density: Callable[[Doubles], Any],
        start: object,
        max_calls: int | None,
        pool: Pool | None,
        steps: int | None,
        population: int | None,
        options: Options,
        group: Group,
    ) -> Self:
        from pushforward._fit.density import Sizes, fit_to_density
        from pushforward._target import Target

        shape = self.shape
        same(group, steps=steps, population=population, max_calls=max_calls)
        with group.agree():
            sizes = Sizes(steps, population)
            target = Target(log_density, self.dim, shape=shape, max_calls=max_calls, pool=pool, group=group)
        table, start = None, group.of_first(start)
        if start is not None:
            columns = (self.columns, None)
            table = rows.Rows.checked(start, None, None, (self.dim, 0), columns, "start", shape=shape)
        loop = fit_to_density(self._state, target, table, options, sizes)
        self._state, self.history = loop.state, loop.history
        loop.run(None if options.callback is None else functools.partial(options.callback, self))
        return self

    def reset(self: Self, seed: Seed = None) -> Self:
        """Forget every fit: draw new parameters, and leave the standardisation to the next fit.

        The flow is then one that is made anew with the same arguments and this seed. What the first fit chose of it, by
        default layers and base, is open again; a flow that was loaded from a file keeps both. Names of columns and
        `num_threads` stay.

        Parameters
        ----------
        seed : int or numpy.random.Generator, optional
            Fixes the initial parameters, random masks and random permutations, as that of `Flow`.

        Returns
        -------
        Flow
            This flow; its `history` is None.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> flow = Flow(2, seed=1).fit(x, epochs=2, seed=0)
        >>> again = Flow(2, seed=9).fit(3 * x, epochs=2, seed=0).reset(seed=1).fit(x, epochs=2, seed=0)
        >>> bool((again.parameters == flow.parameters).all())
        True
        """
        self._state, self.history = anew(self._state, np.random.default_rng(seed)), None
        return self

    def _table(self, x: object, context: object, weights: object, group: Group = ALONE) -> rows.Rows:
        """Check rows to fit."""
        state = self._state
        widths, columns = (state.dim, state.context), (state.columns, state.context_columns)
        return rows.Rows.checked(x, context, weights, widths, columns, group=group, shape=state.shape)

    def _take_names(self, columns: Sequence[str] | None, context_columns: Sequence[str] | None) -> None:
        """Remember column names, where none are known."""
        state = self._state
        state.columns, state.context_columns = state.columns or columns, state.context_columns or context_columns


def _group_of(comm: object) -> Group:
    """Return the processes of an argument ``comm``."""
    if comm is None:
        return ALONE
    if isinstance(comm, Group):
        return comm
    from pushforward._fit.mpi import group_of

    return group_of(comm)
