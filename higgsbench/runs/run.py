"""A whole run: plan, reuse what is stored, train the rest, assemble the rows."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ConfigError
from higgsbench.features import feature_matrix
from higgsbench.files import canonical_digest
from higgsbench.runs.artifacts import assembly_digest, is_current, resolved_config, write_inputs, write_results
from higgsbench.runs.assemble import RowScores, Stack, assembled_row, build_stack, check_members, row_scores, truth_of
from higgsbench.runs.dataset import Dataset, load_dataset
from higgsbench.runs.environment import environment
from higgsbench.runs.execute import execute
from higgsbench.runs.plan import Plan, Row, Unit, make_plan
from higgsbench.runs.predictor_file import predictor_content
from higgsbench.runs.result import Failure, Listener, RunResult, Silent
from higgsbench.runs.store import RunStore, StoredUnit
from higgsbench.runs.unit import Task, UnitResult, Workspace

if TYPE_CHECKING:
    from higgsbench.config import LoadedConfig, RunConfig
    from higgsbench.ensemble.evaluate import RowMetrics, Truth

__all__ = ["run_config", "task_of"]


def run_config(loaded: LoadedConfig, output: Path, jobs: int, listener: Listener | None = None) -> RunResult:
    """Carry out a configuration; what an earlier or interrupted run stored is reused.

    Args:
        loaded: validated configuration.
        output: folder that holds the runs; this run gets a folder of its own in it.
        jobs: number of worker processes.
        listener: hears of progress.

    Returns:
        The result; its rows are also stored.

    Raises:
        HiggsbenchError: for bad configuration or data, or a store that cannot be written.
    """
    return _Run(loaded, output, jobs, listener or Silent()).carry_out()


def task_of(unit: Unit, plan: Plan, dataset: Dataset, config: RunConfig, model_file: str | None = None) -> Task:
    """Return what a worker needs to run a unit."""
    row = plan.rows[unit.row]
    return Task(
        key=unit.key,
        spec=row.spec,
        params=row.params,
        columns=row.features.columns,
        matrix=f"X-{row.features.digest}",
        test_matrix=f"T-{row.features.digest}" if unit.predict_test else None,
        groups=dataset.groups if row.variant == "jets" else None,
        training_weights=row.training_weights,
        negative_weights=config.data.negative_weights,
        repeat=unit.repeat,
        fold=unit.fold,
        totals=dataset.totals,
        seed=unit.seed,
        threads=config.threads,
        model_file=model_file,
    )


class _Run:
    def __init__(self, loaded: LoadedConfig, output: Path, jobs: int, listener: Listener) -> None:
        self.config: RunConfig = loaded.config
        self.jobs = jobs
        self.listener = listener
        self.dataset: Dataset = load_dataset(loaded.config)
        self.plan: Plan = make_plan(loaded, self.dataset)
        check_members(self.config, self.plan)
        self.store = RunStore(output / self._folder_name())
        self.output = output
        self.stored: dict[str, StoredUnit] = {}
        self.failures: list[Failure] = []
        self.unstorable: set[str] = set()
        self.scores: dict[int, RowScores] = {}
        self.records: dict[int, tuple[dict[str, Any], RowMetrics]] = {}
        self.truth: Truth = truth_of(self.config, self.dataset)
        self.with_model: frozenset[str] = frozenset()
        if self.config.store_models:
            rows = range(len(self.plan.rows))
            self.with_model = frozenset(u.key for index in rows for u in self.plan.predictors_of(index))

    def _folder_name(self) -> str:
        content = resolved_config(self.config, self.plan)
        content.pop("data", None)
        content.pop("store_models", None)  # the scores are the same, with models or without
        test = self.dataset.test.digest if self.dataset.test is not None else None
        return f"{self.config.name}-{canonical_digest([content, self.dataset.train.digest, test])[:8]}"

    def carry_out(self) -> RunResult:
        digest = assembly_digest(self.config, self.dataset, self.plan)
        total = len(self.plan.units)
        if is_current(self.store, digest) and all(self.store.has_model(key) for key in self.with_model):
            self.listener.planned(self.store.folder, total, total)
            return RunResult(self.store.folder, self.store.read_json("rows.json")["rows"], 0, total, [])
        self.store.prepare()
        write_inputs(self.store, self.config, self.plan, environment())
        pending = self._reuse()
        reused = total - len(pending)
        self.listener.planned(self.store.folder, total, reused)
        for index in sorted({unit.row for unit in pending}):
            self.plan.rows[index].spec.check_parameters(self.plan.rows[index].params)
        for index in range(len(self.plan.rows)):
            self._complete(index)
        if pending:
            with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
                self._train(pending, Workspace(folder))
        rows = self._assemble(digest)
        return RunResult(self.store.folder, rows, len(pending) - len(self.failures), reused, self.failures)

    def _reuse(self) -> list[Unit]:
        """Read finished units of this run and of the runs beside it; return those that must be trained."""
        keys = {unit.key for unit in self.plan.units}
        missing = keys - self.store.keys()
        if missing:
            beside = [RunStore(p) for p in sorted(self.output.iterdir()) if p.is_dir() and p != self.store.folder]
            taken = self.store.adopt(missing, beside, self.with_model)
            if taken:
                self.listener.note(f"{taken} finished units taken over from other runs in {self.output}")
        without = 0
        for key in sorted(keys & self.store.keys()):
            found = self.store.read(key)
            if found is None:
                self.listener.note(f"unit {key}: a stored file is damaged; it is computed again")
                self.store.drop(key)
            elif found.model is None and key in self.with_model:
                without += 1
            else:
                self.stored[key] = found
        if without:
            self.listener.note(
                f"{without} stored units have scores but no fitted models; they are computed again "
                "(not with store_models: false)"
            )
        return [unit for unit in self.plan.units if unit.key not in self.stored]

    def _workspace_arrays(self, workspace: Workspace, rows: set[int]) -> None:
        workspace.save("y", self.dataset.y)
        workspace.save("weight", self.dataset.weight)
        workspace.save("fold", self.dataset.fold)
        train, test = self.dataset.train, self.dataset.test
        numbers = train.group
        workspace.save("group", np.zeros(len(train), np.int64) if numbers is None else numbers)
        if test is not None:
            numbers = test.group
            workspace.save("test_group", np.zeros(len(test), np.int64) if numbers is None else numbers)
        for features in {
            row.features.digest: row.features for i, row in enumerate(self.plan.rows) if i in rows
        }.values():
            workspace.save(f"X-{features.digest}", feature_matrix(train.frame, features))
            if test is not None:
                workspace.save(f"T-{features.digest}", feature_matrix(test.frame, features))

    def _train(self, pending: list[Unit], workspace: Workspace) -> None:
        self._workspace_arrays(workspace, {unit.row for unit in pending})
        # Longest first, so that no core idles at the end behind one long fit.
        order = sorted(pending, key=lambda u: (-self.plan.rows[u.row].spec.cost, u.row, u.repeat, u.fold))
        by_key = {unit.key: unit for unit in order}

        def started(task: Task) -> None:
            unit = by_key[task.key]
            self.listener.started(self.plan.rows[unit.row].name, unit.repeat, unit.fold)

        results = execute([self._task(unit) for unit in order], workspace, self.jobs, started)
        # Closed before the workspace is removed, so that no worker is left behind reading it.
        with contextlib.closing(results):
            for result in results:
                self._keep(by_key[result.key], result)

    def _task(self, unit: Unit) -> Task:
        file = self.store.new_model_file(unit.key) if unit.key in self.with_model else None
        return task_of(unit, self.plan, self.dataset, self.config, file)

    def _keep(self, unit: Unit, result: UnitResult) -> None:
        """Store what a unit brought back."""
        test = self.dataset.test
        test_ids = np.empty(0, dtype=np.int64) if test is None else test.event_id
        name = self.plan.rows[unit.row].name
        if result.error:
            path = self.store.write_error(result.key, result.error)
            self.failures.append(Failure(name, result.error.strip().splitlines()[-1], path))
        else:
            self.store.write(result, self.dataset.train.event_id, test_ids)
            found = self.store.read(result.key)
            if found is not None:
                self.stored[result.key] = found
            if result.no_model and name not in self.unstorable:
                self.unstorable.add(name)
                self.listener.note(f"{name}: its scores are stored, its fitted models are not: {result.no_model}")
        self.listener.finished(name, unit.repeat, unit.fold, result.fit_seconds, bool(result.error))
        self._complete(unit.row)

    def _complete(self, index: int) -> None:
        """Evaluate a row as soon as all its units are there."""
        units = self.plan.units_of(index)
        if index in self.records or any(unit.key not in self.stored for unit in units):
            return
        row = self.plan.rows[index]
        self.scores[index] = row_scores(row, units, self.stored, self.dataset)
        self.records[index] = assembled_row(self.scores[index], self.truth, self.dataset, self._about(row, units))
        self.listener.row_done(self.records[index][0])

    def _about(self, row: Row, units: list[Unit]) -> dict[str, Any]:
        return {
            "label": row.label,
            "model": row.spec.name,
            "variant": row.variant,
            "features": row.features.name,
            "n_features": len(row.features.columns),
            "preset": row.preset,
            "params": row.params,
            "training_weights": row.training_weights,
            "calibration": row.calibration,
            "seed": self.config.seed,
            "digest": canonical_digest([row.calibration, [u.key for u in units]]),
        }

    def _assemble(self, digest: str) -> list[dict[str, Any]]:
        done = [(self.plan.rows[i], self.scores[i]) for i in sorted(self.records)]
        records = [self.records[i][0] for i in sorted(self.records)]
        metrics = {self.scores[i].name: self.records[i][1] for i in sorted(self.records)}
        scores = [s for _, s in done]
        stack = build_stack(self.config, done, self.dataset)
        if stack is not None:
            record, found = assembled_row(stack.scores, self.truth, self.dataset, self._about_stack(stack))
            self.listener.row_done(record)
            records.append(record)
            metrics["stack"] = found
            scores.append(stack.scores)
        for index, row in enumerate(self.plan.rows):
            if index not in self.records:
                records.append(self._failed_record(index, row))
        if not metrics:
            first = self.failures[0]
            raise ConfigError(
                f"no row could be computed; first failure: {first.row}: {first.message} (see {first.path})"
            )
        predictor = predictor_content(self.config, self.dataset, self.plan, self.scores, metrics, stack)
        write_results(self.store, self.config, self.dataset, digest, records, scores, metrics, stack, predictor)
        return records

    def _about_stack(self, stack: Stack) -> dict[str, Any]:
        return {
            "label": "stack",
            "model": "stack",
            "variant": stack.blend.method,
            "features": "",
            "n_features": len(stack.blend.members),
            "preset": "",
            "params": {"members": list(stack.blend.members)},
            "training_weights": "",
            "calibration": "",
            "seed": self.config.seed,
            "digest": canonical_digest([stack.blend.method, stack.blend.members, self._what_determines_scores()]),
        }

    def _what_determines_scores(self) -> list[Any]:
        return [[row.calibration, [u.key for u in self.plan.units_of(i)]] for i, row in enumerate(self.plan.rows)]

    def _failed_record(self, index: int, row: Row) -> dict[str, Any]:
        failure = next((f for f in self.failures if f.row == row.name), None)
        message = failure.message if failure else "not all of its units are stored"
        return {
            **self._about(row, self.plan.units_of(index)),
            "name": row.name,
            "status": "failed",
            "error": message,
        }
