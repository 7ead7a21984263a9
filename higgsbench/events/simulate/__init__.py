"""A toy Monte-Carlo of the challenge's events: labelled as such wherever its numbers appear, never real data."""

from higgsbench.events.simulate.blocks import (
    FIRST_EVENT_ID,
    FORMATS,
    OFFICIAL_COLUMNS,
    PROCESS_COLUMN,
    SCHEMA,
    simulate,
    simulate_batches,
    write_simulated,
)
from higgsbench.events.simulate.processes import DEFAULT_SETS, PROCESSES, SIMULATION_VERSION, SimulationSettings

__all__ = [
    "DEFAULT_SETS",
    "FIRST_EVENT_ID",
    "FORMATS",
    "OFFICIAL_COLUMNS",
    "PROCESSES",
    "PROCESS_COLUMN",
    "SCHEMA",
    "SIMULATION_VERSION",
    "SimulationSettings",
    "simulate",
    "simulate_batches",
    "write_simulated",
]
