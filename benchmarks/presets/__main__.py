"""python -m benchmarks.presets [--output FOLDER] [--model NAME ...] [--minutes N] [--write]."""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._common import sample_events
from benchmarks.presets.table import write_table
from benchmarks.presets.variants import MODELS, Variant, variants
from higgsbench import PhysicalClassifier
from higgsbench.events import Events
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.files import canonical_digest, write_bytes
from higgsbench.metrics import evaluation_weights
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments

SEEDS = (42, 43)
FOLDS = 5
TRAIN, TEST = 30_000, 50_000
FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """Truth, weights, matrix and, out of fold, the folds of each seed; for simulated events one fold is held out."""

    y: NDArray[np.bool_]
    w: NDArray[np.float64]
    folds: tuple[NDArray[np.int64], ...]


@cache
def _events(kind: str) -> Events:
    if kind == "real":
        return sample_events()[0]
    seed, number = (11, TRAIN) if kind == "train" else (12, TEST)
    return simulated_events(SimulationSettings(events=number, seed=seed, set_proportions={"t": 1.0}))


@cache
def _truth(kind: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    events = _events(kind)
    return events.y, evaluation_weights(events.y, events.weight, N_S, N_B)


@cache
def _matrix(kind: str, features: str) -> NDArray[np.float32]:
    events = _events(kind)
    return feature_matrix(events.frame, resolve_features(events.schema, name=features))


def _fit(variant: Variant, train: tuple[str, NDArray[np.bool_] | None], seed: int) -> tuple[PhysicalClassifier, float]:
    """Fit on all or some events of a kind; return the model and the processor's seconds."""
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
    """Scores out of fold of the real events per seed, scores of simulated ones, and the mean seconds of a fit each."""
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
    parser.add_argument("--output", type=Path, default=Path("build/presets"), help="results, kept for the next time")
    parser.add_argument("--model", choices=MODELS, action="append", help="these models only")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so many minutes")
    parser.add_argument("--write", action="store_true", help="measure nothing, write the table of what is there")
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
