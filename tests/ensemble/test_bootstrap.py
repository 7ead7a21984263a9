"""The bootstrap's fast sums against slow plain ones, replica by replica."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.ensemble import Truth
from higgsbench.ensemble import evaluate as bootstrap
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
    whole = bootstrap.bootstrap_rows([(scores, truth)], 60)[0]
    monkeypatch.setattr(bootstrap, "_REPLICAS_AT_ONCE", 7)
    parts = bootstrap.bootstrap_rows([(scores, truth)], 60)[0]
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


def test_rows_of_one_call_are_those_of_several() -> None:
    rng = np.random.default_rng(1)
    y = rng.random(900) < 0.3
    truth = truth_of(y)
    rows = [((rng.normal(size=900) + 1.5 * y)[None], truth) for _ in range(5)]
    for (scores, _), found in zip(rows, bootstrap.bootstrap_rows(rows, 60), strict=True):
        np.testing.assert_array_equal(found.ams_cv, bootstrap.bootstrap_rows([(scores, truth)], 60)[0].ams_cv)


def truth_of(y: NDArray[np.bool_]) -> Truth:
    fold = np.arange(y.size)[None] % 3
    return Truth(y, np.where(y, 1.0, 400.0), fold, (300.0, 240_000.0), 10.0, "smooth")
