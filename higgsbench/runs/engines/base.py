"""What an engine is, and what all of them share: settings, and how often a unit is tried."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from higgsbench.errors import ConfigError, HiggsbenchError, MissingExtraError
from higgsbench.runs.environment import available_cores
from higgsbench.runs.unit import Task, UnitResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.runs.engines.cluster import ClusterConfig

__all__ = ["ENGINES", "Attempts", "Engine", "EngineError", "EngineSettings", "Lost", "Outcome", "failed_unit"]

ENGINES = ("local", "serial", "dask")


class EngineError(HiggsbenchError):
    """An engine cannot be started, or was lost as a whole."""


@dataclass(frozen=True)
class EngineSettings:
    """How the units of a run are carried out; none of it changes a score or belongs to the identity of a unit.

    Attributes:
        jobs: units at a time; None takes every worker of a given Dask cluster.
        threads: threads of each unit.
        engine: `local`, `serial` or `dask`; None is `local`, but with one job and no limits the process itself.
        scheduler: address of a Dask scheduler, or its scheduler file; None starts workers on this machine.
        cluster: batch system that brings Dask workers, or None.
        unit_time_limit: seconds after which a unit is ended, or None.
        unit_memory_limit: bytes of private memory at which a unit is ended, or None.
    """

    jobs: int | None = 1
    threads: int = 1
    engine: str | None = None
    scheduler: str | None = None
    cluster: ClusterConfig | None = None
    unit_time_limit: float | None = None
    unit_memory_limit: int | None = None

    @property
    def kind(self) -> str:
        """The engine that is meant.

        Raises:
            ConfigError: for choices that do not go together.
        """
        limited = self.unit_time_limit is not None or self.unit_memory_limit is not None
        elsewhere = self.scheduler is not None or self.cluster is not None
        if self.engine is None:
            return "dask" if elsewhere else "serial" if self.jobs == 1 and not limited else "local"
        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r}: choose {', '.join(ENGINES)}")
        if elsewhere and self.engine != "dask":
            raise ConfigError(f"--engine {self.engine} knows no scheduler or cluster; --engine dask does")
        if limited and self.engine == "serial":
            raise ConfigError(
                "limits of a unit need a process that can be ended: take --engine local (with --jobs 1 for one at a "
                "time) instead of serial"
            )
        return self.engine

    def check(self) -> None:
        """Check that the choices go together and the engine's libraries are there, before anything is begun.

        Raises:
            ConfigError: for choices that do not go together.
            MissingExtraError: if a library is not installed.
        """
        if self.scheduler is not None and self.cluster is not None:
            raise ConfigError("--scheduler names a running cluster and --cluster starts one; give one of them")
        if self.kind != "dask":
            return
        for library in ("distributed", *(["dask_jobqueue"] if self.cluster is not None else [])):
            if importlib.util.find_spec(library) is None:
                raise MissingExtraError("the engine dask", "dask")

    @property
    def jobs_here(self) -> int:
        """How many units run on this machine at a time: none where a scheduler or batch system has the workers."""
        if self.scheduler is not None or self.cluster is not None:
            return 0
        return self.jobs or available_cores()

    def for_units(self, number: int) -> EngineSettings:
        """Return these settings with no more jobs than there are units."""
        return self if self.jobs is None else dataclasses.replace(self, jobs=min(self.jobs, number))


@dataclass(frozen=True)
class Lost:
    """A unit whose worker went away before the unit was finished.

    Attributes:
        key: the unit's identity.
        reason: what is known about it, in one sentence.
        details: more lines, such as where the worker was, or empty.
    """

    key: str
    reason: str
    details: str = ""


Outcome = UnitResult | Lost


class Engine(Protocol):
    """Runs one unit in each of its places. It does not decide which unit, nor how often."""

    ahead: bool
    """Whether the next unit is handed out before the last result was looked at, so that no place idles meanwhile."""

    def free(self) -> bool:
        """Whether a unit can be started now."""

    def start(self, task: Task) -> None:
        """Start a unit; only when a place is free."""

    def wait(self) -> Outcome:
        """Return the outcome of the next unit that ends.

        Raises:
            EngineError: if the engine as a whole was lost.
        """

    def close(self) -> None:
        """End what is still running and remove what was put on other machines."""


def failed_unit(key: str, reason: str, details: str = "") -> UnitResult:
    """Return the result of a unit that failed; the reason is the first line of its text and the last."""
    empty = np.empty(0)
    text = f"{reason}\n\n{details.rstrip()}\n\n{reason}" if details.strip() else reason
    return UnitResult(key, empty.astype(np.int64), empty, None, 0.0, 0.0, 0.0, text)


class Attempts:
    """Decides which unit comes next, and tries those again whose worker died.

    A unit whose worker died is retried at once, for it may have been a bystander: killed by hand, by a batch system,
    or by the kernel for the memory that other units took. After a second death it waits until nothing else is left
    to do and runs alone; if its worker dies even then, the unit itself is at fault and has failed.

    Args:
        source: gives the next task to start, or None where there is none now; asked whenever a worker is free, and
            again after every result.
        started: called when a task is handed out for the first time.
        say: hears of deaths.
    """

    def __init__(
        self, source: Callable[[], Task | None], started: Callable[[Task], None], say: Callable[[str], None]
    ) -> None:
        self.source, self.started, self.say = source, started, say
        self.running: dict[str, Task] = {}
        self.deaths: dict[str, list[Lost]] = {}
        self.again: deque[Task] = deque()
        self.suspects: deque[Task] = deque()
        self.alone = False

    def next(self) -> Task | None:
        """Return the task to start now, or None."""
        if self.alone:
            return None
        task = self.again.popleft() if self.again else self.source()
        if task is None and self.suspects and not self.running:
            task = self.suspects.popleft()
            self.alone = True
        if task is None:
            return None
        self.running[task.key] = task
        if task.key not in self.deaths:
            self.started(task)
        return task

    def settle(self, outcome: Outcome) -> UnitResult | None:
        """Take what came back; None for a unit that will be tried again."""
        task = self.running.pop(outcome.key)
        self.alone = False
        if isinstance(outcome, UnitResult):
            self.deaths.pop(outcome.key, None)
            return outcome
        if task.model_file is not None:
            Path(task.model_file).unlink(missing_ok=True)
        deaths = self.deaths.setdefault(outcome.key, [])
        deaths.append(outcome)
        if len(deaths) < 3:
            (self.again if len(deaths) == 1 else self.suspects).append(task)
            how = "it is tried again" if len(deaths) == 1 else "it is tried once more, alone, after the others"
            self.say(f"{task.name}: {outcome.reason}; {how}")
            return None
        del self.deaths[outcome.key]
        details = "\n".join(f"attempt {i}: {death.reason}\n{death.details}" for i, death in enumerate(deaths, 1))
        return failed_unit(outcome.key, f"failed three times, the last time alone: {outcome.reason}", details)
