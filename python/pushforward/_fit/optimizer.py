"""The Adam optimiser, on any flat array."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._dispatch import core
from pushforward._model import threads
from pushforward._typing import Array, Indices


class Adam:
    """Adam with decoupled weight decay.

    Sources: Kingma, Ba 2015, algorithm 1; Loshchilov, Hutter 2019, algorithm 2. The moments start at the first
    `step` and belong to this object; `Flow.fit` takes only the settings and starts moments of its own.

    Parameters
    ----------
    learning_rate : float
        Size of a step, above 0; by default that of `Flow.fit`.
    betas : (float, float)
        Decay of the mean and of the square of the gradient, each in [0, 1).
    eps : float
        Added to the root of the square, above 0.
    weight_decay : float, optional
        Fraction of each parameter taken away per step and unit of learning rate, at least 0. By default `Flow.fit`
        chooses it by the number of rows, and `step` takes none. `Flow.fit` takes it of the weights of networks alone:
        biases, splines of kept features, LU and similar parameters are not decayed.

    Raises
    ------
    TypeError, ValueError
        If a setting is out of its range.

    Examples
    --------
    A training loop by hand:

    >>> import numpy as np
    >>> from pushforward import Adam, Flow
    >>> x = np.random.default_rng(0).normal(size=(256, 2)) * [1, 3]
    >>> flow = Flow(2, seed=0)
    >>> adam = Adam(learning_rate=1e-3)
    >>> losses = []
    >>> for _ in range(20):
    ...     loss, grad = flow.loss_and_grad(x)
    ...     flow.parameters = adam.step(flow.parameters, grad)
    ...     losses.append(loss)
    >>> losses[-1] < losses[0]
    True
    """

    def __init__(
        self,
        learning_rate: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
    ) -> None:
        self.learning_rate = _checks.number("learning_rate", learning_rate, 0.0, math.inf, closed="neither")
        try:
            first, second = betas
        except (TypeError, ValueError):
            raise TypeError(f"betas must be two numbers, not {betas!r}") from None
        self.betas = (
            _checks.number("betas[0]", first, 0.0, 1.0, closed="left"),
            _checks.number("betas[1]", second, 0.0, 1.0, closed="left"),
        )
        self.eps = _checks.number("eps", eps, 0.0, math.inf, closed="neither")
        if weight_decay is not None:
            weight_decay = _checks.number("weight_decay", weight_decay, 0.0, math.inf, closed="left")
        self.weight_decay = weight_decay
        self.steps = 0
        self.mean: Array | None = None
        self.square: Array | None = None

    def __repr__(self) -> str:
        return (
            f"Adam(learning_rate={self.learning_rate!r}, betas={self.betas!r}, eps={self.eps!r}, "
            f"weight_decay={self.weight_decay!r})"
        )

    def fresh(self, moments: Adam | None = None) -> Adam:
        """Return an Adam with the same settings, and the moments of another or none."""
        result = Adam(self.learning_rate, self.betas, self.eps, self.weight_decay)
        if moments is not None:
            result.steps, result.mean, result.square = moments.steps, moments.mean, moments.square
        return result

    def step(self, parameters: npt.ArrayLike, grad: npt.ArrayLike) -> Array:
        """Make one step.

        Parameters
        ----------
        parameters : (p,) array of float32 or float64
            Where to start; not modified.
        grad : (p,) array
            The gradient there.

        Returns
        -------
        (p,) array
            The new parameters, in the dtype of the old.

        Raises
        ------
        ValueError
            If the two differ in size, or from the step before.
        """
        values = np.array(_checks.floats(parameters, "parameters"), order="C")
        gradient = np.ascontiguousarray(_checks.floats(grad, "grad"), dtype=values.dtype)
        if values.ndim != 1 or gradient.shape != values.shape:
            raise ValueError(f"parameters and grad must be flat and equal; shapes {values.shape}, {gradient.shape}")
        self.update(values, gradient, self.learning_rate, math.inf, threads.default())
        return values

    def update(
        self,
        parameters: Array,
        gradient: Array,
        learning_rate: float,
        clip_norm: float,
        num_threads: int,
        decayed: Indices | None = None,
        norm: float | None = None,
        average: Array | None = None,
        average_weight: float = 0.0,
    ) -> float:
        """Change `parameters` in place; return the gradient's norm, and change nothing where it is not finite.

        `norm` is that norm where it is known. Weight decay is for the runs of parameters in `decayed`, (k, 2) of first
        and last + 1 of each; with None for all. `average` follows the parameters: it goes `average_weight` of the
        way to the new ones.
        """
        if self.mean is None or self.square is None:
            self.mean, self.square = np.zeros_like(parameters), np.zeros_like(parameters)
        if self.mean.shape != parameters.shape or self.mean.dtype != parameters.dtype:
            raise ValueError(
                f"this Adam has moments of {self.mean.size} {self.mean.dtype} parameters; "
                f"{parameters.size} of {parameters.dtype} came"
            )
        norm = core.adam_step(
            parameters, gradient, norm, self.mean, self.square, self.steps + 1, learning_rate, *self.betas, self.eps,
            self.weight_decay or 0.0, clip_norm, decayed, num_threads, average, average_weight,
        )  # fmt: skip
        assert norm is not None
        if math.isfinite(norm):
            self.steps += 1
        return norm
