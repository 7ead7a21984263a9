"""Folds by an expression of each event, and scores of the models that did not see an event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import higgsbench
from higgsbench.config import load_config
from higgsbench.config.document import read_yaml

MODELS = """
  - {model: logistic, preset: quick, params: {max_iter: 20}}
  - {model: xgboost, params: {n_estimators: 6, bag: 2}, training_weights: sqrt_balanced, calibration: logit}
  - {model: lightgbm, params: {n_estimators: 6}, features: {drop: [DER_mass_MMC]}}
"""


def made(place: Path, data: Path, name: str = "run", **settings: Any) -> Path:
    text = [f"{key}={value}" for key, value in settings.items()]
    (place / f"{name}.yaml").write_text(f"data: {{path: {data}}}\nmodels:{MODELS}stack: nonnegative\njet_split: both\n")
    return higgsbench.run(place / f"{name}.yaml", output=place / "out", jobs=1, settings=text).folder


RULE = "{by: EventId % 3}"


@pytest.fixture(scope="module")
def by_number(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("by"), toys, folds=RULE)


def test_the_rule_makes_the_folds(by_number: Path) -> None:
    table = pl.read_parquet(by_number / "scores.parquet")
    assert (table["EventId"] % 3 == table["fold"]).all()
    assert read_yaml(by_number / "config.yaml").value["folds"] == {"k": 3, "by": "EventId % 3"}
    stored = higgsbench.Leaderboard.read(by_number.parent).tables[0]
    assert "3 folds" in stored.title


def test_the_resolved_configuration_runs_again_unchanged(by_number: Path) -> None:
    again = higgsbench.run(by_number / "config.yaml", output=by_number.parent, jobs=1)
    assert (again.folder, again.trained) == (by_number, 0)
    assert load_config(by_number / "config.yaml", ["folds=4"]).config.folds == 4
