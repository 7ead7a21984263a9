"""The six built-in models. Libraries are imported when an estimator is built, so that listing models stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.models.spaces import SPACES
from higgsbench.models.spec import BuildContext, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["BUILTIN"]


def _names(*modules_and_classes: str, more: tuple[str, ...] = ()) -> frozenset[str]:
    """Parameter names of a scikit-learn-style class given as "module:Class", plus `more`."""
    import importlib

    names = set(more)
    for spec in modules_and_classes:
        module, cls = spec.split(":")
        names |= set(getattr(importlib.import_module(module), cls)().get_params())
    return frozenset(names - {"n_jobs", "nthread", "thread_count", "random_state", "random_seed", "seed"})


def _build_logistic(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    from higgsbench.models.parts import NormalQuantiles

    own = dict(params)
    degree = own.pop("degree", 1)
    quantiles = NormalQuantiles(random_state=context.seed)
    regression = LogisticRegression(random_state=context.seed, **own)
    if degree == 1:
        return make_pipeline(quantiles, StandardScaler(), regression)
    polynomial = PolynomialFeatures(degree=degree, include_bias=False)
    return make_pipeline(quantiles, polynomial, StandardScaler(), regression)


def _logistic_names() -> frozenset[str]:
    return _names("sklearn.linear_model:LogisticRegression", more=("degree",))


def _build_random_forest(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=context.seed, n_jobs=context.threads, **params)


def _random_forest_names() -> frozenset[str]:
    return _names("sklearn.ensemble:RandomForestClassifier")


def _build_catboost(params: Mapping[str, Any], context: BuildContext) -> Any:
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        random_seed=context.seed,
        thread_count=context.threads,
        verbose=False,
        allow_writing_files=False,
        **params,
    )


def _catboost_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    raw: NDArray[Any] = estimator.predict(X, prediction_type="RawFormulaVal")
    return raw


def _catboost_names() -> frozenset[str]:
    import inspect

    from catboost import CatBoostClassifier

    names = set(inspect.signature(CatBoostClassifier.__init__).parameters)
    ours = {"self", "random_seed", "random_state", "thread_count", "verbose", "allow_writing_files", "logging_level"}
    return frozenset(names - ours)


def _build_xgboost(params: Mapping[str, Any], context: BuildContext) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(random_state=context.seed, n_jobs=context.threads, **params)


def _xgboost_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    margin: NDArray[Any] = estimator.predict(X, output_margin=True)
    return margin


_XGBOOST_NATIVE = ("max_cached_hist_node", "lambda_bias", "refresh_leaf", "process_type", "extmem_single_page")


def _xgboost_names() -> frozenset[str]:
    return _names("xgboost:XGBClassifier", more=_XGBOOST_NATIVE)


def _build_lightgbm(params: Mapping[str, Any], context: BuildContext) -> Any:
    from lightgbm import LGBMClassifier

    # Same histogram order on any machine; the library otherwise times both and picks the faster.
    fixed = {"deterministic": True, "force_col_wise": True, "verbosity": -1}
    return LGBMClassifier(random_state=context.seed, n_jobs=context.threads, **{**fixed, **params})


def _lightgbm_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    # The booster itself: the wrapper of some versions warns of feature names that no array has.
    raw: NDArray[Any] = estimator.booster_.predict(X, raw_score=True)
    return raw


_LIGHTGBM_NATIVE = (
    *("bagging_fraction", "bagging_freq", "boost_from_average", "cat_l2", "cat_smooth", "device_type", "deterministic"),
    *("drop_rate", "extra_trees", "feature_fraction", "feature_fraction_bynode", "force_col_wise", "force_row_wise"),
    *("lambda_l1", "lambda_l2", "linear_lambda", "linear_tree", "max_bin", "max_delta_step", "max_drop"),
    *("min_data_in_bin", "min_data_in_leaf", "min_gain_to_split", "min_sum_hessian_in_leaf", "monotone_constraints"),
    *("other_rate", "path_smooth", "skip_drop", "top_rate", "use_quantized_grad", "verbosity", "num_grad_quant_bins"),
)


def _lightgbm_names() -> frozenset[str]:
    return _names("lightgbm:LGBMClassifier", more=_LIGHTGBM_NATIVE)


def _build_mlp(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from higgsbench.models.parts import NormalQuantiles, ShortMLPClassifier

    quantiles = NormalQuantiles(random_state=context.seed)
    # The flags of missing values come out of the imputation as 0 and 1; scaling last brings all to one width.
    return make_pipeline(quantiles, StandardScaler(), ShortMLPClassifier(random_state=context.seed, **params))


def _mlp_names() -> frozenset[str]:
    return _names("sklearn.neural_network:MLPClassifier")


_CATBOOST_FAST = {"border_count": 64, "boosting_type": "Plain", "bootstrap_type": "Bernoulli", "subsample": 0.7}
# 3 to 5 times faster than the library's defaults on 15,000 real events at the same weighted AUC
# (-.0004 +- .0006 against 800 iterations of the defaults).

BUILTIN: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="logistic",
        build=_build_logistic,
        description="Logistic regression on normal-quantile features and their pairwise products",
        presets={
            "quick": {"C": 0.1, "max_iter": 200},
            "good": {"degree": 2, "C": 0.003, "max_iter": 300},
        },
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_logistic_names,
        cost=1.0,
        search_space=SPACES["logistic"],
        merit=0.5,
    ),
    ModelSpec(
        name="random_forest",
        build=_build_random_forest,
        description="Random forest of scikit-learn",
        presets={
            "quick": {"n_estimators": 60, "min_samples_leaf": 5, "max_features": "sqrt", "max_samples": 0.5},
            "good": {"n_estimators": 200, "min_samples_leaf": 5, "max_features": "sqrt", "max_samples": 0.5},
        },
        missing=True,
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_random_forest_names,
        cost=4.0,
        search_space=SPACES["random_forest"],
        rounds=("n_estimators",),
        merit=0.75,
    ),
    ModelSpec(
        name="catboost",
        build=_build_catboost,
        description="CatBoost gradient boosting on oblivious trees",
        presets={
            "quick": {**_CATBOOST_FAST, "iterations": 150, "depth": 6, "learning_rate": 0.1},
            "good": {**_CATBOOST_FAST, "iterations": 400, "depth": 6, "learning_rate": 0.06},
        },
        missing=True,
        requires=("catboost", "numpy"),
        imports=("catboost",),
        log_odds=_catboost_log_odds,
        parameters=_catboost_names,
        cost=6.0,
        search_space=SPACES["catboost"],
        rounds=("iterations",),
    ),
    ModelSpec(
        name="xgboost",
        build=_build_xgboost,
        description="XGBoost gradient boosting (histogram)",
        presets={
            "quick": {"n_estimators": 120, "max_depth": 5, "learning_rate": 0.1, "min_child_weight": 20},
            "good": {
                "n_estimators": 450,
                "max_depth": 5,
                "learning_rate": 0.03,
                "min_child_weight": 50,
                "colsample_bytree": 0.5,
            },
        },
        missing=True,
        requires=("xgboost", "numpy"),
        imports=("xgboost",),
        log_odds=_xgboost_log_odds,
        parameters=_xgboost_names,
        cost=2.0,
        search_space=SPACES["xgboost"],
        rounds=("n_estimators",),
    ),
    ModelSpec(
        name="lightgbm",
        build=_build_lightgbm,
        description="LightGBM gradient boosting (leaf-wise)",
        presets={
            "quick": {"n_estimators": 120, "num_leaves": 15, "learning_rate": 0.1},
            "good": {
                "n_estimators": 400,
                "num_leaves": 16,
                "learning_rate": 0.03,
                "min_child_samples": 50,
                "colsample_bytree": 0.5,
                "subsample": 0.8,
                "subsample_freq": 1,
            },
        },
        missing=True,
        requires=("lightgbm", "numpy"),
        imports=("lightgbm",),
        log_odds=_lightgbm_log_odds,
        parameters=_lightgbm_names,
        cost=1.5,
        search_space=SPACES["lightgbm"],
        rounds=("n_estimators",),
    ),
    ModelSpec(
        name="mlp",
        build=_build_mlp,
        description="Seeded bag of scikit-learn multi-layer perceptrons on normal-quantile features",
        presets={
            "quick": {"bag": 1, "hidden_layer_sizes": [64], "alpha": 0.1, "max_iter": 6, "batch_size": 128},
            "good": {"bag": 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128},
        },
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_mlp_names,
        cost=8.0,
        search_space=SPACES["mlp"],
        rounds=("max_iter",),
        merit=0.9,
    ),
)
"""The models that come with higgsbench."""
