"""The scan of cuts against a loop over distinct scores, and its invariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as hypothesis_arrays
from numpy.typing import NDArray

from higgsbench.errors import MetricError
from higgsbench.metrics import ams, ams_estimate, ams_scan
from higgsbench.metrics.ams import descending_order

INF = float("inf")
EVENTS = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.sampled_from([-INF, -1.0, -0.0, 0.0, 1.0, INF]), st.floats(-1e6, 1e6)),
        st.floats(1e-3, 1e3),
    ),
    min_size=1,
    max_size=40,
)
SOME = settings(max_examples=80, deadline=None, derandomize=True)


def arrays(events: list[tuple[bool, float, float]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    y, score, w = zip(*events, strict=True)
    return np.array(y), np.array(score), np.array(w)


def brute_force(y: NDArray[Any], score: NDArray[Any], w: NDArray[Any]) -> list[tuple[float, int, float, float]]:
    cuts = []
    for threshold in sorted(set(score.tolist()), reverse=True):
        kept = [i for i in range(len(y)) if score[i] >= threshold]
        s = sum(float(w[i]) for i in kept if y[i])
        b = sum(float(w[i]) for i in kept if not y[i])
        cuts.append((threshold, len(kept), s, b))
    return cuts


@given(EVENTS)
@SOME
def test_equals_brute_force(events: list[tuple[bool, float, float]]) -> None:
    y, score, w = arrays(events)
    curve = ams_scan(y, score, w)
    expected = brute_force(y, score, w)
    assert len(curve) == len(expected)
    np.testing.assert_array_equal(curve.threshold, [c[0] for c in expected])
    np.testing.assert_array_equal(curve.count, [c[1] for c in expected])
    np.testing.assert_allclose(curve.s, [c[2] for c in expected], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(curve.b, [c[3] for c in expected], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(curve.ams, [ams(c[2], c[3]) for c in expected], rtol=1e-9)
    np.testing.assert_allclose(curve.fraction, [c[1] / len(y) for c in expected])


@given(EVENTS, st.randoms(use_true_random=False))
@SOME
def test_order_of_events_does_not_matter(events: list[tuple[bool, float, float]], random: Any) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)
    a, b = ams_scan(*arrays(events)), ams_scan(*arrays(shuffled))
    np.testing.assert_array_equal(a.threshold, b.threshold)
    np.testing.assert_array_equal(a.count, b.count)
    for name in ("s", "b", "ams"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-20, 20), st.floats(1e-3, 1e3)), min_size=1, max_size=40),
    st.sampled_from(["cube", "exp", "shift", "ranks", "negative zero"]),
)
@SOME
def test_increasing_transforms_do_not_matter(events: list[tuple[bool, float, float]], transform: str) -> None:
    y, score, w = arrays(events)
    changes: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "cube": lambda f: f**3,
        "exp": np.exp,
        "shift": lambda f: 3.0 * f - 1e5,
        "ranks": lambda f: np.searchsorted(np.unique(f), f).astype(float),
        "negative zero": lambda f: np.where(f == 0, -0.0, f),
    }
    before, after = (ams_scan(y, f, w) for f in (score.astype(float), changes[transform](score.astype(float))))
    for name in ("count", "s", "b", "ams"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.floats(-5.0, 10.0)), min_size=1, max_size=30),
)
@SOME
def test_negative_weights_leave_gaps(events: list[tuple[bool, float, float]]) -> None:
    """Next-to-leading-order generators give negative weights; where a sum is negative there is no AMS."""
    y, score, w = arrays(events)
    curve = ams_scan(y, score, w)
    for i in range(len(curve)):
        if curve.s[i] < 0.0 or curve.b[i] < 0.0:
            assert np.isnan(curve.ams[i])
            assert curve.se[i] == np.inf
        else:
            assert curve.ams[i] == ams(curve.s[i], curve.b[i])


def test_signed_zeros_are_one_score() -> None:
    curve = ams_scan([1, 0, 1], [0.0, -0.0, -1.0], [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(curve.count, [2, 3])


@pytest.mark.parametrize("one", [True, False])
def test_one_class_only(one: bool) -> None:
    curve = ams_scan(np.full(3, one), [3.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(curve.s + curve.b, [1.0, 6.0])
    assert (curve.s == 0.0).all() or (curve.b == 0.0).all()
    assert np.isfinite(curve.se).all()


def test_scan_of_infinite_scores_does_not_warn() -> None:
    """Regression: the check for NaN summed inf - inf, which warned; so did scores near the largest float."""
    np.testing.assert_array_equal(ams_scan([1, 0], [INF, -INF], [1, 1]).threshold, [INF, -INF])
    np.testing.assert_array_equal(ams_scan([1, 0], [1.5e308, 1e308], [1, 1]).threshold, [1.5e308, 1e308])


@pytest.mark.parametrize(
    ("y", "score", "w", "message"),
    [
        ([1, 0], [1.0, np.nan], [1, 1], "score is NaN at position 1"),
        ([1, 0], [np.nan, np.inf], [1, 1], "score is NaN at position 0"),
        ([1, 2], [1, 0], [1, 1], "only 0 and 1, got .*2.* at position 1"),
        ([1, np.nan], [1, 0], [1, 1], "only 0 and 1"),
        (["s", "b"], [1, 0], [1, 1], "only 0 and 1"),
        ([], [], [], "non-empty"),
        ([[1, 0]], [1, 0], [1, 1], "1-d"),
        ([1, 0], [1, 0, 2], [1, 1], "score must have shape"),
        ([1, 0], [1, 0], None, "sample_weight is required"),
        ([1, 0], [1, 0], [1], "sample_weight must have shape"),
        ([1, 0], [1, 0], [1, np.inf], "not finite at position 1"),
        ([1, 0], [1, 0], [np.nan, 1], "not finite at position 0"),
        ([1, 0], [1, 0], [1e308, 1.5e308], "more than a number can hold"),
    ],
)
def test_malformed_input_is_refused(y: Any, score: Any, w: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        ams_scan(y, score, w)


@pytest.mark.parametrize("b_reg", [-1.0, np.nan, np.inf])
def test_scan_refuses_bad_regularisation(b_reg: float) -> None:
    """Regression: an infinite regularisation gave a curve of NaN."""
    with pytest.raises(MetricError, match="b_reg"):
        ams_scan([1, 0], [1, 0], [1, 1], b_reg)


def test_error_band_equals_the_estimate_at_every_cut() -> None:
    """The curve's closed form and the influence values are two ways to one number."""
    rng = np.random.default_rng(1)
    y = rng.random(400) < 0.4
    score = np.round(rng.normal(size=400) + y, 1)
    w = rng.gamma(2.0, size=400) * np.where(y, 0.5, 20.0)
    curve = ams_scan(y, score, w)
    for i in range(0, len(curve), 7):
        estimate, s, b = ams_estimate(y, score >= curve.threshold[i], w)
        assert s == pytest.approx(curve.s[i])
        assert b == pytest.approx(curve.b[i])
        assert estimate.se == pytest.approx(curve.se[i], rel=1e-6, abs=1e-9)


