"""Evaluation weights: the totals hold in every subset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgsbench.errors import MetricError
from higgsbench.metrics import effective_sample_size, evaluation_weights
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments


@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60),
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60),
    st.floats(1e-3, 1e6),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_class_sums_equal_the_totals(signal: list[float], background: list[float], n_s: float) -> None:
    y = np.array([1] * len(signal) + [0] * len(background))
    w = np.array(signal + background)
    out = evaluation_weights(y, w, n_s, N_B)
    assert out[y == 1].sum() == pytest.approx(n_s, rel=1e-9, abs=0)
    assert out[y == 0].sum() == pytest.approx(N_B, rel=1e-9, abs=0)
    np.testing.assert_allclose(out[y == 1] / out[0], w[y == 1] / w[0], rtol=1e-9)


def test_totals_hold_in_every_fold() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(3000) < 0.34
    w = np.where(y, 0.0015, 1.3) * rng.gamma(1.0, size=3000)
    for fold in fold_assignments(y, rng.integers(0, 3, 3000), 5, 2, 42):
        for k in range(5):
            for part in (fold == k, fold != k):
                out = evaluation_weights(y[part], w[part], N_S, N_B)
                assert out[y[part]].sum() == pytest.approx(N_S, rel=1e-9, abs=0)
                assert out[~y[part]].sum() == pytest.approx(N_B, rel=1e-9, abs=0)


def test_input_is_not_changed() -> None:
    w = np.array([1.0, 2.0])
    evaluation_weights([1, 0], w, 5.0, 7.0)
    np.testing.assert_array_equal(w, [1.0, 2.0])


@pytest.mark.parametrize(
    ("y", "w", "message"),
    [
        ([1, 1], [1, 1], "no background to weigh: 0 background events"),
        ([0, 0], [1, 1], "no signal to weigh: 0 signal events"),
        ([1, 0], [0, 1], "no signal to weigh: 1 signal events with total weight 0"),
        ([1, 0, 0], [1, 1, -2], "no background to weigh"),
        ([1, 0], None, "sample_weight is required"),
    ],
)
def test_a_class_without_weight_is_refused(y: Any, w: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        evaluation_weights(y, w, N_S, N_B)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_evaluation_weights_refuse_bad_totals(bad: float) -> None:
    """Regression: a total that is negative or NaN became weights that are negative or NaN."""
    with pytest.raises(MetricError, match="n_s must be a positive number"):
        evaluation_weights([1, 0], [1, 1], bad, 1.0)
    with pytest.raises(MetricError, match="n_b must be a positive number"):
        evaluation_weights([1, 0], [1, 1], 1.0, bad)


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.full(17, 0.3)) == pytest.approx(17.0)
    assert effective_sample_size([1.0, 0.0, 0.0]) == pytest.approx(1.0)
    assert effective_sample_size([]) == 0.0


@pytest.mark.parametrize("bad", [None, [1.0, np.nan], [1.0, np.inf]])
def test_effective_sample_size_refuses_bad_weights(bad: Any) -> None:
    """Regression: no weights, or NaN, gave 0."""
    with pytest.raises(MetricError):
        effective_sample_size(bad)
