"""How the meta-estimators are stored: shifts, groups and columns as JSON, the submodels in formats of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

if TYPE_CHECKING:
    from higgsbench.models.storage import ModelReader, ModelWriter, Node
    from higgsbench.validation.physical import LogOddsReader

__all__ = ["JetSplitCodec", "PhysicalCodec"]

_SCHEMES = ("training_weights", "weighted", "negative_weights")


def _schemes(estimator: PhysicalClassifier | JetSplitClassifier) -> Node:
    # A bag of seeds reads its members' log-odds by itself; the model's own reader is for single estimators.
    return {**{name: getattr(estimator, name) for name in _SCHEMES}, "reader": estimator.log_odds is not None}


def _fitted(estimator: Any, node: Node) -> Any:
    estimator.classes_ = np.array([0, 1])
    estimator.n_features_in_ = int(node["features"])
    return estimator


class PhysicalCodec:
    """`PhysicalClassifier`.

    Args:
        log_odds: how the model's record in the registry reads log-odds off the submodel; code is never stored.
    """

    kind = "physical"

    def __init__(self, log_odds: LogOddsReader | None) -> None:
        self.log_odds = log_odds

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `PhysicalClassifier`."""
        return type(estimator) is PhysicalClassifier

    def save(self, estimator: PhysicalClassifier, writer: ModelWriter) -> Node:
        """Store the shift of the prior and the submodel."""
        return {
            **_schemes(estimator),
            "features": estimator.n_features_in_,
            "prior_shift": estimator.prior_shift_,
            "estimator": writer.node(estimator.estimator_),
        }

    def load(self, node: Node, reader: ModelReader) -> PhysicalClassifier:
        """Rebuild it around its submodel.

        Raises:
            StoreError: if the shift is no finite number.
        """
        how = {name: node[name] for name in _SCHEMES}
        estimator = PhysicalClassifier(**how, log_odds=self.log_odds if node["reader"] else None)
        estimator.estimator_ = reader.estimator(node["estimator"])
        estimator.prior_shift_ = float(node["prior_shift"])
        if not np.isfinite(estimator.prior_shift_):
            raise StoreError("its shift of the prior is no finite number")
        return _fitted(estimator, node)  # type: ignore[no-any-return]


class JetSplitCodec:
    """`JetSplitClassifier`.

    Args:
        log_odds: see `PhysicalCodec`.
    """

    kind = "jets"

    def __init__(self, log_odds: LogOddsReader | None) -> None:
        self.log_odds = log_odds

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `JetSplitClassifier`."""
        return type(estimator) is JetSplitClassifier

    def save(self, estimator: JetSplitClassifier, writer: ModelWriter) -> Node:
        """Store the groups, the columns of each, and the submodels."""
        return {
            **_schemes(estimator),
            "features": estimator.n_features_in_,
            "group_feature": estimator.group_column,
            "groups": [[int(number) for number in group] for group in estimator.groups],
            "columns": [[int(column) for column in columns] for columns in estimator.columns_],
            "submodels": [writer.node(submodel) for submodel in estimator.submodels_],
        }

    def load(self, node: Node, reader: ModelReader) -> JetSplitClassifier:
        """Rebuild it around its submodels.

        Raises:
            StoreError: if groups, columns and submodels do not fit together.
        """
        features = int(node["features"])
        groups = tuple(tuple(int(number) for number in group) for group in node["groups"])
        columns = [np.array([int(c) for c in chosen], dtype=np.intp) for chosen in node["columns"]]
        if not len(groups) == len(columns) == len(node["submodels"]):
            raise StoreError("it does not have one submodel and one choice of columns per group")
        if any(((chosen < 0) | (chosen >= features)).any() for chosen in columns):
            raise StoreError("a submodel sees a column that is not there")
        how = {name: node[name] for name in _SCHEMES}
        estimator = JetSplitClassifier(
            group_feature=int(node["group_feature"]),
            groups=groups,
            **how,
            log_odds=self.log_odds if node["reader"] else None,
        )
        estimator.submodels_ = [reader.estimator(submodel) for submodel in node["submodels"]]
        estimator.columns_ = columns
        return _fitted(estimator, node)  # type: ignore[no-any-return]
