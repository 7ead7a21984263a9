"""Configurations: every refusal names the file, the line, the key and the nearest known name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from higgsbench import models
from higgsbench.config.load import load_config
from higgsbench.config.model import RunConfig
from higgsbench.errors import ConfigError
from higgsbench.models import ModelSpec, get_model, registered_models
from higgsbench.schema import TableSchema

CONFIGS = Path(__file__).parents[2] / "configs"
Write = Callable[[str | bytes], Path]
M = "models: [xgboost]\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str | bytes) -> Path:
        file = tmp_path / "my run.yaml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return make


def load(file: Path, *settings_: str) -> RunConfig:
    return load_config(file, settings_, get_model).config


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_configurations_load(file: Path) -> None:
    config = load(file)
    assert len(config.models) >= 4
    assert config.name == file.stem


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(9 * [f'*{old}'])}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED: list[tuple[str, str | bytes, str]] = [
    # unknown keys
    ("unknown key at the top", M + "\n\nfoldz: 3\n", "{f}:4: foldz: unknown key 'foldz' (did you mean 'folds'?)"),
    ("unknown key, nothing near", M + "qqq: 3\n", "{f}:2: qqq: unknown key 'qqq' (known keys: name, data, models"),
    ("unknown key in a section", M + "cut:\n  rule: max\n  b_rek: 3\n", "{f}:4: cut.b_rek: unknown key 'b_rek' (did"),
    ("unknown key of a model", "models:\n- xgboost\n- model: mlp\n  parms: {}\n", "{f}:4: models[1].parms: unknown ke"),
    ("unknown key in data", M + "data: {pth: x}\n", "{f}:2: data.pth: unknown key 'pth' (did you mean 'path'?)"),
    ("a number as key", M + "1: 3\n", "{f}:2: 1: the key 1 must be text"),
    ("merge keys are refused", M + "cut:\n  <<: {rule: max}\n", "{f}:2: merge keys (<<) are not supported; write the "),
    # types and ranges
    ("wrong type", M + "folds: many\n", "{f}:2: folds: expected a whole number, got 'many'"),
    ("whole numbers only", M + "folds: 5.0\n", "{f}:2: folds: expected a whole number"),
    ("no booleans for numbers", M + "seed: yes\n", "{f}:2: seed: expected a whole number"),
    ("no numbers for text", M + "preset: 1\n", "{f}:2: preset: expected 'quick', 'good' or 'best', got '1'"),
    ("one fold", M + "folds: 1\n", "{f}:2: folds: expected a number greater than or equal to 2"),
    ("no rule", M + "folds: {k: 3}\n", "{f}:2: folds: the key 'by' is missing"),
    ("one fold of a rule", M + "folds: {k: 1, by: x}\n", "{f}:2: folds.k: expected a number greater than"),
    ("a number for a rule", M + "folds:\n  by: 3\n", "{f}:3: folds.by: expected text, got '3'"),
    ("an unknown key of a rule", M + "folds:\n  bye: x\n", "{f}:3: folds.bye: unknown key 'bye' (did you mean 'by'?)"),
    ("seed twice", M + "seed: [1, 2, 1]\n", "{f}:2: seed: seed 1 is in the list twice"),
    ("no seed", M + "seed: []\n", "{f}:2: seed: expected at least 1 entry, got 0"),
    ("seeds and repeats", M + "seed: [1, 2]\nrepeats: 2\n", "{f}:3: repeats: each of several seeds is a repeat; "),
    ("a rule twice", M + "folds: {by: x}\nrepeats: 2\n", "{f}:3: repeats: `folds.by` makes the same folds each time; "),
    ("large seed", M + "seed: 2147483648\n", "{f}:2: seed: expected a number less than"),
    ("huge number", M + "data:\n  n_s: 1" + 400 * "0" + "\n", "{f}:3: data.n_s: a whole number with more than 64 bits"),
    ("huge hexadecimal", M + "seed: 0x" + 5000 * "F", "{f}:2: a number with thousands of digits"),
    ("NaN", M + "cut: {b_reg: .nan}\n", "{f}:2: cut.b_reg: expected"),
    ("infinity", M + "data: {n_b: .inf}\n", "{f}:2: data.n_b: expected a finite number"),
    ("negative total", M + "data: {n_b: -3}\n", "{f}:2: data.n_b: expected a number greater than 0"),
    ("unknown rule", M + "cut: best\n", "{f}:2: cut: expected 'max', 'smooth' or 'lower', got 'best'"),
    ("unknown method", M + "stack: {method: x}\n", "{f}:2: stack.method: expected 'mean', 'nonnegative'"),
    ("text for a list", M + "stack: {members: mlp}\n", "{f}:2: stack.members: expected a list"),
    ("text for a section", M + "data: file.csv\n", "{f}:2: data: expected keys and values"),
    ("list for a section", M + "cut: [max]\n", "{f}:2: cut: expected keys and values"),
    ("list for parameters", "models:\n- {model: mlp, params: [1]}\n", "{f}:2: models[0].params: expected keys and val"),
    ("a date", "models:\n- model: mlp\n  params: {a: 2001-01-01}\n", "{f}:3: models[0].params.a: YAML reads '20"),
    ("a quoted number", M + 'folds: "3"\n', "{f}:2: folds: expected a whole number, got '3', which is text: remove "),
    ("a power for a count", M + "data: {events: 1e3}\n", "{f}:2: data.events: expected a whole number, got '1000.0'"),
    ("base 60", M + "seed: 1:30\n", "{f}:2: seed: expected a whole number, got '1:30'"),
    ("nothing for a number", M + "folds:\n", "{f}:2: folds: expected a whole number, got nothing"),
    ("NaN deep", "models:\n- model: mlp\n  params: {a: .nan}\n", "{f}:3: models[0].params.a: expected a finite value"),
    ("a process that is not simulated", M + "data:\n  source: simulated\n  mix: {Zx: 1}\n", "{f}:4: data.mix: mix nam"),
    ("no set q", M + "data:\n  source: simulated\n  set_proportions: {q: 1}\n", "{f}:4: data.set_proportions: set_pr"),
    (
        "a light Higgs",
        M + "data:\n  source: simulated\n  higgs_mass: 10\n",
        "{f}:4: data.higgs_mass: higgs_mass must",
    ),
    (
        "no percentage",
        M + "data:\n  source: simulated\n  shifts: {tes: x%}\n",
        "{f}:4: data.shifts.tes: expected a number",
    ),
    ("a shift below -1", M + "data:\n  source: simulated\n  shifts: {tes: -2}\n", "{f}:4: data.shifts: shift tes is"),
    ("an endless label", "models:\n- {model: mlp, label: " + 5000 * "a" + "}\n", "label '" + 60 * "a" + "…': use 1"),
    ("an endless name", M + "name: " + 300 * "a" + "\n", "{f}:2: name: name '" + 60 * "a" + "…': use 1"),
    ("an endless key", M + 900 * "a" + ": 1\n", "unknown key '" + 60 * "a" + "…'"),
    ("a number as a model", "models: [1]\n", "{f}:1: models[0]: expected keys and values, got '1'"),
    # models
    ("no models", "folds: 3\n", "{f}:1: the key 'models' is missing"),
    ("an empty list of models", "models: []\n", "{f}:1: models: expected at least 1 entry, got 0"),
    ("models as text", "models: xgboost\n", "{f}:1: models: expected a list, got 'xgboost'"),
    ("not registered", "models:\n- mlp\n- xgbost\n", "{f}:3: models[1].model: no model named 'xgbost' (did you mean"),
    ("an entry without model", "models:\n- label: a\n", "{f}:2: models[0]: the key 'model' is missing"),
    ("an empty entry", "models:\n- mlp\n-\n", "{f}:3: models[1]: the key 'model' is missing"),
    ("same model twice", "models:\n- mlp\n- mlp\n", "{f}:3: models[1]: label 'mlp' is already used by models[0]; give"),
    (
        "same label twice",
        "models:\n- {model: mlp, label: a}\n- mlp\n- {model: mlp, label: a}\n",
        "{f}:4: models[2]: label 'a' is",
    ),
    ("a label that is a model", "models: [mlp, {model: xgboost, label: mlp}]\n", "{f}:1: models[1]: label 'mlp' is al"),
    ("reserved label", "models:\n- {model: mlp, label: stack}\n", "{f}:2: models[0].label: label 'stack': use 1 to 60"),
    ("label with markup", "models:\n- {model: mlp, label: '[b]x'}\n", "{f}:2: models[0].label: label '[b]x': use 1"),
    ("empty label", "models:\n- {model: mlp, label: ''}\n", "{f}:2: models[0].label: label '': use 1 to 60 letters"),
    # features
    ("unknown feature key", M + "features: [PRI_met,\n  {nam: r}]\n", "{f}:3: features[1].nam: unknown key 'nam' (did"),
    ("expression of 3", M + "features: [PRI_met,\n  {name: r, expr: 3}]\n", "{f}:3: features[1].expr: expected text"),
    ("feature without name", M + "features: [PRI_met,\n  {expr: PRI_met}]\n", "{f}:3: features[1]: the key 'name' is"),
    ("a number as feature", M + "features: [PRI_met,\n  7]\n", "{f}:3: features[1]: expected keys and values, got '7'"),
    # names and groups
    ("a name that is a path", M + "name: a/b\n", "{f}:2: name: name 'a/b': use 1 to 60 letters, digits or _.-"),
    ("a name that is hidden", M + "name: .a\n", "{f}:2: name: name '.a': use"),
    ("jet number twice", M + "jet_groups: [[0], [1, 2], [2]]\n", "{f}:2: jet_groups: jet number 2 is in two"),
    ("empty jet group", M + "jet_groups: [[0], []]\n", "{f}:2: jet_groups[1]: expected at least 1 entry, got 0"),
    ("jet group without brackets", M + "jet_groups: [0, 1]\n", "{f}:2: jet_groups[0]: expected a list"),
    # broken files
    ("bad YAML", M + "cut: {rule: max\n", "{f}:3: broken YAML: "),
    ("a tab", M + "cut:\n\trule: max\n", "{f}:3: broken YAML: found character"),
    ("Python tag", M + "name: !!python/object/apply:os.system [ls]\n", "{f}:2: name: the tag tag:yaml.org,2002:python"),
    ("own tag", M + "cut: !mine {rule: max}\n", "{f}:2: cut: the tag !mine is not allowed"),
    ("set tag", M + "cut: !!set {rule}\n", "{f}:2: cut: "),
    ("binary", M + "name: !!binary aGk=\n", "{f}:2: name: YAML reads \"b'hi'\" as a bytes; put it in quotes"),
    ("key twice", M + "folds: 3\nfolds: 4\n", "{f}:3: folds: the key appears twice"),
    ("key twice, deeper", M + "cut: {rule: max, rule: lower}\n", "{f}:2: rule: the key appears twice"),
    ("a list as key", M + "? [a]\n: 1\n", "{f}:2: ('a',): the key ('a',) must be text"),
    ("two documents", M + "---\n" + M, "{f}:2: broken YAML: but found another document"),
    ("an anchor within itself", "a: &a [*a]\n", "{f}:1: a: unknown key"),
    ("deep nesting", "a: " + 60 * "[" + 60 * "]", "{f}:1: nested deeper than 50 levels"),
    ("very deep nesting", "a: " + 1_000 * "[", "{f}: nested too deeply; not a configuration"),
    ("unknown alias", "a: *b\n", "{f}:1: broken YAML: found undefined alias"),
    ("a billion laughs", LAUGHS, "more than 100000 values, counting aliases"),
    ("too large", "# " + (1 << 20) * "x", "{f}: larger than 1 MiB"),
    ("NUL bytes", b"models: [\x00]\n", "{f}: broken YAML: unacceptable character #x0000"),
    ("not UTF-8", b"name: caf\xe9\n", "{f}: not UTF-8 text"),
    ("a list at the top", "- xgboost\n", "{f}: expected keys and values at the top"),
    ("text at the top", "hello\n", "{f}: expected keys and values at the top"),
]


@pytest.mark.parametrize(("content", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(write: Write, content: str | bytes, message: str) -> None:
    file = write(content)
    begin = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(file)
    text = str(caught.value)
    assert message.replace("{f}", str(file)) in text
    assert len(text) < 600
    assert "\n" not in text
    assert time.process_time() - begin < 15.0


def test_every_fault_is_counted(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"folds: .* \(and 2 more\)"):
        load(write(M + "folds: 0\nrepeats: 0\nseed: -1\n"))


def test_a_model_named_like_the_blend_needs_a_label(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: two rows were called stack."""
    registered_models()
    monkeypatch.setitem(models._MODELS._records, "stack", ModelSpec("stack", lambda params, context: None))
    with pytest.raises(ConfigError, match=r":1: models\[0\]: 'stack' is the blend's label"):
        load(write("models: [stack]\n"))
    assert load(write("models: [{model: stack, label: other}]\n")).models[0].row_label == "other"


