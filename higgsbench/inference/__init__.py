"""Floor 5.3: expected significances and limits out of stored scores; imports no model and no training code."""

from higgsbench.inference.shifts import ShiftedScores, shift_table
from higgsbench.inference.significance import ModelSignificance, model_significance
from higgsbench.inference.statistics import Statistics, run_statistics
from higgsbench.inference.workspace import Template, build_workspace

__all__ = [
    "ModelSignificance",
    "ShiftedScores",
    "Statistics",
    "Template",
    "build_workspace",
    "model_significance",
    "run_statistics",
    "shift_table",
]
