"""Several flows as one density: the mean of theirs, with weights."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._check.distributions import effective_number
from pushforward._dispatch import core
from pushforward._fit.bar import bar, in_view
from pushforward._fit.held_out import Share, check_fraction, grouped, held_out
from pushforward._fit.history import to_json
from pushforward._fit.stacking import learned_weights
from pushforward._fit.together import Clock, run
from pushforward._flow.density import Density
from pushforward._io import files
from pushforward._io.rows import Rows
from pushforward._io.savable import Savable
from pushforward._io.scan import check_values, pieces
from pushforward._model.state import State, state_of
from pushforward._typing import Array, Doubles, Floats, Indices, Seed
from pushforward.errors import FileFormatError
from pushforward.flow import Flow

if TYPE_CHECKING:
    from pushforward._fit.history import Epoch

# Up to so many rows members are fitted at a time, which is faster (measured: docs/ensembles.md). Of larger tables an
# epoch takes seconds, for which Ctrl-C would have to wait.
_MOST_ROWS_AT_ONCE = 100_000
# The weights are known to 1 % from so many held-out rows.
_MOST_ROWS_FOR_WEIGHTS = 20_000
# What is added to the key of one member's rows for the next member's; the core has the same number.
_KEY_STEP = 0x9E3779B97F4A7C15

Flags = npt.NDArray[np.bool_]


class Ensemble(Density[tuple[Floats, ...]], Savable):
    """Several flows as one density, p(x) = sum_m w_m p_m(x), with weights w_m >= 0 that add up to 1.

    The mean of several densities is nearly always closer to the truth than the densities are, most of all on small
    tables. It costs as many fits as there are flows, and as many evaluations; samples cost no more than those of one.

    Rows are scored, sampled and differentiated as by a `Flow`. Of derivatives, each member gets its share in every row:
    the probability that the row comes from it. There is no latent side, and so no `forward`, `inverse` or `check`; the
    members have theirs.

    Parameters
    ----------
    flows : sequence of Flow
        The members, at least one: over the same number of features and conditions, with the same support. Layers,
        bases and precisions may differ. They are not copied: `fit` changes them.
    weights : (m,) array, optional
        Non-negative weights of the members; the scale does not matter. By default equal.

    Raises
    ------
    TypeError, ValueError
        If the members do not fit together, or the weights have the wrong shape or are negative.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(300, 2)) @ [[1, 0.5], [0, 2]]
    >>> ensemble = Ensemble.of(2, members=3, seed=0).fit(x, epochs=5, seed=0)
    >>> ensemble.log_prob(x[:3]).shape
    (3,)
    >>> ensemble.sample(5, seed=0).shape
    (5, 2)

    Members that differ get weights by how well they describe rows that none of them was fitted to:

    >>> different = Ensemble([Flow(2, seed=0), Flow(2, layers=[LU()], seed=1)]).fit(x, epochs=5, seed=0)
    >>> bool(different.weights.sum().round(6) == 1)
    True
    """

    def __init__(self, flows: Sequence[Flow], weights: npt.ArrayLike | None = None) -> None:
        self._flows = _members(flows)
        # As they are now: a first fit may choose other layers for each.
        self._differ = len({repr(flow) for flow in self._flows}) > 1
        self.weights = weights

    @classmethod
    def of(cls, dim: int | None = None, members: int = 5, *, seed: Seed = None, **options: Any) -> Ensemble:
        """Make an ensemble of flows that differ in their initial parameters only.

        Parameters
        ----------
        dim : int, optional
            Features, at least 1; needed without the option ``shape``.
        members : int
            Number of flows, at least 1.
        seed : int or numpy.random.Generator, optional
            Fixes the initial parameters of every member.
        **options
            Those of `Flow`, such as ``layers`` or ``context``.

        Returns
        -------
        Ensemble
            The ensemble, with equal weights.

        Raises
        ------
        TypeError, ValueError
            If `members` is not such an integer, or for the reasons of `Flow`.

        Examples
        --------
        >>> len(Ensemble.of(2, members=3, support=Positive()))
        3
        """
        members = _checks.integer("members", members, 1)
        return cls([Flow(dim, seed=member_seed, **options) for member_seed in _seeds(seed, members)])

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The members."""
        return self._flows

    @property
    def weights(self) -> Doubles:
        """The weights of the members, (m,): non-negative, with the sum 1. Set to None for equal ones.

        Examples
        --------
        >>> ensemble = Ensemble.of(2, members=2)
        >>> ensemble.weights = [3, 1]
        >>> ensemble.weights
        array([0.75, 0.25])
        """
        weights: Doubles = self._weights.copy()
        return weights

    @weights.setter
    def weights(self, values: npt.ArrayLike | None) -> None:
        # What a fit does not learn it takes from here.
        self._given = _shares(values, len(self._flows))
        self._weights = self._given

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the members; float64 if it is that of any."""
        return np.result_type(*(flow.dtype for flow in self._flows))

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features, as those of a `Flow`. Setting them sets those of every member."""
        return next((flow.columns for flow in self._flows if flow.columns), None)

    @columns.setter
    def columns(self, names: Sequence[str] | None) -> None:
        for flow in self._flows:
            flow.columns = names

    @property
    def context_columns(self) -> tuple[str, ...] | None:
        """Names of the conditioning features, in the same way."""
        return next((flow.context_columns for flow in self._flows if flow.context_columns), None)

    @context_columns.setter
    def context_columns(self, names: Sequence[str] | None) -> None:
        for flow in self._flows:
            flow.context_columns = names

    @property
    def num_threads(self) -> int:
        """Threads of every call: the most of any member's. Setting it, or None for the default, sets those of all."""
        return max(flow.num_threads for flow in self._flows)

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        for flow in self._flows:
            flow.num_threads = value

    def __len__(self) -> int:
        return len(self._flows)

    def __repr__(self) -> str:
        texts = [_indented(repr(flow)) for flow in self._flows]
        if len(texts) > 1 and len(set(texts)) == 1:
            flows = f"{texts[0]}\n        for _ in range({len(texts)})\n"
        else:
            flows = "".join(f"{text},\n" for text in texts)
        weights = ", ".join(f"{weight:.4g}" for weight in self._weights)
        shown = "" if (self._weights == self._weights[0]).all() else f"    weights=[{weights}],\n"
        return f"Ensemble(\n    [\n{flows}    ],\n{shown})"

    # -- fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: npt.ArrayLike,
        *,
        context: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        validation: float | npt.ArrayLike | tuple[npt.ArrayLike | None, ...] | None = 0.1,
        learn_weights: bool | None = None,
        max_time: float | None = None,
        seed: Seed = None,
        progress: bool | None = None,
        callback: Callable[[Flow, Epoch], object] | None = None,
        **options: Any,
    ) -> Ensemble:
        """Fit every member to rows of data, each with a seed of its own, and then the weights of the members.

        Members that are alike, apart from their initial parameters, keep the weights that they have, which are equal
        by default. Each of them holds out other rows, so that nearly every row trains most of the members. Members that
        differ all hold out the same rows, and learn their weights from these (see `fit_weights`).

        Up to 100,000 rows, members are fitted in parallel, each on its share of the threads; the results are the same
        to the last bit. Ctrl-C, or an exception from the callback, ends all fits, at the latest after their present
        epoch, leaves every member at its best state so far, and goes on to the caller. Members whose first epoch had
        not ended then have the weight 0; a later fit fits them too, and gives them a weight again.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data, as for `Flow.fit`.
        context : (n, context) array, optional
            Their conditions, for flows that have any.
        weights : (n,) array, optional
            Non-negative weights of the rows (not of the members); the scale does not matter.
        groups : (n,) array of any type, optional
            Labels of rows that belong together, as for `Flow.fit`: whole groups are held out.
        validation : float, array, tuple or None
            The fraction of rows held out at random, in [0, 1), rows of their own, or ``(rows, context)`` or
            ``(rows, context, weights)``, where the context is None for a flow without one. With None or 0
            nothing is held out, and no weights are learned.
        learn_weights : bool, optional
            Whether to learn the members' weights from the held-out rows, which are then the same for all members. By
            default if the members differed in anything but their parameters when the ensemble was made.
        max_time : float, optional
            Seconds for all members together, above 0.
        seed : int or numpy.random.Generator, optional
            Fixes the fit of every member: with it, and without `max_time`, the same flows and rows give the same
            parameters and weights to the last bit.
        progress : bool, optional
            Whether to show a progress bar on standard error; by default only in a terminal or a notebook.
        callback : callable, optional
            Called as ``callback(flow, epoch)`` after each epoch of a member, by one thread at a time; a true result
            ends the fit of that member.
        **options
            The other options of `Flow.fit`, for every member: ``epochs``, ``batch_size``, ``optimizer``, ``schedule``,
            ``patience``, ``clip_norm``, ``frozen``, ``restandardize``. An ensemble keeps no checkpoint.

        Returns
        -------
        Ensemble
            This ensemble; each member's `history` holds its curves.

        Raises
        ------
        TypeError, ValueError
            Before any work, for the reasons of `Flow.fit`, or if weights cannot be learned because no rows are held
            out.
        TrainingDivergedError
            If the loss of a member keeps becoming non-finite although the learning rate was lowered.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).gamma(3.0, size=(300, 2))
        >>> ensemble = Ensemble.of(2, members=2, seed=0).fit(x, epochs=5, seed=0)
        >>> [len(flow.history) for flow in ensemble.flows]
        [5, 5]
        """
        _refuse_checkpoints(options)
        table = self._table(x, context, weights)
        split_seed, *seeds = _seeds(seed, 1 + len(self))
        held = None
        learns = self._learns(validation, learn_weights)
        validation = grouped(validation, groups, len(table.x))
        if learns:
            if isinstance(validation, Share):
                validation = replace(validation, seed=split_seed)  # type: ignore[assignment]
            elif _is_fraction(validation):
                validation = Share(check_fraction(validation), split_seed)  # type: ignore[assignment]
            rng = np.random.default_rng(split_seed)
            held = held_out(state_of(self._flows[0]), table, validation, rng, self._names)[1]
            if held is None and learn_weights:
                raise ValueError(f"learn_weights needs rows that are held out; of {len(table)} rows there are none")
        fits = _Fits(self._flows, len(table), max_time, progress, callback)
        try:
            fits.run(x, seeds, {"context": context, "weights": weights, "validation": validation, **options})
        finally:
            if fits.have_changed:
                self._weights = _restricted(self._given, fits.fitted)
                if held is not None:
                    self._learn(held, fits.fitted)
        return self

    def fit_weights(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> Ensemble:
        """Learn the weights of the members from rows that no member was fitted to.

        They are those under which the rows are most likely (stacking: Smyth and Wolpert 1999; Yao et al. 2018), with
        one row more for each member that only this member describes. So no weight becomes 0, and few rows change
        equal weights little.

        Parameters
        ----------
        x : (n, dim) array
            Rows of data, at least one. Of more than 20,000, as many drawn at random are used.
        context : (n, context) array, optional
            Their conditions, for flows that have any.
        weights : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.

        Returns
        -------
        Ensemble
            This ensemble.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or holds NaN or infinity or a value outside its support.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(400, 2))
        >>> narrow, wide = (Flow(2, layers=[]).initialize(scale * x[:200]) for scale in (1, 3))
        >>> ensemble = Ensemble([narrow, wide]).fit_weights(x[200:])
        >>> bool(ensemble.weights[0] > 0.95)
        True
        """
        table = self._table(x, context, weights)
        check_values(table, "x", self.support)
        self._learn(table, np.ones(len(self), dtype=bool))
        return self

    def _table(self, x: object, context: object, weights: object) -> Rows:
        return Rows.checked(x, context, weights, (self.dim, self.context), self._names, shape=self.shape)

    @property
    def _names(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        return self.columns, self.context_columns

    def _learns(self, validation: object, learn_weights: bool | None) -> bool:
        """Return whether a fit learns weights."""
        if learn_weights is not None and not isinstance(learn_weights, bool):
            raise TypeError(f"learn_weights must be True, False or None, not {learn_weights!r}")
        is_held_out = validation is not None and not (_is_fraction(validation) and validation == 0)
        if learn_weights and not is_held_out:
            raise ValueError(f"learn_weights needs rows that are held out; validation is {validation!r}")
        return is_held_out and (self._differ if learn_weights is None else learn_weights)

    def _learn(self, held: Rows, fitted: Flags) -> None:
        """Learn the weights of the members that are fitted; the others get 0."""
        if len(held) > _MOST_ROWS_FOR_WEIGHTS:
            held = held.split(_MOST_ROWS_FOR_WEIGHTS / len(held), np.random.default_rng(0))[1]
        members = list(itertools.compress(self._flows, fitted))
        logs, row_weights = [], []
        for x, context, w, index in pieces(held):
            rows, conditions = x[index], None if context is None else context[index]
            logs.append([state_of(flow).log_prob(rows, conditions) for flow in members])
            row_weights.append(np.ones(len(index)) if w is None else w[index])
        counts = np.concatenate(row_weights)
        counts *= effective_number(counts) / counts.sum()
        self._weights = np.zeros(len(self))
        self._weights[fitted] = learned_weights(np.concatenate(logs, axis=1), counts)
        if fitted.all():
            self._given = self._weights

    # -- densities and samples, on tables ------------------------------------------------------------------------

    @property
    def _outline(self) -> State:
        return state_of(self._flows[0])

    def _active(self) -> list[tuple[int, State, float]]:
        """Return the members that have a weight: their numbers, their states, and the logarithms of their weights."""
        active = np.flatnonzero(self._weights)
        return [(int(m), state_of(self._flows[m]), float(np.log(self._weights[m]))) for m in active]

    def _checked_temperature(self, temperature: float) -> float:
        checked = [state.checked_temperature(temperature) for _, state, _ in self._active()]
        return checked[0]

    def _log_prob(self, x: Array, context: Array | None, temperature: float) -> Doubles:
        parts = (state.log_prob(x, context, temperature=temperature) + log for _, state, log in self._active())
        return _log_sum(len(x), parts)

    def _log_prob_and_grad(self, x: Array, context: Array | None) -> tuple[Doubles, Floats]:
        results = [(state.log_prob_and_grad(x, context), log) for _, state, log in self._active()]
        total = _log_sum(len(x), (density + log_weight for (density, _), log_weight in results))
        mean = np.zeros(x.shape)
        with np.errstate(invalid="ignore"):  # outside the support
            for (density, gradient), log_weight in results:
                share = np.exp(density + log_weight - total)[:, None]
                mean += np.where(share == 0, 0.0, share * gradient)
        return total, mean.astype(x.dtype)

    def _log_prob_vjp(
        self, x: Array, seeds: Doubles, context: Array | None, parameters: bool
    ) -> tuple[Floats, tuple[Floats, ...] | None, Floats | None]:
        logs = {m: state.log_prob(x, context) + log_weight for m, state, log_weight in self._active()}
        total = _log_sum(len(x), logs.values())
        by_x, by_context = np.zeros(x.shape), np.zeros((len(x), self.context))
        by_parameters: list[Floats] = []
        for m, flow in enumerate(self._flows):
            share = np.zeros(len(x))
            if m in logs:
                with np.errstate(invalid="ignore"):  # outside the support
                    share = np.where(seeds == 0, 0.0, seeds * np.exp(logs[m] - total))
            elif not parameters:
                continue
            of_x, of_parameters, of_context = state_of(flow).log_prob_vjp(x, share, context, parameters)
            by_x += of_x
            if of_context is not None:
                by_context += of_context
            if of_parameters is not None:
                by_parameters.append(of_parameters)
        conditions = None if context is None else by_context.astype(context.dtype)
        return by_x.astype(x.dtype), tuple(by_parameters) if parameters else None, conditions

    def _draw(
        self, key: int, n: int, context: Array | None, temperature: float, *, with_log_prob: bool
    ) -> tuple[Floats, Doubles]:
        chosen = self._members_of_rows(key, n)
        x: Floats = np.empty((n, self.dim), np.result_type(*(state_of(flow).data_dtype for flow in self._flows)))
        for m, state, _ in self._active():
            rows = np.flatnonzero(chosen == m)
            given = context[rows] if context is not None and context.ndim == 2 else context
            # A key for each member: with one for all, rows of different members would share their random numbers.
            key_of_member = (key + m * _KEY_STEP) % 2**64
            x[rows] = state.sample(key_of_member, len(rows), given, temperature=temperature)[0]
        return x, self._log_prob(x, context, temperature) if with_log_prob else np.empty(0)

    def _members_of_rows(self, key: int, n: int) -> Indices:
        """Return which member each row of a sample comes from."""
        active = np.flatnonzero(self._weights)
        # What is above the last end belongs to the last member, whatever rounding made of the sum.
        ends = np.cumsum(self._weights[active])[:-1]
        chosen: Indices = active[np.searchsorted(ends, core.draw_shares(key, n), side="right")]
        return chosen

    # -- files ---------------------------------------------------------------------------------------------------

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Array]]:
        members = [files.content_of(state_of(flow), to_json(flow.history)) for flow in self._flows]
        return files.content_of_ensemble(members, self._weights)

    @classmethod
    def _of_file(cls, content: dict[str, Any], tensors: dict[str, Array]) -> Ensemble:
        members, weights = files.ensemble_of(content, tensors)
        flows = [_read(m, *member) for m, member in enumerate(members)]
        try:
            ensemble = cls(flows)
        except ValueError as error:
            raise FileFormatError(str(error)) from None
        # Not assigned like those of a caller: dividing by their sum once more could change the last digit.
        ensemble._given = ensemble._weights = weights
        return ensemble


