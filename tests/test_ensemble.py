"""Ensembles: the density, its samples and gradients, the fit and what it learns."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pushforward.ensemble
import pytest
from ensembles import DTYPES, crescent, drawn, interrupted, members_of, small, three
from pushforward import LU, ActNorm, Adam, Ensemble, Files, Flow, Normal, Positive, Real, neural_spline, realnvp
from pushforward._fit.stacking import learned_weights
from pushforward._fit.together import Clock
from pushforward._model.state import state_of
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logsumexp

# -- what it is ----------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    ensemble = three("float32", context=1)
    assert (ensemble.dim, ensemble.context, len(ensemble), ensemble.dtype) == (2, 1, 3, np.float32)
    assert ensemble.support == (Real(), Real())
    assert three("float64").dtype == np.float64
    np.testing.assert_allclose(ensemble.weights, [0.2, 0.5, 0.3], rtol=1e-15)
    ensemble.weights[0] = 9  # a copy
    np.testing.assert_allclose(ensemble.weights, [0.2, 0.5, 0.3], rtol=1e-15)
    ensemble.weights = None
    assert ensemble.weights.tolist() == [1 / 3] * 3
    ensemble.num_threads = 2
    assert [flow.num_threads for flow in ensemble.flows] == [2, 2, 2]
    ensemble.columns, ensemble.context_columns = ("a", "b"), ("c",)
    assert [flow.columns for flow in ensemble.flows] == [("a", "b")] * 3
    assert ensemble.context_columns == ("c",)
    assert ensemble.num_threads == 2


def test_of_makes_members_of_different_parameters() -> None:
    layers = realnvp(2, depth=1, hidden=(4,))
    ensemble = Ensemble.of(2, 3, layers=layers, dtype="float64", num_threads=1, seed=4)
    assert len(set(members_of(ensemble))) == 3
    assert members_of(ensemble) == members_of(Ensemble.of(2, members=3, layers=layers, dtype="float64", seed=4))
    assert ensemble.num_threads == 1
    assert len(Ensemble.of(3)) == 5


def test_it_prints_as_code() -> None:
    names = {"Ensemble": Ensemble, "Flow": Flow, "LU": LU, "ActNorm": ActNorm, "Normal": Normal}
    alike, different = (
        Ensemble.of(2, 3, layers=[LU()]),
        Ensemble([Flow(1, layers=[ActNorm()]), Flow(1, layers=[])], [1, 3]),
    )
    for ensemble in (alike, different):
        twin = eval(repr(ensemble), names)
        assert repr(twin) == repr(ensemble)
        assert len(twin) == len(ensemble)
        np.testing.assert_array_equal(twin.weights, ensemble.weights)
    assert repr(alike).count("Flow(") == 1
    assert "weights" not in repr(alike)
    assert "weights=[0.25, 0.75]" in repr(different)


@pytest.mark.parametrize(
    ("flows", "weights", "error", "message"),
    [
        ([], None, ValueError, "flows is empty"),
        (Flow(1, layers=[]), None, TypeError, "flows must be a sequence of Flow"),
        ([Flow(1, layers=[]), 3], None, TypeError, "flows must be a sequence of Flow"),
        ([Flow(1, layers=[])] * 2, None, ValueError, "the same object twice"),
        ([Flow(1, layers=[]), Flow(2, layers=[])], None, ValueError, r"the same dim: flows\[0\] has 1, flows\[1\]"),
        ([Flow(1, layers=[]), Flow(1, layers=[], context=2)], None, ValueError, "the same context"),
        ([Flow(1, layers=[]), Flow(1, layers=[], support=Positive())], None, ValueError, "the same support"),
        ([Flow(1, layers=[]), Flow(1, layers=[])], [1], ValueError, r"weights has shape \(1,\)"),
        ([Flow(1, layers=[]), Flow(1, layers=[])], [1, -1], ValueError, "not negative"),
        ([Flow(1, layers=[]), Flow(1, layers=[])], [0, 0], ValueError, "not all zero"),
        ([Flow(1, layers=[]), Flow(1, layers=[])], [1, np.inf], ValueError, "finite"),
        ([Flow(1, layers=[]), Flow(1, layers=[])], "ab", TypeError, "weights"),
    ],
)
def test_members_that_do_not_fit_together(flows: Any, weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ensemble(flows, weights)


def test_members_with_other_columns() -> None:
    a, b, c = (Flow(2, layers=[]) for _ in range(3))
    a.columns, b.columns = ("x", "y"), ("y", "x")
    with pytest.raises(ValueError, match=r"the same columns: flows\[1\] has .'x', 'y'., flows\[2\] has .'y', 'x'."):
        Ensemble([c, a, b])
    assert Ensemble([c, a]).columns == ("x", "y")


# -- the density ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("context", [0, 1])
def test_the_density_is_the_weighted_mean(dtype: str, context: int) -> None:
    ensemble = three(dtype, context)
    x = crescent(300).astype(dtype)
    conditions = np.random.default_rng(1).normal(size=(300, 1)) if context else None
    parts = np.stack([flow.log_prob(x, conditions) for flow in ensemble.flows])
    density = ensemble.log_prob(x, conditions)
    np.testing.assert_allclose(density, logsumexp(parts, axis=0, b=ensemble.weights[:, None]), rtol=0, atol=1e-13)
    # Rows do not depend on each other, nor on the number of threads.
    ensemble.num_threads = 3
    each = None if conditions is None else conditions[77:123]
    assert ensemble.log_prob(x[77:123], each).tobytes() == density[77:123].tobytes()


def test_it_integrates_to_one() -> None:
    ensemble = Ensemble(
        [drawn(small(1, 0), 0), drawn(Flow(1, layers=[ActNorm()], dtype="float64", seed=1), 1)], [0.3, 0.7]
    )
    x, step = np.linspace(-30, 30, 60_001, retstep=True)
    assert abs(np.exp(ensemble.log_prob(x[:, None])).sum() * step - 1) < 1e-5


def test_an_ensemble_of_one_is_its_flow() -> None:
    flow = drawn(small(), 3)
    x = crescent(100)
    for ensemble in (Ensemble([flow]), Ensemble([Flow(2, layers=[]), flow], [0, 2])):
        assert ensemble.log_prob(x).tobytes() == flow.log_prob(x).tobytes()
        for mine, its in zip(ensemble.log_prob_and_grad(x), flow.log_prob_and_grad(x), strict=True):
            assert mine.tobytes() == its.tobytes()
    assert Ensemble([flow]).sample(100, seed=5).tobytes() == flow.sample(100, seed=5).tobytes()


def test_scores_of_files_and_into_memory_of_the_callers(tmp_path: Path) -> None:
    ensemble, x = three(), crescent(1000)
    expected = ensemble.log_prob(x)
    for i, part in enumerate(np.split(x, [300])):
        np.save(tmp_path / f"{i}.npy", part)
    assert ensemble.log_prob(Files(tmp_path / "*.npy")).tobytes() == expected.tobytes()
    out = np.empty((10, 100))
    assert ensemble.log_prob(x.reshape(10, 100, 2), out=out) is out
    assert out.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="shape"):
        ensemble.log_prob(x, out=out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_without_a_density(dtype: str) -> None:
    flows = [
        Flow(2, layers=[ActNorm()], support=[Positive(), Real()], dtype=dtype),
        Flow(2, layers=[LU()], support=[Positive(), Real()], seed=1),
    ]
    ensemble = Ensemble(flows)
    x = np.array([[1, 0], [-1, 0], [np.nan, 0], [np.inf, 0], [2, 1]], dtype)
    density = ensemble.log_prob(x)
    assert np.isfinite(density[[0, 4]]).all()
    assert density[1] == -np.inf
    assert np.isnan(density[[2, 3]]).all()
    again, gradient = ensemble.log_prob_and_grad(x)
    np.testing.assert_array_equal(again, density)
    assert np.isnan(gradient[1:4]).all()
    assert np.isfinite(gradient[[0, 4]]).all()


def test_a_member_without_density_at_a_row_counts_as_zero() -> None:
    """Under a member far away a row's density rounds to 0; its gradient must not count either."""
    near, far = Flow(1, layers=[], dtype="float64"), Flow(1, layers=[], dtype="float64")
    rng = np.random.default_rng(0)
    near.initialize(rng.normal(size=(50, 1)))
    far.initialize(1e-150 * rng.normal(size=(50, 1)))
    x = np.array([[1e8]])
    assert far.log_prob(x)[0] < -1e199
    density, gradient = Ensemble([near, far]).log_prob_and_grad(x)
    assert density[0] == near.log_prob(x)[0] + np.log(0.5)
    np.testing.assert_array_equal(gradient, near.log_prob_and_grad(x)[1])


