"""Guards against leakage through the whole pipeline, the stack included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

import higgsbench
from higgsbench.api.running import load_run_config
from higgsbench.metrics import roc_auc
from higgsbench.runs.dataset import load_dataset

from .conftest import Config, scores

BOTH = """
data: {{path: {data}}}
models:
  - {{model: logistic, preset: quick}}
  - {{model: xgboost, params: {{n_estimators: 30, max_depth: 3, min_child_weight: 5}}}}
jet_split: both
stack: logistic
calibration: logit
folds: 3
"""


def test_shuffled_labels_give_nothing(config: Config, training_only: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(training_only)
    order = np.random.default_rng(11).permutation(frame.height)
    # Weights go with the labels: they are the label's, and would give it away to nobody, since no model sees them.
    shuffled = frame.with_columns(frame.select(["Weight", "Label"])[order])
    shuffled.write_csv(tmp_path / "shuffled.csv")
    result = higgsbench.run(config(BOTH), data=tmp_path / "shuffled.csv", output=tmp_path, jobs=1)
    assert len(result.rows) == 5
    for row in result.rows:
        assert abs(row["auc"] - 0.5) < 4.0 * row["auc_se"], row["name"]


def test_the_label_planted_in_one_fold_alone_does_not_help(config: Config, training_only: Path, tmp_path: Path) -> None:
    """In each fold's training rows the planted column is noise; only in the fold itself it is the truth.

    Every row is in a validation fold once, so the plant must differ by fold: fold 0 alone carries the label.
    """
    loaded = load_run_config(config(BOTH))
    dataset = load_dataset(loaded.config)
    held_out = dataset.fold[0] == 0
    frame = pl.read_csv(training_only)
    noise = np.random.default_rng(3).integers(0, 2, frame.height)
    planted = np.where(held_out, dataset.y, noise).astype(float)
    auc = {}
    for name, column in (("planted", planted), ("plain", noise)):
        file = tmp_path / f"{name}.csv"
        frame.with_columns(pl.Series("PRI_met_sumet", 100.0 + column)).write_csv(file)
        result = higgsbench.run(config(BOTH), data=file, output=tmp_path / name, jobs=1)
        found = scores(result).filter(pl.col("fold") == 0)
        for row in ("score:xgboost", "score:stack"):
            auc[name, row] = roc_auc(found["signal"].to_numpy(), found[row].to_numpy(), found["weight"].to_numpy())
    for row in ("score:xgboost", "score:stack"):
        assert auc["planted", row].value < auc["plain", row].value + 3.0 * auc["plain", row].se
