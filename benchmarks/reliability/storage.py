"""Failures of the system (disk space, write access, permissions, clocks), and damaged files."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.reliability import small
from benchmarks.reliability.small import write_section
from higgsbench.runs.run import Listener

_SIZES = tuple(range(48, 560, 64))
"""Sizes in KiB of the disks that are too small; the whole run takes about 500 KiB."""
_NOBODY = 65534


@dataclass(frozen=True)
class Case:
    """Outcome of one kind of system failure.

    Attributes:
        name: what failed.
        how: how the failure was caused.
        tries: number of tries.
        clear: tries that ended with a one-line error and exit code 2, or with the result if that is expected.
        same: tries after which a later call resumed and gave the results of an undisturbed run.
        line: an example of the message.
    """

    name: str
    how: str
    tries: int
    clear: int
    same: int
    line: str


def refusal_lines(config: Path, whole: Path, folder: Path) -> list[str]:
    """Try every case; return the table."""
    functions = (_full_results, _full_temporary, _full_cache, _read_only, _read_only_done, _permissions, _clock)
    cases = [function(config, whole, folder) for function in functions]
    head = [
        "| failure | how it was caused | tries | one-line error and exit 2 (or success, if expected) | a later call "
        "gives the undisturbed results | message |",
        "|---|---|---:|---:|---:|---|",
    ]
    return head + [f"| {c.name} | {c.how} | {c.tries} | {int(c.clear)} | {int(c.same)} | {c.line} |" for c in cases]


@contextlib.contextmanager
def mounted(place: Path, *options: str | Path) -> Iterator[Path]:
    """Mount something temporarily on a folder."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *map(str, options), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _said(answer: small.Answer, *places: Path) -> str:
    """Return the error line, without the paths of this machine, ready for a table."""
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
    return Case("temporary folder on a full disk", "tmpfs of 64 KiB", 1, answer.clear, same, _said(answer, disk))


def _full_cache(config: Path, whole: Path, folder: Path) -> Case:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        output = folder / "full-cache"
        process = small.start("run", config, "--output", output, "-j", "2", env={"HIGGSBENCH_CACHE_DIR": str(disk)})
        answer = small.end(process)
        left = list((disk / "events").rglob("*.json"))
    run = small.only_run(output)
    same = run is not None and not small.differences(run, whole)
    done = answer.code == 0 and not left
    return Case("cache on a full disk", "tmpfs of 64 KiB", 1, done, same, "(success, without the cache)")


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
    return Case(what, "bind mount", len(answers), done, len(answers), "(success; nothing is written)")


def _permissions(config: Path, whole: Path, folder: Path) -> Case:
    """Root may write anywhere, so the run is started as a user who may not."""
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
    return Case("results folder of another user", "mode 0555", 1, answer.clear, same, _said(answer, folder))


def _clock(config: Path, whole: Path, folder: Path) -> Case:
    """The wall clock is set back by a day, once between a killed run and its continuation and once during a run."""
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
    return Case("clock set back by a day", "libfaketime", len(tries), good, same, "(success; it is not used)")


def _back_between(config: Path, output: Path) -> small.Answer:
    process = small.start("run", config, "--output", output, "--jobs", "2")
    small.wait_for_folder(process, output)
    time.sleep(0.7)
    small.end(process, kill=True)
    return small.end(small.start("run", config, "--output", output, "-j", "2", before=["faketime", "-f", "-1d"]))


def _back_meanwhile(config: Path, output: Path) -> small.Answer:
    """The fake clock reads the offset at every call; the time limit uses the monotonic clock, which is not changed."""
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


FILES = {
    "unit: scores": "units/*.parquet",
    "unit: marker": "units/[!.]*.json",
    "unit: model": "units/*.model.zip",
    **{name: name for name in (*small.RESULTS, "rows.json", "config.yaml", "environment.json")},
}
_FLIPS = 4


