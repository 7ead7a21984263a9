"""Run work units on an engine and hand their results back as they finish; units whose worker died are tried again."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.runs.engines.base import EngineSettings, Lost, Outcome, failed_unit
from higgsbench.runs.environment import available_cores
from higgsbench.runs.unit import UnitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from higgsbench.runs.engines.dask import DaskEngine
    from higgsbench.runs.engines.local import LocalEngine
    from higgsbench.runs.unit import Unit, Workspace

__all__ = ["Attempts", "EngineSettings", "Lost", "execute", "units_at_a_time"]


def units_at_a_time(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many units run at a time; for a Dask cluster, ask it and wait until it has a worker."""
    if not settings.elsewhere:
        return settings.jobs or available_cores()
    if settings.cluster is not None:
        found = settings.cluster.workers
    else:
        from higgsbench.runs.engines.dask import count_workers

        found = count_workers(settings, say)
    return min(found, settings.jobs or found)


def _opened(workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> LocalEngine | DaskEngine:
    """Start an engine: it runs one unit on each of its workers; `Attempts` decides which unit, and how often."""
    if settings.kind == "dask":
        from higgsbench.runs.engines.dask import DaskEngine

        return DaskEngine(workspace, settings, say)
    from higgsbench.runs.engines.local import LocalEngine, SerialEngine

    return (SerialEngine if settings.kind == "serial" else LocalEngine)(workspace, settings)


def execute(
    source: Callable[[], Unit | None],
    workspace: Workspace,
    settings: EngineSettings,
    started: Callable[[Unit], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Generator[UnitResult]:
    """Run units and yield results in the order in which they finish; a unit that fails is a result too.

    Args:
        source: gives the next unit to start, or None where there is none now; asked whenever a worker is free, and
            again after every result.
        workspace: where workers find the events.
        settings: which engine, how many units at a time, limits.
        started: called when a unit is handed to a worker for the first time.
        say: receives notes for the user, such as workers that died.

    Raises:
        HiggsbenchError: if the engine cannot be started or is lost as a whole.
    """
    if hasattr(signal, "siginterrupt"):  # Polars makes the system restart waits, so that Ctrl-C would not end them
        signal.siginterrupt(signal.SIGINT, True)
    attempts = Attempts(source, started, say)
    engine = _opened(workspace, settings, say)

    def fill() -> None:
        # A unit is handed out only when a worker is free, so an interruption loses only what was running.
        while engine.free() and (unit := attempts.next()) is not None:
            engine.start(unit)

    try:
        fill()
        while attempts.running:
            outcome = engine.wait()
            result = None if outcome is None else attempts.settle(outcome)
            if engine.ahead:  # before the result is processed, so that no worker idles
                fill()
            if result is not None:
                yield result
            # The result may allow the source to go on.
            fill()
    finally:
        engine.close()


class Attempts:
    """Decides which unit comes next, and retries units whose worker died.

    A unit whose worker died is tried again at once, because the unit may not be the cause: the worker may have been
    killed by hand, by a batch system, or by the kernel for memory that other units took. After a second death the unit
    waits until all others are done and runs alone; if its worker dies again, the unit is at fault and has failed.
    Arguments as for `execute`.
    """

    def __init__(
        self, source: Callable[[], Unit | None], started: Callable[[Unit], None], say: Callable[[str], None]
    ) -> None:
        self.source, self.started, self.say = source, started, say
        self.running: dict[str, Unit] = {}
        self.deaths: dict[str, list[Lost]] = {}
        self.again: deque[Unit] = deque()
        self.suspects: deque[Unit] = deque()
        self.alone = False

    def next(self) -> Unit | None:
        """Return the unit to start now, or None."""
        if self.alone:
            return None
        unit = self.again.popleft() if self.again else self.source()
        if unit is None and self.suspects and not self.running:
            unit = self.suspects.popleft()
            self.alone = True
        if unit is not None:
            self.running[unit.key] = unit
            if unit.key not in self.deaths:
                self.started(unit)
        return unit

    def settle(self, outcome: Outcome) -> UnitResult | None:
        """Take what came back; None for a unit that will be tried again."""
        unit = self.running.pop(outcome.key)
        self.alone = False
        if isinstance(outcome, UnitResult):
            self.deaths.pop(outcome.key, None)
            return outcome
        if unit.model_file is not None:
            Path(unit.model_file).unlink(missing_ok=True)
        deaths = self.deaths.setdefault(outcome.key, [])
        deaths.append(outcome)
        if len(deaths) < 3:
            (self.again if len(deaths) == 1 else self.suspects).append(unit)
            how = "it is tried again" if len(deaths) == 1 else "it is tried once more, alone, after the others"
            self.say(f"{unit.name}: {outcome.reason}; {how}")
            return None
        del self.deaths[outcome.key]
        details = "\n".join(f"attempt {i}: {death.reason}\n{death.details}" for i, death in enumerate(deaths, 1))
        return failed_unit(outcome.key, f"failed three times, the last time alone: {outcome.reason}", details)
