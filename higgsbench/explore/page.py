"""An exploration as one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench import __version__
from higgsbench.explore import figures
from higgsbench.explore.text import headline, label_of_unit, split_sentence
from higgsbench.pages.drawing import style
from higgsbench.pages.html import document, figure, paragraph, section, table
from higgsbench.pages.target import write_page as write_content
from higgsbench.pages.text import count, number, p_value, percent, with_error

if TYPE_CHECKING:
    from higgsbench.explore.result import Exploration, FeatureSummary

__all__ = ["render_page", "write_page"]

_MATRIX_NAMES = {
    "all": "all events in their expected mixture, or as they come without labels",
    "signal": "signal",
    "background": "background",
}


def write_page(found: Exploration, target: Path) -> None:
    """Write the page whole or not at all.

    Raises:
        MissingExtraError: if the drawing libraries are absent.
        DataError: if the file cannot be written.
    """
    write_content(target, render_page(found))


def render_page(found: Exploration) -> str:
    """Return the page as HTML; pictures are part of it, nothing is loaded from elsewhere.

    Raises:
        MissingExtraError: if the drawing libraries are absent.
    """
    with style():
        parts = [
            ("columns", "Columns", _columns(found)),
            ("balance", "Class balance and weights", _balance(found)),
            ("missing", "Missing values", _missing(found)),
            ("separation", "Single-feature separation", _separation(found)),
            ("features", "Features", _features(found)),
            ("correlations", "Correlations", _correlations(found)),
            ("drift", "Drift", _drift(found)),
            ("splits", "Why splits must rescale weights", _split(found)),
        ]
    sections = [(anchor, name, section(anchor, name, *content)) for anchor, name, content in parts if content]
    lead = paragraph(headline(found)) + "".join(paragraph(note) for note in found.notes)
    footer = (
        f"Made by higgsbench {__version__} explore from {found.source}, layout {found.layout}. Weighted numbers use "
        "weights rescaled per class to the reference totals. The same numbers at full precision: --format json."
    )
    return document(f"Exploration of {Path(found.source).name}", lead, sections, footer)


def _columns(found: Exploration) -> list[str]:
    rows = [(c.name, c.role, c.kind, label_of_unit(c.unit) if "feature" in c.role else "") for c in found.columns]
    samples = [
        (s.name, count(s.events), count(s.signal), count(s.background), "described" if s.described else "compared")
        for s in found.samples
    ]
    return [
        table(
            "Samples",
            [("sample", True), *((h, False) for h in ("events", "signal", "background")), ("use", True)],
            samples,
        ),
        table(
            "Columns of the file; unit 1 is a pure number, ? an unknown unit",
            [("column", True), ("role", True), ("type", True), ("unit", True)],
            rows,
        ),
    ]


def _balance(found: Exploration) -> list[str]:
    out = []
    if found.labelled:
        total = found.groups[-1]
        alt = (
            f"Bars of signal and background events by {found.group or 'class'}: in the file "
            f"{count(total.signal_events)} signal and "
            f"{count(total.background_events)} background events, expected {number(total.signal_expected)} "
            f"and {number(total.background_expected)}."
        )
        out.append(
            figure(figures.balance_figure(found), alt, "Events in the file and expected events; logarithmic axis.")
        )
    headings = ["events", "s events", "b events", "s expected", "b expected", "s/b", "s effective", "b effective"]
    rows = [
        (
            "all" if g.group is None else str(g.group),
            count(g.events),
            count(g.signal_events),
            count(g.background_events),
            number(g.signal_expected, 5),
            number(g.background_expected, 5),
            number(g.s_over_b, 3),
            count(g.signal_effective),
            count(g.background_effective),
        )
        for g in found.groups
    ]
    caption = (
        "Expected: weights rescaled per class to N_s and N_b. Effective: (sum w)² / sum w², events of equal weight."
    )
    out.append(table(caption, [(found.group or "group", True), *((h, False) for h in headings)], rows))
    weights = [
        (w.label, count(w.events), count(w.effective), percent(w.effective / w.events), number(w.total, 5),
         number(w.smallest), number(w.largest), count(w.negative))
        for w in found.weights
    ]  # fmt: skip
    headings = ["events", "effective events", "ratio", "sum", "smallest", "largest", "negative"]
    caption = f"Weights: {found.weight or 'none, every event counts 1'}"
    return [*out, table(caption, [("class", True), *((h, False) for h in headings)], weights)]


def _missing(found: Exploration) -> list[str]:
    if not found.missing:
        return [paragraph("No value is missing.")]
    names = list(dict.fromkeys(row.feature for row in found.missing))
    alt = f"Weighted share of missing values of {len(names)} features by group and class; the table has the numbers."
    headings = [("feature", True), (found.group or "group", True), ("class", True)]
    headings += [(h, False) for h in ("events", "missing", "share", "weighted share")]
    rows = [
        (r.feature, "all" if r.group is None else str(r.group), r.label, count(r.events), count(r.missing),
         percent(r.share), percent(r.weighted_share))
        for r in found.missing
    ]  # fmt: skip
    others = len(found.features) - len(names)
    return [
        figure(figures.missing_figure(found), alt, "Darker is less missing."),
        "<details><summary>All numbers</summary>",
        table(f"Missing values; {others} features have none and are left out", headings, rows),
        "</details>",
    ]


def _separation(found: Exploration) -> list[str]:
    ranked = [f for f in found.ranked() if f.auc is not None]
    if not ranked:
        return []
    best = ", ".join(f"{f.name} {with_error(f.auc, f.auc_se)}" for f in ranked[:3])
    rows = [(f.name, with_error(f.auc, f.auc_se), number(f.auc_binning, 2), number(f.auc_missing_low)) for f in ranked]
    headings = [("feature", True), ("AUC ± s.e.", False), ("binning error, at most", False)]
    caption = (
        "Weighted AUC of present values; last column: all events, a missing value below every other, as -999 in a raw "
        "file; the difference is what missingness itself tells."
    )
    return [
        figure(
            figures.auc_figure(found), f"Weighted AUC of each feature; strongest: {best}.", "Bars: one standard error."
        ),
        table(caption, [*headings, ("AUC, missing lowest", False)], rows),
    ]


def _features(found: Exploration) -> list[str]:
    levels = [f"{level:.0%}" for level in found.quantile_levels]
    headings = [("feature", True), ("unit", True), ("class", True)]
    headings += [(h, False) for h in ("present", "mean", "std", "min", *levels, "max")]
    rows = [
        (f.name, label_of_unit(f.unit), c.label, count(c.present), number(c.mean), number(c.std), number(c.minimum),
         *(number(q) for q in c.quantiles), number(c.maximum))
        for f in found.features
        for c in f.classes
    ]  # fmt: skip
    pictures = [figure(figures.feature_figure(f), _feature_alt(f), _outside(f)) for f in found.features]
    intro = paragraph("Weighted histograms, each class with unit area; bands: one standard error of the bin.")
    caption = "Weighted statistics of present values; percentages are quantiles"
    return [intro, f'<div class="grid">{"".join(pictures)}</div>', table(caption, headings, rows)]


def _feature_alt(feature: FeatureSummary) -> str:
    unit = f" {feature.unit}" if feature.unit else ""
    parts = [
        f"{c.label} mean {number(c.mean)}{unit}, standard deviation {number(c.std)}{unit}" for c in feature.classes
    ]
    return f"Histogram of {feature.name}: {'; '.join(parts) or 'no value present'}."


def _outside(feature: FeatureSummary) -> str:
    parts = []
    for c in feature.classes:
        bars = c.histogram
        outside, total = bars.below + bars.above, sum(bars.values) + bars.below + bars.above
        if outside > 0.0 and total > 0.0:
            parts.append(f"{percent(outside / total)} of {c.label}")
    return f"Outside the axis: {', '.join(parts)}." if parts else ""


def _correlations(found: Exploration) -> list[str]:
    names = tuple(f.name for f in found.features)
    pictures, tables = [], []
    for c in found.correlations:
        label = _MATRIX_NAMES.get(c.label, c.label) if found.labelled or c.label != "all" else "all events"
        if c.label == "all" and found.labelled:
            label = "expected mixture"
        top = c.strongest[0] if c.strongest else None
        strongest = f"; strongest: {top.first} with {top.second}, {top.r:+.3f}" if top else ""
        alt = f"Matrix of weighted correlations, {label}{strongest}."
        pictures.append(figure(figures.correlation_figure(c, names), alt, label))
        rows = [(p.first, p.second, f"{p.r:+.4f}", f"{p.se:.4f}", count(p.events)) for p in c.strongest]
        headings = [("feature", True), ("feature", True), ("r", False), ("s.e.", False), ("events", False)]
        tables.append(table(f"Strongest pairs, {label}", headings, rows))
    intro = "Weighted Pearson correlations over events that have both features; blank: no such events, or no variation."
    return [paragraph(intro), f'<div class="wide">{"".join(pictures)}</div>', *tables]


def _drift(found: Exploration) -> list[str]:
    if not found.drift:
        return []
    flagged = [r for r in found.drift if r.flagged]
    words = ", ".join(f"{r.feature} ({r.sample})" for r in flagged[:5]) or "none"
    intro = (
        f"Features that drift beyond chance (p < 0.001 after correction for {len(found.features)} features): {words}. "
        "Distances of present values; KS: every event counts the same; weighted: expected distributions."
    )
    headings = [("feature", True), ("sample", True)]
    headings += [(h, False) for h in ("KS", "p", "weighted KS", "p", "missing", "missing there", "z")] + [("", True)]
    rows = [
        (r.feature, r.sample, number(r.ks, 3), p_value(r.ks_p), number(r.ks_weighted, 3), p_value(r.ks_weighted_p),
         percent(r.missing), percent(r.missing_other), f"{r.missing_z:+.1f}", "drift" if r.flagged else "")
        for r in found.drift
    ]  # fmt: skip
    alt = f"Kolmogorov-Smirnov distance of each feature; drifting: {words}."
    return [
        paragraph(intro),
        figure(figures.drift_figure(found), alt),
        "<details><summary>All numbers</summary>",
        table(f"{found.described.name} against the other samples", headings, rows),
        "</details>",
    ]


def _split(found: Exploration) -> list[str]:
    if found.split is None:
        return []
    rows = [
        (
            c.sample,
            c.selection,
            "yes" if c.rescaled else "no",
            number(c.s, 5),
            number(c.b, 5),
            with_error(c.ams, c.ams_se),
        )
        for c in found.split.cases
    ]
    headings = [("sample", True), ("selected", True), ("rescaled", True)]
    headings += [(h, False) for h in ("s", "b", "AMS ± s.e.")]
    caption = "One cut in growing random parts of the events; all events rescaled has fixed totals and so no error"
    alt = "AMS against the share of events: it rises like a square root as it is, and is flat with rescaled weights."
    text = split_sentence(found.split)
    return [paragraph(text), figure(figures.split_figure(found), alt), table(caption, headings, rows)]
