"""The ladder of recipes on 15,000 real events."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import higgsbench
from benchmarks.common import REFERENCE, SAMPLE, SectionedReport, band_replicas
from higgsbench.ensemble import Truth
from higgsbench.ensemble.blend import cross_fitted_blend
from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.metrics import mean_estimate, paired_difference, roc_auc
from higgsbench.metrics.estimates import ams_estimate

_REPORT = SectionedReport(
    REFERENCE / "quality.md",
    "# Quality of the built-in recipes\n\nMade by `nox -s bench-quality`. Errors are paired standard errors.\n",
    {
        "ladder": "The ladder, on 15,000 real events",
        "stacking": "Against scikit-learn's StackingClassifier",
        "simulated": "The ladder and the learning curve, on simulated events",
    },
)

write_section = _REPORT.write


SEEDS = (42, 43)
REPLICAS = 200
START, RECIPE = "xgboost raw", "core recipe (mean of the four)"
SIX = tuple(f"{name} raw" for name in ("logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp"))
CORE = ("xgboost", "lightgbm", "catboost", "mlp")
TORCH = ("torch_mlp", "torch_mlp balanced", "torch_mlp physics")
CONFIG = Path(__file__).with_name("ladder.yaml")


@dataclass
class Scores:
    """Out-of-fold log-odds of all rows for one seed of folds and models."""

    y: NDArray[np.bool_]
    w: NDArray[np.float64]
    fold: NDArray[np.int64]
    rows: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def totals(self) -> tuple[float, float]:
        """Reference totals (N_s, N_b)."""
        return float(self.w[self.y].sum()), float(self.w[~self.y].sum())


def scores_of(folder: Path) -> Scores:
    """Read the scores of a stored run."""
    frame = pl.read_parquet(folder / "scores.parquet").filter(pl.col("repeat") == 0)
    y, w, fold = (frame[name].to_numpy() for name in ("signal", "weight", "fold"))
    found = Scores(y, w, fold.astype(np.int64))
    found.rows = {c.removeprefix("score:"): frame[c].to_numpy() for c in frame.columns if c.startswith("score:")}
    return found


def main(output: Path, peers: Path | None = None) -> None:
    """Run the ladder, or reuse its stored parts, and write its section.

    Args:
        output: folder for the runs.
        peers: stored run with rows `autogluon` and `flaml` for the first seed, on the same folds.
    """
    config = output / "ladder.yaml"
    output.mkdir(parents=True, exist_ok=True)
    torch = importlib.util.find_spec("torch") is not None
    text = CONFIG.read_text()
    config.write_text(text.replace("preset: good\n", _TORCH_ROW + "preset: good\n", 1) if torch else text)
    runs = []
    for seed in SEEDS:
        result = higgsbench.run(config, data=SAMPLE.resolve(), settings=[f"seed={seed}"], output=output)
        found = scores_of(result.folder)
        add_blends(found, torch)
        runs.append(found)
    lines = ladder_table(runs) + cut_rules(runs) + did_not_help(runs)
    if peers is not None:
        lines += peers_table(runs[0], scores_of(peers))
    write_section("ladder", lines)


_TORCH_ROW = """\
  - {model: torch_mlp, preset: best}
  - {label: torch_mlp balanced, model: torch_mlp, preset: best, training_weights: balanced}
  - {label: torch_mlp physics, model: torch_mlp, preset: best, features: physics}
"""


def add_blends(found: Scores, torch: bool) -> None:
    """Blend stored scores in all ways that are compared."""
    rows = found.rows
    rows[RECIPE] = rows.pop("stack")
    ways: dict[str, tuple[str, tuple[str, ...]]] = {}
    ways |= {"core, non-negative weights": ("nonnegative", CORE), "core, unrestricted weights": ("logistic", CORE)}
    ways |= {"core without mlp": ("mean", CORE[:3]), "core without catboost": ("mean", (*CORE[:2], "mlp"))}
    ways |= {"xgboost and mlp only": ("mean", ("xgboost", "mlp"))}
    ways |= {"core and random_forest": ("mean", (*CORE, "random_forest"))}
    ways |= {"core and xgboost split by jets": ("mean", (*CORE, "xgboost physics jets [jets]"))}
    ways |= {
        "the six on raw features, mean": ("mean", SIX),
        "the six on raw features, non-negative": ("nonnegative", SIX),
    }
    if torch:
        ways |= {"with torch (mean of the seven)": ("mean", (*CORE, *TORCH))}
        ways |= {"with torch, non-negative weights": ("nonnegative", (*CORE, *TORCH))}
        ways |= {"core and torch_mlp only": ("mean", (*CORE, TORCH[0]))}
        ways |= {"with torch, without mlp": ("mean", (*CORE[:3], *TORCH))}
    for name, (method, members) in ways.items():
        F = np.column_stack([rows[m] for m in members])
        rows[name] = cross_fitted_blend(method, members, F, found.y, found.w, found.fold, found.totals)[0]


def ladder_table(runs: list[Scores]) -> list[str]:
    """One line per row: AUC and its gain over the first line, the AMS over cuts at 10-20% and the honest AMS."""
    names = list(runs[0].rows)
    bands = np.mean([_bands(run, names) for run in runs], axis=0)
    start = mean_estimate([roc_auc(r.y, r.rows[START], r.w) for r in runs])
    lines = [f"Out-of-fold scores of 5 folds, mean of seeds {' and '.join(map(str, SEEDS))}; Δ over `{START}`.", ""]
    lines += ["| row | wAUC | Δ wAUC | each seed | AMS at 10-20% | Δ | AMS cv |", "|---|---|---|---|---|---|---|"]
    for at, name in enumerate(names):
        aucs = [roc_auc(r.y, r.rows[name], r.w) for r in runs]
        gain, error = paired_difference(mean_estimate(aucs), start)
        moved = bands[:, at] - bands[:, names.index(START)]
        honest = np.mean([honest_ams(r, name, "smooth") for r in runs])
        lines.append(
            f"| {name} | {mean_estimate(aucs).value:.4f} | {gain:+.4f} ± {error:.4f} | "
            f"{' '.join(f'{a.value:.4f}' for a in aucs)} | {bands[0, at]:.3f} ± {bands[1:, at].std(ddof=1):.3f} | "
            f"{moved[0]:+.3f} ± {moved[1:].std(ddof=1):.3f} | {honest:.3f} |"
        )
    return [*lines, ""]


def honest_ams(run: Scores, name: str, rule: str) -> float:
    """AMS with each fold's cut chosen on the other folds by a rule."""
    truth = Truth(run.y, run.w, run.fold[None], run.totals, 10.0, rule)
    chosen = cross_validated_selection(run.rows[name], truth, 0)
    return ams_estimate(run.y, chosen, run.w, 10.0)[0].value


