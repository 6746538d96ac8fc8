"""A flow of pushforward in nessai (Williams et al. 2021).

``FlowSampler(model, flow_proposal_class=PushforwardProposal)`` uses it. nessai reaches its flow through the methods of
a `FlowModel`, with NumPy arrays in and out.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from nessai.flowmodel import FlowModel
from nessai.proposal.flowproposal import FlowProposal
from pushforward import Flow, realnvp


class PushforwardModel(FlowModel):
    """A `FlowModel` whose flow is one of pushforward. Affine couplings are smoother than splines on few live points."""

    device = torch.device("cpu")

    def initialise(self) -> None:
        """Make the flow."""
        dim = self.flow_config["n_inputs"]
        self.model = Flow(dim, layers=realnvp(dim), seed=self.rng, num_threads=1)
        self.inference_device = self.device
        self.initialised = True

    def move_to(self, device: Any, update_default: bool = False) -> None:
        """Stay on the CPU."""

    def finalise(self) -> None:
        """Do nothing: nothing is to be folded."""

    def train(
        self, samples: Any, weights: Any = None, val_size: float | None = None, **_: Any
    ) -> dict[str, list[float]]:
        """Fit to live points, in their units, and write the flow to a file."""
        if not self.initialised:
            self.initialise()
        held = self.training_config["val_size"] if val_size is None else val_size
        self.model.fit(samples, weights=weights, validation=held, restandardize=True, seed=self.rng, progress=False)
        os.makedirs(self.output, exist_ok=True)
        self.save_weights(os.path.join(self.output, "model.pt"))
        epochs = self.model.history.epochs
        return {"loss": [e.train_loss for e in epochs], "val_loss": [e.validation_loss for e in epochs]}

    def save_weights(self, weights_file: str) -> None:
        """Write the flow."""
        self.model.save(weights_file)
        self.weights_file = weights_file

    def load_weights(self, weights_file: str) -> None:
        """Read the flow."""
        self.model, self.weights_file, self.initialised = Flow.load(weights_file), weights_file, True

    def reset_model(self, weights: bool = True, permutations: bool = False) -> None:
        """Begin anew."""
        if weights or permutations:
            self.model.reset(self.rng)

    def forward_and_log_prob(self, x: Any, conditional: Any = None) -> tuple[Any, Any]:
        """Latent points of rows, and the rows' log densities."""
        return self.model.inverse_and_log_prob(np.asarray(x, dtype=np.float64))

    def inverse(self, z: Any, conditional: Any = None) -> tuple[Any, Any]:
        """Rows of latent points, with the log-determinant."""
        return self.model.forward(np.asarray(z, dtype=np.float64))

    def log_prob(self, x: Any, conditional: Any = None) -> Any:
        """Log densities of rows."""
        return self.model.log_prob(np.asarray(x, dtype=np.float64))

    def sample(self, n: int = 1, conditional: Any = None) -> Any:
        """Rows."""
        return self.model.sample(int(n), seed=self.rng).astype(np.float64)

    def sample_latent_distribution(self, n: int = 1) -> Any:
        """Latent points."""
        return self.model.sample_latent(int(n), seed=self.rng).astype(np.float64)

    def sample_and_log_prob(self, N: int = 1, z: Any = None, alt_dist: Any = None, conditional: Any = None) -> Any:  # noqa: N803
        """Rows and their log densities: of the flow, of latent points, or with another density of those."""
        if z is None:
            return self.model.sample_and_log_prob(int(N), seed=self.rng)
        z = np.asarray(z, dtype=np.float64)
        if alt_dist is None:
            return self.model.forward_and_log_prob(z)
        x, log_det = self.model.forward(z)
        return x, alt_dist.log_prob(torch.from_numpy(z)).numpy() - log_det

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "initialised": False}
        for name in ("model", "flow_config"):
            state.pop(name, None)
        return state


class PushforwardProposal(FlowProposal):
    """nessai's proposal with that model."""

    _FlowModelClass = PushforwardModel
