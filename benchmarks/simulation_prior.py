"""What the simulation brings as a prior: pretrained members and recipes against those without, on 15,000 real events.

Usage: python -m benchmarks.simulation_prior [OUTPUT]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import higgsbench
from benchmarks.common import REFERENCE, SAMPLE, SectionedReport, band_replicas
from benchmarks.quality.ladder import REPLICAS, SEEDS, Scores, scores_of
from higgsbench.config.document import read_yaml
from higgsbench.metrics import mean_estimate, paired_difference, roc_auc

CONFIGS = Path(__file__).parents[1] / "configs"
PLAIN = (
    "mlp",
    "torch_mlp",
    {"label": "torch_mlp physics", "model": "torch_mlp", "features": "physics"},
)
TREES, NETWORKS = ("xgboost", "lightgbm", "catboost"), ("torch_mlp", "torch_mlp balanced", "torch_mlp physics")
PRETRAINED, SIMULATED = ("torch_mlp pre", "torch_mlp balanced", "torch_mlp physics pre"), "lightgbm simulated"
BLENDS = {
    "three trees, mlp (best without simulation)": (*TREES, "mlp"),
    "three trees, mlp pretrained": (*TREES, "mlp pre"),
    "three trees, mlp pretrained, lightgbm simulated (`best`)": (*TREES, "mlp pre", SIMULATED),
    "three trees, mlp, three torch (best-torch without simulation)": (*TREES, "mlp", *NETWORKS),
    "the same and lightgbm simulated": (*TREES, "mlp", *NETWORKS, SIMULATED),
    "three trees, mlp and two of three torch pretrained": (*TREES, "mlp pre", *PRETRAINED),
    "the same and lightgbm simulated (`best-torch`)": (*TREES, "mlp pre", *PRETRAINED, SIMULATED),
}
START = "three trees, mlp, three torch (best-torch without simulation)"
AGAINST = {
    "mlp pre": "mlp", "torch_mlp pre": "torch_mlp", "torch_mlp physics pre": "torch_mlp physics",
    SIMULATED: "lightgbm",
}  # fmt: skip

write_section = SectionedReport(
    REFERENCE / "simulation-prior.md",
    "# The simulation as a prior\n\nMade by `python -m benchmarks.simulation_prior` and `benchmarks.prior_curve`.\n",
    {
        "real": "On 15,000 real events",
        "curve": "On simulated events with other constants",
        "notes": "Times, and further measurements",  # written by hand, and kept
    },
).write


def run_of(seed: int, output: Path) -> tuple[Scores, NDArray[np.int64]]:
    """Run `best-torch` with the networks that are not pretrained beside it; return scores and event numbers."""
    config = read_yaml(CONFIGS / "best-torch.yaml").value
    models = [dict(entry) if isinstance(entry, Mapping) else {"model": entry} for entry in config["models"]]
    for entry in models:
        if "pretrain" in entry:
            entry["label"] = f"{entry.get('label', entry['model'])} pre"
    config |= {"models": [*models, *PLAIN], "seed": seed, "name": "simulation-prior", "data": {"path": str(SAMPLE)}}
    folder = higgsbench.run(config, output=output).folder
    found, numbers = scores_of(folder), pl.read_parquet(folder / "scores.parquet")["EventId"].to_numpy()
    found.rows |= {name: np.mean([found.rows[m] for m in members], axis=0) for name, members in BLENDS.items()}
    return found, numbers


def table(runs: list[Scores], names: tuple[str, ...]) -> list[str]:
    """One line per row: paired gain in AUC and in the AMS at 10-20%, means over the seeds."""
    lines = ["| row | minus | wAUC | Δ x10⁴ | each seed | AMS at 10-20% | Δ |", "|---|---|---|---|---|---|---|"]
    everything = list(runs[0].rows)
    replicas = [band_replicas(r.y, [r.rows[n] for n in everything], r.w, REPLICAS) for r in runs]
    bands = np.mean(replicas, axis=0)
    for name in names:
        other = AGAINST.get(name, START)
        aucs = {key: [roc_auc(run.y, run.rows[key], run.w) for run in runs] for key in (name, other)}
        gain, error = paired_difference(mean_estimate(aucs[name]), mean_estimate(aucs[other]))
        each = " ".join(f"{1e4 * (a.value - b.value):+.1f}" for a, b in zip(aucs[name], aucs[other], strict=True))
        band, before = (bands[:, everything.index(key)] for key in (name, other))
        lines.append(
            f"| {name} | {other if other != START else 'best-torch without simulation'} | "
            f"{mean_estimate(aucs[name]).value:.4f} | {1e4 * gain:+.1f} ± {1e4 * error:.1f} | {each} | {band[0]:.3f} | "
            f"{band[0] - before[0]:+.3f} ± {(band - before)[1:].std(ddof=1):.3f} |"
        )
    return lines


def part(run: Scores, chosen: NDArray[np.bool_]) -> Scores:
    """Return the scores of some events, weights at the totals of all."""
    w = run.w[chosen] * np.where(run.y[chosen], run.w[run.y].sum() / run.w[chosen & run.y].sum(),
                                 run.w[~run.y].sum() / run.w[chosen & ~run.y].sum())  # fmt: skip
    return Scores(run.y[chosen], w, run.fold[chosen], {name: score[chosen] for name, score in run.rows.items()})


def main(output: Path) -> None:
    """Measure and write the first section of results/reference/simulation-prior.md."""
    found = [run_of(seed, output) for seed in SEEDS]
    runs = [run for run, _ in found]
    lines = [
        f"Out of fold, 5 folds, seeds {SEEDS[0]} and {SEEDS[1]}, preset `best`; 400,000 simulated events. Δ: paired "
        "difference to the row under `minus`.",
        "",
        *table(runs, (*AGAINST, *BLENDS)),
        "",
        "Gains are optimistic where the constants of the simulation were fitted to the same events; `processes.toml` "
        "names these.",
        "",
        "The same on the 5,000 events whose EventId is a multiple of 3:",
        "",
        *table([part(run, numbers % 3 == 0) for run, numbers in found], (*AGAINST, *BLENDS)),
    ]
    write_section("real", lines)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
