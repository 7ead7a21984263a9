"""AMS scan of ten million events against numpy's argsort of the same scores."""

from __future__ import annotations

import numpy as np

from benchmarks._common import in_turn, median, publish
from higgsbench.metrics import ams_scan, evaluation_weights
from higgsbench.schema import N_B, N_S

EVENTS = 10_000_000
ROUNDS = 5


def main() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(EVENTS) < 0.34
    score = rng.normal(size=EVENTS) + y
    weight = evaluation_weights(y, rng.random(EVENTS), N_S, N_B)
    ours, theirs = in_turn(lambda: ams_scan(y, score, weight), lambda: np.argsort(score), ROUNDS)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    publish(
        "metrics-speed",
        "AMS scan against argsort",
        [
            f"Scan of {EVENTS:,} events with the whole curve: {median(ours):.2f} s; numpy.argsort of the same scores: "
            f"{median(theirs):.2f} s.",
            "",
            f"Ratio, median of {ROUNDS} pairs: **{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}); "
            "bound 2.0.",
        ],
    )


if __name__ == "__main__":
    main()