@pytest.mark.parametrize("context", [0, 1])
def test_gradients_are_those_of_the_density(context: int) -> None:
    ensemble = Ensemble([flow.astype("float64") for flow in three(context=context).flows], [0.2, 0.5, 0.3])
    x, c = crescent(50), (np.ones(1) if context else None)
    density, gradient = ensemble.log_prob_and_grad(x, c)
    assert density.tobytes() == ensemble.log_prob(x, c).tobytes()
    step = 1e-5
    for i in range(2):
        ahead, behind = (ensemble.log_prob(x + sign * step * np.eye(2)[i], c) for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, i], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)
    assert ensemble.log_prob_and_grad(x.astype(np.float32), c)[1].dtype == np.float32


def test_wrong_arguments_of_calls() -> None:
    ensemble, conditional = three(), three(context=1)
    with pytest.raises(ValueError, match="dim=2"):
        ensemble.log_prob(np.ones((3, 3)))
    with pytest.raises(ValueError, match="context=0"):
        ensemble.log_prob(np.ones((3, 2)), np.ones(1))
    with pytest.raises(ValueError, match="pass context="):
        conditional.sample(3)
    with pytest.raises(ValueError, match="at least 0"):
        ensemble.sample(-1)
    with pytest.raises(TypeError, match="integer"):
        ensemble.sample(2.5)


