"""Events by one word of the configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.load import load_config
from higgsbench.errors import ConfigError, HiggsbenchError
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.events.write import write_events
from higgsbench.runs import find_run
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.predictor import FittedRun
from higgsbench.runs.run import checked_plan
from higgsbench.schema import FAIR_UNIVERSE_2023
from higgsbench.validation import fold_assignments

from .conftest import Notes

MODELS = "models: [{model: logistic, preset: quick}]\nfolds: 2\n"


def written(folder: Path, data: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(f"data: {data}\n{MODELS}")
    return path


def test_simulated_events_are_those_of_the_command(tmp_path: Path) -> None:
    file = write_simulated(SimulationSettings(events=1500, seed=9), tmp_path / "toys.csv")
    a = higgsbench.run(written(tmp_path, "{source: simulated, events: 1500, seed: 9}"), output=tmp_path, jobs=1)
    b = higgsbench.run(written(tmp_path, f"{{path: {file}}}"), output=tmp_path, jobs=1)
    assert (b.folder, b.trained) == (a.folder, 0)
    assert {"ams_public", "ams_private"} <= set(a.rows[0])


def test_options_of_the_simulation(tmp_path: Path) -> None:
    options = "mix: {ttbar: 2.0}, higgs_mass: 120, shifts: {tes: 2%}, set_proportions: {t: 1, v: 1}"
    result = higgsbench.run(
        written(tmp_path, f"{{source: simulated, events: 1500, {options}}}"), output=tmp_path, jobs=1
    )
    assert "ams_private" in result.rows[0]
    assert "ams_public" not in result.rows[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{source: simulated, higgs_mass: 300}", "higgs_mass must be in"),
        ("{source: simulated, mix: {WW: 2.0}}", "unknown processes"),
        ("{source: simulated, path: a.csv}", "`path` belongs to `source: file`"),
        ("{source: file, events: 10}", "`events` belongs to `source: simulated`"),
        ("{source: somewhere}", "'file', 'simulated' or 'opendata'"),
        ("{source: simulated, schema: uci-higgs}", "`schema` belongs to `source: file`"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        higgsbench.run(written(tmp_path, data), output=tmp_path, jobs=1)


def test_other_expected_events_are_another_run(tmp_path: Path) -> None:
    usual, other = (
        higgsbench.run(written(tmp_path, f"{{source: simulated, events: 1500{more}}}"), output=tmp_path, jobs=1)
        for more in ("", ", n_s: 100, n_b: 1000")
    )
    assert usual.folder != other.folder
    assert len(higgsbench.Leaderboard.read(tmp_path).tables) == 2


def test_toys_never_rank_beside_real_events(tmp_path: Path) -> None:
    toys = write_simulated(SimulationSettings(events=1200, seed=9), tmp_path / "toys.csv")
    # The same events numbered like the official file's stand for real ones.
    real = tmp_path / "real.csv"
    pl.read_csv(toys).with_columns(pl.col("EventId") - 999_900_000).write_csv(real)
    for file in (toys, real):
        higgsbench.run(written(tmp_path, f"{{path: {file}}}"), output=tmp_path, jobs=1)
    tables = higgsbench.Leaderboard.read(tmp_path).tables
    assert [t.title.startswith("TOY SIMULATION") for t in tables] == [False, True]


@pytest.mark.skipif(
    not (Path(__file__).parents[2] / "../shared/data").is_dir(), reason="the sample of real events is not there"
)
def test_the_main_job_on_real_events(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    sample = root / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"
    result = higgsbench.run(root / "configs" / "quick.yaml", data=sample, output=tmp_path, jobs=2)
    auc = {row["name"]: row["auc"] for row in result.rows}
    assert result.failures == []
    assert auc["stack"] > auc["xgboost"] > 0.92
    assert auc["stack"] > 0.925


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_folds_do_not_depend_on_the_order_of_the_rows(tmp_path: Path, ending: str) -> None:
    toys = pl.read_csv(write_simulated(SimulationSettings(events=900, seed=9), tmp_path / "toys.csv"))
    folds = []
    for name, frame in (
        ("shuffled", toys.sample(fraction=1.0, shuffle=True, seed=1)),
        ("sorted", toys.sort("EventId")),
    ):
        file = write_events(frame, tmp_path / f"{name}.{ending}")
        dataset = load_dataset(load_config({"data": {"path": str(file)}, "models": ["logistic"], "folds": 3}).config)
        folds.append(dict(zip(dataset.train.event_id.tolist(), dataset.fold[0].tolist(), strict=True)))
    assert folds[0] == folds[1]
    assert np.array_equal(dataset.fold, fold_assignments(dataset.y, dataset.group, 3, 1, 42))


def one_class(folder: Path, *groups: int) -> Path:
    """Toys without signal in some jet groups."""
    toys = pl.read_csv(write_simulated(SimulationSettings(events=900, seed=9), folder / "toys.csv"))
    file = folder / "one_class.csv"
    toys.filter(~pl.col("PRI_jet_num").is_in(groups) | (pl.col("Label") == "b")).write_csv(file)
    return file


SPLIT = {"models": [{"model": "logistic", "preset": "quick"}], "folds": 2, "jet_split": "both"}


@pytest.mark.parametrize(
    ("lacking", "groups", "merged"),
    [
        ([0], [[0, 1], [2, 3]], "group [0] has no signal events of positive total weight; merged with [1]"),
        ([1], [[0], [1, 2, 3]], "group [1] has no signal events of positive total weight; merged with [2, 3]"),
        ([2, 3], [[0], [1, 2, 3]], "group [2, 3] has no signal events of positive total weight; merged with [1]"),
    ],
)
def test_a_jet_group_of_one_class_is_merged_with_its_neighbour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lacking: list[int], groups: list[list[int]], merged: str
) -> None:
    heard, file = Notes(), one_class(tmp_path, *lacking)
    found = higgsbench.run({**SPLIT, "data": {"path": str(file)}}, output=tmp_path, jobs=1, listener=heard)
    assert [(row["name"], row["status"]) for row in found.rows] == [
        (name, "ok") for name in ("logistic", "logistic [jets]", "stack")
    ]
    note = f"jet_groups: {merged}: one submodel for both"
    assert [text for text in heard.lines if "jet_groups" in text] == [note]
    assert FittedRun(find_run(found)).content.rows[1].groups == groups
    new = write_simulated(SimulationSettings(events=300, seed=10), tmp_path / "new.csv")
    with caplog.at_level("INFO", "higgsbench"):
        scores = higgsbench.predict(found, new, model="logistic [jets]")
    assert f"{new}: {note}" in caplog.messages
    assert scores["score"].is_finite().all()
    caplog.clear()
    with caplog.at_level("INFO", "higgsbench"):
        higgsbench.predict(found, new, model="logistic")
    assert "jet_groups" not in caplog.text


def test_jet_groups_that_leave_nothing_to_split_cost_the_split_rows_before_any_fit(tmp_path: Path) -> None:
    heard, config = Notes(), {**SPLIT, "data": {"path": str(one_class(tmp_path, 1, 2, 3))}}
    found = higgsbench.run(config, output=tmp_path / "out", jobs=1, listener=heard)
    assert [(row["name"], row["status"]) for row in found.rows] == [("logistic", "ok"), ("logistic [jets]", "failed")]
    (note,) = (text for text in heard.lines if text.startswith("jet_groups"))
    assert note.startswith("jet_groups: group [1] has no signal events")
    assert note.endswith("or use `jet_split: none`; not trained: logistic [jets]")
    assert heard.fits == found.trained == 2
    assert [failure.row for failure in found.failures] == ["logistic [jets]"]
    again = higgsbench.run(config, output=tmp_path / "out", jobs=1)
    assert (again.trained, again.reused) == (0, 2)
    with pytest.raises(ConfigError, match=r"no row can be trained: jet_groups: group \[1\] has no signal events"):
        higgsbench.run({**config, "jet_split": "groups"}, output=tmp_path / "out", jobs=1)


def test_a_jet_group_of_one_class_in_one_fold_is_merged_too(tmp_path: Path) -> None:
    toys = pl.read_csv(write_simulated(SimulationSettings(events=900, seed=9), tmp_path / "toys.csv"))
    rare = toys.filter((pl.col("PRI_jet_num") == 1) & (pl.col("Label") == "s") & (pl.col("KaggleSet") == "t"))
    toys.filter(~pl.col("EventId").is_in(rare["EventId"].to_list()[1:])).write_csv(tmp_path / "rare.csv")
    config = load_config({**SPLIT, "data": {"path": str(tmp_path / "rare.csv")}}).config
    dataset = load_dataset(config)
    assert dataset.groups == ((0,), (1, 2, 3))
    assert "group [1] has no signal events of positive total weight without fold" in dataset.merged[0]
    alone = load_dataset(config.model_copy(update={"jet_split": "none"}))
    assert (alone.groups, alone.merged) == (((0,), (1,), (2, 3)), ())
    assert np.array_equal(alone.fold, dataset.fold)


@pytest.mark.parametrize(
    ("schema", "settings", "note"),
    [
        ({"weight": "w"}, [], ""),
        ({}, [], "N_s = 20 and N_b = 40 are numbers of events, because the layout has no weights: the AMS compares"),
        ({}, ["data.n_s=3", "data.n_b=5"], ""),
        ({"n_s": 3, "n_b": 5}, [], ""),
        (None, [], "N_s = 20 and N_b = 40 are sums of the weights, and each file of the bundle has the full weight"),
    ],
)
def test_totals_that_are_not_expected_events_are_noted(
    tmp_path: Path, schema: dict[str, object] | None, settings: list[str], note: str
) -> None:
    names = FAIR_UNIVERSE_2023.features
    frame = pl.DataFrame({name: [float(i % 2 + i % 3) for i in range(60)] for name in names})
    frame = frame.with_columns(pl.col([*FAIR_UNIVERSE_2023.integers]).cast(pl.Int64), EventId=pl.int_range(60),
                               w=1.0, Weight=1.0, Label=pl.Series(["s", "b", "b"] * 20))  # fmt: skip
    frame.write_csv(tmp_path / "a.csv")
    own = {"features": list(names), "label": "Label", "signal": "s", **(schema or {})}
    data = {"path": str(tmp_path / "a.csv"), "schema": FAIR_UNIVERSE_2023.name if schema is None else own}
    loaded = load_config({"data": data, "models": ["logistic"], "folds": 2}, settings)
    heard = Notes()
    checked_plan(loaded, heard)
    assert [text[: len(note)] for text in heard.lines if text.startswith("N_s")] == ([note] if note else [])


def test_a_result_holds_when_the_working_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = higgsbench.run(
        {"data": {"source": "simulated", "events": 900}, "models": ["logistic"], "folds": 2}, output="out", jobs=1
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert found.folder.is_absolute()
    assert find_run(found).rows[0].name == "logistic"
    written = [file for file in found.folder.rglob("*") if file.is_file()]
    assert all(str(tmp_path).encode() not in file.read_bytes() for file in written)
