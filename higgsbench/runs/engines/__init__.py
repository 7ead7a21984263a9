"""Run work units on an engine and hand their results back as they finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.runs.engines.base import Attempts, Engine, EngineError, EngineSettings, Lost
from higgsbench.runs.environment import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from higgsbench.runs.unit import Task, UnitResult, Workspace

__all__ = ["Engine", "EngineError", "EngineSettings", "Lost", "execute", "open_engine", "units_at_a_time"]


def units_at_a_time(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many units run at a time; a Dask cluster is asked, and waited for until it has a worker."""
    if settings.kind == "dask" and (settings.scheduler is not None or settings.cluster is not None):
        from higgsbench.runs.engines.dask import workers_of

        return workers_of(settings, say)
    return settings.jobs or available_cores()


def open_engine(workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
    """Start an engine.

    Args:
        workspace: where the events are.
        settings: which engine, how many units at a time, limits.
        say: hears what is worth a line.

    Raises:
        ConfigError: for choices that do not go together.
        MissingExtraError: if the engine's libraries are not installed.
        EngineError: if the engine cannot be started.
    """
    kind = settings.kind
    if kind == "dask":
        from higgsbench.runs.engines.dask import DaskEngine

        return DaskEngine(workspace, settings, say)
    if kind == "serial":
        from higgsbench.runs.engines.base import SerialEngine

        return SerialEngine(workspace)
    from higgsbench.runs.engines.local import LocalEngine

    return LocalEngine(workspace, settings)


def execute(
    source: Callable[[], Task | None],
    workspace: Workspace,
    settings: EngineSettings,
    started: Callable[[Task], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Generator[UnitResult]:
    """Run tasks and yield results in the order in which they finish; a unit that fails is a result too.

    Args:
        source: gives the next task to start, or None where there is none now; asked whenever a worker is free, and
            again after every result.
        workspace: where workers find the events.
        settings: which engine, how many units at a time, limits.
        started: called when a task is handed to a worker for the first time.
        say: hears of workers that died, and of what else is worth a line.

    Raises:
        HiggsbenchError: if the engine cannot be started or is lost as a whole.
    """
    attempts = Attempts(source, started, say)
    engine = open_engine(workspace, settings, say)

    def fill() -> None:
        # No task is handed out before a worker is free: the list of running models stays true, and an interruption
        # loses only what was running.
        while engine.free() and (task := attempts.next()) is not None:
            engine.start(task)

    try:
        fill()
        while attempts.running:
            result = attempts.settle(engine.wait())
            if engine.ahead:
                fill()
            if result is not None:
                yield result
            # What came back may have let the source go on.
            fill()
    finally:
        engine.close()