class _Notes(Listener):
    """Collects the notes of a run."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)


@dataclass(frozen=True)
class Repair:
    """Outcome of running the configuration again.

    Attributes:
        trained: units that were trained again.
        said: whether a line names the damage.
        restored: whether all results equal those of the undisturbed run.
    """

    trained: int
    said: bool
    restored: bool


def damage(content: bytes, random_: random.Random) -> list[tuple[str, bytes | None]]:
    """Return damaged forms of a file's content; None means that the file is removed."""
    flips: list[tuple[str, bytes | None]] = [("flipped", small.flipped(content, random_)) for _ in range(_FLIPS)]
    return [*flips, ("truncated", content[: len(content) // 2]), ("emptied", b""), ("removed", None)]


def spoil(file: Path, content: bytes | None) -> None:
    """Replace a file without changing a hard link to it elsewhere."""
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def repair(config: Path, run: Path, whole: Path) -> Repair:
    """Run the configuration again on a damaged run."""
    notes = _Notes()
    again = small.resume(config, run.parent, listener=notes)
    said = any("damaged" in line for line in notes.said)
    restored = not small.differences(again.folder, whole) and not small.damaged_units(again.folder)
    return Repair(again.trained, said, restored and len(small.stored(again.folder)) == small.UNITS)


def readers(run: Path, events: Path, work: Path) -> dict[str, Callable[[], small.Answer]]:
    """Return the commands that read a run."""
    return {
        "leaderboard": lambda: small.cli("leaderboard", "--results", run, "--format", "json"),
        "members": lambda: small.cli("members", run),
        "compare": lambda: small.cli("compare", run, "--format", "json"),
        "predict": lambda: _written(work / "p.csv", "predict", run, events, "-o", work / "p.csv"),
        "report": lambda: _written(work / "report.html", "report", run, "--output", work / "report.html"),
    }


def _written(target: Path, *command: str | Path) -> small.Answer:
    """Run a command; its output is the content of the file that it writes."""
    target.unlink(missing_ok=True)
    answer = small.cli(*command)
    return replace(answer, out=target.read_text() if target.exists() else "")


def _untimed(text: str) -> str:
    return re.sub(r"\d+\.\d s", "", text)


def judged(answer: small.Answer, intact: small.Answer) -> str:
    """Say how a reader handled a damaged run: `same` answer, `clear` error, `said` with what is left, or `bad`."""
    if answer.clear:
        return "clear"
    if answer.code == 0 and "Traceback" not in answer.err:
        if answer.out == intact.out and _untimed(answer.err) == _untimed(intact.err):
            return "same"
        if any(word in answer.out + answer.err for word in ("damaged", "cannot be read", "unfinished", "is missing")):
            return "said"
    return "bad"


def damage_lines(config: Path, whole: Path, folder: Path) -> list[str]:
    """Damage every kind of file in every way; return the table."""
    random_ = random.Random(2)  # noqa: S311  (no secret)
    work = folder / "damaged"
    run = work / whole.name
    out = [
        f"Each kind of file of a finished run is damaged in every way ({_FLIPS} single bits flipped, cut in half, "
        "emptied, removed). *Repaired*: the configuration is run again, and every result then equals that of the "
        "undisturbed run byte for byte. *Readers* (leaderboard, members, compare, predict and, for 4 of the ways, "
        "report) give the same answer if they do not need the file, a one-line error and exit 2, or the remaining "
        "results and a message about the damage. Anything else is bad, such as a traceback or another number.",
        "",
        "| file | ways | repaired | fits trained again | reported | readers: same | one-line error | reported | bad |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    shutil.copytree(whole, run)
    intact = {name: read() for name, read in readers(run, folder / "events.csv", work).items()}
    for kind, pattern in FILES.items():
        found: list[Repair] = []
        met: list[str] = []
        for number, (_, content) in enumerate(damage(min(whole.glob(pattern)).read_bytes(), random_)):
            shutil.rmtree(run)
            shutil.copytree(whole, run)
            spoil(min(run.glob(pattern)), content)
            asked = readers(run, folder / "events.csv", work)
            if 0 < number < _FLIPS:  # its figures take seconds
                del asked["report"]
            met += [judged(read(), intact[name]) for name, read in asked.items()]
            found.append(repair(config, run, whole))
        counts = " | ".join(str(met.count(how)) for how in ("same", "clear", "said", "bad"))
        repaired, said = sum(r.restored for r in found), sum(r.said for r in found)
        trained = "/".join(sorted({str(r.trained) for r in found}))
        out.append(f"| {kind} | {len(found)} | {repaired} | {trained} | {said} | {counts} |")
    shutil.rmtree(work)
    return out


def storage() -> None:
    """Try everything and write the section."""
    with tempfile.TemporaryDirectory(prefix="higgsbench-storage-") as name:
        folder = Path(name)
        config = small.prepare(folder)
        whole = small.resume(config, folder / "whole").folder
        lines = [*refusal_lines(config, whole, folder), "", *damage_lines(config, whole, folder)]
    write_section("storage", lines)