class _Fits:
    """The fits of several flows to the same rows.

    Parameters
    ----------
    flows : sequence of Flow
        The flows.
    rows : int
        Number of rows.
    max_time, progress, callback
        The options of `Ensemble.fit`.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        rows: int,
        max_time: float | None,
        progress: bool | None,
        callback: Callable[[Flow, Epoch], object] | None,
    ) -> None:
        if max_time is not None:
            _checks.number("max_time", max_time, 0.0, closed="neither")
        if not (progress is None or isinstance(progress, bool)):
            raise TypeError(f"progress must be True, False or None, not {progress!r}")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        self._flows, self._callback, self._max_time = flows, callback, max_time
        self._progress = in_view() if progress is None else progress
        self._threads = max(flow.num_threads for flow in flows)
        self._workers = min(len(flows), self._threads) if rows <= _MOST_ROWS_AT_ONCE else 1
        self._were_fitted = [state_of(flow).initialized for flow in flows]
        self._shares = [0.0] * len(flows)  # of each fit, done
        self._lock = threading.Lock()

    @property
    def have_changed(self) -> bool:
        """Whether a flow has an epoch behind it."""
        return any(self._shares)

    @property
    def fitted(self) -> Flags:
        """Which flows are fitted, by this fit or by one before it."""
        return np.array([before or share > 0 for before, share in zip(self._were_fitted, self._shares, strict=True)])

    def run(self, x: npt.ArrayLike, seeds: Sequence[int], options: dict[str, Any]) -> None:
        """Run all fits; `options` are those of `Flow.fit` that they have in common."""
        clock = Clock(self._max_time, len(self._flows), self._workers)
        jobs = [functools.partial(self._fit, m, x, {"seed": seed, **options}, clock) for m, seed in enumerate(seeds)]
        # Fits one after the other are long, and each shows a bar of its own.
        shown = self._progress and self._workers > 1
        with bar(0.0) if shown else contextlib.nullcontext() as self._show:
            run(jobs, self._workers)

    def _fit(self, m: int, x: npt.ArrayLike, options: dict[str, Any], clock: Clock, check: Callable[[], None]) -> None:
        flow = self._flows[m]
        threads_before = state_of(flow).threads
        if self._workers > 1:
            flow.num_threads = max(1, self._threads // self._workers)
        try:
            with clock.share() as seconds:
                flow.fit(
                    x,
                    max_time=seconds,
                    progress=self._progress and self._workers == 1,
                    callback=functools.partial(self._after_epoch, m, options.get("epochs"), seconds, check),
                    **options,
                )
            self._report(m, 1.0, flow.history.epochs[-1] if flow.history else None)
        finally:
            flow.num_threads = threads_before

    def _after_epoch(
        self,
        m: int,
        epochs: int | None,
        seconds: float | None,
        check: Callable[[], None],
        flow: Flow,
        epoch: Epoch,
    ) -> object:
        """Report an epoch, and call the callback."""
        done = epoch.epoch / (epochs or 100) if seconds is None else epoch.seconds / seconds
        self._report(m, min(done, 1.0), epoch)
        check()
        with self._lock:
            return None if self._callback is None else self._callback(flow, epoch)

    def _report(self, m: int, share: float, epoch: Epoch | None) -> None:
        """Remember how much of a fit is done, and move the bar."""
        with self._lock:
            self._shares[m] = share
            if self._show is not None and epoch is not None:
                loss = epoch.train_loss if math.isnan(epoch.validation_loss) else epoch.validation_loss
                self._show(sum(self._shares) / len(self._shares), f"member {m}, epoch {epoch.epoch}, loss {loss:.4f}")


def _members(flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """Return the members of an ensemble, checked."""
    if not isinstance(flows, Sequence) or not all(isinstance(flow, Flow) for flow in flows):
        raise TypeError(f"flows must be a sequence of Flow, not {flows!r}")
    if not flows:
        raise ValueError("flows is empty; an ensemble needs at least one")
    if len({id(flow) for flow in flows}) < len(flows):
        raise ValueError("flows has the same object twice; each member must be a flow of its own")
    for name in ("dim", "shape", "context", "support"):
        _expect_one([getattr(flow, name) for flow in flows], name)
    for name in ("columns", "context_columns"):
        _expect_one([getattr(flow, name) for flow in flows], name, optional=True)
    return tuple(flows)


def _expect_one(values: list[Any], name: str, *, optional: bool = False) -> None:
    """Raise if the members differ in something; what is optional may be None in some of them."""
    known = [(m, value) for m, value in enumerate(values) if not (optional and value is None)]
    for m, value in known[1:]:
        first, expected = known[0]
        if value != expected:
            raise ValueError(
                f"the members of an ensemble must have the same {name}: flows[{first}] has {expected!r}, "
                f"flows[{m}] has {value!r}"
            )


def _shares(values: npt.ArrayLike | None, members: int) -> Doubles:
    """Return the weights of members, with the sum 1."""
    weights = np.ones(members) if values is None else _checks.vector(values, members, "weights")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"weights must be finite, not negative and not all zero; they are {weights}")
    weights = np.ldexp(weights, -np.frexp(weights.max())[1])  # so that the sum is finite, and has an inverse
    shares: Doubles = weights / weights.sum()
    return shares


def _restricted(weights: Doubles, fitted: Flags) -> Doubles:
    """Return the weights of members that are fitted, and 0 for the others."""
    if fitted.all():
        return weights
    kept = np.where(fitted, weights, 0.0)
    return _shares(kept if kept.any() else fitted.astype(np.float64), len(weights))


def _log_sum(rows: int, parts: Iterable[Floats]) -> Doubles:
    """Return log sum exp of one number a row from each part, added one part after the other."""
    total = np.full(rows, -np.inf)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        for part in parts:
            np.logaddexp(total, part, out=total)
    return total


def _seeds(seed: Seed, count: int) -> list[int]:
    return [int(value) for value in np.random.default_rng(seed).integers(1 << 63, size=count)]


def _is_fraction(validation: object) -> bool:
    return isinstance(validation, (int, float, np.number)) and not isinstance(validation, bool)


def _refuse_checkpoints(options: dict[str, Any]) -> None:
    for name in ("checkpoint", "checkpoint_every", "resume"):
        if name in options:
            raise TypeError(
                f"the fit of an ensemble has no {name}=; fit the flows one by one with it, and then make the Ensemble"
            )


def _indented(text: str) -> str:
    return "".join(f"        {line}\n" for line in text.splitlines())[:-1]


def _read(m: int, content: dict[str, Any], tensors: dict[str, Array]) -> Flow:
    """Make a member of its part of a file."""
    flow = Flow.__new__(Flow)
    try:
        flow.__setstate__({"content": content, "tensors": tensors, "threads": None})
    except FileFormatError as error:
        raise FileFormatError(f"member {m}: {error}") from None
    return flow
