"""What the system refuses: space, writing, permissions, time that goes forwards. Each ends in one clear line."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability import small

__all__ = ["Case", "lines"]

_SIZES = tuple(range(48, 560, 64))
"""Sizes in KiB of the disks that are too small; the whole run takes about 500 KiB."""
_NOBODY = 65534


@dataclass(frozen=True)
class Case:
    """What a refusal came to.

    Attributes:
        name: what was refused.
        how: by what means.
        tries: how often.
        clear: tries that ended as they should: one line and exit code 2, or, where that is expected, with the result.
        same: tries after which a later call went on and ended with the results of an undisturbed run.
        line: an example of what is said.
    """

    name: str
    how: str
    tries: int
    clear: int
    same: int
    line: str


def lines(config: Path, whole: Path, folder: Path) -> list[str]:
    """Try every case; return the table."""
    cases: list[Case] = []
    for function in (_full_results, _full_temporary, _full_cache, _read_only, _read_only_done, _permissions, _clock):
        cases.append(function(config, whole, folder))
    head = [
        "| what | how it was made | tries | ended in one line, exit 2 (or done where it can) | a later call ends as an "
        "undisturbed run | what is said |",
        "|---|---|---:|---:|---:|---|",
    ]
    return head + [f"| {c.name} | {c.how} | {c.tries} | {int(c.clear)} | {int(c.same)} | {c.line} |" for c in cases]


@contextlib.contextmanager
def mounted(place: Path, *options: str | Path) -> Iterator[Path]:
    """Mount something on a folder for a while."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *map(str, options), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _said(answer: small.Answer, *places: Path) -> str:
    """Return the error line, without the places of this machine, fit for a table."""
    text = answer.errors[0] if answer.errors else "(nothing)"
    for place in places:
        text = text.replace(str(place), "...")
    return "`" + text.replace("|", "/").replace("`", "'") + "`"


def _full_results(config: Path, whole: Path, folder: Path) -> Case:
    clear = same = 0
    line = ""
    for size in _SIZES:
        with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs") as disk:
            answer = small.cli("run", config, "--output", disk / "out", "--jobs", "1")
            clear += answer.clear and not small.damaged_units(small.only_run(disk / "out"))
            before = small.stored(small.only_run(disk / "out"))
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            again = small.resume(config, disk / "out")
            kept = {k: v for k, v in small.stored(again.folder).items() if k in before}
            same += kept == before and not small.differences(again.folder, whole)
            line = _said(answer, disk / "out", folder) if answer.clear else line
    how = f"tmpfs of {_SIZES[0]} to {_SIZES[-1]} KiB"
    return Case("results folder on a full disk", how, len(_SIZES), clear, same, line)


def _full_temporary(config: Path, whole: Path, folder: Path) -> Case:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        output = folder / "full-temporary"
        process = small.start("run", config, "--output", output, "--jobs", "2", env={"TMPDIR": str(disk)})
        answer = small.end(process)
    again = small.resume(config, output)
    same = not small.differences(again.folder, whole)
    return Case("folder of temporary files full", "tmpfs of 64 KiB", 1, answer.clear, same, _said(answer, disk))


def _full_cache(config: Path, whole: Path, folder: Path) -> Case:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        output = folder / "full-cache"
        process = small.start("run", config, "--output", output, "-j", "2", env={"HIGGSBENCH_CACHE_DIR": str(disk)})
        answer = small.end(process)
        left = list(disk.rglob("*.json"))
    run = small.only_run(output)
    same = run is not None and not small.differences(run, whole)
    done = answer.code == 0 and not left
    return Case("cache on a full disk", "tmpfs of 64 KiB", 1, done, same, "(done; the cache is only not used)")


def _read_only(config: Path, whole: Path, folder: Path) -> Case:
    output = folder / "read-only"
    small.end(small.start("run", config, "--output", output, "--only", "logistic", "-j", "1"))
    with mounted(folder / "ro", "--bind", "-o", "ro", output) as place:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        answer = small.cli("run", config, "--output", place, "--jobs", "1")
    again = small.resume(config, output)
    same = again.reused == small.UNITS // 2 and not small.differences(again.folder, whole)
    return Case("results folder read-only", "bind mount", 1, answer.clear, same, _said(answer, folder))


def _read_only_done(config: Path, whole: Path, folder: Path) -> Case:
    """A finished run on a read-only disk: nothing to do, and everything can be read."""
    results = whole.parent
    with mounted(folder / "ro", "--bind", "-o", "ro", results) as place:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        answers = [small.cli("run", config, "--output", place, "--jobs", "1")]
        answers.append(small.cli("leaderboard", "--results", place))
        answers.append(small.cli("predict", place / whole.name, folder / "events.csv", "-o", folder / "p.csv"))
    done = sum(answer.code == 0 for answer in answers)
    what = "finished run, read-only: `run`, `leaderboard`, `predict`"
    return Case(what, "bind mount", len(answers), done, len(answers), "(done; nothing is written)")


def _permissions(config: Path, whole: Path, folder: Path) -> Case:
    """Root may write anywhere, so the run is given to a user who may not."""
    output = folder / "permissions"
    output.mkdir()
    folder.chmod(0o755)
    cache = folder / "own-cache"
    cache.mkdir()
    cache.chmod(0o777)
    env = {"HIGGSBENCH_CACHE_DIR": str(cache), "HOME": str(cache)}
    user = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
    output.chmod(0o555)
    process = small.start("run", config, "--output", output, "--jobs", "1", env=env, before=user)
    answer = small.end(process)
    output.chmod(0o777)
    process = small.start("run", config, "--output", output, "--jobs", "1", env=env, before=user)
    small.end(process)
    run = small.only_run(output)
    same = run is not None and not small.differences(run, whole)
    return Case(
        "results folder of somebody else", "another user, mode 0555", 1, answer.clear, same, _said(answer, folder)
    )


def _clock(config: Path, whole: Path, folder: Path) -> Case:
    """The wall clock is set back by a day while the run goes on, once, and between its parts, once."""
    if shutil.which("faketime") is None:
        return Case("clock set back", "not tried: libfaketime is not installed", 0, 0, 0, "")
    good = same = 0
    tries: tuple[Callable[[Path, Path], small.Answer], ...] = (_back_between, _back_meanwhile)
    for number, try_ in enumerate(tries):
        output = folder / f"clock-{number}"
        answer = try_(config, output)
        good += answer.code == 0
        run = small.only_run(output)
        same += run is not None and not small.differences(run, whole) and not list(output.rglob(".tmp-*"))
    return Case("clock set back by a day", "libfaketime", len(tries), good, same, "(done; nothing asks the clock)")


def _back_between(config: Path, output: Path) -> small.Answer:
    process = small.start("run", config, "--output", output, "--jobs", "2")
    small.wait_for_folder(process, output)
    time.sleep(0.7)
    small.end(process, kill=True)
    return small.end(small.start("run", config, "--output", output, "-j", "2", before=["faketime", "-f", "-1d"]))


def _back_meanwhile(config: Path, output: Path) -> small.Answer:
    """The library reads the offset anew at every call; the time limit runs on a clock of its own."""
    offset = output.with_suffix(".offset")
    offset.write_text("+0\n")
    env = {
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "LD_PRELOAD": _library(),
    }
    process = small.start("run", config, "--output", output, "--jobs", "2", "--time-limit", "10m", env=env)
    small.wait_for_folder(process, output)
    time.sleep(0.3)
    offset.write_text("-1d\n")
    return small.end(process)


def _library() -> str:
    done = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
