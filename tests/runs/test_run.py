"""Whole runs on small simulated events."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.document import parse_yaml
from higgsbench.errors import ConfigError, DataError
from higgsbench.runs import RunResult
from higgsbench.runs import run as trainable
from higgsbench.schema import N_B, N_S

from .conftest import Config, Notes, Register, scores
from .engines.misbehaving import Misbehaving

TIMINGS = ("fit_seconds", "predict_us", "peak_mb")


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


@pytest.fixture
def copied(whole: RunResult, tmp_path: Path) -> Path:
    """A copy of the finished run in the results folder `tmp_path`."""
    return Path(shutil.copytree(whole.folder, tmp_path / whole.folder.name))


class TestRun:
    def test_rows_and_files(self, whole: RunResult) -> None:
        names = [row["name"] for row in whole.rows]
        assert names == ["logistic", "logistic [jets]", "lightgbm", "lightgbm [jets]", "stack"]
        assert (whole.trained, whole.reused) == (12, 0)
        assert all(row["status"] == "ok" and row["ams_cv_se"] > 0 for row in whole.rows)
        assert all(0.6 < row["auc"] < 1.0 for row in whole.rows)
        found = {p.name for p in whole.folder.iterdir() if not p.name.startswith(".")}
        expected = {"config.yaml", "environment.json", "scores.parquet", "replicas.parquet", "stack.json", "rows.json"}
        assert found == expected | {"predictor.json", "units"}
        assert scores(whole)["EventId"].is_unique().all()
        assert scores(whole)["score:stack"].is_finite().all()
        stored = json.loads((whole.folder / "rows.json").read_text())["rows"]
        assert stored == whole.rows
        assert len(repr(stored[0]["ams_cv"])) > 10

    def test_folds_are_the_same_for_every_model(self, whole: RunResult) -> None:
        ids: dict[frozenset[int], int] = {}
        for file in (whole.folder / "units").glob("*.parquet"):
            key = frozenset(pl.read_parquet(file)["EventId"].to_list())
            ids[key] = ids.get(key, 0) + 1
        assert sorted(ids.values()) == [4, 4, 4]
        assert sum(len(k) for k in ids) == len(frozenset().union(*ids)) == scores(whole).height

    @pytest.mark.parametrize("fits", ["sound", "failing"])
    def test_rows_of_the_same_fit_share_it(self, tmp_path: Path, registered: Register, fits: str) -> None:
        mode = "constant" if fits == "sound" else "raise"
        registered("shared", lambda params, context: Misbehaving(mode), missing=True)
        data = {"source": "simulated", "events": 2000, "seed": 1}
        models = ["shared", {"model": "shared", "label": "twin"}, "logistic"]
        config = {"data": data, "models": models, "preset": "quick", "folds": 2, "stack": False}
        result = higgsbench.run(config, output=tmp_path, jobs=2)
        rows = {row["name"]: row for row in result.rows}
        same = ("status", "auc", "error", "fit_seconds")
        assert [rows["twin"].get(key) for key in same] == [rows["shared"].get(key) for key in same]
        assert rows["twin"]["status"] == ("ok" if fits == "sound" else "failed")
        assert result.trained == (4 if fits == "sound" else 2)

    def test_a_second_run_and_the_stored_configuration_train_nothing(self, whole: RunResult) -> None:
        content = parse_yaml((whole.folder / "config.yaml").read_text(), "x").value
        assert content["models"][0]["params"] == {"C": 0.1, "max_iter": 200}
        assert content["folds"] == 3
        for config in (whole.folder.with_name("small.yaml"), whole.folder / "config.yaml"):
            again = higgsbench.run(config, output=whole.folder.parent, jobs=1)
            assert (again.folder, again.trained, again.reused) == (whole.folder, 0, 12)
            assert again.rows == whole.rows

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_same_seed_same_bits(self, whole: RunResult, config: Config, tmp_path: Path, jobs: int) -> None:
        second = higgsbench.run(config(), output=tmp_path, jobs=jobs)
        assert scores(whole).equals(scores(second))
        assert scores(whole, "replicas.parquet").equals(scores(second, "replicas.parquet"))
        assert untimed(whole.rows) == untimed(second.rows)

    def test_all_six_models_same_bits_with_one_and_two_jobs(self, config: Config, tmp_path: Path) -> None:
        six = """