# -- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_follow_the_density(dtype: str) -> None:
    rng = np.random.default_rng(0)
    narrow, wide = (Flow(1, layers=[], dtype=dtype).initialize(m + s * rng.normal(size=(2000, 1)))
                    for m, s in ((-2, 0.5), (3, 2)))  # fmt: skip
    ensemble = Ensemble([narrow, wide], [0.3, 0.7])
    x = ensemble.sample(20_000, seed=0)[:, 0]
    parts = [stats.norm(*(float(v[0]) for v in state_of(flow).standardization)) for flow in (narrow, wide)]
    assert stats.kstest(x, lambda t: 0.3 * parts[0].cdf(t) + 0.7 * parts[1].cdf(t)).pvalue > 1e-3
    # Rows do not share random numbers with the next.
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(len(x))


def test_members_do_not_share_random_numbers() -> None:
    """Two members that are the same flow, as a single one, must not give every row twice."""
    flow = drawn(small(), 0)
    x = Ensemble([flow, copy.deepcopy(flow)]).sample(5000, seed=0)
    assert len(np.unique(x, axis=0)) == 5000


def test_each_row_depends_on_the_seed_and_its_number() -> None:
    ensemble = three()
    x = ensemble.sample(1000, seed=7)
    assert x.shape == (1000, 2)
    for n in (0, 1, 333):
        assert ensemble.sample(n, seed=7).tobytes() == x[:n].tobytes()
    assert ensemble.sample(1000, seed=8).tobytes() != x.tobytes()
    ensemble.num_threads = 3
    assert ensemble.sample(1000, seed=7).tobytes() == x.tobytes()
    assert ensemble.sample(10, seed=np.random.default_rng(7)).tobytes() == x[:10].tobytes()


