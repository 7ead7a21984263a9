"""Processes of a run: what is stored, and what leaderboard, comparison and statistics make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.compare import render
from higgsbench.errors import ConfigError
from higgsbench.events import Events, load_events
from higgsbench.inference.statistics import content, processes_table
from higgsbench.runs import RunResult, find_run
from higgsbench.schema import ATLAS_HIGGS

NAMES = ["ggF", "VBF", "VH", "W", "Z", "ttbar"]
OWN = """
data:
  path: {data}
  schema: {{features: [DER_mass_MMC, DER_mass_vis, PRI_tau_pt], label: Label, signal: s, background: b,
            weight: Weight, process: Sample, id: EventId, missing: -999.0}}
models: [{{model: lightgbm, params: {{n_estimators: 15, num_leaves: 7}}}}]
folds: 3
"""


def test_a_run_stores_the_process_of_each_event_and_the_numbers_of_each_process(
    whole: RunResult, training_only: Path
) -> None:
    run = find_run(whole)
    assert run.processes is not None
    assert list(run.processes.names) == NAMES
    known = Events(load_events(training_only).frame, ATLAS_HIGGS, "toys").process
    assert known is not None
    assert run.processes.by_event.tolist() == known.to_list()
    for row, record in zip(run.rows, whole.rows, strict=True):
        assert list(row.processes) == NAMES
        for signal, key in ((True, "s"), (False, "b")):
            parts = [p.selected.value for p in row.processes.values() if p.signal == signal]
            assert sum(parts) == pytest.approx(row.record[key])
        assert record["efficiency:Z"] == row.processes["Z"].numbers["efficiency"]
    assert {p.signal for p in row.processes.values() if p.total < 1000} == {True}


def test_leaderboards_have_columns_of_processes_that_are_shown_if_chosen(whole: RunResult) -> None:
    board = higgsbench.Leaderboard.read(whole.folder, sort="efficiency:W")
    table = json.loads(board.render("json"))["tables"][0]
    kept = [row["efficiency:W"] for row in table["rows"]]
    assert kept == sorted(kept)  # the lowest efficiency of a background comes first
    text = board.render("markdown", ["model", "yield:ggF", "efficiency:W", "n_eff:Z", "auc:ttbar"])
    assert "| yield of ggF | ε of W \\[%\\] | n\\_eff of Z | wAUC of ttbar |".replace("\\_", "_") in text
    assert ":" not in board.render("csv").splitlines()[0]
    assert board.render("csv", ["efficiency:W"]).startswith("table,efficiency:W,efficiency_se:W\n1,0.")
    with pytest.raises(ConfigError, match=r"no column 'efficiency:Wjets' .*efficiency:W"):
        board.render("markdown", ["efficiency:Wjets"])
    with pytest.raises(ConfigError, match=r"no row has a number 'auc:Wjets' .*auc:W"):
        higgsbench.Leaderboard.read(whole.folder, sort="auc:Wjets")


def test_models_are_compared_and_counted_process_by_process(whole: RunResult) -> None:
    found = higgsbench.compare_models(whole, models=["lightgbm", "stack"], replicas=5)
    pair = found.pairs[0]
    assert list(pair.efficiencies) == NAMES
    for name, difference in pair.efficiencies.items():
        a, b = (model.processes[name].efficiency for model in found.models[:2])
        assert a is not None
        assert b is not None
        assert difference.value == pytest.approx(a.value - b.value)
        assert difference.se <= a.se + b.se + 1e-12
    assert "efficiency of each process" in render(found, "markdown")
    told = json.loads(render(found, "json"))
    assert list(told["pairs"][0]["efficiencies"]) == NAMES
    stats = content(higgsbench.stats(whole, models=["stack"]))
    lines = processes_table({row.name: row.processes for row in find_run(whole).rows[:2]}, "").rows
    assert [line[1] for line in lines] == 2 * NAMES
    stored = find_run(whole).row("stack").processes["Z"].numbers
    assert stats["models"][0]["processes"]["Z"] == pytest.approx(stored)


def test_a_column_of_the_file_names_the_processes(
    tmp_path: Path, training_only: Path, config: Callable[..., Path]
) -> None:
    data = tmp_path / "own.csv"
    names = pl.when(pl.col("Label") == "s").then(pl.lit("H")).otherwise("V" + pl.col("PRI_jet_num").cast(pl.String))
    pl.read_csv(training_only).with_columns(Sample=names).write_csv(data)
    result = higgsbench.run(config(OWN, data), output=tmp_path)
    run = find_run(result)
    assert list(run.row("lightgbm").processes) == ["H", "V0", "V1", "V2", "V3"]
    assert result.rows[0]["auc:H"] == pytest.approx(result.rows[0]["auc"])
    again = higgsbench.run(config(OWN.replace("process: Sample, ", ""), data), output=tmp_path)
    assert again.rows[0]["auc"] == result.rows[0]["auc"]  # never a feature
    assert find_run(again).processes is None


def test_runs_of_earlier_versions_have_none(whole: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(whole.folder, folder)
    table = pl.read_parquet(folder / "scores.parquet")
    table.drop("process").write_parquet(folder / "scores.parquet")
    rows = json.loads((folder / "rows.json").read_text())
    rows["rows"] = [{key: value for key, value in row.items() if ":" not in key} for row in rows["rows"]]
    (folder / "rows.json").write_text(json.dumps({key: rows[key] for key in ("rows", "comparability", "source")}))
    run = find_run(folder)
    assert run.processes is None
    assert all(row.processes == {} for row in run.rows)
    found = higgsbench.compare_models(run, models=["lightgbm", "stack"], replicas=5)
    assert found.pairs[0].efficiencies == {}
    assert "process" not in render(found, "markdown")


@pytest.mark.parametrize("change", [{"total:Z": "many"}, {"yield:Z": None}, {"signal:Q": True}])
def test_damaged_numbers_of_a_process_are_refused(whole: RunResult, tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(whole.folder, folder)
    rows = json.loads((folder / "rows.json").read_text())
    rows["rows"][0] |= change
    (folder / "rows.json").write_text(json.dumps({key: rows[key] for key in ("rows", "comparability")}))
    with pytest.raises(higgsbench.HiggsbenchError, match=r"rows\.json: .*lacks a number of a process"):
        find_run(folder)


def test_a_column_of_processes_must_be_text(whole: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(whole.folder, folder)
    table = pl.read_parquet(folder / "scores.parquet")
    table.with_columns(process=pl.Series(np.arange(table.height))).write_parquet(folder / "scores.parquet")
    rows = json.loads((folder / "rows.json").read_text())
    (folder / "rows.json").write_text(json.dumps({key: rows[key] for key in ("rows", "comparability")}))
    with pytest.raises(higgsbench.HiggsbenchError, match="no complete column 'process' of type String"):
        _ = find_run(folder).processes
