"""What every trained model has: a compiled core with one vector of parameters, and threads."""

from __future__ import annotations

from abc import ABC
from typing import Any

import numpy as np

from pushforward._model import threads
from pushforward._typing import Array, Doubles, Floats, Indices


class Parametric(ABC):
    """A model whose density is computed by a compiled core.

    Attributes
    ----------
    core
        The compiled model. Parameters are 0 at first.
    threads : int or None
        Threads of every call; None for the default.
    """

    core: Any
    threads: int | None = None

    @property
    def num_threads(self) -> int:
        """Threads of every call."""
        return self.threads or threads.default()

    @property
    def parameters(self) -> Floats:
        """All parameters, as one live array."""
        parameters: Floats = self.core.parameters
        return parameters

    def named_parameters(self) -> dict[str, Floats]:
        """Return each block of the parameters by name, as writable views."""
        views: dict[str, Floats] = {}
        parameters, first = self.parameters, 0
        for name, shape, _ in self.core.parameter_blocks:
            size = int(np.prod(shape))
            views[name] = parameters[first : first + size].reshape(shape)
            first += size
        return views

    def draw_parameters(self, rng: np.random.Generator) -> None:
        """Draw initial parameters."""
        views = self.named_parameters()
        for name, _, bound in self.core.parameter_blocks:
            if bound > 0:
                views[name][...] = rng.uniform(-bound, bound, views[name].shape)

    def log_prob(self, x: Array, context: Array | None = None, index: Indices | None = None) -> Doubles:
        """Return the log density of rows that were checked, those of `index` if it is given."""
        density: Doubles = self.core.log_prob(x, context=context, index=index, threads=self.num_threads)
        return density
