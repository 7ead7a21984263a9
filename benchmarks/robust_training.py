"""Compare training that should be robust: without the mass, flat weights, a penalty, shifted copies.

Simulated events (spectator: the mass of the tau pair, MMC) and the FAIR Universe bundle of 2023 (the visible mass), raw
features, presets `quick`, 3 folds. Each row's Δ is the paired difference to the plain row of its model on the same
events; `tes` columns hold the change of the AMS at the frozen cut if the tau energy scale is 3% higher or lower.
The width is that of the 68% interval of the signal strength with a tau energy scale known to 3%, in one region of 10
bins, from pseudo-experiments (40 by default) that all rows share; its errors come from their finite number.

**Other features know the mass.** If models train without it, the distance correlation in background falls only a little
in simulated events (0.46 to 0.42, 0.48 to 0.45), and not at all in FAIR Universe, where the AMS of lightgbm falls by
5.3 ± 1.8.

**The penalty makes the whole score more independent at a low cost.** A strength of 0.1 lowers the correlation by more
than a third; the wAUC falls by 0.002 and 0.004, and the AMS does not change measurably. A strength of 1 lowers the
correlation by more than two thirds and costs 5% and 9% of the AMS; 10 costs 32% and 40%. A cut can still shape the
mass: at 0.1 the divergence does not fall; at 1 it falls by a sixth in simulated events, and by more than half in FAIR
Universe.

**Planing keeps the shape** (divergence 0.04 to 0.09 instead of 0.21 to 0.44) and costs 18 to 31% of the AMS in
simulated events. In FAIR Universe, where all background is Z → ττ, the loss of 6 to 9% is within 2 errors.

**Shifted copies change little.** No AMS changes by more than 1 error, and it is not established that copies make the
AMS change less under a shift. The interval of torch_mlp is narrower in both data sets; that of lightgbm is not. Do not
trust this: with an earlier version of the simulation, the same rows had widths of 3.6 with copies and 2.8 without. The
errors of the widths leave out the finite simulation and the choice of bins.

**None of these methods narrows the interval reliably**; planing in simulated events, and the penalty of 10 in both data
sets, widen it by 1.0 to 2.7.

Usage: python -m benchmarks.robust_training [--events N] [--experiments N] [--work FOLDER], with extras torch and stats
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import higgsbench
from benchmarks.common import ROOT, publish
from higgsbench.compare import load_contenders
from higgsbench.compare.measure import difference_between, measure
from higgsbench.events.simulate.processes import SIMULATION_VERSION
from higgsbench.inference import score_shifts
from higgsbench.inference.events import parse_systematics, reload_events
from higgsbench.metrics.spectators import metric_of
from higgsbench.runs import RunResult, find_run
from higgsbench.runs.predictor import FittedRun

FAIR = ROOT / "../shared/data/fair-universe-2023-sample.csv.gz"
REPLICAS = 200
SHIFT = "tes=0.03"


def models(mass: str) -> list[dict[str, Any]]:
    """Return the rows: each model plain first."""
    out: list[dict[str, Any]] = []
    for name in ("lightgbm", "torch_mlp"):
        ways: dict[str, dict[str, Any]] = {
            "plain": {},
            "without the mass": {"features": {"set": "raw", "drop": [mass]}},
            "planed": {"training_weights": {"flat_in": mass}},
            "shifted copies": {"training": {"augment": [SHIFT]}},
        }
        if name == "torch_mlp":
            ways |= {f"penalty {s:g}": {"decorrelate": {"column": mass, "strength": s}} for s in (0.1, 1.0, 10.0)}
        out += [{"model": name, "label": f"{name} {way}", "features": "raw", **keys} for way, keys in ways.items()]
    return out


def config(data: dict[str, Any], mass: str) -> dict[str, Any]:
    """Return the configuration of a data set."""
    return {
        "data": data,
        "models": models(mass),
        "preset": "quick",
        "folds": 3,
        "stack": False,
        "spectators": [mass],
        "regions": [{"name": "all", "bins": 10}],
        "systematics": [{"name": "tes", "shift": SHIFT}],
    }


def rows(result: RunResult, mass: str, experiments: int) -> list[str]:
    """Return the table of a run."""
    run = find_run(result)
    names = [row.name for row in run.rows if row.ok]
    contenders, _ = load_contenders([str(run.folder)])
    measured = {row.name: row for row in measure(contenders, REPLICAS)}
    shifted = score_shifts(run, reload_events(run), parse_systematics([SHIFT]), FittedRun(run), names).rows
    intervals = higgsbench.interval(run, experiments=experiments)
    widths = {name: np.diff(ends)[:, 0] for name, ends in intervals.ends.items()}
    coverage = {row["name"]: 100 * row["coverage"] for row in intervals.records()}
    metrics = ["ams", "auc", f"dcor_background:{mass}", f"dcor_signal:{mass}", f"jsd:{mass}"]
    heads = [metric_of(name).heading for name in metrics]
    head = ["row", "selected", heads[0], "Δ", heads[1], "Δ", *heads[2:]]
    head += ["tes +3%", "tes -3%", "width of mu", "Δ", "coverage"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for name in names:
        own, plain = measured[name], measured[f"{name.split()[0]} plain"]
        cells = [name, f"{100 * own.fraction:.1f}%"]
        for metric in metrics:
            how = metric_of(metric)
            cells.append(how.shown(own.value(metric), own.se(metric)))
            if metric in metrics[:2]:
                change = difference_between(own, plain, metric)
                cells.append("" if own is plain else how.shown(change.value, change.se, "+"))
        moved = shifted[name].table(run.row(name).cut.threshold, run.b_reg)[1:]
        cells += [f"{row.ams_change:+.3f} ± {row.ams_change_se:.3f}" for row in moved]
        cells.append(mean_of(widths[name]))
        cells.append("" if own is plain else mean_of(widths[name] - widths[plain.name], "+"))
        cells.append(f"{coverage[name]:.0f}%")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def mean_of(values: NDArray[np.float64], sign: str = "") -> str:
    """Return the mean over pseudo-experiments with its standard error."""
    return f"{values.mean():{sign}.2f} ± {values.std(ddof=1) / values.size**0.5:.2f}"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--experiments", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("results"))
    given = parser.parse_args()
    simulated = {"source": "simulated", "events": given.events, "seed": 1, "set_proportions": {"t": 1.0}}
    lines = [*(__doc__ or "").splitlines()[2:], ""]
    for title, data, mass in (
        (f"{given.events:,} simulated events (version {SIMULATION_VERSION})", simulated, "DER_mass_MMC"),
        ("FAIR Universe, 24,150 events", {"path": str(FAIR)}, "DER_mass_vis"),
    ):
        result = higgsbench.run(config(data, mass), output=given.work, jobs=1)
        lines += [f"## {title}", "", *rows(result, mass, given.experiments), ""]
    publish("systematics", "Robust training and decorrelation", lines[:-1])


if __name__ == "__main__":
    main()
