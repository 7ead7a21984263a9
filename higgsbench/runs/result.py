"""The result of a run, and the listener that receives its progress."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.runs.budget import LeftOut

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
"""How the message of a traceback begins; the lines of its frames are indented."""


def last_line(error: str) -> str:
    """Return the sentence at the end of a failed unit's text; for a traceback, the first line of its message."""
    lines = error.strip().splitlines()
    frames = [at for at, line in enumerate(lines) if line.startswith('  File "')]
    if frames and lines[0].startswith("Traceback"):
        for line in lines[frames[-1] + 1 :]:
            if _EXCEPTION.match(line):
                return line.strip()
    return lines[-1].strip() if lines else "no reason is stored"


@dataclass(frozen=True)
class Failure:
    """A unit that failed: its model raised, exceeded a limit, or ended its process.

    Attributes:
        row: name of the row.
        message: last line of the traceback.
        path: file with the whole traceback, absolute; None for a row that was refused before any fit.
    """

    row: str
    message: str
    path: Path | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path and self.path.absolute())


@dataclass(frozen=True, repr=False)
class RunResult:
    """The result of a run.

    Attributes:
        folder: where everything is stored; absolute, so that it holds when the working folder changes.
        rows: leaderboard records.
        trained: number of units trained by this call.
        reused: number of units that were already there.
        failures: units that raised.
        left_out: rows that a time limit had no room for.
    """

    folder: Path
    rows: list[dict[str, Any]]
    trained: int
    reused: int
    failures: list[Failure]
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())

    def __repr__(self) -> str:
        """Name the folder and the best row; the rows themselves are long."""
        done = [row for row in self.rows if row["status"] == "ok"]
        best = max(done, key=lambda row: float(row["ams_cv"]), default=None)
        parts = [f"{len(done)} rows"]
        if best is not None:
            parts.append(f"highest AMS cv {best['ams_cv']:.3f} ± {best['ams_cv_se']:.3f} ({best['name']})")
        if self.failures:
            parts.append(f"{len(self.failures)} failed fits")
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out for time")
        return f"<RunResult {self.folder}: {', '.join(parts)}; {self.trained} fits trained, {self.reused} reused>"


class Listener(Protocol):
    """Receives the progress of a run."""

    def planned(self, folder: Path, total: int, done: int) -> None:
        """The plan is made: `done` of `total` units are already stored."""
        return

    def started(self, row: str, repeat: int, fold: int) -> None:
        """A unit was handed to a worker."""
        return

    def finished(self, row: str, repeat: int, fold: int, seconds: float, failed: bool) -> None:
        """A unit came back and is stored."""
        return

    def row_done(self, record: dict[str, Any]) -> None:
        """All units of a row are there; these are its metrics."""
        return

    def note(self, text: str) -> None:
        """Something worth a line."""
        return


class Silent(Listener):
    """A listener that ignores everything."""
