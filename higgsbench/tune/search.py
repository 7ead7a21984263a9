"""One study: trials on inner folds of some events, several at a time, inside a time limit."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import HiggsbenchError, ModelError
from higgsbench.models.space import Choice
from higgsbench.runs.engines import EngineSettings
from higgsbench.runs.execute import execute
from higgsbench.runs.plan import make_plan
from higgsbench.runs.unit import Task, UnitResult, Workspace
from higgsbench.runs.workspace import save_events, task_of
from higgsbench.tune.objective import better, fitted_recalibration, objective_value, on_scored_folds
from higgsbench.tune.settings import FEATURES, with_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from higgsbench.config import LoadedConfig
    from higgsbench.models.space import SearchSpace
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan
    from higgsbench.tune.journal import Journal, TrialRecord
    from higgsbench.tune.settings import TuneSettings

__all__ = ["Search", "best_of"]

_GRACE = 0.05
"""A trial that was begun may end this share of a study's time too late before it is given up."""


@dataclass
class _Open:
    """A trial under way."""

    trial: Any
    values: dict[str, Any]
    plan: Plan
    score: NDArray[np.float64]
    begin: float
    fold: int = 0
    seconds: list[float] = field(default_factory=list)
    waiting: bool = False


class Search:
    """One study.

    Args:
        name: what it is called in messages.
        loaded: configuration of the one model.
        dataset: events of the study; its folds are the inner ones and it holds nothing else.
        space: dimensions.
        journal: where trials are asked and told.
        settings: the user's choices.
        say: hears a line per trial.
    """

    def __init__(
        self,
        name: str,
        loaded: LoadedConfig,
        dataset: Dataset,
        space: SearchSpace,
        journal: Journal,
        settings: TuneSettings,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.loaded, self.dataset, self.space = name, loaded, dataset, space
        self.journal, self.settings, self.say = journal, settings, say
        self.folds = int(dataset.fold.max()) + 1
        self.open: dict[str, _Open] = {}
        self.deadline = self.allowed = float("inf")
        self.trials = settings.trials
        self.records = journal.records()

    def run(self, trials: int, seconds: float | None) -> list[TrialRecord]:
        """Carry out trials until there are so many or the time is over; return all of the study.

        With a time limit at least one trial is carried through.

        Raises:
            ModelError: if no trial could be completed.
        """
        self.trials = trials
        if seconds is not None:
            self.deadline, self.allowed = time.monotonic() + seconds, seconds
        if len(self.records) < trials:
            with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
                self._carry_out(Workspace(folder))
        if not any(record.state == "complete" for record in self.records):
            failed = next((record.error for record in self.records if record.error), "none was carried through")
            raise ModelError(f"study {self.name}: no trial could be completed; first failure: {failed}")
        return self.records

    def _carry_out(self, workspace: Workspace) -> None:
        save_events(workspace, self.dataset, [plan.rows[0].features for plan in self._feature_plans()])
        engine = EngineSettings(min(self.settings.jobs, self.trials), self.loaded.config.threads)
        results = execute(self._next_task, workspace, engine, say=self.say)
        try:
            with contextlib.closing(results):
                for result in results:
                    self._take(result)
        except BaseException:
            for trial in {id(o.trial): o.trial for o in self.open.values()}.values():
                self.journal.give_up(trial)
            raise

    def _feature_plans(self) -> list[Plan]:
        """One plan per choice of features that the study may make."""
        sets = self.space.get(FEATURES)
        options = [{FEATURES: option} for option in sets.options] if isinstance(sets, Choice) else [{}]
        return [self._plan(values) for values in options]

    def _plan(self, values: dict[str, Any]) -> Plan:
        return make_plan(with_values(self.loaded, values, folds=self.folds), self.dataset)

    def _next_task(self) -> Task | None:
        """Go on with an open trial, or begin one if there is room and time."""
        for open_ in self.open.values():
            if not open_.waiting:
                return self._fold_of(open_)
        while len(self.open) < self.settings.jobs and len(self.records) + len(self.open) < self.trials:
            if not self._time_for_a_trial():
                return None
            begun = self._begin()
            if begun is not None:
                return self._fold_of(begun)
        return None

    def _time_for_a_trial(self) -> bool:
        times = [record.seconds for record in self.records if record.state == "complete"]
        if not times:
            # The first is carried through whatever it takes; no second beside it is begun after the end.
            return not self.open or time.monotonic() < self.deadline
        return time.monotonic() + max(times) <= self.deadline

    def _begin(self) -> _Open | None:
        """Begin a trial; None if its values cannot be planned, which is a failed trial."""
        trial, values = self.journal.ask()
        begin = time.monotonic()
        try:
            plan = self._plan(values)
        except HiggsbenchError as error:
            self.journal.tell_failed(trial, time.monotonic() - begin, str(error))
            self._ended(f"failed: {error}")
            return None
        open_ = _Open(trial, values, plan, np.full(len(self.dataset.train), np.nan), begin)
        self.open[str(trial.number)] = open_
        return open_

    def _fold_of(self, open_: _Open) -> Task:
        open_.waiting = True
        unit = open_.plan.units_of(0)[open_.fold]
        task = task_of(unit, open_.plan, self.dataset, with_values(self.loaded, open_.values).config)
        return dataclasses.replace(task, key=str(open_.trial.number))

    def _take(self, result: UnitResult) -> None:
        """Judge a trial by the folds it has, and break it off, end it or let it go on."""
        open_ = self.open[result.key]
        open_.waiting = False
        spent = time.monotonic() - open_.begin
        if result.error:
            message = result.error.strip().splitlines()[-1]
            self._close(result.key, lambda: self.journal.tell_failed(open_.trial, spent, message))
            self._ended(f"failed: {message}")
            return
        open_.score[result.rows] = result.score
        open_.fold += 1
        scores, truth = on_scored_folds(open_.score, open_.plan.rows[0], self.dataset, self.loaded.config)
        value = objective_value(self.settings.objective, scores, truth)
        if open_.fold == self.folds:
            calibration = fitted_recalibration(open_.score, open_.plan.rows[0], self.dataset)
            final = float("nan") if value is None else value
            self._close(result.key, lambda: self.journal.tell(open_.trial, final, spent, calibration))
            self._ended(f"{final:.6g}")
        elif value is not None and self.journal.behind(open_.trial, value, open_.fold) and self.settings.prune:
            self._close(result.key, lambda: self.journal.tell_pruned(open_.trial, spent))
            self._ended(f"broken off after {open_.fold} of {self.folds} folds at {value:.6g}")
        elif self._too_late(open_, spent):
            self._close(result.key, lambda: self.journal.give_up(open_.trial))
            self.say(f"{self.name}: a trial was given up for want of time after {open_.fold} of {self.folds} folds")

    def _too_late(self, open_: _Open, spent: float) -> bool:
        rest = spent / open_.fold * (self.folds - open_.fold)
        finished = any(record.state == "complete" for record in self.records)
        return finished and time.monotonic() + rest > self.deadline + _GRACE * self.allowed

    def _close(self, key: str, tell: Callable[[], None]) -> None:
        tell()
        del self.open[key]
        self.records = self.journal.records()

    def _ended(self, text: str) -> None:
        self.records = self.journal.records()
        best = best_of(self.records, self.settings.objective)
        shown = "" if best is None else f" (best {best.value:.6g})"
        self.say(f"{self.name}: trial {len(self.records)} of {self.trials}: {text}{shown}")


def best_of(records: list[TrialRecord], objective: str) -> TrialRecord | None:
    """Return the best complete trial, the earliest of equals; None if there is none."""
    best: TrialRecord | None = None
    for record in records:
        if record.value is not None and (best is None or better(objective, record.value, best.value or 0.0)):
            best = record
    return best
