"""Measure the interval of the signal strength for six models and their stack, and the time of the pseudo-experiments.

The regions and systematics are those of configs/analysis.yaml. The models train on 50,000 simulated events; 250,000
others make the templates.

Usage: python -m benchmarks.intervals [--events N] [--experiments N] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import time

import higgsbench
from benchmarks.common import ROOT, publish
from higgsbench.config.document import read_yaml
from higgsbench.pages import with_error
from higgsbench.runs import find_run


def main() -> None:
    """Train the models once, measure, and write results/reference/intervals.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=250_000, help="events of the templates")
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--output", default="results", help="folder of the run, which is used again if it is there")
    options = parser.parse_args()
    config = read_yaml(ROOT / "configs" / "analysis.yaml").value
    config["data"] |= {"events": options.events * 6 // 5, "set_proportions": {"t": 1.0, "v": 5.0}}
    config["models"] = ["logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp"]
    folder = higgsbench.run(config, output=options.output).folder
    begin, busy = time.perf_counter(), time.process_time()
    found = higgsbench.interval(folder, experiments=options.experiments)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    rows = {row.name: row.record for row in find_run(folder).rows}
    lines = [
        f"Version {higgsbench.__version__}. {' '.join(found.notes)} Preset `quick`, "
        f"{options.experiments} pseudo-experiments with `mu` from 0.1 to 3. `interval` took {seconds:.0f} s for "
        f"{len(rows)} rows ({busy:.0f} s of processor time), from loading the events to the last fit. "
        "Differences are paired, to the row with the best score.",
        "",
        "| row | AMS cv | AMS test | expected width | mean width | Δ width | coverage | score | Δ score |",
        "|---" * 9 + "|",
    ]
    for row in found.records():
        own = rows[row["name"]]
        cells = [with_error(own[key], own[f"{key}_se"]) for key in ("ams_cv", "ams_test")] + [
            f"{row['mu_expected']:.3f}"
        ]
        keys = ("mu_width", "diff_mu_width", "coverage", "interval_score", "diff_interval_score")
        cells += [with_error(row[key], row[f"{key}_se"]) for key in keys]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    best = max(rows, key=lambda name: rows[name]["ams_test"])
    narrow = min(found.records(), key=lambda row: row["mu_width"])["name"]
    lines += ["", f"Best AMS on the held-out events: {best}. Narrowest interval: {narrow}."]
    publish("intervals", "Intervals of the signal strength", lines)


if __name__ == "__main__":
    main()
