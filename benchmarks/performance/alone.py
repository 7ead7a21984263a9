"""Speed and memory of higgsbench alone: the bootstrap, a second run, the engines, growth with the events."""

from __future__ import annotations

import functools
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.performance.measuring import (
    Cost,
    Figures,
    Verdict,
    command,
    in_process,
    in_turn,
    ratio,
    six_models,
    stored_with_peaks,
    summary,
    training_events,
    watched_command,
)
from benchmarks.statistics_calibration import POPULATIONS, log_odds, sample
from higgsbench.ensemble import Truth, bootstrap_rows
from higgsbench.files import file_digest
from higgsbench.schema import B_REG, FEATURES, N_B, N_S
from higgsbench.validation import fold_assignments

BOOTSTRAP = {"events": 250_000, "models": 7, "replicas": 1000, "rounds": 3}
BOUND = 20.0


def measure_bootstrap(figures: Figures, folder: Path) -> None:
    """Time the bootstrap."""
    n, replicas = BOOTSTRAP["events"], BOOTSTRAP["replicas"]
    rng = np.random.default_rng(1)
    y, weight, scores = sample(POPULATIONS[0], n, rng)
    truth = Truth(y, weight, fold_assignments(y, None, 5, 1, 1), (N_S, N_B), B_REG, "smooth")
    moved = (scores["twin a"] + 0.3 * rng.normal(size=n) for _ in range(BOOTSTRAP["models"]))
    rows = [(log_odds(POPULATIONS[0], score, 0.3)[None], truth) for score in moved]
    calls = {"anew": lambda: in_process(lambda: bootstrap_rows(rows, replicas))}
    in_turn(calls, BOOTSTRAP["rounds"], figures.content, figures.keep)


def report_bootstrap(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times."""
    name, costs = "each fold's cut chosen again in each replica", content["anew"]
    lines = [f"{BOOTSTRAP['replicas']:,} replicas, {BOOTSTRAP['models']} models, {BOOTSTRAP['events']:,} events:", ""]
    wall, cpu = (statistics.median(cost[key] for cost in costs) for key in ("wall", "cpu"))
    verdict = Verdict(f"bootstrap, {name}", wall, BOUND, unit="s", cpu=cpu)
    return [*lines, f"- {name}: {summary(costs)}"], [verdict]


AGAIN = {"events": 15_000, "rounds": 5, "runs": 200}


def measure_again(figures: Figures, folder: Path) -> None:
    """Run once with small models, then time the same command again, and the leaderboard over copies of that run."""
    data = training_events(AGAIN["events"], folder)
    (folder / "six.yaml").write_text(six_models(data, 5, preset="quick", jet_split="both"))
    again = ["-m", "higgsbench", "run", "six.yaml", "--output", "out", "--quiet"]
    command(again, folder)
    (run,) = (folder / "out").iterdir()
    copies_of(run, folder / "many", AGAIN["runs"])
    calls = {
        "again": lambda: command(again, folder),
        "leaderboard": lambda: command(["-m", "higgsbench", "leaderboard", "--results", "many"], folder),
        "interpreter": lambda: command(["-c", "import numpy, polars, scipy.stats"], folder),
    }
    in_turn(calls, AGAIN["rounds"], figures.content, figures.keep)


def copies_of(run: Path, results: Path, number: int) -> None:
    """Write copies of a stored run, each with its own fits, row scores and replicas.

    Args:
        run: folder of a finished run.
        results: folder for the copies.
        number: how many.
    """
    content, replicas = json.loads((run / "rows.json").read_text()), pl.read_parquet(run / "replicas.parquet")
    content.pop("seal", None)  # the checksum of content that is changed below
    for index in range(number):
        rng = np.random.default_rng(index)
        folder = results / f"run-{index:03d}"
        (folder / "units").mkdir(parents=True)
        rows = [
            {**row, "digest": f"{row['digest']}-{index}", "ams_cv": row["ams_cv"] + 0.05 * rng.normal()}
            for row in content["rows"]
        ]
        moved = replicas.select(pl.all() + 0.05 * pl.Series(rng.normal(size=replicas.height)))
        moved.write_parquet(folder / "replicas.parquet", compression="lz4", statistics=False)
        sums = {**content["checksums"], "replicas.parquet": file_digest(folder / "replicas.parquet")}
        (folder / "rows.json").write_text(json.dumps({**content, "run": folder.name, "rows": rows, "checksums": sums}))


def report_again(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times."""
    wall, cpu = (
        {name: statistics.median(cost[kind] for cost in costs) for name, costs in content.items()}
        for kind in ("wall", "cpu")
    )
    text = (
        f"`higgsbench run` of 12 rows and a stack on {AGAIN['events']:,} events, all stored: "
        f"{summary(content['again'], 2)}. `higgsbench leaderboard` over {AGAIN['runs']} runs of 13 rows each: "
        f"{summary(content['leaderboard'], 2)}. For comparison, Python with `import numpy, polars, scipy.stats`: "
        f"{summary(content['interpreter'], 2)}. Medians of {len(content['again'])} alternating rounds."
    )
    verdicts = [
        Verdict("second run", wall["again"], 3.0, unit="s", cpu=cpu["again"]),
        Verdict("leaderboard over 200 runs", wall["leaderboard"], 2.0, unit="s", cpu=cpu["leaderboard"]),
    ]
    return [text], verdicts


ENGINES = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5}
KINDS = ("local", "dask", "serial")


