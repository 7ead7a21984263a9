"""The connection to a Dask cluster: one that runs, one that a batch system brings, or one on this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster

from higgsbench.runs.engines.base import EngineError
from higgsbench.runs.engines.cluster import start_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.runs.engines.base import EngineSettings

__all__ = ["Connection"]

_CONNECT = 20.0
"""Seconds in which a scheduler must answer."""

_PATIENCE = 5.0
"""Seconds without a worker after which the user is told."""

_ADDRESS = re.compile(r"((tcp|tls|ucx|ws|wss)://)?[\w.\-\[\]:]+:\d{1,5}")


class Connection:
    """A client of a scheduler.

    Everything that depends on the number of events goes straight between this process and the workers.

    Args:
        settings: which cluster.
        say: hears of waiting.

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
        """Turn what a lost scheduler leads to into one line."""
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
        """Return the addresses of the workers there are.

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

    def install(self, plugin: Any) -> None:
        """Put a plugin on all workers, those to come too.

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
        """Call a function on one worker and on no other."""
        with self._asking():
            return self.client.submit(function, *arguments, workers=[address], pure=False, retries=0)

    def bring(self, content: bytes, address: str) -> Any:
        """Bring bytes to a worker, past the scheduler where the worker can be reached."""
        with self._asking():
            if self.directly:
                try:
                    return self.client.scatter(content, workers=[address], direct=True, hash=False)
                except (OSError, TimeoutError):
                    self.directly = False
            return self.client.scatter(content, workers=[address], direct=False, hash=False)

    def forget(self, future: Any) -> None:
        """Give a unit up."""
        with contextlib.suppress(Exception):
            self.client.cancel([future], force=True)

    def close(self, futures: list[Any] | None = None) -> None:
        """Give up what runs, clear the workers, and end a cluster that was started here.

        Whatever fails here has no consequence: the scheduler may be gone, and so are its workers then.
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
    """Return the address that is given, or that a scheduler file names.

    Raises:
        EngineError: if there is none.
    """
    address: Any = scheduler
    if Path(scheduler).is_file():
        try:
            content = json.loads(Path(scheduler).read_bytes())
            address = content["address"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise EngineError(f"--scheduler {scheduler}: not a scheduler file of Dask (JSON with an address)") from None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        which = f" names {address!r:.60}, which is" if address is not scheduler else ""
        raise EngineError(f"--scheduler {scheduler}:{which} neither an address (tcp://host:port) nor a scheduler file")
    return address


def _started(settings: EngineSettings) -> Any:
    if settings.cluster is not None:
        return start_cluster(settings.cluster, settings.threads)
    # Workers in threads of this process: their fits run in processes of their own all the same, nothing needs to be
    # imported a second time for Dask, and a script needs no `if __name__ == "__main__"`.
    return LocalCluster(
        n_workers=settings.jobs or 1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",  # Dask listens in any case; by itself, on a port that may be taken
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what matters is said by the run."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("distributed").handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)
