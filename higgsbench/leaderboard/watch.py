"""The leaderboard of runs that are still going, shown anew until they are done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from higgsbench.errors import HiggsbenchError
from higgsbench.leaderboard.board import Leaderboard
from higgsbench.leaderboard.render import output_console, renderables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["unfinished", "watch"]


def unfinished(results: Path) -> dict[str, int]:
    """Runs that have begun and have no rows yet, with the number of units they have stored.

    Args:
        results: folder that holds runs, or one run's folder.
    """
    if (results / "units").is_dir() or (results / "rows.json").exists():
        folders = [results]
    else:
        folders = sorted(p for p in results.iterdir() if p.is_dir()) if results.is_dir() else []
    going = [f for f in folders if (f / "units").is_dir() and not (f / "rows.json").exists()]
    return {f.name: len(list((f / "units").glob("[!.]*.json"))) for f in going}


def watch(
    results: Path,
    sort: str,
    columns: Sequence[str] | None,
    *,
    seconds: float = 2.0,
    console: Console | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Refresh the leaderboard until every run has its rows; the last state stays on the screen.

    Args:
        results: folder that holds runs, or one run's folder.
        sort: column that ranks.
        columns: chosen columns.
        seconds: pause between two looks.
        console: where to; standard output by default.
        wait: how to pause.

    Raises:
        HiggsbenchError: if the first look fails; later ones may meet a half-written folder and are tried again.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    target = console or output_console()
    board = Leaderboard.read(results, sort=sort)
    with Live(console=target, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            going = unfinished(results)
            lines = [Text(f"{name}: {units} units stored, going on", style="cyan") for name, units in going.items()]
            live.update(Group(*renderables(board, target, columns), *lines), refresh=True)
            if not going:
                return
            wait(seconds)
            try:
                board = Leaderboard.read(results, sort=sort)
            except HiggsbenchError:
                continue
