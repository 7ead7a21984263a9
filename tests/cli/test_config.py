"""`higgsbench config`: configurations by name, copies, resolved configurations, the schema, and shell completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from higgsbench.api.running import load_run_config, resolve_config
from higgsbench.cli.main import cli
from higgsbench.config import named_configs
from higgsbench.config.document import parse_yaml
from higgsbench.config.load import load_config, with_layout
from higgsbench.runs.artifacts import folder_name, resolved_config
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from tests.conftest import Call

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
SMALL = ("data.events=2000", "folds=2")


def test_list(call: Call) -> None:
    found = json.loads(call("config", "list", "--format", "json")[1])
    assert [one["name"] for one in found] == NAMES
    assert all(one["description"].endswith((".", "?")) and len(one["models"]) > 3 for one in found)
    code, out, err = call("config", "list")
    assert (code, err) == (0, "")
    assert all(name in out for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_package_has_every_configuration(name: str) -> None:
    """Where the tests run on an installed package, this reads the files of the wheel."""
    assert named_configs()[name].read_bytes() == (CONFIGS / f"{name}.yaml").read_bytes()


def test_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("quick.yaml", "quick", "other"):
        Path(file).write_text("models: [mlp]\n")

    def models(choice: str | Path) -> int:
        return len(load_config(choice).config.models)

    assert models("quick") == 6
    assert models(Path("quick")) == 6
    assert models("quick.yaml") == models("./quick") == models("other") == models(tmp_path / "quick") == 1


NO_NAME = "no such configuration file, and no configuration of that name comes with higgsbench"
UNKNOWN = {
    "quik": f"quik: {NO_NAME} (did you mean 'quick'?)",
    "zzz": f"zzz: {NO_NAME}; choose from all, analysis, best",
    "mine": f"mine: {NO_NAME} (did you mean 'mine.yaml'?)",
    "configs/all.yaml": "configs/all.yaml: no such configuration file; 'all', without folder and extension, comes ",
    "zzz.yaml": "zzz.yaml: no such configuration file\n",
    "z" * 300: "z: ",
}


@pytest.mark.parametrize("choice", UNKNOWN)
def test_neither_a_name_nor_a_file(call: Call, choice: str) -> None:
    Path("mine.yaml").write_text("models: [mlp]\n")
    for command in (("run",), ("config", "show"), ("tune", "--model", "mlp")):
        code, out, err = call(*command, choice)
        assert (code, out) == (2, "")
        assert UNKNOWN[choice] in err


def test_copy(call: Call, tmp_path: Path) -> None:
    assert call("config", "copy", "best") == (0, "Wrote best.yaml\n", "")
    assert (tmp_path / "best.yaml").read_bytes() == (CONFIGS / "best.yaml").read_bytes()
    (tmp_path / "best.yaml").write_text("mine")
    code, _, err = call("config", "copy", "best")
    assert (code, err.count("\n")) == (2, 1)
    assert "best.yaml: already exists; choose another name with --output, or replace it with --force" in err
    assert (tmp_path / "best.yaml").read_text() == "mine"
    assert call("config", "copy", "quick", "-o", "best.yaml", "--force")[0] == 0
    assert (tmp_path / "best.yaml").read_bytes() == (CONFIGS / "quick.yaml").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["best.yaml"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bst"], "bst: no configuration of that name comes with higgsbench (did you mean 'best'?)"),
        (["best.yaml"], "best.yaml: no configuration of that name comes with higgsbench (did you mean 'best'?)"),
        (["best", "-o", "no/x.yaml"], "no/x.yaml: cannot be written: no does not exist; create it first"),
        (["best", "-o", ".", "--force"], ".: already exists; name a file"),
        (["best", "-o", ""], "the file name is empty"),
    ],
)
def test_copy_is_refused(call: Call, args: list[str], message: str) -> None:
    code, out, err = call("config", "copy", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("name", ["all", "best", "quick"])
def test_show_prints_what_a_run_stores_and_runs_unchanged(call: Call, name: str) -> None:
    """The folder of a run is named by what determines its scores: it is the same."""
    code, out, err = call("config", "show", name, *(f"--set={setting}" for setting in SMALL))
    assert (code, err) == (0, "")
    shown = parse_yaml(out, "shown").value
    given, again = with_layout(load_run_config(name, settings=SMALL)), load_run_config(shown)
    dataset = load_dataset(given.config)
    plan = make_plan(given, dataset)
    assert shown == resolved_config(plan)
    assert folder_name(make_plan(again, dataset)) == folder_name(plan)
    assert resolve_config(shown) == shown


def test_show_fills_in_presets_and_defaults(call: Call) -> None:
    model = "{model: xgboost, params: {eta: .5}, training_weights: none}"
    layout = "{features: [x], label: y, missing: .nan}"
    Path("c.yaml").write_text(f"models: [{model}]\npreset: best\ndata: {{path: none.csv, schema: {layout}}}\n")
    code, out, err = call("config", "show", "c.yaml", "--set", "cut=max")
    assert (code, err) == (0, "")
    assert "missing: .nan" in out
    shown: dict[str, Any] = parse_yaml(out, "shown").value
    (entry,) = shown["models"]
    assert entry["params"]["learning_rate"] == 0.5
    assert entry["params"]["n_estimators"] > 10
    assert (entry["preset"], entry["training_weights"]) == ("best", "none")
    assert entry["features"]["set"] == "raw"  # the layout lacks what the preset's set needs
    assert shown["cut"] == {"rule": "max", "b_reg": 10.0}
    assert shown["name"] == "c"


def test_show_names_the_layout_of_a_file_that_exists(call: Call, toys: Path) -> None:
    """Where there is none yet, a file of any layout may be given with --data."""
    for data in ("{}", "{path: none.csv}", f"{{path: {toys.as_posix()}}}"):
        Path("c.yaml").write_text(f"models: [mlp]\ndata: {data}\n")
        code, out, err = call("config", "show", "c.yaml")
        assert (code, err) == (0, "")
        assert ("schema: atlas-higgs-2014" in out) == ("toys" in data)


def test_show_needs_neither_events_nor_extras(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("best-torch", "opendata", "peers"):
        code, out, err = call("config", "show", name)
        assert (code, err) == (0, "")
        assert "*" not in out  # an alias of YAML


def test_show_names_files_and_features_of_samples(call: Call) -> None:
    for number, name in enumerate(("signal", "part1", "part2")):
        rows = [f"{1000 * number + i},{i * 7 % 13 - 3 * number},{i % 3}" for i in range(60)]
        Path(f"{name}.csv").write_text("\n".join(["event,x,c", *rows]) + "\n")
    samples = "[{files: signal.csv, process: ggH, signal: true}, {files: 'part*.csv', process: W}]"
    data = f"{{samples: {samples}, id: event, categorical: [c], features: all}}"
    Path("c.yaml").write_text(f"models: [mlp]\nfolds: {{by: event % 3}}\ndata: {data}\n")
    code, out, err = call("config", "show", "c.yaml")
    assert (code, err) == (0, "")
    shown: dict[str, Any] = parse_yaml(out, "shown").value
    assert shown["data"]["features"] == [{"name": "c"}, {"name": "x"}]
    assert shown["data"]["samples"][1]["files"] == ["part1.csv", "part2.csv"]
    assert shown["data"]["categorical"] == {"c": []}  # the values depend on the events
    given = load_run_config("c.yaml")
    dataset = load_dataset(given.config)
    assert folder_name(make_plan(load_run_config(shown), dataset)) == folder_name(make_plan(given, dataset))


def test_show_names_the_line_at_fault(call: Call) -> None:
    Path("c.yaml").write_text("models:\n- {model: mlp, params: {max_itr: 3}}\n")
    code, out, err = call("config", "show", "c.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("Error: c.yaml:2: models[0]: model 'mlp' has no parameter 'max_itr' (did you mean 'max_iter'")


def test_schema(call: Call) -> None:
    code, out, err = call("config", "schema")
    assert (code, err) == (0, "")
    assert {"models", "data", "folds"} < json.loads(out)["properties"].keys()


@pytest.mark.slow
def test_quick_comes_with_the_package(call: Call) -> None:
    code, out, _ = call("run", "quick", "--plan", "-j", "1")
    assert code == 0
    assert "training events" in out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["run", "q"], {"q", "quick"}),
        (["run", "best"], {"best", "best-torch"}),
        (["tune", "zz"], {"zz"}),
        (["config", "copy", "a"], {"all", "analysis"}),
        (["config", "show", "opend"], {"opend", "opendata"}),
        (["config", ""], {"list", "copy", "show", "schema"}),
        (["run", "quick", "--no-m"], {"--no-models"}),
        (["run", "quick", "--preset", "b"], {"best"}),
        (["environ"], {"environment"}),
    ],
)
def test_completion(words: list[str], found: set[str]) -> None:
    shell = ShellComplete(cli, {}, "higgsbench", "_HIGGSBENCH_COMPLETE")
    items = shell.get_completions(words[:-1], words[-1])
    assert {item.value for item in items} == found
    assert {item.value for item in items if item.type == "file"} <= {words[-1]}


def test_completion_imports_nothing_heavy() -> None:
    code = """
import sys
from click.shell_completion import ShellComplete
from higgsbench.cli.main import cli
assert ShellComplete(cli, {}, "higgsbench", "_HIGGSBENCH_COMPLETE").get_completions(["run"], "q")
heavy = {"polars", "numpy", "sklearn", "pydantic", "rich", "ruamel"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
