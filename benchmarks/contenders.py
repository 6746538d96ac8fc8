"""The flows that compare.py times: those of pushforward and of other libraries, with the same architecture.

Run as a program, this file serves one of them. `contenders.py NAME CASE THREADS` builds the flow and prints its
description as a line of JSON. It then answers each line `OPERATION SECONDS` with the durations of its calls.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One architecture: features, couplings, width of the two hidden layers, spline bins (0: affine), rows a step."""

    dim: int
    layers: int
    hidden: int
    bins: int
    rows: int


CASES = {
    "A": Case(8, 8, 64, 0, 256),
    "B": Case(8, 5, 64, 8, 256),
    "C": Case(6, 10, 256, 8, 512),
    "D": Case(43, 10, 32, 4, 128),
    "E": Case(43, 10, 128, 0, 1024),
}
MANY, FEW = 20_000, 256
BOUND = 5.0
RATE = 1e-4
# Rows that an operation is quoted per; the others are quoted per call.
OPERATIONS = {"step": 1, "log_prob": MANY, "sample": MANY, "log_prob_256": 1}


@dataclass
class Contender:
    """One library's flow: how many parameters it has, and its operations as calls without arguments."""

    packages: tuple[str, ...]
    parameters: int
    operations: dict[str, Callable[[], object]] = field(repr=False)


def pushforward(case: Case, threads: int) -> Contender:
    from pushforward import MLP, Adam, Affine, Coupling, Flow, RationalQuadratic

    transform = RationalQuadratic(bins=case.bins, bound=BOUND) if case.bins else Affine()
    coupling = Coupling(transform, MLP((case.hidden, case.hidden)), mask="alternate", unconditional=False)
    flow = Flow(case.dim, layers=[coupling] * case.layers, seed=0, num_threads=threads)
    batch, few, many = _data(case)
    adam, gradient = Adam(RATE), np.empty_like(flow.parameters)

    def step() -> None:
        # What Flow.fit does with a minibatch.
        norm = flow._state.core.loss_and_grad(batch, gradient, threads=threads)[1]
        adam.update(flow.parameters, gradient, RATE, 5.0, threads, norm=norm)

    calls = {
        "step": step,
        "log_prob": lambda: flow.log_prob(many),
        "sample": lambda: flow.sample(MANY, seed=0),
        "log_prob_256": lambda: flow.log_prob(few),
    }
    return Contender(("numpy",), flow.parameters.size, calls)


def _torch(packages: tuple[str, ...], flow: Any, log_prob: Any, sample: Any, case: Case, threads: int) -> Contender:
    import torch

    torch.set_num_threads(threads)
    batch, few, many = map(torch.from_numpy, _data(case))
    adam = torch.optim.Adam(flow.parameters(), lr=RATE)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        (-log_prob(batch).mean()).backward()
        adam.step()

    calls = {
        "step": step,
        "log_prob": torch.no_grad()(lambda: log_prob(many)),
        "sample": torch.no_grad()(lambda: sample(MANY)),
        "log_prob_256": torch.no_grad()(lambda: log_prob(few)),
    }
    return Contender((*packages, "torch"), sum(p.numel() for p in flow.parameters()), calls)


def nflows(case: Case, threads: int) -> Contender:
    import torch
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.coupling import (
        AffineCouplingTransform,
        PiecewiseRationalQuadraticCouplingTransform,
    )
    from nflows.utils import torchutils

    class Net(torch.nn.Sequential):
        hidden_features = case.hidden

        def __init__(self, inputs: int, outputs: int) -> None:
            linear, relu, h = torch.nn.Linear, torch.nn.ReLU, case.hidden
            super().__init__(linear(inputs, h), relu(), linear(h, h), relu(), linear(h, outputs))

        def forward(self, x: Any, context: Any = None) -> Any:
            return super().forward(x)

    transforms = []
    for i in range(case.layers):
        mask = torchutils.create_alternating_binary_mask(case.dim, even=i % 2 == 0)
        if case.bins:
            spline = PiecewiseRationalQuadraticCouplingTransform(
                mask, Net, num_bins=case.bins, tails="linear", tail_bound=BOUND
            )
            transforms.append(spline)
        else:
            transforms.append(AffineCouplingTransform(mask, Net))
    flow = Flow(CompositeTransform(transforms), StandardNormal([case.dim]))
    return _torch(("nflows",), flow, flow.log_prob, flow.sample, case, threads)


