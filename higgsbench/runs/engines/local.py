"""Run units in worker processes on this machine.

A worker is a program of its own and not a process of `multiprocessing`: scripts then need no `if __name__ ==
"__main__"`, and a Dask worker, which may not start processes of `multiprocessing`, can have one too. Host and worker
talk through two pipes that no other worker shares, so a worker that dies while sending damages only its own pipes. Both
ends are this program on one machine; nothing from a file is unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cloudpickle
import psutil

from higgsbench.config.document import format_size
from higgsbench.runs.engines.base import EngineError, Lost, Outcome, failed_unit, next_message
from higgsbench.runs.unit import Unit, UnitResult, Workspace, load_modules, run_unit

if TYPE_CHECKING:
    from higgsbench.runs.engines.base import EngineSettings

HOARD = 64e6
"""Bytes that units may leave allocated in their process."""

LONG = 10.0
"""Seconds of fits after which a new process, which starts in about one second, is worth the memory."""

_LOOK, _LOOK_CLOSELY = 0.25, 0.02
"""Seconds between two looks at a worker: without a memory limit, and with one."""

_BEGUN = "begun"
"""Message of a worker that begins a unit."""

_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from higgsbench.runs.engines.local import main; "
    "main(*sys.argv[1:])"
)


class LocalEngine:
    """The engine `local`: one process per job. A process that dies loses its own unit and nothing else.

    Args:
        workspace: where the events are.
        settings: jobs, threads and limits.
    """

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings) -> None:
        self.workspace = workspace
        self.outcomes: queue.SimpleQueue[tuple[Slot, Outcome | OSError]] = queue.SimpleQueue()
        self.slots = [Slot(settings) for _ in range(settings.jobs or 1)]
        self.idle = list(reversed(self.slots))

    def free(self) -> bool:
        """Whether a process has nothing to do."""
        return bool(self.idle)

    def start(self, unit: Unit) -> None:
        """Send a unit to a process, in a thread that waits for its outcome."""
        # Pickled by value where needed, because models are often functions of the script or notebook that registered
        # them.
        order = Order(cloudpickle.dumps(unit, protocol=5), unit.key, self.workspace, unit.model_file)
        threading.Thread(target=self._run, args=(self.idle.pop(), order), daemon=True).start()

    def _run(self, slot: Slot, order: Order) -> None:
        try:
            self.outcomes.put((slot, slot.run(order)))
        except OSError as error:
            self.outcomes.put((slot, error))

    def wait(self) -> Outcome:
        """Return the outcome of the unit that ends next.

        Raises:
            EngineError: if the system cannot start a process.
        """
        slot, outcome = next_message(self.outcomes)
        self.idle.append(slot)
        if isinstance(outcome, OSError):
            raise EngineError(f"no worker process can be started: {outcome.strerror or outcome}") from outcome
        return outcome

    def close(self) -> None:
        """End the processes."""
        for slot in self.slots:
            slot.close()


@dataclass(frozen=True)
class Order:
    """What a host asks of its worker.

    Attributes:
        unit: the unit, pickled, because it may need modules that are missing there.
        key: identity of the unit.
        workspace: where the events are.
        model_file: temporary file for the fitted model, or None; the host may see another folder than the run does.
        limit: seconds after which the worker notes where it is, or None.
    """

    unit: bytes
    key: str
    workspace: Workspace
    model_file: str | None
    limit: float | None = None


@dataclass(frozen=True)
class _Reply:
    """What a worker answers: its pickled result, and whether it makes room for a new process afterwards."""

    result: bytes
    leaves: bool


class _Worker:
    """One process, as its host sees it.

    Args:
        environment: variables of the process besides those of its host.
        idle: seconds without a unit after which the process ends by itself, or None.
    """

    def __init__(self, environment: dict[str, str], idle: float | None) -> None:
        handle, name = tempfile.mkstemp(prefix="higgsbench-worker-", suffix=".txt")
        os.close(handle)
        self.words = Path(name)
        path = "\n".join(entry or str(Path.cwd()) for entry in sys.path)
        # A group of its own, which Ctrl-C in a terminal does not reach.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, path, name, "" if idle is None else str(idle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            process_group=0,
        )
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.units = 0
        self.memory = 0.0

    def _read(self) -> None:
        """Take what the process sends; None says that it ended."""
        stream: Any = self.process.stdout
        with contextlib.suppress(OSError, EOFError, ValueError, pickle.UnpicklingError):
            while True:
                self.messages.put(pickle.load(stream))  # noqa: S301 - from our own process, through our pipe
        self.messages.put(None)

    def send(self, order: Order) -> None:
        """Give the process a unit.

        Raises:
            OSError: if it has ended.
        """
        pickle.dump(order, self.process.stdin, protocol=5)  # type: ignore[arg-type]
        self.process.stdin.flush()  # type: ignore[union-attr]
        self.units += 1
        self.memory = 0.0

    def end(self) -> tuple[int, str]:
        """End the process, whatever it does; return its exit code and last words."""
        self.process.kill()
        code = self.process.wait()
        self.reader.join(1.0)  # a process that a model forked may hold the pipe open
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        words = ""
        with contextlib.suppress(OSError):
            words = self.words.read_text(encoding="utf-8", errors="replace")
            self.words.unlink()
        return code, words


class Slot:
    """Runs one unit at a time in a process that is kept from unit to unit.

    Args:
        settings: threads and limits.
        idle: seconds without a unit after which the process ends by itself, or None.
    """

    def __init__(self, settings: EngineSettings, idle: float | None = None) -> None:
        self.settings, self.idle = settings, idle
        self.worker: _Worker | None = None
        self.lock = threading.Lock()
        self.closed = False

    def run(self, order: Order) -> Outcome:
        """Run a unit and return its outcome, a loss if the process ends before the unit does.

        Raises:
            OSError: if no process can be started.
        """
        worker = self._given(dataclasses.replace(order, limit=self.settings.unit_time_limit))
        if worker is None:
            return Lost(order.key, "the run was ended")
        reply, verdict = self._watch(worker)
        if reply is not None:
            if verdict or reply.leaves:
                self._drop(worker)
            result: UnitResult = pickle.loads(reply.result)  # noqa: S301 - from our own process, through our pipe
            return result
        return _ending(order.key, worker, verdict, *self._drop(worker))

    def _given(self, order: Order) -> _Worker | None:
        """Give a unit to the process, or to a new one where it has ended; None if the slot is closed."""
        while True:
            with self.lock:
                if self.closed:
                    return None
                fresh = self.worker is None
                worker = self.worker = self.worker or _Worker(self.settings.environment, self.idle)
            try:
                worker.send(order)
            except (OSError, ValueError):  # it ended while it was idle, or the slot was closed
                self._drop(worker)
                if fresh:
                    raise
            else:
                return worker

    def _watch(self, worker: _Worker) -> tuple[_Reply | None, str]:
        """Wait for a worker's reply and end the worker if it exceeds a limit; return the reply and which limit."""
        pause = _LOOK if self.settings.unit_memory_limit is None else _LOOK_CLOSELY
        begun, verdict = None, ""
        while True:
            try:
                message = worker.messages.get(timeout=pause)
            except queue.Empty:
                if worker.process.poll() is not None:
                    return None, verdict
                if begun is not None and not verdict:
                    with contextlib.suppress(psutil.Error):
                        worker.memory = private_bytes(worker.process.pid)
                    verdict = self.settings.exceeded(time.monotonic() - begun, worker.memory)
                    if verdict:
                        worker.process.kill()
            else:
                if message != _BEGUN:
                    return message, verdict
                begun = time.monotonic()

    def _drop(self, worker: _Worker) -> tuple[int, str]:
        with self.lock:
            if self.worker is worker:
                self.worker = None
        return worker.end()

    def close(self) -> None:
        """End the process, whatever it does; its unit is lost."""
        with self.lock:
            self.closed = True
            worker = self.worker
        if worker is not None:
            worker.end()


