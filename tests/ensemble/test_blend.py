"""Blends of stored scores: exact mean, bounds, greedy selection, and cross-fitting that never sees its own fold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.ensemble import BLEND_METHODS, cross_fitted_blend, fit_blend
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


def test_greedy_weights_are_shares(toy: Toy) -> None:
    blend = fit_blend("greedy", NAMES, toy.F, toy.y, toy.w, TOTALS)
    assert blend.coefficients.sum() == pytest.approx(1.0)
    assert (blend.coefficients >= 0.0).all()
    assert blend.intercept == 0.0


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


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_infinite_scores_do_not_break_fits(toy: Toy, method: str) -> None:
    """Regression: an infinite score times a coefficient of zero, or two of opposite sign, made the blend NaN."""
    F = toy.F.copy()
    F[np.flatnonzero(toy.y)[:3], 0] = np.inf
    F[np.flatnonzero(~toy.y)[:3], 1] = -np.inf
    F[0, :2] = np.inf, -np.inf
    blend = fit_blend(method, NAMES, F, toy.y, toy.w, TOTALS)
    assert np.isfinite(blend.coefficients).all()
    out = blend(F)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[100:], blend(toy.F)[100:] if (F[100:] == toy.F[100:]).all() else out[100:])
    at = int(np.flatnonzero(toy.y)[1])
    if blend.coefficients[0] > 0.0:
        assert out[at] > out[np.isfinite(F).all(axis=1)].max()


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
