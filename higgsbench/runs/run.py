"""A whole run: plan, reuse what is stored, train the rest, assemble the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.config.load import with_layout
from higgsbench.errors import ConfigError, ModelError, TimeLimitError
from higgsbench.models.building import RefusedParameterError, probe_parameters, unstorable
from higgsbench.runs import Failure, RunResult
from higgsbench.runs.artifacts import current_rows, damaged_results, folder_name, write_inputs, write_results
from higgsbench.runs.assemble import AssembledRow, assembled_row, assembled_stack, failed_record
from higgsbench.runs.budget import fit_to_memory, within_limit
from higgsbench.runs.cost import stored_keys
from higgsbench.runs.dataset import load_dataset, save_events, working_folder
from higgsbench.runs.engines import execute, units_at_a_time
from higgsbench.runs.environment import environment, give_back
from higgsbench.runs.plan import Plan, make_plan
from higgsbench.runs.pretrain import provide_starts
from higgsbench.runs.regions import check_model
from higgsbench.runs.store import RunStore, run_lock
from higgsbench.runs.unit import Unit, UnitResult, Workspace

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from higgsbench.config.load import LoadedConfig
    from higgsbench.runs.budget import LeftOut, TimeBudget
    from higgsbench.runs.engines import EngineSettings

FEW = 20
"""Events of a class in a fold below which its numbers say little: the relative error of a count is then above 20%."""

_LOG = logging.getLogger("higgsbench")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
"""How the message of a traceback begins; the lines of its frames are indented."""


def last_line(error: str) -> str:
    """Return the sentence at the end of a failed unit's text; for a traceback, the first line of its message."""
    lines = error.strip().splitlines()
    frames = [at for at, line in enumerate(lines) if line.startswith('  File "')]
    if frames and lines[0].startswith("Traceback"):
        for line in lines[frames[-1] + 1 :]:
            if _EXCEPTION.match(line):
                return line.strip()
    return lines[-1].strip() if lines else "no reason is stored"


