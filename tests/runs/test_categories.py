"""Categorical columns in a run: found in the training events, stored with it, and used for new events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.document import parse_yaml
from higgsbench.config.samples import SchemaConfig
from higgsbench.errors import HiggsbenchError
from higgsbench.events import cache, load_events, numeric_columns
from higgsbench.events.write import FORMATS, write_events
from higgsbench.explore import explore
from higgsbench.features import FeatureSet, feature_matrix, resolve_features
from higgsbench.runs.predict import write_scores
from higgsbench.schema import TableSchema

from .conftest import scores
from .test_memory import only_disk_fits

CHANNELS = ("ee", "em", "mm", "mt")


def table(n: int = 1000, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    channel = rng.choice(CHANNELS, n)
    y = rng.random(n) < np.where(np.isin(channel, ["em", "mt"]), 0.75, 0.25)
    frame = pl.DataFrame(
        {
            "pt": rng.exponential(40.0, n) + 10.0 * y,
            "channel": channel,
            "period": rng.integers(1, 12, n),
            "jets": rng.integers(0, 2, n),
            "w": rng.uniform(0.5, 1.5, n),
            "kind": np.where(y, "s", "b"),
            "number": np.arange(seed * n, (seed + 1) * n),
        }
    )
    return frame.with_columns(pl.when(pl.col("number") % 19 != 0).then(pl.col("channel")).alias("channel"))


def config(path: Path, categorical: Any = ("channel", "period"), **more: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"features": ["pt"], "label": "kind", "signal": "s", "weight": "w", "id": "number"}
    schema |= {"group": "jets", "groups": [[0], [1]], "missing": -999.0}
    given = categorical if isinstance(categorical, dict) else list(categorical)
    trees = {"model": "lightgbm", "params": {"n_estimators": 15}}
    content = {"models": [trees, {"model": "logistic", "preset": "quick"}], "folds": 2, "jet_split": "both", **more}
    return {"name": "c", "data": {"path": str(path), "schema": {**schema, "categorical": given}}, **content}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    table().write_csv(path)
    return path


def test_a_run_and_new_events(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = higgsbench.run(config(file), output=tmp_path / "a", jobs=1)
    assert all(row["status"] == "ok" and row["auc"] > 0.62 for row in result.rows)
    stored = parse_yaml((result.folder / "config.yaml").read_text(), "c").value
    periods = [str(number) for number in range(1, 12)]  # in the order of numbers, not of text
    assert stored["data"]["schema"]["categorical"] == {"channel": list(CHANNELS), "period": periods}
    again = higgsbench.run(result.folder / "config.yaml", output=tmp_path / "a", jobs=1)
    assert (again.folder, again.trained) == (result.folder, 0)
    # Unknown and missing categories are alike; the file's format does not matter.
    new = table(seed=5).drop("kind", "w")
    found = []
    for name, value in (("unknown.csv", "zz"), ("empty.csv", None), ("new.parquet", "zz")):
        changed = new.with_columns(
            pl.when(pl.col("channel") == "ee").then(pl.lit(value)).otherwise("channel").alias("channel")
        )
        (changed.write_parquet if name.endswith("parquet") else changed.write_csv)(tmp_path / name)
        found.append(higgsbench.predict(result, tmp_path / name))
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    assert found[0]["score"].is_finite().all()
    # Events that stay on disk, in another format.
    other = tmp_path / "a.parquet"
    table().write_parquet(other)
    monkeypatch.setattr(higgsbench.events.open_events, "__kwdefaults__", {"large": 0})
    monkeypatch.setattr(cache, "BATCH", 100)
    disk = higgsbench.run(config(other), output=tmp_path / "b", jobs=1, only=["lightgbm"])
    assert scores(disk)["score:lightgbm"].equals(scores(result)["score:lightgbm"])


def test_missing_categories_are_alike_in_every_format(tmp_path: Path) -> None:
    frame = table(60).with_columns(pl.col("period").replace({3: None}))
    schema = SchemaConfig.model_validate(config(tmp_path)["data"]["schema"]).table_schema()
    frame.write_csv(tmp_path / "a.csv")
    frame.with_columns(pl.col("channel").fill_null("")).write_parquet(tmp_path / "b.parquet")
    as_float = pl.col("period").cast(pl.Float64).fill_null(float("nan"))
    frame.with_columns(as_float).write_parquet(tmp_path / "c.parquet")
    first, *others = (load_events(tmp_path / name, schema) for name in ("a.csv", "b.parquet", "c.parquet"))
    assert (first.frame["channel"].null_count(), first.frame["period"].null_count()) == (3, 4)
    assert {other.digest for other in others} == {first.digest}
    for name in ("d.csv", "d.parquet"):
        assert load_events(write_events(first.frame, tmp_path / name, schema), schema).digest == first.digest


@pytest.mark.parametrize("ending", [".parquet", ".root"])
def test_copied_columns_keep_values_and_types(
    ending: str, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = higgsbench.run(config(file), output=tmp_path, jobs=1, only=["lightgbm"])
    codes = pl.when(pl.col("number") % 7 == 0).then(-999).otherwise(pl.col("period") + 5).alias("period")
    new = table(60, seed=5).with_columns(codes, flag=pl.col("jets") == 1).drop("kind", "w")
    new = new.with_columns(pl.col("channel").fill_null("zz"))
    if ending == ".root":
        pytest.importorskip("uproot", reason="the extra `root` is not installed")
    FORMATS[ending](iter([new]), tmp_path / f"new{ending}")
    names = ["channel", "period", "flag", "pt", "jets"]
    with caplog.at_level("INFO", "higgsbench"):
        found = higgsbench.predict(result, tmp_path / f"new{ending}", columns=names)
    assert found.select(names).equals(new.select(names))
    assert found.select(names).schema == new.select(names).schema
    number = new.filter(pl.col("channel") == "zz").height
    assert f"{number} events have values of channel that did not occur in training: zz; they count" in caplog.text
    assert "values of period that did not occur in training: " in caplog.text
    write_scores(iter([found]), tmp_path / f"scores{ending}")
    kinds = numeric_columns(tmp_path / f"scores{ending}")
    assert [name for name in names if name not in kinds] == ["channel"]


def test_given_values_are_the_known_ones(file: Path, tmp_path: Path) -> None:
    few = higgsbench.run(config(file, {"channel": ["mt", "ee"]}), output=tmp_path, jobs=1, only=["lightgbm"])
    all_ = higgsbench.run(config(file, ["channel"]), output=tmp_path, jobs=1, only=["lightgbm"])
    assert few.folder != all_.folder
    assert all_.trained > 0
    assert {row["auc"] for row in few.rows}.isdisjoint(row["auc"] for row in all_.rows)


@pytest.mark.parametrize(
    ("categorical", "more", "message"),
    [
        (["channel", "channel"], {}, "'channel' is named twice"),
        (["kind"], {}, "column 'kind' is the label and cannot be a feature"),
        (["jets"], {}, "column 'jets' is the group and cannot be categorical"),
        ({"channel": ["a", "a"]}, {}, "expected at most 200 different values"),
        (["number_"], {}, "missing column number_"),
        (["pt"], {}, r"categorical column pt has more than 200 \(1,000\) different values"),
        (["channel"], {"features": {"add": [{"name": "x", "expr": "channel + 1"}]}}, "channel is categorical"),
        (["channel"], {"folds": {"by": "channel"}}, "no column named 'channel'"),
    ],
)
def test_what_cannot_be(categorical: Any, more: dict[str, Any], message: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        higgsbench.run(config(file, categorical, **more), output=tmp_path, jobs=1)


def test_categories_of_samples_whose_negative_weights_are_resampled(tmp_path: Path) -> None:
    frame = table().with_columns(pl.when(pl.col("number") % 6 == 0).then(-pl.col("w")).otherwise("w").alias("w"))
    for kind in ("s", "b"):
        frame.filter(pl.col("kind") == kind).drop("kind").write_parquet(tmp_path / f"{kind}.parquet")
    samples = [{"files": str(tmp_path / f"{kind}.parquet"), "process": kind, "signal": kind == "s"} for kind in "sb"]
    keys = {"weight": "w", "id": ["number"], "features": ["pt"], "categorical": ["channel"]}
    data = {"samples": samples, **keys, "negative_weights": "resample"}
    content = {
        "data": data,
        "models": [{"model": "catboost", "params": {"iterations": 20}}],
        "folds": 2,
        "stack": False,
    }
    result = higgsbench.run(content, output=tmp_path, jobs=1)
    assert result.rows[0]["auc"] > 0.7
    stored = parse_yaml((result.folder / "config.yaml").read_text(), "c").value
    assert stored["data"]["categorical"] == {"channel": list(CHANNELS)}
    new = tmp_path / "new.csv"
    table(seed=3).drop("kind", "w").write_csv(new)
    assert higgsbench.predict(result, new)["score"].is_finite().all()


def test_resampling_from_disk_is_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = config(file, ["channel"], models=[{"model": "xgboost", "params": {"n_estimators": 5}}])
    content["data"]["schema"]["negative_weights"] = "resample"
    only_disk_fits(monkeypatch)
    with pytest.raises(HiggsbenchError, match=r"another policy for negative_weights \(resample needs all in memory\)"):
        higgsbench.run(content, output=tmp_path, jobs=1)


def test_explore_counts_categories(file: Path) -> None:
    schema = SchemaConfig.model_validate(config(file, ["channel"])["data"]["schema"]).table_schema()
    found = explore(file, schema=schema)
    assert "channel is categorical and counted by position: 0 ee, 1 em, 2 mm, 3 mt." in found.notes
    summary = next(feature for feature in found.features if feature.name == "channel")
    assert sum(part.present for part in summary.classes) == 1000 - table()["channel"].null_count()


SCHEMA = TableSchema("own", ("pt", "c"), "kind", categories={"c": ("b", "a")})


def test_categories_come_first_as_their_positions() -> None:
    frame = pl.DataFrame({"pt": [1.0, 2.0, 3.0, 4.0], "c": ["a", "b", None, "z"]})
    features = resolve_features(SCHEMA)
    assert (features.columns, features.categories) == (("c", "pt"), (2,))
    np.testing.assert_array_equal(feature_matrix(frame, features)[:, 0], [1.0, 0.0, np.nan, np.nan])
    other = resolve_features(TableSchema("own", ("pt", "c"), "kind", categories={"c": ("a", "b")}))
    assert other.digest != features.digest
    assert resolve_features(SCHEMA, columns=["pt"]).categories == ()


def test_sets_of_ones_own_may_use_text() -> None:
    own = FeatureSet("own", "", lambda schema: [(pl.col("c") == "a").cast(pl.Float64).alias("is_a")])
    assert [q.name for q in own.quantities(SCHEMA)] == ["is_a"]
