"""Models that start from one trained on simulated events, and weights that make simulated events resemble real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from higgsbench.models.building import BAG_STRIDE
from higgsbench.models.estimators import SeedBag, Wrapping
from higgsbench.models.storage import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.models.storage import Codec


@dataclass(eq=False, repr=False)
class Pretrained(Wrapping, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A stored model that is trained further, or used as it is.

    Imputation and scaling stay as they were learnt from the simulated events; the later steps are trained further. The
    members of a bag start from the same model and see the events in different orders.

    Args:
        file: the model, a `PhysicalClassifier` stored by a run.
        codecs: formats of its parts.
        params: parameters of the further training, with `warm_start`; None for no training.
        members: number of copies to train further, each with its own seed.
        seed: seed of the further training.
        threads: threads the model may use.

    Attributes:
        estimator_: the model.
        classes_: the two classes.
    """

    file: str
    codecs: Sequence[Codec]
    params: Mapping[str, Any] | None
    members: int
    seed: int
    threads: int = 1

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> Pretrained:
        """Read the model and train it on X (n, p), y (n,) and training weights (n,).

        Raises:
            StoreError: if the file cannot be read.
        """
        self.classes_ = np.unique(y)
        members = [read_model(Path(self.file), self.codecs, self.threads).estimator_ for _ in range(self.members)]
        if self.params is not None:
            for number, member in enumerate(members):
                seeded = {**self.params, "random_state": self.seed + BAG_STRIDE * number}
                _go_on(member, X, y, sample_weight, seeded)
        self.estimator_ = members[0] if len(members) == 1 else SeedBag.of_fitted(members, None)
        return self


def _go_on(
    estimator: Any, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None, params: Mapping[str, Any]
) -> None:
    while isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            X = step.transform(X)
        estimator = estimator.steps[-1][1]
    estimator.set_params(**params).fit(X, y, sample_weight=weight)


_NEAREST, _LARGEST = 5, 3.0  # simulated events per real one for the classifier; largest factor, the least is 1 over it
_APART = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 60, "verbose": -1}
_APART |= {"feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "deterministic": True}


def with_simulated(
    real: Sequence[NDArray[Any]], simulated: tuple[NDArray[Any], ...], seed: int, threads: int
) -> tuple[NDArray[Any], ...]:
    """Append simulated events, with weights that make them resemble the real ones, to real training events.

    Args:
        real: features (n, p), truth (n,), weights (n,) and processes (n,); those of simulated events are 0.
        simulated: features (m, p), truth (m,) and weights (m,), in random order.
        seed: seed of the weights.
        threads: threads that these may use.

    Returns:
        Features (n + m, p), truth, weights and processes (n + m,).
    """
    X, y, weight, _ = real
    more = (simulated[0], simulated[1], resembling((X, y, weight), simulated, seed, threads), 0 * simulated[1])
    parts = zip(real, more, strict=True)
    return tuple(np.concatenate([own, added.astype(own.dtype)]) for own, added in parts)


def resembling(
    real: tuple[NDArray[Any], ...],
    simulated: tuple[NDArray[Any], ...],
    seed: int,
    threads: int,
) -> NDArray[np.float64]:
    """Weights that make simulated events resemble real ones, with the total of the real events in each class.

    In each class, a LightGBM tells real events from simulated ones; its odds, within limits, multiply the weights.

    Args:
        real: features (n, p), truth (n,) and weights (n,) of the real events.
        simulated: the same for the m simulated events, in random order.
        seed: seed of the classifier.
        threads: threads that it may use.

    Returns:
        Weights of the simulated events, shape (m,).
    """
    import lightgbm

    result = np.zeros(len(simulated[0]))
    for label in np.unique(real[1]):
        (own, weight), (other, before) = ((X[y == label], w[y == label]) for X, y, w in (real, simulated))
        few = slice(_NEAREST * len(own))
        halves = [part * (len(part) / part.sum()) for part in (weight, before[few])]
        halves[1] *= halves[0].sum() / halves[1].sum()
        table = lightgbm.Dataset(
            np.concatenate([own, other[few]]),
            label=np.repeat([1, 0], [len(half) for half in halves]),
            weight=np.concatenate(halves),
        )
        booster = lightgbm.train({**_APART, "seed": seed, "num_threads": threads}, table, 100)
        share = np.asarray(booster.predict(other))
        after = before * np.clip(share / (1.0 - share), 1.0 / _LARGEST, _LARGEST)
        result[simulated[1] == label] = after * (weight.sum() / after.sum())
    return result
