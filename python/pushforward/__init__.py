"""Normalizing flows for NumPy: fit a density to a table, score it, sample it, differentiate it, on a CPU."""

from pushforward._dispatch import build_info, core, simd_level
from pushforward.errors import FileFormatError, TrainingDivergedError
from pushforward.flow import Flow
from pushforward.history import Epoch, History
from pushforward.layers import (
    LU,
    MLP,
    ActNorm,
    Additive,
    Affine,
    Autoregressive,
    Coupling,
    Householder,
    Normal,
    Permutation,
    RationalQuadratic,
    ResNet,
    StudentT,
    Uniform,
)
from pushforward.optimizer import Adam
from pushforward.presets import maf, neural_spline, nice, realnvp
from pushforward.report import Report
from pushforward.supports import Circle, Interval, Positive, Real

__version__: str = core.version
del core

__all__ = [
    "LU",
    "MLP",
    "ActNorm",
    "Adam",
    "Additive",
    "Affine",
    "Autoregressive",
    "Circle",
    "Coupling",
    "Epoch",
    "FileFormatError",
    "Flow",
    "History",
    "Householder",
    "Interval",
    "Normal",
    "Permutation",
    "Positive",
    "RationalQuadratic",
    "Real",
    "Report",
    "ResNet",
    "StudentT",
    "TrainingDivergedError",
    "Uniform",
    "build_info",
    "maf",
    "neural_spline",
    "nice",
    "realnvp",
    "simd_level",
]
