"""Expected significances and limits from stored scores; here, the effects of systematic shifts on a selection.

The same model scores the same events before and after a shift. Weights of shifted events keep the factors that bring
the *nominal* events to the reference totals, so that events which a shift moves out of the selection are lost and not
scaled away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from higgsbench.errors import ConfigError, DataError, HiggsbenchError, MetricError, StoreError
from higgsbench.events import Events
from higgsbench.inference.events import Moved, moved_events, named_events, positions_of, reload_events, scored_events
from higgsbench.metrics.ams import ams, ams_gradient
from higgsbench.metrics.weights import checked_labels, checked_scores, checked_weights, evaluation_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.config.regions import Systematic
    from higgsbench.inference.events import RunEvents
    from higgsbench.runs.predictor import FittedRun
    from higgsbench.runs.stored import StoredRow, StoredRun

_NEED = "--shift needs the run's events, or --events FILE"
_FEWEST = 5_000
"""At least this many events are scored, however long it takes."""


@dataclass(frozen=True)
class ShiftedScores:
    """Scored events, nominal or after one shift.

    Attributes:
        name: `nominal`, or name and direction of the shift.
        y: (n,) truth.
        score: (n,) log-odds.
        weight: (n,) weights, scaled by the factors of the nominal events.
        event_id: (n,) event numbers, each once; without them a change has no standard error.
    """

    name: str
    y: NDArray[np.bool_]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    event_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        y = checked_labels(self.y)
        checked_scores(self.score, y.size)
        checked_weights(self.weight, y.size)


class ScoredShifts(NamedTuple):
    """Scores of events under one model, as they are and after each shift.

    Attributes:
        nominal: the events as they are.
        sides: after the upward and the downward shift, by the shift's name.
    """

    nominal: ShiftedScores
    sides: dict[str, tuple[ShiftedScores, ShiftedScores]]

    def table(self, threshold: float, b_reg: float = B_REG) -> list[ShiftRow]:
        """Tabulate the selection at a frozen cut, as `shift_table` does."""
        return shift_table(self.nominal, [side for pair in self.sides.values() for side in pair], threshold, b_reg)


@dataclass(frozen=True)
class ShiftRow:
    """Selection at the frozen cut under one shift.

    Attributes:
        name: name and direction of the shift.
        s: selected signal, b: background.
        ams: AMS.
        s_change: change of s against nominal, relative; b_change: of b.
        ams_change: change of the AMS, absolute.
        ams_change_se: its standard error from the finite number of simulated events, both selections on the same events
            (delta method); NaN where event numbers are not known.
    """

    name: str
    s: float
    b: float
    ams: float
    s_change: float
    b_change: float
    ams_change: float
    ams_change_se: float


def shift_table(
    nominal: ShiftedScores, shifted: Sequence[ShiftedScores], threshold: float, b_reg: float = B_REG
) -> list[ShiftRow]:
    """Tabulate the selection of events with score >= threshold, the frozen cut: nominal first, then each shift."""
    s0, b0 = _selected(nominal, threshold)
    reference, own = ams(s0, b0, b_reg), _influence(nominal, nominal, threshold, b_reg)
    rows = []
    for events in (nominal, *shifted):
        s, b = _selected(events, threshold)
        value, se = ams(s, b, b_reg), float("nan")
        if nominal.event_id is not None and events.event_id is not None:
            at, _ = positions_of(events.event_id, nominal.event_id)
            deviation = -own
            deviation[at] += _influence(events, nominal, threshold, b_reg)
            se = float(np.sqrt(np.sum(deviation**2)))
        s_change, b_change = (now / before - 1.0 if before else float("nan") for now, before in ((s, s0), (b, b0)))
        rows.append(ShiftRow(events.name, s, b, value, s_change, b_change, value - reference, se))
    return rows


def _influence(events: ShiftedScores, nominal: ShiftedScores, threshold: float, b_reg: float) -> NDArray[np.float64]:
    """Contribution of each event to the deviation of the AMS, with the class totals of the nominal events."""
    selected = _selected(events, threshold)
    keep = events.weight * (events.score >= threshold)
    gradient = ams_gradient(*selected, max(b_reg, 1e-12))
    out = np.zeros(events.y.size)
    for of, whole, total, slope in zip((events.y, ~events.y), (nominal.y, ~nominal.y), selected, gradient, strict=True):
        share = total / float(np.sum(nominal.weight[whole]))
        out += np.where(of, slope * (keep - share * events.weight), 0.0)
    return out


def _selected(events: ShiftedScores, threshold: float) -> tuple[float, float]:
    keep = events.score >= threshold
    s, b = (float(np.sum(events.weight[keep & rows])) for rows in (events.y, ~events.y))
    if s < 0.0 or b < 0.0:
        raise MetricError(f"{events.name}: the selected sums are negative (s = {s:g}, b = {b:g})")
    return s, b


def change_of_ams(row: ShiftRow) -> str:
    """Write the change of the AMS with its standard error, where that is known."""
    error = f" ± {row.ams_change_se:.3f}" if math.isfinite(row.ams_change_se) else ""
    return f"{row.ams_change:+z.3f}{error}"


class ScoredRows(NamedTuple):
    """Scores of shifted events under several rows of a run.

    Attributes:
        rows: the scores, by the row's name.
        where: a description of the events that were scored.
        notes: which rows could not be scored, and why.
    """

    rows: dict[str, ScoredShifts]
    where: str
    notes: tuple[str, ...]


def score_shifts(
    run: StoredRun,
    events: RunEvents,
    systematics: Sequence[Systematic],
    models: FittedRun,
    names: Sequence[str],
    *,
    file: Path | None = None,
    seconds: float | None = None,
) -> ScoredRows:
    """Score events, nominal and moved, by the stored models of a run.

    Args:
        run: the run.
        events: its events, loaded again.
        systematics: the shifts.
        models: its stored models.
        names: rows wanted; `stack` is blended from its members.
        file: labelled events to move; by default the run's held-out events with labels, or else its training events,
            each scored by a model that did not see it.
        seconds: limit, by the stored times per event; beyond it fewer of the events are used. None uses all.

    Raises:
        DataError: if a file cannot be used, or the events lack what a shift needs.
        StoreError: if the run's events are not available and no file is named.
    """
    nominal, held_out, where = nominal_events(run, events, file)
    passes = 1 + 2 * len(systematics)
    per_event = sum(float(row.record.get("predict_us") or 0.0) for row in members_of(run, names)) * passes
    most = max(int(seconds * 1e6 / per_event), _FEWEST) if seconds and per_event else len(nominal)
    if len(nominal) > most:
        where = f"{most:,} of the {where}"
        nominal = nominal.take(subsample(len(nominal), most))
    moved = [side for systematic in systematics for side in moved_events(systematic, nominal)]
    parts = [(nominal.frame, nominal.event_id), *((side.frame, nominal.event_id[side.at]) for side in moved)]
    scores, notes = score_parts(run, models, names, parts, held_out=held_out)
    rows = {name: _joined(nominal, systematics, moved, found, run.totals) for name, found in scores.items()}
    return ScoredRows(rows, where, notes)


def score_parts(
    run: StoredRun,
    models: FittedRun,
    names: Sequence[str],
    parts: Sequence[tuple[pl.DataFrame, NDArray[np.int64]]],
    *,
    held_out: bool,
) -> tuple[dict[str, list[NDArray[np.float64]]], tuple[str, ...]]:
    """Score tables of events, given with their numbers, by the stored models of some rows.

    Args:
        run: the run.
        models: its stored models.
        names: rows wanted; `stack` is blended from its members.
        parts: the tables.
        held_out: whether the events are new to all models; otherwise a model that did not see it scores each event.

    Returns:
        The scores of each table by the row's name, and why rows are missing.
    """
    scores, notes = {}, []
    for row in members_of(run, names):
        try:
            if held_out:
                scorer = models.held_out(row.name)
                scores[row.name] = [scorer.scores(frame) for frame, _ in parts]
            else:
                scores[row.name] = [models.unseen(row.name, numbers)(frame) for frame, numbers in parts]
        except HiggsbenchError as error:
            notes.append(f"No shifts of {row.name}: {error}.")
    if "stack" in names:
        blends = [models.blended({name: each[at] for name, each in scores.items()}) for at in range(len(parts))]
        blended = [blend for blend in blends if blend is not None]
        if len(blended) == len(parts):
            scores["stack"] = blended
    return {name: scores[name] for name in names if name in scores}, tuple(notes)


def members_of(run: StoredRun, names: Sequence[str]) -> list[StoredRow]:
    """Return the trained rows of the given names; if the stack is one of them, its members follow."""
    members = run.stack.members if "stack" in names and run.stack is not None else ()
    wanted = dict.fromkeys([*names, *(member.name for member in members if member.weight)])
    rows = {row.name: row for row in run.rows if row.ok and row.name != "stack"}
    return [rows[name] for name in wanted if name in rows]


def subsample(events: int, wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Return ascending positions of at most the wanted number of events, the same ones every time."""
    if events <= wanted:
        return np.arange(events)
    return np.sort(np.random.default_rng(seed).choice(events, wanted, replace=False))


