"""A leaderboard as one self-contained, accessible HTML page with sortable tables."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from higgsbench.leaderboard.columns import Column, choose_columns, printable
from higgsbench.leaderboard.render import LEGEND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.leaderboard.board import Leaderboard, Table

__all__ = ["page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1a1a1a;background:#fff}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0 2rem}
caption{text-align:left;font-weight:600;padding:.5rem 0}
th,td{padding:.3rem .7rem;border-bottom:1px solid #ccc;text-align:right}
th.text,td.text{text-align:left}tr.best{font-weight:600;background:#eaf6ea}tr.failed{color:#a00000}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid #0050b3}
th[aria-sort=ascending] button::after{content:" ▲"}th[aria-sort=descending] button::after{content:" ▼"}
@media(prefers-color-scheme:dark){body{color:#eee;background:#121212}tr.best{background:#173317}tr.failed{color:#ff9c9c}
th,td{border-color:#444}th button:focus-visible{outline-color:#8ab8ff}}
"""

# Sorts by the full-precision value in data-value; rows without one stay last. Without scripts: in rank order.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[at].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = head.classList.contains("text") ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
"""


def page(board: Leaderboard, columns: Sequence[str] | None = None) -> str:
    """Return the whole page; it loads nothing, and all text from runs is escaped.

    Args:
        board: the tables.
        columns: chosen columns, None for all that have content.
    """
    parts = [_table(table, columns) for table in board.tables] or ["<p>No runs yet.</p>"]
    notes = "".join(f"<p>Note: {_text(note)}</p>" for note in board.notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>higgsbench leaderboard</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>Leaderboard</h1>\n{''.join(parts)}<p>{escape(LEGEND)}</p>\n{notes}</main>\n<script>{_SCRIPT}</script>\n"
        "</body>\n</html>\n"
    )


def _text(value: Any) -> str:
    return escape(printable(value))


def _table(table: Table, columns: Sequence[str] | None) -> str:
    chosen = choose_columns(columns, table.rows)
    head = "".join(f'<th scope="col"{_class(c)}><button type="button">{escape(c.title)}</button></th>' for c in chosen)
    rows = "".join(_row(record, chosen) for record in table.rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}">\n<table>\n'
        f"<caption>{_text(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _class(column: Column) -> str:
    return ' class="text"' if column.text else ""


def _row(record: dict[str, Any], columns: Sequence[Column]) -> str:
    style = "best" if record.get("rank") == 1 else "failed" if record.get("status") != "ok" else ""
    cells = "".join(
        f'<td{_class(c)} data-value="{_sort_value(record, c)}">{_text(c.show(record)).strip()}</td>' for c in columns
    )
    return f"<tr{f' class={style}' if style else ''}>{cells}</tr>\n"


def _sort_value(record: dict[str, Any], column: Column) -> str:
    value = record.get(column.keys[0])
    if column.text:
        return _text(column.show(record))
    return repr(float(value)) if isinstance(value, (int, float)) and value == value else ""