def _ending(key: str, worker: _Worker, verdict: str, code: int, words: str) -> Outcome:
    """Say why a worker ended in the middle of a unit. A limit is the unit's own fault; anything else may not be."""
    if verdict.startswith("exceeded the unit memory") and worker.units > 1:  # earlier units left something behind
        return Lost(key, f"its worker process, which had run other units, {verdict}", words)
    if verdict:
        return failed_unit(key, verdict, words)
    held = f" holding {format_size(worker.memory)} of memory" if worker.memory else ""
    if code >= 0:
        return Lost(key, f"its worker process ended with exit code {code}{held}", words)
    try:
        how = f"killed by {signal.Signals(-code).name}"
    except ValueError:
        how = f"killed by signal {-code}"
    hint = ", usually for lack of memory" if -code == getattr(signal, "SIGKILL", None) else ""
    return Lost(key, f"its worker process was {how}{held}{hint}", words)


def private_bytes(process: int | None = None) -> float:
    """Return the private memory of a process: resident, minus what is mapped from files where this is known.

    Args:
        process: its number; None for this one.

    Raises:
        psutil.Error: if there is no such process.
    """
    memory = psutil.Process(process).memory_info()
    return float(memory.rss - getattr(memory, "shared", 0))


def hoards(left_behind: float, seconds: float) -> bool:
    """Whether a process should make room for a new one.

    Some libraries keep the memory of a fit for their next one (CatBoost 130 MB after 400,000 events).

    Args:
        left_behind: bytes that its units left behind.
        seconds: how long they took.
    """
    return left_behind > HOARD and seconds > LONG


