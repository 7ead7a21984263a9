"""Estimators made of other estimators: pipelines, and bags whose members are stored one by one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from higgsbench.models.storage.codec import ModelReader, ModelWriter, Node

__all__ = ["MembersCodec", "PipelineCodec", "bag_codec"]


@dataclass(frozen=True)
class MembersCodec:
    """Stores an estimator whose fitted state is a list of fitted estimators.

    Attributes:
        kind: name of the format in the files.
        owner: the estimator's class.
        rebuild: makes a fitted estimator out of the list of its members.
        members: attribute that holds them.
    """

    kind: str
    owner: type
    rebuild: Callable[[list[Any]], Any]
    members: str = "estimators_"

    def handles(self, estimator: Any) -> bool:
        """Whether the estimator is of this class."""
        return type(estimator) is self.owner

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the members in order."""
        return {"members": [writer.node(member) for member in getattr(estimator, self.members)]}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the members and the estimator around them."""
        return self.rebuild([reader.estimator(member) for member in node["members"]])


def bag_codec(log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None) -> MembersCodec:
    """Return the codec of `SeedBag`.

    Args:
        log_odds: how the model's record in the registry reads log-odds off a member; code is never stored.
    """
    from higgsbench.models.bag import SeedBag

    return MembersCodec("bag", SeedBag, functools.partial(_fitted_bag, log_odds))


def _fitted_bag(log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None, members: list[Any]) -> Any:
    from higgsbench.models.bag import SeedBag

    if not members:
        raise StoreError("a bag without members")
    bag = SeedBag(members, log_odds)
    bag.estimators_, bag.classes_ = members, np.array([0, 1])
    return bag


class PipelineCodec:
    """A scikit-learn Pipeline; each step is stored in its own format, so that a boosted model in it stays native."""

    kind = "pipeline"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a Pipeline."""
        from sklearn.pipeline import Pipeline

        return type(estimator) is Pipeline

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store names and steps; a step that does nothing is None."""
        idle = (None, "passthrough")
        steps = [[name, None if step in idle else writer.node(step)] for name, step in estimator.steps]
        return {"steps": steps}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the steps."""
        from sklearn.pipeline import Pipeline

        steps = [(str(name), "passthrough" if step is None else reader.estimator(step)) for name, step in node["steps"]]
        return Pipeline(steps)
