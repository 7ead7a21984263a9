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

import polars as pl
import pytest

Refuse: TypeAlias = "Callable[..., str]"
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
    """Return the first stored model of the first row and make its checksum follow whatever it becomes."""
    key = json.loads((run / "predictor.json").read_text())["rows"][0]["units"][0]
    return run / "units" / f"{key}.model.zip"


def model(change: Callable[[Path], object]) -> Spoil:
    def spoil(run: Path) -> None:
        file = model_file(run)
        change(file)
        marker = file.with_name(file.name.replace(".model.zip", ".json"))
        content = json.loads(marker.read_text())
        content.pop("seal", None)
        content["model"]["checksum"] = hashlib.sha256(file.read_bytes()).hexdigest()
        marker.write_text(json.dumps(content))

    return spoil


def manifest(change: Callable[[Any], Any]) -> Spoil:
    def alter(file: Path) -> None:
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        content = json.loads(parts["model.json"])
        changed = change(content)
        parts["model.json"] = json.dumps(content if changed is None else changed).encode()
        repacked(file, parts)

    return model(alter)


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
    "a flipped byte": (
        lambda run: (run / "predictor.json").write_bytes((run / "predictor.json").read_bytes() + b" "),
        r"run/predictor.json: damaged: its checksum differs from that in rows.json; run the configuration again.*",
    ),
    "rows of nothing": (raw("rows.json", b""), r"run/rows.json: damaged or not made by higgsbench"),
    "rows of depth": (raw("rows.json", b"[" * 100_000), r"run/rows.json: damaged or not made by higgsbench"),
    "no JSON": (raw("predictor.json", b"{nope"), DAMAGED),
    "depth": (raw("predictor.json", b"[" * 100_000), DAMAGED),
    "an unknown key": (forged("predictor.json", at("stak", value=1)), DAMAGED),
    "another format": (forged("predictor.json", at("format", value=99)), r"run/predictor.json: format 99 instead of.*"),
    "a million threads": (forged("predictor.json", at("threads", value=10**6)), DAMAGED),
    "units by path": (forged("predictor.json", at("rows", 0, "units", value=["../../../etc/passwd"])), DAMAGED),
    "unknown units": (
        forged("predictor.json", at("rows", 0, "units", value=["0" * 32])),
        r"run/units/0{32}.json: missing or damaged; run the configuration again",
    ),
    "a threshold that is not a number": (
        forged("predictor.json", at("rows", 0, "threshold", value=float("nan"))),
        DAMAGED,
    ),
    "an unknown model": (
        forged("predictor.json", at("rows", 0, "model", value="os.system")),
        r"run: 'lightgbm': no model named 'os.system'.*",
    ),
    "groups out of nowhere": (forged("predictor.json", at("rows", 0, "groups", value=[[0], [1], [2, 3]])), MISFIT),
    "other features": (
        forged("predictor.json", at("rows", 0, "features", "set", value="physics")),
        r"run: the features of 'lightgbm' are not those its models were trained with: .*",
    ),
    "features that read files": (
        forged(
            "predictor.json",
            at("rows", 0, "features", "add", value=[{"name": "x", "expr": "read_csv('/etc/passwd')"}]),
        ),
        r".*x.*",
    ),
    "a stack of strangers": (
        forged("predictor.json", at("stack", "members", value=["a", "b"])),
        r"run/predictor.json: damaged: its rows and stack do not fit together",
    ),
    "a model gone": (lambda run: model_file(run).unlink(), r".*: cannot be read: No such file or directory"),
    "a model flipped": (
        lambda run: model_file(run).write_bytes(model_file(run).read_bytes()[:-1] + b"x"),
        r".*: damaged: its checksum is not the one in .*",
    ),
    "not a zip": (model(lambda file: file.write_bytes(b"x" * 99)), r".*: not a stored model of higgsbench.*"),
    "a path in the zip": (
        model(lambda file: repacked(file, {"model.json": b"{}", "../../owned": b"x"})),
        REFUSED + r"it has an entry named '../../owned', which higgsbench never writes.*",
    ),
    "an absolute path in the zip": (
        model(lambda file: repacked(file, {"model.json": b"{}", "/tmp/owned": b"x"})),  # noqa: S108
        REFUSED + r"it has an entry named '/tmp/owned', which higgsbench never writes.*",
    ),
    "a zip bomb": (
        model(lambda file: repacked(file, {"model.json": b"{}", "0.npz": bytes(300 << 20)})),
        REFUSED + r"it unpacks to more than 200 times its size.*",
    ),
    "a model of an unknown kind": (
        manifest(at("model", value={"kind": "pickle"})),
        REFUSED + r"a model of kind 'pickle'; known are .*",
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


@pytest.mark.parametrize("case", PREDICT)
def test_predicting_with_forged_runs(case: str, here: Path, refuse: Refuse) -> None:
    spoil, expected = PREDICT[case]
    spoil(here / "run")
    line = refuse("predict", "run", "test.csv", "-o", "scores.csv")
    assert re.fullmatch(expected, line), line


def scores(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Spoil:
    def spoil(run: Path) -> None:
        change(pl.read_parquet(run / "scores.parquet")).write_parquet(run / "scores.parquet")
        vouch(run, "scores.parquet")

    return spoil


SCORES: dict[str, tuple[Spoil, str]] = {
    "no scores": (lambda run: (run / "scores.parquet").unlink(), r"run/scores.parquet: missing; run the conf.*"),
    "no parquet": (raw("scores.parquet", b"x" * 99), DAMAGED),
    "no events": (scores(lambda frame: frame.clear()), r"run/scores.parquet: .*"),
    "scores of text": (
        scores(lambda frame: frame.with_columns(pl.col("score:lightgbm").cast(pl.String))),
        r"run/scores.parquet: .*'score:lightgbm'.*",
    ),
    "scores that are not numbers": (
        scores(lambda frame: frame.with_columns(pl.lit(float("nan")).alias("score:lightgbm"))),
        r"run/scores.parquet: .*'score:lightgbm'.*",
    ),
    "gaps in the weights": (
        scores(lambda frame: frame.with_columns(weight=pl.lit(None, dtype=pl.Float64))),
        r"run/scores.parquet: .*'weight'.*",
    ),
    "one class": (scores(lambda frame: frame.with_columns(signal=pl.lit(value=True))), r"run/scores.parquet: .*"),
}
MEMBERS = SCORES | {
    "no stack": (raw("stack.json", b"null"), r"run: this run has no stack \(`stack: false`, or fewer than two rows\)"),
    "a stack of a list": (raw("stack.json", b"[]"), DAMAGED),
    "a stack of depth": (raw("stack.json", b"[" * 100_000), DAMAGED),
    "members of numbers": (forged("stack.json", at("members", value=[1, 2])), DAMAGED),
    "an unknown method": (forged("stack.json", at("method", value="median")), r"run/stack.json: .*"),
    "an unknown member": (
        forged("stack.json", at("members", 0, "name", value="xgb")),
        r"run/scores.parquet: .*'score:xgb'.*",
    ),
}
STATS = SCORES | {
    "totals of text": (forged("rows.json", at("comparability", "n_s", value="many")), r"run.*rows.json.*n_s.*"),
    "no totals": (forged("rows.json", lambda c: c["comparability"].pop("n_b") and None), r"run.*rows.json.*n_b.*"),
    "a negative total": (forged("rows.json", at("comparability", "n_s", value=-1.0)), r".*n_s.*"),
    "an unknown rule": (forged("rows.json", at("rows", 0, "cut_rule", value="best")), r".*'best'.*"),
}
READERS = [(command, case) for command, cases in (("members", MEMBERS), ("stats", STATS)) for case in cases]


@pytest.mark.parametrize(("command", "case"), [*READERS, ("compare", "one class")])
def test_reading_forged_runs(command: str, case: str, here: Path, refuse: Refuse) -> None:
    spoil, expected = (MEMBERS | STATS)[case]
    spoil(here / "run")
    line = refuse(command, "run")
    assert re.fullmatch(expected, line), line


LEFT_OUT = r"run: left out, rows.json: damaged or not made by higgsbench"
ROWS: dict[str, tuple[Spoil, str]] = {
    "nothing": (raw("rows.json", b""), ""),
    "null": (raw("rows.json", b"null"), r" \(no list of rows or no comparability\)"),
    "depth": (raw("rows.json", b"[" * 100_000), ""),
    "UTF-16": (raw("rows.json", "{}".encode("utf-32")), r".*"),
    "a huge whole number": (raw("rows.json", b'{"rows": ' + b"9" * 9000 + b"}"), r" \(no list of rows .*\)"),
    "rows of text": (forged("rows.json", at("rows", value=["x"])), r" \(a row without name, .*\)"),
    "a row without a number": (forged("rows.json", at("rows", 0, "auc", value="high")), r" \(row 'lightgbm' lacks .*"),
    "events that are not a number": (
        forged("rows.json", at("comparability", "events", value="all")),
        r" \(no number of events\)",
    ),
    "a digest of lists": (forged("rows.json", at("comparability", "data", value=[[]])), r" \(a comparability .*\)"),
}


@pytest.mark.parametrize("case", ROWS)
def test_leaderboards_leave_damaged_runs_out_with_a_word(case: str, here: Path) -> None:
    from higgsbench.leaderboard import Leaderboard

    spoil, expected = ROWS[case]
    spoil(here / "run")
    board = Leaderboard.read(here / "run")
    assert board.tables == ()
    (note,) = board.notes
    assert re.fullmatch(LEFT_OUT + expected, note), note


ODD: dict[str, Callable[[Any], None]] = {
    "infinite": at("rows", 0, "ams_cv", value=float("inf")),
    "no number": at("rows", 0, "ams_cv", value=float("nan")),
    "huge": at("rows", 0, "auc", value=10**400),
    "true": at("rows", 0, "auc", value=True),
    "an error of text": at("rows", 0, "ams_test", value="x"),
    "a seed of lists": at("rows", 0, "seed", value=[[1]]),
    "params of text": at("rows", 0, "params", value="x"),
    "a left-out row of numbers": at("left_out", value=[3, {"name": 7}]),
    "a source of numbers": at("source", value=3),
    "repeats of text": at("comparability", "repeats", value="x"),
    "folds of lists": at("comparability", "folds", value=[[]]),
    "a label of an escape": at("rows", 0, "label", value="\x1b[2Jx"),
}


@pytest.mark.parametrize("form", ["table", "json", "html"])
@pytest.mark.parametrize("case", ODD)
def test_leaderboards_of_odd_values_neither_break_nor_steer(
    case: str, form: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from higgsbench.cli.main import main

    forged("rows.json", ODD[case])(here / "run")
    with pytest.raises(SystemExit) as exit_:
        main(["leaderboard", "--results", "run", "--format", form])
    out, err = capsys.readouterr()
    assert exit_.value.code in (0, 2)
    assert "Traceback" not in err
    assert "\x1b" not in out + err


def moved(instead: Callable[[Path], object]) -> Spoil:
    """Move the run away and put something else in its place."""

    def spoil(run: Path) -> None:
        run.rename(run.with_name("x"))
        instead(run)

    return spoil


def looped(run: Path) -> None:
    run.symlink_to(run)


def pipe(run: Path) -> None:
    (run / "rows.json").unlink()
    os.mkfifo(run / "rows.json")


NO_RUN = r"run: no finished run of that name here or in results; `higgsbench run` prints where it stores one"
UNFINISHED = r"run: unfinished \(4 units stored\); run its configuration again to go on"
FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no folder": (moved(lambda run: None), NO_RUN),
    "a file": (moved(lambda run: run.write_text("x")), r"run: a file; name a run's folder, .*"),
    "an empty folder": (moved(Path.mkdir), NO_RUN),
    "a link to itself": (moved(looped), NO_RUN),
    "pipes for files": (pipe, UNFINISHED),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_are_no_runs(case: str, here: Path, refuse: Refuse) -> None:
    spoil, expected = FOLDERS[case]
    spoil(here / "run")
    line = refuse("predict", "run", "test.csv", "-o", "scores.csv")
    assert re.fullmatch(expected, line), line
