"""FLAML's AutoML as a scikit-learn classifier."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.peer_base import PeerClassifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FlamlClassifier"]


class FlamlClassifier(PeerClassifier):
    """FLAML under the harness's events, weights and clock.

    Weights go to the training of every learner and to FLAML's own validation (log-loss).

    Args:
        time_limit: seconds of search for one fit, that is per fold (and per jet group of a split); fitting the chosen
            model on all events of the fold comes on top.
        estimator_list: learners to try, in FLAML's words; the default leaves out those that cannot take weights or NaN.
        n_jobs: cores it may use.
        random_state: seed of its search.
    """

    framework = "FLAML"

    def __init__(
        self,
        *,
        time_limit: float = 60.0,
        estimator_list: Sequence[str] = ("lgbm", "xgboost", "xgb_limitdepth", "catboost", "rf", "extra_tree"),
        n_jobs: int = 1,
        random_state: int = 0,
    ) -> None:
        self.time_limit = time_limit
        self.estimator_list = estimator_list
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _search(self, X: NDArray[Any], y: NDArray[np.int64], weight: NDArray[np.float64] | None, folder: str) -> None:
        from flaml import AutoML

        automl = AutoML()
        weights = {} if weight is None else {"sample_weight": weight}
        # CatBoost under FLAML writes a folder of its own into the current one.
        with contextlib.chdir(folder):
            automl.fit(
                X,
                y,
                task="classification",
                metric="log_loss",
                time_budget=self.time_limit,
                estimator_list=list(self.estimator_list),
                n_jobs=self.n_jobs,
                n_concurrent_trials=1,
                seed=self.random_state,
                verbose=0,
                log_file_name="",
                mlflow_logging=False,
                **weights,
            )
        if automl.model is None:
            raise self._nothing_found()
        self.automl_ = automl

    def _signal_probability(self, X: NDArray[Any]) -> Any:
        return np.asarray(self.automl_.predict_proba(X))[:, list(self.automl_.classes_).index(1)]
