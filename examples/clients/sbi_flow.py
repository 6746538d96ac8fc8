"""A flow of pushforward as the density estimator of sbi: ``NPE(prior, density_estimator=builder())``.

sbi's own loop trains it, with any of its losses, together with an embedding network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from pushforward import Flow
from pushforward.torch import FlowModule
from sbi.neural_nets.estimators.base import ConditionalDensityEstimator


class PushforwardEstimator(ConditionalDensityEstimator):
    """A conditional density estimator around a `FlowModule`."""

    def __init__(self, flow: Flow, input_shape: Any, condition_shape: Any, embedding_net: torch.nn.Module) -> None:
        super().__init__(FlowModule(flow), input_shape, condition_shape)
        self._embedding_net = embedding_net

    @property
    def embedding_net(self) -> torch.nn.Module:
        """The network that makes the context of the condition."""
        return self._embedding_net

    def _context(self, condition: torch.Tensor) -> torch.Tensor:
        rows = condition.reshape(-1, *self.condition_shape)
        return self._embedding_net(rows).reshape(len(rows), -1)

    def log_prob(self, input: torch.Tensor, condition: torch.Tensor, **_: Any) -> torch.Tensor:
        """Log densities (sample, batch) of rows under a condition for each of the batch."""
        return self.net.log_prob(input.flatten(start_dim=2), self._context(condition))

    def loss(self, input: torch.Tensor, condition: torch.Tensor, **_: Any) -> torch.Tensor:
        """Negative log-likelihoods (batch,)."""
        return -self.log_prob(input.unsqueeze(0), condition)[0]

    @torch.no_grad()
    def sample(self, sample_shape: Any, condition: torch.Tensor, **_: Any) -> torch.Tensor:
        """Draws (*sample_shape, batch, *input_shape)."""
        context = self._context(condition)
        rows = self.net.sample((*sample_shape, len(context)), context).to(torch.float32)
        return rows.reshape(*sample_shape, len(context), *self.input_shape)

    def sample_and_log_prob(self, sample_shape: Any, condition: torch.Tensor, **_: Any) -> Any:
        """Draws, and the log density of each."""
        rows = self.sample(sample_shape, condition)
        flat = rows.reshape(-1, *rows.shape[len(sample_shape) :])
        return rows, self.log_prob(flat, condition).reshape(rows.shape[: len(sample_shape) + 1])


def builder(embedding_net: torch.nn.Module | None = None, **options: Any) -> Callable[..., PushforwardEstimator]:
    """Return what sbi calls with the first simulations; `options` are those of `Flow`."""

    def build(theta: torch.Tensor, x: torch.Tensor) -> PushforwardEstimator:
        network = copy.deepcopy(embedding_net) or torch.nn.Identity()
        with torch.no_grad():
            context = network(x).reshape(len(x), -1).numpy()
        rows = theta.reshape(len(theta), -1).numpy()
        flow = Flow(rows.shape[1], context=context.shape[1], **options).initialize(rows, context)
        return PushforwardEstimator(flow, theta[0].shape, x[0].shape, network)

    return build
