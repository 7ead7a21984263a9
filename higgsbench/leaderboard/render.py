"""Leaderboards as terminal table, Markdown, CSV, JSON and HTML. CSV and JSON carry full precision."""

from __future__ import annotations

import csv
import io
import json
import math
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from higgsbench.leaderboard.columns import COLUMNS, Column, choose_columns, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from higgsbench.leaderboard.board import Leaderboard, Table

__all__ = [
    "FORMATS",
    "TEXT_FORMATS",
    "markdown_text",
    "output_console",
    "page",
    "render",
    "renderables",
    "show",
    "strict_json",
]


TEXT_FORMATS = ("markdown", "csv", "json", "html")
FORMATS = ("table", *TEXT_FORMATS)

LEGEND = (
    "AMS cv: each fold cut where the other folds say, pooled. ≈ not distinguishable from the first (paired difference "
    "under 2 standard errors). * best cut on the very scores it is judged by: optimistic."
)


WIDE = 1000
"""Width given to a console that is no terminal: tables in logs and pipes are never squeezed."""


MANY = 100
"""Rows from which on a table is drawn by hand."""


def output_console() -> Console:
    """Return a console for standard output, wide where it is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def show(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> None:
    """Print tables to a terminal; where it is narrow, leave the least important columns out and say so."""
    for part in renderables(board, console, columns):
        console.print(part, crop=False, soft_wrap=isinstance(part, Text) and _unbroken(part, console))


def _unbroken(line: Text, console: Console) -> bool:
    """Titles are never broken into lines; legend and notes only by a terminal."""
    return str(line.style) == "bold" or not console.is_terminal


def renderables(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> list[RichTable | Text]:
    """Return what `show` prints, part by part.

    Args:
        board: the tables.
        console: where they will be shown; its width decides what fits.
        columns: chosen columns, None for all that fit.
    """
    out: list[RichTable | Text] = []
    for table in board.tables:
        chosen = choose_columns(columns, table.rows)
        cells = [[column.show(record) for column in chosen] for record in table.rows]
        hidden: list[str] = []
        if columns is None and console.is_terminal:
            chosen, cells, hidden = _fitting(chosen, cells, console.width)
        drawn = _drawn_table(table, chosen, cells, console.width) if len(table.rows) > MANY else None
        out += [Text(printable(table.title), style="bold"), drawn or _rich_table(table, chosen, cells)]
        if hidden:
            names = ", ".join(hidden)
            more = f"{len(hidden)} more columns need a wider terminal, --columns or --format csv: {names}"
            out.append(Text(more, style="dim"))
    if board.tables:
        out.append(Text(LEGEND, style="dim"))
    return [*out, *(Text(f"Note: {printable(note)}", style="yellow") for note in board.notes)]


def _rich_table(table: Table, chosen: Sequence[Column], cells: Sequence[Sequence[str]]) -> RichTable:
    rich = RichTable(header_style="bold")
    for column in chosen:
        # Only a failed row's message may need more than a line.
        wraps = column.name == "model" and any(record.get("status") != "ok" for record in table.rows)
        justify: Literal["left", "right"] = "left" if column.text else "right"
        rich.add_column(column.title, justify=justify, no_wrap=not wraps, overflow="fold")
    for record, row in zip(table.rows, cells, strict=True):
        rich.add_row(*(Text(cell) for cell in row), style=_style(record) or None)
    return rich


def _style(record: dict[str, Any]) -> str:
    return "bold green" if record.get("rank") == 1 else "red" if record.get("status") != "ok" else ""


def _drawn_table(table: Table, chosen: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> Text | None:
    """Draw what `_rich_table` comes to, tens of times faster, for thousands of rows; None where it is too wide."""
    widths = [max(map(cell_len, texts)) for texts in zip([c.title for c in chosen], *cells, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > width:
        return None

    def padded(texts: Sequence[str]) -> list[str]:
        stripped = [text.rstrip() for text in texts]
        gaps = (" " * (w - cell_len(text)) for w, text in zip(widths, stripped, strict=True))
        return [t + gap if c.text else gap + t for c, t, gap in zip(chosen, stripped, gaps, strict=True)]

    def rule(left: str, line: str, cross: str, right: str) -> str:
        return left + cross.join(line * (w + 2) for w in widths) + right

    out = Text(rule(*"┏━┳┓") + "\n┃", no_wrap=True)
    for title in padded([c.title for c in chosen]):
        out.append(f" {title} ", style="bold").append("┃")
    out.append("\n" + rule(*"┡━╇┩") + "\n")
    for record, row in zip(table.rows, cells, strict=True):
        style, texts = _style(record), padded(row)
        if not style:
            out.append(f"│ {' │ '.join(texts)} │\n")
            continue
        for cell in texts:
            out.append("│").append(f" {cell} ", style=style)
        out.append("│\n")
    return out.append(rule(*"└─┴┘"))


def _width(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    widths = [max([len(column.title), *(len(row[i]) for row in cells)]) + 3 for i, column in enumerate(columns)]
    return sum(widths) + 1


def _fitting(
    columns: list[Column], cells: list[list[str]], width: int
) -> tuple[list[Column], list[list[str]], list[str]]:
    """Leave columns out, least important first and last first among equals, until the table fits."""
    hidden = []
    while _width(columns, cells) > width and any(c.priority for c in columns):
        at = max(range(len(columns)), key=lambda i: (columns[i].priority, i))
        hidden.append(columns[at].name)
        columns = [c for i, c in enumerate(columns) if i != at]
        cells = [[cell for i, cell in enumerate(row) if i != at] for row in cells]
    return columns, cells, hidden


def render(board: Leaderboard, form: str, columns: Sequence[str] | None = None) -> str:
    """Return a leaderboard as text in `markdown`, `csv`, `html` or `json`.

    Args:
        board: the tables.
        form: format.
        columns: chosen columns, None for all.
    """
    if form == "markdown":
        return "\n".join(_markdown(table, columns) for table in board.tables) + _markdown_notes(board)
    if form == "csv":
        return _csv(board, columns)
    if form == "html":
        return page(board, columns)
    tables = [
        {"title": t.title, "comparability": t.comparability, "rows": [_values(r, columns) for r in t.rows]}
        for t in board.tables
    ]
    return json.dumps(strict_json({"tables": tables, "notes": list(board.notes)}), indent=1, allow_nan=False) + "\n"


def strict_json(value: Any) -> Any:
    """Replace NaN and infinities, for which JSON has no words, by null."""
    if isinstance(value, dict):
        return {key: strict_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(record: dict[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    if columns is None:
        return record
    return {key: record.get(key) for column in choose_columns(columns, [record]) for key in column.keys}


def markdown_text(text: str) -> str:
    """Escape what Markdown would take for markup, a link or a cell border."""
    for sign in "\\|*`[]":
        text = text.replace(sign, f"\\{sign}")
    return text.strip().replace("<", "&lt;")


def _markdown(table: Table, columns: Sequence[str] | None) -> str:
    chosen = choose_columns(columns, table.rows)
    lines = [f"**{markdown_text(printable(table.title))}**", ""]
    lines.append("| " + " | ".join(markdown_text(c.title) for c in chosen) + " |")
    lines.append("| " + " | ".join(":--" if c.text else "--:" for c in chosen) + " |")
    lines += ["| " + " | ".join(markdown_text(c.show(record)) for c in chosen) + " |" for record in table.rows]
    return "\n".join(lines) + "\n"


def _markdown_notes(board: Leaderboard) -> str:
    lines = [LEGEND.replace("*", "\\*")] if board.tables else []
    lines += [f"Note: {markdown_text(printable(note))}" for note in board.notes]
    return "\n" + "\n\n".join(lines) + "\n"


def _csv(board: Leaderboard, columns: Sequence[str] | None) -> str:
    chosen = COLUMNS if columns is None else choose_columns(columns, [])
    keys = ["table", *dict.fromkeys(key for column in chosen for key in column.keys)]
    out = io.StringIO()
    writer = csv.DictWriter(out, keys, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for number, table in enumerate(board.tables, start=1):
        for record in table.rows:
            values = {key: _csv_value(record.get(key)) for key in keys}
            writer.writerow({**values, "table": number})
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = printable(value) if isinstance(value, str) else value
    # A spreadsheet would run a text that begins like a formula.
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@") else text


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
