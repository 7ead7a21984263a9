"""How close the toy simulation is to real events of the ATLAS Higgs challenge.

Compares simulated events with a sample of real ones, class by class and with the file's weights: the
Kolmogorov-Smirnov distance of each feature (over events where it exists), the shares of the jet numbers, the share of
events without DER_mass_MMC, how well a classifier trained on simulated events ranks real ones, how well one tells
simulated from real events, and the mixture of processes. Two random halves of the real sample, compared in the same
way, show what the size of the sample alone causes.

Example:
    python -m benchmarks.simulation_closeness --real sample.csv.gz --events 250000 --markdown closeness.md
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import lightgbm as lgb
import numpy as np
import polars as pl

from benchmarks.common import SAMPLE
from higgsbench.events import normalised
from higgsbench.events.shifts import recognise_processes
from higgsbench.events.simulate import SimulationSettings, simulate
from higgsbench.events.simulate.processes import PROCESSES, SIMULATION_VERSION
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.metrics import roc_auc
from higgsbench.metrics.estimates import ks_distance
from higgsbench.schema import ATLAS_HIGGS, FEATURES, MISSING
from higgsbench.validation import training_weights

if TYPE_CHECKING:
    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

MEAN_KS = {"s": 0.050, "b": 0.042}
WORST_KS = {"s": 0.12, "b": 0.09}
JET_SHARE = 0.015
MMC_MISSING = {"s": (0.004, 0.025), "b": (0.27, 0.34)}
LEAST_AUC = 0.918
MOST_APART = 0.58  # AUC between real and simulated events of a class
LABELS = SAMPLE.with_name("higgsml-training-labels-weights.parquet")
_PER_REAL = 3  # simulated events per real one, for the classifier that must tell them apart


@dataclass(frozen=True)
class Comparison:
    """One sample compared with another.

    Attributes:
        ks: per class, the distance of each feature.
        jet_shares: per class, weighted shares of jet numbers 0 to 3 in the first and in the second sample.
        mmc_missing: per class, weighted share of missing DER_mass_MMC in the first sample.
        auc: weighted area under the ROC curve on the second sample of a classifier trained on the first.
    """

    ks: dict[str, dict[str, float]]
    jet_shares: dict[str, tuple[FloatArray, FloatArray]]
    mmc_missing: dict[str, float]
    auc: float


def _present(frame: pl.DataFrame, name: str) -> tuple[FloatArray, FloatArray]:
    values, weights = frame[name].cast(pl.Float64).to_numpy(), frame["Weight"].to_numpy()
    keep = values != MISSING
    return values[keep], weights[keep]


def _jet_shares(frame: pl.DataFrame) -> FloatArray:
    shares = np.bincount(frame["PRI_jet_num"].to_numpy(), weights=frame["Weight"].to_numpy(), minlength=4)
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def _missing_share(frame: pl.DataFrame) -> float:
    weights = frame["Weight"].to_numpy()
    return float(weights[frame["DER_mass_MMC"].to_numpy() == MISSING].sum() / weights.sum())


def _arrays(frame: pl.DataFrame) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Features with NaN for missing values, truth, and weights with equal class totals and mean 1."""
    x = frame.select(pl.col(FEATURES).cast(pl.Float64)).to_numpy(writable=True)
    x[x == MISSING] = np.nan
    y = frame["Label"].to_numpy() == "s"
    return x, y, training_weights(y, frame["Weight"].to_numpy(), "balanced")


def weighted_auc(train: pl.DataFrame, test: pl.DataFrame, seed: int = 0) -> float:
    """Train LightGBM on one sample and rank the other; both classes have the same total weight."""
    x, y, w = _arrays(train)
    settings = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 24, "bagging_fraction": 0.8}
    settings |= {"bagging_freq": 1, "feature_fraction": 0.6, "min_data_in_leaf": 100, "verbose": -1}
    settings |= {"num_threads": 1, "seed": seed, "deterministic": True}
    rounds = 300 if len(y) > 50_000 else 120
    model = lgb.train(settings, lgb.Dataset(x, label=y, weight=w), num_boost_round=rounds)
    x, y, w = _arrays(test)
    return roc_auc(y, np.asarray(model.predict(x), dtype=np.float64), w).value


