"""`run` of six models and their stack against scikit-learn's StackingClassifier over the same estimators and folds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.performance.events import SIX, six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import Cost, command, in_turn, ratio, summary

__all__ = ["SETTINGS", "measure", "opponent", "report"]

SETTINGS = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5, "seed": 42}


def measure(figures: Figures, folder: Path) -> None:
    """Run both in turn, each as a command of its own; both read the same file from the cache."""
    data = training_events(SETTINGS["events"], folder)
    (folder / "six.yaml").write_text(six_models(data, SETTINGS["folds"], seed=SETTINGS["seed"]))
    jobs = str(SETTINGS["jobs"])
    command(["-m", "higgsbench", "run", "six.yaml", "--plan", "--jobs", jobs], folder)
    count = iter(range(1000))

    def ours() -> Cost:
        output = f"out-{next(count)}"
        return command(["-m", "higgsbench", "run", "six.yaml", "--output", output, "--jobs", jobs, "--quiet"], folder)

    def theirs() -> Cost:
        return command(["-m", "benchmarks.performance.sklearn_stack", "six.yaml", jobs], folder)

    in_turn({"ours": ours, "theirs": theirs}, SETTINGS["rounds"], figures.content, figures.keep)


def opponent(config: str, jobs: int) -> None:
    """Fit StackingClassifier as a user would write it, on the folds of the run."""
    from joblib import parallel_config
    from joblib.externals.loky import get_reusable_executor
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit

    from benchmarks.quality.stacking import Member
    from higgsbench.api import load_run_config
    from higgsbench.features import feature_matrix, resolve_features
    from higgsbench.runs.dataset import load_dataset
    from higgsbench.validation.folds import training_weights

    dataset = load_dataset(load_run_config(config).config)
    X = feature_matrix(dataset.train.frame, resolve_features(dataset.train.schema))
    balanced = training_weights(dataset.y, dataset.weight, "balanced")
    members = [(name, Member(name, SETTINGS["seed"])) for name in SIX]
    stack = StackingClassifier(members, LogisticRegression(), cv=PredefinedSplit(dataset.fold[0]), n_jobs=jobs)
    with parallel_config(backend="loky", inner_max_num_threads=1, max_nbytes=None):
        stack.fit(X, dataset.y.astype(np.int64), sample_weight=balanced)
    get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times and ratios."""
    ours, theirs = content["ours"], content["theirs"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    folds, n = SETTINGS["folds"], SETTINGS["events"]
    text = (
        f"`higgsbench run` of six models and their stack on {n:,} events, {folds} folds ({6 * folds} fits, cuts and "
        f"errors): {summary(ours)}. `StackingClassifier` over the same estimators, folds and weights ({6 * folds} fits "
        f"and 6 on all events): {summary(theirs)}; both on {SETTINGS['jobs']} processes of one thread each. Ratio on "
        f"the clock {wall}, of the processor {cpu}, {wall.pairs} pairs."
    )
    return [text], [Verdict("`run` over StackingClassifier", wall.median, 0.8, cpu=cpu.median)]


if __name__ == "__main__":
    opponent(sys.argv[1], int(sys.argv[2]))
