"""Named feature sets as Polars expressions."""

from higgsbench.features.quantity import Quantity
from higgsbench.features.sets import (
    Features,
    FeatureSet,
    feature_matrix,
    feature_set,
    feature_sets,
    register_features,
    resolve_features,
)

__all__ = ["FeatureSet", "Features", "Quantity", "feature_matrix", "feature_set", "feature_sets", "register_features",
           "resolve_features"]  # fmt: skip
