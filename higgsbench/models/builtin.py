"""The six built-in models. Libraries are imported when an estimator is built, so that listing models stays cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.models import memory_use, out_of_core, presets
from higgsbench.models.presets import SPACES
from higgsbench.models.spec import EARLY, BuildContext, ModelSpec
from higgsbench.models.storage import StateCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.models.estimators import Sample

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

    from higgsbench.models.parts import BlockwiseScaler, NormalQuantiles
    from higgsbench.models.quadratic import QuadraticLogisticRegression

    own = dict(params)
    degree = own.pop("degree", 1)
    quantiles = NormalQuantiles(random_state=context.seed, copy=not context.own_table)
    if degree == 2 and own.keys() <= memory_use.QUADRATIC:
        return make_pipeline(quantiles, QuadraticLogisticRegression(**own))
    regression = LogisticRegression(random_state=context.seed, **own)
    if degree == 1:
        return make_pipeline(quantiles, BlockwiseScaler(), regression)
    polynomial = PolynomialFeatures(degree=degree, include_bias=False)
    return make_pipeline(quantiles, polynomial, StandardScaler(), regression)


def _logistic_names() -> frozenset[str]:
    return _names("sklearn.linear_model:LogisticRegression", more=("degree",))


def _build_random_forest(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.compact_forest import CompactForestClassifier

    own = {"min_samples_leaf": memory_use.forest_leaf(context.events), **params}
    return CompactForestClassifier(random_state=context.seed, n_jobs=context.threads, **own)


def _random_forest_names() -> frozenset[str]:
    return _names("sklearn.ensemble:RandomForestClassifier")


def _build_catboost(params: Mapping[str, Any], context: BuildContext) -> Any:
    from catboost import CatBoostClassifier

    from higgsbench.models.estimators import stopped_early

    given = dict(params)
    device = given.pop("device", None)  # the other libraries' word for it
    if device is not None:
        if device not in _CATBOOST_DEVICES:
            raise ValueError(f"device is {device!r}, expected {' or '.join(_CATBOOST_DEVICES)}")
        given["task_type"] = _CATBOOST_DEVICES[device]
    fixed = {"random_seed": context.seed, "thread_count": context.threads, "verbose": False}
    return stopped_early(
        given,
        context.seed,
        lambda own: CatBoostClassifier(**fixed, allow_writing_files=False, **own),
        _catboost_until,
    )


_CATBOOST_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def _catboost_until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    from catboost import Pool

    X, y, w = aside
    pool = Pool(X, y, weight=w)
    X, y, w = train
    return estimator.fit(X, y, sample_weight=w, eval_set=pool, early_stopping_rounds=rounds, use_best_model=True)


def _catboost_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from higgsbench.models.estimators import unwrapped

    raw: NDArray[Any] = unwrapped(estimator).predict(X, prediction_type="RawFormulaVal")
    return raw


def _catboost_names() -> frozenset[str]:
    import inspect

    from catboost import CatBoostClassifier

    names = {*inspect.signature(CatBoostClassifier.__init__).parameters, *EARLY, "device"}
    ours = {"self", "random_seed", "random_state", "thread_count", "verbose", "allow_writing_files", "logging_level"}
    return frozenset(names - ours)


def _build_xgboost(params: Mapping[str, Any], context: BuildContext) -> Any:
    from xgboost import XGBClassifier

    from higgsbench.models.estimators import stopped_early

    fixed = {"random_state": context.seed, "n_jobs": context.threads}
    return stopped_early(params, context.seed, lambda own: XGBClassifier(**fixed, **own), _xgboost_until)


def _xgboost_until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    estimator.set_params(early_stopping_rounds=rounds, eval_metric="logloss")
    X, y, w = train
    watched = {"eval_set": [aside[:2]], "sample_weight_eval_set": [aside[2]], "verbose": False}
    return estimator.fit(X, y, sample_weight=w, **watched)


def _xgboost_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from higgsbench.models.estimators import unwrapped

    margin: NDArray[Any] = unwrapped(estimator).predict(X, output_margin=True)
    return margin


_XGBOOST_NATIVE = ("max_cached_hist_node", "lambda_bias", "refresh_leaf", "process_type", "extmem_single_page")


def _xgboost_names() -> frozenset[str]:
    return _names("xgboost:XGBClassifier", more=(*_XGBOOST_NATIVE, *EARLY))


def _build_lightgbm(params: Mapping[str, Any], context: BuildContext) -> Any:
    from lightgbm import LGBMClassifier

    from higgsbench.models.bins import BINS_SEED, LightGBMBins, lightgbm_until
    from higgsbench.models.estimators import stopped_early

    # Same histogram order on any machine; the library otherwise times both and picks the faster. Where it samples
    # events for its bins it samples the same from memory, from disk and for all members of a bag.
    fixed = {"deterministic": True, "force_col_wise": True, "verbosity": -1, "data_random_seed": BINS_SEED}
    ours: dict[str, Any] = {"random_state": context.seed, "n_jobs": context.threads}

    def build(own: dict[str, Any]) -> Any:
        return LGBMClassifier(**ours, **{**fixed, **own})

    # The sample for the bins takes 12 to 24 bytes per value; the library's own number of events is 200,000. On 50,000
    # simulated training events: AUC -.00006 (4) against all of them, a fit .95 of the time.
    sampled = {} if "bin_construct_sample_cnt" in params else {"subsample_for_bin": 20_000}
    return stopped_early({**sampled, **params}, context.seed, build, lightgbm_until, LightGBMBins())


def _lightgbm_log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from higgsbench.models.estimators import unwrapped

    # The booster itself: the wrapper of some versions warns of feature names that no array has.
    raw: NDArray[Any] = unwrapped(estimator).booster_.predict(X, raw_score=True)
    return raw


_LIGHTGBM_NATIVE = (
    *("bagging_fraction", "bagging_freq", "boost_from_average", "cat_l2", "cat_smooth", "device", "device_type"),
    *("deterministic",),
    *("drop_rate", "extra_trees", "feature_fraction", "feature_fraction_bynode", "force_col_wise", "force_row_wise"),
    *("lambda_l1", "lambda_l2", "linear_lambda", "linear_tree", "max_bin", "max_delta_step", "max_drop"),
    *("min_data_in_bin", "min_data_in_leaf", "min_gain_to_split", "min_sum_hessian_in_leaf", "monotone_constraints"),
    *("other_rate", "path_smooth", "skip_drop", "top_rate", "use_quantized_grad", "verbosity", "num_grad_quant_bins"),
)


def _lightgbm_names() -> frozenset[str]:
    return _names("lightgbm:LGBMClassifier", more=(*_LIGHTGBM_NATIVE, *EARLY))


def _build_mlp(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.pipeline import make_pipeline

    from higgsbench.models.parts import BlockwiseScaler, NormalQuantiles, ShortMLPClassifier, SmoothClip

    own = dict(params)
    scaling = own.pop("scaling", "quantiles")
    if scaling not in ("quantiles", "clip"):
        raise ValueError(f"scaling is {scaling!r}, expected quantiles or clip")
    first = (
        NormalQuantiles(random_state=context.seed, copy=not context.own_table)
        if scaling == "quantiles"
        else SmoothClip()
    )
    # The flags of missing values come out of the imputation as 0 and 1; scaling last brings all to one width.
    return make_pipeline(first, BlockwiseScaler(), ShortMLPClassifier(random_state=context.seed, **own))


def _mlp_names() -> frozenset[str]:
    return _names("sklearn.neural_network:MLPClassifier", more=("scaling",))


BUILTIN: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="logistic",
        build=_build_logistic,
        description="Logistic regression on normal-quantile features and their pairwise products",
        presets=presets.LOGISTIC,
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_logistic_names,
        cost=1.0,
        search_space=SPACES["logistic"],
        memory=memory_use.logistic_memory,
        merit=0.5,
    ),
    ModelSpec(
        name="random_forest",
        build=_build_random_forest,
        description="Random forest of scikit-learn",
        presets=presets.RANDOM_FOREST,
        missing=True,
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_random_forest_names,
        cost=4.0,
        search_space=SPACES["random_forest"],
        memory=memory_use.forest_memory,
        codecs=(StateCodec("compact_forest", "higgsbench.models.compact_forest:CompactForestClassifier"),),
        rounds=("n_estimators",),
        merit=0.75,
    ),
    ModelSpec(
        name="catboost",
        build=_build_catboost,
        description="CatBoost gradient boosting on oblivious trees",
        presets=presets.CATBOOST,
        missing=True,
        requires=("catboost", "numpy"),
        imports=("catboost",),
        log_odds=_catboost_log_odds,
        parameters=_catboost_names,
        cost=6.0,
        search_space=SPACES["catboost"],
        memory=memory_use.CATBOOST,
        from_disk=out_of_core.catboost_from_disk,
        devices=("device", "task_type"),
        rounds=("iterations",),
    ),
    ModelSpec(
        name="xgboost",
        build=_build_xgboost,
        description="XGBoost gradient boosting (histogram)",
        presets=presets.XGBOOST,
        missing=True,
        requires=("xgboost", "numpy"),
        imports=("xgboost",),
        log_odds=_xgboost_log_odds,
        parameters=_xgboost_names,
        cost=2.0,
        search_space=SPACES["xgboost"],
        memory=memory_use.XGBOOST,
        from_disk=out_of_core.xgboost_from_disk,
        devices=("device",),
        rounds=("n_estimators",),
    ),
    ModelSpec(
        name="lightgbm",
        build=_build_lightgbm,
        description="LightGBM gradient boosting (leaf-wise)",
        presets=presets.LIGHTGBM,
        missing=True,
        requires=("lightgbm", "numpy"),
        imports=("lightgbm",),
        log_odds=_lightgbm_log_odds,
        parameters=_lightgbm_names,
        cost=1.5,
        search_space=SPACES["lightgbm"],
        memory=memory_use.LIGHTGBM,
        from_disk=out_of_core.lightgbm_from_disk,
        devices=("device", "device_type"),
        rounds=("n_estimators",),
    ),
    ModelSpec(
        name="mlp",
        build=_build_mlp,
        description="Seeded bag of scikit-learn multi-layer perceptrons",
        presets=presets.MLP,
        requires=("scikit-learn", "numpy", "scipy"),
        parameters=_mlp_names,
        cost=8.0,
        search_space=SPACES["mlp"],
        memory=memory_use.mlp_memory,
        rounds=("max_iter",),
        merit=0.9,
    ),
)
"""The models that come with higgsbench."""
