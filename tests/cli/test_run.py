"""The commands run, leaderboard, models and environment as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from higgsbench import __version__
from higgsbench.cli.main import cli, config, data
from tests.conftest import Call

CONFIG = "models: [{model: logistic, preset: quick}, {model: lightgbm, params: {n_estimators: 10}}]\nfolds: 2\n"


@pytest.fixture(autouse=True)
def small(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)


def test_run_ends_with_the_leaderboard_and_the_path(call: Call, toys: Path) -> None:
    code, out, err = call("run", "small.yaml", "--data", toys, "--jobs", "1", "--time-limit", "30m")
    assert code == 0
    assert "TOY SIMULATION" in out
    assert re.search(r"Run stored in results/small-[0-9a-f]{8}\n$", out)
    assert "time limit 30 min: 2 of 2 rows are predicted to fit" in err
    assert "[4/4" in err
    assert "logistic: AMS cv" in err
    assert "Left out" not in err
    assert "\x1b" not in out + err


def test_options_of_a_run(call: Call, toys: Path, tmp_path: Path) -> None:
    options = ["--only", "lightgbm", "--set", "folds=3", "--preset", "quick", "--output", "elsewhere"]
    code, out, err = call("run", "small.yaml", "--data", toys, *options, "-q", "-j", "1")
    assert (code, err) == (0, "")
    assert "AMS cv" in out
    assert "logistic" not in out
    assert "3 folds" in out
    (folder,) = (tmp_path / "elsewhere").iterdir()
    (row,) = json.loads(call("leaderboard", folder, "--format", "json")[1])["tables"][0]["rows"]
    assert (row["preset"], row["params"]["num_leaves"]) == ("quick", 15)


def test_failures_are_named_and_exit_1(call: Call, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.runs.run.check_trainable", lambda *_: None)  # which would refuse it first
    (tmp_path / "bad.yaml").write_text(
        "models: [{model: logistic, preset: quick}, {model: lightgbm, params: {num_leaves: -3}}]\nfolds: 2\n"
    )
    code, out, err = call("run", "bad.yaml", "--data", toys, "-q", "-j", "1")
    assert code == 1
    assert "lightgbm (failed" in out
    assert "Failed: lightgbm: " in err
    assert "traceback in results/" in err


def test_models(call: Call) -> None:
    names = [row["name"] for row in json.loads(call("models", "--format", "json")[1])]
    assert {"logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp"} < set(names)
    good = json.loads(call("models", "--preset", "good", "--format", "json")[1])
    assert good[names.index("xgboost")]["parameters"]["max_depth"] == 5
    assert "xgboost" in call("models", "--preset", "good")[1]


def test_environment_and_version(call: Call) -> None:
    assert json.loads(call("environment", "--format", "json")[1])["higgsbench"] == __version__
    assert "polars" in call("environment")[1]
    assert call("--version")[:2] == (0, f"higgsbench, version {__version__}\n")


COMMANDS = [*cli.list_commands(Context(cli)), *(f"{g.name} {name}" for g in (config, data) for name in g.lazy)]


def test_help_has_an_example_and_imports_nothing_heavy() -> None:
    code = """
import sys
from higgsbench.cli.main import main
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit as done:
        assert done.code == 0
heavy = {"polars", "numpy", "sklearn", "xgboost", "lightgbm", "catboost", "pydantic", "rich", "ruamel", "pooch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    commands = ["", *COMMANDS, "export mlflow"]
    done = subprocess.run([sys.executable, "-c", code, *commands], check=True, capture_output=True, text=True)
    assert done.stdout.count("Example:  higgsbench ") == len(commands)


@pytest.mark.parametrize("name", ["report", "explore", "learning-curve", "suite"])
def test_every_command_with_figures_takes_their_formats(name: str, call: Call) -> None:
    command = cli.get_command(Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--figures", "--figure-format", "--dpi", "--style", "--label"} <= options
    for option in {"--format", "--figure-format"} & {o for p in command.params if p.name == "formats" for o in p.opts}:
        code, out, err = call(name, *([] if name == "explore" else ["x"]), option, "gif")
        assert (code, out) == (2, "")
        assert option in err
        assert "'gif': choose from png, pdf, svg" in err


@pytest.mark.parametrize("options", ["learning-curve quick --figures f", "suite --figures f", "suite --format html"])
def test_a_lack_of_drawing_libraries_is_found_before_training(
    call: Call, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setitem(sys.modules, "mplhep", None)
    code, out, err = call(*options.split())
    assert (code, out) == (2, "")
    assert "higgsbench[report]" in err
    assert not Path("results").exists()


def test_a_bug_keeps_its_traceback() -> None:
    code = """
from higgsbench.cli import main as module
import higgsbench.cli.tables as tables
def broken(*a, **k):
    raise ZeroDivisionError("a bug")
tables.models.callback = broken
module.main(["models"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_leaderboard_and_members(call: Call, toys: Path, tmp_path: Path) -> None:
    call("run", "small.yaml", "--data", toys, "-q", "-j", "1", "--set", "jet_split=both")
    rows = json.loads(call("leaderboard", "--format", "json")[1])["tables"][0]["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    csv = call("leaderboard", "--format", "csv")[1].splitlines()
    assert repr(rows[0]["ams_cv"]) in csv[1]
    markdown = call("leaderboard", "--format", "markdown", "--columns", "rank,model,ams_cv", "--sort", "log_loss")[1]
    assert markdown.splitlines()[2] == "| # | model | AMS cv |"
    (folder,) = (tmp_path / "results").glob("small-*")
    code, out, _ = call("members", folder)
    assert code == 0
    assert "logistic [jets] " in out  # once taken for a style and left out
    assert "gain in wAUC" in out
    found = json.loads(call("members", folder, "--format", "json")[1])
    names = ["logistic", "logistic [jets]", "lightgbm", "lightgbm [jets]"]
    assert sorted(m["name"] for m in found["members"]) == sorted(names)
    assert len(found["correlation"]) == 4


def test_members_of_what_has_none(call: Call, toys: Path, tmp_path: Path) -> None:
    code, out, err = call("members", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {tmp_path}: no finished run")
    call("run", "small.yaml", "--data", toys, "--jobs", "1", "--quiet", "--set", "stack=false", "--only", "logistic")
    folder = next((tmp_path / "results").glob("small-*"))
    code, _, err = call("members", folder)
    assert code == 2
    assert "has no stack" in err
    (folder / "stack.json").write_text('{"method": "mean", "members": [{"name": "a"}, {"name": "b"}]}')
    code, _, err = call("members", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "stack.json: damaged: its checksum differs from that in rows.json; run the configuration again" in err


def test_plan_predicts_and_trains_nothing(call: Call, toys: Path, tmp_path: Path) -> None:
    code, out, err = call("run", "small.yaml", "--data", toys, "-j", "1", "--plan", "--set", "jet_split=both")
    assert (code, err) == (0, "")
    assert "logistic [jets]" in out
    assert re.search(r"predicted .* with 1 process on \d+ training events, about .* GB of memory", out)
    assert not (tmp_path / "results").exists()
    code, out, _ = call("run", "small.yaml", "--data", toys, "-j", "1", "--plan", "--events", "3000000")
    assert "on 3,000,000 training events" in out
