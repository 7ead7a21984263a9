"""Recalibration restores log-odds in physical normalisation, per part and out of fold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.ensemble import cross_fitted_recalibration, fit_recalibration
from higgsbench.ensemble.blend import apply_recalibration
from higgsbench.errors import ConfigError

SLOPES = np.array([0.5, 2.0, 1.0])
INTERCEPTS = np.array([3.0, -1.0, -6.0])


class Toy:
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
def toy() -> Toy:
    return Toy()


def test_known_slopes_and_intercepts_come_back(toy: Toy) -> None:
    parameters = fit_recalibration(toy.score, toy.y, toy.w, toy.part)
    np.testing.assert_allclose(parameters[:, 0], SLOPES, rtol=0.05)
    centre = np.array([toy.score[toy.part == p].mean() for p in range(3)])
    np.testing.assert_allclose(parameters[:, 0] * centre + parameters[:, 1], SLOPES * centre + INTERCEPTS, atol=0.1)


def test_scores_come_back_out_of_fold(toy: Toy) -> None:
    out = cross_fitted_recalibration(toy.score, toy.y, toy.w, toy.part, toy.fold)
    assert np.abs(out - toy.truth).max() < 1.0
    assert np.sqrt(np.mean((out - toy.truth) ** 2)) < 0.1


def test_a_fold_never_sees_its_own_labels(toy: Toy) -> None:
    before = cross_fitted_recalibration(toy.score, toy.y, toy.w, toy.part, toy.fold)
    own = toy.fold == 2
    after = cross_fitted_recalibration(toy.score, np.where(own, ~toy.y, toy.y), toy.w, toy.part, toy.fold)
    np.testing.assert_array_equal(after[own], before[own])
    assert not np.array_equal(after[~own], before[~own])


def test_calibrated_scores_stay_as_they_are(toy: Toy) -> None:
    parameters = fit_recalibration(toy.truth, toy.y, toy.w, np.zeros(toy.y.size, dtype=np.int64))
    assert parameters.shape == (1, 2)
    np.testing.assert_allclose(apply_recalibration(toy.truth, np.zeros_like(toy.part), parameters), toy.truth, atol=0.9)


def test_infinite_scores_do_not_break_fits(toy: Toy) -> None:
    score = toy.score.copy()
    score[:4] = np.inf, -np.inf, np.inf, -np.inf
    out = cross_fitted_recalibration(score, toy.y, toy.w, toy.part, toy.fold)
    assert np.isfinite(out).all()
    assert out[0] > out[4:].max()
    assert out[1] < out[4:].min()
    np.testing.assert_allclose(
        out[4:], cross_fitted_recalibration(toy.score, toy.y, toy.w, toy.part, toy.fold)[4:], atol=0.3
    )


def test_an_infinite_score_under_a_slope_of_zero_is_not_nan() -> None:
    """Regression: 0 times infinity."""
    out = apply_recalibration(np.array([np.inf, 1.0]), np.zeros(2, dtype=np.int64), np.array([[0.0, -6.0]]))
    np.testing.assert_array_equal(out, [-6.0, -6.0])


def test_a_part_of_one_class_is_refused(toy: Toy) -> None:
    with pytest.raises(ConfigError, match="one class"):
        fit_recalibration(toy.score, toy.y | (toy.part == 1), toy.w, toy.part)


def test_a_part_that_lies_in_one_fold_is_refused() -> None:
    """Regression: the last part, absent outside its fold, failed as an index."""
    y = np.tile([True, False], 10)
    part = np.array([0] * 18 + [1, 1])
    fold = np.array([0] * 9 + [1] * 9 + [2, 2])
    with pytest.raises(ConfigError, match="one class"):
        cross_fitted_recalibration(np.linspace(-1, 1, 20), y, np.ones(20), part, fold)
