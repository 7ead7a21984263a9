"""Models that state themselves as arrays of numbers and plain parameters."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgsbench.models.storage.codec import ModelReader, ModelWriter, Node

__all__ = ["StateCodec"]


@dataclass(frozen=True)
class StateCodec:
    """Stores an estimator that can state itself: npz for the arrays, JSON for the rest.

    The class has a method `state()` that returns a mapping of names to arrays of numbers and a JSON object, and a class
    method `from_state(arrays, parameters)` that makes a fitted estimator of them, ready to predict.

    Attributes:
        kind: name of the format in the files.
        estimator: the class as "module:Class"; imported when a model is stored or read, so that a record of a model
            needs no optional dependency. It comes from the model's record in the registry, never from a file.
    """

    kind: str
    estimator: str

    def _class(self) -> Any:
        module, name = self.estimator.split(":")
        return getattr(importlib.import_module(module), name)

    def handles(self, estimator: Any) -> bool:
        """Whether the estimator is of this class."""
        module, name = self.estimator.split(":")
        own = type(estimator)
        return bool(own.__module__ == module and own.__qualname__ == name)

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store what `state` returns."""
        arrays, parameters = estimator.state()
        return {"arrays": writer.arrays(arrays), "parameters": parameters}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Hand the state to `from_state`, and the reader's threads to an estimator that has `n_jobs`."""
        estimator = self._class().from_state(reader.arrays(node["arrays"]), node["parameters"])
        if hasattr(estimator, "n_jobs"):
            estimator.n_jobs = reader.threads
        return estimator
