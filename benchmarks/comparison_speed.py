"""1,000 paired bootstrap replicas of the AMS of seven models on 250,000 events, the choice of the cuts included."""

from __future__ import annotations

import time

import numpy as np

from benchmarks._common import publish
from benchmarks.statistics_calibration import POPULATIONS, log_odds, sample
from higgsbench.ensemble import Truth
from higgsbench.ensemble.bootstrap import bootstrap_rows
from higgsbench.schema import B_REG, N_B, N_S
from higgsbench.validation import fold_assignments

EVENTS, MODELS, REPLICAS = 250_000, 7, 1000


def main() -> None:
    rng = np.random.default_rng(1)
    y, weight, scores = sample(POPULATIONS[0], EVENTS, rng)
    base = scores["twin a"]
    truth = Truth(y, weight, fold_assignments(y, None, 5, 1, 1), (N_S, N_B), B_REG, "smooth")
    rows = []
    for _ in range(MODELS):
        score = log_odds(POPULATIONS[0], base + 0.3 * rng.normal(size=EVENTS), 0.3)[None]
        rows.append((score, truth))
    wall, cpu = time.perf_counter(), time.process_time()
    bootstrap_rows(rows, REPLICAS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    publish(
        "comparison-speed",
        "Paired bootstrap of a comparison",
        [
            f"{REPLICAS:,} replicas, {MODELS} models, {EVENTS:,} events: {cpu:.1f} s of one core ({wall:.1f} s on the "
            "clock); bound 20 s.",
        ],
    )


if __name__ == "__main__":
    main()
