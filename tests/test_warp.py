"""The map of a number's line to normal scores: increasing, inverted, with the right slope, and with its ends."""

from __future__ import annotations

import numpy as np
import pytest
from pushforward._model.special import normal_cdf
from pushforward._tables.summary import Summary
from pushforward._tables.warp import Warp

RNG = np.random.default_rng(0)
LINES = {
    "normal": RNG.normal(3, 2, 500),
    "clusters": np.concatenate([RNG.normal(0, 1, 300), RNG.normal(1e6, 5, 200)]),
    "few": RNG.normal(size=20),
    "ties": np.repeat(RNG.normal(size=12), 30),
}
INTERVALS = {"uniform": RNG.uniform(size=500), "piled": RNG.beta(0.2, 0.2, 500), "inside": RNG.uniform(0.4, 0.5, 500)}


def warp_of(name: str) -> Warp:
    warp = Warp.of(LINES[name], None, None) if name in LINES else Warp.of(INTERVALS[name], None, (0.0, 1.0))
    assert warp is not None
    return warp


@pytest.mark.parametrize("name", [*LINES, *INTERVALS])
def test_points_come_back_and_slopes_are_those_of_differences(name: str) -> None:
    warp = warp_of(name)
    # Three points of each bin, away from its edges, where the slope jumps.
    edges = np.array(warp.edges)
    points = (edges[:-1, None] + np.diff(edges)[:, None] * np.array([0.2, 0.5, 0.8])).ravel()
    scores = warp.scores(points)
    assert (np.diff(scores) > 0).all()
    inner = np.abs(scores) < 5  # beyond, shares of an interval have lost digits
    np.testing.assert_allclose(warp.points(scores)[inner], points[inner], atol=1e-9 * np.ptp(edges))
    step = 1e-4 * np.repeat(np.diff(edges), 3)
    slope = (warp.scores(points + step) - warp.scores(points - step)) / (2 * step)
    np.testing.assert_allclose(np.exp(warp.log_slope(points, scores))[inner], slope[inner], rtol=1e-4)


@pytest.mark.parametrize("name", ["normal", "clusters", "few", *INTERVALS])
def test_scores_of_the_rows_are_nearly_normal(name: str) -> None:
    scores = warp_of(name).scores({**LINES, **INTERVALS}[name])
    assert abs(scores.mean()) < 0.1
    assert 0.8 < scores.std() < 1.2


def test_a_wide_gap_has_the_mass_of_one_row() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(0, 1, 300), rng.normal(1e6, 5, 200), [3e6, 3e6 + 1]])
    for ends in (None, (-1e7, 1e7)):
        warp = Warp.of(points, None, ends)
        assert warp is not None
        for low, high in ((1e3, 1e6 - 1e3), (1e6 + 1e3, 3e6 - 1e3)):
            below, above = normal_cdf(warp.scores(np.array([low, high])))
            assert 0 < above - below < 1.1 / len(points)


def test_there_is_no_mass_beyond_the_ends_of_an_interval() -> None:
    warp = warp_of("inside")
    assert warp.has_ends
    assert warp.points(np.array([-50.0, 50.0])).tolist() == [0.0, 1.0]
    line = warp_of("normal")
    assert not line.has_ends
    assert line.points(np.array([-50.0]))[0] < min(LINES["normal"]) - 10


def test_weights_are_numbers_of_rows() -> None:
    points = np.arange(40.0)
    counts = np.where(points < 20, 3, 1)
    weighted = Warp.of(points, counts.astype(float), (0.0, 40.0))
    assert weighted is not None
    # A share of 1/2 lies where half of the weight is below.
    assert weighted.points(np.zeros(1))[0] == pytest.approx(80 / 6, abs=0.5)


def test_what_shows_no_distribution_has_no_warp() -> None:
    assert Warp.of(np.arange(7.0), None, None) is None
    assert Warp.of(np.full(50, 3.0), None, None) is None


@pytest.mark.parametrize(
    ("edges", "shares"),
    [([0, 1], [0.2]), ([1, 0], [0.2, 0.3]), ([0, np.inf], [0.2, 0.3]), ([0, 1], [0.5, 0.5]), ([0, 1], [0, 0.5])],
    ids=["lengths", "order", "infinite", "flat", "one end"],
)
def test_wrong_warps_are_refused(edges: list[float], shares: list[float]) -> None:
    with pytest.raises(ValueError, match=r"edges|shares|share|ends"):
        Warp(edges, shares)


def test_a_summary_is_the_same_after_json() -> None:
    for summary in (Summary(), Summary(1.5, warp_of("few"), warp_of("piled")), Summary(rare=(0.0, 0.25, 0.75))):
        assert Summary.from_json(summary.to_json()) == summary
    for wrong in (None, {}, {"center": 1, "warp": None, "shown": None, "rare": []}):
        with pytest.raises(ValueError, match=r"summary|center"):
            Summary.from_json(wrong)
    with pytest.raises(ValueError, match="add up to 1"):
        Summary.from_json({"center": 0.0, "warp": None, "shown": None, "rare": [0.5, 0.0]})
