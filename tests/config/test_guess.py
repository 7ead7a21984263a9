"""Guesses of `higgsbench init`: the roles of columns, and configurations that run."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.config.guess import suggest_config
from higgsbench.config.load import configured_events
from higgsbench.errors import DataError, HiggsbenchWarning


def table(n: int, seed: int, **more: object) -> pl.DataFrame:
    """Events with columns named as analyses name them."""
    rng = np.random.default_rng(seed)
    columns = {
        "RunNumber": np.full(n, 284500), "EventNumber": np.arange(n), "nJets": rng.integers(0, 4, n),
        "lep_pt": rng.gamma(2.0, 20.0, n), "mmc": np.where(rng.random(n) < 0.2, -999.0, rng.normal(110.0, 20.0, n)),
        "mcWeight": rng.normal(1.0, 0.1, n), "weight_pu": rng.normal(1.0, 0.1, n), "era": np.full(n, 2016),
        "channel": rng.choice(["e", "mu"], n),
    }  # fmt: skip
    return pl.DataFrame({**columns, **more})


def written(folder: Path, **tables: pl.DataFrame) -> list[Path]:
    for name, frame in tables.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return [folder / f"{name}.parquet" for name in tables]


def test_samples_without_labels(tmp_path: Path) -> None:
    signed = {"mcWeight": np.linspace(-0.1, 1.0, 400)}
    files = written(tmp_path, ttbar_1=table(400, 1, **signed), ttbar_2=table(400, 2), VBF_H125=table(400, 3))
    text = suggest_config([*files[:1], files[2]])
    for guess in (
        "process: VBF_H, signal: true", "process: ttbar, signal: false", 'weight: "mcWeight * weight_pu"',
        "negative_weights: resample", "id: [RunNumber, EventNumber]", "group: nJets", "groups: [[0], [1], [2, 3]]",
        "missing: -999", "categorical: [channel]", "era is constant", "nJets, lep_pt, mmc, channel",
    ):  # fmt: skip
        assert guess in text
    both = suggest_config(files)  # the files of a sample number their events alike
    assert f"files: [{files[0]}" in both.replace('"', "")
    assert "# id: [RunNumber, EventNumber]  # repeated within a sample" in both


@pytest.mark.parametrize(("values", "signal"), [(["s", "b"], "s"), ([0, 1], '"1"'), (["tt", "tW"], "tW")])
def test_one_file_with_labels(tmp_path: Path, values: list[object], signal: str) -> None:
    labels = [values[0]] * 300 + [values[1]] * 100 if values[0] != "s" else ["s"] * 300 + ["b"] * 100
    text = suggest_config(written(tmp_path, mine=table(400, 1, target=labels)))
    assert "label: target" in text
    assert f"signal: {signal}" in text


def test_nan_is_the_sentinel(tmp_path: Path) -> None:
    events = table(400, 1, label=[0, 1] * 200, mmc=[float("nan"), 100.0] * 200)
    assert "missing: .nan  # in 1 column" in suggest_config(written(tmp_path, mine=events))


def test_a_built_in_layout_is_named(toys: Path) -> None:
    assert "schema: atlas-higgs-2014" in suggest_config([toys])


def test_nothing_tells_signal_from_background(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of two values has a name like label"):
        suggest_config(written(tmp_path, mine=table(50, 1)))


def test_no_name_looks_like_signal(tmp_path: Path) -> None:
    files = written(tmp_path, ttbar=table(50, 1), wjets=table(50, 2))
    with pytest.warns(HiggsbenchWarning, match="signal; ttbar is assumed"):
        text = suggest_config([tmp_path / "*.parquet", *files])
    with pytest.warns(HiggsbenchWarning, match="ttbar is assumed"):
        assert suggest_config([tmp_path / "*.parquet"]) == text
    assert "CHECK this: no column" in text
    assert text.count("files:") == 2  # patterns stand for files, and none is listed twice
    assert text.count(str(files[0])) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("text.root", b"hello\n", "text.root: not a ROOT file"),
        ("cut.root", b"root\x00\x00\x00\x01", "cut.root: cannot be read as a table"),
        ("header.csv", b"a,b,label\n", "header.csv: no events"),
        ("empty.csv", b"", "empty.csv: the file is empty"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    if "cut" in name:
        pytest.importorskip("uproot", reason="the extra `root` is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected):
        suggest_config([tmp_path / name, *written(tmp_path, other=table(50, 1))])


def test_branches_of_every_kind(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot", reason="the extra `root` is not installed")
    awkward, files = pytest.importorskip("awkward"), [tmp_path / "ggH.root", tmp_path / "ttbar.root"]
    for seed, file in enumerate(files):
        events, jets = table(400, seed), awkward.unflatten(np.ones(400, np.float32), [0, 3, 1] * 100 + [0] * 100)
        columns = {column.name: column.to_numpy() for column in events.drop("channel")} | {
            "channel": awkward.Array(events["channel"].to_list()),
            "is_tight": np.arange(400) % 2 == 0,
            "cells": np.zeros((400, 4)),
            "jet_pt": jets,
        }
        kinds = {n: a.dtype if isinstance(a, np.ndarray) else a.type.content for n, a in columns.items()}
        kinds["cells"] = np.dtype((np.float64, (4,)))
        with uproot.recreate(file) as content:
            content.mktree("nominal", kinds).extend(columns)
            content["shifted"] = {"met": np.arange(3.0)}
    text = suggest_config(files)
    for guess in (
        "signal: true", "reads the tree nominal of nominal, shifted", "id: [RunNumber, EventNumber]",
        "categorical: [channel]", 'is_tight, "cells[0]", "cells[1]", "jet_pt[0]", "jet_pt[1]"',
    ):  # fmt: skip
        assert guess in text
    (tmp_path / "my.yaml").write_text(text)
    found = configured_events(tmp_path / "my.yaml")
    assert found is not None
    assert {"is_tight", "channel", "cells_0", "jet_pt_0"} <= set(found.schema.features)
    assert len(found.frame) == 800


def test_columns_of_a_parquet_file_that_are_no_numbers(tmp_path: Path) -> None:
    labels = pl.Series("target", ["s", "b"] * 200)
    more = {"when": [date(2012, 7, 4)] * 400, "pair": [{"x": 1}] * 400, "names": [["x"]] * 400}
    events = table(400, 1, **more).with_columns(
        labels.cast(pl.Categorical), pl.col("channel").cast(pl.Enum(["e", "mu"]))
    )
    text = suggest_config(written(tmp_path, mine=events))
    assert "label: target" in text
    assert "categorical: [channel]" in text
    assert not any(name in text for name in more)
    (tmp_path / "my.yaml").write_text(text)
    found = configured_events(tmp_path / "my.yaml")
    assert found is not None
    assert found.frame["channel"].n_unique() == 2


def test_variants_of_a_weight_are_not_multiplied(tmp_path: Path) -> None:
    weights = table(400, 1)["mcWeight"]
    events = table(400, 1, label=[0, 1] * 200, weight_up=weights * 1.1, nJets=[None, 1, 2, 0] * 100)
    text = suggest_config(written(tmp_path, mine=events))
    assert 'weight: "mcWeight * weight_pu"' in text
    assert "# not weight_up: proportional to mcWeight, or nearly" in text
    assert "group:" not in text  # the number of jets is missing in some events


def test_no_features(tmp_path: Path) -> None:
    files = written(tmp_path, mine=pl.DataFrame({"label": [0, 1] * 9, "weight": [1.0] * 18, "era": [1] * 18}))
    with pytest.raises(DataError, match=r"mine.parquet: no column is left for features \(era is constant\)"):
        suggest_config(files)