def cut_rules(runs: list[Scores]) -> list[str]:
    """The default cut rule against the raw maximum, over all rows and seeds."""
    pairs = [(honest_ams(r, n, "smooth"), honest_ams(r, n, "max")) for r in runs for n in r.rows]
    smooth, raw = np.array(pairs).T
    better = int((smooth > raw).sum())
    return [
        f"Averaged over {len(pairs)} pairs of row and seed, the default cut rule `smooth` gives AMS cv "
        f"{smooth.mean():.3f} (lowest {smooth.min():.2f}) and the raw maximum {raw.mean():.3f} (lowest "
        f"{raw.min():.2f}); `smooth` is better in {better} cases.",
        "",
    ]


NO_HELP = (
    ("xgboost raw unweighted", START, "training without weights"),
    ("xgboost physics sqrt", "xgboost physics", "square roots of the weights (they help the AMS, not the AUC)"),
    ("xgboost physics jets [jets]", "xgboost physics sqrt", "submodels per jet number"),
    ("mlp physics", "mlp", "a network on physics features instead of momenta"),
    ("lightgbm physics 400 rounds", "lightgbm", "a fixed number of rounds instead of early stopping"),
    ("logistic", "xgboost", "logistic regression, with the preset best"),
    ("random_forest", "xgboost", "a random forest, with the preset best"),
    ("core, non-negative weights", RECIPE, "fitted non-negative blend weights instead of the mean"),
    ("core, unrestricted weights", RECIPE, "unrestricted blend weights instead of the mean"),
    ("core and random_forest", RECIPE, "a random forest added to the recipe"),
    ("core and xgboost split by jets", RECIPE, "submodels per jet number added to the recipe"),
    ("core without catboost", RECIPE, "the recipe without CatBoost"),
)
"""Attempts to improve: row, the row it is compared with, and what was tried."""


def did_not_help(runs: list[Scores]) -> list[str]:
    """Table of attempts that gave no gain, or a gain smaller than its cost."""
    lines = ["Changes that gained less than their error:", "", "| tried | minus | Δ wAUC | Δ AMS at 10-20% |"]
    lines.append("|---|---|---|---|")
    names = list(dict.fromkeys(name for pair in NO_HELP for name in pair[:2]))
    bands = np.mean([_bands(run, names) for run in runs], axis=0)
    for row, other, what in NO_HELP:
        a, b = (mean_estimate([roc_auc(r.y, r.rows[name], r.w) for r in runs]) for name in (row, other))
        gain, error = paired_difference(a, b)
        moved = bands[:, names.index(row)] - bands[:, names.index(other)]
        lines.append(
            f"| {what} | {other} | {gain:+.4f} ± {error:.4f} | {moved[0]:+.3f} ± {moved[1:].std(ddof=1):.3f} |"
        )
    return [*lines, "", "For networks see docs/networks.md, for features docs/features.md.", ""]


def peers_table(ours: Scores, theirs: Scores) -> list[str]:
    """AutoML frameworks and the core recipe on the same folds, one seed."""
    if not (np.array_equal(ours.fold, theirs.fold) and np.array_equal(ours.y, theirs.y)):
        raise SystemExit("the peers' run has other events or folds than the ladder's first seed")
    rows: dict[str, NDArray[np.float64]] = {}
    rows |= {name: theirs.rows[name] for name in ("autogluon", "flaml") if name in theirs.rows}
    rows |= {name: ours.rows[name] for name in (START, RECIPE)}
    pool = Scores(ours.y, ours.w, ours.fold, rows)
    bands = _bands(pool, list(rows))
    best = roc_auc(pool.y, rows[RECIPE], pool.w)
    lines = [
        f"AutoML frameworks on the same folds (seed {SEEDS[0]}, raw features, time limit per fit, one thread):",
        "",
    ]
    lines += ["| row | wAUC | core recipe minus row | AMS at 10-20% | AMS cv |", "|---|---|---|---|---|"]
    for at, name in enumerate(rows):
        auc = roc_auc(pool.y, rows[name], pool.w)
        gain, error = paired_difference(best, auc)
        lines.append(
            f"| {name} | {auc.value:.4f} | {gain:+.4f} ± {error:.4f} | {bands[0, at]:.3f} ± "
            f"{bands[1:, at].std(ddof=1):.3f} | {honest_ams(pool, name, 'smooth'):.3f} |"
        )
    return [*lines, "", "Their limits are wall times; docs/peers.md says how much CPU time they got.", ""]


def _bands(run: Scores, names: list[str]) -> NDArray[np.float64]:
    return band_replicas(run.y, [run.rows[name] for name in names], run.w, REPLICAS)
