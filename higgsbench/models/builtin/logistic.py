"""Logistic regression of scikit-learn on normal-quantile features and, with `degree: 2`, their products."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import FLAGGED, PHYSICS, RAW, parameter_names
from higgsbench.models.spec import BuildContext, ModelSpec, Preset

if TYPE_CHECKING:
    from collections.abc import Mapping


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
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


def _memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags of missing values; the table of products where there is one."""
    degree = params.get("degree", 1)
    if degree == 1:
        return 1.0 + 2.5 * FLAGGED
    products = math.comb(round(FLAGGED * columns) + degree, degree)
    return 4.0 + 1.2 * products / columns


def _space() -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        "C": FloatDistribution(1e-4, 100.0, log=True),
        "degree": CategoricalDistribution((1, 2)),
    }


MODELS = (
    ModelSpec(
        name="logistic",
        build=_build,
        description="Logistic regression on normal-quantile features and their pairwise products",
        presets={
            "quick": Preset({"C": 0.1, "max_iter": 200}, **RAW),
            "good": Preset({"degree": 2, "C": 0.003, "max_iter": 300}, **RAW),
            "best": Preset({"degree": 2, "C": 0.003, "max_iter": 300}, **PHYSICS),
        },
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=functools.partial(parameter_names, "sklearn.linear_model", "LogisticRegression", "degree"),
        harness=("random_state", "n_jobs"),
        cost=1.0,
        search_space=_space,
        defaults={"C": 1.0, "degree": 1},
        memory=_memory,
        merit=0.5,
    ),
)
