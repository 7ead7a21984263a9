"""`higgsbench data convert`."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.data_output import file_size, must_differ, quantity
from higgsbench.cli.file_name import FILE_NAME

__all__ = ["command"]


@click.command("convert", epilog="Example:  higgsbench data convert training.csv training.parquet")
@click.argument("source", metavar="IN", type=FILE_NAME)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
def command(source: Path, target: Path) -> None:
    """Convert IN to OUT: .csv, .csv.gz, .parquet or .root by the ending of OUT; the content decides what IN is.

    Columns come out in the official order and missing values as -999.0; the events and so their digest stay the same.
    ROOT files need the extra `root`.
    """
    from higgsbench.events.formats import output_format, write_events
    from higgsbench.events.read import load_events

    output_format(target)  # before the reading, which takes time
    must_differ(source, target)
    events = load_events(source, cache=False)
    written = write_events(events.frame, target, events.schema)
    click.echo(f"{written}: {quantity(len(events), 'event')}, {file_size(written)}, content {events.digest[:12]}")
