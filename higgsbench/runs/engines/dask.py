"""Units on Dask workers: of a running cluster, of a batch system, or on this machine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import queue
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import KilledWorker

from higgsbench.files import file_digest
from higgsbench.runs.engines.base import EngineError, Lost, Outcome, failed_unit
from higgsbench.runs.engines.dask_connect import Connection
from higgsbench.runs.engines.dask_worker import (
    PROBE,
    Answer,
    Call,
    Missing,
    OtherVersions,
    UnitPlugin,
    run_call,
    store_piece,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.runs.engines.base import EngineSettings
    from higgsbench.runs.unit import Task, Workspace

__all__ = ["DaskEngine", "workers_of"]

_LOOK = 0.5
"""Seconds between two looks at which workers there are."""

_PIECE = 1 << 25
"""Bytes of the events that travel at a time."""

_LONG = 30.0
"""Seconds to wait for something small from a worker before looking whether the worker is still there."""


class _WorkerGoneError(Exception):
    """A worker left while something was asked of it."""


_GONE = (KilledWorker, asyncio.CancelledError, concurrent.futures.CancelledError, _WorkerGoneError)
"""What a unit raises here when its worker is gone, or its scheduler."""


def workers_of(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many units a cluster runs at a time."""
    if settings.cluster is not None:
        found = settings.cluster.workers
    else:
        with contextlib.closing(Connection(settings, say)) as connection:
            found = len(connection.await_workers())
    return found if settings.jobs is None else min(found, settings.jobs)


class DaskEngine:
    """The engine `dask`. Every worker runs one unit at a time; which one is decided here and not by the scheduler.

    Args:
        workspace: where the events are.
        settings: cluster, jobs, threads and limits.
        say: hears of waiting.
    """

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> None:
        self.workspace, self.settings = workspace, settings
        self.token = secrets.token_hex(8)
        (Path(workspace.folder) / PROBE).write_text(self.token, encoding="utf-8")
        self.connection = Connection(settings, say)
        self.running: dict[str, tuple[Task, str, Any]] = {}
        self.ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.digests: dict[str, str] = {}
        self.known: frozenset[str] = frozenset()
        try:
            self.connection.install(UnitPlugin(self.token, settings))
            self.known = self.connection.await_workers()
        except BaseException:
            self.close()
            raise

    def free(self) -> bool:
        """Whether a worker has nothing to do; waits for one where all have left."""
        if not self.running:
            self.known = self.connection.await_workers()
        return bool(self._idle()) and (self.settings.jobs is None or len(self.running) < self.settings.jobs)

    def _idle(self) -> list[str]:
        return sorted(self.known - {address for _, address, _ in self.running.values()})

    def start(self, task: Task) -> None:
        """Send a unit to a worker."""
        self._submit(task, self._idle()[0])

    def _submit(self, task: Task, address: str) -> None:
        call = Call(
            token=self.token,
            key=task.key,
            task=cloudpickle.dumps(task, protocol=5),
            folder=str(Path(self.workspace.folder).resolve()),
            files=self._files(task),
            model_file=None if task.model_file is None else str(Path(task.model_file).resolve()),
            versions=versions(frozenset({*task.spec.requires, "numpy", "scikit-learn"})),
        )
        future = self.connection.submit(run_call, call, address=address)
        self.running[task.key] = (task, address, future)
        future.add_done_callback(self.ready.put)

    def _files(self, task: Task) -> tuple[str, ...]:
        """Files of the workspace that a unit may read: its own matrices, and what all units share."""
        others = [path.name for path in Path(self.workspace.folder).iterdir() if path.name != PROBE]
        own = tuple(name for name in (task.matrix, task.test_matrix) if name is not None)
        return tuple(sorted(n for n in others if n.startswith(own) or not n.startswith(("X-", "T-"))))

    def wait(self) -> Outcome:
        """Return what ends next.

        Raises:
            EngineError: if the scheduler was lost, or a worker is not fit for the run.
        """
        while True:
            try:
                future = self.ready.get(timeout=_LOOK)
            except queue.Empty:
                outcome = self._missed()
            else:
                outcome = self._outcome(future)
            if outcome is not None:
                return outcome

    def _missed(self) -> Outcome | None:
        """Look for a unit whose worker left."""
        self.known = self.connection.workers()
        for key, (_, address, future) in self.running.items():
            if address not in self.known:
                self.connection.forget(future)
                del self.running[key]
                return Lost(key, f"its Dask worker {address} died or left the cluster")
        return None

    def _outcome(self, future: Any) -> Outcome | None:
        found = [(key, task, address) for key, (task, address, own) in self.running.items() if own is future]
        if not found:  # of a worker that was given up
            return None
        key, task, address = found[0]
        try:
            reply = self._value(future, address)
            if isinstance(reply, Missing):
                self._send(reply.files, address)
                self._submit(task, address)
                return None
        except _GONE:
            self.known = self.connection.workers()  # says so if it is the scheduler that is gone
            reply = Answer(Lost(key, f"its Dask worker {address} died or left the cluster"))
        except EngineError:
            raise
        except Exception as error:
            reply = Answer(failed_unit(key, f"the Dask worker {address} could not run it: {error!r}"))
        if isinstance(reply, OtherVersions):
            raise EngineError(
                f"the Dask worker {address} has {reply.text}: its scores would not be the same; install the same "
                "versions on every worker"
            )
        del self.running[key]
        return _placed(reply, task)

    def _value(self, future: Any, address: str) -> Any:
        """Return what a worker computed, straight from the worker.

        Raises:
            _WorkerGoneError: if it left.
        """
        patience = _LONG
        while True:
            try:
                return future.result(timeout=patience)
            except TimeoutError:
                if address not in self.connection.workers():
                    raise _WorkerGoneError from None
                patience *= 2.0  # a large result may be on its way

    def _send(self, files: tuple[str, ...], address: str) -> None:
        """Bring files to a worker that does not see the workspace; once each, in pieces, past the scheduler."""
        for name in files:
            path = Path(self.workspace.folder) / name
            if name not in self.digests:
                self.digests[name] = file_digest(path)
            size, sent = path.stat().st_size, 0
            with path.open("rb") as stream:
                while sent < size or sent == 0:
                    piece = stream.read(_PIECE)
                    first, sent = sent == 0, sent + max(1, len(piece))
                    digest = self.digests[name] if sent >= size else None
                    data = self.connection.bring(piece, address)
                    stored = self.connection.submit(store_piece, self.token, name, data, first, digest, address=address)
                    if not self._value(stored, address):
                        raise EngineError(f"{name}: damaged on its way to the Dask worker {address}")

    def close(self) -> None:
        """End what runs, and remove files and processes from the workers."""
        futures = [future for _, _, future in self.running.values()]
        self.running.clear()
        self.connection.close(futures)


def _placed(answer: Answer, task: Task) -> Outcome:
    """Put a model that came as bytes where the run wants it."""
    outcome = answer.outcome
    if answer.model is None or isinstance(outcome, Lost) or task.model_file is None:
        return outcome
    try:
        Path(task.model_file).write_bytes(answer.model)
    except OSError as error:
        return dataclasses.replace(outcome, refused=f"{task.model_file}: cannot be written: {error.strerror or error}")
    return dataclasses.replace(outcome, model_file=task.model_file)
