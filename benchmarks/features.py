"""python -m benchmarks.features [speed|gain|jet_split]: cost and gain of feature sets, and of the group prior."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.common import publish, sample_events
from benchmarks.performance.measuring import in_process_in_turn, summary
from higgsbench.features import Features, feature_matrix, feature_set, resolve_features
from higgsbench.metrics import Estimate, evaluation_weights, mean_estimate, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator
from higgsbench.schema import ATLAS_HIGGS, N_B, N_S
from higgsbench.validation import fold_assignments, group_index
from higgsbench.validation.physical import JetSplitClassifier

EVENTS = 818_238
ROUNDS = 3
BOUND = 5.0


def speed() -> None:
    events, name = sample_events()
    frame = pl.concat([events.frame] * -(-EVENTS // len(events))).head(EVENTS).rechunk()
    raw, physics = (resolve_features(ATLAS_HIGGS, name=set_name) for set_name in ("raw", "physics"))
    calls = {"ours": lambda: feature_matrix(frame, physics), "plain": lambda: feature_matrix(frame, raw)}
    found: dict[str, list[dict[str, float]]] = {}
    in_process_in_turn(calls, ROUNDS, found, lambda: None)
    publish(
        "features-speed",
        "Evaluating the physics features",
        [
            f"`physics` ({len(physics.columns)} features) of {EVENTS:,} events ({name}, repeated) to a float32 matrix: "
            f"**{summary(found['ours'], 2)}**; bound {BOUND:.0f} s on two cores. The same pass with the raw columns: "
            f"{summary(found['plain'], 2)}. Medians of {ROUNDS} alternating rounds.",
        ],
    )


GAIN_SEEDS = (1, 2)
FOLDS = 5

Matrix = NDArray[np.float32]
TREES: dict[str, Any] = {
    "n_estimators": 450, "max_depth": 5, "learning_rate": 0.03, "min_child_weight": 50, "colsample_bytree": 0.5
}  # fmt: skip


def boosted(X: Matrix, y: NDArray[np.bool_], w: NDArray[np.float64], held_out: Matrix, seed: int) -> Any:
    from xgboost import XGBClassifier

    model = XGBClassifier(**TREES, n_jobs=1, random_state=seed)
    return model.fit(X, y, sample_weight=w).predict(held_out, output_margin=True)


def variants() -> dict[str, Features]:
    found = {name: resolve_features(ATLAS_HIGGS, name=name) for name in ("raw", "canonical", "physics")}
    quantities = feature_set("physics").quantities(ATLAS_HIGGS)
    for group in dict.fromkeys(q.group for q in quantities):
        if group not in ("columns", "canonical frame"):
            left_out = [q.name for q in quantities if q.group == group]
            label = f"physics without {group} ({len(left_out)})"
            found[label] = resolve_features(ATLAS_HIGGS, name="physics", drop=left_out)
    return found


def gain() -> None:
    events, name = sample_events()
    y, w = events.y, evaluation_weights(events.y, events.weight, N_S, N_B)
    group = events.group
    assert group is not None
    folds = [fold_assignments(y, group_index(group, ((0,), (1,), (2, 3))), FOLDS, 1, seed)[0] for seed in GAIN_SEEDS]

    def score(features: Features) -> Estimate:
        X, estimates = feature_matrix(events.frame, features), []
        for seed, fold in zip(GAIN_SEEDS, folds, strict=True):
            out = np.empty(y.size)
            for k in range(FOLDS):
                train = fold != k
                weight = evaluation_weights(y[train], w[train], 1.0, 1.0) * train.sum() / 2
                out[~train] = boosted(X[train], y[train], weight, X[~train], seed)
            estimates.append(roc_auc(y, out, w))
        print(features.name, *(f"{e.value:.5f}" for e in estimates), file=sys.stderr, flush=True)
        return mean_estimate(estimates)

    trees = {label: score(features) for label, features in variants().items()}
    lines = [
        f"{name}; weighted AUC of pooled {FOLDS}-fold out-of-fold scores, mean over {len(GAIN_SEEDS)} seeds of "
        "folds and models, balanced training weights. In brackets: paired standard error, in units of the last digit.",
        "",
        *_table("XGBoost (450 rounds, depth 5)", trees, ("raw", "physics")),
    ]
    publish("features-gain", "What the feature sets gain", lines)


def _table(title: str, found: dict[str, Estimate], references: tuple[str, ...]) -> list[str]:
    lines = [f"| {title} | wAUC | {' | '.join(f'over {r}' for r in references)} |", "|---|---" + "|---" * 2 + "|"]
    for label, estimate in found.items():
        cells = []
        for reference in references:
            difference, error = paired_difference(estimate, found[reference])
            cells.append("" if label == reference else f"{difference:+.4f}({error * 1e4:.0f})")
        lines.append(f"| {label} | {estimate.value:.4f} | {' | '.join(cells)} |")
    return lines


SEEDS = (42, 43)


def out_of_fold(
    X: np.ndarray, y: np.ndarray, w: np.ndarray, fold: np.ndarray, column: int, corrected: bool
) -> np.ndarray:
    """Out-of-fold scores of XGBoost split by jet number, trained with balanced weights."""
    spec = get_model("xgboost")
    scores = np.empty(y.size)
    for k in range(FOLDS):
        rest, held_out = fold != k, fold == k
        estimator = build_estimator(spec, spec.preset("good").params, BuildContext(seed=k, threads=2))
        split = JetSplitClassifier(estimator, group_feature=column, prior_correction=corrected, log_odds=spec.log_odds)
        split.fit(X[rest], y[rest], sample_weight=w[rest])
        scores[held_out] = split.decision_function(X[held_out])
    return scores


def jet_split() -> None:
    events, name = sample_events()
    features = resolve_features(events.schema)
    X, y = feature_matrix(events.frame, features), events.y
    w = evaluation_weights(y, events.weight, *events.totals())
    group = events.group
    assert group is not None
    strata = group_index(group, events.schema.groups)
    lines = [f"XGBoost (good preset, balanced weights), {name}, out of fold, {FOLDS} folds, weighted ROC AUC.", ""]
    lines += ["| seed | concatenated | prior added back | gain (paired error) |", "|---|---|---|---|"]
    for seed in SEEDS:
        fold = fold_assignments(y, strata, FOLDS, 1, seed)[0]
        column = features.columns.index("PRI_jet_num")
        plain, corrected = (roc_auc(y, out_of_fold(X, y, w, fold, column, c), w) for c in (False, True))
        gain, error = paired_difference(corrected, plain)
        lines.append(f"| {seed} | {plain.value:.4f} | {corrected.value:.4f} | **{gain:+.4f}** ({error:.4f}) |")
    publish("jet-split", "What the group prior is worth", [*lines, "", "Bound: at least +.0015."])


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ("speed", "gain", "jet_split"):
        {"speed": speed, "gain": gain, "jet_split": jet_split}[chosen]()
