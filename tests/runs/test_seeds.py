"""Several seeds in one configuration: each is a repeat, whose fits are those of a run with this seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.document import read_yaml
from higgsbench.runs import RunResult

from .conftest import Config, Notes, scores

ROWS = ["logistic", "lightgbm", "stack"]


def run(file: Path, seed: str, notes: Notes | None = None) -> RunResult:
    settings = [f"seed={seed}", "jet_split=none", "folds=2"]
    return higgsbench.run(file, output=file.parent, jobs=1, settings=settings, listener=notes or Notes())


def test_a_list_of_seeds_is_a_repeat_for_each(config: Config) -> None:
    file, notes = config(), Notes()
    single = {seed: run(file, str(seed)) for seed in (7, 3)}
    both = run(file, "[7, 3]", notes)
    assert (both.trained, both.reused, notes.fits) == (0, 8, 0)  # the runs of one seed have all its fits
    more = run(file, "[3, 11, 7]")
    assert (more.trained, more.reused) == (4, 8)
    table = scores(both)
    for repeat, seed in enumerate((7, 3)):
        own = table.filter(pl.col("repeat") == repeat).drop("repeat")
        assert own.equals(scores(single[seed]).drop("repeat"))
    alone = [{row["name"]: row for row in result.rows} for result in single.values()]
    for row in both.rows:
        values = [rows[row["name"]]["ams_cv"] for rows in alone]
        assert row["ams_cv_repeats"] == pytest.approx(values)
        assert row["ams_cv"] == pytest.approx(np.mean(values))
        assert row["ams_cv_spread"] == pytest.approx(np.std(values, ddof=1))
        assert row["seed"] == [7, 3]
    assert not any("ams_cv_repeats" in row for row in single[7].rows)


def test_seeds_are_stored_and_shown(config: Config) -> None:
    result = run(config(), "[2, 1]")
    assert read_yaml(result.folder / "config.yaml").value["seed"] == [2, 1]
    again = higgsbench.run(result.folder / "config.yaml", output=result.folder.parent, jobs=1)
    assert (again.folder, again.trained) == (result.folder, 0)
    board = higgsbench.Leaderboard.read(result.folder)
    shown = board.render("markdown", ["model", "seed", "ams_cv_spread"])
    assert "| spread of AMS |" in shown
    assert "| 2, 1 |" in shown
    assert "2 repeats" in board.tables[0].title
    assert (board.to_polars()["log_loss_spread"] > 0.0).all()
    found = higgsbench.compare_models(result, models=["logistic", "lightgbm"])
    assert found.models[1].value("auc") == pytest.approx(result.rows[1]["auc"])


def test_a_list_of_one_seed_is_that_seed(config: Config) -> None:
    assert run(config(), "[4]").folder == run(config(), "4").folder
