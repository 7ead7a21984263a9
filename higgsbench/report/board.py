"""Sections that show all rows of the run together, each beside its numbers and its figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.compare import load_contenders
from higgsbench.compare.contest import rank_pictures
from higgsbench.files import printable
from higgsbench.leaderboard.columns import choose_columns
from higgsbench.leaderboard.render import LEGEND, page_table
from higgsbench.metrics.ams import ams_scan
from higgsbench.pages import number, with_error
from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, SOFT, log_axis, new_figure
from higgsbench.pages.html import Cell, Gallery, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.compare.contest import RankPicture
    from higgsbench.pages.html import Part
    from higgsbench.report.context import Context, Scores
    from higgsbench.runs.stored import StackMember

__all__ = ["Efficiency", "average_ranks", "blend", "correlation", "costs", "efficiency", "leaderboard", "ranks", "roc"]

_EFFICIENCIES = (0.2, 0.3, 0.5, 0.7)
"""Signal efficiencies at which the table shows the background rejection."""

_RANKED = {"ams": "AMS at each row's own honest cut", "auc": "weighted AUC"}

_REPLICAS = (50, 200)
"""Fewest and most bootstrap replicas; the standard error of a standard error is 10% with 50 of them."""

_DRAWS = 40_000_000
"""Events times rows times replicas that take a few seconds; larger runs get fewer replicas."""


def leaderboard(context: Context) -> list[Part]:
    """Show the table of all rows, and its figure."""
    table, ok = context.table, context.rows
    chosen = sorted((c for c in choose_columns(None, table.rows) if c.name != "run"), key=lambda c: c.name != "model")
    best = ", ".join(f"{r['name']} {with_error(r['ams_cv'], r['ams_cv_se'])}" for r in ok[:3])
    alt = f"Cross-validated AMS and weighted AUC of {len(ok)} rows with standard errors; highest AMS: {best}."
    caption = (
        "Bars: one standard error. Rows share their events, so their errors move together; the paired differences in "
        "the table are sharper than they look here."
    )
    picture = context.pictures.add("leaderboard", board_figure(ok), alt, caption)
    return [picture, LEGEND, page_table(table, chosen, "Rows of the run")]


def board_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC of all rows with one standard error, best row on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.1 + 0.27 * len(records)), layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    right = figure.add_subplot(1, 2, 2, sharey=left)
    at = np.arange(len(records))
    left.errorbar([r["ams_cv"] for r in records], at, xerr=[r["ams_cv_se"] for r in records], fmt="o", markersize=4,
                  color=BACKGROUND, capsize=2.5, label="cross-validated")  # fmt: skip
    left.plot([r.get("ams_oof_max", np.nan) for r in records], at, "v", markersize=4.5, color=SERIES[5],
              markerfacecolor=PAPER, label="optimistic max")  # fmt: skip
    tested = [(i, r["ams_test"], r.get("ams_test_se") or 0.0) for i, r in enumerate(records) if r.get("ams_test")]
    if tested:
        place, values, errors = (np.array(part, dtype=float) for part in zip(*tested, strict=True))
        left.errorbar(values, place + 0.22, xerr=errors, fmt="s", markersize=3.5, color=SIGNAL, capsize=2.5,
                      label="held out, frozen cut")  # fmt: skip
    right.errorbar([r["auc"] for r in records], at, xerr=[r["auc_se"] for r in records], fmt="o", markersize=4,
                   color=BACKGROUND, capsize=2.5)  # fmt: skip
    left.set_yticks(at, [r["name"] for r in records])
    left.set_ylim(len(records) - 0.4, -0.6)
    right.tick_params(axis="y", labelleft=False)
    for ax in (left, right):
        ax.grid(axis="x", color=SOFT, alpha=0.3, linewidth=0.6)
    left.set_xlabel("AMS [standard deviations]")
    right.set_xlabel("weighted AUC")
    right.locator_params(axis="x", nbins=5)
    left.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=7, handletextpad=0.2, columnspacing=1.0)
    return figure


def ranks(context: Context) -> list[Part]:
    """Show the average ranks that a comparison of the rows finds."""
    pictures = []
    found = average_ranks(context.run.folder)
    for each in found:
        title = _RANKED.get(each.metric, each.metric)
        words = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(each.names, each.ranks, strict=True))
        alike = [" ≈ ".join(each.names[i] for i in group) for group in each.groups if len(group) > 1]
        alt = f"Average ranks by {title}: {words}. Not told apart: {'; '.join(alike) if alike else 'none'}."
        figure = rank_figure([printable(n) for n in each.names], each.ranks.tolist(), each.groups)
        pictures.append(context.pictures.add(f"average-ranks-{each.metric}", figure, alt, f"By {title}."))
    if not pictures:
        return []
    intro = (
        "Ranks of the rows, mean over bootstrap replicas of the events. Bars join neighbours of which no two differ at "
        f"the level {found[0].alpha:g}, after Holm's correction over all pairs; higgsbench compare shows the pairs."
    )
    return [intro, Gallery(pictures, "wide")]


def average_ranks(folder: Path) -> tuple[RankPicture, ...]:
    """Rank the rows of a run by AMS and by weighted AUC; a single row has no ranks.

    Args:
        folder: the run's folder.

    Raises:
        StoreError: if the run is damaged.
    """
    contenders, _ = load_contenders([str(folder)])
    if len(contenders) < 2:
        return ()
    size = sum(c.scores.size for c in contenders)
    found = rank_pictures(contenders, replicas=min(max(_DRAWS // size, _REPLICAS[0]), _REPLICAS[1]))
    return tuple(found[metric] for metric in ("ams", "auc") if metric in found)


def rank_figure(names: Sequence[str], ranks: Sequence[float], groups: Sequence[Sequence[int]]) -> Figure:
    """Draw average ranks, with bars over neighbours that cannot be told apart.

    The critical-difference diagram of Demsar (J. Mach. Learn. Res. 7 (2006) 1), names below each other.

    Args:
        names: models, best average rank first.
        ranks: their average ranks.
        groups: positions in `names` of models that cannot be told apart.
    """
    figure, ax = new_figure(6.4, 1.0 + 0.26 * len(names))
    at = np.arange(len(names))
    ax.hlines(at, 1.0, ranks, color=SOFT, linewidth=0.8)
    ax.plot(ranks, at, "o", color=BACKGROUND, markersize=4.5)
    right = max(ranks, default=1.0)
    wide = [group for group in groups if len(group) > 1]
    for step, group in enumerate(wide, start=1):
        x = right + 0.05 * right * step
        ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
    ax.set_yticks(at, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("average rank (1: best); a bar joins models that cannot be told apart")
    return figure


def roc(context: Context) -> list[Part]:
    """Show weighted ROC curves and background rejection."""
    found = {r["name"]: efficiency(context.scores, r["name"]) for r in context.rows}
    aucs = {r["name"]: float(r["auc"]) for r in context.rows}
    best = context.rows[0]["name"]
    first = ", ".join(f"{n} {aucs[n]:.4f}" for n in sorted(aucs, key=lambda n: -aucs[n])[:3])
    left = context.pictures.add(
        "roc",
        roc_figure(found, context.looks, aucs),
        f"Weighted ROC curves; highest areas: {first}.",
        "Colours: models; dashes: variants.",
    )
    words = ", ".join(
        f"{v:,.0f} at {share:.0%}" for v, share in zip(found[best].rejections, _EFFICIENCIES, strict=True)
    )
    right = context.pictures.add(
        "rejection",
        rejection_figure(found, context.looks, best),
        f"Background rejection against signal efficiency; {best} keeps one background event in {words} of the signal.",
        f"Below: background that {best} keeps, over that of the row (above 1: the row keeps less); grey: standard "
        "error. Drawn from ten effective background events on.",
    )
    rows = [(name, *(Cell(number(v), v) for v in curve.rejections)) for name, curve in found.items()]
    headings = ["row", *(f"1 / ε_b at ε_s = {share:.0%}" for share in _EFFICIENCIES)]
    table = Table("Background rejection, weighted, out of fold", headings, rows, sortable=True)
    return [Gallery([left, right], "wide"), table]


@dataclass(frozen=True)
class Efficiency:
    """Background efficiency against signal efficiency.

    Attributes:
        signal: (k,) signal efficiency, ascending.
        background: (k,) weighted background efficiency there.
        events: (k,) effective number of selected background events there.
    """

    signal: NDArray[np.float64]
    background: NDArray[np.float64]
    events: NDArray[np.float64]

    @property
    def rejections(self) -> list[float]:
        """Background rejection at the signal efficiencies of the table; infinite where no background is left."""
        at = [int(np.argmin(np.abs(self.signal - share))) for share in _EFFICIENCIES]
        with np.errstate(divide="ignore"):
            values: list[float] = (1.0 / self.background[at]).tolist()
        return values


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


def roc_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], aucs: dict[str, float]) -> Figure:
    """Draw the weighted ROC curves of all rows."""
    figure, ax = new_figure(6.4, 4.0)
    for name, curve in curves.items():
        look = looks[name]
        ax.plot(100 * curve.background, 100 * curve.signal, color=look["color"], linestyle=look["linestyle"],
                linewidth=1.1, label=f"{name}: {aucs[name]:.4f}")  # fmt: skip
    ax.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_xlabel("background efficiency, weighted [%]")
    ax.set_ylabel("signal efficiency, weighted [%]")
    ax.legend(loc="lower right", title="weighted AUC", fontsize=7, title_fontsize=7)
    return figure


def rejection_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], reference: str) -> Figure:
    """Draw the background rejection against the signal efficiency, and its ratio to a reference row.

    Where fewer than ten effective background events are left, a curve means nothing and is not drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.6))
    upper, lower = axes[0], axes[1]
    base = curves[reference]
    band = 1.0 / np.sqrt(np.maximum(base.events, 1.0))
    known = base.events >= 10.0
    lower.fill_between(100 * base.signal[known], 1 - band[known], 1 + band[known], color=SOFT, alpha=0.3, linewidth=0)
    for name, curve in curves.items():
        look = {key: looks[name][key] for key in ("color", "linestyle")}
        known = curve.events >= 10.0
        with np.errstate(divide="ignore", invalid="ignore"):
            upper.plot(100 * curve.signal[known], 1.0 / curve.background[known], linewidth=1.1, **look)
            lower.plot(100 * curve.signal[known], (base.background / curve.background)[known], linewidth=1.1, **look)
    log_axis(upper, "y")
    upper.set_ylim(bottom=1.0)
    lower.set_ylim(0.5, 1.3)
    lower.set_xlim(0, 100)
    upper.set_ylabel("rejection 1 / ε_b")
    lower.set_ylabel("ratio to best")
    lower.set_xlabel("signal efficiency, weighted [%]")
    return figure


