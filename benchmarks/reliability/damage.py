"""Every file of a finished run cut, flipped in one bit, emptied or removed: who notices it, and what is repaired."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.reliability import small
from higgsbench.runs.result import Silent

__all__ = ["FILES", "damage", "lines", "readers", "repair"]

FILES = {
    "unit: scores": "units/*.parquet",
    "unit: marker": "units/[!.]*.json",
    "unit: model": "units/*.model.zip",
    "scores.parquet": "scores.parquet",
    "test_scores.parquet": "test_scores.parquet",
    "replicas.parquet": "replicas.parquet",
    "stack.json": "stack.json",
    "predictor.json": "predictor.json",
    "rows.json": "rows.json",
    "config.yaml": "config.yaml",
    "environment.json": "environment.json",
}
_FLIPS = 4


class _Notes(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)


@dataclass(frozen=True)
class Repair:
    """What running the configuration again came to.

    Attributes:
        trained: units that were trained again.
        said: whether a line names the damage.
        restored: whether all results are those of the undisturbed run.
    """

    trained: int
    said: bool
    restored: bool


def damage(content: bytes, random_: random.Random) -> list[tuple[str, bytes | None]]:
    """Return damaged forms of a file's content; None means that the file is gone."""
    flips: list[tuple[str, bytes | None]] = [("flipped", small.flipped(content, random_)) for _ in range(_FLIPS)]
    return [*flips, ("truncated", content[: len(content) // 2]), ("emptied", b""), ("removed", None)]


def spoil(file: Path, content: bytes | None) -> None:
    """Replace a file, which may have a second name elsewhere."""
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
    """Carry out a command and answer with the content of the file that it writes."""
    target.unlink(missing_ok=True)
    answer = small.cli(*command)
    return replace(answer, out=target.read_text() if target.exists() else "")


def _untimed(text: str) -> str:
    return re.sub(r"\d+\.\d s", "", text)


def judged(answer: small.Answer, intact: small.Answer) -> str:
    """Say how a reader met a damaged run: `same` answer, a `clear` line, `said` beside what is left, or `bad`."""
    if answer.clear:
        return "clear"
    if answer.code == 0 and "Traceback" not in answer.err:
        if answer.out == intact.out and _untimed(answer.err) == _untimed(intact.err):
            return "same"
        if any(word in answer.out + answer.err for word in ("damaged", "cannot be read", "unfinished", "is missing")):
            return "said"
    return "bad"


def lines(config: Path, whole: Path, folder: Path) -> list[str]:
    """Damage every kind of file in every way; return the table."""
    random_ = random.Random(2)  # noqa: S311  (no secret)
    work = folder / "damaged"
    run = work / whole.name
    out = [
        f"Each kind of file of a finished run, damaged in every way ({_FLIPS} single bits flipped, cut to half, "
        "emptied, removed). *Repaired*: the configuration is run again, and every result is then, byte for byte, that "
        "of the undisturbed run. *Readers* are leaderboard, members, compare, predict and (4 ways of each file) report "
        "on the damaged run: the same answer where they do not need the file, one clear line and exit 2, or what is "
        "left with a word on the damage; bad is anything else, a traceback or another number above all.",
        "",
        "| file | ways | repaired | fits trained again | said | readers: same | clear line | said | bad |",
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
            if 0 < number < _FLIPS:  # its drawings take seconds
                del asked["report"]
            met += [judged(read(), intact[name]) for name, read in asked.items()]
            found.append(repair(config, run, whole))
        counts = " | ".join(str(met.count(how)) for how in ("same", "clear", "said", "bad"))
        repaired, said = sum(r.restored for r in found), sum(r.said for r in found)
        trained = "/".join(sorted({str(r.trained) for r in found}))
        out.append(f"| {kind} | {len(found)} | {repaired} | {trained} | {said} | {counts} |")
    shutil.rmtree(work)
    return out
