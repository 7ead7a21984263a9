"""Sections with one figure per row of the run: each with its numbers and its figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.files import printable
from higgsbench.metrics.ams import ams_scan
from higgsbench.metrics.estimates import chi2_of_shapes, ks_distance, ks_p_value, roc_auc
from higgsbench.metrics.weights import effective_sample_size
from higgsbench.pages import Cell, Gallery, Table, p_value, percent, with_error
from higgsbench.pages.drawing import BACKGROUND, INK, SERIES, SIGNAL, SOFT, log_axis, new_figure
from higgsbench.report.context import histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.pages import Part, Picture
    from higgsbench.report.context import Context, Scores


def _panel(title: str) -> tuple[Figure, Axes]:
    figure, ax = new_figure(3.6, 2.6, layout=None)
    # Dozens of them: a fixed layout saves seconds.
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.16, top=0.91)
    ax.set_title(title, loc="left")
    return figure, ax


def curves(context: Context) -> list[Part]:
    """Show the AMS against the selected share, row by row."""
    upper = min(max(0.5, 1.25 * max(float(r["fraction"]) for r in context.rows)), 1.0)
    found = {r["name"]: ams_curve(context.scores, r["name"], context.run.b_reg, upper) for r in context.drawn}
    top = 1.12 * max(max(c.best[1], float(np.nanmax(c.ams))) for c in found.values())
    pictures = []
    for record in context.drawn:
        name, curve = record["name"], found[record["name"]]
        figure, ax = _panel(printable(name))
        shares, (best, height) = 100 * curve.fraction, curve.best
        ax.fill_between(shares, curve.ams - curve.se, curve.ams + curve.se, color=BACKGROUND, alpha=0.25, linewidth=0)
        ax.plot(shares, curve.ams, color=BACKGROUND, label="out of fold ± s.e.")
        ax.axvline(100 * record.get("cut_fraction", record["fraction"]), color=INK, linewidth=0.8, linestyle=":",
                   label="frozen cut")  # fmt: skip
        ax.plot(100 * best, height, "v", color=SERIES[5], markersize=6, label="optimistic max")
        ax.errorbar([100 * record["fraction"]], [record["ams_cv"]], yerr=[record["ams_cv_se"]], fmt="o",
                    markersize=4.5, color=SIGNAL, capsize=2.5, label="AMS cv at the chosen cut")  # fmt: skip
        ax.set(xlim=(0.0, float(shares[-1])), xlabel="selected events [%]")
        ax.set(ylim=(0.0, top), ylabel="AMS [standard deviations]")
        ax.legend(loc="lower right", fontsize=7)
        alt = (
            f"AMS of {name} against the selected share of events: cross-validated "
            f"{with_error(record['ams_cv'], record['ams_cv_se'])} at {percent(record['fraction'])} selected; "
            f"optimistic maximum {height:.2f} at {percent(best)}."
        )
        pictures.append(context.pictures.add(f"ams-{name}", figure, alt))
    intro = (
        "The curve evaluates a cut on the scores that would choose it; its maximum (triangle) is therefore "
        "optimistic. The point is the cross-validated AMS: the other folds choose the cut of each fold. Dotted: the "
        "share that the frozen cut selects. Bands and bars: one standard error; the band is for a fixed cut."
    )
    return [intro + context.left_out, Gallery(pictures)]


class Curve(NamedTuple):
    """AMS (k,) with its error at fixed cut against the selected share (k,), and (share, AMS) of the best cut."""

    fraction: NDArray[np.float64]
    ams: NDArray[np.float64]
    se: NDArray[np.float64]
    best: tuple[float, float]


def ams_curve(scores: Scores, name: str, b_reg: float, upper: float) -> Curve:
    """Scan the AMS of a row up to a selected share, mean over repeats."""
    n = scores.y.size
    at = np.linspace(max(5.0 / n, 1e-3), upper, 240)
    values, errors, best = [], [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight, b_reg)
        nearest = np.minimum(np.searchsorted(curve.fraction, at), len(curve) - 1)
        values.append(curve.ams[nearest])
        errors.append(curve.se[nearest])
        top = int(np.nanargmax(curve.ams))
        best.append((float(curve.fraction[top]), float(curve.ams[top])))
    share, value = np.mean(best, axis=0)
    return Curve(at, np.mean(values, axis=0), np.mean(errors, axis=0), (float(share), float(value)))


def separation(context: Context) -> list[Part]:
    """Show the distributions of the scores, samples overlaid, and how well they agree."""
    pictures: list[Picture] = []
    lines: list[tuple[str | Cell, ...]] = []
    training, notes = context.training
    for record in context.drawn:
        name, oof = record["name"], context.scores
        samples = {
            label: sample
            for label, sample in (("held out", context.held_out), ("training", training))
            if sample is not None and name in sample.by_row
        }
        figure = score_figure(record, oof, samples)
        found = {
            (label, of): agreement(oof, sample, name, of_signal=of == "signal")
            for label, sample in samples.items()
            for of in ("signal", "background")
        }
        pictures.append(context.pictures.add(f"scores-{name}", figure, _score_alt(oof, name, found)))
        lines += [
            (printable(name), *key, Cell(f"{a.ks:.4f}", a.ks), Cell(p_value(a.ks_p), a.ks_p),
             Cell(f"{a.chi2:.1f} / {a.freedom}", a.chi2), Cell(p_value(a.chi2_p), a.chi2_p))
            for key, a in found.items()
        ]  # fmt: skip
    out: list[Part] = [_score_words(context), *map(printable, notes), Gallery(pictures)]
    if lines:
        headings = ["row", "against", "class", "KS", "p of KS", "χ² / d.o.f.", "p of χ²"]
        caption = (
            "Out-of-fold scores against other samples, weighted; p of KS is approximate (effective numbers of "
            "events), and too large for training events, because they are the same events. Expect a few small p among "
            "many lines."
        )
        out.append(Table(caption, headings, lines, text=range(3), sortable=True))
    return out if training is None else [*out, _overtraining(context.rows, training)]


def _overtraining(rows: Sequence[dict[str, Any]], training: Scores) -> Table:
    """Show how much higher the rows score on the events that they were trained on."""
    lines: list[tuple[str | Cell, ...]] = []
    for record in (r for r in rows if r["name"] in training.by_row):
        seen = roc_auc(training.y, training.by_row[record["name"]][0], training.weight)
        cells = (Cell(f"{v:.4f}", v) for v in (seen.value, record["auc"], seen.value - record["auc"]))
        lines.append((printable(record["name"]), *cells))
    caption = f"Weighted AUC of {training.y.size:,} training events by models that saw them, and out of fold"
    return Table(caption, ["row", "training", "out of fold", "lead"], lines, sortable=True)


def score_edges(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(37,) edges that hold all but the outermost 0.1% of the scores on either side."""
    together = np.concatenate([s.ravel() for s in scores])
    low, high = np.quantile(together, [0.001, 0.999])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 37)


