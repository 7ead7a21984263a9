"""Checks the errors: false positives between equal models, and coverage, on fresh simulated samples.

    python -m benchmarks.statistics_calibration [REPLICATIONS [EVENTS [PROCESSES]]]

Each replication draws a fresh weighted sample from one of four populations with a known truth: a latent observable,
shifted between signal and three background processes, each with its own weights (some heavy-tailed). Three models see
it with independent noise: two with equal noise (equally good, by symmetry) and a worse one. Their scores are the exact
log-odds given what they see. Folds, honest cuts, bootstrap, differences and tests are the package's own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from benchmarks.common import publish
from higgsbench.compare.measure import Contender, difference_between, effective_degrees, measure
from higgsbench.ensemble import Truth
from higgsbench.metrics import METRICS, evaluation_weights, log_loss, roc_auc
from higgsbench.schema import B_REG, N_B, N_S
from higgsbench.validation import fold_assignments

Array = NDArray[np.float64]

MODELS = ("twin a", "twin b", "worse")


@dataclass(frozen=True)
class Population:
    """Where samples come from.

    Attributes:
        noise: noise of each model.
        signal_mean: mean of the latent observable for signal.
        processes: background processes: share of events, mean of the latent observable, mean and log-width of weights.
        signal_weights: weights of signal events.
        signal_shares: share of the signal events with each weight.
    """

    noise: tuple[float, float, float]
    signal_mean: float
    processes: tuple[tuple[float, float, float, float], ...]
    signal_weights: tuple[float, ...]
    signal_shares: tuple[float, ...]


POPULATIONS = (
    Population(
        (0.3, 0.3, 0.45), 2.1, ((0.60, -0.10, 1.0, 0.4), (0.30, 0.45, 0.4, 0.0), (0.10, 0.30, 0.2, 0.0)),
        (1.0, 0.15, 0.05), (0.45, 0.25, 0.30),
    ),
    Population(
        (0.4, 0.4, 0.55), 2.3, ((0.50, -0.20, 1.0, 0.6), (0.35, 0.50, 0.3, 0.2), (0.15, 0.10, 0.5, 0.0)),
        (1.0, 0.3, 0.1), (0.35, 0.35, 0.30),
    ),
    Population(
        (0.2, 0.2, 0.35), 1.9, ((0.70, 0.00, 1.0, 0.2), (0.20, 0.60, 0.3, 0.0), (0.10, 0.80, 0.1, 0.0)),
        (1.0, 0.15, 0.05), (0.45, 0.25, 0.30),
    ),
    Population(
        (0.5, 0.5, 0.65), 2.4, ((0.55, -0.15, 1.0, 0.5), (0.25, 0.40, 0.8, 0.4), (0.20, 0.70, 0.15, 0.0)),
        (1.0, 0.5, 0.05), (0.50, 0.20, 0.30),
    ),
)  # fmt: skip
REPLICAS = 200
KNOWN_FROM = 1_000_000


def sample(of: Population, n: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Array, dict[str, Array]]:
    """Draw labels, evaluation weights and the scores of the three models."""
    y = rng.random(n) < 0.34
    shares, means, sizes, widths = (np.array(column) for column in zip(*of.processes, strict=True))
    process = rng.choice(shares.size, n, p=shares)
    latent = rng.normal(size=n) + np.where(y, of.signal_mean, means[process])
    width = widths[process]
    background = sizes[process] * np.exp(width * rng.normal(size=n) - 0.5 * width**2)
    weight = np.where(y, rng.choice(of.signal_weights, n, p=of.signal_shares), background)
    noises = zip(MODELS, of.noise, strict=True)
    scores = {name: log_odds(of, latent + noise * rng.normal(size=n), noise) for name, noise in noises}
    return y, evaluation_weights(y, weight, N_S, N_B), scores


def log_odds(of: Population, seen: Array, noise: float) -> Array:
    """Exact physical log-odds of what a model sees."""
    sigma = float(np.hypot(1.0, noise))
    total = sum(share * weight for share, _, weight, _ in of.processes)
    density = np.zeros_like(seen)
    for share, mean, weight, _ in of.processes:
        density += share * weight / total * norm.pdf(seen, mean, sigma)
    return np.asarray(np.log(N_S / N_B) + norm.logpdf(seen, of.signal_mean, sigma) - np.log(density))


def replication(task: tuple[int, int, int]) -> list[list[float]]:
    """For each metric of a fresh sample: three values, errors and degrees of freedom, and the p-value of the twins.

    The AMS appears three times: as in the package, with the plain scatter of the bootstrap, and with fixed cuts.
    """
    population, seed, n = task
    y, weight, scores = sample(POPULATIONS[population], n, np.random.default_rng([20260101, population, seed]))
    truth = Truth(y, weight, fold_assignments(y, None, 5, 1, seed), (N_S, N_B), B_REG, "smooth")
    row: Any = None  # nothing here is stored
    models = measure([Contender(m, row, np.arange(n), s[None], truth) for m, s in scores.items()], REPLICAS)
    twin_a, twin_b, worse = models
    out = []
    for metric in METRICS:
        own, *others = (model.estimates[metric].influence for model in models)
        parts = [(difference_between(twin_a, b, metric), own - influence)
                 for b, influence in zip((twin_b, worse), others, strict=True)]  # fmt: skip
        line = [x for found, influence in parts for x in (found.value, found.se, effective_degrees(influence))]
        line += [twin_a.value(metric), twin_a.se(metric), effective_degrees(own)]
        out.append([*line, parts[0][0].p_value])
        if metric == "ams":
            plain = [float(np.std(twin_a.replicas.ams_cv - b.replicas.ams_cv, ddof=1)) for b in (twin_b, worse)]
            held = [float(np.sqrt(np.sum(influence**2))) for _, influence in parts]
            alone = float(np.sqrt(np.sum(own**2)))
            for errors in ((*plain, twin_a.se("ams")), (*held, alone)):
                other = list(line)
                other[1::3] = errors
                p = 2.0 * float(t.sf(abs(other[0]) / other[1], other[2]))
                out.append([*other, p])
    return out


def known(population: int) -> list[list[float]]:
    """Weighted AUC and log-loss of a better and the worse model, from very many events."""
    y, weight, scores = sample(POPULATIONS[population], KNOWN_FROM, np.random.default_rng([99, population]))
    both = (scores["twin a"], scores["worse"])
    return [[metric(y, s, weight).value for s in both] for metric in (roc_auc, log_loss)]


def covered(off: Array, se: Array, degrees: Array, level: float) -> str:
    """Share of intervals that contain the truth, with its binomial error."""
    share = float((np.abs(off) <= t.ppf(0.5 + level / 2, degrees) * se).mean())
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / off.size):.1f}%"


def main() -> None:
    replications, n, processes = (int(x) for x in [*sys.argv[1:], *("4000", "15000", "2")[len(sys.argv) - 1 :]])
    each = -(-replications // len(POPULATIONS))
    tasks = [(population, seed, n) for seed in range(each) for population in range(len(POPULATIONS))]
    with get_context("spawn").Pool(processes) as pool:
        values = np.array(pool.map(replication, tasks, chunksize=4))
        truth = np.array(pool.map(known, range(len(POPULATIONS))))
    place = np.array([population for population, _, _ in tasks])
    name = "statistics-calibration" if n == 15_000 else f"statistics-calibration-{n}"
    publish(name, "Calibration of errors", tables(values, place, truth, n))


def tables(values: Array, place: Array, truth: Array, n: int) -> list[str]:
    """Lines of all tables from values (samples, metric, number), the samples' populations, and the known truth."""
    metrics = list(METRICS)
    names = [metrics[0], "ams, plain scatter of the bootstrap", "ams, fixed cut (delta method)", *metrics[1:]]
    head = (
        "| metric | false positives at 5% | error / scatter | twins 68.3% | twins 95% | unequal 68.3% | unequal 95% "
        "| value: error / scatter | value 68.3% | value 95% |"
    )
    lines = [
        f"{place.size:,} fresh samples of {n:,} weighted events from four populations with a known truth, equally many "
        f"from each; 5 folds, {REPLICAS} bootstrap replicas, intervals from Student's t with the effective number of "
        "events. The AMS is that at the honest cut. For equal models the truth is 0 by symmetry. For unequal models "
        f"and single values, wAUC and log-loss from {KNOWN_FROM:,} events serve as truth, and for the AMS the mean "
        "over the samples of a population (the average result of this procedure for samples of this size).",
        "",
        head,
        "|---" * 10 + "|",
    ]
    for k, name in enumerate(names):
        of_truth = truth[:, ("auc", "log_loss").index(name)] if name in ("auc", "log_loss") else None
        lines.append(_line(_title(name), values[:, k], place, of_truth))
    lines += ["", "The AMS at the honest cut, population by population:", "", head, "|---" * 10 + "|"]
    for population in range(len(POPULATIONS)):
        for k, name in enumerate(names[:2]):
            rows = place == population
            lines.append(_line(f"{_title(name)}, population {population + 1}", values[rows, k], place[rows], None))
    return lines


