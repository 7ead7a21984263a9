"""An exploration as one self-contained page and as text for the terminal, readable at 80 columns or more.

The terminal leaves out pictures, details, and columns for which it has no room: the most important columns come first.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

import higgsbench.pages.drawing as draw
from higgsbench import __version__
from higgsbench.explore.result import SHORT, shown_unit
from higgsbench.pages import Details, Gallery, Section, Table, count, number, p_value, page, percent, with_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from higgsbench.explore.result import Correlations, Exploration, FeatureSummary, SplitStudy
    from higgsbench.pages import Part, Picture

_COLORS = {"signal": draw.SIGNAL, "background": draw.BACKGROUND, "unlabelled": draw.BACKGROUND}
_FIRST_ROWS = {"correlations": 5, "drift": 5}  # rows shown in the terminal; other sections are shown whole
_FOLDED = 28  # a terminal keeps this many characters of text on one line


def _feature_figure(feature: FeatureSummary) -> Figure:
    """Draw the histograms of all classes, each with unit area, with bands of one standard error."""
    figure, ax = draw.new_figure(3.6, 2.5, layout=None)
    # Thirty of them: a fixed layout saves seconds.
    figure.subplots_adjust(left=0.16, right=0.95, bottom=0.18, top=0.9)
    edges = np.array(feature.edges)
    for summary in feature.classes:
        bars, color = summary.histogram, _COLORS[summary.label]
        values, errors = np.array(bars.values), np.sqrt(np.array(bars.variances))
        area = (values.sum() + bars.below + bars.above) * np.diff(edges)
        if not (area > 0.0).all():
            continue
        density, error = values / area, errors / area
        ax.stairs(
            density, edges, color=color, label=summary.label, linestyle="--" if summary.label == "signal" else "-"
        )
        low, high = (np.append(v, v[-1]) for v in (np.maximum(density - error, 0.0), density + error))
        ax.fill_between(edges, low, high, step="post", color=color, alpha=0.25, linewidth=0)
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_ylim(bottom=0.0, top=1.28 * ax.get_ylim()[1])
    draw.name_quantity(ax, feature.name, feature.unit)
    ax.set_ylabel(f"density [1/{feature.unit}]" if feature.unit else "density")
    ax.locator_params(axis="x", nbins=6)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    if feature.classes:
        ax.legend(loc="upper right", ncols=len(feature.classes))
    return figure


def _balance_figure(found: Exploration) -> Figure:
    """Draw events in the file beside expected events, by group, on a logarithmic axis."""
    rows = [g for g in found.groups if g.group is not None] or list(found.groups)
    figure, axes = draw.new_figure(draw.WIDTH, 2.6, 1, 2, sharey=True)
    at, shown = np.arange(len(rows)), []
    for ax, title, kind in zip(axes, ("events in the file", "expected events"), ("events", "expected"), strict=True):
        for offset, label, hatch in ((-0.2, "signal", "///"), (0.2, "background", None)):
            heights = [max(float(getattr(row, f"{label}_{kind}") or 0.0), 0.0) for row in rows]
            shown += [height for height in heights if height > 0.0]
            ax.bar(at + offset, heights, 0.4, label=label, color=_COLORS[label], hatch=hatch, edgecolor=draw.PAPER)
        draw.log_axis(ax, "y")
        ax.set_xticks(at, ["all" if row.group is None else str(row.group) for row in rows])
        ax.tick_params(axis="x", which="minor", bottom=False)
        ax.set_xlabel(found.group or "")
        ax.set_title(title, loc="left")
    if shown:
        axes[0].set_ylim(min(shown) / 3.0, max(shown) * 8.0)
    axes[0].set_ylabel("events")
    axes[1].legend(loc="upper right", ncols=2)
    return figure


def _correlation_figure(found: Correlations, names: Sequence[str]) -> Figure:
    """Draw a correlation matrix."""
    side = 2.6 + 0.155 * len(names)
    figure, ax = draw.new_figure(side, side - 0.9)
    mesh = ax.pcolormesh(np.array(found.matrix), cmap="PuOr_r", vmin=-1, vmax=1, rasterized=True)
    draw.name_matrix(ax, names, 6.5)
    figure.colorbar(mesh, ax=ax, shrink=0.7).set_label("weighted correlation")
    return figure


def _drift_figure(found: Exploration) -> Figure:
    """Draw the Kolmogorov-Smirnov distance of every feature, one marker per sample."""
    names = [f.name for f in found.features]
    figure, ax = draw.new_figure(draw.WIDTH, 1.2 + 0.19 * len(names))
    samples = list(dict.fromkeys(r.sample for r in found.drift))
    for k, sample in enumerate(samples):
        values = np.array([r.ks for r in found.drift if r.sample == sample], dtype=float)  # NaN for None: no marker
        marker, color = "os^Dv<>"[k % 7], draw.SERIES[k % len(draw.SERIES)]
        ax.plot(values, range(len(names)), marker, markersize=4, color=color, label=sample, linestyle="none")
    draw.name_axis(ax, names)
    ax.set_xlim(left=0.0)
    ax.set_xlabel(f"KS distance to {found.described.name}, every event counting the same")
    figure.legend(loc="outside upper right", ncols=len(samples))
    return figure


def _split_figure(found: SplitStudy) -> Figure:
    """Draw the AMS of one cut against the share of the events it is measured on."""
    figure, ax = draw.new_figure(draw.WIDTH, 3.2)
    cases = [c for c in found.cases if c.selection != "all events"]
    looks = ((False, "--s", draw.SIGNAL, "weights as they are"), (True, "-o", draw.BACKGROUND, "rescaled"))
    for rescaled, fmt, color, label in looks:
        x, y, error = zip(*((100 * c.fraction, c.ams, c.ams_se) for c in cases if c.rescaled is rescaled), strict=True)
        ax.errorbar(x, y, yerr=error, fmt=fmt, color=color, label=label, markersize=4, capsize=2)
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(0.0, 105.0)
    ax.set_xlabel("share of the events [%]")
    ax.set_ylabel("AMS [standard deviations]")
    ax.legend(loc="lower right", title=cases[0].selection)
    return figure


def _sections(found: Exploration, pictures: draw.Pictures | None) -> list[Section]:
    return [
        Section("columns", "Columns", _columns(found)),
        Section("balance", "Class balance and weights", _balance(found, pictures)),
        Section("missing", "Missing values", _missing(found)),
        Section("separation", "Single-feature separation", _separation(found, pictures) if pictures else []),
        Section("features", "Features", _features(found, pictures)),
        Section("correlations", "Correlations", _correlations(found, pictures)),
        Section("drift", "Drift", _drift(found, pictures)),
        Section("splits", "Why splits must rescale weights", _split(found, pictures)),
    ]


def _columns(found: Exploration) -> list[Part]:
    samples = [
        (s.name, count(s.events), count(s.signal), count(s.background), "described" if s.described else "compared")
        for s in found.samples
    ]
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for c in found.columns:
        unit = shown_unit(c.unit) if "feature" in c.role else ""
        kinds.setdefault((c.role, c.kind, unit), []).append(c.name)
    rows = [(role, kind, unit, str(len(names)), ", ".join(names)) for (role, kind, unit), names in kinds.items()]
    caption = "Columns; unit 1 is a pure number, ? an unknown unit"
    return [
        Table("Samples", ["sample", "events", "signal", "background", "use"], samples, text=(0, 4)),
        Table(caption, ["role", "type", "unit", "n", "columns"], rows, text=(0, 1, 2, 4)),
    ]


def _balance(found: Exploration, pictures: draw.Pictures | None) -> list[Part]:
    group = found.group or "group"
    headings = [group, "s events", "b events", "s expected", "b expected", "s/b", "s eff.", "b eff.", "events"]
    rows: list[Sequence[str]] = [
        ("all" if g.group is None else str(g.group), count(g.signal_events), count(g.background_events),
         number(g.signal_expected, 5), number(g.background_expected, 5), number(g.s_over_b, 3),
         count(g.signal_effective), count(g.background_effective), count(g.events))
        for g in found.groups
    ]  # fmt: skip
    caption = f"Class balance{f' by {found.group}' if found.group else ''}"
    if found.labelled:
        caption += "; expected: weights rescaled to N_s, N_b; eff.: effective events (sum w)² / sum w²"
    else:
        headings, rows = [group, "events"], [(row[0], row[-1]) for row in rows]
    weights = [
        (w.label, count(w.events), count(w.effective), percent(w.effective / w.events), number(w.total, 5),
         number(w.smallest), number(w.largest), count(w.negative))
        for w in found.weights
    ]  # fmt: skip
    columns = ["class", "events", "effective", "ratio", "sum w", "min w", "max w", "negative"]
    title = f"Weights: {found.weight or 'none, every event counts 1'}"
    parts: list[Part] = [Table(caption, headings, rows), Table(title, columns, weights)]
    if pictures is None or not found.labelled:
        return parts
    total = found.groups[-1]
    file = f"{count(total.signal_events)} signal and {count(total.background_events)} background events"
    expected = f"{number(total.signal_expected)} and {number(total.background_expected)}"
    by = found.group or "class"
    alt = f"Bars of signal and background events by {by}: in the file {file}, expected {expected}."
    below = "Events in the file and expected events; logarithmic axis."
    return [pictures.add("balance", _balance_figure(found), alt, below), *parts]


def _missing(found: Exploration) -> list[Part]:
    """Show the missing values; features with the same numbers share their rows."""
    if not found.missing:
        return ["No value is missing."]
    table = {(row.feature, row.label, row.group): row for row in found.missing}
    groups = [g.group for g in found.groups if g.group is not None]
    patterns: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for feature in dict.fromkeys(row.feature for row in found.missing):
        lines = tuple(
            (SHORT[label], count(table[feature, label, None].missing),
             *(percent(table[feature, label, g].weighted_share) for g in (None, *groups)),
             percent(table[feature, label, None].share))
            for label in dict.fromkeys(row.label for row in found.missing)
        )  # fmt: skip
        patterns.setdefault(lines, []).append(feature)
    headings = ["feature", "class", "missing", "share", *(f"={g}" for g in groups), "unweighted"]
    rows = [("" if i else ", ".join(names), *line) for lines, names in patterns.items() for i, line in enumerate(lines)]
    caption = "Missing values; shares are weighted" + (f"; =0, =1, ...: {found.group}" if groups else "")
    return [Table(caption, headings, rows, text=(0, 1))]


def _separation(found: Exploration, pictures: draw.Pictures) -> list[Part]:
    best = ", ".join(f"{f.name} {with_error(f.auc, f.auc_se)}" for f in found.ranked()[:3] if f.auc is not None)
    alt = f"Weighted AUC of each feature; strongest: {best}."
    if not best:
        return []
    rows = [f for f in found.ranked() if f.auc is not None]
    figure, ax = draw.new_figure(draw.WIDTH, 1.0 + 0.19 * len(rows))
    values, errors = [f.auc for f in rows], [f.auc_se or 0.0 for f in rows]
    ax.axvline(0.5, color=draw.INK, linewidth=0.8, linestyle=":")
    ax.errorbar(values, range(len(rows)), xerr=errors, fmt="o", markersize=3.5, color=draw.BACKGROUND, capsize=2)
    draw.name_axis(ax, [f.name for f in rows])
    ax.set_xlabel("weighted AUC of the feature alone (below 0.5: signal has smaller values)")
    return [pictures.add("auc", figure, alt, "Bars: one standard error.")]


def _features(found: Exploration, pictures: draw.Pictures | None) -> list[Part]:
    parts: list[Part] = [*found.as_tables()]
    if pictures is None:
        return parts
    levels = [f"{level:.0%}" for level in found.quantile_levels]
    headings = ["feature", "unit", "class", "present", "mean", "std", "min", *levels, "max"]
    rows = [
        (f.name, shown_unit(f.unit), c.label, count(c.present),
         *map(number, (c.mean, c.std, c.minimum, *c.quantiles, c.maximum)))
        for f in found.features
        for c in f.classes
    ]  # fmt: skip
    numbers = Table("Weighted statistics of present values; percentages are quantiles", headings, rows, text=range(3))
    intro = "Weighted histograms, each class with unit area; bands: one standard error of the bin."
    gallery = Gallery([_feature_picture(feature, pictures) for feature in found.features])
    return [*parts, intro, gallery, Details("All numbers", [numbers])]


def _feature_picture(feature: FeatureSummary, pictures: draw.Pictures) -> Picture:
    unit = f" {feature.unit}" if feature.unit else ""
    means, outside = [], []
    for c in feature.classes:
        means.append(f"{c.label} mean {number(c.mean)}{unit}, standard deviation {number(c.std)}{unit}")
        out, total = c.histogram.below + c.histogram.above, sum(c.histogram.values)
        if out > 0.0 and total + out > 0.0:
            outside.append(f"{percent(out / (total + out))} of {c.label}")
    alt = f"Histogram of {feature.name}: {'; '.join(means) or 'no value present'}."
    caption = f"Outside the axis: {', '.join(outside)}." if outside else ""
    return pictures.add(feature.name, _feature_figure(feature), alt, caption)


def _correlations(found: Exploration, pictures: draw.Pictures | None) -> list[Part]:
    names, drawings, tables = [f.name for f in found.features], [], []
    for c in found.correlations:
        label = c.label if c.label != "all" else "expected mixture" if found.labelled else "all events"
        rows = [(p.first, p.second, f"{p.r:+.4f}", f"{p.se:.4f}", count(p.events)) for p in c.strongest]
        headings = ["feature", "feature", "r", "s.e.", "events"]
        tables.append(Table(f"Strongest weighted correlations, {label}", headings, rows, text=(0, 1)))
        if pictures:
            alt = f"Matrix of weighted correlations, {label}."
            drawings.append(pictures.add("correlations", _correlation_figure(c, names), alt, label))
    intro = "Weighted Pearson correlations over events that have both features; blank: no such events, or no variation."
    return [intro, Gallery(drawings, "wide"), *tables] if pictures else list(tables)


def _drift(found: Exploration, pictures: draw.Pictures | None) -> list[Part]:
    if not found.drift:
        return []
    words = ", ".join([f"{r.feature} ({r.sample})" for r in found.drift if r.flagged][:5]) or "none"
    intro = (
        f"Features that drift beyond chance (p < 0.001 after correction for {len(found.features)} features): {words}. "
        "Distances of present values; KS: every event counts the same; weighted: expected distributions."
    )
    alt = f"Kolmogorov-Smirnov distance of each feature; drifting: {words}."
    parts: list[Part] = [intro, *([pictures.add("drift", _drift_figure(found), alt)] if pictures else [])]
    headings = ["feature", "", "KS", "p", "weighted KS", "p", "z", "missing", "missing there"]
    for sample in (s for s in found.samples if not s.described):
        drift = [r for r in found.drift if r.sample == sample.name]
        rows = [
            (r.feature, "drift" if r.flagged else "", number(r.ks, 3), p_value(r.ks_p), number(r.ks_weighted, 3),
             p_value(r.ks_weighted_p), f"{r.missing_z:+.1f}", percent(r.missing), percent(r.missing_other))
            for r in sorted(drift, key=lambda r: (not r.flagged, -(r.ks or 0.0)))
        ]  # fmt: skip
        flagged = sum(r.flagged for r in drift)
        caption = f"Drift: {found.described.name} against {sample.name} ({sample.events:,} events): "
        caption += f"{flagged} of {len(rows)} features" if flagged else "none found"
        parts.append(Table(caption, headings, rows, text=(0, 1)))
    return parts


def _split(found: Exploration, pictures: draw.Pictures | None) -> list[Part]:
    """Show with numbers from this data what happens to an AMS without rescaling."""
    if found.split is None:
        return []
    cut = [c for c in found.split.cases if c.selection != "all events"]
    raw, rescaled, whole = cut[0], cut[1], cut[-1]
    intro = (
        f"The cut {raw.selection} has AMS {with_error(whole.ams, whole.ams_se)} on all described events. A random "
        f"{raw.fraction:.0%} of them gives {with_error(raw.ams, raw.ams_se)} without rescaling, which is "
        f"{raw.ams / whole.ams:.2f} of the full AMS. Fewer events look like less luminosity: within the errors, "
        f"a factor of sqrt({raw.fraction:g}) = {math.sqrt(raw.fraction):.2f} is expected. "
        f"With weights rescaled per class to N_s and N_b it gives {with_error(rescaled.ams, rescaled.ams_se)}. "
        "The cut was chosen on the same events, so its AMS is optimistic."
    )
    headings = ["sample", "selected", "rescaled", "s", "b", "AMS ± s.e."]
    rows = [
        (c.sample, c.selection, "yes" if c.rescaled else "no", number(c.s, 5), number(c.b, 5),
         with_error(c.ams, c.ams_se))
        for c in found.split.cases
    ]  # fmt: skip
    caption = "One cut in growing random parts of the events; all events, rescaled: fixed totals, hence no error"
    alt = "AMS against the share of events: it rises like a square root without rescaling and is flat with it."
    numbers = Details("All numbers", [Table(caption, headings, rows, text=range(3))])
    return [intro, *([pictures.add("split", _split_figure(found.split), alt)] if pictures else []), numbers]


def render_page(found: Exploration, pictures: draw.Pictures | None = None, style: str = "atlas") -> str:
    """Return the page as HTML; pictures are part of it, nothing is loaded from elsewhere.

    `pictures` may keep them in files too; `style` is one of `pages.drawing.STYLES`.

    Raises:
        MissingExtraError: if the drawing libraries are absent.
    """
    with draw.style(style):
        sections = _sections(found, pictures or draw.Pictures())
    footer = (
        f"Made by higgsbench {__version__} explore from {found.source}, layout {found.layout}. Weighted numbers use "
        "weights rescaled per class to the reference totals. The same numbers at full precision: --format json."
    )
    return page(f"Exploration of {Path(found.source).name}", [found.headline, *found.notes], sections, footer)


def render_terminal(found: Exploration, width: int, *, color: bool = False) -> str:
    """Return the summary as text for a terminal of `width` columns, with `color` in ANSI colours and bold."""
    console = Console(width=width, force_terminal=color, color_system="standard" if color else None, highlight=False)
    title = f"{found.source} · layout {found.layout}"
    parts: list[RenderableType] = [Text(title, style="bold"), Text(found.headline)]
    for section in _sections(found, None):
        if section.parts:
            parts.append(Text(f"\n{section.title}", style="bold underline"))
        for part in section.parts:
            if isinstance(part, Table):
                parts.append(_shown(part, width, _FIRST_ROWS.get(section.anchor)))
            elif isinstance(part, str):
                parts.append(Text(part))
    parts += [Text(f"Note: {note}", style="italic") for note in found.notes]
    with console.capture() as captured:
        console.print(Group(*parts))
    return captured.get()


def _shown(table: Table, width: int, rows: int | None) -> RichTable:
    """Return the columns of a table that fit into a terminal, and its first rows."""
    out = RichTable(
        title=Text(f"\n{table.caption}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    room = width
    for at, heading in enumerate(table.headings):
        longest = max(len(heading), *(len(str(row[at])) for row in table.rows[:rows]), 0)
        room -= min(longest, _FOLDED if at in table.text else longest) + 2 * (at > 0)
        if room < 0 and at > 1 and longest <= _FOLDED:
            break
        left = at in table.text
        out.add_column(Text(heading), justify="left" if left else "right", overflow="fold" if left else "ellipsis")
    for row in table.rows[:rows]:
        out.add_row(*(Text(str(cell)) for cell in row[: len(out.columns)]))  # Text is never read as markup
    return out
