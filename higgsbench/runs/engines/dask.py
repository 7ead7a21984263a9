"""Run units on Dask workers: of a running cluster, of a batch system, or on this machine.

Every Dask worker keeps a worker process of higgsbench's own (`local.Slot`). So a fit runs in the same environment as on
one machine, whatever threads the Dask worker has; a fit that crashes or hangs does not take the Dask worker down; and
the Dask worker answers its scheduler while a library holds the interpreter. Everything that grows with the number of
events goes straight between this process and the workers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import queue
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, KilledWorker, LocalCluster

from higgsbench.config.document import format_duration
from higgsbench.runs.engines.base import EngineError, EngineSettings, Lost, Outcome, failed_unit
from higgsbench.runs.engines.batch import Batch
from higgsbench.runs.engines.dask_worker import PROBE, Answer, UnitPlugin, call_plugin, versions
from higgsbench.runs.engines.local import Order
from higgsbench.runs.unit import UnitResult, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from higgsbench.runs.unit import Unit

_PIECE = 1 << 25  # bytes of the events that are sent at a time
_CONNECT = 20.0  # seconds in which a scheduler must answer
_PATIENCE, _AGAIN = 10.0, 30.0  # seconds without a worker after which the user is told, and told again
_LOOK = 0.5  # seconds between two checks for workers
_LONG = 30.0  # seconds to wait for something small from a worker before checking whether the worker is still there
_ADDRESS = re.compile(r"((tcp|tls|ucx|ws|wss)://)?[\w.\-\[\]:]+:\d{1,5}")


_GONE = (KilledWorker, asyncio.CancelledError, concurrent.futures.CancelledError)  # its worker or scheduler is gone


def count_workers(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many workers a running cluster has."""
    with contextlib.closing(_Connection(settings, say)) as connection:
        return len(connection.await_workers())


class DaskEngine:
    """The engine `dask`. Every worker runs one unit at a time; this class decides which one, not the scheduler."""

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> None:
        self.folder = Path(workspace.folder).resolve()
        self.settings = settings
        plugin = UnitPlugin(secrets.token_hex(8), settings)
        (self.folder / PROBE).write_text(plugin.name, encoding="utf-8")
        self.connection = _Connection(settings, say)
        self.running: dict[Future, tuple[Unit, str]] = {}
        self.ready: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.known: frozenset[str] = frozenset()
        self.looked = time.monotonic()
        try:
            self.connection.install(plugin)
            self.known = self.connection.await_workers()
        except BaseException:
            self.close()
            raise

    def free(self) -> bool:
        """Whether a worker has nothing to do; waits for one where all have left."""
        if not self.running:
            self.known = self.connection.await_workers()
        elif time.monotonic() > self.looked + _LOOK:  # however short the fits are
            self._look()
        return bool(self._idle()) and (self.settings.jobs is None or len(self.running) < self.settings.jobs)

    def _idle(self) -> list[str]:
        return sorted(self.known - {address for _, address in self.running.values()})

    def start(self, unit: Unit) -> None:
        """Send a unit to a worker."""
        self._submit(unit, self._idle()[0])

    def _submit(self, unit: Unit, address: str) -> None:
        order = Order.of(unit, Workspace(str(self.folder)))
        others = [path.name for path in self.folder.iterdir() if path.name != PROBE]
        own = tuple(name for name in (unit.matrix, unit.test_matrix) if name is not None)
        # Its own matrices, and what all units share.
        files = tuple(sorted(n for n in others if n.startswith(own) or not n.startswith(("X-", "T-"))))
        needed = versions(frozenset({*unit.spec.requires, "numpy", "scikit-learn"}))
        future = self.connection.call(address, "run", order, files, needed)
        self.running[future] = (unit, address)
        future.add_done_callback(self.ready.put)

    def wait(self) -> Outcome | None:
        """Return the outcome of the unit that ends next, or None for a new worker; an error if one cannot serve."""
        while True:
            known = self.known
            try:
                outcome = self._outcome(self.ready.get(timeout=_LOOK))
            except queue.Empty:
                outcome = self._missed()
            if outcome is not None or self.known - known:
                return outcome

    def _look(self) -> None:
        self.known, self.looked = self.connection.workers(), time.monotonic()

    def _missed(self) -> Outcome | None:
        """Look for a unit whose worker left."""
        self._look()
        for future, (_, address) in self.running.items():
            if address not in self.known:
                future.cancel(force=True)
                return self._lost(future)
        return None

    def _lost(self, future: Future) -> Lost:
        unit, address = self.running.pop(future)
        batch = self.connection.batch
        why = "" if batch is None else batch.why(address)
        return Lost(unit.key, why or f"its Dask worker {address} died or left the cluster")

    def _outcome(self, future: Future) -> Outcome | None:
        """Return the outcome of a call; None where its worker was given up, or first needs files."""
        if future not in self.running:
            return None
        unit, address = self.running[future]
        try:
            answer = self._value(future, address)
            if answer.missing:
                self._send(answer.missing, address)
                self._submit(unit, address)
            outcome = _placed(answer, unit)
        except _GONE:
            self._look()  # raises if the scheduler is gone
            return self._lost(future)
        except EngineError:
            raise
        except Exception as error:
            outcome = failed_unit(unit.key, f"the Dask worker {address} could not run it: {error!r}")
        del self.running[future]
        return outcome

    def _value(self, future: Future, address: str) -> Any:
        """Return what a worker computed; an error of `_GONE` if it left."""
        patience = _LONG
        while True:
            try:
                return future.result(timeout=patience)
            except TimeoutError:
                if address not in self.connection.workers():
                    raise concurrent.futures.CancelledError from None
                patience *= 2.0  # a large result may be on its way

    def _send(self, files: tuple[str, ...], address: str) -> None:
        """Send files to a worker that does not see the workspace; once each, in pieces."""
        for name in files:
            size = (self.folder / name).stat().st_size
            with (self.folder / name).open("rb") as stream:
                for start in range(0, size, _PIECE):
                    data, last = self.connection.bring(stream.read(_PIECE), address), start + _PIECE >= size
                    self._value(self.connection.call(address, "store", name, data, start, last), address)

    def close(self) -> None:
        """End what runs, and remove files and processes from the workers."""
        self.connection.close(self.running)
        self.running.clear()


