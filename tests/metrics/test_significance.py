"""The Asimov significance against published values, exact arithmetic and its limits."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgsbench.errors import MetricError
from higgsbench.metrics import ams
from higgsbench.metrics.significance import asimov_significance, combined_significance

# n_on, n_off, tau and Z_PL of table 1 of R. Cousins, J. Linnemann, J. Tucker, Nucl. Instr. Meth. A 595 (2008) 480,
# physics/0702156: the profile likelihood of the same on/off model, b = n_off / tau and sigma_b = sqrt(n_off) / tau.
COUSINS = [
    (4, 5, 5.0, 1.95),
    (6, 18.78, 14.44, 2.82),
    (9, 17.83, 4.69, 1.99),
    (17, 40.11, 10.56, 4.57),
    (50, 55, 2.0, 3.02),
    (67, 15, 0.5, 3.04),
    (200, 10, 0.1, 2.38),
    (523, 2327, 5.99, 5.95),
    (498426, 493434, 1.0, 5.01),
    (2119449, 23650096, 11.21, 6.40),
]


@pytest.mark.parametrize(("on", "off", "tau", "z"), COUSINS)
def test_published_on_off_significances(on: float, off: float, tau: float, z: float) -> None:
    found = float(asimov_significance(on - off / tau, off / tau, np.sqrt(off) / tau))
    assert found == pytest.approx(z, abs=0.006)


def test_documented_example_of_cranmer_and_cowan() -> None:
    """50 signal events over 100 +- 7: 3.72 (K. Cranmer, G. Cowan, Fast Asimov Utils, 2014)."""
    assert float(asimov_significance(50, 100, 7)) == pytest.approx(3.72, abs=0.005)


def exact(s: float, b: float, sigma: float) -> float:
    """Equation (20) as printed, in 60 digits."""
    with localcontext(prec=60):
        n, c, v = Decimal(s) + Decimal(b), Decimal(b), Decimal(sigma) ** 2
        first = n * (n * (c + v) / (c * c + n * v)).ln()
        return float((2 * (first - c * c / v * (1 + v * Decimal(s) / (c * (c + v))).ln())).sqrt())


size = st.floats(1e-3, 1e6)


@given(size, size, st.floats(1e-4, 1e4))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_equals_the_printed_formula(s: float, b: float, sigma: float) -> None:
    assert float(asimov_significance(s, b, sigma)) == pytest.approx(exact(s, b, sigma), rel=1e-11)


@pytest.mark.parametrize("s", [1e-9, 1e-4, 1.0, 300.0])
@pytest.mark.parametrize("b", [1e-6, 5.0, 1e5])
@pytest.mark.parametrize("sigma", [1e-12, 1e-5])
def test_a_known_background_is_the_limit(s: float, b: float, sigma: float) -> None:
    pure = ams(s, b, 0.0)
    assert float(asimov_significance(s, b)) == pytest.approx(pure, rel=1e-13)
    assert float(asimov_significance(s, b, sigma, relative=True)) == pytest.approx(pure, rel=1e-4)


@given(size, size, st.floats(0.0, 1e3), st.floats(1.01, 10.0))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_more_signal_helps_and_more_background_or_uncertainty_hurts(
    s: float, b: float, sigma: float, more: float
) -> None:
    z = float(asimov_significance(s, b, sigma))
    assert z > 0.0
    assert float(asimov_significance(s * more, b, sigma)) > z
    assert float(asimov_significance(s, b * more, sigma)) <= z * (1 + 1e-9) or sigma > 0.0
    assert float(asimov_significance(s, b, sigma * more)) <= z * (1 + 1e-12)


def test_few_signal_events_over_many() -> None:
    """s / sqrt(b + sigma^2), equation (9) of Cowan 2012, is the limit of small s / b."""
    assert float(asimov_significance(1.0, 1e6, 2e3)) == pytest.approx(1.0 / np.sqrt(1e6 + 4e6), rel=1e-5)


def test_empty_bins_are_defined() -> None:
    found = asimov_significance([0, 2, 2, 0], [0, 0, 0, 5], [0, 0, 3, 1])
    np.testing.assert_array_equal(found, [0.0, np.inf, 0.0, 0.0])


def test_extremes_neither_overflow_nor_warn() -> None:
    assert np.isfinite(asimov_significance([1.0, 1e5], [1e-300, 1e-300], 0.0)).all()


@pytest.mark.parametrize("bad", [(-1, 1, 0), (1, np.nan, 0), (1, 1, np.inf)])
def test_impossible_input_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(MetricError, match="must be finite and not negative"):
        asimov_significance(*bad)


def test_bins_combine_in_quadrature() -> None:
    parts = asimov_significance([10, 5], [50, 8], [0.1, 0.1], relative=True)
    assert combined_significance([10, 5], [50, 8], 0.1, relative=True) == pytest.approx(np.hypot(*parts))
