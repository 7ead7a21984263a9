"""Runs with spectators: measured in every row, shown everywhere, without another fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.compare import conclusions, render
from higgsbench.errors import ConfigError
from higgsbench.inference.events import RunEvents
from higgsbench.metrics import evaluation_weights
from higgsbench.pages import Table
from higgsbench.pages.drawing import Pictures
from higgsbench.report.context import Context
from higgsbench.report.events import spectators
from higgsbench.runs import RunResult, find_run

Config = Callable[..., Path]
MASS, SUM = "DER_mass_MMC", "pt"
SPECTATORS = f"[{MASS}, {{name: {SUM}, expr: PRI_tau_pt + PRI_lep_pt}}]"
KEYS = [f"{quantity}:{name}" for name in (MASS, SUM) for quantity in ("dcor_signal", "dcor_background", "jsd")]


@pytest.fixture
def measured(whole: RunResult, config: Config) -> RunResult:
    """The finished run, its configuration called again with spectators."""
    return higgsbench.run(config(spectators=SPECTATORS), output=whole.folder.parent, jobs=1)


def test_spectators_are_measured_without_another_fit(measured: RunResult, training_only: Path) -> None:
    assert measured.trained == 0
    assert all(0.0 <= row[key] <= 1.0 for row in measured.rows for key in KEYS)
    run, events = find_run(measured), higgsbench.load_events(training_only)
    mass = events.frame[MASS].cast(pl.Float32).fill_null(np.nan).to_numpy().astype(np.float64)
    np.testing.assert_array_equal(run.spectators[MASS], mass)
    used = ~run.y & np.isfinite(mass)
    weight = evaluation_weights(run.y, events.weight, *run.totals)
    found = higgsbench.distance_correlation(run.row("lightgbm").scores[0][used], mass[used], weight[used])
    record = run.row("lightgbm").record
    pair = record[f"dcor_background:{MASS}"], record[f"dcor_background_se:{MASS}"]
    assert pair == pytest.approx((found.value, found.se), rel=1e-6)


def test_spectators_are_columns_of_leaderboards_and_differences(measured: RunResult) -> None:
    board = higgsbench.Leaderboard.read(measured.folder, sort=f"jsd:{MASS}")
    values = [row[f"jsd:{MASS}"] for row in board.rows]
    assert values == sorted(values)
    names = [column.name for column in board.columns(None)]
    assert set(KEYS) < set(names)
    assert names.index("log_loss") < names.index(KEYS[0]) < names.index("fit_seconds")
    assert f"jsd_se:{MASS}" in board.render("csv").splitlines()[0]
    with pytest.raises(ConfigError, match="no row has a number 'jsd:other'"):
        higgsbench.Leaderboard.read(measured.folder, sort="jsd:other")
    assert any("dCor: distance correlation" in line for line in board.remarks())
    with pytest.raises(ConfigError, match=f"no row has a number 'jsd'; write jsd:{MASS} or jsd:{SUM}$"):
        higgsbench.Leaderboard.read(measured.folder, sort="jsd")
    with pytest.raises(ConfigError, match=f"no column 'dcor_signal'; write dcor_signal:{MASS} or dcor_signal:{SUM}$"):
        board.render("markdown", ["dcor_signal"])
    comparison = higgsbench.compare_models(measured, models=["lightgbm", "stack"], replicas=20)
    assert any("dCor: distance correlation" in line for line in comparison.remarks())
    pair = comparison.pairs[0]
    apart = replace(pair, adjusted={**pair.adjusted, KEYS[1]: 0.01})
    less = "lightgbm" if pair.differences[KEYS[1]].value < 0.0 else "stack"
    assert f"{less} depends less on spectators (" in conclusions(replace(comparison, pairs=(apart,)))[0]
    one, other = (next(r for r in measured.rows if r["name"] == name) for name in ("lightgbm", "stack"))
    difference = comparison.pair("lightgbm", "stack").differences[KEYS[1]]
    assert difference.value == pytest.approx(one[KEYS[1]] - other[KEYS[1]])
    assert 0.0 < difference.se < np.hypot(one[f"dcor_background_se:{MASS}"], other[f"dcor_background_se:{MASS}"])
    assert set(KEYS) < set(json.loads(render(comparison, "json"))["models"][0]["values"])


def test_a_report_shows_the_shapes(measured: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.pages.drawing.svg_text", lambda figure: "<svg/>")
    shown = spectators(Context(find_run(measured), RunEvents(), Pictures()))
    tables = [part for part in shown if isinstance(part, Table)]
    assert [table.caption for table in tables] == [MASS, SUM]
    assert [str(cell) for cell in tables[0].headings[1:]] == [
        f"dCor of {MASS}, s",
        f"dCor of {MASS}, b",
        f"JSD of {MASS}",
    ]
    assert len(tables[0].rows) == len(measured.rows)


def test_a_run_without_spectators_has_no_such_numbers(whole: RunResult, config: Config) -> None:
    result = higgsbench.run(config(), output=whole.folder.parent, jobs=1)
    assert not any(":" in key and key.startswith(("dcor", "jsd")) for row in result.rows for key in row)
    assert find_run(result).spectators == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[DER_mas_MMC]", r"spectators\[0\]: no column named .*DER_mass_MMC"),
        (f"[{MASS}, {MASS}]", "named twice"),
        ("[Label]", r"spectators\[0\]: Label "),
    ],
)
def test_bad_spectators_are_refused(config: Config, tmp_path: Path, given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        higgsbench.run(config(spectators=given), output=tmp_path / "out")
