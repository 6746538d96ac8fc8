"""What a flow is made of: settings out of range are refused, with what was expected, what came and what is near."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pushforward import (
    LU,
    MLP,
    ActNorm,
    Adam,
    Affine,
    Autoregressive,
    Circle,
    ContextNetwork,
    Coupling,
    Flow,
    Householder,
    Interval,
    Normal,
    Permutation,
    Positive,
    RationalQuadratic,
    Real,
    ResNet,
    StudentT,
    maf,
    neural_spline,
    nice,
    realnvp,
)


def refused(exception: type[Exception], message: str) -> Any:
    """Expect an exception whose message begins with this."""
    return pytest.raises(exception, match="^" + re.escape(message))


NOT_MADE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Flow(0), ValueError, "dim must be at least 1, not 0"),
    (lambda: Flow(2.0), TypeError, "dim must be an integer, not 2.0"),
    (lambda: Flow(True), TypeError, "dim must be an integer, not True"),
    (lambda: Flow("2"), TypeError, "dim must be an integer, not '2'"),
    (lambda: Flow(2, context=-1), ValueError, "context must be at least 0, not -1"),
    (lambda: Flow(2, context=1.5), TypeError, "context must be an integer, not 1.5"),
    (lambda: Flow(2, context_network=ContextNetwork()), ValueError,
     "context_network needs a context; this flow has context=0"),
    (lambda: Flow(2, context=3, context_network=MLP()), TypeError,
     "context_network must be ContextNetwork() or None, not MLP("),
    (lambda: Flow(2, context=3, context_network=ContextNetwork), TypeError,
     "context_network must be ContextNetwork() or None, not <class"),
    (lambda: Flow(2, conditioner_precision="float16"), ValueError,
     "conditioner_precision is 'float16'; the choices are 'bfloat16'"),
    (lambda: Flow(2, dtype="float16"), ValueError, "dtype is 'float16'; the choices are 'float32', 'float64'"),
    (lambda: Flow(2, dtype="flot32"), ValueError,
     "dtype is 'flot32'; the choices are 'float32', 'float64'; did you mean 'float32'?"),
    (lambda: Flow(2, dtype=int), ValueError, "dtype is 'int64'; the choices are 'float32', 'float64'"),
    (lambda: Flow(2, base="normal"), TypeError,
     "base must be Normal(), StudentT(), Uniform() or Mixture(components), not 'normal'"),
    (lambda: Flow(2, base=Normal), TypeError,
     "base must be Normal(), StudentT(), Uniform() or Mixture(components), not <class"),
    (lambda: Flow(2, support="positive"), TypeError,
     "support must be Real(), Positive(), Interval(low, high), Circle(low, high) or Pixel(), a sequence of one per "
     "feature, or a mapping of features to theirs, not 'positive'"),
    (lambda: Flow(2, support=Positive), TypeError, "support must be Real(), Positive(), Interval(low, high)"),
    (lambda: Flow(2, support=(0, 1)), TypeError, "support[0] must be Real(), Positive(), Interval("),
    (lambda: Flow(2, support=[Real(), "real"]), TypeError, "support[1] must be Real(), Positive(), Interval("),
    (lambda: Flow(2, support=[Real(), None]), TypeError, "support[1] must be Real(), Positive(), Interval(low, high)"),
    (lambda: Flow(3, support=[Positive(), Real()]), ValueError, "support has 2 entries; this flow has dim=3"),
    (lambda: Flow(1, support=[]), ValueError, "support has 0 entries; this flow has dim=1"),
    (lambda: Interval(1, 1), ValueError, "Interval needs low < high, not low=1.0 and high=1.0"),
    (lambda: Interval(2, 1), ValueError, "Interval needs low < high, not low=2.0 and high=1.0"),
    (lambda: Circle(2 * np.pi, 0), ValueError, "Circle needs low < high, not low=6.28"),
    (lambda: Interval(0, np.inf), ValueError, "Interval's high must be in (-inf, inf), not inf"),
    (lambda: Circle(np.nan, 1), ValueError, "Circle's low must be in (-inf, inf), not nan"),
    (lambda: Interval("0", 1), TypeError, "Interval's low must be a number, not '0'"),
    (lambda: Interval(0, True), TypeError, "Interval's high must be a number, not True"),
    (lambda: Interval(-1e308, 1e308), ValueError, "Interval's high - low must be a number that has an inverse"),
    (lambda: Circle(0, 5e-324), ValueError, "Circle's high - low must be a number that has an inverse, not 5e-324"),
    (lambda: Flow(2, layers=Coupling()), TypeError, "layers must be a sequence of layers, not Coupling("),
    (lambda: Flow(2, layers=5), TypeError, "layers must be a sequence of layers, not 5"),
    (lambda: Flow(2, layers=realnvp), TypeError, "layers must be a sequence of layers, not <function realnvp"),
    (lambda: Flow(2, layers=["coupling"]), TypeError,
     "layers[0] must be Coupling(), Autoregressive()"),
    (lambda: Flow(2, layers=[ActNorm(), Affine()]), TypeError,
     "layers[1] must be Coupling(), Autoregressive()"),
    (lambda: Flow(2, layers=[Coupling]), TypeError, "layers[0] must be Coupling(), Autoregressive()"),
    (lambda: Flow(3, layers=[Coupling(mask=[True, False])]), ValueError,
     "a coupling's mask has 2 entries; the flow has dim=3"),
    (lambda: Flow(2, layers=[Coupling(mask=[True, True])]), ValueError, "a coupling's mask keeps every feature"),
    (lambda: Flow(3, layers=[Permutation([1, 0])]), ValueError, "a permutation has 2 indices; the flow has dim=3"),
    (lambda: Flow(2, num_threads=0), ValueError, "num_threads must be at least 1, not 0"),
    (lambda: Flow(2, num_threads=-1), ValueError, "num_threads must be at least 1, not -1"),
    (lambda: Flow(2, num_threads=5000), ValueError, "num_threads must be at most 4096, not 5000"),
    (lambda: Flow(2, num_threads="2"), TypeError, "num_threads must be an integer, not '2'"),
    (lambda: Flow(2, num_threads=1.0), TypeError, "num_threads must be an integer, not 1.0"),
    (lambda: Flow(2, num_threads=True), TypeError, "num_threads must be an integer, not True"),
    (lambda: Affine(max_log_scale=0), ValueError, "max_log_scale must be in [1e-30, 100], not 0"),
    (lambda: Affine(max_log_scale=np.nan), ValueError, "max_log_scale must be in [1e-30, 100], not nan"),
    (lambda: Affine(max_log_scale=np.inf), ValueError, "max_log_scale must be in [1e-30, 100], not inf"),
    (lambda: Affine(max_log_scale="3"), TypeError, "max_log_scale must be a number, not '3'"),
    (lambda: Affine(max_log_scale=True), TypeError, "max_log_scale must be a number, not True"),
    (lambda: RationalQuadratic(bins=1), ValueError, "bins must be at least 2, not 1"),
    (lambda: RationalQuadratic(bins=65), ValueError, "bins must be at most 64, not 65"),
    (lambda: RationalQuadratic(bins=8.0), TypeError, "bins must be an integer, not 8.0"),
    (lambda: RationalQuadratic(bound=0.0), ValueError, "bound must be in [1e-30, 1e+30], not 0.0"),
    (lambda: RationalQuadratic(bound=np.inf), ValueError, "bound must be in [1e-30, 1e+30], not inf"),
    (lambda: RationalQuadratic(min_width=0.0), ValueError, "min_width must be in (0, 0.125), not 0.0"),
    (lambda: RationalQuadratic(bins=10, min_height=0.1), ValueError, "min_height must be in (0, 0.1), not 0.1"),
    (lambda: RationalQuadratic(min_slope=1), ValueError, "min_slope must be in (0, 1), not 1"),
    (lambda: MLP(hidden=64), TypeError, "hidden must be a sequence of widths such as (64, 64), not 64"),
    (lambda: MLP(hidden="64"), TypeError, "hidden must be a sequence of widths such as (64, 64), not '64'"),
    (lambda: MLP(hidden=None), TypeError, "hidden must be a sequence of widths such as (64, 64), not None"),
    (lambda: MLP(hidden=6.4), TypeError, "hidden must be a sequence of widths such as (64, 64), not 6.4"),
    (lambda: MLP(hidden=(8, 0)), ValueError, "hidden[1] must be at least 1, not 0"),
    (lambda: MLP(hidden=(8.0,)), TypeError, "hidden[0] must be an integer, not 8.0"),
    (lambda: MLP(activation="rel"), ValueError,
     "activation is 'rel'; the choices are 'relu', 'silu', 'tanh', 'gelu', 'elu', 'leaky_relu'; did you mean 'relu'?"),
    (lambda: MLP(activation=None), ValueError, "activation is None; the choices are 'relu', 'silu', 'tanh'"),
    (lambda: MLP(activation=["relu"]), ValueError, "activation is ['relu']; the choices are 'relu', 'silu', 'tanh'"),
    (lambda: Coupling(transform="affine"), TypeError, "transform must be Additive()"),
    (lambda: Coupling(transform=Affine), TypeError, "transform must be Additive()"),
    (lambda: Coupling(MLP()), TypeError, "transform must be Additive()"),
    (lambda: Coupling(conditioner=(64, 64)), TypeError,
     "conditioner must be MLP(), ResNet(), ConvNet() or ConvResNet(), not (64, 64)"),
    (lambda: Coupling(mask="halve"), ValueError,
     "mask is 'halve'; the choices are 'half', 'alternate', 'random', 'checkerboard', "
     "'channels'; did you mean 'half'?"),
    (lambda: Coupling(mask=[0, 1]), TypeError,
     "mask must be 'half', 'alternate', 'random', 'checkerboard', "
     "'channels' or a one-dimensional bool"),
    (lambda: Coupling(mask=[[True, False]]), TypeError,
     "mask must be 'half', 'alternate', 'random', 'checkerboard', "
     "'channels' or a one-dim"),
    (lambda: Coupling(mask=[[True], [True, False]]), TypeError,
     "mask must be 'half', 'alternate', 'random', 'checkerboard', "
     "'channels' or a one"),
    (lambda: Coupling(mask=None), TypeError,
     "mask must be 'half', 'alternate', 'random', 'checkerboard', "
     "'channels' or a one-dimensional bool"),
    (lambda: Permutation("reversed"), ValueError,
     "order is 'reversed'; the choices are 'reverse', 'random'; did you mean 'reverse'?"),
    (lambda: Permutation(3), TypeError, "order must be 'reverse', 'random' or a sequence of indices, not 3"),
    (lambda: Permutation(None), TypeError, "order must be 'reverse', 'random' or a sequence of indices, not None"),
    (lambda: Permutation([0, 0]), ValueError, "order must hold each of 0 ... 1 once, not (0, 0)"),
    (lambda: Permutation([1, 2]), ValueError, "order must hold each of 0 ... 1 once, not (1, 2)"),
    (lambda: Permutation([-1, 0]), ValueError, "order[0] must be at least 0, not -1"),
    (lambda: Permutation([0, 1.0]), TypeError, "order[1] must be an integer, not 1.0"),
    *[entry for preset in (nice, realnvp, maf) for entry in [
        (lambda p=preset: p(0), ValueError, "dim must be at least 1, not 0"),
        (lambda p=preset: p(2.0), TypeError, "dim must be an integer, not 2.0"),
        (lambda p=preset: p(2, depth=0), ValueError, "depth must be at least 1, not 0"),
        (lambda p=preset: p(2, depth="8"), TypeError, "depth must be an integer, not '8'"),
        (lambda p=preset: p(2, hidden=64), TypeError, "hidden must be a sequence of widths"),
        (lambda p=preset: p(2, activation="step"), ValueError, "activation is 'step'; the choices are 'relu', 'silu'"),
    ]],
    (lambda: RationalQuadratic(scheme="soft"), ValueError, "scheme is 'soft'; the choices are 'floor', 'clip'"),
    (lambda: ContextNetwork(0), ValueError, "features must be at least 1, not 0"),
    (lambda: ContextNetwork(2**31), ValueError, "features must be at most 2147483647, not 2147483648"),
    (lambda: ContextNetwork(8.0), TypeError, "features must be an integer, not 8.0"),
    (lambda: ContextNetwork(MLP()), TypeError, "features must be an integer, not MLP("),
    (lambda: ContextNetwork(8, (64, 64)), TypeError, "network must be MLP() or ResNet(), not (64, 64)"),
    (lambda: ResNet(hidden=(64, 64)), TypeError, "hidden must be an integer, not (64, 64)"),
    (lambda: ResNet(hidden=0), ValueError, "hidden must be at least 1, not 0"),
    (lambda: ResNet(blocks=-1), ValueError, "blocks must be at least 0, not -1"),
    (lambda: ResNet(blocks=1001), ValueError, "blocks must be at most 1000, not 1001"),
    (lambda: ResNet(activation="step"), ValueError, "activation is 'step'; the choices are 'relu', 'silu'"),
    (lambda: ResNet(dropout=1.0), ValueError, "dropout must be in [0, 0.999], not 1.0"),
    (lambda: ResNet(dropout=0.9999), ValueError, "dropout must be in [0, 0.999], not 0.9999"),
    (lambda: Coupling(unconditional=1), TypeError, "unconditional must be True or False, not 1"),
    (lambda: Autoregressive("affine"), TypeError, "transform must be Additive()"),
    (lambda: Autoregressive(conditioner=64), TypeError, "conditioner must be MLP() or ResNet(), not 64"),
    (lambda: Autoregressive(order="random"), ValueError, "order is 'random'; the choices are 'natural', 'reverse'"),
    (lambda: Autoregressive(order=1), TypeError, "order must be 'natural', 'reverse' or a sequence of passes, not 1"),
    (lambda: Autoregressive(order=[0, 2]), ValueError, "order must hold each of 0 ... 2, not (0, 2)"),
    (lambda: Flow(3, layers=[Autoregressive(order=[0, 1])]), ValueError,
     "an autoregressive order has 2 entries; the flow has dim=3"),
    (lambda: Autoregressive(conditioner=MLP((3,)), degrees=[[0, 1]]), ValueError,
     "degrees must hold 3 integers in increasing order, not (0, 1)"),
    (lambda: Autoregressive(conditioner=ResNet(2), degrees=[[1, 0]]), ValueError,
     "degrees must hold 2 integers in increasing order, not (1, 0)"),
    (lambda: Autoregressive(conditioner=MLP((3,)), degrees=[]), ValueError,
     "degrees has 0 layers; the conditioner has 1"),
    (lambda: Flow(2, layers=[Autoregressive(conditioner=MLP((1,)), degrees=[[2]])]), ValueError,
     "degrees go up to 1, that of the last pass"),
    (lambda: Autoregressive(one_pass="both"), ValueError, "one_pass is 'both'; the choices are 'inverse', 'forward'"),
    (lambda: LU("randon"), ValueError,
     "order is 'randon'; the choices are 'random', 'reverse', 'natural'; did you mean 'random'?"),
    (lambda: LU([0, 0]), ValueError, "order must hold each of 0 ... 1 once, not (0, 0)"),
    (lambda: Flow(3, layers=[LU([1, 0])]), ValueError, "a permutation has 2 indices; the flow has dim=3"),
    (lambda: Householder(0), ValueError, "count must be at least 1, not 0"),
    (lambda: Householder(1001), ValueError, "count must be at most 1000, not 1001"),
    (lambda: StudentT(0.0), ValueError, "df must be in [0.01, 1e+09], not 0.0"),
    (lambda: StudentT(0.5, learned=True), ValueError, "df must be in [0.51, 1e+09], not 0.5"),
    (lambda: StudentT(3, learned=1), TypeError, "learned must be True or False, not 1"),
    (lambda: neural_spline(0), ValueError, "dim must be at least 1, not 0"),
    (lambda: neural_spline(2, depth=0), ValueError, "depth must be at least 1, not 0"),
    (lambda: neural_spline(2, hidden=0), ValueError, "hidden must be at least 1, not 0"),
    (lambda: neural_spline(2, hidden="64"), TypeError, "hidden must be a sequence of widths"),
    (lambda: neural_spline(2, mixing="qr"), ValueError, "mixing is 'qr'; the choices are 'lu', 'permutation'"),
    (lambda: Adam(0), ValueError, "learning_rate must be in (0, inf), not 0"),
    (lambda: Adam(np.nan), ValueError, "learning_rate must be in (0, inf), not nan"),
    (lambda: Adam(np.inf), ValueError, "learning_rate must be in (0, inf), not inf"),
    (lambda: Adam("1e-3"), TypeError, "learning_rate must be a number, not '1e-3'"),
    (lambda: Adam(betas=0.9), TypeError, "betas must be two numbers, not 0.9"),
    (lambda: Adam(betas=(0.9,)), TypeError, "betas must be two numbers, not (0.9,)"),
    (lambda: Adam(betas=(1.0, 0.9)), ValueError, "betas[0] must be in [0, 1), not 1.0"),
    (lambda: Adam(betas=(0.9, -0.1)), ValueError, "betas[1] must be in [0, 1), not -0.1"),
    (lambda: Adam(betas=("a", 0.9)), TypeError, "betas[0] must be a number, not 'a'"),
    (lambda: Adam(eps=0.0), ValueError, "eps must be in (0, inf), not 0.0"),
    (lambda: Adam(weight_decay=-1), ValueError, "weight_decay must be in [0, inf), not -1"),
    (lambda: Adam().step(np.zeros(3), np.zeros(4)), ValueError,
     "parameters and grad must be flat and equal; shapes (3,), (4,)"),
    (lambda: Adam().step(np.zeros((1, 3)), np.zeros((1, 3))), ValueError,
     "parameters and grad must be flat and equal; shapes (1, 3), (1, 3)"),
    (lambda: Adam().step(["a"], [1.0]), TypeError, "parameters must be an array of real numbers; it has dtype <U1"),
    (lambda: Adam().step([1.0], ["a"]), TypeError, "grad must be an array of real numbers; it has dtype <U1"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "exception", "message"), NOT_MADE)
def test_descriptions_out_of_range(make: Callable[[], Any], exception: type[Exception], message: str) -> None:
    with refused(exception, message):
        make()


def test_an_adam_belongs_to_one_vector() -> None:
    adam = Adam()
    adam.step(np.zeros(3), np.ones(3))
    for other in (np.zeros(4), np.zeros(3, np.float32)):
        with refused(ValueError, f"this Adam has moments of 3 float64 parameters; {other.size} of {other.dtype} came"):
            adam.step(other, other)
    assert adam.steps == 1


@pytest.mark.parametrize("level", ["nonsense", "v1", "avx2", "V3"])
def test_an_instruction_set_that_there_is_not(level: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import pushforward"],
        env={**os.environ, "PUSHFORWARD_SIMD": level},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert re.match(rf"(ValueError|ImportError): PUSHFORWARD_SIMD is '{level}'; .* are '\w+'", last)
