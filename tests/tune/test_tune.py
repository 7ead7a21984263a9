"""Studies of one model on a few simulated events."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import higgsbench
from higgsbench import models
from higgsbench.api.running import load_run_config
from higgsbench.config.document import parse_yaml
from higgsbench.errors import ConfigError, HiggsbenchError, MissingExtraError, ModelError, StoreError
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.models import ModelSpec
from higgsbench.runs.dataset import load_dataset
from higgsbench.tune import TuneResult, TuneSettings
from higgsbench.tune.nested import Search, tune
from tests.conftest import Call

pytest.importorskip("optuna", reason="the extra `tune` is not installed")

Config = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated(SimulationSettings(events=2400, seed=3), tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture
def config(tmp_path: Path, toys: Path) -> Config:
    def write(model: str = "model: logistic, preset: quick", folds: int = 3, seed: int = 42) -> Path:
        target = tmp_path / "small.yaml"
        target.write_text(f"data: {{path: {toys}}}\nmodels: [{{{model}}}]\nfolds: {folds}\nseed: {seed}\n")
        return target

    return write


SMALL = TuneSettings("logistic", trials=3, outer=0, inner=2)


def study(config: Path, output: Path, settings: TuneSettings = SMALL, **changes: Any) -> TuneResult:
    return tune(load_run_config(config), dataclasses.replace(settings, **changes), output)


def told(result: TuneResult) -> list[tuple[Any, ...]]:
    return [(record.state, record.value, record.values) for record in result.trials]


class Clock:
    """A clock that only the fits of a `Knob` move on."""

    now = 0.0


class Knob:
    """A classifier as good as its knob says; it fails if that is turned too far."""

    def __init__(self, knob: float = 0.0, number: int = 1) -> None:
        self.knob, self.number = knob, number

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"knob": self.knob, "number": self.number}

    def set_params(self, **params: Any) -> Knob:
        self.__dict__.update(params)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Knob:
        if self.knob > 0.7:
            raise RuntimeError("the knob is turned too far")
        Clock.now += 0.1 * self.number
        return self

    def decision_function(self, X: Any) -> Any:
        return self.knob * np.nan_to_num(X[:, 0]) / 100 + 1e-3 * np.nan_to_num(X[:, 1]) / 100


@pytest.fixture
def knob() -> Iterator[None]:
    before = dict(models._MODELS._records) if models._MODELS._loaded else None
    distributions = pytest.importorskip("optuna.distributions")
    space = {"knob": distributions.FloatDistribution(0.0, 1.0), "number": distributions.IntDistribution(1, 3)}
    start = {"knob": 0.1, "number": 1}
    plain = ModelSpec("plain", lambda params, context: Knob(**params), missing=True)
    higgsbench.register_model(plain)
    higgsbench.register_model(dataclasses.replace(plain, name="knob", search_space=lambda: space, defaults=start))
    yield
    models._MODELS._records.clear()
    models._MODELS._loaded = before is not None
    models._MODELS._records.update(before or {})


def test_the_study_begins_with_the_configuration_and_writes_one_that_runs(config: Config, tmp_path: Path) -> None:
    result = study(config(), tmp_path / "studies")
    assert result.trials[0].values == {"C": 0.1, "degree": 1}
    assert result.best.value == min(record.value for record in result.trials if record.value is not None)
    assert len(result.trials) == 3
    text = result.config_file.read_text()
    assert text.startswith("# Parameters of logistic found by higgsbench tune")
    assert result.data_digest in text
    assert "No nested score" in text
    (model,) = parse_yaml(text, "x").value["models"]
    assert {name: model["params"][name] for name in ("C", "degree")} == result.best.values
    (row,) = higgsbench.run(result.config_file, output=tmp_path / "runs", jobs=1).rows
    assert row["params"]["C"] == result.best.values["C"]


def test_the_nested_score_is_what_a_run_shows(config: Config, tmp_path: Path) -> None:
    """With all folds held out, the scores of the starting point and of the final parameters are those of runs."""
    path = config("model: logistic, params: {degree: 1, C: 0.0001}")
    result = study(path, tmp_path / "studies", outer=3)
    assert result.nested is not None
    assert len(result.nested.chosen) == 3
    begun = higgsbench.run(path, output=tmp_path / "runs", jobs=1).rows[0]
    tuned = higgsbench.run(result.config_file, output=tmp_path / "runs", jobs=1).rows[0]
    for found, row in ((result.nested.start, begun), (result.nested.final, tuned)):
        assert found["auc"].value == pytest.approx(row["auc"], rel=1e-12)
        assert found["log_loss"].value == pytest.approx(row["log_loss"], rel=1e-12)
        assert found["ams"].value == pytest.approx(row["ams_cv"], rel=1e-12)
    gain, own, start = (getattr(result.nested, name)["auc"] for name in ("gain", "nested", "start"))
    assert gain.value == pytest.approx(own.value - start.value)
    assert 0 < gain.se < own.se, "paired on the same events"
    assert json.loads(json.dumps(result.as_json()))["nested"]["gain"]["auc"]["value"] == gain.value


def test_a_nested_study_never_sees_its_fold(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}
    original = Search.run

    def watched(self: Any, *args: Any) -> Any:
        seen[self.name] = set(self.dataset.train.event_id.tolist())
        return original(self, *args)

    monkeypatch.setattr(Search, "run", watched)
    loaded = load_run_config(config())
    tune(loaded, dataclasses.replace(SMALL, outer=3), tmp_path / "studies")
    dataset = load_dataset(loaded.config)
    for fold in range(3):
        held_out = set(dataset.train.event_id[dataset.fold[0] == fold].tolist())
        assert seen[f"without fold {fold}"] == seen["final"] - held_out
        assert held_out <= seen["final"]


@pytest.mark.parametrize("objective", ["auc", "ams"])
def test_other_objectives(config: Config, tmp_path: Path, objective: str) -> None:
    result = study(config(), tmp_path, objective=objective)
    values = [record.value for record in result.trials if record.value is not None]
    assert result.best.value == max(values)
    assert 0.5 < max(values) < (1.0 if objective == "auc" else 10.0)


def test_weights_and_features_as_dimensions(config: Config, tmp_path: Path) -> None:
    vary = ["training_weights=sqrt_balanced,none", "features"]
    result = study(config(), tmp_path, vary=vary, outer=2, trials=4)
    kinds = {record.values["training_weights"] for record in result.trials}
    assert kinds <= {"balanced", "sqrt_balanced", "none"}
    assert result.trials[0].values["training_weights"] == "balanced", "the beginning is taken in"
    assert {record.values["features"] for record in result.trials} > {"raw"}
    assert result.nested is not None
    (model,) = parse_yaml(result.config_file.read_text(), "x").value["models"]
    assert model["training_weights"] == result.best.values["training_weights"]
    assert model["features"]["set"] == result.best.values["features"]


@pytest.mark.slow
def test_same_seed_same_study_and_a_longer_one_goes_on(config: Config, tmp_path: Path) -> None:
    whole = study(config(), tmp_path / "a", trials=5)
    first = study(config(), tmp_path / "b", trials=2)
    longer = study(config(), tmp_path / "b", trials=5)
    assert longer.folder == first.folder
    assert told(longer)[:2] == told(first)
    assert told(longer) == told(whole)
    assert told(study(config(seed=7), tmp_path / "c", trials=5)) != told(whole)


@pytest.mark.slow
def test_two_jobs(config: Config, tmp_path: Path) -> None:
    result = study(config(), tmp_path, trials=4, jobs=2)
    assert [record.state for record in result.trials if record.state == "failed"] == []
    assert len(result.trials) == 4


@pytest.mark.slow
def test_killed_and_begun_again_is_the_same_study(config: Config, tmp_path: Path) -> None:
    path, output = config(), tmp_path / "killed"
    command = [sys.executable, "-m", "higgsbench", "tune", str(path), "--model", "logistic", "--inner", "2"]
    command += ["--outer", "0", "--trials", "8", "--studies", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if sum(file.read_bytes().count(b'"values":[') for file in output.glob("*/journal-final.jsonl")) >= 2:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (journal,) = output.glob("*/journal-final.jsonl")
    with journal.open("ab") as stream:
        stream.write(b'{"op_code":6,"trial')  # what a kill in the middle of a line leaves
    again = study(path, output, trials=8)
    assert again.folder == journal.parent
    assert told(again) == told(study(path, tmp_path / "whole", trials=8))


@pytest.mark.usefixtures("knob")
class TestTrials:
    def test_failures_are_recorded_and_do_not_stop_the_study(self, config: Config, tmp_path: Path) -> None:
        result = study(config(), tmp_path, model="knob", trials=12)
        failed = [record for record in result.trials if record.state == "failed"]
        assert failed
        assert all(record.error == "RuntimeError: the knob is turned too far" for record in failed)
        assert all((record.values["knob"] > 0.7) == (record.state == "failed") for record in result.trials)
        assert f"{len(failed)} failed" in result.config_file.read_text()

    def test_all_fail(self, config: Config, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no trial could be completed; first failure: RuntimeError: the knob"):
            study(config("model: knob, params: {knob: 2.0}"), tmp_path, model="knob", trials=1)

    def test_trials_behind_the_median_are_broken_off(self, config: Config, tmp_path: Path) -> None:
        result = study(config(), tmp_path / "a", model="knob", trials=20)
        assert any(record.state == "pruned" for record in result.trials)
        assert all(record.value is None for record in result.trials if record.state != "complete")
        whole = study(config(), tmp_path / "b", model="knob", trials=20, prune=False)
        assert {record.state for record in whole.trials} == {"complete", "failed"}
        assert whole.importances
        assert sum(whole.importances.values()) == pytest.approx(1.0)

    @pytest.mark.parametrize(("limit", "nested"), [(13.0, True), (1.3, False)])
    def test_a_time_limit_is_kept(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, nested: bool
    ) -> None:
        monkeypatch.setattr(Clock, "now", 0.0)
        monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
        result = study(config(), tmp_path, model="knob", trials=100_000, time_limit=limit, outer=2)
        assert Clock.now <= limit * 1.1
        assert (result.nested is not None) == nested
        assert sum(record.state == "complete" for record in result.trials) >= 1

    def test_a_model_without_a_space(self, config: Config, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"'plain' has no search space: give ModelSpec\(search_space=...\)"):
            study(config(), tmp_path, model="plain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "xgbost"}, "--model xgbost: no model named 'xgbost' .did you mean 'xgboost'"),
        ({"outer": 1}, "--outer 1: give 0, or 2 to 3"),
        ({"outer": 4}, "--outer 4: give 0, or 2 to 3"),
        ({"inner": 900}, "folds: 900 folds need at least 900 signal events"),
        ({"vary": ["weights"]}, "--vary weights: only training_weights and features can vary"),
        ({"vary": ["features=raw,rare"]}, "'rare' is not one of raw, canonical, physics, momenta"),
        ({"vary": ["features=raw"]}, "give two or more different values"),
    ],
)
def test_choices_that_cannot_be(config: Config, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        study(config(), tmp_path / "studies", **changes)


def test_journals_that_cannot_be_continued(config: Config, tmp_path: Path) -> None:
    result = study(config(), tmp_path, trials=2)
    journal = result.folder / "journal-final.jsonl"
    kept = [line for line in journal.read_text().splitlines() if '"state":1' not in line]
    journal.write_text("\n".join(kept).replace(f'"process":{os.getpid()}', f'"process":{os.getppid()}') + "\n")
    with pytest.raises(StoreError, match=f"process {os.getppid()} is working on this study"):
        study(config(), tmp_path, trials=3)
    journal.write_text("\x80\x04 no json\n")
    with pytest.raises(StoreError, match=r"journal-final.jsonl: not a readable study journal"):
        study(config(), tmp_path, trials=3)


def test_without_optuna(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'higgsbench\[tune\]'"):
        study(config(), tmp_path)


class TestCommand:
    def test_table_and_file(self, config: Config, call: Call) -> None:
        path = config("model: logistic, params: {degree: 1, C: 0.00001}")
        options = ["--model", "logistic", "--trials", "5", "--inner", "2", "--outer", "2", "-o", "best.yaml"]
        code, out, err = call("tune", path, *options)
        assert code == 0
        for text in ("Best trials of logistic", "Importance: ", "nested - starting point", "higgsbench run best.yaml"):
            assert text in out
        assert "final: trial 5 of 5" in err
        assert "without fold 1: trial 1 of 5" in err
        assert parse_yaml(Path("best.yaml").read_text(), "x").value["models"][0]["model"] == "logistic"
        code, out, err = call("tune", path, *options, "--format", "json", "--quiet")
        assert (code, err) == (0, "")
        assert len(json.loads(out)["trials"]) == 5

    def test_nothing_better_is_said(self, config: Config, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        path = config(folds=2)
        options = ["--model", "logistic", "--trials", "2", "--inner", "2"]
        monkeypatch.setattr(TuneResult, "improved", False)
        code, out, _ = call("tune", path, *options)
        assert code == 0
        assert "On 2 held-out folds of the run" in out, "--outer follows the folds of the run"
        last = [" ".join(line.split()) for line in out.splitlines()[-2:]]
        assert "stored in studies/small-logistic-" in last[0]
        assert last[1].startswith(f"The study found no better parameters than those of {path}; studies/small-logistic-")
        assert "higgsbench run" not in out

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--time-limit", "soon"], "'soon' is not a duration"),
            (["-o", "nowhere/best.yaml"], "nowhere/best.yaml: cannot be written: nowhere does not exist"),
            (["-o", "..", "--model", "nothing"], "..: --output is a folder; name a file, e.g. ../tuned.yaml"),
            (["--model", "nothing"], "--model nothing: no model named 'nothing'"),
        ],
    )
    def test_bad_input(self, config: Config, call: Call, options: list[str], message: str) -> None:
        given = options if "--model" in options else ["--model", "logistic", *options]
        code, out, err = call("tune", config(), *given)
        assert (code, out) == (2, "")
        assert message in err
        assert not Path("studies").exists()