def _title(name: str) -> str:
    if name == "ams":
        return "**AMS (used)**"
    return METRICS[name].heading.split(" x")[0] if name in METRICS else name.replace("ams", "AMS")


def _line(title: str, found: Array, place: Array, truth: Array | None) -> str:
    """One line of the table; truth (population, metric of both models), or None for the mean over samples."""
    twins, twins_se, twins_df, gap, gap_se, gap_df, value, value_se, value_df, p = found.T
    means = {k: (float(value[place == k].mean()), float(gap[place == k].mean())) for k in set(place.tolist())}
    if truth is not None:
        means = {k: (float(truth[k, 0]), float(truth[k, 0] - truth[k, 1])) for k in means}
    off_value = value - np.array([means[k][0] for k in place])
    off_gap = gap - np.array([means[k][1] for k in place])
    positives = float((p < 0.05).mean())
    error = 100 * np.sqrt(positives * (1 - positives) / p.size)
    cells = [
        title,
        f"{100 * positives:.1f} ± {error:.1f}%",
        f"{np.sqrt(np.mean(twins_se**2) / np.mean(twins**2)):.2f}",
        *(covered(twins, twins_se, twins_df, level) for level in (0.683, 0.95)),
        *(covered(off_gap, gap_se, gap_df, level) for level in (0.683, 0.95)),
        f"{np.sqrt(np.mean(value_se**2) / np.mean(off_value**2)):.2f}",
        *(covered(off_value, value_se, value_df, level) for level in (0.683, 0.95)),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
