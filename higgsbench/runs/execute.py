"""Run work units in parallel processes and hand their results back as they finish."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from higgsbench.errors import HiggsbenchError
from higgsbench.runs.unit import Task, UnitResult, Workspace, run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = ["WorkerLostError", "execute"]

_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)


class WorkerLostError(HiggsbenchError):
    """A worker process died, most often for lack of memory."""


def execute(
    tasks: Sequence[Task], workspace: Workspace, jobs: int, started: Callable[[Task], None]
) -> Generator[UnitResult]:
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


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_processes(
    tasks: Sequence[Task], workspace: Workspace, jobs: int, started: Callable[[Task], None]
) -> Generator[UnitResult]:
    from concurrent.futures import FIRST_COMPLETED, Future, wait
    from concurrent.futures.process import BrokenProcessPool

    from loky import ProcessPoolExecutor

    threads = str(max(task.threads for task in tasks))
    executor: Any = ProcessPoolExecutor(
        max_workers=min(jobs, len(tasks)),
        initializer=_leave_interrupts_to_the_parent,
        env=dict.fromkeys(_THREAD_VARIABLES, threads),
    )
    queue = list(reversed(tasks))
    running: set[Future[UnitResult]] = set()
    finished = False

    def fill() -> None:
        # No task is handed out before a worker is free: the list of running models stays true, and an interruption
        # loses only what was running.
        while queue and len(running) < jobs:
            task = queue.pop()
            started(task)
            running.add(executor.submit(run_unit, task, workspace))

    try:
        fill()
        while running:
            done = wait(running, return_when=FIRST_COMPLETED).done
            running -= done
            # Before the results are looked at, so that no worker idles meanwhile.
            fill()
            for future in done:
                yield future.result()
        finished = True
    except BrokenProcessPool as error:
        raise WorkerLostError(
            "a worker process died, most often for lack of memory; finished units are kept: run the same command "
            "again, with fewer --jobs"
        ) from error
    finally:
        executor.shutdown(wait=True, kill_workers=not finished)
