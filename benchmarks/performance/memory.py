"""Peak memory of a command and of everything it starts, from the kernel's counters (Linux)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.performance.measure import Cost, command

__all__ = ["Watched", "stored", "watched_command"]

_EVERY = 0.05
"""Seconds between looks: the kernel walks all pages of a process to answer, which takes its own share of the time."""


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
    watched, done = Watched(), threading.Event()

    def watch(process: int) -> None:
        while not done.wait(_EVERY):
            watched.sample(process)

    @contextlib.contextmanager
    def watching(process: int) -> Iterator[None]:
        watcher = threading.Thread(target=watch, args=(process,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    return command(arguments, folder, watching), watched


def stored(cost: Cost, watched: Watched) -> dict[str, Any]:
    """Return plain values for JSON."""
    peaks = {name: getattr(watched, name) for name in ("total", "main", "worker", "processes")}
    return {**cost.stored(), **peaks}
