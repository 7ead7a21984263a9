"""Spoiled inputs for the readers: structured mutations of valid files, and what is called with them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import polars as pl

import higgsbench
from higgsbench.challenge import read_submission
from higgsbench.compare import load_contenders
from higgsbench.config.load import load_config
from higgsbench.errors import HiggsbenchError
from higgsbench.events import EventStream, load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.events.validate import validate_file
from higgsbench.leaderboard import read_diversity
from higgsbench.models import get_model
from higgsbench.runs.plan import chosen_features
from higgsbench.runs.predictor import FittedRun
from higgsbench.runs.stored import StoredRun
from higgsbench.schema import ATLAS_HIGGS

Target: TypeAlias = "Callable[[Inputs, Random], None]"

CONFIG = """\
name: fuzz
data: {source: file, path: training.csv, n_s: 692.0, schema: atlas-higgs-2014}
models:
  - lightgbm
  - {model: xgboost, label: shallow, params: {max_depth: 3, learning_rate: 0.1}, jet_split: groups}
features: {set: physics, drop: [PRI_met], add: [{name: share, expr: "PRI_met / DER_sum_pt"}]}
preset: good
folds: 5
seed: 42
jet_groups: [[0], [1], [2, 3]]
stack: {method: nonnegative, members: [lightgbm, shallow]}
cut: {rule: smooth, b_reg: 10}
"""

SMALL = """\
models:
  - {model: lightgbm, params: {n_estimators: 4}}
  - {model: logistic, preset: quick}
folds: 2
"""

SIGNS = r", ,, : - # ' \ { } [ ] | > 0 -1 1 2.0 1e5 1e308 1e309 -1e309 NaN nan inf -inf -999.0 0x10 1_000 true null ~"
WORDS = "None yes 2024-01-01 1:30 s b Label Weight EventId PRI_met PRI_jet_num é 𝔹 *a ../ /etc/passwd ${HOME} SELECT"
SQL = "read_csv('x')|sqrt(-1)|CAST(PRI_met AS INT)|COUNT(*)|1/0"
TOKENS = (
    *("", " ", "\n", "\r\n", "\r", "\t", ": ", "- ", "\x00", "\x1b[2J", "\ufeff", "\u202e", "\udcff", "9" * 5000),
    *SIGNS.split(),
    *WORDS.split(),
    *SQL.split("|"),
    *("9" * 18, "9" * 40, '"', "&a ", "!!python/object:os.system ", "!!binary ", "!x ", "<<: ", "? ", "---\n", "...\n"),
    *("%YAML 9.9\n", "(" * 200, "[" * 200, "{a: " * 60, "a" * 3000),
)
"""What is put in: structure of the formats, numbers at the edges, foreign alphabets, words that mean something."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**63, -(2**63), 10**30, 0.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "\x00", "\x1b[2J", "stack", "lightgbm", "ok", "failed", "../../x", "9" * 5000, "é" * 50),
    *([], {}, [[]], [None], [1, 2], [0.5, "x"], [[1.0, 0.0]], 1_000_000),
    *({"a": 1}, {"kind": "bag", "members": []}, {"name": "x"}),
)


@dataclass
class Inputs:
    """A folder of valid inputs and the content of each file."""

    folder: Path
    content: dict[str, bytes] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    def spoiled(self, ending: str, content: bytes) -> Path:
        """Write a spoiled file."""
        file = self.folder / f"spoiled{ending}"
        file.write_bytes(content)
        return file


