"""Flows of nflows and zuko, built, trained a little and taken over: the same numbers, and clear refusals."""

from __future__ import annotations

import copy
import functools
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from pushforward import Flow
from pushforward._model.layers import LU
from pushforward.convert import from_nflows, from_zuko

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nflows.flows
        import nflows.nn.nets
        import nflows.transforms as nt
        import torch
        import zuko
        import zuko.transforms as zt
        from nflows.distributions import DiagonalNormal, StandardNormal
        from nflows.distributions.uniform import BoxUniform
        from torch.nn import functional
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform
        from zuko.flows.gaussianization import ElementWiseTransform
        from zuko.lazy import UnconditionalDistribution, UnconditionalTransform
except ImportError:
    torch = None

needs_peers = pytest.mark.skipif(
    torch is None, reason="torch, nflows and zuko are not all installed; pip install '.[peers]'"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and nflows' own


def refused(exception: type[Exception], message: str) -> Any:
    """Expect an exception whose message begins with this."""
    return pytest.raises(exception, match="^" + re.escape(message))


# -- models ------------------------------------------------------------------------------------------------------


def residual(activation: Callable[[Any], Any], blocks: int = 2) -> Callable[[int, int], Any]:
    return lambda i, o: nflows.nn.nets.ResidualNet(i, o, 12, num_blocks=blocks, activation=activation)


def perceptron(activation: Callable[[Any], Any], hidden: tuple[int, ...]) -> Callable[[int, int], Any]:
    class ForCouplings(nflows.nn.nets.MLP):  # nflows' own takes no context, and a coupling passes one
        def forward(self, inputs: Any, context: Any = None) -> Any:
            return super().forward(inputs)

    return lambda i, o: ForCouplings([i], [o], list(hidden), activation)


def nflows_coupling(mask: Any, net: Callable[[int, int], Any], unconditional: bool = False, **options: Any) -> Any:
    options = {"num_bins": 6, "tails": "linear", "tail_bound": 3.0} | options
    return nt.PiecewiseRationalQuadraticCouplingTransform(
        torch.tensor(mask), net, apply_unconditional_transform=unconditional, **options
    )


def nflows_made(dim: int, **options: Any) -> Any:
    options = {"hidden_features": 11, "num_bins": 5, "tails": "linear", "tail_bound": 3.0} | options
    return nt.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(dim, **options)


def nflows_flow(*transforms: Any, base: Any = None, dim: int) -> Any:
    return nflows.flows.Flow(nt.CompositeTransform(transforms), base or StandardNormal([dim]))


def nflows_couplings(dim: int, net: Any, unconditional: bool, **options: Any) -> Any:
    """As in Durkan et al. 2019: permutation, LU and spline coupling, over and over."""
    steps = []
    for i in range(2):
        steps.append(nt.CompositeTransform([nt.RandomPermutation(dim), nt.LULinear(dim, identity_init=False)]))
        mask = (np.arange(dim) % 2 == i % 2) if dim > 1 else [True]
        steps.append(nflows_coupling(np.where(mask, 1, -1), net, unconditional, **options))
    return nflows_flow(nt.CompositeTransform(steps), nt.LULinear(dim), dim=dim)


def nflows_mixture(dim: int) -> Any:
    shift, scale = torch.linspace(-1, 1, dim), torch.linspace(0.5, 2, dim)
    rest = [nt.ActNorm(dim), nt.HouseholderSequence(dim, 4), nt.BatchNorm(dim), nt.ReversePermutation(dim)]
    rest.append(nflows_coupling([1] + [0] * (dim - 1), residual(functional.relu)))
    pointwise = [nt.PointwiseAffineTransform(shift, scale), nt.PointwiseAffineTransform(0.5, 2.0)]
    return nflows_flow(*pointwise, *rest, base=DiagonalNormal([dim]), dim=dim)


def zuko_spline(**options: Any) -> dict[str, Any]:
    return {"univariate": functools.partial(zt.MonotonicRQSTransform, **options), "shapes": [(6,), (6,), (5,)]}


def zuko_base(dim: int) -> Any:
    return UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.linspace(-1, 1, dim), torch.linspace(0.5, 2, dim), buffer=True
    )


def zuko_mixture(dim: int) -> Any:
    eye, rng = torch.eye(dim), torch.Generator().manual_seed(3)
    noise = torch.randn(dim, dim, generator=rng, dtype=torch.float64).to(eye.dtype) / 3
    fixed = [
        (zt.PermutationTransform, torch.arange(dim).roll(1)),
        (zt.RotationTransform, 2 * noise),
        (zt.LULinearTransform, noise.tril(-1) + noise.triu(1) + torch.diag(noise.diag().abs() + 0.5)),
        (zt.MonotonicAffineTransform, noise[0], noise[1]),
        (zt.AffineTransform, noise[1], noise[2].abs() + 0.5),
    ]
    transforms = [UnconditionalTransform(kind, *tensors, buffer=True) for kind, *tensors in fixed]
    spline = ElementWiseTransform(dim, **zuko_spline(bound=3.0, slope=1e-2))
    return zuko.lazy.Flow([*transforms, spline, ElementWiseTransform(dim)], zuko_base(dim))


def zuko_masked(dim: int, context: int = 0, **options: Any) -> Any:
    options = zuko_spline(bound=4.0, slope=1e-2) | {"hidden_features": (9, 7)} | options
    first = MaskedAutoregressiveTransform(dim, context, **options)
    return zuko.lazy.Flow([first, MaskedAutoregressiveTransform(dim, context, **options)], zuko_base(dim))


