"""Sections with one figure per row of the leaderboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.leaderboard.columns import printable
from higgsbench.metrics.classification import roc_auc
from higgsbench.pages.html import Cell, grid, paragraph, table
from higgsbench.pages.text import p_value, percent, with_error
from higgsbench.report.draw_rows import ams_figure, reliability_figure, score_figure
from higgsbench.report.numbers import agreement, ams_curve, reliability, score_edges

if TYPE_CHECKING:
    from higgsbench.report.numbers import Agreement, Reliability
    from higgsbench.report.sight import Sight
    from higgsbench.report.stored import Scores

__all__ = ["calibration", "curves", "overtraining", "separation"]


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