def measure_engines(figures: Figures, folder: Path) -> None:
    """Run the same configuration on the engines alternately, each time from scratch."""
    data = training_events(ENGINES["events"], folder)
    (folder / "six.yaml").write_text(six_models(data, ENGINES["folds"]))
    jobs = str(ENGINES["jobs"])
    command(["-m", "higgsbench", "run", "six.yaml", "--plan", "--jobs", jobs], folder)
    count = iter(range(1000))

    def on(engine: str) -> Cost:
        options = ["--engine", engine, *([] if engine == "serial" else ["--jobs", jobs])]
        output = f"out-{next(count)}"
        return command(["-m", "higgsbench", "run", "six.yaml", "--output", output, "--quiet", *options], folder)

    calls = {engine: functools.partial(on, engine) for engine in KINDS}
    in_turn(calls, ENGINES["rounds"], figures.content, figures.keep)


def report_engines(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times and ratios."""
    dask, serial = ratio(content["dask"], content["local"]), ratio(content["serial"], content["local"])
    times = ", ".join(f"`{engine}` {summary(content[engine])}" for engine in KINDS)
    text = (
        f"Six models and their stack on {ENGINES['events']:,} events, {ENGINES['folds']} folds, {ENGINES['jobs']} "
        f"processes or workers: {times}. Dask over "
        f"local {dask}, serial over local {serial}; {dask.pairs} alternating rounds."
    )
    cpu = ratio(content["dask"], content["local"], "cpu").median
    return [text], [
        Verdict("Dask over local", dask.median, 1.25, cpu=cpu),
        Verdict("serial over local", serial.median, 1.7, at_most=False),
    ]


GROWTH: dict[str, Any] = {
    "events": [25_000, 100_000, 400_000, 800_000],
    "startup": 1_000,
    "thrice": [1_000, 25_000, 100_000],
    "folds": 2,
    "jobs": 2,
    # Without random_forest and logistic, because scikit-learn needs more than 4 matrices to train them.
    "models": ["catboost", "xgboost", "lightgbm", "mlp"],
}


def measure_growth(figures: Figures, folder: Path) -> None:
    """Run every size, and a tiny one that shows the memory needed to start; run small ones three times.

    Sampling the memory may miss a short peak.
    """
    for events in (GROWTH["startup"], *GROWTH["events"]):
        runs = figures.content.setdefault(str(events), [])
        while len(runs) < (3 if events in GROWTH["thrice"] else 1):
            runs.append(_run(events, folder))
            figures.keep()


def _run(events: int, folder: Path) -> dict[str, Any]:
    data = training_events(events, folder)
    (folder / "growth.yaml").write_text(six_models(data, GROWTH["folds"], models=GROWTH["models"]))
    run = ["-m", "higgsbench", "run", "growth.yaml", "--jobs", str(GROWTH["jobs"]), "--output", "out", "--quiet"]
    found = stored_with_peaks(*watched_command(run, folder))
    shutil.rmtree(folder / "out")
    data.unlink()
    return found


def _summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Median times and highest peaks."""
    times = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu")}
    return times | {key: max(run[key] for run in runs) for key in ("main", "worker", "total")}


def exponent(events: list[int], values: list[float]) -> float:
    """Slope of ln(value) against ln(events), by least squares."""
    return float(np.polyfit(np.log(events), np.log(values), 1)[0])


def report_growth(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Report times, memory above start-up in units of the training matrix, and exponents."""
    sizes = GROWTH["events"]
    measured = {int(events): _summary(runs) for events, runs in content.items()}
    start = measured[GROWTH["startup"]]
    lines = [
        f"{', '.join(GROWTH['models'])}, preset `good`, one global model each, {GROWTH['folds']} folds, "
        f"{GROWTH['jobs']} processes. "
        "Memory is proportional set size, so that shared memory counts once; `matrix` is the float32 training matrix "
        "of all events. Up to 100,000 events, peaks are the highest and times the medians of three runs. The memory at "
        f"start-up, from a run of {GROWTH['startup']:,} events, is subtracted: {_mb(start['main'])} for the main "
        f"process, {_mb(start['worker'])} for a worker, {_mb(start['total'])} for all together.",
        "",
        "| events | wall s | CPU s | matrix | main above start-up | worker above start-up | all, peak "
        "| all above start-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst = 0.0
    for events in sizes:
        found = measured[events]
        matrix = 4 * len(FEATURES) * events
        main, worker, total = (max(0, found[key] - start[key]) for key in ("main", "worker", "total"))
        worst = max(worst, main / matrix, worker / matrix)
        lines.append(
            f"| {events:,} | {found['wall']:.0f} | {found['cpu']:.0f} | {_mb(matrix)} | "
            f"{_mb(main)} ({main / matrix:.1f} x) | {_mb(worker)} ({worker / matrix:.1f} x) | "
            f"{_mb(found['total'])} | {_mb(total)} ({total / matrix:.1f} x) |"
        )
    wall, cpu = (exponent(sizes, [measured[n][kind] for n in sizes]) for kind in ("wall", "cpu"))
    verdicts = [
        Verdict("exponent of time", wall, 1.1, cpu=cpu),
        Verdict("highest peak memory of a process above start-up, in matrices", worst, 4.0),
    ]
    return lines, verdicts


def _mb(number: float) -> str:
    return f"{number / 1e6:,.0f} MB"
