"""Floor 3: weighted stratified folds, training weights, the jet-number split, scores in physical normalisation."""

from higgsbench.validation.folds import fold_assignments, group_index
from higgsbench.validation.weights import PROPORTIONAL, TRAINING_WEIGHTS, training_weights

__all__ = ["PROPORTIONAL", "TRAINING_WEIGHTS", "fold_assignments", "group_index", "training_weights"]
