"""Run units in processes on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cloudpickle

from higgsbench.config.model import format_size
from higgsbench.runs.durations import format_duration
from higgsbench.runs.engines.base import Lost, Outcome, failed_unit
from higgsbench.runs.unit import Task, UnitResult, Workspace, run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.runs.engines.base import EngineSettings

__all__ = [
    "BEGUN",
    "LEAVES",
    "LocalEngine",
    "Order",
    "Slot",
    "hoards",
    "main",
    "private_bytes",
    "read_message",
    "write_message",
]


BEGUN = b""
"""Message of a worker that begins a unit."""

LEAVES = b"leaves"
"""Message of a worker that ends after the result it sends next; no result is as short. Its host starts another for the
next unit, perhaps before this one is gone."""

HOARD = 64e6
"""Bytes that units may leave behind in their process."""

LONG = 10.0
"""Seconds of units after which a new process, which takes about one to start, is worth the memory."""

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Order:
    """What a host asks of its worker.

    Attributes:
        task: the unit, pickled, for it may need modules that are not there.
        key: identity of the unit.
        workspace: where the events are.
        model_file: temporary file for the fitted model, or None; the host may see another folder than the run does.
        limit: seconds after which the worker notes where it is, or None.
    """

    task: bytes
    key: str
    workspace: Workspace
    model_file: str | None
    limit: float | None


def write_message(stream: BinaryIO, content: bytes) -> None:
    """Write a message."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_message(stream: BinaryIO) -> bytes | None:
    """Read a message; None where the other end is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    content = stream.read(length)
    return content if len(content) == length else None


def main(last_words: str, idle: str) -> None:
    """Run units until the host goes away.

    Args:
        last_words: file that gets the stack of a crash, or of a unit that takes longer than its limit.
        idle: seconds without a unit after which the worker ends by itself; empty for never.
    """
    source, sink = _own_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the host's affair
    _offer_to_the_kernel()
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, orders, Path(last_words)), daemon=True).start()
    with Path(last_words).open("w", encoding="utf-8") as words:
        faulthandler.enable(words)
        left_behind = worked = 0.0
        while True:
            try:
                order: Order = pickle.loads(orders.get(timeout=float(idle) if idle else None))  # noqa: S301
            except queue.Empty:
                return
            task = _unpacked(order)
            write_message(sink, BEGUN)
            if order.limit is not None:
                faulthandler.dump_traceback_later(order.limit, file=words)
            begin, memory = time.monotonic(), private_bytes()
            result = task if isinstance(task, UnitResult) else run_unit(task, order.workspace)
            faulthandler.cancel_dump_traceback_later()
            content = pickle.dumps(result, protocol=5)
            del result, task
            left_behind += private_bytes() - memory - len(content)
            worked += time.monotonic() - begin
            leaves = hoards(left_behind, worked)
            if leaves:
                write_message(sink, LEAVES)
            write_message(sink, content)
            if leaves:
                return


def hoards(left_behind: float, seconds: float) -> bool:
    """Whether a process should make room for a new one.

    Some libraries keep the memory of a fit for the next one (CatBoost 130 MB after 400,000 events), on top of which the
    next model's comes.

    Args:
        left_behind: bytes that its units left behind.
        seconds: how long they took.
    """
    return left_behind > HOARD and seconds > LONG


def private_bytes(process: int | None = None) -> float:
    """Memory that a process has for itself: resident, less what is mapped from files, where the system tells.

    Args:
        process: its number; None for this one.

    Raises:
        psutil.Error: if there is no such process.
    """
    import psutil

    memory = psutil.Process(process).memory_info()
    return float(memory.rss - getattr(memory, "shared", 0))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take the pipes to the host out of reach of what a model prints or reads."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return source, sink


def _offer_to_the_kernel() -> None:
    """Where memory runs out, a worker should be ended and not the process that keeps the run together (Linux)."""
    try:
        Path("/proc/self/oom_score_adj").write_text("800")
    except OSError:
        return


def _listen(source: BinaryIO, orders: queue.SimpleQueue[bytes], last_words: Path) -> None:
    """Hand orders on; end at once when the host is gone, in the midst of a fit too."""
    while (content := read_message(source)) is not None:
        orders.put(content)
    last_words.unlink(missing_ok=True)  # nobody is left to read it
    os._exit(1)


def _unpacked(order: Order) -> Task | UnitResult:
    """Return the task, with what its fit needs loaded: that is no part of a unit's time. Or say why there is none."""
    try:
        task: Task = pickle.loads(order.task)  # noqa: S301
    except Exception as error:
        reason = f"the model cannot be brought to a worker process: {error!r}"
        return failed_unit(order.key, " ".join(reason.split()), traceback.format_exc())
    for module in task.spec.imports:
        with contextlib.suppress(ImportError):  # the fit says so
            importlib.import_module(module)
    return dataclasses.replace(task, model_file=order.model_file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])


_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)
_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from higgsbench.runs.engines.local import main; "
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


class LocalEngine:
    """The engine `local`: one process per job. One that dies takes its unit with it and nothing else.

    Args:
        workspace: where the events are.
        settings: jobs, threads and limits.
    """

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings) -> None:
        self.workspace = workspace
        self.outcomes: queue.SimpleQueue[tuple[Slot, Outcome]] = queue.SimpleQueue()
        self.slots = [Slot(settings, self._ended, None) for _ in range(settings.jobs or 1)]
        self.idle = list(reversed(self.slots))

    def _ended(self, slot: Slot, outcome: Outcome) -> None:
        self.outcomes.put((slot, outcome))

    def free(self) -> bool:
        """Whether a process has nothing to do."""
        return bool(self.idle)

    def start(self, task: Task) -> None:
        """Send a unit to a process."""
        # By value where it must be: models are often functions of the script or notebook that registered them.
        content = cloudpickle.dumps(task, protocol=5)
        self.idle.pop().start(task.key, content, self.workspace, task.model_file)

    def wait(self) -> Outcome:
        """Return what ends next."""
        slot, outcome = self.outcomes.get()
        self.idle.append(slot)
        return outcome

    def close(self) -> None:
        """End the processes."""
        for slot in self.slots:
            slot.close()
