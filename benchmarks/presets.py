"""python -m benchmarks.presets: change one value of the presets `best` at a time, measure, and write a table."""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common import REFERENCE, SectionedReport, band_ams, band_replicas, sample_events
from higgsbench import PhysicalClassifier
from higgsbench.events import Events
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.files import canonical_digest, write_bytes
from higgsbench.metrics import Estimate, evaluation_weights, mean_estimate, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.models.spec import BAG
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments

MODELS = ("xgboost", "lightgbm", "catboost", "mlp", "torch_mlp", "random_forest", "logistic")

BASE: dict[str, dict[str, Any]] = {
    **{name: {BAG: number} for name, number in (("xgboost", 1), ("lightgbm", 1), ("catboost", 1), ("mlp", 2))},
    "torch_mlp": {"members": 4},
    "random_forest": {"n_estimators": 200},
    "logistic": {},
}
"""Starting point of the rows: the preset with a small bag, because a full one multiplies the cost."""

Change = dict[str, Any]

REVERTED: dict[str, tuple[Change, ...]] = {
    "xgboost": (
        {"max_depth": 6},
        {"learning_rate": 0.3},
        {"min_child_weight": 1},
        {"colsample_bytree": 1.0},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 450},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 100},
    ),
    "lightgbm": (
        {"num_leaves": 31},
        {"learning_rate": 0.1},
        {"min_child_samples": 20},
        {"colsample_bytree": 1.0},
        {"subsample": 1.0, "subsample_freq": 0},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 400},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 100},
    ),
    "catboost": (
        {"border_count": 254},
        {"bootstrap_type": "MVS", "subsample": 0.8},
        {"learning_rate": None},
        {"early_stopping_rounds": None, "validation_fraction": None, "iterations": 400},
        {"early_stopping_rounds": None, "validation_fraction": None, "iterations": 1000},
    ),
    "mlp": (
        {"hidden_layer_sizes": [100]},
        {"alpha": 0.0001},
        {"max_iter": 40},
        {"batch_size": 200},
        {"learning_rate_init": 0.001},
        {"scaling": "quantiles"},
    ),
    "torch_mlp": ({"dropout": 0.0}, {"weight_decay": 0.0}, {"learning_rate": 0.001}),
    "random_forest": ({"min_samples_leaf": 1}, {"max_samples": None}, {"n_estimators": 100}),
    "logistic": ({"degree": 1}, {"C": 1.0}, {"max_iter": 100}),
}
"""Values that differ from the library's default, set back to it; None leaves the parameter out. CatBoost's `depth` and
`boosting_type` and the forest's `max_features` equal the defaults. scikit-learn's 200 epochs without early stopping
would take half an hour, so 40 epochs are used instead."""

NO_DEFAULTS: dict[str, tuple[str, ...]] = {
    "xgboost": ("n_estimators 450",),
    "lightgbm": ("n_estimators 400",),
    "catboost": ("iterations 400",),
    "mlp": ("max_iter 40",),
    "torch_mlp": ("dropout 0.0", "weight_decay 0.0", "learning_rate 0.001"),
}
"""Values among these that are not a library's default: the rounds of the preset `good`, cheap replacements of
expensive values, and those of `torch_mlp`, whose defaults are the preset."""

