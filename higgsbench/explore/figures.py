"""Pictures of an exploration as SVG that follows the reader's light or dark colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, axis_label, log_axis, new_figure, svg_text

if TYPE_CHECKING:
    from higgsbench.explore.result import Correlations, Exploration, FeatureSummary

__all__ = [
    "auc_figure",
    "balance_figure",
    "correlation_figure",
    "drift_figure",
    "feature_figure",
    "missing_figure",
    "split_figure",
]

_COLORS = {"signal": SIGNAL, "background": BACKGROUND, "unlabelled": BACKGROUND}


def feature_figure(feature: FeatureSummary) -> str:
    """Draw the histograms of all classes, each with unit area, with bands of one standard error."""
    figure, ax = new_figure(3.6, 2.5, layout=None)
    # Thirty of them: a fixed layout saves seconds.
    figure.subplots_adjust(left=0.16, right=0.95, bottom=0.18, top=0.92)
    edges = np.array(feature.edges)
    width = np.diff(edges)
    for summary in feature.classes:
        bars = summary.histogram
        values, errors = np.array(bars.values), np.sqrt(np.array(bars.variances))
        total = values.sum() + bars.below + bars.above
        if not total > 0.0:
            continue
        density, error = values / total / width, errors / total / width
        color = _COLORS[summary.label]
        dashed = summary.label == "signal"
        ax.stairs(density, edges, color=color, label=summary.label, linestyle="--" if dashed else "-")
        low, high = (np.append(v, v[-1]) for v in (np.maximum(density - error, 0.0), density + error))
        ax.fill_between(edges, low, high, step="post", color=color, alpha=0.25, linewidth=0)
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_ylim(bottom=0.0, top=1.28 * ax.get_ylim()[1])
    ax.set_xlabel(axis_label(feature.name, feature.unit))
    ax.set_ylabel(f"density [1/{feature.unit}]" if feature.unit else "density")
    ax.locator_params(axis="x", nbins=6)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.legend(loc="upper right", ncols=len(feature.classes))
    return svg_text(figure)


def balance_figure(found: Exploration) -> str:
    """Draw events in the file beside expected events, by group, on a logarithmic axis."""
    rows = [g for g in found.groups if g.group is not None] or list(found.groups)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    axes = (left, figure.add_subplot(1, 2, 2, sharey=left))
    at = np.arange(len(rows))
    tables: tuple[tuple[str, list[Any], list[Any]], ...] = (
        ("events in the file", [r.signal_events for r in rows], [r.background_events for r in rows]),
        ("expected events", [r.signal_expected for r in rows], [r.background_expected for r in rows]),
    )
    for ax, (title, signal, background) in zip(axes, tables, strict=True):
        for offset, label, values in ((-0.2, "signal", signal), (0.2, "background", background)):
            heights = [max(float(v or 0.0), 0.0) for v in values]
            hatch = "///" if label == "signal" else None
            ax.bar(at + offset, heights, 0.4, label=label, color=_COLORS[label], hatch=hatch, edgecolor=PAPER)
        log_axis(ax, "y")
        ax.set_xticks(at, ["all" if r.group is None else str(r.group) for r in rows])
        ax.tick_params(axis="x", which="minor", bottom=False)
        ax.set_xlabel(found.group or "")
        ax.set_title(title)
    shown = [float(v) for _, *columns in tables for values in columns for v in values if v and v > 0.0]
    if shown:
        axes[0].set_ylim(min(shown) / 3.0, max(shown) * 8.0)
    axes[0].set_ylabel("events")
    axes[1].legend(loc="upper right", ncols=2)
    return svg_text(figure)


def missing_figure(found: Exploration) -> str:
    """Draw the weighted share of missing values by feature, group and class."""
    names = list(dict.fromkeys(row.feature for row in found.missing))
    columns = list(dict.fromkeys((row.group, row.label) for row in found.missing))
    shares = {(r.feature, r.group, r.label): r.weighted_share for r in found.missing}
    grid = np.array([[shares[name, *c] if shares[name, *c] is not None else np.nan for c in columns] for name in names])
    figure, ax = new_figure(7.2, 1.1 + 0.25 * len(names))
    ax.pcolormesh(100 * grid.astype(float), cmap="cividis", vmin=0, vmax=100, edgecolors=PAPER, linewidth=1)
    if len(columns) <= 12:
        for (i, j), share in np.ndenumerate(grid.astype(float)):
            if np.isfinite(share):
                color = "#fefefe" if share < 0.55 else "#111111"
                ax.text(j + 0.5, i + 0.5, f"{100 * share:.1f}", ha="center", va="center", color=color, fontsize=7)
    short = {"signal": "s", "background": "b", "unlabelled": ""}
    ticks = [f"{'all' if g is None else g}\n{short[label]}" for g, label in columns]
    ax.set_xticks(np.arange(len(columns)) + 0.5, ticks)
    ax.set_yticks(np.arange(len(names)) + 0.5, names)
    ax.tick_params(which="both", length=0)
    ax.minorticks_off()
    ax.set_ylim(len(names), 0)
    ax.set_xlim(0, len(columns))
    ax.set_xlabel(f"{found.group or 'group'}, class; weighted share missing [%]")
    return svg_text(figure)


def auc_figure(found: Exploration) -> str:
    """Draw the single-feature AUC with its standard errors, strongest feature on top."""
    rows = [f for f in found.ranked() if f.auc is not None]
    figure, ax = new_figure(7.2, 1.0 + 0.19 * len(rows))
    at = np.arange(len(rows))
    values = np.array([f.auc for f in rows], dtype=float)
    errors = [f.auc_se or 0.0 for f in rows]
    ax.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    ax.errorbar(values, at, xerr=errors, fmt="o", markersize=3.5, color=_COLORS["background"], capsize=2)
    ax.set_yticks(at, [f.name for f in rows])
    ax.set_ylim(len(rows) - 0.3, -0.7)
    ax.set_xlabel("weighted AUC of the feature by itself (0.5: no separation; below: signal has the smaller values)")
    return svg_text(figure)


def correlation_figure(found: Correlations, names: tuple[str, ...]) -> str:
    """Draw a correlation matrix."""
    side = 2.6 + 0.155 * len(names)
    figure, ax = new_figure(side, side - 0.9)
    matrix = np.array(found.matrix, dtype=float)
    mesh = ax.pcolormesh(matrix, cmap="PuOr_r", vmin=-1, vmax=1, rasterized=True)
    at = np.arange(len(names)) + 0.5
    ax.set_xticks(at, names, rotation=90, fontsize=6.5)
    ax.set_yticks(at, names, fontsize=6.5)
    ax.minorticks_off()
    ax.tick_params(length=0)
    ax.set_ylim(len(names), 0)
    ax.set_xlim(0, len(names))
    bar = figure.colorbar(mesh, ax=ax, shrink=0.7)
    bar.set_label("weighted correlation")
    return svg_text(figure)


def drift_figure(found: Exploration) -> str:
    """Draw the Kolmogorov-Smirnov distance of every feature, one marker per sample."""
    names = list(dict.fromkeys(r.feature for r in found.drift))
    samples = [s.name for s in found.samples if not s.described]
    figure, ax = new_figure(7.2, 1.2 + 0.19 * len(names))
    for k, sample in enumerate(samples):
        rows = {r.feature: r for r in found.drift if r.sample == sample}
        values = np.array([rows[n].ks for n in names], dtype=float)  # None becomes NaN: no marker
        marker, color = "os^Dv<>"[k % 7], SERIES[k % len(SERIES)]
        ax.plot(values, np.arange(len(names)), marker, markersize=4, color=color, label=sample, linestyle="none")
    ax.set_yticks(np.arange(len(names)), names)
    ax.set_ylim(len(names) - 0.3, -0.7)
    ax.set_xlim(left=0.0)
    ax.set_xlabel(f"Kolmogorov-Smirnov distance to {found.described.name}, every event counting the same")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=max(len(samples), 1))
    return svg_text(figure)


def split_figure(found: Exploration) -> str:
    """Draw the AMS of one cut against the share of the events it is measured on."""
    figure, ax = new_figure(5.4, 3.2)
    cases: list[Any] = [c for c in found.split.cases if c.selection != "all events"] if found.split else []
    looks = ((False, "--s", _COLORS["signal"], "weights as they are"), (True, "-o", _COLORS["background"], "rescaled"))
    for rescaled, fmt, color, label in looks:
        part = [c for c in cases if c.rescaled is rescaled]
        x, y = [100 * c.fraction for c in part], [c.ams for c in part]
        ax.errorbar(x, y, yerr=[c.ams_se for c in part], fmt=fmt, color=color, label=label, markersize=4, capsize=2)
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(0.0, 105.0)
    ax.set_xlabel("share of the events [%]")
    ax.set_ylabel("AMS [standard deviations]")
    ax.legend(loc="lower right", title=cases[0].selection if cases else None)
    return svg_text(figure)
