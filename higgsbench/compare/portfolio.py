"""Search the stored scores of several runs for the best blend, in a nested cross-validation; nothing is trained.

Each fold is scored by a blend that has not seen it: the other folds choose the method (each of them in turn is scored
by blends of the rest) and fit the weights. As in a stack, the base models that scored the other folds have seen the
events of this one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.compare.measure import Difference, difference_between, measure, notes_on
from higgsbench.ensemble.blend import BLEND_METHODS, Blend, fit_blend
from higgsbench.errors import ConfigError
from higgsbench.files import printable
from higgsbench.metrics.estimates import METRICS
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages import Shown, Table, p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.compare.measure import Contender
    from higgsbench.ensemble import RowMetrics
    from higgsbench.metrics.weights import Bools, Floats

_HEADLINE = {name: metric for name, metric in METRICS.items() if metric.headline}

LEGEND = (
    "The blend of each fold comes from the other folds. Weights multiply log-odds and need not sum to 1. Differences "
    "are blend minus row, with paired errors."
)


@dataclass(frozen=True, repr=False)
class Portfolio(Shown):
    """The blend that a search found, and its members.

    Attributes:
        events: number of events.
        blend: the numbers of the blend.
        members: those of its members, the best AMS first.
        weights: by member the mean coefficient over folds and repeats, and its standard deviation.
        methods: how many folds chose each method.
        gains: by member and metric, blend minus member.
        notes: remarks for the reader.
    """

    events: int
    blend: RowMetrics
    members: tuple[RowMetrics, ...]
    weights: dict[str, tuple[float, float]]
    methods: dict[str, int]
    gains: dict[str, dict[str, Difference]]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Name the size; `as_tables` shows the rows."""
        return f"<Portfolio of {len(self.members)} rows on {self.events:,} events, AMS {self.blend.value('ams'):.3f}>"

    def best(self, metric: str) -> RowMetrics:
        """Return the best member in a metric."""
        sign = 1.0 if METRICS[metric].lower_is_better else -1.0
        return min(self.members, key=lambda row: sign * row.value(metric))

    def as_tables(self) -> list[Table]:
        """Return the table of the blend and its members."""
        rows = []
        for row in (self.blend, *self.members):
            cells = [
                printable(row.name),
                "" if row is self.blend else "{:.3f} ± {:.3f}".format(*self.weights[row.name]),
            ]
            for name, how in _HEADLINE.items():
                gain = None if row is self.blend else self.gains[row.name][name]
                cells.append(how.shown(row.value(name), row.se(name)))
                cells.append("" if gain is None else how.shown(gain.value, gain.se, "+"))
            rows.append(cells)
        pairs = [(how.heading, f"Δ {how.heading}") for how in _HEADLINE.values()]
        title = f"Blend of {len(self.members)} rows on {self.events:,} events"
        return [
            Table(title, ["row", "weight", *itertools.chain(*pairs)], rows, marks=["best", *[""] * len(self.members)])
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per row, the blend first; its differences are null."""
        out = []
        for row in (self.blend, *self.members):
            weight, sd = (None, None) if row is self.blend else self.weights[row.name]
            record: dict[str, Any] = {"row": row.name, "weight": weight, "weight_sd": sd}
            for name in _HEADLINE:
                gain = None if row is self.blend else self.gains[row.name][name]
                record |= {name: row.value(name), f"{name}_se": row.se(name)}
                record |= {f"gain_{name}": gain and gain.value, f"gain_{name}_se": gain and gain.se}
            out.append(record)
        return out

    def remarks(self) -> list[str]:
        """Return the methods, the gain over the best member in each metric, notes and the legend."""
        methods = ", ".join(f"{name} {count}" for name, count in self.methods.items())
        lines = [f"Number of folds that chose each method: {methods}."]
        for name, how in _HEADLINE.items():
            best = self.best(name)
            gain = self.gains[best.name][name]
            shown, p = how.shown(gain.value, gain.se, "+"), p_value(gain.p_value, "p")
            lines.append(f"{how.heading}: {shown} against the best member, {printable(best.name)} ({p}).")
        return [*lines, *(f"Note: {printable(note)}" for note in self.notes), LEGEND]


def search_blend(contenders: Sequence[Contender], notes: Sequence[str] = (), *, replicas: int = 1000) -> Portfolio:
    """Search for the best blend of rows on the same events and folds.

    Stacks are left out, because their scores contain blends that saw every fold. Only one of several rows with the same
    fits is kept.

    Args:
        contenders: rows, as `load_contenders` returns them.
        notes: lines to carry along.
        replicas: bootstrap replicas for the errors of the AMS, at least two.

    Raises:
        ConfigError: for fewer than two members or three folds, members with different folds, or too few replicas.
    """
    members, told = _members(contenders)
    if len(members) < 2:
        there = f"there is only {members[0].name}" if members else "there is none"
        raise ConfigError("; ".join(["a blend needs two rows that are not stacks", there, *told]))
    first = members[0].truth
    if replicas < 2:
        raise ConfigError(f"--replicas: an error needs at least 2 replicas, not {replicas}")
    for other in members[1:]:
        if not np.array_equal(first.fold, other.truth.fold):
            how = "train both with the same `folds`, `seed` and `repeats`"
            raise ConfigError(f"{members[0].name} and {other.name} have different folds; {how}")
    if first.fold.max() < 2:  # one fold is scored, one judges the methods, and one is left to fit the weights
        raise ConfigError(f"a search for a blend needs at least 3 folds, not {first.fold.max() + 1}")
    scores, blends = [], list[Blend]()
    for repeat in range(len(first.fold)):
        F = np.column_stack([member.scores[repeat] for member in members])
        out, found = nested_blend(tuple(member.name for member in members), F, members[0], repeat)
        scores.append(out)
        blends += found
    blend, *rows = measure([replace(members[0], name="blend", scores=np.stack(scores)), *members], replicas)
    coefficients = np.stack([one.coefficients for one in blends])
    weights = {row.name: (float(c.mean()), float(c.std())) for row, c in zip(rows, coefficients.T, strict=True)}
    return Portfolio(
        members[0].event_id.size,
        blend,
        tuple(sorted(rows, key=lambda row: -row.value("ams"))),
        weights,
        dict(Counter(one.method for one in blends).most_common()),
        {row.name: {name: difference_between(blend, row, name) for name in _HEADLINE} for row in rows},
        (*notes, *told, *notes_on(members)),
    )


def _members(contenders: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    """Return the rows to blend, and lines about those that are left out."""
    members: dict[str, Contender] = {}
    left_out = []
    for contender in contenders:
        if contender.row.name == "stack":
            left_out.append(f"{contender.name} is left out: a stack has seen all folds")
        elif (same := members.setdefault(str(contender.row.record["digest"]), contender)) is not contender:
            left_out.append(f"{contender.name} is left out: it has the same fits as {same.name}")
    return list(members.values()), left_out


def nested_blend(names: tuple[str, ...], F: Floats, like: Contender, repeat: int) -> tuple[Floats, list[Blend]]:
    """Return the scores (n,) of all folds, and the blend of each fold; its method and weights come from the others.

    Args:
        names: names of the members.
        F: (n, m) their out-of-fold log-odds.
        like: one of them, for truth, weights and folds.
        repeat: number of the repeat whose folds count.
    """
    truth = like.truth
    y, fold = truth.y, truth.fold[repeat]
    folds, methods = int(fold.max()) + 1, list(BLEND_METHODS)
    rows = [np.flatnonzero(fold == k) for k in range(folds)]
    balanced = [evaluation_weights(y[own], truth.weight[own], 0.5, 0.5) for own in rows]

    def fitted(method: str, kept: Bools) -> Blend:
        return fit_blend(method, names, F[kept], y[kept], truth.weight[kept], truth.totals)

    losses = np.zeros((folds, len(methods)))
    # Without folds j and k, a fit judges a method on k for the choice of fold j, and on j for that of fold k.
    for pair, at in itertools.product(itertools.combinations(range(folds), 2), range(len(methods))):
        found = fitted(methods[at], ~np.isin(fold, pair))
        for scored, judge in itertools.permutations(pair):
            log_odds = found(F[rows[judge]]) - found.prior
            loss = np.logaddexp(0.0, np.where(y[rows[judge]], -log_odds, log_odds))
            losses[scored, at] += np.sum(balanced[judge] * loss)
    out, blends = np.empty(fold.size), []
    for k in range(folds):
        blends.append(fitted(methods[int(np.argmin(losses[k]))], fold != k))
        out[rows[k]] = blends[-1](F[rows[k]])
    return out, blends
