"""The table of cases: every layer, preset and composition that the laws are tried on. A new one is one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pushforward import (
    LU,
    MLP,
    ActNorm,
    Additive,
    Affine,
    Autoregressive,
    ContextNetwork,
    ContextShift,
    Conv1x1,
    ConvNet,
    ConvResNet,
    Coupling,
    Flow,
    Householder,
    Mixture,
    Normal,
    Permutation,
    RationalQuadratic,
    ResNet,
    Split,
    Squeeze,
    StudentT,
    glow,
    lattice,
    nice,
    realnvp,
    realnvp_image,
    triangular,
)
from pushforward._model.bases import Base
from pushforward._model.layer import Layer
from pushforward._model.place import Shape

NET = MLP(hidden=(7, 5), activation="tanh")
SPLINE = RationalQuadratic(bins=5)


class _Flat(Flow):
    """A flow of images that takes and returns its rows flat, as the laws have them: only the layers know the shape."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_state":
            value.shape = None
        super().__setattr__(name, value)


@dataclass(frozen=True)
class Case:
    name: str
    layers: Callable[[int], Sequence[Layer]]
    dim: int
    context: int = 0
    base: Base = Normal()  # noqa: RUF009 -- frozen
    context_network: ContextNetwork | None = None
    shape: Shape | None = None
    conditioner_precision: Literal["bfloat16"] | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.dim}" + (f"|{self.context}" if self.context else "")

    def flow(self, dtype: str, seed: int = 0) -> Flow:
        """A flow of this case whose parameters and data side are drawn at random, away from every special value."""
        rng = np.random.default_rng([seed, self.dim, self.context])
        flow = (_Flat if self.shape else Flow)(
            None if self.shape else self.dim,
            shape=self.shape,
            layers=self.layers(self.dim),
            base=self.base,
            context=self.context,
            context_network=self.context_network,
            conditioner_precision=self.conditioner_precision,
            dtype=dtype,
            seed=seed,
        )
        for name, values in flow.named_parameters().items():
            spread = 0.8 / np.sqrt(values[0].size) if name.endswith("weight") and values.size else 0.3
            # Compositions of seven layers multiply what each one does.
            values[...] = rng.normal(scale=spread * (0.5 if self.name.startswith("random") else 1), size=values.shape)
        rows = rng.normal(size=(200, self.dim)) * rng.uniform(0.5, 3, self.dim) + rng.normal(size=self.dim)
        context = rng.normal(2.0, 3.0, size=(200, self.context)) if self.context else None
        parameters = flow.parameters.copy()
        flow.initialize(rows, context)
        flow.parameters = parameters
        return flow

    def latent(self, n: int, dtype: str = "float64", seed: int = 1) -> np.ndarray:
        """Latent points of the bulk."""
        return np.random.default_rng([seed, n]).normal(size=(n, self.dim)).astype(dtype)

    def condition(self, n: int, seed: int = 2) -> np.ndarray | None:
        return np.random.default_rng([seed, n]).normal(1.0, 2.0, size=(n, self.context)) if self.context else None


def _random_composition(seed: int) -> Callable[[int], Sequence[Layer]]:
    def layers(dim: int) -> Sequence[Layer]:
        rng = np.random.default_rng(seed)
        choices: list[Callable[[], Layer]] = [
            ActNorm,
            lambda: Permutation("random"),
            lambda: Permutation("reverse"),
            lambda: Coupling(Additive(), MLP((4,), "silu"), mask="random"),
            lambda: Coupling(Affine(1.5), MLP((6, 3), "relu"), mask="alternate"),
            lambda: Coupling(Affine(), MLP((), "tanh"), mask="half"),
            LU,
            lambda: Householder(2),
            lambda: Coupling(SPLINE, ResNet(5, 1, "silu"), mask="random", unconditional=True),
            lambda: Autoregressive(SPLINE, MLP((6, 5), "tanh")),
            lambda: Autoregressive(Affine(1.5), ResNet(5, 1, "elu"), order="reverse", one_pass="forward"),
        ]
        return [choices[i]() for i in rng.integers(len(choices), size=7)]

    return layers


