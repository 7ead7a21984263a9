"""What a report asks of a run's stored models, and how much of it it can afford.

The report itself opens no model: whoever calls it passes an object that does. Costs are told beforehand by the time per
event that the run stored, so that the same run always gives the same page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import HiggsbenchError
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.report.stored import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.events import Events
    from higgsbench.report.stored import StoredReport

__all__ = ["FittedModels", "Scorer", "TrainingScores", "affordable_events", "subsample", "training_scores"]

MAX_EVENTS = 20_000
"""Training events whose in-sample scores are drawn, at most."""

IN_SAMPLE_SECONDS = 10.0
"""What the in-sample scores of all rows may take, by the stored times."""


class Scorer(Protocol):
    """Whatever scores events."""

    @property
    def name(self) -> str:
        """The row whose scores these are."""
        ...

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return (n,) log-odds of events, missing values as null."""
        ...


class FittedModels(Protocol):
    """The stored models of a run. Every method but `blended` raises a HiggsbenchError that says why it cannot."""

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n,) log-odds of training events by models of a row that saw them."""
        ...

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Return the stack's (n,) log-odds from those of its members, or None where it cannot."""
        ...

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> Scorer:
        """Return a scorer of these (n,) training events by models that did not see them."""
        ...

    def held_out(self, name: str) -> Scorer:
        """Return a scorer of events that are no training events."""
        ...

    def contributions(
        self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Return names of p features, their values (n, p) and what they add to the log-odds (n, p)."""
        ...


@dataclass(frozen=True)
class TrainingScores:
    """Scores of training events by models that saw them.

    Attributes:
        scores: the scores of those rows for which there are any, or None.
        notes: which rows have none, and why.
    """

    scores: Scores | None
    notes: tuple[str, ...]


def subsample(events: int, wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Return positions of at most so many events, ascending, the same ones every time."""
    if events <= wanted:
        return np.arange(events)
    return np.sort(np.random.default_rng(seed).choice(events, wanted, replace=False))


def affordable_events(record: dict[str, Any], seconds: float, passes: int, most: int) -> int:
    """Return how many events a row can score so many times within the seconds, by its stored time per event."""
    each = record.get("predict_us")
    if not isinstance(each, (int, float)) or not each > 0.0:
        return most
    return min(most, int(seconds * 1e6 / (each * passes)))


def training_scores(
    run: StoredReport, events: Events, models: FittedModels, names: Sequence[str], seconds: float = IN_SAMPLE_SECONDS
) -> TrainingScores:
    """Score training events by models that saw them.

    Args:
        run: the run.
        events: its cross-validated events, in the order of the stored scores.
        models: its stored models.
        names: rows wanted, in order; members of the stack follow. Rows that no longer fit into the time get none.
        seconds: limit, by the stored times per event.
    """
    rows = subsample(len(events), MAX_EVENTS)
    frame, event_id = events.frame[rows], run.event_id[rows]
    # Every repeat has one model that did not see an event.
    fits = (int(run.table.comparability.get("folds", 2)) - 1) * int(run.table.comparability.get("repeats", 1))
    found: dict[str, NDArray[np.float64]] = {}
    reasons: dict[str, list[str]] = {}
    slow = []
    for record in _in_order(run, names):
        name = record["name"]
        cost = rows.size * fits * float(record.get("predict_us") or 0.0) / 1e6
        if cost > seconds:
            slow.append(name)
            continue
        seconds -= cost
        try:
            found[name] = models.in_sample(name, frame, event_id)
        except HiggsbenchError as error:
            reasons.setdefault(str(error), []).append(name)
    blended = models.blended(found) if found else None
    if blended is not None:
        found["stack"] = blended
    notes = [f"No training scores of {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    if slow:
        notes.append(f"No training scores, which would take long, of: {', '.join(slow)}.")
    if not found:
        return TrainingScores(None, tuple(notes))
    y = run.scores.y[rows]
    weight = evaluation_weights(y, run.scores.weight[rows], *run.totals)
    return TrainingScores(Scores(y, weight, {name: s[None, :] for name, s in found.items()}), tuple(notes))


def _in_order(run: StoredReport, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the trained rows wanted, then those the stack needs besides."""
    blended = run.stack["members"] if run.stack is not None and "stack" in names else []
    members = [m["name"] for m in blended if m["weight"]]
    trained = {r["name"]: r for r in run.rows if r["name"] != "stack"}
    return [trained[name] for name in dict.fromkeys([*names, *members]) if name in trained]
