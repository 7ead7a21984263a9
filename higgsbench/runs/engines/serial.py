"""Units one after the other in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.runs.unit import run_unit

if TYPE_CHECKING:
    from higgsbench.runs.engines.base import Outcome
    from higgsbench.runs.unit import Task, Workspace

__all__ = ["SerialEngine"]


class SerialEngine:
    """The engine `serial`: no process is started, so a model that takes the process down takes the run with it.

    Args:
        workspace: where the events are.
    """

    ahead = False

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.task: Task | None = None

    def free(self) -> bool:
        """Whether no unit waits to be run."""
        return self.task is None

    def start(self, task: Task) -> None:
        """Take a unit; it runs when it is waited for."""
        self.task = task

    def wait(self) -> Outcome:
        """Run the unit."""
        if self.task is None:
            raise RuntimeError("no unit was started")
        task, self.task = self.task, None
        return run_unit(task, self.workspace)

    def close(self) -> None:
        """Forget what was not begun."""
        self.task = None