def test_a_members_share_of_the_samples_is_its_weight() -> None:
    low, high = (Flow(1, layers=[]).initialize(m + np.random.default_rng(0).normal(size=(500, 1))) for m in (-50, 50))
    gone = Flow(1, layers=[]).initialize(1e6 + np.random.default_rng(0).normal(size=(500, 1)))
    x = Ensemble([low, gone, high, gone.astype("float64")], [0.2, 0, 0.8, 0]).sample(10_000, seed=0)
    assert abs((x < 0).mean() - 0.2) < 5 * np.sqrt(0.16 / 10_000)
    assert x.max() < 100


def test_samples_under_conditions() -> None:
    ensemble = three(context=1)
    conditions = np.random.default_rng(0).normal(size=(200, 1))
    x, density = ensemble.sample_and_log_prob(200, conditions, seed=3)
    assert x.tobytes() == ensemble.sample(200, conditions, seed=3).tobytes()
    assert density.tobytes() == ensemble.log_prob(x, conditions).tobytes()
    # A row depends on its own condition alone.
    others = conditions.copy()
    others[100:] += 1
    y = ensemble.sample(200, others, seed=3)
    assert y[:100].tobytes() == x[:100].tobytes()
    assert (y[100:] != x[100:]).any()
    one = ensemble.sample(50, np.array([0.5]), seed=3)
    assert one.tobytes() == ensemble.sample(50, np.full((50, 1), 0.5), seed=3).tobytes()


def test_samples_have_the_type_of_the_data() -> None:
    x = crescent(60).astype(np.float32)
    flows = [Flow(2, layers=[]).initialize(x) for _ in range(2)]
    assert Ensemble(flows).sample(3).dtype == np.float32
    assert Ensemble([*flows, Flow(2, layers=[]).initialize(x.astype(np.float64))]).sample(3).dtype == np.float64


# -- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("spread", [0.1, 1.0, 300.0])
def test_learned_weights_are_the_most_likely(members: int, spread: float) -> None:
    """Against a general optimiser, over the logarithms of the weights."""
    rng = np.random.default_rng(members)
    logs = spread * rng.normal(size=(members, 40)) - 500
    counts = rng.uniform(0.5, 2, 40)

    def loss(logits: np.ndarray) -> float:
        log_w = logits - logsumexp(logits)
        return float(-(counts @ logsumexp(logs + log_w[:, None], axis=0) + log_w.sum()) / (counts.sum() + members))

    best = minimize(loss, np.zeros(members), method="BFGS", options={"gtol": 1e-9})
    weights = learned_weights(logs, counts)
    assert weights.shape == (members,)
    assert abs(weights.sum() - 1) < 1e-14
    assert (weights > 0).all()
    assert loss(np.log(weights)) - best.fun < 1e-5


def test_learned_weights_of_useless_rows() -> None:
    bad = np.array([[-np.inf, np.nan, -1.0], [np.nan, -np.inf, -np.inf]])
    np.testing.assert_allclose(learned_weights(bad[:, :2], np.ones(2)), [0.5, 0.5])
    # Two rows, of which one is explained by the first alone, and the prior's two.
    np.testing.assert_allclose(learned_weights(bad, np.ones(3)), [2 / 3, 1 / 3], atol=1e-4)


