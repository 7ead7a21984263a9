"""Further scikit-learn estimators through skops, with a fixed list of types; anything else is refused."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError
from higgsbench.models.storage.codec import UnstorableError
from higgsbench.models.storage.versions import check_sklearn, sklearn_version

if TYPE_CHECKING:
    from higgsbench.models.storage.codec import ModelReader, ModelWriter, Node

__all__ = ["TRUSTED", "SklearnCodec"]

TRUSTED = frozenset(
    {
        *("builtins.bool", "builtins.dict", "builtins.float", "builtins.int", "builtins.list", "builtins.str"),
        *("builtins.slice", "builtins.tuple"),
        *("numpy.dtype", "numpy.ndarray", "numpy.bool", "numpy.bool_", "numpy.str_"),
        *("numpy.float32", "numpy.float64", "numpy.int32", "numpy.int64", "numpy.uint32", "numpy.uint64"),
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.preprocessing._data.MinMaxScaler",
        "sklearn.preprocessing._data.RobustScaler",
    }
)
"""Types that a stored part may hold: numbers, arrays, and estimators whose prediction is plain numpy. Trees are not
among them: the library follows their node numbers unchecked (forests have a format of their own)."""

_LOADERS = frozenset(
    {"CachedNode", "DTypeNode", "DictNode", "JsonNode", "ListNode", "NdArrayNode", "ObjectNode", "TupleNode"}
    | {"SliceNode", "TypeNode"}
)
"""Ways of skops to make an object that call nothing a file could name."""


class SklearnCodec:
    """Any scikit-learn estimator that is made of the types in `TRUSTED` only."""

    kind = "sklearn"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an estimator of scikit-learn or of higgsbench's own parts."""
        own = type(estimator)
        return f"{own.__module__}.{own.__qualname__}" in TRUSTED and hasattr(estimator, "get_params")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the estimator.

        Raises:
            UnstorableError: if it holds a type that would not be trusted when it is read.
        """
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:  # skops says in many ways that it has no form for an object
            raise UnstorableError(f"{type(estimator).__name__} cannot be stored by skops: {error}") from error
        foreign = _foreign(content)
        if foreign:
            raise UnstorableError(f"{type(estimator).__name__} holds {foreign}, which is not trusted when it is read")
        return {"part": writer.part(content, "skops"), "sklearn": sklearn_version()}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the estimator.

        Raises:
            StoreError: if the part holds a type that is not trusted, or scikit-learn is of another version.
        """
        import skops.io

        check_sklearn(node["sklearn"])
        content = reader.part(node["part"])
        foreign = _foreign(content)
        if foreign:
            raise StoreError(f"its scikit-learn part holds {foreign}, which is not among the trusted types")
        with warnings.catch_warnings():
            # Of the same minor version, as just checked.
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
            return skops.io.loads(content, trusted=sorted(TRUSTED))


def _foreign(content: bytes) -> str:
    """Name a type or a way of making objects in a skops file that is not trusted; empty if there is none.

    skops has a list of its own, which trusts all of scikit-learn; this one is narrower and comes first.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        waiting = [json.loads(archive.read("schema.json"))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if "__class__" in value or "__module__" in value:
                name = f"{value.get('__module__')}.{value.get('__class__')}"
                if name not in TRUSTED:
                    return name[:100]
            if "__loader__" in value and value["__loader__"] not in _LOADERS:
                return f"a {str(value['__loader__'])[:60]}"
    return ""
