"""Layer 1: what pages share: numbers as text, tables for page, terminal and Markdown, and the parts of a page.

Pages are self-contained and accessible; records say what they show, and the templates turn them into HTML. In notebooks
each result shows its tables as HTML and returns its numbers as a Polars frame.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from abc import abstractmethod
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import polars
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

WIDE = 10_000
"""Width of an output that is not a terminal: lines in logs and pipes are never broken."""

FIGURE_FORMATS = ("png", "pdf", "svg")
"""Formats of figures in separate files."""

_STYLES = {"best": "bold green", "warning": "yellow", "failed": "red"}
"""How a terminal shows the marks of rows."""


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


def p_value(value: float | None, symbol: str = "") -> str:
    """Write a p-value, after a symbol as in "p = 0.040" or "p < 0.001"."""
    if value is None or not math.isfinite(value):
        return "-"
    text = "< 0.001" if value < 0.001 else f"{value:.3f}"
    return f"{symbol} {text if text.startswith('<') else f'= {text}'}" if symbol else text


def with_error(value: float | None, error: float | None, sign: str = "") -> str:
    """Write a value and its standard error to two digits of the error; `sign` "+" also shows the sign if positive."""
    if value is None or error is None or not math.isfinite(value):
        return "-"
    if not (math.isfinite(error) and error > 0.0):
        return number(value)
    places = min(max(1 - math.floor(math.log10(error)), 0), 5)
    return f"{value:{sign},.{places}f} ± {error:,.{places}f}"


def markdown_text(text: str) -> str:
    """Escape characters that Markdown would read as markup, a link or a cell border."""
    for sign in "\\|*`[]":
        text = text.replace(sign, f"\\{sign}")
    return text.strip().replace("<", "&lt;")


def json_report(content: Any) -> str:
    """Return JSON in full precision; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Return a JSON value with null for NaN and infinities, and tuples as lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Cell(NamedTuple):
    """A table cell that shows a text and sorts by a number; cells without a number come last in either direction."""

    text: str
    value: float | None

    def __str__(self) -> str:
        """The text."""
        return self.text

    @property
    def key(self) -> str:
        """The number as the page's script reads it."""
        value = math.nan if self.value is None else float(self.value)
        return "" if math.isnan(value) else repr(value).replace("inf", "Infinity")


class Table(NamedTuple):
    """A table; the first column holds row headings.

    Attributes:
        caption: what the table shows.
        headings: column headings.
        rows: cells, as text or, where a number decides the order, as `Cell`.
        text: positions of the columns that hold text; numbers are aligned to the right.
        sortable: whether the headings are buttons that sort.
        marks: style of each row, `best`, `warning`, `failed` or none.
        rules: positions of rows under which a terminal draws a rule.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    text: Collection[int] = (0,)
    sortable: bool = False
    marks: Sequence[str] = ()
    rules: Collection[int] = ()

    def markdown(self) -> str:
        """Return the table in Markdown, its caption in bold; every text is escaped."""
        rules = [":--" if at in self.text else "--:" for at in range(len(self.headings))]
        escaped = [[markdown_text(str(cell)) for cell in row] for row in (self.headings, *self.rows)]
        lines = [f"| {' | '.join(cells)} |" for cells in (escaped[0], rules, *escaped[1:])]
        return "\n".join([f"**{markdown_text(self.caption)}**", "", *lines])

    def terminal(self) -> RichTable:
        """Return the table for a terminal, without its caption; cells are never read as markup."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(header_style="bold")
        for at, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if at in self.text else "right", overflow="fold")
        for at, (row, mark) in enumerate(zip(self.rows, self.marks or [""] * len(self.rows), strict=True)):
            cells = (Text(str(cell)) for cell in row)
            table.add_row(*cells, style=_STYLES.get(mark), end_section=at in self.rules)
        return table

    def widths(self) -> list[int]:
        """Return the width of each column in a terminal, with one edge."""
        from rich.cells import cell_len

        columns = zip(self.headings, *self.rows, strict=True)
        return [3 + max(cell_len(line) for cell in column for line in str(cell).split("\n")) for column in columns]

    def drawn(self, width: int) -> Text | None:
        """Return what `terminal` shows, tens of times faster for thousands of rows; None where it is too wide."""
        from rich.cells import cell_len
        from rich.text import Text

        widths = self.widths()
        if sum(widths) >= width:
            return None

        def rule(left: str, line: str, cross: str, right: str) -> str:
            return left + cross.join(line * (w - 1) for w in widths) + right

        out = Text(rule(*"┏━┳┓") + "\n", no_wrap=True)
        lines = [[str(cell) for cell in row] for row in (self.headings, *self.rows)]
        styles = ["bold", *(_STYLES.get(mark) for mark in self.marks or [""] * len(self.rows))]
        for number, (cells, style) in enumerate(zip(lines, styles, strict=True)):
            padded = []
            for at, (cell, w) in enumerate(zip(cells, widths, strict=True)):
                gap = " " * (w - 3 - cell_len(cell))
                padded.append(cell + gap if at in self.text else gap + cell)
            if style is None:
                out.append(f"│ {' │ '.join(padded)} │\n")
                continue
            edge = "│" if number else "┃"
            for cell in padded:
                out.append(edge).append(f" {cell} ", style=style)
            out.append(f"{edge}\n" if number else f"┃\n{rule(*'┡━╇┩')}\n")
        return out.append(rule(*"└─┴┘"))

    def stacked(self, width: int) -> list[Table]:
        """Return as many tables as a terminal needs to show all columns, each with the names of the rows."""
        widths = self.widths()
        names = next((at for at in range(len(widths)) if at not in self.text), len(widths))
        groups: list[list[int]] = []
        for at in range(names, len(widths)):
            if not groups or sum(widths[i] for i in (*groups[-1], at)) >= width:
                groups.append([*range(names)])
            groups[-1].append(at)
        return [
            self._replace(
                headings=[self.headings[at] for at in group],
                rows=[[row[at] for at in group] for row in self.rows],
                text=[place for place, at in enumerate(group) if at in self.text],
            )
            for group in groups or [[*range(names)]]
        ]

    def show(self, console: Console, *, stack: bool = False) -> None:
        """Print the table under its caption, if it has one; `stack` breaks it where the terminal is too narrow."""
        from rich.text import Text

        if self.caption:
            console.print(Text(self.caption, style="bold"))
        for part in self.stacked(console.width) if stack else [self]:
            console.print(part.terminal(), crop=False)


