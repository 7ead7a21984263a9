"""Nested selection: score parameters on events that were not used to choose them.

The final study sees all training events and gives the parameters. Its best value is optimistic, because it is the best
of many on the events used to choose it. So for some folds of the run, one by one, a separate study searches the other
events in the same way; a model with its parameters trains on those events and scores the fold. It is compared, on the
same fold and training events, with models that have the final parameters and those of the configuration. Final minus
nested is the optimism, nested minus configuration is the gain. (Varma and Simon, BMC Bioinformatics 7 (2006) 91; Cawley
and Talbot, JMLR 11 (2010) 2079.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.config.document import yaml_text
from higgsbench.ensemble import estimates, evaluate_row, paired
from higgsbench.ensemble.blend import apply_recalibration
from higgsbench.errors import ConfigError, HiggsbenchError, ModelError, StoreError
from higgsbench.files import canonical_digest, told_plainly, write_text
from higgsbench.metrics.estimates import Value
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.artifacts import resolved_config
from higgsbench.runs.dataset import Dataset, load_dataset, save_events
from higgsbench.runs.engines import EngineSettings, execute
from higgsbench.runs.plan import make_plan
from higgsbench.runs.run import Listener, check_trainable
from higgsbench.runs.store import RunStore
from higgsbench.runs.unit import Unit, UnitResult, Workspace
from higgsbench.tune import OBJECTIVES, NestedScore, TuneResult, study
from higgsbench.validation import fold_assignments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.config.load import LoadedConfig
    from higgsbench.ensemble import RowMetrics
    from higgsbench.runs.plan import Plan
    from higgsbench.tune import TrialRecord, TuneSettings
    from higgsbench.tune.study import Journal


def _measured(row: RowMetrics) -> dict[str, Value]:
    return {name: Value(row.value(name), row.se(name)) for name in OBJECTIVES}


def _paired(a: RowMetrics, b: RowMetrics) -> dict[str, Value]:
    return {name: Value(*paired(a, b, name)) for name in OBJECTIVES}


_GRACE = 0.05
"""A running trial may exceed a study's time by this share before it is abandoned."""


@dataclass
class _Open:
    """A running trial, with its out-of-fold scores (n,) so far."""

    trial: Any
    plan: Plan
    score: NDArray[np.float64]
    begin: float
    fold: int = 0
    waiting: bool = False


@contextlib.contextmanager
def _carried_out(
    next_unit: Callable[[], Unit | None], plans: Sequence[Plan], jobs: int, say: Callable[[str], None]
) -> Iterator[Iterator[UnitResult]]:
    """Run units on the events of several plans, each of which has one row."""
    settings = EngineSettings(jobs, plans[0].config.threads)
    with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
        workspace = Workspace(folder)
        save_events(
            workspace,
            plans[0].dataset,
            [m for plan in plans for m in plan.rows[0].robust.matrices(plan.rows[0].features)],
        )
        with contextlib.closing(execute(next_unit, workspace, settings, say=say)) as results:
            yield results


