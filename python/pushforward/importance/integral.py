"""Integrals by adaptive importance sampling with a flow."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks, _weights
from pushforward._fit.optimizer import Adam
from pushforward._fit.options import Options
from pushforward._fit.values import fit_to_values
from pushforward._model.presets import neural_spline
from pushforward._model.state import state_of
from pushforward._model.supports import Support
from pushforward._target import Pool
from pushforward._typing import Array, Doubles, Seed
from pushforward._warn import warn
from pushforward.flow import Flow
from pushforward.importance.integrand import Broad, Integrand, supports_of
from pushforward.importance.proposals import Mixture, Proposal

# The parts of `max_calls` after each of which the flow is fitted anew, at most; the rest goes to the last flow.
_PARTS = (0.05, 0.1, 0.25)
# An error is not believed with fewer draws.
_LEAST = 1000
# The share of draws from the broad density. As a control variate it costs at most this share of the draws.
_BROAD_SHARE = 0.1
# A flow is fitted once the rows count as many as so many per feature.
_LEAST_EFFECTIVE = 20
# Measured on benchmarks/integrals.py. The ratio of function and flow is smooth if the networks are.
_EPOCHS = 20
_FIRST_EPOCHS = 5
_LAYERS: dict[str, Any] = {"depth": 6, "hidden": (64, 64), "activation": "silu"}
# The clock is read after so many evaluations.
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, repr=False, eq=False)
class Integral:
    """The integral that `integrate` found; ``float(integral)`` is its value.

    Parameters
    ----------
    value, error : float or (k,) array
        The integral and its standard error; arrays for a function with k values.
    calls : int
        Rows that the function was evaluated at, in all.
    draws : int
        Those of them that the value was taken from: the draws of the last proposal.
    fits : int
        How often a flow was fitted.
    pareto_k : float
        Pareto k of the largest weights. If it is above 0.7, and one draw has more than 1 % of the weight, the error is
        not reliable.
    reached : bool
        Whether the error is within the tolerance.
    flow : Flow or None
        The last flow, close to the function's absolute value; None before any fit.
    covariance : (k, k) array or None
        That of the values of a function with k values, whose errors are correlated: all have the same draws.

    Examples
    --------
    >>> from pushforward import importance
    >>> importance.integrate(lambda x: 0 * x[:, 0] + 3, [[0, 2]], seed=0)
    integral  6 +- 0 (tolerance reached)
    1,000 evaluations, the value from the last 1,000, 0 fits
    """

    value: Any
    error: Any
    calls: int
    draws: int
    fits: int
    pareto_k: float
    reached: bool
    flow: Flow | None
    covariance: Doubles | None = None

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        reached = "tolerance reached" if self.reached else "tolerance not reached"
        pairs = zip(np.atleast_1d(self.value), np.atleast_1d(self.error), strict=True)
        values = ", ".join(f"{value:.6g} +- {error:.2g}" for value, error in pairs)
        return (
            f"integral  {values} ({reached})\n"
            f"{self.calls:,} evaluations, the value from the last {self.draws:,}, {self.fits} fits"
        )


def integrate(
    f: Callable[[Doubles], Any],
    support: Support | Sequence[Support] | npt.ArrayLike,
    *,
    rtol: float = 1e-3,
    atol: float = 0.0,
    max_calls: int = 200_000,
    max_time: float | None = None,
    start: Any = None,
    epochs: int = _EPOCHS,
    batch_size: int | None = None,
    optimizer: Adam | None = None,
    pool: Pool | None = None,
    seed: Seed = None,
) -> Integral:
    """Integrate a function over a box or another support, by draws from a flow that adapts to it.

    Draws come first from a broad density. A flow is then fitted to the absolute value of f at all rows evaluated so
    far. The next draws come from the flow, with a tenth from the broad density. This is repeated up to three times. A
    fit compares the flow with the values of f, not with the places of the rows alone, so that it has no noise where
    both agree. The weights are those of the mixture, and both densities serve as control variates (Owen, Zhou
    2000), so that the tenth costs little where the flow is good. The value and its error are taken from the draws of
    the last proposal alone, which was fixed before them: adaptation does not bias them.

    Parameters
    ----------
    f : callable
        Takes an (n, dim) array of float64 and returns (n,) finite values of any sign, or (n, k) of k functions that
        are integrated together. The flow then follows the root of the sum of their squares.
    support : (dim, 2) array, Real, Positive, Interval, Circle or a sequence of them
        Where to integrate: lower and upper bounds of a box, or what each feature may be. A single one is for one
        feature.
    rtol, atol : float
        The integration ends when the standard error is at most ``max(atol, rtol * abs(value))``, of all values if `f`
        has several. Both at least 0.
    max_calls : int
        The most rows that `f` is evaluated at, at least 1,000.
    max_time : float, optional
        The most seconds, above 0; a fit or 20,000 evaluations that have begun end first. Results then depend on the
        machine's speed.
    start : Flow or other density, optional
        The broad density, which must cover the support where `f` is not 0. By default it is uniform on bounded
        features. Real ones get a Student's t and positive ones a log-logistic density, both of scale 1.
    epochs, batch_size, optimizer
        Those of every fit, as for `Flow.fit`; by default 20 epochs, 256 rows a step, and no weight decay.
    pool : Pool, optional
        Where to call `f`, in pieces, as for `sample`.
    seed : int or numpy.random.Generator, optional
        Fixes the result.

    Returns
    -------
    Integral
        The value with its standard error. There is a warning if the error is not reliable: if the Pareto k of the
        weights is above 0.7 and one draw has more than 1 % of the weight, or if `f` was 0 at every draw.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of its range, or if `f` returns another shape, NaN or infinity.
        What `f` raises goes on to the caller.

    Notes
    -----
    A standard error knows only what the draws have met. A peak so narrow that none of the first draws hits it is
    missed.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward import importance
    >>> found = importance.integrate(lambda x: np.exp(-(x**2).sum(axis=1)), [Real(), Real()], rtol=0.01, seed=0)
    >>> bool(abs(found.value - np.pi) < 5 * found.error)
    True
    """
    supports = supports_of(support)
    options = Options(epochs=epochs, batch_size=batch_size, optimizer=optimizer, progress=False)
    rtol = _checks.number("rtol", rtol, 0)
    atol = _checks.number("atol", atol, 0)
    max_calls = _checks.integer("max_calls", max_calls, _LEAST)
    if max_time is not None:
        max_time = _checks.number("max_time", max_time, 0, closed="neither", what="a number of seconds")
    end = math.inf if max_time is None else time.monotonic() + max_time
    broad = Proposal(Broad(supports) if start is None else start, "start", dim=len(supports))
    integrand = Integrand(f, len(supports), name="f", max_calls=max_calls, pool=pool)
    rng = np.random.default_rng(seed)
    run = _Run(integrand, broad)
    parts = [max(_LEAST, int(part * max_calls)) for part in _PARTS]
    wanted = min(parts[0], _LEAST)
    while True:
        found = run.draw(wanted, rng, end)
        tolerance = np.maximum(atol, rtol * np.abs(found.value))
        reached = bool((found.error <= tolerance).all()) and found.is_sound
        left = integrand.left(max_calls)
        if reached or not left or time.monotonic() > end:
            break
        drawn = run.drawn
        if parts and drawn < parts[0]:
            wanted = parts[0] - drawn
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.nan_to_num(found.error / tolerance, nan=0.0).max())  # 0 / 0 is reached
        needed = drawn * min(ratio, 1e5) ** 2
        # What is missing, if one can say; a tenth more, since the error is an estimate.
        missing = math.ceil(min(1.1 * needed - drawn, left)) if found.is_sound else left
        if parts and (missing > parts[0] or not found.met):
            parts.pop(0)
            run = run.adapted(supports, rng, end, options)
            wanted = parts[0] if parts else min(max(missing, _LEAST), left)
        else:
            wanted = max(missing, _LEAST)
    found.warn(integrand.calls)
    known = integrand.calls, run.drawn, run.fits, found.pareto_k, reached, run.flow
    if integrand.width is None:
        return Integral(float(found.value[0]), float(found.error[0]), *known)
    return Integral(found.value, found.error, *known, found.covariance)


@dataclass(frozen=True)
class _Estimate:
    """An estimate of the integral, and what says whether its error can be trusted.

    Parameters
    ----------
    value : (k,) array
        The integral of each of the function's values.
    covariance : (k, k) array
        That of the errors.
    pareto_k, greatest : float
        Pareto k of the weights, and the greatest one's share of their sum.
    met : bool
        Whether the function was not 0 at some draw.
    """

    value: Doubles
    covariance: Doubles
    pareto_k: float
    greatest: float
    met: bool

    @property
    def error(self) -> Doubles:
        """The standard errors, (k,)."""
        result: Doubles = np.sqrt(np.diag(self.covariance))
        return result

    @property
    def is_dominated(self) -> bool:
        """Whether a few draws carry much of the weight."""
        return self.pareto_k > _weights.GOOD_K and self.greatest > _weights.GREATEST_WEIGHT

    @property
    def is_sound(self) -> bool:
        """Whether the error can be trusted."""
        return self.met and not self.is_dominated

    def warn(self, calls: int) -> None:
        """Warn of an error that cannot be trusted."""
        if not self.met:
            warn(
                f"f was 0 at all {calls:,} draws: its integral is 0, or where it is not 0 was missed; start= may cover "
                "that"
            )
        elif self.is_dominated:
            warn(
                f"the Pareto k of the weights is {self.pareto_k:.2f}, above {_weights.GOOD_K}, and one draw has "
                f"{self.greatest:.1%} of the weight: the error cannot be trusted. A start= with heavier tails or "
                "nearer to f helps"
            )


class _Run:
    """The draws of one proposal, and those of all proposals before.

    Parameters
    ----------
    integrand : Integrand
        The function.
    broad : Proposal
        The broad density.
    flow : Flow, optional
        The flow that it is mixed with.
    before : _Run, optional
        The run that the flow was fitted to.
    """

    def __init__(
        self, integrand: Integrand, broad: Proposal, flow: Flow | None = None, before: _Run | None = None
    ) -> None:
        self._integrand, self._broad, self.flow = integrand, broad, flow
        self._mixture = None if flow is None else Mixture(Proposal(flow, "the flow"), broad, _BROAD_SHARE)
        self.before = before
        self.rows: list[Doubles] = []
        self.values: list[Doubles] = []
        self._logs: list[tuple[Doubles, Doubles]] = []
        self.fits: int = 0 if before is None else before.fits + 1

    @property
    def drawn(self) -> int:
        """Rows drawn from this proposal."""
        return sum(map(len, self.rows))

    def draw(self, n: int, rng: np.random.Generator, end: float) -> _Estimate:
        """Draw `n` rows, or fewer at the limits; return the integral by the draws of this proposal."""
        while (n := self._integrand.left(n)) > 0:
            count = min(n, _ROWS_AT_ONCE)
            if self._mixture is None:
                x, log_broad = self._broad.draw(count, rng)
                log_flow = log_broad
            else:
                x, log_flow, log_broad = self._mixture.draw_parts(count, rng)
            values = self._integrand(x)[0].reshape(count, -1)
            self.rows.append(x)
            self.values.append(values)
            self._logs.append((log_flow, log_broad))
            n -= count
            if time.monotonic() > end:
                break
        return self._estimated()

    def _estimated(self) -> _Estimate:
        values = np.concatenate(self.values)
        log_flow, log_broad = (np.concatenate(part) for part in zip(*self._logs, strict=True))
        log_mixed = log_flow if self._mixture is None else self._mixture.mixed(log_flow, log_broad)
        weighted, used = _over(values, log_mixed), 1
        if self._mixture is not None:
            # Its mean is 0 under the mixture, whatever f is.
            control = np.exp(log_broad - log_mixed) - np.exp(log_flow - log_mixed)
            centred = control - control.mean()
            variance = float(centred @ centred)
            slopes = centred @ weighted / variance if variance > 0 else np.zeros(values.shape[1])
            weighted, used = weighted - np.outer(control, slopes), 2
        log_weights = _log_sizes(values) - log_mixed
        k, greatest = _weights.pareto_k(log_weights), float(_weights.normalized(log_weights).max())
        return _Estimate(*_mean(weighted, used), k, greatest, bool(values.any()))

    def adapted(self, supports: Sequence[Support], rng: np.random.Generator, end: float, options: Options) -> _Run:
        """Return a run with a flow that is fitted to all rows so far, or this one if they are too few for that."""
        runs: list[_Run] = [self]
        while (before := runs[-1].before) is not None:
            runs.append(before)
        x = np.concatenate([rows for run in runs for rows in run.rows])
        log_sizes = _log_sizes(np.concatenate([values for run in runs for values in run.values]))
        shares = np.log([run.drawn / len(x) for run in runs])
        log_mixed = np.logaddexp.reduce([share + run.log_prob(x) for share, run in zip(shares, runs, strict=True)])
        log_ratios = log_sizes - log_mixed
        weights = _weights.normalized(log_ratios)
        weights = np.minimum(weights, math.sqrt(len(x)) / len(x))  # Ionides (2008): truncated importance sampling
        if not weights.any() or weights.sum() ** 2 / (weights**2).sum() < _LEAST_EFFECTIVE * x.shape[1]:
            return self
        flow = self._flow_near(x, weights, supports, rng, end, options)
        options = replace(options, seed=int(rng.integers(1 << 62)), max_time=_share_of_time(end))
        fit_to_values(state_of(flow), x, log_ratios, log_mixed, options).run()
        return _Run(self._integrand, self._broad, flow, self)

    def _flow_near(
        self,
        x: Doubles,
        weights: Doubles,
        supports: Sequence[Support],
        rng: np.random.Generator,
        end: float,
        options: Options,
    ) -> Flow:
        """Return a flow that is roughly the function: that of this run, or else one fitted to weighted rows."""
        if self.flow is not None:
            return copy.deepcopy(self.flow)
        assert options.epochs is not None
        flow = Flow(x.shape[1], layers=neural_spline(x.shape[1], **_LAYERS), support=supports, seed=rng)
        return flow.fit(
            x,
            weights=weights,
            epochs=min(options.epochs, _FIRST_EPOCHS),
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            max_time=_share_of_time(end),
            seed=rng,
            progress=False,
        )

    def log_prob(self, x: Array) -> Doubles:
        """Return the log density of rows by this proposal, (n,)."""
        return self._broad.log_prob(x) if self._mixture is None else self._mixture.log_prob(x)


def _share_of_time(end: float) -> float | None:
    """Return the seconds that a fit may take: a third of what is left."""
    return None if math.isinf(end) else max((end - time.monotonic()) / 3, 1e-3)


def _over(values: Doubles, log_density: Doubles) -> Doubles:
    """Return values / exp(log_density), (n, k), without overflow where the value is 0."""
    ratios = np.zeros_like(values)
    by = np.exp(-log_density, where=values.any(axis=1), out=np.zeros(len(values)))
    np.multiply(values, by[:, None], out=ratios, where=values != 0)
    return ratios


def _log_sizes(values: Doubles) -> Doubles:
    with np.errstate(divide="ignore"):  # of 0, which is -inf
        sizes: Doubles = np.log(np.linalg.norm(values, axis=1))
    return sizes


def _mean(values: Doubles, used: int) -> tuple[Doubles, Doubles]:
    """Return the means of (n, k) values and their covariance, after `used` parameters were taken from the values."""
    n = len(values)
    mean = values.mean(axis=0)
    around = values - mean
    return mean, around.T @ around / (n - used) / n
