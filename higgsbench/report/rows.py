"""Sections with one figure per row of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.leaderboard.columns import printable
from higgsbench.metrics.estimates import roc_auc
from higgsbench.pages import p_value, percent, with_error
from higgsbench.pages.drawing import BACKGROUND, INK, SERIES, SIGNAL, SOFT, log_axis, new_figure
from higgsbench.pages.html import Cell, grid, paragraph, table
from higgsbench.report.context import agreement, ams_curve, histogram, reliability, score_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.report.context import Agreement, Curve, Reliability, Scores, Sight

__all__ = ["ams_figure", "calibration", "curves", "overtraining", "reliability_figure", "score_figure", "separation"]


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


def curves(sight: Sight) -> list[str]:
    """AMS against the selected share, row by row."""
    run = sight.run
    upper = min(max(0.5, 1.25 * max(float(r["fraction"]) for r in run.rows)), 1.0)
    found = {r["name"]: ams_curve(run.scores, r["name"], run.b_reg, upper) for r in sight.drawn}
    top = 1.12 * max(max(c.best[1], float(np.nanmax(c.ams))) for c in found.values())
    figures = []
    for record in sight.drawn:
        name, curve = record["name"], found[record["name"]]
        alt = (
            f"AMS of {name} against the selected share of events: cross-validated "
            f"{with_error(record['ams_cv'], record['ams_cv_se'])} at {percent(record['fraction'])} selected; "
            f"optimistic maximum {curve.best[1]:.2f} at {percent(curve.best[0])}."
        )
        figures.append(sight.pictures.add(f"ams-{name}", ams_figure(printable(name), curve, record, top), alt))
    intro = (
        "The curve judges a cut by the very scores it would be chosen on; its maximum (triangle) is therefore "
        "optimistic. The point is the cross-validated AMS: each fold cut where the other folds say. Dotted: the share "
        "that the frozen cut selects. Bands and bars: one standard error, of the band at fixed cut."
    )
    return [paragraph(intro + sight.left_out), grid(figures)]


def separation(sight: Sight) -> list[str]:
    """Distributions of the scores, samples overlaid, and how well they agree."""
    run = sight.run
    figures: list[str] = []
    lines: list[tuple[str | Cell, ...]] = []
    for record in sight.drawn:
        name = record["name"]
        samples = {
            label: sample
            for label, sample in (("held out", sight.events.held_out), ("training", sight.training.scores))
            if sample is not None and name in sample.by_row
        }
        edges = score_edges([run.scores.by_row[name], *(s.by_row[name] for s in samples.values())])
        figure = score_figure(
            printable(name),
            name,
            edges,
            run.scores,
            held_out=samples.get("held out"),
            train_scores=samples.get("training"),
            cut=record.get("threshold"),
        )
        found = {
            (label, of): agreement(run.scores, sample, name, of_signal=of == "signal")
            for label, sample in samples.items()
            for of in ("signal", "background")
        }
        figures.append(sight.pictures.add(f"scores-{name}", figure, _score_alt(run.scores, name, found)))
        lines += [(printable(name), *key, *_agreement_cells(a)) for key, a in found.items()]
    out = [paragraph(_score_words(sight)), *(paragraph(printable(note)) for note in sight.training.notes)]
    out.append(grid(figures))
    if lines:
        headings = [("row", True), ("against", True), ("class", True)]
        headings += [(h, False) for h in ("KS", "p of KS", "χ² / d.o.f.", "p of χ²")]
        caption = (
            "Out-of-fold scores against other samples, weighted; p of KS with effective numbers of events, "
            "approximate, and for training events, which are the same events, too large. Among many lines a few small "
            "p are expected."
        )
        out.append(table(caption, headings, lines, sortable=True))
    return out + overtraining(sight)


def overtraining(sight: Sight) -> list[str]:
    """Table of what rows lead by on the events they were trained on."""
    training = sight.training.scores
    if training is None:
        return []
    lines: list[tuple[str | Cell, ...]] = []
    for record in (r for r in sight.run.rows if r["name"] in training.by_row):
        seen = roc_auc(training.y, training.by_row[record["name"]][0], training.weight)
        cells = (Cell(f"{v:.4f}", v) for v in (seen.value, record["auc"], seen.value - record["auc"]))
        lines.append((printable(record["name"]), *cells))
    headings = [("row", True), ("training", False), ("out of fold", False), ("lead", False)]
    caption = f"Weighted AUC of {training.y.size:,} training events by models that saw them, and out of fold"
    return [table(caption, headings, lines, sortable=True)]


def _agreement_cells(a: Agreement) -> tuple[Cell, ...]:
    return (
        Cell(f"{a.ks:.4f}", a.ks),
        Cell(p_value(a.ks_p), a.ks_p),
        Cell(f"{a.chi2:.1f} / {a.freedom}", a.chi2),
        Cell(p_value(a.chi2_p), a.chi2_p),
    )


def _score_alt(scores: Scores, name: str, found: dict[tuple[str, str], Agreement]) -> str:
    mean = scores.by_row[name].mean(axis=0)
    s, b = (float(np.average(mean[m], weights=scores.weight[m])) for m in (scores.y, ~scores.y))
    text = f"Scores of {name}: weighted mean {s:.2f} for signal and {b:.2f} for background"
    for (label, of), a in found.items():
        text += f"; {of} against {label}: KS {a.ks:.3f}, p {p_value(a.ks_p)}"
    return text + "."


def _score_words(sight: Sight) -> str:
    text = "Lines: out-of-fold scores, each event judged by a model that did not see it; bands: one standard error. "
    text += "Dotted: the frozen cut. Outermost bins hold what lies beyond. "
    if sight.events.held_out is not None:
        text += (
            "Points: held-out events. With test_prediction: fold_mean their score is a mean over the models of all "
            "folds, a little steadier than an out-of-fold score; a small p is then no sign of overtraining by itself. "
        )
    elif sight.run.test_event_id is None:
        text += "The run has no held-out events to lay over. "
    else:
        text += "Held-out events are not drawn: their truth is not at hand. "
    if sight.training.scores is not None:
        text += (
            "Areas: training events judged by the stored models that saw them (of fold models, the mean). A flexible "
            "model knows its training events better than new ones; that lead is no harm in itself, but makes scores of "
            "training events useless as a measure: no other number of this page uses any."
        )
    else:
        text += "Scores of training events by models that saw them are not at hand, so they are not laid over."
    return text + sight.left_out


def calibration(sight: Sight) -> list[str]:
    """Predicted against found log-odds, row by row."""
    run = sight.run
    found = {r["name"]: reliability(run.scores, r["name"]) for r in sight.drawn}
    ends = np.concatenate([np.concatenate([f.predicted, f.found]) for f in found.values()])
    limits = (float(np.floor(ends.min())), float(np.ceil(ends.max()))) if ends.size else (-1.0, 1.0)
    figures = []
    for name, points in found.items():
        figure = reliability_figure(printable(name), points, limits)
        figures.append(sight.pictures.add(f"calibration-{name}", figure, _calibration_alt(name, points)))
    intro = (
        "A score is an estimate of ln(N_s p(x|s) / N_b p(x|b)). In bins of equal weight of both classes, the weighted "
        "sums of signal and background give the log-odds that are really there. Out of fold; bars: one standard error."
    )
    return [paragraph(intro + sight.left_out), grid(figures)]


def _calibration_alt(name: str, points: Reliability) -> str:
    off = points.found - points.predicted
    if not off.size:
        return f"Calibration of {name}: no bin holds events of both classes."
    pull = np.abs(off) / points.se
    at = int(np.argmax(pull))
    return (
        f"Found against predicted log-odds of {name} in {off.size} bins; {int((pull > 2.0).sum())} lie more than two "
        f"standard errors off the diagonal, the farthest by them at {points.predicted[at]:.2f} predicted: "
        f"{points.found[at]:.2f} ± {points.se[at]:.2f} found."
    )