class Listener:
    """Receives the progress of a run. This one shows none; its notes and warnings go to the logger `higgsbench`."""

    def planned(self, folder: Path, total: int, done: int) -> None:
        """The plan is made: `done` of `total` units are already stored."""

    def started(self, row: str, repeat: int, fold: int) -> None:
        """A unit was handed to a worker."""

    def finished(self, row: str, repeat: int, fold: int, seconds: float, failed: bool) -> None:
        """A unit came back and is stored."""

    def row_done(self, record: dict[str, Any]) -> None:
        """All units of a row are there; these are its metrics."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        _LOG.info(text)

    def warn(self, text: str) -> None:
        """Report something that makes results less reliable; Python shows it unless logging is set up differently."""
        _LOG.warning(text)


def checked_plan(loaded: LoadedConfig, listener: Listener, known: Collection[str] = ()) -> Plan:
    """Load the events, plan the run, and find what would go wrong in every fit; arguments as for `check_trainable`.

    Raises:
        HiggsbenchError: for bad configuration or data.
    """
    plan = make_plan(loaded, load_dataset(loaded.config))
    rows = [*plan.rows, *(row for row, _ in plan.refused)]
    names = {row.label for row in rows} | {row.name for row in rows}
    check_model(loaded.config, loaded.document, plan.config.data, plan.dataset.train, plan.dataset.processes)
    for name in plan.config.stack.members or ():
        if name not in names:
            raise ConfigError(f"stack.members: no row named {name!r}; choose from {', '.join(sorted(names))}")
    splits = [entry.jet_split or plan.config.jet_split for entry in plan.config.models]
    if plan.dataset.group is None and "both" in splits:
        lacking = f"the layout {plan.dataset.train.schema.name} has no jet groups"
        listener.note(f"jet_split: {lacking}; every model is trained only on all events together")
    for text in (*plan.dataset.merged, *plan.dataset.about_totals(plan.config.data)):
        listener.note(text)
    check_trainable(loaded, plan, listener, known)
    return plan


def check_trainable(loaded: LoadedConfig, plan: Plan, listener: Listener, known: Collection[str] = ()) -> None:
    """Let the libraries check the configured parameters, which takes a few milliseconds for each model.

    Args:
        loaded: the configuration.
        plan: its plan.
        listener: receives rows that cannot be trained, and choices that are legal but make the numbers worthless.
        known: keys of units that are stored already; a model that has only these to train was checked before.

    Raises:
        ConfigError: naming the file, the line and the parameter.
    """
    judged: list[tuple[Any, ...]] = []
    for index, entry in enumerate(loaded.config.models):
        rows = [i for i, row in enumerate(plan.rows) if row.label == entry.row_label]
        if all(unit.key in known for i in rows for unit in plan.units_of(i)):
            continue
        row = plan.rows[rows[0]]
        case = (entry.model, row.params, len(row.features.columns))
        if case in judged:
            continue
        judged.append(case)
        try:
            probe_parameters(row.spec, row.params, entry.params, row.features.columns, len(plan.dataset.train))
        except RefusedParameterError as error:
            path: tuple[str | int, ...] = ("models", index, "params")
            raise loaded.error(path if error.parameter is None else (*path, error.parameter), str(error)) from error
        except ModelError as error:
            raise loaded.error(("models", index), str(error)) from error
    dataset, fold = plan.dataset, plan.dataset.fold[0]
    for name, members in (("signal", dataset.y), ("background", ~dataset.y)):
        least = int(np.bincount(fold[members], minlength=int(fold.max()) + 1).min())
        if least < FEW:
            events = "event" if least == 1 else "events"
            listener.warn(
                f"{dataset.train.source}: a fold holds only {least} {name} {events}; below {FEW} the numbers and their "
                "errors say little (use more events or fewer folds)"
            )
            break
    if plan.refused:
        names = ", ".join(row.name for row, _ in plan.refused)
        listener.warn(f"{plan.refused[0][1]}; not trained: {names}")


def run_config(
    loaded: LoadedConfig,
    output: Path,
    engine: EngineSettings,
    listener: Listener | None = None,
    time_limit: float | None = None,
    retry_failed: bool = False,
    also: Sequence[Path] = (),
    part: str | None = None,
) -> RunResult:
    """Run a configuration; what an earlier or interrupted run stored is reused.

    Args:
        loaded: validated configuration.
        output: folder that holds the runs; this run gets its own folder in it.
        engine: where and how units run.
        listener: receives progress and notes.
        time_limit: seconds for everything, or None. Rows are complete or left out; complete rows are the same as
            without a limit, except bags of fewer seeds, which their parameters show.
        retry_failed: whether units that failed in an earlier call are trained again.
        also: further folders of runs whose finished units are reused.
        part: "3/20" trains the third of 20 shares of the units, beside other parts in the same folder; no rows.

    Raises:
        HiggsbenchError: for bad configuration or data, or a store that cannot be written.
    """
    if part is not None and time_limit is not None:
        raise ConfigError("--part trains a fixed share of the run: leave out --time-limit")
    begin = time.monotonic()
    listener = listener or Listener()
    engine = dataclasses.replace(engine, threads=loaded.config.threads)
    engine.check()
    known = stored_keys(output, *also)
    loaded = with_layout(loaded)
    plan = checked_plan(loaded, listener, known)
    budget, notes = None, list[str]()
    if time_limit is not None:
        jobs = units_at_a_time(engine, listener.note)
        loaded, plan, budget, notes = within_limit(loaded, plan, known, jobs, time_limit, begin)
    plan, more = fit_to_memory(loaded, plan, engine.jobs_here, known)
    for note in (*notes, *more):
        listener.note(note)
    return _Run(plan, output, engine, listener, budget, retry_failed, also, part).carry_out()


@dataclass
class _Run:
    plan: Plan
    output: Path
    engine: EngineSettings
    listener: Listener
    budget: TimeBudget | None
    retry_failed: bool
    also: Sequence[Path]
    part: str | None

    def __post_init__(self) -> None:
        plan = self.plan
        self.store = RunStore(self.output / folder_name(plan))
        self.folder = self.store.folder
        self.stored: dict[str, UnitResult] = {}
        self.failures = [Failure(row.name, reason, None) for row, reason in plan.refused]
        self.unstorable: set[str] = set()
        self.trained = 0
        self.done: dict[int, AssembledRow] = {}
        kept = range(len(plan.rows)) if plan.config.store_models else ()
        self.with_model = frozenset(unit.key for index in kept for unit in plan.predictors_of(index))
        self.rows_of: dict[str, list[int]] = {}  # the same fit may belong to several rows
        share = None if self.part is None else plan.share(self.part)
        for unit in plan.units:
            if share is None or unit.key in share:
                self.rows_of.setdefault(unit.key, []).append(unit.row)

    def _say_unstorable(self, pending: list[Unit]) -> None:
        """Say before training which rows will have no fitted models."""
        reasons: dict[str, str] = {}
        for index in sorted({unit.row for unit in pending if unit.key in self.with_model}):
            row = self.plan.rows[index]
            if row.label not in reasons:
                reasons[row.label] = unstorable(row.spec, row.params, row.features.columns)
            if reasons[row.label]:
                self._unstorable(row.name, reasons[row.label])

    def _unstorable(self, name: str, reason: str) -> None:
        if name not in self.unstorable:
            self.unstorable.add(name)
            self.listener.warn(
                f"{name}: its scores are stored, its fitted models are not, so `predict` and `export` cannot use them "
                f"(`store_models: false` or --no-models if you do not need them): {reason}"
            )

    def carry_out(self) -> RunResult:
        if (done := self._finished()) is not None:
            return done
        self.store.prepare()
        if self.part is not None:  # beside the others: every unit is stored whole, and nothing else is written
            return self._carry_out()
        with run_lock(self.folder, self.listener.note, None if self.budget is None else self.budget.left):
            return self._finished() or self._carry_out()

    def _finished(self) -> RunResult | None:
        """Return the stored result if nothing is left to do."""
        total = len(self.rows_of)
        rows = current_rows(self.folder, self.plan)
        if rows is None or not all(self.store.intact(key, key in self.with_model) for key in self.rows_of):
            return None
        self.listener.planned(self.folder, total, total)
        return RunResult(self.folder, rows, 0, total, self.failures)

    def _carry_out(self) -> RunResult:
        plan, listener = self.plan, self.listener
        for name in damaged_results(self.folder) if self.part is None else ():
            listener.note(f"{name}: damaged or missing; rewriting it")
        write_inputs(self.folder, plan, environment())
        outputs = (self.output, *self.also)
        self.stored = self.store.reuse(outputs, set(self.rows_of), self.with_model, listener.note)
        pending = list({u.key: u for u in plan.units if u.key in self.rows_of and u.key not in self.stored}.values())
        reused = len(self.stored)
        if not self.retry_failed:
            pending = self._without_failed(pending)
        listener.planned(self.folder, len(self.rows_of), reused)
        for index in range(len(plan.rows)):
            self._complete(index)
        if pending:
            # On a file system that the run and its workers share, if there is one.
            shared = self.folder if self.engine.kind == "dask" else None
            with working_folder(shared) as folder:
                self._train(self._started(pending, Workspace(folder), shared), Workspace(folder))
        left_out = self.budget.left_out(plan) if self.budget is not None else []
        rows = self._assemble(left_out) if self.part is None else []
        return RunResult(self.folder, rows, self.trained, reused, self.failures, left_out)

    def _without_failed(self, pending: list[Unit]) -> list[Unit]:
        """Leave out the units that failed in an earlier call; a failure is a result and is reported."""
        wanted, failed = [], 0
        for unit in pending:
            text = self.store.read_error(unit.key)
            if text is None:
                wanted.append(unit)
                continue
            failed += 1
            self._failed(unit.key, text, self.store.error_file(unit.key))
        if failed:
            what = "1 unit" if failed == 1 else f"{failed} units"
            self.listener.note(f"{what} failed before and will not be trained again; use --retry-failed to do so")
        return wanted

    def _started(self, pending: list[Unit], workspace: Workspace, shared: Path | None) -> list[Unit]:
        """Provide what units start from, and return those that can be trained; the others have failed."""
        features = {index: row.features for index, row in enumerate(self.plan.rows)}
        lost = provide_starts(pending, features, workspace, self.engine, shared, self.listener.note)
        by_key = {unit.key: unit for unit in pending}
        for result in lost:
            self._keep(by_key.pop(result.key), result)
        return list(by_key.values())

    def _train(self, pending: list[Unit], workspace: Workspace) -> None:
        self._say_unstorable(pending)
        rows = {unit.row for unit in pending}
        trained = [self.plan.rows[i] for i in sorted(rows)]
        needed = [matrix for row in trained for matrix in row.robust.matrices(row.features)]
        save_events(workspace, self.plan.dataset, needed)
        give_back(self.plan.dataset.y.size)
        by_key = {unit.key: unit for unit in pending}
        if self.budget is not None:
            self.budget.plan(pending)
        # Longest first, so that no core idles at the end waiting for one long fit.
        longest = iter(sorted(pending, key=lambda u: (-u.spec.cost, u.row, u.repeat, u.fold)))

        def source() -> Unit | None:
            unit = next(longest, None) if self.budget is None else self.budget.next_unit()
            if unit is None or unit.key not in self.with_model:
                return unit
            return dataclasses.replace(unit, model_file=self.store.new_model_file(unit.key))

        def started(unit: Unit) -> None:
            self.listener.started(self.plan.rows[unit.row].name, unit.repeat, unit.fold)

        jobs = self.engine.jobs or (None if self.engine.cluster is None else self.engine.cluster.workers)
        jobs = jobs and min(jobs, len(pending))  # one unit needs no separate process
        engine = dataclasses.replace(self.engine, jobs=jobs)
        results = execute(source, workspace, engine, started, self.listener.note)
        # Closed before the workspace is removed, so that no worker is left behind reading it.
        with contextlib.closing(results):
            for result in results:
                self._keep(by_key[result.key], result)

    def _keep(self, unit: Unit, result: UnitResult) -> None:
        """Store the result of a unit."""
        name = self.plan.rows[unit.row].name
        if result.error:
            self._failed(unit.key, result.error, self.store.write_error(result.key, result.error))
        else:
            self.store.write(result)
            self.trained += 1
            if (found := self.store.read(result.key)) is not None:
                self.stored[result.key] = found
            if result.model is not None and result.model.reason:
                self._unstorable(name, result.model.reason)
        if self.budget is not None:
            seconds = result.fit_seconds + 1e-6 * result.predict_us * result.scored
            self.budget.finished(unit, seconds, bool(result.error))
        self.listener.finished(name, unit.repeat, unit.fold, result.fit_seconds, bool(result.error))
        for index in self.rows_of[unit.key]:
            self._complete(index)

    def _failed(self, key: str, error: str, path: Path) -> None:
        names = [self.plan.rows[index].name for index in self.rows_of[key]]
        self.failures += [Failure(name, last_line(error), path.absolute()) for name in names]

    def _complete(self, index: int) -> None:
        """Evaluate a row as soon as all its units are there."""
        units = self.plan.units_of(index)
        if index in self.done or any(unit.key not in self.stored for unit in units):
            return
        begin = time.monotonic()
        row = self.done[index] = assembled_row(self.plan, index, self.stored)
        for unit in units:
            if all(other in self.done for other in self.rows_of[unit.key]):
                self.stored[unit.key] = self.stored[unit.key].without_scores()
        give_back(self.plan.dataset.y.size)
        if self.budget is not None:
            self.budget.assembled.append(time.monotonic() - begin)
        self.listener.row_done(row.record)
        if "remark" in row.record:
            self.listener.warn(f"{row.name}: {row.record['remark']}")

    def _assemble(self, left_out: list[LeftOut]) -> list[dict[str, Any]]:
        """Write the results, and return the records of all rows: complete ones, the stack, those that failed."""
        plan = self.plan
        if not self.done:
            if not self.failures:
                raise TimeLimitError(f"no row was complete in time: {left_out[0].name}: {left_out[0].reason}")
            first = self.failures[0]
            see = "" if first.path is None else f" (see {first.path})"
            raise ConfigError(f"no row could be computed; first failure: {first.row}: {first.message}{see}")
        stack = assembled_stack(plan, self.done)
        give_back(plan.dataset.y.size)
        if stack is not None:
            self.listener.row_done(stack.row.record)
        reasons = {failure.row: failure.message for failure in reversed(self.failures)}
        without_time = {row.name for row in left_out}
        failed = [
            failed_record(row, plan, index, reasons.get(row.name, "not all of its units are stored"))
            for index, row in enumerate(plan.rows)
            if index not in self.done and row.name not in without_time
        ]
        failed += [failed_record(row, plan, None, reason) for row, reason in plan.refused]
        return current_rows(self.folder, plan) or write_results(self.folder, plan, self.done, stack, failed, left_out)
