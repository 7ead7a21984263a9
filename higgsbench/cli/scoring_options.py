"""What `predict` and `submit` share: how a run scores a file, seen from the command line."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import polars as pl

__all__ = ["jobs_option", "model_option", "reported", "split_names", "subset_option"]

model_option = click.option(
    "--model", metavar="NAME", help="Row to take, e.g. 'xgboost [jets]'; the stack by default, or the only row."
)
jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(min=1), help="Parts of the file scored at a time; all cores by default."
)


def subset_option(default: str) -> Callable[[Any], Any]:
    """Return the option that chooses subsets, its help ending with what holds without it."""
    return click.option("--subset", metavar="NAMES", help=f"Only events of these KaggleSets, e.g. b,v; {default}.")


def split_names(text: str | None) -> list[str] | None:
    """Return the names in a list with commas, or None where the option was not given.

    Raises:
        UsageError: if the list is empty.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--subset names no set; leave it out")
    return names


def reported(parts: Iterator[pl.DataFrame], data: Path, trained: pl.Series | None) -> Iterator[pl.DataFrame]:
    """Pass scored parts on and say on standard error how far the work is: a live count on a terminal, else the end.

    Events that the run was trained on are counted too and named at the end: their scores are no test of anything. Where
    the run cannot tell which those are, None, that is said instead.
    """
    name = printable(data)
    begin, count, live = time.monotonic(), 0, sys.stderr.isatty()
    seen = 0
    for part in parts:
        count += part.height
        if trained is not None:
            seen += int(part["EventId"].is_in(trained.implode()).sum())
        if live:
            rate = count / max(time.monotonic() - begin, 1e-9)
            click.echo(f"\r{name}: {count:,} events scored, {rate:,.0f} per second ", err=True, nl=False)
        yield part
    if live:
        click.echo("", err=True)
    else:
        click.echo(f"{name}: {count:,} events scored in {time.monotonic() - begin:.1f} s", err=True)
    if trained is None:
        click.echo(
            f"Warning: {name}: the run's scores.parquet is missing, so nothing tells whether the run was trained on "
            "these events; its configuration run again writes it anew",
            err=True,
        )
    if seen:
        click.echo(
            f"Warning: {name}: {seen:,} of the events have the EventId of events that the run was trained on; their "
            "scores are too good, so measure nothing with them",
            err=True,
        )
