"""The laws that a mass over rows of categories obeys."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from pushforward._dispatch import core
from pushforward._model import masses
from pushforward._model.masses import Masses
from pushforward._model.networks import MLP, DenseNetwork, ResNet
from scipy import stats

DTYPES = ("float32", "float64")
SIZES = (0, 1, 2, 7, 64, 65, 300)

# Categories, ordered codes and knots of each column, numbers in the context, and the network.
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, DenseNetwork]] = {
    "one column": ((4,), (0,), (0,), 0, MLP(hidden=(8,))),
    "one category": ((1, 3), (1, 0), (1, 0), 0, MLP(hidden=(8,))),
    "perceptron": ((3, 2, 5), (0, 0, 0), (0, 0, 0), 0, MLP(hidden=(16, 12), activation="silu")),
    "residual": ((2, 3, 2, 4), (0, 3, 0, 0), (0, 3, 0, 0), 0, ResNet(hidden=16, blocks=1)),
    "fewer knots": ((9, 3, 12), (9, 2, 10), (4, 2, 5), 0, ResNet(hidden=16, blocks=1)),
    "context": ((3, 4), (0, 4), (0, 3), 2, MLP(hidden=(16,), activation="tanh")),
}
every_case = pytest.mark.parametrize("name", CASES)
both_precisions = pytest.mark.parametrize("dtype", DTYPES)


def model_of(name: str, dtype: str = "float64") -> Masses:
    categories, ordered, knots, context, conditioner = CASES[name]
    model = Masses(masses.describe(categories, ordered, knots, context=context, dtype=dtype, conditioner=conditioner))
    model.parameters[...] = np.random.default_rng(0).normal(0, 0.7, model.parameters.size)
    return model


def codes_of(model: Masses, size: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, count, size) for count in model.categories], axis=1).astype(np.float64)


def context_of(model: Masses, size: int) -> np.ndarray | None:
    return np.random.default_rng(2).normal(size=(size, model.context)) if model.context else None


def all_rows(model: Masses) -> np.ndarray:
    return np.array(list(itertools.product(*map(range, model.categories))), dtype=np.float64)


@every_case
@both_precisions
def test_masses_add_up_to_one(name: str, dtype: str) -> None:
    model = model_of(name, dtype)
    context = context_of(model, 1)
    total = np.exp(model.log_prob(all_rows(model), None if context is None else context[0])).sum()
    assert abs(total - 1) <= {"float32": 1e-5, "float64": 1e-12}[dtype]


@every_case
def test_gradient_is_that_of_central_differences(name: str) -> None:
    model = model_of(name)
    x, weights = codes_of(model, 70), np.random.default_rng(3).uniform(0, 2, 70)
    context, gradient = context_of(model, 70), np.empty_like(model.parameters)
    loss, norm = model.core.loss_and_grad(x, gradient, context=context, weights=weights)
    assert loss == pytest.approx(-(weights @ model.log_prob(x, context)) / 70, rel=1e-12)
    assert norm == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-12)
    h, expected = 1e-5, np.empty_like(gradient)
    for i in range(len(gradient)):
        kept, ends = model.parameters[i], []
        for step in (-h, h):
            model.parameters[i] = kept + step
            ends.append(-(weights @ model.log_prob(x, context)) / 70)
        model.parameters[i] = kept
        expected[i] = (ends[1] - ends[0]) / (2 * h)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


@every_case
@both_precisions
def test_draws_have_the_masses(name: str, dtype: str) -> None:
    model, n = model_of(name, dtype), 20_000
    context = context_of(model, 1)
    one = None if context is None else context[0]
    rows = model.sample(5, n, one)
    grid = all_rows(model)
    numbers = np.ravel_multi_index(tuple(rows.astype(int).T), model.categories)
    found = np.bincount(numbers, minlength=len(grid))
    expected = n * np.exp(model.log_prob(grid, one))
    common = expected >= 5
    rest = [found[~common].sum()], [expected[~common].sum()]
    observed = np.concatenate([found[common], rest[0]])
    wanted = np.concatenate([expected[common], rest[1]])
    kept = wanted > 0
    wanted = wanted[kept] * observed.sum() / wanted[kept].sum()
    assert stats.chisquare(observed[kept], wanted).pvalue > 1e-4


def test_draws_can_be_kept_to_the_first_codes() -> None:
    model, n = Masses(masses.describe([4])), 20_000
    model.parameters[...] = np.log([0.1, 0.2, 0.3, 0.4])
    found = np.bincount(model.sample(3, n, counts=[3])[:, 0].astype(int), minlength=4)
    assert found[3] == 0
    assert stats.chisquare(found[:3], n * np.array([1, 2, 3]) / 6).pvalue > 1e-4


@every_case
@both_precisions
def test_rows_are_completed_given_what_is_known(name: str, dtype: str) -> None:
    """The masses of completed rows are those of `log_prob`, and drawn codes have them."""
    model, n = model_of(name, dtype), 4000
    context = context_of(model, 1)
    one = None if context is None else context[0]
    full = codes_of(model, 100)
    found, masses = model.complete(5, full, one)
    assert (found == full).all()
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(masses.sum(axis=1), model.log_prob(full, one), atol=tolerance)
    nothing = np.full((n, len(model.categories)), -1.0)
    assert model.complete(5, nothing, one)[0].tobytes() == model.sample(5, n, one).tobytes()
    last = len(model.categories) - 1
    known = np.tile(full[:1], (n, 1))
    known[:, last] = -1
    drawn, masses = model.complete(6, known, one)
    rows = np.tile(full[:1], (model.categories[last], 1))
    rows[:, last] = np.arange(len(rows))
    joint = np.exp(model.log_prob(rows, one))
    expected = n * joint / joint.sum()
    counts = np.bincount(drawn[:, last].astype(int), minlength=len(rows))
    if len(rows) > 1:
        assert stats.chisquare(counts, expected).pvalue > 1e-4
    np.testing.assert_allclose(np.exp(masses[:, last]), (joint / joint.sum())[drawn[:, last].astype(int)], rtol=1e-3)


def test_completed_rows_keep_to_the_first_codes() -> None:
    model, n = Masses(masses.describe([4, 2])), 1000
    model.parameters[...] = np.random.default_rng(0).normal(size=model.parameters.size)
    known = np.stack([np.full(n, -1.0), np.zeros(n)], axis=1)
    found, log_masses = model.complete(3, known, counts=[3, 2])
    assert (found[:, 0] < 3).all()
    kinds, first = np.unique(found[:, 0], return_index=True)
    assert np.exp(log_masses[first, 0]).sum() == pytest.approx(1, abs=1e-5)
    assert len(kinds) == 3
    assert model.complete(3, np.array([[3.0, 0.0]]), counts=[3, 2])[1][0, 0] == -np.inf
    for bad in (4.0, 0.5, np.nan, np.inf, -np.inf):
        with pytest.raises(
            ValueError, match=r"known\[1, 0\] is .*; a code from 0 to 3 is expected, or a finite negative"
        ):
            model.complete(3, np.array([[-1.0, 0.0], [bad, 0.0]]))


@every_case
@both_precisions
def test_a_known_code_without_mass_stays_and_is_never_drawn(name: str, dtype: str) -> None:
    model, n = model_of(name, dtype), 200
    context = context_of(model, n)
    column = next(i for i, count in enumerate(model.categories) if count > 1)
    first = sum(model.categories[:column])
    most = np.finfo(model.dtype).max
    *_, bias = model.named_parameters().values()
    bias[first : first + model.categories[column]] = most
    bias[first] = -most
    known = np.full((n, len(model.categories)), -1.0)
    drawn, log_masses = model.complete(4, known, context)
    assert (drawn[:, column] > 0).all()
    assert np.isfinite(log_masses).all()
    known[:, column] = 0
    completed, log_masses = model.complete(4, known, context)
    assert (completed[:, column] == 0).all()
    assert (log_masses[:, column] == -np.inf).all()
    assert np.isfinite(np.delete(log_masses, column, axis=1)).all()
    assert (model.log_prob(completed, context) == -np.inf).all()


@every_case
@both_precisions
@pytest.mark.parametrize("size", SIZES)
def test_bits_depend_on_neither_threads_nor_neighbours(name: str, dtype: str, size: int) -> None:
    model = model_of(name, dtype)
    x, context = codes_of(model, size), context_of(model, size)
    results = []
    for threads in (1, 2, 3, 8):
        gradient = np.empty_like(model.parameters)
        loss = model.core.loss_and_grad(x, gradient, context=context, normalizer=1.0, threads=threads)
        density = model.core.log_prob(x, context=context, threads=threads)
        rows = model.core.sample(9, size, context=context, threads=threads)
        completed = model.core.complete(9, np.where(x == 0, -1.0, x), context=context, threads=threads)
        arrays = (np.array(loss), gradient, density, rows, *completed)
        results.append(tuple(array.tobytes() for array in arrays))
    assert len(set(results)) == 1
    whole, drawn = model.log_prob(x, context), model.sample(9, size, context)
    for first, last in ((0, size // 3), (size // 3, size)):
        part = None if context is None else context[first:last]
        assert model.log_prob(x[first:last], part).tobytes() == whole[first:last].tobytes()
        assert model.sample(9, last - first, part, first=first).tobytes() == drawn[first:last].tobytes()


def test_rows_can_be_chosen_by_an_index_and_be_strided() -> None:
    model = model_of("residual", "float32")
    x = codes_of(model, 100)
    index = np.array([7, 99, 0, 7])
    np.testing.assert_array_equal(model.log_prob(x, index=index), model.log_prob(x[index]))
    wide = np.zeros((100, 8), np.float32)
    wide[:, ::2] = x
    np.testing.assert_array_equal(model.log_prob(wide[::-1, ::2]), model.log_prob(x)[::-1])


def test_what_is_no_code_has_no_mass_and_no_effect_on_other_rows() -> None:
    model = model_of("perceptron")
    x = codes_of(model, 70)
    expected = model.log_prob(x)
    x[3, 0], x[5, 1], x[8, 2], x[64, 0] = 3, 0.5, -1, np.nan
    found = model.log_prob(x)
    assert (found[[3, 5, 8]] == -np.inf).all()
    assert np.isnan(found[64])
    others = np.delete(np.arange(70), [3, 5, 8, 64])
    np.testing.assert_array_equal(found[others], expected[others])


def test_a_row_of_weight_zero_is_not_there() -> None:
    model = model_of("perceptron")
    x, weights = codes_of(model, 70), np.ones(70)
    weights[[3, 64]] = 0
    gradients = []
    for bad in (x[3], np.nan):
        x[3] = bad
        gradient = np.empty_like(model.parameters)
        loss, _ = model.core.loss_and_grad(x, gradient, weights=weights, normalizer=68.0)
        gradients.append((loss, gradient.tobytes()))
    assert gradients[0] == gradients[1]


def test_large_logits_neither_overflow_nor_lose_the_sum() -> None:
    model = model_of("perceptron", "float32")
    model.parameters[...] *= 300
    density = model.log_prob(all_rows(model))
    assert np.isfinite(density).all()
    assert abs(np.exp(density).sum() - 1) < 1e-4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"categories": []}, "categories"),
        ({"categories": [3, 2, 0]}, "categories"),
        ({"categories": [3, 2, 1 << 40]}, "categories"),
        ({"knots": [0, 0]}, "knots"),
        ({"knots": [1, 0, 0]}, "knots"),
        ({"ordered": [0, 0, 6], "knots": [0, 0, 2]}, "ordered"),
        ({"ordered": [0, 0, 4]}, "ordered"),
        ({"units": [[0, 8, 8], [0, 6]]}, "units"),
        ({"units": [[0, 8, 9], [0, 6, 6]]}, "units"),
        ({"units": "all"}, "units"),
        ({"context": -1}, "context"),
        ({"conditioner": {"kind": "CNN"}}, "conditioner"),
        ({"more": 1}, "unknown 'more'|must have"),
    ],
    ids=str,
)
def test_a_description_is_read_strictly(change: dict[str, object], reason: str) -> None:
    model = {**model_of("perceptron").model, **change}
    with pytest.raises(ValueError, match=reason):
        Masses(masses.check(model))
    with pytest.raises(ValueError, match=f"{reason}|column"):
        core.MassesFloat32(json.dumps(model))


def test_parameters_are_counted_before_they_are_allocated() -> None:
    model = masses.describe([60_000, 60_000], conditioner=MLP(hidden=(60_000,)))
    with pytest.raises(ValueError, match="more parameters than there are"):
        Masses(model, most_parameters=1000)


def test_any_change_of_a_description_is_refused_or_harmless() -> None:
    """Mutations of the JSON text, as a damaged file has them."""
    text = json.dumps(model_of("fewer knots").model)
    rng = np.random.default_rng(0)
    for _ in range(500):
        at = int(rng.integers(len(text)))
        changed = text[:at] + chr(int(rng.integers(32, 127))) + text[at + int(rng.integers(0, 3)) :]
        try:
            model = Masses(masses.check(json.loads(changed)), most_parameters=100_000)
        except (ValueError, TypeError):
            continue
        assert np.isfinite(model.log_prob(np.zeros((2, len(model.categories))), context_of(model, 2))).all()