data: {{path: {data}}}
models: [logistic, random_forest, catboost, xgboost, lightgbm, mlp]
preset: quick
folds: 2
"""
        first = higgsbench.run(config(six), output=tmp_path / "a", jobs=1)
        second = higgsbench.run(config(six), output=tmp_path / "b", jobs=2)
        assert scores(first).equals(scores(second))

    def test_only_what_is_new_is_trained(self, config: Config, tmp_path: Path) -> None:
        higgsbench.run(config(), output=tmp_path, jobs=1, only=["lightgbm"])
        both = higgsbench.run(config(), output=tmp_path, jobs=1)
        assert (both.trained, both.reused) == (6, 6)

    @pytest.mark.parametrize(
        ("change", "trained", "kept"), [("seed=6", 12, ""), ("models.lightgbm.params.n_estimators=16", 6, "logistic")]
    )
    def test_a_change_never_reuses_a_score(
        self, whole: RunResult, config: Config, change: str, trained: int, kept: str
    ) -> None:
        second = higgsbench.run(config(), output=whole.folder.parent, jobs=1, settings=[change])
        assert (second.trained, second.reused) == (trained, 12 - trained)
        for name in ("logistic", "lightgbm"):
            same = scores(whole)[f"score:{name}"].equals(scores(second)[f"score:{name}"])
            assert same == (name == kept)

    @pytest.mark.parametrize("setting", ["cut=max", "stack.method=mean", "calibration=logit"])
    def test_what_comes_after_training_retrains_nothing(self, whole: RunResult, config: Config, setting: str) -> None:
        again = higgsbench.run(config(), output=whole.folder.parent, jobs=1, settings=[setting])
        assert again.trained == 0

    @pytest.mark.parametrize(("change", "reused"), [(0.001, 0), (0.0, 12)])
    def test_units_depend_on_the_content_of_the_file_only(
        self, whole: RunResult, config: Config, tmp_path: Path, training_only: Path, change: float, reused: int
    ) -> None:
        moved = tmp_path / "moved.parquet"
        pl.read_csv(training_only).with_columns(pl.col("PRI_tau_pt") + change).write_parquet(moved)
        again = higgsbench.run(config(), data=moved, output=whole.folder.parent, jobs=1)
        assert (again.reused, again.folder == whole.folder) == (reused, reused == 12)

    def test_repeats_of_a_model_under_two_labels(self, config: Config, tmp_path: Path) -> None:
        text = """
data: {{path: {data}}}
models:
  - {{model: lightgbm, label: small, params: {{n_estimators: 5}}}}
  - {{model: lightgbm, label: large, params: {{n_estimators: 25}}}}
