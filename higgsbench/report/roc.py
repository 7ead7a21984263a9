"""The section of ROC curves: rejection, precision, working points, and the confusion at the cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import higgsbench.pages.drawing as draw
from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.files import printable
from higgsbench.metrics.ams import ams_scan
from higgsbench.pages import Cell, Gallery, Table, with_error
from higgsbench.pages.drawing import SOFT, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.metrics.ams import AMSCurve
    from higgsbench.pages import Part
    from higgsbench.report.context import Context, Scores
    from higgsbench.runs.stored import StoredRow

EFFICIENCIES = (0.3, 0.5, 0.7, 0.8, 0.9)
"""Signal efficiencies of the working points."""


class Efficiency(NamedTuple):
    """Background efficiency at ascending signal efficiencies, all (k,).

    `se` is the standard error of the background efficiency at fixed signal efficiency; `events` the effective number of
    selected background events.
    """

    signal: NDArray[np.float64]
    background: NDArray[np.float64]
    se: NDArray[np.float64]
    events: NDArray[np.float64]


def efficiency(scores: Scores, name: str) -> Efficiency:
    """Weighted ROC curve at even signal efficiencies, mean over repeats.

    The error is that of weighted shares, of the background above the cut and, through the slope of the curve, of the
    signal that places the cut: the events of both classes are independent.
    """
    at = np.linspace(0.005, 1.0, 200)
    background, errors, effective = [], [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight)
        share = curve.s / curve.s[-1]
        place = np.minimum(np.searchsorted(share, at - 1e-12), len(curve) - 1)
        kept = (curve.b / curve.b[-1])[place]
        squares, all_squares = _squares(curve, curve.sorted_labels, place)
        variance_s = (squares * (1.0 - at) ** 2 + (all_squares - squares) * at**2) / curve.s[-1] ** 2
        squares, all_squares = _squares(curve, ~curve.sorted_labels, place)
        variance_b = (squares * (1.0 - kept) ** 2 + (all_squares - squares) * kept**2) / curve.b[-1] ** 2
        # Over nine points, because single steps of the curve are noise.
        low, high = np.maximum(np.arange(at.size) - 4, 0), np.minimum(np.arange(at.size) + 4, at.size - 1)
        slope = (kept[high] - kept[low]) / (at[high] - at[low])
        errors.append(np.sqrt(np.maximum(variance_b + slope**2 * variance_s, 0.0)))
        background.append(kept)
        with np.errstate(invalid="ignore", divide="ignore"):
            effective.append(np.where(squares > 0.0, curve.b[place] ** 2 / squares, 0.0))
    return Efficiency(at, *(np.mean(values, axis=0) for values in (background, errors, effective)))


def _squares(curve: AMSCurve, members: NDArray[np.bool_], place: NDArray[np.intp]) -> tuple[NDArray[np.float64], float]:
    """Return sums of squared weights of a class above the cuts (k,), and of all its events."""
    sums = np.cumsum(np.where(members, curve.sorted_weights**2, 0.0))
    return sums[curve.count[place] - 1], float(sums[-1])


def roc(context: Context) -> list[Part]:
    """Show weighted ROC curves and background rejection."""
    found = {r["name"]: efficiency(context.scores, r["name"]) for r in context.rows}
    aucs = {r["name"]: float(r["auc"]) for r in context.rows}
    figure, ax = draw.new_figure(WIDTH, 4.0)
    lines = {name: (100 * curve.background, 100 * curve.signal) for name, curve in found.items()}
    draw.draw_rows(ax, lines, context.looks, {name: f"{printable(name)}: {auc:.4f}" for name, auc in aucs.items()})
    ax.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, linestyle=":")
    ax.set(xlim=(0, 100), xlabel="background efficiency, weighted [%]")
    ax.set(ylim=(0, 100), ylabel="signal efficiency, weighted [%]")
    ax.legend(loc="lower right", title="weighted AUC", fontsize=7, title_fontsize=7)
    first = ", ".join(f"{n} {aucs[n]:.4f}" for n in sorted(aucs, key=lambda n: -aucs[n])[:3])
    alt = f"Weighted ROC curves; highest areas: {first}."
    left = context.pictures.add("roc", figure, alt, "Colour and marker: model; line: variant.")
    best = context.rows[0]["name"]
    points = [_rejection(found[best], share) for share in EFFICIENCIES]
    words = ", ".join(f"{with_error(*p)} at {share:.0%}" for p, share in zip(points, EFFICIENCIES, strict=True))
    alt = f"Background rejection against signal efficiency; {best} keeps one background event in {words} of the signal."
    caption = (
        f"Below: background that {best} keeps, divided by the row's (above 1: the row keeps less); grey: standard "
        "error. Drawn where at least ten effective background events are left."
    )
    right = context.pictures.add("rejection", _rejection_figure(found, context.looks, best), alt, caption)
    return [Gallery([left, right], "wide"), working_points(found), *_precision(context, found), *_confusion(context)]


def _rejection(curve: Efficiency, share: float) -> tuple[float, float]:
    """Return the background rejection at a signal efficiency, and its standard error."""
    at = int(np.argmin(np.abs(curve.signal - share)))
    kept, se = float(curve.background[at]), float(curve.se[at])
    return (1.0 / kept, se / kept**2) if kept > 0.0 else (np.inf, np.nan)


def working_points(curves: dict[str, Efficiency]) -> Table:
    """Return the background rejection of every row at fixed signal efficiencies."""
    rows: list[list[str | Cell]] = []
    for name, curve in curves.items():
        points = [_rejection(curve, share) for share in EFFICIENCIES]
        rows.append([printable(name), *(Cell(with_error(value, se), value) for value, se in points)])
    headings = ["row", *(f"1 / ε_b at ε_s = {share:.0%}" for share in EFFICIENCIES)]
    caption = "Working points: background rejection at fixed signal efficiency, weighted, out of fold, ± standard error"
    return Table(caption, headings, rows, sortable=True)


def _precision(context: Context, curves: dict[str, Efficiency]) -> list[Part]:
    """Show the precision, s / (s + b) at the reference totals, against the signal efficiency (recall)."""
    n_s, n_b = context.run.totals
    figure, ax = draw.new_figure(WIDTH, 3.6 + 0.07 * len(curves))
    lines = {}
    for name, curve in curves.items():
        known = curve.events >= 10.0
        s, b = n_s * curve.signal[known], n_b * curve.background[known]
        lines[name] = 100 * curve.signal[known], 100 * s / (s + b)
    draw.draw_rows(ax, lines, context.looks)
    best = context.rows[0]["name"]
    highest = float(lines[best][1].max(initial=0.0))
    base = 100 * n_s / (n_s + n_b)
    ax.axhline(base, color=SOFT, linewidth=0.8, linestyle=":", label="no selection")
    ax.set(xlim=(0, 100), xlabel="recall: signal efficiency, weighted [%]")
    ax.set(ylim=(0, None), ylabel="precision: s / (s + b) [%]")
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    alt = f"Precision against recall; highest of {best}: {highest:.2g}%; without a selection {base:.2g}%."
    caption = "At the reference totals, out of fold. Drawn where at least ten effective background events are left."
    return [context.pictures.add("precision-recall", figure, alt, caption)]


def _confusion(context: Context) -> list[Part]:
    """Show what each row selects and rejects of both classes, as a matrix for the best row."""
    rows: list[list[str | Cell]] = []
    totals = dict(zip(("s", "b"), context.run.totals, strict=True))
    complete = {row.name: row for row in context.run.rows if row.ok}
    shares = {r["name"]: selected_shares(complete[r["name"]]) for r in context.rows if r["name"] in complete}
    if not shares:
        return []
    best = next(iter(shares))
    for name, found in shares.items():
        cells = [
            Cell(with_error(n * (p if kept else 1.0 - p), n * se), n * (p if kept else 1.0 - p))
            for (p, se), n in zip(found, totals.values(), strict=True)
            for kept in (True, False)
        ]
        rows.append([printable(name), *cells])
    headings = ["row", "true positives", "false negatives", "false positives", "true negatives"]
    caption = "Confusion at the cross-validated cut, expected events ± standard error; positive: selected"
    matrix = np.array([[p, 1.0 - p] for p, _ in shares[best]])
    figure, ax = draw.new_figure(3.6, 2.9)
    ax.pcolormesh(matrix, cmap="Blues", vmin=0.0, vmax=1.0, rasterized=True)
    for (i, j), share in np.ndenumerate(matrix):
        text = f"{100 * share:.1f}%\n{list(totals.values())[i] * share:,.0f}"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", color="#fefefe" if share > 0.5 else "#111111")
    draw.name_matrix(ax, ["selected", "rejected"], 8)
    ax.set_xticklabels(["selected", "rejected"], rotation=0)
    ax.set_yticks([0.5, 1.5], ["signal", "background"])
    ax.set_title(printable(best), loc="left")
    (s, _), (b, _) = shares[best]
    alt = f"Confusion matrix of {best}: {s:.1%} of the signal and {b:.1%} of the background are selected."
    below = "Shares of each class and expected events, at the cross-validated cut."
    return [context.pictures.add("confusion", figure, alt, below), Table(caption, headings, rows, sortable=True)]


def selected_shares(row: StoredRow) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the shares of signal and background that the cross-validated cut selects, with their standard errors.

    Means over repeats; the error is that of a weighted share, which does not shrink with repeats on the same events.
    """
    order = row.run.by_event
    truth = row.truth.at(order)
    kept = np.mean([cross_validated_selection(s, truth, k) for k, s in enumerate(row.scores[:, order])], axis=0)
    out = []
    for members in (truth.y, ~truth.y):
        w = truth.weight[members] / truth.weight[members].sum()
        share = float(w @ kept[members])
        out.append((share, float(np.sqrt(np.sum((w * (kept[members] - share)) ** 2)))))
    return out[0], out[1]


