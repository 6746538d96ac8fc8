"""The optimiser against the papers' algorithms in NumPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pushforward import Adam, Flow, realnvp
from pushforward._dispatch import core

both_precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Reference:
    """Kingma, Ba 2015, algorithm 1, line by line; decay as in Loshchilov, Hutter 2019, algorithm 2, line 12."""

    def __init__(self, size: int, rate: float, betas: tuple[float, float], eps: float, decay: float) -> None:
        self.rate, self.betas, self.eps, self.decay = rate, betas, eps, decay
        self.t, self.m, self.v = 0, np.zeros(size), np.zeros(size)

    def step(self, parameters: np.ndarray, grad: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * grad
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * grad**2
        m, v = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        return parameters - self.rate * m / (np.sqrt(v) + self.eps) - self.rate * self.decay * parameters


SETTINGS = [
    (1e-3, (0.9, 0.999), 1e-8, 0.0),
    (0.1, (0.5, 0.9), 1e-3, 0.3),
    (1.0, (0.0, 0.0), 1e-8, 0.0),
    (3e-4, (0.99, 0.9999), 1e-12, 10.0),
]


@both_precisions
@pytest.mark.parametrize(("rate", "betas", "eps", "decay"), SETTINGS)
@pytest.mark.parametrize("size", [1, 16, 17, 9000])  # a lane block, one more, more than a piece
def test_steps_are_the_papers(dtype: str, rate: float, betas: tuple, eps: float, decay: float, size: int) -> None:
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=size).astype(dtype)
    adam, reference = Adam(rate, betas, eps, decay), Reference(size, rate, betas, eps, decay)
    want = parameters.astype(np.float64)
    for _ in range(5):
        grad = (rng.normal(size=size) * 10.0 ** rng.integers(-4, 4, size)).astype(dtype)
        before, given = parameters.copy(), grad.copy()
        stepped, want = adam.step(parameters, grad), reference.step(want, grad.astype(np.float64))
        assert (parameters == before).all()
        assert (grad == given).all()
        assert stepped.dtype == dtype
        tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(stepped, want, rtol=tolerance, atol=tolerance * rate)
        parameters = stepped
    assert adam.steps == 5


@both_precisions
@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 1e9, np.inf])
def test_clipping_shortens_to_a_length(dtype: str, clip_norm: float) -> None:
    """A gradient that is too long acts as the same one at the length allowed; the length before is returned."""
    grad = np.random.default_rng(0).normal(size=1000).astype(dtype)
    length = np.linalg.norm(grad.astype(np.float64))
    clipped, scaled = Adam(eps=1e-2), Adam(eps=1e-2)
    parameters = np.zeros(1000, dtype)
    norm = clipped.update(parameters, grad, 0.1, clip_norm, 1)
    assert norm == pytest.approx(length, rel=1e-12)
    want = np.zeros(1000, dtype)
    scaled.update(want, (grad * min(1.0, clip_norm / length)).astype(dtype), 0.1, np.inf, 1)
    np.testing.assert_allclose(parameters, want, rtol=1e-5)
    np.testing.assert_allclose(clipped.mean, scaled.mean, rtol=1e-5)


@both_precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(dtype: str, bad: float) -> None:
    adam, parameters, grad = Adam(weight_decay=0.1), np.ones(50, dtype), np.ones(50, dtype)
    parameters = adam.step(parameters, grad)
    state = adam.steps, adam.mean.copy(), adam.square.copy()
    grad[33] = bad
    assert (adam.step(parameters, grad) == parameters).all()
    assert adam.steps == state[0]
    np.testing.assert_array_equal(adam.mean, state[1])
    np.testing.assert_array_equal(adam.square, state[2])


def test_decay_does_not_pass_through_the_moments() -> None:
    """Decoupled: without a gradient a parameter shrinks by learning_rate * weight_decay of itself."""
    parameters = Adam(0.1, weight_decay=0.5).step(np.array([2.0, -4.0]), np.zeros(2))
    np.testing.assert_allclose(parameters, [1.9, -3.8], rtol=1e-15)


@both_precisions
@pytest.mark.parametrize("runs", [[], [(0, 1)], [(3, 40), (40, 41), (100, 20_000)], [(0, 30_000)], [(8191, 8193)]])
def test_decay_of_some(dtype: str, runs: list[tuple[int, int]]) -> None:
    """Parameters in the runs go as with decay, the others as without, to the last bit and for any threads."""
    rng = np.random.default_rng(0)
    start, grad = rng.normal(size=30_000).astype(dtype), rng.normal(size=30_000).astype(dtype)
    want = Adam(0.1).step(start, grad)
    inside = np.zeros(30_000, dtype=bool)
    for first, last in runs:
        inside[first:last] = True
    want[inside] = Adam(0.1, weight_decay=0.5).step(start, grad)[inside]
    for threads in (1, 3):
        got = start.copy()
        decayed = np.array(runs, dtype=np.int64).reshape(-1, 2)
        Adam(0.1, weight_decay=0.5).update(got, grad, 0.1, np.inf, threads, decayed)
        assert got.tobytes() == want.tobytes()


@both_precisions
def test_threads_do_not_change_a_bit(dtype: str) -> None:
    rng, results = np.random.default_rng(0), set()
    start, grad = rng.normal(size=30_000).astype(dtype), rng.normal(size=30_000).astype(dtype)
    for threads in (1, 2, 3, 8):
        adam, parameters = Adam(), start.copy()
        norm = adam.update(parameters, grad, 0.1, 1.0, threads)
        results.add((norm, parameters.tobytes(), adam.mean.tobytes(), adam.square.tobytes()))
    assert len(results) == 1


def lying_at(values: np.ndarray, offset: int) -> np.ndarray:
    """A copy whose address is a multiple of 64, plus an offset."""
    memory = np.zeros(values.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    copy = memory[first : first + values.nbytes].view(values.dtype)
    copy[...] = values
    return copy


@both_precisions
@pytest.mark.parametrize("size", [5, 15, 43])
def test_addresses_do_not_change_a_bit(dtype: str, size: int) -> None:
    """NumPy's arrays start anywhere; the same loop must give the same bits in the next process."""
    rng, results = np.random.default_rng(0), set()
    start, grad = np.zeros(size, dtype), rng.integers(0, 6, size).astype(dtype)
    for offset in (0, 16, 32, 48):
        parameters, moments = lying_at(start, offset), [lying_at(start, 48 - offset) for _ in range(2)]
        core.adam_step(parameters, grad, None, *moments, 1, 1e-3, 0.9, 0.999, 1e-8, 0.0, np.inf, None, 1)
        results.add(parameters.tobytes())
    assert len(results) == 1


