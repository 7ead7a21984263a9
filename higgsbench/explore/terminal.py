"""An exploration as text for the terminal, readable from 80 columns."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from higgsbench.explore.text import headline, label_of_unit, split_sentence
from higgsbench.pages.text import count, number, p_value, percent, with_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from higgsbench.explore.result import ClassSummary, Exploration, FeatureSummary, MissingRow

__all__ = ["render_terminal"]

_WIDE = 116
_BLOCKS = "▁▂▃▄▅▆▇█"
_SHORT = {"signal": "s", "background": "b", "unlabelled": "all", "all": "all"}


def render_terminal(found: Exploration, width: int, *, color: bool = False) -> str:
    """Return the summary as text.

    Args:
        found: the findings.
        width: columns of the terminal.
        color: whether to use ANSI colours and bold.
    """
    console = Console(width=width, force_terminal=color, color_system="standard" if color else None, highlight=False)
    wide = width >= _WIDE
    parts: list[RenderableType] = [
        Text(f"{found.source} · layout {found.layout}", style="bold"),
        Text(headline(found)),
        _columns(found),
        _balance(found),
        _weights(found),
        *_missing(found, width),
        _features(found, wide),
        *_correlations(found, wide),
        *_drift(found, wide),
        *_split(found),
        *(Text(f"Note: {note}", style="italic") for note in found.notes),
    ]
    with console.capture() as captured:
        console.print(Group(*parts))
    return captured.get()


def _table(title: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], caption: str = "") -> Table:
    """Build a table; columns are (heading, is text); cells are never read as markup."""
    table = Table(
        title=Text(f"\n{title}", style="bold"),
        title_justify="left",
        caption=Text(caption) if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for heading, is_text in columns:
        table.add_column(
            Text(heading), justify="left" if is_text else "right", overflow="fold" if is_text else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _columns(found: Exploration) -> Table:
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for c in found.columns:
        unit = label_of_unit(c.unit) if "feature" in c.role else ""
        kinds.setdefault((c.role, c.kind, unit), []).append(c.name)
    rows = [(role, kind, unit, str(len(names)), ", ".join(names)) for (role, kind, unit), names in kinds.items()]
    headings = [("role", True), ("type", True), ("unit", True), ("n", False), ("columns", True)]
    return _table("Columns (unit 1: pure number)", headings, rows)


def _balance(found: Exploration) -> Table:
    title = "Class balance" + (f" by {found.group}" if found.group else "")
    if not found.labelled:
        rows = [("all" if g.group is None else str(g.group), count(g.events)) for g in found.groups]
        return _table(title, [("group", True), ("events", False)], rows)
    headings = ["s events", "b events", "s expected", "b expected", "s/b", "s eff.", "b eff."]
    cells = [
        (
            "all" if g.group is None else str(g.group),
            count(g.signal_events),
            count(g.background_events),
            "-" if g.signal_expected is None else f"{g.signal_expected:,.1f}",
            count(g.background_expected),
            number(g.s_over_b, 3),
            count(g.signal_effective),
            count(g.background_effective),
        )
        for g in found.groups
    ]
    caption = "expected: weights rescaled per class to N_s, N_b; eff.: effective events (sum w)²/sum w²"
    return _table(title, [("group", True), *((h, False) for h in headings)], cells, caption)


def _weights(found: Exploration) -> Table:
    headings = [("class", True)]
    headings += [(h, False) for h in ("events", "effective", "ratio", "sum w", "min w", "max w", "negative")]
    rows = [
        (
            w.label,
            count(w.events),
            count(w.effective),
            percent(w.effective / w.events),
            number(w.total),
            number(w.smallest, 3),
            number(w.largest, 3),
            count(w.negative),
        )
        for w in found.weights
    ]
    return _table(f"Weights ({found.weight or 'none: every event counts 1'})", headings, rows)


def _missing(found: Exploration, width: int) -> list[RenderableType]:
    if not found.missing:
        return []
    groups = [g.group for g in found.groups if g.group is not None]
    if 44 + 8 * len(groups) > width:
        groups = []
    patterns: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for feature in dict.fromkeys(row.feature for row in found.missing):
        rows = [row for row in found.missing if row.feature == feature]
        patterns.setdefault(_pattern(rows, groups), []).append(feature)
    cells = []
    for lines, names in patterns.items():
        label = names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"
        cells += [(label if i == 0 else "", *line) for i, line in enumerate(lines)]
    headings = [("feature", True), ("class", True), ("missing", False), ("share", False)]
    headings += [(f"{found.group}={g}" if width >= 140 else f"={g}", False) for g in groups]
    caption = "shares are weighted" + (f"; =0, =1, ...: {found.group}" if groups else "")
    if any(len(names) > 1 for names in patterns.values()):
        caption += "; +n: n more features with the same numbers"
    return [_table("Missing values", headings, cells, caption)]


def _pattern(rows: list[MissingRow], groups: list[int]) -> tuple[tuple[str, ...], ...]:
    lines = []
    for label in dict.fromkeys(row.label for row in rows):
        by_group = {row.group: row for row in rows if row.label == label}
        total = by_group[None]
        shares = [percent(by_group[g].weighted_share) for g in groups]
        lines.append((_SHORT[label], count(total.missing), percent(total.weighted_share), *shares))
    return tuple(lines)


def _spark(summary: ClassSummary, cells: int = 12) -> str:
    """Draw a histogram with block characters."""
    values = [max(v, 0.0) for v in summary.histogram.values]
    cells = min(cells, len(values))
    cut = [round(i * len(values) / cells) for i in range(cells + 1)]
    sums = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cut)]
    top = max(sums, default=0.0)
    return "".join(_BLOCKS[min(int(v / top * 8), 7)] if top > 0.0 else " " for v in sums)


def _features(found: Exploration, wide: bool) -> Table:
    labels = [w.label for w in found.weights]
    headings = [("feature", True), ("unit", True)]
    for label in labels:
        headings.append((f"{_SHORT[label]} mean", False))
        if wide:
            headings += [(f"{_SHORT[label]} median", False), (f"{_SHORT[label]} shape", True)]
    if found.labelled:
        headings.append(("AUC ± s.e.", False))
    title = "Features, weighted" + (", strongest single feature first" if found.labelled else "")
    error = max((f.auc_binning or 0.0 for f in found.features), default=0.0)
    caption = f"AUC of present values; below 0.5: signal is smaller; binning error at most {error:.1g}"
    return _table(
        title,
        headings,
        [_feature_row(f, labels, found.labelled, wide) for f in found.ranked()],
        caption if found.labelled else "",
    )


def _feature_row(feature: FeatureSummary, labels: list[str], labelled: bool, wide: bool) -> list[str]:
    row = [feature.name, label_of_unit(feature.unit)]
    by_label = {c.label: c for c in feature.classes}
    for label in labels:
        summary = by_label.get(label)
        row.append(number(summary.mean if summary else None))
        if wide:
            median = summary.quantiles[len(summary.quantiles) // 2] if summary else None
            row += [number(median), _spark(summary) if summary else ""]
    if labelled:
        row.append(with_error(feature.auc, feature.auc_se))
    return row


def _correlations(found: Exploration, wide: bool) -> list[RenderableType]:
    names = {"all": "expected mixture", "signal": "signal", "background": "background"}
    rows = []
    for c in found.correlations:
        for i, pair in enumerate(c.strongest[: 8 if wide else 5]):
            extra = [f"{pair.se:.4f}", count(pair.events)] if wide else []
            label = names.get(c.label, c.label) if wide else _SHORT[c.label]
            rows.append([label if i == 0 else "", pair.first, pair.second, f"{pair.r:+.3f}", *extra])
    headings = [("in", True), ("feature", True), ("feature", True), ("r", False)]
    headings += [("s.e.", False), ("events", False)] if wide else []
    caption = "over events that have both features" + ("; s.e.: (1 - r²)/sqrt(effective events)" if wide else "")
    return [_table("Strongest weighted correlations", headings, rows, caption)] if rows else []


def _drift(found: Exploration, wide: bool) -> list[RenderableType]:
    out: list[RenderableType] = []
    for sample in [s for s in found.samples if not s.described]:
        rows = [r for r in found.drift if r.sample == sample.name]
        flagged = sum(r.flagged for r in rows)
        shown = sorted(rows, key=lambda r: (not r.flagged, -(r.ks or 0.0)))[: 10 if wide else 5]
        cells = [
            (
                r.feature,
                number(r.ks, 3),
                p_value(r.ks_p),
                number(r.ks_weighted, 3),
                p_value(r.ks_weighted_p),
                f"{100 * (r.missing_other - r.missing):+.2f}%",
                "drift" if r.flagged else "",
            )
            for r in shown
        ]
        title = f"Drift: {found.described.name} against {sample.name} ({sample.events:,} events): "
        title += f"{flagged} of {len(rows)} features" if flagged else "none found"
        headings = [("feature", True)]
        headings += [(h, False) for h in ("KS", "p", "KS weighted", "p", "missing")] + [("", True)]
        out.append(_table(title, headings, cells, f"the {len(shown)} largest of {len(rows)}"))
    return out


def _split(found: Exploration) -> list[RenderableType]:
    if found.split is None:
        return []
    cases = [c for c in found.split.cases if c.fraction in (found.split.cases[0].fraction, 1.0)]
    rows = [
        (
            f"{c.fraction:.0%}",
            c.selection,
            "yes" if c.rescaled else "no",
            number(c.s),
            count(c.b),
            with_error(c.ams, c.ams_se),
        )
        for c in cases
        if c.rescaled or c.fraction < 1.0
    ]
    headings = [("events", False), ("selected", True), ("rescaled", True), ("s", False), ("b", False), ("AMS", False)]
    caption = "all events, rescaled: the totals are fixed, so there is no error"
    table = _table("Why splits must rescale weights", headings, rows, caption)
    return [table, Text(split_sentence(found.split))]
