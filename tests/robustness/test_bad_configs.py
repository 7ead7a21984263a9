"""Malformed configurations and options: each is refused in one line that names the file, the line and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.conftest import Refuse

AT = r"c.yaml:1: models\[0\].params."
PARAMETERS = {
    ("xgboost", "max_depth: -3"): AT + "max_depth: xgboost refuses '-3': value -3 for Parameter max_depth .*",
    ("xgboost", "max_depth: abc"): AT + "max_depth: xgboost refuses 'abc': Invalid Parameter format .*",
    ("lightgbm", "learning_rate: -1"): AT + r"learning_rate: lightgbm refuses '-1': Check failed: \(learning_rate\).*",
    ("catboost", "depth: 40"): AT + "depth: catboost refuses '40'.*16",
    ("random_forest", "n_estimators: 0"): r"c.yaml:1: .*: .* refuses '0'.*",
    ("logistic", "C: -1"): AT + "C: logistic refuses '-1'.*",
    ("mlp", "hidden_layer_sizes: wide"): r"c.yaml:1: .*mlp refuses 'wide'.*",
    ("lightgbm", "bag: 0"): r"c.yaml:1: .*bag is 0, expected a whole .*",
}


@pytest.mark.parametrize(("model", "parameter"), PARAMETERS)
def test_parameters(model: str, parameter: str, here: Path, refuse: Refuse) -> None:
    (here / "c.yaml").write_text(f"models: [{{model: {model}, params: {{{parameter}}}}}]\n")
    refuse("run", "c.yaml", "--data", "train.csv", match=PARAMETERS[model, parameter])


FILES: dict[str, tuple[str, str]] = {
    "empty": ("", r"c.yaml: expected keys and values at the top level \(models, data, ...\); see configs/all.yaml"),
    "a label with a path": ("models: [{model: lightgbm, label: ../x}]\n", r"c.yaml:1: models\[0\].label: label '../.*"),
    "an endless number": (f"models: [lightgbm]\nseed: {'9' * 9000}\n", r"c.yaml:2: a number with thousands of digits"),
    "the label for a feature": ("models: [lightgbm]\nfeatures: [Label]\n", r"c.yaml:1: models\[0\]: .*Label.*"),
    "an expression out of order": (
        "models: [lightgbm]\nfeatures: {add: [{name: x, expr: 'PRI_met / ('}]}\n",
        r"c.yaml:1: models\[0\]: .*x.*",
    ),
    "an expression that reads files": (
        "models: [lightgbm]\nfeatures: {add: [{name: x, expr: \"read_csv('/etc/passwd')\"}]}\n",
        r"c.yaml:1: models\[0\]: .*x.*",
    ),
    "an unknown blend": ("models: [lightgbm]\nstack: median\n", r"c.yaml:2: stack: .*'median' \(did you mean 'mean'.*"),
    "more simulated events than memory": (
        "models: [lightgbm]\ndata: {source: simulated, events: 1000000000000000}\n",
        r"data.events: 1,000,000,000,000,000 simulated events need about 600000000.0 GB of memory \(600 bytes each\); "
        r"the available memory is [0-9.]+ [MG]B: use at most [0-9,]+, or write a file with .*",
    ),
    "more simulated events than allowed": (
        "models: [lightgbm]\ndata: {source: simulated, events: 2000000}\nmemory_limit: 1GB\n",
        r"data.events: 2,000,000 simulated events need about 1.20 GB of memory .*; memory_limit is 1.00 GB: .*",
    ),
    "an empty file name": ("models: [lightgbm]\ndata:\n  path: ''\n", r"c.yaml:3: data.path: the file name is empty"),
    "a label that no event has": (
        "models: [lightgbm]\ndata:\n  schema: {features: [PRI_met], label: Label, signal: zzz}\n",
        r"train.csv: no signal events among the 140 training events; column Label has 'b', 's'",
    ),
    "a quoted escape": ('models: ["\\e[2J"]\n', r"c.yaml:1: models\[0\].model: no model named '.x1b\[2J'; .*"),
    "a boolean for a label": (
        "models: [lightgbm]\ndata:\n  schema: {features: [PRI_met], label: Label, signal: true}\n",
        r"c.yaml:3: data.schema.signal: .*YAML reads true as a boolean; put the label in quotes.*, e.g. 'true'",
    ),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_configurations(content: str, expected: str, here: Path, refuse: Refuse) -> None:
    (here / "c.yaml").write_text(content)
    events = () if "source: simulated" in content or "path: " in content else ("--data", "train.csv")
    refuse("run", "c.yaml", *events, match=expected)


OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "no file": (("run", "none.yaml"), r"none.yaml: no such configuration file"),
    "a folder": (("run", "run"), r"run: cannot be read: Is a directory"),
    "no events": (("run", "c.yaml"), r"data: no events given; name a file with --data training.csv .*"),
    "unknown command": (("rum",), r"No such command 'rum'. Did you mean 'run'\?; try 'higgsbench --help'"),
    "unknown option": (("run", "c.yaml", "--fold", "3"), r"No such option:? '?--fold.*; try 'higgsbench run --help'"),
    "missing argument": (("run",), r"Missing argument 'CONFIG'; try 'higgsbench run --help'"),
    "a plan that trains again": (("run", "c.yaml", "--plan", "--retry-failed"), r"--plan trains nothing; leave out .*"),
    "jobs in one process": (("run", "c.yaml", "--engine", "serial", "--jobs", "4"), r"--engine serial runs one fit.*"),
    "jobs as text": (("run", "c.yaml", "-j", "x"), r"Invalid value for '--jobs' / '-j': 'x' is not a valid integer .*"),
    "unknown choice": (("leaderboard", "--format", "xml"), r"Invalid value for '--format': 'xml' is not one of .*; .*"),
    "a setting without a value": (("run", "c.yaml", "--set", "folds"), r"--set folds: expected key=value, e.g. --se.*"),
    "a setting under a value": (("run", "c.yaml", "--set", "folds.x=3"), r"--set folds.x=3: 'x' cannot be set: .*"),
    "a setting of an unknown model": (
        ("run", "c.yaml", "--set", "models.xgb.params.max_depth=3"),
        r"--set models.xgb.params.max_depth=3: no entry 'xgb'; choose from lightgbm, logistic",
    ),
    "only an absent model": (("run", "c.yaml", "--only", "xgb"), r"--only xgb: not in c.yaml, which has lightgbm,.*"),
    "a time limit of nothing": (("run", "c.yaml", "--time-limit", "soon"), r"--time-limit: 'soon' .*; write 90, 90s.*"),
    "a file for the results": (
        ("run", "c.yaml", "--data", "train.csv", "--output", "train.csv"),
        r"train.csv: is a file, but --output needs a folder; choose another name",
    ),
    "no results": (("leaderboard", "--results", "nowhere"), r"nowhere: no such folder; `higgsbench run` makes it.*"),
    "two folders": (("leaderboard", "run", "--results", "run"), r"FOLDER and --results mean the same; .*"),
    "an unknown column": (("leaderboard", "run", "--columns", "auk", "--format", "csv"), r"--columns: no column 'au.*"),
    "an unknown number": (("leaderboard", "nowhere", "--sort", "best"), r"--sort: no column of numbers is named 'be.*"),
    "an unknown row": (("predict", "run", "test.csv", "-o", "s.csv", "--model", "xgb"), r"--model xgb: no row of th.*"),
    "an unknown ending": (("predict", "run", "test.csv", "-o", "s.txt"), r"s.txt: the name must end with .csv, .csv.*"),
    "a missing folder": (("predict", "run", "test.csv", "-o", "no/s.csv"), r"no/s.csv: cannot be written: there is .*"),
    "over the input": (("predict", "run", "test.csv", "-o", "test.csv"), r"test.csv: is the input itself; give the .*"),
    "no such sets": (("predict", "run", "test.csv", "-o", "s.csv", "--subset", "b"), r"test.csv: no column KaggleSe.*"),
    "an unknown layout": (("score", "submission.csv", "truth.csv", "--schema", "cms"), r"schema: 'cms' is neither a.*"),
    "more events than the disk holds": (
        ("data", "simulate", "--events", "100000000000000", "-o", "t.csv"),
        r"cannot write t.csv: 100,000,000,000,000 events take about 24,000,000.0 GB as .csv \(240 bytes each\), "
        r"but the disk has [0-9,.]+ GB free: simulate at most [0-9,]+ events or choose another disk",
    ),
    "more events than event numbers": (
        ("data", "simulate", "--events", "10000000000000000000", "-o", "t.csv"),
        r"events must be at most \d{19}, because EventId has 64 bits, not 10000000000000000000",
    ),
    "an empty file name": (("data", "validate", ""), r"Invalid value for 'FILE': the file name is empty; try 'higgs.*"),
    "an empty --data": (("run", "c.yaml", "--data", ""), r"Invalid value for '--data': the file name is empty; try .*"),
}


@pytest.mark.parametrize(("args", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_options(args: tuple[str, ...], expected: str, refuse: Refuse) -> None:
    refuse(*args, match=expected)
