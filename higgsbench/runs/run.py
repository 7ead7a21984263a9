"""A whole run: plan, reuse what is stored, train the rest, assemble the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError
from higgsbench.runs.artifacts import current_rows, damaged_results, folder_name, write_inputs, write_results
from higgsbench.runs.assemble import AssembledRow, assembled_row, assembled_stack, failed_record
from higgsbench.runs.budget import fit_to_memory, within_limit
from higgsbench.runs.cost import stored_keys
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.engines import execute, units_at_a_time
from higgsbench.runs.environment import environment, give_back
from higgsbench.runs.lock import reuse, run_lock
from higgsbench.runs.plan import Plan, check_members, check_trainable, make_plan
from higgsbench.runs.result import Failure, Listener, RunResult, Silent, last_line
from higgsbench.runs.store import RunStore
from higgsbench.runs.unit import Unit, UnitResult, Workspace, save_events, working_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from higgsbench.config import LoadedConfig
    from higgsbench.runs.budget import LeftOut, TimeBudget
    from higgsbench.runs.engines import EngineSettings


def checked_plan(loaded: LoadedConfig, note: Callable[[str], object], known: Collection[str] = ()) -> Plan:
    """Load the events, plan the run, and find what would go wrong in every fit.

    Args:
        loaded: validated configuration.
        note: receives one line per remark.
        known: keys of units that are stored already; models that have only these are not checked again.

    Raises:
        HiggsbenchError: for bad configuration or data.
    """
    plan = make_plan(loaded, load_dataset(loaded.config))
    check_members(plan)
    check_trainable(loaded, plan, note, known)
    return plan


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
        listener: receives progress and notes.
        time_limit: seconds for everything, or None. Rows are complete or left out; complete rows are the same as
            without a limit, except bags of fewer seeds, which their parameters show.
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
    known = stored_keys(output)
    plan = checked_plan(loaded, listener.note, known)
    budget, notes = None, list[str]()
    if time_limit is not None:
        jobs = units_at_a_time(engine, listener.note)
        loaded, plan, budget, notes = within_limit(loaded, plan, output, jobs, time_limit, begin)
    plan, more = fit_to_memory(loaded, plan, engine.jobs_here, known)
    for note in (*notes, *more):
        listener.note(note)
    return _Run(plan, output, engine, listener, budget, retry_failed).carry_out()


class _Run:
    def __init__(
        self,
        plan: Plan,
        output: Path,
        engine: EngineSettings,
        listener: Listener,
        budget: TimeBudget | None,
        retry_failed: bool,
    ) -> None:
        self.plan = plan
        self.output = output
        self.engine = engine
        self.retry_failed = retry_failed
        self.listener = listener
        self.budget = budget
        self.events = plan.dataset.y.size
        self.store = RunStore(output / folder_name(plan))
        self.folder = self.store.folder
        self.stored: dict[str, UnitResult] = {}
        self.failures = [Failure(row.name, reason, None) for row, reason in plan.refused]
        self.unstorable: set[str] = set()
        self.trained = 0
        self.done: dict[int, AssembledRow] = {}
        self.with_model: frozenset[str] = frozenset()
        if plan.config.store_models:
            rows = range(len(plan.rows))
            self.with_model = frozenset(u.key for index in rows for u in plan.predictors_of(index))

    def carry_out(self) -> RunResult:
        done = self._finished()
        if done is not None:
            return done
        self.store.prepare()
        with run_lock(self.folder, self.listener.note, None if self.budget is None else self.budget.left):
            return self._finished() or self._carry_out()

    def _finished(self) -> RunResult | None:
        """Return the stored result if nothing is left to do."""
        total = len(self.plan.units)
        rows = current_rows(self.folder, self.plan)
        if rows is None or not all(self.store.intact(u.key, u.key in self.with_model) for u in self.plan.units):
            return None
        self.listener.planned(self.folder, total, total)
        return RunResult(self.folder, rows, 0, total, self.failures)

    def _carry_out(self) -> RunResult:
        for name in damaged_results(self.folder):
            self.listener.note(f"{name}: damaged or missing; rewriting it")
        write_inputs(self.folder, self.plan, environment())
        keys = {unit.key for unit in self.plan.units}
        self.stored = reuse(self.store, self.output, keys, self.with_model, self.listener.note)
        pending = [unit for unit in self.plan.units if unit.key not in self.stored]
        reused = len(self.stored)
        if not self.retry_failed:
            pending = self._without_failed(pending)
        self.listener.planned(self.folder, len(self.plan.units), reused)
        for index in sorted({unit.row for unit in pending}):
            self.plan.rows[index].spec.check_parameters(self.plan.rows[index].params)
        for index in range(len(self.plan.rows)):
            self._complete(index)
        if pending:
            # On a file system that the run and its workers share, if there is one.
            with working_folder(self.folder if self.engine.kind == "dask" else None) as folder:
                self._train(pending, Workspace(folder))
        left_out = self.budget.left_out(self.plan) if self.budget is not None else []
        rows = self._assemble(left_out)
        return RunResult(self.folder, rows, self.trained, reused, self.failures, left_out)

    def _without_failed(self, pending: list[Unit]) -> list[Unit]:
        """Leave out the units that failed in an earlier call; a failure is a result and is reported."""
        texts = {unit.key: self.store.read_error(unit.key) for unit in pending}
        failed = [unit for unit in pending if texts[unit.key] is not None]
        for unit in failed:
            name, message = self.plan.rows[unit.row].name, last_line(texts[unit.key] or "")
            self.failures.append(Failure(name, message, self.store.error_file(unit.key)))
        if failed:
            what = "1 unit" if len(failed) == 1 else f"{len(failed)} units"
            self.listener.note(f"{what} failed before and will not be trained again; use --retry-failed to do so")
        return [unit for unit in pending if texts[unit.key] is None]

    def _train(self, pending: list[Unit], workspace: Workspace) -> None:
        rows = {unit.row for unit in pending}
        save_events(workspace, self.plan.dataset, [self.plan.rows[i].features for i in sorted(rows)])
        give_back(self.events)
        by_key = {unit.key: unit for unit in pending}

        def started(unit: Unit) -> None:
            self.listener.started(self.plan.rows[unit.row].name, unit.repeat, unit.fold)

        units = self._in_order(pending)

        def source() -> Unit | None:
            unit = units()
            if unit is None or unit.key not in self.with_model:
                return unit
            return dataclasses.replace(unit, model_file=self.store.new_model_file(unit.key))

        results = execute(source, workspace, self.engine.for_units(len(pending)), started, self.listener.note)
        # Closed before the workspace is removed, so that no worker is left behind reading it.
        with contextlib.closing(results):
            for result in results:
                self._keep(by_key[result.key], result)

    def _in_order(self, pending: list[Unit]) -> Callable[[], Unit | None]:
        """Return what gives the next unit: the time budget, or else the longest first."""
        if self.budget is not None:
            self.budget.plan(pending)
            return self.budget.next_unit
        # Longest first, so that no core idles at the end waiting for one long fit.
        order = iter(sorted(pending, key=lambda u: (-u.spec.cost, u.row, u.repeat, u.fold)))
        return lambda: next(order, None)

    def _keep(self, unit: Unit, result: UnitResult) -> None:
        """Store what a unit brought back."""
        name = self.plan.rows[unit.row].name
        if result.error:
            path = self.store.write_error(result.key, result.error)
            self.failures.append(Failure(name, last_line(result.error), path))
        else:
            self.store.write(result)
            self.trained += 1
            found = self.store.read(result.key)
            if found is not None:
                self.stored[result.key] = found
            if result.model is not None and result.model.reason and name not in self.unstorable:
                self.unstorable.add(name)
                self.listener.note(f"{name}: its scores are stored, its fitted models are not: {result.model.reason}")
        if self.budget is not None:
            seconds = result.fit_seconds + 1e-6 * result.predict_us * result.scored
            self.budget.finished(unit, seconds, bool(result.error))
        self.listener.finished(name, unit.repeat, unit.fold, result.fit_seconds, bool(result.error))
        self._complete(unit.row)

    def _complete(self, index: int) -> None:
        """Evaluate a row as soon as all its units are there."""
        units = self.plan.units_of(index)
        if index in self.done or any(unit.key not in self.stored for unit in units):
            return
        begin = time.monotonic()
        row = self.done[index] = assembled_row(self.plan, index, self.stored)
        for unit in units:
            self.stored[unit.key] = self.stored[unit.key].without_scores()
        give_back(self.events)
        if self.budget is not None:
            self.budget.row_assembled(time.monotonic() - begin)
        self.listener.row_done(row.record)
        if "remark" in row.record:
            self.listener.note(f"{row.name}: {row.record['remark']}")

    def _assemble(self, left_out: list[LeftOut]) -> list[dict[str, Any]]:
        if not self.done:
            if not self.failures:
                raise ConfigError(f"no row was complete in time: {left_out[0].name}: {left_out[0].reason}")
            first = self.failures[0]
            see = "" if first.path is None else f" (see {first.path})"
            raise ConfigError(f"no row could be computed; first failure: {first.row}: {first.message}{see}")
        stack = assembled_stack(self.plan, self.done)
        give_back(self.events)
        if stack is not None:
            self.listener.row_done(stack.row.record)
        failed = self._failed(without_time={row.name for row in left_out})
        rows = current_rows(self.folder, self.plan)
        return rows or write_results(self.folder, self.plan, self.done, stack, failed, left_out)

    def _failed(self, without_time: Collection[str]) -> list[dict[str, Any]]:
        """Return the records of rows that failed, with the reason."""
        reasons = {failure.row: failure.message for failure in reversed(self.failures)}
        records = [
            failed_record(row, self.plan, index, reasons.get(row.name, "not all of its units are stored"))
            for index, row in enumerate(self.plan.rows)
            if index not in self.done and row.name not in without_time
        ]
        return records + [failed_record(row, self.plan, None, reason) for row, reason in self.plan.refused]