class Agreement(NamedTuple):
    """How well the scores of one class agree between two samples.

    `ks` is the weighted Kolmogorov-Smirnov distance, its p-value approximate, with effective numbers of events; `chi2`
    compares binned shapes.
    """

    ks: float
    ks_p: float
    chi2: float
    freedom: int
    chi2_p: float


def agreement(a: Scores, b: Scores, name: str, *, of_signal: bool) -> Agreement:
    """Compare the scores of one class in two samples, those of the first repeat."""
    parts = []
    for sample in (a, b):
        members = sample.y == of_signal
        parts.append((sample.by_row[name][0][members], sample.weight[members]))
    (x, wx), (z, wz) = parts
    distance = ks_distance(x, wx, z, wz)
    # Bins of equal content, because chi-squared needs many events in each.
    inner = np.unique(np.quantile(np.concatenate([x, z]), np.linspace(0.0, 1.0, 21)[1:-1]))
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    chi2, freedom, p = chi2_of_shapes(*histogram(x, wx, edges), *histogram(z, wz, edges))
    return Agreement(
        distance, ks_p_value(distance, effective_sample_size(wx), effective_sample_size(wz)), chi2, freedom, p
    )


def _score_alt(scores: Scores, name: str, found: dict[tuple[str, str], Agreement]) -> str:
    mean = scores.by_row[name].mean(axis=0)
    s, b = (float(np.average(mean[m], weights=scores.weight[m])) for m in (scores.y, ~scores.y))
    text = f"Scores of {name}: weighted mean {s:.2f} for signal and {b:.2f} for background"
    for (label, of), a in found.items():
        text += f"; {of} against {label}: KS {a.ks:.3f}, {p_value(a.ks_p, 'p')}"
    return text + "."


