"""Flows in PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from cases import NET, Case
from pushforward import Affine, Coupling, Flow, Mixture, StudentT

torch = pytest.importorskip("torch")

from pushforward.torch import FlowModule  # noqa: E402


def made(dtype: str = "float64", base: Any = None) -> Flow:
    case = Case("torch", lambda dim: [Coupling(Affine(), NET)] * 2, 3, 2)
    return Case("torch", case.layers, 3, 2, base or StudentT(4.0, learned=True)).flow(dtype)


def tensors(rows: tuple[int, ...], conditions: tuple[int, ...]) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(*rows, 3, dtype=torch.float64, generator=generator, requires_grad=True),
        torch.randn(*conditions, 2, dtype=torch.float64, generator=generator, requires_grad=True),
    )


@pytest.mark.parametrize("call", ["log_prob", "forward", "inverse"])
@pytest.mark.parametrize(("rows", "conditions"), [((5,), (5,)), ((5,), ()), ((), (4,)), ((3, 1), (4,)), ((), ())])
@pytest.mark.parametrize("base", [StudentT(4.0, learned=True), Mixture(2)])
def test_derivatives_are_those_of_pytorch(call: str, rows: Any, conditions: Any, base: Any) -> None:
    module = FlowModule(made(base=base))

    def function(x: Any, c: Any, weight: Any) -> Any:
        with torch.no_grad():
            module.weight.copy_(weight)
        module._parameters["weight"] = weight
        try:
            return getattr(module, call)(x, c)
        finally:
            module._parameters["weight"] = kept

    kept = module.weight
    weight = module.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (*tensors(rows, conditions), weight), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_those_of_the_flow(dtype: str) -> None:
    flow = made(dtype)
    module, (x, c) = FlowModule(flow), tensors((7,), (7,))
    rows, conditions = x.detach().numpy(), c.detach().numpy()
    np.testing.assert_array_equal(module.log_prob(x, c).detach(), flow.log_prob(rows, conditions))
    for ours, theirs in ((module.forward, flow.forward), (module.inverse, flow.inverse)):
        for a, b in zip(ours(x, c), theirs(rows, conditions), strict=True):
            np.testing.assert_array_equal(a.detach(), b)
    np.testing.assert_array_equal(module.sample((3, 7), c, seed=2).detach(), flow.sample((3, 7), conditions, seed=2))
    assert module.log_prob(x.float(), c.float()).dtype == torch.float32
    torch.manual_seed(3)
    drawn = module.sample(4, c[0])
    torch.manual_seed(3)
    assert torch.equal(drawn, module.sample(4, c[0]))
    assert not torch.equal(drawn, module.sample(4, c[0]))


def test_an_optimiser_trains_the_flow() -> None:
    rows = np.random.default_rng(0).gamma(2.0, size=(300, 2))
    flow = Flow(2, layers=[Coupling(Affine(), NET)] * 2, seed=0).initialize(rows)
    module, x = FlowModule(flow), torch.as_tensor(rows)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    before = flow.loss_and_grad(rows)[0]
    for _ in range(30):
        optimizer.zero_grad()
        loss = -module.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    assert flow.loss_and_grad(rows)[0] < before - 0.03
    np.testing.assert_array_equal(flow.parameters, module.weight.detach())


def test_samples_differentiate_by_the_context() -> None:
    module, (_, c) = FlowModule(made()), tensors((1,), (5,))
    module.sample((20, 5), c, seed=0).pow(2).sum().backward()
    assert c.grad.shape == c.shape
    assert c.grad.abs().min() > 0
    assert module.weight.grad.abs().max() > 0


def test_what_is_frozen_has_no_gradient() -> None:
    module, (x, c) = FlowModule(made()), tensors((5,), (5,))
    module.weight.requires_grad_(False)
    module.log_prob(x, c).sum().backward()
    assert module.weight.grad is None
    assert x.grad.shape == x.shape


def test_copies_have_a_flow_of_their_own() -> None:
    module, (x, c) = FlowModule(made()), tensors((5,), (5,))
    twin = copy.deepcopy(module)
    before = module.log_prob(x, c)
    with torch.no_grad():
        twin.weight.mul_(0.5)
    assert torch.equal(module.log_prob(x, c), before)
    assert not torch.equal(twin.log_prob(x, c), before)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin.log_prob(x, c), before)
    assert twin.to(torch.float32).weight.dtype == torch.float32
    np.testing.assert_allclose(twin.log_prob(x, c).detach(), before.detach(), rtol=1e-5)


def test_a_step_between_the_two_passes_is_refused() -> None:
    module, (x, c) = FlowModule(made()), tensors((5,), (5,))
    loss = module.log_prob(x, c).sum()
    with torch.no_grad():
        module.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="flow must be a Flow, not 3"):
        FlowModule(3)
    with pytest.raises(ValueError, match=r"x has shape \(5, 2\); this flow has dim=3"):
        FlowModule(made()).log_prob(torch.zeros(5, 2), torch.zeros(2))
