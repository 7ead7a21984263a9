"""Compare `data shift tes=` and `report --shift` with files made at other tau energy scales.

Files of the FAIR Universe bundle of November 2023 (4,830 events each; the column `tes` states the tau energy scale) are
compared with the file of scale 1.02, as it is and as `data shift` moves it to their scale. Distances are weighted
Kolmogorov-Smirnov distances for taus above 24.5 GeV, averaged over both classes. Halves of a file have half the events,
so chance makes their distances √2 times larger. Script: `python -m benchmarks.shifts`.

**No feature shows the stated scale.** According to the visible mass, all files have the same scale within 2 standard
errors, although that of 0.90 should be 10% lower; the same measurement does find the -10% of a file that `data shift`
moved. So these files cannot test `data shift`: the file of 1.02 is closer to all of them without a shift than with one.
The changes of AMS and wAUC from file to file agree with the predictions within 2.7 standard errors, and with no change
within 2.6 (the rows share their events), because the predicted changes are smaller than the errors. Do not use the
column `tes` to measure robustness; shift the events instead.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import higgsbench
from benchmarks.common import ROOT, publish
from higgsbench.events import Events, load_events
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.inference import ShiftedScores, score_parts, score_shifts
from higgsbench.inference.events import parse_systematics, reload_events
from higgsbench.metrics import evaluation_weights, roc_auc
from higgsbench.metrics.estimates import ams_estimate, ks_distance
from higgsbench.runs import find_run
from higgsbench.runs.predictor import FittedRun
from higgsbench.schema import FAIR_UNIVERSE_2023

FILE = ROOT / "../shared/data/fair-universe-2023-sample.csv.gz"
TRAINED, BASE = 1.01, 1.02  # scales of the file of the models and of the file that is shifted
LEAST = 24.5  # GeV: above the threshold of the files (23 GeV) after an upward shift by 6%
MODELS = ["xgboost", "lightgbm", "catboost", "random_forest", "mlp", "logistic"]


def moved(events: pl.DataFrame, tes: float) -> pl.DataFrame:
    """Return the events that `data shift` makes of others."""
    return apply_shifts(events, Shifts(tes=tes), schema=FAIR_UNIVERSE_2023)


def column(events: pl.DataFrame, name: str, label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values and weights of a class where the value exists and the tau is above the common threshold."""
    found = events.filter((pl.col("Label") == label) & (pl.col("PRI_had_pt") >= LEAST) & pl.col(name).is_not_null())
    return found[name].cast(pl.Float64).to_numpy(), found["Weight"].to_numpy()


def distance(one: pl.DataFrame, two: pl.DataFrame, name: str) -> float:
    """Return the weighted Kolmogorov-Smirnov distance of a feature, the mean of the two classes."""
    return float(np.mean([ks_distance(*column(one, name, of), *column(two, name, of)) for of in "sb"]))