def _uneven(dim: int) -> Sequence[Layer]:
    """One feature moved by all the others, then all the others by that one."""
    first = np.arange(dim) > 0
    return [Coupling(Affine(), NET, mask=first), Coupling(Affine(), NET, mask=~first if dim > 1 else first)]


_LAYERS: dict[str, Callable[[int], Sequence[Layer]]] = {
    "additive": lambda dim: [Coupling(Additive(), NET)],
    "affine": lambda dim: [Coupling(Affine(), NET)],
    "affine-relu": lambda dim: [Coupling(Affine(2.0), MLP((17,), "relu"), mask="alternate")],
    "affine-silu": lambda dim: [Coupling(Affine(), MLP((16, 9), "silu"), mask="random")],
    "affine-linear": lambda dim: [Coupling(Affine(), MLP(()), mask="alternate")],
    "spline": lambda dim: [Coupling(RationalQuadratic(), NET)],
    "spline-64": lambda dim: [Coupling(RationalQuadratic(bins=64, bound=2.0), NET, mask="alternate")],
    "spline-2": lambda dim: [Coupling(RationalQuadratic(bins=2, min_slope=0.1), NET)] * 2,
    "spline-clip": lambda dim: [Coupling(RationalQuadratic(bins=4, scheme="clip"), NET, unconditional=True)],
    "spline-kept": lambda dim: [Coupling(SPLINE, NET, mask="alternate", unconditional=True)] * 2,
    "affine-kept": lambda dim: [Coupling(Affine(), NET, unconditional=True)],
    "affine-gelu": lambda dim: [Coupling(Affine(), MLP((9,), "gelu"))],
    "affine-elu": lambda dim: [Coupling(Affine(), MLP((9, 4), "elu"))],
    "affine-leaky": lambda dim: [Coupling(Affine(), MLP((9, 4), "leaky_relu"))],
    "affine-resnet": lambda dim: [Coupling(Affine(), ResNet(9, 2, "tanh"), mask="random")],
    "spline-resnet": lambda dim: [Coupling(SPLINE, ResNet(18, 2, "silu", dropout=0.5))],
    "spline-resnet-0": lambda dim: [Coupling(SPLINE, ResNet(18, 0))],
    "lu": lambda dim: [LU()],
    "lu-natural": lambda dim: [LU("natural"), ActNorm(), LU("reverse")],
    "householder": lambda dim: [Householder(3)],
    "maf": lambda dim: [Autoregressive(Affine(), NET)] * 2,
    "maf-resnet": lambda dim: [Autoregressive(Affine(), ResNet(11, 2, "silu"), order="reverse")],
    "triangular": lambda dim: triangular(dim, order=range(dim)[::-1], depth=1, hidden=9),
    "maf-spline": lambda dim: [Autoregressive(SPLINE, MLP((20, 17), "tanh"))],
    "maf-two-passes": lambda dim: [Autoregressive(SPLINE, NET, order=[i % min(dim, 2) for i in range(dim)])],
    "maf-linear": lambda dim: [Autoregressive(Affine(), MLP(()))],
    "iaf": lambda dim: [Autoregressive(Affine(), NET, one_pass="forward")],
    "iaf-spline": lambda dim: [Autoregressive(SPLINE, ResNet(13, 1, "tanh"), one_pass="forward"), LU()],
    "maf-degrees": lambda dim: [Autoregressive(SPLINE, MLP((5,)), degrees=[[0, 0, *[dim - 1] * 3]])],
    "actnorm": lambda dim: [ActNorm()],
    "permutation": lambda dim: [Permutation("random"), ActNorm()],
    "no-layer": lambda dim: [],
    "uneven-mask": _uneven,
    "nice": lambda dim: nice(dim, depth=3, hidden=(8,)),
    "realnvp": lambda dim: realnvp(dim, depth=3, hidden=(8, 8)),
    "random-1": _random_composition(1),
    "random-2": _random_composition(2),
    "random-3": _random_composition(3),
}

