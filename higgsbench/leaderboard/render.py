"""Leaderboards as terminal table, Markdown, CSV, JSON and HTML. CSV and JSON carry full precision."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from higgsbench import __version__
from higgsbench.files import printable
from higgsbench.leaderboard.columns import COLUMNS, Column, Table, Tables, choose_columns
from higgsbench.pages import html, json_report, markdown_table, markdown_text
from higgsbench.pages.html import Cell, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from higgsbench.ensemble.blend import Diversity
    from higgsbench.pages.html import Part

TEXT_FORMATS = ("markdown", "csv", "json", "html")

LEGEND = (
    "AMS cv: the cut of each fold is chosen on the other folds, s and b are pooled. ≈ not distinguishable from the "
    "first (paired difference under 2 standard errors). * best cut on the same scores it is judged by: optimistic."
)

WIDE = 1000
"""Width of an output that is not a terminal: tables in logs and pipes are never squeezed."""

MANY = 100
"""Tables with more rows are drawn without rich."""


def show(board: Tables, console: Console, columns: Sequence[str] | None = None) -> None:
    """Print tables to a terminal; where it is narrow, leave out the least important columns and name them."""
    for part in renderables(board, console, columns):
        console.print(part, crop=False, soft_wrap=isinstance(part, Text) and _unbroken(part, console))


def _unbroken(line: Text, console: Console) -> bool:
    """Whether a line stays in one piece: titles always, legend and notes outside a terminal."""
    return str(line.style) == "bold" or not console.is_terminal


def renderables(board: Tables, console: Console, columns: Sequence[str] | None = None) -> list[RichTable | Text]:
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
        if columns is None:
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
        # Only the message of a failed row may need more than one line.
        wraps = column.name == "model" and any(record.get("status") != "ok" for record in table.rows)
        justify: Literal["left", "right"] = "left" if column.text else "right"
        rich.add_column(column.title, justify=justify, no_wrap=not wraps, overflow="fold")
    for record, row in zip(table.rows, cells, strict=True):
        rich.add_row(*(Text(cell) for cell in row), style=_style(record) or None)
    return rich


def _style(record: dict[str, Any]) -> str:
    return "bold green" if record.get("rank") == 1 else "red" if record.get("status") != "ok" else ""


def _drawn_table(table: Table, chosen: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> Text | None:
    """Draw the same as `_rich_table`, tens of times faster, for thousands of rows; None where it is too wide."""
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
    """Leave out columns until the table fits: the least important first, among equals the last."""
    hidden = []
    while _width(columns, cells) > width and any(c.priority for c in columns):
        at = max(range(len(columns)), key=lambda i: (columns[i].priority, i))
        hidden.append(columns[at].name)
        columns = [c for i, c in enumerate(columns) if i != at]
        cells = [[cell for i, cell in enumerate(row) if i != at] for row in cells]
    return columns, cells, hidden


def render(board: Tables, form: str, columns: Sequence[str] | None = None) -> str:
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
        return _page(board, columns)
    tables = [
        {"title": t.title, "comparability": t.comparability, "rows": [_values(r, columns) for r in t.rows]}
        for t in board.tables
    ]
    return json_report({"tables": tables, "notes": list(board.notes)})


def _values(record: dict[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    if columns is None:
        return record
    return {key: record.get(key) for column in choose_columns(columns, [record]) for key in column.keys}


def _markdown(table: Table, columns: Sequence[str] | None) -> str:
    chosen = choose_columns(columns, table.rows)
    rows = [[column.show(record) for column in chosen] for record in table.rows]
    return markdown_table(printable(table.title), [c.title for c in chosen], rows, _text_columns(chosen)) + "\n"


def _text_columns(columns: Sequence[Column]) -> list[int]:
    return [at for at, column in enumerate(columns) if column.text]


def _markdown_notes(board: Tables) -> str:
    lines = [LEGEND.replace("*", "\\*")] if board.tables else []
    lines += [f"Note: {markdown_text(printable(note))}" for note in board.notes]
    return "\n" + "\n\n".join(lines) + "\n"


def _csv(board: Tables, columns: Sequence[str] | None) -> str:
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


def _page(board: Tables, columns: Sequence[str] | None) -> str:
    """Return the whole page, with tables that sort by the values at full precision."""
    parts: list[Part] = [page_table(table, choose_columns(columns, table.rows)) for table in board.tables]
    notes = [f"Note: {printable(note)}" for note in board.notes]
    section = Section("runs", "Runs", [*(parts or ["No runs yet."]), LEGEND, *notes])
    return html.page("higgsbench leaderboard", [], [section], f"Made by higgsbench {__version__} leaderboard.")


def page_table(table: Table, columns: Sequence[Column], caption: str = "") -> html.Table:
    """Return a leaderboard as a part of a page.

    Args:
        table: the ranked rows.
        columns: columns to show.
        caption: caption; the title of the table by default.
    """
    marks = ["best" if r.get("rank") == 1 else "failed" if r.get("status") != "ok" else "" for r in table.rows]
    return html.Table(
        caption or printable(table.title),
        [column.title for column in columns],
        [[_page_cell(record, column) for column in columns] for record in table.rows],
        text=_text_columns(columns),
        sortable=True,
        marks=marks,
    )


def _page_cell(record: dict[str, Any], column: Column) -> str | Cell:
    shown = printable(column.show(record)).strip()
    if column.text:
        return shown
    value = record.get(column.keys[0])
    return Cell(shown, float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None)


def members_table(found: Diversity) -> RichTable:
    """Return the terminal table of the members of a blend, the most useful first."""
    table = RichTable(
        header_style="bold", title=f"Stack ({found.method}), weighted AUC {found.auc:.4f}", title_justify="left"
    )
    for title in ("member", "weight", "wAUC alone", "gain in wAUC", "gain in log-loss x1e3", "most like", "r"):
        table.add_column(title, justify="left" if title in ("member", "most like") else "right")
    for m in sorted(found.members, key=lambda m: -m.log_loss_gain):
        table.add_row(
            Text(printable(m.name)),  # markup would read "[jets]" as a style
            f"{m.weight:.3f} ± {m.weight_sd:.3f}",
            f"{m.auc:.4f}",
            f"{m.auc_gain:+.5f} ± {m.auc_gain_se:.5f}",
            f"{1e3 * m.log_loss_gain:+.4f} ± {1e3 * m.log_loss_gain_se:.4f}",
            Text(printable(m.nearest)),
            f"{m.nearest_correlation:.3f}",
        )
    return table