def test_fit_weights_finds_the_better_member() -> None:
    x = crescent(600)
    good = small(seed=1).fit(x[:400], epochs=30, seed=0)
    bad = Flow(2, layers=[]).initialize(x[:400] + 3)
    ensemble = Ensemble([bad, good])
    assert ensemble.fit_weights(x[400:]) is ensemble
    assert ensemble.weights[1] > 0.9
    # Copies of a row count as its weight.
    weights = np.random.default_rng(0).integers(0, 4, 200)
    repeated = Ensemble([bad, good]).fit_weights(np.repeat(x[400:], weights, axis=0)).weights
    weighted = Ensemble([bad, good]).fit_weights(x[400:], weights=weights).weights
    few = Ensemble([bad, good]).fit_weights(x[400:403]).weights
    assert 0.5 < few[1] < weighted[1] < repeated[1]
    scaled = Ensemble([bad, good]).fit_weights(x[400:], weights=10.0 * weights).weights
    np.testing.assert_allclose(scaled, weighted, rtol=1e-12)


def test_fit_weights_of_many_rows_and_of_wrong_ones() -> None:
    ensemble = Ensemble([Flow(1, layers=[]), Flow(1, layers=[]).initialize(np.arange(9.0)[:, None])])
    x = np.random.default_rng(0).normal(size=(50_000, 1))
    ensemble.fit_weights(np.sort(x, axis=0))  # a random part of sorted rows, not the first ones
    assert ensemble.weights[0] > 0.95
    for rows, message in (([[np.nan]], "NaN"), (np.ones((3, 2)), "dim=1"), (np.ones((0, 1)), "no rows")):
        with pytest.raises(ValueError, match=message):
            ensemble.fit_weights(rows)
    with pytest.raises(ValueError, match="outside their support"):
        Ensemble([Flow(1, layers=[], support=Positive())]).fit_weights([[-1.0]])


# -- fits ----------------------------------------------------------------------------------------------------------


def test_alike_members_keep_equal_weights_and_beat_a_single_one() -> None:
    x, held = crescent(300), crescent(3000, 1)
    ensemble = Ensemble.of(2, 4, layers=neural_spline(2, depth=2, hidden=16), seed=0).fit(x, epochs=40, seed=0)
    assert ensemble.weights.tolist() == [0.25] * 4
    assert len(set(members_of(ensemble))) == 4
    single = np.mean([flow.log_prob(held).mean() for flow in ensemble.flows])
    assert ensemble.log_prob(held).mean() > single + 0.01


def different() -> Ensemble:
    return Ensemble([small(seed=0), Flow(2, layers=[LU()], seed=1), small(seed=2, dtype="float64")])


def test_different_members_learn_their_weights() -> None:
    x, held = crescent(400), crescent(3000, 1)
    learned = different().fit(x, epochs=40, seed=0)
    equal = different().fit(x, epochs=40, seed=0, learn_weights=False)
    assert learned.weights[1] < 0.2
    assert equal.weights.tolist() == [1 / 3] * 3
    assert learned.log_prob(held).mean() > equal.log_prob(held).mean()


def test_members_are_alike_if_they_were_at_first() -> None:
    """What a first fit makes of them, from their own rows, does not change how later ones treat them."""
    ensemble = Ensemble([small(seed=0), small(seed=1)])
    ensemble.flows[1].__setstate__(small(seed=1, dtype="float64").__getstate__())
    assert ensemble.fit(crescent(100), epochs=2, seed=0).weights.tolist() == [0.5, 0.5]
    assert (Ensemble(ensemble.flows).fit(crescent(100), epochs=2, seed=0).weights != 0.5).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_learned_from_rows_that_no_member_saw(weighted: bool) -> None:
    """The rows whose loss the members' histories have are those that the weights are learned from."""
    x = crescent(400)
    weights = np.random.default_rng(3).integers(0, 4, 400).astype(float) if weighted else None
    seen = []
    original = Ensemble._learn

    def learn(self: Ensemble, held: Any, fitted: Any) -> None:
        index = held.blocks
        w = np.ones(len(index)) if held.weights is None else held.weights[index]
        for flow in self.flows:
            seen.append(flow.history.best_loss + (w @ flow.log_prob(held.x[index])) / w.sum())
        original(self, held, fitted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ensemble, "_learn", learn)
        different().fit(x, weights=weights, epochs=5, seed=0)
    assert len(seen) == 3
    np.testing.assert_allclose(seen, 0, atol=1e-9)


