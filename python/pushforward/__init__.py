"""Normalizing flows for NumPy: fit a density to a table, score it, sample it, differentiate it, on a CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pushforward import _process  # noqa: F401  (first: see there)
from pushforward._check.report import Report
from pushforward._dispatch import build_info, core, simd_level
from pushforward._fit.history import Epoch, History
from pushforward._fit.optimizer import Adam
from pushforward._io.many import Files
from pushforward._model.bases import Mixture, Normal, StudentT, Uniform
from pushforward._model.convolutions import ConvNet, ConvResNet
from pushforward._model.coupling import Coupling
from pushforward._model.image_presets import glow, lattice, realnvp_image
from pushforward._model.images import Conv1x1, Split, Squeeze
from pushforward._model.layers import LU, ActNorm, Autoregressive, ContextShift, Householder, Permutation
from pushforward._model.networks import MLP, ContextNetwork, ResNet
from pushforward._model.presets import maf, neural_spline, nice, realnvp, triangular
from pushforward._model.supports import Circle, Interval, Pixel, Positive, Real
from pushforward._model.transforms import Additive, Affine, RationalQuadratic
from pushforward._posterior.result import Posterior
from pushforward._posterior.rounds import Round
from pushforward._tables.check import ColumnCheck, TableReport
from pushforward._tables.kinds import Above, Below, Boolean, Category, Date, Integer
from pushforward._tables.schema import Column, Schema
from pushforward.ensemble import Ensemble
from pushforward.errors import FileFormatError, TrainingDivergedError
from pushforward.flow import Flow
from pushforward.posterior import sample_posterior
from pushforward.table_flow import TableFlow

if TYPE_CHECKING:
    from pushforward import cli as cli
    from pushforward import convert as convert
    from pushforward import dask as dask
    from pushforward import demo as demo
    from pushforward import importance as importance
    from pushforward import kde as kde
    from pushforward import plot as plot
    from pushforward import pytensor as pytensor
    from pushforward import sklearn as sklearn
    from pushforward import torch as torch

__version__: str = core.version
del core

_MODULES = ("cli", "convert", "dask", "demo", "importance", "kde", "plot", "pytensor", "sklearn", "torch")


def __getattr__(name: str) -> Any:
    """Import a module when it is first used, as ``pushforward.plot``: some need packages that are slow to import."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


__all__ = [
    "LU",
    "MLP",
    "Above",
    "ActNorm",
    "Adam",
    "Additive",
    "Affine",
    "Autoregressive",
    "Below",
    "Boolean",
    "Category",
    "Circle",
    "Column",
    "ColumnCheck",
    "ContextNetwork",
    "ContextShift",
    "Conv1x1",
    "ConvNet",
    "ConvResNet",
    "Coupling",
    "Date",
    "Ensemble",
    "Epoch",
    "FileFormatError",
    "Files",
    "Flow",
    "History",
    "Householder",
    "Integer",
    "Interval",
    "Mixture",
    "Normal",
    "Permutation",
    "Pixel",
    "Positive",
    "Posterior",
    "RationalQuadratic",
    "Real",
    "Report",
    "ResNet",
    "Round",
    "Schema",
    "Split",
    "Squeeze",
    "StudentT",
    "TableFlow",
    "TableReport",
    "TrainingDivergedError",
    "Uniform",
    "build_info",
    "glow",
    "lattice",
    "maf",
    "neural_spline",
    "nice",
    "realnvp",
    "realnvp_image",
    "sample_posterior",
    "simd_level",
    "triangular",
]
