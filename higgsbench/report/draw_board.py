"""Figures that show all rows of the leaderboard together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, SOFT, log_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.report.numbers import Efficiency

__all__ = ["board_figure", "correlation_figure", "cost_figure", "learning_figure", "rank_figure", "rejection_figure",
           "roc_figure", "row_looks", "weights_figure"]  # fmt: skip

_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_MARKERS = "osD^vP<>X*"


def row_looks(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give every row a colour by model, a line by variant and a marker by model; the blend is drawn in ink.

    Where models outnumber the colours, line and marker tell them apart.
    """
    labels = sorted({r["label"] for r in records if r["label"] != "stack"})
    variants = {label: sorted({r["variant"] for r in records if r["label"] == label}) for label in labels}
    out = {}
    for record in records:
        label = record["label"]
        if label not in variants:
            out[record["name"]] = {"color": INK, "linestyle": "-", "marker": "*"}
            continue
        number = labels.index(label)
        step = variants[label].index(record["variant"]) + number // len(SERIES)
        out[record["name"]] = {"color": SERIES[number % len(SERIES)], "linestyle": _DASHES[step % len(_DASHES)],
                               "marker": _MARKERS[number % len(_MARKERS)]}  # fmt: skip
    return out


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


def weights_figure(members: Sequence[dict[str, Any]]) -> Figure:
    """Draw the weights of the blend; bars are the final ones, points their mean and spread over folds."""
    figure, ax = new_figure(5.4, 1.0 + 0.24 * len(members))
    at = np.arange(len(members))
    ax.barh(at, [m["weight"] for m in members], height=0.65, color=BACKGROUND, alpha=0.6, label="weight")
    ax.errorbar([m["weight_mean_over_folds"] for m in members], at, xerr=[m["weight_sd_over_folds"] for m in members],
                fmt="o", markersize=3, color=INK, capsize=2, label="mean ± s.d. over folds")  # fmt: skip
    ax.axvline(0.0, color=INK, linewidth=0.8)
    ax.set_yticks(at, [m["name"] for m in members])
    ax.set_ylim(len(members) - 0.4, -0.6)
    ax.set_xlabel("weight in the blend of log-odds")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7)
    return figure


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


def learning_figure(points: Sequence[dict[str, Any]], looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC against the number of training events."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    other = {"color": INK, "linestyle": ":", "marker": "x"}
    for metric, label, ax in (("ams_cv", "AMS cv [standard deviations]", axes[0]), ("auc", "weighted AUC", axes[1])):
        for name, group in itertools.groupby(sorted(points, key=_by_name_and_size), key=lambda p: str(p["name"])):
            rows = list(group)
            x, y, se = ([row[key] for row in rows] for key in ("train_events", metric, f"{metric}_se"))
            ax.errorbar(x, y, yerr=se, markersize=4, capsize=2, label=name, **looks.get(name, other))
        log_axis(ax, "x")
        ax.set_xlabel("training events")
        ax.set_ylabel(label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    return figure


def _by_name_and_size(point: dict[str, Any]) -> tuple[str, float]:
    return str(point["name"]), float(point["train_events"])


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
    for number, group in enumerate(wide, start=1):
        x = right + 0.05 * (right - 1.0 + 1.0) * number
        ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
    ax.set_yticks(at, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("average rank (1: best); a bar joins models that cannot be told apart")
    return figure
