"""Folds: every event in one, stratified, the same for all; group numbers; training weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from higgsbench.errors import ConfigError
from higgsbench.validation import (
    PROPORTIONAL,
    TRAINING_WEIGHTS,
    drawn_events,
    fold_assignments,
    folds_by_value,
    group_index,
    training_weights,
)


def toy(n: int = 2000) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return rng.random(n) < 0.34, rng.choice(3, n, p=[0.4, 0.3, 0.3]).astype(np.int64)


def test_same_seed_same_folds_and_repeats_differ() -> None:
    y, strata = toy()
    a = fold_assignments(y, strata, 5, 2, 42)
    np.testing.assert_array_equal(a, fold_assignments(y, strata, 5, 2, 42))
    np.testing.assert_array_equal(a[1], fold_assignments(y, strata, 5, 1, 43)[0])
    assert (a[0] != a[1]).any()


@pytest.mark.parametrize(("n", "folds", "seed"), [(40, 2, 0), (203, 3, 11), (2000, 5, 42)])
def test_folds_are_those_of_scikit_learn(n: int, folds: int, seed: int) -> None:
    y, strata = toy(n)
    strata[n // 2] = 9  # a stratum of one event, which occurs late
    out = fold_assignments(y, strata, folds, 2, seed)
    for repeat in range(2):
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            for fold, (_, held_out) in enumerate(splitter.split(np.zeros(n), 2 * strata + y)):
                assert set(out[repeat, held_out]) == {fold}


def test_folds_depend_on_the_events_and_not_on_their_order() -> None:
    y, strata = toy()
    rng = np.random.default_rng(4)
    ids = np.sort(rng.choice(10**9, y.size, replace=False))
    sorted_ = fold_assignments(y, strata, 5, 2, 42, ids)
    np.testing.assert_array_equal(sorted_, fold_assignments(y, strata, 5, 2, 42))
    rows = rng.permutation(y.size)
    np.testing.assert_array_equal(fold_assignments(y[rows], strata[rows], 5, 2, 42, ids[rows]), sorted_[:, rows])


def test_each_value_of_a_rule_is_a_fold() -> None:
    values, y = np.array([7.0, -1.0, 3.0, 7.0, 3.0, -1.0]), np.array([0, 0, 0, 1, 1, 1], dtype=np.bool_)
    fold, found = folds_by_value(values, y, None, "x")
    assert fold.tolist() == [[2, 0, 1, 2, 1, 0]]
    assert found == (-1, 3, 7)
    assert folds_by_value(values, y, 3, "x")[1] == found


@pytest.mark.parametrize(
    ("values", "k", "message"),
    [
        ([0, 0, 1, 1, np.nan], None, "folds.by: x has no value for 1 of 5 events"),
        ([0, 0, 0.5, 1, 1], None, "x must be a whole number for each event; 0.5 is not"),
        ([0, 0, 1, 1, 1], 3, r"x has 2 different values \(0, 1\); expected 3 \(k\)"),
        ([4, 4, 4, 4, 4], None, r"x has 1 different values \(4\); expected 2 to 100"),
        (np.arange(300), None, r"x has 300 different values \(0, 1, .*, 9, ...\); expected 2 to 100"),
        ([0, 0, 1, 1, 2], 3, "x: no signal events with the value 2; each fold needs both classes"),
        ([0, 0, 2, 1, 1], 3, "x: no background events with the value 2; each fold needs both classes"),
    ],
)
def test_values_that_make_no_folds_are_refused(values: list[float], k: int | None, message: str) -> None:
    y = np.arange(len(values)) % 2 == (0 if values[-1] == 1 else 1)
    with pytest.raises(ConfigError, match=message):
        folds_by_value(np.asarray(values, dtype=np.float64), y, k, "x")


@pytest.mark.parametrize(("signal", "background", "name"), [(4, 50, "signal"), (50, 4, "background")])
def test_too_few_events_are_refused(signal: int, background: int, name: str) -> None:
    y = np.array([True] * signal + [False] * background)
    with pytest.raises(ConfigError, match=f"5 folds need at least 5 {name} events; there are 4"):
        fold_assignments(y, None, 5, 1, 0)


def test_group_index() -> None:
    numbers = np.array([0, 1, 2, 3, 2])
    np.testing.assert_array_equal(group_index(numbers, ((0,), (1,), (2, 3))), [0, 1, 2, 2, 2])
    with pytest.raises(
        ConfigError, match=r"the events have \[2, 3\] .* to no group; .* example \[\[0\], \[1, 2, 3\]\]"
    ):
        group_index(numbers, ((0,), (1,)))


@pytest.mark.parametrize("scheme", TRAINING_WEIGHTS)
@given(st.lists(st.tuples(st.booleans(), st.floats(1e-4, 1e4)), min_size=2, max_size=40))
@settings(max_examples=40, derandomize=True)
def test_training_weights_have_mean_one(scheme: str, events: list[tuple[bool, float]]) -> None:
    y = np.array([True, False, *(label for label, _ in events)])
    w = np.array([1.0, 2.0, *(weight for _, weight in events)])
    before = w.copy()
    out = training_weights(y, w, scheme)
    np.testing.assert_array_equal(w, before)
    assert out.mean() == pytest.approx(1.0)
    if scheme in ("balanced", "sqrt_balanced"):
        assert out[y].sum() == pytest.approx(out[~y].sum())
    ratio = (out / (np.sqrt(w) if scheme == "sqrt_balanced" else np.ones_like(w) if scheme == "none" else w))[y]
    np.testing.assert_allclose(ratio, ratio[0])
    if scheme in PROPORTIONAL:
        np.testing.assert_allclose((out / w)[~y], (out / w)[~y][0])


@pytest.mark.parametrize(
    ("weight", "scheme", "message"),
    [
        ([1.0, 1.0], "even", "training_weights: 'even' is not one of balanced, sqrt_balanced"),
        ([0.0, 1.0], "balanced", "positive sum"),
    ],
)
def test_training_weights_that_cannot_be(weight: list[float], scheme: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_weights(np.array([True, False]), np.array(weight), scheme)


@pytest.mark.parametrize("number", [0, 7, 400, 1999, 5000])
def test_drawn_events_have_the_shares_of_all(number: int) -> None:
    y, strata = toy()
    ids = np.random.default_rng(1).permutation(10**6)[: y.size]
    drawn = drawn_events(number, y, strata, ids, (1, 2))
    assert drawn.size == min(number, y.size)
    assert (np.diff(drawn) > 0).all()
    for stratum in range(6):
        members = 2 * strata + y == stratum
        assert abs(members[drawn].sum() - drawn.size * members.mean()) <= 1.0


def test_drawn_events_are_nested_and_depend_on_the_events_and_the_draw() -> None:
    y, strata = toy()
    ids = np.random.default_rng(1).permutation(10**6)[: y.size]
    order = np.random.default_rng(2).permutation(y.size)
    large = set(ids[drawn_events(700, y, strata, ids, (1, 0))])
    assert set(ids[drawn_events(300, y, strata, ids, (1, 0))]) < large
    assert set(ids[order][drawn_events(700, y[order], strata[order], ids[order], (1, 0))]) == large
    assert 150 < len(set(ids[drawn_events(700, y, strata, ids, (1, 1))]) & large) < 350
