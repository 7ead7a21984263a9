from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from higgsbench.metrics.ams import descending_order


def check(score: NDArray[np.float64]) -> None:
    order, ordered = descending_order(score)
    expected = np.argsort(-score, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(ordered, score[expected])


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(allow_nan=False)))
def test_equals_a_stable_argsort(score: NDArray[np.float64]) -> None:
    check(score)


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 5e-324, 1.0, np.inf]))
)
def test_ties_and_infinities(score: NDArray[np.float64]) -> None:
    check(score)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_that_differ_in_the_last_bits_only(sign: float) -> None:
    rng = np.random.default_rng(0)
    close = 1.0 + rng.integers(0, 50, 5000) * np.finfo(float).eps
    check(sign * np.concatenate([close, rng.normal(size=3000), close[::-1]]))


@pytest.mark.parametrize("n", [1, 2, 3, 127, 128, 129, 100_000])
def test_sizes(n: int) -> None:
    check(np.random.default_rng(n).normal(size=n).round(3))
