"""Ensembles that tests try."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pushforward import LU, ActNorm, Ensemble, Flow, StudentT, neural_spline, realnvp

DTYPES = ("float32", "float64")


def crescent(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, a**2 + 0.5 * rng.normal(size=n)], axis=1)


def small(dim: int = 2, seed: int = 0, **options: Any) -> Flow:
    return Flow(dim, layers=neural_spline(dim, depth=1, hidden=8, bins=4), seed=seed, **options)


def drawn(flow: Flow, seed: int) -> Flow:
    """The flow with parameters away from every special value."""
    rng = np.random.default_rng(seed)
    flow.parameters = rng.normal(scale=0.3, size=flow.parameters.shape)
    return flow


def three(dtype: str = "float64", context: int = 0, **options: Any) -> Ensemble:
    """Members of different layers, bases, precisions and weights."""
    flows = [
        Flow(2, layers=neural_spline(2, depth=2, hidden=8), context=context, dtype=dtype, seed=0, **options),
        Flow(2, layers=[LU(), ActNorm()], base=StudentT(4.0), context=context, seed=1, **options),
        Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), context=context, dtype=dtype, seed=2, **options),
    ]
    return Ensemble([drawn(flow, seed) for seed, flow in enumerate(flows)], [0.2, 0.5, 0.3])


def members_of(ensemble: Ensemble) -> list[bytes]:
    return [flow.parameters.tobytes() for flow in ensemble.flows]


def interrupted(
    ensemble: Ensemble, threads: int, member: int, exception: type[BaseException], epochs: int = 4
) -> list[int]:
    """Fit until the second epoch of a member; return how many epochs each one had."""
    ensemble.num_threads = threads

    def stop(flow: Flow, epoch: Any) -> None:
        if flow is ensemble.flows[member] and epoch.epoch == 2:
            raise exception("enough")

    with pytest.raises(exception, match="enough"):
        ensemble.fit(crescent(300), epochs=epochs, patience=None, callback=stop, seed=0)
    return [0 if flow.history is None else len(flow.history) for flow in ensemble.flows]
