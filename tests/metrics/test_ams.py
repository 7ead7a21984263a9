"""The AMS against published and high-precision values, and its derivatives."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgsbench.errors import MetricError
from higgsbench.metrics import ams, ams_gradient
from higgsbench.schema import B_REG, N_B, N_S

GOLDEN = [
    (10.0, 0.0, 2.779548024841),
    (100.0, 1000.0, 3.096691706610),
    (200.0, 3000.0, 3.606121296756),
    (300.0, 5000.0, 4.197126644280),
    (N_S, N_B, 1.079073517320),
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


def test_golden_tiny_signal() -> None:
    assert ams(1e-6, N_B) == pytest.approx(1.560e-9, rel=5e-4)
    assert ams(1e-6, N_B) == pytest.approx(exact_ams(1e-6, N_B), rel=1e-14, abs=0)


@pytest.mark.parametrize("b", [0.0, 100.0])
def test_no_signal_has_no_significance(b: float) -> None:
    assert ams(0.0, b) == 0.0


def test_scalars_give_a_float() -> None:
    assert type(ams(1, 2)) is float
    assert type(ams(np.float64(1.0), np.array(2.0))) is float


def test_arrays_agree_with_scalars() -> None:
    s, b = np.array([g[0] for g in GOLDEN]), np.array([g[1] for g in GOLDEN])
    np.testing.assert_array_equal(ams(s, b), [ams(*g[:2]) for g in GOLDEN])
    grid = np.asarray(ams(s[:, None], b[None, :]))
    assert grid.shape == (5, 5)
    assert grid[1, 3] == ams(s[1], b[3])
    assert np.asarray(ams(list(s), 100.0)).shape == (5,)
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
    assert ams(0.0, 0.0, 0.0) == 0.0
    assert ams(1.0, 0.0, 0.0) == np.inf
    assert ams(100.0, 1000.0, 0.0) == pytest.approx(exact_ams(100.0, 1000.0, 0.0), rel=1e-13)
    with pytest.raises(MetricError, match="b \\+ b_reg > 0"):
        ams_gradient(1.0, 0.0, 0.0)


@given(
    st.floats(-60, 6).map(lambda e: 10.0**e),
    st.one_of(st.just(0.0), st.floats(-6, 7).map(lambda e: 10.0**e)),
    st.sampled_from([0.5, 10.0, 100.0]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_equals_high_precision(s: float, b: float, b_reg: float) -> None:
    assert ams(s, b, b_reg) == pytest.approx(exact_ams(s, b, b_reg), rel=1e-12, abs=0)


@pytest.mark.parametrize("x", [0.009999999, 0.01, 0.010000001])
def test_series_joins_the_closed_form(x: float) -> None:
    assert ams(1000.0 * x, 990.0) == pytest.approx(exact_ams(1000.0 * x, 990.0), rel=1e-13, abs=0)


@given(st.floats(1e-3, 2e3), st.floats(0.0, 1e6))
@settings(max_examples=200, deadline=None, derandomize=True)
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


@given(st.floats(0.0, 1e3), st.floats(0.0, 1e5), st.floats(1e-3, 1e3))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_grows_with_signal_and_falls_with_background(s: float, b: float, step: float) -> None:
    assert ams(s + step, b) > ams(s, b)
    assert ams(s, b + step) <= ams(s, b)
