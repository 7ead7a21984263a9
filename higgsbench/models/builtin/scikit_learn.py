"""Models of scikit-learn: logistic regression, a random forest, and multi-layer perceptrons averaged over seeds.

Estimators of scikit-learn, also inside other models, are stored with skops.
"""

from __future__ import annotations

import functools
import io
import json
import math
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.models.builtin import LOG, MOMENTA, PHYSICS, RAW, parameter_names, tuned
from higgsbench.models.spec import BAG, BuildContext, ModelSpec, Preset
from higgsbench.models.storage import UnstorableError, class_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.models.storage import Codec, ModelReader, ModelWriter, Node

_REQUIRES = ("scikit-learn", "numpy", "scipy")

_FLAGGED = 1.4
"""Number of columns after imputation with missing flags, per column before it."""

_NODE = 80.0
"""Bytes of a node of a tree in scikit-learn."""

_NODES = 0.55
"""Nodes per event and tree, times the smallest leaf."""


def _build_logistic(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    from higgsbench.models.parts import BlockwiseScaler, NormalQuantiles

    own = dict(params)
    degree = own.pop("degree", 1)
    steps: list[Any] = [NormalQuantiles(random_state=context.seed, copy=not context.own_table)]
    if degree != 1:
        steps.append(PolynomialFeatures(degree=degree, include_bias=False))
    return make_pipeline(*steps, BlockwiseScaler(), LogisticRegression(random_state=context.seed, **own))


def _memory_of_logistic(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags of missing values; the table of products where there is one."""
    degree = params.get("degree", 1)
    if degree == 1:
        return 1.0 + 2.5 * _FLAGGED
    products = math.comb(round(_FLAGGED * columns) + degree, degree)
    return 4.0 + 1.2 * products / columns


def _build_mlp(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.pipeline import make_pipeline

    from higgsbench.models.parts import BlockwiseScaler, NormalQuantiles, ShortMLPClassifier, SmoothClip

    own = dict(params)
    scaling = own.pop("scaling", "quantiles")
    if scaling not in ("quantiles", "clip"):
        raise ValueError(f"scaling must be quantiles or clip, got {scaling!r}")
    quantiles = NormalQuantiles(random_state=context.seed, copy=not context.own_table)
    first = quantiles if scaling == "quantiles" else SmoothClip()
    # The flags of missing values come out of the imputation as 0 and 1; scaling last brings all to one width.
    return make_pipeline(first, BlockwiseScaler(), ShortMLPClassifier(random_state=context.seed, **own))


def _memory_of_mlp(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags; clipped values are in double precision."""
    return 1.0 + (3.5 if params.get("scaling") == "clip" else 2.5) * _FLAGGED


def smallest_leaf(events: int | None) -> int:
    """Smallest leaf of a forest, unless given; grows with the events, because larger trees would not be better."""
    return 5 if events is None else max(5, min(events // 10_000, 20), min(events // 20_000, 30))


def _build_forest(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    own = {"min_samples_leaf": smallest_leaf(context.events), **params}
    return RandomForestClassifier(random_state=context.seed, n_jobs=context.threads, **own)


def _log_odds_of_forest(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from higgsbench.models.estimators import read_log_odds

    # Use one thread: with several, the library sums the trees in the order in which threads finish; results vary.
    return read_log_odds(estimator.set_params(n_jobs=1), X)


def _memory_of_forest(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix, and the trees, which are all kept."""
    share, leaf = params.get("max_samples") or 1.0, params.get("min_samples_leaf", smallest_leaf(events))
    drawn = share * events if isinstance(share, float) else min(float(share), events)
    nodes = 2.0 * drawn if leaf == 1 else _NODES * drawn / (leaf if isinstance(leaf, int) else leaf * events)
    trees: int = params.get("n_estimators", 100)
    return float(2.5 + trees * _NODE * nodes / (4.0 * events * columns))


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
)
_TRUSTED = frozenset({*(f"higgsbench.models.parts.{name}" for name in _OWN), *(f"sklearn.{name}" for name in _SKLEARN)})
"""Types beyond those that skops trusts by itself (numbers, arrays, scikit-learn's estimators). Trees are checked."""

_NEVER = re.compile(r"sklearn\.svm\._classes\.(Nu)?SV[CR]|sklearn\.svm\._classes\.OneClassSVM")
"""Estimators whose compiled code uses stored indices without checking them."""

_LOADERS = (
    *("DTypeNode", "DictNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode", "ObjectNode", "RandomGeneratorNode"),
    *("RandomStateNode", "SliceNode", "TreeNode", "TupleNode", "TypeNode"),
)
"""The ways in which skops makes an object; none of them calls anything that a file could name."""


class _SklearnCodec:
    """Estimators of scikit-learn and of `higgsbench.models.parts`, through skops."""

    kind = "sklearn"

    def handles(self, estimator: Any) -> bool:
        ours = class_name(estimator).startswith(("sklearn.", "higgsbench.models.parts."))
        return ours and hasattr(estimator, "get_params")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the estimator, unless it holds a type that would be refused when it is read."""
        import sklearn
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:  # skops raises many kinds of errors for objects that it cannot store
            raise UnstorableError(f"{type(estimator).__name__} cannot be stored by skops: {error}") from error
        fault = _fault(content) or _fault_of_trees(estimator)
        if fault:
            raise UnstorableError(f"{type(estimator).__name__} holds {fault}, which is not trusted when it is read")
        return {"part": writer.part(content, "skops"), "sklearn": sklearn.__version__}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the estimator, unless another minor version stored it: attributes and the layout of nodes change."""
        import sklearn
        import skops.io

        stored, installed = str(node["sklearn"]), sklearn.__version__
        if stored.split(".")[:2] != installed.split(".")[:2]:
            how = "install that version, or run the configuration again"
            raise StoreError(f"it was stored with scikit-learn {stored[:20]}, but {installed} is installed: {how}")
        content = reader.part(node["part"])
        fault = _fault(content)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")  # from another patch version
            estimator: Any = None if fault else skops.io.loads(content, trusted=sorted(_TRUSTED))
        fault = fault or _fault_of_trees(estimator)
        if fault:
            raise StoreError(f"its scikit-learn part holds {fault}, which is not trusted")
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=reader.threads)
        return estimator


def _fault(content: bytes) -> str:
    """Name a type in a skops file that must not be made; empty if there is none."""
    import skops.io

    described: list[dict[str, Any]] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        json.loads(archive.read("schema.json"), object_hook=described.append)
    for node in described:
        loader, name = node.get("__loader__"), f"{node.get('__module__')}.{node.get('__class__')}"
        if loader is not None and (loader not in _LOADERS or _NEVER.fullmatch(name)):
            return f"a {str(loader)[:40]} of {name[:60]}"
    foreign = set(skops.io.get_untrusted_types(data=content)) - _TRUSTED
    return f"the type {min(foreign)[:100]}" if foreign else ""


def _fault_of_trees(value: Any, columns: frozenset[int] = frozenset()) -> str:
    """Say whether prediction with a tree would leave its nodes or the columns that the estimators around it check.

    skops checks that types are trusted, not that their content is: scikit-learn follows the positions in a tree without
    checking that they exist.
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
        parts = [*state.values(), *(value.values() if isinstance(value, dict) else ())]
        if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.hasobject):
            parts += np.ravel(value).tolist() if isinstance(value, np.ndarray) else value
        return next(filter(None, (_fault_of_trees(part, columns) for part in parts)), "")
    # Nodes are numbered depth first, so a child has a higher number than its parent: no cycles.
    own = np.arange(left.size)
    inside = (left > own) & (left < own.size) & (right > own) & (right < own.size)
    inside &= (feature >= 0) & (feature < min(columns, default=0))
    sound = own.size and known and len(columns) == 1 and (leaf | inside).all()
    return "" if sound else "a tree that points outside itself"


_CODECS: tuple[Codec, ...] = (_PipelineCodec(), _SklearnCodec())

_QUADRATIC = {"degree": 2, "C": 0.003, "max_iter": 300}
_FOREST = {"max_features": "sqrt", "max_samples": 0.5}
_NETWORK = {BAG: 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128}
_CLIPPED = {"alpha": 0.1, "batch_size": 256, "learning_rate_init": 0.002, "scaling": "clip"}
_LAYERS = ([32], [64], [128], [64, 64], [96, 96], [128, 128], [64, 64, 64])

MODELS = (
    ModelSpec(
        name="logistic",
        build=_build_logistic,
        description="Logistic regression on normal-quantile features and their pairwise products",
        presets={
            "quick": Preset({"C": 0.1, "max_iter": 200}, **RAW),
            "good": Preset(_QUADRATIC, **RAW),
            "best": Preset(_QUADRATIC, **PHYSICS),
        },
        requires=_REQUIRES,
        codecs=_CODECS,
        parameters=functools.partial(parameter_names, "sklearn.linear_model", "LogisticRegression", "degree"),
        harness=("random_state", "n_jobs"),
        cost=1.0,
        memory=_memory_of_logistic,
        merit=0.5,
        **tuned(C=(1.0, 1e-4, 100.0, LOG), degree=(1, [1, 2])),
    ),
    ModelSpec(
        name="random_forest",
        build=_build_forest,
        description="Random forest of scikit-learn",
        presets={
            "quick": Preset({**_FOREST, "n_estimators": 60}, **RAW),
            "good": Preset({**_FOREST, "n_estimators": 200}, **RAW),
            "best": Preset({**_FOREST, "n_estimators": 400}, **PHYSICS),
        },
        missing=True,
        requires=_REQUIRES,
        codecs=_CODECS,
        log_odds=_log_odds_of_forest,
        parameters=functools.partial(parameter_names, "sklearn.ensemble", "RandomForestClassifier"),
        harness=("random_state", "n_jobs"),
        cost=4.0,
        memory=_memory_of_forest,
        rounds=("n_estimators",),
        merit=0.75,
        **tuned(
            n_estimators=(100, 50, 400, {"step": 10}),
            min_samples_leaf=(5, 1, 100, LOG),
            max_features=("sqrt", ["sqrt", 0.15, 0.3, 0.5]),
            max_samples=(None, 0.2, 0.9),
            min_impurity_decrease=(0.0, 0.0, 1e-4),
        ),
    ),
    ModelSpec(
        name="mlp",
        build=_build_mlp,
        description="Seeded bag of scikit-learn multi-layer perceptrons",
        presets={
            "quick": Preset({"hidden_layer_sizes": [64], "alpha": 0.1, "max_iter": 6, "batch_size": 128}, **RAW),
            "good": Preset(_NETWORK, **RAW),
            "best": Preset({**_NETWORK, BAG: 8, "hidden_layer_sizes": [128, 128], **_CLIPPED}, **MOMENTA),
        },
        requires=_REQUIRES,
        codecs=_CODECS,
        parameters=functools.partial(parameter_names, "sklearn.neural_network", "MLPClassifier", "scaling"),
        harness=("random_state",),
        cost=8.0,
        memory=_memory_of_mlp,
        rounds=("max_iter",),
        merit=0.9,
        **tuned(
            hidden_layer_sizes=(None, [json.dumps(sizes) for sizes in _LAYERS]),
            alpha=(None, 1e-3, 3.0, LOG),
            learning_rate_init=(0.001, 1e-4, 1e-2, LOG),
            max_iter=(None, 3, 30, LOG),
            batch_size=(None, [64, 128, 256, 512]),
        ),
    ),
)