@dataclass
class Search:
    """One study of the configuration's only model, on the events it may see; their folds are the inner folds."""

    name: str
    loaded: LoadedConfig
    dataset: Dataset
    journal: Journal
    settings: TuneSettings
    say: Callable[[str], None]

    def run(self, trials: int, seconds: float) -> TrialRecord:
        """Run trials until there are enough or time is up; return the study's best trial.

        At least one trial is completed, even if it takes longer than the time limit.

        Raises:
            ModelError: if no trial could be completed.
        """
        self.trials = trials
        self.open: dict[str, _Open] = {}
        self.deadline = time.monotonic() + seconds
        self.latest = self.deadline + _GRACE * seconds
        if len(self.journal.records()) < trials:
            sets = self.journal.space.get(study.FEATURES)
            options = [{}] if sets is None else [{study.FEATURES: option} for option in sets.choices]
            plans = [self._plan(values) for values in options]
            try:
                with _carried_out(self._next_unit, plans, min(self.settings.jobs, trials), self.say) as results:
                    for result in results:
                        self._take(result)
            finally:
                for open_ in self.open.values():  # the study was interrupted
                    self.journal.end(open_.trial, "FAIL")
        records = self.journal.records()
        best = study.best_of(records, self.settings.objective)
        if best is None:
            failed = next((record.error for record in records if record.error), "no trial finished")
            raise ModelError(f"study {self.name}: no trial could be completed; first failure: {failed}")
        return best

    def _plan(self, values: dict[str, Any]) -> Plan:
        return make_plan(study.with_values(self.loaded, values, folds=self.settings.inner), self.dataset)

    def _next_unit(self) -> Unit | None:
        """Continue an open trial, or start one if a slot is free and time is left."""
        open_ = next((trial for trial in self.open.values() if not trial.waiting), None)
        while open_ is None and len(self.open) < self.settings.jobs and self._time_for_a_trial():
            trial, values = self.journal.ask()
            begin = time.monotonic()
            try:
                plan = self._plan(values)
            except HiggsbenchError as error:  # a trial that cannot be planned counts as failed
                self._end(trial, "FAIL", f"failed: {error}", seconds=time.monotonic() - begin, error=str(error))
            else:
                open_ = _Open(trial, plan, np.full(len(self.dataset.train), np.nan), begin)
                self.open[str(trial.number)] = open_
        if open_ is None:
            return None
        open_.waiting = True
        return dataclasses.replace(open_.plan.units_of(0)[open_.fold], key=str(open_.trial.number))

    def _time_for_a_trial(self) -> bool:
        records = self.journal.records()
        if len(records) + len(self.open) >= self.trials:
            return False
        times = [record.seconds for record in records if record.state == "complete"]
        if not times:
            # The first trial always runs to its end; after the deadline, no second one starts beside it.
            return not self.open or time.monotonic() < self.deadline
        return time.monotonic() + max(times) <= self.deadline

    def _take(self, result: UnitResult) -> None:
        """Evaluate a trial on its finished folds, then stop it early, end it or let it continue."""
        open_ = self.open[result.key]
        open_.waiting = False
        row, folds, spent = open_.plan.rows[0], self.settings.inner, time.monotonic() - open_.begin
        if result.error:
            message = result.error.strip().splitlines()[-1]
            self._end(open_.trial, "FAIL", f"failed: {message}", seconds=spent, error=message)
            return
        open_.score[self.dataset.fold[0] == open_.fold] = result.score
        open_.fold += 1
        metric = OBJECTIVES[self.settings.objective]
        value = None
        if open_.fold > 1 or not metric.needs_cut:  # a cut is chosen on other folds, so it needs two
            scores, truth = study.on_scored_folds(open_.score, row, self.dataset, self.loaded.config)
            value = estimates(scores, truth, [metric])[metric.name].value
        so_far = f"after {open_.fold} of {folds} folds"
        if open_.fold == folds:
            calibration = study.fitted_recalibration(open_.score, row, self.dataset)
            self._end(open_.trial, "COMPLETE", f"{value:.6g}", value, seconds=spent, calibration=calibration)
        elif value is not None and self.journal.behind(open_.trial, value, open_.fold):
            self._end(open_.trial, "PRUNED", f"stopped {so_far} at {value:.6g}", seconds=spent)
        elif time.monotonic() + spent / open_.fold * (folds - open_.fold) > self.latest and any(
            record.state == "complete" for record in self.journal.records()
        ):
            self.journal.end(self.open.pop(result.key).trial, "FAIL")
            self.say(f"{self.name}: a trial was abandoned {so_far} because time ran out")

    def _end(self, trial: Any, state: str, text: str, value: float | None = None, **about: Any) -> None:
        """End a trial and report it."""
        self.open.pop(str(trial.number), None)
        self.journal.end(trial, state, value, **about)
        records = self.journal.records()
        best = study.best_of(records, self.settings.objective)
        shown = "" if best is None else f" (best {best.value:.6g})"
        self.say(f"{self.name}: trial {len(records)} of {self.trials}: {text}{shown}")


STUDY_FORMAT = 1
"""Increase this whenever the same trials would get different values; older studies then start again."""

_SCORING = 4.5
"""Cost of scoring a held-out fold, in units of one fit of a trial: nested, final and starting parameters, each on 1.5
times a trial's events."""

_OUTER = 3
"""Folds held out by default, if the run has that many."""


@study.quiet_optuna()
def tune(
    loaded: LoadedConfig, settings: TuneSettings, output: Path, say: Callable[[str], None] = lambda _: None
) -> TuneResult:
    """Search the parameters of one model; `output` is the folder of the studies (see `higgsbench.tune_model`).

    Raises:
        HiggsbenchError: for bad configuration or data, a missing Optuna, or when no trial can be completed.
    """
    return _Tuning(loaded, settings, output, say).carry_out()


