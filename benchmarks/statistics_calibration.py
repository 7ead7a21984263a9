"""Are the errors right: false positives between equal models, and coverage, on fresh simulated samples.

    python -m benchmarks.statistics_calibration [REPLICATIONS [EVENTS [PROCESSES]]]

Each replication draws a fresh weighted sample from a population with a known truth: a latent observable, shifted
between signal and three background processes with weights of their own (heavy-tailed for one). Three models see it
through independent noise: two of equal size (equal in truth, by symmetry) and a worse one. Their scores are the exact
log-odds given what they see. Folds, honest cuts, bootstrap, differences and tests are the package's own.
"""

from __future__ import annotations

import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from benchmarks._common import publish
from higgsbench.compare.contest import difference_between
from higgsbench.compare.load import Contender
from higgsbench.compare.measure import METRICS, measure
from higgsbench.ensemble import Truth
from higgsbench.leaderboard.collect import StoredRow
from higgsbench.metrics import evaluation_weights, log_loss, roc_auc
from higgsbench.metrics.paired import effective_degrees
from higgsbench.schema import B_REG, N_B, N_S
from higgsbench.validation import fold_assignments

Array = NDArray[np.float64]

NOISE = {"twin a": 0.3, "twin b": 0.3, "worse": 0.45}
SIGNAL_MEAN = 2.1
# Background process: share of events, mean of the latent observable, mean weight, log-width of the weight.
PROCESSES = ((0.60, -0.10, 1.0, 0.4), (0.30, 0.45, 0.4, 0.0), (0.10, 0.30, 0.2, 0.0))
SIGNAL_WEIGHTS, SIGNAL_SHARES = np.array([1.0, 0.15, 0.05]), (0.45, 0.25, 0.30)
REPLICAS = 200


def sample(n: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Array, dict[str, Array]]:
    """Draw labels, evaluation weights and the scores of the three models."""
    y = rng.random(n) < 0.34
    process = rng.choice(3, n, p=[p[0] for p in PROCESSES])
    latent = rng.normal(size=n) + np.where(y, SIGNAL_MEAN, np.array([p[1] for p in PROCESSES])[process])
    width = np.array([p[3] for p in PROCESSES])[process]
    background = np.array([p[2] for p in PROCESSES])[process] * np.exp(width * rng.normal(size=n) - 0.5 * width**2)
    weight = np.where(y, rng.choice(SIGNAL_WEIGHTS, n, p=SIGNAL_SHARES), background)
    scores = {name: log_odds(latent + noise * rng.normal(size=n), noise) for name, noise in NOISE.items()}
    return y, evaluation_weights(y, weight, N_S, N_B), scores


def log_odds(seen: Array, noise: float) -> Array:
    """Exact physical log-odds of what a model sees."""
    sigma = float(np.hypot(1.0, noise))
    total = sum(share * weight for share, _, weight, _ in PROCESSES)
    density = np.zeros_like(seen)
    for share, mean, weight, _ in PROCESSES:
        density += share * weight / total * norm.pdf(seen, mean, sigma)
    return np.asarray(np.log(N_S / N_B) + norm.logpdf(seen, SIGNAL_MEAN, sigma) - np.log(density))


def replication(task: tuple[int, int]) -> list[list[float]]:
    """Values, errors and degrees of freedom of one fresh sample."""
    seed, n = task
    y, weight, scores = sample(n, np.random.default_rng([20260101, seed]))
    truth = Truth(y, weight, fold_assignments(y, None, 5, 1, seed), (N_S, N_B), B_REG, "smooth")
    row = StoredRow(Path(), {}, {}, "")
    models = measure([Contender(m, row, np.arange(n), s[None], truth) for m, s in scores.items()], REPLICAS)
    twin_a, twin_b, worse = models
    out = []
    for metric in METRICS:
        twins, gap = difference_between(twin_a, twin_b, metric), difference_between(twin_a, worse, metric)
        out.append(
            [
                *(twins.value, twins.se, effective_degrees(twin_a.influence[metric] - twin_b.influence[metric])),
                *(gap.value, gap.se, effective_degrees(twin_a.influence[metric] - worse.influence[metric])),
                *(twin_a.values[metric], twin_a.errors[metric], effective_degrees(twin_a.influence[metric])),
                twins.p_value,
            ]
        )
    return out


def covered(value: Array, se: Array, degrees: Array, truth: float, level: float) -> str:
    """Share of intervals that hold the truth, with its binomial error."""
    inside = np.abs(value - truth) <= t.ppf(0.5 + level / 2, degrees) * se
    share = float(inside.mean())
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / inside.size):.1f}%"


def main() -> None:
    replications, n, processes = (int(x) for x in [*sys.argv[1:], *("1000", "15000", "2")[len(sys.argv) - 1 :]])
    with get_context("spawn").Pool(processes) as pool:
        found = np.array(pool.map(replication, [(seed, n) for seed in range(replications)], chunksize=10))
    y, weight, scores = sample(4_000_000, np.random.default_rng(99))
    known = {
        "auc": [roc_auc(y, scores[m], weight).value for m in NOISE],
        "log_loss": [log_loss(y, scores[m], weight).value for m in NOISE],
    }
    lines = [
        f"{replications:,} fresh samples of {n:,} weighted events, 5 folds, {REPLICAS} bootstrap replicas, intervals "
        "by Student's t with the effective number of events. Equal models: truth 0 by symmetry. Unequal ones and "
        "single values: truth from 4,000,000 events for wAUC and log-loss, the mean over the samples for the AMS (what "
        "this procedure gives on average for samples of this size).",
        "",
        "| metric | false positives at 5% | at 5%, normal quantile | error / scatter | twins 68.3% | twins 95% "
        "| unequal 68.3% | unequal 95% | value 68.3% | value 95% |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for k, metric in enumerate(METRICS):
        lines.append(_line(metric, found[:, k, :], known.get(metric)))
    publish("statistics-calibration" if n == 15_000 else f"statistics-calibration-{n}", "Calibration of errors", lines)


def _line(metric: str, found: Array, known: list[float] | None) -> str:
    twins, twins_se, twins_df, gap, gap_se, gap_df, value, value_se, value_df, p = found.T
    true_gap = float(gap.mean()) if known is None else known[0] - known[2]
    true_value = float(value.mean()) if known is None else known[0]
    positives = float((p < 0.05).mean())
    plain = float((np.abs(twins) > 1.96 * twins_se).mean())
    error = 100 * np.sqrt(positives * (1 - positives) / p.size)
    cells = [
        METRICS[metric].title.split(" x")[0],
        f"{100 * positives:.1f} ± {error:.1f}%",
        f"{100 * plain:.1f}%",
        f"{np.sqrt(np.mean(twins_se**2)) / np.std(twins):.2f}",
        *(covered(twins, twins_se, twins_df, 0.0, level) for level in (0.683, 0.95)),
        *(covered(gap, gap_se, gap_df, true_gap, level) for level in (0.683, 0.95)),
        *(covered(value, value_se, value_df, true_value, level) for level in (0.683, 0.95)),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
