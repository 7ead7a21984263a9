"""Peak memory of the processes of a run, from 25,000 to 800,000 events and from disk beyond.

    python -m benchmarks.memory [EVENTS ...]

The processes are those of `higgsbench run` with preset `good`: one that loads, plans, writes matrices and evaluates,
and for every model a fresh one that fits one unit. What a process takes with 2,000 events is its start-up cost. A fit
is cut to a few rounds and one seed, on which the peak of boosting and of networks does not depend; a forest grows all
its trees, for it keeps them. The events are simulated ones, repeated with noise.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._common import publish
from higgsbench.api import load_run_config
from higgsbench.ensemble.evaluate import evaluate_row
from higgsbench.events.formats import write_events
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.models.spec import BAG
from higgsbench.runs.assemble import truth_of
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from higgsbench.runs.unit import Workspace, run_unit, save_events

MODELS = ["lightgbm", "xgboost", "catboost", "random_forest", "mlp", "logistic"]
FROM_DISK = ["lightgbm", "xgboost", "catboost"]
SIZES = [25_000, 100_000, 800_000]
SMALL, BEYOND, BOUND = 2_000, 1_600_000, 4.0
FEW = {"n_estimators": 4, "iterations": 4, "max_iter": 2, "epochs": 1}


def peak_mb() -> float:
    """Peak of this process in MB (10^6 bytes)."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def grown(base: pl.DataFrame, events: int) -> pl.DataFrame:
    """Repeat events, the measured values of copies changed by a percent."""
    rng, parts = np.random.default_rng(1), []
    measured = [name for name in base.columns if name.startswith(("DER_", "PRI_")) and base[name].dtype == pl.Float64]
    for copy in range(-(-events // base.height)):
        noise = [pl.Series(rng.normal(1.0, 0.01, base.height)) if copy else 1.0 for _ in measured]
        changed = [(pl.col(name) * factor).alias(name) for name, factor in zip(measured, noise, strict=True)]
        parts.append(base.with_columns((pl.col("EventId") + copy * base.height).alias("EventId"), *changed))
    return pl.concat(parts)[:events]


def plan_and_save(data: Path, folder: Path) -> None:
    """Do what the main process does, and leave one task per model."""
    loaded = load_run_config({"models": MODELS, "data": {"path": str(data)}, "preset": "good"})
    begin = time.perf_counter()
    dataset = load_dataset(loaded.config)
    plan = make_plan(loaded, dataset)
    workspace = Workspace(str(folder))
    save_events(workspace, dataset, [row.features for row in plan.rows])
    seconds = time.perf_counter() - begin
    for index, row in enumerate(plan.rows):
        few = {} if row.spec.name == "random_forest" else FEW
        params = {k: min(few[k], v) if k in few else v for k, v in row.params.items() if k != BAG}
        task = dataclasses.replace(plan.units_of(index)[0], params=params)
        (folder / f"{row.spec.name}.task").write_bytes(pickle.dumps(task))
    score = np.random.default_rng(0).normal(size=dataset.y.size) + 2.0 * dataset.y
    evaluate_row(score[None, :], truth_of(loaded.config, dataset))
    columns = len(plan.rows[0].features.columns)
    json.dump({"peak": peak_mb(), "seconds": seconds, "columns": columns}, sys.stdout)


def fit(folder: Path, model: str, from_disk: bool) -> None:
    """Do what a worker does."""
    task = pickle.loads((folder / f"{model}.task").read_bytes())  # noqa: S301 - written by this script
    begin = time.perf_counter()
    found = run_unit(dataclasses.replace(task, from_disk=from_disk), Workspace(str(folder)))
    assert not found.error, found.error
    json.dump({"peak": peak_mb(), "seconds": time.perf_counter() - begin}, sys.stdout)


def measured(*arguments: str | Path) -> dict[str, Any]:
    """Run a part of this script in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def repeated(source: Path, target: Path, times: int) -> None:
    """Make a workspace of more events out of one, array by array."""
    target.mkdir()
    for file in source.glob("*.npy"):
        values = np.load(file, mmap_mode="r")
        axis = 1 if file.stem == "fold" else 0
        shape = tuple(n * times if i == axis else n for i, n in enumerate(values.shape))
        out = np.lib.format.open_memmap(target / file.name, mode="w+", dtype=values.dtype, shape=shape)
        for copy in range(times):
            at = slice(copy * values.shape[axis], (copy + 1) * values.shape[axis])
            out[(slice(None), at) if axis else at] = values
    for file in source.glob("*.task"):
        (target / file.name).write_bytes(file.read_bytes())


def tables(folder: Path, sizes: list[int]) -> list[str]:
    base = simulated_events(SimulationSettings(events=25_000, seed=1, set_proportions={"t": 1.0})).frame
    start: dict[str, float] = {}
    lines = [
        "MB above start-up, and in brackets as a multiple of the float32 matrix of all training events. Bound: "
        f"{BOUND:.0f} for each process.",
        "",
        f"| events | matrix | main process | {' | '.join(MODELS)} |",
        "|" + "---:|" * (3 + len(MODELS)),
    ]
    disk = []
    for events in [SMALL, *sizes]:
        data, space = folder / f"{events}.parquet", folder / str(events)
        space.mkdir()
        write_events(grown(base, events), data)
        measured("main", data, space)  # the second time finds the cache, as every later run does
        main = measured("main", data, space)
        matrix = 4e-6 * events * main["columns"]
        peaks = {"main": main["peak"]}
        for model in MODELS:
            peaks[model] = measured("fit", space, model, "memory")["peak"]
        if events == SMALL:
            start = peaks
            continue
        cells = [above(peaks, start, name, matrix) for name in ("main", *MODELS)]
        lines.append(f"| {events:,} | {matrix:.0f} | {' | '.join(cells)} |")
    large = folder / "large"
    times = BEYOND // sizes[-1]
    repeated(folder / str(sizes[-1]), large, times)
    matrix = 4e-6 * times * sizes[-1] * main["columns"]
    for model in FROM_DISK:
        cells = []
        for space, size in ((folder / str(sizes[-1]), matrix / times), (large, matrix)):
            for way in ("memory", "disk"):
                found = measured("fit", space, model, way)
                cells.append(f"{found['peak'] - start[model]:.0f} ({(found['peak'] - start[model]) / size:.1f})")
        disk.append(f"| {model} | {' | '.join(cells)} |")
    head = [f"{n:,} {way}" for n in (sizes[-1], times * sizes[-1]) for way in ("in memory", "from disk")]
    started = ", ".join(f"{name} {value:.0f}" for name, value in start.items())
    return [
        *lines,
        "",
        f"Start-up in MB: {started}.",
        "",
        "## From disk",
        "",
        f"| model | {' | '.join(head)} |",
        "|---|" + "---:|" * 4,
        *disk,
    ]


def above(peaks: dict[str, float], start: dict[str, float], name: str, matrix: float) -> str:
    extra = peaks[name] - start[name]
    return f"{extra:.0f} ({extra / matrix:.1f})"


def main() -> None:
    if sys.argv[1:2] == ["main"]:
        plan_and_save(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    if sys.argv[1:2] == ["fit"]:
        fit(Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "disk")
        return
    sizes = [int(value) for value in sys.argv[1:]] or SIZES
    with tempfile.TemporaryDirectory() as name:
        lines = tables(Path(name), sizes)
    publish("memory", "Memory of a run", lines)


if __name__ == "__main__":
    main()