class Picture(NamedTuple):
    """A drawing as SVG with a caption, and a text for readers who cannot see it, with the essential numbers."""

    svg: str
    alt: str
    caption: str = ""

    @property
    def base64(self) -> str:
        """The drawing in base64, as a data URI needs it."""
        return base64.b64encode(self.svg.encode()).decode()


class Gallery(NamedTuple):
    """Figures side by side: many small ones in a `grid`, two or three `wide` ones."""

    pictures: Sequence[Picture]
    layout: Literal["grid", "wide"] = "grid"


class Details(NamedTuple):
    """Parts that the reader unfolds."""

    summary: str
    parts: Sequence[Part]


class Definitions(NamedTuple):
    """Names with their values."""

    entries: Sequence[tuple[str, str]]


class Listing(NamedTuple):
    """A text that keeps its lines, with a label for readers who cannot see it."""

    text: str
    label: str


class Heading(NamedTuple):
    """A heading inside a section."""

    text: str


Part: TypeAlias = str | Table | Picture | Gallery | Details | Definitions | Listing | Heading
"""What a section is made of; a plain text is a paragraph."""


class Section(NamedTuple):
    """A section of a page with its name in links; without parts it is left out."""

    anchor: str
    title: str
    parts: Sequence[Part]


def page(title: str, lead: Sequence[Part], sections: Sequence[Section], footer: str) -> str:
    """Return the whole page as HTML; the templates escape every text.

    The page's security policy forbids it to load anything, and to run any script except the one that sorts tables.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    shown = [section for section in sections if section.parts]
    style, script = _resource("style.css"), ""
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    if any(_sorts(part) for parts in (lead, *(s.parts for s in shown)) for part in parts):
        script = _resource("sort.js")
        policy += f"; script-src {_digest(script)}"
    template = Environment(
        loader=PackageLoader("higgsbench.pages"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    ).get_template("page.html")
    return template.render(
        title=title, lead=lead, sections=shown, footer=footer, style=style, script=script, policy=policy
    )


def _sorts(part: Part) -> bool:
    if isinstance(part, Details):
        return any(_sorts(inner) for inner in part.parts)
    return isinstance(part, Table) and part.sortable


def _resource(name: str) -> str:
    return (files("higgsbench.pages") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _printable(value: Any) -> Any:
    """Replace control characters, which HTML forbids; leave HTML from the templates as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in value)


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

    def show(self, console: Console, dim: str = "") -> None:
        """Print the tables and remarks, the remark `dim` in grey; narrow consoles show the columns in parts."""
        for table in self.as_tables():
            table.show(console, stack=True)
        for line in self.remarks():
            console.print(line, style="dim" if line == dim else None)

    def __str__(self) -> str:
        """Return what the command shows, as plain text."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=WIDE, highlight=False, markup=False, emoji=False, no_color=True)
        with console.capture() as captured:
            self.show(console)
        return captured.get()

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
