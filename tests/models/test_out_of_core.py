"""Trees trained from a matrix on disk are those trained in memory."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.errors import ModelError
from higgsbench.models import BuildContext, get_model, out_of_core
from higgsbench.models.building import build_estimator, estimator_from_disk
from higgsbench.models.out_of_core import RowsOnDisk, Training
from higgsbench.models.scoring import fit_weighted, read_log_odds
from higgsbench.models.storage import read_model, write_model

PARAMS: dict[str, dict[str, Any]] = {
    "catboost": {"iterations": 12, "depth": 4, "learning_rate": 0.2, "border_count": 64},
    "lightgbm": {"n_estimators": 12, "num_leaves": 7, "learning_rate": 0.2, "subsample": 0.8, "subsample_freq": 1},
    "xgboost": {"n_estimators": 12, "max_depth": 4, "learning_rate": 0.2, "colsample_bytree": 0.5},
}
OLD_XGBOOST = int(importlib.metadata.version("xgboost").split(".")[0]) < 3
NEEDS = pytest.mark.skipif(OLD_XGBOOST, reason="XGBoost trains from disk since 3.0")
MODELS = ["catboost", "lightgbm", pytest.param("xgboost", marks=NEEDS)]
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bag of trees stopped early": {"early_stopping_rounds": 2, "validation_fraction": 0.2, "bag": 2},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_core, "BLOCK", 700)


@pytest.fixture
def events(tmp_path: Path) -> tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4000, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    np.save(tmp_path / "X.npy", X)
    y = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) ** 2 + rng.normal(size=4000) > 1.0
    rows = np.flatnonzero(rng.random(4000) < 0.7)
    data = RowsOnDisk(np.load(tmp_path / "X.npy", mmap_mode="r"), rows, np.array([0, 1, 3, 4]))
    return data, y[rows], rng.gamma(2.0, size=rows.size)


def test_lightgbm_samples_the_same_events_for_its_bins(
    events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    """Bins are chosen on a sample of the events; where there are more, memory and disk must sample the same."""
    data, y, w = events
    spec, context = get_model("lightgbm"), BuildContext(seed=3)
    params = {**PARAMS["lightgbm"], "bin_construct_sample_cnt": 500}
    X = data.values(slice(None))
    in_memory = fit_weighted(build_estimator(spec, params, context), X, y.astype(np.int64), w)
    from_disk = estimator_from_disk(spec, params, context, Training(data, y, w))
    whole = fit_weighted(build_estimator(spec, PARAMS["lightgbm"], context), X, y.astype(np.int64), w)
    expected, found, other = (read_log_odds(e, X, spec.log_odds) for e in (in_memory, from_disk, whole))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, other)


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("name", MODELS)
def test_same_scores_as_in_memory(
    name: str, extra: str, events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]]
) -> None:
    data, y, w = events
    spec, params, context = get_model(name), {**PARAMS[name], **EXTRAS[extra]}, BuildContext(seed=3)
    X = data.values(slice(None))
    in_memory = fit_weighted(build_estimator(spec, params, context), X, y.astype(np.int64), w)
    from_disk = estimator_from_disk(spec, params, context, Training(data, y, w))
    reader = None if "bag" in params else spec.log_odds
    expected, found = (read_log_odds(e, X, reader) for e in (in_memory, from_disk))
    # The bins come from all events either way, as there are fewer than the libraries sample.
    assert np.array_equal(found, expected)
    assert np.std(found) > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_what_was_trained_from_disk_is_stored(
    name: str, events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]], tmp_path: Path
) -> None:
    data, y, w = events
    spec = get_model(name)
    model = estimator_from_disk(spec, PARAMS[name], BuildContext(seed=3), Training(data, y, w))
    again = stored_again(model, tmp_path / "model.zip")
    X = data.values(slice(0, 50))
    assert np.array_equal(read_log_odds(again, X, spec.log_odds), read_log_odds(model, X, spec.log_odds))


def stored_again(model: Any, file: Path) -> Any:
    write_model(model, file)
    return read_model(file)


def test_other_models_cannot(events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]]) -> None:
    with pytest.raises(ModelError, match="'mlp' cannot be trained from disk"):
        estimator_from_disk(get_model("mlp"), {}, BuildContext(seed=1), Training(*events))


def test_old_versions_of_xgboost_are_refused(
    events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    xgboost = pytest.importorskip("xgboost")
    monkeypatch.delattr(xgboost, "ExtMemQuantileDMatrix", raising=False)
    with pytest.raises(ModelError, match=r"xgboost .* cannot train from disk; that needs version 3\.0"):
        estimator_from_disk(get_model("xgboost"), {}, BuildContext(seed=1), Training(*events))


@NEEDS
def test_nothing_is_left_behind(
    events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bins"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name, params in PARAMS.items():
        estimator_from_disk(get_model(name), params, BuildContext(seed=1), Training(*events))
    assert list(folder.iterdir()) == []


def test_too_few_events_to_put_some_aside(
    events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    data, y, w = events
    few = Training(data, y, w).chosen(np.array([np.argmax(y), np.argmin(y)]))
    with pytest.raises(ModelError, match="validation_fraction"):
        estimator_from_disk(get_model("lightgbm"), EXTRAS["bag of trees stopped early"], BuildContext(seed=1), few)


def test_class_weights_are_refused_where_they_would_be_lost(
    events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    with pytest.raises(ModelError, match="LightGBM cannot train from disk with class_weight"):
        estimator_from_disk(get_model("lightgbm"), {"class_weight": "balanced"}, BuildContext(1), Training(*events))


def test_a_model_of_ones_own_may(events: tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]]) -> None:
    def own(build: Any, params: Any, context: BuildContext, train: Training) -> tuple[int, int]:
        return len(train.data), context.seed

    spec = dataclasses.replace(get_model("mlp"), from_disk=own)
    assert estimator_from_disk(spec, {}, BuildContext(seed=9), Training(*events)) == (events[1].size, 9)
