"""Other event tables than the challenge's: the UCI HIGGS layout, columns of one's own, negative weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.api.running import load_run_config
from higgsbench.config.document import parse_yaml
from higgsbench.errors import HiggsbenchError
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import make_plan
from higgsbench.runs.run import checked_plan
from higgsbench.schema import UCI_HIGGS
from tests.runs.conftest import Notes

from .conftest import Config, scores

MODELS = "models: [{model: logistic, preset: quick}, {model: lightgbm, params: {n_estimators: 20}}]\nfolds: 2\n"
EVENTS = 1200


@pytest.fixture
def uci(tmp_path: Path) -> Path:
    """A file in the layout of the UCI repository's HIGGS.csv: no header, label first, numbers in exponent form."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, EVENTS)
    X = rng.normal(size=(EVENTS, 28)) + 0.5 * y[:, None] * (np.arange(28) % 7 == 0)
    lines = [",".join(f"{v:.18e}" for v in (label, *row)) for label, row in zip(y, X, strict=True)]
    path = tmp_path / "HIGGS.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def table(seed: int = 2, negative: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.random(EVENTS) < 0.4
    jets = rng.integers(0, 4, EVENTS)
    pt = rng.exponential(40.0, EVENTS) + 25.0 * y
    mass = np.where(jets > 0, rng.normal(90.0, 20.0, EVENTS) + 20.0 * y, -1.0)
    sign = np.where(rng.random(EVENTS) < negative, -1.0, 1.0)
    return pl.DataFrame(
        {
            "run": np.full(EVENTS, 7),
            "pt": pt,
            "mass": mass,
            "n_jets": jets,
            "w": sign * rng.uniform(0.5, 1.5, EVENTS),
            "kind": np.where(y, "sig", "bkg"),
        }
    )


