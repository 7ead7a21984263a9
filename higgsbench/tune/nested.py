"""Nested selection: what is reported was not chosen on the events that score it.

The final study sees all training events and gives the parameters. Its best value is optimistic, because it is the best
of many on the events that chose it. So, for some folds of the run in turn, a study of its own searches the other events
in the same way; its parameters are trained on those events and score the fold. They are compared, on the same fold and
with the same training events, with the final parameters and with those of the configuration. Final minus nested is the
optimism, nested minus configuration is the gain. (Varma and Simon, BMC Bioinformatics 7 (2006) 91; Cawley and Talbot,
JMLR 11 (2010) 2079.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.config.document import yaml_text
from higgsbench.ensemble.blend import apply_recalibration
from higgsbench.ensemble.evaluate import evaluate_row, paired
from higgsbench.errors import ConfigError, HiggsbenchError, ModelError, StoreError
from higgsbench.files import canonical_digest, write_text
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.artifacts import resolved_config
from higgsbench.runs.dataset import Dataset, load_dataset
from higgsbench.runs.engines import EngineSettings, execute
from higgsbench.runs.plan import check_trainable, make_plan
from higgsbench.runs.store import RunStore
from higgsbench.runs.unit import Unit, UnitResult, Workspace, save_events
from higgsbench.tune.study import (
    FEATURES,
    OBJECTIVES,
    Journal,
    best_of,
    configured,
    fitted_recalibration,
    objective_value,
    on_scored_folds,
    quiet_optuna,
    recalibration_part,
    search_space,
    starting_point,
    with_values,
)
from higgsbench.validation.folds import fold_assignments

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.config import LoadedConfig
    from higgsbench.ensemble.evaluate import RowMetrics
    from higgsbench.runs.plan import Plan
    from higgsbench.tune.study import TrialRecord, TuneSettings


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class NestedScore:
    """Scores on held-out folds of the run, per metric (`log_loss`, `auc`, `ams`).

    Attributes:
        nested: parameters that were chosen without the fold that scores them.
        final: the final parameters, which all events chose.
        start: the parameters of the configuration.
        optimism: final minus nested, paired on the same events.
        gain: nested minus start, paired.
        chosen: parameters that each nested study chose.
    """

    nested: dict[str, Measured]
    final: dict[str, Measured]
    start: dict[str, Measured]
    optimism: dict[str, Measured]
    gain: dict[str, Measured]
    chosen: list[dict[str, Any]]

    def better(self, metric: str) -> bool:
        """Whether parameters chosen without the fold that scores them beat those of the starting point."""
        gain = self.gain[metric].value
        return gain < 0 if OBJECTIVES[metric].lower_is_better else gain > 0


@dataclass(frozen=True)
class TuneResult:
    """Result of a study.

    Attributes:
        folder: where journals, fits and the configuration are.
        model: the model.
        label: its label.
        objective: what it was tuned for.
        data_digest: identity of the training events.
        events: their number.
        best: best trial of the final study.
        trials: all trials of the final study.
        importances: share of the objective's scatter per dimension.
        nested: scores on events that did not choose, or None.
        seconds: wall time.
    """

    folder: Path
    model: str
    label: str
    objective: str
    data_digest: str
    events: int
    best: TrialRecord
    trials: list[TrialRecord]
    importances: dict[str, float]
    nested: NestedScore | None
    seconds: float

    @property
    def improved(self) -> bool:
        """Whether a trial was better than the first, which has the parameters of the starting point."""
        return self.best.number != self.trials[0].number

    @property
    def config_file(self) -> Path:
        """The configuration with the parameters."""
        return self.folder / "tuned.yaml"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        out = asdict(self)
        return {**out, "folder": str(self.folder), "config": str(self.config_file)}


def _measured(row: RowMetrics) -> dict[str, Measured]:
    return {name: Measured(row.value(name), row.se(name)) for name in OBJECTIVES}


def _paired(a: RowMetrics, b: RowMetrics) -> dict[str, Measured]:
    return {name: Measured(*paired(a, b, name)) for name in OBJECTIVES}


def _config_text(result: TuneResult, plan: Plan) -> str:
    """Return YAML for `higgsbench run`, with what the study found in comments at its head."""
    content = resolved_config(plan)
    content.pop("name", None)
    states = [record.state for record in result.trials]
    lines = [
        f"Parameters of {result.model} found by higgsbench tune {__version__} for {result.objective}.",
        f"Data {result.data_digest}, {result.events} training events.",
        f"{len(states)} trials: {states.count('complete')} complete, {states.count('pruned')} stopped early, "
        f"{states.count('failed')} failed.",
        f"Best value on the events that chose it (optimistic): {result.best.value!r}.",
    ]
    if result.nested is None:
        lines.append("No nested score: nothing here says what the parameters are worth on other events.")
    else:
        own, gain = result.nested.nested[result.objective], result.nested.gain[result.objective]
        folds = len(result.nested.chosen)
        lines.append(f"Nested score on {folds} held-out folds: {own.value:.6g} +- {own.se:.2g}; against the parameters")
        lines.append(f"of the starting point {gain.value:+.3g} +- {gain.se:.2g} (paired, same events).")
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + yaml_text(content)


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
    waiting: bool = False


def _carried_out(
    next_unit: Callable[[], Unit | None],
    plans: Sequence[Plan],
    jobs: int,
    say: Callable[[str], None],
) -> Generator[UnitResult, None, None]:
    """Carry out units on the events of some plans of one row each."""
    dataset, threads = plans[0].dataset, plans[0].config.threads
    with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
        workspace = Workspace(folder)
        save_events(workspace, dataset, [plan.rows[0].features for plan in plans])
        with contextlib.closing(execute(next_unit, workspace, EngineSettings(jobs, threads), say=say)) as results:
            yield from results


@dataclass
class Search:
    """One study.

    Attributes:
        name: what it is called in messages.
        loaded: configuration of the one model.
        dataset: events of the study; its folds are the inner ones and it holds nothing else.
        space: dimensions.
        journal: where trials are asked and told.
        settings: the user's choices.
        say: is called with a line per trial.
    """

    name: str
    loaded: LoadedConfig
    dataset: Dataset
    space: Mapping[str, Any]
    journal: Journal
    settings: TuneSettings
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.folds = int(self.dataset.fold.max()) + 1
        self.open: dict[str, _Open] = {}
        self.deadline = self.allowed = float("inf")
        self.trials = self.settings.trials
        self.records = self.journal.records()

    def run(self, trials: int, seconds: float | None) -> list[TrialRecord]:
        """Run trials until there are enough or the time is over; return all trials of the study.

        At least one trial is completed, whatever the time limit.

        Raises:
            ModelError: if no trial could be completed.
        """
        self.trials = trials
        if seconds is not None:
            self.deadline, self.allowed = time.monotonic() + seconds, seconds
        if len(self.records) < trials:
            self._carry_out()
        if not any(record.state == "complete" for record in self.records):
            failed = next((record.error for record in self.records if record.error), "none was carried through")
            raise ModelError(f"study {self.name}: no trial could be completed; first failure: {failed}")
        return self.records

    def _carry_out(self) -> None:
        jobs = min(self.settings.jobs, self.trials)
        try:
            with contextlib.closing(_carried_out(self._next_unit, self._feature_plans(), jobs, self.say)) as results:
                for result in results:
                    self._take(result)
        except BaseException:
            for open_ in self.open.values():
                self.journal.end(open_.trial, "FAIL")
            raise

    def _feature_plans(self) -> list[Plan]:
        """One plan per choice of features that the study may make."""
        sets = self.space.get(FEATURES)
        options = [{}] if sets is None else [{FEATURES: option} for option in sets.choices]
        return [self._plan(values) for values in options]

    def _plan(self, values: dict[str, Any]) -> Plan:
        return make_plan(with_values(self.loaded, values, folds=self.folds), self.dataset)

    def _next_unit(self) -> Unit | None:
        """Continue an open trial, or begin one if there is room and time."""
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
            self.journal.end(trial, "FAIL", seconds=time.monotonic() - begin, error=str(error))
            self._ended(f"failed: {error}")
            return None
        open_ = _Open(trial, values, plan, np.full(len(self.dataset.train), np.nan), begin)
        self.open[str(trial.number)] = open_
        return open_

    def _fold_of(self, open_: _Open) -> Unit:
        open_.waiting = True
        unit = open_.plan.units_of(0)[open_.fold]
        return dataclasses.replace(unit, key=str(open_.trial.number))

    def _take(self, result: UnitResult) -> None:
        """Judge a trial by the folds it has, and break it off, end it or let it go on."""
        open_ = self.open[result.key]
        open_.waiting = False
        spent = time.monotonic() - open_.begin
        if result.error:
            message = result.error.strip().splitlines()[-1]
            self._close(result.key, "FAIL", seconds=spent, error=message)
            self._ended(f"failed: {message}")
            return
        open_.score[self.dataset.fold[0] == open_.fold] = result.score
        open_.fold += 1
        scores, truth = on_scored_folds(open_.score, open_.plan.rows[0], self.dataset, self.loaded.config)
        value = objective_value(self.settings.objective, scores, truth)
        so_far = f"after {open_.fold} of {self.folds} folds"
        if open_.fold == self.folds:
            calibration = fitted_recalibration(open_.score, open_.plan.rows[0], self.dataset)
            final = float("nan") if value is None else value
            self._close(result.key, "COMPLETE", final, seconds=spent, calibration=calibration)
            self._ended(f"{final:.6g}")
        elif value is not None and self.journal.behind(open_.trial, value, open_.fold) and self.settings.prune:
            self._close(result.key, "PRUNED", seconds=spent)
            self._ended(f"stopped {so_far} at {value:.6g}")
        elif self._too_late(open_, spent):
            self._close(result.key, "FAIL")
            self.say(f"{self.name}: a trial was given up for want of time {so_far}")

    def _too_late(self, open_: _Open, spent: float) -> bool:
        rest = spent / open_.fold * (self.folds - open_.fold)
        finished = any(record.state == "complete" for record in self.records)
        return finished and time.monotonic() + rest > self.deadline + _GRACE * self.allowed

    def _close(self, key: str, state: str, value: float | None = None, **about: Any) -> None:
        self.journal.end(self.open.pop(key).trial, state, value, **about)
        self.records = self.journal.records()

    def _ended(self, text: str) -> None:
        self.records = self.journal.records()
        best = best_of(self.records, self.settings.objective)
        shown = "" if best is None else f" (best {best.value:.6g})"
        self.say(f"{self.name}: trial {len(self.records)} of {self.trials}: {text}{shown}")


STUDY_FORMAT = 1
"""Raised whenever the same trials would get other values; older studies then start again."""

_SCORING = 4.5
"""Cost of the fits per held-out fold, in fits of a trial: nested, final and starting parameters, each on 1.5 times the
events of a trial."""

_OUTER = 3
"""Folds held out by default, if the run has that many."""

_NO_TRIAL = "no trial could be completed"


def tune(
    loaded: LoadedConfig, settings: TuneSettings, output: Path, say: Callable[[str], None] = lambda _: None
) -> TuneResult:
    """Search the parameters of one model.

    Args:
        loaded: validated configuration.
        settings: what to do.
        output: folder that holds the studies; a study that was stopped continues there.
        say: is called with a line per trial.

    Returns:
        The parameters, what they are worth, and where the configuration with them is stored.

    Raises:
        HiggsbenchError: for bad configuration or data, a missing Optuna, or when no trial can be completed.
    """
    with quiet_optuna():
        return _Tuning(loaded, settings, output, say).carry_out()


class _Tuning:
    def __init__(self, loaded: LoadedConfig, settings: TuneSettings, output: Path, say: Callable[[str], None]) -> None:
        self.begin = time.monotonic()
        self.settings, self.say = settings, say
        self.loaded, self.given, self.split = configured(loaded, settings.model)
        folds = loaded.config.folds
        self.outer = min(_OUTER, folds) if settings.outer is None else settings.outer
        if self.outer == 1 or self.outer > folds:
            raise ConfigError(f"--outer {self.outer}: give 0, or 2 to {folds}, the number of the run's folds")
        whole = load_dataset(self.loaded.config)
        # Held-out events have no part in a study.
        self.dataset = dataclasses.replace(whole, test=None)
        space = search_space(self.loaded.config.models[0], settings.vary, whole.train.schema)
        base = make_plan(self.loaded, self.dataset)
        base.rows[0].spec.check_parameters(base.rows[0].params)
        check_trainable(self.loaded, base, say)
        self.space, self.start = starting_point(base.rows[0], space)
        studied = [base.units_of(0)[0].key, repr(dict(self.space)), settings.objective, settings.inner, settings.prune]
        digest = canonical_digest([STUDY_FORMAT, *studied, self.loaded.config.cut.model_dump(mode="json")])
        name = f"{self.loaded.config.name}-{base.rows[0].label}-{digest[:8]}"
        self.store = RunStore(output / name.replace(" ", "_"))
        self.store.prepare()

    def carry_out(self) -> TuneResult:
        limit = self.settings.time_limit
        first = None if limit is None else self._left() / (self.outer + 1)
        final, journal = self._study("final", None, self.settings.trials, first)
        outer = self._outer_folds(final)
        if outer < self.outer:
            self.say(f"time for {outer} of {self.outer} nested studies")
            if outer == 0:  # what is left goes to the final study
                final, journal = self._study("final", None, self.settings.trials, self._left())
        best = best_of(final, self.settings.objective)
        if best is None:
            raise ModelError(_NO_TRIAL)
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
            nested=self._nested(best, final, outer) if outer else None,
            seconds=time.monotonic() - self.begin,
        )
        self._write(result)
        return result

    def _write(self, result: TuneResult) -> None:
        tuned = with_values(self.loaded, result.best.values).config.models[0]
        models = [tuned.model_copy(update={"jet_split": self.split})]
        whole = type(self.loaded)(self.given.model_copy(update={"models": models}), self.loaded.document)
        try:
            write_text(result.config_file, _config_text(result, make_plan(whole, self.dataset)))
        except OSError as error:
            raise StoreError(f"{result.config_file}: cannot be written: {error.strerror}") from error

    def _left(self) -> float:
        limit = self.settings.time_limit
        return float("inf") if limit is None else limit - (time.monotonic() - self.begin)

    def _study(
        self, name: str, held_out: int | None, trials: int, seconds: float | None
    ) -> tuple[list[TrialRecord], Journal]:
        dataset = self._events(held_out)
        seed = self.loaded.config.seed + 1_000_003 * (0 if held_out is None else held_out + 1)
        file = self.store.folder / f"journal-{name.replace(' ', '-')}.jsonl"
        journal = Journal(file, self.space, self.start, self.settings.objective, seed, self.settings.prune)
        search = Search(name, self.loaded, dataset, self.space, journal, self.settings, self.say)
        return search.run(trials, seconds), journal

    def _events(self, held_out: int | None) -> Dataset:
        """Return the events that a study may see, in inner folds."""
        all_ = self.dataset
        rows = np.ones(len(all_.train), np.bool_) if held_out is None else all_.fold[0] != held_out
        train = all_.train if held_out is None else all_.train.take(rows)
        group = None if all_.group is None else all_.group[rows]
        # Other folds than the run's, whose seed is the next after those of its repeats.
        seed = self.loaded.config.seed + 50_000
        fold = fold_assignments(all_.y[rows], group, self.settings.inner, 1, seed, train.event_id)
        weight = evaluation_weights(all_.y[rows], all_.weight[rows], *all_.totals)
        digest = canonical_digest([train.digest, fold.tolist()])
        return dataclasses.replace(
            all_, train=train, y=all_.y[rows], weight=weight, group=group, fold=fold, fold_digest=digest
        )

    def _scoring(self, final: list[TrialRecord]) -> tuple[float, float]:
        """Seconds of the longest complete trial, and of the fits that score one outer fold."""
        longest = max(record.seconds for record in final if record.state == "complete")
        return longest, _SCORING * longest / self.settings.inner / self.settings.jobs

    def _outer_folds(self, final: list[TrialRecord]) -> int:
        """Return how many nested studies of at least one trial there is time for; one alone scores nothing."""
        longest, scoring = self._scoring(final)
        return next((k for k in range(self.outer, 1, -1) if k * (longest + scoring) <= self._left()), 0)

    def _nested(self, best: TrialRecord, final: list[TrialRecord], outer: int) -> NestedScore:
        """Search without each outer fold in turn and score it."""
        _, scoring = self._scoring(final)
        chosen: list[TrialRecord] = []
        for fold in range(outer):
            # Equal shares of what is left when the fits that score the folds are taken off.
            share = max(0.0, self._left() - outer * scoring) / (outer - fold)
            seconds = None if self.settings.time_limit is None else share
            records, _ = self._study(f"without fold {fold}", fold, len(final), seconds)
            found = best_of(records, self.settings.objective)
            if found is None:
                raise ModelError(_NO_TRIAL)
            chosen.append(found)
        ways: dict[str, Sequence[TrialRecord | None]] = {
            "nested": chosen,
            "final": [best] * len(chosen),
            "start": [None] * len(chosen),
        }
        scored = self._scored(ways)
        nested, final_, start = scored["nested"], scored["final"], scored["start"]
        return NestedScore(
            nested=_measured(nested),
            final=_measured(final_),
            start=_measured(start),
            optimism=_paired(final_, nested),
            gain=_paired(nested, start),
            chosen=[record.values for record in chosen],
        )

    def _scored(self, ways: Mapping[str, Sequence[TrialRecord | None]]) -> dict[str, RowMetrics]:
        """Train each way's parameters without each outer fold and evaluate the pooled scores of those folds."""
        plans = {
            name: [make_plan(with_values(self.loaded, r.values if r else {}), self.dataset) for r in records]
            for name, records in ways.items()
        }
        wanted = {
            plan.units_of(0)[k].key: (plan, plan.units_of(0)[k]) for ps in plans.values() for k, plan in enumerate(ps)
        }
        self._train(wanted)
        out = {}
        for name, records in ways.items():
            score = np.full(len(self.dataset.train), np.nan)
            row = plans[name][0].rows[0]
            for fold, (record, plan) in enumerate(zip(records, plans[name], strict=True)):
                rows = self.dataset.fold[0] == fold
                part = self._read(plan, fold)
                if name == "nested" and record is not None and record.calibration is not None:
                    own = recalibration_part(row, self.dataset, rows)
                    part = apply_recalibration(part, own, np.asarray(record.calibration))
                score[rows] = part
            if name == "nested":  # each fold by what its own study fitted
                row = dataclasses.replace(row, calibration="prior")
            out[name] = evaluate_row(*on_scored_folds(score, row, self.dataset, self.loaded.config))
        return out

    def _train(self, wanted: Mapping[str, tuple[Plan, Unit]]) -> None:
        pending = [found for key, found in wanted.items() if self.store.read(key) is None]
        if not pending:
            return
        self.say(f"{len(pending)} fits to score the held-out folds")
        queue = iter([unit for _, unit in pending])
        jobs = min(self.settings.jobs, len(pending))
        plans = [plan for plan, _ in pending]
        with contextlib.closing(_carried_out(lambda: next(queue, None), plans, jobs, self.say)) as results:
            for result in results:
                if result.error:
                    raise ModelError(f"scoring a held-out fold failed: {result.error.strip().splitlines()[-1]}")
                self.store.write(result)

    def _read(self, plan: Plan, fold: int) -> NDArray[np.float64]:
        key = plan.units_of(0)[fold].key
        stored = self.store.read(key)
        if stored is None:
            raise StoreError(f"{self.store.folder}: the unit {key} cannot be read back; call the same command again")
        return stored.score
