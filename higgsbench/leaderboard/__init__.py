"""Floor 5: tables out of stored runs; imports no model and no training code."""

from higgsbench.leaderboard.board import Leaderboard, Table

__all__ = ["Leaderboard", "Table"]
