"""python -m benchmarks.prior_curve: what pretraining gains at 3,000 to 250,000 training events of another simulation.

The events come from the built-in simulation with other constants, which represent how it differs from nature.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common import band_replicas
from benchmarks.simulation_prior import write_section
from higgsbench.api.running import load_run_config
from higgsbench.events import simulate
from higgsbench.events.shifts import Shifts
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.events.simulate.processes import DETECTOR, PROCESSES, SIMULATION_VERSION
from higgsbench.files import write_bytes
from higgsbench.metrics import evaluation_weights, paired_difference, roc_auc
from higgsbench.models import get_model
from higgsbench.models.spec import BAG
from higgsbench.runs.dataset import Matrix, save_events, working_folder
from higgsbench.runs.engines import EngineSettings
from higgsbench.runs.pretrain import further_rounds, provide_starts
from higgsbench.runs.run import Listener, checked_plan
from higgsbench.runs.unit import Workspace, run_unit

SIZES = (3_000, 10_000, 30_000, 100_000, 250_000)
TEST, SIMULATED, REPLICAS = 101_000, 400_000, 40  # more than the largest number of training events but one
ROWS: dict[str, dict[str, Any]] = {"mlp": {BAG: 2}, "torch_mlp": {"members": 4}, "lightgbm": {BAG: 1}}
Scores = dict[str, NDArray[np.float64]]

OTHER = (
    "mass of the Higgs boson 127.5 GeV, tau energy scale +3%, jet energy scale +2%, soft missing momentum of 2 GeV per "
    "axis, resolutions of the tau, the lepton and the missing momentum 5% worse"
)


def moved_events(target: Path, events: int) -> None:
    """Write events of a simulation with other constants."""
    settings = SimulationSettings(events=events, seed=77, higgs_mass=127.5, set_proportions={"t": 1.0},
                                  shifts=Shifts(tes=0.03, jes=0.02, soft_met=2.0))  # fmt: skip
    detector = dataclasses.replace(
        DETECTOR,
        tau_resolution=1.05 * DETECTOR.tau_resolution,
        lepton_resolution=1.05 * DETECTOR.lepton_resolution,
    )
    noisy = {
        name: dataclasses.replace(p, parent=dataclasses.replace(p.parent, noise=1.05 * p.parent.noise))
        for name, p in PROCESSES.items()
    }
    generate = importlib.import_module("higgsbench.events.simulate.generate")
    with patch.object(generate, "DETECTOR", detector), patch.object(simulate, "PROCESSES", noisy):
        write_simulated(settings, target)


def configuration(events: Path, sizes: tuple[int, ...], rows: Sequence[str]) -> dict[str, Any]:
    """Rows at all sizes; the fold 1 of the run holds the events of the test."""
    use = {"source": "simulated", "events": SIMULATED, "elsewhere": "use"}
    models: list[dict[str, Any]] = []
    if "lightgbm" in rows:
        params = {BAG: 1, "learning_rate": 0.05}
        models.append({"label": "lightgbm simulated", "model": "lightgbm", "params": params, "trained_on": use})
    for size in sizes:
        for name in rows:
            entry: dict[str, Any] = {"model": name, "params": ROWS[name]}
            if size < max(sizes):
                entry["training_events"] = size
            models.append({**entry, "label": f"{name} {size}"})
            if name != "lightgbm":
                # As in a run with this number of training events; this one has folds of different sizes.
                rounds = {key: further_rounds(5, size) for key in get_model(name).rounds}
                of_size = {"label": f"{name} pre {size}", "params": {**ROWS[name], **rounds}, "pretrain": use}
                models.append({**entry, **of_size})
    of_training = max(sizes) // 1000
    by = f"EventId % {of_training + TEST // 1000} >= {of_training}"
    return {"data": {"path": str(events)}, "models": models, "preset": "best", "folds": {"k": 2, "by": by},
            "stack": False, "store_models": False}  # fmt: skip


def measured(
    output: Path, sizes: tuple[int, ...], rows: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], Scores]:
    """Train all rows on the events of one fold; return truth, weights and scores of those of the other.

    Scores are kept in the folder and reused.
    """
    output.mkdir(parents=True, exist_ok=True)
    events = output / "moved.parquet"
    if not events.is_file():
        moved_events(events, max(sizes) + TEST)
    plan = checked_plan(load_run_config(configuration(events, sizes, rows)), Listener())
    units = sorted((unit for unit in plan.units if unit.fold == 1), key=lambda u: u.training_events or (max(sizes), 0))
    held_out = plan.dataset.fold[0] == 1
    y, w = plan.dataset.y[held_out], plan.dataset.weight[held_out]
    features = {at: row.features for at, row in enumerate(plan.rows)}
    found = {}
    with working_folder(None) as folder:
        workspace = Workspace(folder)
        save_events(workspace, plan.dataset, map(Matrix, features.values()))
        for unit in units:
            name, file = plan.rows[unit.row].name, output / f"{unit.key}.npy"
            if not file.is_file():
                for failed in provide_starts([unit], features, workspace, EngineSettings(jobs=1), None, print):
                    raise RuntimeError(failed.error)
                result = run_unit(unit, workspace)
                if result.error:
                    raise RuntimeError(result.error)
                stream = io.BytesIO()
                np.save(stream, result.score)
                write_bytes(file, stream.getvalue())
                print(f"{name}: {result.fit_seconds:.0f} s", flush=True)
            found[name] = np.load(file)
    return y, evaluation_weights(y, w, *plan.dataset.totals), found


def table(
    y: NDArray[np.bool_], w: NDArray[np.float64], found: Scores, sizes: tuple[int, ...], rows: Sequence[str]
) -> list[str]:
    """One line per row and size."""
    lines = [
        "| training events | row; with simulation | wAUC | with simulation | Δ x10⁴ | Δ AMS at 10-20% |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for size in sizes:
        own = {name: found[f"{name} {size}"] for name in rows}
        pretrained = {name: found[f"{name} pre {size}"] for name in rows if name != "lightgbm"}
        pairs = [(name, own[name], score) for name, score in pretrained.items()]
        if "lightgbm" in rows:
            trees = found["lightgbm simulated"]
            pairs.append(("lightgbm; trained on simulated events only", own["lightgbm"], trees))
            members = (list(own.values()), [own["lightgbm"], trees, *pretrained.values()])
            blends = [np.mean(scores, axis=0) for scores in members]
            pairs.append(("mean of all; networks pretrained, and both lightgbm", blends[0], blends[1]))
        for name, plain, better in pairs:
            before, after = (roc_auc(y, score, w) for score in (plain, better))
            gain, error = (1e4 * value for value in paired_difference(after, before))
            bands = band_replicas(y, [plain, better], w, REPLICAS)
            moved = bands[:, 1] - bands[:, 0]
            lines.append(
                f"| {size:,} | {name} | {before.value:.4f} | {after.value:.4f} | {gain:+.1f} ± {error:.1f} | "
                f"{moved[0]:+.3f} ± {np.std(moved[1:], ddof=1):.3f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior_curve")
    parser.add_argument("--output", type=Path, default=Path("build/prior-curve"), help="scores, reused next time")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="training events")
    parser.add_argument("--only", choices=ROWS, nargs="+", default=tuple(ROWS), help="measure only these models")
    options = parser.parse_args()
    sizes, rows = tuple(options.sizes), tuple(options.only)
    lines = table(*measured(options.output, sizes, rows), sizes, rows)
    print("\n".join(lines))
    if sizes == SIZES:
        write_section("curve", [*_HEAD, *lines])


_HEAD = (
    f"Events of the simulation (version {SIMULATION_VERSION}) with other constants ({OTHER}); pretraining and "
    f"`lightgbm simulated` use {SIMULATED:,} events with the usual constants. Preset `best` with 2 `mlp`, 4 packed "
    f"networks and one `lightgbm`; one seed; evaluated on {TEST:,} further events, with paired errors from these.",
    "",
)

if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
