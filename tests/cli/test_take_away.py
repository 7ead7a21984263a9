"""Everything a user takes away from one run, on real events, in the order a course does it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from tests.conftest import Call

SAMPLE = Path(__file__).resolve().parents[2] / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"
CONFIG = "name: half\ndata: {path: train.csv, test: truth.csv}\npreset: quick\nmodels: [xgboost, lightgbm]\nfolds: 3\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample of real events is not beside the checkout"),
]


def test_one_run_after_the_other(call: Call) -> None:
    """Half of the sample trains; the other half is scored blind, and then against the truth."""

    def told(*args: str | Path) -> str:
        code, out, err = call(*args)
        assert not code, err
        return out

    frame = pl.read_csv(SAMPLE, infer_schema_length=None)
    half = np.random.default_rng(1).permutation(frame.height) % 2 == 0
    frame.filter(half).write_csv("train.csv")
    frame.filter(~half).write_csv("truth.csv")
    frame.filter(~half).drop("Label", "Weight", "KaggleSet", "KaggleWeight").write_csv("blind.csv")
    Path("c.yaml").write_text(CONFIG)
    told("run", "c.yaml", "--jobs", "1", "--quiet")
    (run,) = Path("results").iterdir()
    (board,) = json.loads(told("leaderboard", "--results", run, "--format", "json"))["tables"]
    rows = {row["name"]: row for row in board["rows"]}
    assert set(rows) == {"xgboost", "lightgbm", "stack"}
    compared = json.loads(told("compare", "--run", run, "--replicas", "50", "--format", "json"))
    assert len(compared["pairs"]) == 3

    told("predict", run, "blind.csv", "-o", "scores.parquet", "-j", "1")
    selected = {}
    for name, row in rows.items():
        told("submit", run, "blind.csv", "-o", "submission.csv", "--model", name, "-j", "1")
        score, *_ = json.loads(told("score", "submission.csv", "truth.csv", "--format", "json"))
        assert (score["name"], score["events"]) == ("all", 7500)
        assert score["ams"] == pytest.approx(row["ams_test"], abs=1e-9)
        assert score["se"] == pytest.approx(row["ams_test_se"], abs=1e-9)
        assert higgsbench.score("submission.csv", "truth.csv")[0].ams == score["ams"]
        selected[name] = score["selected"]
    assert int(pl.read_parquet("scores.parquet")["selected"].sum()) == selected["stack"]

    options = ["--model", "stack", "--max-bins", "3", "--shift", "tes=0.03", "--format", "json"]
    nominal, up, down = json.loads(told("stats", run, *options))["shifts"]
    assert nominal["ams"] == pytest.approx(rows["stack"]["ams_test"], abs=1e-9)
    assert up["b_change"] > 0.0 > down["b_change"]

    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    begin = time.process_time()
    told("report", run, "-o", "report.html", "--shift", "tes=0.03")
    assert time.process_time() - begin < 30.0
    page = Path("report.html").read_text()
    assert len(page) < 5_000_000
    for section in ("leaderboard", "ranks", "cut", "scores", "roc", "calibration", "selection", "shifts", "importance",
                    "blend", "cost", "provenance"):  # fmt: skip
        assert f'<h2 id="{section}">' in page
