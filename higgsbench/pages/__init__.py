"""Floor 1: what pages share; this file formats the numbers of every page, table and terminal report."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.table import Table as RichTable

__all__ = ["count", "json_report", "markdown_table", "markdown_text", "number", "p_value", "percent", "terminal_table",
           "with_error"]  # fmt: skip


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


def markdown_text(text: str) -> str:
    """Escape characters that Markdown would read as markup, a link or a cell border."""
    for sign in "\\|*`[]":
        text = text.replace(sign, f"\\{sign}")
    return text.strip().replace("<", "&lt;")


def markdown_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[int] = (0,)
) -> str:
    """Return a titled table in Markdown; every text is escaped.

    Args:
        title: title, set in bold.
        headings: column headings.
        rows: cells.
        text: positions of the columns that hold text; numbers are aligned to the right.
    """
    marks = [":--" if at in text else "--:" for at in range(len(headings))]
    escaped = [[markdown_text(cell) for cell in row] for row in (headings, *rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in (escaped[0], marks, *escaped[1:])]
    return "\n".join([f"**{markdown_text(title)}**", "", *lines])


def terminal_table(headings: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[int] = (0,)) -> RichTable:
    """Return a table for the terminal; cells are never read as markup, and the columns of `text` are aligned left."""
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at in text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def json_report(content: Any) -> str:
    """Return JSON in full precision; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
