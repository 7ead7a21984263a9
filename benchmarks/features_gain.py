"""What each feature set, and each group of `physics`, brings to one XGBoost recipe and to a bag of networks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import publish, sample_events
from higgsbench.features import Features, feature_matrix, feature_set, resolve_features
from higgsbench.metrics import Estimate, evaluation_weights, mean_estimate, paired_difference, roc_auc
from higgsbench.schema import ATLAS_HIGGS, N_B, N_S
from higgsbench.validation import fold_assignments, group_index

SEEDS = (1, 2)
FOLDS = 5
BAG = 4

Matrix = NDArray[np.float32]
Fit = Callable[[Matrix, NDArray[np.bool_], NDArray[np.float64], Matrix, int], NDArray[np.float64]]


def boosted(X: Matrix, y: NDArray[np.bool_], w: NDArray[np.float64], held_out: Matrix, seed: int) -> Any:
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=450,
        max_depth=5,
        learning_rate=0.03,
        min_child_weight=50,
        colsample_bytree=0.5,
        n_jobs=1,
        random_state=seed,
    )
    return model.fit(X, y, sample_weight=w).predict(held_out, output_margin=True)


def networks(X: Matrix, y: NDArray[np.bool_], w: NDArray[np.float64], held_out: Matrix, seed: int) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prepare = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(X)
    scores = []
    for member in range(BAG):
        net = MLPClassifier((96, 96), alpha=0.3, max_iter=8, batch_size=128, random_state=100 * seed + member)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # eight epochs are the recipe
            net.fit(prepare.transform(X), y, sample_weight=w)
        p = net.predict_proba(prepare.transform(held_out))
        scores.append(np.log(p[:, 1] + 1e-12) - np.log(p[:, 0] + 1e-12))
    return np.mean(scores, axis=0)


def variants() -> dict[str, Features]:
    found = {name: resolve_features(ATLAS_HIGGS, name=name) for name in ("raw", "canonical", "physics")}
    quantities = feature_set("physics").quantities(ATLAS_HIGGS)
    for group in dict.fromkeys(q.group for q in quantities):
        if group not in ("columns", "canonical frame"):
            left_out = [q.name for q in quantities if q.group == group]
            label = f"physics without {group} ({len(left_out)})"
            found[label] = resolve_features(ATLAS_HIGGS, name="physics", drop=left_out)
    return found


def main() -> None:
    events, name = sample_events()
    y, w = events.y, evaluation_weights(events.y, events.weight, N_S, N_B)
    group = events.group
    assert group is not None
    folds = [fold_assignments(y, group_index(group, ((0,), (1,), (2, 3))), FOLDS, 1, seed)[0] for seed in SEEDS]

    def score(features: Features, fit: Fit) -> Estimate:
        X, estimates = feature_matrix(events.frame, features), []
        for seed, fold in zip(SEEDS, folds, strict=True):
            out = np.empty(y.size)
            for k in range(FOLDS):
                train = fold != k
                weight = evaluation_weights(y[train], w[train], 1.0, 1.0) * train.sum() / 2
                out[~train] = fit(X[train], y[train], weight, X[~train], seed)
            estimates.append(roc_auc(y, out, w))
        print(features.name, *(f"{e.value:.5f}" for e in estimates), file=sys.stderr, flush=True)
        return mean_estimate(estimates)

    trees = {label: score(features, boosted) for label, features in variants().items()}
    nets = {
        n: score(resolve_features(ATLAS_HIGGS, name=n), networks) for n in ("raw", "canonical", "physics", "momenta")
    }
    lines = [
        f"{name}; weighted AUC of pooled {FOLDS}-fold out-of-fold scores, mean over {len(SEEDS)} seeds of folds and "
        "models, balanced training weights. In brackets: paired standard error, in units of the last digit.",
        "",
        *_table("XGBoost (450 rounds, depth 5)", trees, ("raw", "physics")),
        "",
        *_table(f"{BAG} networks (96, 96), 8 epochs, standardised, median for missing", nets, ("raw", "physics")),
    ]
    publish("features-gain", "What the feature sets bring", lines)


def _table(title: str, found: dict[str, Estimate], references: tuple[str, ...]) -> list[str]:
    lines = [f"| {title} | wAUC | {' | '.join(f'over {r}' for r in references)} |", "|---|---" + "|---" * 2 + "|"]
    for label, estimate in found.items():
        cells = []
        for reference in references:
            difference, error = paired_difference(estimate, found[reference])
            cells.append("" if label == reference else f"{difference:+.4f}({error * 1e4:.0f})")
        lines.append(f"| {label} | {estimate.value:.4f} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
