"""Store fitted models in formats that run no code when they are read."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import io
import json
import math
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import ModelError, StoreError
from higgsbench.models.trees import MAX_FEATURES, NODE_FIELDS, fault_of_nodes, fitted_on_two_classes, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BUILTIN_CODECS",
    "PART_NAME",
    "PLAIN",
    "TRUSTED",
    "CatBoostCodec",
    "Codec",
    "ForestCodec",
    "LightGBMCodec",
    "LoadedLightGBM",
    "MembersCodec",
    "ModelReader",
    "ModelWriter",
    "Node",
    "PipelineCodec",
    "PlainCodec",
    "SklearnCodec",
    "StateCodec",
    "UnstorableError",
    "XGBoostCodec",
    "bag_codec",
    "check_sklearn",
    "checked_text",
    "read_model",
    "sklearn_version",
    "write_model",
]


Node = dict[str, Any]

PART_NAME = re.compile(r"[0-9]{1,9}\.[a-z]{1,12}")
"""Names of binary parts: a number and an ending, never a path."""

_MAX_DEPTH = 20


class UnstorableError(ModelError):
    """A fitted estimator has no form in which it can be stored safely; its scores are kept all the same."""


class Codec(Protocol):
    """One storage format of one kind of fitted estimator; it must pickle, for it travels to worker processes."""

    @property
    def kind(self) -> str:
        """Name of the format in the files."""

    def handles(self, estimator: Any) -> bool:
        """Whether this codec stores the estimator."""

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Describe the estimator as JSON values, binary content put into the writer.

        Raises:
            UnstorableError: if it holds something that has no safe form.
        """

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator; whatever is wrong with the node may raise any `Exception`."""


class ModelWriter:
    """Collects the binary parts of a model while its tree of nodes is made.

    Args:
        codecs: formats to choose from, the first that handles an estimator is taken.

    Attributes:
        parts: content of the binary parts by name.
    """

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self.codecs = tuple(codecs)
        self.parts: dict[str, bytes] = {}

    def node(self, estimator: Any) -> Node:
        """Describe an estimator, at the top or inside another one.

        Raises:
            UnstorableError: if no codec takes it.
        """
        from higgsbench.models.estimators import unwrapped

        # What stopped a fit early has nothing to say once the trees stand.
        estimator = unwrapped(estimator)
        for codec in self.codecs:
            if codec.handles(estimator):
                return {**codec.save(estimator, self), "kind": codec.kind}
        raise UnstorableError(f"{type(estimator).__name__} has no storage format that runs no code when it is read")

    def part(self, content: bytes, ending: str) -> str:
        """Keep binary content and return the name under which a node refers to it."""
        name = f"{len(self.parts)}.{ending}"
        self.parts[name] = content
        return name

    def arrays(self, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Keep arrays of numbers as one part and return its name.

        Raises:
            UnstorableError: if an array holds Python objects.
        """
        for name, values in arrays.items():
            if np.asarray(values).dtype.hasobject:
                raise UnstorableError(f"the array {name} holds Python objects, which only a pickle could store")
        stream = io.BytesIO()
        # Named one by one: an array may be called `file`, which savez would take for its own argument.
        names = list(arrays)
        contents = {f"a{i}": np.asarray(arrays[name]) for i, name in enumerate(names)}
        np.savez(stream, names=np.array(names, dtype=np.str_), **contents)  # type: ignore[arg-type]  # numpy's stub
        return self.part(stream.getvalue(), "npz")