NEIGHBOURS: dict[str, tuple[Change, ...]] = {
    "xgboost": (
        *({"max_depth": depth} for depth in (4, 3)),
        *({"learning_rate": rate} for rate in (0.06, 0.02)),
        *({"min_child_weight": least} for least in (15, 150)),
        *({"colsample_bytree": share} for share in (0.7, 0.3)),
        *({"early_stopping_rounds": rounds} for rounds in (20, 100)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "lightgbm": (
        *({"num_leaves": leaves} for leaves in (8, 12, 24)),
        *({"learning_rate": rate} for rate in (0.06, 0.02)),
        *({"min_child_samples": least} for least in (100,)),
        *({"colsample_bytree": share} for share in (0.7, 0.3)),
        *({"subsample": share} for share in (0.6,)),
        *({"early_stopping_rounds": rounds} for rounds in (20, 100)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "catboost": (
        *({"depth": depth} for depth in (5, 7)),
        *({"border_count": count} for count in (32, 128)),
        *({"learning_rate": rate} for rate in (0.03, 0.1)),
        *({"subsample": share} for share in (0.5, 0.9)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "mlp": (
        *({"hidden_layer_sizes": sizes} for sizes in ([96, 96], [192, 192], [128, 128, 128])),
        *({"alpha": alpha} for alpha in (0.03, 0.3)),
        *({"max_iter": epochs} for epochs in (6, 12)),
        *({"batch_size": size} for size in (128, 512)),
        *({"learning_rate_init": rate} for rate in (0.004,)),
    ),
    "torch_mlp": (
        *({"weight_decay": decay} for decay in (0.1, 1.0)),
        *({"epochs": epochs} for epochs in (10, 25)),
        *({"dropout": share} for share in (0.15, 0.35)),
        *({"learning_rate": rate} for rate in (0.003, 0.012)),
        *({"batch_size": size} for size in (128, 512)),
        *({"hidden_layer_sizes": sizes} for sizes in ([96, 96], [128, 128, 128])),
    ),
    "random_forest": ({"min_samples_leaf": 3}, {"min_samples_leaf": 10}, {"max_samples": 0.3}, {"max_features": 0.3}),
    "logistic": ({"C": 0.001}, {"C": 0.01}),
}
"""One step to either side of each value."""

WHOLE: dict[str, Change] = {
    **{name: {BAG: number} for name, number in (("xgboost", 3), ("lightgbm", 4), ("catboost", 3), ("mlp", 8))},
    "torch_mlp": {"members": 8},
    "random_forest": {"n_estimators": 400},
}
"""The full bag of the preset."""


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        model: name in the registry.
        kind: `start`, `seeds`, `default`, `step`, `bag` or `data`.
        change: parameters that differ from the start.
        features: feature set, or None for the preset's.
        training_weights: scheme, or None for the preset's.
        shift: added to the seeds of the models.
    """

    model: str
    kind: str
    change: Mapping[str, Any] = field(default_factory=dict)
    features: str | None = None
    training_weights: str | None = None
    shift: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """All parameters."""
        whole = {**get_model(self.model).preset("best").params, **BASE[self.model], **self.change}
        return {name: value for name, value in whole.items() if value is not None}

    @property
    def data(self) -> tuple[str, str]:
        """Feature set and training weights."""
        preset = get_model(self.model).preset("best")
        return self.features or preset.features or "raw", self.training_weights or preset.training_weights or "balanced"

    @property
    def is_default(self) -> bool:
        """Whether the change is back to the library's default."""
        stands_in = NO_DEFAULTS.get(self.model, ())
        return self.kind == "default" and not any(self.label.endswith(value) for value in stands_in)

    @property
    def label(self) -> str:
        """What is changed, in words."""
        if self.kind == "start":
            return "preset `best`" + "".join(f", {name} {value}" for name, value in BASE[self.model].items())
        if self.kind == "seeds":
            return "other seeds of the models"
        changes = [f"{name} {'left out' if value is None else value}" for name, value in self.change.items()]
        if self.change.get("early_stopping_rounds", 0) is None:
            changes = [f"no early stopping, {changes[-1]}"]
        if self.features:
            changes.append(f"features {self.features}")
        if self.training_weights:
            changes.append(f"training weights {self.training_weights}")
        return ", ".join(changes)


def variants() -> Iterator[Variant]:
    """All rows: defaults for the recipe's models, then for the others, then neighbouring values and other data."""
    inside, outside = MODELS[:5], MODELS[5:]
    for models in (inside, outside):
        for model in models:
            yield Variant(model, "start")
        for model in models:
            yield from (Variant(model, "default", change) for change in REVERTED[model])
        for model in models:
            yield Variant(model, "seeds", shift=10_000_019)
            if model in WHOLE:
                yield Variant(model, "bag", WHOLE[model])
    for steps in itertools.zip_longest(*(NEIGHBOURS[model] for model in MODELS)):
        for model, change in zip(MODELS, steps, strict=True):
            if change is not None:
                yield Variant(model, "step", change)
    for model in MODELS:
        yield Variant(model, "data", training_weights="balanced")
        yield Variant(model, "data", features="physics" if model.endswith("mlp") else "raw")


write_section = SectionedReport(
    REFERENCE / "presets.md",
    "# The presets\n\nMade by `python -m benchmarks.preset_suite` and `python -m benchmarks.presets`.\n",
    {"suite": "The presets over data sets", "values": "What each value is worth"},
).write

REPLICAS = 40
Found = Mapping[str, NDArray[np.float64]]
Truth = tuple[NDArray[np.bool_], NDArray[np.float64]]

_HEAD = (
    "Each row changes one value of a preset `best`, to the library's default or by one step to either side, and keeps "
    "all others. Real: out-of-fold scores of 15,000 events, 5 folds, seeds 42 and 43. Simulated: trained on 30,000 "
    "events, scored on 50,000 others, one seed.",
    "",
    "Δ is the changed value minus the preset in units of 0.0001 of the weighted AUC, with its paired standard error. "
    "The error does not include the seeds of the models; the row with other seeds shows their effect. Δ AMS refers to "
    f"the AMS averaged over selections of 10-20% of the events; its error comes from {REPLICAS} bootstrap samples. "
    "Seconds are CPU time per fit of 12,000 real events, on a machine shared with other work. The best of so many rows "
    "is too optimistic on the events it was chosen on, so do not rely on a difference below two errors, or on one "
    "that is seen in only one of the two samples.",
    "",
)


def write_table(found: Sequence[tuple[Variant, Found]], planned: int, real: Truth, simulated: Truth) -> None:
    """Write the values' section of results/reference/presets.md.

    Args:
        found: rows with scores of the real events per seed, (2, n), scores of the simulated ones, and seconds.
        planned: number of planned rows.
        real: truth and evaluation weights of the real events.
        simulated: those of the simulated ones.
    """
    lines = list(_HEAD)
    if len(found) < planned:
        lines += [f"Not finished: {len(found)} of {planned} rows are measured; run the same command to continue.", ""]
    for model in MODELS:
        rows = [(variant, scores) for variant, scores in found if variant.model == model]
        if not rows or rows[0][0].kind != "start":
            continue
        lines += [f"### {model}", "", "| changed | Δ real | Δ simulated | Δ AMS real | Δ AMS simulated | s |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [_line(variant, scores, rows[0][1], real, simulated) for variant, scores in rows]
        lines.append("")
    write_section("values", lines)


def _line(variant: Variant, scores: Found, start: Found, real: Truth, simulated: Truth) -> str:
    cells = [f"**{variant.label}** (the default)" if variant.is_default else variant.label]
    samples = ((real, "real"), (simulated, "simulated"))
    if variant.kind == "start":
        cells[0] = variant.label
        cells += [f"wAUC {_auc(truth, scores[key]).value:.4f}" for truth, key in samples]
        cells += [f"AMS {_band(truth, scores[key]):.2f}" for truth, key in samples]
    else:
        for truth, key in samples:
            gain, error = paired_difference(_auc(truth, scores[key]), _auc(truth, start[key]))
            cells.append(f"{1e4 * gain:+.1f} ± {1e4 * error:.1f}")
        for truth, key in samples:
            moved, error = _band_difference(truth, scores[key], start[key])
            cells.append(f"{moved:+.3f} ± {error:.3f}")
    return "| " + " | ".join([*cells, f"{scores['seconds'][0]:.1f}"]) + " |"


def _auc(truth: Truth, scores: NDArray[np.float64]) -> Estimate:
    y, w = truth
    return mean_estimate([roc_auc(y, score, w) for score in np.atleast_2d(scores)])


def _band(truth: Truth, scores: NDArray[np.float64]) -> float:
    y, w = truth
    return float(np.mean([band_ams(y, score, w) for score in np.atleast_2d(scores)]))


def _band_difference(truth: Truth, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """AMS at 10-20% of `a` minus that of `b`, and its standard error over bootstrap samples of the events."""
    y, w = truth
    both = np.split(band_replicas(y, [*np.atleast_2d(a), *np.atleast_2d(b)], w, REPLICAS), 2, axis=1)
    moved = both[0].mean(axis=1) - both[1].mean(axis=1)
    return float(moved[0]), float(np.std(moved[1:], ddof=1))


SEEDS = (42, 43)
FOLDS = 5
TRAIN, TEST = 30_000, 50_000
FORMAT = 1


@cache
def _events(kind: str) -> Events:
    if kind == "real":
        return sample_events()[0]
    seed, number = (11, TRAIN) if kind == "train" else (12, TEST)
    return simulated_events(SimulationSettings(events=number, seed=seed, set_proportions={"t": 1.0}))


@cache
def _truth(kind: str) -> Truth:
    events = _events(kind)
    return events.y, evaluation_weights(events.y, events.weight, N_S, N_B)


@cache
def _matrix(kind: str, features: str) -> NDArray[np.float32]:
    events = _events(kind)
    return feature_matrix(events.frame, resolve_features(events.schema, name=features))


def _fit(variant: Variant, train: tuple[str, NDArray[np.bool_] | None], seed: int) -> tuple[PhysicalClassifier, float]:
    """Fit on all or some events of a kind; return the model and the CPU seconds."""
    kind, rows = train
    spec, params = get_model(variant.model), variant.params
    features, weights = variant.data
    X, (y, w) = _matrix(kind, features), _truth(kind)
    kept = slice(None) if rows is None else rows
    context = BuildContext(seed=seed + variant.shift)
    inner = build_estimator(spec, params, context)
    model = PhysicalClassifier(inner, training_weights=weights, log_odds=log_odds_reader(spec, params))
    begin = time.process_time()
    model.fit(X[kept], y[kept], w[kept])
    return model, time.process_time() - begin


def measure(variant: Variant) -> dict[str, NDArray[np.float64]]:
    """Out-of-fold scores of real events per seed, scores of simulated ones, and the mean seconds per fit of each."""
    features, _ = variant.data
    y, _ = _truth("real")
    jets = _events("real").frame["PRI_jet_num"].to_numpy().astype(np.int64)
    real, spent = np.empty((len(SEEDS), y.size)), []
    for at, seed in enumerate(SEEDS):
        fold = fold_assignments(y, jets, FOLDS, 1, seed)[0]
        for number in range(FOLDS):
            model, seconds = _fit(variant, ("real", fold != number), 100 * seed + number)
            real[at, fold == number] = model.decision_function(_matrix("real", features)[fold == number])
            spent.append(seconds)
    model, seconds = _fit(variant, ("train", None), 1)
    simulated = model.decision_function(_matrix("test", features))
    return {"real": real, "simulated": simulated, "seconds": np.array([np.mean(spent), seconds])}


def _file(folder: Path, variant: Variant) -> Path:
    identity = [FORMAT, variant.model, variant.params, variant.data, variant.shift, SEEDS, FOLDS, TRAIN, TEST]
    return folder / f"{variant.model}-{canonical_digest(identity)[:16]}.npz"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presets")
    parser.add_argument("--output", type=Path, default=Path("build/presets"), help="stored results, reused next time")
    parser.add_argument("--model", choices=MODELS, action="append", help="measure only these models")
    parser.add_argument("--minutes", type=float, help="start nothing new after this many minutes")
    parser.add_argument("--write", action="store_true", help="measure nothing, write the table of stored results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [v for v in variants() if options.model is None or v.model in options.model]
    end = time.monotonic() + 60.0 * (options.minutes if options.minutes is not None else np.inf)
    for variant in [] if options.write else chosen:
        file = _file(options.output, variant)
        if file.is_file() or time.monotonic() > end:
            continue
        stream = io.BytesIO()
        np.savez(stream, **measure(variant))  # type: ignore[arg-type]  # numpy's stub
        write_bytes(file, stream.getvalue())
        print(f"{variant.model}: {variant.label}", flush=True)
    files = [(variant, _file(options.output, variant)) for variant in variants()]
    found = [(variant, dict(np.load(file))) for variant, file in files if file.is_file()]
    write_table(found, len(files), _truth("real"), _truth("test"))


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
