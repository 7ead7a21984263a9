"""Floor 1: named feature sets as Polars expressions."""

from higgsbench.features.matrix import Features, feature_matrix
from higgsbench.features.quantity import Quantity
from higgsbench.features.sets import FeatureSet, feature_set, feature_sets, register_features, resolve_features

__all__ = [
    "FeatureSet",
    "Features",
    "Quantity",
    "feature_matrix",
    "feature_set",
    "feature_sets",
    "register_features",
    "resolve_features",
]
