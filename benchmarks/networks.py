"""Networks out of fold on the feature set `momenta`: the scikit-learn bag against the packed ensemble of torch.

python -m benchmarks.networks [good]
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._common import publish, sample_events
from higgsbench import PhysicalClassifier
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.metrics import ams_scan, mean_estimate, paired_difference, roc_auc
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.events import Events

SEEDS = (42, 43)
CONTENDERS = (
    ("xgboost", "raw", "balanced"),
    ("lightgbm", "momenta", "balanced"),
    ("mlp", "momenta", "balanced"),
    ("mlp", "momenta", "sqrt_balanced"),
    ("torch_mlp", "momenta", "balanced"),
    ("torch_mlp", "momenta", "sqrt_balanced"),
)
"""Model, feature set and training weights; the first is what the others are compared with."""


def out_of_fold(
    events: Events, name: str, preset: str, features: str, weights: str, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Log-odds in physical normalisation of every event, and the processor seconds of one fit."""
    spec = get_model(name)
    X = feature_matrix(events.frame, resolve_features(events.schema, name=features))
    y, w = truth_and_weights(events)
    fold = fold_assignments(y, events.frame["PRI_jet_num"].to_numpy().astype(np.int64), 5, 1, seed)[0]
    score, spent = np.empty(y.size), 0.0
    for number in range(5):
        train, held_out = fold != number, fold == number
        context = BuildContext(seed=100 * seed + number)
        inner = build_estimator(spec, spec.preset(preset).params, context)
        model = PhysicalClassifier(inner, training_weights=weights, log_odds=spec.log_odds)
        begin = time.process_time()
        model.fit(X[train], y[train], w[train])
        spent += time.process_time() - begin
        score[held_out] = model.decision_function(X[held_out])
    return score, spent / 5


def truth_and_weights(events: Events) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and evaluation weights at the challenge's totals."""
    assert events.schema.weight is not None
    weight = events.frame[events.schema.weight].to_numpy()
    return events.y, evaluation_weights(events.y, weight, N_S, N_B)


def main() -> None:
    preset = sys.argv[1] if len(sys.argv) > 1 else "good"
    events, what = sample_events()
    y, w = truth_and_weights(events)
    lines = [
        f"{what}, preset `{preset}`, 5 folds out of fold, {len(SEEDS)} seeds of folds and models, one thread.",
        "",
        "| model | features | training weights | wAUC | Δ to the first | AMS at 10-20% | processor s per fit |",
        "|---|---|---|---|---|---|---|",
    ]
    first = None
    for name, features, weights in CONTENDERS:
        runs = [out_of_fold(events, name, preset, features, weights, seed) for seed in SEEDS]
        auc = mean_estimate([roc_auc(y, score, w) for score, _ in runs])
        first = first or auc
        difference, error = paired_difference(auc, first)
        curves = [ams_scan(y, score, w) for score, _ in runs]
        band = np.mean([c.ams[(c.fraction > 0.1) & (c.fraction < 0.2)].mean() for c in curves])
        lines.append(
            f"| {name} | {features} | {weights} | {auc.value:.4f} | {difference:+.4f} ± {error:.4f} | {band:.2f} | "
            f"{np.mean([seconds for _, seconds in runs]):.1f} |"
        )
    publish("networks", "Networks", lines)


if __name__ == "__main__":
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        main()
