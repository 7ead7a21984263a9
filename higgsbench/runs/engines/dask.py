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
import platform
import queue
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, get_worker

from higgsbench import __version__
from higgsbench.runs.engines.base import EngineError, EngineSettings, Lost, Outcome, failed_unit, start_cluster
from higgsbench.runs.engines.local import Order, Slot
from higgsbench.runs.environment import package_version
from higgsbench.runs.unit import UnitResult, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.runs.unit import Unit

PROBE = "probe"
"""File in a workspace that tells a worker that it sees the same folder."""

_IDLE = 300.0
"""Seconds after which a process without a unit ends by itself, in case the run that began it has vanished."""

_CONNECT = 20.0
"""Seconds in which a scheduler must answer."""

_PATIENCE = 5.0
"""Seconds without a worker after which the user is told."""

_LOOK = 0.5
"""Seconds between two checks for workers."""

_PIECE = 1 << 25
"""Bytes of the events that are sent at a time."""

_LONG = 30.0
"""Seconds to wait for something small from a worker before checking whether the worker is still there."""

_ADDRESS = re.compile(r"((tcp|tls|ucx|ws|wss)://)?[\w.\-\[\]:]+:\d{1,5}")


@dataclass(frozen=True)
class Call:
    """A unit on its way to a worker; its size does not depend on the number of events.

    Attributes:
        token: the run's own word.
        order: the unit; workspace and model file as the run sees them.
        files: names of the files of the workspace that the unit reads.
        versions: the run's versions of everything that determines scores.
    """

    token: str
    order: Order
    files: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a worker answers.

    Attributes:
        outcome: of the unit, or None where files are missing.
        model: the fitted model's bytes where the worker does not see the run's folder.
        missing: files of the workspace that the worker neither sees nor has.
    """

    outcome: Outcome | None
    model: bytes | None = None
    missing: tuple[str, ...] = ()


class _WorkerGoneError(Exception):
    """A worker left during a call to it."""


_GONE = (KilledWorker, asyncio.CancelledError, concurrent.futures.CancelledError, _WorkerGoneError)
"""What a unit raises here when its worker or scheduler is gone."""

_GONE_AWAY = "died or left the cluster"


def workers_of(settings: EngineSettings, say: Callable[[str], None]) -> int:
    """Return how many units a cluster runs at a time."""
    if settings.cluster is not None:
        found = settings.cluster.workers
    else:
        with contextlib.closing(_Connection(settings, say)) as connection:
            found = len(connection.await_workers())
    return found if settings.jobs is None else min(found, settings.jobs)


class DaskEngine:
    """The engine `dask`. Every worker runs one unit at a time; this class decides which one, not the scheduler.

    Args:
        workspace: where the events are.
        settings: cluster, jobs, threads and limits.
        say: receives a line while the run waits for workers.
    """

    ahead = True

    def __init__(self, workspace: Workspace, settings: EngineSettings, say: Callable[[str], None]) -> None:
        self.folder = Path(workspace.folder).resolve()
        self.settings = settings
        self.token = secrets.token_hex(8)
        (self.folder / PROBE).write_text(self.token, encoding="utf-8")
        self.connection = _Connection(settings, say)
        self.running: dict[str, tuple[Unit, str, Any]] = {}
        self.ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
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

    def start(self, unit: Unit) -> None:
        """Send a unit to a worker."""
        self._submit(unit, self._idle()[0])

    def _submit(self, unit: Unit, address: str) -> None:
        model_file = None if unit.model_file is None else str(Path(unit.model_file).resolve())
        order = Order(cloudpickle.dumps(unit, protocol=5), unit.key, Workspace(str(self.folder)), model_file)
        others = [path.name for path in self.folder.iterdir() if path.name != PROBE]
        own = tuple(name for name in (unit.matrix, unit.test_matrix) if name is not None)
        # Its own matrices, and what all units share.
        files = tuple(sorted(n for n in others if n.startswith(own) or not n.startswith(("X-", "T-"))))
        call = Call(self.token, order, files, versions(frozenset({*unit.spec.requires, "numpy", "scikit-learn"})))
        future = self.connection.submit(run_call, call, address=address)
        self.running[unit.key] = (unit, address, future)
        future.add_done_callback(self.ready.put)

    def wait(self) -> Outcome:
        """Return the outcome of the unit that ends next.

        Raises:
            EngineError: if the scheduler was lost, or a worker cannot serve the run.
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
                future.cancel(force=True)
                del self.running[key]
                return Lost(key, f"its Dask worker {address} {_GONE_AWAY}")
        return None

    def _outcome(self, future: Any) -> Outcome | None:
        found = [(key, unit, address) for key, (unit, address, own) in self.running.items() if own is future]
        if not found:  # of a worker that was given up
            return None
        key, unit, address = found[0]
        try:
            answer = self._value(future, address)
            if answer.missing:
                self._send(answer.missing, address)
                self._submit(unit, address)
                return None
        except _GONE:
            self.known = self.connection.workers()  # raises if the scheduler is gone
            answer = Answer(Lost(key, f"its Dask worker {address} {_GONE_AWAY}"))
        except EngineError:
            raise
        except Exception as error:
            answer = Answer(failed_unit(key, f"the Dask worker {address} could not run it: {error!r}"))
        del self.running[key]
        return _placed(answer, unit)

    def _value(self, future: Any, address: str) -> Any:
        """Return what a worker computed.

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
        """Send files to a worker that does not see the workspace; once each, in pieces."""
        for name in files:
            with (self.folder / name).open("rb") as stream:
                start, piece = 0, stream.read(_PIECE)
                while piece:
                    following = stream.read(_PIECE)
                    data = self.connection.bring(piece, address)
                    arguments = (self.token, name, data, start, not following)
                    self._value(self.connection.submit(store_piece, *arguments, address=address), address)
                    start, piece = start + len(piece), following

    def close(self) -> None:
        """End what runs, and remove files and processes from the workers."""
        futures = [future for _, _, future in self.running.values()]
        self.running.clear()
        self.connection.close(futures)


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

    Args:
        settings: which cluster.
        say: receives a line while the run waits for workers.

    Raises:
        EngineError: if no scheduler answers, or no cluster can be started.
    """

    def __init__(self, settings: EngineSettings, say: Callable[[str], None]) -> None:
        self.say = say
        self.where = settings.scheduler or (settings.cluster.system if settings.cluster else "this machine")
        self.plugin: str | None = None
        self.quiet = contextlib.ExitStack()
        self.quiet.enter_context(_silent())
        self.cluster: Any = None
        self.client: Any = None
        self.directly = True
        try:
            if settings.scheduler is None:
                self.cluster = _started(settings)
            self.client = _connected(settings.scheduler, self.cluster)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn the errors of a lost scheduler into one line."""
        try:
            if self.client.status != "running":
                raise OSError("the connection is closed")
            yield
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            if self.client.status == "running" and not isinstance(error, OSError | TimeoutError):
                raise
            raise EngineError(
                f"the Dask scheduler of {self.where} was lost; finished units are kept: call the same command again"
            ) from error

    def workers(self) -> frozenset[str]:
        """Return the addresses of the present workers.

        Raises:
            EngineError: if the scheduler was lost.
        """
        with self._asking():
            return frozenset(self.client.nthreads())

    def await_workers(self) -> frozenset[str]:
        """Return the addresses of the workers, as soon as there is one; a batch system may take its time."""
        begin, told = time.monotonic(), False
        while not (found := self.workers()):
            if not told and time.monotonic() - begin > _PATIENCE:
                told = True
                self.say(f"waiting for a Dask worker of {self.where}")
            time.sleep(0.1)
        return found

    def install(self, plugin: UnitPlugin) -> None:
        """Put a plugin on all workers, present and future.

        Raises:
            EngineError: if a worker cannot take it.
        """
        self.plugin = plugin.name
        try:
            with self._asking():
                self.client.register_plugin(plugin, name=plugin.name)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                f"the Dask workers of {self.where} cannot import higgsbench: install the same version there ({error!r})"
            ) from error

    def submit(self, function: Callable[..., Any], *arguments: Any, address: str) -> Any:
        """Call a function on exactly one worker."""
        with self._asking():
            return self.client.submit(function, *arguments, workers=[address], pure=False, retries=0)

    def bring(self, content: bytes, address: str) -> Any:
        """Send bytes to a worker, bypassing the scheduler where the worker can be reached."""
        with self._asking():
            if self.directly:
                try:
                    return self.client.scatter(content, workers=[address], direct=True, hash=False)
                except (OSError, TimeoutError):
                    self.directly = False
            return self.client.scatter(content, workers=[address], direct=False, hash=False)

    def close(self, futures: list[Any] | None = None) -> None:
        """Give up what runs, clear the workers, and end a cluster that was started here.

        Failures here are ignored: the scheduler may be gone, and its workers with it.
        """
        client, cluster, self.client, self.cluster = self.client, self.cluster, None, None
        with self.quiet:
            if client is not None:
                with contextlib.suppress(Exception):
                    if client.status == "running":
                        client.cancel(futures or [], force=True)
                        if self.plugin is not None:
                            client.unregister_worker_plugin(self.plugin)
                with contextlib.suppress(Exception):
                    client.close(timeout=5)
            if cluster is not None:
                with contextlib.suppress(Exception):
                    cluster.close(timeout=10)


def _connected(scheduler: str | None, cluster: Any) -> Any:
    how: dict[str, Any] = {"set_as_default": False, "direct_to_workers": True, "timeout": _CONNECT}
    if scheduler is None:
        return Client(cluster, **how)
    address = _address(scheduler)
    try:
        return Client(address, **how)
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"--scheduler {scheduler}: no Dask scheduler answers there ({text})") from error


def _address(scheduler: str) -> str:
    """Return the given address, or the one that a scheduler file names.

    Raises:
        EngineError: if there is none.
    """
    address: Any = scheduler
    if Path(scheduler).is_file():
        try:
            address = json.loads(Path(scheduler).read_bytes())["address"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise EngineError(f"--scheduler {scheduler}: not a scheduler file of Dask (JSON with an address)") from None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        which = f" names {address!r:.60}, which is" if address is not scheduler else ""
        raise EngineError(f"--scheduler {scheduler}:{which} neither an address (tcp://host:port) nor a scheduler file")
    return address


def _started(settings: EngineSettings) -> Any:
    if settings.cluster is not None:
        return start_cluster(settings.cluster, settings.threads)
    # Workers in threads of this process: their fits run in processes of their own anyway, nothing needs to be
    # imported a second time for Dask, and a script needs no `if __name__ == "__main__"`.
    return LocalCluster(
        n_workers=settings.jobs or 1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",  # Dask listens in any case, by default on a port that may be taken
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Dask's own log off the terminal: the run says what matters."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("distributed").handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)


def versions(packages: frozenset[str]) -> dict[str, str]:
    """Return the versions of what determines scores, in this process."""
    own = {"Python": ".".join(platform.python_version_tuple()[:2]), "higgsbench": __version__}
    return own | {name: package_version(name) or "none" for name in sorted(packages)}


class UnitPlugin(WorkerPlugin):  # type: ignore[misc]
    """Lives on every Dask worker, including those that join later, for as long as the run does.

    Args:
        token: the run's own word.
        settings: threads and limits of a unit.
    """

    def __init__(self, token: str, settings: EngineSettings) -> None:
        self.name = f"higgsbench-{token}"
        self.settings = settings

    def setup(self, worker: Any) -> None:
        """Make ready; called by Dask."""
        self.address = worker.address
        self.slot = Slot(self.settings, _IDLE)
        # Inside Dask's own folder, which Dask removes if this process is killed.
        self.folder = Path(worker.local_directory) / self.name

    def teardown(self, worker: Any) -> None:
        """End the process and remove the files; called by Dask."""
        self.slot.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, call: Call) -> Answer:
        """Run a unit where the events can be read, otherwise say what is missing.

        Raises:
            EngineError: if this worker would compute different scores.
        """
        own = versions(frozenset(call.versions) - {"Python", "higgsbench"})
        other = [f"{name} {own[name]} instead of {v}" for name, v in call.versions.items() if own[name] != v]
        if other:
            raise EngineError(
                f"the Dask worker {self.address} has {', '.join(other)}: its scores would differ; install the "
                "same versions on every worker"
            )
        order = call.order
        if _reads(Path(order.workspace.folder) / PROBE) == call.token:
            return Answer(self.slot.run(order))
        missing = tuple(name for name in call.files if not (self.folder / name).is_file())
        if missing:
            return Answer(None, missing=missing)
        model = None if order.model_file is None else self.folder / f"{order.key}.model"
        here = dataclasses.replace(
            order, workspace=Workspace(str(self.folder)), model_file=None if model is None else str(model)
        )
        outcome = self.slot.run(here)
        if not isinstance(outcome, UnitResult) or outcome.model_file is None or model is None:
            return Answer(outcome)
        content = model.read_bytes()
        model.unlink()
        return Answer(dataclasses.replace(outcome, model_file=None), content)


def _plugin(token: str) -> UnitPlugin:
    plugin: UnitPlugin = get_worker().plugins[f"higgsbench-{token}"]
    return plugin


def run_call(call: Call) -> Answer:
    """Run a unit on the Dask worker that this is called on."""
    return _plugin(call.token).run(call)


def store_piece(token: str, name: str, piece: bytes, start: int, last: bool) -> None:
    """Write a piece of a file of the events; the file is complete with the last one."""
    folder = _plugin(token).folder
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    with part.open("ab" if start else "wb") as stream:
        stream.write(piece)
    if last:
        part.replace(folder / name)


def _reads(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None
