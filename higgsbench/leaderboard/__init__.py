"""Layer 5: tables from stored runs; imports no model and no training code."""

from higgsbench.leaderboard.board import Leaderboard, Table

__all__ = ["Leaderboard", "Table"]
