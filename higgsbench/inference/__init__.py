"""Floor 5: expected significances and limits from stored scores, and what systematic shifts do to them."""

from higgsbench.inference.shifts import ScoredShifts, ShiftedScores, shift_table
from higgsbench.inference.statistics import ModelSignificance, Statistics, model_significance, run_statistics
from higgsbench.inference.workspace import Template, build_workspace

__all__ = ["ModelSignificance", "ScoredShifts", "ShiftedScores", "Statistics", "Template", "build_workspace",
           "model_significance", "run_statistics", "shift_table"]  # fmt: skip
