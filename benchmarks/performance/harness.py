"""`run` against a bare script that fits the very same estimators on the same folds with as many processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.performance.events import six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import Cost, command, in_turn, ratio, summary

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "measure", "report"]

SETTINGS = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5}

BARE = """
import sys, joblib, numpy as np
from joblib.externals.loky import get_reusable_executor
from higgsbench.api import load_run_config
from higgsbench.features import feature_matrix
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from higgsbench.runs.unit import make_estimator
from higgsbench.metrics import evaluation_weights

def fit(task, X, y, w, train, test):
    from threadpoolctl import threadpool_limits
    with threadpool_limits(limits=1):
        model = make_estimator(task, len(train))
        model.fit(X[train], y[train], sample_weight=evaluation_weights(y[train], w[train], *task.totals))
        return model.decision_function(X[test])

if __name__ == "__main__":
    config, jobs = sys.argv[1], int(sys.argv[2])
    loaded = load_run_config(config)
    dataset = load_dataset(loaded.config)
    plan = make_plan(loaded, dataset)
    X = feature_matrix(dataset.train.frame, plan.rows[0].features)
    jets = np.column_stack([X, dataset.train.group.astype(np.float32)])
    units = sorted(plan.units, key=lambda u: -plan.rows[u.row].spec.cost)
    calls = []
    for unit in units:
        task = task_of(unit, plan, dataset, loaded.config)
        held_out = dataset.fold[unit.repeat] == unit.fold
        calls.append(joblib.delayed(fit)(task, X if task.groups is None else jets, dataset.y, dataset.weight,
                                         np.flatnonzero(~held_out), np.flatnonzero(held_out)))
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs)(calls)
    get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted
"""


def measure(figures: Figures, folder: Path) -> None:
    """Run both in turn, each as a command of its own; the file is in the cache for both."""
    data = training_events(SETTINGS["events"], folder)
    (folder / "bare.py").write_text(BARE)
    (folder / "all.yaml").write_text(six_models(data, SETTINGS["folds"], jet_split="both"))
    jobs = str(SETTINGS["jobs"])
    warm = ["-m", "higgsbench", "run", "all.yaml", "--plan", "--jobs", jobs]
    command(warm, folder)
    count = iter(range(1000))

    def ours() -> Cost:
        output = f"out-{next(count)}"
        return command(["-m", "higgsbench", "run", "all.yaml", "--output", output, "--jobs", jobs, "--quiet"], folder)

    def theirs() -> Cost:
        return command(["bare.py", "all.yaml", jobs], folder)

    in_turn({"ours": ours, "theirs": theirs}, SETTINGS["rounds"], figures.content, figures.keep)


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times and ratios."""
    ours, theirs = content["ours"], content["theirs"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    fits = 2 * 6 * SETTINGS["folds"]
    text = (
        f"`higgsbench run` of six models, global and split by jet number, on {SETTINGS['events']:,} events ({fits} "
        f"fits, stored with their models, stack, cuts, bootstrap errors): {summary(ours)}. A bare joblib loop over the "
        f"same {fits} fits that keeps nothing: {summary(theirs)}; {SETTINGS['jobs']} processes of one thread each. "
        f"Ratio on the clock {wall}, of the processor {cpu}, {wall.pairs} pairs."
    )
    return [text], [Verdict("`run` over the bare loop", wall.median, 1.05, cpu=cpu.median)]