GRAPH = [[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 1, 1]]


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    build: Callable[[int], Any]
    dim: int
    context: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # of the state dict
    multiples: bool = True  # whether each parameter of ours is a multiple of one of theirs, plus a constant
    fits_state: bool = True  # whether the state dict tells enough

    def __str__(self) -> str:
        return f"{self.name}-{self.dim}" + (f"|{self.context}" if self.context else "")

    @property
    def computed(self) -> bool:
        """Whether a network of nflows sees nothing, so that what it gives is computed, and becomes a bias."""
        return self.library == "nflows" and self.dim == 1

    @property
    def kinked(self) -> bool:
        return self.options.get("activation", "relu") in ("relu", "leaky_relu")

    @property
    def library(self) -> str:
        return self.name.split("-")[0]

    def convert(self, *arguments: Any, **options: Any) -> Flow:
        return (from_nflows if self.library == "nflows" else from_zuko)(*arguments, **options)


NFLOWS = {"bound": 3.0}
NSF = {"hidden_features": (10, 10), "bins": 6, "transforms": 2}
_CASES = [
    *[Case("nflows-coupling", lambda d: nflows_couplings(d, residual(functional.relu), False), d, options=NFLOWS)
      for d in (1, 2, 3, 6)],
    *[Case("nflows-unconditional", lambda d: nflows_couplings(d, residual(torch.tanh), True), d,
           options=NFLOWS | {"activation": "tanh"}) for d in (1, 2, 3, 6)],
    Case("nflows-perceptron", lambda d: nflows_couplings(d, perceptron(functional.elu, (9, 7)), True), 3,
         options=NFLOWS | {"activation": "elu"}),
    Case("nflows-floors", lambda d: nflows_couplings(
        d, residual(functional.leaky_relu, 1), True, min_bin_width=0.02, min_bin_height=0.03, min_derivative=0.1), 3,
        options=NFLOWS | {"activation": "leaky_relu", "min_width": 0.02, "min_height": 0.03, "min_slope": 0.1}),
    Case("nflows-no-blocks", lambda d: nflows_couplings(d, residual(functional.relu, 0), False), 3, options=NFLOWS,
         multiples=False),
    *[Case("nflows-made", lambda d: nflows_flow(nflows_made(d), nt.ReversePermutation(d), nflows_made(d), dim=d), d,
           options=NFLOWS) for d in (1, 2, 3, 6)],
    Case("nflows-made-narrow", lambda d: nflows_flow(nflows_made(d, hidden_features=3), dim=d), 6, options=NFLOWS),
    Case("nflows-made-silu", lambda d: nflows_flow(
        nflows_made(d, activation=functional.silu, num_blocks=1, dropout_probability=0.2), dim=d), 3,
        options=NFLOWS | {"activation": "silu"}),
    *[Case("nflows-feedforward", lambda d: nflows_flow(nflows_made(d, use_residual_blocks=False), dim=d), d,
           options=NFLOWS) for d in (1, 2, 3, 6)],
    *[Case("nflows-feedforward-random", lambda d: nflows_flow(
        nflows_made(d, use_residual_blocks=False, random_mask=True, num_blocks=3, activation=torch.nn.GELU()), dim=d),
        d, options=NFLOWS | {"activation": "gelu"}) for d in (3, 6)],
    Case("nflows-feedforward-no-blocks", lambda d: nflows_flow(
        nflows_made(d, use_residual_blocks=False, num_blocks=0), dim=d), 3, fits_state=False),
    Case("nflows-made-no-blocks", lambda d: nflows_flow(nflows_made(d, num_blocks=0), dim=d), 3, fits_state=False,
         multiples=False),
    Case("nflows-mixture", nflows_mixture, 4, options=NFLOWS, multiples=False),
    *[Case("zuko-nsf", lambda d: zuko.flows.NSF(d, **NSF), d) for d in (1, 2, 3, 6)],
    *[Case("zuko-nsf-context", lambda d: zuko.flows.NSF(d, 2, **NSF), d, 2) for d in (1, 2, 3, 6)],
    *[Case("zuko-nsf-coupling", lambda d: zuko.flows.NSF(d, 1, passes=2, **NSF), d, 1) for d in (2, 3, 6)],
    Case("zuko-nsf-coupling", lambda d: zuko.flows.NSF(d, passes=2, randperm=True, **NSF), 6),
    Case("zuko-nsf-passes", lambda d: zuko.flows.NSF(d, passes=4, randperm=True, **NSF), 7),
    *[Case("zuko-nsf-randperm", lambda d, c=c: zuko.flows.NSF(d, c, randperm=True, **NSF), d, c)
      for d, c in ((5, 0), (6, 2))],
    Case("zuko-nsf-one-pass", lambda d: zuko.flows.NSF(d, 2, passes=1, **NSF), 3, 2),
    *[Case(f"zuko-nsf-{name}", lambda d, name=name: zuko.flows.NSF(d, activation=getattr(torch.nn, name), **NSF), 3,
           options={"activation": ours})
      for name, ours in (("SiLU", "silu"), ("Tanh", "tanh"), ("GELU", "gelu"), ("ELU", "elu"),
                         ("LeakyReLU", "leaky_relu"))],
    *[Case("zuko-nsf-hidden", lambda d, h=h: zuko.flows.NSF(d, bins=4, hidden_features=h, slope=0.01), 4,
           options={"slope": 0.01}) for h in ((), (5,), (2,), (17, 3, 8), (3, 17))],
    Case("zuko-graph", lambda d: zuko_masked(d, adjacency=torch.tensor(GRAPH)), 5,
         options={"bound": 4.0, "slope": 0.01}),
    Case("zuko-graph", lambda d: zuko_masked(d, 2, adjacency=torch.tensor(
        [[*row, i % 2, i == 3] for i, row in enumerate(GRAPH)])), 5, 2, options={"bound": 4.0, "slope": 0.01}),
    *[Case("zuko-couplings", lambda d, c=c: zuko.flows.NICE(d, c, hidden_features=(9, 7), **zuko_spline()), d, c)
      for d, c in ((1, 0), (1, 2), (2, 0), (3, 2), (6, 0))],
    Case("zuko-mixture", zuko_mixture, 4, options={}, multiples=False, fits_state=False),
    Case("zuko-affine", lambda d: zuko.flows.MAF(d), 1, multiples=False),
]  # fmt: skip


