"""Pieces of an accessible page; every text that goes in is escaped here."""

from __future__ import annotations

import base64
import hashlib
import math
from html import escape as html_escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Cell",
    "definitions",
    "document",
    "figure",
    "grid",
    "paragraph",
    "preformatted",
    "section",
    "subheading",
    "table",
    "wide",
]

_CSS = """
:root{color-scheme:light dark;--ink:#1d2125;--paper:#fff;--soft:#5a636d;--line:#d4d9de;--tint:#f3f5f7;--link:#005a9c}
@media (prefers-color-scheme:dark){:root{--ink:#e4e6e8;--paper:#16191d;--soft:#a7b0b9;--line:#3a4149;--tint:#20252b;
--link:#7cc0ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.7rem;line-height:1.2;overflow-wrap:anywhere}h2{font-size:1.3rem;margin-top:2.5rem;
border-bottom:1px solid var(--line);padding-bottom:.2rem}h3{font-size:1.05rem;margin:1.5rem 0 .3rem}
a{color:var(--link)}nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;list-style:none}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
.scroll{overflow-x:auto;margin:1rem 0}.scroll:focus-visible{outline:2px solid var(--link)}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.4rem;caption-side:top}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
thead th{border-bottom:2px solid var(--soft);white-space:nowrap;vertical-align:bottom}
td:not(.t){white-space:nowrap}th.t,td.t{text-align:left}tbody tr:hover{background:var(--tint)}
tbody th{font-weight:500;position:sticky;left:0;background:var(--paper)}
figure{margin:1rem 0}figure img{max-width:100%;height:auto;display:block;background:var(--paper)}
figcaption{color:var(--soft);font-size:.88rem;max-width:60rem;overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.grid figure{margin:0;border:1px solid var(--line);border-radius:.4rem;padding:.6rem}.grid img{width:100%}
.wide{display:grid;grid-template-columns:repeat(auto-fit,minmax(30rem,1fr));gap:1rem}
@media (max-width:34rem){.wide,.grid{grid-template-columns:1fr}}
footer{margin-top:3rem;color:var(--soft);font-size:.88rem;overflow-wrap:anywhere}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;text-align:inherit}
th button:hover{text-decoration:underline}th button:focus-visible{outline:2px solid var(--link);outline-offset:3px}
th[aria-sort] button::after{content:"\\2195";color:var(--soft);padding-left:.25em;opacity:.6}
th[aria-sort=ascending] button::after{content:"\\2191";opacity:1}
th[aria-sort=descending] button::after{content:"\\2193";opacity:1}
.quiet{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
pre{background:var(--tint);padding:.8rem;overflow-x:auto;font-size:.82rem;border-radius:.4rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:.8rem 0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}summary{cursor:pointer}
@media print{
:root{color-scheme:light;--ink:#000;--paper:#fff;--soft:#444;--line:#bbb;--tint:#fff;--link:#000}
@page{margin:14mm}body{max-width:none;padding:0;font-size:9.5pt}nav,.skip,.quiet{display:none}
th button::after{display:none}.scroll{overflow:visible}
tbody th{position:static}table{font-size:7pt}th,td{padding:.1rem .28rem}
thead th{white-space:normal}thead{display:table-header-group}
figure,tr,.grid figure{break-inside:avoid}h2,h3,caption{break-after:avoid}
.grid{grid-template-columns:repeat(3,1fr);gap:.4rem}.wide{grid-template-columns:repeat(2,1fr)}
pre{white-space:pre-wrap;overflow-wrap:anywhere}figure img{max-height:22cm}}
"""

_SCRIPT = """
"use strict";
const status = document.getElementById("status");
function value(row, column) {
  const cell = row.cells[column];
  if ("value" in cell.dataset) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  return cell.textContent.trim() || null;
}
function sort(table, column, down) {
  const sign = down ? -1 : 1;
  const keyed = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true}));
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const down = before === "none" ? !head.classList.contains("t") : before === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, column, down);
      status.textContent = "Sorted by " + button.textContent + (down ? ", descending" : ", ascending");
    });
  });
}
for (const [event, open] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => document.querySelectorAll("details").forEach((part) => {
    if (open && !part.open) { part.open = true; part.dataset.opened = ""; }
    else if (!open && "opened" in part.dataset) { part.open = false; delete part.dataset.opened; }
  }));
}
"""