DIMS = (1, 2, 3, 8)
CASES = [
    Case(name, layers, dim, context)
    for name, layers in _LAYERS.items()
    for dim in DIMS
    for context in ((0, 3) if name.startswith(("affine", "random", "spline", "maf", "iaf")) else (0,))
]
CASES += [
    Case("student-t", lambda dim: [LU(), Coupling(Affine(), NET)], dim, base=StudentT(df))
    for dim, df in ((1, 3.0), (2, 5.0), (8, 30.0))
]
CASES += [
    Case("student-t-learned", lambda dim: [Coupling(SPLINE, NET)], dim, base=StudentT(4.0, learned=True))
    for dim in (1, 2, 8)
]
CASES += [
    Case(
        f"mixture-{components}-{covariance}",
        lambda dim: [Coupling(Affine(), NET)],
        dim,
        base=Mixture(components, covariance),
    )
    for covariance in ("full", "diagonal")
    for dim in DIMS
    for components in (1, 3)
]
CASES += [
    Case("many-features", lambda dim: [Coupling(SPLINE, NET, unconditional=True), LU(), Householder(2)], 300),
    Case("many-passes", lambda dim: [Autoregressive(Affine(), MLP((40,), "tanh"))], 300),
    *(Case("context-shift", lambda dim: [ContextShift(), LU(), Coupling(Affine(), NET)], dim, 3) for dim in DIMS),
    Case("wide-context", lambda dim: [Coupling(SPLINE, ResNet(16, 1, "tanh")), LU()], 3, 50),
]
_CONTEXT_NETWORKS: dict[str, tuple[Callable[[int], Sequence[Layer]], ContextNetwork]] = {
    "spline": (lambda dim: [Coupling(SPLINE, NET)] * 2, ContextNetwork(4, MLP((9, 6), "tanh"))),
    "spline-relu": (lambda dim: [Coupling(SPLINE, NET)] * 2, ContextNetwork(5, MLP((17,)))),
    "maf": (lambda dim: [Autoregressive(Affine(), NET)] * 2, ContextNetwork(1, ResNet(9, 1, "silu", dropout=0.5))),
    "lu": (lambda dim: [LU(), Coupling(Affine(), NET), ActNorm(), LU()], ContextNetwork(18, ResNet(11, 2, "elu"))),
    "iaf": (lambda dim: [Autoregressive(SPLINE, NET, one_pass="forward"), LU()], ContextNetwork(3, MLP(()))),
}
CASES += [
    Case(f"context-network-{name}", layers, dim, context, context_network=network)
    for name, (layers, network) in _CONTEXT_NETWORKS.items()
    for dim, context in ((1, 3), (2, 50), (3, 3))
]
CASES += [
    Case(
        "context-network-student-t",
        lambda dim: [Coupling(Affine(), NET)],
        2,
        3,
        StudentT(4.0, learned=True),
        ContextNetwork(2, MLP((8,), "silu")),
    )
]

# Widths on either side of 32, the depth of a tile instruction.
_BFLOAT16: dict[str, Callable[[int], Sequence[Layer]]] = {
    "affine": lambda dim: [Coupling(Affine(), NET)],
    "spline-relu": lambda dim: [Coupling(SPLINE, MLP((37, 32), "relu"), mask="alternate", unconditional=True)] * 2,
    "spline-resnet": lambda dim: [Coupling(SPLINE, ResNet(35, 2, "silu", dropout=0.5)), Permutation()],
    "maf": lambda dim: [Autoregressive(Affine(), MLP((41, 9), "leaky_relu"))] * 2,
    "iaf": lambda dim: [Autoregressive(SPLINE, ResNet(33, 1, "tanh"), one_pass="forward"), LU()],
}
CASES += [
    Case(f"bfloat16-{name}", layers, dim, context, conditioner_precision="bfloat16")
    for name, layers in _BFLOAT16.items()
    for dim in DIMS
    for context in (0, 3)
]
CASES += [
    Case(
        "bfloat16-context-network",
        lambda dim: [Coupling(SPLINE, NET)] * 2,
        2,
        3,
        context_network=ContextNetwork(4, MLP((9, 6), "tanh")),
        conditioner_precision="bfloat16",
    )
]


