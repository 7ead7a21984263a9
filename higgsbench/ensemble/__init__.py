"""Layer 2: recalibrates, blends and cuts stored out-of-fold scores; never trains a base model."""

from higgsbench.ensemble.blend import (
    BLEND_METHODS,
    Blend,
    Diversity,
    MemberGain,
    blend_diversity,
    cross_fitted_blend,
    cross_fitted_recalibration,
    fit_blend,
    fit_recalibration,
    score_correlation,
)
from higgsbench.ensemble.cut import CUT_RULES, Cut, Truth, best_cut, choose_cut
from higgsbench.ensemble.evaluate import (
    METRICS_VERSION,
    Replicas,
    RowMetrics,
    estimates,
    evaluate_held_out,
    evaluate_row,
    paired,
)

__all__ = ["BLEND_METHODS", "CUT_RULES", "METRICS_VERSION", "Blend", "Cut", "Diversity", "MemberGain", "Replicas",
           "RowMetrics", "Truth", "best_cut", "blend_diversity", "choose_cut", "cross_fitted_blend",
           "cross_fitted_recalibration", "estimates", "evaluate_held_out", "evaluate_row", "fit_blend",
           "fit_recalibration", "paired", "score_correlation"]  # fmt: skip
