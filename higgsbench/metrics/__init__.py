"""Layer 1: AMS and its scan, weighted metrics as records, paired statistics. numpy in, numbers out."""

from higgsbench.metrics.ams import AMSCurve, ams, ams_gradient, ams_scan
from higgsbench.metrics.estimates import (
    METRICS,
    Estimate,
    Metric,
    Scored,
    ams_estimate,
    log_loss,
    mean_estimate,
    paired_difference,
    roc_auc,
)
from higgsbench.metrics.weights import effective_sample_size, evaluation_weights

__all__ = ["METRICS", "AMSCurve", "Estimate", "Metric", "Scored", "ams", "ams_estimate", "ams_gradient", "ams_scan",
           "effective_sample_size", "evaluation_weights", "log_loss", "mean_estimate", "paired_difference",
           "roc_auc"]  # fmt: skip
