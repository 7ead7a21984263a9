"""Events by one word of the configuration."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import higgsbench
from higgsbench.errors import DataError, HiggsbenchError
from higgsbench.events.simulate import SimulationSettings, write_simulated

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
    options = "mix: {ttbar: 2.0}, higgs_mass: 120, shifts: {tes: 0.02}, set_proportions: {t: 1, v: 1}"
    result = higgsbench.run(
        written(tmp_path, f"{{source: simulated, events: 1500, {options}}}"), output=tmp_path, jobs=1
    )
    assert "ams_private" in result.rows[0]
    assert "ams_public" not in result.rows[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{source: simulated, higgs_mass: 300}", "higgs_mass must lie in"),
        ("{source: simulated, mix: {WW: 2.0}}", "unknown processes"),
        ("{source: simulated, path: a.csv}", "`path` belongs to `source: file`"),
        ("{source: file, events: 10}", "`events` belongs to `source: simulated`"),
        ("{source: somewhere}", "'file', 'simulated' or 'opendata'"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        higgsbench.run(written(tmp_path, data), output=tmp_path, jobs=1)


def test_opendata_says_how_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="higgsbench data fetch"):
        higgsbench.run(written(tmp_path, "{source: opendata}"), output=tmp_path, jobs=1)


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
