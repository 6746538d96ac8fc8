"""The flow: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._fit.history import History, from_json, to_json
from pushforward._group import ALONE, Group, same
from pushforward._io import files, rows
from pushforward._io.stored import Stored
from pushforward._model import description, supports, threads
from pushforward._model.bases import BASES, Base
from pushforward._model.layer import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.new import anew, features_of, new
from pushforward._model.part import one_of
from pushforward._model.place import Shape
from pushforward._model.state import checked_names, sample_key
from pushforward._model.supports import Support
from pushforward._shapes import Batch, batch, draws, flat
from pushforward._typing import Array, Doubles, Floats, PathLike, Seed

if TYPE_CHECKING:
    from mpi4py import MPI

    from pushforward._check.report import Report
    from pushforward._fit.history import Epoch
    from pushforward._fit.optimizer import Adam
    from pushforward._fit.options import Options
    from pushforward._questions.conditional import Conditional, Marginal
    from pushforward._target import Pool


# More would take more memory for their description than machines have.
_MOST_FEATURES = 1 << 24


class Flow:
    """A normalizing flow: a density over rows of `dim` features that can be fitted, scored, sampled, differentiated.

    A generator G of invertible layers maps a base density to the data, x = G(z), and
    log p(x) = log p_base(G^-1(x)) + log|det dG^-1/dx| (Papamakarios et al. 2021, equation 4). Standardisation of the
    data is part of the model: x and every density are in the units of the table.

    The results of a row with NaN or infinity are NaN. So are those of a row outside the support, except that its log
    density is -inf. Other rows are not affected. Results are the same to the last bit for any number of threads, and
    whichever rows are passed together. Several Python threads may call one flow at once, as long as none changes it.

    Parameters
    ----------
    dim : int, optional
        Features, at least 1; needed without `shape`.
    shape : (channels, height, width), optional
        That of a row, if rows are images or lattices: every call then takes and returns data as (n, channels, height,
        width) in place of (n, dim), and `dim` is the number of pixels. Latent points stay (n, dim). The data of each
        channel are standardised by one shift and one scale. Rows in `Files` are flat.
    layers : sequence of layers, optional
        `Coupling`, `Autoregressive`, `Permutation`, `LU`, `Householder`, `ActNorm` and `ContextShift` in generator
        order, base first. By default those of `neural_spline`, and with a context a `ContextShift`, of a size that the
        first `fit` or `initialize` chooses by the number of rows. `parameters` are then new ones. With a shape, by
        default those of `glow`.
    base : Normal, StudentT, Uniform or Mixture, optional
        The density in latent space. By default `Normal`; if `layers` are left to the first fit too, it then becomes the
        `Mixture` of one or more Gaussians that suits the rows.
    support : Real, Positive, Interval, Circle, a sequence or a mapping, optional
        What values the features may take; by default any. There is no mass outside. One is for all features, a sequence
        has one per feature, and a mapping those of some features, by the names in `columns` or by number.
    context : int
        Conditioning features; with any, every call takes ``context=`` of shape ``(n, context)`` or ``(context,)``.
    context_network : ContextNetwork, optional
        A network that reads the context once for all layers, which then read its outputs. By default every layer reads
        the context itself.
    columns, context_columns : sequence of str, optional
        Names of the features and of the conditioning features. By default those of the DataFrame fitted.
    dtype : {"float32", "float64"}
        Precision of the parameters and of the arithmetic inside. Densities are float64 either way.
    seed : int or numpy.random.Generator, optional
        Fixes the initial parameters, random masks and random permutations.
    num_threads : int, optional
        Threads of every call. The default is taken from OpenMP's settings (``OMP_NUM_THREADS``, or all cores).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, the layers do not fit `dim`, or there is a context network without a
        context.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)) @ [[1, 0.5], [0, 2]]
    >>> flow = Flow(2, seed=0).fit(x, epochs=10, seed=0)
    >>> flow.log_prob(x[:3]).shape
    (3,)
    >>> flow.sample(5, seed=0).shape
    (5, 2)
    >>> Flow(3, columns=["mass", "ratio", "drift"], support={"mass": Positive(), "ratio": Interval(0, 1)}).support
    (Positive(), Interval(low=0.0, high=1.0), Real())
    """

    history: History | None
    """The curves of the last fit; None before any."""

    def __init__(
        self,
        dim: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        layers: Sequence[Layer] | None = None,
        base: Base | None = None,
        support: Support | Sequence[Support] | Mapping[Any, Support] | None = None,
        context: int = 0,
        context_network: ContextNetwork | None = None,
        columns: Sequence[str] | None = None,
        context_columns: Sequence[str] | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: Seed = None,
        num_threads: int | None = None,
    ) -> None:
        dim, row = features_of(dim, shape, _MOST_FEATURES)
        context = _checks.integer("context", context, 0, _MOST_FEATURES)
        if not isinstance(context_network, ContextNetwork | None):
            raise TypeError(f"context_network must be ContextNetwork() or None, not {context_network!r}")
        description.check_context_network(context_network, context)
        if base is not None and not isinstance(base, Base):
            raise TypeError(f"base must be {one_of(BASES)}, not {base!r}")
        columns = checked_names("columns", columns, dim)
        support = supports.resolve(support, dim, columns)
        rng = np.random.default_rng(seed)
        if layers is not None and not isinstance(layers, Sequence):
            raise TypeError(f"layers must be a sequence of layers, not {layers!r}")
        precision = description.precision(dtype)
        self._state = new(dim, context, context_network, precision, base, support, layers, rng, row)
        self.columns, self.context_columns = columns, context_columns
        self.num_threads = num_threads
        self.history = None

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Number of features."""
        return self._state.dim

    @property
    def shape(self) -> Shape | None:
        """Channels, height and width of a row; None if rows are flat.

        Examples
        --------
        >>> flow = Flow(shape=(1, 4, 4), layers=[])
        >>> flow.dim, flow.sample(5, seed=0).shape
        (16, (5, 1, 4, 4))
        """
        return self._state.shape

    @property
    def _row(self) -> tuple[int, ...]:
        """The shape of a data point."""
        return self._state.shape or (self._state.dim,)

    @property
    def context(self) -> int:
        """Number of conditioning features."""
        return self._state.context

    @property
    def context_network(self) -> ContextNetwork | None:
        """The network that reads the context for all layers; None if they read it themselves."""
        return self._state.context_network

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the parameters and of the arithmetic inside."""
        return self._state.dtype

    @property
    def base(self) -> Base:
        """The density in latent space."""
        return self._state.base

    @property
    def support(self) -> tuple[Support, ...]:
        """What values each feature may take.

        Examples
        --------
        >>> Flow(2, support=[Positive(), Real()]).support
        (Positive(), Real())
        """
        return self._state.support

    @property
    def layers(self) -> list[Layer]:
        """The layers as they were described, in generator order."""
        return self._state.layers

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features: those of the DataFrame fitted, or as assigned; None if they are not known.

        A DataFrame with other names, or with the same in another order, is refused by every call.
        """
        return self._state.columns

    @columns.setter
    def columns(self, names: Sequence[str] | None) -> None:
        self._state.columns = names

    @property
    def context_columns(self) -> tuple[str, ...] | None:
        """Names of the conditioning features, in the same way."""
        return self._state.context_columns

    @context_columns.setter
    def context_columns(self, names: Sequence[str] | None) -> None:
        self._state.context_columns = names

    @property
    def num_threads(self) -> int:
        """Threads of every call. Set to None for the default, taken from OpenMP's settings."""
        return self._state.num_threads

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._state.threads = None if value is None else threads.check("num_threads", value)

    def __repr__(self) -> str:
        layers = "".join(f"        {layer!r},\n" for layer in self.layers)
        entries: object = self.support if len(set(self.support)) > 1 else self.support[0]
        support = "" if supports.are_real(self.support) else f"    support={entries!r},\n"
        context = f"    context={self.context},\n" if self.context else ""
        if self.context_network is not None:
            context += f"    context_network={self.context_network!r},\n"
        features = self.dim if self.shape is None else f"shape={self.shape}"
        return (
            f"Flow(\n    {features},\n    layers=[\n{layers}    ],\n    base={self.base!r},\n{support}{context}"
            f"    dtype={self.dtype.name!r},\n)"
        )

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Floats:
        """What training changes, as one contiguous (p,) array in the flow's dtype: a live view, writable in place.

        Assigning copies the values in.

        Examples
        --------
        >>> flow = Flow(2, seed=0)
        >>> flow.parameters = 0 * flow.parameters
        >>> bool((flow.parameters == 0).all())
        True
        """
        return self._state.parameters

    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None:
        array = _checks.floats(values, "parameters")
        parameters = self.parameters
        if array.shape != parameters.shape:
            raise ValueError(f"parameters has shape {array.shape}; this flow has {parameters.shape}")
        parameters[...] = array

    def named_parameters(self) -> dict[str, Floats]:
        """Return each block of the parameters by name, as writable views on `parameters`.

        Returns
        -------
        dict of str to array
            A dense layer's weight is (outputs, inputs).

        Examples
        --------
        >>> flow = Flow(2, layers=[Coupling(conditioner=MLP(hidden=(8,)))])
        >>> {name: values.shape for name, values in flow.named_parameters().items()}
        {'layers.0.conditioner.0.weight': (8, 1), 'layers.0.conditioner.0.bias': (8,), \
'layers.0.conditioner.1.weight': (2, 8), 'layers.0.conditioner.1.bias': (2,)}
        """
        return self._state.named_parameters()

    # -- fitting -------------------------------------------------------------------------------------------------

    def initialize(
        self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
    ) -> Flow:
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
        self._take_names(x, context)
        return self

    def fit(
        self,
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
        callback: Callable[[Flow, Epoch], object] | None = None,
        checkpoint: PathLike | None = None,
        checkpoint_every: int = 1000,
        resume: PathLike | None = None,
        comm: MPI.Intracomm | None = None,
    ) -> Flow:
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

    def _fit_together(self, comm: object, fit: Callable[[Options, Group], Flow], **given: Any) -> Flow:
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
            self._state = group.of_first(self)._state
            self._state.threads = threads_given or here
            try:
                return fit(options, group)
            except BaseException:
                if self.history is history:  # nothing has begun
                    self._state = state
                raise
            finally:
                self._state.threads = threads_given

    def _fit(self, x: object, context: object, weights: object, groups: object, options: Options, group: Group) -> Flow:
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
        self.columns, self.context_columns = self.columns or known[0], self.context_columns or known[1]
        warn_of_few(len(table), self._state)
        loop.run(None if callback is None else functools.partial(callback, self))
        return self

    def fit_density(
        self,
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
        callback: Callable[[Flow, Epoch], object] | None = None,
        checkpoint: PathLike | None = None,
        checkpoint_every: int = 1000,
        resume: PathLike | None = None,
        comm: MPI.Intracomm | None = None,
    ) -> Flow:
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
        self,
        log_density: Callable[[Doubles], Any],
        start: object,
        max_calls: int | None,
        pool: Pool | None,
        steps: int | None,
        population: int | None,
        options: Options,
        group: Group,
    ) -> Flow:
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

    def reset(self, seed: Seed = None) -> Flow:
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

    def _take_names(self, x: object, context: object) -> None:
        """Remember the column names of a DataFrame."""
        self.columns = self.columns or _checks.column_names(x)
        self.context_columns = self.context_columns or _checks.column_names(context)

    # -- densities and samples -----------------------------------------------------------------------------------

    def log_prob(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        temperature: float = 1.0,
        out: Floats | None = None,
    ) -> Floats:
        """Return the log density of each row, in nats.

        A memory-mapped table larger than 16 MB is read in pieces, whose memory is given back, and so is one in `Files`.

        Parameters
        ----------
        x : (..., dim) array
            Rows of data: a table (n, dim), one row (dim,), or rows in any number of leading axes.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        temperature : float
            What the scale of the base is multiplied with (see `sample_latent`), from 1e-100 to 1e100.
        out : array of float32 or float64, optional
            Where to write the result, in its shape, a memory map for instance. It may lie in the memory of `x` or
            `context`, which are then copied if need be.

        Returns
        -------
        (...) array of float64
            A number for each row, (n,) for a table. NaN where a row holds NaN or infinity, -inf where a value is
            outside its support; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or the temperature is not such a number.

        Examples
        --------
        >>> flow = Flow(2, context=1, seed=0)
        >>> flow.log_prob([0.5, 1.0], context=[[0.0], [1.0], [2.0]]).shape  # one row under three conditions
        (3,)
        """
        given = self._stored(x, context) if isinstance(x, Stored) else self._batch(x, context)
        temperature = self._state.checked_temperature(temperature)

        def call(x: Array, context: Array | None) -> tuple[Array, ...]:
            return (self._state.log_prob(x, context, temperature=temperature),)

        return self._in_pieces(call, given, out, ((),))[0]

    def _batch(self, x: object, context: object, name: str = "x") -> Batch:
        """Check points of the data side, or of the latent side, whose columns have no names."""
        is_data = name == "x"
        columns = (self.columns if is_data else None, self.context_columns)
        return batch(x, context, (self.dim, self.context), name, columns, self.shape if is_data else None)

    def _stored(self, x: Stored, context: object) -> Batch:
        """Check a table in files, for a call that reads it in pieces."""
        names = (self.columns, self.context_columns)
        points, condition = rows.checked(x, context, (self.dim, self.context), names)
        return Batch(cast(Array, points), cast("Array | None", condition), (len(x),))

    def _in_pieces(
        self,
        call: Callable[[Array, Array | None], tuple[Array, ...]],
        given: Batch,
        out: object,
        widths: tuple[tuple[int, ...], ...],
    ) -> tuple[Array, ...]:
        """Return a call's results, a window of a large memory map at a time, and in `out` if that is given.

        `widths` are the axes of the results behind the leading ones.
        """
        rows_of = (len(given.points),)
        if out is None and not rows.is_large_map(given.points):
            # Of a list: tuples of an iterator leave memory behind that Python keeps for later ones.
            found = call(given.points, given.condition)
            return tuple([given.shaped(result, width) for result, width in zip(found, widths, strict=True)])
        if out is not None:
            places = _checks.outputs(out, tuple((*given.shape, *width) for width in widths))
            if len(given.shape) != 1:
                for place, result in zip(places, self._in_pieces(call, given, None, widths), strict=True):
                    place[...] = result
                return places
        else:
            dtypes = (given.points.dtype if width else np.dtype(np.float64) for width in widths)
            places = tuple(np.empty((*rows_of, *width), dtype) for width, dtype in zip(widths, dtypes, strict=True))
        _write_pieces(call, given.points, given.condition, places)
        return tuple([given.shaped(place, width) for place, width in zip(places, widths, strict=True)])

    def sample(
        self,
        n: int | tuple[int, ...],
        context: npt.ArrayLike | None = None,
        seed: Seed = None,
        *,
        temperature: float = 1.0,
    ) -> Floats:
        """Draw rows from the density.

        Parameters
        ----------
        n : int or tuple of int
            Rows, at least 0, or their leading axes: ``(m, k)`` draws m rows for each of k conditions.
        context : (..., context) array, optional
            One condition (context,) for all rows, or conditions whose leading axes broadcast to those of the rows:
            (n, context) has one for each.
        seed : int or numpy.random.Generator, optional
            Fixes the rows drawn; those of a longer call begin with those of a shorter one.
        temperature : float
            What the scale of the base is multiplied with (see `sample_latent`), from 1e-100 to 1e100.

        Returns
        -------
        (n, dim) array
            In the dtype of the data fitted; float64 before any fit. With a tuple, (*n, dim).

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, the context has the wrong shape or type, or the temperature is not such a
            number.

        Examples
        --------
        >>> flow = Flow(2, context=1, seed=0)
        >>> flow.sample((100, 3), context=[[0.0], [1.0], [2.0]], seed=0).shape  # 100 rows for each of 3 conditions
        (100, 3, 2)
        """
        return self._sample(n, context, seed, temperature, with_log_prob=False)[0]

    def sample_and_log_prob(
        self,
        n: int | tuple[int, ...],
        context: npt.ArrayLike | None = None,
        seed: Seed = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Floats, Doubles]:
        """Draw rows and return their log densities too, from one pass.

        Parameters, errors and the rows are those of `sample`.

        Returns
        -------
        (n, dim) array, (n,) array of float64
            The rows, and log p of each in nats, at the temperature of the draw.
        """
        x, density = self._sample(n, context, seed, temperature, with_log_prob=True)
        return x, density

    def density_threshold(
        self, level: float, context: npt.ArrayLike | None = None, *, n: int = 10_000, seed: Seed = None
    ) -> Doubles:
        """Return the log density above which a share of the mass lies: the edge of the region of highest density.

        It is the quantile of the log densities of `n` draws (Hyndman 1996), the same draws for the same seed. A region
        that is to hold the share p of the mass holds p to within sqrt(p (1 - p) / n), one standard error.

        Parameters
        ----------
        level : float
            The share of the mass inside, above 0 and below 1.
        context : (..., context) array, optional
            Conditions, each of which has its own threshold.
        n : int
            Draws for each condition, at least 1.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        (...) array of float64
            A log density for each condition; without a context of shape ().

        Raises
        ------
        TypeError, ValueError
            If the level or `n` is out of its range, or the context has the wrong shape or type.

        Examples
        --------
        >>> import numpy as np
        >>> flow = Flow(2, base=Normal(), layers=[])  # of a standard normal, 95 % are within a radius of sqrt(5.99)
        >>> bool(abs(flow.density_threshold(0.95, seed=0) + np.log(2 * np.pi) + 5.99 / 2) < 0.1)
        True
        """
        level = _checks.number("level", level, 0.0, 1.0, closed="neither")
        n = _checks.integer("n", n, 1)
        conditions = _checks.conditions(context, self.context, self.context_columns, ())
        shape = () if conditions is None else conditions.shape[:-1]
        _, density = self._sample((n, *shape), conditions, seed, 1.0, with_log_prob=True)
        return np.asarray(np.quantile(density, 1 - level, axis=0))

    def _sample(
        self, n: object, context: object, seed: Seed, temperature: float, *, with_log_prob: bool
    ) -> tuple[Floats, Doubles]:
        count, given = draws(n, context, (self.dim, self.context), self.context_columns)
        temperature = self._state.checked_temperature(temperature)
        x, density = self._state.sample(
            sample_key(seed), count, given.condition, with_log_prob=with_log_prob, temperature=temperature
        )
        return given.shaped(x, self._row), given.shaped(density) if with_log_prob else density

    def check(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        seed: Seed = None,
    ) -> Report:
        """Compare the flow with rows that it was not fitted to.

        The rows are scored, carried to the latent side and back, tested there for the base density, and set against
        samples: by a classifier, if scikit-learn is installed (a few seconds). Of more than 100,000 rows all are
        scored, and the rest is done on so many drawn at random; the classifier gets 5,000. Rows of a flow with a
        context are also ranked among 200 draws under the condition of each, at most 1,000 of them.

        Parameters
        ----------
        x : (n, dim) array
            Rows held out of the fit, at least 2; hundreds tell more. `Files` are read in pieces.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        weights : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.
        seed : int or numpy.random.Generator, optional
            Fixes the parts for cross-validation and the samples.

        Returns
        -------
        Report
            The numbers, and in ``report.next`` what to try next. It prints as a few lines.

        Raises
        ------
        TypeError, ValueError
            Before any work, if an array has the wrong shape or type, or holds NaN or infinity or a value outside its
            support.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1200, 2))
        >>> flow = Flow(2, layers=[]).initialize(x[:1000])  # a Gaussian, as these rows are
        >>> flow.check(x[1000:], seed=0).next
        'No problem detected in 200 rows.'
        """
        from pushforward._check import diagnostics

        return diagnostics.check(self._state, self.history, x, context, weights, seed)

    # -- questions -----------------------------------------------------------------------------------------------

    def conditional(
        self,
        known: Mapping[Any, npt.ArrayLike],
        context: npt.ArrayLike | None = None,
        *,
        draws: int = 400,
        steps: int = 200,
        seed: Seed = 0,
    ) -> Conditional:
        """Return the density of the other columns given some.

        It is exact where the flow is triangular with the known columns first (see `triangular`). One unknown column is
        normalised on a grid. Several are drawn by importance sampling, from a mixture fitted to draws of the flow and
        then to the draws of each row; rows whose weights stay uneven get 32 chains that move by Hamiltonian dynamics.

        Parameters
        ----------
        known : mapping of str or int to float or (n,) array
            Values of the columns that are known, by name or number. Single numbers are for all rows.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        draws : int
            Weighted draws of each row with several unknown columns, at least 50.
        steps : int
            The most steps that chains may take; 0 for no chains.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        Conditional
            With `log_prob`, `sample`, `mean`, `quantile`, and the error and diagnostics of each row.

        Raises
        ------
        TypeError, ValueError
            Before any work, if a column is not one of the flow's, no column or every column is known, a value is NaN,
            infinite or outside its support, or an option is out of its range.

        Examples
        --------
        >>> flow = Flow(3, layers=triangular(3, depth=1, hidden=(8,)), dtype="float64", seed=0)
        >>> given = flow.conditional({0: [0.0, 1.0]})
        >>> given.sample(5, seed=0).shape
        (5, 2, 2)
        """
        from pushforward._questions.conditional import conditional

        return conditional(self._state.copy(), known, context, draws, steps, seed)

    def marginal(self, columns: Sequence[Any], *, draws: int = 400, steps: int = 200, seed: int = 0) -> Marginal:
        """Return the density of some columns, whatever the others are.

        Parameters
        ----------
        columns : sequence of str or int
            The columns, by name or number, in the order that points shall have.
        draws, steps : int
            As those of `conditional`, for the integral over the other columns.
        seed : int
            Fixes the draws of that integral.

        Returns
        -------
        Marginal
            With `log_prob`, `log_prob_and_error` and `sample`.

        Raises
        ------
        TypeError, ValueError
            If a column is not one of the flow's, or comes twice, or an option is out of its range.
        """
        from pushforward._questions.conditional import marginal

        return marginal(self._state.copy(), columns, draws, steps, seed)

    def impute(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        method: Literal["draw", "mean"] = "draw",
        copies: int | None = None,
        draws: int = 200,
        steps: int = 200,
        seed: Seed = None,
    ) -> Floats:
        """Fill the gaps of rows, by what is known of each row.

        Parameters
        ----------
        x : (n, dim) array
            Rows; NaN is a gap.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        method : {"draw", "mean"}
            Whether gaps are filled with a draw of their joint conditional density, which keeps spread and correlations,
            or with its mean, which is closest on average.
        copies : int, optional
            How many times to fill all gaps with draws, for multiple imputation (Rubin 1987), at least 1.
        draws, steps : int
            As those of `conditional`.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        (n, dim) array
            The rows without gaps, in the dtype of `x`; with `copies`, (copies, n, dim). There is a warning if chains
            have not converged.

        Raises
        ------
        TypeError, ValueError
            Before any work, if `x` has the wrong shape or type, or a value that is infinite or outside its support.

        Examples
        --------
        >>> import numpy as np
        >>> flow = Flow(2, layers=[LU()], dtype="float64", seed=0)
        >>> bool(np.isfinite(flow.impute([[0.5, np.nan], [1.0, 2.0]], seed=0)).all())
        True
        """
        from pushforward._questions.impute import impute

        filled = impute(self._state.copy(), flat(x, self.shape, "x"), context, method, copies, (draws, steps, seed))
        return filled if self.shape is None else filled.reshape((*filled.shape[:-1], *self.shape))

    # -- the latent side -----------------------------------------------------------------------------------------

    def sample_latent(self, n: int | tuple[int, ...], seed: Seed = None, *, temperature: float = 1.0) -> Floats:
        """Draw latent points from the base: those that `sample` with the same seed carries to the data side.

        A temperature T multiplies the scale of the base, and the density stays normalised. Under `Normal` and
        `StudentT` a draw is T times one of the base. Each Gaussian of a `Mixture` keeps its mean and its weight, and
        its covariance is multiplied by T squared. Latent features in a box or on a circle are uniform at any
        temperature; a flow that has no others, as under `Uniform`, refuses it.

        Parameters
        ----------
        n : int or tuple of int
            Points, at least 0, or their leading axes.
        seed : int or numpy.random.Generator, optional
            Fixes the points drawn; those of a longer call begin with those of a shorter one.
        temperature : float
            What the scale is multiplied with, from 1e-100 to 1e100.

        Returns
        -------
        (n, dim) array
            In the dtype of the data fitted; float64 before any fit. With a tuple, (*n, dim).

        Raises
        ------
        TypeError, ValueError
            If `n` is not such an integer, or the temperature not such a number.

        Examples
        --------
        >>> flow = Flow(2, seed=0)
        >>> z = flow.sample_latent(5, seed=1)
        >>> bool((flow.forward(z)[0] == flow.sample(5, seed=1)).all())
        True
        """
        count, given = draws(n, None, (self.dim, 0), None)
        temperature = self._state.checked_temperature(temperature)
        return given.shaped(self._state.sample_latent(sample_key(seed), count, temperature))

    def base_log_prob(self, z: npt.ArrayLike, *, temperature: float = 1.0) -> Doubles:
        """Return the log density of latent points under the base, in nats.

        Parameters
        ----------
        z : (..., dim) array
            Latent points.
        temperature : float
            What the scale of the base is multiplied with (see `sample_latent`), from 1e-100 to 1e100.

        Returns
        -------
        (...) array of float64
            A number for each point, (n,) for a table. NaN where a point holds NaN or infinity, -inf outside the box of
            a feature that has one.

        Raises
        ------
        TypeError, ValueError
            If `z` has the wrong shape or type, or the temperature is not such a number.

        Examples
        --------
        >>> flow = Flow(2, base=Normal(), seed=0)
        >>> flow.base_log_prob([[0.0, 0.0]]).round(3)
        array([-1.838])
        """
        given = batch(z, None, (self.dim, 0), "z")
        temperature = self._state.checked_temperature(temperature)
        return given.shaped(self._state.base_log_prob(given.points, temperature))

    def forward_and_log_prob(self, z: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Floats, Doubles]:
        """Carry latent points to data points, and return the log density there, from one pass.

        Parameters and errors are those of `forward`.

        Returns
        -------
        (..., dim) array, (...) array of float64
            x = G(z) in the dtype of `z` (float64 for other than floats), and log p(x) = log p_base(z) - log|det dx/dz|.
        """
        given = self._batch(z, context, "z")
        x, density = self._in_pieces(self._state.forward_and_log_prob, given, None, (self._row, ()))
        return x, density

    def inverse_and_log_prob(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Floats, Doubles]:
        """Carry data points to latent points, and return the log density of the data points, from one pass.

        Parameters and errors are those of `inverse`.

        Returns
        -------
        (..., dim) array, (...) array of float64
            z = G^-1(x) in the dtype of `x` (float64 for other than floats), and log p(x).
        """
        given = self._batch(x, context)
        z, density = self._in_pieces(self._state.inverse_and_log_prob, given, None, ((self.dim,), ()))
        return z, density

    # -- the map and its derivatives -----------------------------------------------------------------------------

    def forward(
        self,
        z: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        out: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Carry latent points to data points, x = G(z).

        Parameters
        ----------
        z : (..., dim) array
            Latent points: a table (n, dim), one point (dim,), or points in any number of leading axes.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `z`, as in NumPy.
        out : tuple of two arrays, optional
            Where to write the results, in their shapes, memory maps for instance. They may lie in the
            memory of `z` or `context`, which are then copied if need be, but not in each other's.

        Returns
        -------
        (..., dim) array, (...) array of float64
            x in the dtype of `z` (float64 for other than floats), and log|det dx/dz|; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        x, log_det = self._in_pieces(self._state.forward, self._batch(z, context, "z"), out, (self._row, ()))
        return x, log_det

    def inverse(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        out: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Carry data points to latent points, z = G^-1(x).

        Parameters
        ----------
        x : (..., dim) array
            Data points: a table (n, dim), one row (dim,), or rows in any number of leading axes.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        out : tuple of two arrays, optional
            Where to write the results, in their shapes, memory maps for instance. They may lie in the
            memory of `x` or `context`, which are then copied if need be, but not in each other's.

        Returns
        -------
        (..., dim) array, (...) array of float64
            z in the dtype of `x` (float64 for other than floats), and log|det dz/dx|; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        z, log_det = self._in_pieces(self._state.inverse, self._batch(x, context), out, ((self.dim,), ()))
        return z, log_det

    def log_prob_and_grad(self, x: npt.ArrayLike, context: npt.ArrayLike | None = None) -> tuple[Doubles, Floats]:
        """Return the log density of each row and its gradient by the row.

        Parameters and errors are those of `log_prob`.

        Returns
        -------
        (...) array of float64, (..., dim) array
            log p, and d log p / dx in the dtype of `x`.
        """
        given = self._batch(x, context)
        density, gradient = self._state.core.log_prob_and_grad(
            given.points, context=given.condition, threads=self.num_threads
        )
        return given.shaped(density), given.like_these(gradient)

    def loss_and_grad(
        self, x: npt.ArrayLike, context: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
    ) -> tuple[float, Floats]:
        """Return the mean negative log-likelihood and its gradient by the parameters.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data, at least one.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        weights : (n,) array, optional
            Weights of the rows, of any sign, not all zero. The loss is the sum of each row's weight times its negative
            log-likelihood over the sum of the weights' sizes: the weighted mean, if none is negative.

        Returns
        -------
        float, (p,) array
            The loss in nats, and its gradient in the flow's dtype. Both are NaN if a row holds NaN or infinity; if a
            value is outside its support, the loss is inf and the gradient NaN.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, there is no row, or the weights are all zero.
        """
        table = _checks.table(flat(x, self.shape, "x"), self.dim, "x", columns=self.columns)
        if len(table) == 0:
            raise ValueError("x has no rows; a mean needs at least one")
        condition = _checks.condition(context, self.context, len(table), self.context_columns)
        table, condition, w = _checks.counted(table, condition, _checks.row_weights(weights, len(table), signed=True))
        total = float(len(table)) if w is None else float(np.abs(w).sum())
        gradient = np.empty_like(self.parameters)
        loss: float = self._state.core.loss_and_grad(
            table, gradient, context=condition, weights=w, normalizer=total, threads=self.num_threads
        )[0]
        return loss, gradient

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, Floats, Floats | None]: ...

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, Floats | None, Floats | None]: ...

    def log_prob_vjp(
        self,
        x: npt.ArrayLike,
        grad_log_prob: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the vector-Jacobian product of `log_prob`: derivatives of a scalar that depends on it, under any base.

        Parameters
        ----------
        x : (..., dim) array
            Data points.
        grad_log_prob : (...) array
            Derivative of the scalar by log p(x), a number for each row. A row whose number is 0 counts for nothing,
            whatever it holds.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        parameters : bool
            Whether the derivative by the parameters is wanted. It is what a call on few rows spends its time on.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by x, by the parameters (those of the base among them, summed over rows; None without
            `parameters`), and by each row's context.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(x, context)
        seeds = given.vector(grad_log_prob, "grad_log_prob")
        return self._vjp(self._state.core.log_prob_vjp, given, parameters, seeds)

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, Floats, Floats | None]: ...

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, Floats | None, Floats | None]: ...

    def forward_vjp(
        self,
        z: npt.ArrayLike,
        grad_x: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the vector-Jacobian product of `forward`: derivatives of a scalar that depends on its results.

        Parameters
        ----------
        z : (..., dim) array
            Latent points.
        grad_x : (..., dim) array
            Derivative of the scalar by x, a row for each of the results.
        grad_log_det : (...) array
            Derivative of the scalar by log_det.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `z`, as in NumPy.
        parameters : bool
            Whether the derivative by the parameters is wanted. It is what a call on few rows spends its time on.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by z, by the parameters (summed over rows; None without `parameters`), and by the context.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(z, context, "z")
        by_x = flat(grad_x, self.shape, "grad_x")
        seeds = given.like_points(by_x, "grad_x", "z"), given.vector(grad_log_det, "grad_log_det")
        return self._vjp(self._state.core.forward_vjp, given, parameters, *seeds)

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[True] = True,
    ) -> tuple[Floats, Floats, Floats | None]: ...

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: Literal[False],
    ) -> tuple[Floats, None, Floats | None]: ...

    @overload
    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool,
    ) -> tuple[Floats, Floats | None, Floats | None]: ...

    def inverse_vjp(
        self,
        x: npt.ArrayLike,
        grad_z: npt.ArrayLike,
        grad_log_det: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        parameters: bool = True,
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the vector-Jacobian product of `inverse`: derivatives of a scalar that depends on its results.

        Parameters
        ----------
        x : (..., dim) array
            Data points.
        grad_z : (..., dim) array
            Derivative of the scalar by z, a row for each of the results.
        grad_log_det : (...) array
            Derivative of the scalar by log_det.
        context : (..., context) array, optional
            Conditions of each row, or (context,), of all. Leading axes broadcast against those of `x`, as in NumPy.
        parameters : bool
            Whether the derivative by the parameters is wanted. It is what a call on few rows spends its time on.

        Returns
        -------
        (..., dim) array, (p,) array or None, (..., context) array or None
            Derivatives by x, by the parameters (summed over rows; None without `parameters`), and by the context.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type.
        """
        given = self._batch(x, context)
        seeds = given.like_points(grad_z, "grad_z", "x"), given.vector(grad_log_det, "grad_log_det")
        return self._vjp(self._state.core.inverse_vjp, given, parameters, *seeds)

    def _vjp(
        self,
        call: Callable[..., tuple[Floats, Floats | None, Floats | None]],
        given: Batch,
        parameters: bool,
        *seeds: Array,
    ) -> tuple[Floats, Any, Floats | None]:
        if not isinstance(parameters, bool):
            raise TypeError(f"parameters must be True or False, not {parameters!r}")
        by_points, by_parameters, by_context = call(
            given.points, *seeds, context=given.condition, parameters=parameters, threads=self.num_threads
        )
        by_context = None if by_context is None else given.shaped(by_context)
        return given.like_these(by_points), by_parameters, by_context

    # -- copies --------------------------------------------------------------------------------------------------

    def save(self, path: PathLike) -> None:
        """Write the flow to a file: safetensors, with the description as JSON in the metadata.

        The file appears whole or not at all; one that was there is replaced at the end, and keeps its mode. A link is
        followed, and a pipe or a device is written to as it is.

        Parameters
        ----------
        path : str or path
            The file; by custom it ends in ``.safetensors``.

        Raises
        ------
        OSError
            If it cannot be written.
        ValueError
            If a parameter is NaN or infinite.

        Examples
        --------
        >>> import tempfile, os
        >>> flow = Flow(2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "flow.safetensors")
        ...     flow.save(path)
        ...     twin = Flow.load(path)
        >>> bool((twin.parameters == flow.parameters).all())
        True
        """
        files.save(path, self._state, to_json(self.history))

    @classmethod
    def load(cls, path: PathLike) -> Flow:
        """Read a flow from a file that `save` wrote, in this version or an older one, or the best of a checkpoint.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        Flow
            The same flow: same densities, to the last bit, on the same instruction set.

        Raises
        ------
        FileFormatError
            If the file is damaged, foreign, or of a newer format.
        OSError
            If it is missing or cannot be read.
        """
        state, training = files.load(path)
        flow = cls.__new__(cls)
        with files.reading(path):
            flow._state, flow.history = state, from_json(training)
        return flow

    def astype(self, dtype: npt.DTypeLike) -> Flow:
        """Return a copy whose parameters, and the arithmetic inside, have another precision.

        Parameters
        ----------
        dtype : {"float32", "float64"}
            The precision.

        Returns
        -------
        Flow
            The same density, to what rounding in the coarser precision comes to.

        Raises
        ------
        ValueError
            If `dtype` is none of those.

        Examples
        --------
        >>> Flow(2, seed=0).astype("float64").dtype
        dtype('float64')
        """
        content, tensors = files.content_of(self._state, to_json(self.history))
        content["model"] = {**content["model"], "dtype": description.precision(dtype)}
        for name in self.named_parameters():
            tensors[name] = tensors[name].astype(content["model"]["dtype"])
        twin = type(self).__new__(type(self))
        twin.__setstate__({"content": content, "tensors": tensors, **copy.deepcopy(self._not_in_files())})
        return twin

    def __getstate__(self) -> dict[str, Any]:
        content, tensors = files.content_of(self._state, to_json(self.history))
        copies = {name: values.copy() for name, values in tensors.items()}
        return {"content": content, "tensors": copies, **self._not_in_files()}

    def _not_in_files(self) -> dict[str, Any]:
        """Return what copies of a flow have, and files do not."""
        return {"threads": self._state.threads, "open": self._state.open, "left_open": self._state.left_open}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Through JSON, as from a file: the copy shares nothing with the flow, and tuples become lists.
        content: dict[str, Any] = json.loads(json.dumps(state["content"]))
        self._state = files.restore(content, state["tensors"])
        self._state.threads, self._state.open = state["threads"], state.get("open")
        self._state.left_open = state.get("left_open", ())
        self.history = from_json(files.training_of(content))


def _group_of(comm: object) -> Group:
    """Return the processes of an argument ``comm``."""
    if comm is None:
        return ALONE
    if isinstance(comm, Group):
        return comm
    from pushforward._fit.mpi import group_of

    return group_of(comm)


def _write_pieces(
    call: Callable[[Array, Array | None], tuple[Array, ...]],
    x: Array | Stored,
    context: Array | Stored | None,
    results: tuple[Array, ...],
) -> None:
    """Write a call's results for a table, a window of rows at a time.

    Results may lie in the memory of the table or its context.
    """
    for piece in rows.pieces_of(x):
        condition = context if context is None or context.ndim == 1 else context[piece]
        found = call(x[piece], cast("Array | None", condition))
        places = [result[piece] for result in results]
        if piece.stop < len(x):
            x = rows.still_readable(x, piece.stop, places)
            if context is not None:
                context = rows.still_readable(context, piece.stop if context.ndim == 2 else 0, places)
        for place, values in zip(places, found, strict=True):
            place[...] = values.reshape(place.shape)
        rows.drop_pages(x, context, *results)
