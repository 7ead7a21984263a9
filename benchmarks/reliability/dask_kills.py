"""Dask workers and schedulers killed at random moments of a run."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import small
from benchmarks.reliability.report import write_section

__all__ = ["main"]


class Cluster:
    """A scheduler and workers in processes of their own.

    Args:
        folder: for its files; made here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        while not self.file.exists():
            time.sleep(0.05)
        self.workers = [self.worker(), self.worker()]

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *arguments]
        with (self.folder / "log.txt").open("ab") as log:
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=env)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        where = ("--scheduler-file", str(self.file), "--local-directory", str(self.folder))
        return self._start("worker", *where, "--nthreads", "1", "--no-nanny")

    def close(self) -> None:
        """End what is left."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Loss:
    """What a kill came to: how the run answered, and what the same call came to afterwards, on this machine."""

    over: bool
    answer: small.Answer
    stored: int
    trained: int
    kept: bool
    same: bool


def lose(config: Path, output: Path, whole: Path, what: str, after: float) -> Loss:
    """Kill a worker, or the scheduler, of a cluster that is carrying out a run; another worker joins for the first."""
    cluster = Cluster(output.with_suffix(".cluster"))
    try:
        process = small.start("run", config, "--output", output, "--scheduler", cluster.file)
        small.wait_for_folder(process, output)
        time.sleep(after)
        over = process.poll() is not None
        victim = cluster.scheduler if what == "scheduler" else cluster.workers[0]
        victim.kill()
        if what == "worker":
            cluster.workers.append(cluster.worker())
        answer = small.end(process)
    finally:
        cluster.close()
    before = small.stored(small.only_run(output))
    whole_units = not small.damaged_units(small.only_run(output))
    again = small.resume(config, output)
    kept = all(small.stored(again.folder)[name] == moment for name, moment in before.items())
    same = not small.differences(again.folder, whole) and not list(output.rglob(".tmp-*"))
    return Loss(over, answer, len(before), again.trained, kept and whole_units, same)


def main(count: int, seed: int = 4) -> None:
    """Kill `count` workers and `count` schedulers and write the section."""
    if importlib.util.find_spec("distributed") is None:
        raise SystemExit("--part dask needs the extra dask: pip install 'higgsbench[dask]'")
    random_ = random.Random(seed)  # noqa: S311  (no secret)
    with tempfile.TemporaryDirectory(prefix="higgsbench-dask-") as name:
        folder = Path(name)
        config = small.prepare(folder, trees=small.LONGER // 2)
        whole = small.resume(config, folder / "whole").folder
        cluster = Cluster(folder / "first.cluster")
        process = small.start("run", config, "--output", folder / "first", "--scheduler", cluster.file)
        begin = small.wait_for_folder(process, folder / "first")
        small.end(process)
        seconds = time.monotonic() - begin
        cluster.close()
        losses = {
            what: [
                lose(config, folder / f"{what}-{i}", whole, what, random_.uniform(0.0, seconds)) for i in range(count)
            ]
            for what in ("worker", "scheduler")
        }
    write_section("dask", _lines(losses, seconds))


def _lines(losses: dict[str, list[Loss]], seconds: float) -> list[str]:
    lines = [
        "The run of the first section on a Dask cluster of two workers; a worker or the scheduler is killed (SIGKILL) "
        f"at a moment drawn uniformly from the {seconds:.1f} s between the making of the run's folder and its end. A "
        "new worker joins for the one that is killed. Afterwards the same call is made once more, without Dask.",
        "",
        "| killed | times | too late | the run ended | in one line, exit 2 | units stored then: least, median, most | "
        "some, not all | finished units lost | the same results in the end |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for what, found in losses.items():
        counts = sorted(loss.stored for loss in found)
        lines.append(
            f"| {what} | {len(found)} | {sum(loss.over for loss in found)} | {_count(found, 0)} | "
            f"{sum(loss.answer.clear for loss in found)} | {counts[0]}, {counts[len(counts) // 2]}, {counts[-1]} | "
            f"{sum(0 < count < small.UNITS for count in counts)} | "
            f"{sum(not loss.kept or loss.trained != small.UNITS - loss.stored for loss in found)} | "
            f"{sum(loss.same for loss in found)} |"
        )
    return lines


def _count(found: Sequence[Loss], code: int) -> int:
    return sum(loss.answer.code == code for loss in found)
