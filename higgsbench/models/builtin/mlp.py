"""Multi-layer perceptrons of scikit-learn, averaged over seeds."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import FLAGGED, MOMENTA, RAW, parameter_names
from higgsbench.models.spec import BAG, BuildContext, ModelSpec, Preset

if TYPE_CHECKING:
    from collections.abc import Mapping


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
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


def _memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags; clipped values are in double precision."""
    return 1.0 + (3.5 if params.get("scaling") == "clip" else 2.5) * FLAGGED


def _space() -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    layers = ([32], [64], [128], [64, 64], [96, 96], [128, 128], [64, 64, 64])
    return {
        "hidden_layer_sizes": CategoricalDistribution([json.dumps(sizes) for sizes in layers]),
        "alpha": FloatDistribution(1e-3, 3.0, log=True),
        "learning_rate_init": FloatDistribution(1e-4, 1e-2, log=True),
        "max_iter": IntDistribution(3, 30, log=True),
        "batch_size": CategoricalDistribution((64, 128, 256, 512)),
    }


_BEST = {
    BAG: 8,
    "hidden_layer_sizes": [128, 128],
    "alpha": 0.1,
    "max_iter": 8,
    "batch_size": 256,
    "learning_rate_init": 0.002,
    "scaling": "clip",
}

_GOOD = {BAG: 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128}

MODELS = (
    ModelSpec(
        name="mlp",
        build=_build,
        description="Seeded bag of scikit-learn multi-layer perceptrons",
        presets={
            "quick": Preset({"hidden_layer_sizes": [64], "alpha": 0.1, "max_iter": 6, "batch_size": 128}, **RAW),
            "good": Preset(
                {BAG: 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128}, **RAW
            ),
            "best": Preset(_BEST, **MOMENTA),
        },
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=functools.partial(parameter_names, "sklearn.neural_network", "MLPClassifier", "scaling"),
        harness=("random_state",),
        cost=8.0,
        search_space=_space,
        defaults={"learning_rate_init": 0.001},
        memory=_memory,
        rounds=("max_iter",),
        merit=0.9,
    ),
)
