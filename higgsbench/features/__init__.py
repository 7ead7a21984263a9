"""Floor 1: named feature sets as Polars expressions."""

from higgsbench.features.sets import FEATURE_SETS, Features, FeatureSet, feature_matrix, resolve_features

__all__ = ["FEATURE_SETS", "FeatureSet", "Features", "feature_matrix", "resolve_features"]
