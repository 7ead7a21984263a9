from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from higgsbench.events.simulate import SimulationSettings, simulate

REAL_SAMPLE = Path(__file__).parents[2] / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"


@pytest.fixture(scope="session")
def real_sample() -> Path:
    if not REAL_SAMPLE.is_file():
        pytest.skip("the sample of real events (../shared/data) is not there")
    return REAL_SAMPLE


@pytest.fixture(scope="session")
def real_events(real_sample: Path) -> pl.DataFrame:
    return pl.read_csv(real_sample, infer_schema_length=None)


@pytest.fixture(scope="session")
def simulated_events() -> pl.DataFrame:
    """20,000 events with the truth column `process`; read only."""
    return simulate(SimulationSettings(events=20_000, seed=7), truth=True)
