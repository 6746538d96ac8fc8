"""Flows over the arrays and DataFrames of Dask: scores and draws that are lazy, and fits by the workers of a cluster.

Dask is not a dependency: this package is imported only by those who ask for it. `fit` also needs `distributed`.
"""

from __future__ import annotations

from pushforward.dask.fits import fit
from pushforward.dask.scores import log_prob, sample

__all__ = ["fit", "log_prob", "sample"]