class _Tuning:
    def __init__(self, loaded: LoadedConfig, settings: TuneSettings, output: Path, say: Callable[[str], None]) -> None:
        limit = settings.time_limit
        self.begin = time.monotonic()
        self.end = float("inf") if limit is None else self.begin + limit
        self.settings, self.say = settings, say
        self.loaded, self.given = study.configured(loaded, settings.model)
        # A study does not use held-out events.
        self.dataset = dataclasses.replace(load_dataset(self.loaded.config), test=None)
        folds = self.dataset.folds
        self.outer = min(_OUTER, folds) if settings.outer is None else settings.outer
        if self.outer == 1 or self.outer > folds:
            raise ConfigError(f"--outer {self.outer}: give 0, or 2 to {folds}, the number of the run's folds")
        base = make_plan(self.loaded, self.dataset)
        base.rows[0].spec.check_parameters(base.rows[0].params)
        if base.rows[0].simulation is not None:
            key = base.rows[0].simulation.key
            raise ConfigError(
                f"{key}: cannot be tuned, since each trial would train on simulated events; remove the key"
            )
        for note in self.dataset.merged:
            say(note)
        check_trainable(self.loaded, base, Listener())
        self.space, self.start = study.search_space(base.rows[0], settings.vary, self.dataset.train.schema)
        studied = [base.units_of(0)[0].key, repr(dict(self.space)), settings.objective, settings.inner, settings.prune]
        digest = canonical_digest([STUDY_FORMAT, *studied, self.loaded.config.cut.model_dump(mode="json")])
        name = f"{self.loaded.config.name}-{base.rows[0].label}-{digest[:8]}"
        self.store = RunStore(output / name.replace(" ", "_"))
        self.store.prepare()

    def carry_out(self) -> TuneResult:
        trials = self.settings.trials
        best, journal = self._study("final", None, trials, self._left() / (self.outer + 1))
        # Seconds of the longest trial, and of the fits that score one outer fold.
        longest = max(record.seconds for record in journal.records() if record.state == "complete")
        scoring = _SCORING * longest / self.settings.inner / self.settings.jobs
        # Run as many nested studies of at least one trial as time allows; a single study gives no score.
        outer = next((k for k in range(self.outer, 1, -1) if k * (longest + scoring) <= self._left()), 0)
        if outer < self.outer:
            self.say(f"there is time for {outer} of {self.outer} nested studies")
            if outer == 0:  # the final study gets the remaining time
                best, journal = self._study("final", None, trials, self._left())
        final = journal.records()
        result = TuneResult(
            folder=self.store.folder,
            model=self.loaded.config.models[0].model,
            label=self.loaded.config.models[0].row_label,
            objective=self.settings.objective,
            data_digest=self.dataset.train.digest,
            events=len(self.dataset.train),
            best=best,
            trials=final,
            importances=journal.importances(),
            nested=self._nested(best, len(final), outer, scoring) if outer else None,
            seconds=time.monotonic() - self.begin,
        )
        self._write(result)
        return result

    def _write(self, result: TuneResult) -> None:
        """Write YAML for `higgsbench run`, with what the study found in comments at its head."""
        content = resolved_config(make_plan(study.with_values(self.given, result.best.values), self.dataset))
        content.pop("name", None)
        states = [record.state for record in result.trials]
        lines = [
            f"Parameters of {result.model} found by higgsbench tune {__version__} for {result.objective}.",
            f"Data {result.data_digest}, {result.events} training events.",
            f"{len(states)} trials: {states.count('complete')} complete, {states.count('pruned')} stopped early, "
            f"{states.count('failed')} failed.",
            f"Best value on the events used to choose it (optimistic): {result.best.value!r}.",
        ]
        if result.nested is None:
            lines.append("No nested score: how these parameters do on other events is unknown.")
        else:
            own, gain = result.nested.nested[result.objective], result.nested.gain[result.objective]
            held_out = f"Nested score on {len(result.nested.chosen)} held-out folds"
            lines.append(f"{held_out}: {own.value:.6g} +- {own.se:.2g}; against the parameters")
            lines.append(f"of the starting point {gain.value:+.3g} +- {gain.se:.2g} (paired, same events).")
        text = "".join(f"# {' '.join(line.split())}\n" for line in lines) + yaml_text(content)
        with told_plainly(StoreError, result.config_file):
            write_text(result.config_file, text)

    def _left(self) -> float:
        return self.end - time.monotonic()

    def _study(self, name: str, held_out: int | None, trials: int, seconds: float) -> tuple[TrialRecord, Journal]:
        """Run a study with inner folds on the events outside the held-out fold."""
        all_ = self.dataset
        rows = np.ones(len(all_.train), np.bool_) if held_out is None else all_.fold[0] != held_out
        train = all_.train if held_out is None else all_.train.take(rows)
        y, group = all_.y[rows], None if all_.group is None else all_.group[rows]
        # The folds differ from the run's, because their seed follows the seeds of the run's repeats.
        seed = self.loaded.config.seeds[0][0]
        fold = fold_assignments(y, group, self.settings.inner, 1, seed + 50_000, train.event_id)
        weight = evaluation_weights(y, all_.weight[rows], *all_.totals)
        digest = canonical_digest([train.digest, fold.tolist()])
        seen = dataclasses.replace(all_, train=train, y=y, weight=weight, group=group, fold=fold, fold_digest=digest)
        file = self.store.folder / f"journal-{name.replace(' ', '-')}.jsonl"
        seed += 1_000_003 * (0 if held_out is None else held_out + 1)
        journal = study.Journal(file, self.space, self.start, seed, self.settings)
        return Search(name, self.loaded, seen, journal, self.settings, self.say).run(trials, seconds), journal

    def _nested(self, best: TrialRecord, trials: int, outer: int, scoring: float) -> NestedScore:
        """Search without each outer fold in turn and score it."""
        chosen: list[TrialRecord] = []
        for fold in range(outer):
            # Equal shares of the remaining time, minus the time for the fits that score the folds.
            share = max(0.0, self._left() - outer * scoring) / (outer - fold)
            chosen.append(self._study(f"without fold {fold}", fold, trials, share)[0])
        values = [record.values for record in chosen]
        scored = self._scored({"nested": values, "final": [best.values] * outer, "start": [{}] * outer}, chosen)
        nested, final, start = scored["nested"], scored["final"], scored["start"]
        optimism, gain = _paired(final, nested), _paired(nested, start)
        return NestedScore(_measured(nested), _measured(final), _measured(start), optimism, gain, values)

    def _scored(
        self, ways: Mapping[str, Sequence[dict[str, Any]]], chosen: Sequence[TrialRecord]
    ) -> dict[str, RowMetrics]:
        """For each way to choose parameters, train without each outer fold and evaluate the folds' pooled scores."""
        plans = {
            way: [make_plan(study.with_values(self.loaded, values), self.dataset) for values in folds]
            for way, folds in ways.items()
        }
        fits = {way: [(plan, plan.units_of(0)[k]) for k, plan in enumerate(folds)] for way, folds in plans.items()}
        scores = self._trained({unit.key: (plan, unit) for folds in fits.values() for plan, unit in folds})
        out = {}
        for way, folds in fits.items():
            row, score = folds[0][0].rows[0], np.full(len(self.dataset.train), np.nan)
            part = study.recalibration_part(row, self.dataset)
            for fold, (_, unit) in enumerate(folds):
                rows = self.dataset.fold[0] == fold
                score[rows] = scores[unit.key]
                calibration = chosen[fold].calibration if way == "nested" else None
                if calibration is not None:
                    score[rows] = apply_recalibration(score[rows], part[rows], np.asarray(calibration))
            if way == "nested":  # each fold's own study has already fitted its recalibration
                row = dataclasses.replace(row, calibration="prior")
            out[way] = evaluate_row(*study.on_scored_folds(score, row, self.dataset, self.loaded.config))
        return out

    def _trained(self, wanted: Mapping[str, tuple[Plan, Unit]]) -> dict[str, NDArray[np.float64]]:
        """Return the scores of units by key; train those that are not stored yet."""
        scores = {key: stored.score for key in wanted if (stored := self.store.read(key)) is not None}
        pending = [found for key, found in wanted.items() if key not in scores]
        if not pending:
            return scores
        self.say(f"{len(pending)} fits to score the held-out folds")
        queue = iter([unit for _, unit in pending])
        plans = [plan for plan, _ in pending]
        jobs = min(self.settings.jobs, len(pending))
        with _carried_out(lambda: next(queue, None), plans, jobs, self.say) as results:
            for result in results:
                if result.error:
                    raise ModelError(f"scoring a held-out fold failed: {result.error.strip().splitlines()[-1]}")
                self.store.write(result)
                scores[result.key] = result.score
        return scores
