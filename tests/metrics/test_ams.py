"""The AMS against published and high-precision values, and its scan against a loop over distinct scores."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgsbench.errors import MetricError
from higgsbench.metrics import ams, ams_estimate, ams_gradient, ams_scan
from higgsbench.metrics.ams import descending_order
from higgsbench.schema import B_REG, N_B, N_S

GOLDEN = [
    (10.0, 0.0, 2.779548024841),
    (100.0, 1000.0, 3.096691706610),
    (200.0, 3000.0, 3.606121296756),
    (300.0, 5000.0, 4.197126644280),
    (N_S, N_B, 1.079073517320),
    (1e-6, N_B, 1.559817851641e-9),
]


def exact_ams(s: float, b: float, b_reg: float = B_REG) -> float:
    """The printed formula with 300 digits, enough to survive its cancellation."""
    with localcontext() as context:
        context.prec = 300
        s_, total = Decimal(s), Decimal(b) + Decimal(b_reg)
        return float((2 * ((s_ + total) * (1 + s_ / total).ln() - s_)).sqrt())


@pytest.mark.parametrize(("s", "b", "expected"), GOLDEN)
def test_golden_values(s: float, b: float, expected: float) -> None:
    assert ams(s, b) == pytest.approx(expected, rel=1e-9, abs=0)
    assert exact_ams(s, b) == pytest.approx(expected, rel=1e-9, abs=0)


def test_scalars_give_a_float() -> None:
    assert type(ams(1, 2)) is type(ams(np.float64(1.0), np.array(2.0))) is float
    assert ams(0.0, 0.0) == ams(0.0, 100.0) == 0.0, "no significance without signal"


def test_arrays_agree_with_scalars() -> None:
    s, b = np.array([g[0] for g in GOLDEN]), np.array([g[1] for g in GOLDEN])
    np.testing.assert_array_equal(ams(s, b), [ams(*g[:2]) for g in GOLDEN])
    grid = np.asarray(ams(s[:, None], b[None, :]))
    assert grid.shape == (6, 6)
    assert grid[1, 3] == ams(s[1], b[3])
    assert np.asarray(ams(list(s), 100.0)).shape == (6,)
    assert np.asarray(ams([], [])).shape == (0,)


def test_long_arrays_agree_with_short_ones() -> None:
    """The work is done in chunks; their borders must not show."""
    s = np.linspace(0.0, 700.0, 100_001)
    b = s[::-1] * 500.0
    whole = np.asarray(ams(s, b))
    np.testing.assert_array_equal(whole[32_700:32_800], ams(s[32_700:32_800], b[32_700:32_800]))


@pytest.mark.parametrize("bad", [-1e-300, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["s", "b", "b_reg"])
def test_undefined_input_is_refused(place: str, bad: float) -> None:
    arguments: dict[str, Any] = {"s": 1.0, "b": 1.0, "b_reg": 1.0} | {place: bad}
    with pytest.raises(MetricError, match=rf"^{place} must be finite and not negative, got"):
        ams(**arguments)
    # Regression: the gradient took a regularisation that is negative or NaN.
    with pytest.raises(MetricError, match=rf"^{place} must be finite and not negative, got"):
        ams_gradient(**arguments)
    if place != "b_reg":
        with pytest.raises(MetricError):
            ams(**{**arguments, place: np.array([1.0, bad])})


def test_without_regularisation() -> None:
    assert ams(100.0, 1000.0, 0.0) == pytest.approx(exact_ams(100.0, 1000.0, 0.0), rel=1e-13)
    with pytest.raises(MetricError, match="b \\+ b_reg > 0"):
        ams_gradient(1.0, 0.0, 0.0)


@given(
    st.floats(-60, 6).map(lambda e: 10.0**e),
    st.one_of(st.just(0.0), st.floats(-6, 7).map(lambda e: 10.0**e)),
    st.sampled_from([0.5, 10.0, 100.0]),
)
@settings(max_examples=300, derandomize=True)
def test_equals_high_precision(s: float, b: float, b_reg: float) -> None:
    assert ams(s, b, b_reg) == pytest.approx(exact_ams(s, b, b_reg), rel=1e-12, abs=0)


@pytest.mark.parametrize("x", [0.009999999, 0.01, 0.010000001])
def test_series_joins_the_closed_form(x: float) -> None:
    assert ams(1000.0 * x, 990.0) == pytest.approx(exact_ams(1000.0 * x, 990.0), rel=1e-13, abs=0)


@given(st.floats(1e-3, 2e3), st.floats(0.0, 1e6))
@settings(max_examples=200, derandomize=True)
def test_gradient_equals_numeric_difference(s: float, b: float) -> None:
    by_s, by_b = (float(g[0]) for g in ams_gradient(s, b))
    h_s, h_b = 1e-4 * s, 1e-4 * (b + B_REG)
    with localcontext() as context:
        context.prec = 60
        numeric_s = (exact_ams(s + h_s, b) - exact_ams(s - h_s, b)) / (2 * h_s)
        numeric_b = (exact_ams(s, b + h_b) - exact_ams(s, b - h_b if b > h_b else b)) / (h_b + (h_b if b > h_b else 0))
    assert by_s == pytest.approx(numeric_s, rel=1e-6)
    assert by_b == pytest.approx(numeric_b, rel=1e-3)
    assert by_b < 0.0 < by_s


def test_gradient_has_its_limits_without_signal() -> None:
    by_s, by_b = ams_gradient([0.0, 1e-200, 1e-9], 90.0)
    np.testing.assert_allclose(by_s, 0.1, rtol=1e-9)
    np.testing.assert_allclose(by_b, [0.0, 0.0, -0.5 * 1e-9 / 100.0 / 10.0], rtol=1e-9, atol=0)


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
SOME = settings(max_examples=80, derandomize=True)


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


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.floats(-5.0, 10.0)), min_size=1, max_size=30))
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
    ("y", "score", "w", "b_reg", "message"),
    [
        ([1, 0], [1.0, np.nan], [1, 1], 10.0, "score is NaN at position 1"),
        ([1, 0], [np.nan, np.inf], [1, 1], 10.0, "score is NaN at position 0"),
        ([1, 2], [1, 0], [1, 1], 10.0, "only 0 and 1, got .*2.* at position 1"),
        ([1, np.nan], [1, 0], [1, 1], 10.0, "only 0 and 1"),
        (["s", "b"], [1, 0], [1, 1], 10.0, "only 0 and 1"),
        ([], [], [], 10.0, "non-empty"),
        ([[1, 0]], [1, 0], [1, 1], 10.0, "1-d"),
        ([1, 0], [1, 0, 2], [1, 1], 10.0, "score must have shape"),
        ([1, 0], [1, 0], None, 10.0, "sample_weight is required"),
        ([1, 0], [1, 0], [1], 10.0, "sample_weight must have shape"),
        ([1, 0], [1, 0], [1, np.inf], 10.0, "not finite at position 1"),
        ([1, 0], [1, 0], [np.nan, 1], 10.0, "not finite at position 0"),
        ([1, 0], [1, 0], [1e308, 1.5e308], 10.0, "the sum of sample_weight overflows"),
        ([1, 0], [1, 0], [1, 1], -1.0, "b_reg"),
        ([1, 0], [1, 0], [1, 1], np.nan, "b_reg"),
        ([1, 0], [1, 0], [1, 1], np.inf, "b_reg"),  # regression: a curve of NaN
    ],
)
def test_malformed_input_is_refused(y: Any, score: Any, w: Any, b_reg: float, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        ams_scan(y, score, w, b_reg)


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


@pytest.mark.parametrize("n", [1, 2, 3, 128, 100_000])
def test_order_equals_a_stable_argsort(n: int) -> None:
    rng = np.random.default_rng(n)
    close = 1.0 + rng.integers(0, 50, n) * np.finfo(float).eps  # scores that differ in the last bits
    edges = rng.choice([-INF, -1.0, -0.0, 0.0, 5e-324, INF], n)
    for score in (rng.normal(size=n).round(3), edges, np.concatenate([close, rng.normal(size=n), close[::-1]])):
        order, ordered = descending_order(score)
        np.testing.assert_array_equal(order, np.argsort(-score, kind="stable"))
        np.testing.assert_array_equal(ordered, score[order])


def test_the_curve_is_bit_for_bit_that_of_plain_running_sums() -> None:
    rng = np.random.default_rng(1)
    y, score, weight = rng.random(1000) < 0.3, rng.normal(size=1000), rng.normal(1.0, 1.0, 1000)
    order = np.argsort(-score, kind="stable")
    curve = ams_scan(y, score, weight)
    np.testing.assert_array_equal(curve.s, np.cumsum(np.where(y, weight, 0.0)[order]))
    np.testing.assert_array_equal(curve.b, np.cumsum(np.where(y, 0.0, weight)[order]))
