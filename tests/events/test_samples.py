"""Samples: files of one process each, in every format, as one table; what they change and what they must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.document import yaml_text
from higgsbench.config.load import configured_events, load_config, source_events
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, HiggsbenchWarning
from higgsbench.events import Events, EventStream, open_samples
from higgsbench.events.samples import SELECTED
from higgsbench.explore import explore
from higgsbench.runs.predict import write_scores

awkward = pytest.importorskip("awkward")
uproot = pytest.importorskip("uproot")

FIRST_ID = 2**60  # far above the whole numbers that a float64 holds
FEATURES: list[Any] = ["met", "mass", "tight", "jet_pt[0]", {"name": "ht", "expr": "sum(jet_pt)"}, "len(jet_pt)"]
PROCESSES = {"ggH": 6.0, "ttbar": 0.0, "wjets": 1.0}


def made_up(shift: float, seed: int, events: int = 300) -> pl.DataFrame:
    """Events of one process; event numbers repeat in other processes."""
    rng = np.random.default_rng(seed)
    jets = rng.integers(0, 4, events)
    return pl.DataFrame(
        {
            "event_number": np.arange(events, dtype=np.uint64) + np.uint64(FIRST_ID),
            "run_number": np.full(events, 3, dtype=np.uint32),
            "met": (rng.exponential(40, events) + shift).astype(np.float32),
            "mass": rng.normal(100 + 3 * shift, 20, events),
            "n_tau": rng.integers(0, 3, events).astype(np.uint8),
            "tight": rng.random(events) < 0.5,
            "channel": rng.choice(["e", "mu"], events),
            "mc_weight": rng.choice([-1.0, 1.0, 1.5], events, p=[0.1, 0.5, 0.4]),
            "jet_pt": [(rng.exponential(30, n) + shift).astype(np.float32).tolist() for n in jets],
            "n_jets": jets.astype(np.int32),
        },
        schema_overrides={"jet_pt": pl.List(pl.Float32)},
    )


EVENTS = {name: made_up(shift, seed) for seed, (name, shift) in enumerate(PROCESSES.items())}


def write(table: pl.DataFrame, file: Path) -> str:
    """Write a table by the ending of the file; a tree `nominal` beside another one in ROOT."""
    if file.suffix == ".parquet":
        table.write_parquet(file)
    elif file.suffix == ".csv":
        table.drop("jet_pt", strict=False).write_csv(file)
    else:
        columns = {
            c.name: awkward.Array(c.to_list()) if c.dtype in (pl.List, pl.String) else c.to_numpy() for c in table
        }
        columns["jet_pt"] = awkward.values_astype(columns["jet_pt"], np.float32)
        with uproot.recreate(file) as content:
            if file.suffix == ".root":
                kinds = {n: v.dtype if isinstance(v, np.ndarray) else v.type.content for n, v in columns.items()}
                content.mktree("nominal", kinds)
                content["nominal"].extend(columns)
                content["shifted"] = {"met": np.arange(3.0)}
            else:
                content.mkrntuple("nominal", columns)
        return f"{file}:nominal" if file.suffix == ".root" else str(file)
    return str(file)


@pytest.fixture
def analysis(tmp_path: Path) -> dict[str, Any]:
    """Sections of a configuration: a ROOT file, an RNTuple and a Parquet file."""
    files = {"ggH": "ggH.root", "ttbar": "ttbar.rntuple", "wjets": "wjets.parquet"}
    samples: list[dict[str, Any]] = [
        {"files": write(EVENTS[name], tmp_path / file), "process": name} for name, file in files.items()
    ]
    samples[0]["signal"] = True
    samples[1]["scale"] = 1.5
    return {
        "data": {
            "samples": samples,
            "weight": "mc_weight * 2",
            "negative_weights": "absolute",
            "id": ["run_number", "event_number"],
            "group": "n_jets",
            "groups": [[0], [1], [2, 3]],
            "select": "n_tau >= 1 and met > 5",
            "features": list(FEATURES),
        },
        "folds": {"by": "event_number % 3"},
        "preset": "quick",
        "stack": False,
        "models": [{"model": "logistic", "jet_split": "both"}, "lightgbm"],
    }


def load(content: dict[str, Any], *, stored: bool = False) -> Events:
    config = load_config(content).config
    by = None if isinstance(config.folds, int) else config.folds.by
    return source_events(config.data, stored=stored, by=by)


def test_what_is_read(analysis: dict[str, Any]) -> None:
    events = load(analysis)
    wanted = pl.concat([EVENTS[name].with_columns(process=pl.lit(name)) for name in PROCESSES])
    wanted = wanted.filter((pl.col("n_tau") >= 1) & (pl.col("met") > 5))
    found, key = events.frame, ["Process", "mass"]
    assert events.schema.features == ("met", "mass", "tight", "jet_pt_0", "ht", "len_jet_pt")
    wanted, found = wanted.sort("process", "mass"), found.sort(key)
    assert found["Process"].to_list() == wanted["process"].to_list()
    assert found["Label"].to_list() == ["s" if name == "ggH" else "b" for name in wanted["process"]]
    assert found["met"].to_list() == wanted["met"].cast(pl.Float64).to_list()
    assert found["tight"].to_list() == wanted["tight"].cast(pl.Float64).to_list()
    assert found["jet_pt_0"].to_list() == wanted["jet_pt"].list.get(0, null_on_oob=True).cast(pl.Float64).to_list()
    assert found["len_jet_pt"].to_list() == wanted["n_jets"].cast(pl.Float64).to_list()
    np.testing.assert_allclose(found["ht"], wanted["jet_pt"].list.eval(pl.element().cast(pl.Float64)).list.sum())
    scale = pl.when(wanted["process"] == "ttbar").then(1.5).otherwise(1.0)
    assert found["Weight"].to_list() == wanted.select(pl.col("mc_weight") * 2 * scale).to_series().to_list()
    assert found["Fold"].to_list() == (wanted["event_number"] % 3).cast(pl.Int64).to_list()
    assert found["EventId"].n_unique() == found.height
    assert events.frame["EventId"].is_sorted()
    assert load(analysis, stored=True).digest == events.digest
    layout = events.schema
    on_disk = open_samples(load_config(analysis).config.data.sample_list(layout), layout, large=0)
    assert on_disk.digest == events.digest


def split(folder: Path, table: pl.DataFrame) -> list[str]:
    parts = [table[:100], table[100:101], table[101:]]
    return [write(part, folder / f"part_{i}.root") for i, part in enumerate(parts)]


def shuffled(folder: Path, table: pl.DataFrame) -> list[str]:
    return [write(table.sample(fraction=1.0, shuffle=True, seed=1), folder / "shuffled.parquet")]


def pattern(folder: Path, table: pl.DataFrame) -> list[str]:
    split(folder, table)
    return [f"{folder}/part_*.root:nominal"]


@pytest.mark.parametrize("change", [split, shuffled, pattern])
def test_files_do_not_count(analysis: dict[str, Any], tmp_path: Path, change: Callable[..., list[str]]) -> None:
    before = load(analysis)
    for sample in analysis["data"]["samples"]:
        (folder := tmp_path / sample["process"]).mkdir()
        sample["files"] = change(folder, EVENTS[sample["process"]])
    assert load(analysis).digest == before.digest


def test_formats_do_not_count(analysis: dict[str, Any], tmp_path: Path) -> None:
    analysis["data"]["features"] = ["met", "mass", "tight"]
    tables = []
    for ending in ("csv", "root", "parquet"):
        for sample in analysis["data"]["samples"]:
            table = EVENTS[sample["process"]].with_columns(
                pl.col("tight").cast(pl.UInt8), pl.col("met").cast(pl.Float64)
            )
            sample["files"] = write(table, tmp_path / f"{sample['process']}_again.{ending}")
        tables.append(load(analysis))
    assert tables[0].digest == tables[1].digest == tables[2].digest


def test_a_run(analysis: dict[str, Any], tmp_path: Path) -> None:
    """Folds and scores stay bit for bit when rows and files change; new events are scored in the layout of the run."""
    first = higgsbench.run(analysis, output=tmp_path / "first")
    again = {**analysis, "data": {**analysis["data"], "samples": []}}
    for sample in analysis["data"]["samples"]:
        (folder := tmp_path / sample["process"]).mkdir()
        table = EVENTS[sample["process"]].sample(fraction=1.0, shuffle=True, seed=2)
        files = [write(table[:150], folder / "a.parquet"), write(table[150:], folder / "b.root")]
        again["data"]["samples"].append({**sample, "files": files})
    second = higgsbench.run(again, output=tmp_path / "second")
    one, other = (pl.read_parquet(run.folder / "scores.parquet") for run in (first, second))
    assert one.equals(other)
    file = analysis["data"]["samples"][0]["files"]
    for sample in analysis["data"]["samples"]:
        Path(sample["files"].removesuffix(":nominal")).rename(tmp_path / f"moved_{sample['process']}")
    (tmp_path / "moved_ggH").rename(file.removesuffix(":nominal"))
    scores = higgsbench.predict(first.folder, file, model="lightgbm")
    selected = scores.filter(pl.col("score").is_not_null())
    joined = selected.join(one, on="EventId")
    assert selected.height == joined.height == int((one["signal"]).sum())
    assert joined["score"].to_list() == pytest.approx(joined["score:lightgbm"].to_list(), abs=1e-12)
    assert not scores.filter(pl.col("score").is_null())["selected"].any()


def test_the_sample_of_a_file(analysis: dict[str, Any], tmp_path: Path) -> None:
    data = load_config(analysis).config.data
    layout = data.table_schema()
    for path, name in (("ggH.root:nominal", "ggH"), ("ggH.root:shifted", "ggH"), ("ggH.root", "ggH"), ("x.root", "")):
        assert data.sample_of(str(tmp_path / path), layout).name == name


def test_the_sample_tells_which_events_were_trained_on(
    analysis: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    analysis |= {"folds": 2, "models": ["lightgbm"]}
    run = higgsbench.run(analysis, output=tmp_path / "out", jobs=1).folder
    stored, file = pl.read_parquet(run / "scores.parquet"), write(EVENTS["ttbar"], tmp_path / "copy.parquet")
    with caplog.at_level("INFO", "higgsbench"):
        found = higgsbench.predict(run, file, sample="ttbar", columns=["mc_weight", "n_tau"])
    assert f"{found['score'].null_count()} of {found.height:,} events do not pass `data.select`" in caplog.text
    copied = ["run_number", "event_number", "mc_weight", "n_tau"]
    assert found.columns == ["EventId", "score", "selected", *copied]
    assert found.select(copied).equals(EVENTS["ttbar"].select(copied))
    known = found.join(stored, on="EventId")
    assert known.height == found["score"].count() > 50
    assert known["score"].equals(known["score:lightgbm"].alias("score"))
    assert higgsbench.predict(run, file).join(stored, on="EventId").height == 0
    write_scores(iter([found]), tmp_path / "scores.root")
    with uproot.open(tmp_path / "scores.root") as written:
        numbers = written["events"]["event_number"].array(library="np")
    assert numbers.tolist() == found["event_number"].to_list()
    with pytest.raises(ConfigError, match="--sample zz: no sample of that name; the run has ggH, ttbar, wjets"):
        higgsbench.predict(run, file, sample="zz")


def test_categories_and_labels(analysis: dict[str, Any], tmp_path: Path) -> None:
    data = analysis["data"]
    mixed = EVENTS["ttbar"].with_columns(truth=pl.Series([i % 3 == 0 for i in range(300)]))
    data["samples"] = [{"files": write(mixed, tmp_path / "mixed.parquet"), "process": "mixed"}]
    data |= {"label": "truth", "signal": 1, "categorical": ["channel"], "features": "all"}
    events = load(analysis)
    assert events.schema.features == ("channel", "met", "mass", "n_tau", "tight", "n_jets")
    assert set(events.frame["channel"]) == {"e", "mu"}
    assert 0 < events.y.sum() < len(events)


def test_identities_without_columns(analysis: dict[str, Any], tmp_path: Path) -> None:
    """Positions in the samples count, not in the files."""
    del analysis["data"]["id"]
    before = load(analysis)
    analysis["data"]["samples"][2]["files"] = split(tmp_path, EVENTS["wjets"])
    assert load(analysis).digest == before.digest


def test_a_feature_may_have_the_name_all(analysis: dict[str, Any]) -> None:
    analysis["data"]["features"] = ["met", {"name": "all", "expr": "met * 2"}]
    events = load(analysis)
    assert events.schema.features == ("met", "all")
    assert (events.frame["all"] == 2 * events.frame["met"]).all()


def test_events_without_numbers_are_said_to_be_training_events(
    analysis: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del analysis["data"]["id"]
    run = higgsbench.run(analysis | {"folds": 2, "models": ["logistic"]}, output=tmp_path / "out", jobs=1)
    with pytest.warns(
        HiggsbenchWarning, match=r"training events \(sample wjets\), but without `data.id` or `folds.by`"
    ):
        higgsbench.predict(run, tmp_path / "wjets.parquet")
    with caplog.at_level("INFO", "higgsbench"):
        higgsbench.predict(run, write(EVENTS["ttbar"], tmp_path / "copy.parquet"))
    assert "the layout has no event numbers, so events that the run was trained on count as new" in caplog.text


def test_shifted_samples_are_named_by_configurations(analysis: dict[str, Any], tmp_path: Path) -> None:
    analysis |= {"folds": 2, "models": ["logistic"]}
    run = higgsbench.run(analysis, output=tmp_path / "out", jobs=1)
    sides = []
    for side, factor in (("up", 1.1), ("down", 0.9)):
        (folder := tmp_path / side).mkdir()
        moved = {name: table.with_columns(pl.col("met") * factor) for name, table in EVENTS.items()}
        samples = [
            {**sample, "files": write(moved[sample["process"]], folder / f"{sample['process']}.parquet")}
            for sample in analysis["data"]["samples"]
        ]
        sides.append(folder / "c.yaml")
        sides[-1].write_text(yaml_text(analysis | {"data": {**analysis["data"], "samples": samples}}))
    found = higgsbench.stats(run, shifts=[("met", sides[0], sides[1])])
    assert [row.name for row in found.shifts] == ["nominal", "met up", "met down"]
    assert found.shifts[1].b != found.shifts[0].b
    assert len(higgsbench.stats(run, shifts=["bkg_scale=0.1"]).shifts) == 3
    with pytest.raises(ConfigError, match="the run has samples, so name a configuration instead: a YAML file"):
        higgsbench.stats(run, shifts=[("met", tmp_path / "ggH.root", sides[1])])
    sides[0].write_text(sides[0].read_text().replace("- met\n", "- {name: met, expr: met * 2}\n"))
    with pytest.raises(ConfigError, match="the features are not those of the run"):
        higgsbench.stats(run, shifts=[("met", sides[0], sides[1])])


def test_events_that_are_not_selected(analysis: dict[str, Any]) -> None:
    layout = load(analysis).schema
    stream = EventStream(analysis["data"]["samples"][0]["files"], layout)
    marked = pl.concat(stream.batches(mark=True))
    assert marked.height == 300
    assert marked.filter(SELECTED).drop(SELECTED).equals(pl.concat(stream.batches()))


def test_a_configuration_is_described(analysis: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "analysis.yaml"
    file.write_text(yaml_text(analysis))
    events = configured_events(file)
    assert events is not None
    assert events.digest == load(analysis).digest
    roles = {column.name: column.role for column in explore(events).columns}
    assert roles["Process"] == "process"
    assert roles["Fold"] == "fold"
    (tmp_path / "none.yaml").write_text("models: [logistic]")
    with pytest.raises(ConfigError, match="no section `data`"):
        configured_events(tmp_path / "none.yaml")


def changed(**keys: Any) -> Callable[[dict[str, Any], Path], None]:
    return lambda data, _: data.update(keys)


def sample(number: int, **keys: Any) -> Callable[[dict[str, Any], Path], None]:
    return lambda data, _: data["samples"][number].update(keys)


def column(number: int, *names: str, **columns: Any) -> Callable[[dict[str, Any], Path], None]:
    """Return a change of the file of a sample: columns that are dropped or replaced."""

    def change(data: dict[str, Any], folder: Path) -> None:
        table = list(EVENTS.values())[number].drop(names).with_columns(**columns)
        data["samples"][number]["files"] = write(table, folder / "bad.parquet")

    return change


BAD_FILES = [
    (column(1, "met"), r"bad.parquet: .*met"),
    (column(1, met=pl.lit("high")), r"bad.parquet: .*met.*String"),
    (column(2, "mc_weight"), r"bad.parquet: Weight.*no column named 'mc_weight'"),
    (column(2, "n_tau"), r"bad.parquet: select.*no column named 'n_tau'"),
    (column(2, "run_number"), r"bad.parquet: no column run_number"),
    (column(2, event_number=pl.lit(7)), r"bad.parquet: row 2: the same event as row 1 by the columns run_number"),
    (column(2, run_number=pl.lit(0.5)), r"bad.parquet: row \d+, column run_number: 0.5 is not a whole number"),
    (column(2, mc_weight=pl.lit(0.0)), r"bad.parquet: the weights of all events sum to 0"),
    (column(2, mc_weight=pl.lit(None, pl.Float64)), r"bad.parquet: row \d+, column Weight = mc_weight \* 2: empty"),
    (column(2, jet_pt=pl.lit(1.0)), r"bad.parquet: column jet_pt does not hold a vector"),
    (column(2, n_jets=pl.lit(1.5)), r"bad.parquet: row \d+, column n_jets: 1.5 is not a whole number"),
    (changed(negative_weights=None), r"row \d+, column Weight = mc_weight \* 2: found -2.0, expected a positive "
     "weight; choose `data.negative_weights`: resample, drop, absolute or zero"),
    (lambda data, folder: data["samples"][2].update(files=[write(EVENTS["wjets"], folder / f"{i}.root") for i in "ab"]),
     r"sample wjets: row \d+ of .*b.root:nominal: the same event as row \d+ of .*a.root:nominal by the columns"),
    (changed(select="n_tau > 7"), r"no events pass the selection 'n_tau > 7' \(`data.select`\)"),
    (column(1, n_tau=pl.lit(-9, pl.Int32)), r"^sample \w+ \(.*bad.parquet\): no events pass the selection 'n_tau"),
    (lambda data, folder: data["samples"][2].update(files=write(EVENTS["wjets"].head(0), folder / "no.parquet")),
     r"^sample wjets \(.*no.parquet\): no events; correct this or leave out the sample"),
    (changed(features=["met", "x_*"]), r"no column of numbers in .*ggH.root:nominal matches 'x_\*'"),
    (changed(features=["met", "jet_pt"]), r"ggH.root:nominal: column jet_pt: this branch has several values"),
    (sample(0, files="nowhere.root"), r"nowhere.root: no such file"),
    (sample(0, files="nowhere/*.root"), r"nowhere/\*.root: no file matches this pattern"),
    (lambda data, _: data["samples"][0].update(files=data["samples"][0]["files"].replace("nominal", "nominla")),
     r"ggH.root:nominla: no tree 'nominla'; the file holds nominal, shifted"),
    (lambda data, _: data["samples"][0].update(files=data["samples"][0]["files"].removesuffix(":nominal")),
     r"ggH.root: the tree of events is ambiguous or missing; the file holds nominal, shifted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("event_number % 0", r"row 1, folds.by: event_number % 0: empty"),
        ("mass % 5", r"row \d+, folds.by: mass % 5: [\d.]+ is not a whole number"),
    ],
)
def test_bad_folds(analysis: dict[str, Any], by: str, message: str) -> None:
    analysis["folds"]["by"] = by
    analysis["data"] |= {"select": "n_tau >= 0"}
    with pytest.raises(DataError, match=message):
        load(analysis)


@pytest.mark.parametrize(("change", "message"), BAD_FILES)
def test_bad_files(
    analysis: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any], Path], None], message: str
) -> None:
    change(analysis["data"], tmp_path)
    with pytest.raises(HiggsbenchError, match=message) as error:
        load(analysis)
    assert isinstance(error.value, (DataError, ConfigError))
    assert "\n" not in str(error.value)
