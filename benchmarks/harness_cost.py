"""`run` against a bare script that fits the very same estimators on the same folds with as many processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import ROOT, SAMPLE, in_turn, median, publish

ROUNDS = 1
JOBS = 2

BARE = """
import sys, joblib, numpy as np
from higgsbench.api import load_run_config
from higgsbench.features import feature_matrix
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from higgsbench.runs.workspace import task_of
from higgsbench.runs.unit import make_estimator
from higgsbench.metrics import evaluation_weights

def fit(task, X, y, w, train, test):
    from threadpoolctl import threadpool_limits
    with threadpool_limits(limits=1):
        model = make_estimator(task)
        model.fit(X[train], y[train], sample_weight=evaluation_weights(y[train], w[train], *task.totals))
        return model.decision_function(X[test])

if __name__ == "__main__":
    config, data, jobs = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
    loaded = load_run_config(config, data=data)
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
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "bare.py"
        bare.write_text(BARE)
        config = folder / "all.yaml"
        text = (ROOT / "configs" / "all.yaml").read_text()
        if not SAMPLE.is_file():
            text = text.replace("events: 48000", "events: 15000\n  train_sets: [t, b, v]\n  test_sets: []")
        config.write_text(text)
        data = str(SAMPLE.resolve()) if SAMPLE.is_file() else ""
        count = iter(range(1000))

        def ours() -> None:
            options = [*(["--data", data] if data else []), "--jobs", str(JOBS), "--quiet"]
            output = str(folder / f"out{next(count)}")
            command = [sys.executable, "-m", "higgsbench", "run", str(config), "--output", output, *options]
            subprocess.run(command, check=True, capture_output=True)

        def theirs() -> None:
            subprocess.run([sys.executable, str(bare), str(config), data, str(JOBS)], check=True, capture_output=True)

        a, b = in_turn(ours, theirs, ROUNDS)
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    publish(
        "harness-cost",
        "Cost of the harness",
        [
            f"`higgsbench run configs/all.yaml` (60 fits, stack, cuts, bootstrap errors, store): {median(a):.1f} s. "
            f"The bare loop over the same 60 fits in {JOBS} processes: {median(b):.1f} s.",
            "",
            f"Ratio: **{median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f}, {ROUNDS} pairs in turn); "
            "bound 1.10.",
        ],
    )


if __name__ == "__main__":
    main()
