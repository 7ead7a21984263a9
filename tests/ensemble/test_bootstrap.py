"""The bootstrap's fast sums against slow plain ones, replica by replica."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.ensemble import Truth
from higgsbench.ensemble import evaluate as bootstrap
from higgsbench.metrics import ams, bootstrap_ams
from higgsbench.metrics.estimates import poisson_counts


def test_sums_of_many_replicas_are_histograms() -> None:
    rng = np.random.default_rng(0)
    n, cells, replicas = 700, 40, 9
    cell, weight = rng.integers(0, cells - 3, n), rng.normal(1.0, 1.0, n)
    counts = poisson_counts(rng, (replicas, n))
    fast = bootstrap._moments(cell, weight, cells) @ counts.T.astype(np.float64)
    for index, count in enumerate(counts):
        np.testing.assert_allclose(fast[:cells, index], np.bincount(cell, weight * count, cells), rtol=1e-12)
        np.testing.assert_allclose(fast[cells:, index], np.bincount(cell, weight**2 * count, cells), rtol=1e-12)


def test_replicas_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(900) < 0.3
    truth = truth_of(y)
    scores = (rng.normal(size=900) + 1.5 * y)[None]
    whole = bootstrap.bootstrap_row(scores, truth, 60)
    monkeypatch.setattr(bootstrap, "_REPLICAS_AT_ONCE", 7)
    parts = bootstrap.bootstrap_row(scores, truth, 60)
    np.testing.assert_array_equal(whole.ams_cv, parts.ams_cv)
    np.testing.assert_array_equal(whole.values["auc"], parts.values["auc"])


def test_sums_over_parts_of_the_events_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(900) < 0.3
    truth = truth_of(y)
    scores = (rng.normal(size=900) + 1.5 * y)[None]
    draws = poisson_counts(rng, (5, 900))
    (whole,) = bootstrap._summed(draws, [bootstrap._Repeat(scores, truth, 0, 5, 0)])
    monkeypatch.setattr(bootstrap, "_EVENTS_AT_ONCE", 100)
    (parts,) = bootstrap._summed(draws, [bootstrap._Repeat(scores, truth, 0, 5, 0)])
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert whole.any()


def test_rows_of_one_call_are_those_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(900) < 0.3
    truth = truth_of(y)
    rows = [((rng.normal(size=900) + 1.5 * y)[None], truth) for _ in range(5)]
    monkeypatch.setattr(bootstrap, "_REPEATS_AT_ONCE", 2)
    for (scores, _), found in zip(rows, bootstrap.bootstrap_rows(rows, 60), strict=True):
        np.testing.assert_array_equal(found.ams_cv, bootstrap.bootstrap_row(scores, truth, 60).ams_cv)


def truth_of(y: NDArray[np.bool_]) -> Truth:
    fold = np.arange(y.size)[None] % 3
    return Truth(y, np.where(y, 1.0, 400.0), fold, (300.0, 240_000.0), 10.0, "smooth")


def test_fixed_cuts_equal_a_loop_over_replicas() -> None:
    rng = np.random.default_rng(2)
    n, replicas = 400, 7
    y, weight, keep = rng.random(n) < 0.4, rng.gamma(2.0, size=n), rng.random((n, 3)) < 0.3
    fast = bootstrap_ams(y, keep, weight, replicas, seed=5)
    draws = np.random.default_rng(5)
    counts = np.zeros((replicas, n))
    for members in (y, ~y):
        counts[:, members] = poisson_counts(draws, (replicas, int(members.sum())))
    for index, count in enumerate(counts):
        for column in range(3):
            sums = []
            for members in (y, ~y):
                drawn = weight[members] * count[members]
                sums.append(drawn[keep[members, column]].sum() * weight[members].sum() / drawn.sum())
            np.testing.assert_allclose(fast[index, column], ams(*sums), rtol=1e-12)
