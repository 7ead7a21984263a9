"""Peak memory of a command and of everything it starts, from the kernel's counters (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.performance.measure import Cost, environment_of

__all__ = ["Watched", "stored", "watched_command"]

_EVERY = 0.05


@dataclass
class Watched:
    """Peaks in bytes of proportional set size: memory that processes share counts once in their sum.

    Attributes:
        total: peak of the sum over all processes.
        main: peak of the process that was started.
        worker: highest peak of any process below it, 0 where there is none.
        processes: largest number of processes at once.
    """

    total: int = 0
    main: int = 0
    worker: int = 0
    processes: int = 0

    def sample(self, pid: int) -> None:
        """Look at the tree of a process once."""
        import psutil

        try:
            below = psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        main = _proportional(pid)
        workers = [_proportional(process.pid) for process in below]
        self.total = max(self.total, main + sum(workers))
        self.main = max(self.main, main)
        self.worker = max([self.worker, *workers])
        self.processes = max(self.processes, 1 + len(below))


def _proportional(pid: int) -> int:
    """Proportional set size of a process in bytes, 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def watched_command(arguments: list[str], folder: Path) -> tuple[Cost, Watched]:
    """Run `python ARGUMENTS` and return its cost and its peaks, looked at twenty times a second.

    Raises:
        RuntimeError: if the command fails; with the end of what it wrote.
    """
    errors, watched, done = folder / "stderr.txt", Watched(), threading.Event()
    with errors.open("wb") as stream:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment_of(folder),
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )

        def watch() -> None:
            while not done.wait(_EVERY):
                watched.sample(process.pid)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        done.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments[:4]} ended with {process.returncode}: {errors.read_text()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, os.getloadavg()[0]), watched


def stored(cost: Cost, watched: Watched) -> dict[str, Any]:
    """Return plain values for JSON."""
    peaks = {name: getattr(watched, name) for name in ("total", "main", "worker", "processes")}
    return {**cost.stored(), **peaks}
