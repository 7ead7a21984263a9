"""The Python interface has the reach of the command line."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.api.running import load_run_config
from higgsbench.errors import ConfigError, DataError
from higgsbench.explore import explore
from higgsbench.metrics.estimates import METRICS
from higgsbench.runs import RunResult
from tests.conftest import Call


@pytest.fixture(scope="module")
def config(toys: Path) -> dict[str, Any]:
    lightgbm = {"model": "lightgbm", "params": {"n_estimators": np.int64(8)}}
    return {"data": {"path": toys}, "models": ["logistic", lightgbm], "preset": "quick", "folds": 2}


@pytest.fixture(scope="module")
def result(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        return higgsbench.run(config, output=folder / "results", jobs=1)


class TestMapping:
    def test_is_the_file_of_the_same_content(self, result: RunResult, toys: Path, tmp_path: Path) -> None:
        text = "models: [logistic, {model: lightgbm, params: {n_estimators: 8}}]\npreset: quick\nfolds: 2\n"
        (tmp_path / "run.yaml").write_text(f"data: {{path: {toys}}}\n{text}")
        again = higgsbench.run(tmp_path / "run.yaml", output=result.folder.parent, jobs=1)
        assert again.folder == result.folder
        assert again.trained == 0
        assert again.rows == result.rows

    def test_is_not_changed(self, config: dict[str, Any]) -> None:
        before = json.dumps(config, default=str)
        found = load_run_config(
            config, settings=["folds=7", "models.lightgbm.params.n_estimators=3"], only=["lightgbm"]
        )
        assert found.config.folds == 7
        assert found.config.models[0].params == {"n_estimators": 3}
        assert json.dumps(config, default=str) == before

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"modles": []}, "configuration: modles: unknown key.*models"),
            ({"models": ["nearest"]}, r"configuration: models\[0\].*: .*nearest"),
            ({"models": [{"model": "mlp", "params": {"f": len}}]}, r"models\[0\]\.params\.f: a builtin_function_or"),
            ({"data": {1: 2}}, "configuration: data.1: the key 1 must be text"),
            ({"name": b"x"}, "configuration: name: a bytes is not a plain value"),
        ],
    )
    def test_errors_name_the_key(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_run_config({"models": ["logistic"], **change})

    def test_errors_name_the_option(self, config: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="--set folds=1"):
            load_run_config(config, settings=["folds=1"])
        with pytest.raises(ConfigError, match="--only mlp: not in configuration, which has lightgbm, logistic"):
            load_run_config(config, only=["mlp"])

    def test_one_that_holds_itself(self) -> None:
        config: dict[str, Any] = {"models": ["logistic"]}
        config["data"] = config
        with pytest.raises(ConfigError, match="configuration: nested deeper than 50 levels"):
            load_run_config(config)


def test_a_result_is_one_line(result: RunResult) -> None:
    best = r"highest AMS cv \d\.\d+ ± \d\.\d+ \(\w+\)"
    assert re.fullmatch(f"<RunResult {result.folder}: 3 rows, {best}; 4 fits trained, 0 reused>", repr(result))
    failed = RunResult(result.folder, [{"status": "failed"}], 0, 0, [])
    assert repr(failed) == f"<RunResult {result.folder}: 0 rows; 0 fits trained, 0 reused>"


def test_results_show_tables_in_a_notebook(result: RunResult, toys: Path) -> None:
    board = higgsbench.Leaderboard.read(result.folder)
    comparison = higgsbench.compare_models(result, replicas=20)
    results: list[tuple[Any, str, int]] = [
        (result, "wAUC", 3),
        (board, "AMS cv", 3),
        (comparison, " against ", 3 * len(METRICS)),
        (higgsbench.stats(result, sigma_b=0.1), "shape Z(10%)", 3),
        (higgsbench.members(result), "gain in wAUC", 2),
        (explore(toys), "AUC ± s.e.", 60),
    ]
    for found, shown, rows in results:
        html, frame = found._repr_html_(), found.to_polars()
        assert shown in html
        assert "<script" not in html
        assert frame.height == rows
        assert pl.Object not in frame.dtypes
        assert re.fullmatch(f"<{type(found).__name__}.{{,300}}>", repr(found))
    assert [row["table"] for row in board.rows] == [1, 1, 1]
    assert board.to_polars()["ams_cv"].to_list() == [row["ams_cv"] for row in board.tables[0].rows]


def test_leaderboard(result: RunResult, call: Call) -> None:
    board = higgsbench.Leaderboard.read(result.folder)
    assert repr(board).startswith(f"<Leaderboard of {len(board.rows)} rows (TOY SIMULATION")
    options = ("--results", result.folder, "--format", "markdown", "--columns", "model,ams_cv")
    assert board.render("markdown", ["model", "ams_cv"]) == call("leaderboard", *options)[1]
    with pytest.raises(ConfigError, match="'table' is not one of markdown, csv, json, html"):
        board.render("table")


def test_submission_and_score(result: RunResult, toys: Path, call: Call) -> None:
    call("submit", result.folder, toys, "-o", "s.csv", "-j", 1)
    table = higgsbench.submission(result, toys, jobs=1)
    assert table.equals(pl.read_csv("s.csv"))
    scores = higgsbench.score(table, higgsbench.load_events(toys))
    assert [vars(s) for s in scores] == json.loads(call("score", "s.csv", toys, "--format", "json")[1])
    assert higgsbench.score("s.csv", toys) == scores
    predicted = higgsbench.predict(str(result.folder), toys, jobs=1, subsets=["b", "v"])
    assert (predicted["selected"] == (table["Class"] == "s")).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("Class"), "submission: .* events, columns .* expected EventId, RankOrder, Class"),
        (lambda t: t.clear(), "submission: 0 events"),
        (lambda t: t.with_columns(RankOrder=pl.lit(1)), "column RankOrder: '1' has occurred before"),
        (lambda t: t.with_columns(EventId=pl.col("EventId") + 0.5), "column EventId: .* is not a whole number"),
        (lambda t: t.with_columns(Class=pl.lit(None, dtype=pl.String)), "column Class: .* is neither s nor b"),
    ],
)
def test_a_table_is_checked_like_a_file(result: RunResult, toys: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        higgsbench.score(change(higgsbench.submission(result, toys, jobs=1)), toys)


def test_compare(result: RunResult, call: Call) -> None:
    found = higgsbench.compare_models(result, models=["lightgbm", "stack"], replicas=50)
    names = (f"{result.folder}:lightgbm", f"{result.folder}:stack")
    _, shown, _ = call("compare", *names, "--replicas", 50)
    assert str(found) == shown
    assert "&lt;" not in shown
    assert found.pair("lightgbm", "stack").differences["auc"].value < 0.1
    assert len(higgsbench.compare_models(result.folder, replicas=50).models) == 3
    one, all_rows = f"{result.folder.name}:stack", result.folder
    by_name = higgsbench.compare_models(one, all_rows, replicas=50, results=result.folder.parent)
    assert [m.name for m in by_name.models] == ["stack", "logistic", "lightgbm"]


def test_stats(result: RunResult, call: Call) -> None:
    found = higgsbench.stats(result, models=["stack"], sigma_b=[0.1], workspace=True)
    options = ("--model", "stack", "--sigma-b", 0.1, "--format", "json", "--workspace", "w.json")
    shown = json.loads(call("stats", result.folder, *options)[1])
    assert asdict(found.models[0].ams) == shown["models"][0]["ams"]
    assert found.workspace == json.loads(Path("w.json").read_text())
    assert higgsbench.stats(result, models=["stack"], sigma_b=0.1, workspace=True).workspace == found.workspace
    assert higgsbench.stats(result).workspace is None
    with pytest.raises(ConfigError, match="belong together"):
        higgsbench.stats(result, events="e.csv")
    with pytest.raises(ConfigError, match="choose it with --model"):
        higgsbench.stats(result, workspace=True)


@pytest.mark.parametrize(
    "command",
    [
        "stats RUN --model stack --workspace {}.json",
        "report RUN -o {}.html",
        "predict RUN TOYS -o {}.csv",
        "submit RUN TOYS -o {}.csv",
        "explore TOYS --html {}.html",
        "data simulate --events 100 -o {}.csv",
    ],
)
def test_files_are_written_to_folders_that_exist(result: RunResult, toys: Path, call: Call, command: str) -> None:
    if ".html" in command:
        pytest.importorskip("mplhep", reason="needs the extra 'report'")
    Path("a-file").write_text("")
    for folder, why in (("nowhere", "does not exist; create it first"), ("a-file", "is a file, not a folder")):
        words = command.format(f"{folder}/x").replace("RUN", str(result.folder)).replace("TOYS", str(toys)).split()
        code, _, err = call(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{folder}/x" in err
        assert why in err


def test_members(result: RunResult, call: Call) -> None:
    shown = json.loads(call("members", result.folder, "--format", "json")[1])
    found = higgsbench.members(result)
    assert [vars(member) for member in found.members] == shown["members"]


def test_tune(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    lines: list[str] = []
    choice: dict[str, Any] = {"trials": 2, "inner": 2, "outer": 0, "studies": tmp_path, "say": lines.append}
    found = higgsbench.tune_model(config, "logistic", time_limit="5m", **choice)
    assert len(found.trials) == 2
    assert lines
    assert repr(found).startswith("<TuneResult ")
    assert "Best trials of logistic" in found._repr_html_()
    assert {"number", "value", "C"} <= {*found.to_polars().columns}
    assert load_run_config(found.config_file, only=["logistic"]).config.models[0].params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "accuracy"}, "objective: 'accuracy' is not one of ams, auc, log_loss"),
        ({"trials": 0}, "trials: expected a whole number of at least 1, got .0"),
        ({"inner": 1}, "inner: 1 is less than 2"),
        ({"outer": -1}, "outer: -1 is less than 0"),
    ],
)
def test_what_cannot_be_tuned(config: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        higgsbench.tune_model(config, "logistic", studies=tmp_path, **change)
