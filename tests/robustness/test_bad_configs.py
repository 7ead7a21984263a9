"""Malformed configurations and options: each is refused in one line that names the file, the line and the key."""

from __future__ import annotations

import re
import shlex
import shutil
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
    "empty": ("", r"c.yaml: expected keys and values at the top level \(models, data, ...\); `higgsbench .*"),
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
FOLDS = {
    "event_number % 5": r"folds.by: no column named 'event_number'",
    "EventIdd % 5": r"folds.by: no column named 'EventIdd' \(did you mean 'EventId'\?\)",
    "Weight > 1": r"folds.by: Weight cannot decide the fold of an event; use its number, or a column .*",
    "Label": r"folds.by: Label cannot decide the fold .*",
    "EventId": r"folds.by: EventId has 140 different values \(1000000000, .*, ...\); expected 2 to 100",
    "EventId % 1": r"folds.by: EventId % 1 has 1 different values \(0\); expected 2 to 100",
    "EventId % 5 / 2": r"folds.by: EventId % 5 / 2 must be a whole number for each event; 0.5 is not",
    "DER_mass_MMC % 3": r"folds.by: DER_mass_MMC % 3 has no value for \d+ of 140 events",
    "EventId % 0": r"folds.by: EventId % 0 has no value for 140 of 140 events",
    "EventId %": r"folds.by: .*",
    "EventId mod 5": r"folds.by: no column named 'mod'",
    "max(EventId)": r"folds.by: max is not a function of one event; it takes one vector column; .*",
    "EventId[0] % 5": r"folds.by: no column named 'EventId\[0\]' \(did you mean 'EventId'\?\)",
    "rand(EventId)": r"folds.by: rand is not a function of one event.*",
    "'5'": r"folds.by: uses no column, so its value is the same for every event; use at least one column",
    "": r"folds.by: .*",
    "EventId % 5\n  k: 4": r"folds.by: EventId % 5 has 5 different values \(0, 1, 2, 3, 4\); expected 4 \(k\)",
    "EventId % 5\nrepeats: {x: 2}": r"c.yaml:4: repeats: expected a whole number, got keys and values",
}
FILES |= {
    f"folds by {by or 'nothing'}": (f"models: [lightgbm]\nfolds:\n  by: {by or repr('')}\n", expected)
    for by, expected in FOLDS.items()
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_configurations(content: str, expected: str, here: Path, refuse: Refuse) -> None:
    (here / "c.yaml").write_text(content)
    events = () if "source: simulated" in content or "path: " in content else ("--data", "train.csv")
    refuse("run", "c.yaml", *events, match=expected)


SIGNAL = "{files: train.csv, process: a, signal: true}"
SAMPLES = {
    "samples": f"[{SIGNAL}, {{files: other.csv, process: b}}]",
    "weight": "Weight",
    "id": "EventId",
    "features": "[PRI_met, PRI_tau_pt]",
}
"""A `data` section that works; the table below gives lines that replace some of it, and the message."""

BAD_SAMPLES = [
    ("samples: []", "3: data.samples: expected at least 1 entry, got 0"),
    ("samples: [{process: a}]", r"3: data.samples\[0\]: the key 'files' is missing"),
    ("samples: [{files: train.csv}]", r"3: data.samples\[0\]: the key 'process' is missing"),
    ("samples: [{files: [], process: a}]", r"3: data.samples\[0\]\.files: expected at least 1 entry, got 0"),
    ("samples: [{files: 3, process: a}]", r"3: data.samples\[0\]\.files: expected a list, got '3'"),
    (
        "samples: [{files: train.csv, proces: a}]",
        r"3: data.samples\[0\]\.proces: unknown key 'proces' \(did you mean 'process'\?\)",
    ),
    (f"samples: [{SIGNAL}]", "3: data.samples: no sample is background; write `signal: false`"),
    ("samples: [{files: train.csv, process: a}]", "3: data.samples: no sample is signal; write `signal: true`"),
    (
        "samples: [{files: train.csv, process: a, signal: maybe}]",
        r"3: data.samples\[0\]\.signal: expected true or false, got 'maybe'",
    ),
    (
        f"samples: [{SIGNAL}, {{files: other.csv, process: a}}]",
        "2: data: process 'a' is signal in one sample, background in another",
    ),
    (
        "samples: [{files: train.csv, process: a, scale: 0}]",
        r"3: data.samples\[0\]\.scale: expected a number greater than 0, got '0'",
    ),
    (
        "samples: [{files: train.csv, process: a, scale: big}]",
        r"3: data.samples\[0\]\.scale: expected a number, got 'big'",
    ),
    (
        "samples: [{files: train.csv, process: a, weight: 'Weight *'}]",
        r"3: data.samples\[0\].weight: 'Weight \*': not an expression; .*",
    ),
    (f"samples: [{SIGNAL}, {{files: train.csv, process: b}}]", "data.samples: train.csv is named twice"),
    (f"samples: [{SIGNAL}, {{files: no.csv, process: b}}]", "no.csv: no such file"),
    (f"samples: [{SIGNAL}, {{files: 'no*.csv', process: b}}]", r"no\*\.csv: no file matches this pattern"),
    (
        f"samples: [{SIGNAL}, {{files: 'text.root:events', process: b}}]",
        "text.root: not a ROOT file; rename it if it is CSV",
    ),
    ("test: other.csv", "data.test: other.csv is a file of the samples; a test on .*"),
    ("path: train.csv", "7: data.path: `path` cannot be combined with `samples`; remove one of them"),
    ("schema: uci-higgs", "7: data.schema: `schema` cannot be combined with `samples`; remove one of them"),
    ("source: simulated", "7: data.source: `source` cannot be combined with `samples`; remove one of them"),
    ("train_sets: [t]", "7: data.train_sets: `train_sets` cannot be combined with `samples`; remove one of them"),
    ("weight: 'Weight +* 2'", r"4: data.weight: 'Weight \+\* 2': not an expression; .*"),
    ("weight: '2'", "4: data.weight: uses no column, so its value is the same for every event; use at least o.*"),
    ("weight: Wieght", r"train.csv: Weight: Wieght: no column named 'Wieght' \(did you mean 'Weight'\?\)"),
    (
        "select: PRI_mett > 20",
        r"train.csv: select: PRI_mett > 20: no column named 'PRI_mett' \(did you mean 'PRI_met'\?\)",
    ),
    ("select: PRI_met is big", "7: data.select: 'PRI_met is big': not an expression; .*"),
    ("select: 'PRI_met[0] > 20'", r"train.csv: PRI_met\[0\]: a text file has one number per column, not vectors"),
    (
        "select: PRI_met < 0",
        r"sample \w+ \(train.csv\): no events pass the selection 'PRI_met < 0' \(`data.select`\); correct this or .*",
    ),
    ("id: [run, EventId]", r"train.csv: no column run, which identifies the events \(`id`\)"),
    ("id: [EventId, EventId]", "5: data.id: column 'EventId' is named twice"),
    (
        "id: PRI_jet_num",
        r"train.csv: row \d+ \(line \d+\): the same event as row \d+ \(line \d+\) by the column PRI_jet_num; .*",
    ),
    ("id: PRI_met", "6: data.features: column 'PRI_met' is part of the `id` and cannot be a feature"),
    ("features: [EventId]", "6: data.features: column 'EventId' is part of the `id` and cannot be a feature"),
    ("features: ['log(Weight, 2)']", "6: data.features: column 'Weight' is part of the weight and cannot be a feature"),
    (
        "features: [Label]\nlabel: Label\nsignal: s",
        "6: data.features: column 'Label' is the label and cannot be a feature",
    ),
    ("features: [PRI_met, PRI_met]", "6: data.features: feature 'PRI_met' is named twice"),
    (
        "features: [PRI_mett]",
        r"train.csv: no column 'PRI_mett' \(did you mean 'PRI_met'\?\), which `data.features` names",
    ),
    ("features: [Label]", "6: data.features: a feature cannot have the name 'Label'; write `name` and `expr`"),
    (
        "features: ['PRI_met /']",
        "6: data.features: 'PRI_met /': not an expression; an operand is missing or a word is out of place",
    ),
    (
        "features: [{name: Process, expr: PRI_met}]",
        "6: data.features: a feature cannot have the name 'Process'; write `name` and `expr`",
    ),
    ("features: ['QRI_*']", r"data.features: no column of numbers in train.csv matches 'QRI_\*'"),
    ("features: []", "6: data.features: expected at least 1 entry, got 0"),
    ("group: n_jets", "train.csv: no column 'n_jets'.*, which `data.group` names"),
    ("group: PRI_met", r"train.csv: row 1 \(line 2\), column PRI_met: '[0-9.]+' is not a whole number"),
    ("groups: [[0]]", "7: data.groups: `groups` needs a `group` column"),
    ("signal: s", "3: data.samples: `signal` and `background` are values of the column `label`; add `label`"),
    ("label: Label\nsignal: s\nbackground: s", "2: data: `signal` and `background` are the same label 's'"),
    (
        "negative_weights: ignore",
        "7: data.negative_weights: expected 'drop', 'absolute', 'zero' or 'resample', got 'ignore.*",
    ),
    ("negative_weights: drop\nweight: ", "6: data.negative_weights: `negative_weights` needs a `weight`"),
    ("missing: none", r"7: data.missing: expected a number, \.nan or empty \(empty cells\), got 'none'"),
    ("categorical: [Label, Label]", "7: data.categorical: column 'Label' is named twice"),
    ("categorical: [channel]", "train.csv: no column 'channel'.*, which `data.categorical` names"),
    ("samples: ", "3: data.weight: `weight` belongs to `samples`; describe the columns of one file under `s.*"),
]


@pytest.mark.parametrize(("keys", "expected"), BAD_SAMPLES)
def test_samples(keys: str, expected: str, here: Path, refuse: Refuse) -> None:
    for name in ("other.csv", "text.root"):
        shutil.copy(here / "train.csv", here / name)
    changed = SAMPLES | {key: value for key, _, value in (line.partition(": ") for line in keys.splitlines())}
    section = "".join(f"  {key}: {value}\n" for key, value in changed.items() if value)
    (here / "c.yaml").write_text(f"models: [logistic]\ndata:\n{section}")
    refuse("run", "c.yaml", match=re.sub(r"^(?=\d)", "c.yaml:", expected))


OPTIONS = {
    "run none.yaml": r"none.yaml: no such configuration file",
    "run run": r"run: cannot be read: Is a directory",
    "run c.yaml": r"data: no events given; name a file with --data training.csv .*",
    "run c.yaml --data none.csv": r"none.csv: no such file.*",
    "rum": r"No such command 'rum'. Did you mean 'run'\?; try 'higgsbench --help'",
    "run c.yaml --fold 3": r"No such option:? '?--fold.*; try 'higgsbench run --help'",
    "run": r"Missing argument 'CONFIG'; try 'higgsbench run --help'",
    "run c.yaml --plan --retry-failed": r"--plan trains nothing; leave out .*",
    "run c.yaml --plan --time-limit 5m": r"--plan predicts the whole run; leave out --time-limit.*",
    "run c.yaml --events 5000": r"--events works only together with --plan.*",
    "run c.yaml --engine serial --jobs 4": r"--engine serial runs one fit.*",
    "run c.yaml --jobs 0": r"Invalid value for '--jobs' / '-j': 0 is not in the range.*",
    "run c.yaml -j x": r"Invalid value for '--jobs' / '-j': 'x' is not a valid integer .*",
    "leaderboard --format xml": r"Invalid value for '--format': 'xml' is not one of .*; .*",
    "run c.yaml --set folds": r"--set folds: expected key=value, e.g. --se.*",
    "run c.yaml --set fold=3": r"--set fold=3: .*did you mean 'folds'\?.*",
    "run c.yaml --set folds.x=3": r"--set folds.x=3: 'x' cannot be set: .*",
    "run c.yaml --set models.xgb.params.max_depth=3": (
        r"--set models.xgb.params.max_depth=3: no entry 'xgb'; choose from lightgbm, logistic"
    ),
    "run c.yaml --only xgb": r"--only xgb: not in c.yaml, which has lightgbm,.*",
    "run c.yaml --time-limit soon": r"--time-limit: 'soon' is not a duration; write 90, 90s, 30m or 2h",
    "run c.yaml --data train.csv --output train.csv": (
        r"train.csv: is a file, but --output needs a folder; choose another name"
    ),
    "leaderboard": r"results: no such folder; `higgsbench run` makes it.*",
    "leaderboard --results nowhere": r"nowhere: no such folder; `higgsbench run` makes it.*",
    "leaderboard run --results run": r"FOLDER and --results mean the same; .*",
    "leaderboard run --columns amscv": r"--columns: no column 'amscv' \(did you mean 'ams_cv'\?\).*",
    "leaderboard run --columns auk --format csv": r"--columns: no column 'au.*",
    "leaderboard nowhere --sort best": r"--sort: no column of numbers is named 'be.*",
    "predict run none.csv -o s.csv": r"none.csv: no such file",
    "predict run run/scores.parquet -o s.csv": r"run/scores.parquet: unknown column 'signal'.*",
    "predict run test.csv -o s.csv --model xgb": r"--model xgb: no row of that name; use stack, .*",
    "predict run test.csv -o s.csv --out-of-fold no": r"Invalid value for '--out-of-fold': 'no' is not one of .*",
    "predict run test.csv -o s.csv --out-of-fold always": r"test.csv: row \d+ \(line \d+\): event \d+ has no fold: .*",
    "predict run test.csv -o s.csv --columns Wight": r"--columns: test.csv has no column 'Wight'.*",
    "predict run test.csv -o s.csv --columns PRI_met,PRI_met": r"--columns: the table already has a column .*",
    "predict run test.csv -o s.csv --columns ,": r"--columns is empty; .*",
    "predict run test.csv -o s.root --members --model lightgbm": r"--members: lightgbm is not a stack; leave out .*",
    "predict run test.csv -o s.csv --sample ttH": r"--sample ttH: no sample of that name; the run has none",
    "predict run test.csv -o s.txt": r"s.txt: the name must end with .csv, .csv.gz.*",
    "predict run test.csv -o no/s.csv": r"no/s.csv: cannot be written: no does not exist.*",
    "predict run test.csv -o test.csv": r"test.csv: is the input itself; give the .*",
    "predict run test.csv -o s.csv --subset b": r"test.csv: no column KaggleSet.*",
    "submit run test.csv -o s.parquet": r"s.parquet: the name must end with .csv.*",
    "submit run test.csv -o s.csv --model x": r"--model x: no row of that name.*",
    "score test.csv truth.csv": r"test.csv: line 1 is 'EventId,DER_mass_MMC.*",
    "score submission.csv truth.csv --schema cms": r"schema: 'cms' is neither a.*",
    "data simulate --events 100000000000000 -o t.csv": (
        r"cannot write t.csv: 100,000,000,000,000 events take about 24,000,000.0 GB as .csv \(240 bytes each\), "
        r"but the disk has [0-9,.]+ GB free: simulate at most [0-9,]+ events or choose another disk"
    ),
    "data simulate --events 10000000000000000000 -o t.csv": (
        r"events must be at most \d{19}, because EventId has 64 bits, not 10000000000000000000"
    ),
    "data validate ''": r"Invalid value for 'FILE': the file name is empty; try 'higgs.*",
    "run c.yaml --data ''": r"Invalid value for '--data': the file name is empty; try .*",
    "data convert train.csv a.txt": r"a.txt: .*must end in one of.*",
    "data convert train.csv train.csv": r"train.csv: is the input itself.*",
    "data convert none.csv a.csv": r"none.csv: no such file",
    "data convert . a.csv": r"\.: a folder.*",
    "explore train.csv --seed 3": r".*--seed.*",
}
SIMULATE = {
    "--mix Z": r"--mix: 'Z' is not NAME=NUMBER.*",
    "--mix Z=1,Z=2": r"--mix: Z is given twice.*",
    "--mix Q=1": r".*unknown process.*",
    "--process-scale ttba=2": r".*did you mean 'ttbar'.*",
    "--set-proportions t=a": r".*'t=a' is not NAME=NUMBER.*",
    "--higgs-mass 500": r".*higgs_mass.*",
    "--tes -2": r".*tes.*",
}
OPTIONS |= {f"data simulate --events 10 -o a.csv {options}": SIMULATE[options] for options in SIMULATE}


@pytest.mark.parametrize("command", OPTIONS)
def test_options(command: str, refuse: Refuse) -> None:
    refuse(*shlex.split(command), match=OPTIONS[command])
