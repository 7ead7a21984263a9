"""Speed compared with what a user would run otherwise: a bare loop, StackingClassifier, argsort, pandas."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.performance.measuring import (
    SIX,
    Figures,
    Verdict,
    command,
    in_process_in_turn,
    in_turn,
    ratio,
    six_models,
    summary,
    training_events,
)
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.metrics import ams_scan, evaluation_weights
from higgsbench.schema import N_B, N_S

HARNESS = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5}

BARE = """
import sys, joblib, numpy as np
from joblib.externals.loky import get_reusable_executor
from higgsbench.api.running import load_run_config
from higgsbench.features import feature_matrix
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from higgsbench.runs.unit import make_estimator
from higgsbench.metrics import evaluation_weights

def fit(unit, X, y, w, train, test):
    from threadpoolctl import threadpool_limits
    with threadpool_limits(limits=1):
        model = make_estimator(unit, len(train))
        model.fit(X[train], y[train], sample_weight=evaluation_weights(y[train], w[train], *unit.totals))
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
        held_out = dataset.fold[unit.repeat] == unit.fold
        calls.append(joblib.delayed(fit)(unit, X if unit.groups is None else jets, dataset.y, dataset.weight,
                                         np.flatnonzero(~held_out), np.flatnonzero(held_out)))
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs)(calls)
    get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted
"""


def _beside(figures: Figures, folder: Path, settings: dict[str, int], config: str, theirs: list[str]) -> None:
    """Run a configuration and `python THEIRS` alternately, each from scratch; the events are in the cache for both."""
    (folder / "all.yaml").write_text(config)
    jobs, count = str(settings["jobs"]), iter(range(1000))
    run = ["-m", "higgsbench", "run", "all.yaml", "--jobs", jobs]
    command([*run, "--plan"], folder)
    calls = {
        "ours": lambda: command([*run, "--output", f"out-{next(count)}", "--quiet"], folder),
        "theirs": lambda: command([*theirs, "all.yaml", jobs], folder),
    }
    in_turn(calls, settings["rounds"], figures.content, figures.keep)


def measure_harness(figures: Figures, folder: Path) -> None:
    """Run higgsbench and the bare loop."""
    data = training_events(HARNESS["events"], folder)
    (folder / "bare.py").write_text(BARE)
    _beside(figures, folder, HARNESS, six_models(data, HARNESS["folds"], jet_split="both"), ["bare.py"])


def report_harness(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times and ratios."""
    ours, theirs = content["ours"], content["theirs"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    fits = 2 * 6 * HARNESS["folds"]
    text = (
        f"`higgsbench run` of six models, global and split by jet number, on {HARNESS['events']:,} events ({fits} "
        f"fits, stored with their models, stack, cuts, bootstrap errors): {summary(ours)}. A bare joblib loop over the "
        f"same {fits} fits that stores nothing: {summary(theirs)}; {HARNESS['jobs']} processes of one thread each. "
        f"Ratio of wall times {wall}, of CPU times {cpu}; {wall.pairs} pairs."
    )
    return [text], [Verdict("`run` over the bare loop", wall.median, 1.05, cpu=cpu.median)]


STACKING = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5, "seed": 42}


def measure_stacking(figures: Figures, folder: Path) -> None:
    """Run higgsbench and StackingClassifier."""
    config = six_models(training_events(STACKING["events"], folder), STACKING["folds"], seed=STACKING["seed"])
    _beside(figures, folder, STACKING, config, ["-m", "benchmarks.performance.against"])


def opponent(config: str, jobs: int) -> None:
    """Fit StackingClassifier as a user would write it, on the folds of the run."""
    from joblib import parallel_config
    from joblib.externals.loky import get_reusable_executor
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit

    from benchmarks.quality.stacking import Member
    from higgsbench.api.running import load_run_config
    from higgsbench.features import feature_matrix, resolve_features
    from higgsbench.runs.dataset import load_dataset
    from higgsbench.validation import training_weights

    dataset = load_dataset(load_run_config(config).config)
    X = feature_matrix(dataset.train.frame, resolve_features(dataset.train.schema))
    balanced = training_weights(dataset.y, dataset.weight, "balanced")
    members = [(name, Member(name, STACKING["seed"])) for name in SIX]
    stack = StackingClassifier(members, LogisticRegression(), cv=PredefinedSplit(dataset.fold[0]), n_jobs=jobs)
    with parallel_config(backend="loky", inner_max_num_threads=1, max_nbytes=None):
        stack.fit(X, dataset.y.astype(np.int64), sample_weight=balanced)
    get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted


def report_stacking(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times and ratios."""
    ours, theirs = content["ours"], content["theirs"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    folds, n = STACKING["folds"], STACKING["events"]
    text = (
        f"`higgsbench run` of six models and their stack on {n:,} events, {folds} folds ({6 * folds} fits, cuts and "
        f"errors): {summary(ours)}. `StackingClassifier` over the same estimators, folds and weights ({6 * folds} fits "
        f"and 6 on all events): {summary(theirs)}; both in {STACKING['jobs']} processes of one thread each. Ratio of "
        f"wall times {wall}, of CPU times {cpu}; {wall.pairs} pairs."
    )
    return [text], [Verdict("`run` over StackingClassifier", wall.median, 0.8, cpu=cpu.median)]


SCAN = {"events": 10_000_000, "rounds": 5}


def measure_scan(figures: Figures, folder: Path) -> None:
    """Time both."""
    n = SCAN["events"]
    rng = np.random.default_rng(0)
    y = rng.random(n) < 0.34
    score = rng.normal(size=n) + y
    weight = evaluation_weights(y, rng.random(n), N_S, N_B)
    calls: dict[str, Callable[[], object]] = {
        "scan": lambda: ams_scan(y, score, weight),
        "argsort": lambda: np.argsort(score),
    }
    in_process_in_turn(calls, SCAN["rounds"], figures.content, figures.keep)


def report_scan(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times and ratios."""
    ours, theirs = content["scan"], content["argsort"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    text = (
        f"AMS scan of {SCAN['events']:,} events with the whole curve: {summary(ours, 2)}. `numpy.argsort` of the same "
        f"scores: {summary(theirs, 2)}. Ratio of wall times {wall}, of CPU times {cpu}; {wall.pairs} pairs."
    )
    return [text], [Verdict("scan over argsort", wall.median, 2.0, cpu=cpu.median)]


READING = {"events": 750_000, "rounds": 7}
BOUNDS = {"plain": 1.0, "gzipped": 0.5, "cached": 0.3}


def measure_reading(figures: Figures, folder: Path) -> None:
    """Time each way to read, plain and gzipped."""
    import pandas as pd

    os.environ["HIGGSBENCH_CACHE_DIR"] = str(folder / "cache")
    settings = SimulationSettings(events=READING["events"], seed=4)
    plain, gzipped = (write_simulated(settings, folder / f"events{ending}", jobs=2) for ending in (".csv", ".csv.gz"))
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: load_events(plain, cache=False),
        "pandas plain": lambda: pd.read_csv(plain),
        "cached": lambda: load_events(plain),
        "polars plain": lambda: pl.read_csv(plain),
        "gzipped": lambda: load_events(gzipped, cache=False),
        "pandas gzipped": lambda: pd.read_csv(gzipped),
        "cached gzipped": lambda: load_events(gzipped),
        "polars gzipped": lambda: pl.read_csv(gzipped),
    }
    in_process_in_turn(calls, READING["rounds"], figures.content, figures.keep)


def report_reading(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times and ratios to pandas for the same file."""
    lines = [
        f"{READING['events']:,} simulated events in the official format; rows are timed in turn, then all again.",
        "",
        "| file | higgsbench | pandas | wall-time ratio | CPU-time ratio | bare polars |",
        "|---|---|---|---|---|---|",
    ]
    verdicts = []
    names = {"plain": "parsed and checked", "cached": "from the cache", "gzipped": "parsed and checked"}
    for key, what in {**names, "cached gzipped": "from the cache"}.items():
        ending = "gzipped" if "gzipped" in key else "plain"
        theirs = content[f"pandas {ending}"]
        wall, cpu = ratio(content[key], theirs), ratio(content[key], theirs, "cpu")
        lines.append(
            f"| {ending}, {what} | {summary(content[key], 2)} | {summary(theirs, 2)} | {wall} | {cpu} | "
            f"{summary(content[f'polars {ending}'], 2)} |"
        )
        if key in BOUNDS:
            title = "from cache, over pandas of the plain file" if key == "cached" else f"{ending}, over pandas"
            verdicts.append(Verdict(title, wall.median, BOUNDS[key], cpu=cpu.median))
    return lines, verdicts


if __name__ == "__main__":
    opponent(sys.argv[1], int(sys.argv[2]))
