"""`higgsbench data shift`."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.data_options import seed_option, shift_options, shifts_from
from higgsbench.cli.data_output import file_size, must_differ, quantity
from higgsbench.cli.file_name import FILE_NAME

__all__ = ["command"]


@click.command("shift", epilog="Example:  higgsbench data shift training.csv shifted.csv --tes 0.03 --bkg-scale 1.01")
@click.argument("source", metavar="IN", type=FILE_NAME)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@shift_options
@seed_option
@click.option("--reselect", is_flag=True, help="Drop events that the shift moved below the selection's thresholds.")
def command(
    source: Path,
    target: Path,
    tes: float,
    jes: float,
    soft_met: float,
    bkg_scale: float,
    process_scale: tuple[str, ...],
    seed: int,
    reselect: bool,
) -> None:
    """Apply systematic shifts to the events of IN, real or simulated, and write them to OUT.

    Energy scales and soft missing momentum move the primary quantities together; the derived ones follow. The format
    of OUT goes by its ending: .csv, .csv.gz, .parquet or .root. Without options the events stay as they are.
    """
    import polars as pl

    from higgsbench.errors import DataError
    from higgsbench.events.formats import output_format, write_events
    from higgsbench.events.read import load_events
    from higgsbench.events.shifts import apply_shifts

    shifts = shifts_from(tes, jes, soft_met, bkg_scale, process_scale)
    output_format(target)
    must_differ(source, target)
    events = load_events(source, cache=False)
    schema = events.schema
    measured = [name for name in schema.features if name not in schema.integers]
    frame = events.frame.with_columns(pl.col(measured).fill_null(schema.missing))
    try:
        shifted = apply_shifts(frame, shifts, seed, reselect=reselect)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    written = write_events(shifted, target, schema)
    dropped = f", {quantity(frame.height - shifted.height, 'event')} dropped" if reselect else ""
    click.echo(f"{written}: {quantity(shifted.height, 'event')}{dropped}, {file_size(written)}")
