"""Blends and recalibration: exact mean, bounds, known slopes, and cross-fitting that never sees its own fold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.ensemble.blend import (
    BLEND_METHODS,
    apply_recalibration,
    blend_diversity,
    cross_fitted_blend,
    cross_fitted_recalibration,
    fit_blend,
    fit_recalibration,
    score_correlation,
)
from higgsbench.errors import ConfigError
from higgsbench.metrics import evaluation_weights, log_loss, roc_auc
from higgsbench.schema import N_B, N_S

TOTALS = (N_S, N_B)
PRIOR = float(np.log(N_S / N_B))
NAMES = ("a", "b", "c")


class Toy:
    """Three calibrated members that each see their own part of the truth."""

    def __init__(self, n: int = 4000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.y: NDArray[np.bool_] = rng.random(n) < 0.35
        sides = np.where(self.y, 1.0, -1.0)[:, None]
        x = rng.normal(size=(n, 3)) + 0.5 * sides
        self.F: NDArray[np.float64] = x + PRIOR  # the log-odds of each x is 2 * 0.5 * x
        self.w = evaluation_weights(self.y, rng.gamma(3.0, size=n), *TOTALS)
        self.fold: NDArray[np.int64] = rng.integers(0, 4, n)


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


def test_mean_is_the_plain_mean(toy: Toy) -> None:
    blend = fit_blend("mean", NAMES, toy.F, toy.y, toy.w, TOTALS)
    np.testing.assert_allclose(blend(toy.F), toy.F.mean(axis=1), rtol=1e-13)
    np.testing.assert_array_equal(blend.coefficients, np.full(3, 1 / 3))
    out, _ = cross_fitted_blend("mean", NAMES, toy.F, toy.y, toy.w, toy.fold, TOTALS)
    np.testing.assert_allclose(out, toy.F.mean(axis=1), rtol=1e-13)


def test_logistic_finds_the_optimal_weights(toy: Toy) -> None:
    """The members are independent, so that their log-odds add up."""
    for method in ("logistic", "nonnegative"):
        blend = fit_blend(method, NAMES, toy.F, toy.y, toy.w, TOTALS)
        np.testing.assert_allclose(blend.coefficients, 1.0, atol=0.12)
        assert blend.intercept == pytest.approx(0.0, abs=0.12)


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_blends_beat_their_members_and_stay_calibrated(toy: Toy, method: str) -> None:
    out, blends = cross_fitted_blend(method, NAMES, toy.F, toy.y, toy.w, toy.fold, TOTALS)
    assert len(blends) == 4
    assert {b.members for b in blends} == {NAMES}
    best = max(roc_auc(toy.y, toy.F[:, i], toy.w).value for i in range(3))
    assert roc_auc(toy.y, out, toy.w).value > best + 0.03
    if method in ("logistic", "nonnegative"):
        assert log_loss(toy.y, out, toy.w).value < min(log_loss(toy.y, toy.F[:, i], toy.w).value for i in range(3))


def test_nonnegative_never_goes_below_zero(toy: Toy) -> None:
    F = np.column_stack([toy.F[:, 0], 2.0 * PRIOR - toy.F[:, 1], toy.F[:, 2]])  # the second points the wrong way
    free = fit_blend("logistic", NAMES, F, toy.y, toy.w, TOTALS)
    bounded = fit_blend("nonnegative", NAMES, F, toy.y, toy.w, TOTALS)
    assert free.coefficients[1] < -0.5
    assert bounded.coefficients[1] == pytest.approx(0.0, abs=1e-9)
    assert (bounded.coefficients >= 0.0).all()


def test_greedy_finds_the_one_member_among_noise(toy: Toy) -> None:
    noise = np.random.default_rng(1).normal(size=(toy.y.size, 2)) * 2.0 + PRIOR
    F = np.column_stack([noise[:, 0], toy.F[:, 0], noise[:, 1]])
    blend = fit_blend("greedy", NAMES, F, toy.y, toy.w, TOTALS)
    np.testing.assert_array_equal(blend.coefficients, [0.0, 1.0, 0.0])
    shares = fit_blend("greedy", NAMES, toy.F, toy.y, toy.w, TOTALS)
    assert shares.coefficients.sum() == pytest.approx(1.0)
    assert (shares.coefficients >= 0.0).all()
    assert shares.intercept == 0.0


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_a_fold_is_blended_without_its_own_labels_and_weights(toy: Toy, method: str) -> None:
    before, _ = cross_fitted_blend(method, NAMES, toy.F, toy.y, toy.w, toy.fold, TOTALS)
    for k in range(4):
        own = toy.fold == k
        y, w = np.where(own, ~toy.y, toy.y), np.where(own, 3.0 * toy.w[::-1], toy.w)
        after, _ = cross_fitted_blend(method, NAMES, toy.F, y, w, toy.fold, TOTALS)
        np.testing.assert_array_equal(after[own], before[own])
        if method in ("logistic", "nonnegative"):
            assert not np.array_equal(after[~own], before[~own])


@pytest.mark.parametrize("method", ["nonnegative", "greedy", "logistic"])
def test_weights_matter(toy: Toy, method: str) -> None:
    """Half of the events, told apart by their weights, are described by one member, half by the other."""
    n = toy.y.size
    first = np.arange(n) < n // 2
    noise = np.random.default_rng(3).normal(size=n) + PRIOR
    F = np.column_stack([np.where(first, toy.F[:, 0], noise), np.where(first, noise, toy.F[:, 1])])
    coefficients = [
        fit_blend(method, ("a", "b"), F, toy.y, toy.w * np.where(first, *scale), TOTALS).coefficients
        for scale in ((100.0, 1.0), (1.0, 100.0))
    ]
    assert coefficients[0][0] > coefficients[0][1] + 0.3
    assert coefficients[1][1] > coefficients[1][0] + 0.3


def test_a_coefficient_of_zero_silences_infinite_scores() -> None:
    y = np.array([True, False] * 50)
    good = np.where(y, 1.0, -1.0) + np.linspace(-1.5, 1.5, 100)
    useless = np.where(np.arange(100) % 3 == 0, np.inf, -np.inf)
    blend = fit_blend("greedy", ("g", "u"), np.column_stack([good, useless]), y, np.ones(100), (1.0, 1.0))
    np.testing.assert_array_equal(blend.coefficients, [1.0, 0.0])
    np.testing.assert_array_equal(blend(np.column_stack([good, useless])), good)


def test_nearly_identical_members_share_their_weight(toy: Toy) -> None:
    twin = toy.F[:, 0] + 1e-6 * np.random.default_rng(2).normal(size=toy.y.size)
    blend = fit_blend("logistic", ("a", "b"), np.column_stack([toy.F[:, 0], twin]), toy.y, toy.w, TOTALS)
    np.testing.assert_allclose(blend.coefficients, 0.5, atol=0.1)


def test_unknown_method_is_refused(toy: Toy) -> None:
    with pytest.raises(ConfigError, match=r"stack.method: 'median' is not one of mean, nonnegative, greedy, logistic"):
        fit_blend("median", NAMES, toy.F, toy.y, toy.w, TOTALS)


FOUR = ("good", "twin", "other", "noise")


def four(toy: Toy) -> NDArray[np.float64]:
    """Two members, a copy of the first, and noise: (1, n, 4)."""
    twin, noise = np.random.default_rng(5).normal(size=(2, toy.y.size))
    return np.column_stack([toy.F[:, 0], toy.F[:, 0] + 0.01 * twin, toy.F[:, 1], noise + PRIOR])[None]


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_gain_is_the_blend_less_the_blend_without(toy: Toy, method: str) -> None:
    (F,) = four(toy)
    found = blend_diversity(method, FOUR, F[None], toy.y, toy.w, toy.fold[None], TOTALS)
    full, _ = cross_fitted_blend(method, FOUR, F, toy.y, toy.w, toy.fold, TOTALS)
    for i, member in enumerate(found.members):
        names = FOUR[:i] + FOUR[i + 1 :]
        rest, _ = cross_fitted_blend(method, names, np.delete(F, i, axis=1), toy.y, toy.w, toy.fold, TOTALS)
        expected = roc_auc(toy.y, full, toy.w).value - roc_auc(toy.y, rest, toy.w).value
        assert member.auc_gain == pytest.approx(expected, abs=1e-12)
        assert member.auc_gain_se >= 0.0


def test_an_independent_member_helps_and_a_twin_does_not(toy: Toy) -> None:
    found = blend_diversity("nonnegative", FOUR, four(toy), toy.y, toy.w, toy.fold[None], TOTALS)
    good, twin, other, noise = found.members
    assert other.log_loss_gain > 5 * other.log_loss_gain_se > 0
    assert abs(good.log_loss_gain) < 0.05 * other.log_loss_gain
    assert abs(noise.weight) < 0.1 * other.weight
    assert (good.nearest, twin.nearest) == ("twin", "good")
    assert good.nearest_correlation > 0.99


def test_correlation_is_within_the_classes(toy: Toy) -> None:
    """Two scores that share nothing but the truth are not alike."""
    (F,) = four(toy)
    found = score_correlation(F, toy.y, toy.w)
    np.testing.assert_allclose(np.diag(found), 1.0)
    assert abs(found[0, 2]) < 0.08
    assert np.corrcoef(F[:, 0], F[:, 2])[0, 1] > 0.15
    # Both classes count the same, whatever their totals.
    plain = [np.cov(F[part][:, :2].T, aweights=toy.w[part], ddof=0) for part in (toy.y, ~toy.y)]
    together = plain[0] + plain[1]
    assert found[0, 1] == pytest.approx(together[0, 1] / np.sqrt(together[0, 0] * together[1, 1]), rel=1e-9)


def test_repeats_are_averaged(toy: Toy) -> None:
    one = blend_diversity("mean", FOUR, four(toy), toy.y, toy.w, toy.fold[None], TOTALS)
    scores, folds = np.repeat(four(toy), 2, axis=0), np.stack([toy.fold, toy.fold])
    two = blend_diversity("mean", FOUR, scores, toy.y, toy.w, folds, TOTALS)
    assert two.auc == pytest.approx(one.auc)
    assert two.members[2].auc_gain == pytest.approx(one.members[2].auc_gain)
    np.testing.assert_allclose(two.correlation, one.correlation)


SLOPES = np.array([0.5, 2.0, 1.0])
INTERCEPTS = np.array([3.0, -1.0, -6.0])


class Uncalibrated:
    """x ~ N(+-1, 1) has the likelihood ratio 2 x; every part has a signal share, a scale and an offset of its own."""

    def __init__(self, n: int = 15_000) -> None:
        rng = np.random.default_rng(0)
        self.part: NDArray[np.int64] = rng.integers(0, 3, n)
        self.y: NDArray[np.bool_] = rng.random(n) < np.array([0.2, 0.4, 0.6])[self.part]
        self.w = np.where(self.y, 0.002, 1.5) * rng.gamma(5.0, size=n)
        x = rng.normal(size=n) + np.where(self.y, 1.0, -1.0)
        sums = [[self.w[(self.part == p) & (self.y == c)].sum() for c in (True, False)] for p in range(3)]
        self.truth = 2.0 * x + np.log([s / b for s, b in sums])[self.part]
        self.score = (self.truth - INTERCEPTS[self.part]) / SLOPES[self.part]
        self.fold: NDArray[np.int64] = rng.integers(0, 5, n)


@pytest.fixture(scope="module")
def raw() -> Uncalibrated:
    return Uncalibrated()


def test_known_slopes_and_intercepts_come_back(raw: Uncalibrated) -> None:
    parameters = fit_recalibration(raw.score, raw.y, raw.w, raw.part)
    np.testing.assert_allclose(parameters[:, 0], SLOPES, rtol=0.05)
    centre = np.array([raw.score[raw.part == p].mean() for p in range(3)])
    np.testing.assert_allclose(parameters[:, 0] * centre + parameters[:, 1], SLOPES * centre + INTERCEPTS, atol=0.1)


def test_scores_come_back_out_of_fold(raw: Uncalibrated) -> None:
    out = cross_fitted_recalibration(raw.score, raw.y, raw.w, raw.part, raw.fold)[0]
    assert np.abs(out - raw.truth).max() < 1.0
    assert np.sqrt(np.mean((out - raw.truth) ** 2)) < 0.1


def test_recalibration_of_a_fold_never_sees_its_own_labels(raw: Uncalibrated) -> None:
    before = cross_fitted_recalibration(raw.score, raw.y, raw.w, raw.part, raw.fold)[0]
    own = raw.fold == 2
    after = cross_fitted_recalibration(raw.score, np.where(own, ~raw.y, raw.y), raw.w, raw.part, raw.fold)[0]
    np.testing.assert_array_equal(after[own], before[own])
    assert not np.array_equal(after[~own], before[~own])


def test_calibrated_scores_stay_as_they_are(raw: Uncalibrated) -> None:
    parameters = fit_recalibration(raw.truth, raw.y, raw.w, np.zeros(raw.y.size, dtype=np.int64))
    assert parameters.shape == (1, 2)
    np.testing.assert_allclose(apply_recalibration(raw.truth, np.zeros_like(raw.part), parameters), raw.truth, atol=0.9)


def test_infinite_scores_do_not_break_recalibrations(raw: Uncalibrated) -> None:
    score = raw.score.copy()
    score[:4] = np.inf, -np.inf, np.inf, -np.inf
    out = cross_fitted_recalibration(score, raw.y, raw.w, raw.part, raw.fold)[0]
    assert np.isfinite(out).all()
    assert out[0] > out[4:].max()
    assert out[1] < out[4:].min()
    np.testing.assert_allclose(
        out[4:], cross_fitted_recalibration(raw.score, raw.y, raw.w, raw.part, raw.fold)[0][4:], atol=0.3
    )


def test_an_infinite_score_under_a_slope_of_zero_is_not_nan() -> None:
    """Regression: 0 times infinity."""
    out = apply_recalibration(np.array([np.inf, 1.0]), np.zeros(2, dtype=np.int64), np.array([[0.0, -6.0]]))
    np.testing.assert_array_equal(out, [-6.0, -6.0])


def test_a_part_of_one_class_is_refused(raw: Uncalibrated) -> None:
    with pytest.raises(ConfigError, match="one class"):
        fit_recalibration(raw.score, raw.y | (raw.part == 1), raw.w, raw.part)


def test_a_part_that_lies_in_one_fold_is_refused() -> None:
    """Regression: the last part, absent outside its fold, failed as an index."""
    y = np.tile([True, False], 10)
    part = np.array([0] * 18 + [1, 1])
    fold = np.array([0] * 9 + [1] * 9 + [2, 2])
    with pytest.raises(ConfigError, match="one class"):
        cross_fitted_recalibration(np.linspace(-1, 1, 20), y, np.ones(20), part, fold)[0]
