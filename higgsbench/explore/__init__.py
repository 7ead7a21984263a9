"""What a data set looks like before any model, as numbers, in the terminal and as a page."""

from higgsbench.explore.describe import explore
from higgsbench.explore.result import Exploration

__all__ = ["Exploration", "explore"]