class ModelReader:
    """Gives the parts of a stored model to the codecs that rebuild it.

    Args:
        codecs: formats that may occur.
        parts: content of the binary parts by name.
        threads: threads an estimator may use to predict.
    """

    def __init__(self, codecs: Sequence[Codec], parts: Mapping[str, bytes], threads: int = 1) -> None:
        self._codecs = {codec.kind: codec for codec in reversed(codecs)}
        self._parts = parts
        self._depth = 0
        self.threads = threads

    def estimator(self, node: Any) -> Any:
        """Rebuild the estimator that a node describes.

        Raises:
            StoreError: if the node's kind is not one of the codecs'.
        """
        kind = node.get("kind") if isinstance(node, dict) else None
        codec = self._codecs.get(kind) if isinstance(kind, str) else None
        if codec is None:
            raise StoreError(f"a model of kind {str(kind)[:40]!r}, which is none of {', '.join(sorted(self._codecs))}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise StoreError(f"models nested deeper than {_MAX_DEPTH}")
        try:
            return codec.load(node, self)
        finally:
            self._depth -= 1

    def part(self, name: Any) -> bytes:
        """Return the content of a binary part.

        Raises:
            StoreError: if there is none of that name.
        """
        if not isinstance(name, str) or not PART_NAME.fullmatch(name) or name not in self._parts:
            raise StoreError(f"it refers to {str(name)[:60]!r}, which is no part of it")
        return self._parts[name]

    def arrays(self, name: Any) -> dict[str, NDArray[Any]]:
        """Return the arrays of a part; arrays that would need unpickling are refused by numpy."""
        with np.load(io.BytesIO(self.part(name)), allow_pickle=False) as stored:
            names = [str(n) for n in stored["names"]]
            return {n: stored[f"a{i}"] for i, n in enumerate(names)}


@functools.cache
def sklearn_version() -> str:
    """Return the version of scikit-learn."""
    return importlib.metadata.version("scikit-learn")


def check_sklearn(stored: object) -> None:
    """Refuse what another minor version of scikit-learn stored: attributes and node layouts change between them.

    Raises:
        StoreError: naming both versions.
    """
    installed = sklearn_version()
    if str(stored).split(".")[:2] != installed.split(".")[:2]:
        raise StoreError(
            f"it was stored with scikit-learn {str(stored)[:20]}, installed is {installed}: install that version, or "
            "run the configuration again"
        )


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
    from higgsbench.models.estimators import SeedBag

    return MembersCodec("bag", SeedBag, functools.partial(_fitted_bag, log_odds))


def _fitted_bag(log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None, members: list[Any]) -> Any:
    from higgsbench.models.estimators import SeedBag

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


_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?([eE][+-]?\d{1,3})?|inf|nan)")
_WHOLE = re.compile(r"-?\d{1,9}")
_OBJECTIVE = re.compile(r"[a-z_]{1,40}( [a-z_]{1,40}(:[\w.+-]{1,40})?){0,5}")
_INFO = re.compile(r"none|\[[^\s\[\]:]{1,60}:[^\s\[\]:]{1,60}\]")
_NAME = re.compile(r"[^\s=\[\]{}\",:\\]{1,300}")

_PER_NODE = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
_PER_INNER = ("internal_value", "internal_weight", "internal_count")
_PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
_WHOLE_LISTS = frozenset(
    {"split_feature", "decision_type", "left_child", "right_child", "leaf_count", "internal_count"}
)


def checked_text(text: str) -> str:
    """Return the trees of a model text as the library reads them safely; scores are the same to the last bit.

    What the library does not need in order to predict (sizes, importances, parameters of the training) is left out.

    Raises:
        StoreError: saying what is wrong.
    """
    header, *trees = text.split("\nTree=")
    values = _fields(header)
    features = _whole(values, "max_feature_idx") + 1 if "max_feature_idx" in values else 0
    if not header.startswith("tree") or features < 1 or not trees:
        raise StoreError("its LightGBM part is no model text of that library")
    lines = [*_checked_header(header, values, features), ""]
    for number, block in enumerate(trees):
        lines += [f"Tree={number}", *_checked_tree(number, _fields(block.split("\n\n")[0]), features), "", ""]
    return "\n".join([*lines, "end of trees", "", ""])


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _whole(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not _WHOLE.fullmatch(text):
        raise StoreError(f"its LightGBM part has no whole number {name}")
    return int(text)


def _checked_header(header: str, values: dict[str, str], features: int) -> list[str]:
    if _whole(values, "num_class") != 1 or _whole(values, "num_tree_per_iteration") != 1:
        raise StoreError("its LightGBM part has trees for more than two classes")
    if values.get("version") not in ("v2", "v3", "v4"):
        raise StoreError("its LightGBM part is of a version that is not known")
    if not _OBJECTIVE.fullmatch(values.get("objective", "")):
        raise StoreError("its LightGBM part has no objective")
    for name, form in (("feature_names", _NAME), ("feature_infos", _INFO)):
        words = values.get(name, "").split(" ")
        if len(words) != features or not all(form.fullmatch(word) for word in words):
            raise StoreError(f"its LightGBM part does not have {features} {name}")
    known = ("version", "num_class", "num_tree_per_iteration", "objective", "feature_names", "feature_infos")
    kept = [f"{name}={values[name]}" for name in known]
    mean = ["average_output"] if "average_output" in header.splitlines() else []
    return ["tree", *kept[:3], "label_index=0", f"max_feature_idx={features - 1}", kept[3], *mean, *kept[4:]]


def _checked_tree(number: int, values: dict[str, str], features: int) -> list[str]:
    leaves = _whole(values, "num_leaves")
    if values.get("num_cat", "0") != "0" or values.get("is_linear", "0") != "0":
        raise StoreError(f"LightGBM tree {number} has splits on categories or linear leaves, which are not read")
    if leaves < 1:
        raise StoreError(f"LightGBM tree {number} has no leaves")
    lists = {"leaf_value": _list(number, values, "leaf_value", leaves)}
    if leaves > 1:
        lists |= {name: _list(number, values, name, leaves - 1) for name in _PER_NODE}
        lists |= {name: _list(number, values, name, leaves - 1) for name in _PER_INNER if name in values}
        lists |= {name: _list(number, values, name, leaves) for name in _PER_LEAF}
        _check_nodes(
            number, {name: np.array(lists[name], dtype=np.int64) for name in _WHOLE_LISTS & set(_PER_NODE)}, features
        )
    shrinkage = _list(number, values, "shrinkage", 1)
    order = ("split_feature", *_PER_NODE[1:], *_PER_LEAF, *_PER_INNER)
    body = [f"{name}={' '.join(lists[name])}" for name in order if name in lists]
    return [f"num_leaves={leaves}", "num_cat=0", *body, "is_linear=0", f"shrinkage={shrinkage[0]}"]


def _list(number: int, values: dict[str, str], name: str, size: int) -> Sequence[str]:
    words = values.get(name, "").split(" ")
    form = _WHOLE if name in _WHOLE_LISTS else _NUMBER
    if len(words) != size:
        raise StoreError(f"LightGBM tree {number}: {name} does not have {size} values")
    if not all(form.fullmatch(word) for word in words):
        raise StoreError(f"LightGBM tree {number}: {name} holds what is no number")
    return words


def _check_nodes(number: int, nodes: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]], features: int) -> None:
    split = nodes["split_feature"]
    leaves, own = split.size + 1, np.arange(split.size)
    # Nodes are numbered as they were split, so a child has a higher number than its parent: no circles.
    for child in (nodes["left_child"], nodes["right_child"]):
        good = np.where(child >= 0, (child > own) & (child < leaves - 1), ~child < leaves)
        if not good.all():
            raise StoreError(f"LightGBM tree {number} points to a node that it does not have")
    if ((split < 0) | (split >= features)).any():
        raise StoreError(f"LightGBM tree {number} splits on a feature that the model does not have")
    if ((nodes["decision_type"] < 0) | (nodes["decision_type"] > 15) | (nodes["decision_type"] & 1 == 1)).any():
        raise StoreError(f"LightGBM tree {number} decides in a way that is not known")


def _is(estimator: Any, package: str, name: str) -> bool:
    """Whether an estimator is of a class of a library, without importing the library."""
    own = type(estimator)
    return own.__name__ == name and own.__module__.split(".")[0] == package


class XGBoostCodec:
    """`XGBClassifier` as UBJSON, the library's own binary JSON."""

    kind = "xgboost"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an `XGBClassifier`."""
        return _is(estimator, "xgboost", "XGBClassifier")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the booster, and which value means missing."""
        missing = float(estimator.get_params()["missing"])
        content = bytes(estimator.get_booster().save_raw("ubj"))
        return {"part": writer.part(content, "ubj"), "missing": None if math.isnan(missing) else missing}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the booster."""
        from xgboost import XGBClassifier

        missing = math.nan if node["missing"] is None else float(node["missing"])
        estimator = XGBClassifier(n_jobs=reader.threads, missing=missing)
        estimator.load_model(bytearray(reader.part(node["part"])))
        return estimator


class _ThreadedBooster:
    """A LightGBM `Booster` that predicts with a number of threads of its own; one read from text takes all cores."""

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster = booster
        self._threads = threads

    def predict(self, X: ArrayLike, **more: Any) -> Any:
        return self._booster.predict(X, num_threads=self._threads, **more)

    def model_to_string(self) -> str:
        return str(self._booster.model_to_string())


class LoadedLightGBM:
    """What predicts in place of an `LGBMClassifier`: the booster, and the probabilities that it would make of it.

    Args:
        booster: the library's `Booster`.
        threads: threads to predict with.
    """

    def __init__(self, booster: Any, threads: int) -> None:
        self.booster_ = _ThreadedBooster(booster, threads)
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) of both classes."""
        p = np.asarray(self.booster_.predict(X))
        return np.column_stack([1.0 - p, p])


