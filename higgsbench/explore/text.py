"""How findings are worded, in the terminal and on the page alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from higgsbench.pages.text import with_error

if TYPE_CHECKING:
    from higgsbench.explore.result import Exploration, SplitStudy

__all__ = ["headline", "label_of_unit", "split_sentence"]


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
