"""A stored run is read in one place, and named in one way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.errors import ConfigError, StoreError
from higgsbench.files import write_sealed
from higgsbench.runs import RunResult, find_run, run_folders
from higgsbench.runs.stored import StoredRun

CONFIG = """
name: small
models:
  - {model: lightgbm, params: {n_estimators: 4}}
  - {model: logistic, preset: quick, jet_split: both}
folds: 2
repeats: 2
stack: mean
"""


@pytest.fixture(scope="module")
def made(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "c.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        return higgsbench.run(folder / "c.yaml", data=toys, output=folder / "results", jobs=1)


@pytest.fixture
def copy(made: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run in a results folder below the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made.folder, tmp_path / "results" / "small")
    return tmp_path / "results" / "small"


def test_everything_can_be_asked(made: RunResult) -> None:
    run = find_run(made)
    assert [row.name for row in run.rows] == ["lightgbm", "logistic", "logistic [jets]", "stack"]
    frame = pl.read_parquet(run.folder / "scores.parquet")
    row = run.row("logistic [jets]")
    assert row.scores.shape == (2, run.event_id.size)
    assert np.array_equal(row.scores.ravel(), frame["score:logistic [jets]"].to_numpy())
    assert np.array_equal(run.fold.ravel(), frame["fold"].to_numpy())
    assert set(run.score_table) == {row.name for row in run.rows}
    assert run.test_event_id is not None
    assert run.test_score_table[row.name].size == run.test_event_id.size
    assert row.truth.rule == row.cut.rule == "smooth"
    assert row.cut.threshold == row.record["threshold"]
    assert run.totals == pytest.approx((run.weight[run.y].sum(), run.weight[~run.y].sum()))
    assert run.stack is not None
    assert [member.name for member in run.stack.members] == ["lightgbm", "logistic", "logistic [jets]"]
    assert run.environment["higgsbench"] == run.version == higgsbench.__version__
    assert "models:" in run.configuration
    replicas = row.replicas()
    assert replicas is not None
    assert np.all(np.diff(run.event_id[run.by_event]) > 0)
    assert run.notes == []


def test_an_unknown_row_is_refused(made: RunResult) -> None:
    with pytest.raises(ConfigError, match=r"no model 'logistik' \(did you mean 'logistic'\?\)"):
        find_run(made).row("logistik")


@pytest.mark.parametrize("name", ["results/small", "small", "latest", "results", "./results/", "absolute"])
def test_one_way_to_name_a_run(name: str, copy: Path) -> None:
    older = copy.with_name("older")
    shutil.copytree(copy, older)
    os.utime(older / "rows.json", (1, 1))
    assert find_run(copy if name == "absolute" else name).folder.resolve() == copy


def test_a_name_in_another_results_folder(copy: Path) -> None:
    copy.parent.rename("elsewhere")
    assert find_run("small", "elsewhere").folder == Path("elsewhere/small")
    with pytest.raises(StoreError, match=r"^smal: no finished run of that name here or in elsewhere \(did you mean"):
        find_run("smal", "elsewhere")
    with pytest.raises(StoreError, match=r"^small: no finished run of that name here or in results"):
        find_run("small")


def test_an_unfinished_run_is_named_as_such(copy: Path) -> None:
    (copy / "rows.json").unlink()
    with pytest.raises(StoreError, match=r"results/small: unfinished \(12 units stored\); run its configuration again"):
        find_run("small")
    assert run_folders(copy.parent) == [copy]


def test_a_run_of_an_older_version_is_refused_by_that_version(copy: Path) -> None:
    environment = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps({**environment, "higgsbench": "0.0.7"}))
    write_sealed(copy / "rows.json", {"rows": [{"label": "x"}], "comparability": {"events": 5}})
    with pytest.raises(StoreError, match=r"small: written by higgsbench 0\.0\.7, which this version \(.*\) cannot"):
        StoredRun(copy)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("scores.parquet", lambda run: run.row("lightgbm").scores),
        ("test_scores.parquet", lambda run: run.test_score_table),
        ("stack.json", lambda run: run.stack),
        ("config.yaml", lambda run: run.configuration),
        ("environment.json", lambda run: run.environment),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damaged_files_are_named(name: str, ask: Callable[[StoredRun], object], damage: str, copy: Path) -> None:
    file = copy / name
    content = file.read_bytes()
    file.unlink()
    if damage == "flipped":
        file.write_bytes(content[:-1] + b"?")
    run = find_run("small")
    with pytest.raises(StoreError, match=rf"small/{name}: (damaged|missing).*run the configuration again"):
        ask(run)


def test_damaged_replicas_cost_the_errors_of_differences_only(copy: Path) -> None:
    (copy / "replicas.parquet").write_bytes(b"x")
    run = find_run("small")
    assert run.row("lightgbm").replicas() is None
    (note,) = run.notes
    assert note.startswith("small: replicas.parquet is missing or damaged: differences have no errors")
