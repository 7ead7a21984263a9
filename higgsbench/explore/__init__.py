"""Floor 5: what a data set looks like before any model, as numbers, in the terminal and as a page."""

from higgsbench.explore.collect import explore
from higgsbench.explore.result import Exploration
from higgsbench.explore.simulated import SimulatedStream

__all__ = ["Exploration", "SimulatedStream", "explore"]
