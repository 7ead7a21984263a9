"""Connections, sharing and augmentation of the packed networks, out of fold on the real sample; a small setting.

python -m benchmarks.network_options [--output FOLDER] [--write]

Each fit is kept, so that what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._common import band_ams, publish, sample_events
from higgsbench import PhysicalClassifier
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.files import canonical_digest, write_json
from higgsbench.metrics import evaluation_weights, mean_estimate, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments

SEEDS, FOLDS = (42, 43), 5
SMALL: dict[str, Any] = {"members": 4, "hidden_layer_sizes": [64, 64, 64], "epochs": 12}
START = "4 members, 3 x 64, 12 epochs"
OPTIONS: dict[str, dict[str, Any]] = {
    START: {},
    "the same with other seeds of the networks": {},
    "dense connections": {"connections": "dense"},
    "shared matrices": {"sharing": "tabm"},
    "rotations and flips": {"augment": "rotate"},
    "rotations and flips, 24 epochs": {"augment": "rotate", "epochs": 24},
    "24 epochs": {"epochs": 24},
    "flips": {"augment": "flip"},
    "shared matrices, 16 members": {"sharing": "tabm", "members": 16},
    "rotations and flips, scored in one orientation": {"augment": "rotate", "views": 1},
    "weight decay 0": {"weight_decay": 0.0},
    "weight decay 0.1": {"weight_decay": 0.1},
    "weight decay 1": {"weight_decay": 1.0},
    "dense connections, 24 epochs": {"connections": "dense", "epochs": 24},
}
"""Line and what it changes; the first is what the others are compared with."""


class Sample:
    """The real events as the networks see them."""

    def __init__(self) -> None:
        self.events, self.what = sample_events()
        features = resolve_features(self.events.schema, name="momenta")
        self.X = feature_matrix(self.events.frame, features)
        self.columns = features.columns
        self.y = self.events.y
        self.w = evaluation_weights(self.y, self.events.weight, N_S, N_B)
        self.jets = self.events.frame["PRI_jet_num"].to_numpy().astype(np.int64)

    def fitted(self, name: str, seed: int, number: int) -> dict[str, Any]:
        """Scores of one fold that is held out, and the processor's seconds of the fit."""
        fold = fold_assignments(self.y, self.jets, FOLDS, 1, seed)[0]
        train, held_out = fold != number, fold == number
        shift = 10_000_019 if "other seeds" in name else 0
        context = BuildContext(seed=100 * seed + number + shift, features=self.columns)
        inner = build_estimator(get_model("torch_mlp"), {**SMALL, **OPTIONS[name]}, context)
        model = PhysicalClassifier(inner, training_weights="sqrt_balanced")
        begin = time.process_time()
        model.fit(self.X[train], self.y[train], self.w[train])
        spent = time.process_time() - begin
        rows = np.flatnonzero(held_out)
        score = model.decision_function(self.X[rows])
        return {"rows": rows.tolist(), "score": score.tolist(), "seconds": spent}


def _file(folder: Path, name: str, seed: int, number: int) -> Path:
    return folder / f"{canonical_digest([name, SMALL, OPTIONS[name], seed, number])[:20]}.json"


def _scores(folder: Path, name: str, seed: int, n: int) -> tuple[NDArray[np.float64], float] | None:
    files = [_file(folder, name, seed, number) for number in range(FOLDS)]
    if not all(file.is_file() for file in files):
        return None
    score, found = np.empty(n), [json.loads(file.read_text()) for file in files]
    for part in found:
        score[part["rows"]] = part["score"]
    return score, float(np.mean([part["seconds"] for part in found]))


def table(folder: Path, sample: Sample) -> list[str]:
    """One line per option of which all folds of both seeds are there."""
    lines = [
        f"{sample.what}, feature set `momenta`, sqrt_balanced, {FOLDS} folds out of fold, seeds "
        f"{' and '.join(map(str, SEEDS))}, one thread; Δ: paired difference to the first line.",
        "",
        "| option | wAUC | Δ | AMS at 10-20% | processor s per fit |",
        "|---|---|---|---|---|",
    ]
    first = None
    for name in OPTIONS:
        runs = [run for seed in SEEDS if (run := _scores(folder, name, seed, sample.y.size)) is not None]
        if len(runs) < len(SEEDS):
            continue
        auc = mean_estimate([roc_auc(sample.y, score, sample.w) for score, _ in runs])
        first = first or auc
        gain, error = paired_difference(auc, first)
        band = np.mean([band_ams(sample.y, score, sample.w) for score, _ in runs])
        seconds = np.mean([spent for _, spent in runs])
        lines.append(f"| {name} | {auc.value:.4f} | {gain:+.4f} ± {error:.4f} | {band:.2f} | {seconds:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_options")
    parser.add_argument("--output", type=Path, default=Path("build/network-options"))
    parser.add_argument("--write", action="store_true", help="measure nothing, write the table of what is there")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    sample = Sample()
    for name in () if options.write else OPTIONS:
        for seed in SEEDS:
            for number in range(FOLDS):
                file = _file(options.output, name, seed, number)
                if not file.is_file():
                    write_json(file, sample.fitted(name, seed, number))
    publish("network-options", "Options of the packed networks", table(options.output, sample))


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
