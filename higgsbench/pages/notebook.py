"""Show results in notebooks: each shows its tables as HTML and returns its numbers as a Polars frame."""

from __future__ import annotations

import json
from abc import abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any

from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars

    from higgsbench.pages import Table

_MOST = 100
"""Rows of a table that a notebook shows; `to_polars` has all."""
_CELL = "padding:.2em .6em;white-space:nowrap;vertical-align:top;text-align:"


class Shown:
    """Base class of all results that a notebook can show as tables."""

    @abstractmethod
    def as_tables(self) -> Sequence[Table]:
        """Return the tables to show, with rounded numbers."""

    @abstractmethod
    def records(self) -> Iterable[Mapping[str, Any]]:
        """Yield the rows of `to_polars`, in full precision."""

    def remarks(self) -> Sequence[str]:
        """Return lines that belong below the tables."""
        return ()

    def to_polars(self) -> polars.DataFrame:
        """Return the numbers in full precision as a frame; nested values, such as parameters, are JSON."""
        import polars

        rows = [{key: _plain(value) for key, value in record.items()} for record in self.records()]
        return polars.DataFrame(rows, infer_schema_length=None, strict=False)

    def _repr_html_(self) -> str:
        """Return the tables for a notebook, with inline style only and no script."""
        remarks = (f'<div style="max-width:60em">{escape(printable(line))}</div>' for line in self.remarks())
        return f"<div>{''.join([*map(html_table, self.as_tables()), *remarks])}</div>"


def html_table(table: Table) -> str:
    """Return a table as self-contained HTML; all text is escaped."""
    sides = ["left" if at in table.text else "right" for at in range(len(table.headings))]

    def line(tag: str, cells: Sequence[object], style: str = "") -> str:
        pairs = zip(cells, sides, strict=True)
        inner = (f'<{tag} style="{_CELL}{side}">{escape(printable(cell))}</{tag}>' for cell, side in pairs)
        return f"<tr{style}>{''.join(inner)}</tr>"

    marks = table.marks or [""] * len(table.rows)
    rows = zip(table.rows[:_MOST], marks, strict=False)
    body = "".join(line("td", row, ' style="font-weight:bold"' if mark == "best" else "") for row, mark in rows)
    more = len(table.rows) - _MOST
    caption = table.caption + (f" (first {_MOST} rows of {len(table.rows):,})" if more > 0 else "")
    title = f'<caption style="text-align:left;font-weight:bold">{escape(printable(caption))}</caption>' * bool(caption)
    head = f"<thead>{line('th', table.headings)}</thead>"
    return f'<div style="overflow-x:auto"><table>{title}{head}<tbody>{body}</tbody></table></div>'


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | bool | int | float) else json.dumps(value, default=str)
