"""The host's end of a worker process: start it, feed it, watch it, and know why it ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench.config.sizes import format_size
from higgsbench.runs.durations import format_duration
from higgsbench.runs.engines.base import Lost, Outcome, failed_unit
from higgsbench.runs.engines.worker import BEGUN, LEAVES, Order, private_bytes, read_message, write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.runs.engines.base import EngineSettings
    from higgsbench.runs.unit import Workspace

__all__ = ["Slot"]

_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)
_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from higgsbench.runs.engines.worker import main; "
    "main(*sys.argv[1:])"
)
_LOOK, _LOOK_CLOSELY = 0.25, 0.02
"""Seconds between two looks at a worker's memory: without a limit, and with one."""

_LEAVING = 5.0
"""Seconds that a worker has to end by itself when it has said that it will."""

_LAST_WORDS = 0.5
"""Seconds that a worker over its time limit has to write down where it is."""


@dataclass(eq=False)
class _Worker:
    """One process and the unit it works on."""

    process: subprocess.Popen[bytes]
    words: Path
    key: str | None = None
    begun: float | None = None
    units: int = 0
    memory: float = 0.0
    idle: float = 0.0
    verdict: str = ""
    used: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class Slot:
    """A place for one unit at a time, in a process that is kept from unit to unit.

    Every library is held to `threads` threads, so that processes never fight over cores and results do not depend on
    the machine's number of cores.

    Args:
        settings: threads and limits.
        ended: called, in a thread of the slot, with the outcome of a unit that ended.
        idle: seconds without a unit after which the process ends by itself, or None.
    """

    def __init__(self, settings: EngineSettings, ended: Callable[[Slot, Outcome], None], idle: float | None) -> None:
        self.settings, self.ended, self.idle = settings, ended, idle
        self.worker: _Worker | None = None
        self.leaving: list[_Worker] = []
        self.lock = threading.Lock()

    def start(self, key: str, task: bytes, workspace: Workspace, model_file: str | None) -> None:
        """Start a unit.

        Args:
            key: its identity.
            task: the pickled task.
            workspace: where the events are.
            model_file: temporary file for the fitted model, or None where it is not kept.
        """
        order = pickle.dumps(Order(task, key, workspace, model_file, self.settings.unit_time_limit), protocol=5)
        with self.lock:
            for attempt in (1, 2):
                worker = self._living()
                worker.key, worker.begun, worker.memory, worker.verdict = key, None, 0.0, ""
                worker.units += 1
                try:
                    write_message(worker.process.stdin, order)  # type: ignore[arg-type]
                except OSError:  # it ended while it was idle
                    if attempt == 2:
                        raise
                    worker.key = None
                    self.worker = None
                else:
                    return

    def close(self) -> None:
        """End the process, whatever it does, and wait until it is gone; its unit has no outcome."""
        with self.lock:
            workers = [*self.leaving, *([] if self.worker is None else [self.worker])]
            self.worker = None
        for worker in workers:
            worker.key = None
            worker.process.kill()
        for worker in workers:
            worker.over.wait(10.0)

    def _living(self) -> _Worker:
        if self.worker is None or self.worker.process.poll() is not None:
            self.worker = self._new()
        return self.worker

    def _new(self) -> _Worker:
        handle, name = tempfile.mkstemp(prefix="higgsbench-worker-", suffix=".txt")
        os.close(handle)
        path = "\n".join(entry or str(Path.cwd()) for entry in sys.path)
        command = [sys.executable, "-c", _START, path, name, "" if self.idle is None else str(self.idle)]
        env = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self.settings.threads))}
        pipe = subprocess.PIPE
        with _interrupts_held_back():
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env)
        worker = _Worker(process, Path(name))
        for work in (self._read, self._watch):
            threading.Thread(target=work, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: _Worker) -> None:
        """Take what a worker sends, until it ends."""
        stream: Any = worker.process.stdout
        with contextlib.suppress(OSError):
            while (content := read_message(stream)) is not None:
                if content == BEGUN:
                    worker.begun = time.monotonic()
                elif content == LEAVES:
                    with self.lock:
                        self.leaving.append(worker)
                        if self.worker is worker:
                            self.worker = None
                else:
                    key, worker.key, worker.begun = worker.key, None, None
                    if key is not None:
                        self.ended(self, pickle.loads(content))  # noqa: S301 - from our own process, through our pipe
        code = worker.process.wait()
        words = worker.words.read_text(encoding="utf-8", errors="replace")
        worker.words.unlink(missing_ok=True)
        for end in (worker.process.stdin, worker.process.stdout):
            with contextlib.suppress(OSError):
                end.close()  # type: ignore[union-attr]
        key, worker.key = worker.key, None
        with self.lock:
            if worker in self.leaving:
                self.leaving.remove(worker)
        worker.over.set()
        if key is not None:
            self.ended(self, _ending(worker, key, code, words))

    def _watch(self, worker: _Worker) -> None:
        """End a worker that exceeds a limit, and remember how much memory it took."""
        import psutil

        time_limit, memory_limit = self.settings.unit_time_limit, self.settings.unit_memory_limit
        pause = _LOOK if memory_limit is None else _LOOK_CLOSELY
        with contextlib.suppress(psutil.Error):
            while not worker.over.wait(pause):
                begun = worker.begun
                if begun is None:
                    worker.idle += pause
                    if worker in self.leaving and worker.idle > _LEAVING:
                        worker.process.kill()
                    continue
                worker.idle = 0.0
                worker.memory = private_bytes(worker.process.pid)
                if memory_limit is not None and worker.memory > memory_limit:
                    worker.used = worker.units > 1
                    _end(worker, f"exceeded the unit memory limit of {format_size(memory_limit)}")
                elif time_limit is not None and time.monotonic() - begun > time_limit + _LAST_WORDS:
                    _end(worker, f"exceeded the unit time limit of {format_duration(time_limit)}")


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start a process that hears of no Ctrl-C: it begins before it can say so itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(worker: _Worker, verdict: str) -> None:
    if not worker.verdict and worker.begun is not None:
        worker.verdict = verdict
        worker.process.kill()


def _ending(worker: _Worker, key: str, code: int, words: str) -> Outcome:
    """Say why a worker ended in the midst of a unit. A limit is the unit's own fault; anything else may not be."""
    if worker.used:  # what earlier units left behind counted too
        return Lost(key, f"its worker process, which had run other units, {worker.verdict}", words)
    if worker.verdict:
        return failed_unit(key, worker.verdict, words)
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"ended with exit code {code}"
    held = f" holding {format_size(worker.memory)} of memory" if worker.memory else ""
    hint = ", most often for lack of memory" if -code == getattr(signal, "SIGKILL", None) else ""
    return Lost(key, f"its worker process was {how}{held}{hint}" if code < 0 else f"its worker process {how}{held}",
                words)  # fmt: skip
