"""One page with the figures of a stored run, and its sections that show all rows together; nothing here trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import higgsbench.pages.drawing as draw
from higgsbench import __version__
from higgsbench.challenge import TOY, simulation_note
from higgsbench.compare import load_contenders
from higgsbench.compare.curve import curve_pictures, read_curve
from higgsbench.compare.measure import measure
from higgsbench.compare.ranks import ALPHA, cost_figure, rank_figure, rank_pictures
from higgsbench.ensemble.blend import score_correlation
from higgsbench.errors import StoreError
from higgsbench.files import printable
from higgsbench.leaderboard import LEGEND, web_table
from higgsbench.leaderboard.columns import choose_columns
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Cell, Definitions, Gallery, Heading, Listing, Section, Table, number, page, with_error
from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, SOFT, style
from higgsbench.report.events import processes, selection, shifts, spectators
from higgsbench.report.importance import importance
from higgsbench.report.model import statistical_model
from higgsbench.report.roc import roc
from higgsbench.report.rows import calibration, curves, separation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.metrics.estimates import Metric
    from higgsbench.pages import Part, Picture
    from higgsbench.report.context import Context
    from higgsbench.runs.stored import Stack

_WORDS = {"ams": "AMS", "auc": "weighted AUC"}
_AXES = {"ams": "AMS [standard deviations]", "auc": "weighted AUC"}
"""Names of metrics in sentences and on axes; other metrics use their heading."""

_FEWEST, _MOST, _DRAWS = 50, 200, 40_000_000
"""Bootstrap replicas of ranks, and the product of events, rows and replicas that takes a few seconds: larger runs get
fewer. The standard error of a standard error is 10% with 50 replicas."""


def render_report(context: Context) -> str:
    """Return the page of a run as HTML; a `StoreError` if it lacks rows or events, a `DataError` for bad shifts."""
    with style(context.style):
        sections = [
            Section("leaderboard", "Leaderboard", leaderboard(context)),
            Section("ranks", "Average ranks", ranks(context)),
            Section("cut", "AMS against the cut", curves(context)),
            Section("scores", "Scores of signal and background", separation(context)),
            Section("roc", "ROC, rejection, precision, confusion", roc(context)),
            Section("calibration", "Calibration of the log-odds", calibration(context)),
            Section("processes", "Processes in the selection", processes(context)),
            Section("selection", "Where the selected events lie", selection(context)),
            Section("spectators", "Spectators", spectators(context)),
            Section("shifts", "Systematic shifts", shifts(context)),
            Section("model", "Statistical model and intervals", statistical_model(context)),
            Section("importance", "Importance of features", importance(context)),
            Section("blend", "The blend and its members", blend(context)),
            Section("learning", "Learning curve", learning_curve(context)),
            Section("cost", "Time against quality", costs(context)),
            Section("provenance", "Configuration, environment, data", provenance(context)),
        ]
    footer = (
        f"Made by higgsbench {__version__} report from the run {printable(context.run.name)}. All numbers use "
        "evaluation weights, rescaled per class to the reference totals. Figures of the leaderboard at full precision: "
        "higgsbench leaderboard --format json."
    )
    return page(f"Report of {printable(context.run.name)}", _lead(context), sections, footer)


def _lead(context: Context) -> list[str]:
    rows, best = context.rows, context.rows[0]
    close = [r["name"] for r in rows if r.get("distinguishable") is False]
    text = f"Best by cross-validated AMS: {best['name']}, {with_error(best['ams_cv'], best['ams_cv_se'])}, weighted "
    text += f"AUC {with_error(best['auc'], best['auc_se'])}. "
    if close:
        text += f"{len(close)} of the {len(rows) - 1} other rows cannot be distinguished from it on these events "
        text += f"(paired difference under two standard errors): {', '.join(close)}."
    elif len(rows) > 1:
        text += "Every other row is worse by more than two paired standard errors."
    notes = list(dict.fromkeys([*context.notes, *context.events.notes]))
    if context.run.comparability.get("simulated"):
        notes.insert(0, TOY)
    return [printable(line) for line in (context.table.title, text, *notes)]


def provenance(context: Context) -> list[Part]:
    """Show data digests and what the rows share, versions and hardware, and the configuration to run again."""
    rules = ", ".join(dict.fromkeys(_plain(r.get("cut_rule", "?")) for r in context.rows))
    entries = [("source", printable(context.table.source)), ("cut rule", rules)]
    entries += [
        (str(key).replace("_", " "), _plain(value))
        for key, value in context.run.comparability.items()
        if value is not None
    ]
    environment: dict[str, Any] = context.optional("environment", {})
    packages = environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    machine = [(k, _plain(v)) for k, v in environment.items() if k != "packages"]
    out: list[Part] = [Heading("Data and definitions"), Definitions(entries)]
    if machine or versions:
        installed = ((name, version or "not installed") for name, version in sorted(versions.items()))
        rows = [(printable(name), _plain(version)) for name, version in installed]
        table = Table("Versions of packages", ["package", "version"], rows, text=(0, 1))
        out += [Heading("Environment"), Definitions(machine), table]
    configuration: str = context.optional("configuration", "")
    if configuration:
        text = "\n".join(printable(line) for line in configuration.splitlines())
        out += [Heading("Configuration with all presets and defaults"), Listing(text, "Configuration")]
    return out


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(f"{value:,.12g}" if isinstance(value, (int, float)) else value)


def _drawn_metrics() -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.headline and metric.resampled]


def leaderboard(context: Context) -> list[Part]:
    """Show the table of all rows, and their metrics with one standard error; AMS also at its best and held out."""
    table, rows = context.table, context.rows
    pictures = []
    for metric in _drawn_metrics():
        first = (f"{r['name']} {with_error(r.get(metric.key), r.get(f'{metric.key}_se'))}" for r in rows[:3])
        name = _WORDS.get(metric.name, metric.heading)
        alt = f"Cross-validated {name} of {len(rows)} rows with standard errors; first rows: {', '.join(first)}."
        pictures.append(context.pictures.add(f"leaderboard-{metric.name}", _metric_figure(metric, rows), alt))
    intro = (
        "Bars: one standard error. Rows share their events, so their errors move together; the paired differences in "
        "the table have smaller errors than these bars suggest."
    )
    columns = [column for column in choose_columns(None, table.rows) if column.name != "run"]
    shown = web_table(table, columns)._replace(caption="Rows of the run")
    return [intro, Gallery(pictures, "wide"), LEGEND, *filter(None, [simulation_note(rows)]), shown]


def _metric_figure(metric: Metric, rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw a metric of all rows, the AMS also at its optimistic cut and on held-out events."""
    figure, ax = draw.new_figure(draw.WIDTH, 1.2 + 0.27 * len(rows))
    at = np.arange(len(rows))
    values, errors = ([r.get(key, np.nan) for r in rows] for key in (metric.key, f"{metric.key}_se"))
    ax.errorbar(values, at, xerr=errors, fmt="o", markersize=4, color=BACKGROUND, capsize=2.5,
                label="cross-validated")  # fmt: skip
    if metric.needs_cut:
        ax.plot([r.get("ams_oof_max", np.nan) for r in rows], at, "v", markersize=4.5, color=SERIES[5],
                markerfacecolor=PAPER, label="optimistic max")  # fmt: skip
        held_out = [
            (i + 0.22, r["ams_test"], r.get("ams_test_se") or 0.0) for i, r in enumerate(rows) if r.get("ams_test")
        ]
        if held_out:
            place, ams, spread = zip(*held_out, strict=True)
            ax.errorbar(ams, place, xerr=spread, fmt="s", markersize=3.5, color=SIGNAL, capsize=2.5,
                        label="held out, frozen cut")  # fmt: skip
    draw.name_axis(ax, [r["name"] for r in rows])
    ax.grid(axis="x", color=SOFT, alpha=0.3, linewidth=0.6)
    ax.set_xlabel(_AXES.get(metric.name, metric.heading))
    ax.locator_params(axis="x", nbins=5)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def ranks(context: Context) -> list[Part]:
    """Show the average ranks that a comparison of the rows finds; a single row has no ranks."""
    contenders, _ = load_contenders([str(context.run.folder)])
    if len(contenders) < 2:
        return []
    draws = _DRAWS // sum(c.scores.size for c in contenders)
    pictures = []
    for metric, found in rank_pictures(measure(contenders, min(max(draws, _FEWEST), _MOST))).items():
        title = "AMS at each row's own honest cut" if metric == "ams" else _WORDS.get(metric, METRICS[metric].heading)
        words = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        groups = "; ".join(" ≈ ".join(found.names[i] for i in group) for group in found.groups)
        alt = f"Average ranks by {title}: {words}. Not distinguished: {groups or 'none'}."
        pictures.append(context.pictures.add(f"average-ranks-{metric}", rank_figure(found), alt, f"By {title}."))
    intro = (
        "Ranks of the rows, mean over bootstrap replicas of the events. Bars join neighbours that do not differ at "
        f"the level {ALPHA:g}, after Holm's correction over all pairs; higgsbench compare shows the pairs."
    )
    return [intro, Gallery(pictures, "wide")]


