"""`higgsbench data fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from higgsbench.cli.data_output import file_size, quantity

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["command"]


@click.command("fetch", epilog="Example:  higgsbench data fetch --from ~/Downloads/higgs.csv.gz")
@click.option("--from", "source", metavar="URL|FILE", help="A mirror's address, or the file already downloaded.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Also copy the verified file to this path or folder."
)
@click.option("--force", is_flag=True, help="Bring the file even if the cache holds it.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds without an answer after which an attempt is given up.",
)
@click.option("--attempts", type=click.IntRange(1), default=3, show_default=True, help="How often to try.")
def command(source: str | None, output: Path | None, force: bool, timeout: float, attempts: int) -> None:
    """Bring the challenge's file (818,238 events, 65 MB) from CERN Open Data, record 328, into the cache.

    The content is verified before the file gets its name: columns, number of events per KaggleSet, sums of weights.
    The cache is in the user's cache folder; HIGGSBENCH_CACHE_DIR moves it. Afterwards `data: {source: opendata}`
    in a configuration means this file.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from higgsbench.cli.data_output import console
    from higgsbench.events.fetch import fetch_opendata

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    screen = console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=screen, disable=not screen.is_terminal) as bar:
        fetched = fetch_opendata(
            source,
            output=output,
            force=force,
            timeout=timeout,
            attempts=attempts,
            progress=_PoochProgress(bar),
        )
    state = "verified" if fetched.fresh else "already in the cache"
    click.echo(f"{fetched.path}: {state}, {quantity(fetched.rows, 'event')}, {file_size(fetched.path)}")
    click.echo(f"SHA-256 {fetched.sha256}, from {fetched.source}")
    if output is not None:
        click.echo(f"copied to {output}")


class _PoochProgress:
    """A rich progress bar with the four methods pooch asks for; starts afresh with each attempt."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("downloading", total=None, visible=False)

    @property
    def total(self) -> float | None:
        """Bytes to come, None if the server does not say."""
        return self.bar.tasks[0].total

    @total.setter
    def total(self, size: int) -> None:
        self.bar.reset(self.task, total=size or None, visible=True)

    def update(self, size: int) -> None:
        """Count bytes that have arrived."""
        self.bar.update(self.task, advance=size)

    def reset(self) -> None:
        """Go back to zero; pooch does so before it fills the bar."""
        self.bar.reset(self.task)

    def close(self) -> None:
        """Say what happens next, which takes seconds."""
        self.bar.update(self.task, description="verifying")
