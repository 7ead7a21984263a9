"""The worker process: takes units from its host through a pipe, runs them, sends the results back.

A process of its own and not a pool, so that whoever dies is known, and its host may be any process, a Dask worker too
(which is a daemon and may not start processes of `multiprocessing`). Both ends of the pipe are this program on one
machine; nothing from a file is unpickled.
"""

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
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from higgsbench.runs.engines.base import failed_unit
from higgsbench.runs.unit import Task, UnitResult, Workspace, run_unit

__all__ = ["BEGUN", "LEAVES", "Order", "hoards", "main", "private_bytes", "read_message", "write_message"]

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
    import higgsbench.models.building
    import higgsbench.validation.physical  # noqa: F401

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