def separation(simulated: pl.DataFrame, real: pl.DataFrame, label: str, *, judge: bool = False) -> tuple[float, str]:
    """Weighted AUC of LightGBM between real and simulated events of a class, and the leading features.

    Cross-validated in five folds; with `judge`, on the events whose EventId is a multiple of 3 after training on the
    others, to which the constants of the simulation were fitted.
    """
    features = resolve_features(ATLAS_HIGGS, name="physics")
    frames = [f.filter(pl.col("Label") == label) for f in (simulated, real)]
    x = np.vstack([feature_matrix(normalised(f, ATLAS_HIGGS), features) for f in frames])
    y = np.repeat([False, True], [f.height for f in frames])
    w = np.concatenate([f["Weight"].to_numpy() / f["Weight"].sum() for f in frames]) * len(y) / 2
    settings = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "bagging_fraction": 0.8, "seed": 0}
    settings |= {"bagging_freq": 1, "feature_fraction": 0.5, "min_data_in_leaf": 60, "verbose": -1, "num_threads": 1}
    score, gain = np.full(len(y), np.nan), np.zeros(x.shape[1])
    numbers = np.concatenate([f["EventId"].to_numpy() for f in frames])
    fold = numbers % 3 if judge else np.random.default_rng(0).permutation(len(y)) % 5
    for test in (fold == k for k in range(1 if judge else 5)):
        model = lgb.train(settings, lgb.Dataset(x[~test], label=y[~test], weight=w[~test]), num_boost_round=120)
        score[test] = np.asarray(model.predict(x[test]))
        gain += model.feature_importance("gain")
    tested = ~np.isnan(score)
    leading = [f"{features.columns[i]} {gain[i] / gain.sum():.0%}" for i in np.argsort(-gain)[:5]]
    return roc_auc(y[tested], score[tested], w[tested]).value, ", ".join(leading)


def mixture(simulated: pl.DataFrame) -> list[str]:
    """Markdown table: shares of the processes within their class, simulated and among all real labels and weights."""
    shares = []
    for frame in (simulated, pl.read_parquet(LABELS).cast({"Label": pl.String})):
        named = frame.with_columns(recognise_processes(frame["Weight"], frame["Label"]).alias("process"))
        of_class = (pl.col(c) / pl.col(c).sum().over("Label") for c in ("events", "weight"))
        sums = named.group_by("process", "Label").agg(pl.len().alias("events"), pl.col("Weight").sum().alias("weight"))
        shares.append({row[0]: row[2:] for row in sums.with_columns(of_class).iter_rows()})
    head = ["| process | events | real | weight | real |", "|---|---:|---:|---:|---:|"]
    pairs = {name: np.transpose([found[name] for found in shares]).ravel() for name in PROCESSES}
    return head + [f"| {name} | {' | '.join(f'{v:.4f}' for v in values)} |" for name, values in pairs.items()]


def compare(first: pl.DataFrame, second: pl.DataFrame) -> Comparison:
    """Compare two samples class by class, and by a classifier trained on the first."""
    ks, shares, missing = {}, {}, {}
    for label in ("s", "b"):
        one, two = (f.filter(pl.col("Label") == label) for f in (first, second))
        ks[label] = {name: ks_distance(*_present(one, name), *_present(two, name)) for name in FEATURES}
        shares[label] = (_jet_shares(one), _jet_shares(two))
        missing[label] = _missing_share(one)
    return Comparison(ks, shares, missing, weighted_auc(first, second))


