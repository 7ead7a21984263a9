"""Floor 1: AMS and its scan, weighted classification metrics, paired statistics. numpy in, numbers out."""

from higgsbench.metrics.ams import AMSCurve, ams, ams_gradient, ams_scan
from higgsbench.metrics.estimates import (
    Estimate,
    ams_estimate,
    bootstrap_ams,
    log_loss,
    mean_estimate,
    paired_difference,
    roc_auc,
)
from higgsbench.metrics.weights import effective_sample_size, evaluation_weights

__all__ = [
    "AMSCurve",
    "Estimate",
    "ams",
    "ams_estimate",
    "ams_gradient",
    "ams_scan",
    "bootstrap_ams",
    "effective_sample_size",
    "evaluation_weights",
    "log_loss",
    "mean_estimate",
    "paired_difference",
    "roc_auc",
]