def nominal_events(
    run: StoredRun, events: RunEvents, file: Path | None = None, need: str = _NEED
) -> tuple[Events, bool, str]:
    """Return the events to move, whether they are new to all models, and a description; `need` says what needs them."""
    train = events.train
    if file is not None:
        found = named_events(file, None if train is None else train.schema)
        if not found.labelled:
            raise DataError(f"{file}: no column {found.schema.label}: shifts need the truth")
        if found.schema.event_id is not None:
            found = found.take(~np.isin(found.event_id, run.event_id))
        if not (len(found) and found.y.any() and (~found.y).any()):
            raise DataError(f"{file}: no signal or no background among the events that the run was not trained on")
        return found, True, f"{len(found):,} events of {file.name}"
    if events.test is not None and events.test.labelled:
        return events.test, True, f"{len(events.test):,} held-out events"
    if train is None:
        reason = next(iter(events.notes), "The run's events are not available.")
        raise StoreError(f"{run.folder}: {need}. {reason}")
    return train, False, f"{len(train):,} training events, each scored by a model that did not see it"


def _joined(
    nominal: Events,
    systematics: Sequence[Systematic],
    moved: Sequence[Moved],
    scores: Sequence[NDArray[np.float64]],
    totals: tuple[float, float],
) -> ScoredShifts:
    """Join scores, nominal first, then up before down, to truth and weights."""
    y, stored, number = nominal.y, nominal.weight, nominal.event_id
    weight = evaluation_weights(y, stored, *totals)
    factor = np.where(y, *(float(np.sum(weight[of]) / np.sum(stored[of])) for of in (y, ~y)))
    sides = [
        ShiftedScores(side.name, y[side.at], score, side.weight * factor[side.at], number[side.at])
        for side, score in zip(moved, scores[1:], strict=True)
    ]
    pairs = zip(sides[::2], sides[1::2], strict=True)
    base = ShiftedScores("nominal", y, scores[0], weight, number)
    return ScoredShifts(base, {systematic.name: pair for systematic, pair in zip(systematics, pairs, strict=True)})


