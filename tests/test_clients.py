"""Flows in the samplers of others: the adapters of examples/clients on targets whose answer is known."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "clients"
# Those of the clients, and of what they import.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """How to import an example, whose client must be installed."""

    def imported(name: str, client: str) -> ModuleType:
        pytest.importorskip("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(client)
            monkeypatch.syspath_prepend(FOLDER)
            return importlib.import_module(name)

    return imported


Adapter = Callable[[str, str], ModuleType]


def test_pocomc(adapter: Adapter) -> None:
    """The evidence of a normal in a box: log of the box's density."""
    poco = adapter("pocomc_flow", "pocomc")
    import pocomc
    from scipy import stats

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return stats.norm.logpdf(x, loc=1.0, scale=0.05).sum(axis=-1)

    prior = pocomc.Prior([stats.uniform(-5, 10)] * 2)
    sampler = pocomc.Sampler(prior, log_likelihood, vectorize=True, n_effective=256, n_active=128, random_state=0)
    sampler.flow = poco.PocoFlow(2, fit={"epochs": 30}, seed=0)
    sampler.run(n_total=512, n_evidence=512, progress=False)
    samples, weights, *_ = sampler.posterior()
    mean = np.average(samples, axis=0, weights=weights)
    np.testing.assert_allclose(mean, 1.0, atol=0.02)
    assert sampler.evidence()[0] == pytest.approx(-2 * np.log(10), abs=0.3)


def test_nessai(tmp_path: Path, adapter: Adapter) -> None:
    adapted = adapter("nessai_flow", "nessai")
    from nessai.flowsampler import FlowSampler
    from nessai.model import Model

    class Normal(Model):  # type: ignore[misc]
        names = ["a", "b"]  # noqa: RUF012
        bounds = {"a": [-10, 10], "b": [-10, 10]}  # noqa: RUF012

        def log_prior(self, x: Any) -> Any:
            return np.log(self.in_bounds(x), dtype=float) - 2 * np.log(20)

        def log_likelihood(self, x: Any) -> Any:
            return -0.5 * (x["a"] ** 2 + x["b"] ** 2) - np.log(2 * np.pi)

    sampler = FlowSampler(
        Normal(),
        output=str(tmp_path),
        flow_proposal_class=adapted.PushforwardProposal,
        nlive=200,
        seed=1,
        resume=False,
        plot=False,
        poolsize=500,
    )
    sampler.run(plot=False, save=False)
    assert sampler.log_evidence == pytest.approx(-2 * np.log(20), abs=0.5)


def test_sbi(adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The posterior of a normal mean under a wide prior is the datum's own normal."""
    monkeypatch.chdir(tmp_path)  # where sbi writes its logs
    adapted = adapter("sbi_flow", "sbi")
    import torch
    from sbi.inference import NPE
    from torch.distributions import MultivariateNormal

    torch.manual_seed(0)
    prior = MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))
    theta = prior.sample((1000,))
    x = theta + 0.5 * torch.randn(1000, 2)
    build = adapted.builder(torch.nn.Linear(2, 2), seed=0, num_threads=1)
    inference = NPE(prior, density_estimator=build, show_progress_bars=False)
    estimator = inference.append_simulations(theta, x).train(max_num_epochs=10)
    drawn = estimator.sample((2000,), torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
    assert drawn.shape == (2000, 2, 2)
    shrink = 4 / (4 + 0.25)
    expected = shrink * torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    assert (drawn.mean(dim=0) - expected).abs().max() < 0.2
    rows, density = estimator.sample_and_log_prob((7,), torch.zeros(3, 2))
    assert (rows.shape, density.shape) == ((7, 3, 2), (7, 3))
