"""Other AutoML frameworks for comparison: AutoGluon and FLAML, models of the extras `autogluon` and `flaml`.

Their time limit is per fit: a run has one fit per fold, and with a split by jet number one per fold and group.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.spec import BuildContext, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from higgsbench.models.estimators import TimedSearch

_LABEL, _WEIGHT = "label", "weight"

_TAKE_WEIGHTS = frozenset({"GBM", "GBM_PREP", "CAT", "XGB", "RF", "XT", "LR", "EBM", "DUMMY"})
"""AutoGluon's keys of the models whose training uses sample weights, found by reading version 1.6; the others (neural
networks, nearest neighbours, pretrained models) train as if all weights were one. The ensemble is built in."""

_AUTOGLUON: dict[str, Any] = {"presets": "best_quality", "hyperparameters": None, "unweighted_members": False}
"""AutoGluon's options: a preset, the portfolio of models to try (None: the preset's own), and whether models that
ignore weights may take part in a weighted fit."""

_FLAML: dict[str, Any] = {"estimator_list": ("lgbm", "xgboost", "xgb_limitdepth", "catboost", "rf", "extra_tree")}
"""FLAML's option: the learners to try; those that cannot take weights or NaN are left out."""

_LEARNERS = ("scikit-learn", "numpy", "lightgbm", "xgboost", "catboost")


def _build(
    name: str, search: Callable[..., Any], own: dict[str, Any], params: Mapping[str, Any], context: BuildContext
) -> Any:
    from higgsbench.models.estimators import TimedSearch

    options = {**own, **params}
    return TimedSearch(name, search, options, options.pop("time_limit", 60.0), context.threads, context.seed)


def search_flaml(
    how: TimedSearch, X: NDArray[Any], y: NDArray[np.int64], weight: NDArray[np.float64] | None, folder: str
) -> Callable[[NDArray[Any]], Any]:
    """Run FLAML; weights go to the training of every learner and to FLAML's own validation (log-loss).

    Fitting the chosen model on all events of the fold comes on top of the time limit.
    """
    from flaml import AutoML

    automl = AutoML()
    learners, quiet = list(how.options["estimator_list"]), {"verbose": 0, "log_file_name": "", "mlflow_logging": False}
    limits = {"time_budget": how.time_limit, "n_jobs": how.n_jobs, "n_concurrent_trials": 1, "seed": how.random_state}
    weights = {} if weight is None else {"sample_weight": weight}
    # CatBoost under FLAML writes a folder of its own into the current one.
    with contextlib.chdir(folder):
        task = {"task": "classification", "metric": "log_loss", "estimator_list": learners}
        automl.fit(X, y, **task, **limits, **quiet, **weights)
    if automl.model is None:
        raise how.nothing_found()
    signal = list(automl.classes_).index(1)
    return lambda events: np.asarray(automl.predict_proba(events))[:, signal]


def search_autogluon(
    how: TimedSearch, X: NDArray[Any], y: NDArray[np.int64], weight: NDArray[np.float64] | None, folder: str
) -> Callable[[NDArray[Any]], Any]:
    """Run AutoGluon; weights go in as a column that both training and its own validation use (`weight_evaluation`).

    Models of its portfolio that ignore weights are left out of a weighted fit unless `unweighted_members` lets them in.
    The temperature scaling at the end of its fit is off: with weights it fails (version 1.6), and without weights
    it needs torch.
    """
    from autogluon.core.metrics import make_scorer
    from autogluon.tabular import TabularPredictor

    events = _frame(X)
    events[_LABEL] = y
    metric: dict[str, Any] = {"eval_metric": "log_loss"}
    if weight is not None:
        events[_WEIGHT] = weight
        # With this name the boosting libraries still stop early on their own weighted log-loss.
        scorer = make_scorer("log_loss", weighted_log_loss, optimum=0, greater_is_better=False, needs_proba=True)
        metric = {"eval_metric": scorer, "sample_weight": _WEIGHT, "weight_evaluation": True}
    place, seed = str(Path(folder) / "autogluon"), {"random_state": how.random_state}
    task = {"label": _LABEL, "problem_type": "binary", "path": place, "verbosity": 0, "learner_kwargs": seed}
    predictor = TabularPredictor(**task, **metric)
    try:
        predictor.fit(events, **_fit_arguments(how, weight is not None))
    except (RuntimeError, AssertionError) as error:
        # The second appears if a trial of stacking, with a quarter of the time, finished no model.
        if not any(sign in str(error) for sign in ("No models were trained", "Learner is already fit")):
            raise
        raise how.nothing_found() from error
    # AutoGluon keeps its models as pickles in its folder. This loads only the pickles that this process has
    # just written, before the folder is removed; it never loads files from anyone else.
    predictor.persist(models="best", max_memory=None)
    return lambda events: predictor.predict_proba(_frame(events))[1]


