"""Run work units in parallel processes and hand their results back as they finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.errors import HiggsbenchError
from higgsbench.runs.unit import Task, UnitResult, Workspace, run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["WorkerLostError", "execute"]


class WorkerLostError(HiggsbenchError):
    """A worker process died, most often for lack of memory."""


def execute(
    tasks: Sequence[Task], workspace: Workspace, jobs: int, started: Callable[[Task], None]
) -> Iterator[UnitResult]:
    """Run tasks and yield results in the order in which they finish.

    Each library is held to the task's number of threads, so that `jobs` processes never fight over cores.

    Args:
        tasks: what to run, in the order to start them.
        workspace: where workers find the events.
        jobs: number of processes; 1 runs in this process.
        started: called when a task is handed to a worker.

    Raises:
        WorkerLostError: if a worker process died.
    """
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            started(task)
            yield run_unit(task, workspace)
        return
    yield from _in_processes(tasks, workspace, jobs, started)


def _in_processes(
    tasks: Sequence[Task], workspace: Workspace, jobs: int, started: Callable[[Task], None]
) -> Iterator[UnitResult]:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(task.threads for task in tasks)

    def dispatched() -> Iterator[object]:
        for task in tasks:
            started(task)
            yield joblib.delayed(run_unit)(task, workspace)

    with joblib.parallel_config(backend="loky", inner_max_num_threads=threads):
        # No task is handed out before a worker is free: the list of running models stays true, and an interruption
        # loses only what was running.
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)
        try:
            yield from parallel(dispatched())
        except TerminatedWorkerError as error:
            raise WorkerLostError(
                "a worker process died, most often for lack of memory; finished units are kept: run the same command "
                "again, with fewer --jobs"
            ) from error
