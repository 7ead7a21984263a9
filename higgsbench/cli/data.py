"""`higgsbench data`: bring, make, check, describe and convert event files."""

from __future__ import annotations

import click

from higgsbench.cli.main import LazyGroup

__all__ = ["command"]


@click.group(
    "data",
    cls=LazyGroup,
    lazy={
        "fetch": ("higgsbench.cli.data_fetch", "Bring the CERN Open Data file into the cache and verify it."),
        "info": ("higgsbench.cli.data_info", "Tell what an event file holds."),
        "validate": ("higgsbench.cli.data_validate", "Check an event file against every rule of real events."),
        "convert": ("higgsbench.cli.data_convert", "Convert between CSV, gzipped CSV, Parquet and ROOT."),
        "simulate": ("higgsbench.cli.data_simulate", "Write events of the built-in toy simulation."),
        "shift": ("higgsbench.cli.data_shift", "Apply systematic shifts to an event file."),
    },
    epilog="Example:  higgsbench data validate training.csv",
)
def command() -> None:
    """Bring, make, check, describe and convert event files."""
