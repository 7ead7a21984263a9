"""Stored runs predict what they scored, and a run from somebody else is safe to use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.neighbors import KNeighborsClassifier

import higgsbench
from higgsbench.api.scoring import predict, submission
from higgsbench.errors import StoreError
from higgsbench.events import load_events
from higgsbench.events.write import write_events
from higgsbench.files import file_digest, write_json, write_sealed
from higgsbench.runs import predict as predict_module
from higgsbench.runs import unit as blocks

from .conftest import Config, Notes, Register

pytestmark = pytest.mark.filterwarnings("ignore:.*the run was trained on:higgsbench.errors.HiggsbenchWarning")

CONFIG = """
data: {{path: {data}}}
models:
  - {{model: logistic, preset: quick, params: {{max_iter: 20}}}}
  - {{model: xgboost, params: {{n_estimators: 6, bag: 2}}, training_weights: sqrt_balanced, calibration: logit}}
  - {{model: lightgbm, params: {{n_estimators: 6}}, jet_split: none, features: {{drop: [DER_mass_MMC]}}}}
jet_split: both
folds: 2
stack: mean
"""


@pytest.fixture(scope="module")
def run(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "c.yaml").write_text(CONFIG.format(data=toys))
    return higgsbench.run(folder / "c.yaml", output=folder / "out", jobs=1).folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


class TestSameNumbers:
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_every_row_scores_as_the_run_did(self, run: Path, toys: Path, jobs: int) -> None:
        stored = pl.read_parquet(run / "test_scores.parquet")
        names = [column.removeprefix("score:") for column in stored.columns[1:]]
        assert names == ["logistic", "logistic [jets]", "xgboost", "xgboost [jets]", "lightgbm", "stack"]
        for name in names:
            found = predict(run, toys, model=name, jobs=jobs, subsets=["b", "v"])
            assert found.columns == ["EventId", "score", "selected"]
            assert found["EventId"].equals(stored["EventId"])
            np.testing.assert_array_equal(found["score"].to_numpy(), stored[f"score:{name}"].to_numpy(), name)
        assert predict(run, toys, subsets=["b", "v"], jobs=jobs)["score"].equals(stored["score:stack"].alias("score"))

    def test_blocks_change_no_score_of_trees(self, run: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = predict(run, toys, model="xgboost [jets]", jobs=2)
        monkeypatch.setattr(blocks, "BLOCK", 97)
        monkeypatch.setattr(predict_module, "BLOCK", 97)
        monkeypatch.setattr(predict_module, "_READ_BYTES", 10_000)
        assert predict(run, toys, model="xgboost [jets]", jobs=2).equals(whole)

    @pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "root"])
    @pytest.mark.parametrize("truth", ["none", "unknown label", "weight missing", "zero weights", "negative weights"])
    def test_truth_is_not_looked_at(self, run: Path, toys: Path, tmp_path: Path, ending: str, truth: str) -> None:
        if ending == "root":
            pytest.importorskip("uproot")
        whole = predict(run, toys, model="lightgbm", jobs=1)
        events = load_events(toys, cache=False).frame.drop("KaggleSet", "KaggleWeight")
        changed = {
            "none": events.drop("Label", "Weight"),
            "unknown label": events.with_columns(Label=pl.lit("?")),
            "weight missing": events.drop("Weight"),
            "zero weights": events.with_columns(Weight=0.0),
            "negative weights": events.with_columns(Weight=-1.0),
        }[truth]
        file = write_events(changed, tmp_path / f"test.{ending}")
        assert predict(run, file, model="lightgbm", jobs=1).equals(whole)
        assert submission(run, file, model="lightgbm", jobs=1)["EventId"].equals(whole["EventId"])

    def test_the_stack_is_read_from_its_own_file_and_only_when_needed(self, copied: Path, toys: Path) -> None:
        whole, rows = predict(copied, toys, jobs=1), json.loads((copied / "rows.json").read_text())
        content = json.loads((copied / "predictor.json").read_text())
        write_json(copied / "predictor.json", {**content, "stack": {"method": "mean"}})  # as earlier versions wrote it
        del rows["seal"]
        rows["checksums"]["predictor.json"] = file_digest(copied / "predictor.json")
        write_sealed(copied / "rows.json", rows)
        assert predict(copied, toys, jobs=1).equals(whole)
        (copied / "stack.json").unlink()
        assert predict(copied, toys, model="lightgbm", jobs=1).height == whole.height

    def test_selected_is_at_or_above_the_frozen_cut(self, run: Path, toys: Path) -> None:
        rows = {row["name"]: row for row in json.loads((run / "rows.json").read_text())["rows"]}
        found = predict(run, toys, jobs=1)
        assert (found["selected"] == (found["score"] >= rows["stack"]["threshold"])).all()
        assert found["selected"].any()

    def test_submission(self, run: Path, toys: Path) -> None:
        table = submission(run, toys, jobs=1)
        scores = predict(run, toys, jobs=1, subsets=["b", "v"])
        assert (table["Class"] == "s").equals(scores["selected"].alias("Class"))
        assert table.sort("RankOrder")["EventId"].equals(scores.sort("score", "EventId")["EventId"])

    def test_refit(self, config: Config, toys: Path, tmp_path: Path) -> None:
        file = config(CONFIG, data=toys, test_prediction="refit")
        folder = higgsbench.run(file, output=tmp_path, jobs=1, only=["lightgbm"]).folder
        assert len(list(folder.glob("units/*.model.zip"))) == 1
        stored = pl.read_parquet(folder / "test_scores.parquet")["score:lightgbm"].alias("score")
        assert predict(folder, toys, jobs=1, subsets=["b", "v"])["score"].equals(stored)

    def test_refit_without_held_out_events(self, config: Config, training_only: Path, tmp_path: Path) -> None:
        file = config(CONFIG, test_prediction="refit")
        result = higgsbench.run(file, output=tmp_path, jobs=1, only=["lightgbm"])
        assert result.trained == 3
        assert result.rows[0]["predict_us"] > 0
        assert predict(result.folder, training_only, jobs=1)["score"].is_finite().all()


class TestWhatIsStored:
    def test_without_models_then_with(self, config: Config, toys: Path, tmp_path: Path) -> None:
        file = config(CONFIG, data=toys)
        options: dict[str, Any] = {"output": tmp_path / "out", "jobs": 1, "only": ["lightgbm"]}
        bare = higgsbench.run(file, settings=["store_models=false"], **options)
        assert not list(bare.folder.glob("units/*.model.zip"))
        with pytest.raises(StoreError, match="run the same configuration again with `store_models: true`"):
            predict(bare.folder, toys)
        again = higgsbench.run(file, settings=["store_models=false"], **options)
        assert again.trained == 0
        full = higgsbench.run(file, **options)
        assert (full.folder, full.trained) == (bare.folder, 2)
        assert predict(full.folder, toys, jobs=1).height == 2400
        for settings in (["store_models=false"], []):
            assert higgsbench.run(file, settings=settings, **options).trained == 0
        assert list(full.folder.glob("units/*.model.zip")), "models once stored stay"

    def test_a_lost_or_damaged_model_is_made_again(self, config: Config, toys: Path, tmp_path: Path) -> None:
        file = config(CONFIG, data=toys)
        options: dict[str, Any] = {"output": tmp_path / "out", "jobs": 1, "only": ["lightgbm"]}
        folder = higgsbench.run(file, **options).folder
        first, second = sorted(folder.glob("units/*.model.zip"))
        content = first.read_bytes()
        first.unlink()
        damaged = bytearray(second.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        second.write_bytes(damaged)
        assert higgsbench.run(file, **options).trained == 2
        assert first.read_bytes() == content

    def test_taken_over_with_the_unit(self, config: Config, toys: Path, tmp_path: Path) -> None:
        file = config(CONFIG, data=toys)
        one = higgsbench.run(file, output=tmp_path / "out", jobs=1, only=["lightgbm"])
        both = higgsbench.run(file, output=tmp_path / "out", jobs=1, settings=["cut=max"])
        assert both.reused == 2
        shutil.rmtree(one.folder)
        assert predict(both.folder, toys, model="lightgbm", jobs=1).height == 2400

    def test_a_model_without_safe_form_keeps_its_scores(self, toys: Path, tmp_path: Path, registered: Register) -> None:
        registered("neighbours", lambda params, context: Neighbours(), sample_weight=False)
        config = {"data": {"path": str(toys)}, "models": ["neighbours"], "folds": 2}
        heard = Notes()
        result = higgsbench.run(config, output=tmp_path, jobs=1, listener=heard)
        assert result.rows[0]["status"] == "ok"
        (note,) = heard.lines
        assert note.startswith("neighbours: its scores are stored, its fitted models are not, so ")
        assert higgsbench.run(config, output=tmp_path, jobs=1).trained == 0
        with pytest.raises(StoreError, match="model 'neighbours' was not stored: "):
            predict(result.folder, toys)


class Neighbours(KNeighborsClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """A class that higgsbench does not know, so that a stored object of it is not safe to read."""


@pytest.mark.parametrize("position", [0.0, 0.3, 0.6, 0.999])
def test_one_flipped_bit_is_refused(copied: Path, toys: Path, position: float) -> None:
    for file in copied.glob("units/*.model.zip"):
        content = bytearray(file.read_bytes())
        content[int(position * len(content))] ^= 4
        file.write_bytes(content)
    with pytest.raises(StoreError, match=r"model.zip: damaged: its checksum is not the one in"):
        predict(copied, toys, jobs=1)
