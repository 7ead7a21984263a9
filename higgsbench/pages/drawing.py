"""The style of all figures, how they reach a page and separate files, and their numbers as one long table."""

from __future__ import annotations

import io
import itertools
import logging
import math
import re
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from higgsbench.errors import ConfigError, DataError, MissingExtraError, shortened
from higgsbench.files import atomic_path, check_folder_of, printable, told_plainly, write_text
from higgsbench.pages import FIGURE_FORMATS, Picture
from higgsbench.schema import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import polars
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_NUMBERS = ("x", "x_low", "x_high", "y", "y_low", "y_high", "value")


def figure_data(figure: Figure) -> polars.DataFrame:
    """Return the numbers of a figure: one row per point, step, bar or cell.

    Columns: panel (from 1), x_label and y_label, kind, series (its name in the legend), x and y with the ends of error
    bars, bands, steps and bars, value (of a cell), and x_name and y_name if the axis shows names.
    """
    import polars

    rows = []
    for panel, ax in enumerate(figure.axes, start=1):
        own = {"panel": panel, "x_label": ax.get_xlabel(), "y_label": ax.get_ylabel()}
        x_names, y_names = _names(ax.xaxis), _names(ax.yaxis)
        for row in _rows(ax):
            names = {"x_name": _nearest(x_names, row.get("x")), "y_name": _nearest(y_names, row.get("y"))}
            rows.append({**own, **row, **names})
    texts = ("x_label", "y_label", "kind", "series", "x_name", "y_name")
    schema = {"panel": polars.Int64} | dict.fromkeys(texts, polars.String) | dict.fromkeys(_NUMBERS, polars.Float64)
    return polars.DataFrame(rows, schema)


def _rows(ax: Axes) -> Iterator[dict[str, Any]]:
    from matplotlib.container import ErrorbarContainer

    bars = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    inside = {line for own in bars for line in (own.lines[0], *own.lines[1])}
    lines = [line for line in ax.get_lines() if line not in inside]
    boxes = [container for container in ax.containers if container not in bars]
    everything: tuple[Any, ...] = (*bars, *boxes, *lines, *ax.patches, *ax.collections)
    for drawn in everything:
        kind = next((how for name, how in _KINDS.items() if name in {c.__name__ for c in type(drawn).__mro__}), None)
        label = str(drawn.get_label())
        series = "" if label.startswith("_") else label
        for row in kind(drawn) if kind else ():
            yield {"series": series, **row}


def _error_bars(drawn: Any) -> Iterator[dict[str, Any]]:
    line, _, bars = drawn.lines
    which = [at for at, shown in enumerate((drawn.has_xerr, drawn.has_yerr)) if shown]
    ends = [(at, bar.get_segments()) for at, bar in zip(which, bars, strict=True)]
    for place, row in enumerate(_points(line.get_xydata())):
        for at, segments in ends:
            values = np.asarray(segments[place])[:, at] if len(segments[place]) else ()
            row |= {f"{'xy'[at]}_{end}": float(v) for end, v in zip(("low", "high"), values, strict=False)}
        yield row


def _points(places: Any, kind: str = "point") -> Iterator[dict[str, Any]]:
    for x, y in np.asarray(places, dtype=np.float64):
        yield {"kind": kind, "x": float(x), "y": float(y)}


def _bars(drawn: Any) -> Iterator[dict[str, Any]]:
    for bar in drawn.patches:
        x, y, width, height = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
        middle = {"x": float(x + 0.5 * width), "y": float(y + 0.5 * height)}
        ends = {"x_low": float(x), "x_high": float(x + width), "y_low": float(y), "y_high": float(y + height)}
        yield {"kind": "bar", **middle, **ends}


def _steps(drawn: Any) -> Iterator[dict[str, Any]]:
    values, edges, base = drawn.get_data()
    low = np.broadcast_to(0.0 if base is None else base, values.shape)
    for x0, x1, y, y0 in zip(edges[:-1], edges[1:], values, low, strict=True):
        ends = {"x_low": float(x0), "x_high": float(x1), "y_low": float(y0)}
        yield {"kind": "step", "x": float(0.5 * (x0 + x1)), "y": float(y), **ends}


def _cells(drawn: Any) -> Iterator[dict[str, Any]]:
    for (i, j), value in np.ndenumerate(np.ma.filled(drawn.get_array().astype(np.float64), np.nan)):
        yield {"kind": "cell", "x": j + 0.5, "y": i + 0.5, "value": float(value)}


def _bands(drawn: Any) -> Iterator[dict[str, Any]]:
    for path in drawn.get_paths():
        x, y = path.vertices.T
        for at in np.unique(x):
            ends = y[x == at]
            yield {"kind": "band", "x": float(at), "y_low": float(ends.min()), "y_high": float(ends.max())}


_KINDS: dict[str, Callable[[Any], Iterator[dict[str, Any]]]] = {
    "ErrorbarContainer": _error_bars,
    "BarContainer": _bars,
    "Line2D": lambda drawn: _points(drawn.get_xydata(), "line"),
    "StepPatch": _steps,
    "QuadMesh": _cells,
    "PathCollection": lambda drawn: _points(drawn.get_offsets()),
    "PolyCollection": _bands,
}
"""How to get the numbers of each Matplotlib class; by name, because importing Matplotlib is slow."""


