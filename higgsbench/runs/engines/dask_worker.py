"""What runs on a Dask worker: units, in a process of its own, and the files that they need."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from distributed import WorkerPlugin, get_worker

from higgsbench import __version__
from higgsbench.runs.engines.base import EngineError, EngineSettings, Outcome
from higgsbench.runs.engines.local import Order, Slot
from higgsbench.runs.environment import package_version
from higgsbench.runs.unit import UnitResult, Workspace

PROBE = "probe"  # file in a workspace that tells a worker that it sees the same folder
_IDLE = 300.0  # seconds after which a process without a unit ends by itself, in case the run that began it has vanished


class Answer(NamedTuple):
    """A worker's answer: an outcome, or else the files that it neither sees nor has."""

    outcome: Outcome | None
    model: bytes | None = None  # from a worker that does not see the run's folder
    missing: tuple[str, ...] = ()


def versions(packages: frozenset[str]) -> dict[str, str]:
    """Return the versions of what determines scores, in this process."""
    own = {"Python": ".".join(platform.python_version_tuple()[:2]), "higgsbench": __version__}
    return own | {name: package_version(name) or "none" for name in sorted(packages)}


class UnitPlugin(WorkerPlugin):  # type: ignore[misc]
    """Runs units on a Dask worker; every worker has one while the run lasts, also one that joins later."""

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

    def run(self, order: Order, files: tuple[str, ...], needed: dict[str, str]) -> Answer:
        """Run a unit where the events can be read, otherwise say what is missing.

        Args:
            order: the unit; workspace and model file as the run sees them.
            files: names of the files of the workspace that the unit reads.
            needed: the run's versions of everything that determines scores.
        """
        own = versions(frozenset(needed) - {"Python", "higgsbench"})
        other = [f"{name} {own[name]} instead of {version}" for name, version in needed.items() if own[name] != version]
        if other:
            raise EngineError(
                f"the Dask worker {self.address} has {', '.join(other)}: its scores would differ; install the "
                "same versions on every worker"
            )
        seen = ""
        with contextlib.suppress(OSError):
            seen = (Path(order.workspace.folder) / PROBE).read_text(encoding="utf-8")
        if seen == self.name:
            return Answer(self.slot.run(order))
        missing = tuple(name for name in files if not (self.folder / name).is_file())
        if missing:
            return Answer(None, missing=missing)
        model = self.folder / f"{order.key}.model"
        model_file = None if order.model_file is None else str(model)
        here = dataclasses.replace(order, workspace=Workspace(str(self.folder)), model_file=model_file)
        outcome = self.slot.run(here)
        if not isinstance(outcome, UnitResult) or outcome.model_file is None:
            return Answer(outcome)
        content = model.read_bytes()
        model.unlink()
        return Answer(outcome, content)

    def store(self, name: str, piece: bytes, start: int, last: bool) -> None:
        """Write a piece of a file of the events; the file is complete with the last one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{name}.part"
        with part.open("ab" if start else "wb") as stream:
            stream.write(piece)
        if last:
            part.replace(self.folder / name)


def call_plugin(plugin: str, method: str, *arguments: Any) -> Any:
    """Call a method of a plugin of the Dask worker that this runs on."""
    return getattr(get_worker().plugins[plugin], method)(*arguments)