# shorthands and defaults

SHORT: list[tuple[str, str]] = [
    ("models: [xgboost]", "models: [{model: xgboost}]"),
    (M + "cut: lower", M + "cut: {rule: lower}"),
    (M + "stack: greedy", M + "stack: {method: greedy}"),
    (M + "stack: false", M + "stack: {enabled: false}"),
    (M + "features: raw", M + "features: {set: raw}"),
    (M + "features: [PRI_tau_pt]", M + "features: {columns: [PRI_tau_pt]}"),
    (M + "data:\nstack:\ncut:\nfeatures:", M),
    (M + "cut: {b_reg: 10}", M + "cut: {b_reg: 10.0}"),
    (M + "data: {n_s: 3}", M + "data: {n_s: 3.0}"),
    ("\ufeff" + M, M),
    (M.replace("\n", "\r\n"), M),
    ("models: &m [xgboost]\n", M),
    (M + "data: {n_s: 1e3, n_b: 1E+5}", M + "data: {n_s: 1000.0, n_b: 100000.0}"),
]


@pytest.mark.parametrize(("short", "full"), SHORT)
def test_shorthands(write: Write, short: str, full: str) -> None:
    assert load(write(short)) == load(write(full))


def test_defaults(write: Write) -> None:
    config = load(write(M))
    assert (config.folds, config.repeats, config.preset, config.jet_split) == (5, 1, "good", "none")
    assert (config.cut.rule, config.cut.b_reg, config.training_weights) == ("smooth", 10.0, None)
    assert config.name == "my-run"
    assert config.data.source == "file"