@both_precisions
def test_a_loop_by_hand_is_a_fit(dtype: str) -> None:
    """Full batches, no validation, no clipping and a constant rate: what is left of `fit` is this loop."""
    x = np.random.default_rng(0).normal(size=(200, 2)) @ [[1.0, 2.0], [0.0, 1.0]] + 7
    layers = realnvp(2, depth=2, hidden=(8,))
    flow, by_hand = (Flow(2, layers=layers, dtype=dtype, seed=0, num_threads=1).initialize(x) for _ in range(2))
    options = {"validation": None, "batch_size": 200, "schedule": "constant", "clip_norm": None, "seed": 0}
    flow.fit(x, epochs=10, optimizer=Adam(0.01, eps=1e-3, weight_decay=0.0), **options)
    adam = Adam(0.01, eps=1e-3)  # small gradients would be little else than rounding, magnified
    losses, average = [], by_hand.parameters.copy()
    for step in range(10):
        loss, grad = by_hand.loss_and_grad(x)
        by_hand.parameters = adam.step(by_hand.parameters, grad)
        average += (by_hand.parameters - average) / min(step + 1, 5)  # five epochs of one step
        losses.append(loss)
    tolerance = {"float32": 1e-3, "float64": 1e-9}[dtype]  # rows are summed in another order
    np.testing.assert_allclose(flow.history["train_loss"], losses, rtol=tolerance)
    np.testing.assert_allclose(flow.parameters, average, rtol=tolerance, atol=tolerance)
    assert losses[-1] < losses[0]


def test_a_fit_takes_the_settings_and_not_the_moments() -> None:
    x = np.random.default_rng(0).normal(size=(100, 2))
    adam, flows = Adam(5e-3, weight_decay=0.1), []
    for _ in range(2):
        flow = Flow(2, layers=realnvp(2, depth=2, hidden=(8,)), seed=0, num_threads=1)
        flows.append(flow.fit(x, epochs=3, optimizer=adam, seed=0).parameters)
    assert flows[0].tobytes() == flows[1].tobytes()
    assert adam.steps == 0
    assert adam.mean is None


def test_it_prints_as_the_code_that_makes_it() -> None:
    adam = Adam(0.5, (0.1, 0.2), 1e-3, 0.25)
    assert repr(adam) == "Adam(learning_rate=0.5, betas=(0.1, 0.2), eps=0.001, weight_decay=0.25)"
    assert repr(eval(repr(adam))) == repr(adam)
