"""Self-contained, accessible pages: records of what a page shows, which the templates turn into HTML."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jinja2 import Template


class Cell(NamedTuple):
    """A table cell that shows a text and sorts by a number; cells without a number come last in either direction."""

    text: str
    value: float | None

    @property
    def key(self) -> str:
        """The number as the page's script reads it."""
        value = math.nan if self.value is None else float(self.value)
        return "" if math.isnan(value) else repr(value).replace("inf", "Infinity")


@dataclass(frozen=True)
class Table:
    """A table; the first column holds row headings.

    Attributes:
        caption: what the table shows.
        headings: column headings.
        rows: cells, as text or, where a number decides the order, as `Cell`.
        text: positions of the columns that hold text; numbers are aligned to the right.
        sortable: whether the headings are buttons that sort.
        marks: style class of each row, `best`, `failed` or none.
    """

    kind: ClassVar[str] = "table"
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    text: Collection[int] = (0,)
    sortable: bool = False
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG with a caption, and a text for readers who cannot see it, with the essential numbers."""

    kind: ClassVar[str] = "picture"
    svg: str
    alt: str
    caption: str = ""

    @property
    def base64(self) -> str:
        """The drawing as a data address holds it."""
        return base64.b64encode(self.svg.encode()).decode()


@dataclass(frozen=True)
class Gallery:
    """Figures side by side: many small ones in a `grid`, two or three `wide` ones."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]
    layout: Literal["grid", "wide"] = "grid"


@dataclass(frozen=True)
class Details:
    """Parts that the reader unfolds."""

    kind: ClassVar[str] = "details"
    summary: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Definitions:
    """Names with their values."""

    kind: ClassVar[str] = "definitions"
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Listing:
    """A text that keeps its lines, with a label for readers who cannot see it."""

    kind: ClassVar[str] = "listing"
    text: str
    label: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
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
    shown = [section for section in sections if section.parts]
    style = _resource("style.css")
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    script = ""
    if any(_sorts(part) for parts in (lead, *(s.parts for s in shown)) for part in parts):
        script = _resource("sort.js")
        policy += f"; script-src {_digest(script)}"
    return _template().render(
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


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("higgsbench.pages"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")


def _printable(value: Any) -> Any:
    """Replace control characters, which HTML forbids; leave HTML from the templates as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in value)