def blend(context: Context) -> list[Part]:
    """Show the weights of the blend, and how similar the rows are."""
    stack: Stack | None = context.optional("stack", None)
    pictures, tables = ([], []) if stack is None else _weights(context, stack)
    names = [r["name"] for r in context.rows]
    scores = context.scores
    matrix = score_correlation(np.stack([scores.by_row[n][0] for n in names], axis=1), scores.y, scores.weight)
    off = np.where(np.eye(len(names), dtype=np.bool_), np.nan, matrix)
    if np.isfinite(off).any():
        low, high = (divmod(int(at), len(names)) for at in (np.nanargmin(off), np.nanargmax(off)))
        alt = (
            f"Correlations of scores of {len(names)} rows; least alike: {names[low[0]]} and {names[low[1]]}, "
            f"{off[low]:.3f}; most: {names[high[0]]} and {names[high[1]]}, {off[high]:.3f}."
        )
        caption = "Weighted, within a class; both classes count equally. A blend gains from good members that differ."
        pictures.append(context.pictures.add("correlation", _correlation_figure(matrix, names), alt, caption))
    return [Gallery(pictures, "wide"), *tables] if pictures else []


def _weights(context: Context, stack: Stack) -> tuple[list[Picture], list[Table]]:
    """Show the weights of the blend; bars are the final ones, points their mean and spread over folds."""
    members = sorted(stack.members, key=lambda m: -abs(m.weight))
    weights = [m.weight for m in members]
    means, spreads = [m.weight_mean_over_folds for m in members], [m.weight_sd_over_folds for m in members]
    figure, ax = draw.new_figure(draw.WIDTH, 1.0 + 0.24 * len(members))
    at = np.arange(len(members))
    ax.barh(at, weights, height=0.65, color=BACKGROUND, alpha=0.6, label="weight")
    ax.errorbar(means, at, xerr=spreads, fmt="o", markersize=3, color=INK, capsize=2, label="mean ± s.d. over folds")
    ax.axvline(0.0, color=INK, linewidth=0.8)
    draw.name_axis(ax, [m.name for m in members])
    ax.set_xlabel("weight in the blend of log-odds")
    figure.legend(loc="outside upper right", ncols=2)
    words = ", ".join(f"{m.name} {m.weight:.2f}" for m in members[:4])
    alt = f"Weights of {len(members)} members in the blend; largest: {words}."
    rows = [
        (printable(m.name), Cell(f"{weight:.3f}", weight), Cell(f"{mean:.3f} ± {spread:.3f}", mean))
        for m, weight, mean, spread in zip(members, weights, means, spreads, strict=True)
    ]
    caption, headings = f"Blend by the method {printable(stack.method)}", ["member", "weight", "mean ± s.d. over folds"]
    return [context.pictures.add("blend-weights", figure, alt)], [Table(caption, headings, rows, sortable=True)]


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


def costs(context: Context) -> list[Part]:
    """Show quality against fitting time."""
    rows = [r for r in context.rows if isinstance(r.get("fit_seconds"), (int, float)) and r["fit_seconds"] > 0.0]
    if not rows:
        return []
    ends = [min(rows, key=lambda r: float(r["fit_seconds"])), max(rows, key=lambda r: float(r["fit_seconds"]))]
    pictures = []
    for metric in _drawn_metrics():
        name = _WORDS.get(metric.name, metric.heading)
        words = " and ".join(
            f"{r['name']} {number(r['fit_seconds'], 3)} s, {number(r.get(metric.key), 4)}" for r in ends
        )
        alt = f"{name} against the time of all fits; fastest and slowest: {words}."
        points = {
            r["name"]: (r["fit_seconds"], *(r.get(k, np.nan) for k in (metric.key, f"{metric.key}_se"))) for r in rows
        }
        figure = cost_figure(points, _AXES.get(metric.name, metric.heading), context.looks)
        pictures.append(context.pictures.add(f"cost-{metric.name}", figure, alt))
    intro = "Bars: one standard error; hollow: a variant of the model. A busy machine takes longer."
    return [intro, Gallery(pictures, "wide")]
