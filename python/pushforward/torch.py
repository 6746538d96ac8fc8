"""A flow in PyTorch: its density and its map as a module, differentiable by rows, parameters and context.

PyTorch is not a dependency: this module is imported only by those who ask for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pushforward._typing import Array
from pushforward.flow import Flow


class FlowModule(nn.Module):  # type: ignore[misc]
    """A flow as a module of PyTorch, whose one parameter is all those of the flow.

    The parameter lies in the flow's own memory: an optimiser of PyTorch trains the flow. Derivatives are those of the
    flow's vector-Jacobian products, so there are first ones only. The flow computes on the CPU; results are on the
    device, and in the dtype, of the points. Fit or initialise the flow before, not after.

    Parameters
    ----------
    flow : Flow
        The flow, which is not copied.

    Attributes
    ----------
    flow : Flow
        The flow.
    weight : Parameter
        Its parameters, (p,).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from pushforward import Flow
    >>> from pushforward.torch import FlowModule
    >>> rows = torch.as_tensor(np.random.default_rng(0).normal(size=(200, 2)))
    >>> module = FlowModule(Flow(2, seed=0).initialize(rows.numpy()))
    >>> optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    >>> loss = -module.log_prob(rows).mean()
    >>> loss.backward()
    >>> optimizer.step()
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        if not isinstance(flow, Flow):
            raise TypeError(f"flow must be a Flow, not {flow!r}")
        self.flow = flow
        self.weight = nn.Parameter(torch.from_numpy(flow.parameters))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log density (...) of rows (..., dim) under conditions (..., context)."""
        return self._call("log_prob", x, context)[0]

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Carry latent points to data points; return them and log|det dx/dz|."""
        x, log_det = self._call("forward", z, context)
        return x, log_det

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Carry data points to latent points; return them and log|det dz/dx|."""
        z, log_det = self._call("inverse", x, context)
        return z, log_det

    def sample(self, n: int | tuple[int, ...] = 1, context: Tensor | None = None, seed: int | None = None) -> Tensor:
        """Draw rows, differentiable by the parameters of the map and by the context (not by those of the base).

        Parameters
        ----------
        n : int or tuple of int
            Rows, or their leading axes, to which those of the context broadcast.
        context : (..., context) tensor, optional
            Conditions.
        seed : int, optional
            Fixes the rows drawn: those of `Flow.sample` with this seed. By default PyTorch's generator does.

        Returns
        -------
        (n, dim) tensor
            In the dtype of `Flow.sample`.
        """
        seed = int(torch.randint(2**62, (1,))) if seed is None else seed
        self._copy_weight()
        z = torch.from_numpy(self.flow.sample_latent(n, seed=seed))
        return self.forward(z if context is None else z.to(context.device), context)[0]

    def _call(self, name: str, points: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        self._copy_weight()
        found: tuple[Tensor, ...] = _Call.apply(self.flow, name, self.weight, points, context)
        return found

    def _copy_weight(self) -> None:
        """Bring the flow up to a parameter that is no longer in its memory, as after `copy.deepcopy` or `to`."""
        if self.weight.data_ptr() != self.flow.parameters.ctypes.data:
            self.flow.parameters = self.weight.detach().cpu().numpy()


class _Call(torch.autograd.Function):  # type: ignore[misc]
    """A call of a flow, with its vector-Jacobian product."""

    @staticmethod
    def forward(
        ctx: Any, flow: Flow, name: str, weight: Tensor, points: Tensor, context: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.flow, ctx.name = flow, name
        # With the weight, so that PyTorch refuses to differentiate what was computed before a step.
        ctx.save_for_backward(weight, points, context)
        results = getattr(flow, name)(_array(points), _array(context))
        results = results if isinstance(results, tuple) else (results,)
        return tuple(torch.from_numpy(result).to(points) for result in results)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        weight, points, context = ctx.saved_tensors
        product = getattr(ctx.flow, f"{ctx.name}_vjp")
        by_points, by_weight, by_context = product(
            _array(points), *map(_array, grads), _array(context), parameters=ctx.needs_input_grad[2]
        )
        # Broadcasting repeats rows: their derivatives are added up.
        return (
            None,
            None,
            None if by_weight is None else torch.from_numpy(by_weight).to(weight),
            torch.from_numpy(by_points).to(points).sum_to_size(points.shape),
            None if context is None else torch.from_numpy(by_context).to(context).sum_to_size(context.shape),
        )


def _array(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.detach().cpu().numpy()
