"""Stored models asked for the run's own events: by those that saw them, and by those that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.api.scoring import predict
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.events import Events, load_events
from higgsbench.features import feature_matrix
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.runs.predictor import FittedRun, tree_contributions
from higgsbench.runs.store import RunStore
from higgsbench.runs.stored import StoredRun
from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

pytestmark = pytest.mark.filterwarnings("ignore:.*the run was trained on:higgsbench.errors.HiggsbenchWarning")

CONFIG = """
data: {{path: {data}}}
models:
  - {{model: logistic, preset: quick, params: {{max_iter: 20}}, jet_split: groups}}
  - {{model: xgboost, params: {{n_estimators: 6, bag: 2}}, training_weights: sqrt_balanced, calibration: logit}}
  - {{model: lightgbm, params: {{n_estimators: 6}}, features: {{drop: [DER_mass_MMC]}}}}
folds: 3
stack: mean
{more}
"""


def make_run(data: Path, place: Path, more: str = "") -> Path:
    (place / "c.yaml").write_text(CONFIG.format(data=data, more=more))
    return higgsbench.run(place / "c.yaml", output=place / "out", jobs=1).folder


@pytest.fixture(scope="module")
def run(training_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(training_only, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def events(training_only: Path) -> Events:
    return load_events(training_only)


def fitted_run(folder: Path) -> FittedRun:
    return FittedRun(StoredRun(folder))


def by_hand(run: Path, events: Events, name: str) -> np.ndarray[Any, Any]:
    """Mean over the fold models that trained on an event."""
    (row,) = fitted_run(run).held_out(name).rows
    X = feature_matrix(events.frame, row.features)
    if row.entry.groups is not None and events.group is not None:
        X = np.column_stack([X, events.group.astype(np.float32)])
    out, counts = np.zeros(len(events)), np.zeros(len(events))
    for key, model in zip(row.entry.units, row.models, strict=True):
        unit = RunStore(run).read(key)
        assert unit is not None
        seen = ~np.isin(events.event_id, unit.event_id)
        out += np.where(seen, model.decision_function(X), 0.0)
        counts += seen
    assert set(counts) == {2.0}
    return np.asarray(out / counts)


@pytest.mark.parametrize("name", ["logistic [jets]", "lightgbm"])
def test_unseen_scores_are_those_the_run_stored(run: Path, events: Events, name: str) -> None:
    stored = pl.read_parquet(run / "scores.parquet")
    assert stored["EventId"].to_list() == events.event_id.tolist()
    fitted = fitted_run(run)
    found = fitted.unseen(name, events.event_id)(events.frame)
    np.testing.assert_allclose(found, stored[f"score:{name}"].to_numpy(), rtol=0, atol=1e-6)
    some = np.arange(7, 200, 3)
    part = fitted.unseen(name, events.event_id[some])(events.frame[some])
    np.testing.assert_allclose(part, found[some], rtol=0, atol=1e-6)


def test_seen_scores_are_the_mean_over_the_models_that_saw_the_event(run: Path, events: Events) -> None:
    fitted = fitted_run(run)
    found = {n: fitted.in_sample(n, events.frame, events.event_id) for n in ("logistic [jets]", "lightgbm", "xgboost")}
    for name in ("logistic [jets]", "lightgbm"):
        np.testing.assert_allclose(found[name], by_hand(run, events, name), rtol=0, atol=1e-6)
    raw, calibrated = by_hand(run, events, "xgboost"), found["xgboost"]
    slope, intercept = np.polyfit(raw, calibrated, 1)
    np.testing.assert_allclose(calibrated, slope * raw + intercept, atol=1e-9)
    assert abs(slope - 1.0) > 1e-3
    assert fitted.blended({"lightgbm": found["lightgbm"]}) is None
    blended = fitted.blended(found)
    assert blended is not None
    np.testing.assert_allclose(blended, np.mean(list(found.values()), axis=0), atol=1e-9)


def test_contributions_of_stored_trees_add_up(run: Path, events: Events) -> None:
    fitted = fitted_run(run)
    names, values, parts = fitted.contributions("lightgbm", events.frame, events.event_id)
    assert "DER_mass_MMC" not in names
    assert values.shape == parts.shape == (len(events), len(names))
    rest = fitted.unseen("lightgbm", events.event_id)(events.frame) - parts.sum(axis=1)
    assert len(set(np.round(rest, 6))) == 3  # what is left is one constant per fold model
    with pytest.raises(ModelError, match="not a boosted-tree model"):
        fitted.contributions("logistic [jets]", events.frame, events.event_id)


def test_a_refit_has_seen_everything(training_only: Path, events: Events, tmp_path: Path) -> None:
    folder = make_run(training_only, tmp_path, "test_prediction: refit")
    fitted = fitted_run(folder)
    with pytest.raises(StoreError, match="have seen all training events"):
        fitted.unseen("lightgbm", events.event_id)
    seen = fitted.in_sample("lightgbm", events.frame, events.event_id)
    expected = predict(folder, training_only, model="lightgbm")["score"].to_numpy()
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(fitted.held_out("lightgbm").scores(events.frame), expected)
    _, _, parts = fitted.contributions("lightgbm", events.frame, events.event_id)
    assert np.ptp(seen - parts.sum(axis=1)) < 1e-6


def test_what_is_not_there_is_said(training_only: Path, events: Events, tmp_path: Path) -> None:
    fitted = fitted_run(make_run(training_only, tmp_path, "store_models: false"))
    with pytest.raises(StoreError, match="the fitted models are not stored"):
        fitted.in_sample("lightgbm", events.frame, events.event_id)
    with pytest.raises(ConfigError, match="no trained row 'none'"):
        fitted.unseen("none", events.event_id)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("xgboost", {"n_estimators": 8, "max_depth": 3}),
        ("xgboost", {"n_estimators": 60, "learning_rate": 1.0, "early_stopping_rounds": 2, "bag": 2}),
        ("lightgbm", {"n_estimators": 8, "num_leaves": 7}),
        ("catboost", {"iterations": 8, "depth": 3}),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_contributions_and_the_rest_are_the_score(model: str, params: dict[str, Any], split: bool) -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(400, 4)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 3] = rng.integers(0, 2, 400)
    y = (np.nan_to_num(X[:, 0]) + rng.normal(size=400) > 0).astype(np.int64)
    spec = get_model(model)
    inner = build_estimator(spec, params, BuildContext(1, 1, ("a", "b", "c", "d")))
    reader = log_odds_reader(spec, params)
    estimator: Any = PhysicalClassifier(inner, log_odds=reader)
    if split:
        estimator = JetSplitClassifier(
            inner, group_feature=-1, groups=((0,), (1,)), keep_group_feature=False, log_odds=reader
        )
    estimator.fit(X, y, sample_weight=rng.uniform(0.5, 2.0, 400))
    found = tree_contributions(estimator, X)
    np.testing.assert_allclose(found.sum(axis=1), estimator.decision_function(X), atol=2e-5)
    assert np.abs(found[:, 0]).mean() > 3 * np.abs(found[:, 1]).mean()
    if split:
        assert not found[:, 3].any()  # the group decides which trees are asked, and adds nothing itself