def main(last_words: str, idle: str) -> None:
    """Run units as a worker process until the host goes away.

    Args:
        last_words: file that gets the stack of a crash, or of a unit that takes longer than its limit.
        idle: seconds without a unit after which the worker ends by itself; empty for never.
    """
    source, sink = _own_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interruptions are handled by the host
    with contextlib.suppress(OSError):  # Linux: when memory runs out, kill a worker rather than the run's own process
        Path("/proc/self/oom_score_adj").write_text("800")
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, orders, Path(last_words)), daemon=True).start()
    left_behind = worked = 0.0
    with Path(last_words).open("w", encoding="utf-8") as words:
        faulthandler.enable(words)
        while True:
            try:
                order = orders.get(timeout=float(idle) if idle else None)
            except queue.Empty:
                return
            unit = _unpacked(order)
            _send(_BEGUN, sink)
            if order.limit is not None:
                faulthandler.dump_traceback_later(order.limit, file=words)
            begin, memory = time.monotonic(), private_bytes()
            result = unit if isinstance(unit, UnitResult) else run_unit(unit, order.workspace)
            faulthandler.cancel_dump_traceback_later()
            content = pickle.dumps(result, protocol=5)
            del result, unit
            left_behind += private_bytes() - memory - len(content)
            worked += time.monotonic() - begin
            _send(_Reply(content, hoards(left_behind, worked)), sink)
            del content


def _send(message: object, sink: BinaryIO) -> None:
    pickle.dump(message, sink, protocol=5)
    sink.flush()


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take the pipes to the host out of reach of what a model prints or reads."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return source, sink


def _listen(source: BinaryIO, orders: queue.SimpleQueue[Order], last_words: Path) -> None:
    """Pass orders on; end the process at once when the host is gone, even in the middle of a fit."""
    with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
        while True:
            orders.put(pickle.load(source))  # noqa: S301 - from our own host, through our pipe
    last_words.unlink(missing_ok=True)  # no process is left to read it
    os._exit(1)


def _unpacked(order: Order) -> Unit | UnitResult:
    """Return the unit, with the modules of its fit loaded; or say why it cannot be read."""
    try:
        unit: Unit = pickle.loads(order.unit)  # noqa: S301 - from our own host, through our pipe
    except Exception as error:
        reason = f"the model cannot be sent to a worker process: {error!r}"
        return failed_unit(order.key, " ".join(reason.split()), traceback.format_exc())
    load_modules(unit)
    return dataclasses.replace(unit, model_file=order.model_file)
