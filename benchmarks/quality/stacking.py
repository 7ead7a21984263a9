"""The core recipe against scikit-learn's StackingClassifier over the six default models, on the same cores."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from benchmarks.common import ROOT, SAMPLE, sample_events
from benchmarks.performance.measuring import SIX
from benchmarks.quality.ladder import SEEDS, scores_of, write_section
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.metrics import mean_estimate, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.models.estimators import fit_weighted, read_log_odds
from higgsbench.validation import training_weights

JOBS = 2


class Member(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A registered model that passes StackingClassifier's sample_weight through its pipeline."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> Member:
        """Fit the preset `good`."""
        spec, params = get_model(self.name), get_model(self.name).preset("good").params
        self.classes_ = np.unique(y)
        self.model_ = build_estimator(spec, params, BuildContext(seed=self.seed, threads=1))
        fit_weighted(self.model_, X, y, sample_weight)
        self.reader_ = log_odds_reader(spec, params)
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return log-odds (n,)."""
        return read_log_odds(self.model_, X, self.reader_)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return classes (n,); StackingClassifier requires this method but stacks log-odds."""
        chosen: NDArray[Any] = self.classes_[(self.decision_function(X) > 0.0).astype(np.intp)]
        return chosen


def _stacked(
    X: NDArray[np.float32], y: NDArray[np.bool_], w: NDArray[np.float64], train: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """Fit scikit-learn's stack on the events of `train` and score the others, with balanced weights throughout."""
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    stack = StackingClassifier([(name, Member(name, seed)) for name in SIX], LogisticRegression(), cv=5, n_jobs=1)
    with threadpool_limits(limits=1):
        stack.fit(X[train], y[train].astype(int), sample_weight=training_weights(y[train], w[train], "balanced"))
        scores: NDArray[np.float64] = stack.decision_function(X[~train])
    return scores


def main(output: Path) -> None:
    """Time both alternately, each as its own command, and write the section."""
    head = (
        "| seed | StackingClassifier, wAUC | wall s | CPU s | core recipe, wAUC | wall s | CPU s | gain | wall | CPU |"
    )
    lines = [head, "|---" * 10 + "|"]
    theirs, ours = [], []
    for seed in SEEDS:
        folder = output / f"stacking-{time.time_ns()}"
        settings = ["--set", f"seed={seed}", "--set", "store_models=false", "--jobs", str(JOBS), "--quiet"]
        recipe = ["higgsbench", "run", str(ROOT / "configs" / "best.yaml"), "--data", str(SAMPLE.resolve())]
        a_cost = _timed([*recipe, "--output", str(folder), *settings])
        (found,) = folder.iterdir()
        b_cost = _timed(["benchmarks.quality.stacking", str(found), str(seed)])
        run = scores_of(found)
        a, b = roc_auc(run.y, run.rows["stack"], run.w), roc_auc(run.y, np.load(found / "stacked.npy"), run.w)
        gain, error = paired_difference(a, b)
        lines.append(
            f"| {seed} | {b.value:.4f} | {b_cost[0]:.0f} | {b_cost[1]:.0f} | {a.value:.4f} | {a_cost[0]:.0f} | "
            f"{a_cost[1]:.0f} | {gain:+.4f} ± {error:.4f} | {a_cost[0] / b_cost[0]:.2f} | {a_cost[1] / b_cost[1]:.2f} |"
        )
        ours.append(a)
        theirs.append(b)
    gain, error = paired_difference(mean_estimate(ours), mean_estimate(theirs))
    lines += [
        "",
        f"Mean gain **{gain:+.4f} ± {error:.4f}** (bound +.0020), {JOBS} processes of one thread each; the last",
    ]
    lines += ["columns are the recipe's time over the other's (bound 0.5): wall time, which other work on the machine"]
    write_section("stacking", [*lines, "disturbs, and CPU time."])


def _timed(module_and_arguments: list[str]) -> tuple[float, float]:
    """Run a module; return its wall and CPU time in seconds, including its worker processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", *module_and_arguments], check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def opponent(folder: Path, seed: int) -> None:
    """Score the events of a stored run, fold by fold, with scikit-learn's stack trained on the other folds."""
    run = scores_of(folder)
    events, _ = sample_events()
    X = feature_matrix(events.frame, resolve_features(events.schema))
    folds = range(int(run.fold.max()) + 1)
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parts = Parallel(n_jobs=JOBS)(delayed(_stacked)(X, run.y, run.w, run.fold != k, seed + k) for k in folds)
    scores = np.empty(run.y.size)
    for k, part in zip(folds, parts, strict=True):
        scores[run.fold == k] = part
    np.save(folder / "stacked.npy", scores)
    get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted


if __name__ == "__main__":
    opponent(Path(sys.argv[1]), int(sys.argv[2]))
