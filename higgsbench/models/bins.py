"""LightGBM that stops early: alone, or in a bag that bins its events once, of which each member takes its part.

The bins of a column are learnt from all events of the fold, those that a member puts aside included; they know neither
truth nor weight. Of the other libraries XGBoost takes no rows of binned data, and CatBoost's binning is too small a
part of its fit: `results/reference/shared-bins.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.storage import LoadedLightGBM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.estimators import Sample

__all__ = ["BINS_SEED", "LightGBMBins", "lightgbm_until", "native"]

BINS_SEED = 1
"""Chooses the events that bins are learnt from. Left to the library, the seed of the model would choose them in memory,
and not from disk; by another choice the AUC of 20 rounds on 250,000 events differs by up to .0004."""

_NOT_NATIVE = ("class_weight", "importance_type", "n_estimators", "n_jobs", "objective", "random_state")
"""Parameters of the scikit-learn wrapper that the library itself does not know, or by another name."""


class LightGBMBins:
    """LightGBM `Dataset` of a fold, and trees that stop early on parts of it."""

    def prepare(self, estimator: Any, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64]) -> Any:
        """Bin the events of a fold.

        Args:
            estimator: unfitted `LGBMClassifier`, whose members differ from it by their seed only.
            X: (n, p) features.
            y: (n,) classes 0 and 1.
            weight: (n,) training weights.

        Returns:
            The `Dataset`; None where only the wrapper can train, or the library needs the events unbinned.
        """
        from lightgbm import Dataset

        params = estimator.get_params()
        if params["class_weight"] is not None or params["objective"] is not None or params.get("linear_tree"):
            return None
        return Dataset(X, y, weight=weight, params=native(estimator)).construct()

    def fit(
        self, estimator: Any, bins: Any, train: NDArray[np.intp], aside: NDArray[np.intp], rounds: int
    ) -> LoadedLightGBM:
        """Train on some rows, watching others.

        Args:
            estimator: unfitted `LGBMClassifier` with the parameters.
            bins: what `prepare` returned.
            train: rows to train on.
            aside: rows whose weighted log-loss ends the training.
            rounds: rounds without improvement after which it ends.

        Returns:
            The trees up to the best round.
        """
        import lightgbm

        booster = lightgbm.train(
            {**native(estimator), "metric": "binary_logloss"},
            bins.subset(np.sort(train)),
            num_boost_round=estimator.n_estimators,
            valid_sets=[bins.subset(np.sort(aside))],
            callbacks=[lightgbm.early_stopping(rounds, verbose=False)],
        )
        return LoadedLightGBM(booster, estimator.n_jobs)


def lightgbm_until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    """Train one `LGBMClassifier` by itself on one sample (X, y, weight), watching another."""
    import inspect

    from lightgbm import early_stopping

    X, y, w = train
    # LightGBM 4.7 gave eval_set two new names and warns of the old one.
    renamed = "eval_X" in inspect.signature(estimator.fit).parameters
    events = {"eval_X": aside[0], "eval_y": aside[1]} if renamed else {"eval_set": [aside[:2]]}
    watched = {**events, "eval_sample_weight": [aside[2]], "eval_metric": "binary_logloss"}
    return estimator.fit(X, y, sample_weight=w, callbacks=[early_stopping(rounds, verbose=False)], **watched)


def native(estimator: Any) -> dict[str, Any]:
    """Parameters as the library itself takes them."""
    own = {name: value for name, value in estimator.get_params().items() if name not in _NOT_NATIVE}
    fixed = {"objective": "binary", "num_threads": estimator.n_jobs, "seed": estimator.random_state}
    return {name: value for name, value in own.items() if value is not None} | fixed
