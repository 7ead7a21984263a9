"""A toy Monte Carlo of the challenge's events; its numbers are labelled as such and never count as real data."""

from higgsbench.events.simulate.blocks import (
    FORMATS,
    OFFICIAL_COLUMNS,
    simulate,
    simulate_batches,
    simulated_events,
    write_simulated,
)
from higgsbench.events.simulate.processes import DEFAULT_SETS, PROCESSES, SIMULATION_VERSION, SimulationSettings

__all__ = [
    "DEFAULT_SETS",
    "FORMATS",
    "OFFICIAL_COLUMNS",
    "PROCESSES",
    "SIMULATION_VERSION",
    "SimulationSettings",
    "simulate",
    "simulate_batches",
    "simulated_events",
    "write_simulated",
]
