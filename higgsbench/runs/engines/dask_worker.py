"""What happens on a Dask worker: it keeps a worker process of higgsbench's own and hands units to it.

So a fit runs in the same surroundings as on one machine (threads, limits, one at a time, whatever the Dask worker's own
threads are), a fit that dies or hangs does not take the Dask worker along, and the Dask worker answers its scheduler
while a library holds the interpreter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
import queue
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from higgsbench import __version__
from higgsbench.runs.engines.base import EngineSettings, Lost, Outcome
from higgsbench.runs.engines.slot import Slot
from higgsbench.runs.unit import UnitResult, Workspace

__all__ = ["PROBE", "Answer", "Call", "Missing", "OtherVersions", "UnitPlugin", "run_call", "store_piece", "versions"]

PROBE = "probe"
"""File in a workspace by which a worker knows that it sees that very folder."""

_IDLE = 300.0
"""Seconds after which a process without a unit ends by itself, should the run that began it have vanished."""


@dataclass(frozen=True)
class Call:
    """A unit on its way to a worker; small whatever the number of events.

    Attributes:
        token: the run's own word.
        key: identity of the unit.
        task: the unit, pickled.
        folder: the workspace, as the run sees it.
        files: names of the files in it that the unit reads.
        model_file: where the run wants the model, or None.
        versions: versions that the run has of what determines scores.
    """

    token: str
    key: str
    task: bytes
    folder: str
    files: tuple[str, ...]
    model_file: str | None
    versions: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """The outcome of a unit, with the model's bytes where the worker does not see the run's folder."""

    outcome: Outcome
    model: bytes | None = None


@dataclass(frozen=True)
class Missing:
    """The worker neither sees the workspace nor has these files of it yet."""

    files: tuple[str, ...]


@dataclass(frozen=True)
class OtherVersions:
    """The worker would compute other scores."""

    text: str


def versions(packages: frozenset[str]) -> dict[str, str]:
    """Return the versions of what determines scores, in this process."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "higgsbench": __version__}
    for name in sorted(packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


class UnitPlugin(WorkerPlugin):  # type: ignore[misc]
    """Lives on every Dask worker for as long as a run does, on those that come later too.

    Args:
        token: the run's own word.
        settings: threads and limits of a unit.
    """

    def __init__(self, token: str, settings: EngineSettings) -> None:
        self.name = f"higgsbench-{token}"
        self.settings = settings

    def setup(self, worker: Any) -> None:
        """Make ready; called by Dask."""
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.slot = Slot(self.settings, lambda _, outcome: self.outcomes.put(outcome), _IDLE)
        # Below Dask's own folder, which it removes should this process be killed.
        self.folder = Path(worker.local_directory) / self.name

    def teardown(self, worker: Any) -> None:
        """End the process and remove the files; called by Dask."""
        self.slot.close()
        self.outcomes.put(Lost("", "the run was ended"))
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, call: Call) -> Answer | Missing | OtherVersions:
        """Run a unit where the events can be read, otherwise say what is missing."""
        own = versions(frozenset(call.versions) - {"Python", "higgsbench"})
        other = [f"{name} {own[name]} instead of {wanted}" for name, wanted in call.versions.items()
                 if own[name] != wanted]  # fmt: skip
        if other:
            return OtherVersions(", ".join(other))
        if _reads(Path(call.folder) / PROBE) == call.token:
            return Answer(self._outcome(call, Workspace(call.folder), call.model_file))
        missing = tuple(name for name in call.files if not (self.folder / name).is_file())
        if missing:
            return Missing(missing)
        model = None if call.model_file is None else self.folder / f"{call.key}.model"
        outcome = self._outcome(call, Workspace(str(self.folder)), None if model is None else str(model))
        if not isinstance(outcome, UnitResult) or outcome.model_file is None or model is None:
            return Answer(outcome)
        content = model.read_bytes()
        model.unlink()
        return Answer(dataclasses.replace(outcome, model_file=None), content)

    def _outcome(self, call: Call, workspace: Workspace, model_file: str | None) -> Outcome:
        self.slot.start(call.key, call.task, workspace, model_file)
        return self.outcomes.get()


def _plugin(token: str) -> UnitPlugin:
    plugin: UnitPlugin = get_worker().plugins[f"higgsbench-{token}"]
    return plugin


def run_call(call: Call) -> Answer | Missing | OtherVersions:
    """Run a unit on the Dask worker that this is called on."""
    return _plugin(call.token).run(call)


def store_piece(token: str, name: str, piece: bytes, first: bool, digest: str | None) -> bool:
    """Add a piece to a file of the events; with the digest after the last, the file counts if it agrees."""
    folder = _plugin(token).folder
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    with part.open("wb" if first else "ab") as stream:
        stream.write(piece)
    if digest is None:
        return True
    with part.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            return False
    part.replace(folder / name)
    return True


def _reads(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None