def _names(axis: Axis) -> dict[float, str]:
    """Return the positions of the names on an axis, if it shows names."""
    from matplotlib.ticker import FixedLocator

    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    labels = [label.get_text() for label in axis.get_majorticklabels()]
    return dict(zip(map(float, axis.get_majorticklocs()), labels, strict=False))


def _nearest(names: dict[float, str], value: float | None) -> str | None:
    if value is None or not names:
        return None
    place = min(names, key=lambda at: abs(at - value))
    return names[place] if abs(place - value) < 0.5 else None


# Okabe and Ito's palette: readers with any common colour blindness can distinguish the colours.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SIGNAL, BACKGROUND = "#d55e00", "#0072b2"
INK, PAPER = "#222222", "#ffffff"
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_MARKERS = "osD^vP<>X"
WIDTH = 5.2
"""Inches of a large figure: two stand side by side on a page, and one stays readable on a phone."""
SOFT = "#80868c"
"""A grey that is readable on light and on dark paper."""
_DARK = {INK: "#e4e6e8", PAPER: "#16191d", "#d55e00": "#ff8f4d", "#0072b2": "#3f9de8", "#009e73": "#2fd0a2",
         "#56b4e9": "#a9e1ff"}  # fmt: skip
_PATH = re.compile(r' d="[^"]*"')
_INDENT = re.compile(r">\s+<")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # XML forbids them
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)
_DIGITS = re.compile(r"(\.\d\d)\d+")
STYLES = ("atlas", "cms", "plain")
_METADATA_OF: dict[str, dict[str, str | None]] = {
    "png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None, "Creator": None}
}  # fmt: skip


def _not_about_the_cache(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("mkdir -p failed for path", "Matplotlib created a temporary cache directory")
    )


def check_libraries() -> None:
    """Check early that the drawing libraries are installed; a `MissingExtraError` if not."""
    # Without a home folder Matplotlib warns that its cache is temporary, which the user cannot change here.
    logging.getLogger("matplotlib").addFilter(_not_about_the_cache)
    try:
        for name in ("matplotlib", "mplhep"):
            import_module(name)
    except ImportError as error:
        raise MissingExtraError("a page with pictures", "report") from error


@contextmanager
def style(name: str = "atlas") -> Iterator[None]:
    """Draw in the style of publications of ATLAS or CMS, or `plain`, with sizes and colours of figures.mplstyle.

    A `ConfigError` for another name.
    """
    if name not in STYLES:
        raise ConfigError(f"--style {shortened(name)}: choose from {', '.join(STYLES)}")
    check_libraries()
    import matplotlib.style
    import mplhep

    ticks = {"xtick.top": True, "ytick.right": True} if name == "cms" else {}
    base = {"atlas": mplhep.style.ATLAS, "cms": mplhep.style.CMS, "plain": {}}[name]
    with matplotlib.style.context([base, "higgsbench.pages.figures", ticks]), warnings.catch_warnings():
        # Characters that no font has are drawn as boxes; the page's text shows them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(
    width: float,
    height: float,
    *shape: int,
    layout: Literal["constrained"] | None = "constrained",
    dpi: int | None = None,
    **how: Any,
) -> tuple[Figure, Any]:
    """Return a figure of the given size in inches with its axes, an array of them for a shape (rows, columns).

    A `layout` of None keeps fixed margins, which draws faster where there are many figures. `how` goes to `subplots`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, dpi=dpi)
    return figure, figure.subplots(*shape, **how)


def row_looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour, line and marker of rows, for `plot` and `errorbar`.

    A model has its colour and its marker, and a variant its line, with hollow markers for all but the first, so that
    rows can be told apart without colours. The stack has the colour of text.
    """
    out: dict[str, dict[str, Any]] = {}
    variants: dict[str, list[str]] = {}
    for name in sorted(names):
        label, _, variant = name.partition(" [")
        variants.setdefault(label, []).append(variant)
    models = [label for label in variants if label != "stack"]
    for label, found in variants.items():
        number = models.index(label) if label in models else None
        color, marker = (
            (INK, "*") if number is None else (SERIES[number % len(SERIES)], _MARKERS[number % len(_MARKERS)])
        )
        for step, variant in enumerate(found):
            out[f"{label} [{variant}" if variant else label] = {
                "color": color, "linestyle": _DASHES[step % len(_DASHES)], "marker": marker,
                "markerfacecolor": PAPER if step else color,
            }  # fmt: skip
    return out


