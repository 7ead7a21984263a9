"""The section of the learning curve: each row's metrics against the number of training events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import higgsbench.pages.drawing as draw
from higgsbench.compare.curve import SHOWN, read_curve
from higgsbench.errors import StoreError
from higgsbench.files import printable
from higgsbench.pages.drawing import INK, SERIES

if TYPE_CHECKING:
    from higgsbench.compare.curve import LearningCurve
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
        "The same models trained on fewer events and evaluated on the same held-out folds; 'events' are those of one "
        "fit, and 'draws' the number of random subsets of that size."
    )
    return [intro, curve_picture(curve, context.pictures), *map(printable, curve.remarks()), *curve.as_tables()]


def curve_picture(curve: LearningCurve, pictures: Pictures) -> Picture:
    """Draw the metrics of all rows against the number of training events, with one standard error."""
    figure, axes = draw.new_figure(3.6 * len(SHOWN), 3.4, 1, len(SHOWN))
    rows = list(dict.fromkeys(point.row for point in curve.points))
    for metric, ax in zip(SHOWN, axes, strict=True):
        for number, row in enumerate(rows):
            points = [point for point in curve.points if point.row == row]
            x = [point.events for point in points]
            values, errors = zip(*(point.values[metric.name] for point in points), strict=True)
            look = {"color": SERIES[number % len(SERIES)], "marker": _MARKERS[number % len(_MARKERS)]}
            look |= {"color": INK, "marker": "*"} if row == "stack" else {}
            y, spread = ([metric.scale * value for value in of] for of in (values, errors))
            ax.errorbar(x, y, yerr=spread, markersize=3.5, linewidth=1.0, capsize=2.0, label=printable(row), **look)
        draw.log_axis(ax, "x", narrow=True)
        ax.set(xlabel="training events of a fit", ylabel=metric.heading)
    axes[-1].legend(fontsize=7)
    alt = f"Learning curve of {len(rows)} rows. {' '.join(curve.remarks())}"
    caption = (
        "Bars: one standard error. All points are evaluated on the same events, so differences have smaller errors."
    )
    return pictures.add("learning-curve", figure, alt, caption)
