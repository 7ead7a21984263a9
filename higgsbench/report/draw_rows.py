"""Figures with one panel per row of the leaderboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.pages.drawing import BACKGROUND, INK, SERIES, SIGNAL, SOFT, log_axis, new_figure
from higgsbench.report.numbers import histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.report.numbers import Curve, Reliability
    from higgsbench.report.stored import Scores

__all__ = ["ams_figure", "reliability_figure", "score_figure"]

_SIZE = (3.6, 2.6)


def _panel(title: str) -> tuple[Figure, Axes]:
    figure, ax = new_figure(*_SIZE, layout=None)
    # Dozens of them: a fixed layout saves seconds.
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.16, top=0.91)
    ax.set_title(title, loc="left")
    return figure, ax


def ams_figure(title: str, curve: Curve, record: dict[str, Any], top: float) -> Figure:
    """Draw the AMS against the selected share, with the chosen cut and the optimistic maximum.

    Args:
        title: name of the row.
        curve: the scanned curve.
        record: the row, for its cross-validated AMS and the share it selects.
        top: upper end of the axis, common to all rows.
    """
    figure, ax = _panel(title)
    percent = 100 * curve.fraction
    ax.fill_between(percent, curve.ams - curve.se, curve.ams + curve.se, color=BACKGROUND, alpha=0.25, linewidth=0)
    ax.plot(percent, curve.ams, color=BACKGROUND, label="out of fold ± s.e.")
    ax.axvline(100 * record.get("cut_fraction", record["fraction"]), color=INK, linewidth=0.8, linestyle=":")
    share, value = curve.best
    ax.plot([100 * share], [value], marker="v", color=SERIES[5], linestyle="none", markersize=6, label="optimistic max")
    ax.errorbar([100 * record["fraction"]], [record["ams_cv"]], yerr=[record["ams_cv_se"]], fmt="o", markersize=4.5,
                color=SIGNAL, capsize=2.5, label="AMS cv at the chosen cut")  # fmt: skip
    ax.set_xlim(0.0, float(percent[-1]))
    ax.set_ylim(0.0, top)
    ax.set_xlabel("selected events [%]")
    ax.set_ylabel("AMS [standard deviations]")
    ax.legend(loc="lower right", fontsize=7)
    return figure


def score_figure(
    title: str,
    name: str,
    edges: NDArray[np.float64],
    oof: Scores,
    held_out: Scores | None = None,
    train_scores: Scores | None = None,
    cut: float | None = None,
) -> Figure:
    """Draw the scores of both classes on a logarithmic axis, samples overlaid as is usual to see overtraining.

    Args:
        title: heading.
        name: name of the row in the scores.
        edges: (k + 1,) bin edges, log-odds.
        oof: scores of events by models that did not see them, drawn as lines.
        held_out: scores of the held-out events, drawn as points with errors.
        train_scores: scores of the training events by models that saw them, drawn as areas.
        cut: the frozen cut.
    """
    figure, ax = _panel(title)
    width = float(edges[1] - edges[0])
    middle = 0.5 * (edges[1:] + edges[:-1])
    for of_signal, color, label in ((False, BACKGROUND, "b"), (True, SIGNAL, "s")):
        if train_scores is not None:
            values, _ = _of_class(train_scores, name, edges, of_signal)
            ax.stairs(values / width, edges, fill=True, color=color, alpha=0.3, label=f"{label} training")
        values, errors = _of_class(oof, name, edges, of_signal)
        ax.stairs(
            values / width, edges, label=f"{label} out of fold", color=color, linestyle="--" if of_signal else "-"
        )
        low, high = (np.append(v, v[-1]) / width for v in (np.maximum(values - errors, 1e-9), values + errors))
        ax.fill_between(edges, low, high, step="post", color=color, alpha=0.25, linewidth=0)
        if held_out is not None:
            values, errors = _of_class(held_out, name, edges, of_signal)
            shown = values > 0.0
            ax.errorbar(middle[shown], values[shown] / width, yerr=errors[shown] / width, fmt="s" if of_signal else "o",
                        markersize=2.5, elinewidth=0.8, color=color, label=f"{label} held out")  # fmt: skip
    if cut is not None:
        ax.axvline(cut, ymax=0.8, color=INK, linewidth=0.8, linestyle=":")
    log_axis(ax, "y")
    totals = float(np.sum(oof.weight[oof.y])), float(np.sum(oof.weight[~oof.y]))
    ax.set_ylim(min(totals) / (edges[-1] - edges[0]) / 100, 300 * max(totals) / (edges[-1] - edges[0]))
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_xlabel("score: ln(N_s p(x|s) / N_b p(x|b))")
    ax.set_ylabel("expected events / unit of score")
    ax.legend(loc="upper right", ncols=2, fontsize=7)
    return figure


def _of_class(
    scores: Scores, name: str, edges: NDArray[np.float64], of_signal: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    members = scores.y == of_signal
    values, variances = histogram(scores.by_row[name][:, members], scores.weight[members], edges)
    return values, np.sqrt(variances)


def reliability_figure(title: str, found: Reliability, limits: tuple[float, float]) -> Figure:
    """Draw the log-odds that are found against those that were predicted; on the diagonal they agree.

    Args:
        title: name of the row.
        found: the points.
        limits: ends of both axes, common to all rows.
    """
    figure, ax = _panel(title)
    ax.plot(limits, limits, color=SOFT, linewidth=0.9, linestyle="--", label="perfect")
    ax.errorbar(found.predicted, found.found, yerr=found.se, fmt="o-", markersize=3.5, linewidth=0.9, color=BACKGROUND,
                capsize=2, label="found ± s.e.")  # fmt: skip
    ax.set_xlim(*limits)
    ax.set_ylim(*limits)
    ax.set_xlabel("predicted log-odds")
    ax.set_ylabel("found ln(s / b)")
    ax.legend(loc="upper left", fontsize=7)
    return figure
