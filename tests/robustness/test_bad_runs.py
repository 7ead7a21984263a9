"""Forged and damaged run folders: each is refused, or left out with a word, in one line without Python's wording."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import higgsbench
from tests.robustness.conftest import Refuse

Spoil: TypeAlias = "Callable[[Path], object]"


def forged(name: str, change: Callable[[Any], Any]) -> Spoil:
    """Change the content of a JSON file of the run and keep the checksums right."""

    def spoil(run: Path) -> None:
        content = json.loads((run / name).read_text())
        if isinstance(content, dict):
            content.pop("seal", None)  # what has none is read, as runs of older versions are
        changed = change(content)
        (run / name).write_text(json.dumps(content if changed is None else changed))
        vouch(run, name)

    return spoil


def vouch(run: Path, name: str) -> None:
    """Write the right checksum of a file into rows.json."""
    if name == "rows.json":
        return
    rows = json.loads((run / "rows.json").read_text())
    rows.pop("seal", None)
    rows["checksums"][name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    (run / "rows.json").write_text(json.dumps(rows))


def raw(name: str, content: bytes) -> Spoil:
    def spoil(run: Path) -> None:
        (run / name).write_bytes(content)
        vouch(run, name)

    return spoil


def model_file(run: Path) -> Path:
    """Return the first stored model of the first row."""
    key = json.loads((run / "predictor.json").read_text())["rows"][0]["units"][0]
    return run / "units" / f"{key}.model.zip"


def model(change: Callable[[Path], object]) -> Spoil:
    """Change the first stored model and keep its checksum right."""

    def spoil(run: Path) -> None:
        file = model_file(run)
        change(file)
        marker = file.with_name(file.name.replace(".model.zip", ".json"))
        content = json.loads(marker.read_text())
        content.pop("seal", None)
        content["model"]["checksum"] = hashlib.sha256(file.read_bytes()).hexdigest()
        marker.write_text(json.dumps(content))

    return spoil


def with_part(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change a part of the first stored model, or add it."""

    def alter(file: Path) -> None:
        with zipfile.ZipFile(file) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        repacked(file, {**parts, name: change(parts.get(name, b""))})

    return model(alter)


def manifest(change: Callable[[Any], Any]) -> Spoil:
    def changed(text: bytes) -> bytes:
        content = json.loads(text)
        change(content)
        return json.dumps(content).encode()

    return with_part("model.json", changed)


