"""Explore a data set before any model sees it: as numbers, in the terminal and as a page."""

from higgsbench.explore.describe import explore
from higgsbench.explore.result import Exploration

__all__ = ["Exploration", "explore"]
