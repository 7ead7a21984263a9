"""Run work units on an engine and hand their results back as they finish; units whose worker died are tried again."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.runs.engines.base import (
    Engine,
    EngineError,
    EngineSettings,
    Lost,
    Outcome,
    failed_unit,
    next_message,
)
from higgsbench.runs.environment import available_cores
from higgsbench.runs.unit import UnitResult, run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from higgsbench.runs.unit import Unit, Workspace

__all__ = ["Attempts", "Engine", "EngineError", "EngineSettings", "Lost", "execute", "open_engine", "units_at_a_time"]


def units_at_a_time(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many units run at a time; for a Dask cluster, ask it and wait until it has a worker."""
    if settings.kind == "dask" and (settings.scheduler is not None or settings.cluster is not None):
        from higgsbench.runs.engines.dask import workers_of

        return workers_of(settings, say)
    return settings.jobs or available_cores()


def open_engine(workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
    """Start an engine.

    Args:
        workspace: where the events are.
        settings: which engine, how many units at a time, limits.
        say: receives notes for the user.

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
        return SerialEngine(workspace)
    from higgsbench.runs.engines.local import LocalEngine

    return LocalEngine(workspace, settings)


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
    engine = open_engine(workspace, settings, say)

    def fill() -> None:
        # A unit is handed out only when a worker is free, so an interruption loses only what was running.
        while engine.free() and (unit := attempts.next()) is not None:
            engine.start(unit)

    try:
        fill()
        while attempts.running:
            result = attempts.settle(engine.wait())
            if engine.ahead:
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

    Args:
        source: gives the next unit to start, or None where there is none now; asked whenever a worker is free, and
            again after every result.
        started: called when a unit is handed out for the first time.
        say: receives a note for each death.
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
        if unit is None:
            return None
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


class SerialEngine:
    """The engine `serial`: no process is started, so a model that crashes takes the run with it.

    Units run in one thread beside the caller's, so that Ctrl-C works while a library computes.

    Args:
        workspace: where the events are.
    """

    ahead = False

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.units: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.busy = False

    def free(self) -> bool:
        """Whether no unit is running."""
        return not self.busy

    def start(self, unit: Unit) -> None:
        """Start a unit."""
        self.busy = True
        self.units.put(unit)
        if not self.thread.is_alive():
            self.thread.start()

    def wait(self) -> Outcome:
        """Return the outcome of the unit; SystemExit and the like, raised by a model, end the run."""
        outcome = next_message(self.outcomes)
        self.busy = False
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _work(self) -> None:
        try:
            while (unit := self.units.get()) is not None:
                self.outcomes.put(run_unit(unit, self.workspace))
        except BaseException as error:
            self.outcomes.put(error)

    def close(self) -> None:
        """Interrupt the fit that is running; a fit inside a library goes on until this process ends."""
        self.units.put(None)
        if self.busy and self.thread.ident is not None:
            interrupted = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread.ident), interrupted)
            self.thread.join(0.5)
            if self.thread.is_alive():
                atexit.register(_end_beside, self.thread)


def _end_beside(thread: threading.Thread) -> None:
    """End this process while a library still computes; a normal exit would unload the memory that it uses."""
    if thread.is_alive():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(130)
