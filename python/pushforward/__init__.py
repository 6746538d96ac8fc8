"""Normalizing flows for NumPy: fit a density to a table, score it, sample it, differentiate it, on a CPU."""

from pushforward._check.report import Report
from pushforward._dispatch import build_info, core, simd_level
from pushforward._fit.history import Epoch, History
from pushforward._fit.optimizer import Adam
from pushforward._model.bases import Mixture, Normal, StudentT, Uniform
from pushforward._model.layers import LU, ActNorm, Autoregressive, ContextShift, Coupling, Householder, Permutation
from pushforward._model.networks import MLP, ContextNetwork, ResNet
from pushforward._model.presets import maf, neural_spline, nice, realnvp
from pushforward._model.supports import Circle, Interval, Positive, Real
from pushforward._model.transforms import Additive, Affine, RationalQuadratic
from pushforward.ensemble import Ensemble
from pushforward.errors import FileFormatError, TrainingDivergedError
from pushforward.flow import Flow

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
    "ContextNetwork",
    "ContextShift",
    "Coupling",
    "Ensemble",
    "Epoch",
    "FileFormatError",
    "Flow",
    "History",
    "Householder",
    "Interval",
    "Mixture",
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