def distributions(files: dict[float, pl.DataFrame]) -> list[str]:
    """Table of distances: two halves of a file, and the base against every other file, as it is and shifted."""
    others = [tes for tes in files if tes != BASE]
    lines = ["| feature | halves | " + " | ".join(f"{tes:.2f} as it is | shifted" for tes in others) + " |"]
    lines.append("|---|" + "---:|" * (1 + 2 * len(others)))
    rng = np.random.default_rng(1)
    halves = [(f.filter(first), f.filter(~first)) for f in files.values() for first in [rng.random(f.height) < 0.5]]
    shifted = {tes: moved(files[BASE], tes / BASE - 1.0) for tes in others}
    rows = {}
    for name in FAIR_UNIVERSE_2023.features:
        row = [float(np.mean([distance(*pair, name) for pair in halves]))]
        rows[name] = row + [distance(f, files[tes], name) for tes in others for f in (files[BASE], shifted[tes])]
    rows["**mean**"] = [float(np.mean(one)) for one in zip(*rows.values(), strict=True)]
    return lines + [f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |" for name, row in rows.items()]


def mean(events: pl.DataFrame, label: str) -> tuple[float, float]:
    """Return the weighted mean of the visible mass and its standard error."""
    x, w = column(events, "DER_mass_vis", label)
    centre = float(np.average(x, weights=w))
    return centre, float(np.sqrt(np.sum((w * (x - centre)) ** 2)) / w.sum())


def scale(events: pl.DataFrame, others: pl.DataFrame, label: str) -> str:
    """Return the change of the tau energy scale against other events that the visible mass of a class shows."""
    slope = (mean(moved(others, 0.05), label)[0] - mean(moved(others, -0.05), label)[0]) / 0.1
    (here, error), (there, its_error) = mean(events, label), mean(others, label)
    return f"{100 * (here - there) / slope:+.1f} ± {100 * math.hypot(error, its_error) / slope:.1f}%"


def scales(files: dict[float, pl.DataFrame]) -> list[str]:
    """Table of the scale that each file shows against all others, and that of a file that `data shift` made."""
    lines = ["| file | stated | signal | background |", "|---|---:|---:|---:|"]
    for tes, events in files.items():
        rest = [t for t in files if t != tes]
        tests = [(f"{tes:.2f}", events, tes / float(np.mean(rest)) - 1.0)]
        tests += [(f"{tes:.2f}, shifted", moved(events, -0.1), -0.1)] if tes == BASE else []
        for name, frame, stated in tests:
            cells = [scale(frame, pl.concat(files[t] for t in rest), label) for label in "sb"]
            lines.append(f"| {name} | {100 * stated:+.1f}% | {' | '.join(cells)} |")
    return lines


def rows(paths: dict[float, Path], files: dict[float, Events], output: Path) -> list[str]:
    """Table of the change of AMS and wAUC of each row between the base and every other file, seen and predicted."""
    config = {"data": {"path": str(paths[TRAINED])}, "models": MODELS, "preset": "quick", "folds": 3}
    run = find_run(higgsbench.run(config, output=output).folder)
    models, names = FittedRun(run), [row.name for row in run.rows if row.ok]
    scored = score_parts(run, models, names, [(f.frame, f.event_id) for f in files.values()], held_out=True)[0]
    lines = ["| row | file | ΔAMS seen | predicted | pull | ΔwAUC seen | predicted | pull |", f"|---{'|---:' * 7}|"]
    for at, (tes, events) in ((at, item) for at, item in enumerate(files.items()) if item[0] not in (TRAINED, BASE)):
        shift = parse_systematics([f"tes={tes / BASE - 1.0}"])
        found = score_shifts(run, reload_events(run), shift, models, names, file=paths[BASE]).rows
        weight = evaluation_weights(events.y, events.weight, *run.totals)
        for name in names:
            real = ShiftedScores(name, events.y, scored[name][at], weight)
            cells = changes(run.row(name).cut.threshold, found[name].nominal, found[name].sides["tes"][0], real)
            lines.append(f"| {name} | {tes:.2f} | {' | '.join(cells)} |")
    return lines


def changes(cut: float, *events: ShiftedScores) -> list[str]:
    """Return cells with the change seen, that predicted, and their difference in standard errors: AMS, then wAUC."""
    top = [ams_estimate(e.y, e.score >= cut, e.weight)[0] for e in events]
    area = [roc_auc(e.y, e.score, e.weight) for e in events]
    cells = []
    for (nominal, shifted, real), digits in ((top, 2), (area, 4)):
        error = float(np.linalg.norm(shifted.influence - nominal.influence))  # the same events
        pull = (real.value - shifted.value) / math.hypot(real.se, shifted.se)
        cells.append(f"{real.value - nominal.value:+.{digits}f} ± {math.hypot(real.se, nominal.se):.{digits}f}")
        cells += [f"{shifted.value - nominal.value:+.{digits}f} ± {error:.{digits}f}", f"{pull:+.1f}"]
    return cells


def main() -> None:
    """Measure and write the page."""
    table = pl.read_csv(FILE, infer_schema_length=None)
    with tempfile.TemporaryDirectory() as folder:
        paths = {tes: Path(folder) / f"tes-{tes:.2f}.csv" for tes in sorted(table["tes"].unique())}
        for tes, path in paths.items():
            table.filter(pl.col("tes") == tes).write_csv(path)
        files = {tes: load_events(path, cache=False) for tes, path in paths.items()}
        frames = {tes: events.frame for tes, events in files.items()}
        lines = [*(__doc__ or "").splitlines()[2:], "", "## Distributions", "", *distributions(frames), ""]
        lines += ["## Scale of each file", "", *scales(frames), "", "## Rows of a run", ""]
        lines += rows(paths, files, Path(folder))
    publish("shifts", "Shifts of the tau energy scale, and files made at other scales", lines)


if __name__ == "__main__":
    main()