def draw_rows(
    ax: Axes,
    curves: Mapping[str, tuple[Any, Any]],
    looks: Mapping[str, dict[str, Any]],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Draw a line (x, y) per row, with a few markers that do not cover those of other rows."""
    for place, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, linewidth=1.1, markersize=3.5, markevery=(0.25 * (place + 0.5) / len(curves), 0.25),
                label=(labels or {}).get(name, printable(name)), **looks[name])  # fmt: skip


def name_axis(ax: Axes, names: Sequence[str]) -> None:
    """Label the rows of a figure one below the other, the first on top."""
    ax.set_yticks(range(len(names)), [printable(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)


def name_matrix(ax: Axes, names: Sequence[str], fontsize: float) -> None:
    """Label the rows and columns of a matrix, the first row on top."""
    at = [place + 0.5 for place in range(len(names))]
    ax.set_xticks(at, names, rotation=90, fontsize=fontsize)
    ax.set_yticks(at, names, fontsize=fontsize)
    ax.minorticks_off()
    ax.tick_params(length=0)
    ax.set(xlim=(0, len(names)), ylim=(len(names), 0))


def log_axis(ax: Axes, which: Literal["x", "y"], *, narrow: bool = False) -> None:
    """Make an axis logarithmic. Powers of ten are plain text, which is many times faster to draw than mathematics.

    A `narrow` axis may show less than a decade and has ticks between the powers of ten.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter("{x:g}" if narrow else FuncFormatter(_power))
    if narrow:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())


def _power(value: float, _position: int | None) -> str:
    exponent = round(math.log10(value)) if value > 0.0 else 0
    if 0 <= exponent <= 2:
        return f"{10**exponent}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG; its style sheet swaps the colours where the reader prefers dark."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    # A hundredth of a point is invisible, and further digits would be half the file.
    text = _PATH.sub(lambda path: _DIGITS.sub(r"\1", path.group()), text[text.index("<svg") :])
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    )
    text = _CONTROL.sub("", _METADATA.sub("", _INDENT.sub("><", text)))
    head = text.index(">") + 1
    return f"{text[:head]}<style>@media screen and (prefers-color-scheme:dark){{{rules}}}</style>{text[head:]}"


def name_quantity(ax: Axes, name: str, unit: str | None) -> None:
    """Label the horizontal axis with a column, its symbol if the layout has one, and its unit if it has one."""
    symbol = SYMBOLS.get(name)
    text = name if symbol is None else f"{name}: ${symbol}$"
    ax.set_xlabel(f"{text} [{unit}]" if unit else text, parse_math=symbol is not None)


def _put_label(figure: Figure, label: str) -> None:
    """Write a label above the right end of the upper right axes; colour bars do not count."""
    places = ((ax, ax.get_subplotspec()) for ax in figure.axes)
    *_, ax = (ax for ax, place in places if place is not None and place.is_first_row())
    ax.set_title(printable(label), loc="right", fontweight="bold", fontstyle="italic")


class Pictures:
    """Turns figures into parts of a page; with a folder, also keeps each in files and its numbers as CSV.

    Args:
        folder: is made here, or a `DataError` says why not.
        formats: of the files, some of `FIGURE_FORMATS`; a `ConfigError` otherwise.
        dpi: dots per inch of a PNG, and of parts of a PDF or SVG that are pixels.
        label: text above every figure, e.g. the name of an experiment.
    """

    def __init__(
        self, folder: Path | None = None, formats: Collection[str] = ("png", "pdf"), dpi: int = 200, label: str = ""
    ) -> None:
        self.folder, self.formats, self.dpi, self.label = folder, formats, dpi, label
        for name in formats:
            if name not in FIGURE_FORMATS:
                raise ConfigError(f"formats: {shortened(name)!r}: choose from {', '.join(FIGURE_FORMATS)}")
        self.names: list[str] = []
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"{folder}: the folder cannot be made: {error.strerror}") from error

    def add(self, name: str, figure: Figure, alt: str, caption: str = "") -> Picture:
        """Return a figure as a part of a page.

        Args:
            name: any text, which becomes the name of its files (a `DataError` if they cannot be written).
            figure: the figure.
            alt: what it shows, with the essential numbers.
            caption: text below it.
        """
        if self.label:
            _put_label(figure, self.label)
        if self.folder is not None:
            stem = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:80] or "figure"
            numbered = (f"{stem}-{number}" for number in itertools.count(2))
            self.names.append(next(unique for unique in itertools.chain([stem], numbered) if unique not in self.names))
            self._write(self.folder, self.names[-1], figure)
        return Picture(svg_text(figure), alt, caption)

    def _write(self, folder: Path, stem: str, figure: Figure) -> None:
        for suffix in self.formats:
            target = folder / f"{stem}.{suffix}"
            with told_plainly(DataError, target), atomic_path(target) as temporary:
                figure.savefig(temporary, format=suffix, dpi=self.dpi, metadata=_METADATA_OF[suffix])
        target = folder / f"{stem}.csv"
        with told_plainly(DataError, target), atomic_path(target) as temporary:
            figure_data(figure).write_csv(temporary)


def check_page(target: Path) -> None:
    """Check early whether a page can be made and written.

    A `MissingExtraError` if the drawing libraries are not installed; a `DataError` if the target is a folder, or its
    folder does not exist.
    """
    check_libraries()
    if target.is_dir():
        raise DataError(f"{target}: is a folder; give the name of a file in it")
    check_folder_of(target, DataError)


def write_page(target: Path, content: str) -> None:
    """Write a page atomically; a `DataError` if the file cannot be written."""
    with told_plainly(DataError, target):
        write_text(target, content)