folds: 2
repeats: 2
stack: false
"""
        result = higgsbench.run(config(text), output=tmp_path, jobs=1)
        assert [row["label"] for row in result.rows] == ["small", "large"]
        assert result.rows[0]["auc"] != result.rows[1]["auc"]
        frame = scores(result)
        assert frame["repeat"].unique().sort().to_list() == [0, 1]
        first, second = (frame.filter(pl.col("repeat") == r)["fold"] for r in (0, 1))
        assert not first.equals(second)

    @pytest.mark.parametrize("weights", ["balanced", "sqrt_balanced", "physical", "none"])
    def test_all_training_weights_end_in_physical_totals(self, config: Config, tmp_path: Path, weights: str) -> None:
        options = [f"training_weights={weights}", "stack=false"]
        result = higgsbench.run(config(), output=tmp_path, jobs=1, only=["logistic"], settings=options)
        frame = scores(result)
        w, f = frame["weight"].to_numpy(), frame["score:logistic"].to_numpy()
        # A calibrated posterior predicts the total signal, sum w p = N_s; without the prior it would be 600 times that.
        assert np.sum(w / (1 + np.exp(-f))) == pytest.approx(np.sum(w[frame["signal"].to_numpy()]), rel=0.8)


class TestHeldOut:
    def test_metrics_are_of_the_frozen_cut_on_held_out_events(self, config: Config, toys: Path, tmp_path: Path) -> None:
        result = higgsbench.run(config(data=toys), output=tmp_path, jobs=1)
        test = scores(result, "test_scores.parquet")
        truth = pl.read_csv(toys)
        assert test.height == truth["KaggleSet"].is_in(["b", "v"]).sum()
        joined = truth.filter(pl.col("KaggleSet") == "v").join(test, on="EventId", validate="1:1")
        y = (joined["Label"] == "s").to_numpy()
        w = higgsbench.evaluation_weights(y, joined["KaggleWeight"].to_numpy(), N_S, N_B)
        for row in result.rows:
            assert {"ams_test", "ams_public", "ams_public_se"} <= set(row)
            keep = (joined[f"score:{row['name']}"] >= row["threshold"]).to_numpy()
            assert higgsbench.ams(w[keep & y].sum(), w[keep & ~y].sum()) == pytest.approx(row["ams_private"], rel=1e-9)

    def test_refit_scores_differ_out_of_fold_scores_do_not(self, config: Config, toys: Path, tmp_path: Path) -> None:
        mean, refit = (
            higgsbench.run(config(data=toys, test_prediction=how), output=tmp_path, jobs=1, only=["lightgbm"])
            for how in ("fold_mean", "refit")
        )
        assert scores(mean).equals(scores(refit))
        assert not scores(mean, "test_scores.parquet").equals(scores(refit, "test_scores.parquet"))

    def test_unlabelled_test_file(self, config: Config, toys: Path, tmp_path: Path) -> None:
        unlabelled = tmp_path / "test.csv"
        rest = pl.read_csv(toys).filter(pl.col("KaggleSet") == "v")
        rest.drop("KaggleSet", "KaggleWeight", "Weight", "Label").write_csv(unlabelled)
        result = higgsbench.run(config(), test=unlabelled, output=tmp_path, jobs=1, only=["logistic"])
        assert "ams_test" not in result.rows[0]
        assert scores(result, "test_scores.parquet").height == rest.height

    def test_a_test_file_of_training_events_is_refused(
        self, config: Config, training_only: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=r"are also training events, e\.g\. EventId 10000000"):
            higgsbench.run(config(), test=training_only, output=tmp_path, jobs=1)

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("data.train_sets=[u]", "has no events of u"),
            ("data.train_sets=[x]", "no set named 'x'"),
            ("data.train_sets=[]", "the list is empty"),
            ("data.test_sets=[t]", "is in train_sets and in test_sets"),
            ("jet_groups=[[0],[1]]", "which belong to no group"),
            ("folds=90", "need at least 90 signal"),
            ("features=[DER_mass_MCM]", "did you mean 'DER_mass_MMC'"),
            ("stack.members=[xgboost]", "no row named 'xgboost'"),
            ("models.lightgbm.params.num_leafs=3", "did you mean 'num_leaves'"),
        ],
    )
    def test_impossible_choices(self, config: Config, toys: Path, tmp_path: Path, setting: str, message: str) -> None:
        events = tmp_path / "few.csv"
        pl.read_csv(toys).head(400).write_csv(events)
        with pytest.raises((ConfigError, higgsbench.HiggsbenchError), match=message):
            higgsbench.run(config(data=events), output=tmp_path, jobs=1, settings=[setting])


class TestFailures:
    def test_constant_model_has_numbers(self, config: Config, tmp_path: Path, registered: Register) -> None:
        registered("constant", lambda params, context: Misbehaving("constant"), missing=True)
        text = "data: {{path: {data}}}\nmodels: [constant]\nfolds: 2\n"
        (row,) = higgsbench.run(config(text), output=tmp_path, jobs=1).rows
        assert row["auc"] == pytest.approx(0.5)
        assert row["fraction"] == pytest.approx(1.0)
        assert row["ams_cv"] == pytest.approx(1.079073517320, rel=1e-9)

    def test_failed_units_are_tried_again_if_asked(self, config: Config, tmp_path: Path, registered: Register) -> None:
        switch = tmp_path / "works"
        registered(
            "moody", lambda params, context: Misbehaving("constant" if switch.exists() else "raise"), missing=True
        )
        text = "data: {{path: {data}}}\nmodels: [{{model: logistic, preset: quick}}, moody]\nfolds: 2\n"
        assert len(higgsbench.run(config(text), output=tmp_path, jobs=1).failures) == 2
        switch.touch()
        heard = Notes()
        kept = higgsbench.run(config(text), output=tmp_path, jobs=1, listener=heard)
        assert (kept.trained, kept.reused) == (0, 2)
        assert [failure.message for failure in kept.failures] == ["RuntimeError: the model broke"] * 2
        assert heard.lines == ["2 units failed before and will not be trained again; use --retry-failed to do so"]
        assert kept.rows[-1]["status"] == "failed"
        again = higgsbench.run(config(text), output=tmp_path, jobs=1, retry_failed=True)
        assert (again.trained, again.reused, again.failures) == (2, 2, [])
        assert not list(again.folder.glob("units/*.error.txt"))

    def test_nothing_works(self, config: Config, tmp_path: Path, registered: Register) -> None:
        registered("broken", lambda params, context: Misbehaving("raise"), missing=True)
        with pytest.raises(ConfigError, match="no row could be computed"):
            higgsbench.run(config("data: {{path: {data}}}\nmodels: [broken]\n"), output=tmp_path, jobs=1)


def test_a_unit_without_its_marker_does_not_count(
    copied: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    min((copied / "units").glob("*.json")).unlink()
    (copied / "rows.json").unlink()
    monkeypatch.setattr("higgsbench.runs.engines.local.Slot.run", None)  # a single unit starts no process
    again = higgsbench.run(config(), output=tmp_path, jobs=2)
    assert (again.trained, again.reused) == (1, 11)


def test_parameters_are_judged_for_training(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    monkeypatch.setattr(trainable, "probe_parameters", lambda spec, *_: judged.append(spec.name))
    for _ in range(2):
        higgsbench.run(config(), output=tmp_path / "out", jobs=1)
    assert judged == ["logistic", "lightgbm"]


def test_parts_of_a_run(config: Config, whole: RunResult, tmp_path: Path) -> None:
    how: dict[str, Any] = {"output": tmp_path / "out", "jobs": 1}
    parts = [higgsbench.run(config(), part=f"{k}/5", **how) for k in range(1, 6)]
    assert [part.rows for part in parts] == [[]] * 5
    trained = [part.trained for part in parts]
    assert max(trained) - min(trained) <= 1
    assert not list(parts[0].folder.glob("*.parquet"))
    assert higgsbench.run(config(), part="2/5", **how).reused == trained[1]
    result = higgsbench.run(config(), **how)
    assert (result.trained, result.reused) == (0, sum(trained))
    assert scores(result).equals(scores(whole))


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/0", "-1/2", "a/b"])
def test_parts_that_are_none(config: Config, tmp_path: Path, part: str) -> None:
    with pytest.raises(ConfigError, match=f"^--part {part}: write K/N with K from 1 to N, such as 3/20$"):
        higgsbench.run(config(), output=tmp_path, part=part)
    with pytest.raises(ConfigError, match=r"^--part trains a fixed share of the run: leave out --time-limit$"):
        higgsbench.run(config(), output=tmp_path, part="1/2", time_limit="1h")
