"""What it is worth that a bag of boosted trees bins its events once: time in turn, quality out of fold.

python -m benchmarks.shared_bins
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._common import median, publish, sample_events
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.metrics import Estimate, evaluation_weights, mean_estimate, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator
from higgsbench.models.presets import CATBOOST, XGBOOST
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments
from higgsbench.validation.folds import training_weights

SEEDS, FOLDS, ROUNDS = (42, 43), 5, 200
Arrays = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]


def spent(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and the result."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def quickest(function: Callable[[], Any], times: int = 5) -> float:
    """Least seconds of the processor over some calls."""
    return min(spent(function)[0] for _ in range(times))


def lightgbm(X: NDArray[np.float32], y: NDArray[np.bool_], w: NDArray[np.float64], jets: NDArray[np.int64]) -> str:
    """The bag of the preset `best` on one set of bins, and its members each by itself, in turn on every fold."""
    spec = get_model("lightgbm")
    ratio: list[float] = []
    seconds: list[float] = []
    aucs: tuple[list[Estimate], list[Estimate]] = ([], [])
    for seed in SEEDS:
        fold = fold_assignments(y, jets, FOLDS, 1, seed)[0]
        scores = np.empty((2, y.size))
        for number in range(FOLDS):
            train = fold != number
            events = X[train], y[train].astype(np.int64), training_weights(y[train], w[train], "sqrt_balanced")
            costs = []
            for way in (0, 1) if number % 2 else (1, 0):
                bag = build_estimator(spec, spec.preset("best").params, BuildContext(seed=100 * seed + number))
                for member in bag.estimators:
                    member.shared = member.shared if way else None
                cost, _ = spent(partial(bag.fit, *events))
                scores[way, ~train] = bag.decision_function(X[~train])
                costs.append((way, cost))
            alone, shared = (dict(costs)[way] for way in (0, 1))
            ratio.append(shared / alone)
            seconds.append(alone)
        for way in (0, 1):
            aucs[way].append(roc_auc(y, scores[way], w))
    gain, error = paired_difference(mean_estimate(aucs[1]), mean_estimate(aucs[0]))
    scatter = float(np.std(ratio, ddof=1) / np.sqrt(len(ratio)))
    return (
        f"LightGBM, preset `best`: a bag fits in {np.mean(seconds):.1f} s where each member bins by itself; on one set "
        f"of bins it takes {np.mean(ratio):.3f} ± {scatter:.3f} of that (median {median(ratio):.3f}), and the weighted "
        f"AUC moves by {gain:+.5f} ± {error:.5f}. Binning is shared."
    )


def xgboost(events: Arrays, train: NDArray[np.intp]) -> str:
    """What binning is of a fit, and what it costs to leave events out by weights of zero."""
    from xgboost import QuantileDMatrix
    from xgboost import train as fit

    X, y, w = events
    params = {k: v for k, v in XGBOOST["good"].params.items() if k != "n_estimators"}
    params |= {"objective": "binary:logistic", "nthread": 1}
    binning = quickest(lambda: QuantileDMatrix(X[train], y[train], weight=w[train], nthread=1))
    zero = np.zeros_like(w)
    zero[train] = w[train]
    part = QuantileDMatrix(X[train], y[train], weight=w[train], nthread=1)
    whole = QuantileDMatrix(X, y, weight=zero, nthread=1)
    pairs = [[spent(partial(fit, params, d, ROUNDS))[0] for d in (part, whole)] for _ in range(4)]
    a, b = (min(pair[i] for pair in pairs) for i in (0, 1))
    member = _member("xgboost").fit(X, y, w).estimator_
    return (
        f"XGBoost: binning takes {binning:.3f} s, {ROUNDS} rounds on the part that trains {a:.2f} s. A QuantileDMatrix "
        f"gives no rows; with all events in it and weights of zero for those put aside the rounds take {b:.2f} s "
        f"({b / a:.2f} times), and a member of the preset `best` has {member.best_iteration + 51} rounds. Binning is "
        "not shared."
    )


def _member(name: str) -> Any:
    """One member of the bag of the preset `best`, unfitted."""
    spec = get_model(name)
    return build_estimator(spec, {**spec.preset("best").params, "bag": 1}, BuildContext(seed=42))


def catboost(events: Arrays, train: NDArray[np.intp]) -> str:
    """What binning is of a fit."""
    from catboost import CatBoostClassifier, Pool

    X, y, w = events
    left_out = {"bag", "early_stopping_rounds", "validation_fraction", "iterations"}
    params = {k: v for k, v in CATBOOST["best"].params.items() if k not in left_out}
    params |= {"iterations": ROUNDS, "verbose": False, "allow_writing_files": False, "thread_count": 1}

    def binned() -> Any:
        pool = Pool(X, y, weight=w, thread_count=1)
        pool.quantize(border_count=params["border_count"])
        return pool

    binning, pool = quickest(binned), binned()
    part = Pool(X[train], y[train], weight=w[train])
    rows = pool.slice(train)
    pairs = [[spent(partial(CatBoostClassifier(**params).fit, d))[0] for d in (part, rows)] for _ in range(4)]
    a, b = (min(pair[i] for pair in pairs) for i in (0, 1))
    member = _member("catboost").fit(X, y, w).estimator_
    return (
        f"CatBoost: binning takes {binning:.3f} s, {ROUNDS} rounds {a:.2f} s on events and {b:.2f} s on rows of binned "
        f"ones ({b / a:.3f} times), and a member of the preset `best` has {member.tree_count_ + 50} rounds. Binning is "
        "not shared, for that little; the binning of a pool also knows fewer of the parameters than the fit does."
    )


def main() -> None:
    found, what = sample_events()
    X = feature_matrix(found.frame, resolve_features(found.schema, name="physics"))
    y, w = found.y, evaluation_weights(found.y, found.weight, N_S, N_B)
    jets = found.frame["PRI_jet_num"].to_numpy().astype(np.int64)
    order = np.random.default_rng(0).permutation(y.size)[:12_000]
    events = X[order], y[order].astype(np.int64), training_weights(y[order], w[order], "sqrt_balanced")
    train = np.sort(np.random.default_rng(1).permutation(12_000)[:10_800])
    lines = [
        f"{what}, feature set `physics`, fits of 12,000 of which 1,200 are put aside, processor time, one thread.",
        "",
    ]
    for text in (xgboost(events, train), catboost(events, train), lightgbm(X, y, w, jets)):
        lines += [text, ""]
    publish("shared-bins", "Bins shared by a bag", lines)


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
