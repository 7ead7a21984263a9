"""Floor 5: what a data set looks like before any model, as numbers, in the terminal and as a page."""

from higgsbench.explore.counts import SimulatedStream
from higgsbench.explore.describe import explore
from higgsbench.explore.result import Exploration

__all__ = ["Exploration", "SimulatedStream", "explore"]
