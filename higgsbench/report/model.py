"""The section of the statistical model: what `stats --fit` and `interval` stored about yields, pulls and intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.files import printable
from higgsbench.inference.interval import ModelFit
from higgsbench.pages import Cell, Gallery, Table, number, with_error
from higgsbench.pages.drawing import BACKGROUND, PAPER, SERIES, SIGNAL, SOFT, WIDTH, log_axis, name_axis, new_figure
from higgsbench.report.context import draw_stack
from higgsbench.report.events import LOOKS
from higgsbench.runs import read_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from higgsbench.inference.interval import Yield
    from higgsbench.pages import Part
    from higgsbench.report.context import Context

_MOST = 30  # nuisance parameters in the figure
_INTERVALS = (
    "Width of the 68% interval of the signal strength: mean over pseudo-experiments, which all rows share, with one "
    "standard error, and expected at a signal strength of 1. Coverage: share of intervals that contain the truth."
)


def statistical_model(context: Context) -> list[Part]:
    """Show the fit of the best row with a stored fit, and the intervals of all rows."""
    stored = read_analysis(context.run)
    names = [record["name"] for record in context.rows if "fit" in stored.get(record["name"], {})]
    if not names:
        return []
    try:
        fits = {name: ModelFit.of(stored[name]["fit"]) for name in names}
    except (KeyError, TypeError, ValueError):
        context.notes.append("analysis.json is damaged; `higgsbench interval` writes it again")
        return []
    measured = {name: stored[name]["interval"] for name in names if "mu_width" in stored[name].get("interval", {})}
    best = max(measured, key=lambda name: float(measured[name]["interval_score"])) if measured else names[0]
    fit, signal = fits[best], {name for name, metrics in context.run.row(best).processes.items() if metrics.signal}
    pictures = []
    for region, own in fit.yields.items():
        words = ", ".join(f"{name} {one.total}" for name, one in own.items())
        alt = f"Expected events per bin of the region {region}, {best}: {words}."
        pictures.append(context.pictures.add(f"yields-{region}", yields_figure(own, signal or {"signal"}), alt, region))
    out: list[Part] = [Gallery(pictures)]
    if fit.impacts:
        first = fit.impacts[0]
        alt = f"Pulls and impacts of nuisance parameters, {best}; largest: {first.name}, {first.up:+.3f} and "
        alt += f"{first.down:+.3f}."
        out.append(context.pictures.add("impacts", impacts_figure(fit), printable(alt)))
    out += [*fit.as_tables(), *fit.remarks()]
    return out + (_intervals(context, fits, measured) if measured else [])


def _intervals(context: Context, fits: Mapping[str, ModelFit], measured: Mapping[str, Mapping[str, Any]]) -> list[Part]:
    order = sorted(measured, key=lambda name: -float(measured[name]["interval_score"]))
    words = ", ".join(
        f"{name} {with_error(measured[name]['mu_width'], measured[name]['mu_width_se'])}" for name in order
    )
    picture = context.pictures.add("intervals", interval_figure(order, fits, measured), f"Widths: {words}.")
    rows: list[list[str | Cell]] = [
        [
            printable(name),
            Cell(number(2.0 * fits[name].parts[2]), 2.0 * fits[name].parts[2]),
            *(
                Cell(with_error(measured[name][key], measured[name][f"{key}_se"]), measured[name][key])
                for key in ("mu_width", "coverage", "interval_score")
            ),
        ]
        for name in order
    ]
    caption = f"68% intervals of the signal strength, {measured[order[0]]['experiments']} pseudo-experiments"
    heads = ["row", "expected width", "mean width", "coverage", "score"]
    return [_INTERVALS, picture, Table(caption, heads, rows, text=(0,), sortable=True)]


def yields_figure(own: Mapping[str, Yield], signal: set[str]) -> Figure:
    """Draw the expected events per bin, background processes stacked from the smallest, signal as a line."""
    figure, ax = new_figure(3.6, 2.6)
    background = sorted((name for name in own if name not in signal), key=lambda name: sum(own[name].events))
    bins = len(next(iter(own.values())).events)
    edges = np.linspace(0.5, bins + 0.5, bins + 1)
    parts = {name: (np.maximum(own[name].events, 0.0), np.square(own[name].errors)) for name in background}
    looks = [LOOKS[min(place, len(LOOKS) - 1)] for place in reversed(range(len(background)))]
    base, _ = draw_stack(ax, edges, parts, looks, "simulation error")
    total = np.sum([(0.0,) * bins, *(own[name].events for name in own if name in signal)], axis=0)
    if total.max() > 0.0:
        ax.stairs(total, edges, color=SIGNAL, linewidth=1.6, linestyle="--", label="signal")
    positive = np.concatenate([total, base])
    smallest = float(positive[positive > 0.0].min(initial=1e9))
    log_axis(ax, "y")
    ax.set(ylim=(0.3 * smallest, 60.0 * max(float(base.max()), 1.0)), xlabel="bin", ylabel="expected events")
    ax.set_xticks(np.arange(1, bins + 1))
    ax.legend(loc="upper right", ncols=2, fontsize=6.5, columnspacing=1.0, handlelength=1.6)
    return figure


def impacts_figure(fit: ModelFit) -> Figure:
    """Draw the impacts of the nuisance parameters, the largest on top, and their pulls."""
    shown = fit.impacts[:_MOST]
    figure, (left, right) = new_figure(WIDTH, 1.3 + 0.3 * len(shown), 1, 2, sharey=True)
    at = np.arange(len(shown))
    for side, color, hatch, label in (("up", BACKGROUND, None, "+1σ"), ("down", SERIES[1], "////", "-1σ")):
        left.barh(at, [getattr(impact, side) for impact in shown], height=0.6, color=color, hatch=hatch, alpha=0.7,
                  label=label)  # fmt: skip
    left.axvline(0.0, color=SOFT, linewidth=0.8)
    right.axvspan(-1.0, 1.0, color=SOFT, alpha=0.2)
    right.errorbar([i.pull for i in shown], at, xerr=[i.error for i in shown], fmt="o", color=BACKGROUND, markersize=4,
                   capsize=2.5)  # fmt: skip
    right.set_xlim(-1.6, 1.6)
    name_axis(left, [impact.name for impact in shown])
    left.set_xlabel("change of the signal strength")
    right.set_xlabel("pull [prior standard deviations]")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def interval_figure(
    order: list[str], fits: Mapping[str, ModelFit], measured: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Draw the mean widths with one standard error, and the expected ones, and the coverage beside them."""
    figure, (left, right) = new_figure(WIDTH, 1.2 + 0.27 * len(order), 1, 2, sharey=True)
    at = np.arange(len(order))
    for ax, key in ((left, "mu_width"), (right, "coverage")):
        values, errors = ([measured[name][k] for name in order] for k in (key, f"{key}_se"))
        ax.errorbar(values, at, xerr=errors, fmt="o", markersize=4, color=BACKGROUND, capsize=2.5, label="mean")
        ax.grid(axis="x", color=SOFT, alpha=0.3, linewidth=0.6)
    left.plot([2.0 * fits[name].parts[2] for name in order], at, "v", markersize=4.5, color=SERIES[5],
              markerfacecolor=PAPER, label="expected")  # fmt: skip
    right.axvline(0.6827, color=SIGNAL, linewidth=0.8, linestyle="--")
    name_axis(left, order)
    left.set_xlabel("width of the 68% interval")
    right.set_xlabel("coverage (dashed: 68.27%)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure
