"""Storage formats of scikit-learn's estimators, also inside other models: plain values, or skops.

Plain values are the default because importing skops takes about a second in every process, and storing a forest with
it takes nearly half as long as training it.
"""

from __future__ import annotations

import copy
import io
import json
import pkgutil
import re
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.models.storage import UnstorableError, class_name

if TYPE_CHECKING:
    from higgsbench.models.storage import Codec, ModelReader, ModelWriter, Node


class _PipelineCodec:
    """A scikit-learn Pipeline; each step is stored in its own format, so that a boosted model in it stays native."""

    kind = "pipeline"

    def handles(self, estimator: Any) -> bool:
        return class_name(estimator) == "sklearn.pipeline.Pipeline"

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        idle = (None, "passthrough")
        return {"steps": [[name, None if step in idle else writer.node(step)] for name, step in estimator.steps]}

    def load(self, node: Node, reader: ModelReader) -> Any:
        from sklearn.pipeline import Pipeline

        steps = [(str(name), "passthrough" if step is None else reader.estimator(step)) for name, step in node["steps"]]
        return Pipeline(steps)


_OWN = ("BlockwiseScaler", "FlaggedMedians", "NormalQuantiles", "ShortMLPClassifier", "SmoothClip")
_SKLEARN = (
    *("tree._tree.Tree", "ensemble._hist_gradient_boosting.predictor.TreePredictor"),
    *("ensemble._hist_gradient_boosting.binning._BinMapper", "_loss.link.HalfLogitLink", "_loss.link.Interval"),
    *("_loss.link.LogitLink", "_loss.loss.ExponentialLoss", "_loss.loss.HalfBinomialLoss"),
    *("neural_network._stochastic_optimizers.AdamOptimizer", "neural_network._stochastic_optimizers.SGDOptimizer"),
    *("calibration._CalibratedClassifier", "calibration._SigmoidCalibration", "multiclass._ConstantPredictor"),
    "utils._bunch.Bunch",
    *("gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace", "gaussian_process.kernels.ConstantKernel"),
    *(f"gaussian_process.kernels.{name}" for name in ("RBF", "Product", "Sum", "Matern", "WhiteKernel", "DotProduct")),
    *(f"feature_selection._univariate_selection.{name}" for name in ("chi2", "f_classif")),
    "feature_selection._mutual_info.mutual_info_classif",
)
_TRUSTED = frozenset(
    {
        *(f"higgsbench.models.parts.{name}" for name in _OWN),
        *(f"sklearn.{name}" for name in _SKLEARN),
        "numpy.dtype",
    }
)
"""Types and functions beyond those that skops trusts by itself (numbers, arrays, ufuncs, scikit-learn's estimators).
Trees and support vectors are checked."""

_NEVER = re.compile(r"sklearn\.svm\._classes\.((Nu)?SVR|OneClassSVM)")
"""Estimators whose compiled code uses stored indices without checking them."""

_LOADERS = (
    *("DTypeNode", "DictNode", "FunctionNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode", "ObjectNode"),
    *("RandomGeneratorNode", "RandomStateNode", "SliceNode", "TreeNode", "TupleNode", "TypeNode"),
)
"""The loaders by which skops makes an object; none of them calls anything that a file can name."""

_LOADERS_OF_OTHERS = ("BytearrayNode", "BytesNode", "ConstructorFromReduceNode", "DefaultDictNode", "SetNode")
"""Further loaders for models whose record trusts further types; one of them calls the constructor of such a type."""


@dataclass(frozen=True)
class SklearnCodec:
    """Any estimator with scikit-learn's interface, through skops, as far as its types are trusted.

    Attributes:
        trusted: names of types that are trusted beyond those of scikit-learn (`ModelSpec.trusted`).
    """

    trusted: frozenset[str] = frozenset()
    kind = "sklearn"

    def handles(self, estimator: Any) -> bool:
        """Whether it has parameters, and is not one of higgsbench's estimators that hold code."""
        return hasattr(estimator, "get_params") and not class_name(estimator).startswith(
            "higgsbench.models.estimators."
        )

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the estimator, unless it holds a type that would be refused when it is read."""
        import sklearn
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:  # skops raises many kinds of errors for objects that it cannot store
            raise UnstorableError(f"{type(estimator).__name__} cannot be stored by skops: {error}") from error
        if foreign := self._foreign(content):
            raise UnstorableError(
                f"{type(estimator).__name__} holds types that are not trusted when a model is read; if you trust them, "
                f"give ModelSpec(trusted={foreign})"
            )
        if fault := self._fault(content) or _fault_of_content(estimator):
            raise UnstorableError(f"{type(estimator).__name__} holds {fault}, which is not trusted when it is read")
        return {"part": writer.part(content, "skops"), "sklearn": sklearn.__version__}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the estimator, unless another minor version stored it: attributes and the layout of nodes change."""
        import sklearn

        stored, installed = str(node["sklearn"]), sklearn.__version__
        if stored.split(".")[:2] != installed.split(".")[:2]:
            how = "install that version, or run the configuration again"
            raise StoreError(f"it was stored with scikit-learn {stored[:20]}, but {installed} is installed: {how}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")  # from another patch version
            estimator = self.read(node, reader)
        if fault := _fault_of_content(estimator):
            raise StoreError(f"its scikit-learn part holds {fault}, which is not trusted")
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=reader.threads)
        return estimator

    def read(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator; `load` checks its content."""
        import skops.io

        content = reader.part(node["part"])
        if fault := self._fault(content):
            raise StoreError(f"its scikit-learn part holds {fault}, which is not trusted")
        return skops.io.loads(content, trusted=sorted(_TRUSTED | self.trusted))

    def _fault(self, content: bytes) -> str:
        """Name something forbidden in a skops file; empty if there is nothing."""
        described: list[dict[str, Any]] = []
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            json.loads(archive.read("schema.json"), object_hook=described.append)
        allowed = (*_LOADERS, *(_LOADERS_OF_OTHERS if self.trusted else ()))
        for node in described:
            loader, name = node.get("__loader__"), f"{node.get('__module__')}.{node.get('__class__')}"
            if loader is not None and (loader not in allowed or _NEVER.fullmatch(name)):
                return f"a {str(loader)[:40]} of {name[:60]}"
        foreign = self._foreign(content)
        return f"the type {foreign[0][:100]}" if foreign else ""

    def _foreign(self, content: bytes) -> list[str]:
        """Return the types and functions in a skops file that are not trusted."""
        import skops.io

        return sorted(set(skops.io.get_untrusted_types(data=content)) - _TRUSTED - self.trusted)


_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier")
_PLAIN = frozenset(
    {
        *(f"higgsbench.models.parts.{name}" for name in _OWN),
        *(f"sklearn.ensemble._forest.{name}" for name in _FORESTS),
        *(f"sklearn.tree._classes.{name}" for name in ("DecisionTreeClassifier", "ExtraTreeClassifier")),
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.preprocessing._polynomial.PolynomialFeatures",
        "sklearn.preprocessing._label.LabelBinarizer",
    }
)
"""Classes whose state is numbers, texts, arrays, collections of these, objects of these classes, and forests' trees."""


class _PlainCodec(SklearnCodec):
    """The estimators of the built-in models, as JSON and arrays; through skops if one holds other types."""

    kind = "plain"

    def handles(self, estimator: Any) -> bool:
        return class_name(estimator) in _PLAIN

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        import sklearn

        before = dict(writer.parts)
        try:
            return {"object": _described(estimator, writer), "sklearn": sklearn.__version__}
        except UnstorableError:
            writer.parts = before
            return super().save(estimator, writer)

    def read(self, node: Node, reader: ModelReader) -> Any:
        return super().read(node, reader) if "part" in node else _rebuilt(node["object"], reader)


def _described(value: Any, writer: ModelWriter) -> Any:
    """Describe a value as JSON and add its arrays to the writer; an UnstorableError if it is not plain."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple):
        return {kind.__name__: [_described(item, writer) for item in value]}
    if kind is dict:
        return {"dict": [[_described(item, writer) for item in pair] for pair in value.items()]}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": writer.arrays({"array": np.asarray(value)})["array"]}
    if class_name(value) not in _PLAIN:
        raise UnstorableError(f"{kind.__name__} is not plain")
    state, trees = value.__getstate__(), None
    if kind.__name__ in _FORESTS:
        trees = _described_trees(state.pop("estimators_"), writer)
    return {"object": class_name(value), "state": {k: _described(v, writer) for k, v in state.items()}, "trees": trees}


def _described_trees(trees: list[Any], writer: ModelWriter) -> Node:
    """Describe the trees of a forest, which differ only in their seeds and nodes."""
    first, states = copy.copy(trees[0]), [tree.tree_.__getstate__() for tree in trees]
    if first.n_outputs_ != 1:
        raise UnstorableError("a forest for several targets is not plain")
    del first.tree_
    nodes, values = (np.concatenate([state[name] for state in states]) for name in ("nodes", "values"))
    sizes, depths = (np.array([state[name] for state in states]) for name in ("node_count", "max_depth"))
    seeds = np.array([tree.random_state for tree in trees])
    arrays = {"nodes": nodes, "values": values, "sizes": sizes, "depths": depths, "seeds": seeds}
    return {"first": _described(first, writer), "arrays": writer.arrays(arrays)}


def _rebuilt(node: Any, reader: ModelReader) -> Any:
    """Return the value that a node describes."""
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items())) if len(node) == 1 else ("object", node["object"])
    if kind in ("list", "tuple"):
        items = [_rebuilt(item, reader) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {_rebuilt(key, reader): _rebuilt(value, reader) for key, value in content}
    if kind == "array":
        return reader.arrays({"array": content})["array"][()]  # a scalar if it has no dimensions
    if content not in _PLAIN:
        raise StoreError(f"it holds a {str(content)[:60]}, which is not trusted")
    cls = pkgutil.resolve_name(":".join(content.rsplit(".", 1)))
    estimator, state = cls.__new__(cls), {name: _rebuilt(value, reader) for name, value in node["state"].items()}
    if node["trees"] is not None:
        state["estimators_"] = _rebuilt_trees(node["trees"], reader)
    estimator.__setstate__(state)
    return estimator


def _rebuilt_trees(node: Node, reader: ModelReader) -> list[Any]:
    """Return the trees of a forest; scikit-learn checks the layout of the nodes, `_fault_of_trees` their content."""
    from sklearn.tree._tree import Tree

    first, arrays = _rebuilt(node["first"], reader), reader.arrays(node["arrays"])
    cuts, trees = np.cumsum(arrays["sizes"])[:-1], []
    parts = (*(np.split(arrays[name], cuts) for name in ("nodes", "values")), arrays["depths"], arrays["seeds"])
    for nodes, values, depth, seed in zip(*parts, strict=True):
        tree, classes = copy.copy(first), np.array([first.n_classes_])
        tree.random_state, tree.tree_ = int(seed), Tree(first.n_features_in_, classes, 1)
        state = {"max_depth": int(depth), "node_count": len(nodes), "nodes": nodes, "values": values}
        tree.tree_.__setstate__(state)
        trees.append(tree)
    return trees


def _fault_of_content(value: Any, columns: frozenset[int] = frozenset()) -> str:
    """Say whether prediction would leave the nodes of a tree, the columns that estimators check, or support vectors.

    skops checks that types are trusted, but not their content: scikit-learn follows the positions in a tree, and the
    sizes of a support vector machine, without checking them.
    """
    kind, state = type(value).__name__, {} if isinstance(value, type) else getattr(value, "__dict__", {})
    known = bool(columns)
    if kind == "Tree":
        left, right, feature = value.children_left, value.children_right, value.feature
        leaf, columns = left == -1, columns | {value.n_features}
    elif kind == "TreePredictor":  # histogram boosting; splits on categories, which cannot be checked, are refused
        left, right, feature = (value.nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
        leaf, known = value.nodes["is_leaf"] != 0, known and not value.nodes["is_categorical"].any()
    else:
        columns |= {number for name, number in state.items() if name == "n_features_in_"}
        if kind in ("SVC", "NuSVC") and not _fits_together(value):
            return "support vectors that do not fit together"
        parts = [*state.values(), *(value.values() if isinstance(value, dict) else ())]
        if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.hasobject):
            parts += np.ravel(value).tolist() if isinstance(value, np.ndarray) else value
        return next(filter(None, (_fault_of_content(part, columns) for part in parts)), "")
    # Nodes are numbered depth first, so a child has a higher number than its parent: no cycles.
    own = np.arange(left.size)
    inside = (left > own) & (left < own.size) & (right > own) & (right < own.size)
    inside &= (feature >= 0) & (feature < min(columns, default=0))
    sound = own.size and known and len(columns) == 1 and (leaf | inside).all()
    return "" if sound else "a tree that points outside itself"


def _fits_together(machine: Any) -> bool:
    """Whether the arrays of a support vector machine of two classes have the sizes that libsvm expects."""
    state, kernels = vars(machine), ("linear", "poly", "rbf", "sigmoid")
    if "support_" not in state:  # not fitted
        return True
    counts, vectors = state["_n_support"].astype(np.int64), state["support_"].size
    sizes = {
        "support_": (vectors,),
        "support_vectors_": (vectors, machine.n_features_in_),
        "_n_support": (2,),
        "_dual_coef_": (1, vectors),
        "_intercept_": (1,),
        "_probB": state["_probA"].shape,
    }
    dense = state["_sparse"] is False and state["kernel"] in kernels and machine._impl in ("c_svc", "nu_svc")
    fit = all(state[name].shape == size for name, size in sizes.items())
    return dense and fit and counts.min() >= 0 and counts.sum() == vectors and state["_probA"].shape in ((0,), (1,))


CODECS: tuple[Codec, ...] = (_PipelineCodec(), _PlainCodec())
