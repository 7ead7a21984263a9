"""Floor 1: what pages share; here how every page and every terminal report words its numbers."""

from __future__ import annotations

import math

__all__ = ["count", "number", "p_value", "percent", "with_error"]


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with significant digits, or a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def count(value: float | None) -> str:
    """Write a number of events."""
    return "-" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Write a share as a percentage; only exact values read 0% or 100%."""
    if value is None or not math.isfinite(value):
        return "-"
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if value < 0.001:
        return "<0.1%"
    return ">99.9%" if value > 0.999 else f"{value:.1%}"


def p_value(value: float | None) -> str:
    """Write a p-value."""
    if value is None:
        return "-"
    return "<1e-6" if value < 1e-6 else f"{value:.2g}"


def with_error(value: float | None, error: float | None) -> str:
    """Write a value and its standard error to two digits of the error."""
    if value is None or error is None or not math.isfinite(value):
        return "-"
    if not (math.isfinite(error) and error > 0.0):
        return number(value)
    places = min(max(1 - math.floor(math.log10(error)), 0), 5)
    return f"{value:.{places}f} ± {error:.{places}f}"
