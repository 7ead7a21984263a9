"""The blend taken apart: a member that repeats another gives nothing, an independent one does."""

from __future__ import annotations

import numpy as np
import pytest

from higgsbench.ensemble import BLEND_METHODS, blend_diversity, cross_fitted_blend, score_correlation
from higgsbench.metrics import roc_auc

TOTALS = (100.0, 10_000.0)


class Scores:
    def __init__(self, n: int = 3000) -> None:
        rng = np.random.default_rng(5)
        self.y = rng.random(n) < 0.4
        truth = np.where(self.y, 1.0, -1.0)
        prior = np.log(TOTALS[0] / TOTALS[1])
        good = truth + rng.normal(size=n)
        other = truth + rng.normal(size=n)
        twin = good + 0.01 * rng.normal(size=n)
        noise = rng.normal(size=n)
        self.F = np.column_stack([good, twin, other, noise])[None] + prior
        weight = rng.gamma(3.0, size=n)
        self.w = np.where(self.y, TOTALS[0] / weight[self.y].sum(), TOTALS[1] / weight[~self.y].sum()) * weight
        self.fold = (np.arange(n) % 4)[None].astype(np.int64)


DATA = Scores()
NAMES = ("good", "twin", "other", "noise")


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_gain_is_the_blend_less_the_blend_without(method: str) -> None:
    d = DATA
    found = blend_diversity(method, NAMES, d.F, d.y, d.w, d.fold, TOTALS)
    for i, member in enumerate(found.members):
        kept = [j for j in range(4) if j != i]
        full, _ = cross_fitted_blend(method, NAMES, d.F[0], d.y, d.w, d.fold[0], TOTALS)
        rest, _ = cross_fitted_blend(
            method, tuple(NAMES[j] for j in kept), d.F[0][:, kept], d.y, d.w, d.fold[0], TOTALS
        )
        expected = roc_auc(d.y, full, d.w).value - roc_auc(d.y, rest, d.w).value
        assert member.auc_gain == pytest.approx(expected, abs=1e-12)
        assert member.auc_gain_se >= 0.0


def test_an_independent_member_helps_and_a_twin_does_not() -> None:
    d = DATA
    good, twin, other, noise = blend_diversity("nonnegative", NAMES, d.F, d.y, d.w, d.fold, TOTALS).members
    assert other.log_loss_gain > 5 * other.log_loss_gain_se > 0
    assert abs(good.log_loss_gain) < 0.05 * other.log_loss_gain
    assert abs(noise.weight) < 0.1 * other.weight
    assert (good.nearest, twin.nearest) == ("twin", "good")
    assert good.nearest_correlation > 0.99


def test_correlation_is_within_the_classes() -> None:
    """Two scores that share nothing but the truth are not alike."""
    d = DATA
    found = score_correlation(d.F[0], d.y, d.w)
    np.testing.assert_allclose(np.diag(found), 1.0)
    assert abs(found[0, 2]) < 0.08
    assert np.corrcoef(d.F[0][:, 0], d.F[0][:, 2])[0, 1] > 0.3
    plain = []
    for part in (d.y, ~d.y):
        c = np.cov(d.F[0][part][:, :2].T, aweights=d.w[part], ddof=0)
        plain.append(c)
    together = plain[0] + plain[1]
    assert found[0, 1] == pytest.approx(together[0, 1] / np.sqrt(together[0, 0] * together[1, 1]), rel=1e-9)


def test_repeats_are_averaged() -> None:
    d = DATA
    twice = np.concatenate([d.F, d.F])
    one = blend_diversity("mean", NAMES, d.F, d.y, d.w, d.fold, TOTALS)
    two = blend_diversity("mean", NAMES, twice, d.y, d.w, np.concatenate([d.fold, d.fold]), TOTALS)
    assert two.auc == pytest.approx(one.auc)
    assert two.members[2].auc_gain == pytest.approx(one.members[2].auc_gain)
    np.testing.assert_allclose(two.correlation, one.correlation)