OWN = """
data:
  path: {path}
  schema:
    features: [pt, mass]
    label: kind
    signal: sig
    background: bkg
    weight: w
    group: n_jets
    groups: [[0], [1], [2, 3]]
    missing: -1
{more}
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    def write(frame: pl.DataFrame | None = None, more: str = "") -> Path:
        path = tmp_path / "own.csv"
        (table() if frame is None else frame).write_csv(path)
        config = tmp_path / "own.yaml"
        indented = "\n".join(f"    {line}" for line in more.splitlines())
        config.write_text(OWN.format(path=path, more=indented) + MODELS + "jet_split: both\n")
        return config

    return write


class TestUCI:
    def test_run(self, uci: Path, tmp_path: Path) -> None:
        data = {"path": str(uci), "schema": "uci-higgs"}
        result = higgsbench.run({**parse_yaml(MODELS, "x").value, "data": data}, output=tmp_path, jobs=1)
        assert all(row["status"] == "ok" and row["auc"] > 0.6 for row in result.rows)
        frame = scores(result)
        assert frame["weight"].unique().to_list() == pytest.approx([1.0])
        assert frame["EventId"].to_list() == list(range(EVENTS))
        config = {"models": ["logistic"], "jet_split": "groups", "data": data}
        with pytest.raises(HiggsbenchError, match="needs a group column, which the layout uci-higgs lacks"):
            higgsbench.run(config, output=tmp_path, jobs=1)

    def test_rows_that_need_groups_are_left_out(self, uci: Path) -> None:
        notes = Notes()
        config = {**parse_yaml(MODELS, "x").value, "jet_split": "both"}
        plan = checked_plan(load_run_config(config, data=uci), notes)
        assert [row.name for row in plan.rows] == ["logistic", "lightgbm"]
        assert notes.lines[:1] == [
            "jet_split: the layout uci-higgs has no jet groups; every model is trained only on all events together"
        ]

    def test_labels_may_be_written_in_any_form(self, uci: Path, tmp_path: Path) -> None:
        frame = pl.read_csv(uci, has_header=False)
        other = tmp_path / "other.csv"
        label = frame.columns[0]
        frame.with_columns(pl.col(label).cast(pl.Int64)).write_csv(other, include_header=False)
        a, b = (higgsbench.load_events(p, UCI_HIGGS) for p in (uci, other))
        assert a.y.tolist() == b.y.tolist() == (frame[label] == 1).to_list()

    def test_other_labels_are_refused(self, uci: Path, tmp_path: Path) -> None:
        lines = uci.read_text().splitlines()
        lines[4] = "2" + lines[4][lines[4].index(",") :]
        (tmp_path / "bad.csv").write_text("\n".join(lines))
        with pytest.raises(HiggsbenchError, match=r"row 5 \(line 5\), column label: found '2', expected '1' or '0'"):
            higgsbench.load_events(tmp_path / "bad.csv", UCI_HIGGS)


class TestOwn:
    def test_run_split_by_its_own_group_column(self, own: Config, tmp_path: Path) -> None:
        result = higgsbench.run(own(), output=tmp_path, jobs=1)
        assert [r["variant"] for r in result.rows] == ["global", "jets", "global", "jets", "nonnegative"]
        assert all(row["status"] == "ok" and row["auc"] > 0.6 for row in result.rows)
        frame = scores(result)
        expected = table().group_by("kind").agg(pl.col("w").sum())
        totals = dict(expected.iter_rows())
        assert frame.filter("signal")["weight"].sum() == pytest.approx(totals["sig"])
        assert frame.filter(~pl.col("signal"))["weight"].sum() == pytest.approx(totals["bkg"])

    def test_totals_of_ones_own(self, own: Config, tmp_path: Path) -> None:
        result = higgsbench.run(own(more="n_s: 120.0\nn_b: 45000"), output=tmp_path, jobs=1)
        weight = scores(result).filter("signal")["weight"]
        assert weight.sum() == pytest.approx(120.0)

    def test_negative_weights(self, own: Config, tmp_path: Path) -> None:
        found, folders = [], set()
        for policy in ("drop", "absolute", "zero", "resample"):
            config = own(table(negative=0.15), more=f"negative_weights: {policy}")
            result = higgsbench.run(config, output=tmp_path, jobs=1)
            assert all(row["auc"] > 0.6 and np.isfinite(row["ams_cv"]) and row["ams_cv_se"] > 0 for row in result.rows)
            frame = scores(result)
            assert (frame["weight"] < 0).sum() > 100
            found.append(frame["score:lightgbm"])
            folders.add(result.folder)
        assert not found[0].equals(found[1])
        assert len(folders) == 4

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"label": "pt"}, "column 'pt' is the label and cannot be a feature"),
            ({"features": ["pt", "pt"]}, "named twice"),
            ({"columns": ["pt"]}, "header: false"),
            ({"negative_weights": "flip"}, "'drop', 'absolute', 'zero' or 'resample'"),
            ({"featuers": ["pt"]}, "did you mean 'features'"),
            ({"group": None}, "`groups` needs a `group` column"),
        ],
    )
    def test_schemas_that_cannot_be(self, own: Config, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        settings = [f"data.schema.{key}={value if value is not None else 'null'}" for key, value in change.items()]
        with pytest.raises(HiggsbenchError, match=message):
            higgsbench.run(own(), output=tmp_path, jobs=1, settings=settings)


def test_a_preset_s_features_give_way_to_the_columns_of_another_layout(own: Config) -> None:
    """`best` asks for features of the challenge's columns; a run on other columns takes these as they stand."""
    loaded = load_run_config(own(), settings=["preset=best"])
    plan = make_plan(loaded, load_dataset(loaded.config))
    assert {row.features.name for row in plan.rows} == {"raw"}
    assert {row.training_weights for row in plan.rows if row.preset == "best"} == {"sqrt_balanced"}
    asked = load_run_config(own(), settings=["features=physics"])
    with pytest.raises(HiggsbenchError, match="physics"):
        make_plan(asked, load_dataset(asked.config))
