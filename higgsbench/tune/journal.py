"""A study on disk: Optuna's journal, plain JSON lines, nothing pickled."""

from __future__ import annotations

import json
import logging
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from higgsbench.errors import MissingExtraError, StoreError
from higgsbench.models.space import sample, to_trial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from higgsbench.models.space import SearchSpace
    from higgsbench.tune.objective import Direction

__all__ = ["Journal", "TrialRecord", "check_optuna"]

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_SECONDS, _ERROR, _PROCESS, _VALUES, _CALIBRATION = "seconds", "error", "process", "values", "calibration"
_PRUNE_AFTER = 5
_RANDOM_TRIALS = 10


def check_optuna() -> None:
    """Check that Optuna is there.

    Raises:
        MissingExtraError: naming the extra that brings it.
    """
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("higgsbench tune", "tune")


@dataclass(frozen=True)
class TrialRecord:
    """One trial that was carried out.

    Attributes:
        number: number in the study.
        state: `complete`, `pruned` or `failed`.
        value: objective on all folds, None where it is not complete.
        values: value per dimension.
        seconds: wall time.
        error: last line of the traceback of a failed trial.
        calibration: slope and intercept per part of the recalibration fitted on its scores, or None.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    seconds: float
    error: str = ""
    calibration: list[list[float]] | None = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's experimental-feature warnings and its log from the screen."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class _NoLock:
    """Stands in for Optuna's lock file, which a killed process leaves behind; one process writes a journal."""

    def acquire(self) -> bool:
        """Say that the lock is there."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Journal:
    """A study whose trials are asked and told one by one; a stopped one goes on.

    The sampler of each trial is seeded by how many were carried out before, so that with one trial at a time an
    interrupted study proposes what an undisturbed one would have.

    Args:
        file: the journal; created where there is none.
        space: dimensions.
        start: values of the first trial, as far as the space holds them.
        direction: `minimize` or `maximize`.
        seed: seed of the sampler.
        prune: whether trials behind the median are broken off.

    Raises:
        StoreError: if the file cannot be read or another process works on it.
    """

    def __init__(
        self, file: Path, space: SearchSpace, start: dict[str, Any], direction: Direction, seed: int, prune: bool
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.file, self.space, self.start, self.seed = file, space, start, seed
        no_lock: Any = _NoLock()  # Optuna's base class of locks cannot be named without importing Optuna
        _cut_torn_line(file)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_PRUNE_AFTER) if prune else optuna.pruners.NopPruner()
        try:
            with _quiet():
                storage = JournalStorage(JournalFileBackend(str(file), lock_obj=no_lock))
                self.study = optuna.create_study(
                    storage=storage, study_name="tune", direction=direction, pruner=pruner, load_if_exists=True
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{file}: is no readable journal of a study ({error}); remove it to begin anew") from error
        self._close_interrupted()

    def _close_interrupted(self) -> None:
        """Trials that a killed process left open are over; they count for nothing."""
        import optuna
        import psutil

        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            process = trial.user_attrs.get(_PROCESS)
            if process != os.getpid() and isinstance(process, int) and psutil.pid_exists(process):
                raise StoreError(f"{self.file}: process {process} is working on this study; wait for it or end it")
            self.give_up(trial)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Begin a trial; return it and its values."""
        import optuna

        with _quiet():
            done = len(self.records())
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.seed + done, n_startup_trials=_RANDOM_TRIALS, constant_liar=False
            )
            first = not done and not self.study.get_trials(
                deepcopy=False, states=(optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING)
            )
            if first and (point := to_trial(self.space, self.start)):
                self.study.enqueue_trial(point)
            trial = self.study.ask()
            trial.set_user_attr(_PROCESS, os.getpid())
            values = sample(self.space, trial)
            trial.set_user_attr(_VALUES, values)
        return trial, values

    def behind(self, trial: Any, value: float, step: int) -> bool:
        """Note a trial's value after a fold; return whether it is to be broken off."""
        with _quiet():
            trial.report(value, step)
            return bool(trial.should_prune())

    def tell(self, trial: Any, value: float, seconds: float, calibration: list[list[float]] | None) -> None:
        """End a trial that has all its folds."""
        with _quiet():
            trial.set_user_attr(_CALIBRATION, calibration)
            trial.set_user_attr(_SECONDS, seconds)
            self.study.tell(trial, value)

    def tell_pruned(self, trial: Any, seconds: float) -> None:
        """End a trial that was broken off."""
        import optuna

        with _quiet():
            trial.set_user_attr(_SECONDS, seconds)
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)

    def tell_failed(self, trial: Any, seconds: float, error: str) -> None:
        """End a trial that raised."""
        import optuna

        with _quiet():
            trial.set_user_attr(_SECONDS, seconds)
            trial.set_user_attr(_ERROR, error)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def give_up(self, trial: Any) -> None:
        """End a trial that was not carried through; it counts for nothing."""
        import optuna

        with _quiet():
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def records(self) -> list[TrialRecord]:
        """Return the trials that were carried out, in their order."""
        out = []
        for trial in self.study.get_trials(deepcopy=False):
            about = trial.user_attrs
            state = _STATES.get(trial.state.name)
            if state is None or (state == "failed" and _ERROR not in about):
                continue
            value = trial.value if state == "complete" else None
            seconds = float(about.get(_SECONDS, 0.0))
            error = str(about.get(_ERROR, ""))
            values = dict(about.get(_VALUES, {}))
            out.append(TrialRecord(trial.number, state, value, values, seconds, error, about.get(_CALIBRATION)))
        return out

    def importances(self) -> dict[str, float]:
        """Return how much of the objective's scatter each dimension explains, most first; empty with few trials."""
        import optuna

        if sum(record.state == "complete" for record in self.records()) < 4:
            return {}
        with _quiet():
            try:
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
            except (RuntimeError, ValueError):  # no scatter to explain
                return {}
        return {str(name): float(value) for name, value in found.items()}


def _cut_torn_line(file: Path) -> None:
    """Take off a last line that a killed process left unfinished.

    Raises:
        StoreError: if the file cannot be read, or a line is no JSON object.
    """
    try:
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with file.open("rb+") as stream:
                stream.truncate(len(whole))
    except OSError as error:
        raise StoreError(f"{file}: cannot be used: {error.strerror}") from error
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            known = isinstance(json.loads(line), dict)
        except ValueError:
            known = False
        if not known:
            raise StoreError(f"{file}:{number}: is no line of a study's journal; remove the file to begin anew")
