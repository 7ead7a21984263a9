"""Cell resampling of negative weights: exact sums, no bias in any region of made-up events, determinism."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from higgsbench.validation import resampled
from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEGATIVE = 0.2


def events(seed: int, n: int = 1500) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64]]:
    """Signal at (1, 1) over a flat background in a square of side 4, a fifth of the weights negative, as at NLO."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.5
    X = np.where(y[:, None], rng.normal(1.0, 0.5, (n, 2)), rng.uniform(-2.0, 2.0, (n, 2)))
    size = rng.lognormal(0.0, 0.3, n)
    return X, y, np.where(rng.random(n) < NEGATIVE, -size, size)


def test_sums_are_kept_and_nothing_is_negative() -> None:
    X, y, w = events(1)
    X = np.column_stack([X, np.where(np.arange(w.size) % 3 == 0, np.nan, 1.0)])
    X[5:15] = X[5]  # several events at one point
    process = np.arange(w.size) % 4
    before = w.copy()
    for known in (None, process):
        out = resampled(X, y, w, known)
        assert (out >= 0.0).all()
        assert np.array_equal(w, before)
        assert np.array_equal(out, resampled(X, y, w, known))
        np.testing.assert_allclose(np.bincount(y, out), np.bincount(y, w), rtol=1e-12)
        if known is not None:
            own = 2 * known + y
            np.testing.assert_allclose(np.bincount(own, out), np.bincount(own, w), rtol=1e-12)


def test_a_process_of_negative_sum_shares_with_its_class() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(60, 1)), np.arange(60) < 30
    w, process = np.ones(60), np.arange(60) % 3
    w[process == 2] = -0.4
    out = resampled(X, y, w, process)
    assert (out >= 0.0).all()
    assert [out[y].sum(), out[~y].sum()] == pytest.approx([16.0, 16.0])
    large = resampled(X, y, np.where(np.arange(60) % 30 == 0, -28.9, 1.0))
    assert (large > 0.0).all()
    assert large.sum() == pytest.approx(0.2)


def test_sums_per_region_are_unbiased() -> None:
    toys, n = 120, 1500
    edges = np.linspace(-2.0, 2.0, 5)
    pulls: dict[str, list[NDArray[Any]]] = {"signed": [], "resampled": []}
    mean = (1.0 - 2.0 * NEGATIVE) * np.exp(0.3**2 / 2)  # of a weight
    for seed in range(toys):
        X, y, w = events(1000 + seed, n)
        after = resampled(X, y, w)
        # The flat background has a known density: a sixteenth of it is in each region.
        expected = (~y).sum() * mean / 16
        for name, weight in (("signed", w), ("resampled", after)):
            found = np.histogram2d(X[~y, 0], X[~y, 1], bins=[edges, edges], weights=weight[~y])[0].ravel()
            pulls[name].append((found - expected) / np.sqrt((~y).sum() / 16 * np.exp(2 * 0.3**2)))
    signed, shared = (np.array(pulls[name]) for name in ("signed", "resampled"))
    error = shared.std(axis=0) / np.sqrt(toys)
    assert np.abs(shared.mean(axis=0) / error).max() < 3.5  # the largest of 16
    assert np.abs((shared - signed).mean(axis=0)).max() < 0.12
    assert np.abs(shared.mean()) < 3.0 * shared.mean(axis=1).std() / np.sqrt(toys)
    assert shared.std() < 1.02 * signed.std()


@pytest.mark.parametrize("cls", [PhysicalClassifier, JetSplitClassifier])
def test_estimators_train_on_resampled_weights(cls: Any) -> None:
    X, y, w = events(4)
    jets, process = np.arange(w.size) % 4, np.arange(w.size) // 4 % 3
    table = np.column_stack([X, jets])
    more = {"group_feature": 2} if cls is JetSplitClassifier else {}
    scores = [
        cls(negative_weights="resample", **more).fit(table, y, w, known).decision_function(table)
        for known in (None, process)
    ]
    assert all(np.isfinite(score).all() and score[y].mean() > score[~y].mean() + 1.0 for score in scores)
    assert not np.array_equal(*scores)