def repacked(file: Path, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def at(*path: str | int, value: Any) -> Callable[[Any], None]:
    """Return a change that puts a value at a path of keys."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


DAMAGED = r"run/[a-z]+\.(json|parquet): damaged or not made by higgsbench; run the configuration again.*"
MISFIT = r"run: the models of 'lightgbm' do not fit its features and groups"
REFUSED = r".*: not a valid stored model: "

PREDICT: dict[str, tuple[Spoil, str]] = {
    "no predictor": (lambda run: (run / "predictor.json").unlink(), r"run/predictor.json: missing; run the conf.*"),
    "no rows": (lambda run: (run / "rows.json").unlink(), r"run: unfinished \(4 units stored\); run its config.*"),
    "depth": (raw("predictor.json", b"[" * 100_000), DAMAGED),
    "another format": (forged("predictor.json", at("format", value=99)), r"run/predictor.json: format 99 instead of.*"),
    "units by path": (forged("predictor.json", at("rows", 0, "units", value=["../../../etc/passwd"])), DAMAGED),
    "features that read files": (
        forged(
            "predictor.json", at("rows", 0, "features", "add", value=[{"name": "x", "expr": "read_csv('/etc/passwd')"}])
        ),
        r".*x.*",
    ),
    "a model gone": (lambda run: model_file(run).unlink(), r".*: cannot be read: No such file or directory"),
    "not a zip": (model(lambda file: file.write_bytes(b"x" * 99)), r".*: not a stored model of higgsbench.*"),
    "a path in the zip": (
        model(lambda file: repacked(file, {"model.json": b"{}", "../../owned": b"x"})),
        REFUSED + r"it has an entry named '../../owned', which higgsbench never writes.*",
    ),
    "a zip bomb": (
        model(lambda file: repacked(file, {"model.json": b"{}", "0.npz": bytes(300 << 20)})),
        REFUSED + r"it unpacks to more than 200 times its size.*",
    ),
    "a model of an unknown kind": (
        manifest(at("model", value={"kind": "pickle"})),
        REFUSED + r"a model of kind 'pickle'; known kinds are .*",
    ),
    "a part that is not there": (
        manifest(lambda c: forget(c["model"])),
        REFUSED + r"it refers to '../../etc/passwd', which is not a part of it.*",
    ),
}


def forget(node: Any) -> None:
    """Point every reference to a part elsewhere."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list)):
            forget(value)
        elif isinstance(value, str) and re.fullmatch(r"[0-9]+\.[a-z]+", value):
            node[key] = "../../etc/passwd"


MEMBERS: dict[str, tuple[Spoil, str]] = {
    "no scores": (lambda run: (run / "scores.parquet").unlink(), r"run/scores.parquet: missing; run the conf.*"),
    "no parquet": (raw("scores.parquet", b"x" * 99), DAMAGED),
    "no stack": (raw("stack.json", b"null"), r"run: this run has no stack \(`stack: false`, or fewer than two rows\)"),
    "a stack of a list": (raw("stack.json", b"[]"), DAMAGED),
    "a stack of depth": (raw("stack.json", b"[" * 100_000), DAMAGED),
}


@pytest.mark.parametrize(
    ("command", "case"), [*(("members", case) for case in MEMBERS), ("stats", "no scores"), ("stats", "no parquet")]
)
def test_reading_damaged_runs(command: str, case: str, here: Path, refuse: Refuse) -> None:
    spoil, expected = MEMBERS[case]
    spoil(here / "run")
    refuse(command, "run", match=expected)


LEFT_OUT = r"run: left out, rows.json: damaged or not made by higgsbench"
ROWS: dict[str, tuple[Spoil, str]] = {
    "nothing": (raw("rows.json", b""), ""),
    "null": (raw("rows.json", b"null"), r" \(no list of rows or no comparability\)"),
    "depth": (raw("rows.json", b"[" * 100_000), ""),
    "UTF-16": (raw("rows.json", "{}".encode("utf-32")), r".*"),
    "a huge whole number": (raw("rows.json", b'{"rows": ' + b"9" * 9000 + b"}"), r" \(no list of rows .*\)"),
}


@pytest.mark.parametrize(("spoil", "expected"), ROWS.values(), ids=ROWS)
def test_leaderboards_leave_damaged_runs_out_with_a_word(spoil: Spoil, expected: str, here: Path) -> None:
    spoil(here / "run")
    board = higgsbench.Leaderboard.read(here / "run")
    assert board.tables == ()
    (note,) = board.notes
    assert re.fullmatch(LEFT_OUT + expected, note), note


def moved(instead: Callable[[Path], object]) -> Spoil:
    """Move the run away and put something else in its place."""

    def spoil(run: Path) -> None:
        run.rename(run.with_name("x"))
        instead(run)

    return spoil


def pipe(run: Path) -> None:
    (run / "rows.json").unlink()
    os.mkfifo(run / "rows.json")


NO_RUN = r"run: no finished run of that name here or in results; `higgsbench run` prints where it stores one"
UNFINISHED = r"run: unfinished \(4 units stored\); run its configuration again to continue"
FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no folder": (moved(lambda run: None), NO_RUN),
    "a file": (moved(lambda run: run.write_text("x")), r"run: a file; name a run's folder, .*"),
    "an empty folder": (moved(Path.mkdir), NO_RUN),
    "a link to itself": (moved(lambda run: run.symlink_to(run)), NO_RUN),
    "pipes for files": (pipe, UNFINISHED),
}


@pytest.mark.parametrize(("spoil", "expected"), [*PREDICT.values(), *FOLDERS.values()], ids=[*PREDICT, *FOLDERS])
def test_predicting_with_forged_or_missing_runs(spoil: Spoil, expected: str, here: Path, refuse: Refuse) -> None:
    spoil(here / "run")
    refuse("predict", "run", "test.csv", "-o", "scores.csv", match=expected)
