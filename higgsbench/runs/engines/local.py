"""Run units in worker processes on this machine.

A worker is a program of its own and not a process of `multiprocessing`: scripts then need no `if __name__ ==
"__main__"`, and a Dask worker, which may not start processes of `multiprocessing`, can have one too. Host and worker
talk through two pipes that no other worker shares, so a worker that dies while sending damages only its own pipes. Both
ends are this program on one machine; nothing from a file is unpickled.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import os
import pickle
import queue
import signal
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
from higgsbench.runs.environment import LARGE, give_back
from higgsbench.runs.unit import Unit, UnitResult, Workspace, load_modules, run_unit

if TYPE_CHECKING:
    from higgsbench.runs.engines.base import EngineSettings

HOARD, LONG = 64e6, 10.0
"""A process that keeps more bytes than this after its units is replaced after this many seconds of fits: a start takes
about one second. Some libraries keep the memory of a fit for their next one (CatBoost 130 MB after 400,000 events)."""

_LOOK, _LOOK_CLOSELY = 0.25, 0.02  # seconds between two looks at a worker: without a memory limit, and with one
_BEGUN = "begun"
"""Message of a worker that begins a unit; the next is its pickled result, and whether it should be replaced."""

_START = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv.pop(1).split('\\n'); "
    "from higgsbench.runs.engines.local import main; main(*sys.argv[1:])"
)


class LocalEngine:
    """The engine `local`: one process per job. A process that dies loses its own unit and nothing else."""

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings) -> None:
        self.workspace = workspace
        self.outcomes: queue.SimpleQueue[tuple[Slot, Outcome | BaseException]] = queue.SimpleQueue()
        self.slots = [Slot(settings) for _ in range(settings.jobs or 1)]
        self.idle = list(reversed(self.slots))
        self.thread = threading.Thread()  # of the unit that was started last

    def free(self) -> bool:
        """Whether a process has nothing to do."""
        return bool(self.idle)

    def start(self, unit: Unit) -> None:
        """Run a unit in a thread that waits for its outcome."""
        slot = self.idle.pop()

        def work() -> None:
            try:
                self.outcomes.put((slot, self._run(slot, unit)))
            except BaseException as error:
                self.outcomes.put((slot, error))

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def _run(self, slot: Slot, unit: Unit) -> Outcome:
        return slot.run(Order.of(unit, self.workspace))

    def wait(self) -> Outcome:
        """Return the outcome of the unit that ends next; an `EngineError` if the system cannot start a process."""
        slot, outcome = next_message(self.outcomes)
        self.idle.append(slot)
        if isinstance(outcome, OSError):
            raise EngineError(f"no worker process can be started: {outcome.strerror or outcome}") from outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """End the processes."""
        for slot in self.slots:
            slot.close()


class SerialEngine(LocalEngine):
    """The engine `serial`: no process is started, so a model that crashes takes the run with it.

    Units run in a thread beside the caller's, so that Ctrl-C works while a library computes. SystemExit and the like,
    raised by a model, end the run.
    """

    ahead = False

    def __init__(self, workspace: Workspace, settings: EngineSettings) -> None:
        super().__init__(workspace, dataclasses.replace(settings, jobs=1))

    def _run(self, slot: Slot, unit: Unit) -> Outcome:
        return run_unit(unit, self.workspace)

    def close(self) -> None:
        """Interrupt the fit that is running; a fit inside a library goes on until this process ends."""
        if not self.idle and self.thread.is_alive():
            interrupted = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread.ident or 0), interrupted)
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


@dataclass(frozen=True)
class Order:
    """What a host asks of its worker."""

    unit: bytes  # pickled, because it may need modules that are missing there
    key: str
    workspace: Workspace
    model_file: str | None  # for the fitted model; the host may see another folder than the run does
    limit: float | None = None  # seconds after which the worker notes where it is

    @classmethod
    def of(cls, unit: Unit, workspace: Workspace) -> Order:
        """Pickle by value where needed: models are often functions of the script or notebook that registers them."""
        model_file = None if unit.model_file is None else str(Path(unit.model_file).resolve())
        return cls(cloudpickle.dumps(unit, protocol=5), unit.key, workspace, model_file)


class _Worker:
    """One process, as its host sees it."""

    def __init__(self, settings: EngineSettings, idle: float | None) -> None:
        handle, name = tempfile.mkstemp(prefix="higgsbench-worker-", suffix=".txt")
        os.close(handle)
        self.words = Path(name)
        path = "\n".join(entry or str(Path.cwd()) for entry in sys.path)
        self.process = settings.worker("-c", _START, path, name, str(idle or ""))
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.units, self.memory = 0, 0.0

    def _read(self) -> None:
        """Take what the process sends; None says that it ended."""
        stream: Any = self.process.stdout
        with contextlib.suppress(OSError, EOFError, ValueError, pickle.UnpicklingError):
            while True:
                self.messages.put(pickle.load(stream))  # noqa: S301 - from our own process, through our pipe
        self.messages.put(None)

    def end(self) -> tuple[int, str]:
        """End the process, whatever it does; return its exit code and last words."""
        self.process.kill()
        code = self.process.wait()
        self.reader.join(1.0)  # a process that a model forked may hold the pipe open
        for stream in filter(None, (self.process.stdin, self.process.stdout)):
            with contextlib.suppress(OSError):
                stream.close()
        words = ""
        with contextlib.suppress(OSError):
            words = self.words.read_text(encoding="utf-8", errors="replace")
            self.words.unlink()
        return code, words


class Slot:
    """Runs one unit at a time in a process that is kept from unit to unit, and ends by itself after `idle` seconds."""

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
        with self.lock:
            if self.closed:
                return Lost(order.key, "the run was ended")
            if self.worker is not None and self.worker.process.poll() is not None:  # it ended while it was idle
                self.worker.end()
                self.worker = None
            worker = self.worker = self.worker or _Worker(self.settings, self.idle)
        worker.units, worker.memory = worker.units + 1, 0.0
        try:
            _send(dataclasses.replace(order, limit=self.settings.unit_time_limit), worker.process.stdin)
        except (OSError, ValueError):  # it has just ended, or the slot was closed
            worker.process.kill()
        reply, verdict = self._watch(worker)
        if reply is None:
            return _ending(order.key, worker, verdict, *self._drop(worker))
        content, leaves = reply
        if verdict or leaves:
            self._drop(worker)
        result: UnitResult = pickle.loads(content)  # noqa: S301 - from our own process, through our pipe
        return result

    def _watch(self, worker: _Worker) -> tuple[tuple[bytes, bool] | None, str]:
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
    how = {known.value: known.name for known in signal.Signals}.get(-code, f"signal {-code}")
    hint = ", usually for lack of memory" if how == "SIGKILL" else ""
    return Lost(key, f"its worker process was killed by {how}{held}{hint}", words)


def private_bytes(process: int | None = None) -> float:
    """Return the private memory of a process: resident, minus what is mapped from files where this is known."""
    memory = psutil.Process(process).memory_info()
    return float(memory.rss - getattr(memory, "shared", 0))


def main(last_words: str, idle: str) -> None:
    """Run units as a worker process until the host goes away.

    Args:
        last_words: file that gets the stack of a crash, or of a unit that takes longer than its limit.
        idle: seconds without a unit after which the worker ends by itself; empty for never.
    """
    # What a model prints or reads does not reach the pipes to the host.
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interruptions are handled by the host
    with contextlib.suppress(OSError):  # Linux: when memory runs out, kill a worker rather than the run's own process
        Path("/proc/self/oom_score_adj").write_text("800")
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, orders, Path(last_words)), daemon=True).start()
    left_behind = worked = 0.0
    with Path(last_words).open("w", encoding="utf-8") as words, contextlib.suppress(queue.Empty):
        faulthandler.enable(words)
        while True:
            order = orders.get(timeout=float(idle) if idle else None)
            unit = _unpacked(order)
            if not gc.isenabled():  # looking for cycles lengthens the first imports by a tenth and finds none
                gc.freeze()
                gc.enable()
            _send(_BEGUN, sink)
            if order.limit is not None:
                faulthandler.dump_traceback_later(order.limit, file=words)
            begin, memory = time.monotonic(), private_bytes()
            result = unit if isinstance(unit, UnitResult) else run_unit(unit, order.workspace)
            faulthandler.cancel_dump_traceback_later()
            content = pickle.dumps(result, protocol=5)
            del result, unit
            memory += len(content)
            if left_behind + private_bytes() - memory > HOARD:  # it may be free, but held by the C library
                give_back(LARGE)
            left_behind += private_bytes() - memory
            worked += time.monotonic() - begin
            _send((content, left_behind > HOARD and worked > LONG), sink)
            del content


def _send(message: object, sink: Any) -> None:
    pickle.dump(message, sink, protocol=5)
    sink.flush()


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
