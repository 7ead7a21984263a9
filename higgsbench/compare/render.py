"""A comparison as terminal tables, Markdown and JSON, with a sentence of what can be concluded."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from higgsbench.compare.contest import ALPHA, Comparison, PairResult
from higgsbench.compare.measure import METRICS
from higgsbench.leaderboard.columns import printable
from higgsbench.leaderboard.render import markdown_text, strict_json

if TYPE_CHECKING:
    from rich.console import Console

    from higgsbench.metrics.paired import Difference

__all__ = ["FORMATS", "conclusions", "render", "show"]

FORMATS = ("table", "markdown", "json")

LEGEND = (
    "Differences are first minus second on the same events; ± from the events (paired), p after Holm's correction over "
    "the pairs. 'over folds': corrected resampled t-test, which also sees that other training events make other models."
    " The leaderboard's ± of a single AMS comes from other replicas (200) and may differ a little."
)
_HEADLINE = ("ams", "auc", "log_loss")
_POWER = 2.8
"""A true difference of this many standard errors is found in 80% of cases at the 5% level (1.96 + 0.84)."""

Rows = list[list[str]]


def _number(value: float, metric: str, *, signed: bool = False) -> str:
    how = METRICS[metric]
    if not math.isfinite(value):
        return "?"
    shown = value * how.scale
    return f"{shown:+.{how.digits}f}" if signed else f"{shown:.{how.digits}f}"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "?"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _models(comparison: Comparison) -> tuple[list[str], Rows]:
    head = ["model", "selected", "s", "b", *(how.title for how in METRICS.values())]
    rows = []
    for model in comparison.models:
        cells = [f"{_number(model.values[m], m)} ± {_number(model.errors[m], m)}" for m in METRICS]
        rows.append(
            [printable(model.name), f"{100 * model.selected.mean():.1f}%", f"{model.s:,.0f}", f"{model.b:,.0f}", *cells]
        )
    return head, rows


def _differences(pair: PairResult) -> tuple[list[str], Rows]:
    head = ["metric", "difference", "95% interval", "p", "p (Holm)", "over folds", "p over folds"]
    rows = []
    for metric, how in METRICS.items():
        d = pair.differences[metric]
        over = pair.over_folds.get(metric)
        rows.append(
            [
                how.title,
                f"{_number(d.value, metric, signed=True)} ± {_number(d.se, metric)}",
                f"{_number(d.low, metric, signed=True)} to {_number(d.high, metric, signed=True)}",
                _p(d.p_value),
                _p(pair.adjusted[metric]),
                f"{_number(over.value, metric, signed=True)} ± {_number(over.se, metric)}" if over else "",
                _p(over.p_value) if over else "",
            ]
        )
    return head, rows


def _overlap(pair: PairResult) -> tuple[list[str], Rows]:
    named = (
        (f"only {printable(pair.a)}", pair.overlap.only_a),
        (f"only {printable(pair.b)}", pair.overlap.only_b),
        ("both", pair.overlap.both),
        ("either", pair.overlap.either),
    )
    head = ["selected by", "events", "s", "b", "AMS of these alone"]
    return head, [[name, f"{p.events:,}", f"{p.s:,.1f}", f"{p.b:,.1f}", f"{p.ams:.3f}"] for name, p in named]


def conclusions(comparison: Comparison) -> list[str]:
    """Return for every pair, in plain words, what can be concluded and what cannot."""
    return [_conclusion(pair, comparison) for pair in comparison.pairs]


def _conclusion(pair: PairResult, comparison: Comparison) -> str:
    a, b = printable(pair.a), printable(pair.b)
    differences = [pair.differences[m] for m in _HEADLINE]
    if all(d.value == 0.0 and d.se == 0.0 for d in differences):
        return f"{a} and {b} order the events alike: there is no difference."
    found = []
    for metric in _HEADLINE:
        if not pair.adjusted[metric] < ALPHA:
            continue
        d = pair.differences[metric]
        first = (d.value < 0.0) == METRICS[metric].lower_is_better
        ahead, behind = (a, b) if first else (b, a)
        found.append(
            f"{ahead} is better than {behind} in {METRICS[metric].title} "
            f"(by {_number(abs(d.value), metric)} ± {_number(d.se, metric)}, p {_equals(pair.adjusted[metric])})"
        )
    corrected = " after correction for all pairs" if len(comparison.pairs) > 1 else ""
    ams = pair.differences["ams"]
    if not found:
        return (
            f"{a} and {b} cannot be told apart{corrected} on these {comparison.events:,} events; a true difference in "
            f"AMS below about {_number(_POWER * ams.se, 'ams')} would mostly go unseen."
        )
    missing = [METRICS[m].title for m in _HEADLINE if not pair.adjusted[m] < ALPHA]
    rest = f" In {' and '.join(missing)} they cannot be told apart." if missing else ""
    return f"{'; '.join(found)}{corrected}.{rest}{_models_vary(pair)}"


def _equals(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _models_vary(pair: PairResult) -> str:
    """A caution where the difference holds for these fits, but the folds do not show it for the method."""
    doubtful = [
        METRICS[m].title
        for m in _HEADLINE
        if pair.adjusted[m] < ALPHA and m in pair.over_folds and not pair.over_folds[m].p_value < ALPHA
    ]
    if not doubtful:
        return ""
    return f" That is so for these fits; over the folds the difference in {' and '.join(doubtful)} is not established."


def _sections(comparison: Comparison) -> list[tuple[str, tuple[list[str], Rows]]]:
    out = [(f"{comparison.events:,} events, {comparison.replicas:,} bootstrap replicas", _models(comparison))]
    for pair in comparison.pairs:
        title = f"{printable(pair.a)} against {printable(pair.b)}"
        out += [(title, _differences(pair)), (f"{title}: events selected (first repeat)", _overlap(pair))]
    return out


def _closing(comparison: Comparison) -> list[str]:
    lines = []
    for pair in comparison.pairs:
        r = pair.overlap.rank_correlation
        lines.append(
            f"Rank correlation of {printable(pair.a)} and {printable(pair.b)}: {r['signal']:.3f} in signal, "
            f"{r['background']:.3f} in background."
        )
    if len(comparison.models) > 2:
        lines += [_ranking(comparison, metric) for metric in comparison.pictures]
    return [*lines, *conclusions(comparison), *(f"Note: {printable(note)}" for note in comparison.notes), LEGEND]


def _ranking(comparison: Comparison, metric: str) -> str:
    picture = comparison.pictures[metric]
    ranks = ", ".join(f"{printable(n)} {r:.2f}" for n, r in zip(picture.names, picture.ranks, strict=True))
    groups = "; ".join(" = ".join(printable(picture.names[i]) for i in group) for group in picture.groups)
    return f"Average rank in {METRICS[metric].title}: {ranks}. Not told apart: {groups or 'none'}."


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison to a terminal."""
    from rich.table import Table
    from rich.text import Text

    for title, (head, rows) in _sections(comparison):
        console.print(Text(title, style="bold"), soft_wrap=True)
        table = Table(header_style="bold")
        for i, name in enumerate(head):
            table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table, crop=False)
    for line in _closing(comparison):
        console.print(Text(line), soft_wrap=not console.is_terminal)


