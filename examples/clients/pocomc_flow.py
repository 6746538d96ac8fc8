"""A flow of pushforward in pocoMC (Karamanis et al. 2022).

``sampler.flow = PocoFlow(n_dim)`` after ``pocomc.Sampler(...)`` uses it. pocoMC fits its flow again at each
temperature, maps rows to latent space and back, and scores and draws them, all in tensors of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pushforward import Flow


class PocoFlow:
    """The methods that pocoMC calls.

    Parameters
    ----------
    dim : int
        Parameters of the model.
    fit : dict, optional
        Options of `Flow.fit`; those that pocoMC passes are of its own flow and are not used.
    seed : int, optional
        Fixes fits and draws.
    **options
        Those of `Flow`.
    """

    def __init__(self, dim: int, fit: dict[str, Any] | None = None, seed: int | None = None, **options: Any) -> None:
        self.n_dim = dim
        self._rng = np.random.default_rng(seed)
        self._fit = {"progress": False} | (fit or {})
        self.flow = Flow(dim, **{"base": None, "seed": self._rng, **options})

    def fit(self, x: torch.Tensor, weights: torch.Tensor | None = None, **_: Any) -> None:
        """Go on from the fit before, in the units of these rows: each temperature has narrower ones."""
        self.flow.fit(array(x), weights=array(weights), restandardize=True, seed=self._rng, **self._fit)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map data to latent points, with the log-determinant."""
        return tensors(*self.flow.inverse(array(x)))

    def inverse(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map latent points to data, with the log-determinant."""
        return tensors(*self.flow.forward(array(u)))

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Log densities of rows."""
        return tensors(self.flow.log_prob(array(x)))[0]

    def sample(self, size: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and their log densities."""
        return tensors(*self.flow.sample_and_log_prob(size, seed=self._rng))


def array(tensor: torch.Tensor | None) -> Any:
    """Return a tensor's numbers; None stays None."""
    return None if tensor is None else tensor.detach().cpu().numpy().astype(np.float64)


def tensors(*arrays: Any) -> tuple[Any, ...]:
    """Return arrays as tensors of float32."""
    return tuple(torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in arrays)
