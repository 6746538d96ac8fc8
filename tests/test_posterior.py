"""Posteriors of black-box likelihoods: known evidence and moments, honest errors, limits, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pushforward
import pytest
from pushforward import Circle, FileFormatError, Flow, Interval, Positive, Posterior, sample_posterior
from pushforward._io import files
from scipy import stats

SMALL = {"rows": 300, "n_effective": 450, "evidence_error": 0.1, "num_threads": 1}
"""Options of a quick run."""


def gaussian(x: np.ndarray) -> np.ndarray:
    """Return the log likelihood of one observation at 1 in each feature, with a deviation of 0.5."""
    return stats.norm(1, 0.5).logpdf(x).sum(axis=1)


def quick(log_likelihood: Callable[[np.ndarray], Any] = gaussian, prior: Any = None, **options: Any) -> Posterior:
    prior = stats.norm(0, 2) if prior is None else prior
    defaults: dict[str, Any] = {"dim": 2, "seed": 0, **SMALL}
    return sample_posterior(log_likelihood, prior, **{**defaults, **options})


def assert_evidence(posterior: Posterior, truth: float, sizes: float = 5) -> None:
    assert abs(posterior.log_evidence - truth) < sizes * posterior.log_evidence_error
    assert posterior.problems == ()


# -- against the truth -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_conjugate_gaussian(dim: int) -> None:
    posterior = quick(dim=dim)
    assert_evidence(posterior, dim * stats.norm(0, math.hypot(2, 0.5)).logpdf(1))
    variance = 1 / (1 / 4 + 1 / 0.25)
    error = 5 * math.sqrt(variance / posterior.effective_size)
    assert np.abs(posterior.mean() - variance / 0.25).max() < error
    assert np.abs(posterior.std() - math.sqrt(variance)).max() < error
    assert np.abs(posterior.quantile(0.5) - variance / 0.25).max() < 1.5 * error
    drawn = posterior.sample(200, seed=1)
    assert np.abs(drawn.mean(axis=0) - variance / 0.25).max() < 5 * math.sqrt(variance / 200)


def test_mode_at_a_bound() -> None:
    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return -20 * x.sum(axis=1)

    posterior = quick(log_likelihood, Interval(0, 1))
    assert_evidence(posterior, 2 * math.log((1 - math.exp(-20)) / 20))
    assert ((posterior.x >= 0) & (posterior.x <= 1)).all()


def test_flat_likelihood() -> None:
    posterior = quick(lambda x: np.full(len(x), 3.0), Interval(-1, 1))
    assert posterior.log_evidence == pytest.approx(3.0)
    assert posterior.calls == 900  # the first rows are the posterior's


def test_separate_modes() -> None:
    centers = np.array([[-3.0, -3], [3, -3], [0, 4]])

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce([stats.norm(c, 0.2).logpdf(x).sum(axis=1) for c in centers])

    posterior = quick(log_likelihood, Interval(-6, 6), rows=600)
    assert_evidence(posterior, math.log(3 / 144))
    nearest = np.argmin(((posterior.x[:, None] - centers) ** 2).sum(axis=2), axis=1)
    assert np.abs(np.bincount(nearest, posterior.weights) - 1 / 3).max() < 0.15


def test_circle_and_heavy_tails() -> None:
    """A von Mises likelihood whose mode is across the seam, and a Cauchy prior."""
    observed = stats.norm(2, 1)

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return 4 * np.cos(x[:, 0]) + observed.logpdf(x[:, 1])

    posterior = quick(log_likelihood, [Circle(0, 2 * math.pi), stats.cauchy()])
    grid = np.linspace(-20, 20, 200_001)
    marginal = np.trapezoid(observed.pdf(grid) * stats.cauchy.pdf(grid), grid)
    assert_evidence(posterior, math.log(np.i0(4)) + math.log(marginal))


def test_prior_is_a_flow() -> None:
    flow = Flow(2, layers=[], seed=0)  # a standard normal
    posterior = quick(prior=flow, dim=None)
    assert_evidence(posterior, 2 * stats.norm(0, math.hypot(1, 0.5)).logpdf(1))
    np.testing.assert_allclose(posterior.log_prior, flow.log_prob(posterior.x))


def test_far_from_the_prior() -> None:
    """The posterior is in a tail of which no first row is."""
    posterior = quick(lambda x: stats.norm(6, 0.2).logpdf(x[:, 0]), stats.norm(0, 1), dim=1)
    assert_evidence(posterior, stats.norm(0, math.hypot(1, 0.2)).logpdf(6))


def test_errors_cover_over_seeds() -> None:
    truth = 2 * stats.norm(0, math.hypot(2, 0.5)).logpdf(1)
    found = [quick(seed=seed) for seed in range(12)]
    off = np.array([(one.log_evidence - truth) / one.log_evidence_error for one in found])
    # The mean square of 12 standard normals is above 3 once in 10,000 times, and their mean beyond 1.1 as often.
    assert np.mean(off**2) < 3
    assert abs(off.mean()) < 1.1


def test_rows_without_likelihood() -> None:
    """A likelihood that is 0 in most of the prior."""

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return np.where((np.abs(x) < 0.2).all(axis=1), 0.0, -np.inf)

    assert_evidence(quick(log_likelihood, Interval(-1, 1)), 2 * math.log(0.2))


def test_weights_are_the_posterior_s() -> None:
    posterior = quick()
    np.testing.assert_allclose(posterior.log_likelihood, gaussian(posterior.x))
    np.testing.assert_allclose(posterior.log_prior, stats.norm(0, 2).logpdf(posterior.x).sum(axis=1))
    assert posterior.weights.sum() == pytest.approx(1)
    assert np.log(np.exp(posterior.log_weights).mean()) == pytest.approx(posterior.log_evidence)
    assert len(posterior) == posterior.calls


# -- the same bits -----------------------------------------------------------------------------------------------


def test_same_seed_same_bits_for_any_threads() -> None:
    one, two, other = quick(num_threads=1), quick(num_threads=2), quick(seed=1)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.log_weights, two.log_weights)
    assert one.log_evidence != other.log_evidence


def test_pool_gives_the_same() -> None:
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(quick(pool=pool).log_weights, quick().log_weights)


@pytest.mark.parametrize("prior", ["normals", "circle", "flow"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, prior: str) -> None:
    priors: dict[str, Any] = {
        "normals": [stats.norm(0, 2)] * 2,
        "circle": [Circle(-3, 3), Interval(-4, 4)],
        "flow": Flow(2, layers=[], seed=0),
    }
    options: dict[str, Any] = {"prior": priors[prior], "dim": None, "n_effective": 10**9, "max_calls": 2000}
    path = tmp_path / "run"

    def breaks(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        if len(calls) == 4:
            raise OSError("broken")
        return gaussian(x)

    whole = quick(seed=3, **options)
    calls: list[int] = []
    with pytest.raises(OSError, match="broken"):
        quick(breaks, seed=3, checkpoint=path, **options)
    seen: list[Any] = []
    resumed = quick(seed=8, checkpoint=path, resume=path, callback=seen.append, **options)
    for name in ("x", "log_weights", "log_likelihood", "log_prior"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    without_time = [[dataclasses.replace(one, seconds=0.0) for one in run.rounds] for run in (resumed, whole)]
    assert repr(without_time[0]) == repr(without_time[1])  # as NaN is equal to itself
    assert tuple(seen) == resumed.rounds[3:]


def test_a_run_that_ended_goes_on_with_other_conditions(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = quick(checkpoint=path)
    again = quick(lambda x: pytest.fail("called"), resume=path)
    np.testing.assert_array_equal(again.log_weights, first.log_weights)
    assert again.stopped == "finished"
    longer = quick(resume=path, n_effective=2 * int(first.effective_size))
    assert longer.calls > first.calls
    assert longer.rounds[1 : len(first.rounds)] == first.rounds[1:]


def test_only_the_same_run_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    quick(checkpoint=path)
    for options, message in (
        ({"rows": 301}, "rows was 300, now 301"),
        ({"dim": 3}, "dim was 2, now 3"),
        ({"prior": stats.norm(0, 3)}, "this one has another density"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(resume=path, **options)
    with pytest.raises(FileNotFoundError):
        quick(resume=tmp_path / "none")
    flow = Flow(2, layers=[], seed=0)
    flow.save(tmp_path / "flow")
    with pytest.raises(FileFormatError, match="not a checkpoint of sample_posterior"):
        quick(resume=tmp_path / "flow")
    with pytest.raises(FileFormatError):
        Flow.load(path)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "run", tmp_path / "damaged"
    quick(checkpoint=path)
    content, tensors = files.read(path)
    text = json.dumps(content)

    def changed(change: Callable[[Any, Any], object]) -> None:
        copy, arrays = json.loads(text), dict(tensors)
        change(copy["posterior"], arrays)
        files.write(other, copy, arrays)

    changes: list[Callable[[Any, Any], object]] = [
        lambda entry, arrays: entry.pop("settings"),
        lambda entry, arrays: entry["folds"].pop(),
        lambda entry, arrays: entry.update(rounds=[]),
        lambda entry, arrays: entry["rounds"].pop(),
        lambda entry, arrays: entry["rounds"][0].update(beta="one"),
        lambda entry, arrays: entry["rounds"][0].pop("beta"),
        lambda entry, arrays: entry.update(random_state=3),
        lambda entry, arrays: entry.pop("prior"),
        lambda entry, arrays: entry["folds"][0].__setitem__(0, {}),
        lambda entry, arrays: entry["folds"][1].pop(),
        lambda entry, arrays: arrays.pop("folds.0.t"),
        lambda entry, arrays: arrays.update(extra=np.zeros(1)),
        lambda entry, arrays: arrays.update({"folds.1.t": arrays["folds.1.t"] * np.nan}),
        lambda entry, arrays: arrays.update({"folds.1.log_likelihood": arrays["folds.1.log_likelihood"] * np.nan}),
        lambda entry, arrays: arrays.update({"folds.0.proposals.0.factor": np.zeros((2, 2))}),
        lambda entry, arrays: arrays.pop("folds.0.proposals.0.centers"),
    ]
    for change in changes:
        changed(change)
        with pytest.raises(FileFormatError):
            quick(resume=other)


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, 1001, 1303])
def test_calls_are_limited(limit: int) -> None:
    seen = 0

    def counted(x: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += len(x)
        return gaussian(x)

    with pytest.warns(RuntimeWarning):
        posterior = quick(counted, n_effective=100_000, max_calls=limit, dim=3)
    assert seen == posterior.calls == len(posterior) == limit
    assert posterior.stopped == "max_calls"


def test_time_is_limited() -> None:
    with pytest.warns(RuntimeWarning):
        posterior = quick(n_effective=10**9, max_time=1e-9)
    assert (posterior.stopped, posterior.calls) == ("max_time", 900)


def test_callback_ends_it_and_sees_the_rounds() -> None:
    seen: list[Any] = []
    with pytest.warns(RuntimeWarning):
        posterior = quick(n_effective=10**9, callback=lambda one: seen.append(one) or len(seen) == 2)
    assert posterior.stopped == "callback"
    assert posterior.rounds == tuple(seen)
    assert [one.calls for one in seen] == [900, 1200]


def test_ctrl_c_leaves_what_is_there() -> None:
    def interrupted(x: np.ndarray) -> np.ndarray:
        if len(x) == 300 and calls:
            raise KeyboardInterrupt
        calls.append(len(x))
        return gaussian(x)

    calls: list[int] = []
    with pytest.warns(RuntimeWarning):
        posterior = quick(interrupted, n_effective=10**9)
    assert posterior.stopped == "interrupted"
    assert len(posterior) == 900
    with pytest.raises(KeyboardInterrupt):
        quick(lambda x: (_ for _ in ()).throw(KeyboardInterrupt()))


def test_out_of_reach() -> None:
    """Thin spikes in many dimensions: the result says that it is not to be trusted."""
    with pytest.warns(RuntimeWarning, match="before it reached the posterior"):
        posterior = quick(lambda x: -1e8 * (x**2).sum(axis=1), Interval(-1, 1), dim=6, max_calls=1500)
    assert any("inverse temperature" in problem for problem in posterior.problems)
    assert "Problem:" in repr(posterior)


# -- what likelihoods may do -------------------------------------------------------------------------------------


def test_nan_counts_as_no_likelihood() -> None:
    def log_likelihood(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 0, gaussian(x), np.nan)

    with pytest.warns(RuntimeWarning, match="log_likelihood returned NaN at row"):
        posterior = quick(log_likelihood)
    mass = stats.norm(16 / 17, math.sqrt(4 / 17)).sf(0)
    truth = 2 * stats.norm(0, math.hypot(2, 0.5)).logpdf(1) + math.log(mass)
    assert abs(posterior.log_evidence - truth) < 5 * posterior.log_evidence_error


def test_nowhere_any_likelihood() -> None:
    with pytest.raises(ValueError, match=r"-inf at all, or nearly all, of 18000 rows drawn from the prior"):
        quick(lambda x: np.full(len(x), -np.inf))


def test_own_exception_goes_on() -> None:
    def fails(x: np.ndarray) -> np.ndarray:
        raise OSError("no model today")

    with pytest.raises(OSError, match="no model today"):
        quick(fails)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: x, ValueError, r"log_likelihood returned values of shape \(900, 2\)"),
        (lambda x: np.full(len(x), np.inf), ValueError, r"\+inf at row 0 of 900"),
        (lambda x: None, TypeError, "must return an array of real numbers"),
    ],
)
def test_refused_answers(answer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(answer)


# -- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prior": Interval(0, 1), "dim": None}, ValueError, "give dim= too"),
        ({"prior": [Interval(0, 1)] * 3}, ValueError, "the prior has 3 features, but dim=2"),
        ({"prior": Flow(3), "dim": 2}, ValueError, "the prior has 3 features, but dim=2"),
        ({"prior": Flow(2, context=1)}, ValueError, "context=1; a prior has none"),
        ({"prior": []}, ValueError, "prior is empty"),
        ({"prior": Positive()}, ValueError, r"prior\[0\] is Positive\(\), on which no uniform density"),
        ({"prior": [Interval(0, 1), 3]}, TypeError, r"prior\[1\] must be Interval"),
        ({"prior": 3}, TypeError, "prior must be a Flow"),
        ({"prior": stats.norm([0, 1], 1)}, ValueError, r"prior\[0\] must be a distribution of one number"),
        ({"columns": ["a"]}, ValueError, "columns has 1 names, but the prior has 2 features"),
        ({"log_likelihood": 3}, TypeError, "log_likelihood must be a function"),
        ({"rows": 99}, ValueError, "rows must be at least 100"),
        ({"n_effective": 0}, ValueError, "n_effective must be at least 10"),
        ({"evidence_error": 0}, ValueError, "evidence_error must be in"),
        ({"max_calls": 1}, ValueError, "max_calls must be at least 2"),
        ({"max_time": 0}, ValueError, "max_time must be in"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"progress": 1}, TypeError, "progress must be True, False or None"),
        ({"pool": 3}, TypeError, "pool must have a method map"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a path"),
        ({"checkpoint": "/no/such/folder/run"}, FileNotFoundError, "there is no folder"),
        ({"resume": 3}, TypeError, "resume must be a path"),
    ],
)
def test_refused_arguments_before_any_call(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(**{"log_likelihood": lambda x: pytest.fail("called"), **options})


# -- the result --------------------------------------------------------------------------------------------------


def test_prints_and_exports() -> None:
    posterior = quick(columns=["mass", "ratio"], dim=None)
    text = repr(posterior)
    assert "log evidence" in text
    assert "ratio" in text
    assert text.endswith("No problem detected.")
    frame = posterior.to_dataframe()
    assert list(frame) == ["mass", "ratio", "weight", "log_likelihood", "log_prior"]
    assert frame["weight"].sum() == pytest.approx(1)
    assert posterior.quantile([0.1, 0.9]).shape == (2, 2)
    with pytest.raises(ValueError, match="q must be probabilities"):
        posterior.quantile(1.1)


def test_to_arviz() -> None:
    pytest.importorskip("arviz")
    posterior = quick(columns=["mass", "ratio"], dim=None)
    data = posterior.to_arviz(n=100)
    assert data["posterior"].attrs["log_evidence"] == posterior.log_evidence
    assert data["posterior"]["mass"].shape == (1, 100)
    assert data["sample_stats"]["lp"].shape == (1, 100)


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    quick(progress=True)
    assert "posterior" in capsys.readouterr().err


def test_top_level_names() -> None:
    assert pushforward.sample_posterior is sample_posterior
