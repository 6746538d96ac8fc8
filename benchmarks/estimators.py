"""The density estimators that `quality.py` compares, each with the defaults or the choices its users would make.

Every estimator is fitted to the same rows. What has to be chosen (the number of components, the bandwidth, the epoch)
is chosen by the same held-out tenth, which `Flow.fit` holds out with the same seed; only flowjax holds out its own.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from pushforward import Flow
from pushforward._model.supports import Support
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

Doubles = npt.NDArray[np.float64]
Supports = Support | Sequence[Support] | None

VALIDATION = 0.1
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
BANDWIDTHS = np.geomspace(0.01, 2.0, 20)
# Of the kernel sums, so of a log density in nats; sklearn's exact sums take several times as long.
KDE_TOLERANCE = 1e-4


@dataclass
class Fit:
    """A fitted density: its logarithm in the units of the table, what was chosen, and the seconds of the whole fit."""

    log_prob: Callable[[Doubles], Doubles]
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = math.nan


@dataclass
class Task:
    """Rows to fit to, and the fits made so far, which the estimator `stack` uses."""

    x: Doubles
    support: Supports
    seed: int
    threads: int
    fits: dict[str, Fit] = field(default_factory=dict)

    @cached_property
    def is_held(self) -> npt.NDArray[np.bool_]:
        """Which rows are held out: those that `Flow.fit` holds out with this seed."""
        order = np.random.default_rng(self.seed).permutation(len(self.x))
        held = np.zeros(len(self.x), dtype=bool)
        held[order[: round(VALIDATION * len(self.x))]] = True
        return held

    @property
    def train(self) -> Doubles:
        return self.x[~self.is_held]

    @property
    def held(self) -> Doubles:
        return self.x[self.is_held]

    def fit(self, name: str, estimator: Callable[[Task], Fit]) -> Fit:
        """Return the fit of that name, which is made the first time."""
        if name not in self.fits:
            start = time.perf_counter()
            fit = estimator(self)
            if math.isnan(fit.seconds):
                fit.seconds = time.perf_counter() - start
            self.fits[name] = fit
        return self.fits[name]


@dataclass(frozen=True)
class Scale:
    """A linear map to rows with mean 0 and deviation 1, also uncorrelated ones if `whitened`."""

    mean: Doubles
    factor: Doubles
    log_det: float

    @classmethod
    def of(cls, x: Doubles, whitened: bool = False) -> Scale:
        covariance = np.atleast_2d(np.cov(x, rowvar=False))
        factor = np.linalg.cholesky(covariance) if whitened else np.diag(np.sqrt(np.diag(covariance)))
        return cls(np.asarray(x.mean(axis=0)), np.asarray(factor), float(np.log(np.diag(factor)).sum()))

    def __call__(self, x: Doubles) -> Doubles:
        result: Doubles = np.linalg.solve(self.factor, (x - self.mean).T).T
        return result

    def density(self, log_prob: Callable[[Doubles], Doubles]) -> Callable[[Doubles], Doubles]:
        """Return a log density of scaled rows as one of rows."""
        return lambda x: log_prob(self(x)) - self.log_det


# -- pushforward -------------------------------------------------------------------------------------------------------


def flow(task: Task) -> Fit:
    """Fit the default flow with the default options."""
    model = Flow(task.x.shape[1], support=task.support, seed=task.seed, num_threads=task.threads)
    return fitted_flow(model, task)


def fitted_flow(model: Flow, task: Task, **options: Any) -> Fit:
    """Fit a flow with options of `Flow.fit`."""
    model.fit(task.x, seed=task.seed, progress=False, **options)
    history = model.history
    assert history is not None
    details = {
        "epochs": len(history),
        "best_epoch": history.best_epoch,
        "validation_loss": history.best_loss,
        "parameters": int(model.parameters.size),
    }
    return Fit(lambda x: np.asarray(model.log_prob(x), dtype=np.float64), details)


def stack(task: Task) -> Fit:
    """Mix the flow and the Gaussian mixture with the one weight that the held-out rows like best."""
    first, second = task.fit("flow", flow), task.fit("mixture", mixture)
    start = time.perf_counter()
    held = first.log_prob(task.held), second.log_prob(task.held)
    if abs(held[0].mean() + first.details["validation_loss"]) > 1e-3:
        raise RuntimeError("the flow was not validated on the rows held out here, so a weight would favour it")

    def log_prob(of_first: Doubles, of_second: Doubles, weight: float) -> Doubles:
        with np.errstate(divide="ignore"):
            result: Doubles = np.logaddexp(np.log(weight) + of_first, np.log1p(-weight) + of_second)
        return result

    best = minimize_scalar(lambda weight: -log_prob(*held, weight).mean(), bounds=(0.0, 1.0), method="bounded")
    weight = float(best.x)
    seconds = first.seconds + second.seconds + time.perf_counter() - start
    return Fit(lambda x: log_prob(first.log_prob(x), second.log_prob(x), weight), {"weight": weight}, seconds)


# -- scikit-learn ------------------------------------------------------------------------------------------------------


def mixture(task: Task) -> Fit:
    """Fit Gaussian mixtures with full covariances to standardised rows, and keep the best number of components."""
    scale = Scale.of(task.train)
    train, held = scale(task.train), scale(task.held)
    best, best_score = None, -np.inf
    for components in COMPONENTS:
        if components > len(train):
            break
        model = GaussianMixture(components, random_state=task.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train)
        score = model.score(held)
        if score > best_score:
            best, best_score = model, score
    if best is None:
        raise RuntimeError("no Gaussian mixture could be fitted")
    return Fit(scale.density(best.score_samples), {"components": best.n_components})


def kde(task: Task) -> Fit:
    """Choose the bandwidth of Gaussian kernels, and whether the rows are standardised or whitened."""
    best: tuple[float, Scale, Any, bool] | None = None
    for whitened in (False, True):
        scale = Scale.of(task.train, whitened)
        train, held = scale(task.train), scale(task.held)
        for bandwidth in BANDWIDTHS:
            model = KernelDensity(bandwidth=bandwidth, rtol=KDE_TOLERANCE).fit(train)
            score = float(model.score(held)) / len(held) - scale.log_det
            if best is None or score > best[0]:
                best = score, scale, model, whitened
    assert best is not None
    _, scale, model, whitened = best
    details = {"bandwidth": float(model.bandwidth), "kernels_on": "whitened" if whitened else "standardised"}
    return Fit(scale.density(model.score_samples), details)


def gaussian(task: Task) -> Fit:
    """Fit one Gaussian to all rows, with the covariance of Ledoit and Wolf (2004)."""
    scale = Scale.of(task.x)
    estimate = LedoitWolf().fit(scale(task.x))
    density = multivariate_normal(estimate.location_, estimate.covariance_)
    return Fit(scale.density(lambda x: np.atleast_1d(density.logpdf(x))), {"shrinkage": float(estimate.shrinkage_)})


# -- other libraries of flows ------------------------------------------------------------------------------------------


def zuko(task: Task) -> Fit:
    """Fit zuko's default neural spline flow to standardised rows; the library leaves the loop to its users.

    Adam with a rate of 1e-3, 256 rows a step, up to 100 epochs, the best of which is taken, patience 30.
    """
    import torch
    import zuko

    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    scale = Scale.of(task.train)
    train, held = (torch.from_numpy(scale(x).astype(np.float32)) for x in (task.train, task.held))
    model = zuko.flows.NSF(task.x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best_loss, best_epoch, best_state = math.inf, 0, model.state_dict()
    for epoch in range(1, 101):
        for batch in train[torch.randperm(len(train))].split(256):
            optimizer.zero_grad()
            (-model().log_prob(batch).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            loss = -float(model().log_prob(held).mean())
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        elif epoch - best_epoch >= 30:
            break
    model.load_state_dict(best_state)

    def log_prob(z: Doubles) -> Doubles:
        with torch.no_grad():
            parts = [model().log_prob(part) for part in torch.from_numpy(z.astype(np.float32)).split(4096)]
        result: Doubles = torch.cat(parts).double().numpy()
        return result

    return Fit(scale.density(log_prob), {"epochs": epoch, "best_epoch": best_epoch})


def flowjax(task: Task) -> Fit:
    """Fit flowjax's masked autoregressive flow with splines to standardised rows, by its own loop and defaults."""
    import equinox
    import jax
    import jax.numpy as jnp
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train import fit_to_data

    scale = Scale.of(task.x)
    of_flow, of_fit = jax.random.split(jax.random.key(task.seed))
    model = masked_autoregressive_flow(
        of_flow,
        base_dist=Normal(jnp.zeros(task.x.shape[1])),
        transformer=RationalQuadraticSpline(knots=8, interval=4),
    )
    model, losses = fit_to_data(of_fit, model, jnp.asarray(scale(task.x), dtype=jnp.float32), show_progress=False)
    log_prob = equinox.filter_jit(model.log_prob)

    def chunked(z: Doubles) -> Doubles:
        parts = np.array_split(z.astype(np.float32), -(-len(z) // 4096))
        return np.concatenate([np.asarray(log_prob(part), dtype=np.float64) for part in parts])

    return Fit(scale.density(chunked), {"epochs": len(losses["val"])})


ESTIMATORS: dict[str, Callable[[Task], Fit]] = {
    estimator.__name__: estimator for estimator in (flow, mixture, stack, kde, gaussian, zuko, flowjax)
}


def missing_package(method: str) -> str | None:
    """Return a package that a method needs and that is not installed."""
    packages = {"zuko": ("torch", "zuko"), "flowjax": ("jax", "flowjax")}.get(method, ())
    return next((name for name in packages if find_spec(name) is None), None)
