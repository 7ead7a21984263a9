"""A run killed (SIGKILL, the whole process group) at random moments: what is lost, and what is different afterwards."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import small
from benchmarks.reliability.report import write_section

__all__ = ["Kill", "kill_once", "main", "undisturbed"]


@dataclass(frozen=True)
class Kill:
    """What a kill came to.

    Attributes:
        after: seconds after the run had made its folder.
        stored: units that were stored.
        announced: units that the run had said to be finished.
        over: whether the run had ended before.
        damaged: stored units that cannot be read.
        lost: stored or announced units that the resumed run had to train again.
        different: results that differ from those of the undisturbed run.
        left: files that the resumed run left beside its own.
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
    """Carry the run out; return its folder and the seconds from the folder's making to the end."""
    process = small.start("run", config, "--output", output, "--jobs", "2")
    begin = small.wait_for_folder(process, output)
    answer = small.end(process)
    run = small.only_run(output)
    assert answer.code == 0, answer.err
    assert run is not None
    return run, time.monotonic() - begin


def kill_once(config: Path, output: Path, whole: Path, after: float) -> Kill:
    """Start a run, kill it, look at what it left, and let it go on in this process.

    Args:
        config: the configuration.
        output: a folder that is not there yet.
        whole: the undisturbed run.
        after: seconds after the run has made its folder.
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
    # The resumed run reads what it finds; a marker with another time was written, and its unit trained, again.
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


def main(count: int, seed: int = 1) -> None:
    """Kill `count` runs and write the section."""
    moments = random.Random(seed)  # noqa: S311  (no secret)
    with tempfile.TemporaryDirectory(prefix="higgsbench-kills-") as name:
        folder = Path(name)
        config = small.prepare(folder, trees=small.LONGER)
        whole, seconds = undisturbed(config, folder / "whole")
        kills = [kill_once(config, folder / f"killed-{i}", whole, moments.uniform(0.0, seconds)) for i in range(count)]
    write_section("kills", _lines(kills, seconds))


def _lines(kills: Sequence[Kill], seconds: float) -> list[str]:
    counts = sorted(kill.stored for kill in kills)
    early = sum(kill.stored == 0 for kill in kills)
    assembling = sum(kill.stored == small.UNITS and not kill.over for kill in kills)
    return [
        f"A run of {small.UNITS} fits, a stack and stored models on 3,000 simulated events in two processes, killed "
        f"(SIGKILL to the whole process group) {len(kills)} times, each in a folder of its own, at moments drawn "
        f"uniformly from the {seconds:.1f} s between the making of its folder and its end. After each kill every "
        "marker is checked against the files it vouches for, the run goes on, and its results are compared byte by "
        "byte with those of a run that was left alone.",
        "",
        "| | |",
        "|---|---:|",
        f"| kills | {len(kills)} |",
        f"| units stored at the kill: least, median, most | {counts[0]}, {counts[len(counts) // 2]}, {counts[-1]} |",
        f"| kills before the first unit was stored | {early} |",
        f"| kills after the last, while results were being written | {assembling} |",
        f"| kills that came too late | {sum(kill.over for kill in kills)} |",
        f"| markers that vouched for what was not there | {sum(kill.damaged for kill in kills)} |",
        f"| finished units that were lost | {sum(kill.lost for kill in kills)} |",
        f"| resumed runs with a differing score, row, cut or replica | {sum(bool(k.different) for k in kills)} |",
        f"| files left behind after the resumed run | {sum(kill.left for kill in kills)} |",
    ]