def test_selecting_everything_has_no_error_at_fixed_totals() -> None:
    curve = ams_scan([1, 1, 0, 0], [4, 3, 2, 1], [1.0, 2.0, 3.0, 4.0])
    assert curve.se[-1] == pytest.approx(0.0, abs=1e-9)
    assert curve.b_relative_error[0] == np.inf


def check_order(score: NDArray[np.float64]) -> None:
    order, ordered = descending_order(score)
    expected = np.argsort(-score, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(ordered, score[expected])


@given(
    st.one_of(
        hypothesis_arrays(np.float64, st.integers(1, 60), elements=st.floats(allow_nan=False)),
        hypothesis_arrays(
            np.float64, st.integers(1, 60), elements=st.sampled_from([-INF, -1.0, -0.0, 0.0, 5e-324, INF])
        ),
    )
)
def test_order_equals_a_stable_argsort(score: NDArray[np.float64]) -> None:
    check_order(score)


@pytest.mark.parametrize("n", [1, 2, 3, 128, 100_000])
def test_order_of_many_ties_and_of_scores_that_differ_in_the_last_bits(n: int) -> None:
    rng = np.random.default_rng(n)
    check_order(rng.normal(size=n).round(3))
    close = 1.0 + rng.integers(0, 50, n) * np.finfo(float).eps
    check_order(np.concatenate([close, rng.normal(size=n), close[::-1]]))


def test_the_curve_is_bit_for_bit_that_of_plain_running_sums() -> None:
    rng = np.random.default_rng(1)
    y, score, weight = rng.random(1000) < 0.3, rng.normal(size=1000), rng.normal(1.0, 1.0, 1000)
    order = np.argsort(-score, kind="stable")
    curve = ams_scan(y, score, weight)
    np.testing.assert_array_equal(curve.s, np.cumsum(np.where(y, weight, 0.0)[order]))
    np.testing.assert_array_equal(curve.b, np.cumsum(np.where(y, 0.0, weight)[order]))
