"""Normalizing flows for NumPy: fit a density to a table, score it, sample it, differentiate it, on a CPU."""

from pushforward._dispatch import build_info, core, simd_level
from pushforward.errors import FileFormatError, TrainingDivergedError
from pushforward.flow import Flow
from pushforward.history import Epoch, History
from pushforward.layers import MLP, ActNorm, Additive, Affine, Coupling, Normal, Permutation, RationalQuadratic
from pushforward.optimizer import Adam
from pushforward.presets import nice, realnvp

__version__: str = core.version
del core

__all__ = [
    "MLP",
    "ActNorm",
    "Adam",
    "Additive",
    "Affine",
    "Coupling",
    "Epoch",
    "FileFormatError",
    "Flow",
    "History",
    "Normal",
    "Permutation",
    "RationalQuadratic",
    "TrainingDivergedError",
    "build_info",
    "nice",
    "realnvp",
    "simd_level",
]
