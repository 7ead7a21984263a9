"""A toy Monte Carlo of the challenge's events; its numbers are labelled as such and never count as real data."""

from higgsbench.events.simulate.blocks import simulate, simulated_events, write_simulated
from higgsbench.events.simulate.processes import SimulationSettings

__all__ = ["SimulationSettings", "simulate", "simulated_events", "write_simulated"]