def selected(which: Callable[[Case], bool] = lambda case: True) -> list[Any]:
    return [pytest.param(case, id=f"{case}-{i}") for i, case in enumerate(_CASES) if which(case)]


@functools.cache
def trained(case: Case, precision: str) -> Any:
    """The case's model after some steps of Adam on correlated, bent rows, in evaluation mode."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    torch.manual_seed(0)
    try:
        model = case.build(case.dim)
        with torch.no_grad():  # far enough from the start for slopes and extents to differ
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
        x, context = (None if part is None else torch.tensor(part.astype(precision)) for part in rows(case, 400))
        adam = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(30):
            batch = slice(100 * (step % 4), 100 * (step % 4) + 100)
            adam.zero_grad()
            (-their_log_prob(case, model, x[batch], None if context is None else context[batch]).mean()).backward()
            adam.step()
    finally:
        torch.set_default_dtype(usual)
    return model.eval()


def rows(case: Case, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng([seed, n, case.dim])
    context = rng.normal(size=(n, case.context)) if case.context else None
    x = rng.normal(size=(n, case.dim)) @ (np.eye(case.dim) + np.tri(case.dim, k=-1) / case.dim)
    x[:, -1] += 0.5 * np.sin(2 * x[:, 0]) + (0 if context is None else context[:, 0])
    return x, context


def their_log_prob(case: Case, model: Any, x: Any, context: Any) -> Any:
    return model.log_prob(x, context) if case.library == "nflows" else model(context).log_prob(x)


def their_maps(case: Case, model: Any, context: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """x -> z and z -> x, each with its log-determinant; z is standard normal, whatever their base."""
    if case.library == "nflows":
        transform, base = model._transform, model._distribution
        inverse, forward = lambda x: transform(x, context), lambda z: transform.inverse(z, context)
        loc, log_scale = (getattr(base, name, torch.zeros(1)) for name in ("mean_", "log_std_"))
    else:
        transform, base = model.transform(context), model.base().base_dist
        inverse, forward = transform.call_and_ladj, transform.inv.call_and_ladj
        loc, log_scale = base.loc, base.scale.log()
    total = log_scale.expand(case.dim if log_scale.ndim < 2 else (1, case.dim)).sum()

    def standard_inverse(x: Any) -> tuple[Any, Any]:
        z, log_det = inverse(x)
        return (z - loc) * torch.exp(-log_scale), log_det - total

    def standard_forward(z: Any) -> tuple[Any, Any]:
        x, log_det = forward(z * torch.exp(log_scale) + loc)
        return x, log_det + total

    return standard_inverse, standard_forward


def knots(case: Case, model: Any) -> np.ndarray:
    """The knots of a spline that the first layer from the data has, of the feature it moves without seeing others."""
    if case.library == "zuko":
        transform = model.transform.transforms[0] if hasattr(model.transform, "transforms") else model.transform
        if not hasattr(transform, "univariate"):
            return np.zeros(0)
        c = torch.zeros(case.context, dtype=model.base().base_dist.loc.dtype) if case.context else None
        spline = transform(c)
        spline = spline.meta(torch.zeros_like(model.base().base_dist.loc)) if hasattr(spline, "passes") else spline
        knots = getattr(getattr(spline, "base", None), "horizontal", torch.zeros(1, 0))
        return knots.detach().numpy().astype(float).reshape(-1)
    name = "_transform._transforms.0.autoregressive_net.final_layer.bias"
    state = {name: value.numpy().astype(float) for name, value in model.state_dict().items()}
    if name not in state:
        return np.array([-3.0, 3.0])
    widths = np.exp(state[name][:5])  # of feature 0, which sees nothing
    widths = 1e-3 + (1 - 5e-3) * widths / widths.sum()
    return 6 * np.concatenate([[0], np.cumsum(widths)]) - 3


def probes(case: Case, model: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows in the bulk, on the tails, and with features at knots."""
    x, context = rows(case, 400, seed=5)
    rng = np.random.default_rng(1)
    x[100:150] *= 4
    x[150:200] = rng.choice([-1, 1], size=(50, case.dim)) * 10 ** rng.uniform(0, 3, size=(50, case.dim))
    places = np.concatenate([[-5, -4, -3, 3, 4, 5], knots(case, model)])
    x[200:300] = np.where(rng.random((100, case.dim)) < 0.5, rng.choice(places, size=(100, case.dim)), x[200:300])
    x[300] = 0
    return x, context


TAILS = np.s_[150:200]  # the rows of `probes` far out

# Both sides round. In float32 ours may be as far from the exact values, theirs in float64, as theirs in float32 is
# anywhere on the tails or elsewhere, times 30. In float64 it may be off by so many roundings, times how far the map
# carries errors of its input and parameters: z -> x magnifies them on the tails, where what a network makes of 1,000
# decides over slopes; in float32 nothing is left to compare there. (PyTorch takes softplus(u) to be u above 20, where
# it is up to 2e-9 more: slopes of nflows that a network drives there, on the tails, differ by 1e-10.)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
ROUNDINGS = {"float32": 30, "float64": 10_000}