def _rejection_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], reference: str) -> Figure:
    """Draw the background rejection, and its ratio to a reference row, for ten or more effective background events."""
    figure, (upper, lower) = draw.new_figure(WIDTH, 4.0 + 0.07 * len(curves), 2, 1, sharex=True, height_ratios=(3, 1.6))
    base = curves[reference]
    band = 1.0 / np.sqrt(np.maximum(base.events, 1.0))
    known = base.events >= 10.0
    lower.fill_between(100 * base.signal[known], 1 - band[known], 1 + band[known], color=SOFT, alpha=0.3, linewidth=0)
    for ax, above in ((upper, 1.0), (lower, base.background)):
        lines = {}
        for name, curve in curves.items():
            known = curve.events >= 10.0
            with np.errstate(divide="ignore", invalid="ignore"):
                lines[name] = 100 * curve.signal[known], (above / curve.background)[known]
        draw.draw_rows(ax, lines, looks)
    draw.log_axis(upper, "y")
    upper.set_ylim(bottom=1.0)
    upper.set_ylabel(r"rejection $1\,/\,\varepsilon_b$", parse_math=True)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=7)
    lower.set(xlim=(0, 100), xlabel="signal efficiency, weighted [%]", ylim=(0.5, 1.3), ylabel="ratio to best")
    return figure
