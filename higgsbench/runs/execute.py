"""Run work units in parallel processes and hand their results back as they finish."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from higgsbench.errors import HiggsbenchError
from higgsbench.runs.unit import Task, UnitResult, Workspace, run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["WorkerLostError", "execute"]

_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)


class WorkerLostError(HiggsbenchError):
    """A worker process died, most often for lack of memory."""


def execute(
    source: Callable[[], Task | None], workspace: Workspace, workers: int, threads: int, started: Callable[[Task], None]
) -> Generator[UnitResult]:
    """Run tasks and yield results in the order in which they finish.

    Each library is held to `threads` threads, so that the processes never fight over cores.

    Args:
        source: gives the next task to start, or None where there is none now; asked whenever a worker is free, and
            again after every result.
        workspace: where workers find the events.
        workers: number of processes; 1 runs in this process.
        threads: threads of each.
        started: called when a task is handed to a worker.

    Raises:
        WorkerLostError: if a worker process died.
    """
    if workers == 1:
        while (task := source()) is not None:
            started(task)
            yield run_unit(task, workspace)
        return
    yield from _in_processes(source, workspace, workers, threads, started)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_processes(
    source: Callable[[], Task | None], workspace: Workspace, workers: int, threads: int, started: Callable[[Task], None]
) -> Generator[UnitResult]:
    from concurrent.futures import FIRST_COMPLETED, Future, wait
    from concurrent.futures.process import BrokenProcessPool

    from loky import ProcessPoolExecutor

    executor: Any = ProcessPoolExecutor(
        max_workers=workers,
        initializer=_leave_interrupts_to_the_parent,
        env=dict.fromkeys(_THREAD_VARIABLES, str(threads)),
    )
    running: set[Future[UnitResult]] = set()
    finished = False

    def fill() -> None:
        # No task is handed out before a worker is free: the list of running models stays true, and an interruption
        # loses only what was running.
        while len(running) < workers and (task := source()) is not None:
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
            # What came back may have let the source go on.
            fill()
        finished = True
    except BrokenProcessPool as error:
        raise WorkerLostError(
            "a worker process died, most often for lack of memory; finished units are kept: run the same command "
            "again, with fewer --jobs"
        ) from error
    finally:
        executor.shutdown(wait=True, kill_workers=not finished)