def zuko(case: Case, threads: int) -> Contender:
    import zuko

    shape = {"transforms": case.layers, "hidden_features": (case.hidden, case.hidden), "passes": 2}
    flow = zuko.flows.NSF(case.dim, bins=case.bins, **shape) if case.bins else zuko.flows.MAF(case.dim, **shape)
    return _torch(("zuko",), flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)), case, threads)


def normflows(case: Case, threads: int) -> Contender:
    import normflows as nf

    layers = []
    for i in range(case.layers):
        if case.bins:
            layers.append(
                nf.flows.CoupledRationalQuadraticSpline(
                    case.dim, 1, case.hidden, num_bins=case.bins, tail_bound=BOUND, reverse_mask=i % 2 == 1
                )
            )
        else:
            widths = [(case.dim + 1) // 2, case.hidden, case.hidden, 2 * (case.dim // 2)]
            layers.append(nf.flows.AffineCouplingBlock(nf.nets.MLP(widths, init_zeros=True)))
            layers.append(nf.flows.Permute(case.dim, mode="swap"))
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(case.dim, trainable=False), layers)
    return _torch(("normflows",), flow, flow.log_prob, lambda n: flow.sample(n)[0], case, threads)


def flowjax(case: Case, threads: int) -> Contender:
    import os

    # XLA takes as many threads as there are processors to run on.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr
    import optax
    import paramax
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    spline = {"transformer": RationalQuadraticSpline(knots=case.bins, interval=BOUND)} if case.bins else {}
    flow = coupling_flow(
        jr.key(0), base_dist=Normal(jnp.zeros(case.dim)), flow_layers=case.layers, nn_width=case.hidden, nn_depth=2,
        **spline,
    )  # fmt: skip
    params, static = eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )
    adam = optax.adam(RATE)
    state = adam.init(params)
    batch, few, many = map(jnp.asarray, _data(case))

    def loss(p: Any, x: Any) -> Any:
        return -paramax.unwrap(eqx.combine(p, static)).log_prob(x).mean()

    @eqx.filter_jit
    def update(p: Any, s: Any, x: Any) -> Any:
        value, grad = eqx.filter_value_and_grad(loss)(p, x)
        change, s = adam.update(grad, s, p)
        return eqx.apply_updates(p, change), s, value

    def step() -> None:
        nonlocal params, state
        params, state, value = update(params, state, batch)
        value.block_until_ready()

    log_prob = eqx.filter_jit(lambda f, x: f.log_prob(x))
    sample = eqx.filter_jit(lambda f, key: f.sample(key, (MANY,)))
    calls = {
        "step": step,
        "log_prob": lambda: log_prob(flow, many).block_until_ready(),
        "sample": lambda: sample(flow, jr.key(0)).block_until_ready(),
        "log_prob_256": lambda: log_prob(flow, few).block_until_ready(),
    }
    count = sum(leaf.size for leaf in jax.tree_util.tree_leaves(params))
    return Contender(("flowjax", "jax"), count, calls)


CONTENDERS = {f.__name__: f for f in (pushforward, nflows, zuko, normflows, flowjax)}


def _data(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = (case.rows, FEW, MANY)
    batch, few, many = (rng.standard_normal((n, case.dim), dtype=np.float32) for n in rows)
    return batch, few, many


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def serve(name: str, case: str, threads: str) -> None:
    warnings.filterwarnings("ignore")
    contender = CONTENDERS[name](CASES[case], int(threads))
    for call in contender.operations.values():
        for _ in range(3):
            call()
    versions = {package: importlib.metadata.version(package) for package in contender.packages}
    print(json.dumps({"parameters": contender.parameters, "versions": versions}), flush=True)
    for line in sys.stdin:
        operation, seconds = line.split()
        print(json.dumps(_times(contender.operations[operation], float(seconds))), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
