"""What is put before networks and regressions: medians with flags, smooth clipping, scaling by blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from higgsbench.models.parts import BLOCK, BlockwiseScaler, FlaggedMedians, SmoothClip


@pytest.mark.parametrize("part", [SmoothClip(), FlaggedMedians()])
def test_they_pass_scikit_learn_s_checks(part: object) -> None:
    for estimator, check in estimator_checks_generator(part):
        check(estimator)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(st.data())
def test_medians_and_flags_are_those_of_the_library(kind: type, data: st.DataObject) -> None:
    values = st.floats(-1e6, 1e6, width=32) | st.just(np.nan)
    fitted, new = (data.draw(arrays(kind, (n, 3), elements=values)) for n in (9, 4))
    fitted[:, 2] = np.nan
    plain = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True).fit(fitted)
    own = FlaggedMedians().fit(fitted)
    for X in (fitted, new):
        found = own.transform(X)
        np.testing.assert_array_equal(found, plain.transform(X))
        assert found.dtype == kind


@given(arrays(np.float64, (20, 2), elements=st.floats(-1e6, 1e6)), st.floats(0.5, 10.0))
def test_it_stays_within_the_limit_and_in_order(X: np.ndarray, limit: float) -> None:
    out = SmoothClip(limit).fit_transform(X)
    assert (np.abs(out) <= limit * (1 + 1e-12)).all()  # and finite
    for column in range(2):
        order = np.argsort(X[:, column])
        assert (np.diff(out[order, column]) >= -1e-12 * limit).all()


def test_the_middle_is_scaled_and_the_tail_is_bent() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(5.0, 2.0, size=(20_000, 1))
    X[0] = 1e9
    out = SmoothClip(3.0).fit(X).transform(np.array([[5.0], [5.2], [1e9], [-1e9]]))
    assert out[:, 0] == pytest.approx([0.0, 0.1, 3.0, -3.0], abs=0.01)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.9, 1.0])
def test_columns_that_are_mostly_one_value_keep_a_finite_width(share: float) -> None:
    """A flag has no distance between its quartiles."""
    X = (np.arange(1000) >= share * 1000).astype(float)[:, None]
    out = SmoothClip().fit_transform(X)
    assert np.isfinite(out).all()
    assert np.ptp(out) <= 6.0
    assert (np.ptp(out) > 1.0) == (share < 1.0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scaling_by_blocks_is_the_library_s_scaling_in_place(kind: type) -> None:
    X: np.ndarray = (np.random.default_rng(3).normal(40.0, 7.0, size=(2 * BLOCK + 5, 3))).astype(kind)
    X[:, 2] = 4.0
    whole = StandardScaler().fit(X)
    found = BlockwiseScaler().fit(X)
    np.testing.assert_allclose(found.mean_, whole.mean_, rtol=1e-6)
    np.testing.assert_allclose(found.scale_, whole.scale_, rtol=1e-6)
    wanted = whole.transform(X)
    assert found.transform(X) is X
    np.testing.assert_allclose(X, wanted, atol=1e-5)
    # It can be learnt anew.
    a, b = np.random.default_rng(4).normal(size=(2, 500, 2))
    once, twice = BlockwiseScaler().fit(b), BlockwiseScaler().fit(a).fit(b)
    np.testing.assert_array_equal(once.scale_, twice.scale_)
    assert twice.n_samples_seen_ == 500
