"""Nested selection: what is reported was not chosen on the events that score it.

The final study sees all training events and gives the parameters. Its best value is optimistic, because it is the best
of many on the events that chose it. So, for each of some folds of the run, a study of its own searches the other events
only, in the same way; its parameters are trained on those events and score the fold. Beside them on the same fold, with
the same training events: the final parameters, which were chosen with that fold's events, and those that the
configuration began with. The difference of the first two is the optimism, the difference of the outer two the gain.
(Varma and Simon, BMC Bioinformatics 7 (2006) 91; Cawley and Talbot, JMLR 11 (2010) 2079.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.calibration import apply_recalibration
from higgsbench.ensemble.evaluate import evaluate_row
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.files import canonical_digest, write_text
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.dataset import Dataset, load_dataset
from higgsbench.runs.engines import EngineSettings
from higgsbench.runs.execute import execute
from higgsbench.runs.plan import make_plan
from higgsbench.runs.store import RunStore
from higgsbench.runs.trainable import check_trainable
from higgsbench.runs.unit import Workspace
from higgsbench.runs.workspace import save_events, task_of
from higgsbench.tune.journal import Journal, check_optuna
from higgsbench.tune.objective import DIRECTIONS, on_scored_folds, recalibration_part
from higgsbench.tune.result import TuneResult, config_text, nested_score
from higgsbench.tune.search import Search, best_of
from higgsbench.tune.settings import configured, search_space, starting_point, with_values
from higgsbench.validation.folds import fold_assignments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.config import LoadedConfig
    from higgsbench.ensemble.evaluate import RowMetrics
    from higgsbench.runs.plan import Plan, Unit
    from higgsbench.tune.journal import TrialRecord
    from higgsbench.tune.result import NestedScore
    from higgsbench.tune.settings import TuneSettings

__all__ = ["tune"]

STUDY_FORMAT = 1
"""Raised whenever the same trials would be judged otherwise; older studies are then begun anew."""

_SCORING = 4.5
"""Fits per held-out fold: the nested parameters, the final ones, those of the beginning, on half as many events again
as those of a trial."""

_OUTER = 3
"""Folds held out by default, where the run has so many."""

_NO_TRIAL = "no trial could be completed"


def tune(
    loaded: LoadedConfig, settings: TuneSettings, output: Path, say: Callable[[str], None] = lambda _: None
) -> TuneResult:
    """Search the parameters of one model.

    Args:
        loaded: validated configuration.
        settings: what to do.
        output: folder that holds the studies; a study that was stopped goes on there.
        say: hears a line per trial.

    Returns:
        The parameters, what they are worth, and where the configuration with them is stored.

    Raises:
        HiggsbenchError: for bad configuration or data, a missing Optuna, or when no trial can be completed.
    """
    check_optuna()
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
        base = self.base = make_plan(self.loaded, self.dataset)
        base.rows[0].spec.check_parameters(base.rows[0].params)
        check_trainable(self.loaded, base, self.dataset, say)
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
            write_text(result.config_file, config_text(result, whole.config, make_plan(whole, self.dataset)))
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
        direction = DIRECTIONS[self.settings.objective]
        journal = Journal(file, self.space, self.start, direction, seed, self.settings.prune)
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
        fold = fold_assignments(all_.y[rows], group, self.settings.inner, 1, seed)
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
        return nested_score(self._scored(ways), [record.values for record in chosen])

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
                part = self._read(plan, fold)
                if name == "nested" and record is not None and record.calibration is not None:
                    part = apply_recalibration(part, self._parts(fold), np.asarray(record.calibration))
                score[self.dataset.fold[0] == fold] = part
            if name == "nested":  # each fold by what its own study fitted
                row = dataclasses.replace(row, calibration="prior")
            out[name] = evaluate_row(*on_scored_folds(score, row, self.dataset, self.loaded.config))
        return out

    def _parts(self, fold: int) -> NDArray[np.int64]:
        rows = self.dataset.fold[0] == fold
        return recalibration_part(self.base.rows[0], self.dataset, rows)

    def _train(self, wanted: Mapping[str, tuple[Plan, Unit]]) -> None:
        pending = {key: found for key, found in wanted.items() if self.store.read(key) is None}
        if not pending:
            return
        self.say(f"{len(pending)} fits to score the held-out folds")
        tasks = [task_of(unit, plan, self.dataset, self.loaded.config) for plan, unit in pending.values()]
        queue = iter(tasks)
        with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
            workspace = Workspace(folder)
            save_events(workspace, self.dataset, [plan.rows[0].features for plan, _ in pending.values()])
            workers = min(self.settings.jobs, len(tasks))
            engine = EngineSettings(workers, self.loaded.config.threads)
            results = execute(lambda: next(queue, None), workspace, engine, say=self.say)
            with contextlib.closing(results):
                for result in results:
                    if result.error:
                        raise ModelError(f"scoring a held-out fold failed: {result.error.strip().splitlines()[-1]}")
                    self.store.write(result, self.dataset.train.event_id, np.empty(0, dtype=np.int64))

    def _read(self, plan: Plan, fold: int) -> NDArray[np.float64]:
        key = plan.units_of(0)[fold].key
        stored = self.store.read(key)
        if stored is None:
            raise StoreError(f"{self.store.folder}: the unit {key} cannot be read back; call the same command again")
        return stored.score
