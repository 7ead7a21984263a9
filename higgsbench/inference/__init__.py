"""Layer 5: expected significances and limits from stored scores, and the effect of systematic shifts on them."""

from higgsbench.inference.shifts import ScoredShifts, ShiftedScores, shift_table
from higgsbench.inference.statistics import ModelSignificance, Statistics, model_significance, run_statistics
from higgsbench.inference.workspace import Template, build_workspace

__all__ = ["ModelSignificance", "ScoredShifts", "ShiftedScores", "Statistics", "Template", "build_workspace",
           "model_significance", "run_statistics", "shift_table"]  # fmt: skip