def blend(context: Context) -> list[Part]:
    """Show the weights of the blend, and how similar the rows are."""
    pictures, tables = [], []
    stack = context.stack
    if stack is not None:
        members = sorted(stack.members, key=lambda m: -abs(m.weight))
        words = ", ".join(f"{m.name} {m.weight:.2f}" for m in members[:4])
        alt = f"Weights of {len(members)} members in the blend; largest: {words}."
        pictures.append(context.pictures.add("blend-weights", weights_figure(members), alt))
        rows = [(printable(m.name), Cell(f"{m.weight:.3f}", m.weight), _over_folds(m)) for m in members]
        caption = f"Blend by the method {printable(stack.method)}"
        tables.append(Table(caption, ["member", "weight", "mean ± s.d. over folds"], rows, sortable=True))
    names = [r["name"] for r in context.rows]
    matrix = correlation(context.scores, names)
    off = np.where(np.eye(len(names), dtype=np.bool_), np.nan, matrix)
    if np.isfinite(off).any():
        low, high = (divmod(int(at), len(names)) for at in (np.nanargmin(off), np.nanargmax(off)))
        alt = (
            f"Correlations of scores of {len(names)} rows; least alike: {names[low[0]]} and {names[low[1]]}, "
            f"{off[low]:.3f}; most: {names[high[0]]} and {names[high[1]]}, {off[high]:.3f}."
        )
        caption = "Weighted, inside a class, mean of both classes. A blend gains from members that are good and unlike."
        figure = correlation_figure(matrix, [printable(n) for n in names])
        pictures.append(context.pictures.add("correlation", figure, alt, caption))
    return [Gallery(pictures, "wide"), *tables] if pictures else []