def make_inputs(folder: Path) -> Inputs:
    """Make train.csv, test.csv, truth.csv, c.yaml, submission.csv and a finished run of two models in `run`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = SimulationSettings(events=240, seed=2, set_proportions={"t": 1.0})
    frame = pl.read_csv(write_simulated(settings, folder / "toys.csv")).drop("KaggleSet", "KaggleWeight")
    frame.head(140).write_csv(folder / "train.csv")
    frame.tail(100).write_csv(folder / "truth.csv")
    frame.tail(100).drop("Weight", "Label").write_csv(folder / "test.csv")
    (folder / "c.yaml").write_text(SMALL)
    run = higgsbench.run(folder / "c.yaml", data=folder / "train.csv", output=folder / "runs", jobs=1).folder
    run = run.rename(folder / "run")
    higgsbench.submission(run, folder / "test.csv", jobs=1).write_csv(folder / "submission.csv")
    inputs = Inputs(folder)
    inputs.content["events"] = b"".join((folder / "train.csv").read_bytes().splitlines(keepends=True)[:13])
    inputs.content["submission"] = "".join(
        f"{line.split(',')[0]},{i},{line.split(',')[2]}\n" if i else line + "\n"
        for i, line in enumerate((folder / "submission.csv").read_text().splitlines()[:21])
    ).encode()
    inputs.content["config"] = CONFIG.encode()
    for name in ("rows.json", "predictor.json", "stack.json", "scores.parquet"):
        inputs.content[name] = (run / name).read_bytes()
    # Without its seal every change of the rows gets past the first check.
    rows = json.loads(inputs.content["rows.json"])
    rows.pop("seal", None)
    inputs.content["rows.json"] = json.dumps(rows).encode()
    return inputs


def spoiled_bytes(content: bytes, rng: Random) -> bytes:
    """Flip, cut, repeat, exchange or put in, once to four times."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(content))
        end = min(len(content), at + rng.choice((1, 1, 2, 8, 64, 1000)))
        token, old = rng.choice(TOKENS).encode("utf-8", "surrogateescape"), content[at:end]
        news = (bytes([rng.randint(0, 255)]), b"", old * rng.choice((2, 3, 50)), token, token + old)
        content = content[:at] + rng.choice(news) + content[end if rng.random() < 0.85 else len(content) :]
    encodings = (content.decode("utf-8", "replace").encode("utf-16"), content + b"\xe9", b"\xef\xbb\xbf" + content)
    return rng.choice((content,) * 30 + encodings)


def spoiled_table(content: bytes, rng: Random) -> bytes:
    """Exchange cells of a text table, or spoil its bytes."""
    if rng.random() < 0.4:
        return spoiled_bytes(content, rng)
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.randint(1, 3)):
        row = rng.choice(rows)
        at = rng.randrange(len(row))
        row[at] = rng.choice((rng.choice(TOKENS), rng.choice(rng.choice(rows)), row[at] + rng.choice(TOKENS)))
    if rng.random() < 0.2:
        rng.shuffle(rows)
    return ("\n".join(",".join(row) for row in rows) + "\n").encode("utf-8", "surrogateescape")


def spoiled_text(content: bytes, rng: Random) -> bytes:
    """Exchange words of a text for tokens or other words of it, or spoil its bytes."""
    if rng.random() < 0.4:
        return spoiled_bytes(content, rng)
    text = content.decode()
    words = [word.strip(',:{}[]"') for word in text.split()]
    for _ in range(rng.randint(1, 3)):
        word = rng.choice(words)
        if word:
            text = text.replace(word, rng.choice((rng.choice(TOKENS), rng.choice(words))), 1)
    return text.encode("utf-8", "surrogateescape")


def spoiled_json(content: bytes, rng: Random) -> bytes:
    """Exchange, remove or add values anywhere in a tree, or spoil its bytes."""
    if rng.random() < 0.2:
        return spoiled_bytes(content, rng)
    tree = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        node = tree
        for _ in range(rng.randint(0, 5)):
            below = list(node.values()) if isinstance(node, dict) else list(node)
            below = [child for child in below if isinstance(child, (dict, list)) and child]
            if not below:
                break
            node = rng.choice(below)
        if not node:
            continue
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        kind = rng.randint(0, 3)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, dict):
            node[rng.choice(list(node))] = copy.deepcopy(node[key])  # else a tree may come to hold itself
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))  # what is put in may be changed in turn
    text = json.dumps(tree)
    return text.encode("utf-8", "surrogateescape")


def _read_events(inputs: Inputs, rng: Random) -> None:
    file = inputs.spoiled(".csv", spoiled_table(inputs.content["events"], rng))
    with contextlib.suppress(HiggsbenchError):
        load_events(file, cache=False)
    for _ in EventStream(file, block_bytes=rng.choice((256, 1 << 20))).batches():
        pass


