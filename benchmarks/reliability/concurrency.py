"""Several runs at once: the same one twice, two that share fits, with readers, with a killed one, with one cache."""

from __future__ import annotations

import json
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

_PAIRS = 10
_RUN = """
import json, sys, higgsbench
result = higgsbench.run(sys.argv[1], output=sys.argv[2], jobs=1, only=sys.argv[3:])
print(json.dumps({"folder": str(result.folder), "trained": result.trained, "reused": result.reused}))
"""


@dataclass(frozen=True)
class Pair:
    """Outcome of two runs at once.

    Attributes:
        ended: runs that ended with exit code 0, of those that were not killed.
        expected: number of runs that were not killed.
        trained: fits that the two runs trained in total.
        needed: fits that one undisturbed run trains.
        same: whether all results equal those of undisturbed runs.
    """

    ended: int
    expected: int
    trained: int
    needed: int
    same: bool


def _neighbour(config: Path, output: Path, *only: str) -> subprocess.Popen[str]:
    return small.start(config, output, *only, program=("-c", _RUN))


def _trained(answer: small.Answer) -> int:
    return int(json.loads(answer.out)["trained"]) if answer.code == 0 else 0


def two_at_once(
    config: Path,
    output: Path,
    whole: Sequence[Path],
    offset: float,
    only: tuple[str, str] = ("", ""),
    kill: float = 0.0,
) -> Pair:
    """Start two runs, the second `offset` seconds after the first.

    Args:
        config: the configuration.
        output: folder for both.
        whole: undisturbed runs, to compare with those of the same names.
        offset: seconds.
        only: the model that each of them is restricted to, or empty.
        kill: seconds after which the first is killed, 0 for never.
    """
    first = _neighbour(config, output, *filter(None, only[0].split(",")))
    time.sleep(offset)
    second = _neighbour(config, output, *filter(None, only[1].split(",")))
    if kill:
        small.wait_for_folder(first, output)
        time.sleep(kill)
    answers = [small.end(first, kill=kill > 0), small.end(second)]
    counted = answers[1:] if kill else answers
    folders = {run.name: output / run.name for run in whole}
    same = all(
        (folder / "rows.json").is_file()
        and not small.differences(folder, run)
        and not small.damaged_units(folder)
        and not list(folder.rglob(".tmp-*"))
        for run, folder in zip(whole, folders.values(), strict=True)
    )
    return Pair(
        sum(answer.code == 0 for answer in counted), len(counted), sum(map(_trained, answers)), small.UNITS, same
    )


def while_reading(config: Path, output: Path, whole: Path, folder: Path) -> tuple[int, int, int]:
    """Read a run repeatedly while two processes write it; return the numbers of calls, answers and one-line errors."""
    processes = [_neighbour(config, output), _neighbour(config, output)]
    counts = {"answer": 0, "clear": 0, "bad": 0}
    while any(process.poll() is None for process in processes):
        run = small.only_run(output)
        if run is None:
            time.sleep(0.01)
            continue
        for answer in (
            small.cli("leaderboard", "--results", output),
            small.cli("compare", run),
            small.cli("members", run),
            small.cli("predict", run, folder / "events.csv", "-o", folder / "read.csv"),
        ):
            kind = "clear" if answer.clear else "answer" if answer.code == 0 else "bad"
            counts[kind] += 1
    answers = [small.end(process) for process in processes]
    assert all(answer.code == 0 for answer in answers)
    assert not small.differences(output / whole.name, whole)
    return sum(counts.values()), counts["answer"], counts["clear"]


def caches(config: Path, folder: Path) -> tuple[int, int]:
    """Fill an empty cache from two versions, two processes each; count processes with the right events, and entries."""
    code = (
        "import sys; from pathlib import Path; from higgsbench.events import cache, load_events;"
        "cache.CACHE_FORMAT = int(sys.argv[2]); print([load_events(Path(sys.argv[1])).digest for _ in range(3)])"
    )
    env = {**os.environ, "HIGGSBENCH_CACHE_DIR": str(folder / "shared-cache")}
    events = folder / "events.csv"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(events), version], stdout=subprocess.PIPE, text=True, env=env)
        for version in ("1", "2", "1", "2")
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    return sum(text == said[0] and "[" in text for text in said), len(list((folder / "shared-cache").rglob("*.json")))


def main(seed: int = 3) -> None:
    """Try everything and write the section."""
    random_ = random.Random(seed)  # noqa: S311  (no secret)
    with tempfile.TemporaryDirectory(prefix="higgsbench-concurrency-") as name:
        folder = Path(name)
        config = small.prepare(folder)
        whole = small.resume(config, folder / "whole").folder
        lightgbm = small.resume(config, folder / "whole-2", only=["lightgbm"]).folder
        offsets = [random_.uniform(0.0, 3.0) for _ in range(_PAIRS)]
        together = [two_at_once(config, folder / f"t{i}", [whole], o) for i, o in enumerate(offsets)]
        beside = [
            two_at_once(config, folder / f"b{i}", [whole, lightgbm], o / 3, ("", "lightgbm"))
            for i, o in enumerate(offsets)
        ]
        killed = [
            two_at_once(config, folder / f"k{i}", [whole], o / 3, kill=random_.uniform(0.1, 2.0))
            for i, o in enumerate(offsets)
        ]
        readings, answers, clear = while_reading(config, folder / "r", whole, folder)
        right, entries = caches(config, folder)
    rows = [("the same configuration in one folder", together), ("two that share half of their fits", beside)]
    lines = [
        "Two runs of 12 fits are started at random offsets, one process each. If both have the same configuration, the "
        "second waits for the first; if they only share fits, both may train one that neither had finished.",
        "",
        "| what | pairs | runs completed | fits trained / needed | all results equal those of undisturbed runs |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, pairs in [*rows, ("the first of two is killed at a random moment", killed)]:
        ended = f"{sum(p.ended for p in pairs)} of {sum(p.expected for p in pairs)}"
        fits = f"{sum(p.trained for p in pairs)} / {sum(p.needed for p in pairs)}"
        if pairs is killed:
            fits = "-"  # the killed run could not report what it trained
        lines.append(f"| {title} | {len(pairs)} | {ended} | {fits} | {sum(p.same for p in pairs)} of {len(pairs)} |")
    lines += [
        "",
        f"Leaderboard, compare, members and predict are called repeatedly while two processes write the run: "
        f"{readings} calls give {answers} answers, {clear} one-line errors that say why there is no answer, and "
        f"{readings - answers - clear} tracebacks or other errors.",
        "",
        f"Two processes of each of two versions fill the same empty event cache at once and read it three times: "
        f"{right} of 4 get the right events each time; the cache has {entries} entries, one per version.",
    ]
    write_section("concurrency", lines)