def _score_words(context: Context) -> str:
    text = "Lines: out-of-fold scores, each event scored by a model that did not see it; bands: one standard error. "
    text += "Dotted: the frozen cut. The outermost bins include all events beyond them. "
    if context.held_out is not None:
        text += (
            "Points: held-out events. With test_prediction: fold_mean their score is a mean over the models of all "
            "folds, which is a little steadier than an out-of-fold score; a small p alone then does not show "
            "overtraining. "
        )
    elif context.run.test_event_id is None:
        text += "The run has no held-out events to overlay. "
    else:
        text += "Held-out events are not drawn because their truth is not available. "
    if context.training[0] is not None:
        text += (
            "Areas: training events scored by the stored models that saw them (of fold models, the mean). A flexible "
            "model knows its training events better than new ones; this advantage is harmless in itself, but it makes "
            "scores of training events useless as a measure: no other number on this page uses them."
        )
    else:
        text += "Scores of training events by models that saw them are not available, so they are not overlaid."
    return text + context.left_out


def score_figure(record: dict[str, Any], oof: Scores, samples: dict[str, Scores]) -> Figure:
    """Draw the scores of both classes, samples overlaid as usual to show overtraining.

    Scores of events by models that did not see them are lines, held-out events points, and training events by models
    that saw them areas; dotted: the frozen cut.
    """
    name = record["name"]
    edges = score_edges([oof.by_row[name], *(s.by_row[name] for s in samples.values())])
    figure, ax = _panel(printable(name))
    width = float(edges[1] - edges[0])

    def density(scores: Scores, of_signal: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        members = scores.y == of_signal
        values, variances = histogram(scores.by_row[name][:, members], scores.weight[members], edges)
        return values / width, np.sqrt(variances) / width

    for of_signal, color, label in ((False, BACKGROUND, "b"), (True, SIGNAL, "s")):
        if "training" in samples:
            values, _ = density(samples["training"], of_signal)
            ax.stairs(values, edges, fill=True, color=color, alpha=0.3, label=f"{label} training")
        values, errors = density(oof, of_signal)
        ax.stairs(values, edges, label=f"{label} out of fold", color=color, linestyle="--" if of_signal else "-")
        low = np.maximum(values - errors, 1e-9 / width)
        ax.stairs(values + errors, edges, baseline=low, fill=True, color=color, alpha=0.25, linewidth=0)
        if "held out" in samples:
            values, errors = density(samples["held out"], of_signal)
            shown = values > 0.0
            middle = 0.5 * (edges[1:] + edges[:-1])[shown]
            ax.errorbar(middle, values[shown], yerr=errors[shown], fmt="s" if of_signal else "o",
                        markersize=2.5, elinewidth=0.8, color=color, label=f"{label} held out")  # fmt: skip
    if record.get("threshold") is not None:
        ax.axvline(record["threshold"], ymax=0.7, color=INK, linewidth=0.8, linestyle=":", label="frozen cut")
    log_axis(ax, "y")
    totals = float(np.sum(oof.weight[oof.y])), float(np.sum(oof.weight[~oof.y]))
    ax.set_ylim(min(totals) / (edges[-1] - edges[0]) / 100, 3000 * max(totals) / (edges[-1] - edges[0]))
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_xlabel(r"score: $\ln\,[N_s\,p(x|s)\,/\,N_b\,p(x|b)]$", parse_math=True)
    ax.set_ylabel("expected events / unit of score")
    ax.legend(loc="upper right", ncols=2, fontsize=7)
    return figure


def calibration(context: Context) -> list[Part]:
    """Show predicted against found log-odds, row by row."""
    found = {r["name"]: reliability(context.scores, r["name"]) for r in context.drawn}
    ends = np.concatenate([np.concatenate([f.predicted, f.found]) for f in found.values()])
    limits = (float(np.floor(ends.min())), float(np.ceil(ends.max()))) if ends.size else (-1.0, 1.0)
    pictures = []
    for name, points in found.items():
        alt = f"Calibration of {name}: no bin holds events of both classes."
        if points.se.size:
            pull = np.abs(points.found - points.predicted) / points.se
            at = int(np.argmax(pull))
            alt = (
                f"Found against predicted log-odds of {name} in {pull.size} bins; {int((pull > 2.0).sum())} lie more "
                "than two standard errors off the diagonal; the farthest, in standard errors, is predicted "
                f"{points.predicted[at]:.2f} and found {points.found[at]:.2f} ± {points.se[at]:.2f}."
            )
        figure, ax = _panel(printable(name))
        ax.plot(limits, limits, color=SOFT, linewidth=0.9, linestyle="--", label="perfect")
        ax.errorbar(points.predicted, points.found, yerr=points.se, fmt="o-", markersize=3.5, linewidth=0.9,
                    color=BACKGROUND, capsize=2, label="found ± s.e.")  # fmt: skip
        ax.set(xlim=limits, ylim=limits, xlabel="predicted log-odds", ylabel="found ln(s / b)")
        ax.legend(loc="upper left", fontsize=7)
        pictures.append(context.pictures.add(f"calibration-{name}", figure, alt))
    intro = (
        "A score is an estimate of ln(N_s p(x|s) / N_b p(x|b)). In bins of equal weight of both classes, the weighted "
        "sums of signal and background give the true log-odds. Out of fold; bars: one standard error."
    )
    return [intro + context.left_out, Gallery(pictures)]


class Reliability(NamedTuple):
    """Log-odds (k,) predicted in bins, ln(s / b) found there, and its standard error (delta method)."""

    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    se: NDArray[np.float64]


def reliability(scores: Scores, name: str) -> Reliability:
    """Bin events by predicted log-odds so that every bin holds an equal share of both classes' weight together.

    Bins without events of both classes have no log-odds and are left out.
    """
    y, weight, values = scores.y, scores.weight, scores.by_row[name]
    half = np.where(y, weight / np.sum(weight[y]), weight / np.sum(weight[~y]))
    order = np.argsort(values[0], kind="stable")
    cumulative = np.cumsum(half[order]) / np.sum(half)
    cuts = np.searchsorted(cumulative, np.linspace(0.0, 1.0, 13)[1:-1])
    edges = np.concatenate([[-np.inf], np.unique(values[0][order][np.minimum(cuts, y.size - 1)]), [np.inf]])
    means = []
    for score in values:
        total, part = (histogram(score, w, edges)[0] for w in (weight, weight * np.exp(-np.logaddexp(0.0, -score))))
        means.append(np.divide(part, total, out=np.full_like(part, np.nan), where=total > 0.0))
    (s, s2), (b, b2) = (histogram(values[:, m], weight[m], edges) for m in (y, ~y))
    used = (s > 0.0) & (b > 0.0)
    p = np.mean(means, axis=0)[used]
    se = np.sqrt(s2[used] / s[used] ** 2 + b2[used] / b[used] ** 2)
    return Reliability(np.log(p) - np.log1p(-p), np.log(s[used] / b[used]), se)