def _configure(inputs: Inputs, rng: Random) -> None:
    file = inputs.spoiled(".yaml", spoiled_text(inputs.content["config"], rng))
    overrides = [f"{rng.choice(('folds', 'cut', 'models.0.params.x', 'stack.method', 'a.b'))}={rng.choice(TOKENS)}"]
    loaded = load_config(file, overrides if rng.random() < 0.2 else (), get_model)
    loaded.config.data.table_schema()
    if loaded.config.features is not None:
        chosen_features(loaded.config.features, ATLAS_HIGGS)


def _restored(inputs: Inputs, *spoiled: tuple[str, bytes]) -> None:
    """Bring the run back to its valid state but for some files, whose checksums are made to fit."""
    rows = json.loads(inputs.content["rows.json"])
    rows.pop("seal", None)
    for name in ("rows.json", "predictor.json", "stack.json", "scores.parquet"):
        (inputs.run / name).write_bytes(inputs.content[name])
    for name, content in spoiled:
        (inputs.run / name).write_bytes(content)
        if name != "rows.json":
            rows["checksums"][name] = hashlib.sha256(content).hexdigest()
            (inputs.run / "rows.json").write_text(json.dumps(rows))


def _rank(inputs: Inputs, rng: Random) -> None:
    _restored(inputs, ("rows.json", spoiled_json(inputs.content["rows.json"], rng)))
    board = higgsbench.Leaderboard.read(inputs.run, sort=rng.choice(("ams_cv", "auc", "log_loss")))
    for form in ("markdown", "csv", "json", "html"):
        board.render(form)


def _models(inputs: Inputs, rng: Random) -> None:
    """Spoil the tree of a stored model, or a part of it, checksums made to fit."""
    _restored(inputs)
    file = rng.choice(sorted((inputs.run / "units").glob("*.model.zip")))
    before, marker = file.read_bytes(), file.with_name(file.name.replace(".model.zip", ".json"))
    note = marker.read_text()
    try:
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(sorted(parts))
        spoil = spoiled_json if name == "model.json" else spoiled_bytes
        parts[name] = spoil(parts[name], rng)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
        if rng.random() < 0.1:
            file.write_bytes(spoiled_bytes(file.read_bytes(), rng))
        content = json.loads(note)
        content.pop("seal", None)
        content["model"]["checksum"] = hashlib.sha256(file.read_bytes()).hexdigest()
        marker.write_text(json.dumps(content))
        FittedRun(StoredRun(inputs.run)).held_out()
    finally:
        file.write_bytes(before)
        marker.write_text(note)


def _reading(reader: Callable[[Path], object], spoil: Callable[[bytes, Random], bytes], name: str) -> Target:
    """Read a spoiled table, or the run with one spoiled file."""

    def call(inputs: Inputs, rng: Random) -> None:
        content = spoil(inputs.content[name], rng)
        if "." in name:
            _restored(inputs, (name, content))
        reader(inputs.run if "." in name else inputs.spoiled(".csv", content))

    return call


def _contend(run: Path) -> None:
    load_contenders([str(run)])


def _open(run: Path) -> None:
    FittedRun(StoredRun(run)).held_out()


TARGETS: dict[str, Target] = {
    "events": _read_events,
    "validate": _reading(validate_file, spoiled_table, "events"),
    "config": _configure,
    "submission": _reading(read_submission, spoiled_table, "submission"),
    "leaderboard": _rank,
    "compare": _reading(_contend, spoiled_json, "rows.json"),
    "predictor": _reading(_open, spoiled_json, "predictor.json"),
    "members": _reading(read_diversity, spoiled_json, "stack.json"),
    "scores": _reading(_contend, spoiled_bytes, "scores.parquet"),
    "models": _models,
}
"""What is fuzzed: each spoils an input and reads it."""


def attempt(target: str, inputs: Inputs, rng: Random) -> bool:
    """Read a spoiled input; return whether it was refused. Anything but a HiggsbenchError comes through."""
    try:
        TARGETS[target](inputs, rng)
    except HiggsbenchError:
        return True
    return False
