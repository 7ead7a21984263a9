"""Sections of what features are worth to the stored models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import HiggsbenchError, StoreError
from higgsbench.leaderboard.columns import printable
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages.html import Cell, paragraph, table, wide
from higgsbench.pages.text import number, with_error
from higgsbench.report.draw_importance import contribution_figure, importance_figure
from higgsbench.report.fitted import affordable_events, subsample
from higgsbench.report.importance import Contributions, Importance, Judge, permutation_importance

if TYPE_CHECKING:
    import polars as pl

    from higgsbench.events import Events
    from higgsbench.report.fitted import FittedModels, Scorer
    from higgsbench.report.sight import Sight

__all__ = ["importance"]

_SHUFFLES = 3
_SECONDS = 6.0
_MOST, _FEWEST = 8_000, 1_000
"""Events that are scored with shuffled features, at most and at least."""

_EXPLAINED = 1_000
"""Events whose scores are split into features."""


def importance(sight: Sight) -> list[str]:
    """What the best trained row loses when a feature is shuffled, and what features add to the best trees' scores."""
    if sight.models is None:
        return []
    if sight.events.train is None:
        return [paragraph("The run's events are not at hand, so its models cannot be asked.")]
    out = []
    for part in (_shuffled, _contributions):
        try:
            out += part(sight, sight.models, sight.events.train)
        except HiggsbenchError as error:
            out.append(paragraph(printable(f"{_NAMES[part]} is not drawn: {error}.")))
    return out


def _shuffled(sight: Sight, models: FittedModels, train: Events) -> list[str]:
    features = train.schema.features
    record, events, slow = _row_to_shuffle(sight, len(features) * _SHUFFLES + 1)
    scorer, frame, judge, where = _unseen(sight, models, train, record, events)
    found = permutation_importance(scorer, frame, judge, features, shuffles=_SHUFFLES)
    name = record["name"]
    first = ", ".join(f"{e.feature} {with_error(e.auc, e.auc_se)}" for e in found[:5])
    alt = f"Permutation importance of {name} on {where}; largest losses of weighted AUC: {first}."
    caption = (
        f"Loss of {name} on {where} when one column is shuffled, mean of {_SHUFFLES} shuffles with its standard error; "
        "AMS at the frozen cut. Columns that say the same stand in for each other: a small loss does not mean that a "
        "column says nothing."
    )
    caption += f" Of better rows, {', '.join(slow)} would take long." if slow else ""
    drawn = sight.pictures.add("importance", importance_figure(found), alt, printable(caption))
    headings = [("column", True), ("loss of weighted AUC", False), ("loss of AMS", False)]
    lines = [(e.feature, *_loss_cells(e)) for e in found]
    return [drawn, table(f"Permutation importance of {printable(name)}", headings, lines, sortable=True)]


def _row_to_shuffle(sight: Sight, passes: int) -> tuple[dict[str, Any], int, list[str]]:
    """Return the best trained row that can be scored so often, on how many events, and better ones that cannot."""
    slow: list[str] = []
    for record in (r for r in sight.run.rows if r["name"] != "stack"):
        events = affordable_events(record, _SECONDS, passes, _MOST)
        if events >= _FEWEST:
            return record, events, slow
        slow.append(record["name"])
    raise StoreError(f"no row scores {_FEWEST:,} events {passes} times within {_SECONDS:g} s")


def _unseen(
    sight: Sight, models: FittedModels, train: Events, record: dict[str, Any], most: int
) -> tuple[Scorer, pl.DataFrame, Judge, str]:
    """Return a scorer and events that it has not seen: out of fold, or held out where all models saw all others."""
    run, held_out, test = sight.run, sight.events.held_out, sight.events.test
    rows = subsample(len(train), most)
    y, weight, frame = run.scores.y[rows], run.scores.weight[rows], train.frame[rows]
    where = f"{rows.size:,} training events, each judged by a model that did not see it"
    try:
        scorer = models.unseen(record["name"], run.event_id[rows])
    except HiggsbenchError:
        if held_out is None or test is None:
            raise
        rows = subsample(len(test), most)
        y, weight, frame = held_out.y[rows], held_out.weight[rows], test.frame[rows]
        scorer, where = models.held_out(record["name"]), f"{rows.size:,} held-out events"
    weight = evaluation_weights(y, weight, *run.totals)
    return scorer, frame, Judge(y, weight, float(record["threshold"]), run.b_reg), where


def _loss_cells(entry: Importance) -> tuple[Cell, Cell]:
    auc = Cell(f"{entry.auc:.4f} ± {entry.auc_se:.4f}", entry.auc)
    return auc, Cell(f"{entry.ams:.3f} ± {entry.ams_se:.3f}", entry.ams)


def _contributions(sight: Sight, models: FittedModels, train: Events) -> list[str]:
    run = sight.run
    rows = subsample(len(train), _EXPLAINED)
    frame, event_id = train.frame[rows], run.event_id[rows]
    record, reasons = None, []
    for record in (r for r in run.rows if r["name"] != "stack"):
        try:
            features, values, parts = models.contributions(record["name"], frame, event_id)
            break
        except HiggsbenchError as error:
            reasons.append(str(error))
    else:
        raise StoreError(next(iter(reasons), "no trained row"))
    weight = evaluation_weights(run.scores.y[rows], run.scores.weight[rows], 0.5, 0.5)
    found = Contributions(features, values, parts, weight)
    order = np.argsort(-found.size, kind="stable")
    first = ", ".join(f"{features[i]} {number(found.size[i], 2)}" for i in order[:5])
    name = record["name"]
    alt = f"What features add to the log-odds of {name} (TreeSHAP); largest mean magnitudes: {first}."
    caption = (
        f"Exact Shapley values of the trees of {name}, {rows.size:,} training events, each by a model that did not see "
        "it where the run keeps one. Bars: mean magnitude, both classes weighing the same; points: one event each, "
        "orange where the feature is large, blue where small, grey where missing."
    )
    return [wide([sight.pictures.add("shap", contribution_figure(found, order), alt, printable(caption))])]


_NAMES = {_shuffled: "Permutation importance", _contributions: "What features add (TreeSHAP)"}
