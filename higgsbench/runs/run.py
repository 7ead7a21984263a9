"""A whole run: plan, reuse what is stored, train the rest, assemble the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ConfigError
from higgsbench.files import canonical_digest
from higgsbench.runs.artifacts import (
    assembly_digest,
    damaged_results,
    is_current,
    resolved_config,
    write_inputs,
    write_results,
)
from higgsbench.runs.assemble import (
    RowScores,
    about_row,
    about_stack,
    assembled_row,
    build_stack,
    check_members,
    failed_record,
    known_failures,
    remark,
    row_scores,
    truth_of,
)
from higgsbench.runs.budget import fit_to_memory, within_limit
from higgsbench.runs.cost import stored_keys
from higgsbench.runs.dataset import Dataset, load_dataset
from higgsbench.runs.engines import execute, units_at_a_time
from higgsbench.runs.environment import environment, give_back
from higgsbench.runs.lock import reuse, run_lock
from higgsbench.runs.plan import Plan, Unit, check_trainable, make_plan
from higgsbench.runs.predictor import predictor_content
from higgsbench.runs.result import Failure, Listener, RunResult, Silent, last_line
from higgsbench.runs.store import RunStore, StoredUnit
from higgsbench.runs.unit import Task, UnitResult, Workspace, save_events, task_of, working_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from higgsbench.config import LoadedConfig, RunConfig
    from higgsbench.ensemble.evaluate import RowMetrics, Truth
    from higgsbench.runs.budget import LeftOut, TimeBudget
    from higgsbench.runs.engines import EngineSettings

__all__ = ["run_config"]


def run_config(
    loaded: LoadedConfig,
    output: Path,
    engine: EngineSettings,
    listener: Listener | None = None,
    time_limit: float | None = None,
    retry_failed: bool = False,
) -> RunResult:
    """Carry out a configuration; what an earlier or interrupted run stored is reused.

    Args:
        loaded: validated configuration.
        output: folder that holds the runs; this run gets a folder of its own in it.
        engine: where and how units run.
        listener: hears of progress.
        time_limit: seconds for everything, or None. Rows are complete or left out; those that are there are the same
            as without a limit, save bags of fewer seeds, which their parameters show.
        retry_failed: whether units that failed in an earlier call are trained again.

    Returns:
        The result; its rows are also stored.

    Raises:
        HiggsbenchError: for bad configuration or data, or a store that cannot be written.
    """
    begin = time.monotonic()
    listener = listener or Silent()
    engine = dataclasses.replace(engine, threads=loaded.config.threads)
    engine.check()
    dataset = load_dataset(loaded.config)
    plan = make_plan(loaded, dataset)
    check_members(loaded.config, plan)
    known = stored_keys(output)
    check_trainable(loaded, plan, dataset, listener.note, known)
    budget, notes = None, list[str]()
    if time_limit is not None:
        jobs = units_at_a_time(engine, listener.note)
        loaded, plan, budget, notes = within_limit(loaded, plan, dataset, output, jobs, time_limit, begin)
    plan, more = fit_to_memory(loaded, plan, dataset, engine.jobs_here, known)
    for note in (*notes, *more):
        listener.note(note)
    return _Run(loaded.config, dataset, plan, output, engine, listener, budget, retry_failed).carry_out()


class _Run:
    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        plan: Plan,
        output: Path,
        engine: EngineSettings,
        listener: Listener,
        budget: TimeBudget | None,
        retry_failed: bool,
    ) -> None:
        self.config = config
        self.engine = engine
        self.retry_failed = retry_failed
        self.listener = listener
        self.dataset = dataset
        self.plan = plan
        self.budget = budget
        self.store = RunStore(output / self._folder_name())
        self.output = output
        self.stored: dict[str, StoredUnit] = {}
        self.failures: list[Failure] = []
        self.unstorable: set[str] = set()
        self.trained = 0
        self.scores: dict[int, RowScores] = {}
        self.records: dict[int, tuple[dict[str, Any], RowMetrics]] = {}
        self.truth: Truth = truth_of(self.config, self.dataset)
        self.with_model: frozenset[str] = frozenset()
        if self.config.store_models:
            rows = range(len(self.plan.rows))
            self.with_model = frozenset(u.key for index in rows for u in self.plan.predictors_of(index))

    def _folder_name(self) -> str:
        content = resolved_config(self.config, self.plan)
        for key in ("data", "store_models", "memory_limit"):  # the scores are the same, with models or without
            content.pop(key, None)
        test = self.dataset.test.digest if self.dataset.test is not None else None
        return f"{self.config.name}-{canonical_digest([content, self.dataset.train.digest, test])[:8]}"

    def carry_out(self) -> RunResult:
        self.digest = assembly_digest(self.config, self.dataset, self.plan)
        done = self._finished()
        if done is not None:
            return done
        self.store.prepare()
        with run_lock(self.store.folder, self.listener.note, None if self.budget is None else self.budget.left):
            return self._finished() or self._carry_out()

    def _finished(self) -> RunResult | None:
        """Return the stored result if nothing is left to do."""
        total = len(self.plan.units)
        keys = {unit.key for unit in self.plan.units}
        if not is_current(self.store, self.digest):
            return None
        if not all(self.store.intact(key, key in self.with_model) for key in keys):
            return None
        self.listener.planned(self.store.folder, total, total)
        return RunResult(self.store.folder, self.store.read_json("rows.json")["rows"], 0, total, [])

    def _carry_out(self) -> RunResult:
        total = len(self.plan.units)
        keys = {unit.key for unit in self.plan.units}
        for name in damaged_results(self.store):
            self.listener.note(f"{name}: damaged or missing; it is written anew")
        write_inputs(self.store, self.config, self.plan, environment())
        self.stored = reuse(self.store, self.output, keys, self.with_model, self.listener.note)
        pending = [unit for unit in self.plan.units if unit.key not in self.stored]
        reused = total - len(pending)
        if not self.retry_failed:
            pending, self.failures = known_failures(pending, self.plan, self.store, self.listener.note)
        self.listener.planned(self.store.folder, total, reused)
        for index in sorted({unit.row for unit in pending}):
            self.plan.rows[index].spec.check_parameters(self.plan.rows[index].params)
        for index in range(len(self.plan.rows)):
            self._complete(index)
        if pending:
            with self._workspace() as folder:
                self._train(pending, Workspace(folder))
        left_out = self.budget.left_out(self.plan) if self.budget is not None else []
        rows = self._assemble(left_out)
        return RunResult(self.store.folder, rows, self.trained, reused, self.failures, left_out)

    def _workspace(self) -> TemporaryDirectory[str]:
        """Make the folder that workers read; on a file system that they share with the run, where they share one."""
        return working_folder(self.store.folder if self.engine.kind == "dask" else None)

    def _train(self, pending: list[Unit], workspace: Workspace) -> None:
        rows = {unit.row for unit in pending}
        save_events(workspace, self.dataset, [self.plan.rows[i].features for i in sorted(rows)])
        give_back(self.dataset.y.size)
        by_key = {unit.key: unit for unit in pending}

        def started(task: Task) -> None:
            unit = by_key[task.key]
            self.listener.started(self.plan.rows[unit.row].name, unit.repeat, unit.fold)

        units = self._in_order(pending)

        def source() -> Task | None:
            unit = units()
            return None if unit is None else self._task(unit)

        results = execute(source, workspace, self.engine.for_units(len(pending)), started, self.listener.note)
        # Closed before the workspace is removed, so that no worker is left behind reading it.
        with contextlib.closing(results):
            for result in results:
                self._keep(by_key[result.key], result)

    def _task(self, unit: Unit) -> Task:
        file = self.store.new_model_file(unit.key) if unit.key in self.with_model else None
        return task_of(unit, self.plan, self.dataset, self.config, file)

    def _in_order(self, pending: list[Unit]) -> Callable[[], Unit | None]:
        """Return who gives the next unit: the time budget, or else the longest first."""
        if self.budget is not None:
            self.budget.plan(pending)
            return self.budget.next_unit
        # Longest first, so that no core idles at the end behind one long fit.
        order = iter(sorted(pending, key=lambda u: (-self.plan.rows[u.row].spec.cost, u.row, u.repeat, u.fold)))
        return lambda: next(order, None)

    def _keep(self, unit: Unit, result: UnitResult) -> None:
        """Store what a unit brought back."""
        test = self.dataset.test
        test_ids = np.empty(0, dtype=np.int64) if test is None else test.event_id
        name = self.plan.rows[unit.row].name
        if result.error:
            path = self.store.write_error(result.key, result.error)
            self.failures.append(Failure(name, last_line(result.error), path))
        else:
            self.store.write(result, self.dataset.train.event_id, test_ids)
            self.trained += 1
            found = self.store.read(result.key)
            if found is not None:
                self.stored[result.key] = found
            if result.no_model and name not in self.unstorable:
                self.unstorable.add(name)
                self.listener.note(f"{name}: its scores are stored, its fitted models are not: {result.no_model}")
        if self.budget is not None:
            scored = result.rows.size + (0 if result.test_score is None else result.test_score.size)
            seconds = result.fit_seconds + 1e-6 * result.predict_us * scored
            self.budget.finished(unit, seconds, bool(result.error))
        self.listener.finished(name, unit.repeat, unit.fold, result.fit_seconds, bool(result.error))
        self._complete(unit.row)

    def _complete(self, index: int) -> None:
        """Evaluate a row as soon as all its units are there."""
        units = self.plan.units_of(index)
        if index in self.records or any(unit.key not in self.stored for unit in units):
            return
        row = self.plan.rows[index]
        begin = time.monotonic()
        self.scores[index] = row_scores(row, units, self.stored, self.dataset)
        about = about_row(index, self.plan, self.config) | remark([self.stored[unit.key].score for unit in units])
        record, found = assembled_row(self.scores[index], self.truth, self.dataset, about)
        self.records[index] = record, found.without_events()
        for unit in units:
            self.stored[unit.key] = self.stored[unit.key].without_scores()
        give_back(self.dataset.y.size)
        if self.budget is not None:
            self.budget.row_assembled(time.monotonic() - begin)
        self.listener.row_done(self.records[index][0])
        if "remark" in about:
            self.listener.note(f"{row.name}: {about['remark']}")

    def _assemble(self, left_out: list[LeftOut]) -> list[dict[str, Any]]:
        done = [(self.plan.rows[i], self.scores[i]) for i in sorted(self.records)]
        records = [self.records[i][0] for i in sorted(self.records)]
        metrics = {self.scores[i].name: self.records[i][1] for i in sorted(self.records)}
        scores = [s for _, s in done]
        stack = build_stack(self.config, done, self.dataset)
        give_back(self.dataset.y.size)
        if stack is not None:
            record, found = assembled_row(
                stack.scores, self.truth, self.dataset, about_stack(stack, self.plan, self.config)
            )
            self.listener.row_done(record)
            records.append(record)
            metrics["stack"] = found
            scores.append(stack.scores)
            give_back(self.dataset.y.size)
        without_time = {row.name for row in left_out}
        for index, row in enumerate(self.plan.rows):
            if index not in self.records and row.name not in without_time:
                records.append(failed_record(index, self.plan, self.config, self.failures))
        if not metrics:
            if not self.failures:
                raise ConfigError(f"no row was complete in time: {left_out[0].name}: {left_out[0].reason}")
            first = self.failures[0]
            raise ConfigError(
                f"no row could be computed; first failure: {first.row}: {first.message} (see {first.path})"
            )
        predictor = predictor_content(self.config, self.dataset, self.plan, self.scores, metrics, stack)
        if not is_current(self.store, self.digest):
            write_results(
                self.store, self.config, self.dataset, self.digest, records, scores, metrics, stack, predictor, left_out
            )
        return records
