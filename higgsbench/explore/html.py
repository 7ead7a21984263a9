"""Pieces of an accessible page; every text that goes in is escaped here."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["document", "figure", "paragraph", "section", "table"]

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
th.t,td.t{text-align:left}tbody th{font-weight:500}tbody tr:hover{background:var(--tint)}
figure{margin:1rem 0}figure img{max-width:100%;height:auto;display:block;background:var(--paper)}
figcaption{color:var(--soft);font-size:.88rem;max-width:60rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.grid figure{margin:0;border:1px solid var(--line);border-radius:.4rem;padding:.6rem}.grid img{width:100%}
.wide{display:grid;grid-template-columns:repeat(auto-fit,minmax(30rem,1fr));gap:1rem}
@media (max-width:34rem){.wide,.grid{grid-template-columns:1fr}}
footer{margin-top:3rem;color:var(--soft);font-size:.88rem}
@media print{nav,.skip{display:none}}
"""


def paragraph(text: str) -> str:
    """One paragraph."""
    return f"<p>{escape(text)}</p>"


def section(anchor: str, title: str, *content: str) -> str:
    """A section with a heading of the second level."""
    body = "\n".join(content)
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n{body}\n</section>'


def table(caption: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """A table with a caption, column headings and, in its first column, row headings.

    Args:
        caption: what the table shows.
        columns: (heading, is text); numbers stand to the right.
        rows: cells, as text.
    """
    classes = [' class="t"' if text else "" for _, text in columns]
    head = "".join(f'<th scope="col"{c}>{escape(name)}</th>' for (name, _), c in zip(columns, classes, strict=True))
    body = []
    for row in rows:
        first, *rest = (f"{c}>{escape(cell)}" for cell, c in zip(row, classes, strict=True))
        body.append(f'<tr><th scope="row"{first}</th>' + "".join(f"<td{cell}</td>" for cell in rest) + "</tr>")
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(body) + "\n"
        "</tbody></table></div>"
    )


def figure(svg: str, alt: str, caption: str = "") -> str:
    """A picture inside the page, with a text for those who do not see it."""
    data = base64.b64encode(svg.encode()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}" loading="lazy">'
    return f"<figure>{image}{below}</figure>"


def document(title: str, lead: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """The whole page.

    Args:
        title: heading of the page.
        lead: HTML under the heading.
        sections: (anchor, title, HTML of the section).
        footer: text at the end.
    """
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name, _ in sections)
    body = "\n".join(text for _, _, text in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body>"
        f'<a class="skip" href="#main">Skip to the findings</a><header><h1>{escape(title)}</h1>{lead}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">\n{body}\n</main>\n'
        f"<footer>{escape(footer)}</footer></body></html>\n"
    )