def _over_folds(member: StackMember) -> Cell:
    mean, spread = member.weight_mean_over_folds, member.weight_sd_over_folds
    return Cell(f"{mean:.3f} ± {spread:.3f}", mean)


def weights_figure(members: Sequence[StackMember]) -> Figure:
    """Draw the weights of the blend; bars are the final ones, points their mean and spread over folds."""
    figure, ax = new_figure(5.4, 1.0 + 0.24 * len(members))
    at = np.arange(len(members))
    ax.barh(at, [m.weight for m in members], height=0.65, color=BACKGROUND, alpha=0.6, label="weight")
    ax.errorbar([m.weight_mean_over_folds for m in members], at, xerr=[m.weight_sd_over_folds for m in members],
                fmt="o", markersize=3, color=INK, capsize=2, label="mean ± s.d. over folds")  # fmt: skip
    ax.axvline(0.0, color=INK, linewidth=0.8)
    ax.set_yticks(at, [m.name for m in members])
    ax.set_ylim(len(members) - 0.4, -0.6)
    ax.set_xlabel("weight in the blend of log-odds")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7)
    return figure


def correlation(scores: Scores, names: Sequence[str]) -> NDArray[np.float64]:
    """(m, m) weighted correlations of scores inside a class, mean of both classes.

    Inside a class, because what separates the classes would make any two good models look alike.
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


def correlation_figure(matrix: NDArray[np.float64], names: Sequence[str]) -> Figure:
    """Draw how alike the scores of rows are inside a class."""
    side = 2.4 + 0.26 * len(names)
    figure, ax = new_figure(side + 0.6, side)
    low = float(np.nanmin(matrix)) if np.isfinite(matrix).any() else 0.0
    mesh = ax.pcolormesh(matrix, cmap="cividis", vmin=min(low, 0.99), vmax=1.0, rasterized=True)
    if len(names) <= 16:
        for (i, j), value in np.ndenumerate(matrix):
            color = "#fefefe" if value < 0.5 * (low + 1.0) else "#111111"
            ax.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    at = np.arange(len(names)) + 0.5
    ax.set_xticks(at, names, rotation=90, fontsize=7)
    ax.set_yticks(at, names, fontsize=7)
    ax.tick_params(length=0)
    ax.set_ylim(len(names), 0)
    ax.set_xlim(0, len(names))
    figure.colorbar(mesh, ax=ax, shrink=0.7).set_label("correlation of log-odds inside a class", fontsize=7)
    return figure


def costs(context: Context) -> list[Part]:
    """Show quality against fitting time."""
    rows = [r for r in context.rows if isinstance(r.get("fit_seconds"), (int, float)) and r["fit_seconds"] > 0.0]
    if not rows:
        return []
    ends = [min(rows, key=lambda r: float(r["fit_seconds"])), max(rows, key=lambda r: float(r["fit_seconds"]))]
    words = " and ".join(f"{r['name']} {number(r['fit_seconds'], 3)} s, AMS {r['ams_cv']:.2f}" for r in ends)
    alt = f"AMS and weighted AUC against the time of all fits; fastest and slowest: {words}."
    caption = "Bars: one standard error; hollow: a variant of the model. A busy machine takes longer."
    return [context.pictures.add("cost", cost_figure(rows, context.looks), alt, caption)]


def cost_figure(records: Sequence[dict[str, Any]], looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC against the time of all fits of a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for metric, label, ax in (("ams_cv", "AMS cv [standard deviations]", axes[0]), ("auc", "weighted AUC", axes[1])):
        for record in records:
            look = looks[record["name"]]
            hollow = {} if look["linestyle"] == "-" else {"markerfacecolor": PAPER}
            ax.errorbar([record["fit_seconds"]], [record[metric]], yerr=[record[f"{metric}_se"]], fmt=look["marker"],
                        color=look["color"], markersize=5, elinewidth=0.8, label=record["name"], **hollow)  # fmt: skip
        log_axis(ax, "x")
        ax.set_xlabel("time of all fits [s]")
        ax.set_ylabel(label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    return figure