def _conv(padding: str) -> ConvNet:
    return ConvNet(6, 2, (3, 1, 3), padding, "tanh")


_IMAGES: dict[str, tuple[Shape, Callable[[int], Sequence[Layer]]]] = {
    "checkerboard": ((1, 3, 3), lambda dim: [Coupling(Affine(), NET, mask="checkerboard")] * 2),
    "channels": ((3, 2, 2), lambda dim: [Coupling(SPLINE, NET, mask="channels", unconditional=True)] * 2),
    "squeeze": ((2, 4, 2), lambda dim: [ActNorm(), Squeeze(), Coupling(Affine(), NET), Permutation("random")]),
    "conv": ((1, 3, 4), lambda dim: [Coupling(Affine(), _conv("circular"), mask="checkerboard")] * 2),
    "conv-channels": (
        (3, 2, 3),
        lambda dim: [Coupling(SPLINE, _conv("zero"), mask="channels", unconditional=True)] * 2,
    ),
    "conv-pixels": (
        (2, 2, 2),
        lambda dim: [Coupling(Additive(), _conv("zero"), mask=[True] * 3 + [False] + [True] * 3 + [False])],
    ),
    "conv-silu": ((2, 1, 5), lambda dim: [Coupling(Affine(), ConvNet(17, 1, 5, "circular", "silu"), mask="channels")]),
    "conv-linear": ((1, 2, 3), lambda dim: [Coupling(Affine(), ConvNet(layers=0), mask="checkerboard")]),
    "conv-resnet": (
        (1, 4, 3),
        lambda dim: [Coupling(Affine(), ConvResNet(5, 2, activation="silu", dropout=0.5), mask="checkerboard")],
    ),
    "conv-resnet-relu": ((2, 3, 1), lambda dim: [Coupling(Affine(), ConvResNet(5, 1, 3, "circular"), mask="channels")]),
    "conv1x1": ((3, 2, 2), lambda dim: [Conv1x1(), ActNorm(), Conv1x1("reverse")]),
    "conv1x1-wide": ((18, 1, 1), lambda dim: [Conv1x1("natural")]),
    "glow": ((1, 4, 4), lambda dim: glow((1, 4, 4), levels=2, depth=1, hidden=6, activation="tanh")),
    "realnvp-image": ((1, 4, 4), lambda dim: realnvp_image((1, 4, 4), depth=1, hidden=5, activation="tanh")),
    "lattice": ((1, 2, 4), lambda dim: lattice((1, 2, 4), depth=2, hidden=5)),
    "lattice-additive": (
        (2, 2, 2),
        lambda dim: (
            [Coupling(Additive(), ConvNet(5, 1, 3, "circular", "tanh", symmetric=True), mask="checkerboard")] * 2
        ),
    ),
    "split": (
        (1, 4, 4),
        lambda dim: [LU(), Split(), Coupling(Affine(), NET, mask="channels"), Split(), ActNorm(), Squeeze()],
    ),
}
CASES += [
    Case(f"image-{name}", layers, int(np.prod(shape)), context, shape=shape)
    for name, (shape, layers) in _IMAGES.items()
    for context in ((0, 3) if name in ("checkerboard", "conv", "conv-channels", "conv-resnet") else (0,))
]

# Those whose adjoints are their derivatives, and linear in their seeds. A network in bfloat16 is a step function, and
# its adjoint rounds: tests/test_bfloat16.py compares it with a reference.
SMOOTH = [case for case in CASES if case.conditioner_precision is None]
