"""Models of scikit-learn: logistic regression, a random forest, and multi-layer perceptrons averaged over seeds.

The same perceptrons as a packed ensemble are beside them: torch trains it, numpy scores with it.
"""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import LOG, MOMENTA, PHYSICS, RAW, parameter_names, tuned
from higgsbench.models.sklearn_codecs import CODECS
from higgsbench.models.spec import BAG, BuildContext, ModelSpec, Preset
from higgsbench.models.storage import StateCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

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


_QUADRATIC = {"degree": 2, "C": 0.003, "max_iter": 300}
_FOREST = {"max_features": "sqrt", "max_samples": 0.5}
_NETWORK = {BAG: 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128}
_CLIPPED = {"alpha": 0.1, "batch_size": 256, "learning_rate_init": 0.002, "scaling": "clip"}
_LAYERS = ([32], [64], [128], [64, 64], [96, 96], [128, 128], [64, 64, 64])


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.packed import PackedMLPClassifier

    own: dict[str, Any] = {
        "random_state": context.seed,
        "num_threads": context.threads,
        "decorrelation": context.decorrelation,
    }
    return PackedMLPClassifier(**own, **params).check()


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
        codecs=CODECS,
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
        codecs=CODECS,
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
        codecs=CODECS,
        parameters=functools.partial(parameter_names, "sklearn.neural_network", "MLPClassifier", "scaling"),
        harness=("random_state",),
        cost=8.0,
        memory=_memory_of_mlp,
        rounds=("max_iter",),
        pretraining=({"max_iter": 3}, {"max_iter": 5, "learning_rate_init": 0.002, "warm_start": True}),
        merit=0.9,
        **tuned(
            hidden_layer_sizes=(None, [json.dumps(sizes) for sizes in _LAYERS]),
            alpha=(None, 1e-3, 3.0, LOG),
            learning_rate_init=(0.001, 1e-4, 1e-2, LOG),
            max_iter=(None, 3, 30, LOG),
            batch_size=(None, [64, 128, 256, 512]),
        ),
    ),
    ModelSpec(
        name="torch_mlp",
        build=_build,
        description="Packed ensemble of multi-layer perceptrons, trained at once with torch",
        presets={
            "quick": Preset(
                {"members": 2, "hidden_layer_sizes": [64, 64], "epochs": 8, "learning_rate": 0.01}, **MOMENTA
            ),
            "good": Preset({"members": 4, "hidden_layer_sizes": [96, 96, 96], "epochs": 15}, **MOMENTA),
            "best": Preset({"members": 8, "hidden_layer_sizes": [96, 96, 96], "epochs": 15}, **MOMENTA),
        },
        requires=("torch", "numpy"),
        imports=("torch",),
        extra="torch",
        codecs=(StateCodec("torch_mlp", "higgsbench.models.packed:PackedMLPClassifier"),),
        parameters=functools.partial(parameter_names, "higgsbench.models.packed", "PackedMLPClassifier"),
        harness=("random_state", "num_threads", "decorrelation"),
        decorrelates=True,
        cost=10.0,
        rounds=("epochs",),
        pretraining=({"epochs": 3}, {"epochs": 5, "learning_rate": 0.002, "warm_start": True}),
        devices=("device",),
    ),
)