def test_validation_rows_of_the_users_own() -> None:
    x, own = crescent(300), crescent(100, 2)
    ensemble = different().fit(x, validation=own, epochs=20, seed=0)
    again = different()
    for flow, fitted in zip(again.flows, ensemble.flows, strict=True):
        flow.parameters = fitted.parameters
        assert fitted.history["validation_loss"].size == 20
    expected = Ensemble(ensemble.flows).fit_weights(own)
    np.testing.assert_array_equal(ensemble.weights, expected.weights)


def test_learn_weights_needs_held_out_rows() -> None:
    x = crescent(60)
    for validation, rows in ((None, x), (0, x), (0.0, x), (0.1, x[:4])):
        with pytest.raises(ValueError, match="needs rows that are held out"):
            different().fit(rows, validation=validation, learn_weights=True)
    with pytest.raises(TypeError, match="learn_weights must be True, False or None"):
        different().fit(x, learn_weights=1)
    assert different().fit(x, validation=None, epochs=1, seed=0).weights.tolist() == [1 / 3] * 3


def test_a_fit_is_determined_by_its_seed() -> None:
    x = crescent(200)
    fits = [different().fit(x, epochs=3, seed=seed) for seed in (0, 0, np.random.default_rng(0), 1)]
    assert members_of(fits[0]) == members_of(fits[1]) == members_of(fits[2])
    assert fits[0].weights.tobytes() == fits[1].weights.tobytes()
    assert members_of(fits[0]) != members_of(fits[3])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_parallel_fits_are_the_same_to_the_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = crescent(700)

    def fit() -> Ensemble:
        ensemble = different()
        ensemble.num_threads = threads
        ensemble.fit(x, epochs=3, seed=0)
        assert [flow.num_threads for flow in ensemble.flows] == [threads] * 3
        return ensemble

    names = set()
    parallel = different()
    parallel.num_threads = threads
    parallel.fit(x, epochs=3, seed=0, callback=lambda flow, epoch: names.add(threading.current_thread().name))
    assert (threading.main_thread().name in names) == (threads == 1)
    monkeypatch.setattr(pushforward.ensemble, "_MOST_ROWS_AT_ONCE", 0)
    sequential = fit()
    assert members_of(parallel) == members_of(sequential)
    assert parallel.weights.tobytes() == sequential.weights.tobytes()


def test_threads_are_as_before_after_a_fit() -> None:
    ensemble = Ensemble([small(seed=0), small(seed=1, num_threads=1)])
    ensemble.fit(crescent(60), epochs=1, seed=0)
    assert [state_of(flow).threads for flow in ensemble.flows] == [None, 1]


def test_conditions_weights_and_names() -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    c = rng.normal(size=(300, 1))
    x = pandas.DataFrame({"a": c[:, 0] + 0.1 * rng.normal(size=300)})
    context = pandas.DataFrame({"c": c[:, 0]})
    flows = [Flow(1, layers=neural_spline(1, depth=1, hidden=8), context=1, seed=seed) for seed in (0, 1)]
    ensemble = Ensemble(flows).fit(x, context=context, weights=rng.uniform(size=300), epochs=5, seed=0)
    assert (ensemble.columns, ensemble.context_columns) == (("a",), ("c",))
    assert ensemble.log_prob(x, context).shape == (300,)
    with pytest.raises(ValueError, match="columns"):
        ensemble.log_prob(x.rename(columns={"a": "b"}), context)
    with pytest.raises(ValueError, match="columns"):
        ensemble.fit(x.rename(columns={"a": "b"}), context=context)


