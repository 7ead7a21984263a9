"""How numbers and findings are worded, in the terminal and on the page alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from higgsbench.explore.result import Exploration, SplitStudy

__all__ = ["count", "headline", "label_of_unit", "number", "p_value", "percent", "split_sentence", "with_error"]


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with significant digits, and a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def count(value: float | None) -> str:
    """Write a number of events."""
    return "-" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Write a share; what is not quite nothing or not quite everything never reads 0 or 100."""
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


def label_of_unit(unit: str | None) -> str:
    """Write a unit in a table: 1 for a pure number, a question mark where the layout does not say."""
    return "?" if unit is None else unit or "1"


def split_sentence(study: SplitStudy) -> str:
    """Say in numbers of this data what happens to an AMS without rescaling."""
    part = [c for c in study.cases if c.selection != "all events" and c.fraction == study.cases[0].fraction]
    raw, rescaled = (next(c for c in part if c.rescaled is flag) for flag in (False, True))
    whole = next(c for c in study.cases if c.fraction == 1.0 and c.rescaled and c.selection == raw.selection)
    return (
        f"The cut {raw.selection} has AMS {with_error(whole.ams, whole.ams_se)} on all described events. A random "
        f"{raw.fraction:.0%} of them gives {with_error(raw.ams, raw.ams_se)} as it is, {raw.ams / whole.ams:.2f} of "
        f"it, close to sqrt({raw.fraction:g}) = {math.sqrt(raw.fraction):.2f}: fewer events look like less luminosity. "
        f"With weights rescaled per class to N_s and N_b it gives {with_error(rescaled.ams, rescaled.ams_se)}. "
        "The cut was chosen on the same events, so its AMS is optimistic."
    )


def headline(found: Exploration) -> str:
    """Say in one line what is described."""
    sample = found.described
    text = f"{sample.events:,} events ({sample.name})"
    if sample.signal is not None and sample.background is not None:
        text += f": {sample.signal:,} signal, {sample.background:,} background"
    if found.n_s is not None and found.n_b is not None:
        text += f"; expected N_s = {found.n_s:,.2f}, N_b = {found.n_b:,.1f}, s/b = 1/{found.n_b / found.n_s:,.0f}"
    return text