def relative(ours: Any, theirs: Any) -> np.ndarray:
    """The differences by row, relative to 1 and to the size."""
    differences = np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))
    return differences.reshape(len(differences), -1).max(axis=1)


def their_numbers(case: Case, model: Any, points: np.ndarray, context: Any, forward: bool) -> list[np.ndarray]:
    """z, log_det, log p at x, or x, log_det at z."""
    dtype = next(model.parameters()).dtype
    points, context = (None if part is None else torch.tensor(part, dtype=dtype) for part in (points, context))
    with torch.no_grad():
        results = their_maps(case, model, context)[forward](points)
        if not forward:
            results = (*results, their_log_prob(case, model, points, context))
    return [result.numpy().astype(float) for result in results]


def magnified(case: Case, model: Any, at: np.ndarray, context: Any, forward: bool) -> list[np.ndarray]:
    """By how much their results, row by row, differ more than input and parameters do."""
    rng, step, theirs = np.random.default_rng(7), 1e-9, their_numbers(case, model, at, context, forward)
    others = []
    for seed in range(8):
        torch.manual_seed(seed)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter *= 1 + step * torch.randn(parameter.shape, dtype=torch.float64)
        noise = step * np.maximum(1, np.abs(at)) * rng.normal(size=at.shape)
        others.append(their_numbers(case, other, at + noise, context, forward))
    return [np.max([relative(other[i], theirs[i]) for other in others], axis=0) / step for i in range(len(theirs))]


@needs_peers
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", selected())
def test_same_numbers(case: Case, precision: str) -> None:
    model = trained(case, precision)
    exact = copy.deepcopy(model).double()
    flow = case.convert(model)
    assert (flow.dim, flow.context, flow.dtype) == (case.dim, case.context, precision)
    x, context = (None if part is None else part.astype(precision) for part in probes(case, model))

    def check(ours: tuple[np.ndarray, ...], at: np.ndarray, forward: bool) -> None:
        theirs = their_numbers(case, exact, at, context, forward)
        bounds = [np.full(len(at), TOLERANCE[precision]) for _ in theirs]
        if precision == "float32":
            for bound, rounded, truth in zip(
                bounds, their_numbers(case, model, at, context, forward), theirs, strict=True
            ):
                for rows in (TAILS, np.delete(np.arange(len(at)), TAILS)):
                    bound[rows] = np.maximum(bound[rows], 30 * relative(rounded, truth)[rows].max())
                bound[TAILS] = np.inf if forward else bound[TAILS]
        for bound, factor in zip(bounds, magnified(case, exact, at, context, forward), strict=True):
            if precision == "float64" and case.library == "nflows":
                bound[TAILS] *= 10
            bound += ROUNDINGS[precision] * np.finfo(precision).eps * factor
        for i, (mine, truth, bound) in enumerate(zip(ours, theirs, bounds, strict=True)):
            difference = relative(mine, truth)
            worst = (difference / bound).argmax()
            assert (difference <= bound).all(), (i, worst, difference[worst], bound[worst])

    check((*flow.inverse(x, context), flow.log_prob(x, context)), x, forward=False)
    z = their_numbers(case, exact, x, context, forward=False)[0].astype(precision)
    check(flow.forward(z, context), z, forward=True)


@needs_peers
@pytest.mark.parametrize("case", selected())
def test_a_state_dict_gives_the_same(case: Case) -> None:
    model = trained(case, "float32")
    state = model.state_dict()
    if not case.fits_state:
        with pytest.raises(ValueError, match="transform"):
            case.convert(state, **case.options)
        return
    flow, arrays = case.convert(model), {name: value.numpy() for name, value in state.items()}
    for twin in (case.convert(state, **case.options), case.convert(arrays, **case.options)):
        # A ResNet's dropout, which a state dict does not tell, is the only thing that may differ.
        assert repr(twin) == repr(flow).replace("dropout=0.2", "dropout=0.0")
        assert np.array_equal(twin.parameters, flow.parameters)
    assert case.convert(state, **case.options, dtype="float64").dtype == np.float64


# -- gradients ---------------------------------------------------------------------------------------------------

DIAGONAL = "unconstrained_upper_diag"


def their_gradient(case: Case, model: Any, x: np.ndarray, context: Any) -> dict[str, np.ndarray]:
    model.zero_grad()
    dtype = next(model.parameters()).dtype
    points, condition = (None if part is None else torch.tensor(part, dtype=dtype) for part in (x, context))
    (-their_log_prob(case, model, points, condition).mean()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: np.zeros(()) if g is None else g.numpy().astype(float) for name, g in gradients.items()}


