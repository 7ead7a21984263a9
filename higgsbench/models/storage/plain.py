"""The scikit-learn estimators inside the built-in models, attribute by attribute as JSON values and arrays.

skops would do the same (and does, for other estimators), but importing it imports every module of scikit-learn and
whatever these import: seconds and hundreds of megabytes in every worker process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.models.storage.codec import UnstorableError
from higgsbench.models.storage.versions import check_sklearn, sklearn_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.storage.codec import ModelReader, ModelWriter, Node

__all__ = ["PLAIN", "PlainCodec"]

PLAIN = {
    "BlockwiseScaler": "higgsbench.models.parts",
    "FlaggedMedians": "higgsbench.models.parts",
    "LabelBinarizer": "sklearn.preprocessing",
    "LabelEncoder": "sklearn.preprocessing",
    "LogisticRegression": "sklearn.linear_model",
    "MLPClassifier": "sklearn.neural_network",
    "MissingIndicator": "sklearn.impute",
    "NormalQuantiles": "higgsbench.models.parts",
    "PolynomialFeatures": "sklearn.preprocessing",
    "QuadraticLogisticRegression": "higgsbench.models.quadratic",
    "QuantileTransformer": "sklearn.preprocessing",
    "ShortMLPClassifier": "higgsbench.models.parts",
    "SimpleImputer": "sklearn.impute",
    "SmoothClip": "higgsbench.models.parts",
    "StandardScaler": "sklearn.preprocessing",
}
"""Classes that are stored this way and the modules they are taken from; their prediction is plain numpy."""

_ONLY_FOR_TRAINING = frozenset({"_batches", "_optimizer", "_random_state", "loss_curve_", "validation_scores_"})
"""What a network keeps only to go on training; the optimizer is twice the size of the network."""


def _class(name: str) -> Any:
    return getattr(importlib.import_module(PLAIN[name]), name)


class PlainCodec:
    """Estimators of the classes in `PLAIN`."""

    kind = "plain"

    def handles(self, estimator: Any) -> bool:
        """Whether this is one of the classes."""
        name = type(estimator).__name__
        own = type(estimator).__module__.split(".")[0]
        return name in PLAIN and own == PLAIN[name].split(".")[0] and type(estimator) is _class(name)

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the attributes.

        Raises:
            UnstorableError: if one is neither a plain value nor an array nor an estimator of these classes.
        """
        arrays: dict[str, NDArray[Any]] = {}
        node = {"estimator": _encoded_estimator(estimator, arrays), "sklearn": sklearn_version()}
        return {**node, "arrays": writer.arrays(arrays)}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator.

        Raises:
            StoreError: if it names a class that is not in `PLAIN`, or scikit-learn is of another version.
        """
        check_sklearn(node["sklearn"])
        return _decoded({"estimator": node["estimator"]}, reader.arrays(node["arrays"]))


def _encoded_estimator(estimator: Any, arrays: dict[str, NDArray[Any]]) -> Node:
    kept = {name: value for name, value in vars(estimator).items() if name not in _ONLY_FOR_TRAINING}
    return {
        "class": type(estimator).__name__,
        "attributes": {name: _encoded(value, arrays) for name, value in kept.items()},
    }


def _encoded(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Turn a value into JSON; everything that JSON would change becomes an object that says what it is."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "item": name}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encoded(item, arrays) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encoded(item, arrays) for key, item in value.items()}}
    if PlainCodec().handles(value):
        return {"estimator": _encoded_estimator(value, arrays)}
    raise UnstorableError(f"a {type(value).__name__} inside the model has no storage format")


def _decoded(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("array", "item"):
        return arrays[content] if kind == "array" else arrays[content][()]
    if kind == "dtype":
        return np.dtype(str(content))
    if kind in ("list", "tuple"):
        items = [_decoded(item, arrays) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _decoded(item, arrays) for key, item in content.items()}
    if kind != "estimator" or content["class"] not in PLAIN:
        what = kind if kind != "estimator" else content["class"]
        raise StoreError(f"it holds {str(what)[:60]!r}, which is not among the trusted classes")
    own = _class(content["class"])
    estimator = own.__new__(own)
    vars(estimator).update({name: _decoded(item, arrays) for name, item in content["attributes"].items()})
    return estimator
