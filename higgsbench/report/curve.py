"""The section of the learning curve: each row's metrics against the number of training events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import higgsbench.pages.drawing as draw
from higgsbench.compare.curve import SHOWN, read_curve
from higgsbench.errors import StoreError
from higgsbench.files import printable
from higgsbench.pages import Gallery
from higgsbench.pages.drawing import INK, SERIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from higgsbench.compare.curve import LearningCurve
    from higgsbench.metrics.estimates import Metric
    from higgsbench.pages import Part, Picture
    from higgsbench.pages.drawing import Pictures
    from higgsbench.report.context import Context

_MARKERS = "osD^vP<>X"


def learning_curve(context: Context) -> list[Part]:
    """Show the learning curve that `higgsbench learning-curve` computed for the configuration of the run, if any."""
    try:
        curve = read_curve(context.run.folder)
    except StoreError as error:
        context.notes.append(str(error))
        return []
    if curve is None:
        return []
    intro = (
        "The models of this configuration trained on fewer events, always evaluated on the same held-out folds. Bars: "
        "one standard error. All points share the evaluated events, so gains have smaller errors than the bars suggest."
    )
    pictures = curve_pictures(curve, context.pictures, context.looks)
    return [intro, Gallery(pictures, "wide"), *map(printable, curve.remarks()), *curve.as_tables()]


def curve_pictures(
    curve: LearningCurve, pictures: Pictures, looks: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Picture]:
    """Draw each metric of all rows against the number of training events; `looks` are those of other figures."""
    rows = list(dict.fromkeys(point.row for point in curve.points))
    own: dict[str, Mapping[str, Any]] = {
        row: {"color": SERIES[i % len(SERIES)], "marker": _MARKERS[i % len(_MARKERS)]} for i, row in enumerate(rows)
    }
    own |= {"stack": {"color": INK, "marker": "*"}, **(looks or {})}
    text = f"of {len(rows)} rows against the number of training events. {' '.join(curve.remarks())}"
    return [
        pictures.add(f"learning-curve-{m.name}", _figure(curve, m, rows, own), f"{m.heading} {text}") for m in SHOWN
    ]


def _figure(curve: LearningCurve, metric: Metric, rows: list[str], looks: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, ax = draw.new_figure(draw.WIDTH, 3.4 + 0.07 * len(rows))
    for row in rows:
        points = [(point.events, *point.values[metric.name]) for point in curve.points if point.row == row]
        events, values, errors = zip(*points, strict=True)
        y, spread = ([metric.scale * value for value in of] for of in (values, errors))
        ax.errorbar(
            events, y, yerr=spread, markersize=4, linewidth=1.0, capsize=2.0, label=printable(row), **looks[row]
        )
    draw.log_axis(ax, "x", narrow=True)
    ax.set(xlabel="training events of a fit", ylabel=metric.heading)
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    return figure