def test_a_later_fit_goes_on() -> None:
    x = crescent(300)
    ensemble = Ensemble.of(2, 2, layers=neural_spline(2, depth=1, hidden=8), seed=0).fit(x, epochs=20, seed=0)
    first = [flow.history["train_loss"][0] for flow in ensemble.flows]
    ensemble.fit(x, epochs=1, optimizer=Adam(1e-4), seed=1)
    assert all(flow.history["train_loss"][0] < before for flow, before in zip(ensemble.flows, first, strict=True))


def test_the_time_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(10.0, fits=5, workers=2)
    with clock.share() as first, clock.share() as second:
        assert first == second == 10 / 3  # three rounds
    now[0] = 4.0
    with clock.share() as third, clock.share() as fourth:
        assert third == fourth == 3.0  # two rounds in 6 seconds
    now[0] = 20.0
    with clock.share() as late:
        assert late == 1e-3  # one step
    with Clock(None, 2, 1).share() as endless:
        assert endless is None


def test_a_fit_of_little_time() -> None:
    ensemble = different().fit(crescent(300), max_time=0.3, patience=None, seed=0)
    assert [flow.history.stopped for flow in ensemble.flows] == ["max_time"] * 3
    with pytest.raises(ValueError, match="max_time must be in"):
        ensemble.fit(crescent(300), max_time=0)


def test_the_callback() -> None:
    seen: list[tuple[int, int]] = []
    busy = threading.Lock()
    ensemble = different()
    ensemble.num_threads = 3

    def stop(flow: Flow, epoch: Any) -> bool:
        assert busy.acquire(blocking=False)  # one at a time
        seen.append((ensemble.flows.index(flow), epoch.epoch))
        busy.release()
        return epoch.epoch == 2

    ensemble.fit(crescent(300), epochs=5, callback=stop, seed=0)
    assert sorted(seen) == [(m, epoch) for m in range(3) for epoch in (1, 2)]
    assert [flow.history.stopped for flow in ensemble.flows] == ["callback"] * 3