class Cell(NamedTuple):
    """A cell of a sortable table.

    Attributes:
        text: what is shown.
        value: what it is sorted by; None comes last in either direction.
    """

    text: str
    value: float | None


def escape(text: str) -> str:
    """Return a text as HTML shows it; control characters, which no page may hold, are replaced."""
    return html_escape("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def paragraph(text: str) -> str:
    """One paragraph."""
    return f"<p>{escape(text)}</p>"


def section(anchor: str, title: str, *content: str) -> str:
    """A section with a heading of the second level."""
    body = "\n".join(content)
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n{body}\n</section>'


def subheading(text: str) -> str:
    """A heading of the third level."""
    return f"<h3>{escape(text)}</h3>"


def preformatted(text: str, label: str) -> str:
    """A text that keeps its lines; the label names it for those who do not see it."""
    return f'<pre role="region" aria-label="{escape(label)}" tabindex="0">{escape(text)}</pre>'


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """A list of names with their values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries) + "</dl>"


def _cell(tag: str, attributes: str, cell: str | Cell) -> str:
    if isinstance(cell, Cell):
        value = math.nan if cell.value is None else float(cell.value)
        shown = "" if math.isnan(value) else repr(value).replace("inf", "Infinity")
        return f'<{tag}{attributes} data-value="{shown}">{escape(cell.text)}</{tag}>'
    return f"<{tag}{attributes}>{escape(cell)}</{tag}>"


def table(
    caption: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str | Cell]], *, sortable: bool = False
) -> str:
    """A table with a caption, column headings and, in its first column, row headings.

    Args:
        caption: what the table shows.
        columns: (heading, is text); numbers stand to the right.
        rows: cells, as text or, where a number decides the order, as `Cell`.
        sortable: whether its headings are buttons that sort; needs the script of a `document`.
    """
    classes = [' class="t"' if text else "" for _, text in columns]
    head = "".join(f'<th scope="col"{c}>{escape(name)}</th>' for (name, _), c in zip(columns, classes, strict=True))
    body = []
    for row in rows:
        first, *rest = zip(row, classes, strict=True)
        cells = _cell("th", f' scope="row"{first[1]}', first[0]) + "".join(_cell("td", c, cell) for cell, c in rest)
        body.append(f"<tr>{cells}</tr>")
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table{kind}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(body) + "\n"
        "</tbody></table></div>"
    )


def figure(svg: str, alt: str, caption: str = "") -> str:
    """A picture inside the page, with a text for those who do not see it."""
    data = base64.b64encode(svg.encode()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}">'
    return f"<figure>{image}{below}</figure>"


def grid(figures: Iterable[str]) -> str:
    """Many small figures side by side."""
    return f'<div class="grid">{"".join(figures)}</div>'


def wide(figures: Iterable[str]) -> str:
    """Two or three figures side by side."""
    return f'<div class="wide">{"".join(figures)}</div>'


def document(
    title: str, lead: str, sections: Sequence[tuple[str, str, str]], footer: str, *, script: bool = False
) -> str:
    """The whole page. Its security policy lets it load nothing, and run no script but the one that sorts tables.

    Args:
        title: heading of the page.
        lead: HTML under the heading.
        sections: (anchor, title, HTML of the section).
        footer: text at the end.
        script: whether tables can be sorted.
    """
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name, _ in sections)
    body = "\n".join(text for _, _, text in sections)
    policy = f"default-src 'none'; img-src data:; style-src {_digest(_CSS)}; base-uri 'none'; form-action 'none'"
    end = ""
    if script:
        policy += f"; script-src {_digest(_SCRIPT)}"
        end = f'<div id="status" class="quiet" role="status"></div><script>{_SCRIPT}</script>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body>"
        f'<a class="skip" href="#main">Skip to the findings</a><header><h1>{escape(title)}</h1>{lead}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main" tabindex="-1">\n{body}\n</main>\n'
        f"<footer>{escape(footer)}</footer>{end}</body></html>\n"
    )
