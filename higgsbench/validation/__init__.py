"""Layer 3.5: weighted stratified folds, training weights, jet-number split and stack as estimators."""

from higgsbench.validation.folds import PROPORTIONAL, TRAINING_WEIGHTS, fold_assignments, group_index, training_weights

__all__ = ["PROPORTIONAL", "TRAINING_WEIGHTS", "fold_assignments", "group_index", "training_weights"]
