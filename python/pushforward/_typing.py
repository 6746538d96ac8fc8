"""Types that more than one module names."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""An array of any type."""
Floats: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""An array in either precision of the core."""
Doubles: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]
Seed: TypeAlias = int | np.random.Generator | None
PathLike: TypeAlias = str | os.PathLike[str]
