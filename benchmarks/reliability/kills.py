"""Runs, Dask workers and schedulers killed (SIGKILL) at random moments: what is lost, and what differs afterwards."""

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
from benchmarks.reliability.small import write_section


@dataclass(frozen=True)
class Kill:
    """Outcome of a kill.

    Attributes:
        after: seconds after the run had created its folder.
        stored: units that were stored.
        announced: units that the run had reported as finished.
        over: whether the run had ended before the kill.
        damaged: stored units that cannot be read.
        lost: stored or announced units that the resumed run had to train again.
        different: results that differ from those of the undisturbed run.
        left: temporary or foreign files that are left after the resumed run.
    """

    after: float
    stored: int
    announced: int
    over: bool
    damaged: int
    lost: int
    different: tuple[str, ...]
    left: int


def undisturbed(config: Path, output: Path) -> tuple[Path, float]:
    """Complete a run; return its folder and the seconds from the folder's creation to the end."""
    process = small.start("run", config, "--output", output, "--jobs", "2")
    begin = small.wait_for_folder(process, output)
    answer = small.end(process)
    run = small.only_run(output)
    assert answer.code == 0, answer.err
    assert run is not None
    return run, time.monotonic() - begin


def kill_once(config: Path, output: Path, whole: Path, after: float) -> Kill:
    """Start a run, kill it, check what it left, and resume it in this process.

    Args:
        config: the configuration.
        output: a folder that does not exist yet.
        whole: the undisturbed run.
        after: seconds after the run has created its folder.
    """
    process = small.start("run", config, "--output", output, "--jobs", "2")
    small.wait_for_folder(process, output)
    time.sleep(after)
    over = process.poll() is not None
    said = small.end(process, kill=True)
    before = small.stored(small.only_run(output))
    damaged = small.damaged_units(small.only_run(output))
    again = small.resume(config, output)
    kept = {name: moment for name, moment in small.stored(again.folder).items() if name in before}
    # The resumed run reuses what it finds; if a marker has another time, its unit was trained again.
    lost = sum(kept.get(name) != moment for name, moment in before.items())
    announced = sum("/12, " in line and "fold" in line for line in (said.out + said.err).splitlines())
    left = len(list(output.rglob(".tmp-*"))) + len([p for p in output.iterdir() if p != again.folder])
    return Kill(
        after,
        len(before),
        announced,
        over,
        len(damaged),
        lost + max(0, announced - again.reused),
        tuple(small.differences(again.folder, whole)),
        left,
    )


def run_kills(count: int, seed: int = 1) -> None:
    """Kill `count` runs and write the section."""
    moments = random.Random(seed)  # noqa: S311  (no secret)
    with tempfile.TemporaryDirectory(prefix="higgsbench-kills-") as name:
        folder = Path(name)
        config = small.prepare(folder, trees=small.LONGER)
        whole, seconds = undisturbed(config, folder / "whole")
        kills: list[Kill] = []
        for i in range(count):
            kills.append(kill_once(config, folder / f"killed-{i}", whole, moments.uniform(0.0, seconds)))
            write_section("kills", _kill_lines(kills, seconds))  # each time, so that nothing measured is lost


def _kill_lines(kills: Sequence[Kill], seconds: float) -> list[str]:
    counts = sorted(kill.stored for kill in kills)
    early = sum(kill.stored == 0 for kill in kills)
    assembling = sum(kill.stored == small.UNITS and not kill.over for kill in kills)
    return [
        f"A run of {small.UNITS} fits, a stack and stored models on 3,000 simulated events in two processes is killed "
        f"(SIGKILL to the whole process group) {len(kills)} times, each time in a new folder and at a time drawn "
        f"uniformly from the {seconds:.1f} s between the creation of its folder and its end. After each kill every "
        "marker is checked against its files, the run is resumed, and its results are compared byte by byte with "
        "those of an undisturbed run.",
        "",
        "| | |",
        "|---|---:|",
        f"| kills | {len(kills)} |",
        f"| units stored at the kill: min., median, max. | {counts[0]}, {counts[len(counts) // 2]}, {counts[-1]} |",
        f"| kills before the first unit was stored | {early} |",
        f"| kills after the last unit was stored, while results were being written | {assembling} |",
        f"| kills after the run had ended | {sum(kill.over for kill in kills)} |",
        f"| markers whose files were missing or damaged | {sum(kill.damaged for kill in kills)} |",
        f"| finished units lost | {sum(kill.lost for kill in kills)} |",
        f"| resumed runs in which a score, row, cut or replica differs | {sum(bool(k.different) for k in kills)} |",
        f"| files left behind after the resumed run | {sum(kill.left for kill in kills)} |",
    ]


