"""`higgsbench data simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.data_options import number_pairs, seed_option, shift_options, shifts_from
from higgsbench.cli.data_output import file_size, quantity

__all__ = ["command"]


@click.command(
    "simulate", epilog="Example:  higgsbench data simulate --events 100000 --seed 1 --mix ttbar=2 -o toy.parquet"
)
@click.option("--events", type=click.IntRange(1), required=True, help="Number of events.")
@seed_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write: .csv, .csv.gz or .parquet."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes; no effect on the events."
)
@click.option("--higgs-mass", type=float, default=125.0, show_default=True, help="Mass of the Higgs boson, GeV.")
@click.option("--luminosity", type=float, default=1.0, show_default=True, help="Factor on all expected events.")
@click.option(
    "--mix", multiple=True, metavar="PROCESS=FACTOR", help="Factor on the share of a process in its class; repeatable."
)
@click.option(
    "--set-proportions",
    default="t=250,b=100,v=450",
    show_default=True,
    metavar="SET=NUMBER,...",
    help="Relative sizes of the KaggleSets.",
)
@shift_options
def command(
    events: int,
    seed: int,
    output: Path,
    jobs: int,
    higgs_mass: float,
    luminosity: float,
    mix: tuple[str, ...],
    set_proportions: str,
    tes: float,
    jes: float,
    soft_met: float,
    bkg_scale: float,
    process_scale: tuple[str, ...],
) -> None:
    """Write events of the built-in toy Monte-Carlo in the official layout.

    The same seed gives the same events whatever the number of processes. The systematic shifts act on every event, as
    `data shift` does. This is a toy for learning and testing, fitted to real events; it is not ATLAS simulation.
    """
    from higgsbench.events.simulate import SimulationSettings, write_simulated

    settings = SimulationSettings(
        events=events,
        seed=seed,
        mix=number_pairs(mix, "--mix"),
        higgs_mass=higgs_mass,
        luminosity=luminosity,
        set_proportions=number_pairs([set_proportions], "--set-proportions"),
        shifts=shifts_from(tes, jes, soft_met, bkg_scale, process_scale),
    )
    written = write_simulated(settings, output.expanduser(), jobs=jobs)
    click.echo(f"{written}: {quantity(events, 'toy simulated event')}, seed {seed}, {file_size(written)}")
