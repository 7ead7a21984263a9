"""The section of systematic shifts, scored by the stored models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import DataError, HiggsbenchError, StoreError
from higgsbench.events import Events, load_events
from higgsbench.inference.shifts import Moved, ShiftedScores, moved_events, shift_table
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.report.context import Reloaded, StoredReport, read_run, reload_events, subsample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.inference.shifts import ShiftRow, Systematic
    from higgsbench.inference.statistics import ScoredShifts
    from higgsbench.report.context import FittedModels

__all__ = ["ShiftResults", "row_shifts", "shift_results"]


_SECONDS = 15.0
"""What scoring nominal and moved events may take, by the stored times; beyond, fewer of the events are used."""

_FEWEST = 5_000


@dataclass(frozen=True)
class _ShiftedEvents:
    """Events as they are and after each shift, and which models may judge them.

    Attributes:
        nominal: the events as they are.
        moved: after the upward and the downward shift, by the shift's name.
        held_out: whether no model saw them; otherwise they are training events, judged out of fold.
        where: what they are, in words.
        totals: reference totals (N_s, N_b), met by the nominal events.
    """

    nominal: Events
    moved: dict[str, tuple[Moved, Moved]]
    held_out: bool
    where: str
    totals: tuple[float, float]

    def scores(self, models: FittedModels, name: str) -> list[NDArray[np.float64]]:
        """Return log-odds of the nominal events and of those of every shift, up before down, under one row."""
        frames = [(self.nominal.frame, np.arange(len(self.nominal)))]
        frames += [(side.frame, side.at) for pair in self.moved.values() for side in pair]
        if self.held_out:
            scorer = models.held_out(name)
            return [scorer.scores(frame) for frame, _ in frames]
        number = self.nominal.event_id
        return [models.unseen(name, number[at]).scores(frame) for frame, at in frames]

    def with_scores(
        self, scores: Sequence[NDArray[np.float64]]
    ) -> tuple[ShiftedScores, dict[str, tuple[ShiftedScores, ShiftedScores]]]:
        """Join scores, as `scores` returns them, to truth and weights that keep the factors of the nominal events."""
        y, stored, number = self.nominal.y, self.nominal.weight, self.nominal.event_id
        weight = evaluation_weights(y, stored, *self.totals)
        factor = np.where(y, *(float(np.sum(weight[of]) / np.sum(stored[of])) for of in (y, ~y)))
        base = ShiftedScores("nominal", y, scores[0], weight, number)
        left = iter(scores[1:])

        def side(moved: Moved) -> ShiftedScores:
            at = moved.at
            return ShiftedScores(moved.name, y[at], next(left), moved.weight * factor[at], number[at])

        return base, {name: (side(up), side(down)) for name, (up, down) in self.moved.items()}


@dataclass(frozen=True)
class ShiftResults:
    """What shifts do to the selections of several rows.

    Attributes:
        rows: nominal selection and that under each shift, by the row's name.
        where: which events were scored, in words.
        notes: which rows could not be scored, and why.
    """

    rows: dict[str, list[ShiftRow]]
    where: str
    notes: tuple[str, ...]


def _shifted_events(
    run: StoredReport,
    events: Reloaded,
    systematics: Sequence[Systematic],
    file: Path | None = None,
    most: int | None = None,
) -> _ShiftedEvents:
    """Choose the events that are moved, and move them.

    Args:
        run: the run.
        events: its events, loaded again.
        systematics: the shifts.
        file: labelled events to move. Without it, the run's held-out events with labels, or where there are none, its
            training events.
        most: how many of the events are used, at most.

    Raises:
        DataError: if a file cannot be used, or the events lack what a shift needs.
        StoreError: if the run's events are not at hand and no file is named.
    """
    nominal, held_out, where = _nominal(run, events, file)
    if most is not None and len(nominal) > most:
        where = f"{most:,} of the {where}"
        nominal = nominal.take(subsample(len(nominal), most))
    moved = {systematic.name: moved_events(systematic, nominal) for systematic in systematics}
    return _ShiftedEvents(nominal, moved, held_out, where, run.totals)


def _nominal(run: StoredReport, events: Reloaded, file: Path | None) -> tuple[Events, bool, str]:
    train = events.train
    if file is not None:
        found = load_events(file) if train is None else load_events(file, train.schema)
        if not found.labelled:
            raise DataError(f"{file}: no column {found.schema.label}: the selection of a shift needs the truth")
        if found.schema.event_id is not None:
            found = found.take(~np.isin(found.event_id, run.event_id))
        if not (len(found) and found.y.any() and (~found.y).any()):
            raise DataError(f"{file}: no signal or no background among the events that the run was not trained on")
        return found, True, f"{len(found):,} events of {file.name}"
    if events.test is not None and events.held_out is not None:
        return events.test, True, f"{len(events.test):,} held-out events"
    if train is None:
        reason = next(iter(events.notes), "they are not at hand")
        raise StoreError(f"{run.folder}: --shift needs the run's events, or --events FILE. {reason}")
    return train, False, f"{len(train):,} training events, each judged by a model that did not see it"


def shift_results(
    run: StoredReport,
    events: Reloaded,
    systematics: Sequence[Systematic],
    models: FittedModels,
    names: Sequence[str],
    file: Path | None = None,
) -> ShiftResults:
    """Score nominal and moved events and select by each row's frozen cut.

    Args:
        run: the run.
        events: its events, loaded again.
        systematics: the shifts.
        models: its stored models.
        names: rows wanted; `stack` is blended from its members.
        file: labelled events to move, by default the run's held-out events with labels, or else its training events.

    Raises:
        DataError: if a file cannot be used, or the events lack what a shift needs.
        StoreError: if the run's events are not at hand and no file is named.
    """
    trained = _with_members(run, names)
    passes = 1 + 2 * len(systematics)
    per_event = sum(float(record.get("predict_us") or 0.0) for record in trained.values()) * passes
    most = None if per_event <= 0.0 else max(int(_SECONDS * 1e6 / per_event), _FEWEST)
    chosen = _shifted_events(run, events, systematics, file, most)
    scores, notes = _all_scores(chosen, models, trained, passes if "stack" in names else 0)
    records = {r["name"]: r for r in run.rows}
    rows = {}
    for name in (n for n in names if n in scores):
        base, sides = chosen.with_scores(scores[name])
        both = [side for pair in sides.values() for side in pair]
        rows[name] = shift_table(base, both, float(records[name]["threshold"]), run.b_reg)
    return ShiftResults(rows, chosen.where, tuple(notes))


def row_shifts(
    folder: Path, name: str, systematics: Sequence[Systematic], models: FittedModels, file: Path | None = None
) -> ScoredShifts:
    """Score all nominal and moved events under one row, for a table of shifts or a workspace.

    Args:
        folder: the run's folder.
        name: the row.
        systematics: the shifts.
        models: the run's stored models.
        file: labelled events to move; the run's held-out, or else its training events by default.

    Raises:
        HiggsbenchError: if the events are not at hand or cannot be shifted, or a model cannot be used.
    """
    run = read_run(folder)
    chosen = _shifted_events(run, reload_events(run), systematics, file)
    scores, notes = _all_scores(chosen, models, _with_members(run, [name]), 1 + 2 * len(systematics))
    if name not in scores:
        raise StoreError(next(iter(notes), f"{folder}: the stack cannot be blended: models of members are missing"))
    return chosen.with_scores(scores[name])


def _all_scores(
    chosen: _ShiftedEvents, models: FittedModels, names: Iterable[str], blends: int
) -> tuple[dict[str, list[NDArray[np.float64]]], list[str]]:
    """Return scores by row and notes on rows without; `blends` sets of events are blended, none if 0."""
    scores: dict[str, list[NDArray[np.float64]]] = {}
    notes = []
    for name in names:
        try:
            scores[name] = chosen.scores(models, name)
        except HiggsbenchError as error:
            notes.append(f"No shifts of {name}: {error}.")
    blended = [models.blended({name: values[part] for name, values in scores.items()}) for part in range(blends)]
    found = [blend for blend in blended if blend is not None]
    if found and len(found) == blends:
        scores["stack"] = found
    return scores, notes


def _with_members(run: StoredReport, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the records of the trained rows wanted, then of those that the stack needs besides."""
    members = run.stack["members"] if run.stack is not None and "stack" in names else []
    wanted = dict.fromkeys([*names, *(m["name"] for m in members if m["weight"])])
    records = {r["name"]: r for r in run.rows if r["name"] != "stack"}
    return {name: records[name] for name in wanted if name in records}
