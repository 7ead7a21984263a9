"""Learning curves: points, reuse, errors of sizes, and how they are shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.api.running import plan_learning_curve
from higgsbench.compare.curve import CURVE_FILE, SHOWN, LearningCurve, read_curve
from higgsbench.errors import ConfigError, StoreError
from higgsbench.runs import RunResult
from higgsbench.runs.curve import CURVE
from tests.conftest import Call

from .conftest import SMALL, Config, Notes, Register

FULL = 485
"""Training events of a fit of the small configuration."""


@pytest.fixture(scope="module")
def place(training_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small configuration and its run."""
    folder = tmp_path_factory.mktemp("curve")
    (folder / "small.yaml").write_text(SMALL.format(data=training_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        higgsbench.run(folder / "small.yaml", output=folder, jobs=1)
    return folder


def curve_of(place: Path, **how: Any) -> tuple[LearningCurve, Notes]:
    notes = Notes()
    given: dict[str, Any] = {"sizes": ["250", "all"], "repeats": 2, "output": place, "jobs": 1, "listener": notes}
    return higgsbench.learning_curve(place / "small.yaml", **given | how), notes


@pytest.fixture(scope="module")
def curve(place: Path, tmp_path_factory: pytest.TempPathFactory) -> LearningCurve:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        found, notes = curve_of(place)
    assert notes.fits == 2 * 3 * 4  # draws, folds, rows; all training events come from the run
    assert any("12 finished units taken over" in line for line in notes.lines)
    return found


def test_all_training_events_are_the_run(place: Path, curve: LearningCurve) -> None:
    run = higgsbench.run(place / "small.yaml", output=place, jobs=1)
    assert (curve.folder, run.trained) == (place / run.folder.name, 0)
    rows = {row["name"]: row for row in run.rows}
    table = curve.to_polars().filter(training_events=FULL)
    assert table["row"].to_list() == list(rows)
    for record in table.iter_rows(named=True):
        assert record["draws"] == 1
        for key in (f"{metric.key}{end}" for metric in SHOWN for end in ("", "_se")):
            assert record[key] == pytest.approx(rows[record["row"]][key], rel=1e-9), (record["row"], key)


def test_smaller_sizes_are_means_over_draws(place: Path, curve: LearningCurve) -> None:
    (run,) = (place / curve.folder.name / CURVE).iterdir()
    rows = {row["name"]: row for row in json.loads((run / "rows.json").read_text())["rows"]}
    (point,) = (p for p in curve.points if (p.row, p.events) == ("lightgbm [jets]", 250))
    draws = [rows[f"lightgbm n250.{draw} [jets]"] for draw in (0, 1)]
    assert [row["training_events"] for row in draws] == [[250, 0], [250, 1]]
    aucs = [row["auc"] for row in draws]
    value, error = point.values["auc"]
    assert value == pytest.approx(np.mean(aucs))
    assert error > abs(aucs[0] - aucs[1]) / 2  # the scatter of two draws, and the evaluated events
    assert "ams_test" not in rows["lightgbm n250.0"]


def test_gains_are_paired(curve: LearningCurve) -> None:
    assert [gain.row for gain in curve.gains] == ["logistic", "logistic [jets]", "lightgbm", "lightgbm [jets]", "stack"]
    points = {(p.row, p.events): p.values["auc"] for p in curve.points}
    for gain in curve.gains:
        above, below = points[gain.row, FULL], points[gain.row, 250]
        value, error = gain.values["auc"]
        assert (gain.below, gain.above) == (250, FULL)
        assert value == pytest.approx(above[0] - below[0])
        assert 0.0 < error < 0.8 * math.hypot(above[1], below[1])


def test_a_second_call_trains_nothing_and_more_draws_only_what_is_new(place: Path, curve: LearningCurve) -> None:
    again, notes = curve_of(place)
    assert (notes.fits, again.points) == (0, curve.points)
    more, notes = curve_of(place, repeats=3, engine="serial")
    assert notes.fits == 3 * 4
    assert more.points[0].draws == 3
    assert curve_of(place)[0].points == curve.points
    plan = plan_learning_curve(place / "small.yaml", sizes=["250", "400", "all"], repeats=3, output=place, jobs=1)
    assert [(row.name, row.units, row.stored) for row in plan.rows] == [
        ("250 events", 36, 36), ("400 events", 36, 0), (f"{FULL} events", 12, 12)
    ]  # fmt: skip


def test_metrics_are_computed_once(place: Path, curve: LearningCurve, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / curve.folder.name / CURVE_FILE
    curve_of(place)
    with monkeypatch.context() as patch:
        patch.setattr("higgsbench.compare.curve.measure_curve", None)
        assert curve_of(place)[0].points == curve.points
    good = file.read_bytes()
    file.write_bytes(good[:-9])
    assert curve_of(place)[0].points == curve.points
    assert file.read_bytes() == good


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_engines_with_several_processes(place: Path, curve: LearningCurve, tmp_path: Path, engine: str) -> None:
    if engine == "dask":
        pytest.importorskip("distributed", reason="the extra dask is not installed")
    (tmp_path / "small.yaml").write_text((place / "small.yaml").read_text())
    found, _ = curve_of(tmp_path, engine=engine, jobs=2)
    assert (found.points, found.gains) == (curve.points, curve.gains)


def test_an_interrupted_curve_continues(place: Path, curve: LearningCurve, tmp_path: Path) -> None:
    class Stopped(Notes):
        def finished(self, *args: Any, **how: Any) -> None:
            if self.fits == 9:
                raise KeyboardInterrupt

    (tmp_path / "small.yaml").write_text((place / "small.yaml").read_text())
    with pytest.raises(KeyboardInterrupt):
        curve_of(tmp_path, listener=Stopped())
    found, notes = curve_of(tmp_path)
    assert 25 <= notes.fits <= 28  # 36 in all
    assert found.points == curve.points


def test_the_default_is_a_series_of_halves(place: Path, tmp_path: Path, toys: Path) -> None:
    (tmp_path / "small.yaml").write_text((place / "small.yaml").read_text())
    found, _ = curve_of(tmp_path, sizes=(), repeats=1, only=["logistic"], settings=["jet_split=none", "folds=4"])
    full = found.points[-1].events
    assert [(p.row, p.events) for p in found.points] == [("logistic", full // 2), ("logistic", full)]
    assert full > FULL


def test_fits_get_the_drawn_events_at_the_expected_totals(config: Config, tmp_path: Path, registered: Register) -> None:
    seen: list[tuple[int, float, float]] = []

    class Spy:
        classes_ = np.array([0, 1])

        def fit(self, X: Any, y: Any, sample_weight: Any) -> Spy:
            seen.append((len(y), float(np.mean(y)), float(sample_weight[y == 1].sum() / sample_weight.sum())))
            if len(y) < 100:
                raise ValueError("too few")
            return self

        def predict_proba(self, X: Any) -> Any:
            signal = 1.0 / (1.0 + np.exp(-np.nan_to_num(X[:, 0]) / 100.0))
            return np.column_stack([1.0 - signal, signal])

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return {}

    registered("spy", lambda params, context: Spy(), missing=True)
    path = config("data: {{path: {data}}}\nmodels: [spy, {{model: spy, label: other}}]\nfolds: 2\n")
    found = higgsbench.learning_curve(path, sizes=["80", "160", "all"], repeats=2, output=tmp_path / "r", jobs=1)
    fits = {size: [s for s in seen if s[0] == size] for size in (80, 160)}
    assert [len(fits[size]) for size in (80, 160)] == [4, 4]  # two rows share their fits
    for _, share, weight in seen:
        assert share == pytest.approx(np.mean([s[1] for s in seen]), abs=0.01)
        assert weight == pytest.approx(0.5)  # balanced at the expected totals
    assert {p.events for p in found.points if p.row == "stack"} == {160, max(s[0] for s in seen)}
    assert {failure.row for failure in found.failures} == {f"{row} n80.{d}" for row in ("spy", "other") for d in (0, 1)}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            ["5", "all"],
            r"--sizes 5: 5 is not a number from \d+ to 484; a fit needs at least 20 events of each class in",
        ),
        (["485000"], r"--sizes 485000: 485,000 is not a number from"),
        (["1e3"], r"--sizes 1e3: expected a number of events \(2000\), a share of the training events \(0.1 or 10%\)"),
        (["120%", "all"], "--sizes 120%: expected a number of events"),
        (["all", "100%", "1"], "two or more different numbers of events"),
    ],
)
def test_wrong_sizes(place: Path, sizes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        curve_of(place, sizes=sizes)


def test_the_key_of_a_model(place: Path, config: Config) -> None:
    models = (
        "data: {{path: {data}}}\nmodels:\n  - logistic\n  - {{model: logistic, label: few, training_events: 200}}\n"
    )
    with pytest.raises(ConfigError, match=r"small.yaml:4: models\[1\].training_events: a learning curve sets this key"):
        higgsbench.learning_curve(config(models))
    with pytest.raises(ConfigError, match=r"small.yaml:4: models\[1\]: training_events: 9,999 is not a number from"):
        higgsbench.run(config(models.replace("200", "9999")))
    small = {row["name"]: row for row in higgsbench.run(config(models), output=place / "key", jobs=1).rows}
    assert small["few"]["auc"] < small["logistic"]["auc"]


def test_the_command(place: Path, curve: LearningCurve, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ["learning-curve", place / "small.yaml", "--sizes", "250,all", "--repeats", 2, "--output", place, "-q"]
    code, out, err = call(*command)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "stack, from 250 to 485 training events: AMS" in out
    assert pl.read_csv(call(*command, "--format", "csv")[1].encode()).equals(curve.to_polars())
    content = json.loads(call(*command, "--format", "json")[1])
    assert content == curve.as_json()
    code, out, err = call(*command, "--plan")
    assert (code, "250 events" in out, "predicted" in out) == (0, True, True)
    code, out, err = call(*command[:2], "--sizes", "5,all")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_the_figures(place: Path, curve: LearningCurve, call: Call) -> None:
    pytest.importorskip("mplhep", reason="the extra `report` is not installed")
    command = ["learning-curve", place / "small.yaml", "--sizes", "250,all", "--repeats", 2, "--output", place, "-q"]
    code, _, err = call(*command, "--figures", "figures", "--figure-format", "svg")
    assert (code, err) == (0, "Wrote the figures to figures\n")
    numbers = pl.read_csv("figures/learning-curve-auc.csv")
    assert numbers.height >= len(curve.points)


def test_the_report_shows_the_curve_of_its_run(place: Path, curve: LearningCurve, tmp_path: Path) -> None:
    pytest.importorskip("mplhep", reason="the extra `report` is not installed")
    target = tmp_path / "page.html"
    higgsbench.write_report(curve.folder, target)
    assert "stack, from 250 to 485 training events" in target.read_text()
    assert (again := read_curve(curve.folder)) is not None
    assert again.points == curve.points
    assert "<table>" in again._repr_html_()
    file = tmp_path / CURVE_FILE
    file.write_bytes((curve.folder / CURVE_FILE).read_bytes().replace(b"250", b"251", 1))
    with pytest.raises(StoreError, match="damaged or not made by higgsbench; run learning-curve again"):
        read_curve(tmp_path)


def test_a_run_without_limits_keeps_its_name_and_fits(whole: RunResult) -> None:
    assert "training_events" not in (whole.folder / "config.yaml").read_text()
    assert read_curve(whole.folder) is None
