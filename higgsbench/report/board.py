"""Sections that show all rows of the run together: each with its numbers and its figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import higgsbench.pages.drawing as draw
from higgsbench.compare import load_contenders
from higgsbench.compare.contest import ALPHA, rank_pictures
from higgsbench.compare.measure import measure
from higgsbench.files import printable
from higgsbench.leaderboard.board import LEGEND, page_table
from higgsbench.leaderboard.columns import choose_columns
from higgsbench.metrics.ams import ams_scan
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Cell, Gallery, Table, number, with_error
from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, SOFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.metrics.estimates import Metric
    from higgsbench.pages import Part, Picture
    from higgsbench.report.context import Context, Scores
    from higgsbench.runs.stored import Stack

_EFFICIENCIES = (0.2, 0.3, 0.5, 0.7)
"""Signal efficiencies at which the table shows the background rejection."""

_WORDS = {"ams": "AMS", "auc": "weighted AUC"}
_AXES = {"ams": "AMS [standard deviations]", "auc": "weighted AUC"}
"""Names of metrics in sentences and on axes; other metrics use their heading."""

_FEWEST, _MOST, _DRAWS = 50, 200, 40_000_000
"""Bootstrap replicas of ranks, and the product of events, rows and replicas that takes a few seconds: larger runs get
fewer. The standard error of a standard error is 10% with 50 replicas."""


def _drawn_metrics() -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.headline and metric.resampled]


def _in_words() -> str:
    return " and ".join(_WORDS.get(metric.name, metric.heading) for metric in _drawn_metrics())


def leaderboard(context: Context) -> list[Part]:
    """Show the table of all rows, and their metrics with one standard error; AMS also at its best and held out."""
    table, rows, metrics = context.table, context.rows, _drawn_metrics()
    figure, axes = draw.new_figure(4.2 * len(metrics), 1.1 + 0.27 * len(rows), 1, len(metrics), sharey=True)
    at = np.arange(len(rows))
    for metric, ax in zip(metrics, axes, strict=True):
        values, errors = ([r.get(key, np.nan) for r in rows] for key in (metric.key, f"{metric.key}_se"))
        ax.errorbar(values, at, xerr=errors, fmt="o", markersize=4, color=BACKGROUND, capsize=2.5,
                    label="cross-validated")  # fmt: skip
        ax.grid(axis="x", color=SOFT, alpha=0.3, linewidth=0.6)
        ax.set_xlabel(_AXES.get(metric.name, metric.heading))
        ax.locator_params(axis="x", nbins=5)
    ams = axes[0]
    ams.plot([r.get("ams_oof_max", np.nan) for r in rows], at, "v", markersize=4.5, color=SERIES[5],
             markerfacecolor=PAPER, label="optimistic max")  # fmt: skip
    tested = [(i + 0.22, r["ams_test"], r.get("ams_test_se") or 0.0) for i, r in enumerate(rows) if r.get("ams_test")]
    if tested:
        place, held_out, spread = zip(*tested, strict=True)
        ams.errorbar(held_out, place, xerr=spread, fmt="s", markersize=3.5, color=SIGNAL, capsize=2.5,
                     label="held out, frozen cut")  # fmt: skip
    draw.name_axis(ams, [r["name"] for r in rows])
    ams.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=7, handletextpad=0.2, columnspacing=1.0)
    best = ", ".join(f"{r['name']} {with_error(r['ams_cv'], r['ams_cv_se'])}" for r in rows[:3])
    alt = f"Cross-validated {_in_words()} of {len(rows)} rows with standard errors; highest AMS: {best}."
    caption = (
        "Bars: one standard error. Rows share their events, so their errors move together; the paired differences in "
        "the table have smaller errors than these bars suggest."
    )
    chosen = sorted((c for c in choose_columns(None, table.rows) if c.name != "run"), key=lambda c: c.name != "model")
    picture = context.pictures.add("leaderboard", figure, alt, caption)
    return [picture, LEGEND, page_table(table, chosen)._replace(caption="Rows of the run")]


def ranks(context: Context) -> list[Part]:
    """Show the average ranks that a comparison of the rows finds; a single row has no ranks.

    The critical-difference diagram of Demsar (J. Mach. Learn. Res. 7 (2006) 1), names one below the other.
    """
    contenders, _ = load_contenders([str(context.run.folder)])
    if len(contenders) < 2:
        return []
    draws = _DRAWS // sum(c.scores.size for c in contenders)
    pictures = []
    for metric, found in rank_pictures(measure(contenders, min(max(draws, _FEWEST), _MOST))).items():
        alike = [group for group in found.groups if len(group) > 1]
        figure, ax = draw.new_figure(6.4, 1.0 + 0.26 * len(found.names))
        at = np.arange(len(found.names))
        ax.hlines(at, 1.0, found.ranks, color=SOFT, linewidth=0.8)
        ax.plot(found.ranks, at, "o", color=BACKGROUND, markersize=4.5)
        for step, group in enumerate(alike, start=1):
            x = (1.0 + 0.05 * step) * max(found.ranks)
            ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
        draw.name_axis(ax, found.names)
        ax.set_xlabel("average rank (1: best); a bar joins models that cannot be distinguished")
        title = "AMS at each row's own honest cut" if metric == "ams" else _WORDS.get(metric, METRICS[metric].heading)
        words = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        groups = "; ".join(" ≈ ".join(found.names[i] for i in group) for group in alike)
        alt = f"Average ranks by {title}: {words}. Not distinguished: {groups or 'none'}."
        pictures.append(context.pictures.add(f"average-ranks-{metric}", figure, alt, f"By {title}."))
    intro = (
        "Ranks of the rows, mean over bootstrap replicas of the events. Bars join neighbours that do not differ at "
        f"the level {ALPHA:g}, after Holm's correction over all pairs; higgsbench compare shows the pairs."
    )
    return [intro, Gallery(pictures, "wide")]


class Efficiency(NamedTuple):
    """Background efficiency (k,) at ascending signal efficiencies (k,), and the effective number of its events (k,)."""

    signal: NDArray[np.float64]
    background: NDArray[np.float64]
    events: NDArray[np.float64]


def efficiency(scores: Scores, name: str) -> Efficiency:
    """Weighted ROC curve at even signal efficiencies, mean over repeats."""
    at = np.linspace(0.005, 1.0, 200)
    background, effective = [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight)
        share = curve.s / curve.s[-1]
        place = np.minimum(np.searchsorted(share, at - 1e-12), len(curve) - 1)
        squares = np.cumsum(np.where(curve.sorted_labels, 0.0, curve.sorted_weights**2))[curve.count - 1]
        background.append((curve.b / curve.b[-1])[place])
        with np.errstate(invalid="ignore", divide="ignore"):
            effective.append(np.where(squares > 0.0, curve.b**2 / squares, 0.0)[place])
    return Efficiency(at, np.mean(background, axis=0), np.mean(effective, axis=0))


def roc(context: Context) -> list[Part]:
    """Show weighted ROC curves and background rejection."""
    found = {r["name"]: efficiency(context.scores, r["name"]) for r in context.rows}
    aucs = {r["name"]: float(r["auc"]) for r in context.rows}
    figure, ax = draw.new_figure(6.4, 4.0)
    for name, curve in found.items():
        look = context.looks[name]
        ax.plot(100 * curve.background, 100 * curve.signal, color=look["color"], linestyle=look["linestyle"],
                linewidth=1.1, label=f"{name}: {aucs[name]:.4f}")  # fmt: skip
    ax.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, linestyle=":")
    ax.set(xlim=(0, 100), xlabel="background efficiency, weighted [%]")
    ax.set(ylim=(0, 100), ylabel="signal efficiency, weighted [%]")
    ax.legend(loc="lower right", title="weighted AUC", fontsize=7, title_fontsize=7)
    first = ", ".join(f"{n} {aucs[n]:.4f}" for n in sorted(aucs, key=lambda n: -aucs[n])[:3])
    alt = f"Weighted ROC curves; highest areas: {first}."
    left = context.pictures.add("roc", figure, alt, "Colours: models; dashes: variants.")
    best = context.rows[0]["name"]
    at = [int(np.argmin(np.abs(found[best].signal - share))) for share in _EFFICIENCIES]
    with np.errstate(divide="ignore"):
        kept: dict[str, list[float]] = {name: (1.0 / curve.background[at]).tolist() for name, curve in found.items()}
    words = ", ".join(f"{value:,.0f} at {share:.0%}" for value, share in zip(kept[best], _EFFICIENCIES, strict=True))
    alt = f"Background rejection against signal efficiency; {best} keeps one background event in {words} of the signal."
    caption = (
        f"Below: background that {best} keeps, divided by the row's (above 1: the row keeps less); grey: standard "
        "error. Drawn where at least ten effective background events are left."
    )
    right = context.pictures.add("rejection", _rejection_figure(found, context.looks, best), alt, caption)
    cells = {name: [Cell(number(value), value) for value in values] for name, values in kept.items()}
    rows: list[list[str | Cell]] = [[name, *cells[name]] for name in cells]
    headings = ["row", *(f"1 / ε_b at ε_s = {share:.0%}" for share in _EFFICIENCIES)]
    table = Table("Background rejection, weighted, out of fold", headings, rows, sortable=True)
    return [Gallery([left, right], "wide"), table]


def _rejection_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], reference: str) -> Figure:
    """Draw the background rejection, and its ratio to a reference row, for ten or more effective background events."""
    figure, (upper, lower) = draw.new_figure(6.4, 4.0, 2, 1, sharex=True, height_ratios=(3, 1.6))
    base = curves[reference]
    band = 1.0 / np.sqrt(np.maximum(base.events, 1.0))
    known = base.events >= 10.0
    lower.fill_between(100 * base.signal[known], 1 - band[known], 1 + band[known], color=SOFT, alpha=0.3, linewidth=0)
    for name, curve in curves.items():
        look = {key: looks[name][key] for key in ("color", "linestyle")}
        known = curve.events >= 10.0
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = 1.0 / curve.background[known]
            upper.plot(100 * curve.signal[known], shown, linewidth=1.1, label=printable(name), **look)
            lower.plot(100 * curve.signal[known], (base.background / curve.background)[known], linewidth=1.1, **look)
    draw.log_axis(upper, "y")
    upper.set_ylim(bottom=1.0)
    upper.set_ylabel(r"rejection $1\,/\,\varepsilon_b$", parse_math=True)
    upper.legend(loc="upper right", ncols=2, fontsize=7)
    lower.set(xlim=(0, 100), xlabel="signal efficiency, weighted [%]", ylim=(0.5, 1.3), ylabel="ratio to best")
    return figure


def blend(context: Context) -> list[Part]:
    """Show the weights of the blend, and how similar the rows are."""
    stack: Stack | None = context.optional("stack", None)
    pictures, tables = ([], []) if stack is None else _weights(context, stack)
    names = [r["name"] for r in context.rows]
    matrix = correlation(context.scores, names)
    off = np.where(np.eye(len(names), dtype=np.bool_), np.nan, matrix)
    if np.isfinite(off).any():
        low, high = (divmod(int(at), len(names)) for at in (np.nanargmin(off), np.nanargmax(off)))
        alt = (
            f"Correlations of scores of {len(names)} rows; least alike: {names[low[0]]} and {names[low[1]]}, "
            f"{off[low]:.3f}; most: {names[high[0]]} and {names[high[1]]}, {off[high]:.3f}."
        )
        caption = "Weighted, inside a class, mean of both classes. A blend gains from members that are good and differ."
        pictures.append(context.pictures.add("correlation", _correlation_figure(matrix, names), alt, caption))
    return [Gallery(pictures, "wide"), *tables] if pictures else []


def _weights(context: Context, stack: Stack) -> tuple[list[Picture], list[Table]]:
    """Show the weights of the blend; bars are the final ones, points their mean and spread over folds."""
    members = sorted(stack.members, key=lambda m: -abs(m.weight))
    weights = [m.weight for m in members]
    means, spreads = [m.weight_mean_over_folds for m in members], [m.weight_sd_over_folds for m in members]
    figure, ax = draw.new_figure(5.4, 1.0 + 0.24 * len(members))
    at = np.arange(len(members))
    ax.barh(at, weights, height=0.65, color=BACKGROUND, alpha=0.6, label="weight")
    ax.errorbar(means, at, xerr=spreads, fmt="o", markersize=3, color=INK, capsize=2, label="mean ± s.d. over folds")
    ax.axvline(0.0, color=INK, linewidth=0.8)
    draw.name_axis(ax, [m.name for m in members])
    ax.set_xlabel("weight in the blend of log-odds")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7)
    words = ", ".join(f"{m.name} {m.weight:.2f}" for m in members[:4])
    alt = f"Weights of {len(members)} members in the blend; largest: {words}."
    rows = [
        (printable(m.name), Cell(f"{weight:.3f}", weight), Cell(f"{mean:.3f} ± {spread:.3f}", mean))
        for m, weight, mean, spread in zip(members, weights, means, spreads, strict=True)
    ]
    caption, headings = f"Blend by the method {printable(stack.method)}", ["member", "weight", "mean ± s.d. over folds"]
    return [context.pictures.add("blend-weights", figure, alt)], [Table(caption, headings, rows, sortable=True)]


def correlation(scores: Scores, names: Sequence[str]) -> NDArray[np.float64]:
    """(m, m) weighted correlations of scores inside a class, mean of both classes.

    Inside a class, because the separation of the classes would make any two good models look alike.
    """
    matrix = np.zeros((len(names), len(names)))
    for members in (scores.y, ~scores.y):
        weight = scores.weight[members] / np.sum(scores.weight[members])
        values = np.stack([scores.by_row[name][0][members] for name in names])
        centred = values - (values @ weight)[:, None]
        covariance = (centred * weight) @ centred.T
        spread = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix += 0.5 * covariance / np.outer(spread, spread)
    return matrix


def _correlation_figure(matrix: NDArray[np.float64], names: Sequence[str]) -> Figure:
    side = 2.4 + 0.26 * len(names)
    figure, ax = draw.new_figure(side + 0.6, side)
    low = float(np.nanmin(matrix)) if np.isfinite(matrix).any() else 0.0
    mesh = ax.pcolormesh(matrix, cmap="cividis", vmin=min(low, 0.99), vmax=1.0, rasterized=True)
    if len(names) <= 16:
        for (i, j), value in np.ndenumerate(matrix):
            color = "#fefefe" if value < 0.5 * (low + 1.0) else "#111111"
            ax.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    draw.name_matrix(ax, [printable(name) for name in names], 7)
    figure.colorbar(mesh, ax=ax, shrink=0.7).set_label("correlation of log-odds inside a class", fontsize=7)
    return figure


def costs(context: Context) -> list[Part]:
    """Show quality against fitting time."""
    rows = [r for r in context.rows if isinstance(r.get("fit_seconds"), (int, float)) and r["fit_seconds"] > 0.0]
    if not rows:
        return []
    ends = [min(rows, key=lambda r: float(r["fit_seconds"])), max(rows, key=lambda r: float(r["fit_seconds"]))]
    words = " and ".join(f"{r['name']} {number(r['fit_seconds'], 3)} s, AMS {r['ams_cv']:.2f}" for r in ends)
    alt = f"{_in_words()} against the time of all fits; fastest and slowest: {words}."
    caption = "Bars: one standard error; hollow: a variant of the model. A busy machine takes longer."
    metrics = _drawn_metrics()
    figure, axes = draw.new_figure(4.2 * len(metrics), 3.5, 1, len(metrics))
    for metric, ax in zip(metrics, axes, strict=True):
        for record in rows:
            look = context.looks[record["name"]]
            hollow = {} if look["linestyle"] == "-" else {"markerfacecolor": PAPER}
            ax.errorbar([record["fit_seconds"]], [record.get(metric.key, np.nan)],
                        yerr=[record.get(f"{metric.key}_se", np.nan)],
                        fmt=look["marker"], color=look["color"], markersize=5, elinewidth=0.8, label=record["name"],
                        **hollow)  # fmt: skip
        times = [record["fit_seconds"] for record in rows]
        draw.log_axis(ax, "x", narrow=max(times) < 100.0 * min(times))
        ax.set(xlabel="time of all fits [s]", ylabel=_AXES.get(metric.name, metric.heading))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return [context.pictures.add("cost", figure, alt, caption)]