def render(comparison: Comparison, form: str) -> str:
    """Return a comparison as `markdown` or `json` (full precision, no number where there is none)."""
    if form == "json":
        return json.dumps(strict_json(_content(comparison)), indent=1, allow_nan=False) + "\n"
    parts = []
    for title, (head, rows) in _sections(comparison):
        lines = [f"**{markdown_text(title)}**", "", "| " + " | ".join(markdown_text(h) for h in head) + " |"]
        lines.append("|" + "|".join([":--", *["--:"] * (len(head) - 1)]) + "|")
        lines += ["| " + " | ".join(markdown_text(cell) for cell in row) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *(markdown_text(line) for line in _closing(comparison))]) + "\n"


def _difference(d: Difference) -> dict[str, float]:
    return {"value": d.value, "se": d.se, "low": d.low, "high": d.high, "p": d.p_value}


def _content(comparison: Comparison) -> dict[str, Any]:
    return {
        "events": comparison.events,
        "replicas": comparison.replicas,
        "models": [
            {
                "name": m.name,
                "values": m.values,
                "se": m.errors,
                "s": m.s,
                "b": m.b,
                "fraction": float(m.selected.mean()),
            }
            for m in comparison.models
        ],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "differences": {m: {**_difference(d), "p_holm": pair.adjusted[m]} for m, d in pair.differences.items()},
                "over_folds": {m: _difference(d) for m, d in pair.over_folds.items()},
                "selected": {
                    name: vars(getattr(pair.overlap, name)) for name in ("only_a", "only_b", "both", "either")
                },
                "rank_correlation": pair.overlap.rank_correlation,
                "conclusion": _conclusion(pair, comparison),
            }
            for pair in comparison.pairs
        ],
        "ranks": {
            metric: {
                "names": list(p.names),
                "average_rank": [float(r) for r in p.ranks],
                "not_told_apart": [[p.names[i] for i in group] for group in p.groups],
            }
            for metric, p in comparison.pictures.items()
        },
        "notes": list(comparison.notes),
    }