@pytest.mark.parametrize("bar", ["parallel", "sequential"])
def test_the_progress_bar(bar: str, capsys: pytest.CaptureFixture[str]) -> None:
    ensemble = different()
    ensemble.num_threads = 2 if bar == "parallel" else 1
    ensemble.fit(crescent(100), epochs=2, progress=True, seed=0)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert ("member" in shown) == (bar == "parallel")
    ensemble.fit(crescent(100), epochs=2, progress=False, seed=0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": "a"}, TypeError, "no checkpoint=; fit the flows one by one"),
        ({"resume": "a"}, TypeError, "no resume="),
        ({"progress": 1}, TypeError, "progress must be True, False or None"),
        ({"callback": 1}, TypeError, "callback must be callable"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"epoch": 1}, TypeError, "'epoch'"),
        ({"validation": 2.0}, ValueError, "validation must be in"),
        ({"validation": "all"}, TypeError, "validation"),
        ({"weights": [1.0]}, ValueError, "weights has shape"),
        ({"context": np.ones((60, 1))}, ValueError, "context=0"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_wrong_options_change_nothing(
    options: dict[str, Any], error: type[Exception], message: str, threads: int
) -> None:
    ensemble = different()
    ensemble.weights, ensemble.num_threads = [1, 2, 3], threads
    before = members_of(ensemble)
    with pytest.raises(error, match=message):
        ensemble.fit(crescent(60), **options)
    assert members_of(ensemble) == before
    np.testing.assert_allclose(ensemble.weights, np.array([1, 2, 3]) / 6)
    assert [flow.history for flow in ensemble.flows] == [None] * 3


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_have_no_density(threads: int) -> None:
    ensemble = different()
    ensemble.num_threads = threads
    for x, message in ((np.ones((9, 2)), "constant"), (np.full((9, 2), np.nan), "NaN"), (np.ones((9, 3)), "dim=2")):
        with pytest.raises(ValueError, match=message):
            ensemble.fit(x, seed=0)


# -- interrupted fits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("alike", [True, False])
def test_interrupted_one_after_the_other(exception: type[BaseException], alike: bool) -> None:
    ensemble = Ensemble([small(seed=seed) for seed in range(3)], [1, 2, 1]) if alike else different()
    assert interrupted(ensemble, 1, 1, exception) == [4, 2, 0]
    assert [None if f.history is None else f.history.stopped for f in ensemble.flows] == ["epochs", "interrupted", None]
    # The last member was never fitted. The others keep the ratio of their weights, or learn them.
    assert ensemble.weights[2] == 0
    assert (ensemble.weights[:2] > 0).all()
    assert abs(ensemble.weights.sum() - 1) < 1e-15
    if alike:
        np.testing.assert_allclose(ensemble.weights, [1 / 3, 2 / 3, 0])
    density = ensemble.log_prob(crescent(50, 1))
    assert np.isfinite(density).all()
    # Another fit fits it too.
    ensemble.fit(crescent(300), epochs=2, seed=0)
    assert ensemble.weights[2] > 0
    if alike:
        np.testing.assert_allclose(ensemble.weights, [0.25, 0.5, 0.25])


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_interrupted_in_parallel(exception: type[BaseException]) -> None:
    ensemble = Ensemble([small(seed=seed) for seed in range(6)])
    epochs = interrupted(ensemble, 2, 1, exception, epochs=20_000)
    assert epochs[1] == 2
    assert epochs[0] < 20_000
    assert epochs[2:] == [0] * 4  # nothing begins afterwards
    fitted = [count > 0 for count in epochs]
    np.testing.assert_allclose(ensemble.weights, np.array(fitted) / sum(fitted))
    assert [flow.num_threads for flow in ensemble.flows] == [2] * 6


def test_ctrl_c_in_parallel() -> None:
    """The signal reaches the main thread, which waits; the fits run in others."""
    import _thread

    ensemble = Ensemble([small(seed=seed) for seed in range(4)])
    ensemble.num_threads = 2
    x = crescent(300)

    def press(flow: Flow, epoch: Any) -> None:
        if epoch.epoch == 3:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(x, epochs=20_000, patience=None, callback=press, seed=0)
    epochs = [0 if flow.history is None else len(flow.history) for flow in ensemble.flows]
    assert max(epochs) >= 3
    assert epochs[2:] == [0, 0]
    assert (ensemble.weights[2:] == 0).all()
    assert np.isfinite(ensemble.log_prob(x)).all()
    assert {flow.history.stopped for flow in ensemble.flows if flow.history} == {"interrupted"}


def test_interrupted_before_any_epoch() -> None:
    ensemble = Ensemble([small(seed=0), small(seed=1)], [1, 3])

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flow, "fit", fail)
        with pytest.raises(KeyboardInterrupt):
            ensemble.fit(crescent(60), seed=0)
    assert ensemble.weights.tolist() == [0.25, 0.75]


def test_members_that_were_fitted_before_stay() -> None:
    ensemble = Ensemble([small(seed=seed) for seed in range(3)])
    ensemble.fit(crescent(300), epochs=1, seed=0)
    interrupted(ensemble, 1, 0, RuntimeError)
    assert ensemble.weights.tolist() == [1 / 3] * 3


# -- plots ---------------------------------------------------------------------------------------------------------


def test_plots() -> None:
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib.pyplot import close
    from pushforward import plot

    ensemble, x = three(), crescent(100)
    assert len(plot.corner(ensemble, x, n=500, seed=0).axes) == 3
    assert plot.density(ensemble, x, points=30, n=500, seed=0).axes
    ensemble.columns = ("speed", "mass")
    assert plot.density(ensemble, points=30, n=500, seed=0).axes[0].get_xlabel() == "speed"
    with pytest.raises(TypeError, match="flow must be a Flow, not Ensemble"):
        plot.calibration(ensemble, x)
    with pytest.raises(TypeError, match="flow must be a Flow or an Ensemble, not list"):
        plot.corner([])
    close("all")
