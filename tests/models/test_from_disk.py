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
from higgsbench.models import BuildContext, get_model, storage_codecs
from higgsbench.models import spec as model_spec
from higgsbench.models.building import build_estimator, estimator_from_disk, log_odds_reader
from higgsbench.models.estimators import fit_weighted, read_log_odds
from higgsbench.models.spec import RowsOnDisk, Training
from higgsbench.models.storage import BagCodec, read_model, write_model

PARAMS = {"n_estimators": 12, "max_depth": 4, "learning_rate": 0.2, "colsample_bytree": 0.5}
OLD_XGBOOST = int(importlib.metadata.version("xgboost").split(".")[0]) < 3
NEEDS = pytest.mark.skipif(OLD_XGBOOST, reason="XGBoost trains from disk since 3.0")
Events = tuple[RowsOnDisk, NDArray[np.bool_], NDArray[np.float64]]
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bag of trees stopped early": {"early_stopping_rounds": 2, "validation_fraction": 0.2, "bag": 2},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_spec, "BLOCK", 700)


@pytest.fixture
def events(tmp_path: Path) -> Events:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4000, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    np.save(tmp_path / "X.npy", X)
    y = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) ** 2 + rng.normal(size=4000) > 1.0
    rows = np.flatnonzero(rng.random(4000) < 0.7)
    data = RowsOnDisk(np.load(tmp_path / "X.npy", mmap_mode="r"), rows, np.array([0, 1, 3, 4]))
    return data, y[rows], rng.gamma(2.0, size=rows.size)


@NEEDS
@pytest.mark.parametrize("extra", EXTRAS)
def test_same_scores_as_in_memory_and_after_reading(
    extra: str, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bins").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "bins"))
    data, y, w = events
    spec, params, context = get_model("xgboost"), {**PARAMS, **EXTRAS[extra]}, BuildContext(seed=3)
    X = data.X[data.rows][:, [0, 1, 3, 4]]
    in_memory = fit_weighted(build_estimator(spec, params, context), X, y.astype(np.int64), w)
    from_disk = estimator_from_disk(spec, params, context, Training(data, y, w))
    assert list((tmp_path / "bins").iterdir()) == []
    codecs = (BagCodec(spec.log_odds), *storage_codecs(spec))
    write_model(from_disk, tmp_path / "model.zip", codecs)
    again = read_model(tmp_path / "model.zip", codecs)
    reader = log_odds_reader(spec, params)
    expected, *found = (read_log_odds(estimator, X, reader) for estimator in (in_memory, from_disk, again))
    # The bins come from all events either way, as there are fewer than the library samples.
    assert all(np.array_equal(scores, expected) for scores in found)
    assert np.std(expected) > 0.1


def test_other_models_and_old_versions_of_xgboost_cannot(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="'mlp' cannot be trained from disk"):
        estimator_from_disk(get_model("mlp"), {}, BuildContext(seed=1), Training(*events))
    xgboost = pytest.importorskip("xgboost")
    monkeypatch.delattr(xgboost, "ExtMemQuantileDMatrix", raising=False)
    with pytest.raises(ModelError, match=r"xgboost .* cannot train from disk; that needs version 3\.0"):
        estimator_from_disk(get_model("xgboost"), {}, BuildContext(seed=1), Training(*events))


def test_a_model_of_ones_own_may(events: Events) -> None:
    def own(build: Any, params: Any, context: BuildContext, train: Training) -> tuple[int, int]:
        return len(train.data), context.seed

    spec = dataclasses.replace(get_model("mlp"), from_disk=own)
    assert estimator_from_disk(spec, {}, BuildContext(seed=9), Training(*events)) == (events[1].size, 9)
