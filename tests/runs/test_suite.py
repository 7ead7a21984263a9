"""Suites from end to end: data sets are ordinary runs, which are reused; limits, plans and bad configurations."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import higgsbench
from higgsbench.api import suites
from higgsbench.compare.suite import SuiteResult
from higgsbench.config.load import LoadedConfig
from higgsbench.errors import ConfigError, TimeLimitError
from higgsbench.runs import RunResult
from higgsbench.runs.run import run_config
from higgsbench.schema import ATLAS_HIGGS
from tests.conftest import Call

from .conftest import Notes

SUITE = """
datasets:
  toys: {source: simulated, events: 800, seed: 3, set_proportions: {t: 1}}
  heavy: {source: simulated, events: 800, seed: 4, higgs_mass: 145, set_proportions: {t: 1}}
models: [{model: logistic, params: {max_iter: 20}}, {model: lightgbm, params: {n_estimators: 5}}]
preset: quick
folds: 2
seed: [1, 2]
store_models: false
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "mine.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def found(place: Path, tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        return higgsbench.suite(place / "mine.yaml", output=place / "results", jobs=1)


def test_each_data_set_is_an_ordinary_run(place: Path, found: SuiteResult) -> None:
    assert [folder.name[:-9] for folder in (run.folder for run in found.runs.values())] == ["toys", "heavy"]
    assert found.to_polars().height == 2 * 3 * 2  # data sets, rows, seeds
    about = found.as_tables()[0]
    assert about.rows[1][:4] == ["heavy", "800", "0", "1, 2"]
    assert str(about.rows[1][4]).startswith("TOY SIMULATION, events: 800, seed: 4, higgs_mass: 145.0, ")
    assert about.rows[1][5] == found.runs["heavy"].folder.name
    assert [r.metric.name for r in found.rankings] == ["ams", "auc", "log_loss"]
    board = higgsbench.Leaderboard.read(place / "results")
    assert len(board.tables) == 2
    row = board.tables[0].rows[0]
    own = found.to_polars().filter(pl.col("row") == row["name"], dataset=row["run"][:-9])
    assert own["ams_cv"].mean() == pytest.approx(row["ams_cv"])
    single = {"data": {"source": "simulated", "events": 800, "seed": 3, "set_proportions": {"t": 1}}, "folds": 2,
              "models": [{"model": "lightgbm", "params": {"n_estimators": 5}}], "preset": "quick", "seed": 2,
              "store_models": False}  # fmt: skip
    assert higgsbench.run(single, output=place / "results", jobs=1).reused == 2


def test_a_suite_continues_where_it_stopped(place: Path, found: SuiteResult) -> None:
    again = higgsbench.suite(place / "mine.yaml", output=place / "results", jobs=1)
    assert [run.trained for run in again.runs.values()] == [0, 0]
    assert again.records() == found.records()
    assert again.rankings[0].standings == found.rankings[0].standings
    notes = Notes()
    more = ["datasets.heavy.seed=5"]
    part = higgsbench.suite(
        place / "mine.yaml", output=place / "results", jobs=1, only=["lightgbm"], settings=more, listener=notes
    )
    assert [run.trained for run in part.runs.values()] == [0, 4]
    assert "data set heavy, 2 of 2" in notes.lines
    assert part.rankings == ()  # a single row


def test_the_plan_counts_what_is_stored(place: Path, found: SuiteResult) -> None:
    forecast = suites.plan_suite(place / "mine.yaml", output=place / "results", jobs=1, settings=["seed=[1, 2, 3]"])
    assert [(row.name, row.units, row.stored) for row in forecast.rows] == [("toys", 12, 8), ("heavy", 12, 8)]
    assert forecast.events == 1600


def test_a_time_limit_leaves_out_data_sets(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeLimitError, match="data set heavy is left out: --time-limit"):
        higgsbench.suite(place / "mine.yaml", output=tmp_path, jobs=1, time_limit=0.01)
    ordinary = run_config

    def slow(loaded: LoadedConfig, *args: Any, **how: Any) -> RunResult:
        if loaded.config.name == "heavy":
            raise TimeLimitError("no time")
        return ordinary(loaded, *args, **how)

    monkeypatch.setattr(suites, "run_config", slow)
    found = higgsbench.suite(place / "mine.yaml", output=place / "results", jobs=1, time_limit="10m")
    assert list(found.runs) == ["toys"]
    assert found.notes[0] == "data set heavy is left out: no time"


def test_the_command(call: Call, place: Path, found: SuiteResult, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["suite", place / "mine.yaml", "--output", place / "results", "-j", "1"]
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call(*command, "-q", "--splits", "splits.csv")
    assert (code, err) == (0, "Wrote splits.csv\n")
    assert pl.read_csv("splits.csv").equals(found.to_polars())
    assert "AMS over 2 data sets" in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(call(*command, "--format", "json")[1])["datasets"].keys() == {"toys", "heavy"}
    if find_spec("mplhep"):
        assert "<title>higgsbench suite</title>" in call(*command, "--format", "html")[1]
    forecast = call(*command, "--plan")[1]
    assert "data set ┃" in forecast
    assert "predicted" in forecast
    code, out, err = call(*command, "--splits", "splits.txt")
    assert (code, out) == (2, "")
    assert "--splits splits.txt: the name must end in .csv, .json, .parquet" in err


M = "models: [logistic]\n"
WRONG = {
    "no `datasets`: add the data sets": M,
    "3: datasets.b.path: none.csv: no such file": M + "datasets:\n  b: {path: none.csv}\n",
    "2: data: `data` cannot be combined with `datasets`": M + "data: {path: a.csv}\ndatasets: {b: {path: a.csv}}\n",
    "2: datasets: name at least one data set": M + "datasets: {}\n",
    "2: datasets: name '../b': use 1 to 60 letters": M + "datasets: {../b: {path: a.csv}}\n",
    "3: datasets.b: no events given; name a file": M + "datasets:\n  b: {train_sets: [t]}\n",
    "4: datasets.b: other.csv: the columns (a, Label) match no built-in": M
    + "datasets:\n  a: {source: simulated}\n  b: {path: other.csv}\n",
    "3: datasets.b: new.csv: no column Label: cannot train": M + "datasets:\n  b: {path: new.csv}\n",
    "3: datasets.b: bad.yaml:1: models[0]: features: no column named 'PRI_tau_ptt'": (
        "models: [{model: logistic, features: [PRI_tau_ptt]}]\ndatasets:\n  b: {source: simulated}\n"
    ),
    "1: spectators[0]: no column named 'DER_mas_MMC' (did": (
        "spectators: [DER_mas_MMC]\nmodels: [logistic]\ndatasets: {b: {source: simulated}}\n"
    ),
    "2: datasets.b.mass: unknown key 'mass'": M + "datasets: {b: {mass: 1}}\n",
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_suites(message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(WRONG[message])
    (tmp_path / "other.csv").write_text("a,Label\n1,s\n")
    (tmp_path / "new.csv").write_text(f"EventId,{','.join(ATLAS_HIGGS.features)}\n")
    with pytest.raises(ConfigError) as caught:
        higgsbench.suite("bad.yaml", output=tmp_path)
    assert message in str(caught.value)


def test_a_setting_makes_no_new_data_set(place: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--set datasets.heavi.events=9: no data set 'heavi'; choose from toys, heavy"
    ):
        suites.plan_suite(place / "mine.yaml", settings=["datasets.heavi.events=9"])


def test_a_suite_is_not_a_run(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml:2: datasets: .* run them with `higgsbench suite`"):
        higgsbench.run(place / "mine.yaml")