@pytest.mark.parametrize(("stem", "name"), [("été 1", "t--1"), ("...", "run"), ("a" * 80, "a" * 60), ("_x", "x")])
def test_the_file_names_the_run(tmp_path: Path, stem: str, name: str) -> None:
    file = tmp_path / f"{stem}.yaml"
    file.write_text(M)
    assert load(file).name == name


def test_a_model_may_appear_under_several_labels(write: Write) -> None:
    config = load(write("models: [mlp, {model: mlp, label: 'net 2', params: {bag: 3}, jet_split: both}]"))
    assert [m.row_label for m in config.models] == ["mlp", "net 2"]
    assert config.models[1].params == {"bag": 3}


def test_configurations_are_frozen(write: Write) -> None:
    config = load(write(M))
    with pytest.raises(ValueError, match="frozen"):
        config.folds = 3  # type: ignore[misc]


# --set

BASE = "models: [xgboost, {model: mlp, label: net}]\nfolds: 3\nstack: mean\n"


@pytest.mark.parametrize(
    ("setting", "look", "value"),
    [
        ("folds=4", lambda c: c.folds, 4),
        ("folds={by: x % 2}", lambda c: c.folds.by, "x % 2"),
        (" folds = 4", lambda c: c.folds, 4),
        ("cut.rule=max", lambda c: c.cut.rule, "max"),
        ("cut=max", lambda c: c.cut.rule, "max"),
        ("stack.members=[net]", lambda c: (c.stack.method, c.stack.members), ("mean", ["net"])),
        ("stack=false", lambda c: c.stack.enabled, False),
        ("models.net.params.alpha=.1", lambda c: c.models[1].params, {"alpha": 0.1}),
        ("models.xgboost.preset=quick", lambda c: c.models[0].preset, "quick"),
        ("models.1.label=other", lambda c: c.models[1].row_label, "other"),
        ("models.0=lightgbm", lambda c: c.models[0].model, "lightgbm"),
        ("models=[mlp]", lambda c: len(c.models), 1),
        ("data.path=a b.csv", lambda c: c.data.path, "a b.csv"),
        ("data.n_s=", lambda c: c.data.n_s, None),
        ("models.0.params.a.b=3", lambda c: c.models[0].params, {"a": {"b": 3}}),
    ],
)
def test_set(write: Write, setting: str, look: Callable[[RunConfig], Any], value: Any) -> None:
    assert look(load(write(BASE), setting)) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("=3", "--set =3: expected key=value"),
        ("folds=abc", "--set folds=abc: folds: expected a whole number, got 'abc'"),
        ("data={source: simulated, path: x}", "--set data={source: simulated, path: x}: data.path: `path` belongs"),
        ("name=" + 90 * "a", "--set name=" + 55 * "a" + "…: name: name"),
        ("name=a=b", "--set name=a=b: name: name 'a=b': use"),
        ("foldz=3", "--set foldz=3: foldz: unknown key 'foldz' (did you mean 'folds'?)"),
        ("cut.rul=max", "--set cut.rul=max: cut.rul: unknown key 'rul' (did you mean 'rule'?)"),
        ("a..b=3", "--set a..b=3: a: unknown key 'a'"),
        ("models.7=mlp", "--set models.7=mlp: no entry '7'"),
        ("models.0=mlp2", "--set models.0=mlp2: models[0].model: no model named 'mlp2' (did you mean 'mlp'?)"),
        ("models=[mlp,mlp]", "--set models=[mlp,mlp]: models[1]: label 'mlp' is already used"),
        ("folds=[", "--set folds=[:1: broken YAML"),
        ("folds=!!python/name:os.x y", "the tag tag:yaml.org,2002:python/name:os.x is not allowed"),
    ],
)
def test_set_is_refused_by_its_own_name(write: Write, setting: str, message: str) -> None:
    """Regression: the file and one of its lines were blamed for what an option said."""
    with pytest.raises(ConfigError) as caught:
        load(write(BASE), setting)
    assert str(caught.value).startswith(message) or (message in str(caught.value) and "os.x" in setting)