def _placed(answer: Answer, unit: Unit) -> Outcome | None:
    """Write a model that arrived as bytes to where the run expects it."""
    outcome = answer.outcome
    if answer.model is None or not isinstance(outcome, UnitResult) or unit.model_file is None:
        return outcome
    try:
        Path(unit.model_file).write_bytes(answer.model)
    except OSError as error:
        return dataclasses.replace(outcome, refused=f"{unit.model_file}: cannot be written: {error.strerror or error}")
    return dataclasses.replace(outcome, model_file=unit.model_file)


class _Connection:
    """A client of a scheduler.

    All methods raise an `EngineError` if the scheduler was lost, and an error of `_GONE` if a worker died meanwhile.
    """

    def __init__(self, settings: EngineSettings, say: Callable[[str], None]) -> None:
        self.say = say
        self.where = settings.scheduler or (settings.cluster.system if settings.cluster else "this machine")
        self.plugin = ""
        self.client: Any = None
        self.batch: Batch | None = None
        self.directly = True
        self.ending = contextlib.ExitStack()
        # All loggers of Dask and Tornado share this handler. They stay off the terminal: the run says what matters.
        for handler in logging.getLogger("distributed").handlers:
            self.ending.callback(handler.setLevel, handler.level)
            handler.setLevel(logging.CRITICAL + 1)
        cluster: Any = None
        try:
            if settings.cluster is not None:
                self.batch = Batch(settings.cluster, settings.threads, say, settings.jobs)
                cluster = self.batch.cluster
            elif settings.scheduler is None:
                # Workers in threads of this process: their fits run in processes of their own anyway, nothing needs to
                # be imported a second time for Dask, and a script needs no `if __name__ == "__main__"`.
                cluster = LocalCluster(
                    n_workers=settings.jobs or 1,
                    threads_per_worker=1,
                    processes=False,
                    dashboard_address="127.0.0.1:0",  # Dask listens in any case, by default on a port that may be taken
                    scheduler_kwargs={"dashboard": False},
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
            if self.batch is not None:
                self.ending.callback(self.batch.close)
            elif cluster is not None:
                self.ending.callback(cluster.close, timeout=10)
            self.client = _connected(settings.scheduler, cluster)
            self.ending.callback(self.client.close, timeout=5)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell the errors of a lost scheduler, which become one line, from those of a lost worker."""
        try:
            if self.client.status != "running":
                raise OSError("the connection is closed")
            yield
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            if self.client.status == "running" and not isinstance(error, OSError | TimeoutError):
                raise
            # The scheduler passes on the connection error of a worker that died in the middle of a call.
            if self._scheduler_answers():
                raise concurrent.futures.CancelledError from error
            raise EngineError(
                f"the Dask scheduler of {self.where} was lost; finished units are kept: call the same command again"
            ) from error

    def _scheduler_answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError, ValueError, RuntimeError):
            if self.client.status == "running":
                self.client.nthreads()
                return True
        return False

    def workers(self) -> frozenset[str]:
        """Return the addresses of the present workers; a batch system is asked for those that are missing."""
        if self.batch is not None:
            self.batch.look()
        with self._asking():
            return frozenset(self.client.nthreads())

    def await_workers(self) -> frozenset[str]:
        """Return the addresses of the workers, as soon as there is one; a batch system may take its time."""
        begin, patience = time.monotonic(), _PATIENCE
        while not (found := self.workers()):
            if time.monotonic() - begin > patience:
                jobs = "" if self.batch is None else f"; {self.batch.waiting()}"
                self.say(f"waiting for a Dask worker of {self.where} ({format_duration(patience)}){jobs}")
                patience += _AGAIN
            time.sleep(0.1)
        return found

    def install(self, plugin: UnitPlugin) -> None:
        """Put a plugin on all workers, present and future."""
        self.plugin = plugin.name
        try:
            while True:
                with contextlib.suppress(*_GONE), self._asking():
                    self.client.register_plugin(plugin, name=plugin.name)
                    return
                time.sleep(0.1)  # until the scheduler has noticed that the worker is gone
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                f"the Dask workers of {self.where} cannot import higgsbench: install the same version there ({error!r})"
            ) from error

    def call(self, address: str, method: str, *arguments: Any) -> Future:
        """Call a method of the plugin on exactly one worker."""
        call = (call_plugin, self.plugin, method, *arguments)
        with self._asking():
            return self.client.submit(*call, workers=[address], pure=False, retries=0)

    def bring(self, content: bytes, address: str) -> Future:
        """Send bytes to a worker, bypassing the scheduler where the worker can be reached."""
        with self._asking():
            if self.directly:
                with contextlib.suppress(OSError, TimeoutError):
                    return self.client.scatter(content, workers=[address], direct=True, hash=False)
                self.directly = False
            return self.client.scatter(content, workers=[address], direct=False, hash=False)

    def close(self, futures: Iterable[Future] = ()) -> None:
        """Give up what runs, clear the workers, and end a cluster that was started here."""
        # Failures are ignored: the scheduler may be gone, and its workers with it.
        with contextlib.suppress(Exception), self.ending:
            if self.client is not None and self.client.status == "running":
                self.client.cancel(list(futures), force=True)
                if self.plugin and self.batch is None:  # jobs end as a whole
                    self.client.unregister_worker_plugin(self.plugin)


def _connected(scheduler: str | None, cluster: Any) -> Client:
    how: dict[str, Any] = {"set_as_default": False, "direct_to_workers": True, "timeout": _CONNECT}
    if scheduler is None:
        return Client(cluster, **how)
    address: Any = scheduler
    if Path(scheduler).is_file():
        try:
            address = json.loads(Path(scheduler).read_bytes())["address"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise EngineError(f"--scheduler {scheduler}: not a scheduler file of Dask (JSON with an address)") from None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        which = f" names {address!r:.60}, which is" if address is not scheduler else ""
        raise EngineError(f"--scheduler {scheduler}:{which} neither an address (tcp://host:port) nor a scheduler file")
    try:
        return Client(address, **how)
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"--scheduler {scheduler}: no Dask scheduler answers there ({text})") from error
