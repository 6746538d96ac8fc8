"""Rows that belong together: groups are held out whole, wherever a fit can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import LU, Ensemble, Flow, TableFlow
from pushforward._fit import held_out, objective
from pushforward._io import rows as table_rows
from pushforward._io.rows import Rows
from pushforward.kde import FlowKDE

N, GROUPS = 120, 12
LABELS = np.random.default_rng(1).permutation(np.repeat([f"chain {i}" for i in range(GROUPS)], N // GROUPS))
X = np.random.default_rng(0).normal(size=(N, 2))


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The training rows and the held-out rows of every fit."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    init = objective.MaximumLikelihood.__init__

    def walked(rows: Rows | None) -> np.ndarray:
        return np.concatenate([window.x[window.index].copy() for window in rows.windows()]) if rows else X[:0]

    def record(self: Any, state: Any, rows: Rows, train: Rows, held: Rows | None, batch_size: int) -> None:
        init(self, state, rows, train, held, batch_size)
        seen.append((walked(train), walked(held)))

    monkeypatch.setattr(objective.MaximumLikelihood, "__init__", record)
    return seen


def groups_of(x: np.ndarray, labels: np.ndarray = LABELS) -> set[str]:
    return {labels[int(np.flatnonzero((np.float32(X) == np.float32(row)).all(axis=1))[0])] for row in x}


def flow(seed: int, options: dict[str, Any]) -> None:
    Flow(2, layers=[LU()], seed=0).fit(X, groups=LABELS, epochs=1, seed=seed, **options)


def ensemble(seed: int, options: dict[str, Any]) -> None:
    Ensemble.of(2, members=2, layers=[LU()], seed=0).fit(X, groups=LABELS, epochs=1, seed=seed, **options)


def ensemble_with_weights(seed: int, options: dict[str, Any]) -> None:
    members = [Flow(2, layers=[LU()], seed=0), Flow(2, layers=[], seed=0)]
    Ensemble(members).fit(X, groups=LABELS, epochs=1, seed=seed, **options)


def kde(seed: int, options: dict[str, Any]) -> None:
    FlowKDE(X.T, flow=Flow(2, layers=[LU()]), groups=LABELS, epochs=1, seed=seed, **options)


def estimator(seed: int, options: dict[str, Any]) -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    model = sklearn.FlowDensity(layers=[LU()], epochs=1, random_state=seed, **options)
    model.fit(X, groups=LABELS)


@pytest.mark.parametrize("fit", [flow, ensemble, ensemble_with_weights, kde, estimator])
def test_groups_are_held_out_whole(
    splits: list[tuple[np.ndarray, np.ndarray]], fit: Callable[[int, dict[str, Any]], None]
) -> None:
    for seed in range(3):
        fit(seed, {"validation": 0.25})
    assert len(splits) >= 3
    for train, held in splits:
        assert (len(train), len(held)) == (90, 30)
        assert groups_of(train).isdisjoint(groups_of(held))
    assert len({frozenset(groups_of(held)) for _, held in splits}) > 1  # they are drawn at random


def test_the_parts_of_a_table_hold_out_the_same_groups(splits: list[tuple[np.ndarray, np.ndarray]]) -> None:
    weights = np.where(np.arange(N) % 10 == 0, 0.0, 1.0)
    table = {"id": LABELS, "x": X[:, 0]}
    TableFlow().fit(table, weights=weights, groups=LABELS, validation=0.25, epochs=1, seed=0)
    there = weights > 0
    names, labels_in_order = np.unique(LABELS), LABELS[there][X[there, 0].argsort()]
    codes, points = splits
    of_codes = [set(names[part[:, 0].astype(int)]) for part in codes]
    # A flow has normal scores of the numbers, which are in the same order.
    order = np.concatenate(points)[:, 0].argsort().argsort()
    of_points = [set(labels_in_order[part]) for part in np.split(order, [len(points[0])])]
    assert of_codes == of_points
    train, held = of_codes
    assert len(held) == 3
    assert train == set(names) - held


def test_groups_of_a_table_need_a_fraction_of_its_rows() -> None:
    table = {"x": X[:, 0]}
    for validation in (0, None, {"x": X[:10, 0]}):
        with pytest.raises(ValueError, match="validation must then be a fraction above 0"):
            TableFlow().fit(table, groups=LABELS, validation=validation)
    with pytest.raises(ValueError, match=r"groups has shape \(5,\); with 120 rows"):
        TableFlow().fit(table, groups=LABELS[:5])


def test_members_that_learn_weights_hold_out_the_same_groups(splits: list[tuple[np.ndarray, np.ndarray]]) -> None:
    ensemble_with_weights(0, {})
    (_, first), (_, second) = splits
    assert groups_of(first) == groups_of(second)


@pytest.mark.parametrize("weighted", [False, True])
def test_groups_in_a_table_that_is_walked_in_blocks(
    splits: list[tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch, weighted: bool
) -> None:
    """The same rows are held out as of a small table, though blocks hold rows of both sides."""
    weights = np.random.default_rng(2).integers(0, 3, N).astype(float) if weighted else None
    for most, block in ((1 << 21, 1024), (50, 7)):
        monkeypatch.setattr(table_rows, "_MOST_SHUFFLED_ROWS", most)
        monkeypatch.setattr(table_rows, "_BLOCK_ROWS", block)
        flow(3, {"weights": weights})
    (train, held), (train_in_blocks, held_in_blocks) = splits
    np.testing.assert_array_equal(train_in_blocks, train)
    np.testing.assert_array_equal(held_in_blocks, held)


def test_sizes_of_groups_come_nearest_to_the_fraction() -> None:
    groups = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 30, 40))
    for seed in range(20):
        chosen = held_out.chosen_rows(len(groups), 0.3, np.random.default_rng(seed), groups)
        assert abs(chosen.sum() - 0.3 * len(groups)) <= 15  # half of the largest group
    for fraction in (0.001, 0.999):  # at least one group on either side
        chosen = held_out.chosen_rows(len(groups), fraction, np.random.default_rng(0), groups)
        assert 0 < chosen.sum() < len(groups)


def test_rows_without_weight_do_not_count_in_a_group(splits: list[tuple[np.ndarray, np.ndarray]]) -> None:
    weights = np.where(np.isin(LABELS, ["chain 0", "chain 1"]), 1.0, 0.0)
    for seed in range(4):
        flow(seed, {"weights": weights, "validation": 0.1})
    for train, held in splits:
        assert len(train) == len(held) == 10
        assert groups_of(train) | groups_of(held) == {"chain 0", "chain 1"}
    weights[LABELS == "chain 1"] = 0
    with pytest.raises(ValueError, match="all rows are of one group"):
        flow(0, {"weights": weights})


def test_labels_may_be_of_any_type() -> None:
    pd = pytest.importorskip("pandas")
    numbers = np.unique(LABELS, return_inverse=True)[1]
    kinds = [LABELS, list(LABELS), pd.Series(LABELS), pd.Categorical(LABELS), LABELS.astype(object)]
    held = []
    for labels in (*kinds, numbers, numbers * 0.5, numbers.astype("M8[D]")):
        fitted = Flow(2, layers=[LU()], seed=0).fit(X, groups=labels, epochs=1, seed=0)
        held.append(fitted.history.initial_loss)
    # Labels of objects are numbered as they come, those of arrays in order.
    assert len(set(held)) <= 2


def test_a_fit_is_not_resumed_with_other_groups(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "seed": 0, "checkpoint": tmp_path / "kept"}
    first = Flow(2, layers=[LU()], seed=0).fit(X, groups=LABELS, **options)
    options["resume"] = options.pop("checkpoint")
    again = Flow(2, layers=[LU()], seed=0).fit(X, groups=LABELS, **options)
    np.testing.assert_array_equal(again.parameters, first.parameters)
    with pytest.raises(ValueError, match="resume= goes on with the same fit on the same rows"):
        Flow(2, layers=[LU()], seed=0).fit(X, groups=np.arange(N), **options)


def test_equal_rows_of_two_groups_stay_two(splits: list[tuple[np.ndarray, np.ndarray]]) -> None:
    sklearn = pytest.importorskip("pushforward.sklearn")
    model = sklearn.FlowDensity(layers=[LU()], epochs=1, validation=0.5, random_state=0)
    model.fit(np.concatenate([X, X]), groups=np.repeat([0, 1], N))
    for rows in splits[0]:
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(X, axis=0))
