"""Collect the numbers of a figure in one long table, so that users can draw it in another program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
