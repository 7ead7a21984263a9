"""The libraries' own files, put together as combine.json says, in plain numpy, score as the run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from catboost import CatBoostClassifier
from lightgbm import Booster as LightGBMBooster
from numpy.typing import NDArray
from xgboost import Booster as XGBoostBooster
from xgboost import DMatrix

from higgsbench.errors import ModelError, StoreError
from higgsbench.export import chosen_models, export_native
from higgsbench.runs import find_run
from tests.conftest import Call

from .conftest import finished, inputs_of

TREES = """
data: {{path: {data}}}
models:
  - {{model: xgboost, params: {{n_estimators: 60, bag: 2, early_stopping_rounds: 2}}, features: physics}}
  - {{model: lightgbm, params: {{n_estimators: 6}}, calibration: logit}}
  - {{model: catboost, params: {{iterations: 6}}}}
jet_split: both
folds: 2
stack: mean
"""


@pytest.fixture(scope="module")
def trees(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(TREES, toys, tmp_path_factory.mktemp("trees"))


def raw(file: Path, names: list[str], X: NDArray[np.float32]) -> NDArray[Any]:
    """Predict with one library, whose file knows its features."""
    if file.suffix == ".ubj":
        booster = XGBoostBooster(model_file=file)
        assert booster.feature_names == names
        return np.asarray(booster.predict(DMatrix(X, feature_names=names), output_margin=True))
    if file.suffix == ".txt":
        lightgbm = LightGBMBooster(model_file=str(file))
        assert lightgbm.feature_name() == names
        return np.asarray(lightgbm.predict(X, raw_score=True))
    catboost = CatBoostClassifier().load_model(str(file))
    assert catboost.feature_names_ == names
    return np.asarray(catboost.predict(X, prediction_type="RawFormulaVal"))


def combined(folder: Path, X: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    recipe = json.loads((folder / "combine.json").read_text())
    at = {column["name"]: index for index, column in enumerate(recipe["columns"])}
    score = np.full(len(X), recipe["intercept"])
    for row in recipe["rows"]:
        groups = row["groups"] or [None]
        for part, group in enumerate(groups):
            chosen = np.isin(X[:, at[recipe["group"]]], group) if group else np.ones(len(X), dtype=bool)
            own = np.zeros(int(chosen.sum()))
            for model in row["models"]:
                described = model[part]
                values = X[chosen][:, [at[name] for name in described["columns"]]]
                files = [raw(folder / file, described["columns"], values) for file in described["files"]]
                own += (np.mean(files, axis=0) + described["shift"]) / len(row["models"])
            if row["calibration"]:
                slope, intercept = row["calibration"][part]
                own = slope * own + intercept
            score[chosen] += row["weight"] * own
    return score, score >= recipe["threshold"]


@pytest.mark.parametrize(("row", "fold"), [(None, None), (None, 1), ("xgboost [jets]", None), ("lightgbm", 0)])
@pytest.mark.parametrize("kind", ["simulated", "real"])
def test_scores(
    trees: Path, tmp_path: Path, request: pytest.FixtureRequest, kind: str, row: str | None, fold: int | None
) -> None:
    events: pl.DataFrame = request.getfixturevalue(kind)
    folder = export_native(trees, tmp_path / "deploy", model=row, fold=fold)
    predictor = chosen_models(find_run(trees), row, fold)
    wanted = predictor.scores(events)
    found, selected = combined(folder, inputs_of(predictor, events))
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    away = np.abs(wanted - predictor.threshold) > 1e-6
    np.testing.assert_array_equal(selected[away], (wanted >= predictor.threshold)[away])


def test_the_command_and_its_refusals(call: Call, trees: Path) -> None:
    code, _, err = call("export", "native", trees, "-o", "deploy", "--model", "catboost [jets]")
    assert (code, err) == (0, "Wrote deploy (6 model files)\n")
    code, _, err = call("export", "native", trees, "-o", "deploy")
    assert (code, err) == (2, "Error: deploy: already exists; choose a new folder\n")


def test_models_without_a_library_of_trees_leave_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="RandomForestClassifier is not a model of XGBoost, LightGBM or CatBoost"):
        export_native(run, tmp_path / "deploy")
    assert not list(tmp_path.iterdir())


def test_runs_without_models(trees: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trees, tmp_path / "copy"))
    for file in copy.glob("units/*.model.zip"):
        file.write_bytes(b"?")
    with pytest.raises(StoreError, match="damaged"):
        export_native(copy, tmp_path / "deploy")