class Cluster:
    """A Dask scheduler and workers in separate processes.

    Args:
        folder: folder for its files; it is created.
        workers: number of workers at the start.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        while not self.file.exists():
            time.sleep(0.05)
        self.workers: list[subprocess.Popen[bytes]] = []
        for _ in range(workers):
            self.worker()

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *arguments]
        with (self.folder / "log.txt").open("ab") as log:
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=env)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        where = ("--scheduler-file", str(self.file), "--local-directory", str(self.folder))
        self.workers.append(self._start("worker", *where, "--nthreads", "1", "--no-nanny"))
        return self.workers[-1]

    def close(self) -> None:
        """End all processes."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Loss:
    """Outcome of a kill: how the run ended, and the result of the same call afterwards, on this machine."""

    over: bool
    answer: small.Answer
    stored: int
    trained: int
    kept: bool
    same: bool


def lose(config: Path, output: Path, whole: Path, what: str, units: int, delay: float) -> Loss:
    """Kill a worker or the scheduler of a cluster during a run; a new worker replaces a killed one.

    Args:
        config: the configuration.
        output: a folder that does not exist yet.
        whole: the undisturbed run.
        what: "worker" or "scheduler".
        units: number of units after which the process is killed.
        delay: seconds from then to the kill.
    """
    cluster = Cluster(output.with_suffix(".cluster"))
    try:
        process = small.start("run", config, "--output", output, "--scheduler", cluster.file)
        small.wait_for_folder(process, output)
        while process.poll() is None and len(small.stored(small.only_run(output))) < units:
            time.sleep(0.02)
        time.sleep(delay)
        over = process.poll() is not None
        victim = cluster.scheduler if what == "scheduler" else cluster.workers[0]
        victim.kill()
        if what == "worker":
            cluster.worker()
        answer = small.end(process)
    finally:
        cluster.close()
    before = small.stored(small.only_run(output))
    whole_units = not small.damaged_units(small.only_run(output))
    again = small.resume(config, output)
    kept = all(small.stored(again.folder)[name] == moment for name, moment in before.items())
    same = not small.differences(again.folder, whole) and not list(output.rglob(".tmp-*"))
    return Loss(over, answer, len(before), again.trained, kept and whole_units, same)


def dask_kills(count: int, seed: int = 4) -> None:
    """Kill `count` workers and `count` schedulers and write the section."""
    if importlib.util.find_spec("distributed") is None:
        raise SystemExit("--part dask needs the extra dask: pip install 'higgsbench[dask]'")
    random_ = random.Random(seed)  # noqa: S311  (no secret)
    with tempfile.TemporaryDirectory(prefix="higgsbench-dask-") as name:
        folder = Path(name)
        config = small.prepare(folder, trees=small.LONGER // 2)
        whole = small.resume(config, folder / "whole").folder
        losses: dict[str, list[Loss]] = {}
        for what, i in ((what, i) for i in range(count) for what in ("worker", "scheduler")):
            moment = random_.randrange(small.UNITS), random_.uniform(0.0, 1.0)
            losses.setdefault(what, []).append(lose(config, folder / f"{what}-{i}", whole, what, *moment))
            write_section("dask", _dask_lines(losses))


def _dask_lines(losses: dict[str, list[Loss]]) -> list[str]:
    lines = [
        "The run of the first section is started on a Dask cluster of two workers. A worker or the scheduler is killed "
        f"(SIGKILL) up to a second after 0 to {small.UNITS - 1} of the {small.UNITS} units were stored, both drawn "
        "uniformly. A new worker replaces a killed one. Afterwards the same call is repeated without Dask.",
        "",
        "| killed | times | after the end | run completed | one-line error, exit 2 | units stored: min., median, "
        "max. | some, but not all | finished units lost | same results in the end |",
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