def table(simulated: Comparison, halves: Comparison) -> list[str]:
    """Markdown table: per feature and class, the distance of the simulation and that of two real halves."""
    lines = [
        "| feature | signal | two real halves | background | two real halves |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in FEATURES:
        cells = [f"{c.ks[label][name]:.3f}" for label in ("s", "b") for c in (simulated, halves)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = [f"{np.mean(list(c.ks[label].values())):.4f}" for label in ("s", "b") for c in (simulated, halves)]
    lines.append(f"| **mean** | {' | '.join(cells)} |")
    return lines


def verdicts(c: Comparison) -> list[tuple[str, str, str, bool]]:
    """Measured values, their targets, and whether these are met."""
    rows = []
    for label, name in (("s", "signal"), ("b", "background")):
        mean, worst = float(np.mean(list(c.ks[label].values()))), max(c.ks[label].values())
        rows.append((f"mean KS, {name}", f"{mean:.4f}", f"at most {MEAN_KS[label]}", mean <= MEAN_KS[label]))
        rows.append((f"largest KS, {name}", f"{worst:.3f}", f"at most {WORST_KS[label]}", worst <= WORST_KS[label]))
        off = float(np.abs(c.jet_shares[label][0] - c.jet_shares[label][1]).max())
        rows.append((f"jet number shares, {name}", f"{off:.4f}", f"within {JET_SHARE}", off <= JET_SHARE))
        low, high = MMC_MISSING[label]
        share = c.mmc_missing[label]
        rows.append((f"MMC missing, {name}", f"{share:.4f}", f"{low} to {high}", low <= share <= high))
    rows.append(("weighted AUC on real events", f"{c.auc:.4f}", f"at least {LEAST_AUC}", c.auc >= LEAST_AUC))
    return rows


def main() -> int:
    """Run the comparison; exit code 1 if a target is missed, 2 if there is no real sample."""
    parser = argparse.ArgumentParser(description="Closeness of the toy simulation to real events")
    parser.add_argument("--real", type=Path, default=SAMPLE, help="real events, official CSV layout")
    parser.add_argument("--events", type=int, default=250_000, help="number of simulated events")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    if not arguments.real.is_file():
        print(f"no real events at {arguments.real}: nothing to compare with")
        return 2
    real = pl.read_csv(arguments.real, infer_schema_length=None)
    simulated = simulate(SimulationSettings(events=arguments.events, seed=arguments.seed), arguments.jobs)
    first = np.random.default_rng(arguments.seed).random(real.height) < 0.5
    halves = compare(real.filter(pl.Series(first)), real.filter(pl.Series(~first)))
    comparison = compare(simulated, real)
    rows = verdicts(comparison)
    few = simulated.head(_PER_REAL * real.height)
    classes = {"signal": "s", "background": "b"}
    apart = {name: separation(few, real, label) for name, label in classes.items()}
    judged = {name: separation(few, real, label, judge=True)[0] for name, label in classes.items()}
    for how, found in (("five folds", {name: auc for name, (auc, _) in apart.items()}), ("unseen", judged)):
        rows += [
            (f"real against simulated, {name}, {how}", f"{auc:.3f}", f"at most {MOST_APART}", auc <= MOST_APART)
            for name, auc in found.items()
        ]
    lines = [
        "# How close the simulation is to real events",
        "",
        f"Toy simulation (version {SIMULATION_VERSION}), {arguments.events:,} events (seed {arguments.seed}), against "
        f"{real.height:,} real events.",
        "",
        *table(comparison, halves),
        "",
        "| measure | simulation | target | |",
        "|---|---:|---|---|",
        *(f"| {what} | {value} | {target} | {'met' if met else 'MISSED'} |" for what, value, target, met in rows),
        "",
        f"A classifier trained on one half of the real events reaches {halves.auc:.4f} on the other.",
        "",
        "Area under the ROC curve of a LightGBM that separates real from simulated events of a class (features",
        f"`physics`, the file's weights, {_PER_REAL} simulated events per real one); 0.5 is perfect. Shares are of its",
        "gain. Unseen: events whose EventId is a multiple of 3, scored by a classifier trained on the others. The",
        "constants were not fitted to these events, but the starting values of the fit were, and the events helped to",
        "find the shortcomings of the simulation.",
        "",
        "| class | five folds | unseen | leading features |",
        "|---|---:|---:|---|",
        *(f"| {name} | {auc:.3f} | {judged[name]:.3f} | {leading} |" for name, (auc, leading) in apart.items()),
        "",
        "Shares of the processes within their class, by events and by weight; real: all 250,000 labels and weights.",
        "",
        *(mixture(simulated) if LABELS.is_file() else ["(the file of labels and weights is missing)"]),
    ]
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
