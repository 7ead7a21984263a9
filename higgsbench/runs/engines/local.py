"""Units in processes on this machine."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import cloudpickle

from higgsbench.runs.engines.slot import Slot

if TYPE_CHECKING:
    from higgsbench.runs.engines.base import EngineSettings, Outcome
    from higgsbench.runs.unit import Task, Workspace

__all__ = ["LocalEngine"]


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
