"""AutoGluon's TabularPredictor as a scikit-learn classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.peer_base import PeerClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AutoGluonClassifier", "weighted_log_loss"]

_LABEL, _WEIGHT = "label", "weight"
_TAKE_WEIGHTS = frozenset({"GBM", "GBM_PREP", "CAT", "XGB", "RF", "XT", "LR", "EBM", "DUMMY"})
"""AutoGluon's keys of the models whose training heeds sample weights, found by reading version 1.6; the others
(neural networks, nearest neighbours, pretrained models) train as if all weights were one. The ensemble is built in."""
_FLOOR = 1e-15


def weighted_log_loss(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """Return the mean log-loss of labels 0 and 1 under weights.

    AutoGluon's own `log_loss` takes no weights and falls back to the unweighted loss.

    Args:
        y_true: (n,) labels.
        y_pred: (n,) probabilities of label 1, or (n, 2) of both.
        sample_weight: (n,) weights; equal ones when None.
    """
    predicted = np.asarray(y_pred, dtype=np.float64)
    p = np.clip(predicted if predicted.ndim == 1 else predicted[:, 1], _FLOOR, 1.0 - _FLOOR)
    loss = -np.where(np.asarray(y_true) == 1, np.log(p), np.log1p(-p))
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return float(np.average(loss, weights=weight))


class AutoGluonClassifier(PeerClassifier):
    """AutoGluon under the harness's events, weights and clock.

    Weights go in as a column that both training and AutoGluon's own validation heed (`weight_evaluation`). Models of
    its portfolio that ignore weights are left out of a weighted fit unless `unweighted_members` lets them in. The
    temperature scaling at the end of its fit is off: with weights it raises (version 1.6), and without it needs torch.

    Args:
        time_limit: seconds for one fit, that is per fold (and per jet group of a split).
        presets: AutoGluon's preset, for example `medium_quality` or `best_quality`.
        hyperparameters: portfolio of models to try, in AutoGluon's words; the preset's own when None.
        unweighted_members: whether models that ignore weights may take part in a weighted fit.
        n_jobs: cores it may use.
        random_state: seed of its splits and of its bagged models.
    """

    framework = "AutoGluon"

    def __init__(
        self,
        *,
        time_limit: float = 60.0,
        presets: str = "best_quality",
        hyperparameters: str | dict[str, Any] | None = None,
        unweighted_members: bool = False,
        n_jobs: int = 1,
        random_state: int = 0,
    ) -> None:
        self.time_limit = time_limit
        self.presets = presets
        self.hyperparameters = hyperparameters
        self.unweighted_members = unweighted_members
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _search(self, X: NDArray[Any], y: NDArray[np.int64], weight: NDArray[np.float64] | None, folder: str) -> None:
        from autogluon.core.metrics import make_scorer
        from autogluon.tabular import TabularPredictor

        events = self._frame(X)
        events[_LABEL] = y
        how: dict[str, Any] = {"eval_metric": "log_loss"}
        if weight is not None:
            events[_WEIGHT] = weight
            # Under this name the boosting libraries still stop on their own, weighted log-loss.
            scorer = make_scorer("log_loss", weighted_log_loss, optimum=0, greater_is_better=False, needs_proba=True)
            how = {"eval_metric": scorer, "sample_weight": _WEIGHT, "weight_evaluation": True}
        predictor = TabularPredictor(
            label=_LABEL,
            problem_type="binary",
            path=str(Path(folder) / "autogluon"),
            verbosity=0,
            learner_kwargs={"random_state": self.random_state},
            **how,
        )
        try:
            predictor.fit(events, **self._fit_arguments(weight is not None))
        except (RuntimeError, AssertionError) as error:
            # The second is what comes of a trial of stacking, a quarter of the time, that finished no model.
            if not any(sign in str(error) for sign in ("No models were trained", "Learner is already fit")):
                raise
            raise self._nothing_found() from error
        # AutoGluon keeps its models as pickles in its folder. Here it reads back those that this very process wrote a
        # moment ago, into memory, before the folder goes; nothing that anybody else could have written is loaded.
        predictor.persist(models="best", max_memory=None)
        self.predictor_ = predictor

    def _fit_arguments(self, weighted: bool) -> dict[str, Any]:
        """Arguments of TabularPredictor.fit: one process, the harness's cores, no accelerator, the clock."""
        arguments: dict[str, Any] = {
            "time_limit": self.time_limit,
            "presets": self.presets,
            "num_cpus": self.n_jobs,
            "num_gpus": 0,
            # The harness runs fits in parallel already: no ray, no processes of its own.
            "fit_strategy": "sequential",
            "ag_args_ensemble": {
                "fold_fitting_strategy": "sequential_local",
                "model_random_seed": self.random_state,
            },
            "calibrate": False,
            "ds_args": {"memory_safe_fits": False, "enable_ray_logging": False},
        }
        if self.hyperparameters is not None:
            arguments["hyperparameters"] = self.hyperparameters
        if weighted and not self.unweighted_members:
            arguments["excluded_model_types"] = _ignoring_weights()
        return arguments

    def _frame(self, X: NDArray[Any]) -> Any:
        import pandas as pd

        return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])

    def _signal_probability(self, X: NDArray[Any]) -> Any:
        return self.predictor_.predict_proba(self._frame(X))[1]


def _ignoring_weights() -> list[str]:
    """Keys of the models that the installed AutoGluon knows and that do not heed weights."""
    from autogluon.tabular.registry import ag_model_registry

    return sorted(set(ag_model_registry.keys) - _TAKE_WEIGHTS - {"ENS_WEIGHTED", "SIMPLE_ENS_WEIGHTED"})
