"""Progress of runs, studies and predictions, as commands and Python functions show it on standard error."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench.files import printable
from higgsbench.runs.run import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from higgsbench.runs import Failure

_LOG = logging.getLogger("higgsbench")


def _screen() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def show_line(text: str) -> None:
    """Show a line."""
    _screen().print(printable(text), soft_wrap=True)


class Counter:
    """Reports the number of scored events on standard error: a live count on a terminal, otherwise one line."""

    def __init__(self, data: str | Path) -> None:
        self.name, self.begin, self.count = printable(str(data)), time.monotonic(), 0
        self.live = sys.stderr.isatty()

    def __call__(self, events: int) -> None:
        """Count events."""
        self.count += events
        if self.live:
            rate = self.count / max(time.monotonic() - self.begin, 1e-9)
            sys.stderr.write(f"\r{self.name}: {self.count:,} events scored, {rate:,.0f} per second ")
            sys.stderr.flush()

    def end(self) -> None:
        """Show the total."""
        total = f"{self.name}: {self.count:,} events scored in {time.monotonic() - self.begin:.1f} s"
        sys.stderr.write("\n" if self.live else f"{total}\n")


def _result(record: dict[str, Any]) -> str:
    return f"AMS cv {record['ams_cv']:.3f} ± {record['ams_cv_se']:.3f}, wAUC {record['auc']:.4f}"


class Progress(Listener):
    """Shows the progress of a run: a live bar on a terminal or in a notebook, one line per step in logs and pipes."""

    def __init__(self, screen: Console | None = None, *, quiet: bool = False) -> None:
        from rich import progress as bars

        screen = screen or _screen()
        can_move = screen.is_terminal or (screen.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)
        self.screen, self.quiet, self.live = screen, quiet, can_move and not quiet
        self.total = self.done = 0
        self.folder: Path | None = None
        self.begin = time.monotonic()
        self.running: list[str] = []
        self.best: dict[str, Any] | None = None
        state = bars.TextColumn("{task.fields[state]}", style="dim", markup=False)
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), *times, state)
        self.bar = bars.Progress(*columns, console=screen, transient=True, disable=not self.live)
        self.task = self.bar.add_task("units", total=None, state="")

    def __enter__(self) -> Progress:
        if self.live:  # otherwise older versions of rich end a bar that is switched off with an empty line
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.bar.stop()

    def note(self, text: str) -> None:
        """Show a line."""
        if not self.quiet:
            self.screen.print(printable(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Pass a warning on."""
        if not self.quiet:
            super().warn(text)

    def planned(self, folder: Path, total: int, done: int) -> None:
        """Show how much there is to do."""
        self.folder, self.total, self.done, self.best = folder, total, done, None
        self.note(f"{folder}: {total} units, {done} of them already stored")
        self._refresh()

    def started(self, row: str, repeat: int, fold: int) -> None:
        """Show what runs now."""
        self.running.append(row)
        self._refresh()

    def finished(self, row: str, repeat: int, fold: int, seconds: float, failed: bool) -> None:
        """Count a unit."""
        self.done += 1
        if row in self.running:
            self.running.remove(row)
        what = f"fold {fold}" if fold >= 0 else "refit"
        if failed or not self.live:
            state = "FAILED" if failed else f"{seconds:.1f} s"
            elapsed = time.monotonic() - self.begin
            self.note(f"[{self.done}/{self.total}, {elapsed:.0f} s] {row}, {what}, repeat {repeat}: {state}")
        self._refresh()

    def row_done(self, record: dict[str, Any]) -> None:
        """Show the metrics of a row; on a terminal the best row stays visible."""
        if self.best is None or record["ams_cv"] > self.best["ams_cv"]:
            self.best = record
        if not self.live:
            self.note(f"  {record['name']}: {_result(record)}")
        self._refresh()

    def _refresh(self) -> None:
        running = ", ".join(dict.fromkeys(self.running))
        best = f"best {self.best['name']}: {_result(self.best)}" if self.best else ""
        state = " | ".join(part for part in (running, best) if part)
        self.bar.update(self.task, total=self.total, completed=self.done, state=state)


def listening(listener: Listener | None, progress: bool) -> contextlib.AbstractContextManager[Listener]:
    """Return the listener of a Python function: the given one, a bar if it should show progress, or the logger's."""
    return Progress() if progress and listener is None else contextlib.nullcontext(listener or Listener())


def warn_of(failures: Sequence[Failure]) -> None:
    """Log the fits that failed; a row that was refused before any fit has been named already."""
    for failure in failures:
        if failure.path is not None:
            _LOG.warning("%s failed: %s (traceback in %s)", failure.row, failure.message, failure.path)
