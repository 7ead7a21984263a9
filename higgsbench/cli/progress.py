"""How a run is shown while it goes: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from higgsbench.files import printable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LiveProgress", "PlainProgress"]


def _result(record: dict[str, Any]) -> str:
    return f"AMS cv {record['ams_cv']:.3f} ± {record['ams_cv_se']:.3f}, wAUC {record['auc']:.4f}"


class PlainProgress:
    """One line per event of note, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = 0
        self.folder: Path | None = None
        self.begin = time.monotonic()

    def __enter__(self) -> PlainProgress:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def line(self, text: str) -> None:
        """Print a line as it is, neither wrapped nor highlighted."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def planned(self, folder: Path, total: int, done: int) -> None:
        """Say what is to do."""
        self.folder, self.total, self.done = folder, total, done
        self.line(f"{folder}: {total} units, {done} of them already stored")

    def started(self, row: str, repeat: int, fold: int) -> None:
        """Say nothing: the end of a unit is line enough."""

    def finished(self, row: str, repeat: int, fold: int, seconds: float, failed: bool) -> None:
        """Count a unit."""
        self.done += 1
        what = f"fold {fold}" if fold >= 0 else "refit"
        state = "FAILED" if failed else f"{seconds:.1f} s"
        elapsed = time.monotonic() - self.begin
        self.line(f"[{self.done}/{self.total}, {elapsed:.0f} s] {row}, {what}, repeat {repeat}: {state}")

    def row_done(self, record: dict[str, Any]) -> None:
        """Show the metrics of a row."""
        self.line(f"  {record['name']}: {_result(record)}")

    def note(self, text: str) -> None:
        """Show a line."""
        self.line(text)


class LiveProgress(PlainProgress):
    """A bar over the work units with remaining time, what runs now, and the best row so far."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}", style="dim"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("units", total=None, state="")
        self.running: list[str] = []
        self.best: dict[str, Any] | None = None

    def __enter__(self) -> LiveProgress:
        """Start the bar."""
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self.bar.stop()

    def planned(self, folder: Path, total: int, done: int) -> None:
        """Set the length of the bar."""
        super().planned(folder, total, done)
        self.bar.update(self.task, total=total, completed=done)

    def started(self, row: str, repeat: int, fold: int) -> None:
        """Show what runs now."""
        self.running.append(row)
        self._refresh()

    def finished(self, row: str, repeat: int, fold: int, seconds: float, failed: bool) -> None:
        """Move the bar on."""
        self.done += 1
        if row in self.running:
            self.running.remove(row)
        if failed:
            self.line(f"{row}, fold {fold}, repeat {repeat}: FAILED")
        self.bar.update(self.task, completed=self.done)
        self._refresh()

    def row_done(self, record: dict[str, Any]) -> None:
        """Keep the best row in sight."""
        if self.best is None or record["ams_cv"] > self.best["ams_cv"]:
            self.best = record
        self._refresh()

    def _refresh(self) -> None:
        running = ", ".join(dict.fromkeys(self.running))
        best = f"best {self.best['name']}: {_result(self.best)}" if self.best else ""
        self.bar.update(self.task, state=" | ".join(part for part in (running, best) if part))
