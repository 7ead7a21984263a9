"""`higgsbench data info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from higgsbench.cli.data_output import console, echo_json, file_size, format_option
from higgsbench.cli.file_name import FILE_NAME

if TYPE_CHECKING:
    from rich.table import Table

    from higgsbench.events.table import EventsInfo

__all__ = ["command"]


@click.command("info", epilog="Example:  higgsbench data info training.csv --format json")
@click.argument("file", type=FILE_NAME)
@format_option
def command(file: Path, form: str) -> None:
    """Tell what FILE holds: layout, digest, subsets with classes and sums of weights, missing values by jet number."""
    from higgsbench.events.read import load_events
    from higgsbench.events.table import describe

    info = describe(load_events(file))
    if form == "json":
        echo_json({**info.as_dict(), "bytes": file.expanduser().stat().st_size})
        return
    out = console()
    out.print(_summary(info, file_size(file.expanduser())))
    out.print(_subsets(info))
    if info.missing:
        out.print(_missing(info))


def _summary(info: EventsInfo, size: str) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    facts = {
        "file": f"{info.source} ({size})",
        "layout": info.layout,
        "events": f"{info.rows:,}",
        "columns": f"{len(info.columns)}: {info.columns[0]} ... {info.columns[-1]}",
        "labels": "yes" if info.labelled else "none: test events",
        "weights": info.weight or "none: every event counts 1",
        "content": info.digest,
    }
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _subsets(info: EventsInfo) -> Table:
    from rich.table import Table

    table = Table(title="Subsets")
    table.add_column("subset")
    for name in ("events", "signal", "background", "sum of signal weights", "sum of background weights"):
        table.add_column(name, justify="right")
    for row in info.subsets:
        counts = [f"{n:,}" if n is not None else "-" for n in (row.events, row.signal, row.background)]
        sums = [f"{w:,.3f}" if w is not None else "-" for w in (row.signal_weight, row.background_weight)]
        table.add_row(row.name, *counts, *sums)
    return table


def _missing(info: EventsInfo) -> Table:
    """Missing values by jet number; columns with the same counts share a line."""
    from rich.table import Table

    table = Table(title="Missing values" + (" by jet number" if info.groups else ""))
    table.add_column("columns")
    groups: list[int | None] = list(info.groups) or [None]
    for group in groups:
        title = f"{group} ({info.groups[group]:,} events)" if group is not None else "events"
        table.add_column(title, justify="right")
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, counts in info.missing.items():
        alike.setdefault(tuple(counts[group] for group in groups), []).append(name)
    for numbers, names in alike.items():
        table.add_row("\n".join(names), *(f"{n:,}" for n in numbers))
    return table