def read_shifts(
    events: Path, nominal: Path, systematics: Sequence[Systematic], totals: tuple[float, float]
) -> ScoredShifts:
    """Read nominal and shifted scores of the same labelled events, which were scored elsewhere.

    Args:
        events: event file with labels and weights.
        nominal: file with EventId and score of the events as they are.
        systematics: shifts with such files, see `scored_events`.
        totals: reference totals (N_s, N_b), met by the nominal events.

    Raises:
        ConfigError: if a shift names no files.
        DataError: if a file cannot be read, or its events are not those of the event file.
    """
    loaded = named_events(events, None)
    if not loaded.labelled:
        raise DataError(f"{events}: has no labels and weights")
    base = scored_events("nominal", nominal, loaded)
    known, moved = loaded.take(base.at), []
    for systematic in systematics:
        if systematic.files is None:
            raise ConfigError(f"--shift {systematic.name}: with --nominal write NAME=UP.parquet,DOWN.parquet")
        for way, path in zip(("up", "down"), systematic.files, strict=True):
            moved.append(scored_events(f"{systematic.name} {way}", path, known))
    return _joined(known, systematics, moved, [part.frame["score"].to_numpy() for part in (base, *moved)], totals)


def scored_row(
    row: StoredRow, systematics: Sequence[Systematic], events: Path | None, nominal: Path | None
) -> ScoredShifts:
    """Return scores of a row under shifts: from files, or by its stored models."""
    run = row.run
    if events is not None and nominal is not None:
        return read_shifts(events, nominal, systematics, run.totals)
    from higgsbench.runs.predictor import FittedRun

    found = score_shifts(run, reload_events(run), systematics, FittedRun(run), [row.name], file=events)
    if row.name not in found.rows:
        unknown = f"{run.folder}: the stack cannot be blended: models of members are missing"
        raise ConfigError(next(iter(found.notes), unknown))
    return found.rows[row.name]