def arrays_of(model: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """The state dict in float64, and which of it are parameters."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    state = {name: value.astype(float) if value.dtype.kind == "f" else value for name, value in state.items()}
    return state, [name for name, _ in model.named_parameters()]


def gradient_by_theirs(case: Case, model: Any, flow: Flow, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """Our gradient by their parameters, where each of ours is a multiple of one of theirs, plus a constant.

    Which one and which multiple: from three conversions, of zeros, of ones and of the numbers 1, 2, 3 ...
    """
    state, names = arrays_of(model)
    linear = [name for name in names if not name.endswith(DIAGONAL)]
    ends = np.cumsum([0, *[state[name].size for name in linear]])

    def convert(values: np.ndarray) -> np.ndarray:
        parts = {
            name: values[a:b].reshape(state[name].shape) for name, a, b in zip(linear, ends, ends[1:], strict=False)
        }
        return case.convert(state | parts, **case.options, dtype="float64").parameters.copy()

    values = np.concatenate([state[name].ravel() for name in linear])
    constant = convert(0 * values)
    factor = convert(1 + 0 * values) - constant
    used = factor != 0
    source = np.round((convert(1.0 + np.arange(len(values))) - constant)[used] / factor[used]).astype(int) - 1
    assert np.allclose((convert(values) - constant)[used], factor[used] * values[source], rtol=1e-12, atol=1e-12)
    by_theirs = np.zeros(len(values))
    np.add.at(by_theirs, source, factor[used] * gradient[used].astype(float))
    result = {
        name: by_theirs[a:b].reshape(state[name].shape) for name, a, b in zip(linear, ends, ends[1:], strict=False)
    }

    views = flow.named_parameters()
    first = dict(zip(views, np.cumsum([0, *[v.size for v in views.values()]]), strict=False))
    positions = [
        first[f"layers.{i}.weight"] for i, layer in reversed([*enumerate(flow.layers)]) if isinstance(layer, LU)
    ]
    for name, position in zip([name for name in names if name.endswith(DIAGONAL)], positions, strict=True):
        u = state[name]  # ours is log(softplus(u) + eps)
        ours = gradient[position + np.arange(case.dim) * (case.dim + 1)]
        result[name] = ours / (np.log1p(np.exp(u)) + 1e-3) / (1 + np.exp(-u))
    return result


def norm(gradients: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))


@needs_peers
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("case", selected(lambda case: case.multiples and case.fits_state and not case.computed))
def test_same_gradients(case: Case, precision: str, tolerance: float) -> None:
    model = trained(case, precision)
    x, context = (None if part is None else part.astype(precision) for part in rows(case, 128, seed=9))
    x[100:] *= 3
    theirs = their_gradient(case, model, x, context)
    flow = case.convert(model)
    _, gradient = flow.loss_and_grad(x, context)
    ours = gradient_by_theirs(case, model, flow, gradient)
    assert ours.keys() == theirs.keys()
    assert norm(theirs) > 0.01
    assert norm({name: ours[name] - theirs[name] for name in ours}) <= tolerance * norm(theirs)


@needs_peers
@pytest.mark.parametrize(
    "case", selected(lambda case: case.fits_state and case.dim in (1, 3, 4) and not (case.computed and case.kinked))
)
def test_same_derivatives_along_directions(case: Case) -> None:
    """Also where a parameter of ours is made of several of theirs: along each tensor, and along all at once."""
    model = trained(case, "float64")
    x, context = rows(case, 64, seed=9)
    theirs = their_gradient(case, model, x, context)
    state, names = arrays_of(model)
    _, gradient = case.convert(model).loss_and_grad(x, context)

    def moved(direction: dict[str, np.ndarray], step: float) -> np.ndarray:
        parts = {name: state[name] + step * direction[name] for name in direction}
        return case.convert(state | parts, **case.options, dtype="float64").parameters.astype(float)

    rng, step = np.random.default_rng(3), 2e-3
    for chosen in [*[[name] for name in names], *[names] * 20]:
        direction = {name: rng.normal(size=state[name].shape) for name in chosen}
        # Central differences of the conversion, of fourth order: it is smooth, and mostly linear.
        near, far = (moved(direction, h) - moved(direction, -h) for h in (step, 2 * step))
        ours = gradient @ ((8 * near - far) / (12 * step))
        along = sum(float((theirs[name] * direction[name]).sum()) for name in chosen)
        size = norm(theirs) * norm(direction)
        assert abs(ours - along) <= 1e-9 * size, (chosen, ours, along)


# -- state dicts without PyTorch ---------------------------------------------------------------------------------


def nflows_state() -> dict[str, np.ndarray]:
    """A permutation, an LU, a coupling, and a normalisation, of three features."""
    rng = np.random.default_rng(0)
    coupling, net = "_transform._transforms.1", "_transform._transforms.1.transform_net"
    shapes = {
        "_transform._transforms.0._transforms.1.lower_entries": (3,),
        "_transform._transforms.0._transforms.1.upper_entries": (3,),
        "_transform._transforms.0._transforms.1.unconstrained_upper_diag": (3,),
        "_transform._transforms.0._transforms.1.bias": (3,),
        f"{net}.initial_layer.weight": (4, 1),
        f"{net}.initial_layer.bias": (4,),
        f"{net}.blocks.0.linear_layers.0.weight": (4, 4),
        f"{net}.blocks.0.linear_layers.0.bias": (4,),
        f"{net}.blocks.0.linear_layers.1.weight": (4, 4),
        f"{net}.blocks.0.linear_layers.1.bias": (4,),
        f"{net}.final_layer.weight": (22, 4),
        f"{net}.final_layer.bias": (22,),
        "_transform._transforms.2.log_scale": (3,),
        "_transform._transforms.2.shift": (3,),
    }
    state = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    state["_transform._transforms.0._transforms.0._permutation"] = np.array([2, 0, 1])
    state[f"{coupling}.identity_features"], state[f"{coupling}.transform_features"] = np.array([1]), np.array([0, 2])
    return state


def zuko_state() -> dict[str, np.ndarray]:
    """A masked autoregressive layer of three features in two passes."""
    rng = np.random.default_rng(0)
    passes, degrees, net = np.array([0, 1, 1]), np.ones(4), "transform.transforms.0.hyper"
    state = {
        "transform.transforms.0.order": passes,
        f"{net}.0.mask": passes + 1 <= degrees[:, None],
        f"{net}.2.mask": degrees <= np.repeat(passes, 11)[:, None],
        f"{net}.0.bias": rng.normal(size=4),
        f"{net}.2.bias": rng.normal(size=33),
        "base.loc": np.zeros(3),
        "base.scale": np.ones(3),
    }
    return state | {f"{net}.{i}.weight": rng.normal(size=state[f"{net}.{i}.mask"].shape) for i in (0, 2)}


STATES = {"nflows": (from_nflows, nflows_state()), "zuko": (from_zuko, zuko_state())}
EVERY_ARRAY = [(library, name) for library, (_, state) in STATES.items() for name in state]


@pytest.mark.parametrize("library", STATES)
def test_mappings_of_arrays(library: str) -> None:
    convert, state = STATES[library]
    before = {name: array.copy() for name, array in state.items()}
    flow = convert(state)
    assert flow.dtype == np.float64
    x = np.random.default_rng(1).normal(size=(50, 3))
    again = flow.forward(flow.inverse(x)[0])[0]
    assert np.abs(again - x).max() < 1e-9
    single = convert({n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in state.items()})
    assert single.dtype == np.float32
    assert convert(state, dtype="float32").dtype == np.float32
    assert np.abs(single.log_prob(x) - flow.log_prob(x)).max() < 1e-3
    assert all(np.array_equal(array, before[name]) for name, array in state.items())
    lists = convert({name: array.tolist() for name, array in state.items()})
    assert np.array_equal(lists.parameters, flow.parameters)


@pytest.mark.parametrize("library", STATES)
def test_a_fit_goes_on_from_there(library: str) -> None:
    convert, state = STATES[library]
    flow, x = convert(state), np.random.default_rng(1).normal(2.0, 3.0, size=(200, 3))
    before = flow.log_prob(x).mean()
    flow.fit(x, epochs=1, seed=0, validation=None)
    assert flow.log_prob(x).mean() > before
    assert flow.forward(np.zeros((1, 3)))[0].shape == (1, 3)


@pytest.mark.parametrize(("library", "name"), EVERY_ARRAY)
def test_arrays_that_are_missing(library: str, name: str) -> None:
    convert, state = STATES[library]
    state = {other: array for other, array in state.items() if other != name}
    if name.endswith(".order"):
        assert convert(state).layers[0].order == (0, 1, 1)  # the masks tell
        return
    with pytest.raises(ValueError, match=re.escape(name.rpartition(".")[0])):
        convert(state)


@pytest.mark.parametrize(("library", "name"), EVERY_ARRAY)
def test_arrays_that_are_bad(library: str, name: str) -> None:
    convert, state = STATES[library]
    longer = np.concatenate([state[name], state[name][:1]])
    for bad in (longer, state[name][:-1], state[name][None]):
        with pytest.raises(ValueError, match=r"_transforms?\.|base|transform"):
            convert(state | {name: bad})
    if state[name].dtype.kind == "f":
        for value in (np.nan, np.inf):
            bad = state[name].copy()
            bad.flat[0] = value
            with refused(ValueError, f"{name} has NaN or infinity"):
                convert(state | {name: bad})
    for bad in (state[name].astype(complex), np.array(["a"]), [[1, 2], [3]], None):
        with refused(TypeError, f"{name} must be an array of real numbers"):
            convert(state | {name: bad})


PATH, NET = "_transform._transforms.1", "_transform._transforms.1.transform_net"
HYPER = "transform.transforms.0.hyper"
BAD_STATES: list[tuple[str, dict[str, Any], str]] = [
    ("nflows", {"_transform._transforms.3.temperature": np.ones(1)},
     "_transform._transforms.3 is of no kind that pushforward has a layer for; it holds temperature"),
    ("nflows", {"_transform._transforms.4.log_scale": np.ones(3)},
     "_transform._transforms.3 has no array in the state dict, so its kind is unknown; pass the module"),
    ("nflows", {"_transform._transforms.3._scale": np.ones(3)}, "_transform._transforms.3._shift is missing"),
    ("nflows", {"_transform._transforms.3._scale": np.ones(2), "_transform._transforms.3._shift": np.ones(1)},
     "_transform._transforms.3._scale has shape (2,); (3,) is expected"),
    ("nflows", {f"{PATH}.extra": np.ones(1)}, f"nothing is known of {PATH}.extra"),
    ("nflows", {"_embedding_net.weight": np.ones((1, 1))}, "nothing is known of _embedding_net.weight"),
    ("nflows", {f"{NET}.blocks.0.context_layer.weight": np.ones((4, 2))}, f"{NET}.blocks.0.context_layer"),
    ("nflows", {f"{NET}.blocks.0.batch_norm_layers.0.weight": np.ones(4)}, f"{NET}.blocks.0.batch_norm_layers"),
    ("nflows", {f"{NET}.final_layer.weight": np.ones((4, 4)), f"{NET}.final_layer.bias": np.ones(4)},
     f"{NET} gives 4 numbers for 2 features; a rational-quadratic spline of K bins with linear tails takes 3 K - 1"),
    ("nflows", {f"{NET}.final_layer.weight": np.ones((26, 4)), f"{NET}.final_layer.bias": np.ones(26)},
     f"{NET} gives 26 numbers for 2 features"),
    ("nflows", {f"{PATH}.transform_features": np.array([1, 2])}, f"{PATH}.transform_features and identity_features"),
    ("nflows", {"_transform._transforms.0._transforms.0._permutation": np.array([0, 0, 1])},
     "_transform._transforms.0._transforms.0._permutation must hold each of 0 ... 2 once, not [0, 0, 1]"),
    ("zuko", {"transform.transforms.1.A": np.ones((2, 3))}, "transform.transforms.1.A has shape (2, 3); (3, 3)"),
    ("zuko", {"transform.transforms.1.bound": np.ones(1)}, "transform.transforms.1 is of no kind"),
    ("zuko", {"transform.transforms.0.extra": np.ones(1)}, "nothing is known of transform.transforms.0.extra"),
    ("zuko", {"transform.transforms.1.LU": -np.ones((3, 3))}, "transform.transforms.1.LU has a diagonal"),
    ("zuko", {"base.scale": np.zeros(3)}, "base.scale must be above 0, not 0.0"),
    ("zuko", {f"{HYPER}.1.0.weight": np.ones((4, 4))}, f"{HYPER}.1 is a residual block"),
    ("zuko", {f"{HYPER}.3.weight": np.ones((4, 4))}, f"{HYPER} has arrays at 0, 2, 3 of 5 members"),
    ("zuko", {f"{HYPER}.0.mask": np.ones((4, 3))}, f"{HYPER}.2.mask lets a feature depend on itself"),
]  # fmt: skip


@pytest.mark.parametrize(("library", "changes", "message"), BAD_STATES)
def test_state_dicts_that_cannot_be_taken_over(library: str, changes: dict[str, Any], message: str) -> None:
    convert, state = STATES[library]
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(state | changes)


@pytest.mark.parametrize(
    ("convert", "flow", "exception", "message"),
    [
        (from_nflows, 3, TypeError, "flow must be a flow of nflows or its state_dict(), not int"),
        (from_zuko, None, TypeError, "flow must be a flow of zuko or its state_dict(), not NoneType"),
        (from_nflows, {}, TypeError, "flow must be a flow of nflows or its state_dict(), whose names begin"),
        (from_zuko, {}, TypeError, "flow must be a flow of zuko or its state_dict(), with names such as base.loc"),
        (from_nflows, zuko_state(), TypeError, "flow must be a flow of nflows"),
        (from_zuko, nflows_state(), TypeError, "flow must be a flow of zuko"),
        (from_nflows, {"_transform.x": [1.0]}, ValueError, "no array shows the number of features: _transform.x"),
    ],
)
def test_no_model_at_all(convert: Callable[..., Flow], flow: Any, exception: type[Exception], message: str) -> None:
    with refused(exception, message):
        convert(flow)


@pytest.mark.parametrize(
    ("library", "options", "exception", "message"),
    [
        ("nflows", {"bound": 0.0}, ValueError, "bound must be in (0, inf), not 0.0"),
        ("nflows", {"bound": "3"}, TypeError, "bound must be a number, not '3'"),
        ("nflows", {"min_width": 1.5}, ValueError, "min_width must be in (0, 1), not 1.5"),
        ("nflows", {"min_height": 0.5}, ValueError, "_transform._transforms.1: min_height must be in (0, 0.25)"),
        ("nflows", {"min_slope": 1.0}, ValueError, "min_slope must be in (0, 1), not 1.0"),
        ("nflows", {"activation": "Relu"}, ValueError, "activation is 'Relu'; the choices are 'relu'"),
        ("nflows", {"dtype": "float16"}, ValueError, "dtype is 'float16'; the choices are"),
        ("zuko", {"bound": -1}, ValueError, "bound must be in (0, inf), not -1"),
        ("zuko", {"slope": 1.0}, ValueError, "slope must be in (0, 1), not 1.0"),
        ("zuko", {"activation": "sigmoid"}, ValueError, "activation is 'sigmoid'; the choices are 'relu'"),
    ],
)
def test_options_out_of_range(library: str, options: dict, exception: type[Exception], message: str) -> None:
    convert, state = STATES[library]
    with refused(exception, message):
        convert(state, **options)


# -- modules that cannot be taken over ---------------------------------------------------------------------------


def in_training(flow: Any) -> Any:
    return flow.train()


def odd_one(dim: int) -> Any:
    class Odd(nflows.flows.Flow):
        def _log_prob(self, inputs: Any, context: Any) -> Any:
            return super()._log_prob(inputs, context) + inputs.sum(dim=1)

    return Odd(nt.LULinear(dim), StandardNormal([dim]))


def nflows_of(*transforms: Any, **options: Any) -> Any:
    return nflows_flow(*transforms, dim=3, **options)


def zuko_of(kind: Any, *arguments: Any, **options: Any) -> Any:
    transform = UnconditionalTransform(kind, *arguments, **options)
    return zuko.lazy.Flow([transform], zuko_base(3))


FIRST, ZFIRST = "_transform._transforms.0", "transform.transforms.0"
BAD_MODULES: list[tuple[Callable[[], Any], str]] = [
    (lambda: nflows_of(nt.AffineCouplingTransform([1, 0, 1], residual(torch.relu))), f"{FIRST} is a AffineCoupling"),
    (lambda: nflows_of(nt.MaskedAffineAutoregressiveTransform(3, 8)), f"{FIRST} is a MaskedAffineAutoregressive"),
    (lambda: nflows_of(nflows_coupling([1, 0, 1], residual(torch.relu), tails=None)), f"{FIRST}.transform_net gives"),
    (lambda: nflows_of(nflows_made(3, tails=None)), f"{FIRST}.autoregressive_net gives"),
    (lambda: nflows_of(nflows_coupling([1, 0, 1], residual(torch.relu), num_bins=1)), f"{FIRST}.transform_net gives"),
    (lambda: nflows_of(nflows_coupling([1, 0, 1], residual(torch.relu), num_bins=65)), f"{FIRST}: bins must be at"),
    (lambda: nflows_of(nflows_coupling([1, 0, 1], lambda i, o: nflows.nn.nets.ResidualNet(i, o, 8, 2))),
     f"{FIRST}.transform_net.blocks.0.context_layer"),
    (lambda: nflows_of(
        nflows_coupling([1, 0, 1], lambda i, o: nflows.nn.nets.ResidualNet(i, o, 8, use_batch_norm=True))),
     f"{FIRST}.transform_net.blocks.0.batch_norm_layers"),
    (lambda: nflows_of(nflows_coupling([1, 0, 1], lambda i, o: torch.nn.Linear(i, o))),
     f"{FIRST}.transform_net.initial_layer.weight is missing"),
    (lambda: nflows_of(nflows_made(3, context_features=2)), f"{FIRST}.autoregressive_net.context_layer"),
    (lambda: nflows_of(nflows_made(3, context_features=2, use_residual_blocks=False)),
     f"{FIRST}.autoregressive_net.context_layer"),
    (lambda: nflows_of(nflows_made(3, use_batch_norm=True)), f"{FIRST}.autoregressive_net.blocks.0.batch_norm_layers"),
    (lambda: nflows_of(nflows_made(3, use_batch_norm=True, use_residual_blocks=False)),
     f"{FIRST}.autoregressive_net.blocks.0.batch_norm"),
    (lambda: nflows_of(nflows_made(3, activation=torch.sigmoid)),
     f"{FIRST}.autoregressive_net.blocks.0.activation is sigmoid; the activations are relu, silu, tanh, gelu"),
    (lambda: nflows_of(nflows_made(3, activation=torch.nn.ELU(alpha=0.5))), "activation is ELU(alpha=0.5)"),
    (lambda: nflows_of(nflows_made(3, activation=torch.nn.GELU("tanh"))), "activation is GELU(approximate='tanh')"),
    (lambda: in_training(nflows_of(nt.BatchNorm(3))), f"{FIRST} is a BatchNorm in training mode"),
    (lambda: nflows_of(nt.LULinear(3), nt.Sigmoid()), "_transform._transforms.1 is a Sigmoid"),
    (lambda: nflows_of(nt.LULinear(3), nt.InverseTransform(nt.LULinear(3))), "_transform._transforms.1 is a Inverse"),
    (lambda: nflows_of(nt.LULinear(3), nt.NaiveLinear(3)), "_transform._transforms.1 is a NaiveLinear"),
    (lambda: nflows_of(nt.LULinear(3), nt.SVDLinear(3, 2)), "_transform._transforms.1 is a SVDLinear"),
    (lambda: nflows_of(nt.LULinear(3), base=BoxUniform(torch.zeros(3), torch.ones(3))), "_distribution is a Box"),
    (lambda: nflows.flows.Flow(nt.LULinear(3), StandardNormal([3]), torch.nn.Linear(2, 2)),
     "_embedding_net is a Linear"),
    (lambda: odd_one(3), "the flow built from Odd has other log densities"),
    (lambda: torch.nn.Linear(3, 3), "flow must be a flow of nflows or its state_dict()"),
    (lambda: zuko.flows.MAF(3), f"{ZFIRST} is made of MonotonicAffineTransform"),
    (lambda: zuko.flows.RealNVP(3), f"{ZFIRST} is made of MonotonicAffineTransform"),
    (lambda: zuko.flows.SOSPF(3), f"{ZFIRST} is made of ShiftedSOSPTransform"),
    (lambda: zuko.flows.NCSF(3), "base is a BoxUniform"),
    (lambda: zuko.flows.GF(3), f"{ZFIRST} is made of GaussianizationTransform"),
    (lambda: zuko.flows.CNF(3), "transform is a FFJTransform"),
    (lambda: zuko.flows.NSF(3, residual=True), f"{ZFIRST}.hyper.1 is a residual block"),
    (lambda: zuko.flows.NICE(3, normalize=True, **zuko_spline()), f"{ZFIRST}.hyper has arrays at 0, 3, 6 of 7 members"),
    (lambda: zuko.flows.NICE(3, bias=False, **zuko_spline()), f"{ZFIRST}.hyper.0.bias is missing"),
    (lambda: zuko.flows.NSF(3, activation=torch.nn.Sigmoid), f"{ZFIRST}.hyper.1 is Sigmoid()"),
    (lambda: zuko.flows.NSF(3, activation=torch.nn.PReLU), f"{ZFIRST}.hyper has arrays at 0, 1, 2, 3, 4 of 5"),
    (lambda: zuko_of(zt.SoftclipTransform, bound=5.0), f"{ZFIRST} is a SoftclipTransform"),
    (lambda: zuko_of(zt.LULinearTransform, -torch.eye(3)), f"{ZFIRST}._0 has a diagonal that is not above 0"),
    (lambda: zuko_of(zt.AffineTransform, torch.zeros(3), -torch.ones(3)), f"{ZFIRST} has a scale that is not above 0"),
]  # fmt: skip


@needs_peers
@pytest.mark.parametrize(("build", "message"), BAD_MODULES)
def test_modules_that_cannot_be_taken_over(build: Callable[[], Any], message: str) -> None:
    model = build()
    if "training mode" not in message:
        model.eval()
    convert = from_zuko if type(model).__module__.startswith("zuko") else from_nflows
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        convert(model)


@needs_peers
def test_a_module_is_not_changed_and_takes_no_options() -> None:
    model = nflows_mixture(3).train()
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model._transform._transforms[2].train()  # an ActNorm that has seen no rows would set itself by the next
    from_nflows(model)
    assert model._transform._transforms[2].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with refused(ValueError, "bound=3.0 goes with a state dict; of a module it is read off"):
        from_nflows(model, bound=3.0)
    with refused(ValueError, "slope=0.01 goes with a state dict; of a module it is read off"):
        from_zuko(zuko.flows.NSF(2), slope=0.01)


@needs_peers
def test_a_module_without_parameters() -> None:
    flow = from_nflows(nflows_of(nt.ReversePermutation(3), nt.IdentityTransform()).eval())
    assert flow.inverse([[1.0, 2.0, 3.0]])[0].tolist() == [[3.0, 2.0, 1.0]]


def test_neither_pytorch_nor_the_libraries_are_imported() -> None:
    program = "import sys, pushforward.convert; print(*{'torch', 'nflows', 'zuko'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not run.stdout.strip()