def _fit_arguments(how: TimedSearch, weighted: bool) -> dict[str, Any]:
    """Arguments of TabularPredictor.fit: one process, the harness's cores, no accelerator, the clock."""
    arguments: dict[str, Any] = {
        "time_limit": how.time_limit,
        "presets": how.options["presets"],
        "num_cpus": how.n_jobs,
        "num_gpus": 0,
        # The harness runs fits in parallel already: no ray, no processes of its own.
        "fit_strategy": "sequential",
        "ag_args_ensemble": {"fold_fitting_strategy": "sequential_local", "model_random_seed": how.random_state},
        "calibrate": False,
        "ds_args": {"memory_safe_fits": False, "enable_ray_logging": False},
    }
    if how.options["hyperparameters"] is not None:
        arguments["hyperparameters"] = how.options["hyperparameters"]
    if weighted and not how.options["unweighted_members"]:
        from autogluon.tabular.registry import ag_model_registry

        ignoring = set(ag_model_registry.keys) - _TAKE_WEIGHTS - {"ENS_WEIGHTED", "SIMPLE_ENS_WEIGHTED"}
        arguments["excluded_model_types"] = sorted(ignoring)
    return arguments


def weighted_log_loss(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """Return the mean log-loss of labels 0 and 1 under weights.

    AutoGluon's own `log_loss` takes no weights and falls back to the unweighted loss.

    Args:
        y_true: (n,) labels.
        y_pred: (n,) probabilities of label 1, or (n, 2) of both.
        sample_weight: (n,) weights; equal ones when None.
    """
    # AutoGluon asks thousands of times; scikit-learn's function takes 28 times as long.
    predicted = np.asarray(y_pred, dtype=np.float64)
    p = np.clip(predicted if predicted.ndim == 1 else predicted[:, 1], 1e-15, 1.0 - 1e-15)
    return float(np.average(-np.where(np.asarray(y_true) == 1, np.log(p), np.log1p(-p)), weights=sample_weight))


def _frame(X: NDArray[Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])


MODELS = (
    ModelSpec(
        name="autogluon",
        build=functools.partial(_build, "AutoGluon", search_autogluon, _AUTOGLUON),
        description="AutoGluon: bagged and stacked portfolio of models, time limit per fit",
        presets={
            "quick": {"time_limit": 12, "presets": "medium_quality"},
            "good": {"time_limit": 60, "presets": "best_quality"},
            "best": {"time_limit": 300, "presets": "best_quality"},
        },
        missing=True,
        extra="autogluon",
        requires=("autogluon.tabular", *_LEARNERS),
        imports=("autogluon.tabular",),
        parameters=functools.partial(frozenset, ("time_limit", *_AUTOGLUON)),
        harness=("random_state", "n_jobs"),
        reproducible=False,
        cost=200.0,
    ),
    ModelSpec(
        name="flaml",
        build=functools.partial(_build, "FLAML", search_flaml, _FLAML),
        description="FLAML: search for one model and its parameters, time limit per fit",
        presets={"quick": {"time_limit": 10}, "good": {"time_limit": 60}, "best": {"time_limit": 180}},
        missing=True,
        extra="flaml",
        requires=("flaml", *_LEARNERS),
        imports=("flaml", "pandas"),
        parameters=functools.partial(frozenset, ("time_limit", *_FLAML)),
        aliases={"time_budget": "time_limit"},
        harness=("random_state", "n_jobs", "seed"),
        reproducible=False,
        cost=120.0,
    ),
)