class LightGBMCodec:
    """`LGBMClassifier` as the library's text, which carries every digit."""

    kind = "lightgbm"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an `LGBMClassifier`, or what predicts of one."""
        return _is(estimator, "lightgbm", "LGBMClassifier") or type(estimator) is LoadedLightGBM

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the booster."""
        return {"part": writer.part(estimator.booster_.model_to_string().encode(), "txt")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the booster."""
        from lightgbm import Booster

        text = reader.part(node["part"]).decode("utf-8")
        return LoadedLightGBM(Booster(model_str=checked_text(text)), reader.threads)


class CatBoostCodec:
    """`CatBoostClassifier` as cbm, the library's own binary format."""

    kind = "catboost"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `CatBoostClassifier`."""
        return _is(estimator, "catboost", "CatBoostClassifier")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the model; the library writes files only."""
        with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
            file = Path(folder) / "model.cbm"
            estimator.save_model(str(file), format="cbm")
            return {"part": writer.part(file.read_bytes(), "cbm")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the model."""
        from catboost import CatBoostClassifier

        content = reader.part(node["part"])
        if content[:4] != b"CBM1":
            raise StoreError("its CatBoost part is no cbm file")
        estimator = CatBoostClassifier()
        estimator.load_model(blob=content)
        return estimator


_SMALL = {"left_child": np.int32, "right_child": np.int32, "feature": np.int16}


class ForestCodec:
    """`RandomForestClassifier` and `ExtraTreesClassifier` of two classes."""

    kind = "forest"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a forest of scikit-learn."""
        from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

        return type(estimator) in (RandomForestClassifier, ExtraTreesClassifier)

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the nodes of all trees, one after the other.

        Raises:
            UnstorableError: if it is no classifier of two classes on at most 32,767 features.
        """
        if estimator.n_outputs_ != 1 or len(estimator.classes_) != 2 or estimator.n_features_in_ > MAX_FEATURES:
            raise UnstorableError("a forest of more than two classes or 32,767 features is not stored")
        # Tree by tree, for a state is a copy: those of all trees together are as large as the forest.
        trees = [_arrays(tree.tree_.__getstate__()) for tree in estimator.estimators_]
        arrays = {name: np.concatenate([tree.pop(name) for tree in trees]) for name in list(trees[0])}
        return {
            "class": type(estimator).__name__,
            "features": int(estimator.n_features_in_),
            "sklearn": sklearn_version(),
            "arrays": writer.arrays(arrays),
        }

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the trees.

        Raises:
            StoreError: if a node points outside its tree, or scikit-learn is of another version.
        """
        from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

        check_sklearn(node["sklearn"])
        kinds = {kind.__name__: kind for kind in (RandomForestClassifier, ExtraTreesClassifier)}
        features = int(node["features"])
        arrays = reader.arrays(node["arrays"])
        _check(arrays, features)
        ends = np.cumsum(arrays["count"])
        parts = [slice(end - count, end) for end, count in zip(ends, arrays["count"], strict=True)]
        forest = kinds[node["class"]](n_estimators=len(parts), n_jobs=reader.threads)
        trees = [_tree(arrays, part, int(depth), features) for part, depth in zip(parts, arrays["depth"], strict=True)]
        forest.estimators_ = [_classifier(tree, features) for tree in trees]
        return fitted_on_two_classes(forest, features)


def _arrays(state: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What is stored of one tree; one number each of `count` and `depth`."""
    nodes = state["nodes"]
    arrays = {name: nodes[name].astype(_SMALL.get(name, nodes[name].dtype)) for name in NODE_FIELDS}
    arrays["value"] = state["values"][:, 0, :].copy()
    arrays["count"] = np.array([state["node_count"]], dtype=np.int64)
    arrays["depth"] = np.array([state["max_depth"]], dtype=np.int64)
    return arrays


def _classifier(tree: Any, features: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    classifier = fitted_on_two_classes(DecisionTreeClassifier(), features)
    classifier.tree_ = tree
    return classifier


def _tree(arrays: dict[str, NDArray[Any]], part: slice, depth: int, features: int) -> Any:
    nodes = {name: arrays[name][part] for name in NODE_FIELDS}
    return tree_of(nodes, arrays["value"][part], depth, features)


def _check(arrays: dict[str, NDArray[Any]], features: int) -> None:
    """Refuse trees that would make the library read outside its arrays or walk in circles."""
    left, right = arrays["left_child"], arrays["right_child"]
    fault = fault_of_nodes(arrays["count"], arrays["depth"], left, right, arrays["feature"], features)
    if fault:
        raise StoreError(fault)
    nodes = left.size
    shapes = {"threshold": (nodes,), "missing_go_to_left": (nodes,), "value": (nodes, 2)}
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        raise StoreError("the arrays of its forest do not fit together")
    if arrays["value"].dtype != np.float64 or arrays["threshold"].dtype != np.float64:
        raise StoreError("the values of its forest are not in double precision")


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


BUILTIN_CODECS: tuple[Codec, ...] = (
    XGBoostCodec(),
    LightGBMCodec(),
    CatBoostCodec(),
    ForestCodec(),
    PipelineCodec(),
    PlainCodec(),
    SklearnCodec(),
)

FORMAT = 1
_MANIFEST = "model.json"
_MAX_BYTES = 1 << 32
_HARMLESS, _MOST_TIMES = 1 << 28, 200
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_model(estimator: Any, file: Path, codecs: Sequence[Codec] = ()) -> None:
    """Store a fitted estimator; the caller makes the writing atomic.

    Equal models make equal files: no names, times or paths get in.

    Args:
        estimator: what to store.
        file: file to write.
        codecs: formats beside the built-in ones; they come first.

    Raises:
        UnstorableError: if a part of it has no form that is safe to read.
        OSError: if the disk refuses.
    """
    writer = ModelWriter((*codecs, *BUILTIN_CODECS))
    manifest = {"format": FORMAT, "model": writer.node(estimator)}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_MANIFEST: text, **writer.parts}.items():
            archive.writestr(_deflated(name), content, compresslevel=1)  # an entry does not inherit the archive's


def _deflated(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def read_model(file: Path, codecs: Sequence[Codec] = (), threads: int = 1) -> Any:
    """Read a stored model; nothing in the file is run, imported or unpacked.

    Args:
        file: the file; its checksum is the caller's business.
        codecs: formats beside the built-in ones that may occur.
        threads: threads the model may use to predict.

    Returns:
        The fitted estimator.

    Raises:
        StoreError: in one line, if the file is no model or holds anything but what these formats allow.
    """
    try:
        parts = _contents(file)
        manifest = json.loads(parts.pop(_MANIFEST))
        if manifest["format"] != FORMAT:
            raise StoreError(f"format {manifest['format']}, this version of higgsbench reads {FORMAT}")
        return ModelReader((*codecs, *BUILTIN_CODECS), parts, threads).estimator(manifest["model"])
    except StoreError as error:
        raise StoreError(f"{file}: refused as a stored model: {error}") from error
    except zipfile.BadZipFile as error:
        raise StoreError(f"{file}: no stored model of higgsbench, or damaged: {error}") from error
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each library has errors of its own for content that it cannot read
        raise StoreError(f"{file}: cannot be read as a stored model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what a library says; what Python itself says of a part that is missing helps nobody."""
    if isinstance(error, (TypeError, LookupError, AttributeError, RecursionError, AssertionError)):
        return "its description is damaged or not made by higgsbench"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for name in names:
            if name != _MANIFEST and not PART_NAME.fullmatch(name):
                raise StoreError(f"it has an entry named {name[:60]!r}, which higgsbench never writes")
        if len(set(names)) != len(names) or _MANIFEST not in names:
            raise StoreError(f"it has no single {_MANIFEST}, or an entry twice")
        if sum(entry.file_size for entry in entries) > _MAX_BYTES:
            raise StoreError("it unpacks to more than 4 GiB")
        packed = sum(entry.compress_size for entry in entries)
        if sum(entry.file_size for entry in entries) > max(_HARMLESS, _MOST_TIMES * packed):
            raise StoreError(f"it unpacks to more than {_MOST_TIMES} times its size")
        return {name: archive.read(name) for name in names}