def test_later_settings_win(write: Write) -> None:
    cut = load(write(BASE), "cut.b_reg=3", "cut.rule=max", "cut.b_reg=1").cut
    assert cut.model_dump() == {"rule": "max", "b_reg": 1.0}


def test_features_by_name_and_by_expression(write: Write) -> None:
    features = load(
        write(M + "features: {set: physics, add: [PRI_met, {name: r, expr: PRI_met / PRI_tau_pt}]}")
    ).features
    assert features is not None
    assert [entry.choice for entry in features.add] == ["PRI_met", ("r", "PRI_met / PRI_tau_pt")]


@pytest.mark.parametrize("text", ["NaN", "nan", ".nan"])
def test_missing_values_that_are_not_a_number(write: Write, text: str) -> None:
    """Regression: `missing: NaN` is a text in YAML and was refused without advice."""
    config = load(write(M + f"data: {{schema: {{features: [x], label: y, missing: {text}}}}}\n"))
    missing = config.data.table_schema().missing
    assert missing is not None
    assert missing != missing


@pytest.mark.parametrize(
    ("signal", "background", "message"),
    [
        ("1", "b", "signal '1' is a number and background 'b' is text"),
        ("'1.0'", "b", "signal '1.0' is a number and background 'b' is text"),
        ("s", "0", "signal 's' is text and background '0' is a number"),
        ("s", "'0'", "signal 's' is text and background '0' is a number"),
        ("s", "nan", "signal 's' is text and background 'nan' is a number"),
        ("'1'", "0", None),
        ("1.5", "-1", None),
        ("s", "b", None),
        ("1", "", None),
    ],
)
def test_labels_are_both_numbers_or_both_text(write: Write, signal: str, background: str, message: str | None) -> None:
    file = write(M + f"data: {{schema: {{features: [x], label: y, signal: {signal}, background: {background}}}}}\n")
    if message is None:
        load(file)
        return
    with pytest.raises(ConfigError, match=f"data.schema: {message}; write both labels as they appear in the file"):
        load(file)
    assert not TableSchema("own", ("x",), "y", signal=signal, background=background).numeric_label
