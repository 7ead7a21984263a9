"""Compare models of stored runs on the same events: paired differences, what the models select, and how it is shown.

It imports no model and no training code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench import __version__
from higgsbench.compare.measure import (
    Contender,
    Difference,
    Overlap,
    Part,
    difference_between,
    efficiency_differences,
    fold_values,
    holm,
    load_contenders,
    measure,
    notes_on,
    over_folds,
    overlap_of,
)
from higgsbench.compare.ranks import ALPHA, RankPicture, rank_pictures
from higgsbench.errors import ConfigError, StoreError
from higgsbench.files import atomic_path, printable, told_plainly
from higgsbench.metrics.estimates import METRICS
from higgsbench.metrics.spectators import LEGEND as SPECTATOR_LEGEND
from higgsbench.metrics.spectators import metric_of
from higgsbench.pages import Section, Shown, Table, json_report, markdown_text, number, p_value, page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.ensemble import RowMetrics
    from higgsbench.metrics import Metric

__all__ = ["Comparison", "Contender", "PairResult", "compare", "load_contenders"]

LEGEND = (
    "Differences are first minus second on the same events; ± from the events (paired), p after Holm's correction over "
    "the pairs. 'over folds': corrected resampled t-test, which also accounts for other training events."
    " The leaderboard's ± of a single AMS comes from other replicas (200) and may differ a little."
)
_HEADLINE = tuple(metric.name for metric in METRICS.values() if metric.headline)
_POWER = 2.8
"""A true difference of this many standard errors is found in 80% of cases at the 5% level (1.96 + 0.84)."""


@dataclass(frozen=True)
class PairResult:
    """One model against another.

    Attributes:
        a: name of the first, b: of the second.
        differences: a minus b for each metric, error from the events.
        adjusted: p-value of each metric after Holm's correction over all pairs.
        over_folds: a minus b by the corrected resampled t-test over folds; empty where the two were not cross-validated
            on the same folds.
        overlap: what the two select at their own cuts.
        efficiencies: difference a minus b for each process; empty if the processes are not known.
    """

    a: str
    b: str
    differences: dict[str, Difference]
    adjusted: dict[str, float]
    over_folds: dict[str, Difference]
    overlap: Overlap
    efficiencies: dict[str, Difference]


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """All models against each other.

    Attributes:
        events: number of events.
        models: the measured models, in the order they were named.
        pairs: every pair.
        pictures: average ranks by metric.
        notes: remarks for the reader.
        replicas: number of bootstrap replicas.
    """

    events: int
    models: tuple[RowMetrics, ...]
    pairs: tuple[PairResult, ...]
    pictures: dict[str, RankPicture]
    notes: tuple[str, ...]
    replicas: int

    @property
    def metrics(self) -> dict[str, Metric]:
        """What was measured, by name: all metrics, and those of the spectators."""
        return {name: metric_of(name) for name in self.models[0].estimates}

    def __repr__(self) -> str:
        """Name the models; `str` shows everything."""
        names = ", ".join(model.name for model in self.models)
        return f"<Comparison of {names} on {self.events:,} events>"

    def as_tables(self) -> list[Table]:
        """Return the table of the models, and those of each pair."""
        head = ["model", "selected", "s", "b", *(how.heading for how in self.metrics.values())]
        rows = []
        for m in self.models:
            cells = [how.shown(m.value(name), m.se(name)) for name, how in self.metrics.items()]
            rows.append([printable(m.name), f"{100 * m.fraction:.1f}%", number(m.s, 3), number(m.b, 3), *cells])
        out = [Table(f"{self.events:,} events, {self.replicas:,} bootstrap replicas", head, rows)]
        head = ["selected by", "events", "s", "b", "AMS of these alone"]
        compared = ["metric", "difference", "95% interval", "p", "p (Holm)", "over folds", "p over folds"]
        for pair in self.pairs:
            differences = []
            for metric, how in self.metrics.items():
                d, over = pair.differences[metric], pair.over_folds.get(metric)
                interval = f"{how.number(d.low, '+')} to {how.number(d.high, '+')}"
                folds = [how.shown(over.value, over.se, "+"), p_value(over.p_value)] if over else ["", ""]
                difference = how.shown(d.value, d.se, "+")
                differences.append(
                    [how.heading, difference, interval, p_value(d.p_value), p_value(pair.adjusted[metric]), *folds]
                )
            a, b, found = printable(pair.a), printable(pair.b), pair.overlap
            parts = {f"only {a}": found.only_a, f"only {b}": found.only_b, "both": found.both, "either": found.either}
            rows = [[name, f"{p.events:,}", f"{p.s:,.1f}", f"{p.b:,.1f}", f"{p.ams:.3f}"] for name, p in parts.items()]
            title = f"{a} against {b}"
            out += [Table(title, compared, differences), Table(f"{title}: events selected (first repeat)", head, rows)]
            out += _efficiencies(pair, title, self)
        return out

    def records(self) -> list[dict[str, Any]]:
        """Return one record per pair and metric: first minus second, with errors and p-values."""
        return [
            {"a": pair.a, "b": pair.b, "metric": metric, **_difference(d), "p_holm": pair.adjusted[metric]}
            for pair in self.pairs
            for metric, d in pair.differences.items()
        ]

    def remarks(self) -> list[str]:
        """Return correlations, average ranks, conclusions, notes and the legend."""
        lines = []
        for pair in self.pairs:
            r = pair.overlap.rank_correlation
            lines.append(
                f"Rank correlation of {printable(pair.a)} and {printable(pair.b)}: {r['signal']:.3f} in signal, "
                f"{r['background']:.3f} in background."
            )
        for metric, picture in self.pictures.items() if len(self.models) > 2 else ():
            names = [printable(name) for name in picture.names]
            ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(names, picture.ranks, strict=True))
            groups = "; ".join(" = ".join(names[i] for i in group) for group in picture.groups)
            lines.append(f"Average rank in {METRICS[metric].heading}: {ranks}. Not told apart: {groups or 'none'}.")
        notes = (f"Note: {printable(note)}" for note in self.notes)
        legend = [LEGEND] if self.metrics.keys() <= METRICS.keys() else [LEGEND, SPECTATOR_LEGEND]
        return [*lines, *conclusions(self), *notes, *legend]

    def pair(self, a: str, b: str) -> PairResult:
        """Return the pair of two models in the stored order; a `ConfigError` if there is none."""
        for pair in self.pairs:
            if {pair.a, pair.b} == {a, b}:
                return pair
        raise ConfigError(f"no pair {a!r} and {b!r}; the models are {', '.join(m.name for m in self.models)}")


def compare(contenders: Sequence[Contender], notes: Sequence[str] = (), *, replicas: int = 1000) -> Comparison:
    """Compare models on the same events.

    Args:
        contenders: at least two of different names, as `load_contenders` returns them.
        notes: lines to carry along.
        replicas: bootstrap replicas for the errors of the AMS, at least two. A `ConfigError` otherwise.
    """
    if len(contenders) < 2:
        raise ConfigError(f"a comparison needs two models; there is {contenders[0].name if contenders else 'none'}")
    if replicas < 2:
        raise ConfigError(f"--replicas: an error needs at least 2 replicas, not {replicas}")
    if len({c.name for c in contenders}) < len(contenders):
        raise ConfigError("two runs of the same name: give one of the folders another name")
    models = measure(contenders, replicas)
    index = list(combinations(range(len(models)), 2))
    metrics = list(models[0].estimates)
    differences = [{m: difference_between(models[i], models[j], m) for m in metrics} for i, j in index]
    adjusted = {m: holm([d[m].p_value for d in differences]) for m in metrics}
    by_fold = [fold_values(contender) for contender in contenders]
    pairs = tuple(
        PairResult(
            models[i].name,
            models[j].name,
            differences[k],
            adjusted={m: float(adjusted[m][k]) for m in adjusted},
            over_folds=over_folds(contenders[i].truth.fold, contenders[j].truth.fold, by_fold[i], by_fold[j]),
            overlap=overlap_of(contenders[i], contenders[j], models[i].selected[0], models[j].selected[0]),
            efficiencies=efficiency_differences(contenders[i], contenders[j], models[i], models[j]),
        )
        for k, (i, j) in enumerate(index)
    )
    told = (*notes, *notes_on(contenders))
    return Comparison(contenders[0].event_id.size, tuple(models), pairs, rank_pictures(models), told, replicas)


def check_target(target: Path) -> None:
    """Check a file name before any work is done; a `ConfigError` if it does not end in .parquet or .csv."""
    if target.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--events {target}: the name must end in .parquet or .csv")


def write_selections(target: Path, shared: Contender, comparison: Comparison) -> None:
    """Write EventId, truth, evaluation weight and one boolean per model (its honest selection, first repeat).

    The file is Parquet or CSV; `shared` is any of the compared models. A `StoreError` if it cannot be written.
    """
    columns: dict[str, Any] = {"EventId": shared.event_id, "signal": shared.truth.y, "weight": shared.truth.weight}
    columns |= {f"selected:{model.name}": model.selected[0] for model in comparison.models}
    with told_plainly(StoreError, target), atomic_path(target) as temporary:
        frame = pl.DataFrame(columns)
        (frame.write_csv if target.suffix == ".csv" else frame.write_parquet)(temporary)


def _efficiencies(pair: PairResult, title: str, comparison: Comparison) -> list[Table]:
    """Return the table of efficiencies of the processes, if the processes are known."""
    a, b = (next(model for model in comparison.models if model.name == name) for name in (pair.a, pair.b))
    rows = []
    for process, d in pair.efficiencies.items():
        own = (model.processes[process].efficiency for model in (a, b))
        cells = [f"{100 * e.value:.2f} ± {100 * e.se:.2f}" for e in own if e is not None]
        interval = f"{100 * d.low:+.2f} to {100 * d.high:+.2f}"
        rows.append(
            [printable(process), *cells, f"{100 * d.value:+.2f} ± {100 * d.se:.2f}", interval, p_value(d.p_value)]
        )
    head = ["process", printable(pair.a), printable(pair.b), "difference", "95% interval", "p"]
    return [Table(f"{title}: efficiency of each process [%], p without correction", head, rows)] if rows else []


def conclusions(comparison: Comparison) -> list[str]:
    """Return, in plain words, what can and what cannot be concluded about every pair."""
    return [_conclusion(pair, comparison) + _on_spectators(pair, comparison) for pair in comparison.pairs]


def _on_spectators(pair: PairResult, comparison: Comparison) -> str:
    """Say which of the two depends less on the spectators, and in which of their metrics."""
    found: dict[str, list[str]] = {}
    for name, how in comparison.metrics.items():
        if name not in METRICS and pair.adjusted[name] < ALPHA:
            d = pair.differences[name]
            by = f"{how.heading} lower by {how.shown(abs(d.value), d.se)}, {p_value(pair.adjusted[name], 'p')}"
            found.setdefault(pair.a if d.value < 0.0 else pair.b, []).append(by)
    return "".join(f" {printable(row)} depends less on spectators ({'; '.join(by)})." for row, by in found.items())


def _conclusion(pair: PairResult, comparison: Comparison) -> str:
    a, b = printable(pair.a), printable(pair.b)
    if all(pair.differences[m].value == 0.0 and pair.differences[m].se == 0.0 for m in _HEADLINE):
        return f"{a} and {b} order the events in the same way: there is no difference."
    corrected = " after correction for all pairs" if len(comparison.pairs) > 1 else ""
    apart = [m for m in _HEADLINE if pair.adjusted[m] < ALPHA]
    if not apart:
        return (
            f"{a} and {b} cannot be told apart{corrected} on these {comparison.events:,} events; a true difference in "
            f"AMS below about {METRICS['ams'].number(_POWER * pair.differences['ams'].se)} would usually go undetected."
        )
    found = []
    for metric in apart:
        d, how = pair.differences[metric], METRICS[metric]
        ahead, behind = (a, b) if (d.value < 0.0) == how.lower_is_better else (b, a)
        found.append(
            f"{ahead} is better than {behind} in {how.heading} "
            f"(by {how.shown(abs(d.value), d.se)}, {p_value(pair.adjusted[metric], 'p')})"
        )
    text = f"{'; '.join(found)}{corrected}."
    missing = [METRICS[m].heading for m in _HEADLINE if m not in apart]
    if missing:
        text += f" In {' and '.join(missing)} they cannot be told apart."
    # What holds for these fits may not hold for the method, as the folds may show.
    doubtful = [METRICS[m].heading for m in apart if m in pair.over_folds and not pair.over_folds[m].p_value < ALPHA]
    if doubtful:
        text += " This holds for these fits; over the folds the difference in "
        text += f"{' and '.join(doubtful)} is not established."
    return text


def render(comparison: Comparison, form: str) -> str:
    """Return a comparison as `markdown`, `html` (a page) or `json` (full precision, null for a missing number)."""
    if form == "json":
        return json_report(_content(comparison))
    if form == "html":
        sections = [
            Section("conclusions", "What can be concluded", comparison.remarks()),
            Section("numbers", "Models and pairs", comparison.as_tables()),
        ]
        return page("higgsbench comparison", [], sections, f"Made by higgsbench {__version__} compare.")
    parts = [table.markdown() for table in comparison.as_tables()]
    return "\n\n".join([*parts, *map(markdown_text, comparison.remarks())]) + "\n"


def _difference(d: Difference) -> dict[str, float]:
    return {"value": d.value, "se": d.se, "low": d.low, "high": d.high, "p": d.p_value}


def _content(comparison: Comparison) -> dict[str, Any]:
    return {
        "events": comparison.events,
        "replicas": comparison.replicas,
        "models": [
            {
                "name": m.name,
                "values": {name: m.value(name) for name in m.estimates},
                "se": {name: m.se(name) for name in m.estimates},
                "s": m.s,
                "b": m.b,
                "fraction": m.fraction,
                "processes": {name: found.numbers for name, found in m.processes.items()},
            }
            for m in comparison.models
        ],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "differences": {m: {**_difference(d), "p_holm": pair.adjusted[m]} for m, d in pair.differences.items()},
                "over_folds": {m: _difference(d) for m, d in pair.over_folds.items()},
                "selected": {name: vars(part) for name, part in vars(pair.overlap).items() if isinstance(part, Part)},
                "efficiencies": {name: _difference(d) for name, d in pair.efficiencies.items()},
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
